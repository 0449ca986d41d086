"""The tap between real clients and real servers: it changes nothing, records everything and leaves nothing behind."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from session_fix.events import Recorder
from session_fix.rest import Endpoint

CANARY = "canary-that-nobody-may-read"
ERROR_BODY = b'{"code":"23503","message":"violates"}'
ERROR = b"HTTP/1.1 409 Conflict\r\nX-One: 1\r\ncontent-length: %d\r\n\r\n%b" % (len(ERROR_BODY), ERROR_BODY)
CUT_SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n[]"


def fields_of(recorder, kind):
    """Return the fields of the events of a kind, in the order of the calls' numbers."""
    found = [event.fields for event in recorder.events() if event.kind == kind]
    return sorted(found, key=lambda fields: fields["call"])


def test_a_call_arrives_byte_for_byte_under_the_upstream_name(point, connect):
    """A tap that changed a header or a byte would test another service than the one that ships."""
    upstream, _ = point()
    body = b'{"prompt":"\xc3\xa4\\u0000 \x00"}'
    headers = b"ApiKey: k\r\nprefer: a\r\nPrefer: b\r\nX-Odd:  a  b\r\nConnection: keep-alive\r\n"
    connect().call("/rest/v1/x?a=eq.%20b&&c", method="PATCH", headers=headers, body=body)
    assert upstream.requests == [
        b"PATCH /rest/v1/x?a=eq.%20b&&c HTTP/1.1\r\nhost: " + upstream.url.removeprefix("http://").encode() + b"\r\n"
        b"ApiKey: k\r\nprefer: a\r\nPrefer: b\r\nX-Odd: a  b\r\ncontent-length: 23\r\n\r\n" + body
    ]


def test_a_reply_comes_back_as_it_was(point, connect):
    """Status, reason, headers and body are the data API's own."""
    point([ERROR])
    reply = connect().call()
    assert (reply.status, reply.reason, reply.body) == (409, "Conflict", ERROR_BODY)
    assert reply.headers == [("X-One", "1"), ("content-length", str(len(ERROR_BODY)))]


def test_replies_of_every_form_come_back_on_one_connection(point, connect):
    """A wrong length would let the client wait for ever, or read the next answer as part of this one."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n"
    point([chunked, b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", ERROR])
    client = connect()
    replies = [client.call(), client.call(), client.call(method="HEAD"), client.call()]
    assert [(reply.status, reply.body) for reply in replies] == [
        (200, b"[]"),
        (204, b""),
        (200, b""),
        (409, ERROR_BODY),
    ]
    assert dict(replies[2].headers) == {"content-length": "7"}


def test_each_call_and_its_reply_are_recorded_under_one_number(point, connect):
    """The point of a fault, and the pair that a diagram draws, is a number counted from 1."""
    _, recorder = point([ERROR, b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\n[{}]"])
    client = connect()
    client.call("/rest/v1/ai_sessions", method="POST", body=b"{}")
    client.call("/rest/v1/ai_interactions", method="POST", body=b"{}")
    assert [(e.kind, e.actor, e.fields["call"]) for e in recorder.events()] == [
        *(("call", "tap", 1), ("reply", "tap", 1), ("call", "tap", 2), ("reply", "tap", 2)),
    ]
    assert [fields["table"] for fields in fields_of(recorder, "call")] == ["ai_sessions", "ai_interactions"]
    seen = [(fields["status"], fields["sqlstate"], fields["rows"]) for fields in fields_of(recorder, "reply")]
    assert seen == [(409, "23503", None), (201, None, 1)]
    assert all(fields["duration_us"] >= 0 for fields in fields_of(recorder, "reply"))


def test_no_key_and_no_text_is_recorded(point, connect):
    """A record is attached to tickets; the keys in it would open the database."""
    key = CANARY.encode()
    error = b'{"code":"23505","details":"' + key + b'"}'
    point_reply = b"HTTP/1.1 409 X\r\nSet-Cookie: %b\r\ncontent-length: %d\r\n\r\n%b" % (key, len(error), error)
    upstream, recorder = point([point_reply])
    headers = b"apikey: %b\r\nAuthorization: Bearer %b\r\nCookie: %b\r\n" % (key, key, key)
    connect().call("/rest/v1/ai_sessions", method="POST", headers=headers, body=json.dumps({"prompt": CANARY}).encode())
    assert upstream.requests[0].count(key) == 4
    assert len(recorder.events()) == 2
    assert CANARY not in json.dumps([event.as_json(recorder.run) for event in recorder.events()])


@pytest.mark.parametrize(
    ("path", "rest_path", "asked", "target"),
    [
        ("/db7", "/rest/v1", "/rest/v1/x?a=b", "/db7/rest/v1/x?a=b"),
        ("/db7/", "/rest/v1", "/rest/v1/x", "/db7/rest/v1/x"),
        ("", "", "/rest/v1/x?a=/rest/v1/", "/x?a=/rest/v1/"),
        ("", "", "/auth/v1/health", "/auth/v1/health"),
        ("/p", "/data", "/rest/v1/x", "/p/data/x"),
    ],
)
def test_a_call_goes_to_where_the_database_lies(point, connect, path, rest_path, asked, target):
    """The service believes in Supabase's paths; a bare PostgREST and a server of many databases have others."""
    upstream, _ = point(path=path, rest_path=rest_path)
    connect().call(asked)
    assert upstream.requests[0].split()[1].decode() == target


