CREATE TEMPORARY TABLE session_fix_picked (id uuid, session_id uuid, certain boolean) ON COMMIT DELETE ROWS
