"""The private databases of one process: a pool for each state, recycled or cloned, and what each test left behind."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq.abc import PGconn

from session_fix.databases import Database, Databases
from session_fix.errors import UnnoticedTracesError
from session_fix.isolation import facts, recycling, sessions
from session_fix.isolation.pool import Pool
from session_fix.isolation.recycling import Blueprint, Control, Recycler, blueprint, without_blueprint
from session_fix.isolation.server_state import ServerWatch
from session_fix.isolation.tasks import Line, Task, Tasks, begun
from session_fix.progress import SILENT, Progress
from session_fix.states import State

CLONE = "clone"
OUR_THREADS = "session-fix"


@dataclass(slots=True)
class Lent:
    """A private database, what recycles it, and its open session when it is given back, which is being washed.

    ``marks`` are the server's after its test, None until they are told; ``on_server`` is what that says, in words.
    """

    database: Database
    recycler: Recycler | None = None
    session: PGconn | None = None
    washing: Task[bool] | None = None
    marks: Any = None
    on_server: list[str] | None = None


class PrivateDatabases:
    """Hands out private databases and takes them back. Not for two threads at a time.

    ``rest`` returns the data API's role, "" as long as there is none. ``settled(name)`` says whether the data API has
    finished with a database, None when this test did not use it; ``let_go(name)`` tells it that a database goes.
    ``alone``: no other process uses the server. ``ended`` counts what became of the databases; ``mishaps`` says
    what went wrong in dropping them.
    """

    def __init__(
        self,
        databases: Databases,
        *,
        rest: Callable[[], str],
        settled: Callable[[str], bool | None],
        let_go: Callable[[str], None],
        alone: bool,
    ) -> None:
        self.ended: Counter[str] = Counter()
        self.mishaps: list[str] = []
        self._databases = databases
        self._rest, self._settled, self._let_go = rest, settled, let_go
        self._alone = alone
        self._templates: dict[State | None, str] = {}
        self._since: dict[str, int] = {}  # by template: the server's next transaction when that was finished
        self._pools: dict[tuple[str, str], Pool[Lent]] = {}
        self._blueprints: dict[str, Blueprint] = {}
        self._watch: ServerWatch | None = None
        self._tasks = Tasks()
        self._lines: tuple[Line, ...] = ()  # one to make databases, one to drop them
        self._unnoticed: list[str] = []
        self._returned: tuple[Pool[Lent], Lent] | None = None  # and not yet given back to the pool
        self._given_back: Lent | None = None  # and not yet settled

    def close(self) -> None:
        """Wait for what is under way, and let go of what is ready; what came back must have been settled.

        Raises ``UnnoticedTracesError`` when a test left something that escaped us, or what else went wrong, once
        everything is let go of.
        """
        with ExitStack() as ending:  # the last callback is the first to be called
            ending.callback(self._check)
            if self._watch:
                ending.callback(self._watch.close)
            for line in self._lines:
                ending.callback(line.close)
            ending.callback(self._tasks.finish)
            self._tasks.finish()
            for pool in self._pools.values():
                ending.callback(pool.check)
                for lent in pool.emptied():
                    ending.callback(self._tasks.run, self._let_go_of(lent))

    def _check(self) -> None:
        if self._unnoticed:
            raise UnnoticedTracesError(
                f"A test left {self._unnoticed[0]} in a database that other tests had after it, and kept PostgreSQL "
                "from counting that (track_counts). Mark it @pytest.mark.database(isolation='clone')."
            )

    @contextmanager
    def lend(
        self, isolation: str, state: State | None = None, *, progress: Progress = SILENT, settle: bool = True
    ) -> Iterator[Database]:
        """Yield a private database that nobody else uses; afterwards it is emptied or dropped.

        ``isolation`` is ``recycle`` or ``clone``; without a superuser's rights nothing can be proved: all are clones.
        ``settle=False``: whoever lends calls ``give_back`` when the test has ended, has something to do until
        PostgreSQL has answered, and calls ``settle`` before the next test begins. Raises what that raises.
        """
        self.settle()
        pool, threads = self._pool(isolation, state, progress), set(threading.enumerate())
        lent = pool.take()
        try:
            yield lent.database
        finally:
            try:
                self.settle()  # another, lent meanwhile
            finally:
                self._came_back(lent, pool, threads, recycled=isolation != CLONE)
                if settle:
                    self.settle()

    def _came_back(self, lent: Lent, pool: Pool[Lent], threads: set[threading.Thread], *, recycled: bool) -> None:
        """Begin to wash the session; what can be told at once is noted."""
        lent.session = lent.database.session()
        if lent.session and recycled and self._watch:
            layout = self._blueprints[lent.database.template].layout
            lent.washing = begun(sessions.washed(lent.session, plans=layout.remembers))
        if left := [thread for thread in threading.enumerate() if thread not in threads and not _is_ours(thread)]:
            lent.database.tainted = f"the thread {left[0].name}, which may still use the database"
        self._returned = (pool, lent)

    def give_back(self) -> None:
        """Ask what was left by the test whose database came back last, if any: whatever ends with it has ended now."""
        if self._returned:
            (pool, self._given_back), self._returned = self._returned, None
            pool.give_back(self._given_back)

    def settle(self) -> None:
        """Give back that database, and wait until what its test did to the server is known.

        Raises ``ServerChangedError`` when the test changed what all share, and that cannot be put back.
        """
        self.give_back()
        lent, self._given_back = self._given_back, None
        if not lent or not self._watch:
            return
        self._tasks.go_on_until(lambda: lent.marks is not None)
        if lent.marks is None:  # what went wrong is for the next who asks for a database
            lent.marks = self._tasks.run(self._watch.marks())
        if self._left_on_server(lent):
            self._tasks.finish()  # a role can go only once the database has
            self._watch.mend()

    def _pool(self, isolation: str, state: State | None, progress: Progress) -> Pool[Lent]:
        if state not in self._templates:
            template = self._templates[state] = self._databases.template(state, progress=progress)
            self._since[template] = facts.next_transaction(self._databases.execute)
            if not self._watch and self._databases.is_superuser:
                self._watch = ServerWatch(self._databases, alone=self._alone)
        if not self._lines:
            self._lines = (self._databases.line(), self._databases.line())
        key = (isolation if self._watch else CLONE, self._templates[state])
        if key not in self._pools:
            make, renew = (self._made, self._ended) if key[0] == CLONE else (self._known, self._recycled)
            self._pools[key] = Pool(self._tasks, lambda: make(key[1]), renew)
        return self._pools[key]

    def _made(self, template: str) -> Task[Lent]:
        return Lent((yield from self._databases.cloning(template, self._lines[0])))

    def _known(self, template: str) -> Task[Lent]:
        """Return a new database; the first of a template has been read, to know it again after its test."""
        lent = yield from self._made(template)
        if template not in self._blueprints:
            try:
                control, layout = recycling.control(lent.database)
                try:
                    self._blueprints[template] = yield from blueprint(control, layout)
                    lent.recycler = self._recycler(control, template)
                except BaseException:
                    control.connection.close()
                    raise
            except psycopg.Error as error:
                self._blueprints[template] = without_blueprint(_unsure(error))
        return lent

    def _recycler(self, control: Control, template: str) -> Recycler:
        return Recycler(control, self._blueprints[template], since=self._since[template], rest=self._rest)

    def _recycled(self, lent: Lent) -> Task[Lent | None]:
        """Return the database for the next test, None when it has none."""
        try:
            left = yield from self._left_in(lent)
        except Exception:
            self._drop(lent)
            raise
        if traces := [*(yield from self._asked(lent)), *left]:
            self.ended[f"dropped: {traces[0]}"] += 1
            self._drop(lent)
            return None
        self.ended["recycled"] += 1
        return Lent(lent.database.with_session(lent.session), recycler=lent.recycler)

    def _ended(self, lent: Lent) -> Task[None]:
        """End a database that is not recycled, beside the next test."""
        traces = yield from self._asked(lent)
        self.ended[f"dropped: {traces[0]}" if traces else "dropped"] += 1
        self._drop(lent)

    def _asked(self, lent: Lent) -> Task[list[str]]:
        """Return what the test left on the server; it is asked for here where it was not before."""
        try:
            if lent.marks is None and self._watch:
                lent.marks = yield from self._watch.marks()
        except psycopg.Error as error:
            return [_unsure(error)]
        return self._left_on_server(lent)

    def _left_on_server(self, lent: Lent) -> list[str]:
        if lent.on_server is None:
            try:
                lent.on_server = self._watch.traces(lent.marks) if self._watch else []
            except psycopg.Error as error:  # which mending meets again, in time for the test's report
                lent.on_server = [_unsure(error)]
        return lent.on_server

    def _left_in(self, lent: Lent) -> Task[list[str]]:
        if lent.database.tainted:
            return [lent.database.tainted]
        if (settled := self._settled(lent.database.name)) is False:
            return ["a request that the data API is still busy with"]
        original = self._blueprints[lent.database.template]
        if original.why_not:
            return [original.why_not]
        try:
            if not lent.recycler:
                control, _ = recycling.control(lent.database, original.layout)
                lent.recycler = self._recycler(control, lent.database.template)
        except psycopg.Error as error:
            return [_unsure(error)]
        # The data API's sessions stay, and what they counted may be on its way.
        thorough = settled is not None

        def told(marks: Any) -> None:
            lent.marks = marks

        return (yield from lent.recycler.renew(_washed(lent), thorough=thorough, told=told))

    def _let_go_of(self, lent: Lent) -> Task[None]:
        """End a database that is ready when the run ends; ours go with their server."""
        try:
            if lent.recycler:
                self._unnoticed += yield from lent.recycler.audit()
        finally:
            if self._databases.server.kind == "external":
                self._drop(lent)
            else:
                self._close(lent)

    def _drop(self, lent: Lent) -> None:
        """Begin to drop a database, beside the next test."""
        self._tasks.start(self._dropped(lent), self._noting(lent.database))

    def _dropped(self, lent: Lent) -> Task[None]:
        self._close(lent)
        try:
            self._let_go(lent.database.name)
        finally:
            yield from self._databases.dropping(lent.database, self._lines[1])

    def _noting(self, database: Database) -> Callable[[None, BaseException | None], None]:
        """Return what notes why a database was not dropped: that is no matter of the test that runs by then."""

        def note(_: None, error: BaseException | None) -> None:
            if error:
                self.mishaps.append(f"{database.name}: {type(error).__name__}: {error}".partition("\n")[0])

        return note

    def _close(self, lent: Lent) -> None:
        if session := lent.session or lent.database.session():
            session.finish()
        if lent.recycler:
            lent.recycler.close()


def _washed(lent: Lent) -> Task[frozenset[int]]:
    """Return the server process of the session that is handed on, once it is washed; none if it cannot be."""
    if lent.washing and not (yield from lent.washing):
        lent.session = None
    return frozenset({lent.session.backend_pid} if lent.session else ())


def _unsure(error: psycopg.Error) -> str:
    return f"nothing to be sure about: {type(error).__name__}"


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith(OUR_THREADS)
