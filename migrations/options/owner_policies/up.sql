-- Signed-in users may read and write the rows of their own sessions: those whose user_id is the JWT's sub.
-- Not auth.uid(): that is a uuid, other sign-in services have other subs, and it is there on Supabase only. The
-- subselect is evaluated once for a statement instead of once for a row. Without claims, nothing is anybody's own.
-- Blocks: ACCESS EXCLUSIVE on both tables, for the moment that the catalog takes.
BEGIN;
SET LOCAL lock_timeout = '200ms';
DROP POLICY IF EXISTS ai_interactions_owner ON public.ai_interactions;
DROP POLICY IF EXISTS ai_sessions_owner ON public.ai_sessions;
CREATE POLICY ai_sessions_owner ON public.ai_sessions TO authenticated
    USING (user_id = (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))
    WITH CHECK (user_id = (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'));
-- The sessions in the subselect are those that the policy above lets through; that they are the user's own is said once
-- more, so that a policy which somebody adds there later opens no prompts here.
CREATE POLICY ai_interactions_owner ON public.ai_interactions TO authenticated
    USING (session_id IN (SELECT s.id FROM public.ai_sessions s WHERE s.user_id =
        (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')))
    WITH CHECK (session_id IN (SELECT s.id FROM public.ai_sessions s WHERE s.user_id =
        (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')));
GRANT USAGE ON SCHEMA public TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.ai_sessions, public.ai_interactions TO authenticated;
COMMIT;
