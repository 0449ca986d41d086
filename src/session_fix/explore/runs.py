"""One run: the clients go on one at a time, in the order a search chooses, and everything is recorded.

A client is let through and then waited for, until its next call is at the gate or it has finished. So which client a
call belongs to is never a guess, and nothing is ordered by waiting for a while.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, MutableSequence
from dataclasses import dataclass, field, replace
from typing import Self

import psycopg

from session_fix.databases import Database
from session_fix.events import Event, Recorder
from session_fix.explore import migration, schema
from session_fix.explore.accesses import access_of
from session_fix.explore.clients import Client, Texts, Told
from session_fix.explore.schedules import DROPPED, InfeasibleError, Point, Search, UnstableError, Waiting, named
from session_fix.explore.workloads import QUERY, Workload
from session_fix.host.service import Service
from session_fix.rest import Endpoint, Keys
from session_fix.tap import Tap
from session_fix.tap.calls import request_fields
from session_fix.tap.gate import Gate, Held
from session_fix.tap.messages import Request

STEP_S = 5.0
ENDING_S = 10.0
LONG_AGO = "2001-01-01"
NOT_IN_OUR_HANDS = (
    "The service makes several calls at once, or goes on calling after it has answered: the order is not in our hands."
)
EMPTY = "DELETE FROM ai_interactions; DELETE FROM ai_sessions"
CONTENTS = """
SELECT (SELECT coalesce(json_agg(json_build_array(id, user_id) ORDER BY id), '[]') FROM ai_sessions),
    (SELECT coalesce(json_agg(json_build_array(id, session_id, prompt, response) ORDER BY prompt, id), '[]')
     FROM ai_interactions)
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What the database holds: sessions as (id, user), interactions as (id, session, prompt, response)."""

    sessions: tuple[tuple[str, str | None], ...]
    interactions: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A performed order, and what came of it.

    ``told`` is what each client was told of its actions, ``healed`` of another query afterwards; ``migrated`` says
    whether a migration left nothing half done. ``problem`` says why nothing can be concluded from it, "" where
    something can; ``infeasible``: because the order cannot happen.
    """

    number: int
    session_id: str
    points: tuple[Point, ...]
    told: tuple[tuple[Told, ...], ...]
    contents: Contents
    events: tuple[Event, ...]
    healed: Told | None = None
    migrated: bool | None = None
    problem: str = ""
    infeasible: bool = False

    @property
    def forwarded(self) -> tuple[int, ...]:
        """The clients of the calls that reached the data API, in their order: one recorded call and reply for each."""
        return tuple(point.chosen for point in self.points if point.mark != DROPPED)

    @property
    def order(self) -> tuple[int, ...]:
        """The clients in the order in which they were let through."""
        return tuple(point.chosen for point in self.points)


@dataclass(frozen=True, slots=True)
class Rig:
    """What runs are performed on: processes of the service with their taps, and a database that is all theirs.

    ``start`` starts the process of a number. ``rpcs`` are functions of the data API, each with the tables it touches.
    """

    processes: MutableSequence[tuple[Service, Tap]]
    database: Database
    endpoint: Endpoint
    keys: Keys
    start: Callable[[int], tuple[Service, Tap]]
    rpcs: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def revive(self, number: int) -> None:
        """Start a process anew that was killed."""
        process = self.processes[number][0].process
        process.wait_until(process.exit_code, timeout_s=ENDING_S, doing="being killed")
        self.processes[number] = self.start(number)


class _HarnessError(Exception):
    """Whose turn it is cannot be told."""


@dataclass(frozen=True, slots=True)
class _Finished:
    client: int


def texts(client: int) -> Texts:
    """Return what a client asks and is answered."""
    return Texts(f"the prompt of {named(client)}", f"the response to {named(client)}")


def what(request: Request) -> str:
    """Return a call in words that are the same in every run."""
    fields = request_fields(request)
    return " ".join([fields["method"], fields["table"], *sorted(fields["filters"])])


