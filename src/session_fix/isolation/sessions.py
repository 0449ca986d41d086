"""The open connection that a private database comes with, made as good as new between two tests, or closed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn

ENDED = frozenset({TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN})
# Nothing takes back that a session has a setting of somebody's own, such as request.jwt.claims: once set, it is "" and
# not NULL. Those of PL/pgSQL come with its first use.
OWN_SETTINGS = b"SELECT FROM pg_settings WHERE category = 'Customized Options' AND name NOT LIKE 'plpgsql.%' LIMIT 1"


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


def washed(pgconn: PGconn) -> bool:
    """Make a session as good as a new one; when it cannot be, close it and return False."""
    try:
        if all(_steps(pgconn)):
            return True
    except psycopg.Error:
        pass  # broken by the test, or gone with its server process
    pgconn.finish()
    return False


def _steps(pgconn: PGconn) -> Iterator[bool]:
    yield pgconn.pipeline_status == PipelineStatus.OFF and pgconn.transaction_status not in ENDED
    if pgconn.transaction_status != TransactionStatus.IDLE:
        yield pgconn.exec_(b"ROLLBACK").status == ExecStatus.COMMAND_OK
    yield pgconn.exec_(b"DISCARD ALL").status == ExecStatus.COMMAND_OK
    own_settings = pgconn.exec_(OWN_SETTINGS)
    yield own_settings.status == ExecStatus.TUPLES_OK and own_settings.ntuples == 0
    while pgconn.notifies():  # arrived before, and not for the next test
        pass
