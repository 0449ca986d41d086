"""Others are in the way: they are named, waited for within bounds, and neither stalled nor ended."""

import threading

import psycopg
import pytest

from session_fix.errors import RolloutBusyError
from session_fix.rollout import blockers, journal, lock, objects
from session_fix.rollout.apply import apply
from session_fix.rollout.blockers import Session
from session_fix.rollout.happening import Begun, Waiting
from session_fix.rollout.plan import Lock
from session_fix.rollout.retrying import Ramp

IDS = list(objects.revisions())
HEAD = IDS[-1]
TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()
"""
INDEX_STEP, INDEX = "0011_interactions_session_index", "ai_interactions_session_id_created_at_idx"


@pytest.fixture
def reader(empty):
    """Yield a function that opens a transaction of a reader, which nothing but itself ends."""
    opened = []

    def begin(statement="SELECT FROM ai_interactions", application="nightly-dump"):
        opened.append(empty.connect(application_name=application))
        opened[-1].execute(statement)
        return opened[-1]

    yield begin
    for connection in opened:
        connection.close()


def test_a_reader_is_waited_for_and_named(at, planned, reader):
    """The operator can ask whoever owns that session; the step is done when it has ended."""
    database, seen = at(IDS[-2]), []
    reading = reader()

    def listen(event):
        if isinstance(event, Waiting):
            seen.append(event)
            if len(seen) == 3:
                reading.rollback()

    done = apply(planned(database), database.params, on=listen)
    assert done.done[0].tries >= 4
    assert all(f"pid {reading.info.backend_pid} (nightly-dump" in str(one) for one in seen[:3])


def test_who_does_not_end_is_left_alone_and_the_step_given_up(at, planned, reader, state_of):
    """A dump takes hours: nothing is changed, nobody is ended, and the message says who it was."""
    database, reading = at(IDS[-2]), reader()
    plan = planned(database)
    before = state_of(database)[1:]
    with pytest.raises(RolloutBusyError, match=r"(?s)in 3 tries.*nightly-dump.*The same command goes on") as busy:
        apply(plan, database.params, ramp=Ramp(tries=3))
    assert "SELECT" not in str(busy.value)
    assert reading.execute("SELECT 1").fetchone() == (1,)
    assert state_of(database)[1:] == before
    reading.rollback()
    assert len(apply(plan, database.params).done) == 1


def test_nobody_stands_behind_a_waiting_step_for_long(at, planned, reader):
    """Each SELECT of a third session gives up after half a second; with a step that waits for longer, one would."""
    database = at(IDS[-2])
    reader()
    plan, ended, read = planned(database), threading.Event(), []

    def third():
        with database.connect(autocommit=True, options="-c lock_timeout=500ms") as connection:
            while not ended.is_set():
                read.append(connection.execute("SELECT count(*) FROM ai_interactions").fetchone())

    thread = threading.Thread(target=third)
    thread.start()
    try:
        with pytest.raises(RolloutBusyError):
            apply(plan, database.params, ramp=Ramp(tries=4))
    finally:
        ended.set()
        thread.join()
    with database.connect(autocommit=True, options="-c lock_timeout=500ms") as connection:
        read.append(connection.execute("SELECT count(*) FROM ai_interactions").fetchone())
    assert set(read) == {(0,)}


def test_a_row_that_is_locked_is_waited_for_too(at, planned, reader):
    """Whoever writes the version holds its row, and no lock of a table that would show it."""
    database, seen = at(IDS[-2]), []
    writing = reader("SELECT FROM alembic_version FOR UPDATE", "somebody's script")

    def listen(event):
        if isinstance(event, Waiting):
            seen.append(str(event))
            writing.rollback()

    apply(planned(database), database.params, on=listen)
    assert "somebody's script" in seen[0]


def test_an_index_names_whom_it_waits_for(at, planned, reader):
    """It waits for every older transaction, with no limit of its own, and blocks nobody meanwhile."""
    database = at(IDS[9])
    old, seen = reader("INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())", "left open"), []
    old.execute("LOCK TABLE ai_interactions IN ROW EXCLUSIVE MODE")

    def listen(event):
        if isinstance(event, Waiting):
            seen.append(str(event))
            old.commit()

    apply(planned(database, INDEX_STEP), database.params, on=listen)
    assert f"pid {old.info.backend_pid} (left open" in seen[0]


def test_an_index_that_is_being_built_is_waited_for(at, planned, reader, eventually):
    """The client of that build may be gone: a second one would wait for the first, and the first for it."""
    database = at(IDS[9])
    plan = planned(database, INDEX_STEP)
    old = reader("LOCK TABLE ai_interactions IN ROW EXCLUSIVE MODE")
    statement = f"CREATE INDEX CONCURRENTLY {INDEX} ON public.ai_interactions (session_id, created_at)"
    seen = []

    def listen(event):
        if isinstance(event, Waiting):
            seen.append(str(event))
            old.rollback()

    with database.connect(autocommit=True) as building:
        thread = threading.Thread(target=building.execute, args=(statement,))
        thread.start()
        try:
            eventually(
                lambda: database.rows("SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database()")
            )
            with pytest.raises(RolloutBusyError, match=str(pid := building.info.backend_pid)):
                apply_over(plan, database, ramp=Ramp(patience_s=0))
            apply_over(plan, database, on=listen)
        finally:
            old.rollback()
            thread.join()
    assert f"being built there already: pid {pid}" in seen[0]
    assert database.rows("SELECT version_num FROM alembic_version") == [(INDEX_STEP,)]


def apply_over(plan, database, **options):
    """Apply a plan that was begun before: what differs is the half-built index of its step."""
    with database.connect() as connection:
        journal.begin(connection, plan, {})
    return apply(plan, database.params, **options)


def test_the_lock_names_who_holds_it(at, planned, state_of):
    """Two operators begin at once; the second learns of the first."""
    database = at(IDS[-2])
    plan, before = planned(database), state_of(database)
    with database.connect(application_name="the other operator") as other:
        other.execute("SELECT pg_advisory_lock(%s)", (lock.KEY,))
        with pytest.raises(RolloutBusyError, match="the other operator"):
            apply(plan, database.params, ramp=Ramp(patience_s=0))
    assert state_of(database) == before


def test_the_lock_is_taken_when_it_is_free(at, planned):
    """Whoever waited goes on by itself, also when the holder was ended."""
    database = at(IDS[-2])
    with database.connect(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (lock.KEY,))

        def end(event):
            if isinstance(event, Waiting):
                database.rows("SELECT pg_terminate_backend(%s)", other.info.backend_pid)

        assert len(apply(planned(database), database.params, on=end).done) == 1


def test_a_lost_lock_stops_it_before_the_next_step(at, planned):
    """From that moment on somebody else may have begun."""
    database = at(IDS[-4])

    def end(event):
        if isinstance(event, Begun) and event.number == 2:
            assert database.rows(TERMINATE, "session-fix migrate lock") == [(True,)]

    plan = planned(database)
    with pytest.raises(RolloutBusyError, match=r"lock is gone(.|\n)*1 of 3 steps are done"):
        apply(plan, database.params, on=end)
    assert database.rows("SELECT version_num FROM alembic_version") == [(IDS[-3],)]
    assert len(apply(plan, database.params).done) == 2


def test_a_lost_connection_is_opened_again(at, planned):
    """An administrator, or the network, ends the session of the steps while it waits for a lock."""
    database = at(IDS[-3])
    lost = []

    def end(event):
        if isinstance(event, Waiting) and not lost:
            lost.append(database.rows(TERMINATE, "session-fix migrate steps"))
            reading.rollback()

    with database.connect() as reading:
        reading.execute("SELECT FROM ai_sessions")
        done = apply(planned(database), database.params, on=end)
    assert lost == [[(True,)]]
    assert [one.step.id for one in done.done] == IDS[-2:]


@pytest.mark.parametrize("mode", blockers.MODES)
def test_modes_conflict_as_the_server_says(empty, mode):
    """Who is named as being in the way has to be: the table of conflicts is tried against the server's own."""
    empty.rows("CREATE TABLE IF NOT EXISTS tried ()")
    with empty.connect() as one, empty.connect(autocommit=True) as other:
        one.execute(f"LOCK TABLE tried IN {mode} MODE")
        for another in blockers.MODES:
            with other.transaction(force_rollback=True):
                try:
                    other.execute(f"LOCK TABLE tried IN {another} MODE NOWAIT")
                    got = True
                except psycopg.errors.LockNotAvailable:
                    got = False
                    other.execute("ROLLBACK")
            assert blockers.conflict(mode, another) != got, another


def test_only_who_is_in_the_way_is_named():
    """A busy table has many readers; with a lock that lets them read, none of them is meant."""
    reads, writes = Session(1, "reads", 5), Session(2, "writes", 3)
    held = [(reads, Lock("ACCESS SHARE", "ai_sessions")), (writes, Lock("ROW EXCLUSIVE", "ai_sessions"))]
    assert blockers.in_the_way([Lock("SHARE ROW EXCLUSIVE", "public.ai_sessions")], held) == (writes,)
    assert blockers.in_the_way([Lock("ACCESS EXCLUSIVE", "public.ai_sessions")], held) == (reads, writes)
    assert blockers.in_the_way([Lock("SHARE", "public.ai_interactions")], held) == (reads, writes)


def test_pauses_grow_to_a_limit_and_their_number_is_bounded():
    """A step is not tried for ever, and not so often that it stalls others by that."""
    pauses = list(Ramp(tries=100).pauses(lambda: 0.5))
    assert len(pauses) == 99
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.2, 2.0)
    assert list(Ramp(tries=3).pauses(lambda: 0.0)) == [0.1, pytest.approx(0.105)]
