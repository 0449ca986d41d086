"""How many databases to have ready, from how fast tests ask and how long it takes to make one ready (pure)."""

from __future__ import annotations

import math

LIMIT = 2  # of those that wait: more would not be made any faster, and fewer stay in the processor's caches
WEIGHT = 0.2  # of the latest measurement: some ten of them change the picture


def smoothed(before: float | None, latest: float) -> float:
    """Return the moving average of a series with its latest value; ``before`` is None for the first."""
    return latest if before is None else before + WEIGHT * (latest - before)


def wanted(making_s: float | None, between_s: float | None) -> int:
    """Return how many databases should be ready or under way, so that who asks does not wait.

    ``making_s`` is how long one takes, ``between_s`` the time between two asks, both in seconds, None when not known.
    """
    if not making_s or not between_s:
        return 1
    return min(1 + math.floor(making_s / between_s), LIMIT)
