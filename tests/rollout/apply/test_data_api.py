"""A rollout that waits for the data API ends when that serves the new schema, and only then."""

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from session_fix.errors import RolloutRefusedError, StaleApiError, UsageError
from session_fix.rollout import apply as applying
from session_fix.rollout import data_api, objects, served
from session_fix.rollout.data_api import Answer, DataApi
from session_fix.rollout.happening import Said, Waiting

IDS = objects.revisions()
HEAD, BEFORE, GRANTED = IDS[-1], IDS[-2], "0002_api_grants"
CANARY = "c4n4ry-of-a-key"
KEY = "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey"
BACK = "ALTER TABLE ai_interactions ADD FOREIGN KEY (session_id) REFERENCES ai_sessions (id)"


@pytest.fixture
def api_of(session_fix_stack, session_fix_endpoint):
    """Return a function that returns the data API in front of a database."""
    key = session_fix_stack.keys.service_role
    return lambda database: DataApi(session_fix_endpoint(database).url, key)


@pytest.fixture
def reload_of(session_fix_stack, session_fix_endpoint):
    """Return a function that has a database's data API read the schema anew, as a restart would."""

    def again(database):
        session_fix_stack.rest.close(database.name)
        session_fix_endpoint(database)

    return again


@pytest.fixture
def reloading(reload_of):
    """Return a context manager in which a database's data API follows NOTIFY, as PostgREST does; ours reads once."""

    @contextmanager
    def follow(database):
        with database.connect(autocommit=True) as listening:
            listening.execute("LISTEN pgrst")
            ended = threading.Event()

            def listen():
                while not ended.is_set():
                    for note in listening.notifies(timeout=0.05):
                        if note.payload == "reload schema":
                            reload_of(database)

            thread = threading.Thread(target=listen)
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()

    return follow


@pytest.fixture
def impatient(monkeypatch):
    """Give the data API two tries instead of thirty seconds."""
    monkeypatch.setattr(served, "PATIENCE_S", 0.3)


@pytest.fixture
def fake():
    """Return a context manager of a server that gives the same answer to all; yields its URL and what it was asked."""

    @contextmanager
    def serve(status, body="", **headers):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.path, self.headers["apikey"], self.headers["accept-profile"]))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}", asked
            finally:
                server.shutdown()
                thread.join()

    return serve


def waiting(events):
    """Return what was waited for, in words."""
    return [event.what for event in events if isinstance(event, Waiting)]


def test_from_nothing_until_the_data_api_serves_the_tables(at, planned, applied, events, api_of, reloading):
    """It has read the empty schema when the rollout begins; NOTIFY, and nothing else, has it read the new one."""
    database = at("")
    api = api_of(database)
    assert data_api.ask(api, data_api.KNOCK).code == "PGRST205"
    with reloading(database):
        applied(planned(database), database, api=api)
    assert data_api.ask(api, served.requests(objects.of_revision(HEAD))[0]).rows
    assert f"serves {HEAD}" in events[-1].text


def test_the_relationship_is_waited_for(at, planned, api_of, reload_of):
    """Both tables are known; what the fixed backend never asks for, somebody's dashboard does."""
    database = at(HEAD)
    plan = planned(database)
    database.rows(KEY)
    api, events = api_of(database), []
    assert data_api.ask(api, data_api.KNOCK).rows

    def listen(event):
        events.append(event)
        if isinstance(event, Waiting):
            database.rows(BACK)
            reload_of(database)

    served.wait(api, plan, notify=lambda: None, on=listen)
    assert len(waiting(events)) == 1
    assert "PGRST200: it knows no relationship" in waiting(events)[0]


def test_a_column_is_waited_for(at, planned, api_of, reload_of):
    """PostgreSQL says so itself; the tables and their relationship are all there."""
    database = at(HEAD)
    plan, api, events = planned(database), api_of(database), []
    database.rows("ALTER TABLE ai_interactions RENAME tokens_used TO tokens")
    reload_of(database)

    def listen(event):
        events.append(event)
        if isinstance(event, Waiting):
            database.rows("ALTER TABLE ai_interactions RENAME tokens TO tokens_used")
            reload_of(database)

    served.wait(api, plan, notify=lambda: None, on=listen)
    assert "42703: its database has no such column" in waiting(events)[0]


def test_notify_is_sent_again_while_it_is_waited(at, planned, api_of, reload_of, monkeypatch):
    """PostgREST misses one that is sent while it connects anew."""
    monkeypatch.setattr(served, "NOTIFY_EVERY_S", 0)
    database = at(HEAD)
    plan, api, sent = planned(database), api_of(database), []
    database.rows(KEY)
    assert data_api.ask(api, data_api.KNOCK).rows
    database.rows(BACK)

    def notify():
        sent.append(True)
        reload_of(database)

    served.wait(api, plan, notify=notify)
    assert sent


