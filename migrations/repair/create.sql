CREATE FUNCTION pg_temp.session_fix_create(
    run text, OUT stored bigint, OUT busy bigint, OUT passed_over bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET extra_float_digits = 1 SET random_page_cost = 1.1 SET jit = off AS $session_fix$
-- Store the sessions that were picked because interactions name them. Each statement sees what was committed before it.
BEGIN
    -- An interaction that is being deleted is left for later; the others stay until we have ended.
    WITH held AS MATERIALIZED (
        SELECT i.session_id FROM public.ai_interactions i JOIN pg_temp.session_fix_picked p USING (session_id)
        FOR KEY SHARE OF i SKIP LOCKED
    )
    DELETE FROM pg_temp.session_fix_picked p
    WHERE NOT EXISTS (SELECT FROM held WHERE held.session_id = p.session_id);
    GET DIAGNOSTICS busy = ROW_COUNT;
    DELETE FROM pg_temp.session_fix_picked p USING public.ai_sessions s WHERE s.id = p.session_id;
    GET DIAGNOSTICS passed_over = ROW_COUNT;
    WITH missing AS (
        SELECT i.session_id, min(i.created_at) AS began_at, max(i.created_at) AS ended_at,
            pg_temp.session_fix_digest(array_agg(i.id)) AS used_by
        FROM public.ai_interactions i JOIN pg_temp.session_fix_picked p USING (session_id) GROUP BY i.session_id
    ), new AS (
        INSERT INTO public.ai_sessions AS s (id, created_at, updated_at)
        SELECT session_id, began_at, ended_at FROM missing ORDER BY session_id
        ON CONFLICT (id) DO NOTHING RETURNING s.id, to_jsonb(s) AS after
    )
    INSERT INTO pg_temp.session_fix_noted (table_name, row_id, session_id, after, used_by)
    SELECT 'ai_sessions', n.id, n.id, n.after, m.used_by FROM new n JOIN missing m ON m.session_id = n.id;
    GET DIAGNOSTICS stored = ROW_COUNT;
    IF EXISTS (
        SELECT FROM pg_temp.session_fix_picked p LEFT JOIN public.ai_sessions s ON s.id = p.session_id WHERE s.id IS NULL
    ) THEN
        RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'a session was deleted while it was stored';
    END IF;
    IF stored <> pg_temp.session_fix_journal(run) THEN
        RAISE EXCEPTION USING ERRCODE = 'SFX01',
            MESSAGE = 'the sessions stored do not add up to those written down; a trigger or a rule interferes';
    END IF;
END
$session_fix$
