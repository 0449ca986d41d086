"""A whole replay as console text, Mermaid, JSON and JUnit: all say the same, and what was judged."""

import json
import xml.etree.ElementTree as ET

import pytest

from session_fix.flow import BROKEN
from session_fix.replay import Replay
from session_fix.report import lanes
from session_fix.report import replay as report


def console(replay, **options):
    """Return the lines of the console report."""
    return [line.plain for line in report.console(replay, **{"width": 100, "glyphs": lanes.UNICODE} | options)]


def test_the_console_ends_with_a_line_for_each_flow(replay):
    """The last lines are those one reads: expected, observed, verdict."""
    assert console(replay)[-2:] == [
        "before  expected 500 and 23503       observed 500 and 23503       ok",
        "fixed   expected 200, stored         observed 200, stored         ok",
    ]


def test_the_console_names_the_stack(replay):
    """A result without the versions it was seen on cannot be compared with another."""
    lines = console(replay)
    assert {"postgres: embedded 16.4", "rest: lite (0.1)"} <= set(lines)
    assert report.mermaid_text(replay).endswith("On postgres embedded 16.4, rest lite (0.1).")


def test_each_flow_has_its_own_diagram(replay):
    """The broken flow's error belongs to the broken flow's diagram alone."""
    lines = console(replay)
    begin, middle = (
        next(n for n, line in enumerate(lines) if line.startswith(name)) for name in ("before (", "fixed (")
    )
    broken, healthy = "\n".join(lines[begin:middle]), "\n".join(lines[middle:-4])
    assert ("23503" in broken, "23503" in healthy) == (True, False)
    assert "the first interaction breaks the foreign key" in broken


@pytest.mark.parametrize(
    ("made", "verdict", "reason"),
    [
        (
            {"code": "23503"},
            "expected 200, stored         observed 500 and 23503       NOT OK",
            "sqlstates: expected (), observed ('23503',)",
        ),
        (
            {"expected": BROKEN},
            "expected 500 and 23503       observed 200, stored         NOT OK",
            "phantoms: expected 2, observed 0",
        ),
        (
            {"steps": []},
            "expected 200, stored         observed None, not stored    INCONCLUSIVE",
            "the service made no call to the data API",
        ),
    ],
)
def test_a_flow_that_did_not_pass_says_why(replayed, made, verdict, reason):
    """Nobody should have to run it again to learn what was wrong."""
    lines = console(Replay({}, [replayed("mine", printed="Traceback\nKeyError", **made)]))
    assert f"mine  {verdict}" in lines
    assert f"      {reason}" in lines
    assert lines[-2:] == ["      | Traceback", "      | KeyError"]


def test_a_pass_shows_nothing_of_what_the_service_printed(replay):
    """Logs of a healthy service are noise."""
    assert not any("last lines" in line for line in console(replay))


def test_the_console_can_be_all_ascii(replay):
    """For outputs that show nothing else."""
    assert all(line.isascii() for line in console(replay, glyphs=lanes.ASCII))


def test_mermaid_has_one_fenced_diagram_for_each_flow(replay):
    """It is pasted into Markdown as it is."""
    text = report.mermaid_text(replay)
    assert text.count("```mermaid\nsequenceDiagram\n") == text.splitlines().count("```") == 2
    assert text.index("title before") < text.index("title fixed")


def test_the_json_holds_verdict_stack_and_every_event(replay):
    """Whatever reads it needs nothing else, and it survives a round through a file."""
    found = json.loads(json.dumps(report.as_json(replay)))
    assert (found["verdict"], found["stack"]) == ("pass", dict(replay.stack))
    assert [(flow["service"], flow["verdict"], flow["reasons"]) for flow in found["flows"]] == [
        ("before", "pass", []),
        ("fixed", "pass", []),
    ]
    broken = found["flows"][0]
    expected = {"status": 500, "sqlstates": ["23503"], "sessions": 0, "phantoms": 2, "interactions": 0}
    assert broken["expected"] == broken["observed"] == expected
    assert [event["kind"] for event in broken["events"]] == [event.kind for event in replay.flows[0].events]
    assert {event["run"] for event in broken["events"]} == {"run1"}


def test_the_junit_suite_has_a_case_for_each_flow(replayed):
    """A CI system shows a red case with the reason and what the service printed."""
    flows = [replayed("fixed"), replayed("mine", "23503", printed="Traceback"), replayed("idle", steps=[])]
    (suite,) = ET.fromstring(report.junit_xml(Replay({}, flows)))
    assert [(case.get("name"), [child.tag for child in case]) for case in suite] == [
        *(("fixed", []), ("mine", ["failure"]), ("idle", ["error"])),
    ]
    assert suite[1][0].get("message") == "status: expected 200, observed 500"
    assert suite[1][0].text.endswith("Traceback")
    assert float(suite[0].get("time")) == pytest.approx(flows[0].events[-1].t_us / 1e6, abs=0.001)


@pytest.mark.parametrize(
    ("codes", "verdict"),
    [
        ([None], "pass"),
        ([None, "23503"], "fail"),
        ([None, ()], "inconclusive"),
        ([(), "23503"], "fail"),
        ([], "inconclusive"),
    ],
)
def test_the_worst_verdict_is_the_replays(replayed, codes, verdict):
    """One flow that failed, or none at all, is no pass."""
    flows = [replayed("x", steps=[]) if code == () else replayed("x", code) for code in codes]
    assert Replay({}, flows).verdict == report.as_json(Replay({}, flows))["verdict"] == verdict


def test_a_replay_of_nothing_can_be_reported():
    """It is inconclusive; that has to be said, not crashed upon."""
    nothing = Replay({"postgres": "embedded"}, [])
    assert console(nothing)
    assert report.mermaid_text(nothing) == "On postgres embedded."
    assert ET.fromstring(report.junit_xml(nothing))[0].get("tests") == "0"
