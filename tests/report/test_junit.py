"""JUnit XML: whatever the words in it, a CI system can read it and its build goes red when it has to."""

import xml.etree.ElementTree as ET

import pytest

from session_fix.report.junit import Case, xml

HOSTILE = [
    "".join(map(chr, range(32))),
    "]]>",
    "<![CDATA[ & </failure>",
    "\"quoted\" 'twice'",
    "emoji \U0001f600 and 表",
    "lone surrogates \ud800 \udfff",
    "no characters \ufffe \uffff \x7f \x85",
    "&amp; &#0;",
]


def parsed(cases, suite="replay"):
    """Return the root of the document, read back from the bytes that would be in the file."""
    return ET.fromstring(xml(suite, cases).encode("utf-8"))


def test_verdicts_become_failures_and_errors():
    """The three verdicts are told apart, and two of them make a build red."""
    cases = [Case("a", "pass", 0.5), Case("b", "fail", 1.0, "why\nmore"), Case("c", "inconclusive", 0, "no call")]
    (suite,) = parsed(cases)
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "errors")} == {
        "name": "replay",
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["error"]]
    assert (suite[1][0].get("message"), suite[1][0].text) == ("why", "why\nmore")


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_only_a_pass_is_green(verdict):
    """What is not known to be good must not look good: neither in its case nor in the counts."""
    (suite,) = parsed([Case("a", verdict, 0.0)])
    assert len(suite[0]) == 1
    assert suite[0][0].get("message") == verdict
    assert int(suite.get("failures")) + int(suite.get("errors")) == 1


def test_counts_match_what_is_in_the_suite():
    """CI systems show the numbers of the suite and never count themselves."""
    verdicts = ["fail", "pass", "fail", "inconclusive", "fail", "pass"]
    (suite,) = parsed([Case(str(number), verdict, 0) for number, verdict in enumerate(verdicts)])
    assert int(suite.get("tests")) == len(suite) == 6
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 3
    assert int(suite.get("errors")) == len(suite.findall("testcase/error")) == 1


def test_an_empty_suite_is_a_document_too():
    """A CI step that finds no file blames the file."""
    (suite,) = parsed([])
    assert (suite.get("tests"), len(suite)) == ("0", 0)


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_hostile_words_leave_the_document_valid(words, verdict):
    """A service prints what it likes; one control character would lose the whole report."""
    (suite,) = parsed([Case(f"name {words}", verdict, 0.0, f"reason {words}\nmore {words}")])
    (case,) = suite
    assert case.get("name").startswith("name ")
    assert [child.text[:7] for child in case] == ([] if verdict == "pass" else ["reason "])


@pytest.mark.parametrize("words", ["]]>", "<b> & \"c\" 'd'", "\U0001f600 表 é", "\x7f"])
def test_legal_words_arrive_unchanged(words):
    """Escaping is for the reader of the file, not for the reader of the report."""
    (suite,) = parsed([Case(words, "fail", 0.0, words)])
    assert (suite[0].get("name"), suite[0][0].text, suite[0][0].get("message")) == (words, words, words)


def test_the_declared_encoding_is_the_one_of_the_file():
    """A parser believes the declaration."""
    assert xml("replay", []).startswith("<?xml version='1.0' encoding='utf-8'?>")


def test_times_are_seconds_with_milliseconds():
    """Trend charts of CI systems read this attribute."""
    (suite,) = parsed([Case("a", "pass", 1.23456)])
    assert suite[0].get("time") == "1.235"
