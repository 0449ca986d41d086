"""How a hand-made schema is adopted, as text for people at 80 columns, and as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import Any

from session_fix.report.columns import wrapped
from session_fix.rollout.adoption import Adoption
from session_fix.rollout.settlement import How

ORDER = (How.REFUSED, How.CHANGED, How.LATER, How.KEPT)
TITLES = {
    How.REFUSED: "in the way; settle it by hand first:",
    How.CHANGED: "changed by the adoption:",
    How.LATER: "changed by a revision later:",
    How.KEPT: "stays as it is:",
}


def text(adoption: Adoption, fingerprint: str) -> str:
    """Return every difference under what becomes of it."""
    lines = [f"fingerprint of the schema: {fingerprint}"]
    if not adoption.settlements:
        lines.append(f"It is what {adoption.revision} leaves: that only has to be noted.")
    for how in ORDER:
        if of_kind := [one for one in adoption.settlements if one.how is how]:
            lines += ["", TITLES[how]]
            for one in of_kind:
                lines += wrapped(f"{one.name}: {one.why}", "  ")
    return "\n".join(lines)


def as_json(adoption: Adoption, fingerprint: str) -> dict[str, Any]:
    """Return the differences, the revision that is noted, and the steps until then."""
    return {
        "verdict": "fail" if adoption.in_the_way else "pass",
        "fingerprint": fingerprint,
        "revision": adoption.revision,
        "differences": [
            {
                "object": one.name,
                "becomes": one.how.name.lower(),
                "why": one.why,
                "steps": [step.id for step in one.steps],
            }
            for one in adoption.settlements
        ],
        "steps": [dataclasses.asdict(step) for step in adoption.steps],
    }
