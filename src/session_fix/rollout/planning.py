"""Makes a plan: reads where a database stands, works out the steps, and measures them on a copy of its schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from session_fix.errors import RolloutRefusedError
from session_fix.progress import SILENT, Progress
from session_fix.rollout import drift, facts, measure, standing, steps, versions
from session_fix.rollout.plan import Plan
from session_fix.rollout.standing import Standing
from session_fix.rollout.versions import Differences
from session_fix.servers import Server

UP, DOWN = "up", "down"


@dataclass(frozen=True, slots=True)
class Made:
    """A plan, where its database stood, and what differs there and is in no step's way."""

    plan: Plan
    standing: Standing
    passed_by: Differences


def plan(
    params: Mapping[str, str], *, to: str = versions.HEAD, direction: str = UP, progress: Progress = SILENT
) -> Plan:
    """Return the plan to take the database at these libpq parameters to a revision, ``head`` or, going down, ``base``.

    Raises ``RolloutRefusedError`` when the database is none to be planned for, ``UsageError`` for a revision that is
    not there or lies the other way, and what ``measure.copied`` and ``standing.read`` raise.
    """
    return made(params, to=to, direction=direction, progress=progress).plan


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


def look(params: Mapping[str, str]) -> Standing:
    """Return where a database stands, with what an audit knows of its rows.

    Raises ``DatabaseUnreadableError``, and ``RolloutRefusedError`` for a replica.
    """
    found = standing.read(params)
    seen = facts.read(params)
    if seen.replica:
        raise RolloutRefusedError("The server is a replica. Name the primary: it alone can be changed.")
    return dataclasses.replace(found, facts=seen)
