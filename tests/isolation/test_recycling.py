"""What is put right without anybody noticing: rows, whoever wrote them and however, and what left no trace."""

# ruff: noqa: S608  the names in the statements are our own

import contextlib

import psycopg
import pytest

from session_fix.databases import Databases
from session_fix.isolation import recycling
from session_fix.isolation.private import PrivateDatabases

ODD = '"100% ""sure"" {it\'s}"'
REPLICA = "SET session_replication_role = replica"
INSERT = "INSERT INTO ai_sessions (id) SELECT gen_random_uuid() FROM generate_series(1, 100)"
ORPHAN = "INSERT INTO ai_interactions (id, session_id, prompt, response) SELECT a, a, '', '' FROM gen_random_uuid() a"
RECYCLED = {
    "nothing": [],
    "INSERT": [INSERT],
    "INSERT in many transactions": [INSERT] * 3,
    "INSERT in savepoints": ["BEGIN", INSERT, "SAVEPOINT a", INSERT, "RELEASE a", "SAVEPOINT b", INSERT, "COMMIT"],
    "INSERT, rolled back": ["BEGIN", INSERT, "ROLLBACK"],
    "INSERT ON CONFLICT": ["INSERT INTO ai_sessions SELECT * FROM ai_sessions ON CONFLICT DO NOTHING"],
    "COPY": ["COPY log FROM PROGRAM 'echo mine'"],
    "as a replica": [REPLICA, INSERT, ORPHAN],
    "triggers off": [REPLICA, f"DELETE FROM {ODD}", "DELETE FROM ai_sessions", ORPHAN],
    "unlogged table": ["INSERT INTO unlogged VALUES (3)", "UPDATE unlogged SET n = -n"],
    "through a view": ["INSERT INTO sessions VALUES (gen_random_uuid())"],
    "UPDATE": ["UPDATE ai_sessions SET user_id = 'mine'"],
    "UPDATE that changes nothing": ["UPDATE ai_sessions SET user_id = user_id"],
    "UPDATE of a key": ["UPDATE unlogged SET n = n + 10", f"UPDATE {ODD} SET id = id + 10"],
    "UPDATE of odd columns": [f'UPDATE {ODD} SET "per cent %" = NULL, "a ""b"" c" = \'\', j = NULL, missing = 1'],
    "DELETE": ["DELETE FROM ai_interactions", "DELETE FROM ai_sessions"],
    "DELETE of odd rows": [f"DELETE FROM {ODD} WHERE id = 2"],
    "INSERT with odd names": [f"INSERT INTO {ODD} VALUES (3), (4)"],
    "rows gone in one table and new in another": ["DELETE FROM unlogged", INSERT, "INSERT INTO log VALUES ('a')"],
    "two tables": [INSERT, "INSERT INTO log VALUES ('a')"],
    "the version of the schema": ["UPDATE alembic_version SET version_num = 'mine'"],
    "row of a large table": ["INSERT INTO large VALUES (-1)"],
    "row of a large table, inserted and deleted": ["INSERT INTO large VALUES (-1)", "DELETE FROM large WHERE n < 0"],
    "trigger with rows of its own": ["INSERT INTO numbered OVERRIDING SYSTEM VALUE VALUES (77, 'a')"],
    "locked rows": ["SELECT FROM ai_sessions FOR UPDATE", "BEGIN", "SELECT FROM large FOR SHARE", "COMMIT"],
    "table come and gone": ["CREATE TABLE mine (n integer)", "INSERT INTO mine VALUES (1)", "DROP TABLE mine"],
    "DDL, rolled back": ["BEGIN", "DROP TABLE log", "CREATE TABLE mine ()", "TRUNCATE large", "ROLLBACK"],
    "PREPARE, SET, LISTEN": ["PREPARE p AS SELECT 1", "SET search_path = nowhere", "LISTEN x", "NOTIFY x"],
    "advisory lock": ["SELECT pg_advisory_lock(1), pg_advisory_lock_shared(2)"],
}


