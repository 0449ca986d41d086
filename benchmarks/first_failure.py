"""Milliseconds until it shows what becomes of two clients that create one session, and runs until then.

The code of ``documented`` fails in most orders, with 23505; what is measured ends there. ``fixed`` fails in none, and
what is measured is the time until that is concluded; threads that are released together never can. A run is one
execution of both clients. "without a failure" are those that ended without one, "inconclusive" those that say neither.

"threads, released together" calls two clients at the same moment, up to 500 times, in the process that the explorer
uses, too. ``frontrun`` gets the same ``database_service``, imported into its own process, before the same tap and data
API. It interleaves threads between bytecodes, and takes each two exchanges with one address for dependent; its bounds
are those it comes with, two preemptions among them. It can be applied to Python that runs in its own process: not to
the service behind its HTTP API, nor to several processes, which it orders by SQL and Redis commands alone. Everybody is
connected and has had a run before. Not counted are its replays of what it found, and our look for an order with fewer
switches.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.exploring import rigs
from benchmarks.figures import Row, percentile
from benchmarks.runs import CONTENDERS, FailedError, Key, Sizes, interleave, missing, performed, reason, rows
from session_fix.events import Recorder
from session_fix.explore import explorer, workloads
from session_fix.explore.explorer import Budget, Exploration
from session_fix.explore.runs import Rig
from session_fix.host import Call
from session_fix.host.service import environment
from session_fix.subjects import variant

NAME = "first_failure"
OURS, STRESS = "session-fix, explore", "threads, released together"
PEERS = {"frontrun, DPOR": "dpor", "frontrun, at random": "random"}
WORKLOAD = workloads.named("create-create")
KEY_TAKEN = "23505"  # Source: PostgreSQL manual, appendix "Error Codes"
MOST_RUNS = 500


@dataclass(frozen=True, slots=True)
class Hunt:
    """A search for a failure: how long it took, in how many runs, and whether there is one, None: it cannot say."""

    took_ms: float
    runs: int
    failed: bool | None


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each way to look for the failure, and for each that can conclude that there is none."""
    with rigs() as start:
        measures: dict[Key, Callable[[], list[Hunt]]] = {}
        for name, times in (("documented", sizes.explorations), ("fixed", sizes.conclusions)):
            rig = start(variant(name).directory)
            measures[OURS, name] = partial(_explored, rig, name, times)
            if name == "documented":
                measures[STRESS, name] = partial(_stressed, rig, times)
            for peer, strategy in PEERS.items():
                if name == "documented" or strategy == "dpor":
                    measures[peer, name] = partial(_by_frontrun, rig, name, strategy, times)
        found = interleave(measures, sizes.rounds)
    return rows(NAME, found, lambda results: [hunt.took_ms for hunts in results for hunt in hunts], _more)


def _explored(rig: Rig, name: str, times: int) -> list[Hunt]:
    _explore(rig, name, times, Budget(runs=1))
    return [_explore(rig, name, seed) for seed in range(times)]


def _explore(rig: Rig, name: str, seed: int, budget: Budget | None = None) -> Hunt:
    ended: list[float] = []

    def note(found: Exploration) -> None:
        if found.counterexample and not ended:
            ended.append(time.perf_counter())

    began = time.perf_counter()
    found = explorer.explore(rig, WORKLOAD, service=name, layer="database", seed=seed, budget=budget, note=note)
    took_ms = ((ended or [time.perf_counter()])[0] - began) * 1000
    failed = {"fail": True, "pass": False}.get(found.verdict)
    return Hunt(took_ms, found.found_after or found.runs, failed)


def _stressed(rig: Rig, times: int) -> list[Hunt]:
    _stress(rig, 1)
    return [_stress(rig) for _ in range(times)]


def _stress(rig: Rig, most_runs: int = MOST_RUNS) -> Hunt:
    ((service, tap),) = rig.processes
    tap.point_at(rig.endpoint, Recorder())
    began = time.perf_counter()
    for run in range(1, most_runs + 1):
        calls = [Call("database", "create_session", (str(uuid.uuid4()),))] * len(WORKLOAD.clients)
        codes = {outcome.code or outcome.error_type for outcome in service.call_together(calls)} - {None}
        if codes - {KEY_TAKEN}:
            raise FailedError(f"a client was told {', '.join(map(str, codes))}")
        if codes:
            return Hunt((time.perf_counter() - began) * 1000, run, failed=True)
    return Hunt((time.perf_counter() - began) * 1000, most_runs, failed=False)


def _by_frontrun(rig: Rig, name: str, strategy: str, times: int) -> list[Hunt]:
    """Let the peer explore in a process of its own, below its command, without which it refuses to."""
    if why := missing("frontrun"):
        raise FailedError(why)
    ((_, tap),) = rig.processes
    tap.point_at(rig.endpoint, Recorder())
    with tempfile.TemporaryDirectory(prefix="session-fix-bench-") as scratch:
        result, output = Path(scratch) / "result.json", Path(scratch) / "output"
        asked = {"strategy": strategy, "times": times, "result": str(result)}
        script = str(CONTENDERS / "with_frontrun.py")
        command = [sys.executable, "-m", "frontrun.cli", sys.executable, script]
        env = environment(tap.url, rig.keys) | {"BENCHMARK": json.dumps(asked)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(variant(name).directory), env.get("PYTHONPATH")]))
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
