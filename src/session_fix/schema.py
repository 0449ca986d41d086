"""Apply the migrations to a database and read back what is there; a quiet exit is never taken for success."""

from __future__ import annotations

import logging
import threading

import psycopg
from psycopg.conninfo import make_conninfo

from session_fix import connecting, folders
from session_fix.errors import MigrationIncompleteError

TABLES = frozenset({"ai_sessions", "ai_interactions"})
_alembic = threading.Lock()  # alembic keeps its state in module globals


def migrate(params: dict[str, str], *, to: str = "head") -> str:
    """Bring the database up to a revision, the newest by default; return that revision.

    ``params`` are libpq connection parameters with ``dbname``. Raises ``MigrationIncompleteError``, or what the
    database raised.
    """
    import sqlalchemy as sa  # noqa: PLC0415  a second to import, and only this function needs them
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    with _alembic:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        config = Config()
        config.set_main_option("script_location", str(folders.bundled("migrations")).replace("%", "%%"))
        # A creator, not a URL: SQLAlchemy and alembic print URLs in errors.
        engine = sa.create_engine("postgresql+psycopg://", creator=lambda: _connect(params), poolclass=sa.NullPool)
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, to)
        reached = ScriptDirectory.from_config(config).get_revision(to)
    _verify(params, reached.revision)
    return str(reached.revision)


def _connect(params: dict[str, str]) -> psycopg.Connection:
    return connecting.connect(make_conninfo(**params))


def _verify(params: dict[str, str], head: str | None) -> None:
    with _connect(params) as connection:
        versions = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
        found = {row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    if versions != [head] or not found >= TABLES:
        raise MigrationIncompleteError(
            f"Alembic reported success, but the version is {versions} instead of {head!r} "
            f"and these tables are missing: {sorted(TABLES - found) or 'none'}."
        )
