"""What a rehearsal comes to: each way to fail fails it, and what was hardly tried passes nothing."""

import pytest

from session_fix.report import rehearsed
from session_fix.rollout.rehearsal.record import Rehearsal, Request, Used, Wait

QUERY = "/smart/query"


def used(name, *, before=(200,) * 10, during=(200,) * 10, took_ms=5.0):
    """Return a service that answered so before and during the rollout."""
    requests = [Request(-1.0 - number, 5.0, QUERY, status) for number, status in enumerate(before)]
    requests += [Request(0.1 * number, took_ms, QUERY, status) for number, status in enumerate(during, 1)]
    return Used(name, tuple(requests))


def rehearsal(*services, **more):
    """Return a rehearsal with these services."""
    return Rehearsal(services=services, waits=(), steps=18, took_s=1.0, interactions=100, lost=0, **more)


def test_a_rollout_that_nobody_notices_passes():
    """Both were used throughout, and everything was answered."""
    assert rehearsal(used("old"), used("new")).verdict == "pass"


@pytest.mark.parametrize("status", [500, 401, None])
def test_a_request_that_did_not_fail_before_fails_it(status):
    """Whoever was asked at that moment saw an error, or nothing at all."""
    found = rehearsal(used("old"), used("new", during=(200, status, 200, 200, 200)))
    assert (found.verdict, len(found.services[1].failed())) == ("fail", 1)


def test_what_failed_before_as_well_is_no_fault_of_the_rollout():
    """The broken service answers each query with 500, on any schema."""
    assert rehearsal(used("before", before=(500,) * 9, during=(500,) * 9), used("new")).verdict == "pass"


def test_a_failure_of_another_kind_than_before_counts():
    """A service that answered 500 all along still must not hang up."""
    assert rehearsal(used("before", before=(500,) * 9, during=(500, None, 500, 500, 500))).verdict == "fail"


def test_a_request_that_was_under_way_when_the_rollout_began_is_one_during_it():
    """It is the one that most likely met the first lock."""
    one = Used("old", (Request(-0.01, 50.0, QUERY, 500),))
    assert (one.before(), len(one.failed())) == ((), 1)


def test_an_interaction_that_was_acknowledged_and_is_gone_fails_it():
    """Nothing else is as bad."""
    found = Rehearsal(
        services=(used("old"), used("new")), waits=(), steps=18, took_s=1.0, interactions=1, lost=1, problem=""
    )
    assert found.verdict == "fail"


def test_a_rollout_that_failed_fails_it():
    """Even if nobody noticed."""
    assert rehearsal(used("old"), used("new"), problem="0010 failed").verdict == "fail"


@pytest.mark.parametrize("few", [{"before": (200,)}, {"during": (200,)}, {"during": ()}])
def test_a_service_that_was_hardly_asked_shows_nothing(few):
    """No failure among no requests is no evidence."""
    assert rehearsal(used("old"), used("new", **few)).verdict == "inconclusive"


def test_the_text_says_what_failed_and_who_waited():
    """The operator decides by it whether tonight is the night."""
    one = Rehearsal(
        services=(used("documented", during=(200, 200, 200, 500, None), took_ms=123.4),),
        waits=(Wait("ai_sessions", "ROW EXCLUSIVE", "PostgREST", 9.5),),
        steps=18,
        took_s=2.5,
        interactions=1_000_000,
        lost=0,
    )
    text = rehearsed.text(one)
    assert "18 steps in 2.5 s, beside 1,000,000 interactions" in text
    assert "documented            10       5       2     123.4  200 3x, 500 1x, no answer 1x" in text
    assert "9.5 ms: ROW EXCLUSIVE on ai_sessions, by PostgREST" in text
    assert text.endswith("something failed: 2 failed requests, 0 acknowledged interactions lost")
    assert rehearsed.as_json(one)["services"][0]["failed"] == 2
