"""What a rollout has done, in the database itself: ``session_fix.rollout_steps``, one row a step of a plan.

A step that is a transaction has its row written in it. The first row of a plan, in position 0, is the plan's own: it
keeps what differed from the migrations when the plan was begun, so that a rerun can tell that from what came later, and
the plan itself, so that a rollback that broke off goes on with the steps that it was begun with.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg.types.json import Jsonb

from session_fix.rollout import plan as plans
from session_fix.rollout.plan import Plan, Step

Drift = Mapping[str, tuple[str | None, str | None]]  # what objects.difference() returns

SCHEMA, TABLE = "session_fix", "session_fix.rollout_steps"
BEGUN, RUNNING, DONE = "begun", "running", "done"
MAKE = (
    f"""CREATE TABLE IF NOT EXISTS {TABLE} (
        plan text NOT NULL, position int NOT NULL, step text NOT NULL, state text NOT NULL, drift jsonb, file text,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(), finished_at timestamptz,
        tries int NOT NULL DEFAULT 0, pid int NOT NULL DEFAULT pg_backend_pid(),
        application text NOT NULL DEFAULT current_setting('application_name'), PRIMARY KEY (plan, position))""",
    f"COMMENT ON TABLE {TABLE} IS 'What session-fix migrate has done, step by step'",
)
EXISTS = f"SELECT to_regclass('{TABLE}') IS NOT NULL"
NOTE = f"""
INSERT INTO {TABLE} AS s (plan, position, step, state, drift, tries) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (plan, position) DO UPDATE SET state = excluded.state, tries = s.tries + excluded.tries,
    pid = excluded.pid, application = excluded.application
"""
KEEP = f"UPDATE {TABLE} SET file = %s WHERE plan = %s AND position = 0"
LATEST = f"SELECT file FROM {TABLE} WHERE position = 0 ORDER BY started_at DESC LIMIT 1"
FINISH = f"UPDATE {TABLE} SET state = '{DONE}', finished_at = clock_timestamp() WHERE plan = %s AND position = %s"


def begin(connection: psycopg.Connection, plan: Plan, drift: Drift) -> None:
    """Note that the plan was begun, unless it is noted already."""
    with connection.transaction():
        if connection.execute(f"SELECT to_regnamespace('{SCHEMA}') IS NULL").fetchone() == (True,):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        if connection.execute(EXISTS).fetchone() != (True,):
            for statement in MAKE:
                connection.execute(statement)
        if drift_at_begin(connection, plan) is None:
            connection.execute(NOTE, (plan.hash, 0, "", BEGUN, Jsonb(drift), 1))
            connection.execute(KEEP, (plans.written(plan), plan.hash))


def drift_at_begin(connection: psycopg.Connection, plan: Plan) -> Drift | None:
    """Return what differed from the migrations when the plan was begun, None where it was not begun."""
    if connection.execute(EXISTS).fetchone() != (True,):
        return None
    row = connection.execute(f"SELECT drift FROM {TABLE} WHERE plan = %s AND position = 0", (plan.hash,)).fetchone()
    return {name: (has, wants) for name, (has, wants) in row[0].items()} if row else None


def latest(connection: psycopg.Connection) -> Plan | None:
    """Return the plan that was begun last, if one was and it is known. Raises ``UsageError`` when it was changed."""
    if connection.execute(EXISTS).fetchone() != (True,):
        return None
    row = connection.execute(LATEST).fetchone()
    return plans.read(row[0]) if row and row[0] else None


def running(connection: psycopg.Connection, plan: Plan, step: Step, *, tries: int) -> None:
    """Note that a step is under way; inside its transaction, if it is one."""
    connection.execute(NOTE, (plan.hash, position(plan, step), step.id, RUNNING, None, tries))


def finished(plan: Plan, step: Step) -> tuple[str, tuple[str, int]]:
    """Return the statement, with its values, that notes that a step is done."""
    return FINISH, (plan.hash, position(plan, step))


def done(connection: psycopg.Connection, plan: Plan) -> frozenset[int]:
    """Return the positions of the steps that are noted as done."""
    if connection.execute(EXISTS).fetchone() != (True,):
        return frozenset()
    query = f"SELECT position FROM {TABLE} WHERE plan = %s AND state = '{DONE}'"
    return frozenset(row[0] for row in connection.execute(query, (plan.hash,)))


def position(plan: Plan, step: Step) -> int:
    """Return a step's place in its plan, counted from 1."""
    return plan.steps.index(step) + 1
