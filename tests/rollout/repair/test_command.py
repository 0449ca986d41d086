"""The command as its users meet it: a dry run first, exit codes, 80 columns, JSON, and no row in any of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from session_fix.rollout import facts, lock

CANARY = "canary"
PROGRAM = Path(sys.executable).parent / "session-fix"


@pytest.fixture
def report(tmp_path, command):
    """Return a function that runs the command and returns its exit code, its output and its JSON."""

    def run(params, *arguments):
        file = tmp_path / "repair.json"
        file.unlink(missing_ok=True)
        done = command(params, "--json", file, *arguments)
        return done, json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    return run


@pytest.mark.state("orphans")
def test_what_a_dry_run_says_is_what_is_done_then_and_undone(report, database, sums):
    """From the first look to the last, as in the operator's guide."""
    before = sums(database)
    looked, found = report(database.params)
    assert (looked.returncode, found["verdict"], sums(database)) == (1, "fail", before)
    assert database.rows("SELECT to_regnamespace('session_fix')") == [(None,)]
    done, repaired = report(database.params, "--apply")
    assert (done.returncode, repaired["verdict"]) == (0, "pass")
    assert repaired["merged"] == found["phantoms"]
    assert repaired["sessions_stored"] == found["sessions"] - found["stored"]
    assert repaired["sessions_created"] == found["missing"] - found["known"]
    assert "session-fix repair --undo repair" in done.stdout
    again, nothing = report(database.params)
    assert (again.returncode, nothing["to_repair"], again.stdout) == (0, 0, "nothing to repair\n")
    undone, _ = report(database.params, "--undo", "repair")
    assert (undone.returncode, sums(database)) == (0, before)
    for shown in (looked, done, undone):
        assert max(map(len, shown.stdout.splitlines())) <= 80, shown.stdout


@pytest.mark.state("orphans")
def test_the_audit_counts_what_the_repair_finds(report, database):
    """Two numbers for one thing would have people look for the difference."""
    counts = facts.read(database.params).counts
    _, found = report(database.params, "--phantoms", "likely")
    names = ("phantoms", "phantoms/certain", "phantoms/sessions", "phantoms/stored", "orphans", "orphans/sessions")
    same = ("phantoms", "certain", "sessions", "stored", "orphans", "missing")
    assert [counts[f"rows/{name}"].number for name in names] == [found[name] for name in same]
    assert counts["rows/orphans/with-phantoms"].number == found["with_phantoms"]


@pytest.mark.state("orphans")
def test_what_is_refused_is_an_exit_code_of_1_and_named(report, database):
    """Somebody has to look at those, and has to be told which."""
    report(database.params, "--apply")
    database.rows("UPDATE ai_sessions SET user_id = 'canary' WHERE user_id IS NULL")
    undone, told = report(database.params, "--undo", "repair")
    assert (undone.returncode, told["verdict"]) == (1, "fail")
    assert told["refused"][0]["id"] in undone.stdout
    assert f"and {len(told['refused']) - 10:,} more" in undone.stdout
    assert CANARY not in undone.stdout + undone.stderr + str(told)


@pytest.mark.state("orphans")
def test_deleting_takes_two_words(report, database):
    """One of them may have come from another terminal's history."""
    (count,) = database.rows("SELECT count(*) FROM ai_interactions")
    for half in (("--orphans", "delete"), ("--delete-orphans",)):
        done, told = report(database.params, "--apply", *half)
        assert (done.returncode, told) == (2, None)
    assert database.rows("SELECT count(*) FROM ai_interactions") == [count]
    done, told = report(database.params, "--apply", "--phantoms", "none", "--orphans", "delete", "--delete-orphans")
    assert (done.returncode, told["deleted"]) == (0, 498)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--undo", "repair", "--apply"),
        ("--undo", "nothing"),
        ("--run", "a b", "--apply"),
        ("--batch-rows", "0"),
        ("--orphans", "forget"),
    ],
)
def test_wrong_usage_is_an_exit_code_of_2(command, database, arguments):
    """Nothing is begun that was not meant."""
    assert command(database.params, *arguments).returncode == 2
    assert database.rows("SELECT to_regnamespace('session_fix')") == [(None,)]


