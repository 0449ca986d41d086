"""Plans made from the revisions alone, for the databases of these tests."""

from datetime import UTC, datetime

import psycopg
import pytest

from session_fix import schema
from session_fix.rollout import apply as applying
from session_fix.rollout import objects, revisions
from session_fix.rollout.plan import Binding, Kind, Plan, Step

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2
IDS = ["", *(revision.id for revision in revisions.chain())]
HEAD = IDS[-1]


def binding(params):
    """Return what binds a plan to the database as it is now."""
    query = """
        SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database()::text,
            current_setting('server_version_num')::int, to_regclass('public.alembic_version') IS NOT NULL
    """
    with psycopg.connect(**params) as connection:
        *known, has_versions = connection.execute(query).fetchone()
        versions = connection.execute("SELECT version_num FROM alembic_version").fetchall() if has_versions else []
        fingerprint = objects.fingerprint(objects.read(connection))
    return Binding(
        **dict(zip(("system_identifier", "database", "server_version"), known, strict=True)),
        fingerprint=fingerprint,
        versions=tuple(version for (version,) in versions),
    )


def step(revision, *, up, lock_timeout_ms=10):
    """Return the step of a revision."""
    script = revision.up if up else revision.down
    before, after = (revision.before, revision.id) if up else (revision.id, revision.before)
    return Step(
        id=revision.id,
        title=revision.title,
        kind=Kind.CONCURRENTLY if script.concurrently else Kind.TRANSACTION,
        before=before,
        after=after,
        statements=script.statements,
        notes=script.notes,
        lock_timeout_ms=0 if script.concurrently else lock_timeout_ms,
        statement_timeout_ms=60_000,
    )


def planned(params, target=HEAD, **options):
    """Return the plan from where the database is to a revision, "" for the time before the first."""
    bound = binding(params)
    at = IDS.index(bound.versions[0]) if bound.versions else 0
    to = IDS.index(target)
    chain = revisions.chain()
    between = chain[at:to] if to >= at else chain[to:at][::-1]
    steps = tuple(step(one, up=to >= at, **options) for one in between)
    return Plan(
        direction="up" if to >= at else "down",
        target=target,
        made_at=datetime.now(UTC).isoformat(),
        binding=bound,
        steps=steps,
    )


@pytest.fixture
def empty(session_fix_stack):
    """Yield a private database with nothing in it, on a server that has the data API's roles."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    yield database
    databases.drop(database)


@pytest.fixture
def at(empty):
    """Return a function that migrates the empty database to a revision by Alembic, and returns it."""

    def migrate(revision):
        if revision:
            schema.migrate(empty.params, to=revision)
        return empty

    return migrate


@pytest.fixture
def events():
    """Return a list for what happens; its ``append`` is a listener."""
    return []


@pytest.fixture
def applied(events):
    """Return a function that applies a plan to a database, and listens."""

    def run(plan, database, **options):
        return applying.apply(plan, database.params, on=events.append, **options)

    return run
