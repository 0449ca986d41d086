"""Milliseconds of the service's own calls through tap and data API, by one client; ``pgbench`` is the limit.

"interaction" logs one in a session that is not there yet, so it comes to the two inserts that ``pgbench`` sends to the
same database. "calls" are those to the data API.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.figures import Row, percentile
from benchmarks.runs import POSTGRES, FailedError, Key, Sizes, interleave, rows
from session_fix import host, stack
from session_fix.databases import Database
from session_fix.events import Recorder
from session_fix.host.service import Outcome, Service, environment
from session_fix.progress import SILENT
from session_fix.rest import Endpoint
from session_fix.servers import embedded
from session_fix.settings import Settings
from session_fix.subjects import variant
from session_fix.tap import Tap

NAME = "service"
LIMIT = "pgbench, the same two inserts"
OPERATIONS: dict[str, Callable[[Service, str], Outcome]] = {
    "create_session": lambda service, session: service.call("database", "create_session", session_id=session),
    "interaction": lambda service, session: service.call(
        "logger", "log_interaction", prompt="a prompt", response="a response", session_id=session
    ),
}
SCRIPT = r"""
\set id random(1, 9000000000000000000)
INSERT INTO ai_sessions (id, user_id, created_at, updated_at)
    VALUES (lpad(to_hex(:id::bigint), 32, '0')::uuid, NULL, now(), now());
INSERT INTO ai_interactions (id, session_id, prompt, response, model_used, tokens_used, created_at)
    VALUES (gen_random_uuid(), lpad(to_hex(:id::bigint), 32, '0')::uuid, 'a prompt', 'a response', 'model', 1, now());
"""
Measured = tuple[list[float], int]  # milliseconds of each operation, and calls to the data API in all


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each variant and operation, and one for ``pgbench``."""
    settings = Settings()
    with ExitStack() as running:
        keys = stack.new_keys(settings)
        base = running.enter_context(stack.start(settings, keys, progress=SILENT))
        database = running.enter_context(base.database())
        measures: dict[Key, Callable[[], Measured]] = {}
        for name in ("documented", "fixed"):
            tap = running.enter_context(Tap())
            directory = variant(name).directory
            service = running.enter_context(host.start(directory, environment(tap.url, keys)))
            for operation, call in OPERATIONS.items():
                performed = partial(_performed, service, call, tap, base.endpoint(database))
                performed(1)  # connects
                measures[f"{name}: {operation}", ""] = partial(performed, sizes.calls)
        measures[LIMIT, ""] = partial(_pgbench, database, sizes.pgbench_s)
        found = interleave(measures, sizes.rounds)
    return rows(NAME, found, _took_ms, _more)


def _performed(
    service: Service, call: Callable[[Service, str], Outcome], tap: Tap, endpoint: Endpoint, times: int
) -> Measured:
    recorder, took_ms = Recorder(), []
    tap.point_at(endpoint, recorder)
    for _ in range(times):
        session = str(uuid.uuid4())
        began = time.perf_counter()
        outcome = call(service, session)
        took_ms.append((time.perf_counter() - began) * 1000)
        if outcome.error_type:
            raise FailedError(f"{outcome.error_type}: {outcome.message}")
    return took_ms, sum(event.kind == "call" for event in recorder.events())


def _pgbench(database: Database, seconds: int) -> Measured:
    program = embedded.binaries(POSTGRES) / "pgbench"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.sql"
        script.write_text(SCRIPT)
        arguments = ["-n", "-M", "prepared", "-T", str(seconds), "-l", "--log-prefix", f"{folder}/log", "-f", script]
        command = [program, *arguments, "-d", database.dsn]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ)
        logs = [line.split() for log in Path(folder).glob("log.*") for line in log.read_text().splitlines()]
    if done.returncode != 0 or not logs:
        raise FailedError(f"pgbench ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return [
        int(fields[2]) / 1000 for fields in logs
    ], 0  # Source: PostgreSQL manual, pgbench, "Per-Transaction Logging"


def _took_ms(results: list[Measured]) -> list[float]:
    return [one for values, _ in results for one in values]


def _more(results: list[Measured]) -> dict[str, float]:
    took_ms = _took_ms(results)
    calls = sum(calls for _, calls in results) / len(took_ms)
    return {"p99": percentile(took_ms, 0.99), "per second": 1000 * len(took_ms) / sum(took_ms), "calls": calls}
