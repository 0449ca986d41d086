"""Holds every call that comes to a tap until somebody lets it through; one gate may serve several taps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from session_fix.tap.messages import Request


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A call at the gate. ``release`` lets it through, once."""

    request: Request
    released: Future[None] = field(default_factory=Future, repr=False)

    def release(self) -> None:
        """Let the call through to the data API."""
        if not self.released.done():
            self.released.set_result(None)


class Gate:
    """Tells ``arrived`` of each call, from a tap's thread, and holds it until it is released or the gate is opened."""

    def __init__(self, arrived: Callable[[Held], None]) -> None:
        self._arrived = arrived
        self._lock = threading.Lock()
        self._held: set[Held] = set()
        self._is_open = False

    async def passed(self, request: Request) -> None:
        """Return when a call may go on."""
        held = Held(request)
        with self._lock:
            if self._is_open:
                return
            self._held.add(held)
        self._arrived(held)
        try:
            await asyncio.wrap_future(held.released)
        finally:
            with self._lock:
                self._held.discard(held)

    def open(self) -> None:
        """Let everything through from now on: the run is over, whatever came of it."""
        with self._lock:
            self._is_open = True
            held = list(self._held)
        for one in held:
            one.release()
