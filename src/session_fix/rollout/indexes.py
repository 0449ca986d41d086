"""An index that is built or dropped CONCURRENTLY: what the catalog says of it, and what is to be done about that."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg

from session_fix.errors import RolloutRefusedError, StepFailedError
from session_fix.rollout import target
from session_fix.rollout.blockers import WHO, Session

CREATE = re.compile(
    r"CREATE (?P<unique>UNIQUE )?INDEX CONCURRENTLY "
    r"(?:IF NOT EXISTS )?(?P<name>\w+) ON public\.(?P<table>\w+) (?P<columns>\(.+\))"
)
DROP = re.compile(r"DROP INDEX CONCURRENTLY (?:IF EXISTS )?public\.(?P<name>\w+)")
INDEXES = """
SELECT x.relname, c.relname, pg_get_indexdef(x.oid), i.indisvalid AND i.indisready,
    EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.oid AND k.contype IN ('p', 'u', 'x'))
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
WHERE x.relnamespace = 'public'::regnamespace ORDER BY x.relname
"""
# A build goes on when its client was killed. Before it is shown as one, it is a session of ours that is active.
AT_WORK = f"""
SELECT {WHO} FROM pg_stat_activity a
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
    EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.pid = a.pid AND coalesce(p.relid, to_regclass(%s)::oid)
        = to_regclass(%s)::oid)
    OR a.application_name LIKE %s AND a.state = 'active'
        AND a.query ~ '^\\s*(CREATE|CREATE UNIQUE|DROP) INDEX CONCURRENTLY')
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The index that a statement is about. ``definition`` is as the catalog would have it, "" where it is dropped."""

    name: str
    table: str
    definition: str


@dataclass(frozen=True, slots=True)
class Index:
    """An index that is there; ``is_kept``: a constraint is made of it, and it is nobody else's."""

    name: str
    table: str
    definition: str
    valid: bool
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Todo:
    """What is to be done next: ``action`` is build, drop, rename or nothing; ``name`` is of the index it is done to."""

    action: str
    name: str = ""


def wanted(statement: str) -> Wanted:
    """Return the index that a CONCURRENTLY statement is about.

    Raises ``RolloutRefusedError`` for a statement that is of no kind that could be looked after when it breaks off.
    """
    if found := CREATE.fullmatch(statement):
        name, table, columns = found["name"], found["table"], found["columns"]
        kind = found["unique"] or ""
        return Wanted(name, table, f"CREATE {kind}INDEX {name} ON public.{table} USING btree {columns}")
    if found := DROP.fullmatch(statement):
        return Wanted(found["name"], "", "")
    raise RolloutRefusedError(
        f"The plan holds a CONCURRENTLY statement of a kind that is not known: {statement[:60]!r}. Nothing was changed."
    )


def todo(index: Wanted, found: tuple[Index, ...]) -> Todo:
    """Return the next thing to do, given all indexes that there are and nobody who works on one.

    Raises ``StepFailedError`` when an index of that name is there and is another one.
    """
    there = next((one for one in found if one.name == index.name), None)
    if not index.definition:
        return Todo("drop", index.name) if there else Todo("nothing")
    remains = re.compile(re.escape(index.name) + r"_cc(new|old)\d*")
    for one in found:
        if one.table == index.table and not one.valid and (one == there or remains.fullmatch(one.name)):
            return Todo("drop", one.name)
    if there and (there.table, there.definition) != (index.table, index.definition):
        raise StepFailedError(
            f"There is another index of the name {index.name}.\n  found:  {there.definition}\n"
            f"  wanted: {index.definition}\nRename or drop it, then run the same command again."
        )
    if there:
        return Todo("nothing")
    free = (one for one in found if one.valid and not one.is_kept)
    equal = next((one for one in free if _renamed(one, index.name) == index.definition), None)
    return Todo("rename", equal.name) if equal else Todo("build", index.name)


def _renamed(index: Index, name: str) -> str:
    return re.sub(r'^(CREATE (?:UNIQUE )?INDEX) ("(?:[^"]|"")+"|\w+) ON', rf"\1 {name} ON", index.definition)


def found(connection: psycopg.Connection) -> tuple[Index, ...]:
    """Return the indexes of the schema public."""
    return tuple(Index(*row) for row in connection.execute(INDEXES))


def at_work(connection: psycopg.Connection, index: Wanted) -> tuple[Session, ...]:
    """Return the sessions that build an index on that table, or that go on with what a killed rollout began."""
    table = f"public.{index.table}" if index.table else None
    return tuple(Session(*row) for row in connection.execute(AT_WORK, (table, table, f"{target.MIGRATE}%")))
