"""The state of a rollout as text for people, readable in a log at 80 columns, and as one JSON object."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from session_fix.report.columns import labelled, listed, wrapped
from session_fix.rollout import drift
from session_fix.rollout.status import Status

SETTLED = "Settled: the newest revision is noted, and the schema is what it promises."


def text(status: Status) -> str:
    """Return the state, a line for each thing that there is to know."""
    return "\n".join([*_lines(status), "", *_sum(status)])


def _lines(status: Status) -> Iterator[str]:
    binding = status.standing.binding
    yield from wrapped(binding.database)
    versions = listed(binding.versions, none="no row" if status.standing.has_versions else "no table alembic_version")
    yield from labelled("version", versions, indent=2, width=12)
    yield from labelled("schema", f"{binding.fingerprint}, {status.like}", indent=2, width=12)
    label = "differs"
    for line in drift.described(status.differences):
        yield from labelled(label, line, indent=2, width=12)
        label = ""
    pending = "unknown" if status.version is None else listed(status.pending, none="none")
    yield from labelled("to come", pending, indent=2, width=12)
    yield from labelled("INVALID", listed(status.invalid, none="none"), indent=2, width=12)
    if status.noted:
        done = sum(one.state == "done" for one in status.noted)
        last = f"plan {status.noted[0].plan[:16]}, {done} steps done; not finished: "
        yield from labelled("last plan", last + listed(_unfinished(status), none="none"), indent=2, width=12)
    holders = listed((f"pid {one.pid} ({one.application})" for one in status.holders), none="nobody")
    yield from labelled("at work", holders, indent=2, width=12)
    for one in status.unseen:
        yield from labelled("not seen", f"{one.what}: {one.why}", indent=2, width=12)


def _unfinished(status: Status) -> list[str]:
    return [f"{one.step} (since {one.started_at})" for one in status.noted if one.state != "done"]


def _sum(status: Status) -> list[str]:
    if status.is_settled:
        return wrapped(SETTLED)
    if status.why:
        return wrapped(status.why)
    todo = []
    if status.holders:
        todo.append("a rollout is under way")
    if status.interrupted:
        todo.append("a rollout was cut short: run `session-fix migrate apply` with its plan again")
    if status.pending:
        todo.append("`session-fix migrate plan` says what is to come")
    return wrapped(f"Not settled: {listed(todo, none='`session-fix migrate verify` says what is wrong')}.")


def as_json(status: Status) -> dict[str, Any]:
    """Return everything that was found."""
    return {
        "verdict": "pass" if status.is_settled else "fail",
        "binding": dataclasses.asdict(status.standing.binding),
        "version": status.version,
        "why": status.why,
        "like": list(status.like.revisions),
        "differences": {name: {"found": has, "wanted": wants} for name, (has, wants) in status.differences.items()},
        "pending": list(status.pending),
        "invalid_indexes": list(status.invalid),
        "interrupted": list(status.interrupted),
        "steps": [dataclasses.asdict(one) for one in status.noted],
        "holders": [dataclasses.asdict(one) for one in status.holders],
        "unseen": [dataclasses.asdict(one) for one in status.unseen],
    }
