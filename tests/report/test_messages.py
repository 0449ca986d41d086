"""What of a record becomes an arrow or a note, and what it says."""

import pytest

from session_fix.report.messages import BACKEND, DATABASE, FRONTEND, Message, messages

SESSION = "0b8f3f60-55d3-4c2c-9e1b-6a3f0c7d9e21"
CALL = {"call": 1, "method": "GET", "table": "t", "filters": {}, "on_conflict": None, "prefer": [], "body": None}
REPLY = {"call": 1, "status": 200, "code": None, "sqlstate": None, "rows": None}


@pytest.fixture
def message(events):
    """Return a function that gives the one message of an event, None when it is not drawn."""

    def of(kind, **fields):
        drawn = messages(events([(kind, "anybody", fields)]))
        assert len(drawn) <= 1
        return drawn[0] if drawn else None

    return of


def test_a_flow_is_drawn_in_the_order_of_its_events(events, query):
    """The diagram is the record, made visible: nothing is left out but a plain success, nothing is added."""
    drawn = messages(events(query("23503")))
    assert [(one.source, one.target, one.good) for one in drawn] == [
        (FRONTEND, BACKEND, None),
        (BACKEND, BACKEND, None),
        (BACKEND, DATABASE, None),
        (DATABASE, BACKEND, False),
        (BACKEND, BACKEND, False),
        (BACKEND, FRONTEND, False),
    ]
    assert [one.text for one in drawn] == [
        "POST /smart/query session_id=0b8f3f60",
        "log_interaction(session_id=0b8f3f60)",
        "POST ai_interactions session_id=0b8f3f60",
        "409 23503 foreign_key_violation",
        "raises APIError 23503",
        "500",
    ]


def test_nothing_is_drawn_of_nothing():
    """A report of an empty record must not show a flow."""
    assert messages([]) == []


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("rows", {"sessions": 1, "phantoms": 0, "interactions": 1}),
        ("return", {"function": "log_interaction", "depth": 0, "value": True}),
    ],
)
def test_what_passes_between_nobody_is_not_drawn(message, kind, fields):
    """The look into the database is ours, and a plain success says nothing."""
    assert message(kind, **fields) is None


@pytest.mark.parametrize("value", [SESSION, None, False, 1])
def test_what_a_function_returned_is_drawn_one_step_in(message, value):
    """An id that comes back, or a refusal without an error, explains the next call."""
    drawn = message("return", function="f", depth=1, value=value)
    assert drawn == Message(BACKEND, BACKEND, f"= {str(value)[:8]}", depth=2)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"filters": {"id": f"eq.{SESSION}"}}, "GET t id=eq.0b8f3f60"),
        ({"filters": {"or": f"(id.eq.{SESSION},id.eq.{SESSION})"}}, "GET t or=(id.eq.0b8f3f60,id.eq.0b8f3f60)"),
        ({"method": "POST", "body": {"id": SESSION, "user_id": None, "prompt": "text(9)"}}, "POST t id=0b8f3f60"),
        ({"method": "POST", "body": "list(2)"}, "POST t"),
        ({"method": "POST", "prefer": ["resolution=ignore-duplicates"]}, "POST t on conflict do nothing"),
        ({"method": "POST", "prefer": ["resolution=merge-duplicates"], "on_conflict": "id"}, "POST t"),
    ],
)
def test_a_call_says_what_was_asked_of_which_row(message, fields, text):
    """Whether a write can be repeated safely is seen here or nowhere."""
    assert message("call", **(CALL | fields)).text == text


@pytest.mark.parametrize(
    ("fields", "text", "good"),
    [
        ({"status": 201, "rows": 1}, "201 1 row", True),
        ({"status": 200, "rows": 0}, "200 0 rows", True),
        ({"status": 204}, "204", True),
        ({"status": 409, "code": "23505", "sqlstate": "23505"}, "409 23505 unique_violation", False),
        ({"status": 503, "code": "PGRST002"}, "503 PGRST002", False),
        ({"status": 401, "code": 401}, "401 401", False),
        ({"status": 400, "code": ["odd"]}, "400 ['odd']", False),
        ({"status": 502}, "502", False),
        ({"status": 399}, "399", True),
        ({"status": 400}, "400", False),
    ],
)
def test_a_reply_says_how_it_went(message, fields, text, good):
    """Errors carry PostgreSQL's own name for the code; whatever a gateway calls a code must not end the report."""
    drawn = message("reply", **(REPLY | fields))
    assert (drawn.text, drawn.good) == (text, good)


@pytest.mark.parametrize(
    ("status", "body", "text", "good"),
    [
        (200, {"session_id": SESSION, "items": "list(1)"}, "200 session_id=0b8f3f60", True),
        (200, "text(9)", "200", True),
        (500, {"session_id": SESSION}, "500", False),
        (422, {"detail": "list(1)"}, "422", False),
    ],
)
def test_an_answer_shows_the_session_only_when_there_is_one(message, status, body, text, good):
    """What the frontend believes from here on is this id."""
    drawn = message("answer", path="/session/create", status=status, body=body)
    assert (drawn.source, drawn.target, drawn.text, drawn.good) == (BACKEND, FRONTEND, text, good)


def test_arguments_that_are_not_shown_are_hinted_at(message):
    """A call that seems to have one argument fewer would look like the bug."""
    arguments = {"session_id": SESSION, "prompt": "text(5)", "model_used": "text(3)"}
    drawn = message("enter", function="log_interaction", depth=3, arguments=arguments)
    assert (drawn.text, drawn.depth) == ("log_interaction(session_id=0b8f3f60, ...)", 3)


@pytest.mark.parametrize(("code", "text"), [("23505", "raises APIError 23505"), (None, "raises APIError")])
def test_an_error_is_drawn_with_its_code_and_without_its_message(message, code, text):
    """Messages quote users' data."""
    error = {"type": "APIError", "code": code, "message": "Key (id)=(canary) already exists"}
    drawn = message("raise", function="f", depth=0, error=error)
    assert drawn == Message(BACKEND, BACKEND, text, good=False, depth=1)
