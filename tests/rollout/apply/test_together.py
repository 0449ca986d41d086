"""Several rollouts at once: one works, the others wait and find that there is nothing left to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from session_fix.rollout import objects, revisions
from session_fix.rollout import plan as plans

IDS = [revision.id for revision in revisions.chain()]
HEAD, MIDDLE = IDS[-1], "0009_repair_orphans"
CHECKOUT = Path(__file__).parents[3]
PROGRAMS = Path(sys.executable).parent
NIGHTLY = [pytest.param(trial, marks=pytest.mark.nightly) for trial in range(1, 101)]


@pytest.fixture
def started(empty, planned, tmp_path):
    """Return a function that starts rollouts and Alembic's own at once, and returns how each of them ended."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "SESSION_FIX", "PYTEST"))}
    params = empty.params
    url = "postgresql:///{dbname}?host={host}&port={port}&user={user}&password={password}"
    env |= {
        "SESSION_FIX_DSN": make_conninfo(**params),
        "DATABASE_URL": url.format(**{"port": "5432", "password": ""} | params),
    }

    def start(rollouts, alembics=0):
        file = tmp_path / "plan.json"
        file.write_text(plans.written(planned(empty)))
        apply = [PROGRAMS / "session-fix", "migrate", "apply", file, "--patience", "200"]
        alembic = [PROGRAMS / "alembic", "upgrade", "head"]
        running = [
            subprocess.Popen(
                command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
            )
            for command in [apply] * rollouts + [alembic] * alembics
        ]
        said = [process.communicate(timeout=250)[0] for process in running]
        return [(process.returncode, text) for process, text in zip(running, said, strict=True)]

    return start


def check(database, schema_of):
    """Check that the database is at the head, and has no index that is not valid."""
    assert database.rows("SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert objects.difference(schema_of(database), objects.of_revision(HEAD)) == {}
    assert database.rows("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid") == []


@pytest.mark.parametrize("trial", [0, *NIGHTLY])
@pytest.mark.parametrize("begin", ["", MIDDLE])
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("trial")
def test_eight_at_once(at, started, schema_of, begin):
    """Eight replicas of a deployment begin together: plain Alembic has losers then, or leaves an INVALID index."""
    database = at(begin)
    ended = started(8)
    assert [code for code, _ in ended] == [0] * 8, ended
    assert sum("nothing was left to do" in said for _, said in ended) == 7, ended
    check(database, schema_of)


@pytest.fixture
def trial(request):
    """Return the number of the trial, which nothing but its repetition depends on."""
    return request.param


@pytest.mark.parametrize("begin", ["", MIDDLE])
@pytest.mark.timeout(300)
def test_with_alembic_among_them(at, started, schema_of, begin):
    """Somebody's pipeline runs `alembic upgrade head`: it takes the same lock, so it waits, or is waited for."""
    database = at(begin)
    ended = started(2, alembics=1)
    assert [code for code, _ in ended] == [0] * 3, ended
    check(database, schema_of)
