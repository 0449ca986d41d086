"""One private database that is emptied for the next test, or said to be beyond that, and why.

The statements run on a connection of our own, which no test ever had; what counts is asked after everybody else has
left. Those that run after each test are tasks; what is rare waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq.abc import PGresult

from session_fix.databases import Database
from session_fix.isolation import facts, traces
from session_fix.isolation.server_state import MARKS
from session_fix.isolation.tasks import Prepared, Task, Until, send_ahead
from session_fix.servers import VERSION_15

LEAVING_S = 0.2  # a server process needs some milliseconds to end after its client has gone
DELETED_AT_MOST = 5_000  # rows; above it a clone is cheaper
RENEWALS_AT_MOST = 1_000  # nothing vacuums it
SAVED_AT_MOST = 2_000  # rows of a table of the state that are kept to be put back


Deleted = dict[str, int]  # by table, how many rows


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


@dataclass(frozen=True, slots=True)
class Control:
    """A connection of our own to a database, and the statement that reads its facts, planned once."""

    connection: psycopg.Connection
    facts: Prepared


def control(database: Database, layout: facts.Layout | None = None) -> tuple[Control, facts.Layout]:
    """Return our own connection to a database, and its layout, which is read unless it is known."""
    connection = facts.connect(database.dsn)
    try:
        layout = layout or facts.layout(connection)
        return Control(connection, Prepared(connection, "facts", layout.facts())), layout
    except BaseException:
        connection.close()
        raise


def blueprint(control: Control, layout: facts.Layout) -> Task[Blueprint]:
    """Return the blueprint of a database that no test has had."""
    connection = control.connection
    found = yield from facts.read(control.facts, facts.next_transaction(connection.execute))
    always = facts.acts_on_replicas(connection)
    why_not = "a trigger or a rule of the state that acts on every reset" if always else ""
    return Blueprint(layout, found, _rows(connection, layout, found), why_not)


def without_blueprint(why_not: str) -> Blueprint:
    """Return that of a template whose clones cannot be recycled, since nothing could be read in them."""
    nothing = facts.Facts(facts.Table(0, 0), 0, (), (), [], 0)
    return Blueprint(facts.Layout((), "", (), frozenset(), ()), nothing, {}, why_not)


class Recycler:
    """Makes one database ready for the next test, as often as it can.

    ``since`` is a transaction after the template's and before the test's, ``rest`` returns the data API's role.
    """

    def __init__(self, control: Control, original: Blueprint, *, since: int, rest: Callable[[], str]) -> None:
        self._original = original
        self._since = since
        self._rest = rest
        self._marks: str | None = None  # at the last dating of the catalogs
        self._renewals = 0
        self._control, self._facts = control.connection, control.facts
        try:
            self._around = Prepared(self._control, "around", facts.AROUND)
            self._alone = Prepared(self._control, "alone", facts.ALONE)
            self._glance = Prepared(self._control, "glance", original.layout.glance())
            self._server = Prepared(self._control, "server", MARKS)
        except BaseException:
            self._control.close()
            raise
        self._deletions: dict[tuple[str, ...], Prepared] = {}
        self._likely: tuple[str, ...] = ()  # the tables that the last test which wrote anything wrote to
        self._counts = self._control.info.server_version >= VERSION_15  # before, counters arrived when they arrived

    def close(self) -> None:
        """Close our own connection."""
        self._control.close()

    def renew(self, washing: Task[frozenset[int]], *, thorough: bool, told: Callable[[Any], None]) -> Task[list[str]]:
        """Return why the database cannot be handed on; if there is nothing, its rows are the state's again.

        ``washing`` returns the server processes of connections that are handed on with it, once they are washed. The
        catalogs are dated when something may have changed them, or when ``thorough``. ``told`` is called with the marks
        of the server, which are asked for meanwhile, before anything else is known; never where they cannot be had.
        """
        if self._original.why_not:
            return [self._original.why_not]
        self._renewals += 1
        if self._renewals > RENEWALS_AT_MOST:
            return [f"the dead rows of {RENEWALS_AT_MOST:,} tests"]
        ours: frozenset[int] = frozenset()
        try:
            send_ahead(self._control.pgconn, self._server.send)  # washing commits nothing that they show
            ours = yield from washing
            left, seen, deleted = yield from self._after_all_left(ours, lambda found: told(self._server.value(found)))
            if left := left or (yield from self._traces(seen, thorough=thorough)):
                return left
            return (yield from self._reset(seen, deleted))
        except psycopg.errors.LockNotAvailable:
            return self._still_here(ours, (yield from self._around())) or ["a lock on a table"]
        except psycopg.Error as error:
            return [f"nothing to be sure about: {type(error).__name__}"]

    def audit(self) -> Task[list[str]]:
        """Return what was not noticed, in a database that is ready for a test."""
        seen = yield from facts.glance(self._glance, self._since)
        if seen.marks != self._marks:
            return []  # it was noticed by the counters, and would have been dated
        after = yield from facts.read(self._facts, self._since)
        return traces.of_facts(self._original.facts, after, self._original.layout)

    def _after_all_left(
        self, ours: frozenset[int], told: Callable[[PGresult], None] | None
    ) -> Task[tuple[list[str], facts.Glance, Deleted]]:
        """Wait a moment for everybody to leave; return who does not, and a glance taken after that was asked.

        What was written to the tables that are likely to be dirty is deleted after the glance, in the same message, if
        only ours are connected and the catalogs unchanged: else a trigger of the test's might act on that. If anything
        that is found speaks against handing on, the database is dropped anyway. ``told``: see ``facts.look``.
        """
        deadline = time.monotonic() + LEAVING_S
        alone = not self._rest()  # the data API stays
        likely = self._likely if alone and self._counts and self._marks else ()
        while True:
            asked_at = time.monotonic()
            asked, number = (self._alone, len(ours) + 1) if alone else (self._around, None)
            deletion, marks = (self._deletion(likely), self._marks or "") if likely else (None, "")
            try:
                about, seen, deleted = yield from facts.look(
                    asked, number, self._glance, self._since, marks, deletion, told
                )
            except psycopg.errors.DivisionByZero:
                alone, likely = False, ()
                continue
            finally:
                told = None  # that answer has been read
            left = [] if alone else self._still_here(ours, about)
            if not left or asked_at > deadline:
                return left, seen, dict(zip(likely, deleted, strict=True))
            yield Until(at=time.monotonic() + 0.001)

    def _still_here(self, ours: frozenset[int], about: list[list[Any]]) -> list[str]:
        return traces.of_sessions(*facts.around_of(about), ours=ours, rest=self._rest())

    def _traces(self, seen: facts.Glance, *, thorough: bool) -> Task[list[str]]:
        before, layout = self._original.facts, self._original.layout
        if self._counts and not thorough and seen.marks == self._marks:
            return traces.of_facts(before, seen.over(before), layout)
        after = yield from facts.read(self._facts, self._since)
        self._marks = seen.marks
        return traces.of_facts(before, after, layout)

    def _reset(self, seen: facts.Glance, deleted: Deleted) -> Task[list[str]]:
        dirty = traces.dirty(self._original.facts, seen.tables, self._original.layout)
        if sum(written for _, written, _ in dirty) > DELETED_AT_MOST:
            return [f"more than {DELETED_AT_MOST:,} rows, which a clone is quicker to be rid of"]
        if lost := [name for name, _, gone in dirty if gone and name not in self._original.rows]:
            return [f"rows of the state changed in {lost[0]}, which is too large to put back"]
        if refilled := [name for name, _, gone in dirty if gone]:
            with self._control.transaction():
                for name in refilled:
                    self._put_back(name)
        written = {name: count for name, count, gone in dirty if not gone}
        if left := tuple(name for name in written if name not in deleted):
            counts = yield from self._deletion(left)(self._since)
            deleted |= dict(zip(left, counts, strict=True))
        if any(deleted[name] != count for name, count in written.items()):
            raise psycopg.DataError(f"{deleted} rows deleted, of {written}")
        if refilled:
            self._since = facts.next_transaction(self._control.execute)
        if written:
            self._likely = tuple(written)
            self._deletion(self._likely)  # planned before it is wanted: it cannot be after ``send_ahead``
        return []

    def _deletion(self, tables: tuple[str, ...]) -> Prepared:
        if tables not in self._deletions:
            statement = facts.deletion(tables, DELETED_AT_MOST)
            self._deletions[tables] = Prepared(self._control, f"deletion {len(self._deletions)}", statement)
        return self._deletions[tables]

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
