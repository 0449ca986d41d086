"""Something ready before it is asked for: made, renewed and discarded in the background, as much as is asked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from session_fix.isolation import sizing

T = TypeVar("T")
THREADS = "session-fix-pool"


class Pool(Generic[T]):
    """Hands out what ``make`` returns, and takes it back: what ``renew`` returns is handed out again, None is not.

    ``make`` runs in one thread and ``renew`` in another, so that neither waits for the other. What either raises is
    raised by the next ``take`` that finds nothing ready.
    """

    def __init__(self, make: Callable[[], T], renew: Callable[[T], T | None], discard: Callable[[T], None]) -> None:
        self._make, self._renew, self._discard = make, renew, discard
        self._ready: deque[T] = deque()
        self._under_way = 0
        self._error: BaseException | None = None
        self._change = threading.Condition()
        self._maker = ThreadPoolExecutor(1, THREADS)
        self._renewer = ThreadPoolExecutor(1, THREADS)
        self._asked_at: float | None = None
        self._between_s: float | None = None
        self._making_s: float | None = None

    def take(self) -> T:
        """Return one that is ready, or the first that will be."""
        with self._change:
            now = time.monotonic()
            if self._asked_at is not None:
                self._between_s = sizing.smoothed(self._between_s, now - self._asked_at)
            self._asked_at = now
            while not self._ready:
                if error := self._error:
                    self._error = None  # the next who asks tries again
                    raise error
                if not self._under_way:
                    self._start(self._maker, self._make)
                self._change.wait()
            taken = self._ready.popleft()
            while len(self._ready) + self._under_way < sizing.wanted(self._making_s, self._between_s):
                self._start(self._maker, self._make)
            return taken

    def give_back(self, used: T) -> None:
        """Renew it for the next who asks, in the background."""
        with self._change:
            self._start(self._renewer, lambda: self._renew(used))

    def close(self) -> None:
        """Wait for what is under way, then discard what is ready."""
        self._renewer.shutdown()
        self._maker.shutdown()
        while self._ready:
            self._discard(self._ready.popleft())

    def _start(self, thread: ThreadPoolExecutor, work: Callable[[], T | None]) -> None:
        self._under_way += 1
        began = time.monotonic()
        thread.submit(work).add_done_callback(lambda done: self._finished(done, time.monotonic() - began))

    def _finished(self, done: Future[T | None], took_s: float) -> None:
        with self._change:
            self._under_way -= 1
            if error := done.exception():
                self._error = error
            elif (made := done.result()) is not None:
                self._ready.append(made)
                self._making_s = sizing.smoothed(self._making_s, took_s)
            self._change.notify()
