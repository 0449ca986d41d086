"""Where in its plan a database is, and whether it is what the plan says it is there. Pure.

A database that a plan was made for is bound by its fingerprint. Each step changes that; so on a rerun the schema has to
be what the revision leaves that is noted, but for what differed already when the plan was begun, and for the index that
was being built when it broke off.
"""

from __future__ import annotations

from collections.abc import Sequence

from session_fix.rollout import indexes, objects, predict, versions
from session_fix.rollout.journal import Drift
from session_fix.rollout.plan import Kind, Plan

BASE = ""  # no version is noted


def place(plan: Plan, version: str) -> int | None:
    """Return how many steps lie behind a database of that version, None where the plan does not come past it.

    A repair notes no version: it is never behind by that alone, see ``journal.done``.
    """
    for number, step in enumerate(plan.steps):
        if step.before == version:
            return number
    return len(plan.steps) if version == plan.target or not plan.steps else None


def drift(found: objects.Objects, version: str, roles: frozenset[str]) -> Drift:
    """Return what differs from what the revision leaves: what is found, and what should be."""
    return objects.difference(found, versions.promised_with_options(version, roles, found), exact=False)


def unexplained(now: Drift, *, at_begin: Drift, plan: Plan) -> list[str]:
    """Return the objects that differ now and neither did when the plan was begun nor are half-built by its steps."""
    indices = [
        indexes.wanted(statement)
        for step in plan.steps
        if step.kind is Kind.CONCURRENTLY
        for statement in step.statements
    ]
    return [
        name
        for name, (has, _) in now.items()
        if not (name in at_begin and (at_begin[name][0] == has or _is_key_under_way(name, has, at_begin)))
        and not any(_of(one, name, has) for one in indices)
    ]


def _is_key_under_way(name: str, has: str | None, at_begin: Drift) -> bool:
    """Say whether this is the foreign key, which was not as it should be, and comes back in two revisions."""
    return name == predict.KEY and has in (None, f"{at_begin[name][1]} NOT VALID")


def _of(index: indexes.Wanted, name: str, has: str | None) -> bool:
    """Say whether an object is this index: gone, half-built, or built by a server whose client is gone."""
    kind, _, rest = name.partition(" ")
    is_it = kind == "index" and rest.rpartition(".")[2] == index.name
    return is_it and (has is None or has.endswith(" INVALID") or has == index.definition)


def remaining(now: Drift, *, at_begin: Drift, complete: bool) -> tuple[list[str], list[str]]:
    """Return what still differs at the end: what makes the rollout fail, and what is merely to be told.

    What differed before and no step was to change is told, unless the plan leads to the newest revision (``complete``)
    and something is missing or another; what is there besides is not ours.
    """
    failing: list[str] = []
    told: list[str] = []
    for name, (has, wants) in now.items():
        is_old = name in at_begin and at_begin[name][0] == has
        (told if is_old and (wants is None or not complete) else failing).append(name)
    return failing, told


def described(names: Sequence[str], differences: Drift) -> str:
    """Return those differences, a line each."""
    lines = []
    for name in names:
        has, wants = differences.get(name, (None, None))
        lines.append(f"  {name}: {has or 'not there'}; should be: {wants or 'not there'}")
    return "\n".join(lines)
