"""Databases of failed tests: whole when they are opened on another server, never half, and never too many."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from session_fix import kept, schema
from session_fix.databases import Database, Databases
from session_fix.errors import ArchiveError, UsageError
from session_fix.servers import embedded

CANARY = "canary-in-the-cellar"
TEST = "tests/test_flow.py::test_first_query"
KEEP = """
import json, sys
from session_fix import kept
from session_fix.databases import Database
from session_fix.servers import Server

params, test = json.loads(sys.argv[1])
kept.keep(Database(params["dbname"], params), server=Server("embedded", "18", {}), test=test, limit=5)
"""
CONTENT = """
INSERT INTO ai_sessions (id, user_id) VALUES ('6f1a0000-0000-4000-8000-000000000001', 'Zoë');
CREATE TABLE numbered (id serial PRIMARY KEY);
INSERT INTO numbered DEFAULT VALUES; INSERT INTO numbered DEFAULT VALUES; DELETE FROM numbered;
ALTER TABLE numbered OWNER TO service_role;
SELECT lo_from_bytea(4242, 'large')
"""


class OneServer:
    """A server and a run on it that makes private databases."""

    def __init__(self, cleanup, version="18"):
        self.server, process = cleanup.enter_context(embedded.start(version=version))
        self.folder = process.folder
        self.databases = cleanup.enter_context(Databases(self.server, run=secrets.token_hex(4), migrate=schema.migrate))
        self.databases.template()
        self.sql = Database("postgres", self.databases.params("postgres")).rows

    def keep(self, database, test=TEST, limit=5):
        """Keep a database of this server."""
        return kept.keep(database, server=self.server, test=test, limit=limit)

    def opened(self, one):
        """Return a new database on this server with what was kept."""
        database = self.databases.empty()
        assert kept.restore(one, database.params) == []
        return database

    @contextmanager
    def dumps_held_up(self, database):
        """Hold pg_dump at a catalog that nothing else reads; yield a function that lists who waits, by process id."""
        database.rows("SELECT 1")  # the first connection to a database reads all catalogs
        with (
            psycopg.connect(**self.databases.params("postgres")) as gate,
            psycopg.connect(**self.databases.params("postgres"), autocommit=True) as watch,
        ):
            gate.execute("LOCK TABLE pg_subscription IN ACCESS EXCLUSIVE MODE")
            waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
            yield lambda: [pid for (pid,) in watch.execute(waiting)]

    def has_no_dump(self):
        """Say whether no pg_dump is connected."""
        return self.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'") == [(0,)]


@pytest.fixture(scope="module")
def here():
    """Return the server of the failing tests."""
    with ExitStack() as cleanup:
        yield OneServer(cleanup)


@pytest.fixture(scope="module")
def later():
    """Return the server of another run, on which kept databases are opened."""
    with ExitStack() as cleanup:
        yield OneServer(cleanup)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep what these tests keep where nobody else's is; return that folder."""
    monkeypatch.setenv("SESSION_FIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/kept"


@pytest.fixture
def database(here):
    """Yield the private database of a failing test."""
    private = here.databases.clone()
    yield private
    here.databases.drop(private)


@pytest.fixture
def keeping():
    """Return a function that starts a process which keeps a database; it is killed with the test."""
    started = []

    def start(database, test=TEST):
        argv = [sys.executable, "-c", KEEP, json.dumps([database.params, test])]
        started.append(subprocess.Popen(argv))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def entries(folder):
    """Return the names in the folder of what is kept."""
    return sorted(path.name for path in folder.iterdir())


def kept_of():
    """Return the tests whose databases are kept, the newest first."""
    return [one.test for one in kept.listed()]


def test_what_was_kept_is_whole_on_another_server(here, later, database):
    """Its own server is gone by the time somebody looks."""
    database.rows(CONTENT)
    one = here.keep(database)
    again = later.opened(kept.find(one.name))
    assert again.rows("SELECT user_id FROM ai_sessions") == [("Zoë",)]
    assert again.rows("SELECT nextval('numbered_id_seq')") == [(3,)]
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'numbered'") == [("service_role",)]
    assert again.rows("SELECT lo_get(4242)") == [(b"large",)]
    versions = "SELECT version_num FROM alembic_version"
    assert again.rows(versions) == database.rows(versions) != []
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        again.rows(
            "INSERT INTO ai_interactions (id, session_id, prompt, response) "
            "VALUES (gen_random_uuid(), gen_random_uuid(), 'a', 'b')"
        )


def test_grants_are_as_they_were(here, later, database):
    """A test that failed for a missing right has to fail for it again."""
    again = later.opened(here.keep(database))
    may = "SELECT has_table_privilege(%s, 'ai_sessions', 'SELECT'), has_table_privilege(%s, 'ai_sessions', 'TRUNCATE')"
    assert again.rows(may, "service_role", "service_role") == [(True, False)]
    assert again.rows(may, "anon", "anon") == [(False, False)]


def test_it_says_what_was_kept(here, database):
    """Whoever lists them has to find the one of his test."""
    one = here.keep(database, "tests/test_flow.py::test_first_query[fixed]")
    assert re.fullmatch("test_first_query_fixed_[0-9a-f]{6}", one.name)
    assert (one.test, one.origin.major) == ("tests/test_flow.py::test_first_query[fixed]", 18)
    assert one.server == f"embedded {here.server.version}"
    assert one.size_bytes == one.path.stat().st_size > 0
    assert kept.listed() == [one]


def test_one_test_can_fail_twice(here, database):
    """The second failure is another state, and must not replace the first."""
    assert len({here.keep(database).name, here.keep(database).name}) == 2
    assert len(kept.listed()) == 2


def test_only_the_newest_stay(here, database, folder):
    """A cache that grows with every failure would fill the disk."""
    for number in range(4):
        here.keep(database, f"t.py::test_{number}", limit=2)
    assert kept_of() == ["t.py::test_3", "t.py::test_2"]
    assert len(entries(folder)) == 2


def test_the_newest_is_first_though_the_clock_went_back(here, database):
    """What was kept a moment ago would otherwise count as the oldest, and be the next to go."""
    note = here.keep(database, "t.py::test_of_the_future").path.with_name(kept.NOTE)
    note.write_text(json.dumps(json.loads(note.read_text()) | {"when": "2999-01-01T00:00:00+00:00"}))
    here.keep(database, "t.py::test_now")
    assert kept_of() == ["t.py::test_now", "t.py::test_of_the_future"]


def test_with_limit_zero_nothing_is_kept_and_nothing_forgotten(here, database):
    """It switches keeping off for this run; what earlier runs kept is not its business."""
    one = here.keep(database)
    assert here.keep(database, limit=0) is None
    assert kept.listed() == [one]


def test_clear_forgets_all(here, database, folder):
    """The owner of the disk has the last word."""
    one = here.keep(database)
    assert kept.clear() == [one]
    assert (kept.listed(), entries(folder)) == ([], [])


def test_two_processes_keep_at_the_same_time(here, database, keeping, eventually, folder):
    """Workers fail side by side: neither is listed before it is whole, and neither sweeps the other away."""
    with here.dumps_held_up(database) as waiting:
        first = keeping(database, "t.py::test_a")
        eventually(lambda: len(waiting()) == 1)
        second = keeping(database, "t.py::test_b")
        eventually(lambda: len(waiting()) == 2)
        assert (kept_of(), len(entries(folder))) == ([], 2)
    assert (first.wait(30), second.wait(30)) == (0, 0)
    assert sorted(kept_of()) == ["t.py::test_a", "t.py::test_b"]
    assert len(entries(folder)) == 2


def test_one_waits_while_another_names_and_prunes(here, database, keeping, eventually, folder):
    """Two that prune at once would both take the same for the oldest."""
    with here.dumps_held_up(database) as waiting:
        process = keeping(database)
        eventually(waiting)
        lock = kept.folders.lock(folder)
    try:
        eventually(here.has_no_dump)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert kept.listed() == []
    finally:
        os.close(lock)
    assert process.wait(30) == 0
    assert kept_of() == [TEST]


def test_a_dump_whose_connection_ends_is_an_error_and_leaves_nothing(here, database, eventually, folder):
    """The message has to say what pg_dump said; half of a database proves nothing."""
    with ThreadPoolExecutor(1) as pool, here.dumps_held_up(database) as waiting:
        failing = pool.submit(here.keep, database)
        (pid,) = eventually(waiting)
        here.sql("SELECT pg_terminate_backend(%s)", pid)
        with pytest.raises(ArchiveError, match=rf"(?s){TEST} was not kept.*pg_dump ended .*terminating connection"):
            failing.result(30)
    assert (kept.listed(), entries(folder)) == ([], [])


def test_what_a_killed_process_left_is_not_listed_and_goes_with_the_next(here, database, keeping, eventually, folder):
    """SIGKILL comes without a last word."""
    with here.dumps_held_up(database) as waiting:
        process = keeping(database)
        eventually(waiting)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert kept.listed() == []
        (left,) = entries(folder)
    eventually(here.has_no_dump)
    one = here.keep(database)
    assert left not in entries(folder)
    assert entries(folder) == [one.name]


def test_what_is_not_whole_is_not_listed(here, database, folder):
    """People delete things in a cache, and a process may be killed while it prunes."""
    whole, without_archive, without_note, going = (here.keep(database) for _ in range(4))
    without_archive.path.unlink()
    without_note.path.with_name(kept.NOTE).write_text("{")
    going.path.parent.rename(folder / f"{kept.UNFINISHED}{going.name}")
    (folder / "a-file").write_text("")
    assert kept.listed() == [whole]


def test_an_open_alter_table_does_not_keep_it_from_being_kept(here, database):
    """The traceback of the failed test holds its connection, and with it the lock."""
    with contextlib.closing(database.connect()) as left_open:
        left_open.execute("ALTER TABLE ai_sessions ADD COLUMN half_way int")
        here.keep(database)
    assert kept_of() == [TEST]


def test_variables_of_libpq_lead_nowhere_else(here, later, database, monkeypatch):
    """Somebody's PGOPTIONS and PGHOST are for somebody's own server."""
    for name, value in {"PGHOST": "nowhere.invalid", "PGOPTIONS": "-c role=nobody", "PGDATABASE": "postgres"}.items():
        monkeypatch.setenv(name, value)
    again = later.opened(here.keep(database))
    assert again.rows("SELECT count(*) FROM ai_sessions") == [(0,)]


@pytest.fixture
def guarded(here, database, eventually):
    """Return the database as a superuser sees it whom the server asks for a password."""
    name = f"asked_{secrets.token_hex(3)}"
    here.sql(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{CANARY}'")
    rules = here.folder / "data/pg_hba.conf"
    rules.write_text(f"local all {name} scram-sha-256\n{rules.read_text()}")
    here.sql("SELECT pg_reload_conf()")
    params = database.params | {"user": name}

    def is_asked():
        try:
            psycopg.connect(**params).close()
        except psycopg.OperationalError:
            return True
        return False

    eventually(is_asked)
    return Database(database.name, params | {"password": CANARY})


@pytest.mark.needs_proc
def test_the_password_is_given_but_not_shown(here, database, guarded, eventually):
    """`ps` shows everybody the arguments of a process, and archives travel."""
    with ThreadPoolExecutor(1) as pool:
        with here.dumps_held_up(database) as waiting:
            keeping = pool.submit(here.keep, guarded)
            eventually(waiting)
            dumps = [
                process
                for process in Path("/proc").glob("[0-9]*")
                if b"pg_dump\0" in _content(process / "cmdline") and CANARY.encode() in _content(process / "environ")
            ]
            assert len(dumps) == 1
            assert CANARY.encode() not in _content(dumps[0] / "cmdline")
        one = keeping.result(30)
    assert CANARY not in repr(one)
    assert [file for file in one.path.parent.iterdir() if CANARY.encode() in file.read_bytes()] == []


def _content(file):
    """Return what is in a file of /proc, nothing when its process has ended."""
    with contextlib.suppress(OSError):
        return file.read_bytes()
    return b""


def test_a_wrong_password_is_an_error_that_does_not_show_it(here, guarded):
    """Reports of tests are read by many."""
    wrong = Database(guarded.name, guarded.params | {"password": "wrong-canary"})
    with pytest.raises(ArchiveError, match="password authentication failed") as raised:
        here.keep(wrong)
    assert "wrong-canary" not in str(raised.value)


def test_a_database_that_is_not_empty_stays_as_it_was(here, guarded):
    """All or nothing; and the words of pg_restore, which name the table here, are shown without the password."""
    guarded.rows(f'CREATE TABLE "{CANARY}" ()')
    one = here.keep(guarded)
    other = here.databases.empty()
    other.rows(f'CREATE TABLE "{CANARY}" ()')
    with pytest.raises(ArchiveError, match=rf"(?s){one.name} cannot be opened.*\[secret\]. already exists") as raised:
        kept.restore(one, other.params | {"user": guarded.params["user"], "password": CANARY})
    assert CANARY not in str(raised.value)
    assert other.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [(CANARY,)]


@pytest.fixture
def reviewed(here, database):
    """Return a kept database that speaks of a role which only its server has, and the name of that role."""
    role = f"reviewer_{secrets.token_hex(3)}"
    database.rows(f"CREATE ROLE {role}")
    database.rows(
        f"GRANT SELECT ON ai_sessions TO {role}; CREATE TABLE reviews (); ALTER TABLE reviews OWNER TO {role}"
    )
    database.rows(f"CREATE POLICY reviewing ON ai_sessions FOR SELECT TO {role} USING (true)")
    return here.keep(database), role


def test_roles_that_the_server_lacks_are_made_and_named(later, reviewed):
    """Without them what was granted would be lost, and the caller has to be told that they are bare."""
    one, role = reviewed
    again = later.databases.empty()
    assert kept.restore(one, again.params) == [role]
    assert again.rows("SELECT has_table_privilege(%s, 'ai_sessions', 'SELECT')", role) == [(True,)]
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'reviews'") == [(role,)]
    assert again.rows("SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = %s", role) == [(False, False)]


@pytest.fixture
def place(later):
    """Return a function that makes an empty database on the later server as a user of it with those rights sees it."""

    def make(rights):
        somebody, name = f"somebody_{secrets.token_hex(3)}", f"place_{secrets.token_hex(3)}"
        with psycopg.connect(**later.databases.params("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {somebody} LOGIN {rights}")
            connection.execute(f"CREATE DATABASE {name} OWNER {somebody}")
        return Database(name, later.databases.params(name) | {"user": somebody})

    return make


@pytest.mark.parametrize("rights", ["SUPERUSER", "CREATEROLE"])
def test_on_a_foreign_server_missing_roles_do_not_stay(place, reviewed, rights):
    """Nothing of ours stays there, but what was kept has to be opened all the same."""
    one, role = reviewed
    again = place(rights)
    assert kept.restore(one, again.params, foreign=True) == [role]
    assert again.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", role) == []
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'reviews'") == [(again.params["user"],)]
    assert again.rows("SELECT has_table_privilege('service_role', 'ai_sessions', 'SELECT')") == [(True,)]


def test_whoever_opens_it_owns_what_its_owner_owned(here, place, database):
    """On another server he has another name, and without being superuser he may give tables to nobody else."""
    again = place("CREATEROLE")
    assert kept.restore(here.keep(database), again.params) == []
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'ai_sessions'") == [(again.params["user"],)]


def test_on_a_foreign_server_missing_roles_do_not_take_tables_with_them(later, reviewed):
    """The owner has the same name on both servers, so tables would go to the role that is dropped."""
    one, role = reviewed
    again = later.databases.empty()
    assert kept.restore(one, again.params, foreign=True) == [role]
    assert again.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'reviews'") == [("postgres",)]


def test_versions_of_postgresql(here, later, database):
    """An older one is opened by itself and by newer ones; the other way round the command is wrong, and says so."""
    with ExitStack() as cleanup:
        old = OneServer(cleanup, version="16")
        one = old.keep(old.databases.clone())
        assert one.origin.major == 16
        for server in (old, later):
            assert server.opened(one).rows("SELECT count(*) FROM ai_sessions") == [(0,)]
        newer = here.keep(database)
        with pytest.raises(UsageError, match=r"PostgreSQL 18 cannot be opened on 16"):
            kept.restore(newer, old.databases.empty().params)


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("tests/test_flow.py::test_first_query", "test_first_query"),
        ("test_a.py::TestFlow::test_query[fixed-2]", "test_query_fixed_2"),
        ("t.py::test_path[a/b::c[0]]", "test_path_a_b_c_0"),
        ("t.py::test_Städte[\u00df\u6771\u4eac İ]", "test_stadte_i"),
        ("t.py::test_\udcff\0\n';--", "test"),
        (f"t.py::test_{'long ' * 60}", "test_" + "long_" * 7 + "lon"),
        ("", "test"),
        ("::", "test"),
        ("../../etc/passwd", "etc_passwd"),
    ],
)
def test_names_can_be_read_and_typed(test, name):
    """They are folders, databases, and words of a command line."""
    assert kept.readable(test) == name
    assert re.fullmatch("[a-z0-9_]{1,43}", name)


@pytest.mark.parametrize("test", ["t.py::test_[\udcff/\0東京]", "x" * 300])
def test_any_test_can_keep_its_database(here, database, test):
    """Whatever its id is made of, it comes back as it was."""
    one = here.keep(database, test)
    assert kept.find(one.name).test == test
    assert len(one.name) <= 50


def test_an_unknown_name_is_answered_with_what_there_is(here, database):
    """The name was typed, or is that of a database which has been forgotten since."""
    with pytest.raises(UsageError, match="nor any other"):
        kept.find("test_first_query_000000")
    one = here.keep(database)
    with pytest.raises(UsageError, match=rf"(?s)'first_query' is kept\. Did you mean '{one.name}'.*{TEST}"):
        kept.find("first_query")
    with pytest.raises(UsageError) as raised:
        kept.find("../kept")
    assert "Did you mean" not in str(raised.value)


def test_nobody_else_can_look_into_it(here, database, folder):
    """It holds what somebody's tests hold."""
    one = here.keep(database)
    assert [path.stat().st_mode & 0o077 for path in (folder, one.path.parent)] == [0, 0]


def test_a_cache_that_cannot_be_written_is_an_error_of_ours(here, database, folder):
    """The failed test has to be reported all the same."""
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    with pytest.raises(ArchiveError, match="was not kept"):
        here.keep(database)
