"""The private databases of one process: a pool for each state, recycled or cloned, and what each test left behind."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.pq.abc import PGconn

from session_fix.databases import Database, Databases
from session_fix.isolation import sessions
from session_fix.isolation.pool import Pool
from session_fix.isolation.recycling import Blueprint, Recycler, blueprint
from session_fix.isolation.server_state import ServerWatch
from session_fix.progress import SILENT, Progress
from session_fix.states import State

CLONE = "clone"
OUR_THREADS = "session-fix"


@dataclass(slots=True)
class Lent:
    """A private database, the server's next transaction when it was made, what recycles it, and its open session."""

    database: Database
    since: int = 0
    recycler: Recycler | None = None
    session: PGconn | None = None


class PrivateDatabases:
    """Hands out private databases and takes them back, in the background.

    ``rest`` returns the data API's role, "" as long as there is none. ``is_idle(name)`` says whether the data API has
    finished with a database, ``let_go(name)`` tells it that a database goes. ``alone``: no other process uses the
    server. ``ended`` counts what became of the databases, by isolation or by what their test left.
    """

    def __init__(
        self,
        databases: Databases,
        *,
        rest: Callable[[], str],
        is_idle: Callable[[str], bool],
        let_go: Callable[[str], None],
        alone: bool,
    ) -> None:
        self.ended: Counter[str] = Counter()
        self._databases = databases
        self._rest, self._is_idle, self._let_go = rest, is_idle, let_go
        self._alone = alone
        self._templates: dict[State | None, str] = {}
        self._pools: dict[tuple[str, str], Pool[Lent]] = {}
        self._blueprints: dict[str, Blueprint] = {}
        self._watch: ServerWatch | None = None

    def close(self) -> None:
        """Wait for what is under way, and drop what is ready where the server does not go with the run."""
        for pool in self._pools.values():
            pool.close()

    @contextmanager
    def lend(self, isolation: str, state: State | None = None, *, progress: Progress = SILENT) -> Iterator[Database]:
        """Yield a private database that nobody else uses; afterwards it is emptied or dropped in the background.

        ``isolation`` is ``recycle`` or ``clone``; without a superuser's rights nothing can be proved: all are clones.
        """
        pool, threads = self._pool(isolation, state, progress), set(threading.enumerate())
        lent = pool.take()
        try:
            yield lent.database
        finally:
            lent.session = lent.database.session()
            if left := [thread for thread in threading.enumerate() if thread not in threads and not _is_ours(thread)]:
                lent.database.tainted = f"the thread {left[0].name}, which may still use the database"
            pool.give_back(lent)

    def _pool(self, isolation: str, state: State | None, progress: Progress) -> Pool[Lent]:
        if state not in self._templates:
            self._templates[state] = self._databases.template(state, progress=progress)
            if not self._watch and self._databases.is_superuser:
                self._watch = ServerWatch(self._databases, alone=self._alone)
        key = (isolation if self._watch else CLONE, self._templates[state])
        if key not in self._pools:
            renew = self._ended if key[0] == CLONE else self._recycled
            self._pools[key] = Pool(lambda: self._made(key[1]), renew, self._dropped)
        return self._pools[key]

    def _made(self, template: str) -> Lent:
        return Lent(self._databases.clone(template), self._databases.next_transaction())

    def _recycled(self, lent: Lent) -> Lent | None:
        """Return the database for the next test, None when it has none."""
        traces = self._on_server() + self._left_in(lent)
        if traces:
            self._given_up(lent, traces)
            return None
        self.ended["recycled"] += 1
        return Lent(lent.database.with_session(lent.session), recycler=lent.recycler)

    def _ended(self, lent: Lent) -> None:
        """End a database that is not recycled."""
        self._given_up(lent, self._on_server())

    def _given_up(self, lent: Lent, traces: list[str]) -> None:
        self.ended[f"dropped: {traces[0]}" if traces else "dropped"] += 1
        self._dropped(lent)
        if self._watch and traces:
            self._watch.mend()

    def _on_server(self) -> list[str]:
        return self._watch.traces() if self._watch else []

    def _left_in(self, lent: Lent) -> list[str]:
        if lent.session and not sessions.washed(lent.session):
            lent.session = None
        if lent.database.tainted:
            return [lent.database.tainted]
        if not self._is_idle(lent.database.name):
            return ["a request that the data API is still busy with"]
        try:
            if not lent.recycler:
                original = self._blueprint(lent.database.template)
                lent.recycler = Recycler(lent.database, original, since=lent.since, rest=self._rest)
        except psycopg.Error as error:
            return [f"nothing to be sure about: {type(error).__name__}"]
        return lent.recycler.renew(frozenset({lent.session.backend_pid} if lent.session else ()))

    def _blueprint(self, template: str) -> Blueprint:
        if template not in self._blueprints:
            unused = self._databases.clone(template)
            self._blueprints[template] = blueprint(unused.dsn)
            self._databases.drop(unused)
        return self._blueprints[template]

    def _dropped(self, lent: Lent) -> None:
        if session := lent.session or lent.database.session():
            session.finish()
        if lent.recycler:
            lent.recycler.close()
        self._let_go(lent.database.name)
        self._databases.drop(lent.database)


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith(OUR_THREADS)
