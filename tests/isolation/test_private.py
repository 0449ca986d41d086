"""Private databases in both isolations: whatever a test leaves open or half done, the next one starts from new."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from session_fix.events import Recorder
from session_fix.isolation import recycling
from session_fix.tap import Tap

INSERT = "INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())"
LOCKS = ["LOCK TABLE ai_sessions IN ACCESS EXCLUSIVE MODE", INSERT]
TIMEOUT_S = 20


def lock_on_an_open_connection(database, leak):
    """Leave a lock on a table, in a transaction that is never ended."""
    leak(database, *LOCKS)


def lock_in_a_prepared_transaction(database, leak):
    """Leave a lock on a table, in a transaction that nobody has open."""
    with contextlib.closing(leak(database, *LOCKS)) as connection:
        connection.execute("PREPARE TRANSACTION 'mine'")


def advisory_lock(database, leak):
    """Leave an advisory lock that the next test wants."""
    leak(database, "SELECT pg_advisory_lock(1)", "COMMIT")


def dropped_role(database, leak):
    """Leave the server without a role of the data API."""
    leak(database, "DROP ROLE anon", "COMMIT").close()


@pytest.mark.usefixtures("in_no_time")
@pytest.mark.parametrize("isolation", ["recycle", "clone"])
@pytest.mark.parametrize(
    "poison", [lock_on_an_open_connection, lock_in_a_prepared_transaction, advisory_lock, dropped_role]
)
def test_nothing_poisons_the_next_test(private, leak, poison, isolation):
    """It must not wait for what the last one locked, nor miss what that one took away."""
    for _ in range(2):
        with private.lend(isolation) as first:
            poison(first, leak)
    with private.lend(isolation) as second, second.connect(options="-c lock_timeout=1") as connection:
        assert second.name != first.name
        connection.execute(LOCKS[0])
        assert connection.execute("SELECT pg_try_advisory_lock(1), count(*) FROM ai_sessions").fetchone() == (True, 2)
        connection.execute("SET ROLE anon")


@pytest.mark.parametrize("isolation", ["recycle", "clone"])
def test_two_at_a_time_are_two(private, isolation):
    """A test may ask for a second one, and what is ready is nobody's yet."""
    with private.lend(isolation) as one, private.lend(isolation) as other:
        assert one.name != other.name
        one.rows(INSERT)
        assert other.rows("SELECT count(*) FROM ai_sessions") == [(2,)]


def test_a_clone_is_never_handed_on(private):
    """That is what it is asked for."""
    names = set()
    for _ in range(3):
        with private.lend("clone") as database:
            names.add(database.name)
    assert len(names) == 3


def test_a_thread_that_outlives_its_test_ends_the_database(private):
    """It may hold a connection that is not open yet."""
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait, name="late writer")
    try:
        with private.lend("recycle") as first:
            thread.start()
        with private.lend("recycle") as second:
            assert second.name != first.name
        assert list(private.ended) == ["dropped: the thread late writer, which may still use the database"]
    finally:
        may_end.set()
        thread.join()


def test_a_thread_that_was_there_before_does_not(private):
    """Servers and timers of a project run for its whole session."""
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait)
    thread.start()
    try:
        with private.lend("recycle") as first:
            pass
        with private.lend("recycle") as second:
            assert second.name == first.name
    finally:
        may_end.set()
        thread.join()


def test_a_tainted_database_is_dropped(private):
    """Who knows more than we can see says so."""
    with private.lend("recycle") as first:
        first.tainted = "something that I cannot vouch for"
    with private.lend("recycle") as second:
        assert second.name != first.name
        assert second.tainted == ""
    assert list(private.ended) == ["dropped: something that I cannot vouch for"]


def test_a_busy_data_api_ends_the_database(private, api):
    """Its request will write when it gets to it; told that the database goes, it gives up."""
    with private.lend("recycle") as first:
        api.settled[first.name] = False
    with private.lend("recycle") as second:
        assert second.name != first.name
    assert list(private.ended) == ["dropped: a request that the data API is still busy with"]
    assert api.gone == [first.name]


