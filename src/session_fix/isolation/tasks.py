"""What goes on beside the tests without a thread: generators that never wait, and the one place where waiting is done.

A task sends a statement, yields what it waits for, and goes on when somebody asks or gives back the next time. While a
test runs nothing here does, so nothing of ours holds Python's lock when a test wants it.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

T = TypeVar("T")
LONGEST_S = 60.0
POLL_S = 0.001
SPIN_S = 0.0003  # most answers are there by then, and a processor that sleeps takes long to wake
YIELD: Callable[[], None] = getattr(os, "sched_yield", lambda: None)  # to PostgreSQL, where both want the processor


@dataclass(frozen=True, slots=True)
class Until:
    """What a task waits for: a socket that can be read, or a moment on the monotonic clock, in seconds."""

    socket: int | None = None
    at: float | None = None


Task = Generator[Until, None, T]


def answers(connection: PGconn) -> Task[list[PGresult]]:
    """Return the results of what was sent on a connection. Raises ``psycopg.Error`` for one that is an error."""
    found = []
    while connection.flush():
        yield Until(at=time.monotonic() + POLL_S)
    while True:
        if connection.is_busy():
            yield from _arrived(connection)
        if (result := connection.get_result()) is None:
            break
        found.append(result)
    return _succeeded(found)


def _arrived(connection: PGconn) -> Task[None]:
    """Return when there is something that can be had without waiting; often it is there before anybody waits."""
    while connection.is_busy():
        connection.consume_input()
        if connection.is_busy():
            yield Until(connection.socket)


def statement(connection: PGconn, text: str) -> Task[list[PGresult]]:
    """Run one statement, or several at once."""
    connection.send_query(text.encode())
    return (yield from answers(connection))


def send_ahead(connection: PGconn, send: Callable[[], None]) -> None:
    """Send a statement whose answer is read with those of ``together``; until then the connection takes no other."""
    connection.enter_pipeline_mode()
    send()
    connection.pipeline_sync()
    connection.flush()


def together(
    connection: PGconn, *sendings: Callable[[], None], told: Callable[[PGresult], None] | None = None
) -> Task[list[PGresult]]:
    """Send statements at once, and return the result of each.

    They are one transaction, but for what commits at once, in which each sees what was committed before it began where
    the session's isolation is read committed. Raises ``psycopg.Error`` for the first that is an error, once all are
    answered; what comes after it in its transaction is not run. ``told`` is called first, with what the statement
    found that was sent with ``send_ahead``; None where none was.
    """
    if not told:
        connection.enter_pipeline_mode()
    for send in sendings:
        send()
    connection.pipeline_sync()
    while connection.flush():
        yield Until(at=time.monotonic() + POLL_S)
    before = (yield from _transaction(connection)) if told else []
    if told and before[0].status == ExecStatus.TUPLES_OK:
        told(before[0])
    found = yield from _transaction(connection)
    connection.exit_pipeline_mode()
    return _succeeded([*before, *found])[len(before) :]


def _transaction(connection: PGconn) -> Task[list[PGresult]]:
    """Return the results of the next transaction in a pipeline."""
    found = []
    while (result := (yield from _next_result(connection))).status != ExecStatus.PIPELINE_SYNC:
        found.append(result)
    return found


def _succeeded(found: list[PGresult]) -> list[PGresult]:
    for result in found:
        if result.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
            raise psycopg.errors.error_from_result(result)
    return found


def _next_result(connection: PGconn) -> Task[PGresult]:
    """Return the next result of a pipeline, over the gaps between statements."""
    while True:
        if connection.is_busy():
            yield from _arrived(connection)
        if result := connection.get_result():
            return result
        if connection.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the connection is lost")


def begun(task: Task[T]) -> Task[T]:
    """Begin a task now, that is: send its first statement; return what is left of it.

    What it waits for is not told to anybody: it looks itself when it goes on, and waits again if that was too early.
    """
    try:
        next(task)
    except StopIteration as done:
        return _ended(done.value)
    return task


def _ended(value: T) -> Task[T]:
    yield from ()
    return value


class Prepared:
    """A statement that the server plans once; below psycopg's cursors, because it runs after each test.

    It returns one value, JSON. Raises ``psycopg.Error``.
    """

    def __init__(self, connection: psycopg.Connection, name: str, statement: str) -> None:
        self.connection = connection.pgconn
        self._name = name.encode()
        self._latest: tuple[bytes, Any] = (b"null", None)
        result = self.connection.prepare(self._name, statement.encode())
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)

    def __call__(self, *parameters: int | str) -> Task[Any]:
        """Return what it finds; the one parameter that most have is the transaction to count from."""
        self.send(*parameters)
        return self.value(*(yield from answers(self.connection)))

    def send(self, *parameters: int | str) -> None:
        """Send it, for ``together``."""
        self.connection.send_query_prepared(self._name, [str(parameter).encode() for parameter in parameters])

    def value(self, result: PGresult) -> Any:
        """Return what it found; often that is what it found the last time. Not to be changed."""
        text = result.get_value(0, 0) or b""
        if text != self._latest[0]:
            self._latest = (text, json.loads(text.decode()))
        return self._latest[1]


@dataclass(slots=True)
class _Running:
    task: Task[Any]
    until: Until
    finished: Callable[[Any, BaseException | None], None]


class Tasks:
    """The tasks that are under way. Not for two threads at a time."""

    def __init__(self) -> None:
        self._running: list[_Running] = []

    def start(self, task: Task[T], finished: Callable[[T | None, BaseException | None], None]) -> None:
        """Begin a task; ``finished`` is called with what it returns or raises."""
        one = _Running(task, Until(), finished)
        self._running.append(one)
        self._go_on(one)

    def go_on(self, *, wait: bool = False) -> None:
        """Let those go on that can; with ``wait``, first wait until one can."""
        poller, now = select.poll(), time.monotonic()
        for one in self._running:
            if one.until.socket is not None:
                poller.register(one.until.socket, select.POLLIN)
        due = [one.until.at for one in self._running if one.until.at is not None]
        timeout_s = max(0.0, min([LONGEST_S, *(at - now for at in due)])) if wait else 0.0
        readable = {socket for socket, _ in _polled(poller, timeout_s)}
        now = time.monotonic()
        for one in list(self._running):
            if one.until.socket in readable or (one.until.at is not None and one.until.at <= now):
                self._go_on(one)

    def finish(self) -> None:
        """Wait for all of them."""
        self.go_on_until(lambda: False)

    def go_on_until(self, condition: Callable[[], bool]) -> None:
        """Let them go on until something is so, or all have ended."""
        while self._running and not condition():
            self.go_on(wait=True)

    def run(self, task: Task[T]) -> T:
        """Wait for one, and return what it returns."""
        ended: list[tuple[T | None, BaseException | None]] = []
        self.start(task, lambda *outcome: ended.append(outcome))
        while not ended:
            self.go_on(wait=True)
        result, error = ended[0]
        if error:
            raise error
        return result  # type: ignore[return-value]  # None only where that is what a task returns

    def _go_on(self, one: _Running) -> None:
        try:
            one.until = next(one.task)
        except StopIteration as done:
            self._running.remove(one)
            one.finished(done.value, None)
        except Exception as error:  # noqa: BLE001  whoever started it hears of it
            self._running.remove(one)
            one.finished(None, error)
        except BaseException:  # Ctrl-C, or a time limit, which are for whoever waits just now
            self._running.remove(one)
            one.finished(None, None)
            raise


def _polled(poller: select.poll, timeout_s: float) -> list[tuple[int, int]]:
    """Return what can be read by then; most of it comes so soon that the processor had better not sleep."""
    found, until = poller.poll(0), time.monotonic() + min(timeout_s, SPIN_S)
    while not found and time.monotonic() < until:
        YIELD()
        found = poller.poll(0)
    return found if found or timeout_s <= SPIN_S else poller.poll((timeout_s - SPIN_S) * 1000)


class Line:
    """A connection that tasks use one after the other."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._busy = False

    def run(self, text: str) -> Task[list[PGresult]]:
        """Run one statement, once those before it are done."""
        while self._busy:
            yield Until(at=time.monotonic() + POLL_S)
        self._busy = True
        try:
            return (yield from statement(self._connection.pgconn, text))
        finally:
            self._busy = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
