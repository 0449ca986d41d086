"""What a test changes for the whole server: seen after the test, and not there for the next."""

import contextlib
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from session_fix.database import fetched
from session_fix.errors import ServerChangedError
from session_fix.isolation import sizing
from session_fix.isolation.server_state import ServerWatch
from session_fix.isolation.tasks import Tasks

SERVER = """
SELECT 'role', rolname::text, (to_jsonb(a) - 'oid')::text, shobj_description(a.oid, 'pg_authid') FROM pg_authid a
UNION ALL SELECT 'setting', setrole::text, setconfig::text, '' FROM pg_db_role_setting WHERE setdatabase = 0
UNION ALL SELECT 'membership', member::regrole::text, roleid::regrole::text,
    admin_option::text || inherit_option || set_option FROM pg_auth_members
UNION ALL SELECT 'database', datname::text, (to_jsonb(d) - 'oid' - 'datfrozenxid' - 'datminmxid')::text,
    shobj_description(oid, 'pg_database') FROM pg_database d WHERE datname !~ '^sf_'
UNION ALL SELECT 'setting of a database', datname, setrole::text, setconfig::text
    FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
UNION ALL SELECT 'tablespace', spcname::text, spcacl::text, '' FROM pg_tablespace
UNION ALL SELECT 'parameter', parname, paracl::text, '' FROM pg_parameter_acl
UNION ALL SELECT 'slot', slot_name::text, '', '' FROM pg_replication_slots
UNION ALL SELECT 'origin', roname, '', '' FROM pg_replication_origin
UNION ALL SELECT 'file', pg_read_file('postgresql.auto.conf'), '', ''
"""
LEAVINGS = {
    "ALTER ROLE SET": (["ALTER ROLE anon SET work_mem = '1MB'"], "the role anon changed"),
    "ALTER ROLE SET of the owner": (["ALTER ROLE postgres SET work_mem = '1MB'"], "the role postgres changed"),
    "ALTER ROLE ALL SET": (["ALTER ROLE ALL SET work_mem = '1MB'"], "the setting of all roles"),
    "LOGIN": (["ALTER ROLE anon LOGIN"], "the role anon changed"),
    "BYPASSRLS": (["ALTER ROLE anon BYPASSRLS CREATEDB CONNECTION LIMIT 3"], "the role anon changed"),
    "PASSWORD": (["ALTER ROLE anon PASSWORD 'mine'"], "the role anon changed"),
    "CREATE ROLE": (["CREATE ROLE mine"], "the role mine new"),
    "CREATE ROLE that owns something": (
        ["CREATE ROLE mine", "CREATE TABLE t ()", "ALTER TABLE t OWNER TO mine"],
        "mine",
    ),
    "CREATE ROLE with members": (["CREATE ROLE mine ROLE anon IN ROLE pg_monitor"], "mine"),
    "DROP ROLE": (["DROP ROLE anon"], "the role anon gone"),
    "RENAME": (["ALTER ROLE service_role RENAME TO mine"], "service_role gone"),
    "RENAME in a circle": (
        [
            "ALTER ROLE anon RENAME TO mine",
            "ALTER ROLE service_role RENAME TO anon",
            "ALTER ROLE mine RENAME TO service_role",
        ],
        "changed",
    ),
    "COMMENT ON ROLE": (["COMMENT ON ROLE anon IS 'mine'"], "anon"),
    "GRANT role": (["GRANT service_role TO anon"], "the membership service_role TO anon new"),
    "REVOKE role": (
        ["REVOKE pg_read_all_settings FROM pg_monitor"],
        "the membership pg_read_all_settings TO pg_monitor gone",
    ),
    "ADMIN OPTION": (
        ["GRANT pg_read_all_settings TO pg_monitor WITH ADMIN OPTION"],
        "the membership pg_read_all_settings TO pg_monitor changed",
    ),
    "CREATE DATABASE": (["CREATE DATABASE mine"], "the database mine new"),
    "ALTER another DATABASE": (["ALTER DATABASE postgres SET work_mem = '1MB'"], "postgres"),
    "CREATE TABLESPACE": (["SET allow_in_place_tablespaces = on", "CREATE TABLESPACE mine LOCATION ''"], "mine new"),
    "replication slot": (["SELECT pg_create_physical_replication_slot('mine')"], "the replication slot mine new"),
    "replication origin": (["SELECT pg_replication_origin_create('mine')"], "mine"),
    "ALTER SYSTEM": (["ALTER SYSTEM SET work_mem = '1MB'", "SELECT pg_reload_conf()"], "setting by ALTER SYSTEM"),
}
UNDO = """
ALTER ROLE ALL RESET ALL; ALTER ROLE anon RESET ALL; ALTER ROLE anon NOLOGIN NOBYPASSRLS NOCREATEDB PASSWORD NULL;
REVOKE service_role FROM anon; GRANT pg_read_all_settings TO pg_monitor;
REVOKE ADMIN OPTION FOR pg_read_all_settings FROM pg_monitor; ALTER DATABASE postgres RESET ALL; DROP DATABASE mine;
COMMENT ON DATABASE template1 IS 'default template for new databases'; DROP TABLESPACE mine;
REVOKE CREATE ON TABLESPACE pg_default FROM anon; REVOKE SET ON PARAMETER log_statement FROM anon;
SELECT pg_drop_replication_slot('mine'); SELECT pg_replication_origin_drop('mine'); ALTER SYSTEM RESET ALL;
DROP OWNED BY mine; DROP ROLE mine
"""