@pytest.mark.parametrize(
    "request_line_and_host",
    [
        "GET /rest/v1/x HTTP/1.1\r\nHost: localhost:{port}",
        "GET /rest/v1/x HTTP/1.1\r\nHost: evil.example",
        "GET /rest/v1/x HTTP/1.1\r\nHost: 127.0.0.1",
        "GET /rest/v1/x HTTP/1.1\r\nX-No: host",
        "GET http://127.0.0.1:{port}/rest/v1/x HTTP/1.1\r\nHost: 127.0.0.1:{port}",
        "GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1:{port}",
        "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1:{port}",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1:{port}",
        "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}",
    ],
)
def test_only_calls_under_its_own_name_are_served(point, connect, request_line_and_host):
    """It listens on loopback, where a web page can reach it under another name, and it is no open proxy."""
    upstream, recorder = point()
    client = connect()
    head = request_line_and_host.format(port=client.address.split(":")[1])
    assert client.ask(head.encode() + b"\r\n\r\n").status == 403
    assert (upstream.connections, recorder.events()) == (0, [])


def test_a_switch_of_protocols_is_answered(point, connect):
    """A service that also uses realtime must get an answer it can report, not a dead connection."""
    point()
    assert connect().call("/realtime/v1/websocket", headers=b"Connection: Upgrade\r\nUpgrade: websocket\r\n").status


def test_a_strange_path_is_answered(point, connect):
    """Bad input is at every door, this one too."""
    point()
    assert connect().call("//[half-an-address").status


def test_without_a_database_a_call_is_refused_as_unavailable(connect):
    """Between two tests a service may still call; that must not reach the next test's database."""
    reply = connect().call()
    assert (reply.status, b"No database" in reply.body) == (503, True)


