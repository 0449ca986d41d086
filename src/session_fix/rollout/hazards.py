"""What an operator has to allow by name before a step is carried out: one record each. Pure.

Few, and none for what happens in each rollout and harms nobody: who has to allow everything reads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from session_fix.errors import UsageError
from session_fix.rollout import estimate, predict
from session_fix.rollout.plan import Kind, Step
from session_fix.rollout.server_findings import UTC
from session_fix.rollout.standing import Standing

LONG_S = 60  # a transaction that has been open for so long may stay open
BROWSERS, BACKEND = ("anon", "authenticated"), "service_role"
REVOKES = re.compile(r"\bREVOKE\b.*?\bFROM (\w+)")
GRANTS = re.compile(r"\bGRANT\b.*? ON (?!SCHEMA).*?\bTO (\w+)")
SECURES = re.compile(r"ALTER TABLE public\.(\w+) ENABLE ROW LEVEL SECURITY")
DROPS = re.compile(
    r"\bDROP TABLE (?!(?:IF EXISTS )?pg_temp\.)|\b(?:DROP COLUMN|TRUNCATE)\b"
    r"|\bDELETE FROM (?!pg_temp\.|alembic_version)"
)
CHANGES = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM) public\.")
MOMENTS = re.compile(r"ALTER COLUMN \w+ TYPE timestamp")
MERGES = "0007_merge_phantom_sessions"


@dataclass(frozen=True, slots=True)
class Hazard:
    """One kind. ``holds`` says whether a step has it; ``effect`` what happens then, ``todo`` what to do about it."""

    id: str
    effect: str
    todo: str
    holds: Callable[[Step, Standing], bool]


def _rewrites(step: Step, _: Standing) -> bool:
    return bool(step.rewrites)


def _locks_long(step: Step, _: Standing) -> bool:
    held = {lock.relation for lock in step.measured or step.predicted if lock.mode in predict.STOPS_WRITERS}
    return bool(held & {*step.scans, *step.rewrites})


def _changes_rows(step: Step, standing: Standing) -> bool:
    changes = step.kind is Kind.REPAIR or CHANGES.search(" ".join(step.statements))
    return bool(changes and standing.tables) and estimate.counted(step, standing) != 0


def _revokes_from_browsers(step: Step, standing: Standing) -> bool:
    return any(_loses(step, role, standing) or _secured(step, role, standing) for role in BROWSERS)


def _revokes_from_backend(step: Step, standing: Standing) -> bool:
    secured = {table for text in step.statements for table in SECURES.findall(text)}
    return _loses(step, BACKEND, standing) or bool(secured and standing.others)


def _loses(step: Step, role: str, standing: Standing) -> bool:
    """Say whether a role has rights now, and the step takes them away without giving any back."""
    text = " ".join(step.statements)
    revoked = role in REVOKES.findall(text) and role not in GRANTS.findall(text)
    return revoked and any(rights.get(role) for rights in standing.rights.values())


def _secured(step: Step, role: str, standing: Standing) -> bool:
    tables = {table for text in step.statements for table in SECURES.findall(text)}
    return any(standing.rights.get(table, {}).get(role) for table in tables)


def _drops(step: Step, standing: Standing) -> bool:
    return bool(standing.tables) and step.id != MERGES and any(map(DROPS.search, step.statements))


def _not_utc(step: Step, standing: Standing) -> bool:
    converts = standing.tables and any(map(MOMENTS.search, step.statements))
    return bool(converts and time_zones(standing))


def _waits(step: Step, standing: Standing) -> bool:
    transactions = standing.facts.transactions if standing.facts else ()
    return step.kind is Kind.CONCURRENTLY and any(one.age_s >= LONG_S for one in transactions)


HAZARDS = (
    Hazard(
        "rewrites-table",
        "Every row of the table, or every entry of an index, is written anew while nobody can read or write it.",
        "Choose an hour without traffic, or drop the index first and build it again afterwards, CONCURRENTLY.",
        _rewrites,
    ),
    Hazard(
        "long-lock",
        "The table is read through under a lock that stops writers: they wait as long as the estimate says.",
        "Choose an hour without traffic, or add what is checked as NOT VALID and validate it afterwards.",
        _locks_long,
    ),
    Hazard(
        "changes-rows",
        "Sessions are merged or created: what the bug left behind is repaired. No interaction is changed.",
        "Look at `session-fix audit` for how many, and take a backup first.",
        _changes_rows,
    ),
    Hazard(
        "revokes-browser-access",
        "anon or authenticated may do something with these tables now, and no longer afterwards.",
        "Make sure that no browser reads them with the public key: what it asks then is refused with 42501.",
        _revokes_from_browsers,
    ),
    Hazard(
        "revokes-backend-access",
        "service_role, or a role that was granted something, may no longer read or write afterwards.",
        "Stop the backend first, or give its role BYPASSRLS or a policy of its own.",
        _revokes_from_backend,
    ),
    Hazard(
        "drops-data",
        "Rows or columns are lost, and going the other way does not bring them back.",
        "Take a backup, and try to restore it.",
        _drops,
    ),
    Hazard(
        "times-not-utc",
        "Stored times are taken for UTC, but the TimeZone of a role that writes is another: where the server filled "
        "them in, they are local time and come out shifted.",
        "Compare the newest created_at with now(). Where they differ by hours, shift the rows before.",
        _not_utc,
    ),
    Hazard(
        "waits-for-old-transactions",
        f"A transaction has been open for {LONG_S} seconds or more; building or dropping the index waits for its end.",
        "End it, or wait: `session-fix audit` names it.",
        _waits,
    ),
)
BY_ID = {hazard.id: hazard for hazard in HAZARDS}


def of(step: Step, standing: Standing) -> tuple[str, ...]:
    """Return the ids of a step's hazards."""
    return tuple(hazard.id for hazard in HAZARDS if hazard.holds(step, standing))


def check(allowed: Iterable[str]) -> None:
    """Raise ``UsageError`` where a hazard that is allowed is none."""
    if unknown := [name for name in allowed if name not in BY_ID]:
        raise UsageError(f"There is no hazard {', '.join(unknown)}. There are: {', '.join(BY_ID)}.")


def not_allowed(found: Iterable[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """Return the hazards of a plan that nobody has allowed."""
    return tuple(hazard for hazard in found if hazard not in allowed)


def time_zones(standing: Standing) -> tuple[str, ...]:
    """Return whose TimeZone is not UTC, in words."""
    zones = standing.facts.time_zones if standing.facts else {}
    return tuple(f"{whose}: {zone}" for whose, zone in zones.items() if zone.lower() not in UTC)
