"""Findings about the schema: what exists against what the migrations leave. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from session_fix.rollout import objects
from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Column, Constraint, Facts, Table
from session_fix.rollout.pending import Expected
from session_fix.rollout.wanted import COLUMNS, FOREIGN_KEY, INTERACTIONS, SESSIONS

PROBLEM, WARNING, INFO = Severity.PROBLEM, Severity.WARNING, Severity.INFO
NAMES_THE_KEY = "0010_foreign_key_validate"
INDEXES = (
    (
        f"index {INTERACTIONS}.ai_interactions_session_id_created_at_idx",
        *("schema/index-missing", "session_id", "deleting a session reads all interactions"),
    ),
    (
        f"index {SESSIONS}.ai_sessions_updated_at_idx",
        *("schema/index-missing/updated_at", "updated_at", "looking for old sessions reads all"),
    ),
)
KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table"}
# Source: pg_constraint.confdeltype, PostgreSQL manual, chapter "System Catalogs"
ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def findings(facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Yield what is missing, what differs, and what PostgreSQL itself does not vouch for."""
    for name, columns in COLUMNS.items():
        table = facts.tables.get(name)
        if table is None:
            yield _missing(name, facts.elsewhere)
        elif table.kind not in ("r", "p"):
            what = f"{name} is {KINDS.get(table.kind, 'no table')}, not a table"
            yield Finding(f"schema/not-a-table/{name}", PROBLEM, what, "The backend and the migrations need a table.")
        else:
            if table.kind == "p":
                yield Finding(
                    f"schema/partitioned/{name}", WARNING, f"{name} is partitioned; only its parent is judged"
                )
            yield from _columns(table, columns, expected)
            yield from _primary_key(table)
            yield from _foreign_key(table, expected) if name == INTERACTIONS else ()
            yield from _indexes(table, expected)
            yield from _unreliable(table, expected)
    if facts.referencing:
        yield Finding(
            "schema/referenced",
            INFO,
            f"other tables reference ours: {', '.join(facts.referencing)}",
            "Whoever deletes sessions or interactions has to think of them.",
            len(facts.referencing),
        )


def _missing(name: str, elsewhere: tuple[str, ...]) -> Finding:
    others = [other for other in elsewhere if other.split(".")[-1].strip('"') == name]
    todo = f"There is {', '.join(others)}: is this the right schema?" if others else ""  # else the version says more
    return Finding(f"schema/table-missing/{name}", PROBLEM, f"there is no table public.{name}", todo)


def _columns(table: Table, columns: Mapping[str, Column], expected: Expected) -> Iterator[Finding]:
    for name, column in columns.items():
        place = f"{table.name}.{name}"
        if name not in table.columns:
            what = f"{table.name} has no column {name}"
            yield Finding(f"schema/column-missing/{place}", PROBLEM, what, f"Add it, as {column.type}.")
        else:
            earlier = [_parsed(name, text) for text in expected.may_be(f"column {place}") if text]
            yield from _column(place, table.columns[name], column, earlier)
    for name in sorted(set(table.columns) - set(columns)):
        column, place = table.columns[name], f"{table.name}.{name}"
        if column.not_null and column.default is None:
            what = f"{table.name} has a column {name} that must be given and that the backend does not know"
            yield Finding(f"schema/column-extra/{place}", PROBLEM, what, "Give it a default, or drop NOT NULL.")
        else:
            yield Finding(f"schema/column-extra/{place}", INFO, f"{table.name} has a column {name} of its own")


def _parsed(name: str, definition: str) -> Column:
    """Return the column that a definition in the record of a schema stands for."""
    declared, _, default = definition.partition(" DEFAULT ")
    type_ = declared.removesuffix(" NOT NULL")
    return Column(name, type_, not_null=type_ != declared, default=default or None)


def _column(place: str, found: Column, wanted: Column, earlier: Iterable[Column]) -> Iterator[Finding]:
    """Yield how a column differs from the wanted one, and from what it may still be until then."""
    if found.type not in {wanted.type, *(one.type for one in earlier)}:
        what = f"{place} is {found.type}, where the migrations make it {wanted.type}"
        if objects.holds(found.type, wanted.type):
            todo = "It holds everything that the other does: it may stay."
            yield Finding(f"schema/type/{place}", WARNING, what, todo)
        else:
            yield Finding(
                f"schema/type/{place}", PROBLEM, what, "Change the type, after a look at what it would refuse."
            )
    if wanted.not_null and not found.not_null:
        todo = "Fill in or delete the rows without it, then SET NOT NULL."
        yield Finding(f"schema/nullable/{place}", PROBLEM, f"{place} may be NULL", todo)
    elif found.not_null and not wanted.not_null:
        if found.default is None:
            todo = "Give it a default, or drop NOT NULL: the backend need not name it."
            yield Finding(f"schema/not-null/{place}", PROBLEM, f"{place} must be given and has no default", todo)
        else:
            yield Finding(f"schema/not-null/{place}", INFO, f"{place} is NOT NULL, with a default")
    if found.default not in {wanted.default, *(one.default for one in earlier)}:
        what = f"{place} has {'a' if found.default else 'no'} default, unlike what the migrations leave"
        yield Finding(f"schema/default/{place}", INFO, what)


