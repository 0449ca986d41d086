"""What becomes of one difference when a hand-made schema is adopted, and how the steps for it are made. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from session_fix.rollout.plan import Kind, Step

MOMENTARY_MS, LONG_MS = 10, 5_000  # lock_timeout of what others queue behind, and of what nobody does


class How(StrEnum):
    """The fate of a difference."""

    LATER = "a revision changes it"
    KEPT = "stays as it is"
    CHANGED = "changed by the adoption"
    REFUSED = "in the way"


@dataclass(frozen=True, slots=True)
class Settlement:
    """One difference: the object, as ``objects.read()`` names it, what becomes of it, and why; the steps if any."""

    name: str
    how: How
    why: str
    steps: tuple[Step, ...] = ()


def step(
    ident: str, title: str, *statements: str, kind: Kind = Kind.TRANSACTION, lock_timeout_ms: int = MOMENTARY_MS
) -> Step:
    """Return a step of an adoption, before Alembic has noted anything."""
    return Step(
        id=f"adopt-{ident}",
        title=title,
        kind=kind,
        before="",
        after="",
        statements=statements,
        lock_timeout_ms=0 if kind is Kind.CONCURRENTLY else lock_timeout_ms,
        resumes="What was built is looked at, and built again where it is invalid."
        if kind is Kind.CONCURRENTLY
        else "It is done together with its note, or not at all.",
    )


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
