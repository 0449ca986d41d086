"""Several rollouts at once: one works, the others wait and find that there is nothing left to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from session_fix.rollout import objects
from session_fix.rollout import plan as plans

IDS = objects.revisions()
HEAD, MIDDLE = IDS[-1], "0009_repair_orphans"
CHECKOUT = Path(__file__).parents[3]
PROGRAMS = Path(sys.executable).parent
NIGHTLY = [pytest.param(trial, marks=pytest.mark.nightly) for trial in range(1, 101)]


@pytest.fixture(scope="module")
def eight(start_driver):
    """Return what hands a task to each of eight processes."""
    return [start_driver() for _ in range(8)]


def check(database, schema_of):
    """Check that the database is at the head, and has no index that is not valid."""
    assert database.rows("SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert objects.difference(schema_of(database), objects.of_revision(HEAD)) == {}
    assert database.rows("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid") == []


@pytest.mark.parametrize("trial", [0, *NIGHTLY])
@pytest.mark.parametrize("begin", ["", MIDDLE])
@pytest.mark.timeout(300)
def test_eight_at_once(at, planned, eight, schema_of, begin, trial):
    """Eight replicas of a deployment begin together: plain Alembic has losers then, or leaves an INVALID index."""
    database = at(begin)
    task = {"plan": plans.written(planned(database)), "params": database.params, "admin": {}}
    ended = [answered() for answered in [hand_over(task) for hand_over in eight]]
    assert [one["code"] for one in ended] == [0] * 8, trial
    whole = len(IDS) - (IDS.index(begin) + 1 if begin else 0)
    assert sorted(one["done"] for one in ended) == [0] * 7 + [whole], trial
    check(database, schema_of)


@pytest.mark.parametrize("begin", ["", MIDDLE])
@pytest.mark.timeout(300)
def test_with_alembic_among_them(at, planned, tmp_path, schema_of, begin):
    """Somebody's pipeline runs `alembic upgrade head`: it takes the same lock, so it waits, or is waited for."""
    database = at(begin)
    file = tmp_path / "plan.json"
    file.write_text(plans.written(planned(database)))
    url = "postgresql:///{dbname}?host={host}&port={port}&user={user}&password={password}"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "SESSION_FIX", "PYTEST"))}
    env |= {
        "SESSION_FIX_DSN": make_conninfo(**database.params),
        "DATABASE_URL": url.format(**{"port": "5432", "password": ""} | database.params),
    }
    apply = [PROGRAMS / "session-fix", "migrate", "apply", file]
    running = [
        subprocess.Popen(
            command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        for command in (apply, [PROGRAMS / "alembic", "upgrade", "head"], apply)
    ]
    said = [process.communicate(timeout=250)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 3, said
    check(database, schema_of)
