"""Counts rows: all of a small table, a sample of a large one; and says where nothing could be counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from session_fix.rollout import rows
from session_fix.rollout.found import Count, Table
from session_fix.rollout.reader import Reader
from session_fix.rollout.wanted import INTERACTIONS, SESSIONS, TABLES

MIB = 1 << 20
EXACT_BELOW_BYTES = 256 * MIB  # of a table, without the texts that are stored beside it
SAMPLE_BYTES = 32 * MIB
COUNTABLE = ("r", "p")


def counts(
    tables: Mapping[str, Table], reader: Reader, exact_below_bytes: int | None, sample_bytes: int
) -> dict[str, Count]:
    """Return the count of each row check that can be asked; None for ``exact_below_bytes`` counts everything."""
    found: dict[str, Count] = {}
    open_to_us = {}
    for name, table in tables.items():
        if why := _why_closed(table, any_size=exact_below_bytes is None):
            reader.miss(f"the rows of {name}", why)
        else:
            open_to_us[name] = table
    percents = {name: _percent(table, exact_below_bytes, sample_bytes) for name, table in open_to_us.items()}
    for name, table in open_to_us.items():
        found |= _of_table(table, reader, percents[name])
        if not any(constraint.kind == "p" for constraint in table.constraints) and "id" in table.columns:
            if percents[name] is None:
                counted = reader.rows(rows.DUPLICATES.format(table=name), what=f"duplicate ids in {name}")
                found |= _exactly([f"rows/duplicate-ids/{name}"], counted)
            else:
                reader.miss(f"duplicate ids in {name}", "the table is large; --exact counts them")
    if len(open_to_us) == len(TABLES):
        found |= _of_both(open_to_us[SESSIONS], open_to_us[INTERACTIONS], reader, percents)
    return found


def _why_closed(table: Table, *, any_size: bool) -> str:
    if table.kind not in COUNTABLE:
        return "it is no table"
    if not any(column.readable for column in table.columns.values()):
        return "the role has no right to read them"
    if table.hides_rows:
        return "row level security hides some from this role; use one with BYPASSRLS"
    if table.heap_bytes is None and not any_size:
        return "its size could not be read, so it may be large; --exact counts all the same"
    return ""


def _percent(table: Table, exact_below_bytes: int | None, sample_bytes: int) -> float | None:
    """Return how much of a table to look at, None for all of it."""
    if exact_below_bytes is None or not table.heap_bytes or table.heap_bytes < exact_below_bytes:
        return None
    return min(100.0, 100.0 * sample_bytes / table.heap_bytes)


def _of_table(table: Table, reader: Reader, percent: float | None) -> dict[str, Count]:
    checks = rows.answerable(table)
    for check in rows.ROW_CHECKS:
        column = table.columns.get(check.column) if check.table == table.name else None
        if column and check not in checks:
            reader.miss(f"{check.table}.{check.column}: {check.name.split('/')[1]}", _why_not(column.readable))
    counted = reader.rows(rows.statement(table, checks, percent), what=f"the rows of {table.name}")
    names = [f"rows/all/{table.name}", *(check.name for check in checks)]
    if percent is None or not counted:
        return _exactly(names, counted)
    reader.miss(f"every row of {table.name}", "it is large, so a sample was counted; --exact counts all")
    return _estimated(names, counted[0], percent, sampled=counted[0][0])


def _why_not(readable: bool) -> str:  # noqa: FBT001  the answer to the only question
    return "its type is another" if readable else "the role has no right to read it"


def _of_both(
    sessions: Table, interactions: Table, reader: Reader, percents: Mapping[str, float | None]
) -> dict[str, Count]:
    needed = {sessions.name: ("id", "user_id", "created_at", "updated_at"), interactions.name: ("session_id",)}
    for table in (sessions, interactions):
        columns = [table.columns.get(name) for name in needed[table.name]]
        if not all(column and column.readable for column in columns):
            reader.miss("orphans and phantoms", f"columns of {table.name} are missing, or not for this role")
            return {}
    cast = "" if sessions.columns["id"].type == interactions.columns["session_id"].type else "::text"
    percent = percents[interactions.name]
    query = rows.ORPHANS.replace("{cast}", cast).replace("{sample}", rows.sampled(percent))
    orphans = reader.rows(query, what="orphans")
    if percent is None or not orphans:
        found = _exactly(rows.ORPHAN_COUNTS, orphans)
    else:
        found = _estimated(rows.ORPHAN_COUNTS, orphans[0], percent)
    if percents == dict.fromkeys(percents):
        return found | _exactly(rows.PHANTOM_COUNTS, reader.rows(rows.SESSION_KINDS, what="phantom and empty sessions"))
    reader.miss("phantom and empty sessions", "the tables are large: only their shape was looked for; --exact counts")
    percent = percents[sessions.name]
    shapes = reader.rows(rows.SHAPES.replace("{sample}", rows.sampled(percent)), what="shapes of phantoms")
    return found | (_estimated(rows.SHAPE_COUNTS, shapes[0], percent or 100.0) if shapes else {})


def _exactly(names: Sequence[str], counted: list[tuple[int, ...]] | None) -> dict[str, Count]:
    return {name: Count(number) for name, number in zip(names, counted[0], strict=True)} if counted else {}


def _estimated(names: Sequence[str], counted: tuple[int, ...], percent: float, *, sampled: int = 0) -> dict[str, Count]:
    return {
        name: Count(round(number * 100 / percent), exact=False, sampled=sampled)
        for name, number in zip(names, counted, strict=True)
    }
