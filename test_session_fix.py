"""The testing checklist: nine lines, each run against every variant and held to what that variant must come to."""

import uuid

import pytest
from postgrest.exceptions import APIError

KEY_MISSING = "23503"  # Source: PostgreSQL manual, appendix "Error Codes"
checklist = pytest.mark.session_fix


def outcome_word(outcome, stored):
    """Say what a call came to: the SQLSTATE or type of its error, else whether the row is there."""
    return outcome.code or outcome.error_type or ("stored" if stored else "not stored")


def sessions(database, session_id):
    """Count the sessions of that id."""
    return database.rows("SELECT count(*) FROM ai_sessions WHERE id = %s", session_id)[0][0]


def interactions(database, session_id):
    """Count the interactions of that session."""
    return database.rows("SELECT count(*) FROM ai_interactions WHERE session_id = %s", session_id)[0][0]


@checklist("create_session with an auto-generated id", otherwise="stored")
def test_create_with_an_auto_generated_id(service, database, expected):
    """Even the broken service stores sessions under ids of its own."""
    outcome = service.call("database", "create_session")
    assert outcome_word(outcome, sessions(database, outcome.value)) == expected


@checklist("create_session with a given id", before="TypeError", otherwise="stored")
def test_create_with_a_given_id(service, database, expected):
    """This is what the broken service cannot do: it has no parameter for the frontend's id."""
    session_id = str(uuid.uuid4())
    outcome = service.call("database", "create_session", session_id=session_id)
    assert outcome_word(outcome, sessions(database, session_id)) == expected


@checklist(
    "re-create an existing session without error", before=["stored", "stored", 3], otherwise=["stored", "stored", 1]
)
def test_recreate_an_existing_session(service, database, expected):
    """Repeating is harmless in the fixes; the broken service takes the id for a user and stores phantoms."""
    session_id = service.call("database", "create_session").value
    again = [service.call("database", "create_session", session_id) for _ in range(2)]
    words = [outcome_word(outcome, sessions(database, session_id)) for outcome in again]
    assert [*words, database.rows("SELECT count(*) FROM ai_sessions")[0][0]] == expected


@checklist("log_interaction for a new session", before=KEY_MISSING, otherwise="stored")
def test_log_for_a_new_session(service, database, expected):
    """The bug itself: nobody stored the session that the frontend names."""
    session_id = str(uuid.uuid4())
    outcome = service.call("logger", "log_interaction", "hello", "hi", session_id=session_id)
    assert outcome_word(outcome, interactions(database, session_id)) == expected


@checklist("log_interaction for an existing session", before=["stored", 2], otherwise=["stored", 1])
def test_log_for_an_existing_session(service, database, expected):
    """The broken service logs where the session happens to exist, and stores a phantom beside it."""
    session_id = service.call("database", "create_session").value
    outcome = service.call("logger", "log_interaction", "hello", "hi", session_id=session_id)
    word = outcome_word(outcome, interactions(database, session_id))
    assert [word, database.rows("SELECT count(*) FROM ai_sessions")[0][0]] == expected


@checklist("foreign key respected", otherwise=[KEY_MISSING, 0])
def test_foreign_key_respected(frontend, supabase, database, expected):
    """After a service has worked in it, the database still refuses an interaction in a stranger's session."""
    frontend.query(frontend.create_session().session_id, "hello")
    row = {"id": str(uuid.uuid4()), "session_id": str(uuid.uuid4()), "prompt": "hello", "response": "hi"}
    with pytest.raises(APIError) as refused:
        supabase.client().table("ai_interactions").insert(row).execute()
    assert [refused.value.code, interactions(database, row["session_id"])] == expected


@checklist("no duplicate key errors", before=[KEY_MISSING], otherwise=[])
def test_no_duplicate_key_errors(service, frontend, expected):
    """Creating twice and querying twice, one after the other, hits no key; only the bug's own error shows."""
    session_id = frontend.create_session().session_id
    service.call("database", "create_session", session_id)
    frontend.query(session_id, "hello")
    assert service.sqlstates() == expected


@checklist("sessions visible through the Supabase client", before=[], otherwise=["the frontend's"])
def test_sessions_visible(frontend, supabase, expected):
    """What the frontend was promised can be read back through the data API."""
    session_id = frontend.create_session().session_id
    found = supabase.client().table("ai_sessions").select("id").eq("id", session_id).execute().data
    assert ["the frontend's" for row in found if row["id"] == session_id] == expected


@checklist("interactions visible through the Supabase client", before=[], otherwise=["hello"])
def test_interactions_visible(frontend, supabase, expected):
    """What was asked can be read back through the data API."""
    session_id = frontend.create_session().session_id
    frontend.query(session_id, "hello")
    found = supabase.client().table("ai_interactions").select("prompt").eq("session_id", session_id).execute().data
    assert [row["prompt"] for row in found] == expected
