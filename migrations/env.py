"""Run the revisions on the connection that the caller hands over, or on ``DATABASE_URL`` from a shell.

Callers set ``config.attributes["connection"]`` to an open SQLAlchemy connection. One transaction per revision. One
migration of a database at a time: the others wait, and find that there is nothing left to do.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import sqlalchemy as sa
from alembic import context

LOCK = 0x5E55_F1_0000_0001  # `session-fix migrate` takes the same
PATIENCE_S = 3600.0
POLL_S = 0.2
HOLDER = f"""
SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::int8 << 32 | l.objid::int8) = {LOCK}
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608  a constant of ours


def run(connection: sa.Connection) -> None:
    """Apply what alembic was asked for."""
    with alone(connection):
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


@contextmanager
def alone(connection: sa.Connection) -> Iterator[None]:
    """Hold the lock of a rollout for the block; wait for it by asking again.

    Not by a blocking pg_advisory_lock(): its snapshot would be waited for by the holder's CREATE INDEX CONCURRENTLY.
    """
    deadline, told = time.monotonic() + PATIENCE_S, False
    while not _answer(connection, f"SELECT pg_try_advisory_lock({LOCK})")[0][0]:
        holders = ", ".join(f"pid {pid} ({name})" for pid, name in _answer(connection, HOLDER)) or "nobody any more"
        if time.monotonic() > deadline:
            raise SystemExit(f"Another migration of this database has not ended in {PATIENCE_S:g} s: {holders}.")
        if not told:
            sys.stderr.write(f"Waiting for another migration of this database: {holders}\n")
            told = True
        time.sleep(POLL_S)
    try:
        yield
    finally:
        with suppress(sa.exc.DBAPIError):  # a connection that is gone holds no lock
            connection.rollback()  # what failed; all that succeeded is committed
            _answer(connection, f"SELECT pg_advisory_unlock({LOCK})")


def _answer(connection: sa.Connection, query: str) -> list[sa.Row[tuple[object, ...]]]:
    """Return the rows, and leave no transaction open."""
    rows = list(connection.exec_driver_sql(query).all())
    connection.commit()
    return rows


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    # pytest-alembic hands over the engine
    with given.connect() if isinstance(given, sa.Engine) else nullcontext(given) as opened:
        run(opened)
else:
    if not (url := os.environ.get("DATABASE_URL")):
        raise SystemExit("Set DATABASE_URL to the database, as postgresql://user:password@host/name.")
    if "@" in (sa.make_url(url).host or ""):  # the rest of a password, which an error would print
        raise SystemExit("DATABASE_URL has an @ in its password: write it as %40.")
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as opened:
        run(opened)
