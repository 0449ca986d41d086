"""HTTP messages as bytes: whatever way they arrive they are one message or an error, and go on with nothing lost."""

import io

import pytest

from session_fix.tap import messages
from session_fix.tap.messages import MessageError, Request, Response

POST = b'POST /rest/v1/ai_sessions?select=id HTTP/1.1\r\nHost: tap\r\nPrefer: a\r\nContent-Length: 8\r\n\r\n{"a": 1}'
CHUNKED = (
    b'POST /x HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n5;note=1\r\n": 1}\r\n0\r\n\r\n'
)
OK = b"HTTP/1.1 200 Fine By Me\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"


def read(data, *, size=None, to=None):
    """Return what is read from a connection that brings ``data`` in pieces of ``size`` bytes and ends then.

    A request, or the response to a request of method ``to``.
    """
    stream = io.BytesIO(data)

    def receive(limit):
        return stream.read(min(limit, size or limit))

    return messages.read_response(receive, to=to) if to else messages.read_request(receive)


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("data", [POST, CHUNKED], ids=["with a length", "chunked"])
def test_a_request_is_read_whole_in_whatever_pieces_it_comes(data, size):
    """Where TCP cuts a message is chance."""
    request = read(data, size=size)
    assert request.method == "POST"
    assert request.target == data.split()[1].decode()
    assert request.raw_headers[0] == (b"Host", b"tap")
    assert request.body == b'{"a": 1}'


@pytest.mark.parametrize("size", [None, 1, 7])
def test_a_response_is_read_whole_in_whatever_pieces_it_comes(size):
    """Status, reason and body are what a call is judged by."""
    response = read(OK, size=size, to="POST")
    assert (response.status, response.reason, response.body) == (200, b"Fine By Me", b"[]")
    assert response.raw_headers == ((b"Content-Type", b"application/json"), (b"Content-Length", b"2"))


def test_headers_are_found_by_lower_case_name_and_the_last_one_wins():
    """Clients write header names as they like."""
    request = read(b"GET / HTTP/1.1\r\nApiKey: 1\r\nAPIKEY: 2\r\n\r\n")
    assert request.headers == {b"apikey": b"2"}
    assert request.raw_headers == ((b"ApiKey", b"1"), (b"APIKEY", b"2"))


@pytest.mark.parametrize("to", [None, "GET", "HEAD"])
def test_a_connection_closed_before_a_message_brings_none(to):
    """A peer that hangs up between two messages has done nothing wrong."""
    assert read(b"", to=to) is None


@pytest.mark.parametrize("length", [4, len(POST) - 1])
def test_a_request_cut_short_is_an_error(length):
    """Half a request must not reach the data API."""
    with pytest.raises(MessageError, match="in the middle"):
        read(POST[:length])


@pytest.mark.parametrize(
    "cut", [b"HTTP/1.1 200 O", OK[:-1], OK[:-2], CHUNKED.replace(b"POST /x HTTP/1.1", b"HTTP/1.1 200 OK")[:-2]]
)
def test_a_response_cut_short_is_an_error(cut):
    """A reply that was lost on the way must not look like a short one."""
    with pytest.raises(MessageError, match="in the middle"):
        read(cut, to="GET")


@pytest.mark.parametrize("to", [None, "GET", "HEAD"])
def test_what_is_not_http_is_an_error(to):
    """A peer that speaks another protocol is named as such, whatever was asked of it."""
    with pytest.raises(MessageError):
        read(b"\x16\x03\x01 hello there\r\n\r\n", to=to)


def test_a_head_response_ends_with_its_headers():
    """Its length is that of the body a GET would have had; waiting for that body would hang."""
    response = read(OK[:-2], to="HEAD")
    assert (response.status, response.body) == (200, b"")
    assert (b"Content-Length", b"2") in response.raw_headers


def test_a_head_response_cut_short_is_an_error():
    """Half a head is as little an answer as half a body."""
    with pytest.raises(MessageError):
        read(b"HTTP/1.1 200 OK\r\nContent-Len", to="HEAD")


def test_a_head_response_may_have_headers_as_long_as_any_other():
    """The stream's own limit for a line must not come out as an error of asyncio."""
    long = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n"
    assert read(long, to="HEAD").status == read(long, to="GET").status == 200


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_that_can_have_no_body_ends_with_its_headers(status):
    """No length says so: the status does."""
    response = read(b"HTTP/1.1 %d X\r\nX-A: b\r\n\r\n" % status, to="GET")
    assert (response.status, response.body) == (status, b"")


def test_an_interim_response_is_not_the_answer():
    """RFC 9110, section 15.2: a client must be able to read 1xx responses that come before the final one."""
    assert read(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, to="GET").status == 200


