"""Milliseconds that others wait while a production schema is brought to head, and milliseconds until it is there.

Two million interactions of 200 thousand sessions, without a foreign key. A writer and a reader in a process of their
own do something every 5 ms; "worst stall" is the longest that one of their statements took from the beginning of the
rollout to its end, over all rounds the median of these. "naive" sends the same changes as one would write them down:
the foreign key, the indexes and the checks at once, and the types in the TimeZone of the office. Behind a transaction:
somebody else has one open that wrote into both tables, for 5 seconds from the beginning.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import Row
from benchmarks.runs import CONTENDERS, FailedError, Sizes, interleave, rows
from session_fix import schema
from session_fix.database import Database
from session_fix.databases import Databases
from session_fix.progress import SILENT
from session_fix.rollout import apply, planning
from session_fix.rollout.rehearsal import filling
from session_fix.servers import embedded

NAME = "rollout"
OURS, NAIVE = "session-fix, migrate apply", "naive"
QUIET, BEHIND = "nobody holds anything", "behind a transaction"
STALL, IN_ALL = "worst stall", "in all"
EVERY_S = 0.005
PRODUCTION = "0002_api_grants"
SESSION = "5e551077-0000-4000-8000-000000000001"
DROP_KEY = "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey"
NAIVELY = (
    "SET TimeZone = 'Europe/Berlin'",
    "ALTER TABLE ai_sessions ALTER created_at TYPE timestamptz USING created_at AT TIME ZONE 'UTC'",
    "ALTER TABLE ai_sessions ALTER updated_at TYPE timestamptz USING updated_at AT TIME ZONE 'UTC'",
    "ALTER TABLE ai_interactions ALTER created_at TYPE timestamptz USING created_at AT TIME ZONE 'UTC'",
    "ALTER TABLE ai_sessions ALTER id SET DEFAULT gen_random_uuid()",
    "ALTER TABLE ai_sessions ALTER created_at SET DEFAULT now(), ALTER updated_at SET DEFAULT now()",
    "ALTER TABLE ai_interactions ALTER id SET DEFAULT gen_random_uuid(), ALTER created_at SET DEFAULT now()",
    "ALTER TABLE ai_interactions ADD FOREIGN KEY (session_id) REFERENCES ai_sessions (id)",
    "CREATE INDEX ON ai_interactions (session_id, created_at)",
    "CREATE INDEX ON ai_sessions (updated_at)",
    "ALTER TABLE ai_sessions ADD CHECK (isfinite(created_at) AND isfinite(updated_at))",
    "ALTER TABLE ai_interactions ADD CHECK (isfinite(created_at)), ADD CHECK (tokens_used >= 0)",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := now(); RETURN NEW; END'",
    "CREATE TRIGGER touch BEFORE UPDATE ON ai_sessions FOR EACH ROW EXECUTE FUNCTION touch()",
    "ALTER TABLE ai_sessions ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE ai_interactions ENABLE ROW LEVEL SECURITY",
)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a rollout took in all, and each statement of writer and reader meanwhile: seconds since, milliseconds."""

    in_all_ms: float
    writer: list[tuple[float, float]]
    reader: list[tuple[float, float]]

    @property
    def worst_ms(self) -> float:
        """The longest that anybody waited."""
        return max(took_ms for _, took_ms in (*self.writer, *self.reader))


def measure(sizes: Sizes) -> list[Row]:
    """Return two rows for each way and situation: the worst stall, and the time in all."""
    with ExitStack() as running:
        server, _ = running.enter_context(embedded.start())
        databases = running.enter_context(Databases(server, run="be5c0117", migrate=_to_production))
        _fill(databases, sizes)
        measures = {
            (name, setting): partial(_rolled_out, databases, way, held_s=sizes.held_s if setting == BEHIND else 0)
            for setting in (QUIET, BEHIND)
            for name, way in ((NAIVE, _naively), (OURS, _ours))
        }
        found = interleave(measures, sizes.rounds)
    stalls = {(name, f"{STALL}, {setting}"): results for (name, setting), results in found.items()}
    in_all = {(name, f"{IN_ALL}, {setting}"): results for (name, setting), results in found.items()}
    drawn = [
        replace(row, series=_peaks(results[-1])) if isinstance(results, list) else row
        for row, results in zip(rows(NAME, stalls, _worst), stalls.values(), strict=True)
    ]
    return [*drawn, *rows(NAME, in_all, lambda results: [one.in_all_ms for one in results])]