@pytest.fixture
def server(databases):
    """Return a function that describes the server; what a test of it left is undone afterwards, as far as that goes."""

    def look():
        return set(elsewhere(databases, SERVER))

    yield look
    for query in UNDO.split(";"):
        with contextlib.suppress(psycopg.Error):
            elsewhere(databases, query)


def elsewhere(databases, query):
    """Run a statement on a new connection to another database; return its rows."""
    with contextlib.closing(psycopg.connect(**databases.params("postgres"), autocommit=True)) as connection:
        return fetched(connection.execute(sql.SQL(query)))


@pytest.mark.parametrize("isolation", ["recycle", "clone"])
@pytest.mark.parametrize(("queries", "trace"), LEAVINGS.values(), ids=LEAVINGS)
def test_what_a_test_changes_for_all_is_seen_and_put_back(private, server, statements, queries, trace, isolation):
    """One test's role or setting is every test's: a clone would be as poisoned as the database before it."""
    with private.lend(isolation):
        before = server()  # its login is there now
    private.ended.clear()
    with private.lend(isolation) as first:
        statements(first, *queries)
    with private.lend(isolation) as second:
        assert second.name != first.name
        assert server() == before
    dropped = [ended for ended in private.ended if ended.startswith("dropped: ")]
    assert [trace in ended for ended in dropped] == [True], private.ended


@pytest.mark.parametrize("isolation", ["recycle", "clone"])
def test_the_data_api_may_act_as_a_role_that_was_dropped(private, server, databases, statements, isolation):
    """Its login was a member; a new role of the same name has no members."""
    login, _ = databases.make_login()
    assert server()
    with private.lend(isolation) as first:
        statements(first, "DROP ROLE anon")
    with private.lend(isolation) as second, second.connect(user=login) as connection:
        connection.execute("SET ROLE anon")
        connection.execute("SET ROLE service_role")
        assert connection.execute("SELECT count(*) FROM ai_sessions").fetchone()


def test_a_change_on_a_connection_that_stays_open_is_seen(private, server, databases):
    """A project may have one for its whole run; what it counts is reported at most once a second."""
    with private.lend("recycle"), psycopg.connect(**databases.params("postgres"), autocommit=True) as connection:
        with private.lend("recycle"):
            connection.execute("CREATE TABLE mine (); DROP TABLE mine")
        before = server()
        with private.lend("recycle"):
            connection.execute("CREATE ROLE mine")
        with private.lend("recycle"):
            assert server() == before


def test_a_change_that_began_before_the_last_look_is_seen(private, server, databases):
    """A transaction that is older than what was seen then may end later."""
    with private.lend("recycle"), psycopg.connect(**databases.params("postgres")) as connection:
        before = server()
        connection.execute("ALTER ROLE anon CREATEDB")
        for _ in range(2):
            databases.clone()
            with private.lend("recycle"):
                pass
        with private.lend("recycle"):
            connection.commit()
        with private.lend("recycle"):
            assert server() == before


def test_settings_of_the_servers_owner_stay(private, server, databases, statements, monkeypatch):
    """On somebody's server nothing is reset: what a test changed there is said, and is for its author to undo."""
    for query in ("ALTER SYSTEM SET work_mem = '3MB'", "ALTER ROLE anon SET statement_timeout = '3s'"):
        elsewhere(databases, query)
    with private.lend("recycle"):
        before = server()
    monkeypatch.setattr(databases, "server", replace(databases.server, kind="external"))
    with pytest.raises(ServerChangedError, match="the role anon changed"), private.lend("recycle") as first:
        statements(first, "ALTER SYSTEM SET temp_buffers = '1MB'", "ALTER ROLE anon SET lock_timeout = '1s'")
    assert {kind for kind, *_ in before - server()} <= {"file", "setting"}
    assert any("statement_timeout" in setting for kind, _, setting, _ in server() if kind == "setting")
    monkeypatch.undo()


def test_nothing_is_said_of_a_server_that_nobody_changed(private, server):
    """What is no change must not cost a clone."""
    before = server()
    for isolation in ("recycle", "clone", "recycle"):
        with private.lend(isolation):
            pass
    with private.lend("recycle"):
        assert server() == before
    assert set(private.ended) == {"recycled", "dropped"}


