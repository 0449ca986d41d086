"""One private database: where it is, and ways to look into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from session_fix import connecting
from session_fix.isolation.sessions import HandedOn, parted


@dataclass(slots=True, eq=False)
class Database:
    """A private database: where it is, what it was cloned from, and ways to look into it.

    Whoever cannot vouch that nothing will happen to it after its test says so in ``tainted``; then it is not recycled.
    """

    name: str
    params: dict[str, str]
    template: str = ""
    tainted: str = ""
    _opened: HandedOn | None = None

    @property
    def dsn(self) -> str:
        """The libpq connection string. It holds the password where the server has one."""
        return make_conninfo(**self.params)

    def __repr__(self) -> str:
        """Return the name only: the parameters may hold a password."""
        return f"Database({self.name!r})"

    def connect(self, **options: Any) -> psycopg.Connection:
        """Open a new connection as the server's owner; ``options`` are those of ``psycopg.connect``."""
        return connecting.connect(self.dsn, **options)

    @property
    def connection(self) -> psycopg.Connection:
        """The connection that comes with the database, open, in no transaction; what is not committed is rolled back.

        The session behind it is handed on from test to test, made as good as new in between.
        """
        if not self._opened or self._opened.closed:
            with connecting.NO_SERVICE:
                self._opened = HandedOn.connect(self.dsn)
        return self._opened

    def with_session(self, session: PGconn | None) -> Database:
        """Return the same database for the next test, with the session of the last one."""
        return Database(self.name, self.params, self.template, _opened=HandedOn(session) if session else None)

    def session(self) -> PGconn | None:
        """Close the connection for whoever has it, and return the session behind it if nobody else can reach that."""
        opened, self._opened = self._opened, None
        return parted(opened) if opened and not opened.closed else None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own; return its rows, none for a statement without a result."""
        with self.connect() as connection:
            return fetched(connection.execute(query, values or None))


def fetched(cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows of a result, also where they have no columns; none where a statement has no result."""
    return cursor.fetchall() if cursor.pgresult and cursor.pgresult.status == ExecStatus.TUPLES_OK else []
