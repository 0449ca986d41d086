"""Statements that are sent together, and tasks that are begun before they are waited for."""

from functools import partial

import psycopg
import pytest

from session_fix.isolation.tasks import Tasks, begun, send_ahead, statement, together


@pytest.fixture
def connection(databases):
    """Yield an open connection of libpq."""
    with databases.maintenance() as opened:
        yield opened.pgconn


def sendings(connection, *texts):
    """Return what sends the statements."""
    return [partial(connection.send_query_params, text.encode(), None) for text in texts]


@pytest.mark.parametrize(("isolation", "seen"), [("read committed", b"1"), ("repeatable read", b"0")])
def test_each_of_those_sent_together_sees_what_was_committed_before_it_began(
    connection, databases, eventually, isolation, seen
):
    """Whoever leaves while the first one runs wrote what only a later snapshot shows."""
    connection.exec_(f"SET default_transaction_isolation = '{isolation}'".encode())
    role = f"meanwhile_{isolation.replace(' ', '_')}"
    databases.execute("SELECT pg_advisory_lock(7)")
    texts = ("SELECT pg_advisory_xact_lock(7)", f"SELECT count(*) FROM pg_authid WHERE rolname = '{role}'")  # noqa: S608
    task = begun(together(connection, *sendings(connection, *texts)))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    eventually(lambda: databases.execute(waiting) == [(1,)])
    databases.execute(f"CREATE ROLE {role}")
    databases.execute("SELECT pg_advisory_unlock(7)")
    try:
        _, found = Tasks().run(task)
        assert found.get_value(0, 0) == seen
    finally:
        databases.execute(f"DROP ROLE {role}")


def test_an_error_is_raised_when_all_have_been_answered(connection):
    """The connection can be used afterwards, and what came after the error was not done."""
    texts = ("SELECT 1 / 0", "SET application_name = 'done'")
    with pytest.raises(psycopg.errors.DivisionByZero):
        Tasks().run(together(connection, *sendings(connection, *texts)))
    (shown,) = Tasks().run(statement(connection, "SHOW application_name"))
    assert shown.get_value(0, 0) != b"done"


def test_a_connection_that_is_lost_in_between_is_an_error(connection):
    """Nobody waits for answers that cannot come."""
    texts = ("SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        Tasks().run(together(connection, *sendings(connection, *texts)))


def test_a_begun_task_has_sent_its_statement(connection, databases, eventually):
    """The server works on it while something else is done, and what it returns comes when it is asked for."""
    task = begun(statement(connection, "SET application_name = 'begun'; SELECT 7"))
    seen = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'begun'"
    eventually(lambda: databases.execute(seen) == [(1,)])
    *_, answer = Tasks().run(task)
    assert answer.get_value(0, 0) == b"7"


def test_a_task_that_has_nothing_to_wait_for_is_over_when_it_is_begun():
    """What it returns is kept."""

    def task():
        yield from ()
        return 7

    assert Tasks().run(begun(task())) == 7


def test_a_task_that_is_interrupted_is_over():
    """Ctrl-C, or a time limit: nobody waits for it any more, not even the end of the run."""

    def task():
        raise KeyboardInterrupt
        yield

    tasks, ended = Tasks(), []
    with pytest.raises(KeyboardInterrupt):
        tasks.start(task(), lambda *outcome: ended.append(outcome))
    tasks.finish()
    assert ended == [(None, None)]


def test_what_is_ahead_is_told_before_the_others_are_answered(connection, databases):
    """Who asked for it goes on while the server is busy with the rest; an error of the rest does not touch it."""
    told = []
    (first, *others) = sendings(connection, "SELECT 7", "SELECT pg_advisory_lock(7)", "SELECT 1 / 0")
    databases.execute("SELECT pg_advisory_lock(7)")
    tasks, ended = Tasks(), []
    send_ahead(connection, first)
    tasks.start(
        together(connection, *others, told=lambda result: told.append(result.get_value(0, 0))),
        lambda *outcome: ended.append(outcome),
    )
    tasks.go_on_until(lambda: bool(told))
    assert (told, ended) == ([b"7"], [])
    databases.execute("SELECT pg_advisory_unlock(7)")
    tasks.finish()
    assert isinstance(ended[0][1], psycopg.errors.DivisionByZero)


def test_an_error_of_what_is_ahead_is_raised_when_all_have_been_answered(connection):
    """Nobody is told anything, and the connection can be used afterwards."""
    told = []
    (first, second) = sendings(connection, "SELECT 1 / 0", "SELECT 7")
    send_ahead(connection, first)
    with pytest.raises(psycopg.errors.DivisionByZero):
        Tasks().run(together(connection, second, told=told.append))
    (answer,) = Tasks().run(statement(connection, "SELECT 8"))
    assert (answer.get_value(0, 0), told) == (b"8", [])
