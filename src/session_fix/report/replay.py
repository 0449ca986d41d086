"""A replay as text for people, as Mermaid, as one JSON object, and as JUnit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from session_fix.flow import Expectation, Observation
from session_fix.replay import Replay, Replayed
from session_fix.report import junit, lanes, mermaid
from session_fix.report.messages import messages

WORDS = {"pass": ("ok", "green"), "fail": ("NOT OK", "bold red"), "inconclusive": ("INCONCLUSIVE", "bold yellow")}


def console(replay: Replay, *, width: int, glyphs: lanes.Glyphs) -> Iterator[Text]:
    """Yield the lines to print: each flow's diagram, then one line per flow with expected, observed and verdict."""
    for replayed in replay.flows:
        yield Text(f"{replayed.subject.name} (expected: {replayed.subject.expected.why})", style="bold")
        yield Text()
        yield from lanes.draw(messages(replayed.events), width=width, glyphs=glyphs)
        yield Text()
    yield from (Text(f"{name}: {what}", style="dim") for name, what in replay.stack.items())
    yield Text()
    name_width = max((len(replayed.subject.name) for replayed in replay.flows), default=0)
    for replayed in replay.flows:
        yield from _verdict(replayed, name_width)


def _verdict(replayed: Replayed, name_width: int) -> Iterator[Text]:
    word, style = WORDS[replayed.judgement.verdict]
    expected, observed = _brief(replayed.subject.expected), _brief(replayed.judgement.observed)
    line = f"{replayed.subject.name:{name_width}}  expected {expected:<18}  observed {observed:<18}  "
    yield Text.assemble(line, (word, style))
    for reason in replayed.judgement.reasons:
        yield Text(f"{'':{name_width}}  {reason}")
    if replayed.printed:
        yield Text(f"{'':{name_width}}  the service's last lines:")
        yield from (Text(f"{'':{name_width}}  | {line}") for line in replayed.printed.splitlines())


def _brief(outcome: Expectation | Observation) -> str:
    if outcome.sqlstates:
        return f"{outcome.status} and {' '.join(outcome.sqlstates)}"
    return f"{outcome.status}, {'stored' if outcome.interactions else 'not stored'}"


def mermaid_text(replay: Replay) -> str:
    """Return one Mermaid diagram per flow, fenced for Markdown."""
    diagrams = (mermaid.draw(replayed.subject.name, messages(replayed.events)) for replayed in replay.flows)
    stack = ", ".join(f"{name} {what}" for name, what in replay.stack.items())
    return "\n\n".join([*(f"```mermaid\n{diagram}\n```" for diagram in diagrams), f"On {stack}."])


def as_json(replay: Replay) -> dict[str, Any]:
    """Return the whole replay: verdict, stack, and each flow with its expectation, observation and events."""
    return {
        "verdict": replay.verdict,
        "stack": replay.stack,
        "flows": [
            {
                "service": replayed.subject.name,
                "verdict": replayed.judgement.verdict,
                "expected": _fields(replayed.subject.expected),
                "observed": _fields(replayed.judgement.observed),
                "reasons": list(replayed.judgement.reasons),
                "events": [event.as_json(replayed.run) for event in replayed.events],
            }
            for replayed in replay.flows
        ],
    }


def _fields(outcome: Expectation | Observation) -> dict[str, Any]:
    names = ("status", "sqlstates", "sessions", "phantoms", "interactions")
    return {name: getattr(outcome, name) for name in names}


def junit_xml(replay: Replay) -> str:
    """Return the replay as a JUnit suite with one case per flow."""
    return junit.xml(
        "replay",
        [
            junit.Case(
                replayed.subject.name,
                replayed.judgement.verdict,
                replayed.events[-1].t_us / 1e6 if replayed.events else 0.0,
                "\n".join([*replayed.judgement.reasons, replayed.printed]).strip(),
            )
            for replayed in replay.flows
        ],
        properties=replay.stack,
    )
