"""The one record of a run: typed events in the order of their times, from which every verdict and report is made.

Times are microseconds on the monotonic clock since the recorder began; on one machine all processes share that clock.
Keys, tokens and passwords never enter an event; texts are described by their length.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = frozenset({"request", "answer", "enter", "return", "raise", "call", "reply", "rows"})
DEEPEST = 8
NAME = re.compile(r"[A-Za-z_*][A-Za-z0-9_]{0,62}")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was observed: ``kind`` by ``actor`` at ``t_us``, with the kind's own fields."""

    seq: int
    t_us: int
    kind: str
    actor: str
    fields: Mapping[str, Any]

    def as_json(self, run: str) -> dict[str, Any]:
        """Return the event as one flat JSON object."""
        return {"run": run, "seq": self.seq, "t_us": self.t_us, "kind": self.kind, "actor": self.actor, **self.fields}


class Recorder:
    """Collects the events of one run; may be used from several threads."""

    def __init__(self) -> None:
        self.run = uuid.uuid4().hex[:12]
        self._began_ns = time.monotonic_ns()
        self._events: list[Event] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def record(self, kind: str, actor: str, /, *, at_ns: int | None = None, **fields: Any) -> Event:
        """Add an event that happened at ``at_ns`` on the monotonic clock, by default now."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of event; known are {sorted(KINDS)}.")
        with self._lock:
            t_us = ((at_ns if at_ns is not None else time.monotonic_ns()) - self._began_ns) // 1000
            event = Event(next(self._numbers), t_us, kind, actor, fields)
            self._events.append(event)
            return event

    def events(self) -> list[Event]:
        """Return what was recorded, in order of time."""
        with self._lock:
            return sorted(self._events, key=lambda event: (event.t_us, event.seq))


def describe(value: Any, depth: int = 0) -> Any:
    """Return what an event may say of a value: ids, numbers and None as they are, texts and lists by their length.

    A key that is no name is a text; what is nested deeper than anything the API takes is named by its type.
    """
    match value:
        case None | bool() | int() | float():
            return value
        case str() if UUID.fullmatch(value):
            return value.lower()
        case str():
            return f"text({len(value)})"
        case dict() if depth < DEEPEST:
            return {_key(key): describe(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return f"list({len(value)})"
    return type(value).__name__


def _key(key: Any) -> str:
    return key if isinstance(key, str) and NAME.fullmatch(key) else str(describe(key))
