"""The pytest plugin in somebody's project: it leaves the project's own names alone, and explains what fails."""

import os
import subprocess
import sys

import pytest

from session_fix.servers import embedded

TIMEOUT_S = 120
REFUSED = "postgresql://u:canary@127.0.0.1:9/postgres"
USES_THE_STACK = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_one(database, number):
    assert database.rows("SELECT 1") == [(1,)]
"""
USES_THE_DATA_API = """
import pytest

def test_without(database):
    assert database.rows("SELECT 1") == [(1,)]

@pytest.mark.parametrize("number", range(3))
def test_direct(supabase, number):
    assert supabase.url

@pytest.mark.parametrize("number", range(3))
def test_through_the_service(frontend, number):
    assert frontend.create_session().session_id
"""
UNRELATED = """
import pytest

@pytest.fixture
def database():
    return "my own"

@pytest.fixture
def service():
    return "mine too"

@pytest.mark.checklist("something else")
@pytest.mark.parametrize("variant", ["a", "b"])
def test_parametrised(variant, database, service):
    assert (variant in "ab", database, service) == (True, "my own", "mine too")

class TestFixture:
    @pytest.fixture
    def variant(self):
        return "c"

    @pytest.mark.checklist("and another")
    def test_fixture(self, variant):
        assert variant == "c"
"""
FAILS = """
def test_it(frontend, service):
    session_id = frontend.create_session().session_id
    assert frontend.query(session_id, "hello").status == 418, "no teapot"
"""
LEAVES_THINGS = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_rows(database, number):
    database.rows("INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())")

@pytest.mark.parametrize("number", range(2))
def test_more(database, number):
    database.rows("CREATE TABLE mine ()")
"""
CHANGES_THE_SERVER = """
import psycopg
import pytest

def test_role(database):
    database.rows("CREATE ROLE mine")

def test_of_the_server(postgres):
    with psycopg.connect(**postgres.admin, dbname="postgres") as connection:
        assert connection.execute("SELECT FROM pg_roles WHERE rolname = 'mine'").fetchall() == []

def test_comment(database):
    database.rows("COMMENT ON DATABASE template1 IS 'mine'")

@pytest.fixture
def ending(database):
    yield
    assert not "its own"

def test_ending(database, ending):
    database.rows("COMMENT ON DATABASE postgres IS 'mine'")

@pytest.fixture
def skipping(database):
    yield
    pytest.skip("no more")

def test_skipping(database, skipping):
    database.rows("GRANT CREATE ON TABLESPACE pg_default TO anon")

def test_last(database):
    database.rows("COMMENT ON DATABASE template0 IS 'mine'")
"""
LEAVES_LATE = """
import pytest

LATE = []

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown():
    try:
        return (yield)
    finally:
        while LATE:
            LATE.pop()()
"""
LEFT_LATE = """
import psycopg
import pytest
from conftest import LATE

def in_a_hook(dsn, statement):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement)

@pytest.mark.parametrize("number", range(5))
def test_rows(database, number):
    assert database.rows("SELECT count(*) FROM ai_sessions") == [(0,)]
    LATE.append(lambda: in_a_hook(database.dsn, "INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())"))

def test_server(database):
    LATE.append(lambda: in_a_hook(database.dsn, "COMMENT ON DATABASE template1 IS 'mine'"))

@pytest.mark.parametrize("number", range(5))
def test_nothing(database, number):
    pass
"""
STARTS_NOTHING = """
import pytest
from session_fix import stack

started, start = [], stack.start

def counted(*arguments, **options):
    started.append(arguments)
    return start(*arguments, **options)

stack.start = counted

@pytest.mark.parametrize("number", range(3))
def test_one(database, number):
    pass

def test_count():
    assert len(started) == 1
"""
SAYS_ITS_SERVER = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(4))
def test_server(postgres, number):
    worker = os.environ["PYTEST_XDIST_WORKER"]
    Path(f"server-{worker}").write_text(postgres.admin["host"])
