"""How often and after which pauses a step is tried that others are in the way of. Pure: chance comes from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

FIRST_PAUSE_S = 0.2  # with a lock_timeout of 10 ms, others are held up for a twentieth of the time at most
LONGEST_PAUSE_S = 2.0
GROWTH = 1.05
TRIES = 100  # two minutes and a half
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """``tries`` at most, none begun more than ``patience_s`` seconds after the first."""

    tries: int = TRIES
    patience_s: float = PATIENCE_S

    def pauses(self, chance: Callable[[], float]) -> Iterator[float]:
        """Yield the seconds to wait before the second try, the third and so on.

        They grow slowly to a limit, and ``chance``, of [0, 1), makes each half as long to half as long again, so that
        two who wait for the same do not meet again and again.
        """
        pause_s = FIRST_PAUSE_S
        for _ in range(self.tries - 1):
            yield pause_s * (0.5 + chance())
            pause_s = min(pause_s * GROWTH, LONGEST_PAUSE_S)
