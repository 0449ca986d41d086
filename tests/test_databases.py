"""Private databases: made quickly, seen by nobody else, and on a foreign server nothing of ours stays."""

import contextlib
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from session_fix.databases import Databases
from session_fix.errors import NoServerError, UsageError
from session_fix.leftovers import OURS
from session_fix.roles import API_ROLES
from session_fix.servers import Server, embedded

THREADS = 4


@pytest.fixture(scope="module")
def foreign():
    """Return a server that counts as somebody else's: closing a run has to leave it as it was."""
    with embedded.start() as (server, _):
        yield Server("external", server.version, server.admin)


@pytest.fixture
def sql(foreign, sql_on):
    """Return a function that runs a statement on the foreign server, as its owner."""
    return sql_on(foreign)


class Migration:
    """A migration that makes one table, and counts how often it ran."""

    def __init__(self):
        self.runs = 0

    def __call__(self, params):
        """Make the table; fail when it is there already."""
        self.runs += 1
        with psycopg.connect(**params) as connection:
            connection.execute("CREATE TABLE migrated ()")
        return "head"


@pytest.fixture
def open_run(foreign):
    """Return a function that opens a run on the foreign server; each is closed with the test."""
    opened = []

    def open_(run=None, *, migrate=None):
        opened.append(Databases(foreign, run=run or secrets.token_hex(4), migrate=migrate or Migration()))
        return opened[-1]

    yield open_
    for databases in opened:
        if not databases._admin.closed:  # noqa: SLF001  else the test closed it, or let it die
            databases.close()


def die(databases):
    """End a run as SIGKILL would: its connection goes, and nothing is tidied up."""
    databases._admin.close()  # noqa: SLF001  nothing public ends a run so badly


def test_rows_without_columns_are_rows(session_fix_stack):
    """Whoever only wants to know whether there is one may ask so, and would otherwise never hear of it."""
    with session_fix_stack.database() as database:
        assert database.rows("SELECT FROM generate_series(1, 2)") == [(), ()]
        assert session_fix_stack.databases.execute("SELECT FROM generate_series(1, 2)") == [(), ()]
        assert database.rows("SELECT FROM generate_series(1, 0)") == database.rows("SET search_path = public") == []


def test_a_clone_is_migrated_and_private(session_fix_stack):
    """What one test stores, no other sees."""
    with session_fix_stack.database() as mine, session_fix_stack.database() as yours:
        mine.rows("INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())")
        assert mine.rows("SELECT count(*) FROM ai_sessions") == [(1,)]
        assert yours.rows("SELECT count(*) FROM ai_sessions") == [(0,)]


def test_an_empty_database_holds_no_table(open_run):
    """The migrations' own tests begin with nothing."""
    found = open_run().empty().rows("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    assert found == [(0,)]


def test_names_carry_the_runs_id(open_run):
    """By it the next run tells what a dead run left behind."""
    databases = open_run("ab12cd34")
    made = [databases.template(), databases.clone().name, databases.empty().name, databases.make_login()[0]]
    assert [name for name in made if not name.startswith("sf_ab12cd34_")] == []


def test_processes_of_one_run_make_the_template_once(open_run):
    """Each worker asks for it first; advisory locks do not care that these workers are connections of one process."""
    migrate = Migration()
    workers = [open_run("aa00aa00", migrate=migrate) for _ in range(THREADS)]
    together = threading.Barrier(THREADS)

    def clone(databases):
        together.wait()
        return databases.clone().rows("SELECT count(*) FROM migrated")

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(clone, workers)) == [[(0,)]] * THREADS
    assert migrate.runs == 1


def test_threads_of_one_process_make_the_template_once(open_run):
    """One worker's threads share its connection, on which an advisory lock excludes nobody."""
    began, may_end = threading.Event(), threading.Event()

    class Slow(Migration):
        def __call__(self, params):
            began.set()
            assert may_end.wait(20)
            return super().__call__(params)

    migrate = Slow()
    databases = open_run(migrate=migrate)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(databases.template)
        assert began.wait(20)
        second = pool.submit(databases.template)
        threading.Timer(0.3, may_end.set).start()  # meanwhile the second must not get through
        assert first.result(20) == second.result(20)
    assert migrate.runs == 1


def test_a_half_made_template_is_made_again(open_run):
    """The worker that migrated it may have been killed in the middle; half of a schema proves nothing."""

    def half_way(params):
        Migration()(params)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_run("bb00bb00", migrate=half_way).template()
    whole = Migration()
    assert open_run("bb00bb00", migrate=whole).clone().rows("SELECT count(*) FROM migrated") == [(0,)]
    assert whole.runs == 1


def test_a_database_with_open_connections_is_dropped(open_run, what_is_there):
    """A service that a test left hanging must not keep the database."""
    databases = open_run()
    database = databases.clone()
    with contextlib.closing(database.connect()) as connection:
        connection.execute("SELECT 1")
        databases.drop(database)
        assert database.name not in what_is_there()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_server_that_lets_nobody_in_is_an_error_of_ours(foreign):
    """The caller can act on it; psycopg's own error would be a traceback."""
    locked = Server("external", foreign.version, foreign.admin | {"user": "nobody_there"})
    with pytest.raises(NoServerError, match="does not let us in"):
        Databases(locked, run="cc00cc00", migrate=Migration())


