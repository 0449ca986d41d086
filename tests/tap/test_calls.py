"""What the record says of a call to the data API: enough to draw and to judge it, no key and no text."""

import json

import pytest

from session_fix.tap.calls import reply_fields, request_fields
from session_fix.tap.messages import Request, Response

SESSION = "0b8f3f60-55d3-4c2c-9e1b-6a3f0c7d9e21"
CANARY = "canary-that-nobody-may-read"


def asked(method="GET", target="/rest/v1/ai_sessions", *, body=b"", headers=()):
    """Return what is recorded of such a request."""
    return request_fields(Request(method, target, tuple(headers), body))


def answered(status, body):
    """Return what is recorded of such a reply."""
    return reply_fields(Response(status, b"", (), body if isinstance(body, bytes) else json.dumps(body).encode()))


def test_an_upsert_is_recorded_with_table_conflict_and_row():
    """The fix is this one call: a diagram has to show that it is atomic."""
    row = {"id": SESSION, "prompt": CANARY, "tokens_used": 3, "user_id": None}
    fields = asked(
        "POST",
        "/rest/v1/ai_sessions?on_conflict=id&columns=%22id%22",
        body=json.dumps(row).encode(),
        headers=[(b"Prefer", b"return=representation, resolution=ignore-duplicates")],
    )
    assert fields == {
        "method": "POST",
        "table": "ai_sessions",
        "filters": {},
        "on_conflict": "id",
        "prefer": ["resolution=ignore-duplicates", "return=representation"],
        "body": {"id": SESSION, "prompt": "text(27)", "tokens_used": 3, "user_id": None},
    }


def test_filters_show_operators_and_ids():
    """Which row was asked for is what tells two calls apart."""
    fields = asked(target=f"/rest/v1/ai_interactions?select=id&session_id=eq.{SESSION}&prompt=like.*{CANARY}*&limit=1")
    assert fields["table"] == "ai_interactions"
    assert fields["filters"] == {"session_id": f"eq.{SESSION}", "prompt": "like.text(29)"}
    assert fields["body"] is None


@pytest.mark.parametrize(
    "target",
    [
        f"/rest/v1/ai_sessions?apikey={CANARY}",
        f"/rest/v1/ai_sessions?apikey={CANARY}.payload.signature",
        f"/rest/v1/ai_interactions?prompt={CANARY}",
        f"/rest/v1/ai_interactions?or=(prompt.eq.{CANARY},response.eq.x)",
        f"/rest/v1/ai_interactions?prompt=not.eq.{CANARY}",
        f"/rest/v1/rpc/log?prompt={CANARY}",
    ],
)
def test_no_key_or_text_of_an_address_is_recorded(target):
    """The gateway takes a key from the address too, and a function's arguments have no operator before a dot."""
    assert CANARY not in json.dumps(asked(target=target))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"apikey", CANARY.encode())],
        [(b"Authorization", b"Bearer " + CANARY.encode())],
        [(b"Cookie", CANARY.encode()), (b"X-Anything", CANARY.encode())],
    ],
)
def test_no_header_but_prefer_is_recorded(headers):
    """Keys and tokens travel in headers."""
    assert CANARY not in json.dumps(asked("POST", headers=headers, body=b"{}"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", None),
        (b"{", "text(17)"),
        (b"\xff\xfe", "text(17)"),
        (json.dumps([{"prompt": CANARY}, {}]).encode(), "list(2)"),
        (json.dumps(CANARY).encode(), "text(27)"),
        (b'{"payload": {"text": "hello"}}', {"payload": {"text": "text(5)"}}),
    ],
)
def test_a_body_is_recorded_by_its_shape(body, said):
    """Bad input is recorded too: it must neither break the tap nor show what it holds."""
    assert asked("POST", body=body)["body"] == said


@pytest.mark.parametrize("depth", [600, 100_000])
def test_a_deep_body_is_recorded_like_any_other(depth):
    """The depth of a body is the client's choice; an error here would drop its connection."""
    asked("POST", body=b'{"a":' * depth + b"1" + b"}" * depth)


@pytest.mark.parametrize("target", ["//[half-an-address", "/auth/v1/health", "/rest/v1/", "/"])
def test_any_path_can_be_recorded(target):
    """Clients ask for what they like; the tap has an answer to all of it."""
    assert asked(target=target)["method"] == "GET"


def test_a_path_outside_the_rest_api_keeps_its_name():
    """A call to another API of the gateway must not look like a table."""
    assert asked(target="/auth/v1/health?x=1")["table"] == "/auth/v1/health"


@pytest.mark.parametrize(
    ("status", "body", "code", "sqlstate"),
    [
        (409, {"code": "23503", "message": "violates foreign key"}, "23503", "23503"),
        (400, {"code": "22P02", "message": "invalid input"}, "22P02", "22P02"),
        (503, {"code": "PGRST002"}, "PGRST002", None),
        (401, {"code": 401, "msg": "no key"}, "401", None),
        (404, {"code": "23x03"}, "23x03", None),
        (200, {"code": "23503"}, None, None),
        (500, {"message": "23503 23503"}, None, None),
        (500, [{"code": "23503"}], None, None),
        (502, b"<html>23503</html>", None, None),
        (500, b"", None, None),
    ],
)
def test_only_the_code_of_an_error_is_an_sqlstate(status, body, code, sqlstate):
    """A row may have a column of that name, and a message may quote anything: neither is an error."""
    fields = answered(status, body)
    assert (fields["status"], fields["code"], fields["sqlstate"]) == (status, code, sqlstate)


@pytest.mark.parametrize(
    ("status", "body", "rows"),
    [(201, [{"id": SESSION}], 1), (200, [], 0), (200, [1, 2, 3], 3), (204, b"", None), (201, {"id": SESSION}, None)],
)
def test_rows_are_counted_only_where_rows_came_back(status, body, rows):
    """No row and no answer about rows are different things: the fix depends on it."""
    assert answered(status, body)["rows"] == rows


def test_nothing_of_a_reply_but_its_numbers_is_recorded():
    """Error messages quote the row that was refused."""
    error = {"code": "23505", "message": CANARY, "details": f"Key (id)=({CANARY}) already exists.", "hint": CANARY}
    assert CANARY not in json.dumps([answered(409, error), answered(200, [{"prompt": CANARY}])])
