"""The plan of a rollback: the revisions' own way down, newest first, for the database as it is now."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from session_fix.errors import RolloutRefusedError, UsageError
from session_fix.rollout import objects, revisions
from session_fix.rollout.performing import noted
from session_fix.rollout.plan import Binding, Kind, Plan, Step

LOCK_TIMEOUT_MS = 10  # each step down takes ACCESS EXCLUSIVE: others wait for that long at most, try by try
STATEMENT_TIMEOUT_MS = 60_000
IDENTITY = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database()::text,
    current_setting('server_version_num')::int
"""


def plan(connection: psycopg.Connection, target: str) -> Plan:
    """Return the plan down to a revision, "base" for the time before the first.

    Raises ``UsageError`` for a target that is no revision or lies above, ``RolloutRefusedError`` where no single known
    revision is noted. Raises ``psycopg.Error``.
    """
    chain = revisions.chain()
    ids = ["", *(revision.id for revision in chain)]
    to = "" if target == revisions.BASE else target
    if to not in ids:
        raise UsageError(f"--to {target} is no revision. There are: {revisions.BASE}, {', '.join(ids[1:])}.")
    versions = noted(connection)
    version = versions[0] if versions else ""
    if len(versions) > 1 or version not in ids:
        raise RolloutRefusedError(
            f"alembic_version says {', '.join(versions)}, from where no way down is known. Nothing was changed. "
            "`session-fix migrate status` says more."
        )
    if ids.index(to) > ids.index(version):
        raise UsageError(
            f"--to {target} lies above {version or revisions.BASE}, where the database is: that takes a plan and apply."
        )
    between = chain[ids.index(to) : ids.index(version)]
    return Plan(
        direction="down",
        target=to,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        binding=_binding(connection, versions),
        steps=tuple(_step(revision) for revision in reversed(between)),
    )


def _binding(connection: psycopg.Connection, versions: tuple[str, ...]) -> Binding:
    row = connection.execute(IDENTITY).fetchone()
    assert row  # noqa: S101  a SELECT without FROM has one
    return Binding(
        system_identifier=row[0],
        database=row[1],
        server_version=row[2],
        fingerprint=objects.fingerprint(objects.read(connection)),
        versions=versions,
    )


def _step(revision: revisions.Revision) -> Step:
    script = revision.down
    return Step(
        id=revision.id,
        title=f"Undone: {revision.title}",
        kind=Kind.CONCURRENTLY if script.concurrently else Kind.TRANSACTION,
        before=revision.id,
        after=revision.before,
        statements=script.statements,
        notes=script.notes,
        lock_timeout_ms=0 if script.concurrently else LOCK_TIMEOUT_MS,
        statement_timeout_ms=0 if script.concurrently else STATEMENT_TIMEOUT_MS,
        resumes="It is all or nothing: a rerun does it again.",
    )
