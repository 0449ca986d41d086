"""Rows that are found: each kind written to a private database, and a row beside it that is as it should be."""

# The statements below are made of the constants below.
# ruff: noqa: S608

import pytest

SESSION = """
INSERT INTO ai_sessions (id, created_at, updated_at)
VALUES ('11111111-abcd-4111-8111-111111111111', now(), now() + '1 s');
"""
LOGGED = "INSERT INTO ai_interactions (id, session_id, prompt, response, created_at, tokens_used)"
CHECKS = {"ai_sessions": "times_finite", "ai_interactions": "tokens_not_negative"}
UNCHECKED = "".join(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{check};" for table, check in CHECKS.items())
GONE = {f"schema/check-missing/{table}.{table}_{check}": None for table, check in CHECKS.items()}
KEYLESS = "ALTER TABLE ai_interactions DROP CONSTRAINT ai_interactions_session_id_fkey;"


def logged(values, source="ai_sessions"):
    """Return the statement that logs an interaction with these values for each row of the source."""
    return f"{LOGGED} SELECT gen_random_uuid(), {values} FROM {source};"


CASES = {
    "orphans that came in with triggers off": (
        SESSION
        + "SET session_replication_role = replica;"
        + logged("gen_random_uuid(), '', '', now(), 1", "generate_series(1, 3)")
        + logged("id, '', '', now(), 1"),
        {"rows/orphans": 3},
    ),
    "moments that Python cannot read": (
        UNCHECKED
        + """INSERT INTO ai_sessions (id, created_at, updated_at) VALUES
        (gen_random_uuid(), 'infinity', now()), (gen_random_uuid(), '-infinity', now()),
        (gen_random_uuid(), '20000-01-01', now()), (gen_random_uuid(), '0001-01-01 BC', now()),
        (gen_random_uuid(), '9999-12-31 23:59:59', now()), (gen_random_uuid(), '0001-01-01', now())""",
        {"rows/moment-out-of-range/ai_sessions.created_at": 4, **GONE},
    ),
    "moments that are missing": (
        SESSION + "INSERT INTO ai_sessions (id, created_at, updated_at)"
        "VALUES (gen_random_uuid(), NULL, NULL), (gen_random_uuid(), NULL, now())",
        {"rows/moment-missing/ai_sessions.created_at": 2, "rows/moment-missing/ai_sessions.updated_at": 1},
    ),
    "negative tokens": (
        UNCHECKED + SESSION + logged("id, '', '', now(), -1") + logged("id, '', '', now(), 0"),
        {"rows/negative-tokens": 1, **GONE},
    ),
    "tokens beyond an integer": (
        "ALTER TABLE ai_interactions ALTER tokens_used TYPE bigint;"
        + SESSION
        + logged("id, '', '', now(), 2147483647")
        + logged("id, '', '', now(), 2147483648"),
        {"schema/type/ai_interactions.tokens_used": None, "rows/too-many-tokens": 1},
    ),
    "a user_id that is too long, and not for the spaces at its end": (
        """ALTER TABLE ai_sessions ALTER user_id TYPE text;
        INSERT INTO ai_sessions SELECT gen_random_uuid(), u, now(), now() + '1 s'
        FROM unnest(ARRAY[repeat('x', 101), repeat('x', 100), rpad('x', 150), repeat('ß', 100)]) u""",
        {"schema/type/ai_sessions.user_id": None, "rows/too-long/ai_sessions.user_id": 1},
    ),
    "a prompt that is NULL": (
        "ALTER TABLE ai_interactions ALTER prompt DROP NOT NULL;"
        + SESSION
        + logged("id, NULL, '', now(), 1")
        + logged("id, '', '', now(), 1"),
        {"schema/nullable/ai_interactions.prompt": None, "rows/null/ai_interactions.prompt": 1},
    ),
    "two rows of one id": (
        "ALTER TABLE ai_sessions DROP CONSTRAINT ai_sessions_pkey CASCADE;" + SESSION + SESSION,
        {
            "rows/duplicate-ids/ai_sessions": 1,
            "schema/primary-key/ai_sessions": None,
            "schema/foreign-key-missing": None,
        },
    ),
    "a session_id that is text": (
        KEYLESS
        + "ALTER TABLE ai_interactions ALTER session_id TYPE text;"
        + SESSION
        + logged("s, '', '', now(), 1", "(SELECT id::text FROM ai_sessions UNION SELECT 'none') AS t(s)"),
        {"rows/orphans": 1, "schema/type/ai_interactions.session_id": None, "schema/foreign-key-missing": None},
    ),
    "a phantom whose user_id is a stored session's in capitals": (
        SESSION + "INSERT INTO ai_sessions SELECT gen_random_uuid(), upper(id::text), now(), now() FROM ai_sessions",
        {"rows/phantoms": 1},
    ),
    "a session that a phantom stands for is none itself, though it has the shape of one": (
        SESSION
        + """INSERT INTO ai_sessions SELECT '22222222-2222-4222-8222-222222222222', id, now(), now() FROM ai_sessions;
        INSERT INTO ai_sessions VALUES (gen_random_uuid(), '22222222-2222-4222-8222-222222222222', now(), now())""",
        {"rows/phantoms": 1},
    ),
    "a UUID that nothing else names": (
        SESSION + "INSERT INTO ai_sessions SELECT gen_random_uuid(), gen_random_uuid(), now(), now() FROM ai_sessions",
        {"rows/phantoms": 1},
    ),
    "an unused session of a user whose id is a UUID": (
        SESSION
        + logged("id, '', '', now(), 1")
        + """UPDATE ai_sessions SET user_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa';
        INSERT INTO ai_sessions SELECT gen_random_uuid(), user_id, now(), now() FROM ai_sessions""",
        {},
    ),
    "an unused session of a user with a name": (
        "INSERT INTO ai_sessions VALUES (gen_random_uuid(), 'user-17', now(), now())",
        {},
    ),
}


@pytest.mark.parametrize(("statement", "counts"), CASES.values(), ids=CASES)
def test_rows_are_counted_and_those_beside_them_are_not(database, found, statement, counts):
    """A repair begins with these numbers; one too many is a row that is changed for no reason."""
    database.rows(statement)
    told = found()
    assert {one: told[one].count if counts.get(one) else None for one in told} == counts
