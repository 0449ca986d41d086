"""Who leaves while the database is looked at: what they wrote last is seen all the same."""

import contextlib
import select
import threading
from types import SimpleNamespace

import psycopg
import pytest

from session_fix.isolation import facts, recycling
from session_fix.isolation.tasks import begun

ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'session-fix' AND wait_event = 'PgSleep'"
OPEN = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leaver'"


@pytest.fixture(params=["AROUND", "ALONE"])
def slow_look(monkeypatch, request):
    """As long as somebody holds an advisory lock, look who is connected three seconds after the statement began."""
    asleep = "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711) AND pg_sleep(3) IS NOT NULL"
    look = getattr(facts, request.param)
    if request.param == "AROUND":
        request.getfixturevalue("started_api")
    monkeypatch.setattr(facts, request.param, f"SELECT CASE WHEN {asleep} THEN ({look}) ELSE ({look}) END")


@pytest.mark.usefixtures("slow_look")
@pytest.mark.parametrize(
    ("last", "ended"),
    [
        ("INSERT INTO log VALUES ('late')", "recycled"),
        ("ALTER TABLE log OWNER TO anon", "dropped: a change of the catalog"),
    ],
)
def test_what_a_session_wrote_before_it_left_under_our_eyes_is_seen(
    private, databases, picture, fresh, eventually, last, ended
):
    """The statement that finds nobody there any more may have begun before they wrote, and cannot see that."""
    for _ in range(2):  # afterwards the catalogs are not dated for nothing
        with private.lend("recycle"):
            pass

    there = threading.Event()

    def leave(database):
        with databases_connection(databases) as elsewhere:
            leaver = psycopg.connect(**database.params | {"application_name": "leaver"}, autocommit=True)
            leaver.execute("SELECT pg_advisory_lock(4711)")
            there.set()
            eventually(lambda: elsewhere.execute(ASLEEP).fetchall() == [(1,)])
            leaver.execute(last)
            leaver.close()
            eventually(lambda: elsewhere.execute(OPEN).fetchall() == [(0,)])
            still = elsewhere.execute(ASLEEP).fetchall()
            assert still == [(1,)], "the look was over before the session had left"

    with private.lend("recycle") as database:
        leaving = threading.Thread(target=leave, args=(database,), name="session-fix leaver")
        leaving.start()
        there.wait(20)
    with private.lend("recycle") as second:
        found = picture(second)
    leaving.join()
    assert found == fresh
    assert any(why.startswith(ended) for why in private.ended)


def test_the_server_is_asked_once_while_somebody_leaves(private, monkeypatch):
    """By the time of another answer, another test could be blamed for it."""
    asked, together = [], facts.together

    def spy(*arguments, told):
        asked.append(told is not None)
        return (yield from together(*arguments, told=told))

    with private.lend("recycle"):
        pass
    monkeypatch.setattr(facts, "together", spy)
    with private.lend("recycle") as database:
        leaver = psycopg.connect(**database.params)
    private.settle()
    while len(asked) < 4:
        with private.lend("clone"):  # lets what is under way go on
            pass
    leaver.close()
    with private.lend("recycle"):
        assert asked[:4] == [True, False, False, False]


def test_who_has_left_since_is_not_found_there_by_an_old_answer(private, monkeypatch):
    """Nothing goes on while a test runs; what was asked before a long one says nothing of the time after it."""
    asked, clock, look = [], SimpleNamespace(now=0.0, monotonic=lambda: clock.now), facts.look

    def spy(*arguments):
        asked.append(arguments)
        task = begun(look(*arguments))
        if len(asked) == 2:  # the first only finds that somebody is there
            select.select([arguments[0].connection.socket], [], [], 0.5)
            leaver.close()
            clock.now += 2 * recycling.LEAVING_S
        return task

    monkeypatch.setattr(recycling, "time", clock)
    monkeypatch.setattr(facts, "look", spy)
    with private.lend("recycle") as database:
        leaver = psycopg.connect(**database.params)
    with private.lend("recycle"):
        assert list(private.ended) == ["recycled"]


@contextlib.contextmanager
def databases_connection(databases):
    """Yield a connection to another database of the server."""
    with psycopg.connect(**databases.params("postgres"), autocommit=True) as connection:
        yield connection
