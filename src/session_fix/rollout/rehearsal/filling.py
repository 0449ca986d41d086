"""Fills a copy of a schema with as many rows as are asked for, whatever its columns are called beside ours."""

from __future__ import annotations

import psycopg

INTERACTIONS_EACH = 10  # of a session
FILL = (
    """
INSERT INTO public.ai_sessions (id, user_id, created_at, updated_at)
SELECT ('5e551077-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'user-' || n,
    '2026-01-05'::date + n * interval '1 second', '2026-01-05'::date + (n + 60) * interval '1 second'
FROM generate_series(1, %(sessions)s) n
""",
    """
INSERT INTO public.ai_interactions (id, session_id, prompt, response, model_used, tokens_used, created_at)
SELECT gen_random_uuid(), ('5e551077-0000-4000-8000-' || lpad((1 + n %% %(sessions)s)::text, 12, '0'))::uuid,
    repeat('prompt ', 8), repeat('response ', 12), 'gpt-4o', n %% 900, '2026-01-05'::date + n * interval '1 second'
FROM generate_series(1, %(interactions)s) n
""",
)


def fill(connection: psycopg.Connection, interactions: int) -> None:
    """Write so many interactions and a tenth as many sessions. Raises ``psycopg.Error``."""
    values = {"interactions": interactions, "sessions": max(1, interactions // INTERACTIONS_EACH)}
    for statement in FILL:
        connection.execute(statement, values)
