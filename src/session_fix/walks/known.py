"""What walks came to, so that none is taken twice.

To shorten a story, hundreds of walks are tried, most of which a service cannot tell from one that it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable

from session_fix.walks.steps import Step
from session_fix.walks.walk import Contradiction, Walk, World

Seen = tuple[tuple[object, ...], ...]


class KnownWalks:
    """Takes walks through a world, step by step as they are drawn, and only those that differ from all before."""

    def __init__(self, world: World) -> None:
        self.walks = 0
        self.steps = 0
        self._world = world
        self._walk: Walk | None = None
        self._passed: set[Seen] = {()}
        self._failed: dict[Seen, Contradiction] = {}

    def come_to(self, steps: tuple[Step, ...]) -> Contradiction | None:
        """Return what the last of the steps comes to; the others have come to nothing that may not be.

        A story that is returned may be that of a walk which the service cannot tell from this one.
        """
        seen = _seen(steps)
        if seen in self._passed:
            return None
        if seen not in self._failed:
            if found := self._go_on(steps):
                self._failed[seen] = found
                return found
            self._passed.add(seen)
        return self._failed.get(seen)

    def _go_on(self, steps: tuple[Step, ...]) -> Contradiction | None:
        """Take the last step where the walk under way leads to it, else all of them from the beginning."""
        walk, self._walk = self._walk, None
        if walk is None or _seen(walk.steps) != _seen(steps[:-1]):
            walk = Walk(self._world)
            self.walks += 1
        for step in steps[len(walk.steps) :]:
            self.steps += 1
            if found := walk.go(step):
                return found
        self._walk = walk
        return None


def _seen(steps: Iterable[Step]) -> Seen:
    return tuple(step.seen for step in steps)
