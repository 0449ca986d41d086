"""Performs the steps of a plan one by one: all or nothing each, tried again while others are in the way.

In a transaction the version and the journal are written first, and what takes a strong lock is sent last, together
with its COMMIT: while such a lock is held, nobody waits for the way to the server and back.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psycopg
from psycopg import sql

from session_fix.errors import DatabaseUnreadableError, RolloutBusyError, StepFailedError
from session_fix.rollout import blockers, failing, indexes, journal, lock, replicas, sessions
from session_fix.rollout.happening import Done, Listener, Said, Waiting
from session_fix.rollout.plan import Kind, Plan, Step
from session_fix.rollout.retrying import Ramp
from session_fix.rollout.watching import Watch

NOTE_LOCK_TIMEOUT_MS = 10
ROUNDS = 12  # of looking at an index and doing something about it: each makes it better, or somebody works against us
RECONNECT_S = 60.0
AT_WORK_POLL_S = 0.5
MAKES_VERSIONS = "CREATE TABLE alembic_version"
VERSIONS = "SELECT version_num FROM public.alembic_version ORDER BY 1"
HAS_VERSIONS = "SELECT to_regclass('public.alembic_version') IS NOT NULL"
WHERE_WE_ARE = "SELECT current_database()::text, pg_is_in_recovery()"

Repair = Callable[[Mapping[str, str]], object]


class Performer:
    """Performs steps under a rollout's lock. Its session is opened anew for other timeouts, and when it was lost."""

    def __init__(
        self,
        params: Mapping[str, str],
        plan: Plan,
        *,
        held: lock.Held,
        ramp: Ramp,
        repairs: Mapping[str, Repair],
        ignore_replicas: bool,
        on: Listener,
    ) -> None:
        self._params, self._plan, self._held, self._ramp = params, plan, held, ramp
        self._repairs, self._ignore_replicas, self._on = repairs, ignore_replicas, on
        self._watch = Watch(params, on)
        self._session: psycopg.Connection | None = None
        self._timeouts = (-1, -1)

    def close(self) -> None:
        """End its sessions."""
        self._watch.close()
        if self._session:
            self._session.close()

    def begin(self, drift: journal.Drift) -> None:
        """Note in the journal that the plan was begun, and what differed from the migrations then.

        Tell of replicas that will not be waited for.
        """
        session = self.session(sessions.BRIEF_MS, sessions.BRIEF_MS)
        journal.begin(session, self._plan, drift)
        if not self._ignore_replicas and (count := replicas.unseen(session)):
            self._on(Said(f"{count} replicas are connected, and are not waited for: this role may not see them"))

    def session(self, lock_timeout_ms: int, statement_timeout_ms: int) -> psycopg.Connection:
        """Return the session for steps, with these timeouts in force."""
        timeouts = (lock_timeout_ms, statement_timeout_ms)
        if self._session is None or sessions.is_lost(self._session) or timeouts != self._timeouts:
            if self._session:
                self._session.close()
            self._session = None
            self._session = sessions.opened(
                self._params, "steps", lock_timeout_ms=lock_timeout_ms, statement_timeout_ms=statement_timeout_ms
            )
            self._timeouts = timeouts
        return self._session

    def perform(self, step: Step) -> Done:
        """Perform one step and return how it went.

        Raises ``StepFailedError``, ``RolloutBusyError``; then the step is not done, and a rerun begins with it.
        """
        self._held.check()
        if not self._ignore_replicas:
            self._wait_for_replicas(step)
        began = time.monotonic()
        match step.kind:
            case Kind.TRANSACTION:
                tries, held_s = self._in_transaction(step, step.statements, step.lock_timeout_ms)
            case Kind.CONCURRENTLY:
                tries, held_s = self._concurrently(step)
            case Kind.REPAIR:
                tries, held_s = self._repaired(step)
        return Done(step=step, seconds=time.monotonic() - began, tries=tries, held_s=held_s)

    def _wait_for_replicas(self, step: Step) -> None:
        try:
            replicas.wait(self._held.connection, step.id, patience_s=self._ramp.patience_s, on=self._on)
        except psycopg.Error as error:
            self._held.check()
            raise _failed(step, error, " Or do not wait for replicas: --ignore-replicas.") from None

    def _in_transaction(self, step: Step, statements: tuple[str, ...], lock_timeout_ms: int) -> tuple[int, float]:
        """Try until it is done; return the number of tries, and how long the longest could hold others up."""
        began, held_s, deadlocked, lost = time.monotonic(), 0.0, False, False
        pauses = self._ramp.pauses(random.random)
        for tries in itertools.count(1):
            self._held.check()
            session = self._reconnected(lock_timeout_ms, step.statement_timeout_ms)
            if lost and self._is_noted(session, step):
                return tries, held_s  # the commit came through, its answer did not
            sent = _Sent()
            try:
                self._try(session, step, statements, tries, sent)
                return tries, max(held_s, sent.seconds())
            except psycopg.errors.LockNotAvailable as error:
                whom = self._watch.in_the_way(step, session.info.backend_pid)
                self._pause(step, tries, next(pauses, None), began, error, whom)
            except psycopg.errors.DeadlockDetected as error:
                if deadlocked:
                    raise _failed(step, error) from None
                deadlocked = True
            except psycopg.Error as error:
                if not sessions.is_lost(session) or tries >= self._ramp.tries:
                    raise _failed(step, error) from None
                lost = True
                self._on(Waiting(f"{step.id}: the connection was lost, opening another"))
            held_s = max(held_s, sent.seconds())
        raise AssertionError  # the loop has no end of its own

    def _try(
        self, session: psycopg.Connection, step: Step, statements: tuple[str, ...], tries: int, sent: _Sent
    ) -> None:
        with self._watch.over(session.info.backend_pid, step.id):
            try:
                session.execute("BEGIN")
                self._check(session, step, for_update=True)
                journal.running(session, self._plan, step, tries=tries)
                for note in step.notes:
                    self._note(session, step, note)
                sent.now()
                with session.pipeline():
                    for statement in statements:
                        session.execute(statement)
                    session.execute(*journal.finished(self._plan, step))
                    session.execute("COMMIT")
            except BaseException:
                sent.answered()
                with suppress(psycopg.Error):
                    session.execute("ROLLBACK")
                raise
            sent.answered()

    def _check(self, session: psycopg.Connection, step: Step, *, for_update: bool = False) -> None:
        """Raise ``StepFailedError`` unless this is the plan's database, at the version that the step begins with.

        With the version's row locked, nobody else changes it until the step has ended.
        """
        where = session.execute(WHERE_WE_ARE).fetchone()
        if where != (self._plan.binding.database, False):
            raise StepFailedError(
                f"The connection leads elsewhere than it did: {where}. Nothing of {step.id} was done. Look at the DSN."
            )
        versions = noted(session, for_update=for_update)
        if versions != ((step.before,) if step.before else ()):
            raise StepFailedError(
                f"Somebody else migrates this database: before {step.id}, alembic_version says "
                f"{', '.join(versions) or 'nothing'} instead of {step.before or 'nothing'}. Nothing of this step was "
                "done. Find out who it is; then run the same command again, which goes on from where the database is."
            )

    def _is_noted(self, session: psycopg.Connection, step: Step) -> bool:
        """Say whether the step was done: its row in the journal is written in its own transaction."""
        with suppress(psycopg.errors.LockNotAvailable):
            is_there = noted(session) == ((step.after,) if step.after else ())
            return is_there and journal.position(self._plan, step) in journal.done(session, self._plan)
        return False

    def _note(self, session: psycopg.Connection, step: Step, note: str) -> None:
        if note.startswith(MAKES_VERSIONS) and session.execute(HAS_VERSIONS).fetchone() == (True,):
            return  # a rollback to the beginning empties it
        cursor = session.execute(note)
        if note.startswith(("UPDATE", "DELETE")) and cursor.rowcount != 1:
            raise StepFailedError(
                f"Somebody else migrates this database: {cursor.rowcount} rows of alembic_version were changed by "
                f"{step.id} instead of 1. Nothing of this step was done. Find out who it is first."
            )

    def _pause(
        self,
        step: Step,
        tries: int,
        pause_s: float | None,
        began: float,
        error: psycopg.Error,
        whom: tuple[blockers.Session, ...],
    ) -> None:
        waiting = Waiting(f"{step.id}: a lock, try {tries} of {self._ramp.tries}", whom)
        if pause_s is None or time.monotonic() - began > self._ramp.patience_s:
            raise RolloutBusyError(
                f"{step.id}: what it has to lock was not to be had in {tries} tries ({error.sqlstate}). In the way: "
                f"{', '.join(map(str, whom)) or 'nobody that can be seen any more'}. Nothing of this step was done. "
                "Run the same command again when they have ended, or with more --tries."
            ) from None
        self._on(waiting)
        time.sleep(pause_s)

    def _reconnected(self, lock_timeout_ms: int, statement_timeout_ms: int) -> psycopg.Connection:
        """Return the session; a lost one is opened again, as soon as the server lets us in."""
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                return self.session(lock_timeout_ms, statement_timeout_ms)
            except DatabaseUnreadableError:
                if time.monotonic() > deadline:
                    raise
                self._held.check()
                time.sleep(random.uniform(*lock.POLL_S))  # noqa: S311  no secret

    def _concurrently(self, step: Step) -> tuple[int, float]:
        index, tries = indexes.wanted(step.statements[0]), 0
        for _ in range(ROUNDS):
            self._held.check()
            session = self._reconnected(0, step.statement_timeout_ms)
            try:
                self._check(session, step)
                journal.running(session, self._plan, step, tries=1)
                self._wait_for_others(session, step, index)
                todo = indexes.todo(index, indexes.found(session))
                if todo.action in ("nothing", "rename"):
                    return max(tries, 1), self._noted(step, index, todo)
                tries += (todo.action == "build") == bool(index.definition)
                self._long(session, step, index, todo)
            except psycopg.errors.DeadlockDetected:
                self._on(Said(f"{step.id}: a deadlock with another session; it is tried again"))
            except psycopg.Error as error:
                if not sessions.is_lost(session):
                    raise _failed(step, error, self._left_behind(index)) from None
                self._on(Waiting(f"{step.id}: the connection was lost, opening another"))
        raise StepFailedError(f"{step.id}: the index {index.name} was not valid after {ROUNDS} attempts.")

    def _noted(self, step: Step, index: indexes.Wanted, todo: indexes.Todo) -> float:
        statements: tuple[str, ...] = ()
        if todo.action == "rename":
            self._on(Said(f"{step.id}: the index is there as {todo.name}; it is renamed instead of built again"))
            rename = sql.SQL("ALTER INDEX public.{} RENAME TO {}")
            statements = (rename.format(sql.Identifier(todo.name), sql.Identifier(index.name)).as_string(),)
        return self._in_transaction(step, statements, NOTE_LOCK_TIMEOUT_MS)[1]

    def _long(self, session: psycopg.Connection, step: Step, index: indexes.Wanted, todo: indexes.Todo) -> None:
        statement = step.statements[0]
        if todo.action == "drop" and index.definition:
            self._on(Said(f"{step.id}: {todo.name} is not valid, left by a build that broke off; it is dropped first"))
            drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS public.{}")
            statement = drop.format(sql.Identifier(todo.name)).as_string()
        with self._watch.over(session.info.backend_pid, step.id):
            session.execute(statement)

    def _wait_for_others(self, session: psycopg.Connection, step: Step, index: indexes.Wanted) -> None:
        """Wait until nobody builds an index there any more: two would wait for each other."""
        deadline, told = time.monotonic() + self._ramp.patience_s, False
        while others := indexes.at_work(session, index):
            if time.monotonic() > deadline:
                raise RolloutBusyError(
                    f"{step.id}: an index is still being built by {', '.join(map(str, others))}. Run the same command "
                    "again when that has ended."
                )
            if not told:
                self._on(Waiting(f"{step.id}: an index that is being built there already", others))
                told = True
            time.sleep(AT_WORK_POLL_S)

    def _left_behind(self, index: indexes.Wanted) -> str:
        with suppress(psycopg.Error, DatabaseUnreadableError):
            if any(one.name == index.name and not one.valid for one in indexes.found(self.session(*self._timeouts))):
                return f" {index.name} is INVALID now: it costs writes and serves nobody; a rerun drops it first."
        return ""

    def _repaired(self, step: Step) -> tuple[int, float]:
        session = self._reconnected(NOTE_LOCK_TIMEOUT_MS, step.statement_timeout_ms)
        self._check(session, step)
        journal.running(session, self._plan, step, tries=1)
        self._repairs[step.id](self._params)
        session = self._reconnected(NOTE_LOCK_TIMEOUT_MS, step.statement_timeout_ms)
        session.execute(*journal.finished(self._plan, step))
        return 1, 0.0


class _Sent:
    """How long what takes locks was under way, from being sent to its answer."""

    def __init__(self) -> None:
        self._sent = self._answered = 0.0

    def now(self) -> None:
        self._sent = time.monotonic()

    def answered(self) -> None:
        self._answered = time.monotonic()

    def seconds(self) -> float:
        return self._answered - self._sent if self._sent else 0.0


def noted(connection: psycopg.Connection, *, for_update: bool = False) -> tuple[str, ...]:
    """Return the rows of alembic_version, () where there is no such table."""
    if connection.execute(HAS_VERSIONS).fetchone() != (True,):
        return ()
    return tuple(row[0] for row in connection.execute(VERSIONS + (" FOR UPDATE" if for_update else "")))


def _failed(step: Step, error: psycopg.Error, more: str = "") -> StepFailedError:
    return StepFailedError(
        f"{step.id} failed: {failing.said(error)}. Nothing of this step was done.{more} {failing.todo(error)}"
    )
