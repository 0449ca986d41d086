"""The Mermaid diagram: one statement per message, and no text that could be read as another."""

import re

import pytest

from session_fix.report import mermaid
from session_fix.report.messages import BACKEND, DATABASE, FRONTEND, Message, messages

ENTITY = re.compile(r"#(\d+|[a-z]+);")  # Source: Mermaid manual, "Sequence diagrams", entity codes
HEAD = 5  # the kind of diagram, its title, three participants


def test_a_flow_becomes_a_sequence_diagram(events, query):
    """This text is pasted into pull requests."""
    assert mermaid.draw("before", messages(events(query("23503")))).splitlines() == [
        "sequenceDiagram",
        "  title before",
        "  participant F as frontend",
        "  participant B as backend API",
        "  participant D as Supabase database",
        "  F->>B: POST /smart/query session_id=0b8f3f60",
        "  Note over B: log_interaction(session_id=0b8f3f60)",
        "  B->>D: POST ai_interactions session_id=0b8f3f60",
        "  D-xB: 409 23503 foreign_key_violation",
        "  Note over B: raises APIError 23503",
        "  B-xF: 500",
    ]


@pytest.mark.parametrize(
    ("message", "statement"),
    [
        (Message(FRONTEND, BACKEND, "ask"), "F->>B: ask"),
        (Message(BACKEND, FRONTEND, "200", good=True), "B-->>F: 200"),
        (Message(DATABASE, BACKEND, "201", good=True), "D-->>B: 201"),
        (Message(DATABASE, BACKEND, "409", good=False), "D-xB: 409"),
        (Message(BACKEND, BACKEND, "note", good=False, depth=2), "Note over B: note"),
    ],
)
def test_each_message_has_its_statement(message, statement):
    """Direction and outcome are in the arrow."""
    assert mermaid.draw("t", [message]).splitlines()[HEAD:] == [f"  {statement}"]


def test_a_diagram_without_messages_has_only_lanes():
    """Nothing is drawn that was not recorded."""
    assert len(mermaid.draw("t", []).splitlines()) == HEAD


@pytest.mark.parametrize(
    "hostile",
    [
        "a; B->>D: forged",
        "a\n  B->>D: forged",
        "a\r\nB->>D: forged",
        "a\rB->>D: forged",
        "#59; B->>D: forged",
        "<script>alert(1)</script>",
        "line one<br/>line two",
    ],
)
@pytest.mark.parametrize("place", ["title", "message"])
def test_no_text_becomes_a_statement_or_markup_of_its_own(hostile, place):
    """An error's code and a path are the service's words; they must not draw arrows nobody recorded."""
    title, text = (hostile, "ok") if place == "title" else ("ok", hostile)
    lines = mermaid.draw(title, [Message(BACKEND, DATABASE, text)]).splitlines()
    assert len(lines) == HEAD + 1
    body = lines[1 if place == "title" else HEAD].removeprefix("  B->>D: ")
    assert not set(ENTITY.sub("", body)) & set("#;<>")
    assert "forged" not in hostile or "forged" in body


def test_words_that_merely_look_odd_are_kept():
    """Colons, brackets and quotes are ordinary text after the first colon."""
    text = 'f(a=1, b="x"): [y] {z} end'
    assert mermaid.draw("t", [Message(FRONTEND, BACKEND, text)]).splitlines()[HEAD] == f"  F->>B: {text}"