@pytest.mark.parametrize("junk", [b"hello there\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
def test_what_is_not_http_is_a_bad_request(point, connect, junk):
    """The client learns what was wrong, and nothing is recorded as a call."""
    _, recorder = point()
    assert connect().ask(junk).status == 400
    assert recorder.events() == []


def test_an_upstream_that_is_gone_is_a_502_with_the_reason(tap, connect):
    """The report has to tell a data API that died from a service that failed."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    recorder = Recorder()
    tap.point_at(Endpoint(url), recorder)
    assert connect().call().status == 502
    (reply,) = fields_of(recorder, "reply")
    assert (reply["status"], reply["sqlstate"]) == (502, None)
    assert "ConnectionRefusedError" in reply["reason"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [(CUT_SHORT[:30], "in the middle"), (b"not HTTP at all\r\n\r\n", "MessageError"), (b"", "closed the connection")],
    ids=["cut short", "not HTTP", "nothing"],
)
def test_an_upstream_without_a_whole_answer_is_a_502_with_the_reason(point, connect, method, answer, reason):
    """Half an answer must not reach the service as a whole one."""
    upstream, recorder = point([answer])
    reply = connect().call(method=method)
    assert (reply.status, upstream.connections) == (502, 1)
    assert reason in fields_of(recorder, "reply")[0]["reason"]


def test_a_body_cut_short_is_a_502_and_the_next_call_is_served(point, connect):
    """One broken answer is one failed call, not a broken tap."""
    point([CUT_SHORT])
    client = connect()
    assert [client.call().status, client.call().status] == [502, 200]


def test_a_connection_that_spoke_nonsense_is_closed(point, connect):
    """What is forgotten without being closed stays open until the tap ends."""
    upstream, _ = point([b"not HTTP at all\r\n\r\n", ERROR])
    client = connect()
    assert client.call().status == 502
    assert upstream.hung_up.wait(5)


def test_one_client_uses_one_connection_to_the_upstream(point, connect):
    """A connection a call would hide what keeping one does to a service."""
    upstream, _ = point()
    client = connect()
    assert [client.call(f"/{number}").status for number in range(5)] == [200] * 5
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("scripts", "statuses", "connections"),
    [([[ERROR]], [409, 200], 2), ([[ERROR], []], [409, 502], 2), ([[]], [502, 200], 2)],
    ids=["again on a new one", "but once only", "not on a first one"],
)
def test_an_idle_connection_that_was_closed_is_opened_again_once(point, connect, scripts, statuses, connections):
    """Servers close idle connections when they like; a client of theirs would connect again, and so must the tap."""
    upstream, recorder = point(*scripts)
    client = connect()
    first = client.call("/1").status
    assert upstream.closed.wait(10)
    assert [first, client.call("/2").status] == statuses
    assert upstream.connections == connections
    assert [fields["call"] for fields in fields_of(recorder, "reply")] == [1, 2]


def test_the_database_can_change_between_two_calls_of_one_client(point, connect):
    """A service stays up and keeps its connection while the tests change under it."""
    first, record_of_first = point(path="/first")
    client = connect()
    client.call("/rest/v1/a")
    client.call("/rest/v1/b")
    second, record_of_second = point(path="/second")
    client.call("/rest/v1/c")
    assert first.hung_up.wait(5), "what is not needed any more is not kept"
    targets = [[request.split()[1] for request in upstream.requests] for upstream in (first, second)]
    assert targets == [[b"/first/rest/v1/a", b"/first/rest/v1/b"], [b"/second/rest/v1/c"]]
    assert [fields["call"] for fields in fields_of(record_of_first, "call")] == [1, 2]
    assert [fields["call"] for fields in fields_of(record_of_second, "call")] == [1]


def test_many_clients_at_once_get_their_own_answers(point, connect):
    """Concurrent creates are what the kit is for: no answer may go astray, no number be given twice."""
    _, recorder = point()
    together = threading.Barrier(8)

    def work(name):
        client = connect()
        together.wait()
        return [
            json.loads(client.call(f"/rest/v1/{name}-{n}").body) == [{"target": f"/rest/v1/{name}-{n}"}]
            for n in range(10)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(answers) for answers in pool.map(work, range(8)))
    calls, replies = fields_of(recorder, "call"), fields_of(recorder, "reply")
    assert [fields["call"] for fields in calls] == [fields["call"] for fields in replies] == list(range(1, 81))
    assert len({fields["table"] for fields in calls}) == 80


def test_a_client_that_hangs_up_takes_its_upstream_connection_along(point, connect):
    """Otherwise a long session would run out of connections."""
    upstream, _ = point()
    client = connect()
    client.call()
    client.socket.close()
    assert upstream.hung_up.wait(5)
    assert connect().call().status == 200


@pytest.mark.parametrize("url", ["https://x.supabase.co", "127.0.0.1:80", "http://", "unix:///tmp/x"])
def test_an_address_it_cannot_speak_to_is_refused_at_once(tap, url):
    """Not when the first call comes, where it would look like the service's fault."""
    with pytest.raises(ValueError, match="plain HTTP"):
        tap.point_at(Endpoint(url), Recorder())
