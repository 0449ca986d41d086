"""The database of a rollout: its DSN from a variable, a transaction that can only read, a session that may write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from session_fix import connecting, libpq
from session_fix.errors import DatabaseUnreadableError, RolloutRefusedError, UsageError
from session_fix.servers import NOT_FROM_ENVIRONMENT, external

AUDIT, MIGRATE = "session-fix audit", "session-fix migrate"  # application_name
CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_MS = 500  # whoever waits for longer stands behind DDL, and others behind us
IDLE_TIMEOUT_S = 60  # a client that hangs must not hold its snapshot for ever
# What PgBouncer says of options. It has to be told by words: no SQLSTATE comes with an error of connecting.
REFUSES_OPTIONS = "unsupported startup parameter"
READ_BACK = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY(%s)"


def params(
    variable: str,
    *,
    allow_remote: bool,
    purpose: str = "it may be read from here",
    environ: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the libpq parameters of the DSN in the environment variable; ``purpose`` ends the refusal of a remote one.

    Raises ``UsageError``, which never quotes the DSN: it may hold a password.
    """
    if not (dsn := environ.get(variable)):
        raise UsageError(
            "The variable that --dsn-variable names is not set. Put the DSN of the database there, as "
            "postgresql://user:password@host:5432/database; on the command line `ps` would show its password."
        )
    found = external.checked(dsn, allow_remote=allow_remote, purpose=purpose)
    # Where a password holds a character that is not encoded, libpq takes the rest of it for something else.
    if not re.fullmatch(r"[\d,]*", found.get("port", "")) or "@" in found.get("dbname", ""):
        raise UsageError(external.UNREADABLE)
    if not found.get("dbname"):
        raise UsageError("The DSN names no database. Name it: one from the environment would be easy to mistake.")
    return found


def settings(timeout_s: float) -> dict[str, str]:
    """Return what the session must have set, in PostgreSQL's own units: milliseconds."""
    return {
        "default_transaction_read_only": "on",
        "default_transaction_isolation": "repeatable read",
        "statement_timeout": str(int(timeout_s * 1000)),
        "lock_timeout": str(LOCK_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_S * 1000),
        "row_security": "off",  # to be refused, instead of counting the rows that a policy leaves to see
        "search_path": "pg_catalog",  # no operator or table of somebody else's can stand in for another
        "jit": "off",
    }


@contextmanager
def reading(target: Mapping[str, str], *, timeout_s: float) -> Iterator[tuple[psycopg.Connection, bool]]:
    """Yield a connection inside a read-only transaction with one snapshot, and whether its options arrived.

    A pooler may keep connection options from the server; then they are set once more, for this transaction alone.
    Raises ``DatabaseUnreadableError`` when the database does not answer, does not let us in or goes away.
    """
    wanted = settings(timeout_s)
    try:
        with _connect(target, wanted, AUDIT) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                yield connection, _arrived(connection, wanted)
    except psycopg.Error as error:
        raise unreadable(error, target) from None  # its cause would show in a traceback, with what it quotes


def writing(
    target: Mapping[str, str], *, lock_timeout_ms: int, statement_timeout_ms: int, application: str = MIGRATE
) -> psycopg.Connection:
    """Return a session for a rollout, in autocommit, with these timeouts in force; 0 is none.

    They are connection options, which hold from the first statement on, and are read back: behind a pooler that keeps
    them from the server, a step would run without a limit. Raises ``RolloutRefusedError``, ``DatabaseUnreadableError``.
    """
    wanted = {
        "lock_timeout": str(lock_timeout_ms),
        "statement_timeout": str(statement_timeout_ms),
        "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_S * 1000),
        "search_path": "public",  # Alembic names its version table without a schema
        "default_transaction_read_only": "off",
        "default_transaction_isolation": "read committed",
    }
    try:
        connection = _connect(target, wanted, application)
    except psycopg.Error as error:
        raise unreadable(error, target) from None
    with ExitStack() as failing:
        failing.callback(connection.close)
        connection.autocommit = True
        if missing := _missing(connection, wanted):
            raise RolloutRefusedError(
                f"These settings do not reach the server: {', '.join(missing)}. A pooler in between keeps them back; "
                "use the database's own address, or a pooler in session mode. Nothing was changed."
            )
        failing.pop_all()
    return connection


def _connect(target: Mapping[str, str], wanted: Mapping[str, str], application: str) -> psycopg.Connection:
    ours = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in wanted.items())
    given = NOT_FROM_ENVIRONMENT | dict(target)
    given |= {"application_name": application, "client_encoding": "utf8", "connect_timeout": str(CONNECT_TIMEOUT_S)}
    try:
        options = f"{given['options']} {ours}".strip()
        return connecting.connect(make_conninfo(**given | {"options": options}), prepare_threshold=None)
    except psycopg.OperationalError as error:
        if REFUSES_OPTIONS not in str(error):
            raise
        return connecting.connect(make_conninfo(**given), prepare_threshold=None)


def _arrived(connection: psycopg.Connection, wanted: Mapping[str, str]) -> bool:
    must = {"transaction_read_only": "on", "transaction_isolation": "repeatable read"}
    if arrived := _missing(connection, wanted) == {}:
        wanted = {}
    for name, value in wanted.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
    if missing := _missing(connection, must | dict(wanted)):
        raise DatabaseUnreadableError(f"The database does not let these be set for reading: {', '.join(missing)}.")
    return arrived


def _missing(connection: psycopg.Connection, wanted: Mapping[str, str]) -> dict[str, str]:
    there: dict[str, str] = dict(connection.execute(READ_BACK, (list(wanted),)).fetchall())
    return {name: value for name, value in wanted.items() if there.get(name) != value}


def unreadable(error: psycopg.Error, target: Mapping[str, str]) -> DatabaseUnreadableError:
    """Return the error to raise: the SQLSTATE of a statement, whose message may hold a row, or why no connection is."""
    if error.sqlstate:
        return DatabaseUnreadableError(f"The database cannot be read: {error.sqlstate}, {type(error).__name__}.")
    what = libpq.without_secrets(" ".join(str(error).split()), target)
    return DatabaseUnreadableError(f"The database cannot be reached: {what}")
