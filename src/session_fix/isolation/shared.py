"""A database that several tests share because they asked for it: cheaper than a private one, and nothing is proved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from session_fix.databases import Database
from session_fix.errors import UsageError
from session_fix.isolation import facts, sessions
from session_fix.isolation.tasks import Tasks

RESETS = ("truncate",)
VERSION_TABLE = "public.alembic_version"  # says what the schema is, and is no data of a test


class SharedDatabase:
    """Lends one database to test after test, with everything they leave, or with its tables emptied by TRUNCATE."""

    def __init__(self, database: Database, *, reset: str | None) -> None:
        self._database = database
        self._is_used = False
        self._tables: list[str] = []
        if reset:
            with contextlib.closing(facts.connect(database.dsn)) as connection:
                layout = facts.layout(connection)
                self._tables = [name for name in layout.tables if name not in {VERSION_TABLE, *layout.views}]
                full = next((name for name in self._tables if _has_rows(connection, name)), None)
            if full:
                raise UsageError(
                    f"reset={reset!r} cannot put back the rows that {full} has in this state; leave reset out."
                )

    @contextmanager
    def lend(self) -> Iterator[Database]:
        """Yield the database for one test. Raises what TRUNCATE raises when the test left a lock on a table."""
        self._truncate()  # where that failed after the last test
        self._is_used = True
        try:
            yield self._database
        finally:
            session = self._database.session()
            is_as_new = session and Tasks().run(sessions.washed(session, plans=True))
            self._database = self._database.with_session(session if is_as_new else None)
            self._truncate()

    def close(self) -> None:
        """Close the connection that came with the database."""
        if session := self._database.session():
            session.finish()

    def _truncate(self) -> None:
        if not (self._tables and self._is_used):
            return
        names = sql.SQL(", ").join(map(sql.SQL, self._tables))  # quoted by the server
        connection = self._database.connection
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '2s'")
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
        self._is_used = False


def _has_rows(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute(f"SELECT EXISTS (SELECT FROM {name})").fetchall() == [(True,)]
