"""An index for which there is no room: it says so, no writer is the worse for it, and the same plan goes on."""

import threading
from contextlib import contextmanager

import pytest

from session_fix.database import Database
from session_fix.errors import StepFailedError
from session_fix.rollout import objects
from session_fix.rollout.apply import apply
from session_fix.rollout.happening import Said, Waiting
from session_fix.servers import docker

IDS = list(objects.revisions())
BEFORE, STEP, HEAD = IDS[9], "0011_interactions_session_index", IDS[-1]
INDEX = "ai_interactions_session_id_created_at_idx"
ROWS = """
INSERT INTO ai_sessions (id) VALUES ('11111111-0000-4000-8000-000000000001');
INSERT INTO ai_interactions (session_id, prompt, response, created_at)
SELECT '11111111-0000-4000-8000-000000000001', '', '', now() - n * interval '1 s' FROM generate_series(1, 40000) n
"""
WRITE = """
INSERT INTO ai_interactions (session_id, prompt, response) VALUES ('11111111-0000-4000-8000-000000000001', '', '')
"""
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
# Sorting takes a file, and that may not be as large as it has to be: of the class of a full disk.
CROWDED = """
ALTER DATABASE {0} SET temp_file_limit = '64kB';
ALTER DATABASE {0} SET maintenance_work_mem = '1MB'
"""
CANCEL = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'session-fix migrate steps'
"""
TERMINATE = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'session-fix migrate lock'
"""
# In a container, /dev/shm is a file system of its own: a small one, as the engine makes it.
SMALL = """
CREATE DATABASE small TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
COPY (SELECT) TO PROGRAM 'mkdir /dev/shm/small';
CREATE TABLESPACE small LOCATION '/dev/shm/small'
"""
FILL = """
ALTER DATABASE small SET default_tablespace = small;
COPY (SELECT) TO PROGRAM
    'left=$(df --output=avail -k /dev/shm | tail -n 1); fallocate -l $((left - 512))K /dev/shm/filler'
"""
MAKE_ROOM = "COPY (SELECT) TO PROGRAM 'rm /dev/shm/filler'"


def run(database, script):
    """Run statements, each in a transaction of its own."""
    with database.connect(autocommit=True) as connection:
        for statement in script.split(";\n"):
            connection.execute(statement)


@pytest.fixture
def crowded(at):
    """Return a database before the step of an index, which cannot be built there."""
    database = at(BEFORE)
    run(database, ROWS)
    run(database, CROWDED.format(database.name))
    return database


@pytest.fixture
def small(image, migrated):
    """Yield a database before the step of an index, whose new relations lie where there is little room."""
    with docker.start(image=image) as (server, _):
        run(Database("postgres", server.admin | {"dbname": "postgres"}), SMALL)
        database = migrated(Database("small", server.admin | {"dbname": "small"}), BEFORE)
        run(database, ROWS)
        run(database, FILL)
        yield database


@contextmanager
def written(database):
    """Yield a list that grows by one with each interaction that is stored meanwhile; each has to be."""
    ended, stored = threading.Event(), []

    def write():
        with database.connect(autocommit=True) as connection:
            while not ended.is_set():
                stored.append(connection.execute(WRITE).rowcount)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield stored
    finally:
        ended.set()
        thread.join()


@pytest.mark.container
def test_a_full_disk_is_named_and_the_same_plan_goes_on(small, planned, eventually):
    """Half an index would keep the room that it took, and once writes go into it each of them fails."""
    plan = planned(small)
    with written(small) as stored:
        with pytest.raises(StepFailedError, match=r"53100, .*was dropped.*Make room, then run the same") as failed:
            apply(plan, small.params)
        so_far = len(stored)
        eventually(lambda: len(stored) > so_far, of_what="writers go on")
    assert "INVALID" not in str(failed.value)
    assert small.rows(IS_VALID, INDEX) == []
    run(small, MAKE_ROOM)
    assert apply(plan, small.params).after == HEAD
    assert small.rows(IS_VALID, INDEX) == [(True,)]


def test_what_a_build_left_is_dropped(crowded, planned, applied, events):
    """Whoever watches is told why at once: to drop it may take as long as somebody's transaction does."""
    plan = planned(crowded, STEP)
    with pytest.raises(StepFailedError, match=f"53400, .*What the build left of {INDEX} was dropped"):
        applied(plan, crowded)
    assert crowded.rows(IS_VALID, INDEX) == []
    said = [event.text for event in events if isinstance(event, Said)]
    assert said[0].startswith(f"{STEP}: 53400, ")
    assert said[1].endswith("it is dropped")
    crowded.rows(f"ALTER DATABASE {crowded.name} RESET ALL")
    applied(plan, crowded)
    assert crowded.rows(IS_VALID, INDEX) == [(True,)]


def test_what_cannot_be_dropped_is_said_to_be_there(crowded, planned):
    """Somebody's transaction is in the way, and the operator has had enough: a rerun sees to it."""
    plan = planned(crowded, STEP)
    with crowded.connect(application_name="left open") as reading:

        def listen(event):
            if isinstance(event, Said) and event.text.endswith("it is dropped"):
                reading.execute("LOCK TABLE ai_interactions IN ROW EXCLUSIVE MODE")
            elif isinstance(event, Waiting) and "left open" in str(event):
                crowded.rows(CANCEL)

        with pytest.raises(StepFailedError, match=f"53400, .*{INDEX} is INVALID now.*a rerun drops it first"):
            apply(plan, crowded.params, on=listen)
    assert crowded.rows(IS_VALID, INDEX) == [(False,)]
    crowded.rows(f"ALTER DATABASE {crowded.name} RESET ALL")
    apply(plan, crowded.params)
    assert crowded.rows(IS_VALID, INDEX) == [(True,)]


def test_who_lost_the_lock_drops_nothing(crowded, planned):
    """Whoever has it by now may be building that very index."""
    plan = planned(crowded, STEP)
    with crowded.connect(application_name="left open") as reading:
        reading.execute("LOCK TABLE ai_interactions IN ROW EXCLUSIVE MODE")

        def listen(event):
            if isinstance(event, Waiting) and "left open" in str(event) and crowded.rows(TERMINATE):
                reading.rollback()

        with pytest.raises(StepFailedError, match=f"53400, .*{INDEX} is INVALID now"):
            apply(plan, crowded.params, on=listen)
    assert crowded.rows(IS_VALID, INDEX) == [(False,)]
