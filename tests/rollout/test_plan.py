"""The file of a plan: what is read back is what was written, and nothing that was changed since is believed."""

import json

import pytest

from session_fix.errors import UsageError
from session_fix.rollout import plan as plans
from session_fix.rollout.plan import Binding, Kind, Lock, Plan, Step

PLAN = Plan(
    direction="up",
    target="0002_api_grants",
    made_at="2026-01-05T06:00:00+00:00",
    binding=Binding(
        system_identifier="7",
        database="app",
        server_version=180004,
        fingerprint="0123456789abcdef",
        versions=("0001_baseline",),
    ),
    steps=(
        Step(
            id="0002_api_grants",
            title="What roles may do.",
            kind=Kind.TRANSACTION,
            before="0001_baseline",
            after="0002_api_grants",
            statements=("GRANT SELECT ON public.ai_sessions TO anon",),
            measured=(Lock("ACCESS SHARE", "public.ai_sessions"),),
            hazards=("browsers-lose-access",),
        ),
    ),
)


def test_what_is_read_back_is_what_was_written():
    """The operator applies another day, in another process, what somebody read today."""
    assert plans.read(plans.written(PLAN)) == PLAN


def test_a_hazard_is_named_once():
    """Each is allowed by its name, however many steps have it."""
    twice = Plan(direction="up", target="x", made_at="", binding=PLAN.binding, steps=PLAN.steps * 2)
    assert twice.hazards == ("browsers-lose-access",)


@pytest.mark.parametrize("place", ["target", "steps", "binding"])
def test_a_plan_that_was_changed_by_hand_is_refused(place):
    """What was reviewed is what is applied; a changed statement would run unread."""
    changed = json.loads(plans.written(PLAN))
    match place:
        case "steps":
            changed["steps"][0]["statements"] = ["DROP TABLE public.ai_sessions"]
        case "binding":
            changed["binding"]["database"] = "another"
        case _:
            changed[place] = "0001_baseline"
    with pytest.raises(UsageError, match="changed after it was made"):
        plans.read(json.dumps(changed))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1, "hash": ""}', "\x00"])
def test_what_is_no_plan_is_said_to_be_none(text):
    """Somebody names the wrong file at night."""
    with pytest.raises(UsageError, match="no plan"):
        plans.read(text)


def test_a_plan_of_another_format_is_said_to_be_one():
    """A newer session-fix may have written it."""
    with pytest.raises(UsageError, match="format 2"):
        plans.read(plans.written(PLAN).replace('"format": 1', '"format": 2'))
