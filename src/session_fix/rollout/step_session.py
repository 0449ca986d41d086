"""The session that steps are performed in: opened anew for other timeouts, and when it was lost."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import psycopg

from session_fix.errors import DatabaseUnreadableError
from session_fix.rollout import lock, sessions

RECONNECT_S = 60.0


class StepSession:
    """Opens it when it is needed, under a rollout's lock."""

    def __init__(self, params: Mapping[str, str], held: lock.Held) -> None:
        self._params, self._held = params, held
        self._connection: psycopg.Connection | None = None
        self._timeouts = (-1, -1)

    def close(self) -> None:
        """End it."""
        if self._connection:
            self._connection.close()

    def opened(self, lock_timeout_ms: int, statement_timeout_ms: int) -> psycopg.Connection:
        """Return it, with these timeouts in force."""
        timeouts = (lock_timeout_ms, statement_timeout_ms)
        if self._connection is None or sessions.is_lost(self._connection) or timeouts != self._timeouts:
            self.close()
            self._connection = None
            self._connection = sessions.opened(
                self._params, "steps", lock_timeout_ms=lock_timeout_ms, statement_timeout_ms=statement_timeout_ms
            )
            self._timeouts = timeouts
        return self._connection

    def reopened(self, lock_timeout_ms: int, statement_timeout_ms: int) -> psycopg.Connection:
        """Return it; when it was lost, as soon as the server lets us in, while the lock is still held."""
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                return self.opened(lock_timeout_ms, statement_timeout_ms)
            except DatabaseUnreadableError:
                if time.monotonic() > deadline:
                    raise
                self._held.check()
                time.sleep(random.uniform(*lock.POLL_S))  # noqa: S311  no secret