class Performer:
    """Performs runs of a workload on a rig; a context manager. The ids of sessions follow from the seed."""

    def __init__(self, rig: Rig, workload: Workload, *, layer: str, seed: int) -> None:
        self._rig, self._workload, self._layer, self._seed = rig, workload, layer, seed
        self._schema = replace(schema.read(rig.database), rpcs=rig.rpcs)
        self._connection = rig.database.connect(autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for service, tap in self._rig.processes:
            service.record_to(None)
            tap.point_at(self._rig.endpoint, Recorder())
        self._connection.close()

    def perform(self, number: int, search: Search) -> Run:
        """Perform one run; ``number``, the workload and the seed decide its ids."""
        dice = random.Random(f"{self._seed}/{self._workload.name}/{number}")  # noqa: S311  to be repeated
        session_id = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        self._prepare(session_id)
        recorder = Recorder()
        turns = _Turns(self._rig, self._schema_of, self._workload)
        for service, tap in self._rig.processes:
            tap.point_at(self._rig.endpoint, recorder, turns.gate)
            service.record_to(recorder)
        clients = [
            Client(service, tap.url, self._rig.keys, recorder, self._layer, lambda: self._migrate(turns.gate, recorder))
            for service, tap in (self._rig.processes[client.process] for client in self._workload.clients)
        ]

        def acting(number: int) -> list[Told]:
            return [clients[number].act(a, session_id, texts(number)) for a in self._workload.clients[number].actions]

        problem, infeasible = "", False
        try:
            turns.take(acting, search)
        except InfeasibleError as error:
            problem, infeasible = str(error), True
        except (_HarnessError, UnstableError) as error:
            problem = str(error)
        finally:
            ended = turns.end()
        contents = self._contents()
        for process in turns.killed:
            self._rig.revive(process)
        healed = self._healed(session_id) if self._workload.heals and not (problem or ended) else None
        told = tuple(tuple(turns.told.get(number, ())) for number in range(len(clients)))
        return Run(
            *(number, session_id, tuple(turns.points), told, contents, tuple(recorder.events())),
            healed=healed,
            migrated=migration.is_done(self._connection) if self._workload.lacks_key else None,
            problem=problem or ended,
            infeasible=infeasible,
        )

    def _schema_of(self, request: Request) -> Waiting:
        return Waiting(what(request), access_of(request, self._schema))

    def _prepare(self, session_id: str) -> None:
        self._connection.execute(EMPTY)
        if self._workload.lacks_key:
            self._connection.execute(migration.BEFORE)
        if self._workload.exists:
            self._connection.execute(
                "INSERT INTO ai_sessions (id, created_at, updated_at) VALUES (%s, %s, %s)",
                [session_id, LONG_AGO, LONG_AGO],
            )

    def _migrate(self, gate: Gate, recorder: Recorder) -> None:
        """Perform the migration's steps, each when it is let through."""
        with self._rig.database.connect(autocommit=True) as connection:
            for number, step in enumerate(migration.STEPS):
                request = Request("SQL", step, (), b"")
                gate.hold(Held(request))
                recorder.record("call", "migration", call=number, **request_fields(request))
                code: str | None = None
                try:
                    migration.perform(connection, step)
                except psycopg.Error as error:
                    code = error.sqlstate
                    raise
                finally:
                    status = 500 if code else 200
                    recorder.record(
                        "reply", "migration", call=number, status=status, code=code, sqlstate=code, rows=None
                    )

    def _contents(self) -> Contents:
        ((sessions, interactions),) = self._connection.execute(CONTENTS).fetchall()
        return Contents(tuple(map(tuple, sessions)), tuple(map(tuple, interactions)))

    def _healed(self, session_id: str) -> Told:
        """Ask in the session once more, with nobody else there; whether the answer is true is looked up as well."""
        service, tap = self._rig.processes[0]
        recorder, number = Recorder(), len(self._workload.clients)
        tap.point_at(self._rig.endpoint, recorder)
        service.record_to(None)
        told = Client(service, tap.url, self._rig.keys, recorder, self._layer).act(QUERY, session_id, texts(number))
        prompt = texts(number).prompt
        stored = any(row[1:3] == (session_id, prompt) for row in self._contents().interactions)
        return Told(told.action, told.done and stored, told.value, told.error or ("" if stored else "not stored"))


class _Turns:
    """Whose turn it is in one run."""

    def __init__(self, rig: Rig, waiting: Callable[[Request], Waiting], workload: Workload) -> None:
        self._rig, self._waiting, self._workload = rig, waiting, workload
        self.killed: set[int] = set()  # numbers of processes
        self._news: queue.SimpleQueue[Held | _Finished] = queue.SimpleQueue()
        self.gate = Gate(self._news.put)
        self.points: list[Point] = []
        self.told: dict[int, list[Told]] = {}
        self._pending: dict[int, Held] = {}
        self._enabled: dict[int, Waiting] = {}  # what of the pending ones, each taken apart once
        self._threads: list[threading.Thread] = []
        self._failed: list[str] = []

    def take(self, acting: Callable[[int], list[Told]], search: Search) -> None:
        """Let the clients begin one after the other, then go on as the search chooses, until all have finished."""

        def act(client: int) -> None:
            try:
                self.told[client] = acting(client)
            except Exception as error:  # noqa: BLE001  whatever it is, nothing can be concluded from this run
                self._failed.append(f"{named(client)} failed with {type(error).__name__}: {error}")
            self._news.put(_Finished(client))

        for client in range(len(self._workload.clients)):
            thread = threading.Thread(target=act, args=(client,), name=f"session-fix client {client}", daemon=True)
            self._threads.append(thread)
            thread.start()
            self._wait_for(client)
        while self._pending:
            enabled = dict(self._enabled)
            chosen = search.choose(enabled)
            self.points.append(Point(chosen, enabled, search.mark))
            held = self._pending.pop(chosen)
            del self._enabled[chosen]
            if search.mark:
                self._kill(chosen)
            if search.mark == DROPPED:
                held.drop()
            held.release()
            self._wait_for(chosen)
            if search.mark and not held.has_ended(timeout_s=STEP_S):  # nobody is left who waits for its answer
                raise _HarnessError(f"{named(chosen)}'s last call has not ended after {STEP_S:g} s.")
        search.check_ended()

    def _kill(self, client: int) -> None:
        number = self._workload.clients[client].process
        service, _ = self._rig.processes[number]
        os.kill(service.process.pid, signal.SIGKILL)
        self.killed.add(number)

    def _wait_for(self, client: int) -> None:
        try:
            news = self._news.get(timeout=STEP_S)
        except queue.Empty:
            raise _HarnessError(self._stuck(client)) from None
        if isinstance(news, Held):
            self._pending[client], self._enabled[client] = news, self._waiting(news.request)
        elif news.client != client:
            raise _HarnessError(f"{named(news.client)} finished in {named(client)}'s turn. {NOT_IN_OUR_HANDS}")
        if not self._news.empty():
            raise _HarnessError(f"More than one call came in {named(client)}'s turn. {NOT_IN_OUR_HANDS}")

    def _stuck(self, client: int) -> str:
        waiting = ", ".join(f"{named(other)} with {one.what}" for other, one in self._enabled.items())
        stacks = "\n".join(service.stacks() for service, _ in self._rig.processes)
        return (
            f"{named(client)} has neither finished nor made its next call after {STEP_S:g} s. "
            f"At the gate: {waiting or 'nobody'}.\n{stacks}"
        )

    def end(self) -> str:
        """Let go of everything; return what is wrong when not all ends."""
        self.gate.open()
        deadline = time.monotonic() + ENDING_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = [named(number) for number, thread in enumerate(self._threads) if thread.is_alive()]
        if late:
            self._failed.append(f"{' and '.join(late)} did not finish, with nothing held any more.")
        return "\n".join(self._failed)
