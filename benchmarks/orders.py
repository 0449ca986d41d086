"""Milliseconds for a call to the data API, while every order of create-create is run, and while nobody holds it.

"every order": not pruned, judged, each on an emptied database that is read afterwards. The first order of an
exploration, in which the explorer connects and reads the schema, is not counted. "one after another": the same service
process creates the same session twice, through the same tap, which records and holds nothing; alone, and with what is
done to the database before and after each order. What is measured is divided by the calls that were made, since the
second of two in a row makes fewer. An order is one run of both clients.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise

from benchmarks.exploring import rigs
from benchmarks.figures import Row
from benchmarks.runs import FailedError, Key, Sizes, interleave, rows
from session_fix.events import Recorder
from session_fix.explore import explorer, workloads
from session_fix.explore.explorer import Exploration
from session_fix.explore.runs import CONTENTS, EMPTY, Rig
from session_fix.subjects import variant

NAME = "orders"
OURS = "session-fix, every order"
UNGATED, PREPARED = "one after another", "one after another, database emptied and read"
VARIANTS = ("documented", "fixed")
WORKLOAD = workloads.named("create-create")


@dataclass(frozen=True, slots=True)
class Order:
    """One run of both clients: how long it took, and with how many calls to the data API."""

    took_ms: float
    calls: int


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each variant and way."""
    with rigs() as start:
        measures: dict[Key, Callable[[], list[Order]]] = {}
        for name in VARIANTS:
            rig = start(variant(name).directory)
            _explored(rig, name, 1)  # connects
            measures[OURS, name] = partial(_explored, rig, name, sizes.calls)
            measures[UNGATED, name] = partial(_one_after_another, rig, sizes.calls)
            measures[PREPARED, name] = partial(_one_after_another, rig, sizes.calls, prepared=True)
        found = interleave(measures, sizes.rounds)
    return rows(NAME, found, lambda results: [one.took_ms / one.calls for one in _all(results)], _more)


def _explored(rig: Rig, name: str, times: int) -> list[Order]:
    """Explore again and again, until so many orders were measured."""
    ends: list[tuple[float, int]] = []  # of the runs of an exploration: when they ended, and how many calls they made

    def note(found: Exploration) -> None:
        ends.append((time.perf_counter(), len(found.last.points) if found.last else 0))

    orders: list[Order] = []
    for seed in count():
        found = explorer.explore(
            rig, WORKLOAD, service=name, layer="database", seed=seed, prune=False, keep_going=True, note=note
        )
        if found.verdict == "inconclusive":
            raise FailedError(found.why_inconclusive)
        orders += [Order((at - before) * 1000, calls) for (before, _), (at, calls) in pairwise(ends)]
        ends.clear()
        if len(orders) >= times:
            break
    return orders


def _one_after_another(rig: Rig, times: int, *, prepared: bool = False) -> list[Order]:
    with rig.database.connect(autocommit=True) as connection:
        return [_order(rig, connection.execute if prepared else None) for _ in range(times)]


def _order(rig: Rig, execute: Callable[..., object] | None) -> Order:
    ((service, tap),) = rig.processes
    recorder, session = Recorder(), str(uuid.uuid4())
    tap.point_at(rig.endpoint, recorder)
    began = time.perf_counter()
    if execute:
        execute(EMPTY)
    for _ in WORKLOAD.clients:
        if (outcome := service.call("database", "create_session", session)).error_type:
            raise FailedError(f"{outcome.error_type}: {outcome.message}")
    if execute:
        execute(CONTENTS)
    took_ms = (time.perf_counter() - began) * 1000
    return Order(took_ms, sum(event.kind == "call" for event in recorder.events()))


def _all(results: list[list[Order]]) -> list[Order]:
    return [order for orders in results for order in orders]


def _more(results: list[list[Order]]) -> dict[str, float]:
    orders = _all(results)
    took_s = sum(order.took_ms for order in orders) / 1000
    return {"orders per second": len(orders) / took_s, "calls an order": sum(o.calls for o in orders) / len(orders)}
