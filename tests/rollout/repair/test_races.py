"""A repair under others' open transactions: it waits for nobody for long, takes nothing away, and goes round again."""

# The statements below are made of the constants below.
# ruff: noqa: S608

import threading

import pytest

from session_fix.errors import RolloutBusyError, StepFailedError
from session_fix.rollout import repair
from session_fix.rollout.repair import engine, pace

S, P, Q = (
    "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
    "00000001-0000-4000-8000-000000000000",
    "00000002-0000-4000-8000-000000000000",
)
KEYLESS = "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey"
STORED = f"INSERT INTO ai_sessions VALUES ('{S}', 'anna', '2026-01-05 02:00', '2026-01-05 09:00')"
PHANTOMS = f"""
INSERT INTO ai_sessions VALUES ('{P}', '{S}', '2026-01-05 01:00', '2026-01-05 01:00'),
    ('{Q}', '{S}', '2026-01-05 03:00', '2026-01-05 03:00')
"""
ASK = "INSERT INTO ai_interactions (id, session_id, prompt, response) VALUES (gen_random_uuid(), '{0}', '', '')"
IDS = "SELECT id::text FROM ai_sessions ORDER BY id"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Give up after few tries, where a test has somebody stand in the way for good."""
    monkeypatch.setattr(pace, "TRIES", 3)
    monkeypatch.setattr(engine, "PAUSE_S", 0)


def test_a_phantom_that_is_being_used_is_left(database):
    """Its interaction is not committed yet, so nobody can see it; only its lock can be seen."""
    database.rows(STORED)
    database.rows(PHANTOMS)
    with database.connect() as other:
        other.execute(ASK.format(P))
        done = repair.repair(database.params)
        assert (done.merged, done.left) == (1, 1)
    assert database.rows(IDS) == [(P,), (S,)]
    assert repair.repair(database.params).left == 0, "it is none any more"
    assert database.rows("SELECT session_id::text FROM ai_interactions") == [(P,)]


def test_a_phantom_that_is_used_between_the_list_and_its_batch_is_left(database):
    """The list is older than the batch by all the batches in between."""
    database.rows(STORED)
    database.rows(PHANTOMS)
    done = repair.repair(database.params, batch_rows=1, tell=_once(lambda: database.rows(ASK.format(Q))))
    assert (done.merged, done.left) == (1, 0)
    assert database.rows(IDS) == [(Q,), (S,)]


def test_a_repair_that_does_not_look_again_shows(database, mutated):
    """With a foreign key the database refuses it; without one the interaction would lose its session."""
    mutated("merge", ("p USING public.ai_interactions i WHERE i.session_id = p.id", "p WHERE false"))
    database.rows(STORED)
    database.rows(PHANTOMS)
    with pytest.raises(StepFailedError, match="23503"):
        repair.repair(database.params, batch_rows=1, tell=_once(lambda: database.rows(ASK.format(Q))))


@pytest.mark.parametrize(
    "change", [f"UPDATE ai_sessions SET user_id = 'eve' WHERE id = '{Q}'", "DELETE FROM ai_sessions"]
)
def test_what_is_a_phantom_no_longer_when_its_batch_comes_is_left(database, change):
    """Somebody gave it a user, touched it, or deleted it and the session it stood for."""
    database.rows(STORED)
    database.rows(PHANTOMS)
    seen = []

    def perform():
        database.rows(change)
        seen.extend(database.rows(IDS))

    repair.repair(database.params, batch_rows=1, tell=_once(perform))
    assert database.rows(IDS) == seen


def test_a_phantom_whose_session_was_deleted_meanwhile_stays(database):
    """It is not certain any more, and a session that somebody deleted is not brought back."""
    database.rows(STORED)
    database.rows(PHANTOMS)
    delete = f"DELETE FROM ai_sessions WHERE id = '{S}'"
    repair.repair(database.params, batch_rows=1, tell=_once(lambda: database.rows(delete)))
    assert database.rows(IDS) == [(Q,)]


@pytest.mark.parametrize("phantoms", [PHANTOMS, None])
def test_whoever_creates_the_session_at_the_same_moment_and_a_repair_make_one(database, eventually, phantoms):
    """Its insert is not committed when the repair comes to the same id."""
    database.rows(KEYLESS)
    database.rows(ASK.format(S))
    if phantoms:
        database.rows(phantoms)
    results = []
    with database.connect() as other:
        other.execute(STORED)
        thread = threading.Thread(
            target=lambda: results.append(repair.repair(database.params, lock_timeout_ms=20_000)), daemon=True
        )
        thread.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        eventually(lambda: database.rows(waits, other.info.backend_pid) == [(1,)], of_what="the repair waits for it")
        other.commit()
    thread.join(30)
    assert results[0].left == 0
    began = "05 01" if phantoms else "05 02"
    assert database.rows("SELECT id::text, user_id, to_char(created_at, 'DD HH24') FROM ai_sessions") == [
        (S, "anna", began)
    ]


def test_no_session_is_stored_for_interactions_that_are_being_deleted(database):
    """It would be empty from its first moment on."""
    database.rows(KEYLESS)
    database.rows(ASK.format(S))
    with database.connect() as other:
        other.execute("DELETE FROM ai_interactions")
        done = repair.repair(database.params)
        assert (done.sessions_created, done.left) == (0, 1)
        other.commit()
    assert repair.repair(database.params).left == 0
    assert database.rows(IDS) == []


def test_a_repair_that_takes_no_lock_stores_an_empty_session(database, mutated):
    """The same, so that it is seen to depend on the lock."""
    mutated("create", ("FOR KEY SHARE OF i SKIP LOCKED", ""))
    database.rows(KEYLESS)
    database.rows(ASK.format(S))
    with database.connect() as other:
        other.execute("DELETE FROM ai_interactions")
        assert repair.repair(database.params).sessions_created == 1


def test_others_who_stand_in_the_way_for_good_are_named_and_what_was_done_is_kept(database):
    """Here it is a session's row that somebody has updated and not committed."""
    database.rows(KEYLESS)
    database.rows(STORED)
    database.rows(PHANTOMS)
    other_session = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
    database.rows(f"INSERT INTO ai_sessions VALUES (gen_random_uuid(), '{other_session}', now(), now())")
    database.rows(ASK.format(other_session))
    told = []
    with database.connect(application_name="a forgotten psql") as other:
        other.execute("UPDATE ai_sessions SET user_id = 'ann' WHERE id = %s", (other_session,))
        other.execute("UPDATE ai_sessions SET user_id = 'ann' WHERE id = %s", (S,))
        with pytest.raises(RolloutBusyError, match="a forgotten psql"):
            repair.repair(database.params, lock_timeout_ms=20, tell=told.append)
    assert repair.repair(database.params).left == 0
    assert len(database.rows(IDS)) == 2