def test_a_repr_shows_no_password(open_run):
    """Test reports print the values of failed assertions."""
    database = open_run().clone()
    secret = type(database)(database.name, database.params | {"password": "hunter2"})
    assert "hunter2" in secret.dsn
    assert "hunter2" not in repr(secret)


def test_closing_leaves_a_foreign_server_as_it_was(open_run, what_is_there):
    """Template, clones, the data API's login and its roles: all of it was ours, so all of it goes."""
    before = what_is_there()
    databases = open_run()
    databases.clone()
    databases.clone(name="named_by_the_user")
    databases.make_login()
    assert what_is_there() - before >= {"named_by_the_user", *API_ROLES}
    databases.close()
    assert what_is_there() == before


def test_closing_removes_what_a_dead_run_left(open_run, what_is_there):
    """SIGKILL leaves databases on a foreign server; whoever comes next takes them along."""
    before = what_is_there()
    dead = open_run()
    left = {dead.clone().name, dead.template(), dead.make_login()[0]}
    die(dead)
    assert left <= what_is_there()
    open_run().close()
    assert what_is_there() == before


def test_closing_leaves_a_living_run_alone(open_run, what_is_there):
    """Two people may test against the same server at the same time."""
    living = open_run()
    database, login = living.clone(), living.make_login()[0]
    open_run().close()
    assert {database.name, living.template(), login, *API_ROLES} <= what_is_there()
    assert database.rows("SELECT count(*) FROM migrated") == [(0,)]


@pytest.mark.parametrize(
    "name", ["sf", "sf_", "sf_sales", "sf_0a1b2c3d", "xsf_0a1b2c3d_x", "sf_cafe_menu", "sf_0a1b2c3d_x"]
)
def test_closing_touches_nothing_that_we_did_not_make(open_run, sql, what_is_there, name):
    """A name that looks like ours is not enough to drop somebody's data."""
    sql(f'CREATE DATABASE "{name}"')
    sql(f'CREATE ROLE "{name}_rest_owner"')
    try:
        open_run().close()
        assert {name, f"{name}_rest_owner"} <= what_is_there()
    finally:
        sql(f'DROP DATABASE IF EXISTS "{name}"')
        sql(f'DROP ROLE IF EXISTS "{name}_rest_owner"')


@pytest.fixture
def limited(foreign, sql):
    """Yield a run of a role that may drop what it owns, and nothing else."""
    role = f"limited_{secrets.token_hex(3)}"
    sql(f"CREATE ROLE {role} LOGIN CREATEDB CREATEROLE BYPASSRLS")
    server = Server("external", foreign.version, foreign.admin | {"user": role})
    yield Databases(server, run=secrets.token_hex(4), migrate=Migration())
    sql(f"DROP ROLE {role}")


def test_what_closing_cannot_drop_does_not_keep_the_rest(limited, sql, what_is_there):
    """Of a database that belongs to somebody else by now, and of a dead run of another user, it can only speak."""
    before = what_is_there()
    dead = f"sf_00000000_{secrets.token_hex(6)}"
    databases = sorted(limited.clone().name for _ in range(5))
    sql(f"CREATE DATABASE {dead}")
    sql(f"ALTER DATABASE {databases[0]} OWNER TO CURRENT_USER")
    limited.make_login()
    try:
        with pytest.raises(NoServerError, match="must be owner of database"):
            limited.close()
        assert what_is_there() - before == {dead, databases[0], *API_ROLES}
    finally:
        for name in (dead, databases[0]):
            sql(f"DROP DATABASE {name}")
        for role in API_ROLES:
            sql(f"DROP ROLE {role}")


def test_closing_keeps_roles_that_were_there_before(open_run, sql, what_is_there):
    """A self-hosted Supabase has roles of these names, and lives on them."""
    sql("CREATE ROLE anon")
    try:
        databases = open_run()
        databases.make_login()
        databases.close()
        assert set(API_ROLES) & what_is_there() == {"anon"}
    finally:
        sql("DROP ROLE anon")


def test_a_named_clone_replaces_only_what_was_made_here(open_run, sql):
    """With a data API that serves one database, that database is replaced by every test; never somebody's own."""
    databases = open_run()
    databases.clone(name="mine").rows("CREATE TABLE of_the_last_test ()")
    again = databases.clone(name="mine")
    assert again.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("migrated",)]
    assert sql("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'mine'") == [(OURS,)]
    sql("CREATE DATABASE theirs")
    try:
        with pytest.raises(UsageError, match="theirs exists and was not made by session-fix"):
            databases.clone(name="theirs")
        assert sql("SELECT 1 FROM pg_database WHERE datname = 'theirs'") == [(1,)]
    finally:
        sql("DROP DATABASE theirs")
