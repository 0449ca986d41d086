"""Looks at a rollout from a session of its own: who is in a step's way, and how far an index is."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import psycopg

from session_fix.errors import SessionFixError
from session_fix.rollout import blockers, sessions
from session_fix.rollout.blockers import Session
from session_fix.rollout.happening import Listener, Waiting
from session_fix.rollout.plan import Lock, Step
from session_fix.rollout.wanted import TABLES

POLL_S = 0.5
PHASE = """
SELECT phase || CASE WHEN blocks_total > 0 THEN format(', %%s%%%% read', 100 * blocks_done / blocks_total)
    ELSE '' END FROM pg_stat_progress_create_index WHERE pid = %s
"""
STRONGEST = tuple(Lock("ACCESS EXCLUSIVE", f"public.{name}") for name in (*TABLES, "alembic_version"))


class Watch:
    """Asks the questions; its session is opened when first needed, and again when it was lost."""

    def __init__(self, params: Mapping[str, str], on: Listener) -> None:
        self._params, self._on = params, on
        self._connection: psycopg.Connection | None = None

    def close(self) -> None:
        """End its session."""
        if self._connection:
            self._connection.close()

    def in_the_way(self, step: Step, pid: int) -> tuple[Session, ...]:
        """Return who holds what the step, tried by process ``pid``, did not get; () when that cannot be seen."""
        locks = step.measured or step.predicted or STRONGEST
        relations = [lock.relation for lock in (*locks, STRONGEST[-1])]
        with suppress(psycopg.Error, SessionFixError):
            return blockers.in_the_way(locks, blockers.holding(self._opened(), relations, but=pid))
        return ()

    @contextmanager
    def over(self, pid: int, what: str) -> Iterator[None]:
        """Tell, for the block, what the process ``pid`` is doing or waiting for, whenever that changes."""
        ended = threading.Event()
        watcher = threading.Thread(target=self._tell_until, args=(ended, pid, what), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _tell_until(self, ended: threading.Event, pid: int, what: str) -> None:
        told: object = None
        while not ended.wait(POLL_S):
            with suppress(psycopg.Error, SessionFixError):
                whom = blockers.blocking(self._opened(), pid)
                row = self._opened().execute(PHASE, (pid,)).fetchone()
                if (seen := (row, [one.pid for one in whom])) != told and (row or whom):
                    told = seen
                    self._on(Waiting(f"{what}: {row[0]}" if row else what, whom))

    def _opened(self) -> psycopg.Connection:
        if self._connection is None or sessions.is_lost(self._connection):
            self._connection = sessions.opened(self._params, "watch")
        return self._connection
