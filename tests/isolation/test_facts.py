"""What a test leaves in its database, beside rows: whatever it is, the database is dropped and not handed on."""

import psycopg
import pytest
from psycopg.pq import TransactionStatus

CATALOG = "a change of the catalog"
UNSURE = "nothing to be sure about"
IN_PLACE = "ANALYZE, VACUUM or CREATE INDEX of a table"
DATABASE = "a setting, comment, owner, slot or subscription of the database itself"
SUBSCRIBE = "CREATE SUBSCRIPTION s CONNECTION 'host=/' PUBLICATION p WITH (connect = false, slot_name = NONE)"
NOBODY_ENTERS = "CREATE FUNCTION act() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no entry'; END$$"
ON_LOGIN = "CREATE EVENT TRIGGER mine ON login EXECUTE FUNCTION act()"
REPLACE = "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"
INSERT = "INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())"
ACT = "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN CREATE ROLE acted; RETURN NULL; END$$"
NOTING = "CREATE FUNCTION act() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'"


def of_this(statement):
    """Return a statement about the database in which it is run."""
    return f"DO $do$ BEGIN EXECUTE format($sql${statement}$sql$, current_database()); END $do$"


def databases_connection(databases):
    """Return a connection to another database of the server."""
    return psycopg.connect(**databases.params("postgres"), autocommit=True)


def commented(connection, database):
    """Change something else first: what was counted is reported at once, but the next time not before a second."""
    connection.execute("CREATE TABLE mine (); DROP TABLE mine")
    connection.execute(f"COMMENT ON DATABASE {database.name} IS 'mine'")


LEAVINGS = {
    "CREATE TABLE": (["CREATE TABLE mine ()"], CATALOG),
    "ADD COLUMN": (["ALTER TABLE ai_sessions ADD COLUMN mine text"], CATALOG),
    "DROP COLUMN": (["ALTER TABLE numbered DROP COLUMN word"], CATALOG),
    "DROP TABLE": (["DROP TABLE log"], UNSURE),
    "DROP and CREATE TABLE": (["DROP TABLE log", "CREATE TABLE log (what text)"], CATALOG),
    "DROP VIEW": (["DROP VIEW sessions"], CATALOG),
    "TRUNCATE": (["TRUNCATE log"], CATALOG),
    "SET UNLOGGED": (["ALTER TABLE log SET UNLOGGED"], CATALOG),
    "COMMENT ON": (["COMMENT ON TABLE ai_sessions IS 'mine'"], CATALOG),
    "GRANT": (["GRANT SELECT ON ai_sessions TO anon"], CATALOG),
    "REVOKE": (["REVOKE INSERT ON ai_sessions FROM service_role"], CATALOG),
    "OWNER TO": (["ALTER TABLE log OWNER TO anon"], CATALOG),
    "CREATE POLICY": (["CREATE POLICY mine ON ai_sessions"], CATALOG),
    "ROW LEVEL SECURITY": (["ALTER TABLE ai_sessions ENABLE ROW LEVEL SECURITY"], CATALOG),
    "CREATE FUNCTION": (["CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"], CATALOG),
    "REPLACE FUNCTION": ([REPLACE], CATALOG),
    "CREATE INDEX": (["CREATE INDEX ON ai_sessions (user_id)"], CATALOG),
    "DROP CONSTRAINT": (["ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey"], CATALOG),
    "CREATE TYPE": (["CREATE TYPE mine AS ENUM ('a')"], CATALOG),
    "CREATE SCHEMA": (["CREATE SCHEMA mine"], CATALOG),
    "CREATE EXTENSION": (["CREATE EXTENSION vector"], CATALOG),
    "DROP EXTENSION": (["DROP EXTENSION plpgsql CASCADE"], CATALOG),
    "CREATE PUBLICATION": (["CREATE PUBLICATION mine"], CATALOG),
    "event trigger": ([NOTING, "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION act()"], CATALOG),
    "always on login": ([NOBODY_ENTERS, ON_LOGIN, "ALTER EVENT TRIGGER mine ENABLE ALWAYS"], CATALOG),
    "DEFAULT PRIVILEGES": (["ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO anon"], CATALOG),
    "DISABLE TRIGGER": (["ALTER TABLE numbered DISABLE TRIGGER noting"], CATALOG),
    "ALWAYS TRIGGER": (["ALTER TABLE numbered ENABLE ALWAYS TRIGGER noting", "DELETE FROM ai_interactions"], CATALOG),
    "CREATE RULE": (["CREATE RULE mine AS ON DELETE TO log DO INSTEAD NOTHING"], CATALOG),
    "ANALYZE": (["ANALYZE large"], CATALOG),
    "ANALYZE of an empty table": (["ANALYZE log"], IN_PLACE),
    "VACUUM": (["VACUUM unlogged"], IN_PLACE),
    "index come and gone": (["INSERT INTO log VALUES ('a')", "CREATE INDEX i ON log (what)", "DROP INDEX i"], IN_PLACE),
    "REFRESH": (["DELETE FROM unlogged WHERE n = 1", "REFRESH MATERIALIZED VIEW counted"], CATALOG),
    "REFRESH adds": (
        ["INSERT INTO unlogged VALUES (3)", "REFRESH MATERIALIZED VIEW CONCURRENTLY counted", "DISCARD ALL"],
        CATALOG,
    ),
    "temporary table": (["CREATE TEMPORARY TABLE mine ()"], CATALOG),
    "lo_create": (["SELECT lo_create(0)"], CATALOG),
    "lo_put, as a replica": (["SET session_replication_role = replica", "SELECT lo_put(4711, 0, 'mine')"], CATALOG),
    "lo_unlink, as a replica": (["SET session_replication_role = replica", "SELECT lo_unlink(4711)"], CATALOG),
    "row of the information schema": (["UPDATE information_schema.sql_sizing SET supported_value = 1"], CATALOG),
    "row taken from a catalog": (
        ["DELETE FROM pg_description WHERE objoid = (SELECT min(objoid) FROM pg_description)"],
        CATALOG,
    ),
    "nextval": (["SELECT nextval('counter')"], "the sequence public.counter at 1"),
    "nextval, rolled back": (["BEGIN", "SELECT nextval('counter')", "ROLLBACK"], "the sequence public.counter at 1"),
    "setval": (["SELECT setval('counter', 41)"], "the sequence public.counter at 41"),
    "identity": (["INSERT INTO numbered VALUES (DEFAULT)"], "the sequence public.numbered_id_seq at 1"),
    "ALTER DATABASE SET": ([of_this("ALTER DATABASE %I SET work_mem = '1MB'")], DATABASE),
    "ALTER DATABASE SET search_path": ([of_this("ALTER DATABASE %I SET search_path = nowhere")], DATABASE),
    "ALTER ROLE IN DATABASE": ([of_this("ALTER ROLE anon IN DATABASE %I SET work_mem = '1MB'")], DATABASE),
    "COMMENT ON DATABASE": ([of_this("COMMENT ON DATABASE %I IS 'mine'")], DATABASE),
    "ALTER DATABASE OWNER": ([of_this("ALTER DATABASE %I OWNER TO anon")], DATABASE),
    "CONNECTION LIMIT": ([of_this("ALTER DATABASE %I CONNECTION LIMIT 7")], DATABASE),
    "IS_TEMPLATE": ([of_this("ALTER DATABASE %I IS_TEMPLATE true")], DATABASE),
    "GRANT ON DATABASE": ([of_this("GRANT CREATE ON DATABASE %I TO anon")], DATABASE),
    "subscription": ([SUBSCRIBE], "the replication origin"),
    "state's row in a large table": (["DELETE FROM large WHERE n = 1"], "changed in public.large, which is too large"),
    "very many rows": (["INSERT INTO log SELECT 'x' FROM generate_series(1, 5001)"], "more than 5,000 rows"),
}


