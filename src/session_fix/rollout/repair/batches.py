"""Batches: each one transaction, tried again where others are in the way, and as large as its time allows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from session_fix.errors import DatabaseUnreadableError, RolloutBusyError, SessionFixError, StepFailedError
from session_fix.rollout import failing, replicas, sessions, target
from session_fix.rollout.happening import Listener
from session_fix.rollout.repair import pace, statements

APPLICATION = "session-fix repair"
OTHERS_ARE_IN_THE_WAY = ("55P03", "40P01", "40001")  # a lock's timeout, a deadlock, a row that went away
OURS = "SFX01"  # an exception that our own SQL raises, with a message that holds no row
TODO = {
    "42501": "The role lacks a right: run as the owner of the tables, who may create the schema session_fix.",
    "23502": "A column of ai_sessions is NOT NULL and has no default, so no session can be stored.",
    "23514": "A check refuses a row; `session-fix audit` counts such rows.",
    "25006": "The database is read only: a replica, or set so.",
    "53100": "The disk is full.",
    "57014": "It took longer than its statement_timeout, or somebody cancelled it.",
}
KEPT = "What was done is kept."
WHO = """
SELECT pid, application_name, extract(epoch FROM clock_timestamp() - xact_start)::int8 FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    AND backend_type = 'client backend' ORDER BY xact_start LIMIT 3
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch did: the row that its function returns, and what it took."""

    counts: Mapping[str, Any]
    took_ms: float
    retries: int
    done: int  # of the work list, this batch included


def run(
    connection: psycopg.Connection,
    call: str,
    values: tuple[Any, ...],
    *,
    of: int,
    rows: int,
    batch_ms: float,
    wait: Callable[[], None],
) -> Iterator[Batch]:
    """Work through the list, ``call`` by ``call``, at most ``rows`` at a time; yield what each batch did.

    Before each, ``wait``.
    """
    done, size = 0, min(pace.FIRST_ROWS, rows)
    while done < of:
        wait()
        upto = min(done + size, of)
        pick = statements.PICK.format(after=done, upto=upto)
        counts, took_ms, retries = _until_it_is_through(connection, pick, call, values)
        done, size = upto, pace.next_rows(upto - done, took_ms, batch_ms=batch_ms, most=rows)
        yield Batch(counts, took_ms, retries, done)


def waiting(
    connection: psycopg.Connection,
    *,
    ignore_replicas: bool,
    patience_s: float,
    on: Listener,
    check: Callable[[], None],
) -> Callable[[], None]:
    """Return what waits, before a batch, until each replica has what was written by then, and then runs ``check``.

    Raises ``RolloutBusyError``, ``StepFailedError``.
    """

    def wait() -> None:
        if not ignore_replicas:
            _wait_for_replicas(connection, patience_s, on)
        check()

    return wait


def _wait_for_replicas(connection: psycopg.Connection, patience_s: float, on: Listener) -> None:
    try:
        replicas.wait(connection, "The next batch", patience_s=patience_s, on=on, kept=KEPT)
    except psycopg.Error as error:
        if sessions.is_lost(connection):
            raise
        raise StepFailedError(
            f"How far replicas are cannot be seen: {failing.said(error)}. {KEPT} Run the same command again with "
            "--ignore-replicas."
        ) from None


def _until_it_is_through(
    connection: psycopg.Connection, pick: str, call: str, values: tuple[Any, ...]
) -> tuple[Mapping[str, Any], float, int]:
    waits, retries = pace.pauses(random.random), 0
    while True:
        began = time.monotonic()
        try:
            with connection.transaction():
                connection.execute(pick.encode())
                with connection.cursor(row_factory=dict_row) as cursor:
                    counts = cursor.execute(call.encode(), values).fetchone() or {}
        except psycopg.Error as error:
            if error.sqlstate not in OTHERS_ARE_IN_THE_WAY or connection.closed:
                raise
            if (pause_s := next(waits, None)) is None:
                raise RolloutBusyError(_busy(connection, error.sqlstate)) from None
            time.sleep(pause_s)
            retries += 1
        else:
            return counts, 1000 * (time.monotonic() - began), retries


def _busy(connection: psycopg.Connection, sqlstate: str) -> str:
    found = connection.execute(WHO).fetchall()
    named = ", ".join(f"pid {pid} ({name or 'no application_name'}, {age_s} s)" for pid, name, age_s in found)
    return (
        f"Others hold rows that a batch needs ({sqlstate}), at each of {pace.TRIES} tries. Open transactions: "
        f"{named or 'none any more'}. {KEPT} Run the same command again to go on."
    )


@contextmanager
def translated(params: Mapping[str, str]) -> Iterator[None]:
    """Turn what the database raises in the block into errors of ours, none of which quotes a row."""
    try:
        yield
    except psycopg.Error as error:
        raise _translation(error, params) from None


def _translation(error: psycopg.Error, params: Mapping[str, str]) -> SessionFixError:
    lost = "The batch under way was rolled back or committed as a whole, what was done is kept: a rerun goes on."
    if not error.sqlstate or error.sqlstate.startswith(("08", "57P")):
        return DatabaseUnreadableError(f"{target.unreadable(error, params)} {lost}")
    if error.sqlstate in OTHERS_ARE_IN_THE_WAY:
        return RolloutBusyError(f"Others hold what the repair needs ({error.sqlstate}). {lost}")
    what = error.diag.message_primary if error.sqlstate == OURS else type(error).__name__
    todo = TODO.get(error.sqlstate, "")
    return StepFailedError(
        f"The database refused a batch, which was rolled back: {error.sqlstate}, {what}. {todo}".strip()
    )
