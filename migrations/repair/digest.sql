CREATE FUNCTION pg_temp.session_fix_digest(ids uuid[]) RETURNS text LANGUAGE sql IMMUTABLE AS $session_fix$
    -- Tells one set of interactions from another, so that an undo sees whether a session was used since.
    SELECT cardinality(ids) || ' ' || encode(sha256(convert_to(string_agg(id::text, ',' ORDER BY id), 'UTF8')), 'hex')
    FROM unnest(ids) id
$session_fix$
