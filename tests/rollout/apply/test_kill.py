"""Wherever a rollout is killed, one rerun of the same plan reaches the end, and nothing has to be done by hand.

Killed is the tool, its session, or the server, before and after each exchange of the sessions that write.
"""

import itertools
import time
from contextlib import contextmanager

import psycopg
import pytest

from session_fix.database import Database
from session_fix.rollout import objects
from session_fix.rollout import plan as plans
from session_fix.servers import embedded

pytestmark = pytest.mark.needs_proc
IDS = ["", *objects.revisions()]
HEAD = IDS[-1]
KILLED = -9
TRANSACTION, CONCURRENTLY = IDS.index("0014_interactions_checks"), IDS.index("0011_interactions_session_index")


@pytest.fixture(scope="module")
def driver(start_driver):
    """Return a function that carries out a plan in a process of its own, and returns its exit code and its points."""
    begin = start_driver()

    def run(plan, params, admin, **what):
        answer = begin({"plan": plans.written(plan), "params": params, "admin": admin, **what})()
        return answer["code"], answer["points"]

    return run


@pytest.fixture(scope="module")
def own():
    """Yield a server of its own that keeps what it has acknowledged, and may be crashed."""
    with embedded.start(durable=True) as (server, _):
        with psycopg.connect(**server.admin, dbname="postgres", autocommit=True) as connection:
            for role in objects.ROLES:
                connection.execute(f"CREATE ROLE {role}")
        yield server.admin


@pytest.fixture(scope="module")
def cloned(own, migrated):
    """Return a context manager that yields where a new database at a revision is, which goes with it.

    A server that crashed looks at each file of each database before it lets anybody in.
    """
    templates, numbers = {}, itertools.count()

    def execute(statement):
        """Run it as soon as the server has recovered and a session that was killed is gone."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(**own, dbname="postgres", autocommit=True) as connection:
                    return connection.execute(statement)
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def create(template):
        name = f"killed_{next(numbers)}"
        execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log")
        return own | {"dbname": name}

    @contextmanager
    def clone(revision):
        if revision not in templates:
            params = create("template0")
            templates[revision] = migrated(Database(params["dbname"], params), revision).name
        params = create(templates[revision])
        yield params
        execute(f"DROP DATABASE {params['dbname']} WITH (FORCE)")

    return clone


@pytest.fixture
def survives(driver, cloned, own, plan_to, eventually):
    """Return a function that tries a kill at points between two revisions, and returns how many it tried."""
    admin = own | {"dbname": "postgres"}

    def reached(params, target):
        try:
            with psycopg.connect(**params) as connection:
                versions = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
                return versions, objects.difference(objects.read(connection), of(target), exact=False)
        except psycopg.errors.UndefinedTable:  # before the first revision
            return [], {}
        except psycopg.OperationalError:  # the server recovers
            return None

    def attempt(before, target, point, what):
        with cloned(before) as params:
            plan = plan_to(params, target)
            code, _ = driver(plan, params, admin, point=point, what=what)
            assert (code == KILLED) == (what == "kill"), (code, point)
            eventually(lambda: reached(params, target) is not None)
            assert driver(plan, params, admin)[0] == 0, (point, what)
            assert reached(params, target) == ([target] if target else [], {}), (point, what)

    def sweep(before, target, what, every=1, first=1):
        with cloned(before) as params:
            code, points = driver(plan_to(params, target), params, admin)
            assert code == 0
        tried = range(first, points + 1, every)
        for point in tried:
            attempt(before, target, point, what)
        print(f"{len(tried)} of {points} points from {before or 'base'} to {target or 'base'}: {what}")  # noqa: T201
        return len(tried)

    return sweep


def of(target):
    """Return what a revision leaves."""
    return objects.of_revision(target) if target else {}


@pytest.mark.parametrize("number", [TRANSACTION, CONCURRENTLY])
@pytest.mark.parametrize(("what", "every"), [("kill", 13), ("terminate", 17), ("crash", 23)])
def test_a_slice_of_the_points(survives, number, what, every):
    """A transaction and an index: which points are tried shifts with the kind of death."""
    assert survives(IDS[number - 1], IDS[number], what, every, first=every // 2) >= 2


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(1, len(IDS)))
@pytest.mark.parametrize("what", ["kill", "terminate", "crash"])
@pytest.mark.parametrize("up", [True, False])
def test_every_point_of_every_revision(survives, number, what, up):
    """Before and after everything that is sent, revision by revision, both ways."""
    before, after = (IDS[number - 1], IDS[number]) if up else (IDS[number], IDS[number - 1])
    assert survives(before, after, what) >= 30


WHOLE = (("kill", 7), ("terminate", 11), ("crash", 23))


@pytest.mark.parametrize(
    ("what", "every"), [("kill", 300), *(pytest.param(*one, marks=pytest.mark.nightly) for one in WHOLE)]
)
@pytest.mark.parametrize("ends", [("", HEAD), (HEAD, "")])
@pytest.mark.timeout(3600)
def test_points_of_the_whole_way(survives, what, every, ends):
    """All revisions in one plan: a rerun finds out where it is by itself."""
    assert survives(*ends, what, every, first=every // 2) >= 2


@pytest.mark.parametrize("ends", [("", HEAD), (HEAD, "")])
def test_each_statement_has_its_points(driver, cloned, own, plan_to, ends):
    """A sweep over too few points would pass for a proof: each statement has two, and so have BEGIN and COMMIT."""
    with cloned(ends[0]) as params:
        plan = plan_to(params, ends[1])
        statements = sum(len(step.statements) + len(step.notes) + 2 for step in plan.steps)
        _, points = driver(plan, params, own | {"dbname": "postgres"})
    assert points >= 2 * statements
