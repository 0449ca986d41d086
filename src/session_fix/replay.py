"""Replay the flow against services: start all at once, perform each on a database of its own, judge the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from session_fix import flow
from session_fix.errors import ServiceError
from session_fix.events import Event, Recorder
from session_fix.flow import Judgement
from session_fix.frontend import Frontend
from session_fix.host.service import Service
from session_fix.progress import Progress
from session_fix.running import running
from session_fix.settings import Settings
from session_fix.stack import Stack
from session_fix.subjects import Subject
from session_fix.tap import Tap


@dataclass(frozen=True, slots=True)
class Replayed:
    """One performed flow: its record, its judgement, and what the service printed if it did not pass."""

    subject: Subject
    run: str
    events: Sequence[Event]
    judgement: Judgement
    printed: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """All flows of one replay, on one stack."""

    stack: dict[str, str]
    flows: Sequence[Replayed] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The worst verdict of the flows; ``inconclusive`` when there were none."""
        verdicts = {replayed.judgement.verdict for replayed in self.flows}
        return next((one for one in ("fail", "inconclusive", "pass") if one in verdicts), "inconclusive")


def replay(subjects: Sequence[Subject], settings: Settings, *, progress: Progress) -> Replay:
    """Perform every subject's flow and judge it. Raises what starting the stack or a service raises."""
    with running(subjects, settings, layers=("api",), progress=progress) as found:
        flows = []
        for subject, started in zip(subjects, found.started, strict=True):
            try:
                service, tap = started.result()
                with progress.step(f"Replaying {subject.name}"):
                    flows.append(_replay_one(subject, service, tap, found.stack))
            except ServiceError as error:  # the other flows are worth their reports
                judgement = Judgement("inconclusive", flow.observe([]), [str(error)])
                flows.append(Replayed(subject, "", [], judgement))
        return Replay(found.stack.describe(), flows)


def _replay_one(subject: Subject, service: Service, tap: Tap, stack: Stack) -> Replayed:
    recorder = Recorder()
    with stack.database() as database:
        tap.point_at(stack.endpoint(database), recorder)
        service.record_to(recorder)
        try:
            flow.perform(Frontend(str(service.url), recorder), database, recorder)
        finally:
            service.record_to(None)
    events = recorder.events()
    judgement = flow.judge(events, subject.expected)
    printed = "" if judgement.verdict == "pass" else service.process.last_lines(40)
    return Replayed(subject, recorder.run, events, judgement, printed)
