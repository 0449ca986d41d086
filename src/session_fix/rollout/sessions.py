"""The sessions of a rollout: one that holds its lock, one for its steps, one that watches the other two.

A repair and an option have the first, too.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from session_fix.rollout import target

# An idle session must not be ended: the lock's is idle for as long as an index is built.
OPTIONS = "-c idle_session_timeout=0"
KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
BRIEF_MS = 10_000  # for what only looks something up


def opened(
    params: Mapping[str, str],
    part: str,
    *,
    lock_timeout_ms: int = BRIEF_MS,
    statement_timeout_ms: int = BRIEF_MS,
    application: str = target.MIGRATE,
) -> psycopg.Connection:
    """Return a session whose application_name tells its ``part``: lock, steps or watch.

    Raises ``RolloutRefusedError`` when its timeouts are not in force, ``DatabaseUnreadableError``.
    """
    options = f"{params.get('options', '')} {OPTIONS}".strip()
    return target.writing(
        KEEPALIVES | dict(params) | {"options": options},
        lock_timeout_ms=lock_timeout_ms,
        statement_timeout_ms=statement_timeout_ms,
        application=f"{application} {part}",
    )


def is_lost(connection: psycopg.Connection) -> bool:
    """Say whether the server, or the way to it, has ended this session."""
    return connection.closed or connection.broken
