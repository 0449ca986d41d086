"""How what a run makes on a server is told from everything else, and what dead runs left there is dropped.

Everything carries the run's id: ``sf_<run>_...``. The run holds a shared advisory lock on that id; what carries an id
nobody locks belongs to a dead run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from psycopg import sql

OURS = "made by session-fix"  # the comment on what is named otherwise
# The names that a run makes, complete: on somebody's server, a beginning like ours is not enough to drop their data.
DATABASE_NAME = "^sf_{run}_([0-9a-f]{{12}}|template|state_[0-9a-z_]+)$"
ROLE_NAME = "^sf_{run}_rest_[0-9a-f]{{6}}$"
RUN = "[0-9a-f]{8}"

Execute = Callable[..., list[tuple[Any, ...]]]  # runs a statement, with its values, for the server as a whole


def prefix(run: str) -> str:
    """Return the beginning of all names that a run makes."""
    return f"sf_{run}_"


def lock_key(run: str) -> int:
    """Return the key of the advisory lock that a run holds as long as it lives."""
    return int.from_bytes(hashlib.sha256(f"session-fix {run}".encode()).digest()[:8], signed=True)


def drop_dead_runs(execute: Execute) -> bool:
    """Drop what the runs made that nobody locks any more; say whether no other run lives.

    What of that fails is raised when all the rest has been dropped.
    """
    found = execute(
        "SELECT substr(datname, 4, 8) FROM pg_database WHERE datname ~ %s "
        "UNION SELECT substr(rolname, 4, 8) FROM pg_roles WHERE rolname ~ %s ORDER BY 1",
        *(DATABASE_NAME.format(run=RUN), ROLE_NAME.format(run=RUN)),
    )
    in_use = []
    with ExitStack() as ending:  # each callback is called, whatever the others raise, and the last one first
        for (run,) in found:
            if execute("SELECT pg_try_advisory_lock(%s)", lock_key(run)) == [(True,)]:
                ending.callback(_drop_run, execute, run)
            else:
                in_use.append(run)
    return not in_use


def _drop_run(execute: Execute, run: str) -> None:
    """Drop what carries the id of ``run``, and let go of its lock."""
    with ExitStack() as ending:
        ending.callback(execute, "SELECT pg_advisory_unlock(%s)", lock_key(run))
        for (name,) in execute("SELECT rolname FROM pg_roles WHERE rolname ~ %s", ROLE_NAME.format(run=run)):
            ending.callback(execute, sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
        databases = "SELECT datname FROM pg_database WHERE datname ~ %s ORDER BY 1"
        for (name,) in execute(databases, DATABASE_NAME.format(run=run)):
            ending.callback(_drop_database, execute, sql.Identifier(name))


def _drop_database(execute: Execute, name: sql.Identifier) -> None:
    execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(name))
    execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
