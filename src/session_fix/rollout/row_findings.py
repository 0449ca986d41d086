"""Findings about rows, made from counts alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Count, Facts
from session_fix.rollout.rows import BACKUP, ROW_CHECKS
from session_fix.rollout.wanted import INTERACTIONS, SESSIONS, TABLES

PROBLEM, WARNING, INFO = Severity.PROBLEM, Severity.WARNING, Severity.INFO


def findings(facts: Facts) -> Iterator[Finding]:
    """Yield what the counts say, and how large the tables are."""
    counts = facts.counts
    yield from _orphans(counts)
    yield from _phantoms(counts)
    for check in ROW_CHECKS:
        if number := _number(counts, check.name):
            exact = counts[check.name].exact
            yield Finding(check.name, PROBLEM, check.what, check.todo, number, exact)
    for table in TABLES:
        if number := _number(counts, name := f"rows/duplicate-ids/{table}"):
            what = f"rows of {table} share their id with another"
            yield Finding(
                name, PROBLEM, what, f"Tell them apart or delete them; then ADD PRIMARY KEY. {BACKUP}", number
            )
    yield from _sizes(facts)


def _number(counts: Mapping[str, Count], name: str) -> int:
    return counts[name].number if name in counts else 0


def _orphans(counts: Mapping[str, Count]) -> Iterator[Finding]:
    if number := _number(counts, "rows/orphans"):
        sessions, known = (_number(counts, f"rows/orphans/{part}") for part in ("sessions", "with-phantoms"))
        exact = counts["rows/orphans"].exact
        what = f"{INTERACTIONS} name sessions that are not there{f', {sessions:,} of them' if exact else ''}"
        todo = (
            f"Insert the sessions they name. For {known:,} of these interactions there are phantoms, which say when "
            f"the session began; for the others there is nothing else. Nothing need be deleted. {BACKUP}"
        )
        evidence = {"sessions": sessions, "with_phantoms": known}
        yield Finding("rows/orphans", PROBLEM, what, todo, number, exact, evidence)


def _phantoms(counts: Mapping[str, Count]) -> Iterator[Finding]:
    if number := _number(counts, "rows/phantoms"):
        exact = counts["rows/phantoms"].exact
        names = ("certain", "sessions", "stored")
        evidence = {name: _number(counts, f"rows/phantoms/{name}") for name in names} if exact else {}
        what = f"{SESSIONS} look like phantoms: never touched, and their user_id is a UUID"
        if exact:
            what = (
                f"{SESSIONS} are phantoms of the broken create_session(): never used, with the id of one of "
                f"{evidence['sessions']:,} sessions in user_id. Certain of {evidence['certain']:,}, by what else names "
                "that id; the others by their shape"
            )
        todo = (
            f"Fix the backend first, or more will come; then turn them back into the sessions they stand for. {BACKUP}"
        )
        yield Finding("rows/phantoms", PROBLEM, what, todo, number, exact, evidence)
    if number := _number(counts, "rows/several-for-one-session"):
        what = "sessions stand in several rows each, one for each call of the broken create_session()"
        yield Finding("rows/several-for-one-session", WARNING, what, "One row remains of each.", number)
    if number := _number(counts, "rows/empty-sessions"):
        what = f"{SESSIONS} were never used, and are no phantoms"
        yield Finding(
            "rows/empty-sessions", INFO, what, "Delete old ones, if at all: a new one may yet be used.", number
        )


def _sizes(facts: Facts) -> Iterator[Finding]:
    for name, table in facts.tables.items():
        counted = facts.counts.get(f"rows/all/{name}")
        exact = bool(counted and counted.exact)
        rows = counted.number if counted else table.rows
        size = "of unknown size" if table.total_bytes is None else f"{table.total_bytes / 1e6:,.1f} MB with its indexes"
        guess = "never estimated" if table.rows is None else f"{table.rows:,} by the planner's estimate"
        what = f"rows are in {name}, {size}; {guess}"
        evidence = {"bytes": table.total_bytes, "heap_bytes": table.heap_bytes, "estimate": table.rows}
        yield Finding(f"size/{name}", INFO, what, "", rows, exact, evidence)
