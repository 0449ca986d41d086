"""Rows that a repair or a later step of the rollout would stumble over: what to count, and what a number means.

A check of one table is a condition, so that one pass over the table answers all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from session_fix.rollout.found import Table
from session_fix.rollout.wanted import COLUMNS, INTERACTIONS, MOMENT, SESSIONS

MOMENTS = frozenset({"timestamp without time zone", "timestamp with time zone", "date"})
NUMBERS = frozenset({"bigint", "integer", "smallint", "numeric"})
INTEGER_MOST = 2**31 - 1
UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
BACKUP = "Take a backup first."


@dataclass(frozen=True, slots=True)
class RowCheck:
    """Rows of ``table`` that should not be there: those for which ``condition``, an SQL expression, is true.

    It can be asked where ``column`` has one of ``types``, any if there are none. ``what`` reads on from a number.
    """

    name: str
    table: str
    column: str
    condition: str
    what: str
    todo: str
    types: frozenset[str] = frozenset()


def _checks() -> Iterator[RowCheck]:
    for table, columns in COLUMNS.items():
        for column in columns.values():
            place = f"{table}.{column.name}"
            if column.type == MOMENT:
                yield RowCheck(
                    *(f"rows/moment-missing/{place}", table, column.name, f"{column.name} IS NULL"),
                    f"rows of {table} do not say their {column.name}",
                    "Fill it in, from the session's interactions or its neighbours.",
                )
                yield RowCheck(
                    *(f"rows/moment-out-of-range/{place}", table, column.name),
                    f"NOT isfinite({column.name}) OR {column.name} >= '10000-01-01' OR {column.name} < '0001-01-01'",
                    f"rows of {table} have a {column.name} that is infinite or outside the years 1 to 9999",
                    "Replace it: Python cannot read such a moment, and revision 0015_checks_validate refuses infinity.",
                    MOMENTS,
                )
            elif column.not_null:
                yield RowCheck(
                    *(f"rows/null/{place}", table, column.name, f"{column.name} IS NULL"),
                    f"rows of {table} have no {column.name}",
                    f"Fill it in or delete the row, then ALTER TABLE ... ALTER {column.name} SET NOT NULL. {BACKUP}",
                )
            if length := re.fullmatch(r"character varying\((\d+)\)", column.type):
                yield RowCheck(  # spaces at the end are cut where they do not fit, by the SQL standard
                    *(f"rows/too-long/{place}", table, column.name),
                    f"char_length(rtrim({column.name}::text, ' ')) > {length[1]}",
                    f"rows of {table} have a {column.name} of more than {length[1]} characters",
                    "Shorten it, or leave the column's type wider than the migrations make it.",
                )


ROW_CHECKS = (
    *_checks(),
    RowCheck(
        *("rows/negative-tokens", INTERACTIONS, "tokens_used", "tokens_used < 0"),
        "interactions used a negative number of tokens",
        "Set it to NULL, which says that the number is not known; revision 0015_checks_validate refuses it.",
        NUMBERS,
    ),
    RowCheck(
        *("rows/too-many-tokens", INTERACTIONS, "tokens_used", f"tokens_used > {INTEGER_MOST}"),
        "interactions used more tokens than an integer holds",
        "Set it to NULL, or leave the column's type wider than the migrations make it.",
        NUMBERS,
    ),
)


def answerable(table: Table) -> list[RowCheck]:
    """Return the checks that can be asked of the table as it is."""
    asked = []
    for check in ROW_CHECKS:
        column = table.columns.get(check.column) if check.table == table.name else None
        if column and column.readable and (not check.types or column.type.split("(")[0] in check.types):
            asked.append(check)
    return asked


def statement(table: Table, checks: list[RowCheck], percent: float | None) -> str:
    """Return the query for a table's row count and that of each check, in a sample of so many percent if given."""
    counts = ["count(*)", *(f"count(*) FILTER (WHERE {check.condition})" for check in checks)]
    return f"SELECT {', '.join(counts)} FROM public.{table.name}{sampled(percent)}"


