"""Specs written from values, and isolationtester's output read back."""

import pytest

from session_fix.explore.spec import CANCELED, OK, SKIPPED, Spec, call, look, outcomes

PRINTED = """Parsed test spec with 2 sessions

starting permutation: s1a s2a s1commit s2commit
step s1a: INSERT INTO t VALUES (1);
step s2a: 
    INSERT INTO t
    VALUES (1);
 <waiting ...>
step s1commit: COMMIT;
step s2a: <... completed>
ERROR:  duplicate key value violates unique constraint "t_pkey"
step s2commit: COMMIT;

starting permutation: s1a s1commit s2a s2commit
step s1a: INSERT INTO t VALUES (1);
step s1commit: COMMIT;
id
--
 1
(1 row)

step s2a: INSERT INTO t VALUES (1);
step s2commit: COMMIT;
"""  # noqa: W291  as it is printed
DUPLICATE = 'duplicate key value violates unique constraint "t_pkey"'


def printed(*lines, permutation="c1a c2a c1b"):
    """Return an output of one order."""
    return "\n".join([f"Parsed test spec with 2 sessions\n\nstarting permutation: {permutation}", *lines, ""])


def test_a_spec_is_written_as_isolationtester_reads_it():
    """Its grammar: src/test/isolation/specparse.y of PostgreSQL's source code."""
    spec = Spec(
        setup="CREATE TABLE t (id int);",
        session_setup="BEGIN;",
        teardown="DROP TABLE t;",
        sessions={"s1": [("s1a", "SELECT 1;")], "s2": [("s2a", "SELECT 2;"), ("s2b", "COMMIT;")]},
        permutations=[["s1a", "s2a", "s2b"]],
    )
    assert spec.text == (
        "setup { CREATE TABLE t (id int); }\n"
        "teardown { DROP TABLE t; }\n"
        "\nsession s1\nsetup { BEGIN; }\nstep s1a { SELECT 1; }\n"
        "\nsession s2\nsetup { BEGIN; }\nstep s2a { SELECT 2; }\nstep s2b { COMMIT; }\n"
        "\npermutation s1a s2a s2b\n"
    )


@pytest.mark.parametrize("name", ["", "two words", "1st", "naïve", "permutation", 'a"b'])
def test_a_name_that_would_be_misread_is_refused(name):
    """A name is looked for in the output, so it has to be a word there."""
    with pytest.raises(ValueError, match="is no name"):
        _ = Spec(sessions={"s1": [(name, "SELECT 1;")]}).text


def test_a_closing_brace_is_refused():
    """A brace ends SQL whatever quotes it is in: a step would end in the middle of a text."""
    with pytest.raises(ValueError, match="closing brace"):
        _ = Spec(sessions={"s1": [("s1a", "SELECT '{}';")]}).text


def test_outcomes_of_steps_that_wait_and_fail():
    """An error belongs to the step that was reported last, which may have begun long before."""
    assert outcomes(PRINTED) == [
        (("s1a", "s2a", "s1commit", "s2commit"), {"s1a": OK, "s2a": DUPLICATE, "s1commit": OK, "s2commit": OK}),
        (("s1a", "s1commit", "s2a", "s2commit"), {"s1a": OK, "s1commit": OK, "s2a": OK, "s2commit": OK}),
    ]


def test_outcomes_of_nothing():
    """A run that performed no order has no outcomes; whoever judges them has to notice."""
    assert outcomes("Parsed test spec with 2 sessions\n") == []


@pytest.mark.parametrize("severity", ["INFO", "INFORMATION", "INFORMAÇÃO", "情報"])
def test_a_call_tells_its_sqlstate_in_any_language(severity):
    """A server may speak its owner's language; the message is ours."""
    lines = ("step c1a: DO 1;", f"c2: {severity}:  call c2a: 23505", "step c2a: DO 2;", "step c1b: DO 3;")
    assert outcomes(printed(*lines)) == [(("c1a", "c2a", "c1b"), {"c1a": OK, "c2a": "23505", "c1b": OK})]


def test_a_call_that_was_not_made():
    """Whoever was refused stops there, as the service does."""
    lines = ("c1: INFO:  call c1a: 23503", "step c1a: DO 1;", "step c2a: DO 2;")
    lines += (f"c1: INFO:  call c1b: {SKIPPED}", "step c1b: DO 3;")
    assert outcomes(printed(*lines))[0][1] == {"c1a": "23503", "c2a": OK, "c1b": SKIPPED}


def test_an_order_that_cannot_happen():
    """The step that was given up is named in a line of its own, and its error says nothing more."""
    lines = ("step c1a: LOCK t;", "step c2a: LOCK t; <waiting ...>")
    lines += ("isolationtester: canceling step c2a after 2 seconds", "step c2a: <... completed>")
    lines += ("ERROR:  canceling statement due to user request", "step c1b: COMMIT;")
    assert outcomes(printed(*lines))[0][1] == {"c1a": OK, "c2a": CANCELED, "c1b": OK}


def test_a_call_and_a_look_have_no_brace_and_their_own_name():
    """They have to survive their way through a spec and its output."""
    calls = [look("c1look", "SELECT FROM t"), call("c1insert", "INSERT INTO t VALUES (1)", unless_found=True)]
    text = Spec(sessions={"c1": calls}).text
    assert [text.count(f"'call {name}: %'") for name, _ in calls] == [1, 1]
