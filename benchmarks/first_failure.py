"""Milliseconds until it shows what becomes of two clients of one session, and runs until then.

``documented`` fails in most orders of two clients that create the session, with 23505; and in few when one asks in a
session that a cleanup finds old and empty, with 23503. What is measured ends there. ``fixed`` never fails, and what is
measured is the time until that is concluded; threads that are released together never can. A run is one execution of
both clients. "without a failure" are those that ended without one, "inconclusive" those that say neither.

"threads, released together" are the explorer's clients of the same process, without a gate, up to 300 times.
``frontrun`` gets the same ``database_service``, imported into its own process, before the same tap and data API. It
interleaves threads between bytecodes, and takes each two exchanges with one address for dependent; its bounds are those
it comes with, two preemptions among them. It can be applied to Python that runs in its own process: not to the service
behind its HTTP API, nor to several processes, which it orders by SQL and Redis commands alone. Everybody is connected
and has had a run before. Not counted are its replays of what it found, and our look for an order with fewer switches.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.exploring import rigs
from benchmarks.figures import Row, percentile
from benchmarks.runs import CONTENDERS, FailedError, Key, Sizes, interleave, missing, performed, reason, rows
from session_fix.events import Recorder
from session_fix.explore import explorer, workloads
from session_fix.explore.clients import Client, Told
from session_fix.explore.explorer import Budget, Exploration
from session_fix.explore.runs import EMPTY, LONG_AGO, Rig, texts
from session_fix.explore.workloads import Workload
from session_fix.host.service import environment
from session_fix.subjects import variant

NAME = "first_failure"
OURS, STRESS = "session-fix, explore", "threads, released together"
PEERS = {"frontrun, DPOR": "dpor", "frontrun, at random": "random"}
LAYER = "database"
OLD_SESSION = "INSERT INTO ai_sessions (id, created_at, updated_at) VALUES (%s, %s, %s)"
MOST_RUNS = 300


@dataclass(frozen=True, slots=True)
class Hunt:
    """A search for a failure: how long it took, in how many runs, and whether there is one, None: it cannot say."""

    took_ms: float
    runs: int
    failed: bool | None


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each way to look for a failure, and for each that can conclude that there is none."""
    with rigs() as start:
        measures: dict[Key, Callable[[], list[Hunt]]] = {}
        documented, fixed = (start(variant(name).directory) for name in ("documented", "fixed"))
        for rig, name, times in (
            (documented, "create-create", sizes.explorations),
            (documented, "query-cleanup", sizes.hunts),
            (fixed, "create-create", sizes.hunts),
        ):
            setting, workload = f"{name}: {_service(rig)}", workloads.named(name)
            measures[OURS, setting] = partial(_explored, rig, workload, times)
            if rig is documented:
                measures[STRESS, setting] = partial(_stressed, rig, workload, times)
            for peer, strategy in PEERS.items():
                if rig is documented or strategy == "dpor":
                    measures[peer, setting] = partial(_by_frontrun, rig, name, strategy, times)
        found = interleave(measures, sizes.rounds)
    return rows(NAME, found, lambda results: [hunt.took_ms for hunts in results for hunt in hunts], _more)


def _service(rig: Rig) -> str:
    return rig.processes[0][0].directory.name


def _explored(rig: Rig, workload: Workload, times: int) -> list[Hunt]:
    _explore(rig, workload, times, Budget(runs=1))
    return [_explore(rig, workload, seed) for seed in range(times)]


def _explore(rig: Rig, workload: Workload, seed: int, budget: Budget | None = None) -> Hunt:
    ended: list[float] = []

    def note(found: Exploration) -> None:
        if found.counterexample and not ended:
            ended.append(time.perf_counter())

    began = time.perf_counter()
    found = explorer.explore(rig, workload, service=_service(rig), layer=LAYER, seed=seed, budget=budget, note=note)
    took_ms = ((ended or [time.perf_counter()])[0] - began) * 1000
    failed = {"fail": True, "pass": False}.get(found.verdict)
    return Hunt(took_ms, found.found_after or found.runs, failed)


def _stressed(rig: Rig, workload: Workload, times: int) -> list[Hunt]:
    ((service, tap),) = rig.processes
    tap.point_at(rig.endpoint, Recorder())
    client = Client(service, tap.url, rig.keys, Recorder(), LAYER)
    with rig.database.connect(autocommit=True) as connection, ThreadPoolExecutor(len(workload.clients)) as pool:

        def run() -> bool:
            session_id, together = str(uuid.uuid4()), threading.Barrier(len(workload.clients))
            connection.execute(EMPTY)
            if workload.exists:
                connection.execute(OLD_SESSION, [session_id, LONG_AGO, LONG_AGO])

            def act(number: int) -> list[Told]:
                together.wait()
                return [client.act(one, session_id, texts(number)) for one in workload.clients[number].actions]

            return any(told.error for one in pool.map(act, range(len(workload.clients))) for told in one)

        run()
        return [_stress(run) for _ in range(times)]


def _stress(run: Callable[[], bool]) -> Hunt:
    began = time.perf_counter()
    number = next((number for number in range(1, MOST_RUNS + 1) if run()), None)
    return Hunt((time.perf_counter() - began) * 1000, number or MOST_RUNS, failed=number is not None)


def _by_frontrun(rig: Rig, workload: str, strategy: str, times: int) -> list[Hunt]:
    """Let the peer explore in a process of its own, below its command, without which it refuses to."""
    if why := missing("frontrun"):
        raise FailedError(why)
    ((service, tap),) = rig.processes
    tap.point_at(rig.endpoint, Recorder())
    with tempfile.TemporaryDirectory(prefix="session-fix-bench-") as scratch:
        result, output = Path(scratch) / "result.json", Path(scratch) / "output"
        asked = {"workload": workload, "strategy": strategy, "times": times, "result": str(result)}
        script = str(CONTENDERS / "with_frontrun.py")
        command = [sys.executable, "-m", "frontrun.cli", sys.executable, script]
        env = environment(tap.url, rig.keys) | {"BENCHMARK": json.dumps(asked)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(service.directory), env.get("PYTHONPATH")]))
        code = performed(command, output, env=env, cwd=scratch)
        if code != 0 or not result.is_file():
            raise FailedError(f"frontrun ended with {code}: {reason(output.read_text(errors='replace'))}")
        return [Hunt(**hunt) for hunt in json.loads(result.read_text())]


def _more(results: list[list[Hunt]]) -> dict[str, float]:
    hunts = [hunt for hunts in results for hunt in hunts]
    runs = [hunt.runs for hunt in hunts]
    return {
        "runs": percentile(runs, 0.5),
        "runs, p90": percentile(runs, 0.9),
        "without a failure": sum(hunt.failed is False for hunt in hunts),
        "inconclusive": sum(hunt.failed is None for hunt in hunts),
    }
