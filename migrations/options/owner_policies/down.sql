-- Takes the owner policies back: signed-in users get at no row any more. USAGE on the schema may serve other tables.
-- Blocks: ACCESS EXCLUSIVE on both tables, for the moment that the catalog takes.
BEGIN;
SET LOCAL lock_timeout = '200ms';
REVOKE ALL ON public.ai_sessions, public.ai_interactions FROM authenticated;
DROP POLICY IF EXISTS ai_interactions_owner ON public.ai_interactions;
DROP POLICY IF EXISTS ai_sessions_owner ON public.ai_sessions;
DROP INDEX IF EXISTS public.ai_sessions_user_id_idx;
COMMIT;
