"""Run after run of a workload until every order is covered, the budget is spent, or one is found that must not be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from session_fix.explore.crashes import Crashes
from session_fix.explore.invariants import Violation, violations
from session_fix.explore.runs import Performer, Rig, Run
from session_fix.explore.schedules import Exhaustive, Given, Sample, Search, equivalents, switches
from session_fix.explore.workloads import CREATE, QUERY, Workload

NO_CALL = "the service made no call to the data API: there was no order to choose"
SIMPLER_AT_MOST = 200  # runs that look for a counterexample with fewer switches


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to go on: ``runs`` at most, ``seconds`` at most; None: as long as there is something to run."""

    runs: int | None = None
    seconds: float | None = None


SAMPLED = Budget(runs=200)


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A run that breaks invariants."""

    run: Run
    violations: tuple[Violation, ...]


@dataclass(slots=True)
class Exploration:
    """What was run, and what came of it.

    ``orders`` counts those that were run and their equivalents; it is the number of all orders when ``complete``.
    ``found_after`` is the number of the first run that broke something; ``simplest``: another was looked for that has
    fewer switches.
    """

    workload: Workload
    service: str
    other: str
    layer: str
    seed: int
    method: str
    runs: int = 0
    orders: int = 0
    calls: int = 0
    failed: int = 0
    infeasible: int = 0
    inconclusive: int = 0
    complete: bool = False
    found_after: int | None = None
    simplest: bool = False
    counterexample: Counterexample | None = None
    last: Run | None = None
    problem: str = ""
    seconds: float = 0.0
    outcomes: set[object] = field(default_factory=set)

    @property
    def verdict(self) -> str:
        """``fail`` with a counterexample; ``pass`` when something was run, called the data API, and held."""
        if self.counterexample:
            return "fail"
        return "inconclusive" if self.problem or not self.calls else "pass"

    @property
    def why_inconclusive(self) -> str:
        """Why nothing can be said, "" where something can."""
        if self.verdict != "inconclusive":
            return ""
        return self.problem or "nothing was run"

    @property
    def counts(self) -> dict[str, int]:
        """The numbers that go with the verdict."""
        return {
            "orders": self.orders,
            "runs": self.runs,
            "equivalent": max(0, self.orders - self.runs + self.infeasible + self.inconclusive),
            "infeasible": self.infeasible,
            "inconclusive": self.inconclusive,
            "failed": self.failed,
        }


def usual_layer(workload: Workload, rig: Rig) -> str:
    """Return the first of a workload's layers that all processes have. Raises ``ServiceNotLoadedError``."""
    for layer in workload.layers:
        if all(layer in service.loaded for service, _ in rig.processes):
            return layer
    for service, _ in rig.processes:
        service.require(workload.layers[0])
    raise AssertionError(workload.layers)


def explore(
    rig: Rig,
    workload: Workload,
    *,
    service: str,
    other: str = "",
    layer: str,
    seed: int,
    budget: Budget | None = None,
    prune: bool = True,
    keep_going: bool = False,
    note: Callable[[Exploration], object] = lambda _: None,
) -> Exploration:
    """Explore the orders of a workload: all of them, or a sample where they are too many.

    Stops at the first that breaks an invariant, and looks for one like it with fewer switches; with ``keep_going`` all
    are run and counted. ``note`` is told after each run.
    """
    budget = budget or (SAMPLED if workload.sampled else Budget())
    search, method = _search(workload, seed, prune=prune)
    found = Exploration(workload, service, other, layer, seed, method)
    began = time.monotonic()
    with Performer(rig, workload, layer=layer, seed=seed) as performer:
        _run_all(performer, search, found, budget, began, keep_going=keep_going, note=note)
        if found.counterexample and isinstance(search, Exhaustive | Sample) and not keep_going:
            found.counterexample = _simpler(performer, workload, found.counterexample, found.runs)
            found.simplest = True
    found.seconds = time.monotonic() - began
    return found


def _search(workload: Workload, seed: int, *, prune: bool) -> tuple[Search, str]:
    """Return what chooses the orders, and what to call it."""
    if workload.crashes:
        return Crashes(), "killed at every call"
    if workload.sampled:
        return Sample(seed), f"sample, seed {seed}"
    return Exhaustive(prune=prune), f"all orders{', pruned' if prune else ''}"


