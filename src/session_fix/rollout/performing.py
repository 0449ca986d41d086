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

from session_fix.errors import RolloutBusyError
from session_fix.rollout import blockers, failing, journal, lock, replicas, sessions, version_table
from session_fix.rollout.concurrently import Concurrently
from session_fix.rollout.happening import Done, Listener, Waiting
from session_fix.rollout.plan import Kind, Plan, Step
from session_fix.rollout.retrying import Ramp
from session_fix.rollout.step_session import StepSession
from session_fix.rollout.watching import Watch

NOTE_LOCK_TIMEOUT_MS = 10

Repair = Callable[..., object]  # of params; by name, ignore_replicas, patience_s, check and on


class Performer:
    """Performs steps under a rollout's lock, one after the other."""

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
        self._session = StepSession(params, held)
        self._concurrently = Concurrently(
            plan,
            self._session,
            held=held,
            watch=self._watch,
            patience_s=ramp.patience_s,
            note=lambda step, statements: self._in_transaction(step, statements, NOTE_LOCK_TIMEOUT_MS)[1],
            on=on,
        )

    def close(self) -> None:
        """End its sessions."""
        self._watch.close()
        self._session.close()

    def begin(self, drift: journal.Drift) -> None:
        """Note in the journal that the plan was begun, and what differed from the migrations then.

        Tell of replicas that will not be waited for.
        """
        session = self._session.opened(sessions.BRIEF_MS, sessions.BRIEF_MS)
        journal.begin(session, self._plan, drift)
        if not self._ignore_replicas:
            replicas.tell_of_unseen(session, self._on)

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
                tries, held_s = self._concurrently.perform(step)
            case Kind.REPAIR:
                tries, held_s = self._repaired(step)
        return Done(step=step, seconds=time.monotonic() - began, tries=tries, held_s=held_s)

    def _wait_for_replicas(self, step: Step) -> None:
        try:
            replicas.wait(self._held.connection, step.id, patience_s=self._ramp.patience_s, on=self._on)
        except psycopg.Error as error:
            self._held.check()
            raise failing.failed(step, error, " Or do not wait for replicas: --ignore-replicas.") from None

    def _in_transaction(self, step: Step, statements: tuple[str, ...], lock_timeout_ms: int) -> tuple[int, float]:
        """Try until it is done; return the number of tries, and how long the longest could hold others up."""
        began, held_s, deadlocked, lost = time.monotonic(), 0.0, False, False
        pauses = self._ramp.pauses(random.random)
        for tries in itertools.count(1):
            self._held.check()
            session = self._session.reopened(lock_timeout_ms, step.statement_timeout_ms)
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
                    raise failing.failed(step, error) from None
                deadlocked = True
            except psycopg.Error as error:
                if not sessions.is_lost(session) or tries >= self._ramp.tries:
                    raise failing.failed(step, error) from None
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
                version_table.check(session, self._plan, step, for_update=True)
                journal.running(session, self._plan, step, tries=tries)
                for note in step.notes:
                    version_table.note(session, step, note)
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

    def _is_noted(self, session: psycopg.Connection, step: Step) -> bool:
        """Say whether the step was done: its row in the journal is written in its own transaction."""
        with suppress(psycopg.errors.LockNotAvailable):
            is_there = version_table.noted(session) == ((step.after,) if step.after else ())
            return is_there and journal.position(self._plan, step) in journal.done(session, self._plan)
        return False

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

    def _repaired(self, step: Step) -> tuple[int, float]:
        session = self._session.reopened(NOTE_LOCK_TIMEOUT_MS, step.statement_timeout_ms)
        version_table.check(session, self._plan, step)
        journal.running(session, self._plan, step, tries=1)
        self._repairs[step.id](
            self._params,
            ignore_replicas=self._ignore_replicas,
            patience_s=self._ramp.patience_s,
            check=self._held.check,
            on=self._on,
        )
        self._held.check()
        session = self._session.reopened(NOTE_LOCK_TIMEOUT_MS, step.statement_timeout_ms)
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