"""
STRICT = "[pytest]\naddopts = --strict-markers\nmarkers =\n    checklist(line): of our own\nfilterwarnings = error\n"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs pytest on one module in a project of its own; it returns the finished process."""

    def start(module, *options, **env):
        (tmp_path / "pytest.ini").write_text(STRICT)
        (tmp_path / "test_module.py").write_text(module)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SESSION_FIX_"))}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
            cwd=tmp_path,
            env=kept
            | {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "PYTEST_ADDOPTS": "--session-fix-keep-failed=0"}
            | env,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )

    return start


def test_a_project_of_its_own_names_is_not_disturbed(run):
    """Fixtures named database, service and variant are common, and so is a marker named checklist."""
    done = run(UNRELATED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "testing checklist" not in done.stdout


def test_a_failed_test_shows_what_was_recorded_and_what_the_service_printed(run):
    """The message alone does not say which call failed in the database."""
    done = run(FAILS, "--session-fix-service", "before")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no teapot" in done.stdout
    recorded, _, printed = done.stdout.partition("session-fix: what was recorded")[2].partition(
        "session-fix: last lines"
    )
    assert "409 23503 foreign_key_violation" in recorded
    assert printed.split()[:2] == ["of", "before"]
    assert "APIError" in printed


@pytest.mark.parametrize("module", [USES_THE_STACK, UNRELATED])
def test_an_external_server_without_a_dsn_is_wrong_usage(run, module):
    """Whoever chose it has to be told which variable is missing, once, and not by every test."""
    done = run(module, "--session-fix-postgres", "external")
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert said.count("SESSION_FIX_DSN") == 1
    assert "Traceback" not in said
    assert "def session_fix" not in said


def test_without_a_server_the_run_ends_at_once_with_the_reason(run):
    """Hundreds of tests that each fail for one missing server would hide it."""
    done = run(USES_THE_STACK, "--session-fix-postgres", "external", SESSION_FIX_DSN=REFUSED)
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert "The PostgreSQL at 127.0.0.1 does not answer" in said
    assert "4 errors" not in said
    assert "canary" not in said


def test_without_a_server_workers_show_the_reason(run):
    """A worker that ends would be reported as crashed, and nobody would read why."""
    done = run(USES_THE_STACK, "-n", "2", "--session-fix-postgres", "external", SESSION_FIX_DSN=REFUSED)
    said = done.stdout + done.stderr
    assert done.returncode not in {0, 5}, said
    assert "The PostgreSQL at 127.0.0.1 does not answer" in said
    assert "INTERNALERROR" not in said
    assert "crashed" not in said
    assert "canary" not in said


def test_workers_share_one_server(run, tmp_path):
    """A server for each worker would cost each of them its start, and the machine its memory."""
    done = run(SAYS_ITS_SERVER, "-n", "2", "--dist", "load")
    assert done.returncode == 0, done.stdout + done.stderr
    servers = {path.name: path.read_text() for path in tmp_path.glob("server-*")}
    assert set(servers) == {"server-gw0", "server-gw1"}
    assert len(set(servers.values())) == 1


def of_databases(done):
    """Return what was said of private databases: how many were emptied, how many dropped, and the lines below that."""
    title = "session-fix: private databases"
    assert done.stdout.count(title) == 1, done.stdout + done.stderr
    first, *lines = done.stdout.partition(title)[2].partition("\n===")[0].lstrip(" =:\n").splitlines()
    words = first.split()
    counts = {words[index + 1]: int(word) for index, word in enumerate(words) if word.isdigit()}
    return counts, lines


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "workers"])
def test_why_databases_were_dropped_is_said_at_the_end(run, options):
    """Whoever wants a faster run has to know what keeps its databases from being handed on."""
    counts, lines = of_databases(run(LEAVES_THINGS, *options))
    assert counts == {"emptied": 6, "dropped": 2}
    assert [line.split(":")[0] for line in lines if line] == ["     2  a change of the catalog"]


def test_a_quiet_run_says_it_in_one_line(run):
    """That is what quiet means."""
    done = run(LEAVES_THINGS, "-q")
    counts, _ = of_databases(done)
    assert counts == {"emptied": 6, "dropped": 2}
    assert "change of the catalog" not in done.stdout


