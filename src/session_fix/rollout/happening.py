"""What happens in the course of a rollout, as values: whoever shows progress listens, the engine prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from session_fix.rollout.blockers import Session
from session_fix.rollout.plan import Step


@dataclass(frozen=True, slots=True)
class Begun:
    """A step begins: the ``number``-th of ``of``."""

    step: Step
    number: int
    of: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something is waited for: ``what`` in words, and who is in the way, as far as that can be seen."""

    what: str
    whom: tuple[Session, ...] = ()

    def __str__(self) -> str:
        return f"{self.what}: {', '.join(map(str, self.whom))}" if self.whom else self.what


@dataclass(frozen=True, slots=True)
class Said:
    """Something that the operator should know, and that stops nothing."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step is done: how long it took, in how many tries, and the longest that one try could hold others up."""

    step: Step
    seconds: float
    tries: int
    held_s: float


Event = Begun | Waiting | Said | Done
Listener = Callable[[Event], None]


def nobody(event: Event) -> None:
    """Listen to nothing."""