@pytest.mark.parametrize("to", [None, "GET"])
def test_a_body_that_is_too_large_is_refused_as_that(monkeypatch, to):
    """Bodies are held in memory; the limit is a stated one, not the machine's."""
    first_line = b"HTTP/1.1 200 OK" if to else b"POST / HTTP/1.1"
    monkeypatch.setattr(messages, "LARGEST_MESSAGE", 4)
    assert read(first_line + b"\r\nContent-Length: 4\r\n\r\n1234", to=to).body == b"1234"
    with pytest.raises(MessageError, match="larger than 4 bytes"):
        read(first_line + b"\r\nContent-Length: 5\r\n\r\n12345", to=to, size=1)


def test_a_second_request_before_the_answer_is_refused_as_that():
    """One call at a time on a connection: a pipelined one would be recorded at a time when it was not looked at."""
    with pytest.raises(MessageError, match="second message"):
        read(POST + POST)


def test_a_request_to_switch_protocols_is_read_as_the_request_it_is():
    """RFC 9110, section 7.8: a server may ignore Upgrade; what it may not do is to drop the client without a word."""
    request = read(b"GET /realtime/v1/websocket HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (request.method, request.target) == ("GET", "/realtime/v1/websocket")


@pytest.mark.parametrize(
    "both", [b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"Content-Length: 2\r\nContent-Length: 3"]
)
def test_a_request_of_two_lengths_is_an_error(both):
    """Two readers could take it for two different requests: the tap's record would not be what the database got."""
    with pytest.raises(MessageError):
        read(b"POST / HTTP/1.1\r\n" + both + b"\r\n\r\n0\r\n\r\n")


HOP_BY_HOP = [(name, b"v") for name in (b"Connection", b"Keep-Alive", b"TE", b"Trailer", b"Upgrade", b"Expect")]
KEPT = ((b"apikey", b"k"), (b"Prefer", b"return=minimal"), (b"prefer", b"resolution=ignore-duplicates"))


def test_a_request_goes_on_with_its_own_headers_and_another_host_and_length():
    """What concerns this connection only stays here; all the rest goes on in its order and spelling."""
    dropped = ((b"HOST", b"tap"), *HOP_BY_HOP, (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"99"))
    request = Request("POST", "/a?b=c", (*KEPT[:1], *dropped, *KEPT[1:]), b"[1]")
    assert messages.request_bytes(request, target="/db/a?b=c", host="127.0.0.1:9") == (
        b"POST /db/a?b=c HTTP/1.1\r\nhost: 127.0.0.1:9\r\napikey: k\r\nPrefer: return=minimal\r\n"
        b"prefer: resolution=ignore-duplicates\r\ncontent-length: 3\r\n\r\n[1]"
    )


@pytest.mark.parametrize("value", [b"X-One", b"keep-alive, X-One", b"x-one,close"])
def test_headers_that_are_named_as_this_connections_own_stay_here(value):
    """RFC 9110, section 7.6.1: who sends them has said that they are not for the other side."""
    headers = (
        (b"x-ONE", b"1"),
        (b"Connection", value),
        (b"X-Two", b"2"),
        (b"connection", b"X-Three"),
        (b"X-Three", b"3"),
    )
    sent = messages.request_bytes(Request("GET", "/", headers, b""), target="/", host="h")
    assert sent == b"GET / HTTP/1.1\r\nhost: h\r\nX-Two: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", b"", b"0"), ("PATCH", b"", b"0"), ("PUT", b"", b"0"), ("GET", b"", None), ("DELETE", b"[]", b"2")],
)
def test_a_request_has_a_length_exactly_when_it_may_have_a_body(method, body, length):
    """RFC 9110, section 8.6: a POST without a body says so; a GET says nothing."""
    sent = messages.request_bytes(Request(method, "/", (), body), target="/", host="h")
    assert read(sent).headers.get(b"content-length") == length


def test_a_response_goes_on_with_its_own_headers_and_the_length_of_its_body():
    """A chunked body was put together here: it has a length now."""
    response = Response(
        201, b"Created", ((b"Transfer-Encoding", b"chunked"), *HOP_BY_HOP, (b"Location", b"/1")), b"[1]"
    )
    sent = messages.response_bytes(response)
    assert sent == b"HTTP/1.1 201 Created\r\nLocation: /1\r\ncontent-length: 3\r\n\r\n[1]"


@pytest.mark.parametrize(
    ("status", "headers", "length"),
    [
        (200, ((b"Content-Length", b"17"),), b"17"),
        (200, (), b"0"),
        (204, (), None),
        (304, ((b"Content-Length", b"17"),), None),
    ],
)
def test_a_response_without_a_body_says_what_length_it_has(status, headers, length):
    """The answer to HEAD keeps the length it told of; 204 and 304 can have none."""
    sent = messages.response_bytes(Response(status, b"X", headers, b""))
    lengths = [value for name, value in read(sent, to="HEAD").raw_headers if name == b"content-length"]
    assert lengths == ([length] if length else [])
