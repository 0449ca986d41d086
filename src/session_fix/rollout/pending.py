"""What a database is held against: the revision that it notes, and those after it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from session_fix.rollout import objects
from session_fix.rollout.objects import Objects

Definitions = tuple[str | None, ...]  # of one object, the oldest first; None where it is not there


@dataclass(frozen=True, slots=True)
class Pending:
    """A revision that is not noted: the objects that it changes, and those of them that are not yet as it wants."""

    revision: str
    objects: tuple[str, ...]
    differ: tuple[str, ...]

    @property
    def told(self) -> str:
        """The revision, and in brackets what it would still change; nothing is known here of rows."""
        if not self.objects:
            return self.revision
        kinds = Counter(name.split()[0] for name in self.differ)
        listed = ", ".join(kind if number == 1 else f"{number} {kind}s" for kind, number in kinds.items())
        return f"{self.revision} ({listed or 'there already'})"


@dataclass(frozen=True, slots=True)
class Expected:
    """How each object may be defined in a database: as the revision leaves it that is noted, or one that is pending.

    So what is only behind differs in nothing, and neither does what somebody did by hand as a revision would. Where
    none of ours is noted, the first counts as noted, and ``is_noted`` is False.
    """

    is_noted: bool

    definitions: Mapping[str, Definitions]
    pending: tuple[Pending, ...]

    def may_be(self, name: str) -> Definitions:
        """Return the definitions that an object may have, the oldest first."""
        return self.definitions.get(name, (None,))

    def is_due(self, name: str) -> bool:
        """Say whether a revision that is noted has made an object."""
        return None not in self.may_be(name)

    def is_pending(self, revision: str) -> bool:
        """Say whether a revision is yet to be applied."""
        return any(one.revision == revision for one in self.pending)


def expected(
    versions: Sequence[str] | None, revisions: Sequence[str], found: Objects | None, roles: frozenset[str]
) -> Expected:
    """Return what a database is held against that has these versions noted, these objects and these roles."""
    is_noted = versions is not None and len(versions) == 1 and versions[0] in revisions
    noted = revisions.index(versions[0]) if versions and is_noted else 0
    schemas = [objects.of_revision(one, roles) for one in revisions[noted:]]
    return Expected(
        is_noted,
        _definitions(schemas),
        tuple(_pending(revision, schemas[number:], found) for number, revision in enumerate(revisions[noted + 1 :])),
    )


def _definitions(schemas: Sequence[Objects]) -> Mapping[str, Definitions]:
    names = {name: None for schema in schemas for name in schema}
    return {name: tuple(dict.fromkeys(schema.get(name) for schema in schemas)) for name in names}


def _pending(revision: str, schemas: Sequence[Objects], found: Objects | None) -> Pending:
    """Return what a revision is yet to do, from the schema before it, the one that it leaves, and later ones."""
    if found is None:
        return Pending(revision, (), ())
    before, *later = schemas
    may_be = _definitions(later)
    changed = tuple(objects.difference(later[0], before))
    return Pending(
        revision, changed, tuple(name for name in changed if found.get(name) not in may_be.get(name, (None,)))
    )
