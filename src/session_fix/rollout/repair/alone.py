"""The rollout's lock, so that no migration changes the tables under a repair (``migrations/env.py`` takes the same)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import psycopg

from session_fix.errors import RolloutBusyError
from session_fix.rollout import lock, target
from session_fix.rollout.repair.batches import APPLICATION, translated

PATIENCE_S, POLL_S = 30.0, 0.2
HOLDER = f"""
SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::int8 << 32 | l.objid::int8) = {lock.KEY}
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@contextmanager
def alone(params: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the lock for the block. Raises ``RolloutBusyError`` when it is not to be had in so many seconds."""
    opened = target.writing(params, lock_timeout_ms=0, statement_timeout_ms=0, application=f"{APPLICATION} (lock)")
    with closing(opened) as connection:
        with translated(params):
            _take(connection, patience_s)
        yield  # the lock goes with its session


def _take(connection: psycopg.Connection, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while connection.execute(f"SELECT pg_try_advisory_lock({lock.KEY})").fetchone() != (True,):
        if time.monotonic() > deadline:
            holders = ", ".join(f"pid {pid} ({name})" for pid, name in connection.execute(HOLDER))
            raise RolloutBusyError(
                f"A migration or another repair of this database has not ended in {patience_s:g} s: "
                f"{holders or 'nobody any more'}. Nothing was changed. Run the same command again."
            )
        time.sleep(POLL_S)