def test_a_test_that_fails_gives_its_database_back(private):
    """Its frames are kept for the report, and what they hold must not keep the database."""

    def fails():
        with private.lend("recycle") as first:
            connection = first.connection
            connection.execute(INSERT)
            raise ValueError(first.name)

    with pytest.raises(ValueError, match="sf_") as caught:
        fails()
    with private.lend("recycle") as second:
        assert second.name == str(caught.value)
        assert second.rows("SELECT count(*) FROM ai_sessions") == [(2,)]


def test_without_a_superusers_rights_all_are_clones(databases, private, monkeypatch):
    """What cannot be looked at cannot be proved."""
    monkeypatch.setattr(type(databases), "is_superuser", property(lambda _: False))
    with private.lend("recycle") as first:
        pass
    with private.lend("recycle") as second:
        assert second.name != first.name


def test_a_template_that_cannot_be_cloned_is_said_and_made_up_for(private, databases):
    """A connection to the template forbids to clone it; when it has gone, testing goes on."""
    with private.lend("clone"):
        pass
    with (
        contextlib.closing(psycopg.connect(**databases.params(databases.template()))),
        pytest.raises(psycopg.errors.ObjectInUse),
        private.lend("clone"),
    ):
        pass
    with private.lend("clone") as database:
        assert database.rows("SELECT 1") == [(1,)]


def test_a_request_under_way_cannot_write_into_the_next_test(running, nothing_is_made_ahead, monkeypatch, eventually):
    """Its client has given up waiting; the request itself waits for a lock, and would be served when that goes."""
    assert nothing_is_made_ahead is None
    monkeypatch.setattr(recycling, "LEAVING_S", 0.2)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with Tap() as tap, ThreadPoolExecutor(1, "session-fix late writer") as thread:
        with running.lend("recycle") as first, contextlib.closing(first.connect()) as locked:
            locked.execute("LOCK TABLE ai_sessions IN ACCESS EXCLUSIVE MODE")
            tap.point_at(running.endpoint(first), Recorder())
            late = thread.submit(sent, tap.url, running.keys.service_role)
            eventually(lambda: first.rows(waits) == [(1,)])
            if not tap.let_go(timeout_s=0.01):
                first.tainted = "a call of the service that is still under way"
        with running.lend("recycle") as second:
            tap.point_at(running.endpoint(second), Recorder())
            late.exception(TIMEOUT_S)
            assert second.name != first.name
            assert second.rows("SELECT count(*) FROM ai_sessions") == [(0,)]


def test_the_data_api_says_what_is_under_way(running, leak, nothing_is_made_ahead, eventually):
    """A client that went to it directly is no matter of the tap's, and may have hung up."""
    assert nothing_is_made_ahead is None
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with ThreadPoolExecutor(1, "session-fix late writer") as thread:
        with running.lend("recycle") as first:
            leak(first, "LOCK TABLE ai_sessions IN ACCESS EXCLUSIVE MODE")
            late = thread.submit(sent, running.endpoint(first).url, running.keys.service_role)
            eventually(lambda: first.rows(waits) == [(1,)])
        with running.lend("recycle") as second:
            assert second.name != first.name
            late.exception(TIMEOUT_S)
            assert second.rows("SELECT count(*) FROM ai_sessions") == [(0,)]
    assert "dropped: a request that the data API is still busy with" in running.private.ended


def test_after_a_call_through_the_data_api_the_database_is_handed_on(running, nothing_is_made_ahead):
    """That is what nearly every test does."""
    assert nothing_is_made_ahead is None
    with running.lend("recycle") as first:
        assert sent(running.endpoint(first).url, running.keys.service_role) == 201
        assert first.rows("SELECT count(*) FROM ai_sessions") == [(1,)]
    with running.lend("recycle") as second:
        assert second.name == first.name
        assert second.rows("SELECT count(*) FROM ai_sessions") == [(0,)]
        assert sent(running.endpoint(second).url, running.keys.service_role) == 201


def sent(url, key, *, timeout_s=2):
    """Insert a session through a data API; return the status."""
    import httpx  # noqa: PLC0415  needs a moment, and only these tests need it

    body = {"id": "00000000-0000-0000-0000-00000000000a"}
    with httpx.Client(timeout=timeout_s, headers={"apikey": key, "authorization": f"Bearer {key}"}) as client:
        return client.post(f"{url}/rest/v1/ai_sessions", json=body).status_code
