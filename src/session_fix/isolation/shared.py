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

RESETS = ("truncate",)
VERSION_TABLE = "public.alembic_version"  # says what the schema is, and is no data of a test


class SharedDatabase:
    """Lends one database to test after test, with everything they leave, or with its tables emptied by TRUNCATE."""

    def __init__(self, database: Database, *, reset: str | None) -> None:
        self._database = database
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
        try:
            yield self._database
        finally:
            session = self._database.session()
            self._database = self._database.with_session(session if session and sessions.washed(session) else None)
            if self._tables:
                self._truncate()

    def close(self) -> None:
        """Close the connection that came with the database."""
        if session := self._database.session():
            session.finish()

    def _truncate(self) -> None:
        names = sql.SQL(", ").join(map(sql.SQL, self._tables))  # quoted by the server
        connection = self._database.connection
        connection.execute("SET LOCAL lock_timeout = '2s'")
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
        connection.commit()


def _has_rows(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute(f"SELECT EXISTS (SELECT FROM {name})").fetchall() == [(True,)]
