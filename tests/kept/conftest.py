"""The server of the tests that fail, the server of a later day, and a place for what is kept in between."""

import secrets
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from session_fix import kept, schema
from session_fix.databases import Database, Databases
from session_fix.servers import embedded

collect_ignore = ["conftest.py"]  # pytest-alembic 0.13 would collect it, and breaks doing so under pytest 9.2


class OneServer:
    """A server and a run on it that makes private databases."""

    TEST = "tests/test_flow.py::test_first_query"

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
