"""What the commands ``explore`` and ``rerun`` do: start what is needed, explore, and return what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from session_fix.errors import UsageError
from session_fix.explore import explorer
from session_fix.explore.explorer import Budget, Exploration
from session_fix.explore.runs import Rig
from session_fix.explore.schedule_file import Recorded
from session_fix.explore.schedules import Given
from session_fix.explore.workloads import Workload
from session_fix.host.service import Service
from session_fix.progress import Progress
from session_fix.running import running
from session_fix.settings import Settings
from session_fix.subjects import Subject, named
from session_fix.tap import Tap

OTHER = "documented"


@dataclass(frozen=True, slots=True)
class Explored:
    """Explorations on one stack."""

    stack: dict[str, str]
    explorations: Sequence[Exploration]

    @property
    def verdict(self) -> str:
        """The worst verdict; ``inconclusive`` when there were none."""
        verdicts = {one.verdict for one in self.explorations}
        return next((one for one in ("fail", "inconclusive", "pass") if one in verdicts), "inconclusive")


def explore(
    workloads: Sequence[Workload],
    settings: Settings,
    *,
    service: str,
    other: str | None,
    layer: str | None,
    seed: int,
    budget: Budget | None,
    prune: bool,
    keep_going: bool,
    rpcs: Mapping[str, frozenset[str]],
    progress: Progress,
) -> Explored:
    """Explore workloads one after the other. Raises ``UsageError`` for a layer where a workload makes no sense."""
    for workload in workloads:
        if layer and layer not in workload.layers:
            raise UsageError(f"{workload.name} makes sense at {' and '.join(workload.layers)}, not at {layer}.")
    subject, beside = named(service), named(other or OTHER)
    with _rigs(workloads, settings, subject, beside, progress, rpcs) as (stack, rig_of):
        found = []
        for workload in workloads:
            with progress.step(f"Exploring {workload.name}") as count, rig_of(workload) as rig:
                found.append(
                    explorer.explore(
                        rig,
                        workload,
                        service=service,
                        other=other or OTHER if _has_others(workload) else "",
                        layer=layer or explorer.usual_layer(workload, rig),
                        seed=seed,
                        budget=budget,
                        prune=prune,
                        keep_going=keep_going,
                        note=lambda so_far, count=count: count(so_far.runs, None),  # type: ignore[misc]
                    )
                )
        return Explored(stack, found)


def rerun(recorded: Recorded, settings: Settings, *, progress: Progress) -> Explored:
    """Perform a recorded order."""
    workload, subject, beside = recorded.workload, named(recorded.service), named(recorded.other or OTHER)
    with _rigs([workload], settings, subject, beside, progress) as (stack, rig_of):
        with progress.step(f"Running one order of {workload.name}"), rig_of(workload) as rig:
            found = explorer.rerun(
                rig,
                workload,
                Given(recorded.order, marks=recorded.marks),
                service=recorded.service,
                other=recorded.other,
                layer=recorded.layer,
                seed=recorded.seed,
            )
        return Explored(stack, [found])


@contextmanager
def _rigs(
    workloads: Sequence[Workload],
    settings: Settings,
    subject: Subject,
    beside: Subject,
    progress: Progress,
    rpcs: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> Iterator[tuple[dict[str, str], Callable[[Workload], AbstractContextManager[Rig]]]]:
    """Yield what runs, and a function that returns what a workload is to be run on, with a database of its own."""
    own = max(1 + client.process for workload in workloads for client in workload.clients if not client.other)
    others = any(map(_has_others, workloads))
    subjects = [subject] * own + [beside] * others
    with running(subjects, settings, layers=(), progress=progress) as found:
        processes = [one.result() for one in found.started]

        @contextmanager
        def rig_of(workload: Workload) -> Iterator[Rig]:
            of_others = {client.process for client in workload.clients if client.other}
            numbers = [len(processes) - 1 if number in of_others else number for number in range(workload.processes)]

            def start(number: int) -> tuple[Service, Tap]:
                processes[numbers[number]] = found.start(subjects[numbers[number]])
                return processes[numbers[number]]

            chosen = [processes[number] for number in numbers]
            with found.stack.database() as database:
                yield Rig(chosen, database, found.stack.endpoint(database), found.stack.keys, start, rpcs)

        yield found.stack.describe(), rig_of


def _has_others(workload: Workload) -> bool:
    return any(client.other for client in workload.clients)