def sampled(percent: float | None) -> str:
    """Return the clause for a sample of so many percent of a table's pages, the same ones each time."""
    return f" TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE (1)" if percent else ""


# Interactions whose session is not there; of those, the ones whose session's phantoms are.
ORPHANS = f"""
WITH orphans AS (
    SELECT i.session_id FROM public.{INTERACTIONS} i{{sample}}
    WHERE i.session_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM public.{SESSIONS} s WHERE s.id{{cast}} = i.session_id{{cast}})
), users AS (
    SELECT DISTINCT lower(user_id::text) AS id FROM public.{SESSIONS}
)
SELECT count(*), count(DISTINCT o.session_id), count(u.id) FROM orphans o
    LEFT JOIN users u ON u.id = lower(o.session_id::text)
"""
ORPHAN_COUNTS = ("rows/orphans", "rows/orphans/sessions", "rows/orphans/with-phantoms")

# A phantom is what the broken create_session() stores: never used, never touched, its own id known to nobody, and its
# user_id is a session's id. That is certain where such a session is stored, or interactions name it. Otherwise a user
# may have a UUID for an id: then the user's other sessions have been used. Joined once for each user_id, of which there
# are fewer than rows, and compared as bytes, in whatever language the database sorts. What a repair takes for a phantom
# is in migrations/repair/phantoms.sql: the same, row by row.
SESSION_KINDS = f"""
WITH used AS (
    SELECT DISTINCT lower(session_id::text COLLATE "C") AS id FROM public.{INTERACTIONS} WHERE session_id IS NOT NULL
), sessions AS (
    SELECT lower(s.id::text COLLATE "C") AS id, lower(s.user_id::text COLLATE "C") AS user_id, u.id IS NOT NULL AS used,
        s.created_at IS NOT DISTINCT FROM s.updated_at AS untouched
    FROM public.{SESSIONS} s LEFT JOIN used u ON u.id = lower(s.id::text COLLATE "C")
), users AS (
    SELECT s.user_id, count(*) FILTER (WHERE s.untouched AND NOT s.used AND known.id IS NULL) AS rows,
        bool_or(s.used OR NOT s.untouched) AS account
    FROM sessions s LEFT JOIN (SELECT DISTINCT user_id AS id FROM sessions) known ON known.id = s.id
    WHERE s.user_id ~ '{UUID}' GROUP BY s.user_id
), named AS (
    SELECT users.*, stored.id IS NOT NULL AS stored, stored.id IS NOT NULL OR asked.id IS NOT NULL AS certain
    FROM users LEFT JOIN (SELECT DISTINCT id FROM sessions) stored ON stored.id = user_id
        LEFT JOIN used asked ON asked.id = user_id
), phantoms AS (
    SELECT * FROM named WHERE rows > 0 AND (certain OR NOT account)
)
SELECT coalesce(sum(rows), 0)::int8, coalesce(sum(rows) FILTER (WHERE certain), 0)::int8, count(*),
    count(*) FILTER (WHERE stored), count(*) FILTER (WHERE rows > 1),
    (SELECT count(*) FROM sessions WHERE NOT used) - coalesce(sum(rows), 0)::int8
FROM phantoms
"""
PHANTOM_COUNTS = (
    *("rows/phantoms", "rows/phantoms/certain", "rows/phantoms/sessions", "rows/phantoms/stored"),
    *("rows/several-for-one-session", "rows/empty-sessions"),
)

# In a sample only the shape can be told, not who used what.
SHAPES = f"""
SELECT count(*) FILTER (WHERE lower(user_id::text) ~ '{UUID}' AND created_at IS NOT DISTINCT FROM updated_at)
FROM public.{SESSIONS}{{sample}}
"""
SHAPE_COUNTS = ("rows/phantoms",)

DUPLICATES = "SELECT count(*) - count(DISTINCT id) FROM public.{table}"
