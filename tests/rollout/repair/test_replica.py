"""No batch of a repair begins before replicas have the last one, as no step of a rollout does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from session_fix.errors import RolloutBusyError, StepFailedError
from session_fix.rollout import repair, replicas
from session_fix.rollout.happening import Waiting

PROGRAM = Path(sys.executable).parent / "session-fix"
SESSIONS = "SELECT count(*)::int FROM ai_sessions"
BATCH = 2  # rows, so a list of six takes three


@pytest.fixture
def leftovers(pair, with_phantoms):
    """Return the primary, with phantoms, and its replica."""
    primary, replica = pair
    return with_phantoms(primary), replica


@pytest.fixture
def resumed(leftovers):
    """Return a listener that has the replica go on when it is waited for, and what was waited for."""
    seen = []

    def listen(event):
        if isinstance(event, Waiting):
            seen.append(str(event))
            leftovers[1].rows("SELECT pg_wal_replay_resume()")

    return listen, seen


def test_each_batch_waits_until_a_replica_has_the_last_one(leftovers, paused, resumed):
    """Whoever reads there is behind by a batch at most, on the way there as on the way back."""
    primary, (listen, seen) = leftovers[0], resumed
    paused()
    done = repair.repair(primary.params, batch_rows=BATCH, tell=lambda _: paused(), on=listen)
    assert (done.merged, done.left, done.batches) == (6, 0, 3)
    assert len(seen) == 3
    assert all("The next batch: a replica that catches up (reports, " in text for text in seen)
    seen.clear()
    undone = repair.undo(primary.params, "repair", batch_rows=BATCH, tell=lambda _: paused(), on=listen)
    assert (undone.restored, undone.refused, undone.batches, len(seen)) == (6, (), 3, 3)


@pytest.mark.parametrize("what", ["repair", "undo"])
def test_a_replica_that_does_not_catch_up_ends_it_there(leftovers, paused, monkeypatch, what):
    """What was done is kept, and the same command goes on."""
    primary, replica = leftovers
    monkeypatch.setattr(replicas, "LEAST_S", 0.0)
    if what == "undo":
        repair.repair(primary.params)
    perform = repair.repair if what == "repair" else lambda params, **options: repair.undo(params, "repair", **options)
    (before,) = primary.rows(SESSIONS)[0]
    with pytest.raises(RolloutBusyError, match=r"reports, .* behind\. What was done is kept\. Run the same") as busy:
        perform(primary.params, batch_rows=BATCH, patience_s=5, tell=lambda _: paused())
    assert "Nothing of this step" not in str(busy.value)
    assert abs(primary.rows(SESSIONS)[0][0] - before) == BATCH
    replica.rows("SELECT pg_wal_replay_resume()")
    perform(primary.params)
    assert abs(primary.rows(SESSIONS)[0][0] - before) == 6


def test_replicas_are_not_waited_for_where_that_is_said(leftovers, paused, monkeypatch):
    """One that is kept an hour behind on purpose would hold up everything."""
    primary, _ = leftovers
    monkeypatch.setattr(replicas, "LEAST_S", 0.0)
    paused()
    handed = {"patience_s": 0, "ignore_replicas": True}
    assert repair.repair(primary.params, **handed).left == 0
    assert repair.undo(primary.params, "repair", **handed).restored == 6


def test_the_command_says_whom_it_waits_for(leftovers, paused, command, eventually, tmp_path):
    """A line as that of a lock; and the option is that of `migrate apply`."""
    (primary, replica), printed = leftovers, tmp_path / "printed"
    paused()
    for arguments in (("--apply",), ("--undo", "repair")):
        assert command(primary.params, *arguments, "--ignore-replicas").returncode == 0
    env = os.environ | {"SESSION_FIX_DSN": make_conninfo(**primary.params)}
    with printed.open("w") as file, subprocess.Popen([PROGRAM, "repair", "--apply"], env=env, stderr=file) as repairing:
        try:
            said = "waiting: The next batch: a replica that catches up (reports, "
            eventually(lambda: said in printed.read_text(), of_what="it waits")
            replica.rows("SELECT pg_wal_replay_resume()")
            assert repairing.wait(timeout=60) == 0, printed.read_text()
        finally:
            repairing.kill()


def test_a_role_that_may_not_see_them_is_told_once(leftovers, command, eventually):
    """It would wait for none without a word; the owner of the tables need not be a superuser."""
    primary, _ = leftovers
    eventually(lambda: primary.rows("SELECT 1 FROM pg_stat_replication"))
    for statement in ("CREATE ROLE plain LOGIN", "GRANT postgres TO plain"):
        primary.rows(statement)
    params = primary.params | {"user": "plain"}
    for arguments in (("--apply",), ("--undo", "repair")):
        done = command(params, *arguments, "--batch-rows", BATCH)
        assert (done.returncode, done.stderr.count("may not see are not waited for: 1 of them")) == (0, 1)
    assert "replicas" not in command(params, "--apply", "--ignore-replicas").stderr


def test_where_nobody_may_ask_how_far_they_are_it_says_what_to_do(leftovers, monkeypatch):
    """Some services have no such function, or refuse it: the repair is none the worse for that."""
    primary, _ = leftovers
    monkeypatch.setattr(replicas, "WRITTEN", "SELECT no_such_function()")
    with pytest.raises(StepFailedError, match=r"42883.*--ignore-replicas"):
        repair.repair(primary.params)
    assert primary.rows(SESSIONS) == [(12,)]


def test_the_command_says_it_too(leftovers, command):
    """The owner of the tables may not even know that there are replicas; then it goes on without."""
    primary, _ = leftovers
    for statement in (
        "CREATE ROLE plain LOGIN",
        "ALTER TABLE ai_sessions OWNER TO plain",
        "ALTER TABLE ai_interactions OWNER TO plain",
        "GRANT CREATE ON DATABASE postgres TO plain",
        "REVOKE SELECT ON pg_stat_replication FROM PUBLIC",
    ):
        primary.rows(statement)
    refused = command(primary.params | {"user": "plain"}, "--apply")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert "42501" in refused.stderr
    assert "--ignore-replicas" in refused.stderr
    assert command(primary.params | {"user": "plain"}, "--apply", "--ignore-replicas").returncode == 0
