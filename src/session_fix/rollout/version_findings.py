"""Findings about the Alembic version: whether it is one of ours, and whether the tables are those it promises. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Facts
from session_fix.rollout.pending import Expected
from session_fix.rollout.wanted import TABLES, VERSION_TABLE

PROBLEM = Severity.PROBLEM


def findings(facts: Facts, revisions: Sequence[str], expected: Expected) -> Iterator[Finding]:
    """Yield why the migrations cannot simply go on; ``revisions`` are all there are, the oldest first."""
    there = [name for name in TABLES if name in facts.tables]
    if not facts.has_versions:
        yield _never(there, expected)
    elif facts.versions is not None:
        yield from _noted(facts.versions, there, revisions, expected)


def _never(there: list[str], expected: Expected) -> Finding:
    if not there:
        todo = "session-fix migrate plan says how everything is created."
        return Finding("version/none", PROBLEM, f"there is no {VERSION_TABLE}, and no table of ours", todo)
    what = f"there is no {VERSION_TABLE}: Alembic has never been here, but {' and '.join(there)} exist"
    todo = "session-fix migrate adopt plans how they come under it; migrating would create the tables again."
    return Finding("version/none", PROBLEM, what, todo, evidence=_evidence(expected))


def _noted(
    versions: tuple[str, ...], there: list[str], revisions: Sequence[str], expected: Expected
) -> Iterator[Finding]:
    unknown = [version for version in versions if version not in revisions]
    if not versions:
        todo = "Find out which revision the tables equal, and stamp that."
        yield Finding("version/empty", PROBLEM, f"{VERSION_TABLE} has no row", todo)
    if len(versions) > 1:
        what = f"{VERSION_TABLE} has {len(versions)} rows: {', '.join(versions)}"
        todo = "Two histories were mixed. Delete the row that is not true of the tables."
        yield Finding("version/several", PROBLEM, what, todo, len(versions))
    if unknown:
        what = f"the version {', '.join(unknown)} is none of these migrations"
        todo = "Use the migrations that wrote it, or a newer session-fix. Stamping over it hides what was done."
        yield Finding("version/unknown", PROBLEM, what, todo, len(unknown))
    if len(versions) == 1 and not unknown:
        if missing := [name for name in TABLES if name not in there]:
            what = f"the version is {versions[0]}, but {' and '.join(missing)} are not there"
            todo = "It was stamped, or the tables were dropped since: a migration would do nothing about it."
            yield Finding("version/untrue", PROBLEM, what, todo)
        if pending := expected.pending:
            what = f"the version is {versions[0]}; still to be applied: {', '.join(one.told for one in pending)}"
            todo = "session-fix migrate plan says how they are applied."
            yield Finding("version/behind", PROBLEM, what, todo, len(pending), evidence=_evidence(expected))


def _evidence(expected: Expected) -> dict[str, list[str]]:
    """Return, by revision, the objects that it would still change."""
    return {one.revision: list(one.differ) for one in expected.pending}
