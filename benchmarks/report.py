"""The results as Markdown and as a plot; pure functions of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from benchmarks.figures import INSTALLED, TUNED, Claim, Row

HOW = (
    "All contenders ran in one run, in turn, several rounds (A B C, A B C, ...), so that drift of the machine hits all "
    "alike. Milliseconds; p10 and p90 are the spread: a tenth of the values lies below, a tenth above."
)
PLOTTED = ("per_test", "server_start")
OURS, THEIRS, FAINT = "#0b7a5b", "#4a5568", "#cbd5e0"
DECADES, DECADE, HEIGHT = 4, 18, 92  # of the strips: milliseconds from 1 to 10,000, pixels
LABELS, RIGHT, WIDTH, LINE = 410, 880, 960, 22  # pixels


def markdown(
    machine: Mapping[str, str], descriptions: Mapping[str, str], rows: Sequence[Row], claims: Sequence[Claim]
) -> str:
    """Return the whole report. ``descriptions`` says of each benchmark what was measured."""
    parts = ["# Benchmarks", HOW, "\n".join(f"- {name}: {value}" for name, value in machine.items())]
    parts += ["## Claims", _table(["claim", "measured", "wanted", ""], [_claim(claim, rows) for claim in claims])]
    for name, description in descriptions.items():
        own = [row for row in rows if row.benchmark == name]
        parts += [f"## {name}", description.strip(), *_tables(name, own)]
    return "\n\n".join(parts) + "\n"


def _claim(claim: Claim, rows: Sequence[Row]) -> list[str]:
    return [claim.text, number(claim.measured(rows)), claim.wanted, claim.verdict(rows)]


def _tables(name: str, rows: Sequence[Row]) -> list[str]:
    """Return one table, or two that compare like with like: tuned on both sides, and as installed on both."""
    if name != "per_test":
        return [_rows(rows)]
    tuned = [row for row in rows if row.setting != INSTALLED]
    installed = [row for row in rows if row.setting.startswith(INSTALLED)]
    return [f"With {TUNED} on both sides:", _rows(tuned), "As installed, on both sides:", _rows(installed)]


def _rows(rows: Sequence[Row]) -> str:
    more = list(dict.fromkeys(name for row in rows for name in row.more))
    heads = ["contender", "setting", "n", "median", "p10", "p90", *more]
    return _table(heads, [_cells(row, more) for row in rows])


def _cells(row: Row, more: Sequence[str]) -> list[str]:
    if row.error:
        return [
            row.contender,
            row.setting,
            "0",
            f"not measured: {' '.join(row.error.split())}",
            *[""] * (2 + len(more)),
        ]
    figures = [row.median, row.p10, row.p90, *(row.more.get(name) for name in more)]
    return [row.contender, row.setting, str(row.n), *map(number, figures)]


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in ruled)


def number(value: float | None) -> str:
    """Return a figure with three significant digits, a dash for none."""
    if value is None:
        return "-"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(digits, 0), 3)}f}"


def svg(rows: Sequence[Row]) -> str:
    """Return a plot of medians with their spread on a logarithmic axis, a panel for each of ``PLOTTED``."""
    drawn, top = [], 30
    for name in PLOTTED:
        # as installed below: each half compares like with like
        own = sorted((row for row in rows if row.benchmark == name), key=lambda row: row.setting == INSTALLED)
        if own:
            drawn += _panel(f"{name}: milliseconds, on a logarithmic axis", own, top)
            top += LINE * (len(own) + 4)
    if waits := [row for row in rows if row.series]:
        drawn += _waits(waits, top)
        top += HEIGHT * len(waits) + 3 * LINE
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="{WIDTH}" height="{top}" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


def _panel(title: str, rows: Sequence[Row], top: int) -> list[str]:
    known = [figure for row in rows for figure in (row.p10, row.p90) if figure] or [1.0]
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))

    def across(value: float) -> float:
        return LABELS + (RIGHT - LABELS) * (math.log10(value) - first) / max(last - first, 1)

    bottom = top + LINE * len(rows) + 10
    drawn = [_text(10, top, title, 'font-size="15" font-weight="bold"')]
    for decade in range(first, last + 1):
        x = across(10**decade)
        drawn.append(f'<line x1="{x:.1f}" y1="{top + 8}" x2="{x:.1f}" y2="{bottom}" stroke="{FAINT}"/>')
        drawn.append(_text(x, bottom + 14, f"{10.0**decade:g}", 'text-anchor="middle" fill="gray"'))
    for place, row in enumerate(rows, 1):
        drawn += _mark(row, top + LINE * place, across)
    return drawn


def _mark(row: Row, y: float, across: Callable[[float], float]) -> list[str]:
    """Draw one contender: a line for its spread, a dot for its median."""
    colour = OURS if row.contender.startswith("session-fix") else THEIRS
    setting = f' <tspan fill="gray" font-size="10">{escape(row.setting)}</tspan>'
    label = _text(10, y + 4, row.contender, f'fill="{colour}"').replace("</text>", f"{setting}</text>")
    if row.median is None or row.p10 is None or row.p90 is None:
        return [label, _text(LABELS, y + 4, f"not measured: {row.error}"[:80], 'fill="gray"')]
    low, middle, high = map(across, (row.p10, row.median, row.p90))
    return [
        label,
        f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="3" opacity="0.5"/>',
        f'<circle cx="{middle:.1f}" cy="{y}" r="5" fill="{colour}"/>',
        _text(max(high, middle + 5) + 6, y + 4, number(row.median), f'fill="{colour}"'),
    ]


def _waits(rows: Sequence[Row], top: int) -> list[str]:
    """Return one strip for each row: how long a statement took, on a logarithmic axis, over the time of the run."""
    last_s = max(at for row in rows for at, _ in row.series)
    drawn = [
        _text(10, top, "rollout: milliseconds that a writer waited, over seconds", 'font-size="15" font-weight="bold"')
    ]

    def across(at: float) -> float:
        return LABELS + (RIGHT - LABELS) * at / last_s

    for place, row in enumerate(rows):
        floor = top + HEIGHT * (place + 1)
        color = OURS if row.contender.startswith("session-fix") else THEIRS
        drawn.append(_text(10, floor - HEIGHT / 2, f"{row.contender}: {row.setting}", f'fill="{color}"'))
        for decade in range(DECADES + 1):
            y = floor - decade * DECADE
            drawn.append(f'<line x1="{LABELS}" y1="{y}" x2="{RIGHT}" y2="{y}" stroke="{FAINT}"/>')
            drawn.append(_text(RIGHT + 6, y + 4, f"{10**decade:,}", 'fill="gray"'))
        for at, took_ms in row.series:
            height = DECADE * min(max(math.log10(max(took_ms, 1.0)), 0.0), DECADES)
            x = across(at)
            drawn.append(f'<line x1="{x:.1f}" y1="{floor}" x2="{x:.1f}" y2="{floor - height:.1f}" stroke="{color}"/>')
    drawn += [
        _text(across(second), top + HEIGHT * len(rows) + 16, str(second), 'text-anchor="middle" fill="gray"')
        for second in range(0, int(last_s) + 1, max(1, int(last_s / 10)))
    ]
    return drawn


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
