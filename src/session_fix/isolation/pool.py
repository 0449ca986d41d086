"""Something ready before it is asked for: made and renewed beside the tests, as much as is asked for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from session_fix.isolation import sizing
from session_fix.isolation.tasks import Task, Tasks

T = TypeVar("T")


class Pool(Generic[T]):
    """Hands out what ``make`` returns, and takes it back: what ``renew`` returns is handed out again, None is not.

    What either raises is raised by the next ``take`` or ``check``.
    """

    def __init__(self, tasks: Tasks, make: Callable[[], Task[T]], renew: Callable[[T], Task[T | None]]) -> None:
        self._tasks = tasks
        self._make, self._renew = make, renew
        self._ready: deque[T] = deque()
        self._under_way = 0
        self._error: BaseException | None = None
        self._asked_at: float | None = None
        self._between_s: float | None = None
        self._making_s: float | None = None

    def take(self) -> T:
        """Return one that is ready, at once, or the first that will be."""
        self._note_the_pace()
        self.check()
        if not self._ready:
            self._tasks.go_on()  # one may be finished, and nobody has looked
            self.check()
        if self._ready:
            return self._ready.pop()  # the latest: what it needs is still in the processor's caches
        while not self._ready:
            if not self._under_way:
                self._start(self._make())
            else:
                self._tasks.go_on(wait=True)
            self.check()
        taken = self._ready.pop()
        self._make_ahead()
        return taken

    def give_back(self, used: T) -> None:
        """Renew it for the next who asks."""
        self._start(self._renew(used))
        self._tasks.go_on()
        self._make_ahead()

    def _make_ahead(self) -> None:
        while not self._error and len(self._ready) + self._under_way < sizing.wanted(self._making_s, self._between_s):
            self._start(self._make())

    def emptied(self) -> list[T]:
        """Return what is ready, and hand out no more of it; after the tasks have finished."""
        ready, self._ready = self._ready, deque()
        return list(ready)

    def check(self) -> None:
        """Raise what making or renewing raised, if nobody has been told yet."""
        error, self._error = self._error, None  # the next who asks tries again
        if error:
            raise error

    def _note_the_pace(self) -> None:
        now = time.monotonic()
        if self._asked_at is not None:
            self._between_s = sizing.smoothed(self._between_s, now - self._asked_at)
        self._asked_at = now

    def _start(self, task: Task[T | None] | Task[T]) -> None:
        self._under_way += 1
        began = time.monotonic()

        def finished(made: T | None, error: BaseException | None) -> None:
            self._under_way -= 1
            self._error = error or self._error
            if made is not None:
                self._ready.append(made)
                self._making_s = sizing.smoothed(self._making_s, time.monotonic() - began)
            else:
                self._make_ahead()  # it was counted on until now

        self._tasks.start(task, finished)
