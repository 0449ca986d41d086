"""Waits for replicas between two steps, or batches: whoever reads from one is behind by one of them at most.

How far a replica has come is only shown to those who may see it (pg_monitor has it); others are told that.
"""

from __future__ import annotations

import time
from contextlib import suppress

import psycopg

from session_fix.errors import RolloutBusyError
from session_fix.rollout.happening import Listener, Said, Waiting

POLL_S = (0.02, 1.0)
LEAST_S = 10.0  # right after a commit, one that is well is behind, too
WRITTEN = "SELECT pg_current_wal_flush_lsn()::text"  # what is not flushed is not sent
UNSEEN = "SELECT count(*) FROM pg_stat_replication WHERE pid IS NOT NULL AND state IS NULL"
# Logical subscribers are none: they take rows, not the schema.
BEHIND = """
SELECT format('%%s, %%s behind', coalesce(nullif(r.application_name, ''), 'a replica'),
    pg_size_pretty(pg_wal_lsn_diff(%(written)s::pg_lsn, r.replay_lsn)))
FROM pg_stat_replication r
WHERE r.replay_lsn < %(written)s::pg_lsn
    AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
ORDER BY 1
"""


def unseen(connection: psycopg.Connection) -> int:
    """Return how many replicas are connected of which this role may not see how far they are."""
    (count,) = connection.execute(UNSEEN).fetchone() or (0,)
    return int(count)


def tell_of_unseen(connection: psycopg.Connection, on: Listener) -> None:
    """Say that there are replicas which will not be waited for, if there are.

    Where even that is refused, so is the first wait, which says what to do.
    """
    with suppress(psycopg.Error):
        if count := unseen(connection):
            on(Said(f"replicas that this role may not see are not waited for: {count} of them"))


def wait(
    connection: psycopg.Connection,
    before: str,
    *,
    patience_s: float,
    on: Listener,
    kept: str = "Nothing of this step was done.",
) -> None:
    """Return when each replica has what is written by now; ``before`` names what is about to begin.

    Raises ``RolloutBusyError`` when one has it not within ``patience_s`` seconds, or ``LEAST_S``; it says what is
    ``kept``.
    """
    (written,) = connection.execute(WRITTEN).fetchone() or ("0/0",)
    patience_s = max(patience_s, LEAST_S)
    deadline, pause_s, told = time.monotonic() + patience_s, POLL_S[0], False
    while behind := [name for (name,) in connection.execute(BEHIND, {"written": written})]:
        if time.monotonic() > deadline:
            raise RolloutBusyError(
                f"{before}: a replica has not caught up within {patience_s:g} s: {'; '.join(behind)}. {kept} "
                "Run the same command again when it has, or with --ignore-replicas."
            )
        if pause_s == POLL_S[1] and not told:
            on(Waiting(f"{before}: a replica that catches up ({'; '.join(behind)})"))
            told = True
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_S[1])
