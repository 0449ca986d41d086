"""What happened during a rehearsal, as frozen values, and what it comes to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

OK = 200
FEWEST = 5  # requests; a service that was hardly asked shows nothing


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a service: when it began, in seconds since the rollout did, and what came of it.

    ``status`` is None where no answer came.
    """

    began_s: float
    took_ms: float
    path: str
    status: int | None


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for a lock that was seen: which lock, whose, and the longest that it was seen to last."""

    relation: str
    mode: str
    application: str
    longest_ms: float


@dataclass(frozen=True, slots=True)
class Used:
    """A service and what it was asked before and during the rollout."""

    name: str
    requests: tuple[Request, ...]

    def before(self) -> tuple[Request, ...]:
        """Return the requests that had their answer when the rollout began."""
        return tuple(one for one in self.requests if one.began_s * 1000 + one.took_ms < 0)

    def during(self) -> tuple[Request, ...]:
        """Return the others."""
        return tuple(one for one in self.requests if one.began_s * 1000 + one.took_ms >= 0)

    def failed(self) -> tuple[Request, ...]:
        """Return the requests that failed during the rollout, other than they had before it.

        A broken service answers some of them with 500 whatever the schema is: that is no fault of the rollout.
        """
        usual = {(one.path, one.status) for one in self.before()}
        return tuple(one for one in self.during() if one.status != OK and (one.path, one.status) not in usual)

    def worst_ms(self) -> float:
        """Return the longest that an answer took during the rollout."""
        return max((one.took_ms for one in self.during()), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A rollout, the services that were used meanwhile, the waits for locks that were seen, and what went wrong."""

    services: tuple[Used, ...]
    waits: tuple[Wait, ...]
    steps: int
    took_s: float
    interactions: int
    lost: int
    problem: str = ""

    @property
    def verdict(self) -> str:
        """``pass`` only where both services were used throughout and nothing failed or was lost."""
        if self.problem or self.lost or any(one.failed() for one in self.services):
            return "fail"
        enough = all(len(one.during()) >= FEWEST and len(one.before()) >= FEWEST for one in self.services)
        return "pass" if enough else "inconclusive"


def statuses(requests: Iterable[Request]) -> str:
    """Return how often each status came, such as "200 48 times, no answer once"."""
    counted = Counter("no answer" if one.status is None else str(one.status) for one in requests)
    return ", ".join(f"{status} {number}x" for status, number in sorted(counted.items())) or "none"
