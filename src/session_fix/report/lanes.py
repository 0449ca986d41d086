"""The lane diagram as text: three vertical lines, what passes between them, and what happens inside the backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from session_fix.report.messages import LANES, Message

NARROWEST, WIDEST = 60, 100
LINES_AT_MOST, CUT = 6, "[...]"
MEASURE = Console(width=WIDEST)
STYLES = {True: "green", False: "bold red", None: ""}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters to draw with."""

    lane: str
    line: str
    right: str
    left: str


UNICODE = Glyphs("│", "─", "▶", "◀")
ASCII = Glyphs("|", "-", ">", "<")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Return what an output of this encoding can show."""
    try:
        "".join(astuple(UNICODE)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def draw(messages: Sequence[Message], *, width: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """Return the diagram's lines, none wider than ``width`` columns (at least 60 are used, at most 100)."""
    width = max(NARROWEST, min(width, WIDEST))
    lanes = (1, 1 + (width - 3) * 3 // 8, width - 2)
    return [_heading(lanes, width), *(line for message in messages for line in _lines(message, lanes, glyphs))]


def _heading(lanes: tuple[int, ...], width: int) -> Text:
    line = [" "] * width
    for lane, name in zip(lanes, LANES, strict=True):
        start = min(max(0, lane - len(name) // 2), width - len(name))
        line[start : start + len(name)] = name
    return Text("".join(line).rstrip(), style="bold")


def _lines(message: Message, lanes: tuple[int, ...], glyphs: Glyphs) -> list[Text]:
    """Draw one message over the bare lanes; what does not fit beside its arrow goes on below it."""
    left, right = sorted((message.source, message.target))
    begin, end = lanes[left] + 1, lanes[right if right > left else left + 1]
    room = end - begin
    if left == right:
        indent = " " * min(2 * message.depth, room // 2)
        first, *rest = _wrapped(message.text, room - len(indent) - 4)
        labels = [f" {indent}{first}", *(f" {indent}  {line}" for line in rest)]
    else:
        first, *rest = _wrapped(message.text, room - 5)
        labels = [_arrow(message, first, room, glyphs), *(f"   {line}" for line in rest)]
    return [_over_lanes(set_cell_size(label, room), begin, end, message, lanes, glyphs) for label in labels]


def _over_lanes(label: str, begin: int, end: int, message: Message, lanes: tuple[int, ...], glyphs: Glyphs) -> Text:
    bare = "".join(glyphs.lane if column in lanes else " " for column in range(lanes[-1] + 1))
    return Text.assemble(bare[:begin], (label, STYLES[message.good]), bare[end:])


def _wrapped(text: str, room: int) -> list[str]:
    """Return the text in lines of at most ``room`` columns, as a terminal counts them; very long ones are cut."""
    lines = [line.plain.rstrip() for line in Text(text).wrap(MEASURE, room)] or [""]
    if len(lines) > LINES_AT_MOST:
        lines[LINES_AT_MOST - 1 :] = [CUT]
    return lines


def _arrow(message: Message, text: str, room: int, glyphs: Glyphs) -> str:
    line = glyphs.line * (room - 4 - cell_len(text))
    if message.source < message.target:
        return f"{glyphs.line} {text} {line}{glyphs.right}"
    return f"{glyphs.left}{line} {text} {glyphs.line}"
