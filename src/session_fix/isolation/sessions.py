"""The open connection that a private database comes with, made as good as new between two tests, or closed."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn

from session_fix.isolation.tasks import Task, statement
from session_fix.servers import VERSION_15

ENDED = frozenset({TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN})
# Nothing takes back that a session has a setting of somebody's own: once set, it is "" and not NULL. PostgreSQL does
# not list them either, so only those can be asked for that a data API sets and policies read.
# Source: PostgREST manual, "Transaction-Scoped Settings".
OWN = (
    *("request.jwt.claims", "request.jwt.claim.sub", "request.jwt.claim.role", "request.jwt.claim.email"),
    *("request.headers", "request.cookies", "request.method", "request.path"),
)
HAS_NONE = "coalesce({}) IS NULL".format(", ".join(f"current_setting('{name}', true)" for name in OWN))
# DISCARD ALL in its parts, but for the plans, which each test would have to wait for: those of foreign keys follow from
# the catalog alone. The transaction that this is waits for nobody, whatever the session's defaults are.
# Source: PostgreSQL manual, "DISCARD".
DISCARD = (
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE; CLOSE ALL; "
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD TEMP; DISCARD SEQUENCES"
)
FLUSH = "pg_stat_force_next_flush()"  # its counters, see facts.py


class HandedOn(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose server session may outlive it: what forgets it need not have closed it."""

    def __del__(self, _warn: object = None, /) -> None:
        """Do not warn, as psycopg would."""


def parted(connection: HandedOn) -> PGconn | None:
    """Close a connection as its users see it, and return the session below it; None when somebody else has that, too.

    A fixture or a failed test's frames may keep the connection: whatever they do with it, it is closed. A cursor that
    is kept reaches the session itself, and then that is closed as well.
    """
    session, connection.pgconn = connection.pgconn, _closed()
    del connection
    if _references(session) == UNSHARED:
        return session
    session.finish()
    return None


def _references(thing: object) -> int:
    return sys.getrefcount(thing)


def _of_one_variable() -> int:
    thing = object()
    return _references(thing)


UNSHARED = _of_one_variable()  # it differs between versions of Python


@cache
def _closed() -> PGconn:
    """Return a libpq connection that is closed."""
    return psycopg.pq.PGconn.connect_start(b"port=none")  # which it cannot even begin to open


def washed(session: PGconn, *, plans: bool) -> Task[bool]:
    """Make a session as good as a new one; when it cannot be, close it and return False.

    ``plans``: have it forget its plans, too, which may depend on settings where there are functions.
    """
    try:
        if (yield from _is_as_new(session, DISCARD + "; DISCARD PLANS" * plans)):
            return True
    except psycopg.Error:
        pass  # broken by the test, or gone with its server process
    session.finish()
    return False


def _is_as_new(session: PGconn, discard: str) -> Task[bool]:
    if session.pipeline_status != PipelineStatus.OFF or session.transaction_status in ENDED:
        return False
    if session.transaction_status != TransactionStatus.IDLE:
        discard = f"ROLLBACK; {discard}"
    counters = f", {FLUSH}" if session.server_version >= VERSION_15 else ""
    *_, found = yield from statement(session, f"{discard}; SELECT {HAS_NONE}{counters}")
    while session.notifies():  # arrived before, and not for the next test
        pass
    return found.get_value(0, 0) == b"t"
