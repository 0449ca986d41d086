"""plan, status and verify as their users meet them: exit codes, 80 columns, files, and no secret in any."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from session_fix import schema
from session_fix.rollout import plan as plans

PROGRAM = Path(sys.executable).parent / "session-fix"
CANARY = "canary-5e55"


@pytest.fixture
def migrate(tmp_path):
    """Return a function that runs a command of ``session-fix migrate``; returns its result and its JSON."""

    def run(name, params, *arguments):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "SESSION_FIX", "PYTEST"))}
        env |= {name: os.environ[name] for name in ("SESSION_FIX_POSTGRES_IMAGE",) if name in os.environ}
        secret = params.get("password") or CANARY  # a server in a container has one of its own
        env["SESSION_FIX_DSN"] = make_conninfo(**params | {"password": secret})
        report = tmp_path / "report.json"
        done = subprocess.run(
            [PROGRAM, "migrate", name, "--json", report, *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert secret not in done.stdout + done.stderr
        assert max(map(len, done.stdout.splitlines()), default=0) <= 80
        return done, json.loads(report.read_text(encoding="utf-8")) if report.exists() else None

    return run


@pytest.fixture
def baseline(session_fix_stack):
    """Yield a database at the first revision, in which anon may read what Supabase once granted it."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    schema.migrate(database.params, to="0001_baseline")
    database.rows("GRANT ALL ON ai_sessions, ai_interactions TO anon")
    yield database
    databases.drop(database)


def test_a_plan_is_saved_and_says_what_has_to_be_allowed(migrate, baseline, tmp_path):
    """The file is what is reviewed, and what is applied."""
    file = tmp_path / "night.plan"
    done, report = migrate("plan", baseline.params, "--output", file.name)
    assert (done.returncode, report["verdict"]) == (1, "fail")
    assert "--allow revokes-browser-access" in done.stdout
    assert "(measured, as predicted)" in done.stdout
    plan = plans.read(file.read_text(encoding="utf-8"))
    assert (plan.hash, plan.hazards) == (report["hash"], ("revokes-browser-access",))
    assert plan.measured_on
    assert plan.binding.versions == ("0001_baseline",)
    assert CANARY not in file.read_text(encoding="utf-8")


def test_what_is_allowed_is_an_exit_code_of_0(migrate, baseline):
    """So a pipeline stops only at what nobody has decided yet; without a copy the same is said of hazards."""
    done, report = migrate("plan", baseline.params, "--unmeasured", "--allow", "revokes-browser-access")
    assert (done.returncode, report["verdict"]) == (0, "pass")
    assert "predicted: ACCESS EXCLUSIVE on ai_sessions" in done.stdout


def test_nothing_to_do_is_said(migrate, database):
    """It is what a pipeline sees every day but one."""
    done, report = migrate("plan", database.params)
    assert (done.returncode, report["plan"]["steps"]) == (0, [])
    assert "Nothing to do" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "nowhere"), "There is no revision nowhere"),
        (("--to", "0001"), "rollback"),
        (("--allow", "everything"), "There is no hazard everything"),
        (("--unmeasured", "--postgres-version", "18"), "--unmeasured"),
    ],
)
def test_wrong_usage_is_an_exit_code_of_2(migrate, database, arguments, says):
    """And says what there is instead."""
    done, report = migrate("plan", database.params, *arguments)
    assert (done.returncode, report) == (2, None)
    assert says in done.stderr


def test_a_version_that_is_not_ours_stops_a_plan_and_shows_in_the_status(migrate, database):
    """G37: nothing is guessed, and what the schema equals is said."""
    database.rows("UPDATE alembic_version SET version_num = 'zzz'")
    done, report = migrate("plan", database.params)
    assert (done.returncode, report) == (2, None)
    assert "equals 0018" in done.stderr
    done, report = migrate("status", database.params)
    assert (done.returncode, report["version"]) == (1, None)
    assert "zzz" in done.stdout


def test_a_table_that_is_missing_fails_a_verification(migrate, database):
    """G39: stamped ahead. Alembic would say nothing and do nothing."""
    database.rows("DROP TABLE ai_interactions, ai_sessions")
    done, report = migrate("verify", database.params)
    assert (done.returncode, report["verdict"]) == (1, "fail")
    assert "[table/missing/ai_sessions]" in done.stdout
    assert migrate("plan", database.params)[0].returncode == 2


def test_what_is_settled_is_an_exit_code_of_0(migrate, database):
    """Of both commands that ask for it."""
    for name in ("status", "verify"):
        done, report = migrate(name, database.params)
        assert (done.returncode, report["verdict"]) == (0, "pass"), done.stdout


def test_what_cannot_be_seen_is_an_exit_code_of_3(migrate, database):
    """Nobody answers at that address."""
    for name in ("plan", "status", "verify"):
        assert migrate(name, database.params | {"host": "/nowhere"})[0].returncode == 3
