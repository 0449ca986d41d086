"""Performs a rehearsal: a throwaway database with rows in the schema of before, two services, clients, the rollout."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from session_fix import schema
from session_fix.database import Database
from session_fix.errors import SessionFixError
from session_fix.events import Recorder
from session_fix.progress import Progress
from session_fix.rollout import apply, measure, planning
from session_fix.rollout.apply import REPAIRS
from session_fix.rollout.plan import Plan
from session_fix.rollout.rehearsal import filling, traffic, watching
from session_fix.rollout.rehearsal.record import Rehearsal
from session_fix.rollout.rehearsal.traffic import Client
from session_fix.rollout.standing import Standing
from session_fix.running import running
from session_fix.settings import Settings
from session_fix.stack import Stack
from session_fix.subjects import Subject

PRODUCTION = "0002_api_grants"  # what a database is like whose owner knows of no later revision
AFTERWARDS_S = 0.5  # the schema is the new one, and both are used for a moment longer
STORED = """
SELECT session_id::text, count(*) FROM public.ai_interactions WHERE session_id = ANY(%s::uuid[]) GROUP BY 1
"""


def rehearse(
    subjects: Sequence[Subject],
    settings: Settings,
    *,
    interactions: int,
    origin: Mapping[str, str] | None = None,
    progress: Progress,
) -> Rehearsal:
    """Bring a throwaway database to head while every service is used by a client, and return what came of it.

    It has the schema of the database at ``origin``, by default that of the second revision, and ``interactions`` rows.
    Raises what starting the stack or a service raises, and what making a plan does.
    """
    standing = planning.look(origin) if origin else None  # before anything is started
    with (
        running(subjects, settings, layers=("api",), progress=progress) as found,
        _database(found.stack, origin, standing, progress) as database,
    ):
        with progress.step(f"Filling it with {interactions:,} interactions"):
            with database.connect() as connection:
                filling.fill(connection, interactions)
            database.rows("ANALYZE")
        endpoint = found.stack.endpoint(database)
        clients = []
        for subject, started in zip(subjects, found.started, strict=True):
            service, tap = started.result()
            tap.point_at(endpoint, Recorder())
            clients.append(Client(subject.name, str(service.url)))
        made = planning.made(database.params, server=found.stack.databases.server, progress=progress)
        return _performed(clients, database, made.plan, interactions, progress)


@contextmanager
def _database(
    stack: Stack, origin: Mapping[str, str] | None, standing: Standing | None, progress: Progress
) -> Iterator[Database]:
    stack.databases.ensure_api_roles()
    if origin and standing:
        with measure.copied(origin, standing, server=stack.databases.server, progress=progress) as copy:
            yield Database(copy.params["dbname"], dict(copy.params))
        return
    database = stack.databases.empty()
    try:
        schema.migrate(database.params, to=PRODUCTION)
        yield database
    finally:
        stack.databases.drop(database)


def _performed(
    clients: list[Client], database: Database, plan: Plan, interactions: int, progress: Progress
) -> Rehearsal:
    problem = ""
    with watching.watched(database.params) as waits, traffic.going_on(clients):
        began = time.monotonic()
        with progress.step("Rolling out, while both are used"):
            try:
                apply.apply(plan, database.params, allowed=plan.hazards, repairs=REPAIRS, ignore_replicas=True)
            except SessionFixError as error:
                problem = str(error)
        took_s = time.monotonic() - began
        time.sleep(AFTERWARDS_S)
    return Rehearsal(
        services=tuple(client.used(began) for client in clients),
        waits=tuple(waits),
        steps=len(plan.steps),
        took_s=took_s,
        interactions=interactions,
        lost=_lost(clients, database),
        problem=problem,
    )


def _lost(clients: list[Client], database: Database) -> int:
    """Return how many interactions were answered with 200 and are not there."""
    answered = Counter(session for client in clients for session in client.answered)
    stored = dict(database.rows(STORED, list(answered)))
    return sum(max(0, number - stored.get(session, 0)) for session, number in answered.items())
