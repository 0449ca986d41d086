"""Has an index built or dropped CONCURRENTLY, whatever an earlier attempt left of it.

Such a statement can be in no transaction: it is looked at what there is, something is done about it, and it is looked
again. The version is noted once the index is as it should be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import psycopg
from psycopg import sql

from session_fix.errors import DatabaseUnreadableError, RolloutBusyError, StepFailedError
from session_fix.rollout import failing, indexes, journal, lock, sessions, version_table
from session_fix.rollout.happening import Listener, Said, Waiting
from session_fix.rollout.plan import Plan, Step
from session_fix.rollout.step_session import StepSession
from session_fix.rollout.watching import Watch

ROUNDS = 12  # of looking at an index and doing something about it: each makes it better, or somebody works against us
AT_WORK_POLL_S = 0.5
RAN_OUT = "53"  # the class of a full disk. Source: PostgreSQL manual, "Error Codes"


class Concurrently:
    """Performs such steps in the rollout's session.

    ``note`` carries out statements and notes a step as done, in one transaction; it returns for how many seconds that
    could hold others up.
    """

    def __init__(
        self,
        plan: Plan,
        session: StepSession,
        *,
        held: lock.Held,
        watch: Watch,
        patience_s: float,
        note: Callable[[Step, tuple[str, ...]], float],
        on: Listener,
    ) -> None:
        self._plan, self._session, self._held, self._watch = plan, session, held, watch
        self._patience_s, self._note, self._on = patience_s, note, on

    def perform(self, step: Step) -> tuple[int, float]:
        """Perform one; return the number of tries, and how long the longest transaction could hold others up."""
        index, tries = indexes.wanted(step.statements[0]), 0
        for _ in range(ROUNDS):
            self._held.check()
            session = self._session.reopened(0, step.statement_timeout_ms)
            try:
                version_table.check(session, self._plan, step)
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
                    raise failing.failed(step, error, self._cleared(step, index, error)) from None
                self._on(Waiting(f"{step.id}: the connection was lost, opening another"))
        raise StepFailedError(f"{step.id}: the index {index.name} was not valid after {ROUNDS} attempts.")

    def _noted(self, step: Step, index: indexes.Wanted, todo: indexes.Todo) -> float:
        statements: tuple[str, ...] = ()
        if todo.action == "rename":
            self._on(Said(f"{step.id}: the index is there as {todo.name}; it is renamed instead of built again"))
            rename = sql.SQL("ALTER INDEX public.{} RENAME TO {}")
            statements = (rename.format(sql.Identifier(todo.name), sql.Identifier(index.name)).as_string(),)
        return self._note(step, statements)

    def _long(self, session: psycopg.Connection, step: Step, index: indexes.Wanted, todo: indexes.Todo) -> None:
        statement = step.statements[0]
        if todo.action == "drop" and index.definition:
            self._on(Said(f"{step.id}: {todo.name} is not valid, left by a build that broke off; it is dropped"))
            drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS public.{}")
            statement = drop.format(sql.Identifier(todo.name)).as_string()
        with self._watch.over(session.info.backend_pid, step.id):
            session.execute(statement)

    def _wait_for_others(self, session: psycopg.Connection, step: Step, index: indexes.Wanted) -> None:
        """Wait until nobody builds an index there any more: two would wait for each other."""
        deadline, told = time.monotonic() + self._patience_s, False
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

    def _cleared(self, step: Step, index: indexes.Wanted, error: psycopg.Error) -> str:
        """Drop what a build left for want of room, and return what to say of it.

        It holds room itself; and once writes go into it, they fail as it did.
        """
        if index.definition and (error.sqlstate or "").startswith(RAN_OUT):
            with suppress(psycopg.Error, DatabaseUnreadableError, RolloutBusyError, StepFailedError):
                self._held.check()  # whoever has the lock by now may be building it anew
                session = self._session.opened(0, step.statement_timeout_ms)
                todo = indexes.todo(index, indexes.found(session))
                if todo == indexes.Todo("drop", index.name):
                    self._on(Said(f"{step.id}: {failing.said(error)}"))
                    self._long(session, step, index, todo)
                    return f" What the build left of {index.name} was dropped."
        return self._left_behind(step, index)

    def _left_behind(self, step: Step, index: indexes.Wanted) -> str:
        with suppress(psycopg.Error, DatabaseUnreadableError):
            there = indexes.found(self._session.opened(0, step.statement_timeout_ms))
            if any(one.name == index.name and not one.valid for one in there):
                return f" {index.name} is INVALID now: it costs writes and serves nobody; a rerun drops it first."
        return ""
