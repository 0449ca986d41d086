CREATE FUNCTION pg_temp.session_fix_journal(run text) RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $session_fix$
-- Write down what was noted, in the transaction that does it; return how many rows that were.
DECLARE
    written bigint;
    api_role text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_temp.session_fix_noted) THEN
        RETURN 0;
    END IF;
    IF to_regclass('session_fix.repair_journal') IS NULL THEN
        CREATE SCHEMA IF NOT EXISTS session_fix;
        CREATE TABLE IF NOT EXISTS session_fix.repair_journal (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            repair text NOT NULL,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            table_name text NOT NULL,
            row_id uuid NOT NULL,
            session_id uuid NOT NULL,
            before jsonb,
            after jsonb,
            used_by text,
            undone_at timestamptz,
            CONSTRAINT repair_journal_says_something CHECK (before IS NOT NULL OR after IS NOT NULL)
        );
        COMMENT ON TABLE session_fix.repair_journal IS
            'What session-fix repaired: rows as they were and as they became. It is what an undo goes by.';
        CREATE INDEX IF NOT EXISTS repair_journal_to_undo
            ON session_fix.repair_journal (session_id, repair) WHERE undone_at IS NULL;
        REVOKE ALL ON SCHEMA session_fix FROM PUBLIC;
        FOR api_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role') LOOP
            EXECUTE 'REVOKE ALL ON session_fix.repair_journal FROM ' || quote_ident(api_role);
        END LOOP;
    END IF;
    INSERT INTO session_fix.repair_journal (repair, table_name, row_id, session_id, before, after, used_by)
    SELECT run, table_name, row_id, session_id, before, after, used_by FROM pg_temp.session_fix_noted;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END
$session_fix$
