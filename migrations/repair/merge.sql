CREATE FUNCTION pg_temp.session_fix_merge(
    run text, OUT merged bigint, OUT stored bigint, OUT changed bigint, OUT busy bigint, OUT passed_over bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET extra_float_digits = 1 SET random_page_cost = 1.1 SET jit = off AS $session_fix$
-- Turn the phantoms that were picked into the sessions they stand for. Each statement sees what was committed before it.
DECLARE
    uses text;
    columns text;
    left_over bigint;
BEGIN
    -- Whoever is using a phantom has locked it: it is left for later. From here on, whoever wants to use one waits.
    WITH held AS MATERIALIZED (
        SELECT s.id FROM public.ai_sessions s JOIN pg_temp.session_fix_picked p ON p.id = s.id
        ORDER BY s.id FOR UPDATE OF s SKIP LOCKED
    )
    DELETE FROM pg_temp.session_fix_picked p WHERE NOT EXISTS (SELECT FROM held WHERE held.id = p.id);
    GET DIAGNOSTICS busy = ROW_COUNT;

    -- Now that they are locked: are they phantoms still?
    SELECT count(*) INTO passed_over FROM pg_temp.session_fix_picked;
    DELETE FROM pg_temp.session_fix_picked p WHERE NOT EXISTS (
        SELECT FROM public.ai_sessions s
        WHERE s.id = p.id AND lower(s.user_id::text) = p.session_id::text
            AND s.created_at IS NOT DISTINCT FROM s.updated_at
    );
    DELETE FROM pg_temp.session_fix_picked p USING public.ai_interactions i WHERE i.session_id = p.id;
    FOR uses IN SELECT pg_temp.session_fix_uses('public.ai_sessions') LOOP
        EXECUTE 'DELETE FROM pg_temp.session_fix_picked p USING (' || uses || ') u WHERE u.id = p.id';
    END LOOP;
    DELETE FROM pg_temp.session_fix_picked p
    WHERE p.certain AND NOT EXISTS (SELECT FROM public.ai_sessions s WHERE s.id = p.session_id)
        AND NOT EXISTS (SELECT FROM public.ai_interactions i WHERE i.session_id = p.session_id);
    SELECT passed_over - count(*) INTO passed_over FROM pg_temp.session_fix_picked;

    IF EXISTS (
        SELECT FROM public.ai_sessions s JOIN pg_temp.session_fix_picked p ON p.id = s.id
        WHERE jsonb_populate_record(NULL::public.ai_sessions, to_jsonb(s))::text <> s::text
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'SFX01',
            MESSAGE = 'a column of ai_sessions has a type whose values do not survive a copy as JSON';
    END IF;
    WITH gone AS (
        DELETE FROM public.ai_sessions s USING pg_temp.session_fix_picked p WHERE s.id = p.id
        RETURNING s.id, p.session_id, to_jsonb(s) AS before
    )
    INSERT INTO pg_temp.session_fix_noted (table_name, row_id, session_id, before)
    SELECT 'ai_sessions', id, session_id, before FROM gone;
    GET DIAGNOSTICS merged = ROW_COUNT;

    -- The earliest phantom becomes the session; it was last used with the latest.
    INSERT INTO pg_temp.session_fix_wanted
    SELECT w.* FROM (
        SELECT n.session_id, (array_agg(n.before ORDER BY s.created_at, s.id))[1] AS earliest,
            min(s.created_at) AS began_at, max(s.updated_at) AS ended_at
        FROM pg_temp.session_fix_noted n, jsonb_populate_record(NULL::public.ai_sessions, n.before) s
        GROUP BY n.session_id
    ) t, jsonb_populate_record(NULL::public.ai_sessions, t.earliest || jsonb_build_object(
        'id', t.session_id, 'user_id', NULL, 'created_at', t.began_at, 'updated_at', t.ended_at)) w;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = 'public.ai_sessions'::regclass AND attnum > 0 AND NOT attisdropped
        AND attgenerated = '' AND attidentity = '';
    EXECUTE 'WITH new AS (INSERT INTO public.ai_sessions AS s (' || columns || ') SELECT ' || columns
        || ' FROM pg_temp.session_fix_wanted ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING s.id, to_jsonb(s) AS row)'
        || ' INSERT INTO pg_temp.session_fix_noted (table_name, row_id, session_id, after)'
        || ' SELECT ''ai_sessions'', id, id, row FROM new';
    GET DIAGNOSTICS stored = ROW_COUNT;
    UPDATE pg_temp.session_fix_noted n SET used_by = u.used_by FROM (
        SELECT i.session_id, pg_temp.session_fix_digest(array_agg(i.id)) AS used_by
        FROM public.ai_interactions i JOIN pg_temp.session_fix_noted m ON m.row_id = i.session_id AND m.before IS NULL
        GROUP BY i.session_id
    ) u WHERE n.row_id = u.session_id AND n.before IS NULL;

    -- A session that was stored already keeps the earliest creation and the latest use.
    PERFORM FROM public.ai_sessions s JOIN pg_temp.session_fix_wanted w ON w.id = s.id
    ORDER BY s.id FOR NO KEY UPDATE OF s;
    UPDATE pg_temp.session_fix_wanted w
    SET created_at = least(s.created_at, w.created_at), updated_at = greatest(s.updated_at, w.updated_at)
    FROM public.ai_sessions s WHERE s.id = w.id;
    GET DIAGNOSTICS left_over = ROW_COUNT;
    IF left_over <> (SELECT count(*) FROM pg_temp.session_fix_wanted) THEN
        RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'a session was deleted while its phantoms were merged';
    END IF;
    INSERT INTO pg_temp.session_fix_noted (table_name, row_id, session_id, before)
    SELECT 'ai_sessions', s.id, s.id, to_jsonb(s) FROM public.ai_sessions s JOIN pg_temp.session_fix_wanted w USING (id)
    WHERE ROW(s.created_at, s.updated_at) IS DISTINCT FROM ROW(w.created_at, w.updated_at);
    UPDATE public.ai_sessions s SET created_at = w.created_at, updated_at = w.updated_at
    FROM pg_temp.session_fix_wanted w
    WHERE s.id = w.id AND ROW(s.created_at, s.updated_at) IS DISTINCT FROM ROW(w.created_at, w.updated_at);
    GET DIAGNOSTICS changed = ROW_COUNT;
    -- Where updated_at stayed the same, a trigger has set it to now; it believes whoever sets another value.
    UPDATE public.ai_sessions s SET updated_at = w.updated_at FROM pg_temp.session_fix_wanted w
    WHERE s.id = w.id AND s.updated_at IS DISTINCT FROM w.updated_at;
    UPDATE pg_temp.session_fix_noted n SET after = to_jsonb(s) FROM public.ai_sessions s
    WHERE s.id = n.row_id AND n.before IS NOT NULL;

    IF EXISTS (
        SELECT FROM pg_temp.session_fix_wanted w LEFT JOIN public.ai_sessions s USING (id)
        WHERE s.id IS NULL OR ROW(s.created_at, s.updated_at) IS DISTINCT FROM ROW(w.created_at, w.updated_at)
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'SFX01',
            MESSAGE = 'a trigger on ai_sessions changes created_at or updated_at of what is stored';
    END IF;
    IF merged <> (SELECT count(*) FROM pg_temp.session_fix_picked)
        OR EXISTS (SELECT FROM public.ai_sessions s JOIN pg_temp.session_fix_picked p ON p.id = s.id)
        OR merged + stored + changed <> pg_temp.session_fix_journal(run)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'SFX01',
            MESSAGE = 'the rows deleted, stored and changed do not add up to those picked; a trigger or a rule interferes';
    END IF;
END
$session_fix$
