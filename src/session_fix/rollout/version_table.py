"""The table alembic_version: what it notes, looked at before a step and written in the step's transaction."""

from __future__ import annotations

import psycopg

from session_fix.errors import StepFailedError
from session_fix.rollout.plan import Plan, Step

MAKES_VERSIONS = "CREATE TABLE alembic_version"
VERSIONS = "SELECT version_num FROM public.alembic_version ORDER BY 1"
HAS_VERSIONS = "SELECT to_regclass('public.alembic_version') IS NOT NULL"
WHERE_WE_ARE = "SELECT current_database()::text, pg_is_in_recovery()"


def noted(connection: psycopg.Connection, *, for_update: bool = False) -> tuple[str, ...]:
    """Return the rows of alembic_version, () where there is no such table."""
    if connection.execute(HAS_VERSIONS).fetchone() != (True,):
        return ()
    return tuple(row[0] for row in connection.execute(VERSIONS + (" FOR UPDATE" if for_update else "")))


def check(connection: psycopg.Connection, plan: Plan, step: Step, *, for_update: bool = False) -> None:
    """Raise ``StepFailedError`` unless this is the plan's database, at the version that the step begins with.

    With the version's row locked, nobody else changes it until the step has ended.
    """
    where = connection.execute(WHERE_WE_ARE).fetchone()
    if where != (plan.binding.database, False):
        raise StepFailedError(
            f"The connection leads elsewhere than it did: {where}. Nothing of {step.id} was done. Look at the DSN."
        )
    versions = noted(connection, for_update=for_update)
    if versions != ((step.before,) if step.before else ()):
        raise StepFailedError(
            f"Somebody else migrates this database: before {step.id}, alembic_version says "
            f"{', '.join(versions) or 'nothing'} instead of {step.before or 'nothing'}. Nothing of this step was "
            "done. Find out who it is; then run the same command again, which goes on from where the database is."
        )


def note(connection: psycopg.Connection, step: Step, statement: str) -> None:
    """Write down where the step leads, by one of its notes. Raises ``StepFailedError`` if others wrote meanwhile."""
    if statement.startswith(MAKES_VERSIONS) and connection.execute(HAS_VERSIONS).fetchone() == (True,):
        return  # a rollback to the beginning empties it
    cursor = connection.execute(statement)
    if statement.startswith(("UPDATE", "DELETE")) and cursor.rowcount != 1:
        raise StepFailedError(
            f"Somebody else migrates this database: {cursor.rowcount} rows of alembic_version were changed by "
            f"{step.id} instead of 1. Nothing of this step was done. Find out who it is first."
        )
