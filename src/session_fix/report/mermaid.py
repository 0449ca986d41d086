"""The lane diagram as a Mermaid sequence diagram, for a page or a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from session_fix.report.messages import LANES, Message, clean

PARTICIPANTS = ("F", "B", "D")
# Source: Mermaid manual, "Sequence diagrams": ; ends a statement, # begins an entity, : ends the participants.
ENTITIES = str.maketrans({";": "#59;", "#": "#35;", "<": "#lt;", ">": "#gt;"})


def draw(title: str, messages: Sequence[Message]) -> str:
    """Return one diagram, without the fences of Markdown."""
    lines = ["sequenceDiagram", f"  title {_text(title)}"]
    lines += [f"  participant {short} as {name}" for short, name in zip(PARTICIPANTS, LANES, strict=True)]
    return "\n".join([*lines, *(f"  {_statement(message)}" for message in messages)])


def _text(text: str) -> str:
    return clean(text).translate(ENTITIES)


def _statement(message: Message) -> str:
    text = _text(message.text)
    source, target = PARTICIPANTS[message.source], PARTICIPANTS[message.target]
    if source == target:
        return f"Note over {source}: {text}"
    arrow = "-x" if message.good is False else ("->>" if message.source < message.target else "-->>")
    return f"{source}{arrow}{target}: {text}"