def test_clones_that_were_asked_for_are_no_finding(run):
    """Nothing was found in them: they are dropped whatever there is."""
    done = run(LEAVES_THINGS, "--session-fix-isolation", "clone")
    assert "8 dropped as clones" in done.stdout
    assert "change of the catalog" not in done.stdout


def test_a_run_without_a_database_says_nothing_of_databases(run):
    """The plugin is in many an environment for the sake of a few tests."""
    assert "private databases" not in run(UNRELATED).stdout


@pytest.fixture
def broken_npm(tmp_path):
    """Return an environment in which the data API cannot be installed; each try writes a line into ``tries``."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {"node": "echo v22.1.0", "npm": f"echo >> {tmp_path}/tries; echo no network >&2; exit 1"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "SESSION_FIX_CACHE": str(tmp_path / "cache")}


def test_without_a_data_api_the_run_ends_at_once_with_the_reason(run, broken_npm, tmp_path):
    """It is started when the first test needs it; the others would each wait for it and fail."""
    done = run(USES_THE_DATA_API, **broken_npm)
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert said.count("npm could not install the data API's packages") == 1
    assert "no network" in said
    assert "1 passed" in said, "what needs no data API has run by then"
    assert len((tmp_path / "tries").read_text().splitlines()) == 1


def test_without_a_data_api_workers_show_the_reason(run, broken_npm, tmp_path):
    """Each of them tries once, and none is reported as crashed."""
    done = run(USES_THE_DATA_API, "-n", "2", **broken_npm)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "npm could not install the data API's packages" in said
    assert "INTERNALERROR" not in said
    assert "crashed" not in said
    assert "1 passed, 6 errors" in said
    assert len((tmp_path / "tries").read_text().splitlines()) <= 2


@pytest.fixture
def theirs(tmp_path):
    """Return an environment with a server of somebody else's, and a data API in front of it that nobody runs."""
    with embedded.start() as (server, _):
        yield {
            "SESSION_FIX_DSN": f"host={server.admin['host']} port=5432 user=postgres",
            "SESSION_FIX_SUPABASE_URL": "http://127.0.0.1:9",
            "SESSION_FIX_SUPABASE_DATABASE": "theirs",
            "SESSION_FIX_CACHE": str(tmp_path / "cache"),
            "SUPABASE_ANON_KEY": "a",
            "SUPABASE_SERVICE_ROLE_KEY": "s",
        }


def test_a_data_api_that_does_not_show_the_tables_ends_the_run(run, theirs):
    """It counts as started, but each test would wait a minute for its tables."""
    in_no_time = "from session_fix.rest import external\nexternal.READY_TIMEOUT_S = 0\n"
    options = ("--session-fix-postgres", "external", "--session-fix-rest", "external")
    done = run(in_no_time + USES_THE_DATA_API, *options, **theirs)
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert said.count("does not show our tables") == 1


def test_who_changes_the_server_is_told_so_and_nobody_else_sees_it(run):
    """It is asked when the test has ended, and by the time pytest has the answer, the next one must not have begun."""
    done = run(CHANGES_THE_SERVER)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "6 passed, 4 errors" in done.stdout
    first, second, third, last = done.stdout.split("ERROR at teardown of ")[1:]
    for test, whose, which in (
        ("comment", first, "template1"),
        ("ending", second, "postgres"),
        ("last", last, "template0"),
    ):
        assert whose.startswith(f"test_{test} ")
        assert f"the database {which} changed. Undo it in that test" in whose
    assert "its own" in second
    assert "the tablespace pg_default changed" in third


def test_what_a_hook_of_the_project_leaves_is_its_tests(run, tmp_path):
    """A conftest may dispose of things once pytest has torn the test down."""
    (tmp_path / "conftest.py").write_text(LEAVES_LATE)
    done = run(LEFT_LATE)
    assert "11 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR at teardown of test_server " in done.stdout


def test_a_server_that_cannot_be_had_is_asked_for_once(run):
    """A worker goes on with its other tests, and each would wait for it anew."""
    at = {"SESSION_FIX_DSN": REFUSED, "PYTEST_XDIST_TESTRUNUID": "of these workers"}
    done = run(STARTS_NOTHING, "--session-fix-postgres", "external", **at)
    assert "1 passed, 3 errors" in done.stdout, done.stdout + done.stderr
