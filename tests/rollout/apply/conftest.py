"""Plans made from the revisions alone, for the databases of these tests."""

import importlib.util
import json
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from session_fix.rollout import apply as applying
from session_fix.rollout import objects, revisions
from session_fix.rollout.plan import Binding, Kind, Plan, Step

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2
IDS = ["", *objects.revisions()]
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


def plan_between(params, target=HEAD, **options):
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
def at(empty, migrated):
    """Return a function that migrates the empty database to a revision, and returns it."""
    return lambda revision: migrated(empty, revision)


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


@pytest.fixture(scope="session")
def plan_to():
    """Return a function that makes the plan from where the database at libpq parameters is to a revision."""
    return plan_between


@pytest.fixture
def planned():
    """Return a function that makes the plan from where a database is to a revision, "" for before the first."""
    return lambda database, target=HEAD, **options: plan_between(database.params, target, **options)


@pytest.fixture
def schema_of():
    """Return a function that reads a database's schema."""

    def read(database):
        with database.connect() as connection:
            return objects.read(connection)

    return read


@pytest.fixture
def state_of(schema_of):
    """Return a function that returns all of a database that a rollout writes."""

    def look(database):
        versions = "SELECT to_regclass('alembic_version')::text, to_regnamespace('session_fix')::text"
        found = database.rows(versions)
        return found, database.rows("SELECT * FROM alembic_version") if found[0][0] else [], schema_of(database)

    return look


@pytest.fixture
def load_pooler():
    """Return the class of a pooler in transaction mode."""
    spec = importlib.util.spec_from_file_location("pooling", Path(__file__).with_name("pooling.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TransactionPooler


@pytest.fixture(scope="module")
def start_driver(tmp_path_factory):
    """Return a function that starts a process that carries out plans, and returns what hands it a task.

    That returns a function which waits for the answer. They end with the module.
    """
    said = tmp_path_factory.mktemp("driver") / "stderr"
    with ExitStack() as stack:
        stderr = stack.enter_context(said.open("ab"))

        def start():
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, Path(__file__).with_name("driver.py")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    encoding="utf-8",
                )
            )

            def answered():
                answer = json.loads(process.stdout.readline())
                assert answer["code"] != 99, said.read_text()
                return answer

            def begin(task):
                process.stdin.write(json.dumps(task) + "\n")
                process.stdin.flush()
                return answered

            return begin

        yield start
