"""The states of the bug hold rows of the kinds that the broken backend leaves, all of them and no other."""

import uuid

import pytest

from session_fix.subjects import variant

SESSION_SHAPES = """
  SELECT DISTINCT
    CASE WHEN s.user_id IS NULL THEN 'no user'
         WHEN EXISTS (SELECT FROM ai_sessions known WHERE known.id::text = s.user_id) THEN 'id of a session'
         WHEN s.user_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' THEN 'a UUID'
         ELSE 'a user' END,
    CASE WHEN s.updated_at = s.created_at THEN 'never touched'
         WHEN s.updated_at > s.created_at THEN 'touched' END,
    CASE WHEN EXISTS (SELECT FROM ai_interactions i WHERE i.session_id = s.id) THEN 'used' ELSE 'unused' END,
    substr(s.id::text, 15, 1) = '4' AND substr(s.id::text, 20, 1) IN ('8', '9', 'a', 'b') AS random_id
  FROM ai_sessions s
"""
INTERACTION_SHAPES = """
  SELECT DISTINCT
    s.id IS NOT NULL AS has_session, i.created_at > s.created_at AND i.created_at < s.updated_at AS before_touched,
    i.created_at > max(p.created_at) AS after_phantom, i.model_used IS NOT NULL AS of_model,
    substr(i.id::text, 15, 1) = '4' AS random_id
  FROM ai_interactions i
  LEFT JOIN ai_sessions s ON s.id = i.session_id
  LEFT JOIN ai_sessions p ON p.user_id = i.session_id::text AND p.created_at <= i.created_at
  GROUP BY i.id, s.id
"""


def shapes(database):
    """Return what kinds of rows there are."""
    return set(database.rows(SESSION_SHAPES)), set(database.rows(INTERACTION_SHAPES))


def counts(database, session_id):
    """Return how many rows carry the session id as their id, as their user, and as their session."""
    queries = (
        "SELECT count(*) FROM ai_sessions WHERE id = %s",
        "SELECT count(*) FROM ai_sessions WHERE user_id = %s::text",
        "SELECT count(*) FROM ai_interactions WHERE session_id = %s",
    )
    return [database.rows(query, session_id)[0][0] for query in queries]


@pytest.fixture
def service_directory():
    """Return the broken backend, whichever service the run is for."""
    return variant("before").directory


@pytest.fixture
def visit(service, frontend):
    """Return a function that has every kind of client use the service.

    It returns the session id that the frontend was promised, and a user whose id is a UUID.
    """

    def use():
        frontend.create_session()
        promised, account = frontend.create_session().session_id, str(uuid.uuid4())
        for text in ("hello", "and again"):
            frontend.query(promised, text)
        service.call("logger", "log_interaction", "hello", "hi")
        service.call("database", "create_session", "user-1")
        for user_id in ("user-2", account):
            of_user = service.call("database", "create_session", user_id).value
            for _ in range(2):
                service.call("logger", "log_interaction", "hello", "hi", session_id=of_user)
        return promised, account

    return use


def test_the_broken_backend_leaves_what_the_state_holds(visit, database, build):
    """The state is believed because the real service, asked by the same clients, leaves the same kinds of rows."""
    promised, _ = visit()
    assert counts(database, promised) == [0, 3, 0], "one phantom for the create and one for each query"
    assert shapes(build("production_after_the_bug", size=64)) == shapes(database)


def test_without_the_key_it_leaves_the_orphans_that_the_state_holds(visit, database, build):
    """Dropping the key ends the errors and not the bug: the phantoms go on, and now there are orphans."""
    database.rows("ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey")
    (promised, _), (_, erased) = visit(), visit()
    assert counts(database, promised) == [0, 3, 2]
    ((of_erased,),) = database.rows("SELECT id::text FROM ai_sessions WHERE user_id = %s", erased)
    database.rows("DELETE FROM ai_sessions WHERE id::text = %s OR user_id = %s", of_erased, of_erased)
    assert shapes(build("orphans", size=128)) == shapes(database)
