"""How a schema that somebody made by hand comes under Alembic: every difference, and the steps that settle it. Pure.

Nothing that holds more than the migrations want is narrowed, and no row is dropped. What a later revision does anyway
is left to it: the steps here bring the schema to where ``0001_baseline`` could have left it, or later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from session_fix.rollout import adoption_columns, adoption_keys, objects, revisions
from session_fix.rollout.found import Facts
from session_fix.rollout.objects import Objects
from session_fix.rollout.plan import STAMP, Kind, Step
from session_fix.rollout.settlement import MOMENTARY_MS, How, Settlement
from session_fix.rollout.wanted import TABLES

DROPS_FOREIGN_KEY = "adopt-foreign-key-dropped"


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is to be done: the revision that is noted at the end of ``steps``, and each difference with its fate."""

    revision: str
    settlements: tuple[Settlement, ...]
    steps: tuple[Step, ...]

    @property
    def in_the_way(self) -> tuple[Settlement, ...]:
        """What has to be settled by hand first."""
        return tuple(one for one in self.settlements if one.how is How.REFUSED)


class State(StrEnum):
    """What there is to adopt."""

    NOTHING = "nothing"  # no table of ours: the migrations create them
    ADOPTED = "adopted"  # Alembic has noted a version
    HAND_MADE = "hand-made"


def state(facts: Facts) -> State:
    """Return whether there is something to adopt."""
    if facts.versions:
        return State.ADOPTED
    return State.HAND_MADE if any(name in facts.tables for name in TABLES) else State.NOTHING


def adoption(facts: Facts, found: Objects, uncastable: Mapping[str, int]) -> Adoption:
    """Return how the schema is adopted. ``uncastable`` counts, by column, rows that a change of type would refuse."""
    for revision in reversed(objects.revisions()):
        if not objects.difference(found, objects.of_revision(revision, facts.roles), exact=False):
            return Adoption(revision, (), (_stamp(revision),))
    settlements = tuple(_settlements(facts, found, uncastable))
    base = objects.revisions()[0]
    steps = [step for one in settlements for step in one.steps]
    steps.sort(key=lambda one: one.id != DROPS_FOREIGN_KEY)  # before its columns change type
    return Adoption(base, settlements, (*steps, _stamp(base)))


def _settlements(facts: Facts, found: Objects, uncastable: Mapping[str, int]) -> Iterator[Settlement]:
    for name in TABLES:
        if (table := facts.tables.get(name)) is None:
            yield adoption_columns.missing_table(name)
        elif table.kind != "r":
            yield Settlement(f"table {name}", How.REFUSED, f"{name} is no ordinary table; the backend needs one.")
        else:
            yield from adoption_columns.settlements(table, facts.counts, uncastable)
    yield from adoption_keys.settlements(facts, found)


def _stamp(revision: str) -> Step:
    """Return the step that notes the revision: what its own script does to the version table."""
    first = revisions.chain()[0]
    notes = tuple(
        note.replace(first.id, revision).replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ")
        for note in first.up.notes
    )
    return Step(
        id=STAMP,
        title=f"Alembic notes that the schema is that of {revision}.",
        kind=Kind.TRANSACTION,
        before="",
        after=revision,
        notes=notes,
        lock_timeout_ms=MOMENTARY_MS,
        resumes="It is done together with its note, or not at all.",
    )
