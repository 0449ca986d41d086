"""A plan as text for people, readable in a log at 80 columns, and as one JSON object."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from session_fix.report.columns import labelled, listed, milliseconds, seconds, wrapped
from session_fix.rollout import drift, estimate, hazards
from session_fix.rollout.plan import Kind, Lock, Plan, Step
from session_fix.rollout.planning import Made
from session_fix.rollout.steps import RESUMES

MOST_LINES = 12  # of a statement
BOUNDARY = {
    Kind.TRANSACTION: "one transaction, with the note of the version",
    Kind.CONCURRENTLY: "no transaction; the version is noted afterwards",
    Kind.REPAIR: "batches, each a transaction of its own",
}


def text(made: Made, *, allowed: Sequence[str] = (), file: str | None = None) -> str:
    """Return the steps, the hazards with how they are allowed, and what comes next."""
    plan = made.plan
    lines = [*_head(made), ""]
    for number, step in enumerate(plan.steps, 1):
        lines += [*_step(number, step, made), ""]
    if plan.steps:
        lines += ["How a step is resumed after a kill:"]
        lines += [line for kind in dict.fromkeys(one.kind for one in plan.steps) for line in _resumes(kind)]
        lines += [""]
    lines += _hazards(made, allowed)
    return "\n".join([*lines, *_end(plan, allowed, file)])


def _head(made: Made) -> Iterator[str]:
    plan, binding = made.plan, made.plan.binding
    version = f"{binding.server_version // 10_000}.{binding.server_version % 10_000}"
    yield from wrapped(f"{binding.database}, PostgreSQL {version}, system {binding.system_identifier}")
    yield from labelled(
        "from", f"{listed(binding.versions, none='no version')}, schema {binding.fingerprint}", indent=2
    )
    yield from labelled("to", f"{plan.target or 'base'} ({plan.direction}, {len(plan.steps)} steps)", indent=2)
    if plan.steps:
        how = f"on a copy of the schema, {plan.measured_on}" if plan.measured_on else "no; locks are predicted"
        yield from labelled("measured", how, indent=2)
    if made.passed_by:
        yield from wrapped("Not as the version promises, and in no step's way:", "  ")
        for line in drift.described(made.passed_by):
            yield from wrapped(line, "    - ", more="      ")


def _step(number: int, step: Step, made: Made) -> Iterator[str]:
    title = step.title.replace("``", "")
    yield from wrapped(f"{step.id}: {title}", f"{number:2}. ", more="    ")
    yield from labelled("runs as", f"{BOUNDARY[step.kind]}; {seconds(step.estimate_s)}")
    if step.kind is not Kind.REPAIR:
        yield from labelled("locks", _locks(step, measured=bool(made.plan.measured_on)))
        if step.scans:
            yield from labelled("reads", f"all of {listed(map(_short, step.scans))}")
        yield from labelled("rewrites", listed(map(_short, step.rewrites)))
        timeouts = f"lock {milliseconds(step.lock_timeout_ms)}, statement {milliseconds(step.statement_timeout_ms)}"
        yield from labelled("timeouts", timeouts)
        yield from _statements("sql", step.statements)
        yield from _statements("undo", step.down)
    elif (counted := estimate.counted(step, made.standing)) is not None:
        yield from labelled("changes", f"{counted:,} rows, as counted now")
    if step.hazards:
        yield from labelled("HAZARDS", listed(step.hazards))


def _locks(step: Step, *, measured: bool) -> str:
    told = _in_words(step.predicted)
    if not measured:
        return f"predicted: {told}"
    found = _in_words(step.measured)
    return f"{found} (measured, as predicted)" if step.measured == step.predicted else f"{found}; predicted: {told}"


def _in_words(locks: Iterable[Lock]) -> str:
    return listed((f"{lock.mode} on {_short(lock.relation)}" for lock in locks), none="none")


def _short(relation: str) -> str:
    return relation.removeprefix("public.")


def _statements(label: str, statements: Sequence[str]) -> Iterator[str]:
    for statement in statements or ("nothing",):
        lines = labelled(label, f"{statement};" if statements else statement)
        yield from lines[:MOST_LINES]
        if len(lines) > MOST_LINES:
            yield from labelled("", f"[{len(lines) - MOST_LINES} lines more, in the file]")
        label = ""


def _resumes(kind: Kind) -> list[str]:
    return wrapped(f"{kind}: {RESUMES[kind]}", "  ", more="    ")


def _hazards(made: Made, allowed: Sequence[str]) -> Iterator[str]:
    for name in made.plan.hazards:
        hazard, steps = hazards.BY_ID[name], [step.id for step in made.plan.steps if name in step.hazards]
        yield from wrapped(f"hazard {name}{' (allowed)' if name in allowed else ''}: {hazard.effect}", more="  ")
        if name == "times-not-utc":
            yield from labelled("where", listed(hazards.time_zones(made.standing)), indent=2)
        yield from labelled("steps", listed(steps), indent=2)
        yield from labelled("-> ", hazard.todo, indent=2)
        yield ""


def _end(plan: Plan, allowed: Sequence[str], file: str | None) -> Iterator[str]:
    if not plan.steps:
        yield f"Nothing to do: the database is at {plan.target or 'base'}."
        return
    total = sum(step.estimate_s for step in plan.steps)
    yield from wrapped(f"In all {seconds(total)}, an order of magnitude, without what is waited for.")
    if file:
        yield f"Saved to {file}"  # not wrapped, to be copied
        yield f"Hash {plan.hash[:16]}"
    else:
        yield "Not saved: name a file with --output."
    if missing := hazards.not_allowed(plan.hazards, allowed):
        yield from wrapped(f"To be allowed by name: {' '.join(f'--allow {name}' for name in missing)}", more="  ")


def as_json(made: Made, allowed: Sequence[str]) -> dict[str, Any]:
    """Return the plan, its hazards with what they mean, and what was passed by."""
    plan = made.plan
    return {
        "verdict": "fail" if hazards.not_allowed(plan.hazards, allowed) else "pass",
        "hash": plan.hash,
        "plan": dataclasses.asdict(plan),
        "hazards": [
            {
                "id": name,
                "effect": hazards.BY_ID[name].effect,
                "todo": hazards.BY_ID[name].todo,
                "allowed": name in allowed,
            }
            for name in plan.hazards
        ],
        "passed_by": {name: {"found": has, "wanted": wants} for name, (has, wants) in made.passed_by.items()},
    }
