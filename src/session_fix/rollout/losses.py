"""What a rollback loses for good: tables and columns that its steps drop, and how many rows are in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from session_fix.rollout.plan import Plan

TABLE = re.compile(r"\bDROP TABLE (?:IF EXISTS )?(?:public\.)?(\w+)")
COLUMN = re.compile(r"\bALTER TABLE (?:ONLY )?(?:public\.)?(\w+)\b(?=.*\bDROP COLUMN\b)", re.DOTALL)
COLUMN_NAME = re.compile(r"\bDROP COLUMN (?:IF EXISTS )?(\w+)")


@dataclass(frozen=True, slots=True)
class Loss:
    """A table that goes with its rows, or one ``column`` of it; ``rows`` is how many hold something."""

    table: str
    column: str
    rows: int

    def __str__(self) -> str:
        """Return it in words."""
        what = f"the column {self.column} of {self.table}" if self.column else f"the table {self.table}"
        return f"{what}, with {self.rows:,} {'values' if self.column else 'rows'}"


def dropped(statements: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield what the statements drop that can hold data: a table and "", or a table and its column."""
    for statement in statements:
        for table in TABLE.findall(statement):
            yield table, ""
        for table in COLUMN.findall(statement):
            for column in COLUMN_NAME.findall(statement):
                yield table, column


def counted(connection: psycopg.Connection, plan: Plan) -> tuple[Loss, ...]:
    """Return what the plan would lose, as far as there is anything in it. Raises ``psycopg.Error``."""
    found = []
    for table, column in dropped(statement for step in plan.steps for statement in step.statements):
        if connection.execute("SELECT to_regclass(%s) IS NULL", (f"public.{table}",)).fetchone() == (True,):
            continue  # it was dropped before
        what = sql.Identifier(column) if column else sql.SQL("*")
        query = sql.SQL("SELECT count({}) FROM {}").format(what, sql.Identifier("public", table))
        row = connection.execute(query).fetchone()
        if row and row[0]:
            found.append(Loss(table, column, row[0]))
    return tuple(found)
