"""The first query of a session, at each layer: what the frontend, the logger and the database service each see."""

import uuid

import pytest

KEY_MISSING = "23503"  # Source: PostgreSQL manual, appendix "Error Codes"


def rows(database, session_id):
    """Count the session's own row, the phantoms that carry its id as their user, and its interactions."""
    return database.rows(
        "SELECT (SELECT count(*) FROM ai_sessions WHERE id::text = %s),"
        " (SELECT count(*) FROM ai_sessions WHERE user_id = %s),"
        " (SELECT count(*) FROM ai_interactions WHERE session_id::text = %s)",
        *[session_id] * 3,
    )[0]


@pytest.mark.session_fix(
    "scenario: first query of a session, at the API", before=(500, [KEY_MISSING]), otherwise=(200, [])
)
def test_first_query_at_the_api(frontend, service, database, expected):
    """The frontend creates a session and asks in it; only the broken service loses the interaction."""
    session_id = frontend.create_session().session_id
    answer = frontend.query(session_id, "hello")
    assert (answer.status, service.sqlstates()) == expected
    assert rows(database, session_id) == ((0, 2, 0) if expected[1] else (1, 0, 1))


@pytest.mark.session_fix("scenario: first interaction of a session, at the logger", before=KEY_MISSING, otherwise=None)
def test_first_interaction_at_the_logger(service, database, expected):
    """The logger is given a session id that nobody stored."""
    session_id = str(uuid.uuid4())
    outcome = service.call("logger", "log_interaction", "hello", "hi", session_id=session_id)
    assert outcome.code == expected
    assert rows(database, session_id) == ((0, 1, 0) if expected else (1, 0, 1))


@pytest.mark.session_fix("scenario: create, then log, at the database layer", before=KEY_MISSING, otherwise=None)
def test_create_then_log_at_the_database_layer(service, database, expected):
    """The id goes in the first position, as callers of the broken version pass it."""
    session_id = str(uuid.uuid4())
    assert service.call("database", "create_session", session_id).error_type is None
    outcome = service.call("database", "log_interaction", session_id, "hello", "hi")
    assert outcome.code == expected
    assert rows(database, session_id) == ((0, 1, 0) if expected else (1, 0, 1))


@pytest.mark.session_fix("scenario: a session asked about twice", before=[500, 500], otherwise=[200, 200])
def test_second_query_of_a_session(frontend, database, expected):
    """Making sure of the session again changes nothing in the fixes."""
    session_id = frontend.create_session().session_id
    assert [frontend.query(session_id, text).status for text in ("hello", "again")] == expected
    assert rows(database, session_id) == ((0, 3, 0) if expected[0] == 500 else (1, 0, 2))
