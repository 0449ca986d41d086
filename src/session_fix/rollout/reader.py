"""Asks one thing after the other in one transaction; what fails is noted, and the rest is asked all the same."""

from __future__ import annotations

from typing import Any

import psycopg

from session_fix.rollout.found import Unseen

WHY = {
    "42501": "the role has no right to",
    "55P03": "somebody holds a lock on it",
    "57014": "it was cancelled, most likely because it took longer than --timeout",
}


class Reader:
    """Asks one statement after the other; one that fails leaves a reason in ``unseen`` and the others alone."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.unseen: list[Unseen] = []

    def rows(self, query: str, *values: Any, what: str, matters: bool = True) -> list[tuple[Any, ...]] | None:
        """Return the rows, None where they cannot be had. Never the server's words: they may quote a row."""
        try:
            with self.connection.transaction():  # a savepoint
                return self.connection.execute(query, values or None).fetchall()
        except psycopg.Error as error:
            if self.connection.closed or not error.sqlstate:
                raise
            self.miss(what, WHY.get(error.sqlstate, f"{error.sqlstate}, {type(error).__name__}"), matters=matters)
            return None

    def miss(self, what: str, why: str, *, matters: bool = True) -> None:
        """Note what could not be read."""
        self.unseen.append(Unseen(what, why, matters))