def _primary_key(table: Table) -> Iterator[Finding]:
    keys = [constraint.columns for constraint in table.constraints if constraint.kind == "p"]
    if keys != [("id",)]:
        what = f"{table.name} has {'no primary key' if not keys else 'a primary key on ' + ', '.join(keys[0])}"
        todo = "Nothing keeps ids apart, and ON CONFLICT (id) fails. Make it ADD PRIMARY KEY (id)."
        yield Finding(f"schema/primary-key/{table.name}", PROBLEM, what, todo)


def _foreign_key(table: Table, expected: Expected) -> Iterator[Finding]:
    place = f"{table.name}.session_id"
    keys = [one for one in table.constraints if one.kind == "f" and one.columns == FOREIGN_KEY.columns]
    right = [
        one for one in keys if (one.target, one.target_columns) == (FOREIGN_KEY.target, FOREIGN_KEY.target_columns)
    ]
    for one in [one for one in keys if one not in right]:
        what = f"{one.name} leads from {place} to {one.target}({', '.join(one.target_columns)})"
        yield Finding(
            f"schema/foreign-key-target/{one.name}", PROBLEM, what, f"It should lead to {FOREIGN_KEY.target}(id)."
        )
    if not right:
        what = f"{place} has no foreign key to {SESSIONS}: interactions may name sessions that are not there"
        todo = "ADD FOREIGN KEY ... NOT VALID first, then repair orphans, then VALIDATE CONSTRAINT."
        yield Finding("schema/foreign-key-missing", PROBLEM, what, todo)
    for one in right:
        yield from _as_wanted(one, stops=expected.is_pending(NAMES_THE_KEY))


def _as_wanted(one: Constraint, *, stops: bool) -> Iterator[Finding]:
    """Yield how a foreign key differs; ``stops`` where a revision that names it is yet to come."""
    if one.name != FOREIGN_KEY.name:
        what = f"the foreign key is called {one.name}, where the migrations call it {FOREIGN_KEY.name}"
        todo = f"RENAME CONSTRAINT: revision {NAMES_THE_KEY} names it and would not find it." if stops else ""
        yield Finding("schema/foreign-key-name", PROBLEM if stops else INFO, what, todo)
    actions = (one.on_delete, one.on_update)
    if actions != (FOREIGN_KEY.on_delete, FOREIGN_KEY.on_update):
        what = f"{one.name} is ON DELETE {ACTIONS[actions[0]]} ON UPDATE {ACTIONS[actions[1]]}, not NO ACTION"
        todo = "Before sessions are cleaned up: whoever deletes one deletes its interactions under CASCADE."
        yield Finding("schema/foreign-key-action", WARNING, what, todo)
    if one.deferrable:
        what = f"{one.name} is DEFERRABLE: it may refuse at COMMIT instead of at the statement"
        yield Finding("schema/foreign-key-deferrable", WARNING, what)


def _indexes(table: Table, expected: Expected) -> Iterator[Finding]:
    for name, ident, column, price in INDEXES:
        is_there = any(index.columns[:1] == (column,) and index.valid for index in table.indexes)
        if name.startswith(f"index {table.name}.") and not is_there:
            what = f"no index begins with {table.name}.{column}: {price}"
            todo = "CREATE INDEX CONCURRENTLY, alone in its transaction."
            yield Finding(ident, WARNING if expected.is_due(name) else INFO, what, todo)


def _unreliable(table: Table, expected: Expected) -> Iterator[Finding]:
    for one in table.constraints:
        if not one.enforced:
            what = f"{one.name} of {table.name} is NOT ENFORCED: nothing is checked"
            yield Finding(
                f"schema/not-enforced/{one.name}", PROBLEM, what, "ALTER CONSTRAINT ... ENFORCED, or replace it."
            )
        elif not one.valid and not _is_to_be_validated(f"constraint {table.name}.{one.name}", expected):
            what = f"{one.name} of {table.name} is NOT VALID: older rows were never checked"
            yield Finding(f"schema/not-valid/{one.name}", PROBLEM, what, "VALIDATE CONSTRAINT, once no row is refused.")
    for index in table.indexes:
        if not index.valid and index.building:
            what = f"the index {index.name} of {table.name} is invalid, and an index is being built right now"
            yield Finding(f"schema/index-invalid/{index.name}", INFO, what, "Audit again when that is finished.")
        elif not index.valid:
            what = f"the index {index.name} of {table.name} is invalid: it costs every write and serves no query"
            todo = "DROP INDEX CONCURRENTLY, then build it again; IF NOT EXISTS would pass over it."
            yield Finding(f"schema/index-invalid/{index.name}", PROBLEM, what, todo)
    for trigger in table.triggers:
        ident = f"schema/trigger-disabled/{table.name}/{trigger.constraint or trigger.name}"
        if trigger.constraint:
            what = f"a trigger on {table.name} that checks {trigger.constraint} is disabled: the key is not kept"
            yield Finding(ident, PROBLEM, what, "ALTER TABLE ... ENABLE TRIGGER ALL, then look for orphans.")
        else:
            what = f"the trigger {trigger.name} on {table.name} is disabled"
            yield Finding(ident, WARNING, what, "ENABLE TRIGGER, or drop it if nobody misses it.")


def _is_to_be_validated(name: str, expected: Expected) -> bool:
    """Say whether a revision has added a constraint that way, and the one that validates it is yet to come."""
    return any(text and text.endswith(" NOT VALID") for text in expected.may_be(name))
