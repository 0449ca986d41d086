"""Findings about checks, triggers and indexes by their names: what is gone, and what is in a revision's way. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Facts
from session_fix.rollout.pending import Expected

PROBLEM, WARNING = Severity.PROBLEM, Severity.WARNING
CHECK = "CHECK "
MARKS = (" NOT VALID", " NOT ENFORCED", " INVALID", " DISABLED")  # each is a finding of its own


def findings(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Yield what is not as a revision left it, and what one that is pending would stop at or pass over."""
    if facts.objects is None:
        return
    for name, may_be in expected.definitions.items():
        kind, _, place = name.partition(" ")
        table, found = facts.tables.get(place.partition(".")[0]), facts.objects.get(name)
        if table and table.kind in ("r", "p"):
            if kind == "constraint" and any(text and text.startswith(CHECK) for text in may_be):
                yield from _check(place, found, expected)
            elif kind == "trigger" and expected.is_due(name):
                yield from _changed("trigger", place, found, expected)
            elif kind == "index" and found is not None and expected.is_noted and not expected.is_due(name):
                yield from _index_in_the_way(place, found, expected)


def _check(place: str, found: str | None, expected: Expected) -> Iterator[Finding]:
    if expected.is_due(f"constraint {place}"):
        yield from _changed("check", place, found, expected)
    elif found is not None and expected.is_noted:
        what = f"{place} is there already: the revision that adds it would stop at it"
        yield Finding(f"schema/in-the-way/{place}", PROBLEM, what, "Drop it; the revision adds it without a scan.")


def _changed(word: str, place: str, found: str | None, expected: Expected) -> Iterator[Finding]:
    kind = "constraint" if word == "check" else word
    todo = "Make it again as its revision does, or find out who wanted it so."
    if found is None:
        what = f"the {word} {place} is gone: a revision had made it"
        yield Finding(f"schema/{word}-missing/{place}", WARNING, what, todo)
    elif _bare(found) not in {_bare(text) for text in expected.may_be(f"{kind} {place}") if text}:
        what = f"the {word} {place} is not as the revision left it that made it"
        yield Finding(f"schema/{word}-differs/{place}", WARNING, what, todo)


def _bare(definition: str) -> str:
    """Return a definition without what is found elsewhere."""
    for mark in MARKS:
        definition = definition.replace(mark, "")
    return definition


def _index_in_the_way(place: str, found: str, expected: Expected) -> Iterator[Finding]:
    if _bare(found) not in expected.may_be(f"index {place}"):
        what = f"an index has the name {place}, and is another one: the revision that builds it would pass over it"
        yield Finding(f"schema/in-the-way/{place}", PROBLEM, what, "Rename it or drop it.")
