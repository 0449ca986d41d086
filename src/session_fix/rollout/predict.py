"""What a statement does to tables, told from its text: locks, whole reads, rewrites. Pure.

What a step really does is measured (``measure.py``); this stands beside it, and alone where nothing could be measured.
Rules are for the statements that migrations of these two tables are made of, not for SQL at large.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from session_fix.rollout.objects import Objects
from session_fix.rollout.plan import Lock
from session_fix.rollout.wanted import FOREIGN_KEY, INTERACTIONS, SESSIONS, TABLES

# The weakest first. Source: PostgreSQL manual, "Explicit Locking", table "Conflicting Lock Modes".
MODES = (
    *("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE"),
    *("SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"),
)
STOPS_WRITERS = frozenset(MODES[MODES.index("SHARE") :])  # conflicts with ROW EXCLUSIVE, which each write takes
VERSION_18 = 180_000
MANUAL = "PostgreSQL manual, Explicit Locking"
MEASURED = "measured with versions 16 and 18"
KEY = f"constraint {INTERACTIONS}.{FOREIGN_KEY.name}"
TO_SESSIONS = re.compile(rf"FOREIGN KEY \(session_id\) REFERENCES (public\.)?{SESSIONS}\b")
SAME_BYTES = frozenset({"timestamp", "timestamp without time zone", "timestamptz", "timestamp with time zone"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What a statement that ``pattern`` finds does: the lock on the tables in its groups, and whether it reads them.

    ``parent`` is the lock on the table that a foreign key leads to, ``child`` that on the one that it comes from.
    """

    id: str
    pattern: re.Pattern[str]
    mode: str
    source: str
    scans: bool = False
    parent: str = ""
    child: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """What is there before a statement; ``objects`` as ``objects.read()`` names them."""

    objects: Objects = field(default_factory=dict)
    roles: frozenset[str] = frozenset()
    server_version: int = VERSION_18


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a step does to tables that were there before it; relations with their schema, the strongest lock of each."""

    locks: tuple[Lock, ...] = ()
    scans: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()


def _rule(
    name: str, pattern: str, mode: str, source: str = MANUAL, *, scans: bool = False, parent: str = "", child: str = ""
) -> Rule:
    text = pattern.replace("{table}", r"(?:ONLY )?([\w.]+)")
    return Rule(name, re.compile(text, re.IGNORECASE), mode, source, scans, parent, child)


RULES = (
    _rule("alter-table", "ALTER TABLE {table} (?!VALIDATE|ADD CONSTRAINT \\w+ FOREIGN KEY)", "ACCESS EXCLUSIVE"),
    _rule("check", "ALTER TABLE {table} ADD CONSTRAINT \\w+ CHECK (?!.*NOT VALID)", "ACCESS EXCLUSIVE", scans=True),
    _rule("set-not-null", "ALTER TABLE {table} .*SET NOT NULL", "ACCESS EXCLUSIVE", scans=True),
    _rule(
        *("foreign-key", "ALTER TABLE {table} ADD CONSTRAINT \\w+ FOREIGN KEY .*NOT VALID", "SHARE ROW EXCLUSIVE"),
        parent="SHARE ROW EXCLUSIVE",
    ),
    _rule(
        *("foreign-key-checked", "ALTER TABLE {table} ADD CONSTRAINT \\w+ FOREIGN KEY (?!.*NOT VALID)"),
        *("SHARE ROW EXCLUSIVE",),
        scans=True,
        parent="SHARE ROW EXCLUSIVE",
    ),
    _rule("validate", "ALTER TABLE {table} VALIDATE CONSTRAINT", "SHARE UPDATE EXCLUSIVE"),
    _rule("index", "CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:\\w+ )?ON {table}", "SHARE", scans=True),
    _rule(
        *("index-concurrently", "CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?\\w+ ON {table}"),
        *("SHARE UPDATE EXCLUSIVE",),
        scans=True,
    ),
    _rule("trigger", "CREATE (?:CONSTRAINT )?TRIGGER \\w+ .*?\\bON {table}", "SHARE ROW EXCLUSIVE"),
    _rule("policy", "(?:CREATE|ALTER) POLICY \\w+ ON {table}", "ACCESS EXCLUSIVE", MEASURED),
    _rule("drop-table", "DROP TABLE (?:IF EXISTS )?{table}", "ACCESS EXCLUSIVE", parent="ACCESS EXCLUSIVE"),
    _rule("truncate", "TRUNCATE (?:TABLE )?{table}", "ACCESS EXCLUSIVE"),
    _rule("insert", "INSERT INTO {table}", "ROW EXCLUSIVE"),
    _rule("update", "\\bUPDATE {table} SET", "ROW EXCLUSIVE", scans=True),
    # Whoever deletes a session makes the server look for interactions that name it, and lock them.
    _rule("delete", "DELETE FROM {table}", "ROW EXCLUSIVE", scans=True, child="ROW SHARE"),
    _rule("select", "(?<!DELETE )\\b(?:FROM|JOIN|USING) {table}", "ACCESS SHARE", scans=True),
    _rule(
        "select-and-lock", "FROM {table}(?=[^;]* FOR (?:(?:NO KEY )?UPDATE|(?:KEY )?SHARE))", "ROW SHARE", scans=True
    ),
)
GRANT = re.compile(r"\b(?:GRANT|REVOKE)\s[\w, ]+\sON\s(?!SCHEMA)((?:[\w.]+(?:,\s*)?)+)\s(?:TO|FROM)\b", re.IGNORECASE)
DROPS_PART = re.compile(r"DROP (TRIGGER|POLICY) (?:IF EXISTS )?(\w+) ON ([\w.]+)", re.IGNORECASE)
DROPS_INDEX = re.compile(r"DROP INDEX( CONCURRENTLY)? (?:IF EXISTS )?(?:\w+\.)?(\w+)", re.IGNORECASE)
VALIDATES = re.compile(r"VALIDATE CONSTRAINT (\w+)", re.IGNORECASE)
TYPE = re.compile(r"ALTER COLUMN (\w+) TYPE ([\w ]+?(?:\(\d+\))?)(?=,|$| USING)", re.IGNORECASE)
WHERE_ROLE = re.compile(r"IF to_regrole\('(\w+)'\) IS NOT NULL THEN (.*?) END IF", re.DOTALL)
WHERE_NO_KEY = re.compile(r"IF NOT EXISTS \(.*pg_constraint.*\) THEN(.*?)END IF", re.DOTALL)


def predicted(statements: Iterable[str], schema: Schema) -> Prediction:
    """Return what the statements do, one after the other, to the tables of ``schema``."""
    locks: list[Lock] = []
    scans: list[str] = []
    rewrites: list[str] = []
    for statement in statements:
        text = _unfolded(statement, schema)
        for lock, scanned in (*_by_rules(text, schema), *_by_objects(text, schema)):
            locks.append(lock)
            scans += [lock.relation] if scanned else []
        rewrites += _rewrites(text, schema)
    there = {f"public.{name}" for name in TABLES if f"table {name}" in schema.objects}
    return Prediction(
        strongest(lock for lock in locks if lock.relation in there),
        tuple(sorted(there & set(scans))),
        tuple(sorted(there & set(rewrites))),
    )


def strongest(locks: Iterable[Lock]) -> tuple[Lock, ...]:
    """Return the strongest lock on each relation, sorted by relation."""
    found: dict[str, str] = {}
    for lock in locks:
        found[lock.relation] = max(found.get(lock.relation, MODES[0]), lock.mode, key=MODES.index)
    return tuple(Lock(found[relation], relation) for relation in sorted(found))


def _unfolded(statement: str, schema: Schema) -> str:
    """Return the statement without what a DO block leaves undone on this server."""
    text = WHERE_ROLE.sub(lambda found: found[2] if found[1] in schema.roles else "", statement)
    has_key = any(TO_SESSIONS.match(definition) for name, definition in schema.objects.items() if _of_child(name))
    text = WHERE_NO_KEY.sub(lambda found: "" if has_key else found[1], text)
    return " ".join(text.split())


def _of_child(name: str) -> bool:
    return name.startswith(f"constraint {INTERACTIONS}.")


def _by_rules(text: str, schema: Schema) -> Iterator[tuple[Lock, bool]]:
    for rule in RULES:
        for found in rule.pattern.finditer(text):
            table = relation(found[1])
            yield Lock(rule.mode, table), rule.scans
            if rule.parent and table == f"public.{INTERACTIONS}":
                yield Lock(rule.parent, f"public.{SESSIONS}"), rule.scans
            if rule.child and table == f"public.{SESSIONS}" and KEY in schema.objects:
                yield Lock(rule.child, f"public.{INTERACTIONS}"), rule.scans


def _by_objects(text: str, schema: Schema) -> Iterator[tuple[Lock, bool]]:
    """Yield what depends on what is there: dropping what is not takes no lock, nor is what is valid read again."""
    for kind, name, table in DROPS_PART.findall(text):
        if f"{kind.lower()} {relation(table).partition('.')[2]}.{name}" in schema.objects:
            yield Lock("ACCESS EXCLUSIVE", relation(table)), False
    for concurrently, name in DROPS_INDEX.findall(text):
        for table in _tables_of("index", name, schema):
            yield Lock("SHARE UPDATE EXCLUSIVE" if concurrently else "ACCESS EXCLUSIVE", f"public.{table}"), False
    for name in VALIDATES.findall(text):
        for table in _tables_of("constraint", name, schema):
            yield from _validated(table, schema.objects[f"constraint {table}.{name}"])
    for names in GRANT.findall(text) if schema.server_version >= VERSION_18 else ():  # before without a lock; measured
        for name in names.split(","):
            yield Lock("ACCESS SHARE", relation(name.strip())), False


def _tables_of(kind: str, name: str, schema: Schema) -> list[str]:
    return [table for table in TABLES if f"{kind} {table}.{name}" in schema.objects]


def _validated(table: str, definition: str) -> Iterator[tuple[Lock, bool]]:
    if definition.endswith("NOT VALID"):
        yield Lock("SHARE UPDATE EXCLUSIVE", f"public.{table}"), True
        if TO_SESSIONS.match(definition):
            yield Lock("ROW SHARE", f"public.{SESSIONS}"), True


def _rewrites(text: str, schema: Schema) -> Iterator[str]:
    """Yield tables whose rows get other bytes; between both kinds of timestamp they stay, in a session in UTC."""
    for found in re.finditer(r"ALTER TABLE (?:ONLY )?([\w.]+) ", text, re.IGNORECASE):
        table = relation(found[1])
        for column, new in TYPE.findall(text[found.end() :]):
            old = schema.objects.get(f"column {table.partition('.')[2]}.{column}", "")
            was = re.split(r" (?:NOT NULL|DEFAULT)", old)[0]
            if was != new and not {was, new} <= SAME_BYTES:
                yield table


def relation(name: str) -> str:
    """Return the name with its schema."""
    return name if "." in name else f"public.{name}"


def sources() -> Mapping[str, str]:
    """Return where each rule is from, by its id."""
    return {rule.id: rule.source for rule in RULES}
