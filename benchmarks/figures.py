"""From measured values to rows and claims; pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

TUNED = "data in RAM, fsync off"
INSTALLED = "as installed"
BOTH = f"{INSTALLED}: {TUNED}"  # ours needs no tuning


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one benchmark: milliseconds, further figures by name, or why there are none.

    ``series`` is for a plot: seconds since the beginning, milliseconds.
    """

    benchmark: str
    contender: str
    setting: str = ""
    n: int = 0
    median: float | None = None
    p10: float | None = None
    p90: float | None = None
    more: dict[str, float] = field(default_factory=dict)
    error: str = ""
    series: tuple[tuple[float, float], ...] = ()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the values lie, between two values by their distance."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    return ordered[low] + (ordered[math.ceil(place)] - ordered[low]) * (place - low)


def row(benchmark: str, contender: str, setting: str, values_ms: Sequence[float], **more: float) -> Row:
    """Return the row of a contender's values."""
    p10, median, p90 = (percentile(values_ms, share) for share in (0.1, 0.5, 0.9))
    return Row(benchmark, contender, setting, len(values_ms), median, p10, p90, more)


@dataclass(frozen=True, slots=True)
class Claim:
    """What we say of ourselves: the median of ``contender``, or that of ``than`` divided by it, and its limit.

    ``contender`` and ``than`` are a benchmark, a contender and a setting. ``wanted`` reads ">= 2" or "<= 0.3".
    """

    text: str
    wanted: str
    contender: tuple[str, str, str]
    than: tuple[str, str, str] | None = None

    def measured(self, rows: Sequence[Row]) -> float | None:
        """Return the figure, None where a row that it needs has none."""
        medians = {(one.benchmark, one.contender, one.setting): one.median for one in rows}
        mine, other = medians.get(self.contender), medians.get(self.than) if self.than else None
        if self.than is None:
            return mine
        return other / mine if mine and other else None

    def verdict(self, rows: Sequence[Row]) -> str:
        """Return "met", "not met" or "not measured"."""
        if (measured := self.measured(rows)) is None:
            return "not measured"
        sign, limit = self.wanted.split()
        met = measured >= float(limit) if sign == ">=" else measured <= float(limit)
        return "met" if met else "not met"
