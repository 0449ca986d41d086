"""Whether a database can be repaired as it is: what has to be there, and why not. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from session_fix.rollout.found import Table
from session_fix.rollout.wanted import INTERACTIONS, SESSIONS, TABLES

NEEDED = {
    SESSIONS: ("id", "user_id", "created_at", "updated_at"),
    INTERACTIONS: ("id", "session_id", "created_at"),
}
MOMENTS = ("timestamp", "date")


def faults(tables: Mapping[str, Table], *, merging: bool, removing: bool) -> Iterator[str]:
    """Yield why these tables cannot be repaired; nothing if they can."""
    if absent := [fault for name in TABLES for fault in _absent(name, tables.get(name))]:
        yield from absent
        return
    for name in TABLES:
        if tables[name].hides_rows:
            yield f"row level security hides rows of {name} from this role: use the owner, or one with BYPASSRLS"
        yield from _types(tables[name])
    for name in (SESSIONS, INTERACTIONS) if removing else (SESSIONS,):
        if not any(key.kind in ("p", "u") and key.columns == ("id",) for key in tables[name].constraints):
            yield f"{name}.id is not unique: ADD PRIMARY KEY first"
    if merging and tables[SESSIONS].columns["user_id"].not_null:
        yield f"{SESSIONS}.user_id is NOT NULL, and nobody knows the user of a session that a phantom stands for"


def _absent(name: str, table: Table | None) -> Iterator[str]:
    if table is None or table.kind not in ("r", "p"):
        yield f"public.{name} is no table"
    elif missing := [column for column in NEEDED[name] if column not in table.columns]:
        yield f"{name} has no {', '.join(missing)}"


def _types(table: Table) -> Iterator[str]:
    for name in NEEDED[table.name]:
        found = table.columns[name].type
        if name in ("id", "session_id") and found != "uuid":
            yield f"{table.name}.{name} is {found}: make it uuid first, so that an id is spelled in one way"
        if name in ("created_at", "updated_at") and not found.startswith(MOMENTS):
            yield f"{table.name}.{name} is {found}, no moment"
