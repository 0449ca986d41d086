CREATE FUNCTION pg_temp.session_fix_uses(of_table regclass) RETURNS SETOF text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $session_fix$
    -- A query for each foreign key that other tables have on this one: the ids of rows that they name. What
    -- interactions say of sessions is asked everywhere, foreign key or not.
    SELECT 'SELECT t.id FROM ' || k.confrelid::regclass || ' t JOIN ' || k.conrelid::regclass || ' o ON '
        || string_agg('o.' || quote_ident(a.attname) || ' = t.' || quote_ident(b.attname), ' AND ')
    FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS pair(own, other)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = pair.own
        JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = pair.other
    WHERE k.contype = 'f' AND k.confrelid = of_table
    GROUP BY k.oid, k.conrelid, k.confrelid
    HAVING NOT (k.conrelid = 'public.ai_interactions'::regclass AND array_agg(a.attname) = ARRAY['session_id'::name])
$session_fix$
