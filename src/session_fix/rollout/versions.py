"""Which revision a database is at, and which one its schema looks like. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from session_fix.errors import RolloutRefusedError, UsageError
from session_fix.rollout import objects, options, revisions
from session_fix.rollout.standing import Standing
from session_fix.rollout.wanted import VERSION_TABLE

HEAD = "head"
Differences = Mapping[str, tuple[str | None, str | None]]  # as found, as wanted; None where there is none


@dataclass(frozen=True, slots=True)
class Likeness:
    """The revisions that a schema is nearest to, the oldest first, "" for an empty one, and what differs from them."""

    revisions: tuple[str, ...]
    differences: Differences

    def __str__(self) -> str:
        """Say it in words."""
        first, last = (
            name or "no revision (neither table is there)" for name in (self.revisions[0], self.revisions[-1])
        )
        which = first if first == last else f"{first} to {last}, which leave the same"
        if not self.differences:
            return f"equals {which}"
        return f"is nearest to {which}; {len(self.differences)} objects differ"


def promised(version: str, roles: frozenset[str]) -> objects.Objects:
    """Return the schema of a version, "" for none, on a server with these of the data API's roles."""
    return objects.of_revision(version, roles) if version else {}


def promised_with_options(version: str, roles: frozenset[str], found: objects.Objects) -> objects.Objects:
    """Return the schema of a version, at head with the options that are there."""
    schema = promised(version, roles)
    return {**schema, **options.added(found)} if version == objects.revisions()[-1] else schema


def likeness(found: objects.Objects, roles: frozenset[str]) -> Likeness:
    """Return the revisions that the schema is nearest to."""
    by_revision = {name: objects.difference(found, promised(name, roles)) for name in ("", *objects.revisions())}
    fewest = min(map(len, by_revision.values()))
    alike = [name for name, differences in by_revision.items() if len(differences) == fewest]
    return Likeness(tuple(alike), by_revision[alike[0]])


def current(standing: Standing) -> str:
    """Return the version of a database, "" for one that has neither a version nor one of our tables.

    Raises ``RolloutRefusedError`` where it cannot be told: none or several, or one that is not ours.
    """
    noted = standing.binding.versions
    if not noted and not standing.tables:
        return ""
    if len(noted) == 1 and noted[0] in objects.revisions():
        return noted[0]
    like = likeness(standing.objects, standing.roles)
    raise RolloutRefusedError(
        f"{_what(standing)} The schema (fingerprint {standing.binding.fingerprint}) {like}. {_todo(standing)} "
        "Nothing was changed."
    )


def _what(standing: Standing) -> str:
    noted, known = standing.binding.versions, objects.revisions()
    if not standing.has_versions:
        return f"There is no table {VERSION_TABLE}: no migration has ever been noted here, but tables of ours exist."
    if not noted:
        return f"{VERSION_TABLE} has no row, but tables of ours exist."
    unknown = [version for version in noted if version not in known]
    if len(noted) > 1:
        several = f"{VERSION_TABLE} has {len(noted)} rows: {', '.join(noted)}."
        return f"{several} Not of these migrations: {', '.join(unknown)}." if unknown else several
    return (
        f"The version {unknown[0]} is none of these migrations: it was written by others, or by a newer session-fix. "
        "Alembic says of it that it can't locate the revision."
    )


def _todo(standing: Standing) -> str:
    if not standing.binding.versions:
        return "`session-fix migrate adopt` compares the two and notes the revision."
    if len(standing.binding.versions) > 1:
        return "Two histories were mixed: find out which row is true of the tables, and delete the other."
    return "Use the migrations that wrote it; stamping over it would hide what was done."


def named(name: str) -> str:
    """Return the revision of that name, of which the beginning is enough; ``head`` is the newest, ``base`` is "".

    Raises ``UsageError``.
    """
    known = objects.revisions()
    if name == HEAD:
        return known[-1]
    if name == revisions.BASE:
        return ""
    if name in known:
        return name
    match [one for one in known if name and one.startswith(name)]:
        case [only]:
            return only
        case []:
            raise UsageError(f"There is no revision {name}. There are: {', '.join(known)}.")
        case several:
            raise UsageError(f"{name} is the beginning of several revisions: {', '.join(several)}.")
