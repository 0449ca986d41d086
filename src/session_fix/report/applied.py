"""A rollout that was carried out, as text for people and as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import Any

from session_fix.rollout.apply import Applied


def text(applied: Applied) -> str:
    """Return what was done, how long each step took, and the longest that one of them could hold others up."""
    after = applied.after or "base"
    if not applied.done:
        return "\n".join([f"The database is at {after} already: nothing was left to do.", *_remarks(applied)])
    rows = [f"{'step':34}  {'seconds':>8}  {'tries':>5}  {'held, ms':>8}"]
    rows += [
        f"{done.step.id:34}  {done.seconds:8.2f}  {done.tries:5}  {done.held_s * 1000:8.1f}" for done in applied.done
    ]
    worst = max(applied.done, key=lambda done: done.held_s)
    rows += [
        "",
        f"From {applied.before or 'base'} to {after}: {len(applied.done)} steps, and read back.",
        f"Others were held up by one try for {worst.held_s * 1000:.1f} ms at most ({worst.step.id}).",
    ]
    return "\n".join([*rows, *_remarks(applied)])


def _remarks(applied: Applied) -> list[str]:
    return [f"Remark: {remark}" for remark in applied.remarks]


def as_json(applied: Applied) -> dict[str, Any]:
    """Return the same as JSON; ``plan`` is the hash of the plan, as the database's own journal has it."""
    return {
        "plan": applied.plan.hash,
        "database": applied.plan.binding.database,
        "direction": applied.plan.direction,
        "before": applied.before,
        "after": applied.after,
        "steps": [
            {"id": done.step.id, "kind": done.step.kind, "after": done.step.after}
            | {name: value for name, value in dataclasses.asdict(done).items() if name != "step"}
            for done in applied.done
        ],
        "remarks": list(applied.remarks),
    }
