"""Holds every call that comes to a tap until somebody lets it through; one gate may serve several taps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from session_fix.tap.messages import Request


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A call under way. The first ``release`` or ``drop`` decides whether it may go on; what comes later does nothing.

    A lock and a queue, since a call has to wait for making them, and an ``Event`` takes forty times as long.
    """

    request: Request
    _decisions: queue.SimpleQueue[bool] = field(default_factory=queue.SimpleQueue, repr=False)
    _running: threading.Lock = field(default_factory=_taken, repr=False)

    def release(self) -> None:
        """Let the call through to the data API."""
        self._decisions.put(True)

    def drop(self) -> None:
        """Never send the call on, and hang up on whoever made it."""
        self._decisions.put(False)

    def wait(self) -> None:
        """Return once it was released; only the call's own thread asks. Raises ``ConnectionError`` when dropped."""
        if not self._decisions.get():
            raise ConnectionAbortedError("the call was dropped")

    def end(self) -> None:
        """Say that the call has ended, whatever came of it."""
        self._running.release()

    def has_ended(self, *, timeout_s: float) -> bool:
        """Say whether the call ended within ``timeout_s`` seconds."""
        if ended := self._running.acquire(timeout=timeout_s):
            self._running.release()
        return ended


class Gate:
    """Tells ``arrived`` of each call, in the call's thread, and holds it until it is released or the gate is opened."""

    def __init__(self, arrived: Callable[[Held], None]) -> None:
        self._arrived = arrived
        self._lock = threading.Lock()
        self._held: set[Held] = set()
        self._is_open = False

    def hold(self, call: Held) -> None:
        """Return when the call may go on. Raises ``ConnectionError`` when it may not."""
        with self._lock:
            if self._is_open:
                return
            self._held.add(call)
        try:
            self._arrived(call)
            call.wait()
        finally:
            with self._lock:
                self._held.discard(call)

    def open(self) -> None:
        """Let everything through from now on: the run is over, whatever came of it."""
        with self._lock:
            self._is_open = True
            for call in self._held:
                call.release()
