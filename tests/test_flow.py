"""The judge of a replay: each way in which a flow can go wrong is a record it must not pass."""

import pytest

from session_fix.events import Recorder
from session_fix.flow import BROKEN, HEALTHY, Observation, judge, observe

SESSION = "0b8f3f60-55d3-4c2c-9e1b-6a3f0c7d9e21"


def flow(*, status=200, codes=(None, None), rows=(1, 0, 1)):
    """Return a record: a create that is answered with 200, a query, the calls behind it, the rows afterwards."""
    record = Recorder()
    record.record("request", "frontend", method="POST", path="/session/create", body={})
    record.record("answer", "frontend", path="/session/create", status=200, body={"session_id": SESSION})
    record.record("request", "frontend", method="POST", path="/smart/query", body={})
    for number, code in enumerate(codes, start=1):
        record.record("call", "tap", call=number, method="POST", table="ai_interactions")
        record.record("reply", "tap", call=number, status=409 if code else 201, code=code, sqlstate=code, rows=None)
    if status is not None:
        record.record("answer", "frontend", path="/smart/query", status=status, body=None)
    if rows is not None:
        sessions, phantoms, interactions = rows
        record.record("rows", "database", sessions=sessions, phantoms=phantoms, interactions=interactions)
    return record.events()


BROKEN_FLOW = {"status": 500, "codes": (None, "23503"), "rows": (0, 2, 0)}


@pytest.mark.parametrize(("record", "expected"), [({}, HEALTHY), (BROKEN_FLOW, BROKEN)])
def test_a_flow_as_expected_passes(record, expected):
    """The records that the mutants below are made from are good ones."""
    judged = judge(flow(**record), expected)
    assert (judged.verdict, judged.reasons) == ("pass", [])


@pytest.mark.parametrize(
    ("mutation", "differs"),
    [
        ({"status": 500}, ["status"]),
        ({"status": 201}, ["status"]),
        ({"codes": (None, "23505")}, ["sqlstates"]),
        ({"codes": ("23503", None)}, ["sqlstates"]),
        ({"rows": (0, 0, 1)}, ["sessions"]),
        ({"rows": (2, 0, 1)}, ["sessions"]),
        ({"rows": (1, 1, 1)}, ["phantoms"]),
        ({"rows": (1, 0, 0)}, ["interactions"]),
        ({"rows": (1, 0, 2)}, ["interactions"]),
        ({"rows": None}, ["sessions", "interactions"]),
        (BROKEN_FLOW, ["status", "sqlstates", "sessions", "phantoms", "interactions"]),
    ],
)
def test_a_flow_that_is_not_healthy_fails(mutation, differs):
    """Each of these is a service that lost something, doubled something or showed an error."""
    judged = judge(flow(**mutation), HEALTHY)
    assert judged.verdict == "fail"
    assert [reason.partition(":")[0] for reason in judged.reasons] == differs


@pytest.mark.parametrize(
    ("mutation", "differs"),
    [
        ({"status": 200}, ["status"]),
        ({"codes": (None, None)}, ["sqlstates"]),
        ({"codes": (None, "23505")}, ["sqlstates"]),
        ({"codes": ("23503", "23503")}, ["sqlstates"]),
        ({"codes": ("23503", "23505")}, ["sqlstates"]),
        ({"rows": (1, 2, 0)}, ["sessions"]),
        ({"rows": (0, 1, 0)}, ["phantoms"]),
        ({"rows": (0, 2, 1)}, ["interactions"]),
        ({"rows": None}, ["phantoms"]),
        ({"status": 200, "codes": (None, None), "rows": (1, 0, 1)}, [*BROKEN.__slots__[1:]]),
    ],
)
def test_a_broken_flow_that_breaks_otherwise_fails(mutation, differs):
    """The broken variant has to go red for the right reason, or the proof is worthless."""
    judged = judge(flow(**(BROKEN_FLOW | mutation)), BROKEN)
    assert judged.verdict == "fail"
    assert [reason.partition(":")[0] for reason in judged.reasons] == differs


def test_a_query_without_an_answer_fails():
    """The create's 200 must not stand in for the query's."""
    events = [event for event in flow(status=None) if event.fields.get("path") != "/session/create"]
    judged = judge(events, HEALTHY)
    assert (judged.verdict, judged.reasons) == ("fail", ["status: expected 200, observed None"])


def test_the_answer_of_the_create_does_not_stand_in_for_the_query():
    """A service that answers the create and dies in the query has not passed."""
    assert judge(flow(status=None), HEALTHY).verdict == "fail"


@pytest.mark.parametrize("expected", [HEALTHY, BROKEN])
def test_a_flow_without_a_call_is_inconclusive(expected):
    """A service that never asks the data API proves nothing, even where its answers are the expected ones."""
    record = {"status": expected.status, "rows": (expected.sessions, expected.phantoms, expected.interactions)}
    assert judge(flow(**record, codes=()), expected).verdict == "inconclusive"


def test_an_empty_record_is_inconclusive():
    """Nothing observed is never a pass."""
    judged = judge([], HEALTHY)
    assert judged.verdict == "inconclusive"
    assert judged.reasons


def test_calls_that_never_got_past_the_tap_are_inconclusive():
    """The tap's own 502 says that the data API is gone; about the service it says nothing."""
    record = Recorder()
    for number in (1, 2):
        record.record("call", "tap", call=number, method="POST", table="ai_sessions")
        record.record("reply", "tap", call=number, status=502, code=None, sqlstate=None, rows=None, reason="refused")
    record.record("answer", "frontend", path="/session/create", status=500, body=None)
    assert judge(record.events(), HEALTHY).verdict == "inconclusive"


def test_sqlstates_are_kept_in_order_and_repeated():
    """Which error came first, and how often, is part of what is compared."""
    assert observe(flow(codes=("23505", None, "23503", "23505"))).sqlstates == ("23505", "23503", "23505")


def test_a_reason_names_what_was_expected_and_what_was_seen():
    """The verdict line is all that a reader of a CI log sees."""
    assert judge(flow(rows=(1, 3, 1)), HEALTHY).reasons == ["phantoms: expected 0, observed 3"]


def test_the_broken_variant_breaks_for_the_right_reason():
    """The claim of the project: 23503 and HTTP 500, nothing stored, and two sessions nobody asked for."""
    seen = observe(flow(**BROKEN_FLOW))
    assert (seen.status, seen.sqlstates, seen.interactions) == (500, ("23503",), 0)
    assert BROKEN.mismatches(seen) == []


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Observation(200, (), 1, 0, 1), "200; 1 session, 1 interaction"),
        (Observation(500, ("23503",), 0, 2, 0), "500 23503; 0 sessions, 0 interactions, 2 phantoms"),
        (Observation(500, ("23505", "23503"), 2, 1, 0), "500 23505 23503; 2 sessions, 0 interactions, 1 phantom"),
        (Observation(None, (), 0, 0, 0), "None; 0 sessions, 0 interactions"),
    ],
)
def test_an_observation_reads_in_a_few_words(seen, words):
    """It is printed after the diagram, where there is room for one line."""
    assert str(seen) == words
