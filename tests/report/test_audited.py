"""An audit as a table and as JSON."""

import json

from session_fix.report import audited
from session_fix.rollout.audit import Audit
from session_fix.rollout.finding import Finding, Severity
from session_fix.rollout.found import Facts, Unseen

FACTS = Facts(database="app", role="auditor", version="18.4", unseen=(Unseen("the rows of ai_sessions", "no right"),))
FOUND = Finding("rows/orphans", Severity.PROBLEM, "name sessions " * 9, "Insert them.", 1_234_567, exact=False)
BARE = Finding("access/no-roles", Severity.INFO, "there are none")


def test_a_finding_says_how_bad_how_many_what_and_what_to_do():
    """All of it is needed to decide, in that order."""
    text = audited.text(Audit(FACTS, (FOUND,)))
    head, *rest = text[text.index("problem") :].splitlines()
    assert head.split()[:2] == ["problem", "~1,234,567"]
    assert any(line.strip() == "-> Insert them." for line in rest)
    assert any(line.strip() == "[rows/orphans]" for line in rest)


def test_no_line_is_longer_than_a_log_is_wide():
    """A wrapped table cannot be read."""
    assert max(map(len, audited.text(Audit(FACTS, (FOUND, BARE))).splitlines())) <= 80


def test_what_was_not_seen_is_listed_and_in_the_sum():
    """Otherwise a short list looks like a healthy database."""
    text = audited.text(Audit(FACTS, (FOUND, BARE)))
    assert "  the rows of ai_sessions: no right" in text
    assert text.splitlines()[-1] == "something to repair; not all could be read: 1 problem, 0 warnings, 1 info"


def test_control_characters_of_names_are_not_printed():
    """Some of what is shown was named by whoever may create objects in the database."""
    evil = Finding("access/policy-open/x/\x1b[2J", Severity.PROBLEM, "the policy \x1b]0;gone\x07\n::error::", "\x9b1A")
    text = audited.text(Audit(Facts(database="\x1b[31m", role="r", version="18"), (evil,)))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert not any(line.startswith("::") for line in text.splitlines())


def test_the_json_holds_everything_in_types_of_json():
    """A script reads this one."""
    report = json.loads(json.dumps(audited.as_json(Audit(FACTS, (FOUND, BARE)))))
    assert report["verdict"] == "fail"
    assert report["counts"] == {"problem": 1, "warning": 0, "info": 1}
    assert report["findings"][0] == {
        "id": "rows/orphans",
        "severity": "problem",
        "what": FOUND.what,
        "todo": "Insert them.",
        "count": 1234567,
        "exact": False,
        "evidence": {},
    }
    assert report["unseen"] == [{"what": "the rows of ai_sessions", "why": "no right", "matters": True}]
