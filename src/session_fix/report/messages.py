"""What a diagram shows of a record: arrows between the three lanes, and notes in the backend's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from session_fix.events import UUID, Event

LANES = ("frontend", "backend API", "Supabase database")
FRONTEND, BACKEND, DATABASE = range(3)
ERROR = 400
ID_LENGTH = 8
HIDDEN_COLUMNS = frozenset({"created_at", "updated_at", "model_used", "tokens_used", "prompt", "response"})
# Source: PostgreSQL manual, appendix "Error Codes"
CONDITIONS = {
    "22001": "string_data_right_truncation",
    "22P02": "invalid_text_representation",
    "23502": "not_null_violation",
    "23503": "foreign_key_violation",
    "23505": "unique_violation",
    "42501": "insufficient_privilege",
}


@dataclass(frozen=True, slots=True)
class Message:
    """An arrow from lane ``source`` to lane ``target``, or a note in lane ``source`` when they are the same.

    ``good`` is None where nothing is won or lost. ``depth`` indents a note.
    """

    source: int
    target: int
    text: str
    good: bool | None = None
    depth: int = 0


def messages(events: Iterable[Event]) -> list[Message]:
    """Return what to draw, in the order of the events."""
    return [message for event in events if (message := _message(event)) is not None]


def _message(event: Event) -> Message | None:
    fields, depth = event.fields, event.fields.get("depth", 0)
    match event.kind:
        case "request":
            return Message(FRONTEND, BACKEND, _words(fields["method"], fields["path"], _named(fields["body"])))
        case "answer":
            if fields["status"] is None:
                return Message(BACKEND, FRONTEND, str(fields.get("reason")), good=False)
            good = fields["status"] < ERROR
            body = _named(fields["body"], only=("session_id",)) if good else ""
            return Message(BACKEND, FRONTEND, _words(fields["status"], body), good)
        case "enter":
            text = clean(f"{fields['function']}({_arguments(fields['arguments'])})")
            return Message(BACKEND, BACKEND, text, depth=depth)
        case "return" if fields["value"] is not True:
            return Message(BACKEND, BACKEND, clean(f"= {_short(fields['value'])}"), depth=depth + 1)
        case "raise":
            error = fields["error"]
            text = _words("raises", error["type"], error["code"])
            return Message(BACKEND, BACKEND, text, good=False, depth=depth + 1)
        case "call":
            return Message(BACKEND, DATABASE, call_in_words(fields))
        case "reply":
            return Message(DATABASE, BACKEND, reply_in_words(fields), fields["status"] < ERROR)
    return None


def call_in_words(fields: Mapping[str, Any]) -> str:
    """Return a recorded call as a diagram shows it."""
    body = _named(fields["body"]) if isinstance(fields["body"], dict) else ""
    filters = " ".join(f"{name}={_short_in(value)}" for name, value in fields["filters"].items())
    conflict = "on conflict do nothing" if "resolution=ignore-duplicates" in fields["prefer"] else ""
    return _words(fields["method"], fields["table"], filters, body, conflict)


def reply_in_words(fields: Mapping[str, Any]) -> str:
    """Return a recorded reply as a diagram shows it."""
    if code := fields["code"]:
        return _words(fields["status"], code, CONDITIONS.get(str(code), ""))
    rows = fields["rows"]
    return _words(fields["status"], "" if rows is None else f"{rows} row{'' if rows == 1 else 's'}")


def _named(values: Any, only: tuple[str, ...] | None = None) -> str:
    if not isinstance(values, dict):
        return ""
    shown = {k: v for k, v in values.items() if (k in only if only else k not in HIDDEN_COLUMNS and v is not None)}
    return " ".join(f"{name}={_short(value)}" for name, value in shown.items() if not str(value).startswith("text("))


def _arguments(values: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in values.items() if name not in HIDDEN_COLUMNS}
    more = ["..."] if len(shown) < len(values) else []
    return ", ".join([f"{name}={_short(value)}" for name, value in shown.items()] + more)


def _short(value: Any) -> str:
    return value[:ID_LENGTH] if isinstance(value, str) and UUID.fullmatch(value) else str(value)


def _short_in(text: str) -> str:
    return UUID.sub(lambda found: found[0][:ID_LENGTH], text)


def _words(*parts: object) -> str:
    return clean(" ".join(str(part) for part in parts if part not in (None, "")))


def clean(text: str) -> str:
    """Return the text on one line, without characters that move a cursor or change how a terminal draws."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