def _worst(results: list[Rollout]) -> list[float]:
    return [one.worst_ms for one in results]


def _peaks(one: Rollout) -> tuple[tuple[float, float], ...]:
    """Return the writer's longest wait in each twentieth of a second, for a plot."""
    found: dict[float, float] = {}
    for at_s, took_ms in one.writer:
        place = int(at_s * 20) / 20
        found[place] = max(found.get(place, 0.0), took_ms)
    return tuple(found.items())


def _to_production(params: dict[str, str]) -> str:
    return schema.migrate(params, to=PRODUCTION)


def _fill(databases: Databases, sizes: Sizes) -> None:
    """Give the template what a production database holds; every measurement has a copy of it."""
    template = databases.template()
    databases.execute(f"ALTER DATABASE {template} ALLOW_CONNECTIONS true")
    with Database(template, databases.params(template)).connect(autocommit=True) as connection:
        connection.execute(DROP_KEY)
        filling.fill(connection, sizes.sessions * filling.INTERACTIONS_EACH)
        connection.execute("VACUUM (FREEZE, ANALYZE)")
        connection.execute("CHECKPOINT")


def _naively(database: Database) -> Callable[[], None]:
    def perform() -> None:
        with database.connect(autocommit=True) as connection:
            for statement in NAIVELY:
                connection.execute(statement)

    return perform


def _ours(database: Database) -> Callable[[], None]:
    plan = planning.plan(database.params, progress=SILENT)  # it is made the day before
    return lambda: apply.apply(plan, database.params, allowed=plan.hazards)


def _rolled_out(databases: Databases, way: Callable[[Database], Callable[[], None]], *, held_s: float) -> Rollout:
    database = databases.clone()
    try:
        perform = way(database)
        with _traffic(database) as found, _held(database, held_s):
            began = time.monotonic()
            perform()
            ended = time.monotonic()
        if failed := [*found["writer"]["failed"], *found["reader"]["failed"]]:
            raise FailedError(f"{len(failed)} statements of others failed: {failed[0]}")
    finally:
        databases.drop(database)
    during = {name: _during(found[name]["took"], began, ended) for name in ("writer", "reader")}
    return Rollout((ended - began) * 1000, **during)


def _during(took: list[tuple[float, float]], began: float, ended: float) -> list[tuple[float, float]]:
    return [(at - began, ms) for at, ms in took if at + ms / 1000 >= began and at <= ended]


@contextmanager
def _traffic(database: Database) -> Iterator[dict[str, Any]]:
    """Keep writer and reader going for the block; what is yielded holds their waits afterwards."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        asked = {"dsn": database.dsn, "session_id": SESSION, "every_s": EVERY_S, "result": str(result)}
        process = subprocess.Popen(
            [sys.executable, CONTENDERS / "traffic.py"],
            env=os.environ | {"BENCHMARK": json.dumps(asked)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            if not process.stdout or process.stdout.readline() != b"ready\n":
                raise FailedError("writer and reader did not start")
            yield found
        finally:
            process.communicate(timeout=60)
        found |= json.loads(result.read_text())


@contextmanager
def _held(database: Database, seconds: float) -> Iterator[None]:
    """Have somebody else keep a transaction open that wrote into both tables."""
    if not seconds:
        yield
        return
    with database.connect() as connection:
        connection.execute("UPDATE ai_sessions SET user_id = user_id WHERE id = %s", [SESSION])
        connection.execute("UPDATE ai_interactions SET tokens_used = 1 WHERE false")
        timer = threading.Timer(seconds, connection.rollback)
        timer.start()
        try:
            yield
        finally:
            timer.join()
