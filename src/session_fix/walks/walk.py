"""Takes a walk step by step, with a look at the rows after each, and tells the story of the step that went wrong."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Protocol

from session_fix.errors import ServiceError
from session_fix.events import UUID
from session_fix.walks.model import Reply, Rows, contradictions, session_of
from session_fix.walks.steps import Step


class World(Protocol):
    """What a walk goes through."""

    def empty(self) -> None:
        """Remove all rows; a walk begins."""

    def take(self, step: Step, session_id: str | None) -> Reply:
        """Take a step and return its answer; ``session_id`` is None when the service is to make one.

        Raises ``ServiceError`` when there is no answer: the service hangs or has died.
        """

    def look(self) -> Rows:
        """Return what is stored."""


class Contradiction(AssertionError):  # noqa: N818  a finding; nothing of ours went wrong
    """What a service did and may not do: the ``steps`` that led to it, as they were ``told``, and ``what`` it was."""

    def __init__(self, steps: Sequence[Step], told: Sequence[str], what: Sequence[str]) -> None:
        self.steps, self.told, self.what = tuple(steps), tuple(told), tuple(what)
        numbered = [f"  {number}. {step}" for number, step in enumerate(told, start=1)]
        super().__init__("\n".join(["a walk came to what may not be:", *numbered, *(f"  but {line}" for line in what)]))


class Walk:
    """A walk under way, begun without rows."""

    def __init__(self, world: World) -> None:
        self.steps: tuple[Step, ...] = ()
        self._world = world
        self._rows = Rows()
        self._ids: dict[str, str] = {}
        self._told: list[str] = []
        world.empty()

    def go(self, step: Step) -> Contradiction | None:
        """Take a step; return what the model has against what it came to. ``ServiceError`` gets the story as a note."""
        if step.is_given:
            self._ids.setdefault(step.session, str(uuid.uuid4()))
        try:
            reply = self._world.take(step, self._ids[step.session] if step.is_given else None)
        except ServiceError as error:
            error.add_note("\n".join(["after the steps", *self._told, str(step)]))
            raise
        before, self._rows = self._rows, self._world.look()
        session_id = self._ids[step.session] if step.is_given else session_of(step, reply, before, self._rows)
        if session_id:
            self._ids[step.session] = session_id
        self.steps += (step,)
        self._told.append(self._named(f"{step} -> {reply.said}"))
        wrong = contradictions(step, session_id, before, reply, self._rows)
        return Contradiction(self.steps, self._told, list(map(self._named, wrong))) if wrong else None

    def _named(self, text: str) -> str:
        """Put names in the place of ids; a session that no step is about has none."""
        names = {known: name for name, known in self._ids.items()}
        return UUID.sub(lambda found: names.get(found[0], "a stranger"), text)


def take(steps: Iterable[Step], world: World) -> Contradiction | None:
    """Take a walk; return the first contradiction, None when there is none."""
    walk = Walk(world)
    return next(filter(None, map(walk.go, steps)), None)
