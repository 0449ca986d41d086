"""The data API without Docker: each key does what its role may, each database is alone, and nobody else gets in."""

import contextlib
import socket
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from session_fix.progress import SILENT
from session_fix.rest import lite

REFUSED = "42501"  # insufficient_privilege. Source: PostgreSQL manual, appendix "Error Codes"
ONE = "00000000-0000-4000-8000-000000000001"
FOUR = {
    "select": ("GET", f"id=eq.{ONE}", None),
    "insert": ("POST", "", {"id": str(uuid.UUID(int=2))}),
    "update": ("PATCH", f"id=eq.{ONE}", {"user_id": "somebody"}),
    "delete": ("DELETE", f"id=eq.{ONE}", None),
}
ENVIRONMENT = {"PGPASSWORD": "x", "PGSERVICE": "x", "NODE_OPTIONS": "--no-deprecation", "SUPABASE_URL": "x"}


@pytest.fixture
def perform(session_fix_stack, database, ask):
    """Return a function that does one of the four operations on a database with one session in it."""
    database.rows("INSERT INTO ai_sessions (id) VALUES (%s)", ONE)
    url = f"{session_fix_stack.endpoint(database).url}/rest/v1/ai_sessions"

    def run(operation, key):
        method, query, body = FOUR[operation]
        return ask(f"{url}?{query}", method, key=key, body=body, prefer="return=representation")

    return run


@pytest.fixture
def address(session_fix_stack):
    """Return scheme, host and port of the data API."""
    return "http://" + urlsplit(session_fix_stack.rest.open("any").url).netloc


def listeners(port):
    """Return the processes that listen on a port."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    wanted = {f"socket:[{line[9]}]" for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")}
    found = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # closed since
            if str(descriptor.readlink()) in wanted:
                found.add(int(descriptor.parts[2]))
    return found


@pytest.mark.parametrize("operation", FOUR)
def test_the_service_key_reads_and_writes_rows(session_fix_stack, perform, operation):
    """It is what the backend has to do its work with."""
    answer = perform(operation, session_fix_stack.keys.service_role)
    assert answer.status < 300, answer
    assert len(answer.body) == 1


@pytest.mark.parametrize("operation", FOUR)
def test_the_anon_key_is_refused(session_fix_stack, perform, operation):
    """Every browser has it; the grants, and nothing else, stand between it and the prompts."""
    answer = perform(operation, session_fix_stack.keys.anon)
    assert (answer.status, answer.code) in {(401, REFUSED), (403, REFUSED)}


@pytest.mark.parametrize("operation", FOUR)
def test_a_careless_grant_and_policy_let_anon_in(session_fix_stack, perform, database, operation):
    """The refusal above comes from them: with one more of each it is gone, so a rollout's mistake would show."""
    database.rows("GRANT SELECT, INSERT, UPDATE, DELETE ON ai_sessions TO anon")
    database.rows("CREATE POLICY careless ON ai_sessions TO anon USING (true)")
    answer = perform(operation, session_fix_stack.keys.anon)
    assert answer.status < 300, answer
    assert len(answer.body) == 1


@pytest.mark.parametrize("key", ["sb_secret_wrong", "sb_publishable_wrong", "wrong"])
def test_a_wrong_key_is_nobody(perform, key):
    """An unknown key must not fall back to a role."""
    answer = perform("select", key)
    assert answer.status == 401
    assert answer.code != REFUSED, "it was taken for a role that lacks a right"


def test_databases_do_not_see_each_other(session_fix_stack, ask):
    """One process serves the databases of all tests that run at the same time."""
    key = session_fix_stack.keys.service_role
    with session_fix_stack.database() as mine, session_fix_stack.database() as yours:
        tables = [f"{session_fix_stack.endpoint(one).url}/rest/v1/ai_sessions" for one in (mine, yours)]
        assert ask(tables[0], "POST", key=key, body={"id": ONE}).status == 201
        assert [len(ask(f"{table}?select=id", key=key).body) for table in tables] == [1, 0]


