"""What becomes of keys, indexes, checks, policies and rights of hand-made tables when they are adopted. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from session_fix.rollout import objects
from session_fix.rollout.adoption_columns import set_not_null
from session_fix.rollout.found import Constraint, Facts, Table
from session_fix.rollout.objects import Objects
from session_fix.rollout.plan import Kind, Step
from session_fix.rollout.settlement import How, Settlement, quoted, step
from session_fix.rollout.wanted import FOREIGN_KEY, INTERACTIONS, SESSIONS

INDEX_NAME = re.compile(r"(?<=INDEX )\S+|(?<=INDEX )\"[^\"]+\"")
ADD_KEY = f"ADD CONSTRAINT {FOREIGN_KEY.name} FOREIGN KEY (session_id) REFERENCES public.{SESSIONS} (id) NOT VALID"
REPLACED = "It is replaced by one that holds for new rows at once; a revision checks older rows."


def settlements(facts: Facts, found: Objects) -> Iterator[Settlement]:
    """Yield what becomes of whatever is no column, where it is not as the first revision makes it."""
    for table in facts.tables.values():
        yield from _primary_key(facts, table)
    if interactions := facts.tables.get(INTERACTIONS):
        yield from _foreign_keys(facts, interactions)
    head = objects.of_revision(objects.revisions()[-1], facts.roles)
    for name, definition in sorted(found.items()):
        yield from _other(name, definition, head, facts)


def _alter(table: str) -> str:
    return f"ALTER TABLE public.{table}"


def _renamed(table: str, old: str, new: str) -> tuple[Step, ...]:
    made = f"{_alter(table)} RENAME CONSTRAINT {quoted(old)} TO {new}"
    return (step(f"{new}-name", f"{old} is called {new}.", made),)


def _primary_key(facts: Facts, table: Table) -> Iterator[Settlement]:
    key, name = f"{table.name}_pkey", f"constraint {table.name}.{table.name}_pkey"
    keys = [one for one in table.constraints if one.kind == "p"]
    if not keys:
        refused = [
            facts.counts.get(f"rows/{what}") for what in (f"duplicate-ids/{table.name}", f"null/{table.name}.id")
        ]
        if number := sum(count.number for count in refused if count):
            why = f"There is no primary key; rows that have no id or share it: {number:,}. Tell them apart first."
            yield Settlement(name, How.REFUSED, why)
        else:
            yield Settlement(name, How.CHANGED, "There is no primary key; it is made.", tuple(_made(table, key)))
    elif keys[0].columns != ("id",):
        why = f"The primary key is {', '.join(keys[0].columns)}; the backend needs one on id alone."
        yield Settlement(name, How.REFUSED, why)
    elif keys[0].name != key:
        why = f"The primary key is called {keys[0].name}."
        yield Settlement(name, How.CHANGED, why, _renamed(table.name, keys[0].name, key))


def _made(table: Table, key: str) -> Iterator[Step]:
    if "id" in table.columns and not table.columns["id"].not_null:
        yield from set_not_null(table, "id")
    made = f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {key} ON public.{table.name} (id)"
    yield step(f"{key}-index", f"Build the index of {key}.", made, kind=Kind.CONCURRENTLY)
    made = f"{_alter(table.name)} ADD CONSTRAINT {key} PRIMARY KEY USING INDEX {key}"
    yield step(key, f"id is the primary key of {table.name}.", made)


def _foreign_keys(facts: Facts, table: Table) -> Iterator[Settlement]:
    name = f"constraint {table.name}.{FOREIGN_KEY.name}"
    keys = [one for one in table.constraints if one.kind == "f" and one.columns == FOREIGN_KEY.columns]
    right = [
        one for one in keys if (one.target, one.target_columns) == (FOREIGN_KEY.target, FOREIGN_KEY.target_columns)
    ]
    for one in keys:
        if one not in right:
            yield Settlement(name, How.REFUSED, f"{one.name} leads to {one.target}({', '.join(one.target_columns)}).")
    if not right:
        yield Settlement(name, How.LATER, "It is missing; a revision adds it, not valid at first.")
    elif _converted(facts):
        dropped = f"{_alter(table.name)} {_drops(right)}"
        made = (step("foreign-key-dropped", "The foreign key goes while its columns change type.", dropped),)
        yield Settlement(name, How.CHANGED, "It goes while its columns change type; a revision adds it again.", made)
    elif not all(map(_proper, right)):
        made = (step(FOREIGN_KEY.name, "Replace the foreign key.", f"{_alter(table.name)} {_drops(right)}, {ADD_KEY}"),)
        yield Settlement(name, How.CHANGED, f"{right[0].name} differs from what is wanted. {REPLACED}", made)
    elif FOREIGN_KEY.name not in {one.name for one in right}:
        why = f"The foreign key is called {right[0].name}."
        yield Settlement(name, How.CHANGED, why, _renamed(table.name, right[0].name, FOREIGN_KEY.name))
    elif not right[0].valid:
        yield Settlement(name, How.LATER, "It is NOT VALID; a revision checks older rows.")


def _converted(facts: Facts) -> bool:
    """Say whether one of the columns that the key joins changes its type."""
    ends = ((SESSIONS, "id"), (INTERACTIONS, "session_id"))
    there = [facts.tables[table].columns.get(column) for table, column in ends if table in facts.tables]
    return any(column and column.type != "uuid" for column in there)


def _proper(one: Constraint) -> bool:
    return (one.on_delete, one.on_update, one.deferrable, one.enforced) == ("a", "a", False, True)


def _drops(keys: list[Constraint]) -> str:
    return ", ".join(f"DROP CONSTRAINT {quoted(one.name)}" for one in keys)


def _other(name: str, definition: str, head: Objects, facts: Facts) -> Iterator[Settlement]:
    """Yield what becomes of an object that is neither a column nor a key of ours."""
    kind, _, place = name.partition(" ")
    table, _, own = place.partition(".")
    if name.startswith("trigger of "):
        why = "It is disabled, so the foreign key is not kept. A superuser has to ALTER TABLE ... ENABLE TRIGGER ALL."
        yield Settlement(name, How.REFUSED, why)
    elif kind == "constraint" and not definition.startswith(("PRIMARY KEY", "FOREIGN KEY (session_id)")):
        yield from _constraint(name, definition, head)
    elif kind == "index" and own not in {constraint.name for constraint in facts.tables[table].constraints}:
        yield from _index(name, definition, head)
    elif kind in ("trigger", "policy", "grant") and head.get(name) != definition:
        later = name in head or kind == "grant"
        yield Settlement(name, How.LATER if later else How.KEPT, "A revision sets it." if later else "It is your own.")


def _constraint(name: str, definition: str, head: Objects) -> Iterator[Settlement]:
    table, _, own = name.removeprefix("constraint ").partition(".")
    if name not in head:
        yield Settlement(name, How.KEPT, "It is your own.")
    elif definition.removesuffix(" NOT VALID") == head[name]:
        dropped = step(
            f"{own}-dropped", f"{own} goes, for its revision to add.", f"{_alter(table)} DROP CONSTRAINT {own}"
        )
        yield Settlement(name, How.CHANGED, "It is dropped, for its revision to add it again.", (dropped,))
    else:
        yield Settlement(name, How.REFUSED, f"It is {definition}, where a revision makes {head[name]}. Rename yours.")


def _index(name: str, definition: str, head: Objects) -> Iterator[Settlement]:
    own, valid = name.rpartition(".")[2], definition.removesuffix(" INVALID")
    same = [
        wanted for wanted, text in head.items() if wanted.startswith("index ") and _nameless(text) == _nameless(valid)
    ]
    if name in head:
        if head[name] == valid:
            yield Settlement(name, How.LATER, "It is there already." if valid == definition else "It is built anew.")
        else:
            yield Settlement(
                name, How.REFUSED, f"It is {definition}, where a revision makes {head[name]}. Rename yours."
            )
    elif same and valid == definition:
        new = same[0].rpartition(".")[2]
        made = f"ALTER INDEX public.{quoted(own)} RENAME TO {new}"
        why = f"It is what a revision would build as {new}, and is called that."
        yield Settlement(name, How.CHANGED, why, (step(f"{new}-name", f"{own} is called {new}.", made),))
    elif valid != definition:
        yield Settlement(
            name, How.KEPT, "It is invalid: it costs every write and serves no query. Drop it CONCURRENTLY."
        )
    else:
        yield Settlement(name, How.KEPT, "It is your own.")


def _nameless(definition: str) -> str:
    return INDEX_NAME.sub("", definition, count=1)
