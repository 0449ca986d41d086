"""The SQL of a repair, most of it from ``migrations/repair``: the revisions send the same."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache

import psycopg

from session_fix import folders
from session_fix.errors import UsageError

RUN = "repair"  # the name under which the journal keeps what is repaired, unless another is chosen
PHANTOMS = {"certain": "WHERE certain", "likely": "", "none": "WHERE false"}
ORPHANS = ("create", "quarantine", "delete", "none")
TABLES = ("picked", "noted", "wanted")
FUNCTIONS = ("uses", "digest", "journal", "merge", "create", "remove", "undo")
JOURNAL = "session_fix.repair_journal"

# Who is in phantoms' user_id, or in orphans' session_id, is one session however many rows there are.
LOOK = """
WITH phantom AS MATERIALIZED (SELECT * FROM ({phantoms}) p {chosen}),
orphan AS MATERIALIZED (SELECT session_id, count(*) AS rows FROM ({orphans}) o GROUP BY session_id),
session AS (SELECT DISTINCT session_id FROM phantom)
SELECT (SELECT count(*) FROM phantom), (SELECT count(*) FROM phantom WHERE certain), (SELECT count(*) FROM session),
    (SELECT count(*) FROM session JOIN public.ai_sessions s ON s.id = session.session_id),
    (SELECT coalesce(sum(rows), 0)::int8 FROM orphan), (SELECT count(*) FROM orphan),
    (SELECT count(*) FROM orphan JOIN session USING (session_id)),
    (SELECT coalesce(sum(rows), 0)::int8 FROM orphan JOIN session USING (session_id))
"""
# Numbered once, so that a batch is a range of numbers however many batches there are. A session's rows lie together.
WORK = """
CREATE TEMPORARY TABLE session_fix_work AS
SELECT row_number() OVER (ORDER BY session_id, id) AS n, id, session_id, certain FROM ({listing}) w
"""
PICK = """
INSERT INTO pg_temp.session_fix_picked SELECT id, session_id, certain FROM pg_temp.session_fix_work
WHERE n > {after} AND n <= {upto}
"""
UNSEEN = """
SELECT FROM pg_class c WHERE oid = to_regclass(%s) AND NOT EXISTS (
    SELECT FROM pg_stats s WHERE s.tablename = c.relname AND s.schemaname = c.relnamespace::regnamespace::text)
"""
# The planner guesses that few user_ids are UUIDs; two long lists must not be compared row by row.
BY_HASH = "SET LOCAL enable_nestloop TO off"
TO_UNDO = f"""
SELECT NULL::uuid AS id, session_id, false AS certain FROM {JOURNAL}
WHERE repair = {{run}} AND undone_at IS NULL GROUP BY session_id
"""


@cache
def text(name: str) -> str:
    """Return a statement that the revisions have, too."""
    return (folders.bundled("migrations") / "repair" / f"{name}.sql").read_text(encoding="utf-8")


def look(phantoms: str) -> str:
    """Return the query for how much there is to repair, as ``outcome.Found`` has it."""
    return LOOK.format_map({"phantoms": text("phantoms"), "orphans": text("orphans"), "chosen": PHANTOMS[phantoms]})


def phantoms(chosen: str) -> str:
    """Return the query for the phantoms of a choice."""
    return f"SELECT id, session_id, certain FROM ({text('phantoms')}) p {PHANTOMS[chosen]}"


def missing_sessions() -> str:
    """Return the query for the sessions that interactions name and that are not stored."""
    return f"SELECT DISTINCT NULL::uuid AS id, session_id, true AS certain FROM ({text('orphans')}) o"


def orphans() -> str:
    """Return the query for the interactions whose session is not stored."""
    return f"SELECT id, session_id, true AS certain FROM ({text('orphans')}) o"


def prepare(connection: psycopg.Connection) -> None:
    """Make what the batches work with; all of it is temporary."""
    for name in (*TABLES, *FUNCTIONS):
        connection.execute(text(name).encode())
    for name in TABLES:  # one that was never analyzed passes for ten pages, and each batch would read a whole table
        connection.execute(f"ANALYZE pg_temp.session_fix_{name}".encode())


def learn(connection: psycopg.Connection, *tables: str) -> None:
    """Have the planner look at tables of which it has never seen a row: it would read them whole for each batch."""
    for table in tables:
        if connection.execute(UNSEEN, (table,)).fetchone() is not None:
            analyze(connection, table)


def analyze(connection: psycopg.Connection, table: str) -> None:
    """Have the planner look at a table, unless somebody is at it already, as VACUUM is."""
    with suppress(psycopg.errors.LockNotAvailable):
        connection.execute(f"ANALYZE {table}".encode())


def list_work(connection: psycopg.Connection, listing: str) -> int:
    """Write down what there is to do, in place of the last list; return how many rows it has."""
    with connection.transaction():
        connection.execute(BY_HASH)
        connection.execute("DROP TABLE IF EXISTS pg_temp.session_fix_work")
        made = connection.execute(WORK.replace("{listing}", listing).encode())
        connection.execute("CREATE UNIQUE INDEX ON pg_temp.session_fix_work (n)")
        connection.execute("ANALYZE pg_temp.session_fix_work")
    return made.rowcount


def checked_run(run: str) -> str:
    """Return the name of a run. Raises ``UsageError`` for one that could not be typed again."""
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,63}", run):
        raise UsageError(f"The run {run!r} needs a name of at most 63 letters, digits and any of _ . : -")
    return run