def test_what_cannot_be_repaired_is_an_exit_code_of_2(command, database):
    """The tables have to be made right first, and it says how."""
    database.rows("ALTER TABLE ai_sessions DROP CONSTRAINT ai_sessions_pkey CASCADE")
    done = command(database.params, "--apply")
    assert done.returncode == 2
    assert "ai_sessions.id is not unique" in done.stderr


def test_no_connection_is_an_exit_code_of_3_without_the_password(command, database):
    """As with the other commands."""
    done = command(database.params | {"host": "/nowhere", "password": CANARY}, "--apply")
    assert done.returncode == 3
    assert CANARY not in done.stdout + done.stderr


def test_a_role_that_may_not_write_is_told_so_in_a_word(command, database, role):
    """Its error quotes no row."""
    phantom = "INSERT INTO ai_sessions SELECT gen_random_uuid(), id, created_at, created_at FROM ai_sessions"
    database.rows("INSERT INTO ai_sessions VALUES (gen_random_uuid(), 'canary', '2026-01-05', '2026-01-06')")
    database.rows(phantom)
    grants = ("GRANT SELECT ON ai_sessions, ai_interactions TO {role}", "ALTER ROLE {role} BYPASSRLS")
    done = command(database.params | role(*grants), "--apply")
    assert done.returncode == 1
    assert "42501" in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_the_script_is_written_before_anything_is_changed(command, database, tmp_path):
    """Who keeps it can go back with psql alone."""
    done = command(database.params, "--undo-script", tmp_path / "undo.sql", "--run", "night")
    assert done.returncode == 0
    assert "'night'" in (tmp_path / "undo.sql").read_text()


@pytest.mark.state("orphans")
def test_a_rollout_and_a_repair_take_turns(database, sums, eventually, tmp_path):
    """A migration would change the tables under the repair, which says for whom it waits."""
    before, printed = sums(database), tmp_path / "printed"
    env = os.environ | {"SESSION_FIX_DSN": make_conninfo(**database.params)}
    with database.connect(autocommit=True, application_name="alembic") as other, printed.open("w") as file:
        other.execute(f"SELECT pg_advisory_lock({lock.KEY})")
        repair = subprocess.Popen([PROGRAM, "repair", "--apply"], env=env, stdout=file, stderr=file)
        eventually(lambda: "waiting: another rollout or repair of this database: pid" in printed.read_text())
        assert "(alembic, " in printed.read_text()
        assert sums(database) == before
        other.execute(f"SELECT pg_advisory_unlock({lock.KEY})")
        assert repair.wait(timeout=60) == 0, printed.read_text()
    assert sums(database) != before


SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN OLD; END';
CREATE TRIGGER slow BEFORE DELETE ON ai_sessions FOR EACH ROW EXECUTE FUNCTION slow()
"""


def test_ctrl_c_says_what_is_done_and_how_to_go_on(database, eventually, sums, tmp_path):
    """The batch under way is rolled back; here it is one that would take ten minutes."""
    store, known = "INSERT INTO ai_sessions VALUES (%s::uuid, %s, %s, %s)", "11111111-1111-4111-8111-111111111111"
    database.rows(store, known, "anna", "2026-01-05", "2026-01-06")
    database.rows(store, "00000001-0000-4000-8000-000000000000", known, "2026-01-04", "2026-01-04")
    database.rows(SLOW)
    before = sums(database)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "SESSION_FIX", "PYTEST"))}
    process = subprocess.Popen(
        [PROGRAM, "repair", "--apply"],
        env=env | {"SESSION_FIX_DSN": make_conninfo(**database.params)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    eventually(lambda: database.rows(asleep) == [(1,)], of_what="a batch is under way", timeout_s=60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing was changed yet" in said
    assert "The same command goes on" in " ".join(said.split())
    assert sums(database) == before
