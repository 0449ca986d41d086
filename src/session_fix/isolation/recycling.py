"""One private database that is emptied for the next test, or said to be beyond that, and why.

The statements run on a connection of our own, which no test ever had, after everybody else has left.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from session_fix.databases import Database
from session_fix.isolation import facts, traces

LEAVING_S = 0.2  # a server process needs some milliseconds to end after its client has gone
DELETED_AT_MOST = 5_000  # rows; above it a clone is cheaper
SAVED_AT_MOST = 2_000  # rows of a table of the state that are kept to be put back


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A template as its clones are before any test: their relations, their facts, and the rows of their small tables.

    ``rows`` holds, by table, its columns and its rows in COPY's binary format. ``why_not`` says why no clone can be
    recycled, "" where nothing speaks against it.
    """

    layout: facts.Layout
    facts: facts.Facts
    rows: dict[str, tuple[str, bytes]]
    why_not: str


def blueprint(dsn: str) -> Blueprint:
    """Return the blueprint of a database that no test has had."""
    with contextlib.closing(facts.connect(dsn)) as connection:
        layout = facts.layout(connection)
        found = facts.read(connection, layout.query(), facts.next_transaction(connection))
        always = facts.acts_on_replicas(connection)
        why_not = "a trigger or a rule of the state that acts on every reset" if always else ""
        return Blueprint(layout, found, _rows(connection, layout, found), why_not)


class Recycler:
    """Makes one database ready for the next test, as often as it can. Not for two threads at a time.

    ``since`` is the server's next transaction when the database was made, ``rest`` returns the data API's role.
    """

    def __init__(self, database: Database, original: Blueprint, *, since: int, rest: Callable[[], str]) -> None:
        self._original = original
        self._since = since
        self._rest = rest
        self._query = original.layout.query()
        self._control = facts.connect(database.dsn)

    def close(self) -> None:
        """Close our own connection."""
        self._control.close()

    def renew(self, ours: frozenset[int]) -> list[str]:
        """Return why the database cannot be handed on; if there is nothing, its rows are the state's again.

        ``ours`` are the server processes of connections that are handed on with it, already washed.
        """
        if self._original.why_not:
            return [self._original.why_not]
        try:
            return self._left_by(ours) or self._reset()
        except psycopg.Error as error:
            return [f"nothing to be sure about: {type(error).__name__}"]

    def _left_by(self, ours: frozenset[int]) -> list[str]:
        deadline = time.monotonic() + LEAVING_S
        while found := traces.of_sessions(*facts.sessions(self._control), ours=ours, rest=self._rest()):
            if time.monotonic() > deadline:
                return found
            time.sleep(0.001)
        return []

    def _reset(self) -> list[str]:
        layout, before = self._original.layout, self._original.facts
        after = facts.read(self._control, self._query, self._since)
        if found := traces.of_facts(before, after, layout):
            return found
        dirty = traces.dirty(before, after, layout)
        if sum(written for _, written, _ in dirty) > DELETED_AT_MOST:
            return [f"more than {DELETED_AT_MOST:,} rows, which a clone is quicker to be rid of"]
        if lost := [name for name, _, gone in dirty if gone and name not in self._original.rows]:
            return [f"rows of the state changed in {lost[0]}, which is too large to put back"]
        if dirty:
            with self._control.transaction():
                for name, written, gone in dirty:
                    self._put_back(name) if gone else self._delete(name, written)
        self._since = facts.next_transaction(self._control)
        return []

    def _delete(self, name: str, written: int) -> None:
        gone = self._control.execute(
            sql.SQL(
                f"DELETE FROM ONLY {name} WHERE age(xmin) <= (SELECT age(%s::xid))"
            ),  # names come quoted from the server
            [str(self._since)],
        ).rowcount
        if gone != written:
            raise psycopg.DataError(f"{gone} of {written} rows deleted")

    def _put_back(self, name: str) -> None:
        columns, rows = self._original.rows[name]
        self._control.execute(f"DELETE FROM ONLY {name}")
        with self._control.cursor().copy(f"COPY {name} ({columns}) FROM STDIN (FORMAT binary)") as copy:
            copy.write(rows)


def _rows(connection: psycopg.Connection, layout: facts.Layout, found: facts.Facts) -> dict[str, tuple[str, bytes]]:
    saved = {}
    for name, table in zip(layout.tables, found.tables, strict=True):
        if table.rows <= SAVED_AT_MOST and name not in layout.views:
            columns = _columns(connection, name)
            query: Any = f"COPY (SELECT {columns} FROM ONLY {name}) TO STDOUT (FORMAT binary)"
            with connection.cursor().copy(query) as copy:
                saved[name] = (columns, b"".join(copy))
    return saved


def _columns(connection: psycopg.Connection, name: str) -> str:
    """Return the columns of a table that can be written to; a generated one follows from the others."""
    found = connection.execute(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        [name],
    ).fetchone()
    return str(found[0] if found and found[0] else "")
