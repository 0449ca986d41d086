"""The plan of an adoption is carried out like any other: measured, resumable after each step, and read back."""

import pytest

from session_fix.errors import RolloutRefusedError
from session_fix.rollout import adopting, apply, objects, planning, verify
from session_fix.rollout.happening import Done
from session_fix.rollout.plan import Kind

HEAD = objects.revisions()[-1]
# What an adoption has steps of each kind for.
SCHEMA = """
CREATE TABLE ai_sessions (id text DEFAULT gen_random_uuid()::text UNIQUE, user_id varchar(40),
    created_at timestamp, updated_at timestamp);
CREATE TABLE ai_interactions (id uuid, session_id text REFERENCES ai_sessions (id), prompt text, response text NOT NULL,
    model_used text, tokens_used bigint, created_at timestamptz DEFAULT now(), note text);
CREATE INDEX theirs ON ai_sessions (updated_at);
INSERT INTO ai_sessions (user_id, created_at, updated_at)
SELECT 'user-' || n, now(), now() FROM generate_series(1, 5) n;
INSERT INTO ai_interactions (id, session_id, prompt, response)
SELECT gen_random_uuid(), id, 'prompt', 'response' FROM ai_sessions;
"""


class KilledError(Exception):
    """Ends an attempt."""


@pytest.fixture
def hand_made(session_fix_stack):
    """Yield a database with that schema."""
    databases = session_fix_stack.databases
    databases.template()
    database = databases.empty()
    database.rows(SCHEMA)
    yield database
    databases.drop(database)


@pytest.fixture
def adopted(hand_made, session_fix_stack):
    """Return the plan of its adoption, measured on the server of these tests."""
    made, _ = planning.adopted(hand_made.params, server=session_fix_stack.databases.server)
    return made.plan


def test_every_step_was_measured_on_a_copy(adopted):
    """What would fail at night has failed by day."""
    assert adopted.measured_on
    assert {step.kind for step in adopted.steps} == set(Kind)
    rewriting = [step.id for step in adopted.steps if step.rewrites]
    assert rewriting[:2] == ["adopt-ai_sessions.id-type", "adopt-ai_interactions.session_id-type"], rewriting
    assert "rewrites-table" in adopted.hazards


def test_an_adoption_goes_on_wherever_it_ended(hand_made, adopted):
    """Each attempt ends after one step, as if it had been killed there."""

    def end_after_a_step(event):
        if isinstance(event, Done):
            raise KilledError

    for _ in adopted.steps:
        with pytest.raises(KilledError):
            apply.apply(adopted, hand_made.params, allowed=adopted.hazards, on=end_after_a_step)
    assert apply.apply(adopted, hand_made.params, allowed=adopted.hazards).done == ()
    with hand_made.connect() as connection:
        differs = objects.difference(objects.read(connection), objects.of_revision(HEAD), exact=False)
    assert {name for name, (_, wanted) in differs.items() if wanted is not None} == set()
    assert hand_made.rows("SELECT count(*), count(DISTINCT session_id) FROM ai_interactions") == [(5, 5)]
    problems = [one.id for one in verify.judge(verify.look(hand_made.params, timeout_s=10)).findings]
    assert problems == [
        "column/extra/ai_interactions.note",
        "constraint/extra/ai_sessions.ai_sessions_id_key",
        "index/extra/ai_sessions.ai_sessions_id_key",
    ]


def test_what_is_adopted_is_not_adopted_again(hand_made, adopted):
    """The version is noted: an ordinary plan goes on from there."""
    apply.apply(adopted, hand_made.params, allowed=adopted.hazards)
    with pytest.raises(RolloutRefusedError, match="it is adopted"):
        planning.adopted(hand_made.params)
    assert planning.plan(hand_made.params).steps == ()  # nothing to measure, and so no server


def test_a_database_without_the_tables_has_nothing_to_adopt(session_fix_stack):
    """The migrations create them."""
    database = session_fix_stack.databases.empty()
    with pytest.raises(RolloutRefusedError, match="nothing to adopt"):
        planning.adopted(database.params)
    session_fix_stack.databases.drop(database)


def test_what_is_in_the_way_leaves_no_plan(hand_made):
    """Half a plan would be applied by somebody."""
    hand_made.rows("UPDATE ai_interactions SET prompt = NULL")
    made, adoption = planning.adopted(hand_made.params)
    assert made.plan.steps == ()
    assert [one.name for one in adoption.in_the_way] == ["column ai_interactions.prompt"]


def test_a_schema_that_changed_since_is_refused(hand_made, adopted):
    """The plan is bound to what was looked at."""
    hand_made.rows("ALTER TABLE ai_sessions ADD COLUMN another text")
    with pytest.raises(RolloutRefusedError, match="not the one that the plan was made for"):
        apply.apply(adopted, hand_made.params, allowed=adopted.hazards)
    _, adoption = adopting.read(hand_made.params, timeout_s=10)
    assert hand_made.rows("SELECT to_regclass('alembic_version')") == [(None,)]
    assert adoption.steps
