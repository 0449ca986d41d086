"""Hand-made schemas reach head by their adoption and the ordinary revisions, with every row they had."""

import pytest

from session_fix import schema
from session_fix.rollout import adopting, objects
from session_fix.rollout.settlement import How

HEAD = objects.revisions()[-1]
SESSIONS = """
CREATE TABLE ai_sessions (
    id {id} {primary_key}, user_id {user_id}, created_at {moment}, updated_at {moment}{session_extra}
);
"""
INTERACTIONS = """
CREATE TABLE ai_interactions (
    id {id} {primary_key}, session_id {session_id} {given} {references}, prompt {text} {given}, response {text} {given},
    model_used {model}, tokens_used {tokens}, created_at {moment}{interaction_extra}
);
"""
USUAL = {
    "id": "uuid",
    "session_id": "uuid",
    "primary_key": "PRIMARY KEY",
    "user_id": "varchar(100)",
    "moment": "timestamp",
    "given": "NOT NULL",
    "references": "REFERENCES ai_sessions (id)",
    "text": "text",
    "model": "varchar(50)",
    "tokens": "integer",
    "session_extra": "",
    "interaction_extra": "",
    "after": "",
}
UNUSUAL = {
    "as the baseline": {},
    "timestamptz with defaults": {"moment": "timestamptz DEFAULT now()", "id": "uuid DEFAULT gen_random_uuid()"},
    "text without lengths": {"user_id": "text", "model": "text DEFAULT 'gpt-4o'", "tokens": "bigint"},
    "shorter texts": {"user_id": "varchar(40)", "model": "varchar(20)", "text": "varchar(4000)", "tokens": "smallint"},
    "nothing has to be given": {"given": ""},
    "a foreign key under another name": {"references": "CONSTRAINT fk_session REFERENCES ai_sessions (id)"},
    "no foreign key": {"references": ""},
    "a foreign key that cascades": {"references": "REFERENCES ai_sessions (id) ON DELETE CASCADE DEFERRABLE"},
    "a foreign key that is not valid": {
        "references": "",
        "after": "ALTER TABLE ai_interactions ADD CONSTRAINT theirs FOREIGN KEY (session_id) "
        "REFERENCES ai_sessions (id) NOT VALID",
    },
    "no primary keys": {"primary_key": "", "references": ""},
    "ids that are text": {"id": "varchar(36) DEFAULT gen_random_uuid()::text", "session_id": "text"},
    "things of its own": {
        "session_extra": ", title text, metadata jsonb NOT NULL DEFAULT '{}'",
        "interaction_extra": ", CONSTRAINT long_enough CHECK (length(prompt) >= 0), "
        "CONSTRAINT ai_interactions_tokens_not_negative CHECK (tokens_used >= 0)",
        "after": "CREATE INDEX by_session ON ai_interactions (session_id, created_at);"
        "CREATE INDEX by_user ON ai_sessions (user_id);"
        "CREATE INDEX ai_sessions_updated_at_idx ON ai_sessions (updated_at);"
        "ALTER TABLE ai_sessions ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY everybody ON ai_sessions USING (true);"
        "ALTER TABLE ai_sessions RENAME CONSTRAINT ai_sessions_pkey TO sessions_pk;"
        "GRANT ALL ON ai_sessions, ai_interactions TO anon",
    },
}
ROWS = """
INSERT INTO ai_sessions (id, user_id, created_at, updated_at)
SELECT ('5e551077-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'user-' || n,
    '2026-01-05 06:00:00.123456', '2026-01-06'
FROM generate_series(1, 20) n;
INSERT INTO ai_interactions (id, session_id, prompt, response, model_used, tokens_used, created_at)
SELECT ('17e6ac71-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
    ('5e551077-0000-4000-8000-' || lpad((1 + n % 20)::text, 12, '0'))::uuid,
    'prompt ' || n, 'response 🙂', 'gpt-4o', n, '2026-01-05 06:00:01'
FROM generate_series(1, 60) n;
"""
ORPHANS = """
INSERT INTO ai_interactions (id, session_id, prompt, response, created_at)
SELECT ('0a9fa400-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
    ('0a9fa400-1111-4000-8000-' || lpad((n % 3)::text, 12, '0'))::uuid,
    'orphan', '', '2026-01-05 07:00:00'
FROM generate_series(1, 9) n;
"""
# Every value as text that does not depend on the column's type: a moment is one of UTC, as the backend writes it.
CONTENT = {
    "ai_sessions": "SELECT id::text, user_id::text, extract(epoch FROM created_at AT TIME ZONE 'UTC')::text "
    "FROM ai_sessions ORDER BY 1",
    "ai_interactions": "SELECT id::text, session_id::text, prompt::text, response::text, model_used::text, "
    "tokens_used::text, extract(epoch FROM created_at AT TIME ZONE 'UTC')::text FROM ai_interactions ORDER BY 1",
}


