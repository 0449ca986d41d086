"""A database that tests share because they asked for it."""

import contextlib
import os
import subprocess
import sys

import psycopg
import pytest

from session_fix.errors import UsageError
from session_fix.isolation.shared import SharedDatabase

INSERT = "INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())"
TIMEOUT_S = 120
MODULE = """
import pytest

INSERT = "INSERT INTO ai_sessions (id) VALUES (gen_random_uuid())"
COUNT = "SELECT count(*) FROM ai_sessions"
seen = {}

def counted(database, key):
    seen.setdefault(key, []).append(database.name)
    before = database.rows(COUNT)[0][0]
    database.rows(INSERT)
    return before

@pytest.mark.database(scope="class")
class TestOfAClass:
    @pytest.mark.parametrize("number", range(2))
    def test_in_order(self, database, number):
        assert counted(database, "class") == number

@pytest.mark.database(scope="class")
class TestOfAnotherClass:
    def test_from_the_beginning(self, database):
        assert counted(database, "other class") == 0
        assert seen["class"][0] == seen["class"][1] != database.name

@pytest.mark.database(scope="module")
class TestOfTheModule:
    def test_first(self, database):
        assert counted(database, "module") == 0

@pytest.mark.database(scope="module")
def test_second_of_the_module(database):
    assert counted(database, "module") == 1

@pytest.mark.database(reset="truncate")
@pytest.mark.parametrize("number", range(3))
def test_truncated(database, number):
    assert counted(database, "truncated") == 0
    assert len(set(seen["truncated"])) == 1
    assert database.rows("SELECT count(*) FROM alembic_version") == [(1,)]

@pytest.mark.database(isolation="clone")
@pytest.mark.parametrize("number", range(3))
def test_cloned(database, number):
    assert counted(database, "cloned") == 0
    assert len(set(seen["cloned"])) == number + 1

@pytest.mark.parametrize("number", range(6))
def test_recycled(database, number):
    assert counted(database, "recycled") == 0
    assert number < 5 or len(set(seen["recycled"])) < 6

@pytest.mark.database(isolation="clone")
@pytest.mark.state("hand_made")
def test_of_a_state(database):
    assert database.rows(COUNT) == [(3,)]
"""
REFUSED = """
import pytest

@pytest.mark.state("hand_made")
@pytest.mark.database(reset="truncate")
def test_rows_of_a_state(database):
    pass

@pytest.mark.database(scope="class")
def test_in_no_class(database):
    pass

@pytest.mark.database(isolation="copy")
def test_unknown(database):
    pass

def test_of_none_of_these(database):
    pass
"""


@pytest.fixture
def migrated(running):
    """Yield a migrated database without rows, to be shared."""
    with running.database() as database:
        yield database


@pytest.fixture
def shared(migrated):
    """Yield a shared database that is emptied between tests."""
    with contextlib.closing(SharedDatabase(migrated, reset="truncate")) as found:
        yield found


def test_rows_go_and_the_version_stays(shared):
    """What the schema is, is nobody's data."""
    for _ in range(2):
        with shared.lend() as database:
            assert database.rows("SELECT count(*) FROM ai_sessions") == [(0,)]
            assert database.rows("SELECT count(*) FROM alembic_version") == [(1,)]
            database.rows(INSERT)
            database.connection.execute(INSERT)


def test_without_a_reset_rows_stay(migrated):
    """Tests that build on each other ask for it."""
    with contextlib.closing(SharedDatabase(migrated, reset=None)) as shared:
        with shared.lend() as first:
            first.rows(INSERT)
        with shared.lend() as second:
            assert second.rows("SELECT count(*) FROM ai_sessions") == [(1,)]


def test_the_connection_is_as_new(shared):
    """It is shared as little as that of a private database."""
    with shared.lend() as first:
        held = first.connection
        held.autocommit = True
        held.execute("SET search_path = nowhere")
    with shared.lend() as second:
        assert second.connection.autocommit is False
        assert second.connection.execute("SELECT count(*) FROM ai_sessions").fetchone() == (0,)
    assert held.closed


def test_a_state_with_rows_cannot_be_truncated(databases):
    """Its rows would be gone with the first test's."""
    database = databases.clone()
    with pytest.raises(UsageError, match=r"cannot put back the rows that .* has in this state; leave reset out"):
        SharedDatabase(database, reset="truncate")


def test_a_lock_is_the_failure_of_the_test_that_left_it(shared, leak):
    """It is said where it was left, and who comes next has a connection that works."""
    with pytest.raises(psycopg.errors.LockNotAvailable), shared.lend() as first:  # noqa: PT012  it is the end that raises
        first.rows(INSERT)
        held = leak(first, "LOCK TABLE ai_sessions")
    held.close()
    with shared.lend() as second:
        assert second.connection.execute("SELECT count(*) FROM ai_sessions").fetchone() == (0,)


@pytest.fixture
def run(tmp_path):
    """Return a function that runs pytest on one module in a project of its own; it returns what is said."""

    def start(module):
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
        (tmp_path / "test_module.py").write_text(module)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SESSION_FIX_"))}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            cwd=tmp_path,
            env=kept | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return start


def test_each_scope_has_a_database_of_its_own(run):
    """The marker says who shares with whom, and for how long."""
    code, said = run(MODULE)
    assert code == 0, said
    assert "18 passed" in said


def test_a_wish_that_cannot_be_granted_fails_its_test_only(run):
    """The reason stands with the test, and the others are none the wiser."""
    code, said = run(REFUSED)
    assert code == 1, said
    assert "1 passed, 3 errors" in said
    for words in ("reset='truncate' cannot put back the rows", "the test is in no class", "isolation='copy'"):
        assert words in said


def test_a_function_knows_nothing_of_who_called_it_before(database):
    """The database stays as it is, with the function; the session that is handed on is as good as new."""
    database.rows(
        "CREATE FUNCTION moment() RETURNS timestamptz LANGUAGE plpgsql AS "
        "$$BEGIN RETURN '2026-01-05'::timestamptz; END$$"
    )
    shared = SharedDatabase(database, reset=None)
    with contextlib.closing(shared):
        with shared.lend() as first:
            first.connection.execute("SET TimeZone = 'Asia/Tokyo'")
            first.connection.execute("SELECT moment()")
            pid = first.connection.info.backend_pid
        with shared.lend() as second:
            assert second.connection.info.backend_pid == pid
            assert second.connection.execute("SELECT moment()").fetchall() == database.rows("SELECT moment()")
