"""No batch of a repair begins once its lock is lost: from then on, somebody else may be at work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from session_fix.errors import RolloutBusyError
from session_fix.rollout import lock, repair

SESSIONS = "SELECT count(*)::int FROM ai_sessions"
TERMINATE = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'session-fix repair lock'
"""
LOOKED = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'session-fix repair lock' AND query LIKE 'SELECT EXISTS%'
"""
BATCH = 2
PROGRAM = Path(sys.executable).parent / "session-fix"


@pytest.mark.parametrize("ignored", [True, False])
@pytest.mark.parametrize("what", ["repair", "undo"])
def test_the_batch_after_it_is_not_begun(database, with_phantoms, what, ignored):
    """Another repair, or an undo, listed what there is to do, and this one would change it behind its back."""
    with_phantoms(database)
    if what == "undo":
        repair.repair(database.params)
    perform = repair.repair if what == "repair" else lambda params, **options: repair.undo(params, "repair", **options)
    ((before,),) = database.rows(SESSIONS)
    with (
        pytest.raises(RolloutBusyError, match="lock is gone"),
        lock.held(database.params, patience_s=0, application="session-fix repair") as held,
    ):
        perform(
            database.params,
            batch_rows=BATCH,
            check=held.check,
            ignore_replicas=ignored,
            tell=lambda _: database.rows(TERMINATE),
        )
    assert abs(database.rows(SESSIONS)[0][0] - before) == BATCH


def test_the_command_looks_for_its_lock(database, with_phantoms, eventually):
    """Somebody who holds the journal keeps it at its first batch until the lock is gone."""
    with_phantoms(database)
    repair.repair(database.params)
    repair.undo(database.params, "repair")
    command = [PROGRAM, "repair", "--apply", "--batch-rows", str(BATCH)]
    env = os.environ | {"SESSION_FIX_DSN": make_conninfo(**database.params)}
    with database.connect() as other:
        other.execute("LOCK TABLE session_fix.repair_journal IN SHARE MODE")
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, encoding="utf-8") as repairing:
            try:
                eventually(lambda: database.rows(LOOKED))
                assert database.rows(TERMINATE) == [(True,)]
                other.rollback()
                _, said = repairing.communicate(timeout=60)
            finally:
                repairing.kill()
    assert (repairing.returncode, "lock is gone" in said) == (3, True)
    assert database.rows(SESSIONS) == [(12 - BATCH,)]