def test_a_busy_row_is_tried_again(database, eventually):
    """A lock that somebody holds for a moment is no reason to stop."""
    database.rows(STORED)
    database.rows(PHANTOMS)
    results, waits = [], set()
    waiting = (
        "SELECT l.waitstart FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE a.datname = current_database() AND NOT l.granted AND l.waitstart IS NOT NULL"
    )

    def second_try():
        waits.update(database.rows(waiting))
        return len(waits) > 1

    with database.connect() as other:
        other.execute("UPDATE ai_sessions SET user_id = 'ann' WHERE id = %s", (S,))
        thread = threading.Thread(
            target=lambda: results.append(repair.repair(database.params, lock_timeout_ms=1500)), daemon=True
        )
        thread.start()
        eventually(second_try, of_what="it waits for the second time")
        other.commit()
    thread.join(30)
    assert (results[0].left, results[0].merged) == (0, 2)


def test_two_repairs_at_once_do_each_thing_once(database, sums):
    """Somebody starts it twice; the lock of the command is not all that keeps them apart."""
    sessions = "(SELECT gen_random_uuid() AS id FROM generate_series(1, 60))"
    database.rows(KEYLESS)
    database.rows(f"CREATE TABLE known AS {sessions}")
    database.rows("INSERT INTO ai_interactions SELECT gen_random_uuid(), id, '', '' FROM known")
    database.rows(
        "INSERT INTO ai_sessions SELECT gen_random_uuid(), id, now(), now() FROM known, generate_series(1, 3)"
    )
    before = sums(database)
    results = []

    def run(name):
        results.append(repair.repair(database.params, batch_rows=5, run=name))

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(one.merged for one in results) == 180
    assert database.rows("SELECT count(*) FROM ai_sessions s JOIN known USING (id)") == [(60,)]
    assert database.rows("SELECT count(*) FROM ai_sessions") == [(60,)]
    left = {one.run: repair.undo(database.params, one.run).refused for one in results if one.changes}
    for name in left:
        repair.undo(database.params, name)
    assert sums(database) == before


def _once(perform):
    """Return a listener that performs something after the first batch."""
    told = []

    def tell(done):
        if not told:
            told.append(done)
            perform()

    return tell
