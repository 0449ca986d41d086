"""The model of a step, without any service: what passes, and for each thing that may not be a case that it names."""

import pytest

from session_fix.walks.model import Interaction, Reply, Rows, contradictions, session_of
from session_fix.walks.steps import Action, Step

S1, S2, S3 = (f"{digit}" * 8 + "-0000-4000-8000-000000000000" for digit in "123")
OLD, NEW = Interaction(S1, "before", "answer"), Interaction(S1, "hello", "answer to hello")
BEFORE = Rows({S1: "anna"}, {"i1": OLD})
CREATE = Step("anna", Action.CREATE, "s2", is_given=False)
MAKE = Step("anna", Action.CREATE_SESSION, "s2", is_given=False)
MAKE_SIGNED = Step("bert", Action.CREATE_SESSION, "s1", is_given=True, user_id="bert")
QUERY = Step("anna", Action.QUERY, "s1", is_given=True, prompt="hello")
LOG = Step("anna", Action.LOG, "s1", is_given=True, prompt="hello")
LOG_SOMEWHERE = Step("anna", Action.LOG, "s2", is_given=False, prompt="hello")
DELETE = Step("anna", Action.DELETE, "s1", is_given=True)
FAILED = Reply("500", is_success=False)


def rows(sessions=None, interactions=None):
    """Return the rows before, with these besides or, as another row, instead."""
    return Rows(BEFORE.sessions | (sessions or {}), BEFORE.interactions | (interactions or {}))


def about(session_id):
    """Return a successful reply about a session."""
    return Reply("ok", session_id=session_id)


@pytest.mark.parametrize(
    ("step", "session_id", "reply", "after"),
    [
        (CREATE, S2, about(S2), rows({S2: None})),
        (CREATE, S2, about(S2), rows({S2: "whoever was logged in"})),
        (MAKE, S2, about(S2), rows({S2: None})),
        (MAKE_SIGNED, S1, about(S1), rows()),
        (MAKE_SIGNED, S2, about(S2), rows({S2: "bert"})),
        (QUERY, S1, about(S1), rows({}, {"i2": NEW})),
        (QUERY, S1, about(S1), rows({}, {"i2": Interaction(S1, "hello", "as the service likes")})),
        (QUERY, S2, about(S2), rows({S2: None}, {"i2": Interaction(S2, "hello", "hi")})),
        (LOG, S1, Reply("True"), rows({}, {"i2": NEW})),
        (LOG_SOMEWHERE, S2, Reply("True"), rows({S2: None}, {"i2": Interaction(S2, "hello", "answer to hello")})),
        (DELETE, S1, Reply("deleted"), Rows()),
        (DELETE, S2, Reply("it is not there"), BEFORE),
    ],
)
def test_what_a_step_asks_for_is_no_contradiction(step, session_id, reply, after):
    """A model that complains about a healthy service is of no use."""
    assert contradictions(step, session_id, BEFORE, reply, after) == []


def test_a_session_without_a_user_may_get_one():
    """Who creates it again and says who they are is not told that this is a mistake; others do not get that user."""
    before, reply = Rows({S1: None, S2: None}), about(S1)
    assert contradictions(MAKE_SIGNED, S1, before, reply, Rows({S1: "bert", S2: None})) == []
    assert contradictions(MAKE_SIGNED, S1, before, reply, Rows({S1: None, S2: "bert"})) == [
        f"the user of {S2} was None and is bert"
    ]


