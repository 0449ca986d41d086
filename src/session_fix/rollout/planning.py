"""Makes a plan: reads where a database stands, works out the steps, and measures them on a copy of its schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from session_fix.errors import RolloutRefusedError
from session_fix.progress import SILENT, Progress
from session_fix.rollout import adopting, drift, facts, measure, predict, standing, steps, versions
from session_fix.rollout import adoption as adoptions
from session_fix.rollout.adoption import Adoption, State
from session_fix.rollout.plan import Plan, Step
from session_fix.rollout.standing import Standing
from session_fix.rollout.versions import Differences
from session_fix.servers import Server

UP, DOWN = "up", "down"
ADOPTION_TIMEOUT_S = 600.0  # of a statement that counts rows
WHY_NOT = {
    State.NOTHING: "Neither table is there: there is nothing to adopt. `session-fix migrate plan` creates them.",
    State.ADOPTED: "Alembic has noted a version here: it is adopted. `session-fix migrate plan` goes on from there.",
}


@dataclass(frozen=True, slots=True)
class Made:
    """A plan, where its database stood, and what differs there and is in no step's way."""

    plan: Plan
    standing: Standing
    passed_by: Differences


def plan(
    params: Mapping[str, str],
    *,
    to: str = versions.HEAD,
    direction: str = UP,
    server: Server | None = None,
    progress: Progress = SILENT,
) -> Plan:
    """Return the plan to take the database at these libpq parameters to a revision, ``head`` or, going down, ``base``.

    Raises ``RolloutRefusedError`` when the database is none to be planned for, ``UsageError`` for a revision that is
    not there or lies the other way, and what ``measure.copied`` and ``standing.read`` raise.
    """
    return made(params, to=to, direction=direction, server=server, progress=progress).plan


def made(
    params: Mapping[str, str],
    *,
    to: str = versions.HEAD,
    direction: str = UP,
    measured: bool = True,
    major: int | None = None,
    server: Server | None = None,
    progress: Progress = SILENT,
) -> Made:
    """Return a plan with what it was made of.

    Unless ``measured``, locks are predicted from the statements only. The copy's server is of the version ``major``, by
    default the database's own; ``server``, if there is one already, is used instead. Raises as ``plan`` does.
    """
    with progress.step("Reading the database"):
        found = look(params)
    version, wanted = versions.current(found), versions.named(to)
    drafts = steps.up(found, to) if direction == UP else steps.down(found, to)
    last = wanted if direction == UP else version
    passed_by = drift.checked(found, version, last)
    told = ""
    if measured and drafts:
        with measure.copied(params, found, major=major, server=server, progress=progress) as copy:
            drafts = measure.measured(drafts, copy, progress=progress)
            told = copy.server
        drafts = tuple(steps.finished(step, found) for step in drafts)
    plan = Plan(
        direction=direction,
        target=wanted,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        binding=found.binding,
        steps=drafts,
        measured_on=told,
    )
    return Made(plan, found, passed_by)


def adopted(
    params: Mapping[str, str],
    *,
    measured: bool = True,
    major: int | None = None,
    server: Server | None = None,
    progress: Progress = SILENT,
) -> tuple[Made, Adoption]:
    """Return a plan that brings a schema made by hand to head, and what becomes of each difference.

    Where something is in the way, the plan has no steps. Raises ``RolloutRefusedError`` where there is nothing to
    adopt, and as ``made`` does.
    """
    with progress.step("Reading the database, and counting its rows"):
        found = look(params)
        seen, adoption = adopting.read(params, timeout_s=ADOPTION_TIMEOUT_S)
    if why := WHY_NOT.get(adoptions.state(seen)):
        raise RolloutRefusedError(f"{why} Nothing was changed.")
    drafts: tuple[Step, ...] = ()
    told = ""
    if not adoption.in_the_way:
        noted = dataclasses.replace(
            found,
            binding=dataclasses.replace(found.binding, versions=(adoption.revision,)),
            objects=versions.promised(adoption.revision, found.roles),
        )
        drafts = (*(steps.finished(step, found) for step in _predicted(adoption, found)), *steps.up(noted))
        if measured:
            with measure.copied(params, found, major=major, server=server, progress=progress) as copy:
                drafts = measure.measured(drafts, copy, progress=progress)
                told = copy.server
            drafts = tuple(steps.finished(step, found) for step in drafts)
    plan = Plan(
        direction=UP,
        target=versions.named(versions.HEAD),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        binding=found.binding,
        steps=drafts,
        measured_on=told,
    )
    return Made(plan, found, {}), adoption


def _predicted(adoption: Adoption, found: Standing) -> Iterator[Step]:
    """Yield the steps of an adoption with what their statements say of locks, each on the schema of before."""
    schema = predict.Schema(found.objects, found.roles, found.binding.server_version)
    for step in adoption.steps:
        told = predict.predicted(step.statements, schema)
        yield dataclasses.replace(step, predicted=told.locks, rewrites=told.rewrites, scans=told.scans)


def look(params: Mapping[str, str]) -> Standing:
    """Return where a database stands, with what an audit knows of its rows.

    Raises ``DatabaseUnreadableError``, and ``RolloutRefusedError`` for a replica.
    """
    found = standing.read(params)
    seen = facts.read(params)
    if seen.replica:
        raise RolloutRefusedError("The server is a replica. Name the primary: it alone can be changed.")
    return dataclasses.replace(found, facts=seen)
