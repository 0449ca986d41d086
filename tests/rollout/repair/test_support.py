"""The index for the time of a repair: when it cannot be built, nothing is left of it that would cost writes."""

import threading

import psycopg
import pytest

from session_fix.progress import SILENT
from session_fix.rollout.repair import support

ROWS = """
ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey;
INSERT INTO ai_interactions (session_id, prompt, response)
SELECT gen_random_uuid(), '', '' FROM generate_series(1, 40000);
ALTER DATABASE {0} SET temp_file_limit = '64kB';
ALTER DATABASE {0} SET maintenance_work_mem = '1MB'
"""
IS_THERE = "SELECT to_regclass('public.session_fix_repair_idx') IS NOT NULL"
TERMINATE = """
SELECT pg_terminate_backend(p.pid, 5000) FROM pg_stat_progress_create_index p JOIN pg_stat_activity a USING (pid)
WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
"""


def test_a_build_without_room_leaves_nothing(database):
    """An index that is not valid may take every write all the same, and with a full disk fail it."""
    for statement in ROWS.format(database.name).split(";\n"):
        database.rows(statement)
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
        support.build(database.params, SILENT)
    assert database.rows(IS_THERE) == [(False,)]


def test_a_build_whose_session_is_ended_leaves_nothing(database, eventually):
    """The server can still be asked, by another session."""
    raised = []

    def build():
        try:
            support.build(database.params, SILENT)
        except psycopg.errors.AdminShutdown as error:
            raised.append(error)

    with database.connect() as other:
        other.execute("LOCK TABLE ai_interactions IN ROW EXCLUSIVE MODE")
        thread = threading.Thread(target=build)
        thread.start()
        try:
            assert eventually(lambda: database.rows(TERMINATE)) == [(True,)]
        finally:
            other.rollback()
            thread.join()
    assert len(raised) == 1
    assert database.rows(IS_THERE) == [(False,)]
