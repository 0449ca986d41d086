"""The open connection that comes with a database: as good as a new one, or a new one."""

import contextlib
import gc

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from session_fix.isolation import sessions
from session_fix.isolation.tasks import Tasks

NEW = """
SELECT current_setting('request.jwt.claims', true), current_setting('search_path'), current_setting('role'),
    current_setting('statement_timeout'), session_user::text, (SELECT count(*) FROM pg_prepared_statements),
    (SELECT count(*) FROM pg_cursors), (SELECT count(*) FROM pg_listening_channels()), to_regclass('pg_temp.mine'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), current_setting('client_encoding'),
    current_setting('mine.own', true), current_setting('session_replication_role'),
    current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only')
"""
DEFERRABLE = (
    "SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on; "
    "SET default_transaction_deferrable = on"
)
LEFT = {
    "nothing": "SELECT 1",
    "transaction": "BEGIN; INSERT INTO log VALUES ('mine')",
    "failed transaction": "BEGIN; SELECT 1/0",
    "search_path": "SET search_path = nowhere",
    "role": "SET ROLE anon",
    "session authorization": "SET SESSION AUTHORIZATION anon",
    "timeout": "SET statement_timeout = '1ms'",
    "replica": "SET session_replication_role = replica",
    "transactions": DEFERRABLE,
    "encoding": "SET client_encoding = 'LATIN1'",
    "prepared statement": "PREPARE mine AS SELECT 1",
    "cursor": "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
    "LISTEN": "LISTEN mine",
    "NOTIFY": "LISTEN mine; NOTIFY mine, 'late'",
    "advisory lock": "SELECT pg_advisory_lock(1)",
    "claims": "SET request.jwt.claims = '{}'",
    "claims of one transaction": "BEGIN; SELECT set_config('request.jwt.claims', '{}', true); COMMIT",
}


@pytest.fixture(scope="module")
def as_new(databases):
    """Return what a new connection says of itself."""
    with databases.clone().connect() as connection:
        return connection.execute(NEW).fetchone()


def asked(database, statements):
    """Run statements on the open connection, each for itself, though one may fail."""
    database.connection.autocommit = True
    for statement in statements.split("; "):
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            database.connection.execute(statement)


@pytest.mark.parametrize("statements", LEFT.values(), ids=LEFT)
def test_the_next_test_finds_it_as_new(private, as_new, statements):
    """What one test sets for itself, no other has asked for."""
    for _ in range(2):
        with private.lend("recycle") as first:
            asked(first, statements)
    with private.lend("recycle") as second:
        assert second.connection.execute(NEW).fetchone() == as_new
        assert second.connection.pgconn.notifies() is None
        assert second.rows("SELECT count(*) FROM log") == [(0,)]
    assert list(private.ended) == ["recycled"]


def test_washing_waits_for_no_transaction(private, databases, eventually):
    """A session of that kind waits until others that are serializable have ended, and a leaked one never does."""
    with databases.maintenance() as other, private.lend("recycle") as first:
        asked(first, DEFERRABLE)
        session = first.session()
        other.execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT pg_current_xact_id()")
        washed = []
        tasks = Tasks()
        tasks.start(sessions.washed(session, plans=False), lambda *outcome: washed.append(outcome))
        try:
            eventually(lambda: tasks.go_on() or washed)
        finally:
            session.finish()
        assert washed == [(True, None)]


def test_what_waits_for_a_lock_of_the_session_goes_on_as_soon_as_it_is_given_back(private, eventually):
    """A request may wait for it that the data API has to finish before anything else is done."""
    with private.lend("recycle", settle=False) as database:
        database.connection.execute("SELECT pg_advisory_lock(1)")
    with psycopg.connect(**database.params, autocommit=True) as other:
        eventually(lambda: other.execute("SELECT pg_try_advisory_lock(1)").fetchall() == [(True,)])
    private.settle()


