SELECT i.id, i.session_id
FROM public.ai_interactions i LEFT JOIN public.ai_sessions s ON s.id = i.session_id
WHERE i.session_id IS NOT NULL AND s.id IS NULL