@pytest.mark.parametrize("name", ["", "UPPER", "with-dash", "a" * 64, "1st", "a%20b"])
def test_what_is_no_database_name_is_not_found(address, ask, session_fix_stack, name):
    """The first part of the path goes into a connection's parameters; anything odd stops at the door."""
    answer = ask(f"{address}/{name}/rest/v1/ai_sessions", key=session_fix_stack.keys.service_role)
    assert answer.status == 404


def test_a_database_that_is_not_there_is_an_error(address, ask, session_fix_stack):
    """It must not come back as an empty list."""
    answer = ask(f"{address}/sf_nowhere/rest/v1/ai_sessions", key=session_fix_stack.keys.service_role)
    assert answer.status >= 400


@pytest.mark.parametrize("token", [None, "", "wrong", "0" * 32])
def test_closing_a_database_needs_the_control_token(session_fix_stack, database, ask, token):
    """The service under test knows the URL and both keys, and must not be able to cut another test off."""
    url, keys = session_fix_stack.endpoint(database).url, session_fix_stack.keys
    headers = {} if token is None else {"x_session_fix_control": token}
    assert ask(url, "DELETE", key=keys.service_role, **headers).status == 403
    assert ask(f"{url}/rest/v1/ai_sessions", key=keys.service_role).status == 200


def test_closing_lets_go_of_the_database(session_fix_stack, database, ask):
    """A test's database is dropped afterwards; the next of that name, with another schema, must not be served stale."""
    table = f"{session_fix_stack.endpoint(database).url}/rest/v1/ai_sessions"
    connections = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename LIKE %s"
    assert ask(table, key=session_fix_stack.keys.service_role).status == 200
    assert database.rows(connections, database.name, "%rest%")[0][0] > 0
    session_fix_stack.rest.close(database.name)
    assert database.rows(connections, database.name, "%rest%")[0][0] == 0
    assert ask(table, key=session_fix_stack.keys.service_role).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost", "evil.example:80", "127.0.0.1.evil.example"])
def test_another_host_name_is_refused(session_fix_stack, database, ask, host):
    """A web page that rebinds its own name to loopback sends that name."""
    url = f"{session_fix_stack.endpoint(database).url}/rest/v1/ai_sessions"
    assert ask(url, key=session_fix_stack.keys.service_role).status == 200
    assert ask(url, key=session_fix_stack.keys.service_role, Host=host).status == 403


@pytest.mark.needs_proc
def test_it_listens_on_loopback_only(address, network_sockets):
    """Whoever shares the network must not reach it."""
    (process,) = listeners(int(address.rpartition(":")[2]))
    assert network_sockets([process]) == [("tcp", "127.0.0.1")]


def test_keys_are_new_for_each_run():
    """A key in a report that somebody publishes opens nothing."""
    keys = [lite.new_keys() for _ in range(2)]
    assert len({key for pair in keys for key in (pair.anon, pair.service_role)}) == 4
    assert "sb_secret" not in repr(keys)
    assert keys[0].anon.startswith("sb_publishable_")
    assert keys[0].service_role.startswith("sb_secret_")


@pytest.mark.needs_proc
def test_the_users_environment_does_not_steer_it(monkeypatch, session_fix_stack, database, ask):
    """PGPASSWORD and the like would send it to another server, NODE_OPTIONS would change what it is."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    databases, keys = session_fix_stack.databases, lite.new_keys()
    user, password = databases.make_login()
    with lite.start(databases.server.admin | {"user": user, "password": password}, keys, progress=SILENT) as rest:
        url = rest.open(database.name).url
        assert ask(f"{url}/rest/v1/ai_sessions", key=keys.service_role).status == 200
        (process,) = listeners(urlsplit(url).port)
        names = {entry.split(b"=")[0].decode() for entry in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")}
        assert "PATH" in names
        assert not names & set(ENVIRONMENT)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=5):
        pass
