"""Run the revisions on the connection that the caller hands over, or on ``DATABASE_URL`` from a shell.

Callers set ``config.attributes["connection"]`` to an open SQLAlchemy connection. One transaction per revision.
"""

import os
from contextlib import nullcontext

import sqlalchemy as sa
from alembic import context


def run(connection: sa.Connection) -> None:
    """Apply what alembic was asked for."""
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


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
