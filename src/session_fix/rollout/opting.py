"""Adds an option to a database at head, or takes it away: in the lock of a rollout, and without anybody's stall.

``up.sql`` and ``down.sql`` bring a short ``lock_timeout`` of their own. Where they are not let in they are tried again,
each try whole or not at all.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import suppress

import psycopg

from session_fix.errors import RolloutBusyError, RolloutRefusedError, StepFailedError
from session_fix.rollout import lock, objects, target
from session_fix.rollout.happening import Listener, nobody
from session_fix.rollout.options import Option, of
from session_fix.rollout.wanted import VERSION_TABLE

PATIENCE_S = 60.0
PAUSE_S = (0.05, 0.2)
# An index is built for as long as it takes: a build that is cut short leaves an invalid one behind.
NO_LIMIT_MS, LOCK_TIMEOUT_MS, TIDY_TIMEOUT_MS = 0, 200, 30_000
BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
INVALID = "SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('public.' || %s)"


def change(
    params: Mapping[str, str],
    option: Option,
    *,
    undo: bool = False,
    patience_s: float = PATIENCE_S,
    on: Listener = nobody,
) -> None:
    """Add the option, or take it away with ``undo``; both may be done again. What it leaves is read back.

    Raises ``RolloutRefusedError`` where the database is not at head or no project of Supabase's, ``RolloutBusyError``
    when ``patience_s`` seconds of tries were not enough, ``StepFailedError`` where the database refuses a statement.
    """
    deadline = time.monotonic() + patience_s
    with (
        lock.held(params, patience_s=patience_s, on=on),
        target.writing(params, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=NO_LIMIT_MS) as connection,
    ):
        try:
            _check(connection, option, undo=undo)
            if not undo:
                _build(connection, option)
            _try(connection, option.down if undo else option.up, deadline)
            _read_back(connection, option, undo=undo)
        except BUSY:
            raise RolloutBusyError(
                "Others hold the tables for longer than this waits at a time. Look for long transactions with "
                "`session-fix audit`, and run the same command again."
            ) from None
        except psycopg.Error as error:
            raise StepFailedError(
                f"The database refused the option {option.name}: {error.sqlstate or 'connection lost'}, "
                f"{type(error).__name__}. At most its index was built; one that is INVALID will be built anew. Run the "
                "same command again once that is mended."
            ) from None  # its message may hold a name that nobody should read


def _check(connection: psycopg.Connection, option: Option, *, undo: bool) -> None:
    found = objects.read(connection)
    if missing := sorted(name for name in ("table ai_sessions", "table ai_interactions") if name not in found):
        raise RolloutRefusedError(f"There is no {' and no '.join(missing)} in the schema public. Nothing was changed.")
    if undo:
        return
    head = objects.revisions()[-1]
    at = connection.execute("SELECT to_regclass(%s)", (f"public.{VERSION_TABLE}",)).fetchone() != (None,)
    versions = connection.execute(f"SELECT version_num FROM public.{VERSION_TABLE}").fetchall() if at else []
    if versions != [(head,)]:
        said = ", ".join(version for (version,) in versions) or "none"
        raise RolloutRefusedError(
            f"The option {option.name} stands on revision {head}, and the database is at {said}. Migrate it to head "
            "first. Nothing was changed."
        )
    wanted = {name: text for name, text in objects.of_revision(head).items() if name.startswith(("table ", "policy "))}
    if changed := sorted(name for name, text in wanted.items() if found.get(name) != text):
        raise RolloutRefusedError(
            f"Not as revision {head} left it: {', '.join(changed)}. Without row level security a grant opens "
            "every row. Mend that first. Nothing was changed."
        )


def _build(connection: psycopg.Connection, option: Option) -> None:
    connection.execute("SET lock_timeout = 0")  # see NO_LIMIT_MS; nobody waits behind a CONCURRENTLY
    _drop_half_built(connection, option)
    try:
        connection.execute(option.index)
    except psycopg.Error:
        with suppress(psycopg.Error):  # half an index takes writes, and fails them where the disk is full
            connection.execute(f"SET statement_timeout = {TIDY_TIMEOUT_MS}")
            _drop_half_built(connection, option)
        raise
    connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")


def _drop_half_built(connection: psycopg.Connection, option: Option) -> None:
    if connection.execute(INVALID, (option.index_name,)).fetchone() is not None:
        connection.execute(f"DROP INDEX CONCURRENTLY public.{option.index_name}")


def _try(connection: psycopg.Connection, script: str, deadline: float) -> None:
    while True:
        try:
            connection.execute(script)
        except BUSY:
            connection.rollback()
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(*PAUSE_S))  # noqa: S311  no secret
        else:
            return


def _read_back(connection: psycopg.Connection, option: Option, *, undo: bool) -> None:
    found, wanted = objects.read(connection), of(option.name)
    if wrong := sorted(name for name, text in wanted.items() if found.get(name) != (None if undo else text)):
        raise StepFailedError(
            f"The option {option.name} is not as it should be: {', '.join(wrong)}. "
            "Somebody else changes the database at the same time; look, and run the same command again."
        )
