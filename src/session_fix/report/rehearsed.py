"""A rehearsal as text for people at 80 columns, and as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import Any

from session_fix.report.columns import wrapped
from session_fix.rollout.rehearsal.record import Rehearsal, Used, statuses

WAITS_SHOWN = 8


def text(rehearsal: Rehearsal) -> str:
    """Return what each service was answered, who waited for which lock, and what it comes to."""
    lines = [
        *wrapped(
            f"{rehearsal.steps} steps in {rehearsal.took_s:.1f} s, beside {rehearsal.interactions:,} interactions", ""
        ),
        "",
        f"{'service':16}{'before':>8}{'during':>8}{'failed':>8}{'worst ms':>10}  answers during",
    ]
    lines += [line for one in rehearsal.services for line in _service(one)]
    lines += ["", "waits for locks that were seen:" if rehearsal.waits else "Nobody was seen waiting for a lock."]
    for one in rehearsal.waits[:WAITS_SHOWN]:
        lines += wrapped(f"{one.longest_ms:.1f} ms: {one.mode} on {one.relation}, by {one.application or '?'}", "  ")
    if (more := len(rehearsal.waits) - WAITS_SHOWN) > 0:
        lines.append(f"  and {more} more, none of them longer")
    if rehearsal.problem:
        lines += ["", *wrapped(f"The rollout failed: {rehearsal.problem}", "")]
    return "\n".join([*lines, "", _sum(rehearsal)])


def _service(one: Used) -> list[str]:
    figures = f"{len(one.before()):>8}{len(one.during()):>8}{len(one.failed()):>8}{one.worst_ms():>10.1f}"
    return [f"{one.name[:15]:16}{figures}  {statuses(one.during())}"]


def _sum(rehearsal: Rehearsal) -> str:
    failed = sum(len(one.failed()) for one in rehearsal.services)
    counts = f"{failed} failed requests, {rehearsal.lost} acknowledged interactions lost"
    words = {"pass": "nothing failed", "fail": "something failed", "inconclusive": "hardly anything was asked"}
    return f"{words[rehearsal.verdict]}: {counts}"


def as_json(rehearsal: Rehearsal) -> dict[str, Any]:
    """Return the verdict, and each service's counts and waits; not each request."""
    return {
        "verdict": rehearsal.verdict,
        "steps": rehearsal.steps,
        "took_s": rehearsal.took_s,
        "interactions": rehearsal.interactions,
        "lost": rehearsal.lost,
        "problem": rehearsal.problem,
        "services": [
            {
                "name": one.name,
                "before": len(one.before()),
                "during": len(one.during()),
                "failed": len(one.failed()),
                "worst_ms": one.worst_ms(),
            }
            for one in rehearsal.services
        ],
        "waits": [dataclasses.asdict(one) for one in rehearsal.waits],
    }
