"""Recorded replays that reports are made from."""

import pytest

from session_fix.events import Recorder
from session_fix.flow import BROKEN, HEALTHY, judge
from session_fix.replay import Replay, Replayed
from session_fix.subjects import Subject

SESSION = "0b8f3f60-55d3-4c2c-9e1b-6a3f0c7d9e21"
HEALTHY_ROWS = {"sessions": 1, "phantoms": 0, "interactions": 1}
BROKEN_ROWS = {"sessions": 0, "phantoms": 2, "interactions": 0}


def steps_of_a_query(code):
    """Return the events of a query inside the backend: kind, actor, fields."""
    call = {"method": "POST", "table": "ai_interactions", "filters": {}, "on_conflict": None, "prefer": []}
    error = {"type": "APIError", "code": code, "message": "insert violates foreign key"}
    ending = ("raise", {"error": error}) if code else ("return", {"value": True})
    status = 500 if code else 200
    return [
        ("request", "frontend", {"method": "POST", "path": "/smart/query", "body": {"session_id": SESSION}}),
        ("enter", "service", {"function": "log_interaction", "depth": 0, "arguments": {"session_id": SESSION}}),
        ("call", "tap", {"call": 1, **call, "body": {"session_id": SESSION, "prompt": "text(5)"}}),
        ("reply", "tap", {"call": 1, "status": 409 if code else 201, "code": code, "sqlstate": code, "rows": None}),
        (ending[0], "service", {"function": "log_interaction", "depth": 0, **ending[1]}),
        ("answer", "frontend", {"path": "/smart/query", "status": status, "body": {"session_id": SESSION}}),
    ]


@pytest.fixture
def events():
    """Return a function that records steps and returns their events."""

    def record(steps):
        recorder = Recorder()
        for kind, actor, fields in steps:
            recorder.record(kind, actor, **fields)
        return recorder.events()

    return record


@pytest.fixture
def query():
    """Return a function that gives the steps of a query that ends with this SQLSTATE, None for success."""
    return steps_of_a_query


@pytest.fixture
def replayed(events, tmp_path):
    """Return a function that judges a recorded flow: healthy, broken as expected, broken, or one that did nothing."""

    def make(name, code=None, *, expected=HEALTHY, steps=None, printed=""):
        rows = BROKEN_ROWS if code else HEALTHY_ROWS
        steps = steps_of_a_query(code) if steps is None else steps
        recorded = events([*steps, ("rows", "database", rows)]) if steps else []
        return Replayed(Subject(name, tmp_path, expected), "run1", recorded, judge(recorded, expected), printed)

    return make


@pytest.fixture
def replay(replayed):
    """Return a replay of a flow that broke as it had to, and of one that passed."""
    stack = {"postgres": "embedded 16.4", "rest": "lite (0.1)"}
    return Replay(stack, [replayed("before", "23503", expected=BROKEN), replayed("fixed")])