@pytest.mark.usefixtures("impatient")
def test_what_is_never_served_is_no_success_and_the_steps_are_kept(at, planned, applied, api_of, reload_of, schema_of):
    """A data API that follows no NOTIFY: the operator restarts it, and the same command has only that left."""
    database = at("")
    plan, api = planned(database), api_of(database)
    for _ in range(2):  # with steps, and with nothing left to do
        with pytest.raises(StaleApiError, match=r"HTTP 404, PGRST205.*the same command again") as stale:
            applied(plan, database, api=api)
        assert api.key not in str(stale.value)
    assert objects.difference(schema_of(database), objects.of_revision(HEAD)) == {}
    reload_of(database)
    assert applied(plan, database, api=api).done == ()


def test_the_lock_of_the_rollout_is_free_meanwhile(at, planned, applied, api_of, monkeypatch):
    """Another rollout needs not wait for an HTTP server."""
    database = at(BEFORE)
    found = []

    def wait(*_, **__):
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database"
        found.extend(database.rows(f"{locks} WHERE datname = current_database())"))

    monkeypatch.setattr(served, "wait", wait)
    applied(planned(database), database, api=api_of(database))
    assert found == [(0,)]


@pytest.mark.usefixtures("impatient")
def test_nothing_is_waited_for_where_no_table_is_left(at, planned, applied, events, api_of):
    """Back to before the first revision, which the data API need not know to do no harm."""
    database = at(GRANTED)
    applied(planned(database, ""), database, api=api_of(database))
    assert [event.text for event in events if isinstance(event, Said)][-1].startswith("No table is left")


def test_what_is_asked_for_is_what_the_revision_leaves():
    """Without the foreign key no relationship is asked for: it would never be there."""
    wanted = objects.of_revision(HEAD)
    [asked] = served.requests(wanted)
    assert asked == (
        "ai_sessions?select=created_at,id,updated_at,user_id,"
        "ai_interactions(created_at,id,model_used,prompt,response,session_id,tokens_used)&limit=0"
    )
    without = {name: text for name, text in wanted.items() if "FOREIGN KEY" not in text}
    assert [one.partition("?")[0] for one in served.requests(without)] == ["ai_sessions", "ai_interactions"]
    assert served.requests({}) == ()


@pytest.mark.usefixtures("impatient")
def test_every_table_counts_where_no_key_relates_them(at, planned, api_of, monkeypatch):
    """The second is asked for, too."""
    asked = ("ai_sessions?select=id&limit=0", "ai_interactions?select=none&limit=0")
    monkeypatch.setattr(served, "requests", lambda _: asked)
    database = at(HEAD)
    with pytest.raises(StaleApiError, match="42703"):
        served.wait(api_of(database), planned(database), notify=lambda: None)


