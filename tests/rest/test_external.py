"""Somebody else's data API in front of somebody else's server: one database is made for it, and nothing stays."""

import contextlib
import urllib.request

import psycopg
import pytest

from session_fix import stack
from session_fix.errors import NoRestError, UsageError
from session_fix.progress import SILENT
from session_fix.rest import external, lite
from session_fix.servers import embedded
from session_fix.settings import Settings

NAME = "theirs_for_us"
ONE = "00000000-0000-4000-8000-000000000001"
ROLES = """
CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;
CREATE ROLE authenticator LOGIN IN ROLE anon, authenticated, service_role
"""


@pytest.fixture(scope="module")
def server():
    """Start a server that counts as somebody else's, with the roles that theirs has."""
    with embedded.start() as (started, _):
        with psycopg.connect(**started.admin, dbname="postgres", autocommit=True) as connection:
            connection.execute(ROLES)
        yield started


@pytest.fixture
def sql(server, sql_on):
    """Return a function that runs a statement on that server, as its owner."""
    return sql_on(server)


@pytest.fixture(scope="module")
def settings(server):
    """Start their data API, and return the settings that lead to both."""
    keys = lite.new_keys()
    with lite.start(server.admin | {"user": "authenticator", "password": "none"}, keys, progress=SILENT) as rest:
        yield Settings(
            postgres="external",
            dsn=f"host={server.admin['host']} user=postgres",
            rest="external",
            supabase_url=rest.open(NAME).url,
            supabase_database=NAME,
            supabase_keys=keys,
        )


@contextlib.contextmanager
def started(settings):
    """Yield the stack on both."""
    with stack.start(settings, stack.new_keys(settings), progress=SILENT) as running:
        yield running


def test_the_database_it_serves_is_made_and_gone_afterwards(settings, ask, what_is_there):
    """Their server is lent: it has to look afterwards as it did before."""
    before = what_is_there()
    with started(settings) as running, running.database() as database:
        assert database.name == NAME
        url = f"{running.endpoint(database).url}/rest/v1/ai_sessions"
        stored = ask(url, "POST", key=running.keys.service_role, body={"id": ONE})
        assert stored.status == 201, stored
        assert database.rows("SELECT id::text FROM ai_sessions") == [(ONE,)]
        assert ask(url, key=running.keys.anon).status in {401, 403}
        assert what_is_there() != before, "the look has to see what is made"
    assert what_is_there() == before


def test_each_test_gets_the_database_anew(settings, ask):
    """There is one name only, and what one test stored must not reach the next."""
    with started(settings) as running:
        for _ in range(2):
            with running.database() as database:
                url = f"{running.endpoint(database).url}/rest/v1/ai_sessions"
                assert database.rows("SELECT count(*) FROM ai_sessions") == [(0,)]
                assert ask(url, "POST", key=running.keys.service_role, body={"id": ONE}).status == 201


def test_a_database_that_was_not_made_here_is_refused_and_untouched(settings, sql, server, what_is_there):
    """The name in a setting may be mistyped, and be production's."""
    sql(f"CREATE DATABASE {NAME}")
    try:
        with psycopg.connect(**server.admin, dbname=NAME) as connection:
            connection.execute("CREATE TABLE precious AS SELECT 1 AS one")
        before = what_is_there()
        with started(settings) as running, pytest.raises(UsageError, match=f"{NAME} exists and was not made"):
            running.database().__enter__()
        assert what_is_there() == before
        with psycopg.connect(**server.admin, dbname=NAME) as connection:
            assert connection.execute("SELECT one FROM precious").fetchall() == [(1,)]
    finally:
        sql(f"DROP DATABASE {NAME} WITH (FORCE)")


def test_a_proxy_for_the_internet_does_not_come_between(monkeypatch, settings):
    """The tap goes to the data API directly, so the look whether it is ready has to do so too."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it reads the environment at its first use only
    monkeypatch.setattr(external, "READY_TIMEOUT_S", 3.0)
    with started(settings) as running, running.database() as database:
        assert running.endpoint(database).url == settings.supabase_url


def test_a_data_api_that_does_not_show_the_tables_is_named(monkeypatch):
    """It may serve another database than the one that was named."""
    monkeypatch.setattr(external, "READY_TIMEOUT_S", 0.0)
    refused = pytest.raises(NoRestError, match=r"http://127\.0\.0\.1:9 does not show our tables")
    with external.start("http://127.0.0.1:9/", NAME, lite.new_keys()) as rest, refused:
        rest.open(NAME)
