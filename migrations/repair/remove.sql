CREATE FUNCTION pg_temp.session_fix_remove(
    run text, into_quarantine boolean, OUT removed bigint, OUT busy bigint, OUT passed_over bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET extra_float_digits = 1 SET random_page_cost = 1.1 SET jit = off
SET client_min_messages = warning AS $session_fix$
-- Take away the interactions that were picked because their session is not stored; their copies are in the journal.
DECLARE
    uses text;
    api_role text;
BEGIN
    WITH held AS MATERIALIZED (
        SELECT i.id FROM public.ai_interactions i JOIN pg_temp.session_fix_picked p ON p.id = i.id
        ORDER BY i.id FOR UPDATE OF i SKIP LOCKED
    )
    DELETE FROM pg_temp.session_fix_picked p WHERE NOT EXISTS (SELECT FROM held WHERE held.id = p.id);
    GET DIAGNOSTICS busy = ROW_COUNT;
    SELECT count(*) INTO passed_over FROM pg_temp.session_fix_picked;
    DELETE FROM pg_temp.session_fix_picked p
    WHERE NOT EXISTS (SELECT FROM public.ai_interactions i WHERE i.id = p.id AND i.session_id = p.session_id);
    DELETE FROM pg_temp.session_fix_picked p USING public.ai_sessions s WHERE s.id = p.session_id;
    FOR uses IN SELECT pg_temp.session_fix_uses('public.ai_interactions') LOOP
        EXECUTE 'DELETE FROM pg_temp.session_fix_picked p USING (' || uses || ') u WHERE u.id = p.id';
    END LOOP;
    SELECT passed_over - count(*) INTO passed_over FROM pg_temp.session_fix_picked;

    IF EXISTS (
        SELECT FROM public.ai_interactions i JOIN pg_temp.session_fix_picked p ON p.id = i.id
        WHERE jsonb_populate_record(NULL::public.ai_interactions, to_jsonb(i))::text <> i::text
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'SFX01',
            MESSAGE = 'a column of ai_interactions has a type whose values do not survive a copy as JSON';
    END IF;
    WITH gone AS (
        DELETE FROM public.ai_interactions i USING pg_temp.session_fix_picked p WHERE i.id = p.id
        RETURNING i.id, p.session_id, to_jsonb(i) AS before
    )
    INSERT INTO pg_temp.session_fix_noted (table_name, row_id, session_id, before)
    SELECT 'ai_interactions', id, session_id, before FROM gone;
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed <> (SELECT count(*) FROM pg_temp.session_fix_picked)
        OR EXISTS (SELECT FROM public.ai_interactions i JOIN pg_temp.session_fix_picked p ON p.id = i.id)
        OR removed <> pg_temp.session_fix_journal(run)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'SFX01',
            MESSAGE = 'the rows deleted do not add up to those picked; a trigger or a rule interferes';
    END IF;
    IF into_quarantine AND removed > 0 THEN
        IF to_regclass('session_fix.quarantined_interactions') IS NULL THEN
            CREATE TABLE IF NOT EXISTS session_fix.quarantined_interactions (LIKE public.ai_interactions);
            COMMENT ON TABLE session_fix.quarantined_interactions IS
                'Interactions of sessions that were not stored, put aside by session-fix repair.';
            FOR api_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role') LOOP
                EXECUTE 'REVOKE ALL ON session_fix.quarantined_interactions FROM ' || quote_ident(api_role);
            END LOOP;
        END IF;
        INSERT INTO session_fix.quarantined_interactions
        SELECT q.* FROM pg_temp.session_fix_noted n,
            jsonb_populate_record(NULL::session_fix.quarantined_interactions, n.before) q;
    END IF;
END
$session_fix$
