"""An index on ai_interactions.session_id for the time of a repair, where there is none and it pays.

Built and dropped CONCURRENTLY: nobody who reads or writes waits for it. A repair that was killed leaves it behind, and
the next one to end drops it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress

import psycopg

from session_fix.errors import SessionFixError
from session_fix.progress import Progress
from session_fix.rollout import target
from session_fix.rollout.repair.batches import APPLICATION

NAME = "session_fix_repair_idx"
TIDY_TIMEOUT_MS = 30_000  # whoever cancelled a build that waits for others did not mean to wait for them again
CREATE = f"CREATE INDEX CONCURRENTLY {NAME} ON public.ai_interactions (session_id)"
DROP = f"DROP INDEX CONCURRENTLY IF EXISTS public.{NAME}"
# Any that leads with it will do, unless it leaves rows out.
FOUND = """
SELECT x.relname::text, i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = 'public.ai_interactions'::regclass AND i.indpred IS NULL AND a.attname = 'session_id'
"""
PAGES = "SELECT pg_relation_size('public.ai_interactions') / current_setting('block_size')::int"
HAS_KEY = """
SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = 'public.ai_sessions'::regclass
    AND conrelid = 'public.ai_interactions'::regclass)
"""


def is_missing(connection: psycopg.Connection) -> bool:
    """Say whether no valid index finds the interactions of a session."""
    return not any(valid for _, valid in connection.execute(FOUND))


def size(connection: psycopg.Connection) -> tuple[int, bool]:
    """Return how many pages all interactions fill, and whether a foreign key leads from them to sessions."""
    pages, has_key = (connection.execute(query).fetchone() for query in (PAGES, HAS_KEY))
    return (pages[0] if pages else 0), bool(has_key and has_key[0])


def build(params: Mapping[str, str], progress: Progress) -> None:
    """Build it, in place of one whose build was cut short. Where it fails, nothing is left that costs writes."""
    with progress.step(f"Building the index {NAME}, for the time of the repair"), _session(params) as connection:
        connection.execute(DROP)
        try:
            connection.execute(CREATE)
        except psycopg.Error:
            with suppress(psycopg.Error, SessionFixError), _session(params, TIDY_TIMEOUT_MS) as dropping:
                dropping.execute(DROP)
            raise


def drop(params: Mapping[str, str], connection: psycopg.Connection, progress: Progress) -> None:
    """Drop it if it is there."""
    if NAME in {name for name, _ in connection.execute(FOUND)}:
        with progress.step(f"Dropping the index {NAME}"), _session(params) as dropping:
            dropping.execute(DROP)


def _session(params: Mapping[str, str], timeout_ms: int = 0) -> closing[psycopg.Connection]:
    """Open a session, without timeouts unless it is to drop half an index: one that strikes leaves half an index."""
    return closing(target.writing(params, lock_timeout_ms=0, statement_timeout_ms=timeout_ms, application=APPLICATION))
