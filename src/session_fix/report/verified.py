"""What a verification found, as text for people, readable in a log at 80 columns, and as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import Any

from session_fix.report.columns import findings, listed, wrapped
from session_fix.rollout.verify import Verified

WORDS = {
    "pass": "The database is what its version promises.",
    "fail": "The database is not what it should be.",
    "inconclusive": "Nothing wrong was found, but not all could be looked at.",
}


def text(verified: Verified) -> str:
    """Return the findings, what could not be seen, and what it comes to."""
    seen = verified.seen
    binding = seen.standing.binding
    tried = sorted({probe.role for probe in seen.probes})
    checked = [
        f"{len(seen.standing.objects)} objects",
        "orphans" if seen.orphans is not None else "",
        f"rights, tried as {listed(tried)}" if tried else "",
    ]
    lines = [
        *wrapped(f"{binding.database}, version {listed(binding.versions, none='none')}, schema {binding.fingerprint}"),
        *wrapped(f"looked at: {listed(filter(None, checked))}", more="  "),
        "",
        *findings((one.severity, one.what, one.todo, one.id) for one in verified.findings),
    ]
    if seen.unseen:
        lines += ["", "not seen:"]
        lines += [line for one in seen.unseen for line in wrapped(f"{one.what}: {one.why}", "  ")]
    return "\n".join([*lines, *([""] if verified.findings or seen.unseen else []), WORDS[verified.verdict]])


def as_json(verified: Verified) -> dict[str, Any]:
    """Return everything: the verdict, the findings, what was tried and what was not seen."""
    seen = verified.seen
    return {
        "verdict": verified.verdict,
        "version": verified.version,
        "binding": dataclasses.asdict(seen.standing.binding),
        "orphans": seen.orphans,
        "findings": [dataclasses.asdict(finding) for finding in verified.findings],
        "probes": [dataclasses.asdict(probe) for probe in seen.probes],
        "unseen": [dataclasses.asdict(one) for one in seen.unseen],
    }