def test_a_temporary_table_ends_the_database(private):
    """Its schema stays in the catalog when the table has gone."""
    for _ in range(2):
        with private.lend("recycle") as first:
            first.connection.execute("CREATE TEMPORARY TABLE mine ()")
            first.connection.commit()
    with private.lend("recycle") as second:
        assert second.connection.execute("SELECT to_regclass('pg_temp.mine')").fetchone() == (None,)
        assert second.name != first.name


def test_a_notification_that_nobody_read_is_not_the_next_tests(private, statements):
    """It arrives whenever it likes, with the answer to any statement, and the next test waits for one of its own."""
    for _ in range(2):
        with private.lend("recycle") as first:
            first.connection.execute("LISTEN mine")
            first.connection.commit()
            statements(first, "NOTIFY mine, 'late'")
    with private.lend("recycle") as second:
        second.connection.execute("SELECT 1")
        assert list(second.connection.notifies(timeout=0)) == []
        assert second.connection.pgconn.notifies() is None


def test_the_session_is_handed_on(private):
    """To open one costs more than all the rest of a small test."""
    found = set()
    for _ in range(4):
        with private.lend("recycle") as database:
            found.add(database.connection.info.backend_pid)
    assert len(found) == 1


def test_psycopgs_own_settings_are_not(private):
    """They are the connection's and not the session's, so that no statement takes them back."""
    with private.lend("recycle") as first:
        connection = first.connection
        connection.autocommit = True
        connection.row_factory = dict_row
        connection.prepare_threshold = 0
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.adapters.register_loader("int4", TextLoader)
        connection.add_notice_handler(print)
        connection.execute("SELECT 1")
        del connection
    with private.lend("recycle") as second:
        assert second.connection.autocommit is False
        assert second.connection.execute("SELECT 1").fetchone() == (1,)
        assert second.connection.prepare_threshold == 5
        assert second.connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


@pytest.mark.parametrize("kept", ["connection", "cursor", "pgconn"])
def test_what_a_test_keeps_of_it_is_dead(private, kept):
    """A fixture that holds it for longer must not reach into the next test."""
    with private.lend("recycle") as first:
        held = {
            "connection": lambda: first.connection,
            "cursor": lambda: first.connection.execute("SELECT 1"),
            "pgconn": lambda: first.connection.pgconn,
        }[kept]()
        first.connection.commit()
    with private.lend("recycle") as second:
        second.connection.execute("SELECT 1")
        if kept == "pgconn":
            with pytest.raises(psycopg.OperationalError):
                held.exec_(b"SELECT 1")
        else:
            with pytest.raises((psycopg.OperationalError, psycopg.InterfaceError)):
                held.execute("SELECT 1")
        assert second.rows("SELECT 1") == [(1,)]


@pytest.mark.parametrize("end", ["close", "with", "terminate", "pipeline", "copy"])
def test_one_that_cannot_be_handed_on_is_replaced(private, statements, end):
    """A test may do with it what it likes."""
    with private.lend("recycle") as first:
        connection = first.connection
        match end:
            case "close":
                connection.close()
            case "with":
                with connection:
                    connection.execute("SELECT 1")
            case "terminate":
                pid = connection.info.backend_pid
                statements(first, f"SELECT pg_terminate_backend({pid})")
            case "pipeline":
                connection.pgconn.enter_pipeline_mode()
            case "copy":
                connection.pgconn.exec_(b"COPY log FROM STDIN")
        del connection
    gc.collect()
    with private.lend("recycle") as second:
        assert second.connection.execute("SELECT count(*) FROM log").fetchone() == (0,)
    assert set(private.ended) == {"recycled"}


def test_it_is_open_in_no_transaction_until_it_is_used(private):
    """Whoever asks for it asks for a connection, and for nothing to have happened on it."""
    for _ in range(2):
        with private.lend("recycle") as database:
            assert database.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert database.connection is database.connection
