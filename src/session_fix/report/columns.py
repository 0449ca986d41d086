"""Text in 80 columns, for a terminal, a log or a ticket."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from session_fix.report.messages import clean

WIDTH = 80
SECOND_MS = 1000


def wrapped(text: str, indent: str = "", *, more: str | None = None) -> list[str]:
    """Return lines of at most the width, after ``indent``, and ``more`` from the second on.

    A name in a database may hold what a terminal would obey.
    """
    later = indent if more is None else more
    return textwrap.wrap(
        clean(text), WIDTH, initial_indent=indent, subsequent_indent=later, break_on_hyphens=False
    ) or [indent.rstrip()]


def labelled(label: str, text: str, *, indent: int = 4, width: int = 10) -> list[str]:
    """Return lines with a label before the first one."""
    return wrapped(text, f"{' ' * indent}{label:{width}}", more=" " * (indent + width))


def seconds(value: float) -> str:
    """Return a time as somebody says it who knows only its order of magnitude."""
    for limit, unit, name in ((0.1, 0, "a moment"), (90, 1, "s"), (5400, 60, "min")):
        if value < limit:
            return f"about {value / unit:.2g} {name}" if unit else name
    return f"about {value / 3600:.2g} h"


def milliseconds(value: int) -> str:
    """Return a timeout, 0 being none."""
    if not value:
        return "none"
    return f"{value / 1000:g} s" if value >= SECOND_MS else f"{value} ms"


def listed(items: Iterable[str], *, none: str = "nothing") -> str:
    """Return the items in one line."""
    return ", ".join(items) or none


def findings(found: Iterable[tuple[str, str, str, str]], *, indent: int = 10) -> Iterator[str]:
    """Yield findings as (severity, what, what to do, id), each in a few lines."""
    margin = " " * indent
    for severity, what, todo, name in found:
        first, *rest = wrapped(what, margin)
        yield f"{severity:{indent}}{first.strip()}"
        yield from rest
        if todo:
            yield from wrapped(f"-> {todo}", margin)
        yield from wrapped(f"[{name}]", margin)
