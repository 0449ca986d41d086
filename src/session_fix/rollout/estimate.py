"""How long a step takes, from the sizes of the tables: an order of magnitude, to plan a night by. Pure.

The rates are rounded from one run of all revisions with version 18 over a million interactions of 390 bytes, 10,000 of
them orphans, and half a million sessions: on two cores that had other work as well, and with a disk that is waited for.
An idle server is several times faster.
"""

from __future__ import annotations

import re

from session_fix.rollout.plan import Kind, Step
from session_fix.rollout.standing import Standing
from session_fix.rollout.wanted import INTERACTIONS, TABLES

MOMENT_S = 0.02  # what only touches the catalog
SCANNED_ROWS_S = 500_000  # rows read and checked in a second
LOOKED_UP_ROWS_S = 250_000  # rows whose session was looked for
INDEXED_ROWS_S = 150_000
REWRITTEN_ROWS_S = 50_000
REPAIRED_ROWS_S = 10_000  # in batches, committed one by one
BYTES_PER_ROW = 300  # where the table was never analyzed
SAFETY = 20  # a timeout is for what has gone wrong, not for a busy hour
LEAST_TIMEOUT_MS = {Kind.TRANSACTION: 60_000, Kind.CONCURRENTLY: 1_800_000, Kind.REPAIR: 60_000}

OURS = {f"public.{name}" for name in TABLES}
BUILDS = re.compile(r"\bCREATE (?:UNIQUE )?INDEX\b")
LOOKS_UP = re.compile(rf"\b(?:EXISTS|FOREIGN KEY|IN \(SELECT|{INTERACTIONS} VALIDATE CONSTRAINT \w+_fkey)\b")
REPAIRED = {
    "repair-phantoms": "rows/phantoms/certain",
    "0007_merge_phantom_sessions": "rows/phantoms/certain",
    "repair-orphans": "rows/orphans/sessions",
    "0009_repair_orphans": "rows/orphans/sessions",
}


def seconds(step: Step, standing: Standing) -> float:
    """Return about how many seconds a step takes once it has its locks."""
    text = " ".join(step.statements)
    took = MOMENT_S
    took += sum(rows(table, standing) for table in step.rewrites) / REWRITTEN_ROWS_S
    builds = BUILDS.search(text) or {*step.rewrites} - OURS  # or an index that is built anew
    rate = INDEXED_ROWS_S if builds else LOOKED_UP_ROWS_S if LOOKS_UP.search(text) else SCANNED_ROWS_S
    took += sum(rows(table, standing) for table in step.scans) / rate
    if step.kind is Kind.REPAIR:
        took += sum(rows(f"public.{table}", standing) for table in standing.tables) / LOOKED_UP_ROWS_S
        took += (counted(step, standing) or 0) / REPAIRED_ROWS_S
    return round(took, 2)


def rows(relation: str, standing: Standing) -> int:
    """Return about how many rows a table has: counted, else as the planner has it, else from its size."""
    name = relation.partition(".")[2]
    if standing.facts is None or name not in standing.facts.tables:
        return 0
    table, count = standing.facts.tables[name], standing.facts.counts.get(f"rows/all/{name}")
    if count:
        return count.number
    return table.rows if table.rows is not None else (table.heap_bytes or 0) // BYTES_PER_ROW


def counted(step: Step, standing: Standing) -> int | None:
    """Return how many rows a repair changes, None where nobody counted or there is a sample only."""
    if step.id not in REPAIRED or standing.facts is None:
        return None
    count = standing.facts.counts.get(REPAIRED[step.id])
    return count.number if count and (count.exact or count.number) else None


def statement_timeout_ms(kind: Kind, estimate_s: float) -> int:
    """Return how long one statement of a step may take."""
    return max(LEAST_TIMEOUT_MS[kind], round(estimate_s * SAFETY * 1000))
