DO $session_fix$
DECLARE
    ours oid;
BEGIN
    -- A temporary object goes with its session, which is not ours to end.
    FOR ours IN SELECT oid FROM pg_proc WHERE pronamespace = pg_my_temp_schema() AND proname ~ '^session_fix_' LOOP
        EXECUTE 'DROP FUNCTION ' || ours::regprocedure;
    END LOOP;
    DROP TABLE IF EXISTS pg_temp.session_fix_picked, pg_temp.session_fix_noted, pg_temp.session_fix_wanted;
END
$session_fix$