def rerun(
    rig: Rig,
    workload: Workload,
    search: Given,
    *,
    service: str,
    other: str = "",
    layer: str,
    seed: int,
) -> Exploration:
    """Perform one order, exactly."""
    found = Exploration(workload, service, other, layer, seed, "one order")
    with Performer(rig, workload, layer=layer, seed=seed) as performer:
        began = time.monotonic()
        _run_all(performer, search, found, Budget(runs=1), began, keep_going=True, note=lambda _: None)
        found.seconds = time.monotonic() - began
    return found


def _run_all(
    performer: Performer,
    search: Search,
    found: Exploration,
    budget: Budget,
    began: float,
    *,
    keep_going: bool,
    note: Callable[[Exploration], object],
) -> None:
    seen: set[tuple[int, ...]] = set()
    while not _is_spent(budget, found.runs, began):
        if not search.begin():
            found.complete = True
            return
        run = performer.perform(found.runs, search)
        found.runs += 1
        found.calls += len(run.points)
        found.last = run
        found.problem = run.problem or ("" if _is_under_test(found.workload, run) else NO_CALL)
        if found.problem:
            found.infeasible += run.infeasible
            found.inconclusive += not run.infeasible
            return
        found.orders += _new_orders(search, run, seen)
        found.outcomes.add(outcome(run))
        if broken := violations(found.workload, run):
            found.failed += 1
            if not found.counterexample:
                found.found_after = found.runs
                found.counterexample = Counterexample(run, tuple(broken))
        note(found)
        if found.counterexample and not keep_going:
            return


def _is_under_test(workload: Workload, run: Run) -> bool:
    """Say whether the service called the data API: what it says of another one cannot be judged by what ours holds."""
    return any({CREATE, QUERY} & set(workload.clients[chosen].actions) for chosen in run.order)


def _is_spent(budget: Budget, runs: int, began: float) -> bool:
    late = budget.seconds is not None and runs > 0 and time.monotonic() - began >= budget.seconds
    return late or (budget.runs is not None and runs >= budget.runs)


def _new_orders(search: Search, run: Run, seen: set[tuple[int, ...]]) -> int:
    """Return how many orders a run stands for that none before it did."""
    if isinstance(search, Sample):
        before = len(seen)
        seen.add(run.order)
        return len(seen) - before
    if search.repeats:
        return 0
    return equivalents(run.points) if isinstance(search, Exhaustive) and search.prunes else 1


def _simpler(performer: Performer, workload: Workload, found: Counterexample, number: int) -> Counterexample:
    """Return a counterexample of the same kind that leaves clients less often, if there is one.

    ``number`` is that of the last run: a service may remember the ids of those before.
    """
    wanted = {violation.invariant for violation in found.violations}
    left = SIMPLER_AT_MOST
    for most in range(switches(found.run.points)):
        search = Exhaustive(prune=False, most_switches=most)
        while left and search.begin():
            left -= 1
            run = performer.perform(number + SIMPLER_AT_MOST - left, search)
            broken = violations(workload, run) if not run.problem else []
            if wanted & {violation.invariant for violation in broken}:
                return Counterexample(run, tuple(broken))
    return found


def outcome(run: Run) -> object:
    """Return what came of a run without what differs by chance: ids are named by what they belong to."""
    names = {run.session_id: "the session"}
    names |= {row[0]: f"interaction {row[2]}" for row in run.contents.interactions}

    def anonymous(value: object) -> object:
        if isinstance(value, list | tuple):
            return tuple(map(anonymous, value))
        return names.get(value, value) if isinstance(value, str) else value

    told = tuple(tuple((t.action, t.done, anonymous(t.value), t.error) for t in client) for client in run.told)
    sessions = sorted((names.get(id_, "another"), str(anonymous(user))) for id_, user in run.contents.sessions)
    interactions = [(names.get(row[1], "another"), *row[2:]) for row in run.contents.interactions]
    return (told, tuple(sessions), tuple(interactions))
