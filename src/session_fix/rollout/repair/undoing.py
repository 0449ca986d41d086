"""Takes a repair back by its journal: all of a session, or nothing where a row of it is not as the repair left it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing

import psycopg
from psycopg import sql

from session_fix.errors import UsageError
from session_fix.progress import SILENT, Progress
from session_fix.rollout import target
from session_fix.rollout.happening import Listener, nobody
from session_fix.rollout.repair import batches, statements, support
from session_fix.rollout.repair.batches import APPLICATION, translated
from session_fix.rollout.repair.engine import BATCH_MS, BATCH_ROWS, LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS
from session_fix.rollout.repair.outcome import Refused, Undone
from session_fix.rollout.repair.pace import needs_index
from session_fix.rollout.retrying import PATIENCE_S

UNDO = "SELECT * FROM pg_temp.session_fix_undo(%s)"
HAS_JOURNAL = f"SELECT to_regclass('{statements.JOURNAL}') IS NOT NULL"
RUNS = f"SELECT repair FROM {statements.JOURNAL} GROUP BY repair ORDER BY max(id) DESC"
SCRIPT = """-- Takes back what `session-fix repair` did under the name {run}, by {journal}, in one transaction.
-- psql -v ON_ERROR_STOP=1 -f THIS_FILE, as the owner of the tables. It ends by saying how many rows it put back, and
-- which sessions it left alone because a row of theirs was changed or used since.
BEGIN;
SET LOCAL lock_timeout = '10s';
{made}
ANALYZE {journal};
INSERT INTO pg_temp.session_fix_picked (session_id)
SELECT DISTINCT session_id FROM {journal} WHERE repair = {run} AND undone_at IS NULL;
ANALYZE pg_temp.session_fix_picked;
SELECT * FROM pg_temp.session_fix_undo({run});
{dropped}
COMMIT;
"""


def undo(
    params: Mapping[str, str],
    run: str,
    *,
    batch_rows: int = BATCH_ROWS,
    batch_ms: float = BATCH_MS,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    progress: Progress = SILENT,
    tell: Callable[[Undone], None] = lambda _: None,
    ignore_replicas: bool = False,
    patience_s: float = PATIENCE_S,
    check: Callable[[], None] = lambda: None,
    on: Listener = nobody,
) -> Undone:
    """Put back what a run of a repair, or a revision of that name, changed; a batch holds so many sessions at most.

    A session of which a row was changed, deleted or used since is left as it is, and named in ``refused``. Once begun
    again, it goes on. Replicas are waited for as by ``repair``. Raises ``UsageError`` for a run that the journal does
    not know, and what ``repair`` raises.
    """
    opened = target.writing(
        params, lock_timeout_ms=lock_timeout_ms, statement_timeout_ms=STATEMENT_TIMEOUT_MS, application=APPLICATION
    )
    began = time.monotonic()
    undone = Undone(run=run)
    with closing(opened) as connection, translated(params):
        _check(connection, run)
        statements.prepare(connection)
        statements.analyze(connection, statements.JOURNAL)  # it is young, and may hold a million rows
        listing = statements.TO_UNDO.format(run=sql.Literal(run).as_string(connection))
        with progress.step("Looking into the journal"):
            listed = statements.list_work(connection, listing)
        pages, _ = support.size(connection)
        if needs_index(phantoms=0, missing=listed, pages=pages, has_key=False) and support.is_missing(connection):
            support.build(params, progress)
        wait = batches.waiting(connection, ignore_replicas=ignore_replicas, patience_s=patience_s, on=on, check=check)
        with progress.step(f"Undoing {run}") as count:
            for batch in batches.run(
                connection, UNDO, (run,), of=listed, rows=batch_rows, batch_ms=batch_ms, wait=wait
            ):
                undone = Undone(
                    run=run,
                    restored=undone.restored + batch.counts["restored"],
                    refused=(*undone.refused, *(_refused(one) for one in batch.counts["refused"])),
                    batches=undone.batches + 1,
                    longest_ms=max(undone.longest_ms, batch.took_ms),
                    retries=undone.retries + batch.retries,
                    took_s=time.monotonic() - began,
                )
                tell(undone)
                count(batch.done, listed)
        support.drop(params, connection, progress)
    return undone


def _check(connection: psycopg.Connection, run: str) -> None:
    there = connection.execute(HAS_JOURNAL).fetchone() == (True,)
    known = [name for (name,) in connection.execute(RUNS)] if there else []
    if run not in known:
        which = f"it knows {', '.join(known)}" if known else "there is none, so nothing was repaired here"
        raise UsageError(f"The journal {statements.JOURNAL} knows no run {run!r}: {which}.")


def _refused(one: Mapping[str, str]) -> Refused:
    return Refused(one["session_id"], one["table"], one["id"], one["why"])


def script(run: str) -> str:
    """Return an SQL script for psql that undoes a run without this program."""
    made = ";\n".join(statements.text(name).rstrip() for name in (*statements.TABLES, "uses", "digest", "undo")) + ";"
    literal = f"'{statements.checked_run(run)}'"
    dropped = statements.text("drop").rstrip() + ";"
    return SCRIPT.format(run=literal, journal=statements.JOURNAL, made=made, dropped=dropped)
