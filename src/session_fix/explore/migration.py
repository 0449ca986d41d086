"""The foreign key where it is missing, brought back while clients go on: four steps, each for itself."""

from __future__ import annotations

from typing import Any

import psycopg

KEY, INDEX = "ai_interactions_session_id_fkey", "ai_interactions_session_id_created_at_idx"
ORPHAN = "00000000-0000-4000-8000-00000000dead"
BEFORE = f"""
DROP INDEX IF EXISTS {INDEX};
ALTER TABLE ai_interactions DROP CONSTRAINT IF EXISTS {KEY};
INSERT INTO ai_interactions (id, session_id, prompt, response) VALUES ('{ORPHAN}', '{ORPHAN}', 'an orphan', '');
"""  # noqa: S608  names of our own
STEPS = {
    "add the foreign key, not valid": f"ALTER TABLE ai_interactions ADD CONSTRAINT {KEY} FOREIGN KEY (session_id)"
    " REFERENCES ai_sessions (id) NOT VALID",
    "give orphans a session": "INSERT INTO ai_sessions (id) SELECT DISTINCT session_id FROM ai_interactions i"
    " WHERE NOT EXISTS (SELECT FROM ai_sessions s WHERE s.id = i.session_id)",
    "validate the foreign key": f"ALTER TABLE ai_interactions VALIDATE CONSTRAINT {KEY}",
    "build the index": f"CREATE INDEX CONCURRENTLY {INDEX} ON ai_interactions (session_id, created_at)",
}
# Nothing is left half done: the constraint is valid, and so is the index.
DONE = f"""
SELECT (SELECT count(*) FROM pg_constraint WHERE conname = '{KEY}' AND convalidated)
    + (SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('{INDEX}') AND indisvalid) = 2
"""  # noqa: S608


def perform(connection: psycopg.Connection, step: str) -> None:
    """Run one step. Raises ``psycopg.Error``."""
    statement: Any = STEPS[step]
    connection.execute(statement)


def is_done(connection: psycopg.Connection) -> bool:
    """Say whether nothing is left half done."""
    return connection.execute(DONE).fetchall() == [(True,)]
