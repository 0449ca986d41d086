CREATE TEMPORARY TABLE session_fix_noted (
    table_name text, row_id uuid, session_id uuid, before jsonb, after jsonb, used_by text, why text
) ON COMMIT DELETE ROWS
