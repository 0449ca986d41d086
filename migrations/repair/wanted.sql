CREATE TEMPORARY TABLE session_fix_wanted (LIKE public.ai_sessions) ON COMMIT DELETE ROWS
