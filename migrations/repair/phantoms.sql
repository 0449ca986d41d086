WITH used AS (
    SELECT DISTINCT session_id AS id FROM public.ai_interactions WHERE session_id IS NOT NULL
), named AS MATERIALIZED (  -- first those whose user_id is a UUID; only then may it be cast
    SELECT id, lower(user_id::text) AS user_id, created_at, created_at IS NOT DISTINCT FROM updated_at AS untouched
    FROM public.ai_sessions
    WHERE lower(user_id::text) ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
), shaped AS MATERIALIZED (
    SELECT n.id, n.user_id::uuid AS session_id, n.created_at, n.untouched AND u.id IS NULL AS idle
    FROM named n LEFT JOIN used u ON u.id = n.id
), users AS (
    SELECT session_id, bool_or(NOT idle) AS account FROM shaped GROUP BY session_id
), sessions AS (
    SELECT users.session_id, users.account, stored.id IS NOT NULL OR asked.id IS NOT NULL AS certain
    FROM users LEFT JOIN public.ai_sessions stored ON stored.id = users.session_id
        LEFT JOIN used asked ON asked.id = users.session_id
)
SELECT p.id, p.session_id, s.certain
FROM shaped p JOIN sessions s USING (session_id) LEFT JOIN users known ON known.session_id = p.id
WHERE p.idle AND known.session_id IS NULL
    AND (s.certain OR NOT s.account AND p.created_at < now() - interval '1 hour')