CANNOT_BE_PUT_BACK = {
    "a role that owns something elsewhere": (
        "CREATE TABLE held (); CREATE ROLE mine; ALTER TABLE held OWNER TO mine",
        "mine new",
    ),
    "COMMENT ON another DATABASE": ("COMMENT ON DATABASE template1 IS 'mine'", "the database template1 changed"),
    "GRANT ON TABLESPACE": ("GRANT CREATE ON TABLESPACE pg_default TO anon", "the tablespace pg_default changed"),
    "GRANT ON PARAMETER": (
        "GRANT SET ON PARAMETER log_statement TO anon",
        "the right on a parameter log_statement new",
    ),
}


@pytest.mark.parametrize(("queries", "trace"), CANNOT_BE_PUT_BACK.values(), ids=CANNOT_BE_PUT_BACK)
def test_what_cannot_be_put_back_is_said_once(private, server, databases, queries, trace):
    """The test that did it hears of it; whoever comes after that cannot be blamed for it."""
    with private.lend("recycle"):
        assert server()
    try:
        with pytest.raises(ServerChangedError, match=rf"{trace}.*Undo it in that test"), private.lend("recycle"):
            statements_in_postgres(databases, *queries.split(";"))
        with private.lend("recycle") as third:
            assert third.rows("SELECT 1") == [(1,)]
    finally:
        elsewhere(databases, "DROP TABLE IF EXISTS held")


def statements_in_postgres(databases, *queries):
    """Run statements in the database that belongs to nobody's test."""
    for query in queries:
        elsewhere(databases, query)


@pytest.mark.parametrize("isolation", ["recycle", "clone"])
def test_one_that_was_ready_is_as_good(private, server, statements, monkeypatch, isolation):
    """The next test's database may be there before anybody looked at what the last one did to the server."""
    monkeypatch.setattr(sizing, "wanted", lambda *_: 1)
    with private.lend(isolation):
        before = server()
    with private.lend(isolation) as first:
        statements(first, "CREATE ROLE mine", "ALTER ROLE anon SET work_mem = '1MB'")
    with private.lend(isolation):
        assert server() == before


def test_what_happens_on_the_server_is_asked_also_where_the_database_goes_anyway(private, server, elsewhere):
    """What speaks against handing it on is known before anything is asked of PostgreSQL."""
    with private.lend("recycle"):
        before = server()
    with private.lend("recycle") as first:
        first.tainted = "what somebody else does"
        elsewhere("ALTER ROLE anon SET work_mem = '1MB'")
    with private.lend("recycle"):
        assert server() == before


def test_what_happens_on_the_server_is_asked_also_where_something_goes_wrong(private, server, elsewhere, api):
    """What goes wrong is told to the next who asks; what the last test did is no matter of theirs."""
    with private.lend("recycle"):
        before = server()
    with private.lend("recycle") as first:
        api.settled[first.name] = True
        elsewhere("ALTER ROLE anon SET work_mem = '1MB'")
        private._settled = {}.__getitem__  # noqa: SLF001  a data API that breaks off in the middle of its answer
    with pytest.raises(KeyError), private.lend("recycle"):
        pass
    assert server() == before
    private._settled = api.settled.get  # noqa: SLF001


def test_a_finalizer_may_still_use_the_database_when_the_fixture_is_done(private, databases, picture, fresh):
    """Fixtures that were there before it, and a test class's teardown, end after it."""
    with private.lend("recycle"):
        pass
    with private.lend("recycle", settle=False) as first:
        pass
    first.rows("INSERT INTO log VALUES ('late')")
    databases.execute("ALTER ROLE anon CREATEDB")
    private.settle()
    with private.lend("recycle") as second:
        assert picture(second) == fresh
    assert "dropped: the role anon changed" in private.ended


@pytest.mark.parametrize("isolation", ["recycle", "clone"])
def test_a_server_that_cannot_be_read_is_an_error_of_the_test_after_which_it_could_not(
    private, elsewhere, monkeypatch, isolation
):
    """The next one has nothing to do with it, and may not even need a database."""

    def gone(_):
        raise psycopg.OperationalError("gone")

    with private.lend(isolation):
        pass
    lending = private.lend(isolation)
    lending.__enter__()
    elsewhere("ALTER ROLE anon SET work_mem = '1MB'")
    with monkeypatch.context() as patched:
        patched.setattr(ServerWatch, "_read", gone)
        with pytest.raises(psycopg.OperationalError, match="gone"):
            lending.__exit__(None, None, None)
    elsewhere("ALTER ROLE anon RESET ALL")


def test_a_server_that_nobody_changed_is_read_once(databases, statements, private, monkeypatch):
    """All of it is read only when something of it may have changed: it takes longer than a test."""
    read = []
    with contextlib.closing(ServerWatch(databases, alone=True)) as watch, private.lend("recycle") as first:
        monkeypatch.setattr(watch, "_read", lambda: read.append(1) or ServerWatch._read(watch))  # noqa: SLF001  counted
        for _ in range(4):
            assert watch.traces(Tasks().run(watch.marks())) == []
            statements(first, "INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())")
    assert len(read) <= 2, "once at first, and once for the database that was made meanwhile"
