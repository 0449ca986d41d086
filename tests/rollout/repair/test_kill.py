"""Killed before or after any of its statements, a repair goes on when it is begun again, and can be undone."""

import json
import os
import signal
import subprocess
import sys

import pytest

from session_fix.rollout import repair
from session_fix.rollout.repair import support

# Counts statements, BEGIN and COMMIT among them, and kills the process before or after one.
RUNNER = """
import json, os, signal, sys
import psycopg
from session_fix.rollout import repair
from session_fix.rollout.repair import engine, undoing

params, undoes, at = json.loads(os.environ["REPAIRED"]), sys.argv[1] == "undo", int(sys.argv[2])
engine.needs_index = undoing.needs_index = lambda **_: True
passed = 0

def point():
    global passed
    if passed == at:
        os.kill(os.getpid(), signal.SIGKILL)
    passed += 1

execute, command = psycopg.Cursor.execute, psycopg.Connection._exec_command

def executed(self, *args, **options):
    point()
    try:
        return execute(self, *args, **options)
    finally:
        point()

def commanded(self, *args, **options):
    point()
    yield from command(self, *args, **options)
    point()

psycopg.Cursor.execute, psycopg.Connection._exec_command = executed, commanded
if undoes:
    repair.undo(params, "repair", batch_rows=4)
else:
    repair.repair(params, batch_rows=4)
print(passed)
"""
FILL = """
CREATE FUNCTION pg_temp.id(kind text, n int) RETURNS uuid LANGUAGE sql AS $$ SELECT md5(kind || n)::uuid $$;
ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey;
DROP INDEX ai_interactions_session_id_created_at_idx;
INSERT INTO ai_sessions SELECT pg_temp.id('stored', n), 'anna', '2026-01-05 04:00', '2026-01-05 05:00'
FROM generate_series(1, 4) n;
INSERT INTO ai_sessions SELECT pg_temp.id('phantom', 3 * n + k), pg_temp.id('stored', n), m, m
FROM generate_series(1, 4) n, generate_series(1, 2) k,
    LATERAL (SELECT timestamptz '2026-01-05' + k * '3 h'::interval) t(m);
INSERT INTO ai_interactions SELECT pg_temp.id('asked', n), pg_temp.id('missing', n % 6), 'why?', 'so', NULL, NULL, now()
FROM generate_series(1, 12) n
"""
NIGHTLY = [pytest.param(percent, marks=pytest.mark.nightly) for percent in range(1, 100) if percent % 25]


@pytest.fixture
def leftovers(database):
    """Fill the database with what there is to repair."""
    with database.connect() as connection:
        for statement in FILL.split(";\n"):
            connection.execute(statement)
    return database


@pytest.fixture
def killed_at(leftovers):
    """Return a function that runs one to be killed at a point and returns its exit code and how many it passed."""

    def run(what, point):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "SESSION_FIX", "PYTEST"))}
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, what, str(point)],
            env=env | {"REPAIRED": json.dumps(leftovers.params)},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode, int(done.stdout or 0)

    return run


@pytest.mark.parametrize("percent", [25, 50, 75, *NIGHTLY])
@pytest.mark.parametrize("what", ["repair", "undo"])
def test_whatever_was_done_when_it_was_killed(leftovers, killed_at, sums, what, percent):
    """A laptop is closed, a job is cancelled: the same command again, and it is as if nothing had happened."""
    before = sums(leftovers)
    code, points = killed_at("repair", 10**6)
    repaired = sums(leftovers)
    assert (code, repaired == before) == (0, False)
    if what == "undo":
        point = points * percent // 100 // 2  # an undo has about half as many
    else:
        assert repair.undo(leftovers.params, "repair").refused == ()
        point = points * percent // 100
    killed_at(what, point)
    if what == "repair":
        done = repair.repair(leftovers.params, batch_rows=4)
        assert (done.left, sums(leftovers)) == (0, repaired)
    undone = repair.undo(leftovers.params, "repair", batch_rows=4)
    assert (undone.refused, sums(leftovers)) == ((), before)
    assert leftovers.rows("SELECT to_regclass(%s)", support.NAME) == [(None,)], "its index is not left behind"


def test_a_kill_is_one(leftovers, killed_at, sums):
    """Else the test above would compare what was never in danger."""
    before = sums(leftovers)
    assert killed_at("repair", 0)[0] == -signal.SIGKILL
    assert sums(leftovers) == before
    _, points = killed_at("repair", 10**6)
    repair.undo(leftovers.params, "repair")
    assert killed_at("repair", points * 3 // 4)[0] == -signal.SIGKILL
    assert sums(leftovers) != before, "three quarters in, something is done"