@pytest.fixture
def empty(session_fix_stack):
    """Yield a private database with nothing in it, on a server that has the data API's roles."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    yield database
    databases.drop(database)


def perform(database, adoption):
    """Carry the steps of an adoption out, one transaction each."""
    for step in adoption.steps:
        with database.connect(autocommit=True) as connection:
            connection.execute("SET search_path = public")
            for statement in (*step.statements, *step.notes):
                connection.execute(statement)


def content(database):
    """Return every value of both tables."""
    return {table: set(database.rows(query)) for table, query in CONTENT.items()}


CASES = {
    f"{name}, {content}": (unusual, rows)
    for name, unusual in UNUSUAL.items()
    for content, rows in {"empty": "", "rows": ROWS, "orphans": ROWS + ORPHANS}.items()
    if content != "orphans" or unusual.get("references") == ""  # a foreign key lets none in
}


@pytest.mark.parametrize(("unusual", "rows"), CASES.values(), ids=CASES)
def test_it_reaches_head_with_every_row(empty, unusual, rows):
    """What is there stays there; only sessions for orphans come to it."""
    values = USUAL | unusual
    made = (SESSIONS + INTERACTIONS).format(**values)
    empty.rows(f"SET TimeZone = 'UTC'; {made} {rows} {values['after']}")
    before = content(empty)
    _, adoption = adopting.read(empty.params, timeout_s=10)
    assert not adoption.in_the_way, adoption.settlements
    perform(empty, adoption)
    assert schema.migrate(empty.params) == HEAD
    after = content(empty)
    assert after["ai_interactions"] == before["ai_interactions"]
    assert after["ai_sessions"] >= before["ai_sessions"]
    assert len(after["ai_sessions"]) == len(before["ai_sessions"]) + (3 if ORPHANS in rows else 0)
    with empty.connect() as connection:
        differs = objects.difference(objects.read(connection), objects.of_revision(HEAD), exact=False)
    assert {name: two for name, two in differs.items() if two[1] is not None} == {}
    kept = {one.name for one in adoption.settlements if one.how is How.KEPT}
    assert differs.keys() <= kept  # what else there is was listed as somebody's own


def test_there_are_twelve():
    """The matrix asks for twelve hand-made schemas."""
    assert len(UNUSUAL) == 12


@pytest.mark.parametrize("revision", objects.revisions())
def test_what_equals_a_revision_is_only_noted(empty, revision):
    """Somebody dropped the version table, or restored the schema without it."""
    schema.migrate(empty.params, to=revision)
    empty.rows("DROP TABLE alembic_version")
    _, adoption = adopting.read(empty.params, timeout_s=10)
    assert [step.id for step in adoption.steps] == ["adopt-stamp"]
    assert objects.of_revision(adoption.revision) == objects.of_revision(revision)
    perform(empty, adoption)
    assert empty.rows("SELECT version_num FROM alembic_version") == [(adoption.revision,)]


@pytest.mark.parametrize(
    ("unusual", "rows", "said"),
    [
        ({"given": ""}, "INSERT INTO ai_interactions (id) VALUES (gen_random_uuid())", "rows in which it is: 1"),
        (
            {"primary_key": "", "references": ""},
            "INSERT INTO ai_sessions (id) SELECT '5e551077-0000-4000-8000-000000000001' FROM generate_series(1, 3)",
            "share it: 2",
        ),
        (
            {"id": "text", "session_id": "text"},
            "INSERT INTO ai_sessions (id) VALUES ('one')",
            "no uuid: 1",
        ),
        ({"tokens": "jsonb"}, "", "cannot become integer"),
        ({"session_extra": ", tenant uuid NOT NULL"}, "", "has to be given"),
        ({"references": "REFERENCES others (id)"}, "", "leads to public.others"),
        ({"interaction_extra": ", CONSTRAINT ai_interactions_time_finite CHECK (true)"}, "", "Rename yours"),
        ({"after": "CREATE INDEX ai_sessions_updated_at_idx ON ai_sessions (user_id)"}, "", "Rename yours"),
        ({"after": "ALTER TABLE ai_interactions DISABLE TRIGGER ALL"}, "", "ENABLE TRIGGER ALL"),
    ],
)
def test_what_only_a_person_can_decide_is_in_the_way(empty, unusual, rows, said):
    """Guessing would lose rows, or change what somebody relies on."""
    values = USUAL | unusual
    empty.rows("CREATE TABLE others (id uuid PRIMARY KEY)")
    empty.rows(f"{(SESSIONS + INTERACTIONS).format(**values)} {rows}; {values['after']}")
    _, adoption = adopting.read(empty.params, timeout_s=10)
    assert any(said in one.why for one in adoption.in_the_way), adoption.settlements