@pytest.mark.parametrize(("queries", "trace"), LEAVINGS.values(), ids=LEAVINGS)
def test_what_a_test_leaves_in_its_database_ends_it(next_after, statements, queries, trace):
    """The next test must not find out that there was one before."""
    outcome = next_after(lambda database: statements(database, *queries))
    assert [ended for ended in outcome.ended if trace in ended] == outcome.ended != []
    assert not outcome.same
    assert outcome.differs == {}


def test_a_database_that_lets_nobody_in_is_dropped(next_after, elsewhere):
    """The next test could not connect to it."""
    outcome = next_after(lambda database: elsewhere(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false"))
    assert (outcome.same, outcome.differs, outcome.ended) == (False, {}, [f"dropped: {DATABASE}"])


def test_what_was_done_on_a_connection_that_stays_open_elsewhere_is_seen(next_after, databases):
    """A project may have one of its own for its whole run, connected to another database of the server."""
    with databases_connection(databases) as connection:
        connection.execute("SELECT FROM pg_class")
        outcome = next_after(lambda database: commented(connection, database))
    assert (outcome.same, outcome.differs, outcome.ended) == (False, {}, [f"dropped: {DATABASE}"])


def test_a_database_that_was_dropped_is_not_missed(next_after, elsewhere):
    """A test may have good reasons to drop its own."""
    outcome = next_after(lambda database: elsewhere(f"DROP DATABASE {database.name} WITH (FORCE)"))
    assert (outcome.same, outcome.differs, outcome.ended) == (False, {}, [f"dropped: {UNSURE}: OperationalError"])


@pytest.mark.usefixtures("in_no_time")
@pytest.mark.parametrize("query", ["LOCK TABLE ai_sessions", "INSERT INTO log VALUES ('late')"])
def test_a_prepared_transaction_ends_the_database(next_after, statements, databases, query):
    """It belongs to no connection, holds its locks, and forbids dropping its database until somebody ends it."""
    outcome = next_after(lambda database: statements(database, "BEGIN", query, "PREPARE TRANSACTION 'mine'"))
    assert (outcome.same, outcome.differs) == (False, {})
    assert outcome.ended == ["dropped: the prepared transaction 'mine'"]
    assert databases.execute("SELECT gid FROM pg_prepared_xacts") == []


LEAKS = {
    "idle": ([], "an open connection of postgres (idle)"),
    "idle in transaction": (["SELECT 1"], "an open connection of postgres (idle in transaction)"),
    "locked table": (["LOCK TABLE ai_sessions IN ACCESS EXCLUSIVE MODE"], "(idle in transaction)"),
    "uncommitted rows": (["INSERT INTO log VALUES ('late')"], "(idle in transaction)"),
    "LISTEN": (["LISTEN mine", "COMMIT"], "an open connection of postgres (idle)"),
    "temporary table": (["CREATE TEMPORARY TABLE mine ()", "COMMIT"], "an open connection of postgres (idle)"),
    "advisory lock": (["SELECT pg_advisory_lock(1)", "COMMIT"], "an open connection of postgres (idle)"),
}


@pytest.mark.usefixtures("in_no_time")
@pytest.mark.parametrize(("queries", "trace"), LEAKS.values(), ids=LEAKS)
def test_a_connection_that_stays_open_ends_the_database(next_after, leak, queries, trace):
    """Whoever has one can write at any time; taking it from them is the only way to be sure."""
    outcome = next_after(lambda database: leak(database, *queries))
    assert not outcome.same
    assert outcome.differs == {}
    assert [ended for ended in outcome.ended if trace in ended] == outcome.ended != []


@pytest.mark.usefixtures("in_no_time")
@pytest.mark.parametrize("user", ["anon_login", "postgres"])
@pytest.mark.parametrize("rest", ["api", "started_api"])
def test_whose_connection_it_is_is_said(next_after, leak, databases, request, user, rest):
    """The name leads to who forgot to close it. Where the data API is there, it alone may stay."""
    request.getfixturevalue(rest)
    databases.execute(f"DO $$ BEGIN CREATE ROLE {user} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    outcome = next_after(lambda database: leak(database, user=user))
    assert outcome.ended == [f"dropped: an open connection of {user} (idle)"]


def test_an_idle_connection_of_the_data_api_may_stay(next_after, leak, started_api):
    """It keeps connections for the next request; to wait for a new one in every test would cost more than a clone."""
    kept = []
    outcome = next_after(lambda database: kept.append(leak(database, "SELECT 1", "COMMIT", user=started_api.login)))
    assert (outcome.same, outcome.differs, outcome.ended) == (True, {}, ["recycled"])
    assert kept[0].info.transaction_status == TransactionStatus.IDLE


@pytest.mark.usefixtures("in_no_time")
def test_a_request_of_the_data_api_in_a_transaction_ends_the_database(next_after, leak, started_api):
    """It is about to write."""
    outcome = next_after(lambda database: leak(database, "SELECT 1", user=started_api.login))
    assert outcome.ended == ["dropped: a request of the data API that is still idle in transaction"]
    assert not outcome.same


def test_an_advisory_lock_of_the_data_api_ends_the_database(next_after, leak, started_api):
    """A function that was called through it can take one for the length of the session, and nobody else can let go."""

    def lock(database):
        leak(database, "SELECT pg_advisory_lock(1)", "COMMIT", user=started_api.login)
        started_api.settled[database.name] = True

    outcome = next_after(lock)
    assert outcome.ended == ["dropped: 1 advisory lock(s)"]
    assert (outcome.same, outcome.differs) == (False, {})


@pytest.mark.usefixtures("in_no_time")
@pytest.mark.parametrize("by", ["the data API", "somebody"])
def test_what_a_session_that_stays_has_act_on_every_deletion_does_not_act_on_ours(
    private, databases, leak, started_api, by
):
    """It counts what it changed later: at most once a second."""
    user = started_api.login
    databases.execute(f"ALTER ROLE {user} SUPERUSER")
    if by == "somebody":
        started_api.login = ""
    for _ in range(2):
        with private.lend("recycle") as database:
            database.rows(INSERT)
    with private.lend("recycle") as database:
        session = leak(database, "SELECT FROM pg_class", "COMMIT", user=user)
        for query in (INSERT, ACT, "CREATE TRIGGER acting AFTER DELETE ON ai_sessions EXECUTE FUNCTION act()"):
            session.execute(query)
        session.execute("ALTER TABLE ai_sessions ENABLE ALWAYS TRIGGER acting")
        session.commit()
        if by == "the data API":
            started_api.settled[database.name] = True
    with private.lend("recycle"):
        assert databases.execute("SELECT 1 FROM pg_roles WHERE rolname = 'acted'") == []
    found = {"the data API": "a change of the catalog", "somebody": f"an open connection of {user}"}
    assert found[by] in list(private.ended)[-1]