@pytest.mark.parametrize(
    ("url", "key", "remote", "said"),
    [
        ("http://127.0.0.1:1", "", False, "SUPABASE_SERVICE_ROLE_KEY"),
        ("http://127.0.0.1:1", f"{CANARY}\n", False, "is no key"),
        ("http://127.0.0.1:1", f"{CANARY}é", False, "is no key"),
        ("https://project.supabase.co", CANARY, False, "--allow-remote"),
        ("http://project.supabase.co", CANARY, True, "takes https"),
        ("ftp://127.0.0.1", CANARY, True, "--api takes the URL"),
        ("127.0.0.1:8000", CANARY, True, "--api takes the URL"),
        ("http://", CANARY, True, "--api takes the URL"),
        ("", CANARY, True, "--api takes the URL"),
        ("http://127.0.0.1:port", CANARY, True, "--api takes the URL"),
        ("http://[::1", CANARY, True, "--api takes the URL"),
        (f"http://user:{CANARY}@127.0.0.1", CANARY, True, "--api takes the URL"),
        (f"http://127.0.0.1?apikey={CANARY}", CANARY, True, "--api takes the URL"),
        ("http://127.0.0.1/a b", CANARY, True, "--api takes the URL"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(url, key, remote, said):
    """A key in a URL, or an URL of somewhere else; neither is repeated in the message."""
    with pytest.raises(UsageError, match=said) as refused:
        data_api.named(url, allow_remote=remote, environ={data_api.KEY_VARIABLE: key} if key else {})
    assert CANARY not in str(refused.value)


def test_a_remote_url_with_its_flag_is_taken():
    """Supabase's own are remote."""
    found = data_api.named("https://p.supabase.co/", allow_remote=True, environ={data_api.KEY_VARIABLE: CANARY})
    assert found.url == "https://p.supabase.co"
    assert CANARY not in repr(found)


@pytest.mark.parametrize("wrong", ["key", "path", "port"])
def test_a_data_api_that_will_not_do_is_refused_with_nothing_changed(at, planned, api_of, state_of, wrong):
    """The reason is said with all others, before the first step."""
    database = at(BEFORE)
    api, before = api_of(database), state_of(database)
    api, said = {
        "key": (DataApi(api.url, CANARY), "refuses the key: HTTP 401"),
        "path": (DataApi(f"{api.url}/nowhere", api.key), "no data API"),
        "port": (DataApi("http://127.0.0.1:9", api.key), "does not answer: Connection refused"),
    }[wrong]
    with pytest.raises(RolloutRefusedError, match=rf"(?s)Nothing was changed.*{said}") as refused:
        applying.apply(planned(database), database.params, api=api)
    assert state_of(database) == before
    assert api.key not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "body", "passes"),
    [
        (200, "[]", True),
        (200, "<html>", False),
        (404, '{"code": "PGRST205"}', True),
        (404, '{"message": "no Route matched"}', False),
        (404, '{"code": "PGRST125"}', False),
        (404, '{"code": ["' + CANARY + '"]}', False),
        (404, '{"code": "' + CANARY + '"}', False),
        (503, '{"code": "PGRST002"}', True),
        (502, "Bad Gateway", False),
        (401, '{"code": "PGRST301"}', False),
        (403, '{"code": "42501"}', True),
        (403, "", False),
    ],
)
def test_who_answers_is_known_by_the_answer(fake, status, body, passes):
    """Whatever the data API knows by now: what counts is that it is one, and takes the key."""
    with fake(status, body) as (url, _):
        check = data_api.checked(DataApi(url, CANARY))
    assert check.passes == passes
    assert CANARY not in check.wrong


@pytest.mark.parametrize("url", ["http://a..b", f"http://{'a' * 70}.test"])
def test_a_host_that_cannot_be_is_not_reached(url):
    """An error of encoding its name is none of ours."""
    check = data_api.checked(DataApi(url, CANARY))
    assert "does not answer" in check.wrong


def test_an_answer_that_is_no_http_is_none():
    """Its words may be anything, the key that was sent among them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(4096) and f"{CANARY}\r\n\r\n".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        found = data_api.ask(DataApi(f"http://127.0.0.1:{port}", CANARY), data_api.KNOCK)
        thread.join()
    assert (found.status, found.why) == (0, "BadStatusLine")


def test_the_key_follows_no_redirect(fake):
    """It would be sent to whatever host the answer names."""
    with fake(200, "[]") as (other, asked), fake(302, location=other) as (url, _):
        check = data_api.checked(DataApi(url, CANARY))
    assert (asked, "HTTP 302" in check.wrong) == ([], True)


def test_it_is_asked_for_the_schema_of_the_tables(fake):
    """Another one may be what it serves unless somebody says which; a backend's client says public."""
    with fake(200, "[]") as (url, asked):
        data_api.ask(DataApi(url, CANARY), data_api.KNOCK)
    assert asked == [("/rest/v1/" + data_api.KNOCK, CANARY, "public")]


def test_somebodys_own_key_between_the_tables_is_no_reason_to_wait(at, api_of):
    """It does not know which relationship was meant, and knows them all."""
    database = at(HEAD)
    database.rows("ALTER TABLE ai_interactions ADD COLUMN about uuid REFERENCES ai_sessions (id)")
    [query] = served.requests(objects.of_revision(HEAD))
    answer = data_api.ask(api_of(database), query)
    assert (answer.code, answer.serves) == ("PGRST201", True)


@pytest.mark.parametrize("path", ["", "/rest/v1"])
def test_the_url_is_the_projects_or_that_of_its_tables(at, api_of, path):
    """People paste either."""
    api = api_of(at(HEAD))
    assert data_api.ask(DataApi(f"{api.url}{path}", api.key), data_api.KNOCK).rows


def test_a_bare_postgrest_has_its_tables_at_the_root(monkeypatch):
    """It says of the path below which Supabase has them that there is none."""
    answers = {"http://api/rest/v1/t": Answer(404, "PGRST125"), "http://api/t": Answer(200, rows=True)}
    monkeypatch.setattr(data_api, "_asked", lambda url, _: answers[url])
    assert data_api.ask(DataApi("http://api", CANARY), "t").rows


def test_a_role_that_may_not_read_has_been_understood(at, session_fix_stack, api_of):
    """PostgreSQL refuses what the data API has planned, which takes all that it had to know."""
    api = api_of(at(HEAD))
    [query] = served.requests(objects.of_revision(HEAD))
    answer = data_api.ask(DataApi(api.url, session_fix_stack.keys.anon), query)
    assert (answer.code, answer.serves, answer.is_refusal) == ("42501", True, False)
