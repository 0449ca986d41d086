"""The lock of whoever changes the tables: one rollout, repair or option at a time in a database.

Alembic's own command takes the same (``migrations/env.py``). It is held by a session of its own, which does nothing
else but look how far replicas are. It is asked for again and again, never waited for inside the server: the snapshot of
who waits there would be waited for by the holder's CREATE INDEX CONCURRENTLY.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg

from session_fix.errors import RolloutBusyError
from session_fix.rollout import sessions, target
from session_fix.rollout.blockers import WHO, Session
from session_fix.rollout.happening import Listener, Waiting, nobody

KEY = 0x5E55_F1_0000_0001
POLL_S = (0.1, 0.5)
HELD = f"""
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::int8 << 32 | l.objid::int8) = {KEY}
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
HOLDER = f"SELECT {WHO} {HELD}"
IS_OURS = f"SELECT EXISTS (SELECT {HELD} AND l.pid = pg_backend_pid())"


@dataclass(frozen=True, slots=True)
class Held:
    """The lock, as long as its session lives."""

    connection: psycopg.Connection

    def check(self) -> None:
        """Raise ``RolloutBusyError`` when it was lost: from that moment on, somebody else may be at work."""
        with suppress(psycopg.Error):
            if self.connection.execute(IS_OURS).fetchone() == (True,):
                return
        raise RolloutBusyError(
            "The session that held the rollout's lock is gone, so no further step was begun: another rollout may have "
            "begun. What is done is kept. Run the same command again."
        )


@contextmanager
def held(
    params: Mapping[str, str], *, patience_s: float, on: Listener = nobody, application: str = target.MIGRATE
) -> Iterator[Held]:
    """Hold the lock for the block, once it is free; name who holds it until then.

    Raises ``RolloutBusyError`` when it is not to be had within ``patience_s`` seconds.
    """
    with sessions.opened(params, "lock", application=application) as connection:
        try:
            try:
                _take(connection, patience_s, on)
            except psycopg.Error as error:
                raise target.unreadable(error, params) from None
            yield Held(connection)
        except psycopg.OperationalError as error:
            if not sessions.is_lost(connection):
                raise
            raise target.unreadable(error, params) from None
        finally:
            with suppress(psycopg.Error):  # a session that is gone holds no lock
                connection.execute(f"SELECT pg_advisory_unlock({KEY})")


def _take(connection: psycopg.Connection, patience_s: float, on: Listener) -> None:
    deadline = time.monotonic() + patience_s
    told: tuple[int, ...] = ()
    while connection.execute(f"SELECT pg_try_advisory_lock({KEY})").fetchone() != (True,):
        holders = tuple(Session(*row) for row in connection.execute(HOLDER))
        if time.monotonic() > deadline:
            named = ", ".join(map(str, holders)) or "nobody any more"
            raise RolloutBusyError(
                f"Another rollout or repair of this database has not ended within {patience_s:g} s: {named}. Nothing "
                "was changed. Run the same command again when it has."
            )
        if (pids := tuple(one.pid for one in holders)) != told:
            on(Waiting("another rollout or repair of this database", holders))
            told = pids
        time.sleep(random.uniform(*POLL_S))  # noqa: S311  no secret