@pytest.mark.parametrize(
    ("step", "session_id", "reply", "after", "expected"),
    [
        (QUERY, S1, FAILED, BEFORE, ["it fails", "'hello' is not stored"]),
        (QUERY, S1, about(S2), rows({}, {"i2": NEW}), [f"the answer is about {S2}, not {S1}"]),
        (MAKE_SIGNED, S1, about(None), BEFORE, [f"the answer is about None, not {S1}"]),
        (CREATE, None, about(None), BEFORE, ["the answer names no session", "its session is not stored"]),
        (CREATE, "5", about("5"), BEFORE, ["the answer names no session", "5 is not stored"]),
        (CREATE, S1, about(S1), BEFORE, [f"{S1} is no new session"]),
        (CREATE, S2, about(S2), BEFORE, [f"{S2} is not stored"]),
        (
            QUERY,
            S2,
            about(S2),
            rows({}, {"i2": NEW}),
            [f"{S2} is not stored", f"'hello' is stored in {S1}, not in {S2}"],
        ),
        (CREATE, S2, about(S2), Rows({S2: None}, {"i1": OLD}), [f"{S1} is gone"]),
        (
            MAKE,
            S2,
            about(S2),
            rows({S2: None, S3: S2}),
            [f"a session that nobody asked for is stored, with the user {S2}"],
        ),
        (DELETE, S2, Reply("deleted"), rows({S2: "x"}), ["a session that nobody asked for is stored, with the user x"]),
        (MAKE_SIGNED, S1, about(S1), rows({S1: "bert"}), [f"the user of {S1} was anna and is bert"]),
        (MAKE_SIGNED, S1, about(S1), rows({S1: None}), [f"the user of {S1} was anna and is None"]),
        (MAKE_SIGNED, S2, about(S2), rows({S2: None}), [f"the user of {S2} is None, not bert"]),
        (QUERY, S1, about(S1), rows({S1: "bert"}, {"i2": NEW}), [f"the user of {S1} was anna and is bert"]),
        (LOG, S1, Reply("True"), BEFORE, ["'hello' is not stored"]),
        (LOG, S1, Reply("True"), rows({}, {"i2": NEW, "i3": NEW}), ["'hello' is stored 2 times"]),
        (
            LOG,
            S1,
            Reply("True"),
            rows({}, {"i2": Interaction(S1, "hell", "answer to hello")}),
            ["'hello' is stored as 'hell'"],
        ),
        (
            *(LOG, S1, Reply("True"), rows({}, {"i2": Interaction(S1, "hello", "answer to bye")})),
            ["'answer to hello' is stored as 'answer to bye'"],
        ),
        (
            *(LOG, S1, Reply("True"), Rows(BEFORE.sessions, {"i2": NEW})),
            [f"'before' in {S1} is gone"],
        ),
        (
            *(LOG, S1, Reply("True"), rows({}, {"i1": Interaction(S1, "changed", "answer"), "i2": NEW})),
            [f"'before' in {S1} has become 'changed' in {S1}"],
        ),
        (CREATE, S2, about(S2), rows({S2: None}, {"i2": NEW}), ["an interaction that nobody asked for is stored"]),
        (DELETE, S2, Reply("it is not there"), Rows(BEFORE.sessions), [f"'before' in {S1} is gone"]),
    ],
)
def test_what_may_not_be_is_named(step, session_id, reply, after, expected):
    """Each sentence of the model is one that a broken service brings about."""
    assert contradictions(step, session_id, BEFORE, reply, after) == expected


def test_a_session_that_the_logger_made_is_where_it_logged():
    """It says no more than True; two interactions do not tell."""
    one = rows({S2: None, S3: None}, {"i2": Interaction(S3, "hello", "hi")})
    two = Rows(one.sessions, one.interactions | {"i3": Interaction(S2, "hello", "hi")})
    assert session_of(LOG_SOMEWHERE, Reply("True"), BEFORE, one) == S3
    assert session_of(LOG_SOMEWHERE, Reply("True"), BEFORE, two) is None
    assert session_of(CREATE, about(S2), BEFORE, two) == S2


def test_a_logger_without_a_session_may_not_reuse_one():
    """Whoever names no session does not mean that of somebody else."""
    after = rows({}, {"i2": NEW})
    session_id = session_of(LOG_SOMEWHERE, Reply("True"), BEFORE, after)
    assert contradictions(LOG_SOMEWHERE, session_id, BEFORE, Reply("True"), after) == [f"{S1} is no new session"]