@pytest.mark.parametrize("queries", RECYCLED.values(), ids=RECYCLED)
def test_rows_are_put_right(next_after, statements, queries):
    """A clone would cost ten times as much, and give the same."""
    outcome = next_after(lambda database: statements(database, *queries))
    assert outcome.ended == ["recycled"]
    assert outcome.differs == {}
    assert outcome.same


@pytest.mark.parametrize("queries", RECYCLED.values(), ids=RECYCLED)
def test_rows_of_a_first_test_are_put_right_on_the_open_connection(private, picture, fresh, queries):
    """The connection that comes with a database needs no closing, and the first test is read with more care."""
    with private.lend("recycle") as first:
        first.connection.autocommit = True
        for query in queries:
            first.connection.execute(query)
    with private.lend("recycle") as second:
        assert private.ended == {"recycled": 1}
        assert picture(second) == fresh


def test_many_tests_one_after_the_other_find_the_same(private, picture, fresh, statements):
    """What one renewal counts from, the next must not lose."""
    for query in (
        INSERT,
        "DELETE FROM unlogged",
        INSERT,
        "UPDATE ai_sessions SET user_id = 'x'",
        "DELETE FROM ai_interactions",
    ) * 2:
        with private.lend("recycle") as database:
            statements(database, query)
    with private.lend("recycle") as last:
        assert picture(last) == fresh
    assert list(private.ended) == ["recycled"]


def test_tables_that_the_last_test_did_not_write_to_are_emptied_as_well(private, picture, fresh, statements):
    """Those it did write to are emptied before it is known whether the next one did."""
    log = "INSERT INTO log VALUES ('mine')"
    mixed = [INSERT, "DELETE FROM unlogged"]
    for queries in ([INSERT], [INSERT, log], [log], mixed, [], [log], [INSERT, log], []):
        with private.lend("recycle") as database:
            assert picture(database) == fresh
            statements(database, *queries)
    assert list(private.ended) == ["recycled"]


@pytest.mark.parametrize(
    "acting",
    [
        ["CREATE TRIGGER acting AFTER DELETE ON ai_sessions EXECUTE FUNCTION act()", "TRIGGER"],
        ["CREATE RULE acting AS ON DELETE TO ai_sessions DO ALSO SELECT act_out()", "RULE"],
    ],
)
def test_what_a_test_has_act_on_every_deletion_does_not_act_on_ours(private, databases, statements, acting):
    """It may do something to the server, and be seen only in the next test."""
    with private.lend("recycle") as database:
        statements(database, INSERT)
    with private.lend("recycle") as database:
        statements(
            database,
            INSERT,
            "CREATE FUNCTION act_out() RETURNS text LANGUAGE plpgsql AS $$BEGIN CREATE ROLE acted; RETURN 1; END$$",
            "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN CREATE ROLE acted; RETURN NULL; END$$",
            acting[0],
            f"ALTER TABLE ai_sessions ENABLE ALWAYS {acting[1]} acting",
        )
    with private.lend("recycle"):
        assert databases.execute("SELECT 1 FROM pg_roles WHERE rolname = 'acted'") == []
        assert "a change of the catalog" in list(private.ended)[-1]


def test_many_rows_are_not_deleted_before_they_are_counted(private, monkeypatch):
    """The next test would wait for what is thrown away."""
    found, look = [], recycling.facts.look

    def spy(*arguments):
        looked = yield from look(*arguments)
        found.append(looked[-1])
        return looked

    monkeypatch.setattr(recycling, "DELETED_AT_MOST", 150)
    monkeypatch.setattr(recycling.facts, "look", spy)
    for queries in ([INSERT], [INSERT], [INSERT, INSERT]):
        with private.lend("recycle") as database:
            database.connection.autocommit = True
            for query in queries:
                database.connection.execute(query)
    with private.lend("recycle"):
        assert [100] in found
        assert found[-1] == [0]
        assert "more than 150 rows" in list(private.ended)[-1]


