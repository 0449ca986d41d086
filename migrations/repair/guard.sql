DO $session_fix$
DECLARE
    phantoms bigint;
    pages bigint := pg_relation_size('public.ai_interactions') / 8192;
BEGIN
    -- The foreign key looks for interactions of each session that is deleted: without an index, through all of them.
    SELECT count(*) INTO phantoms FROM pg_temp.session_fix_picked;
    IF phantoms * pages > 20000000
        AND EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = 'public.ai_sessions'::regclass)
        AND NOT EXISTS (
            SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = 'public.ai_interactions'::regclass AND i.indisvalid AND i.indpred IS NULL
                AND a.attname = 'session_id'
        )
    THEN
        RAISE EXCEPTION USING ERRCODE = 'SFX01',
            MESSAGE = 'there are ' || phantoms || ' phantom sessions, too many to merge in one transaction without an '
                || 'index on ai_interactions.session_id; nothing was changed',
            HINT = 'Run `session-fix repair --apply` first, which builds one while it is at it and goes in batches.';
    END IF;
END
$session_fix$
