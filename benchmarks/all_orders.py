"""Milliseconds until all 70 orders are covered of two queries with four calls each, through the service's HTTP API.

From connecting and reading the schema to the last verdict; the processes run already. Pruned, orders that differ only
in the order of calls that cannot affect each other are run once: "runs" are those that were.
"""

from __future__ import annotations

import time
from functools import partial

from benchmarks.exploring import FOUR_CALLS, rigs
from benchmarks.figures import Row
from benchmarks.runs import FailedError, Sizes, interleave, rows
from session_fix.explore import explorer, workloads
from session_fix.explore.explorer import Budget, Exploration
from session_fix.explore.runs import Rig

NAME = "all_orders"
OURS = "session-fix, query-query"
UNPRUNED, PRUNED = "every order run", "pruned"
ORDERS = 70  # of two clients with four calls each
WORKLOAD = workloads.named("query-query")
Covered = tuple[float, int, int]  # milliseconds, orders, runs


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for the exploration that runs every order, and one for the pruned one."""
    with rigs() as start:
        rig = start(FOUR_CALLS)
        measures = {(OURS, name): partial(_covered, rig, prune=name == PRUNED) for name in (UNPRUNED, PRUNED)}
        _explored(rig, prune=True, budget=Budget(runs=1))  # connects
        found = interleave(measures, sizes.rounds)
    return rows(
        NAME,
        found,
        lambda results: [took_ms for took_ms, _, _ in results],
        lambda results: {"orders": results[-1][1], "runs": results[-1][2]},
    )


def _covered(rig: Rig, *, prune: bool) -> Covered:
    began = time.perf_counter()
    found = _explored(rig, prune=prune)
    took_ms = (time.perf_counter() - began) * 1000
    if (found.verdict, found.complete, found.orders) != ("pass", True, ORDERS):
        raise FailedError(f"{found.verdict} after {found.orders} orders: {found.problem}")
    return took_ms, found.orders, found.runs


def _explored(rig: Rig, *, prune: bool, budget: Budget | None = None) -> Exploration:
    return explorer.explore(
        rig, WORKLOAD, service=str(FOUR_CALLS), layer="api", seed=1, prune=prune, budget=budget or Budget()
    )