def test_a_function_knows_nothing_of_who_called_it_before(databases):
    """What it says of a moment without a zone depends on the settings, and its plan is made once."""

    def fill(params):
        with psycopg.connect(**params) as connection:
            connection.execute(
                "CREATE TABLE log (); CREATE FUNCTION moment() RETURNS timestamptz LANGUAGE plpgsql AS "
                "$$BEGIN RETURN '2026-01-05'::timestamptz; END$$"
            )
        return "head"

    with private_databases(databases, "cccccccc", fill) as private:
        for _ in range(2):
            with private.lend("recycle") as database:
                database.connection.execute("SET TimeZone = 'Asia/Tokyo'")
                database.connection.execute("SELECT moment()")
        with private.lend("recycle") as database:
            assert database.connection.execute("SELECT moment()").fetchall() == database.rows("SELECT moment()")
        assert list(private.ended) == ["recycled"]


def test_a_deletion_that_does_not_take_what_was_written_ends_the_database(private, statements, monkeypatch):
    """Nothing should keep it from that; and if something does, the next test must not find out."""
    monkeypatch.setattr(recycling.facts, "deletion", lambda *_: "SELECT json_build_array(0 * $1::int8)")
    with private.lend("recycle") as database:
        statements(database, INSERT)
    with private.lend("recycle"):
        assert list(private.ended) == ["dropped: nothing to be sure about: DataError"]


def test_what_was_not_committed_is_not_there(private):
    """A test need not tidy up the connection that it did not open."""
    for _ in range(2):
        with private.lend("recycle") as database:
            assert database.connection.execute("SELECT count(*) FROM log").fetchone() == (0,)
            database.connection.execute("INSERT INTO log VALUES ('mine')")
    with private.lend("recycle") as database:
        assert database.rows("SELECT count(*) FROM log") == [(0,)]
    assert list(private.ended) == ["recycled"]


def test_a_trigger_that_always_fires_is_never_recycled(databases):
    """It would act on the emptying itself: what it does cannot be known."""

    def fill(params):
        with psycopg.connect(**params) as connection:
            connection.execute(
                "CREATE TABLE log (what text); CREATE TABLE watched (n integer);"
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN INSERT INTO log VALUES (TG_OP); RETURN NULL; END$$;"
                "CREATE TRIGGER noting AFTER DELETE ON watched FOR EACH ROW EXECUTE FUNCTION note();"
                "ALTER TABLE watched ENABLE ALWAYS TRIGGER noting"
            )
        return "head"

    with private_databases(databases, "aaaaaaaa", fill) as private:
        for _ in range(2):
            with private.lend("recycle") as database:
                database.rows("INSERT INTO watched VALUES (1)")
        with private.lend("recycle") as database:
            assert database.rows("SELECT * FROM log UNION ALL SELECT n::text FROM watched") == []
        assert list(private.ended) == ["dropped: a trigger or a rule of the state that acts on every reset"]


def test_a_state_that_cannot_be_read_leaves_no_database_behind(databases):
    """A column of a type that has no binary form speaks against recycling, and not against testing."""

    def fill(params):
        with psycopg.connect(**params) as connection:
            connection.execute("CREATE TABLE odd (acl aclitem)")
        return "head"

    with private_databases(databases, "bbbbbbbb", fill) as private:
        for _ in range(9):
            with private.lend("recycle") as database:
                database.rows("SELECT 1")
        with private.lend("recycle"):
            there = databases.execute("SELECT datname FROM pg_database WHERE datname ~ '^sf_bbbbbbbb_[0-9a-f]{12}$'")
            assert len(there) < 9
    assert all(ended.startswith("dropped: ") for ended in private.ended)


@contextlib.contextmanager
def private_databases(databases, run, fill):
    """Yield private databases with a template of their own."""
    with Databases(databases.server, run=run, migrate=fill) as own:
        private = PrivateDatabases(own, rest=lambda: "", settled=lambda _: None, let_go=lambda _: None, alone=True)
        with contextlib.closing(private):
            yield private


@pytest.fixture(autouse=True)
def nothing_ahead(nothing_is_made_ahead):
    """Let each test get what the last one gave back."""
    assert nothing_is_made_ahead is None
    assert recycling.LEAVING_S > 1
