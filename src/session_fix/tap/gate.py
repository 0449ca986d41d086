"""Holds every call that comes to a tap until somebody lets it through; one gate may serve several taps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from session_fix.tap.messages import Request


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A call at the gate. Either ``release`` or ``drop`` decides about it, once; ``ended`` is set when it has ended."""

    request: Request
    released: Future[None] = field(default_factory=Future, repr=False)
    ended: threading.Event = field(default_factory=threading.Event, repr=False)

    def release(self) -> None:
        """Let the call through to the data API."""
        if not self.released.done():
            self.released.set_result(None)

    def drop(self) -> None:
        """Never send the call on, and hang up on whoever made it."""
        if not self.released.done():
            self.released.set_exception(ConnectionAbortedError("the call was dropped"))


class Gate:
    """Tells ``arrived`` of each call, from a tap's thread, and holds it until it is released or the gate is opened."""

    def __init__(self, arrived: Callable[[Held], None]) -> None:
        self._arrived = arrived
        self._lock = threading.Lock()
        self._held: set[Held] = set()
        self._is_open = False

    @asynccontextmanager
    async def passed(self, request: Request) -> AsyncIterator[None]:
        """Enter the block when a call may go on; its end is the call's. Raises ``ConnectionError`` when it may not."""
        held = Held(request)
        with self._lock:
            is_open = self._is_open
            if not is_open:
                self._held.add(held)
        try:
            if not is_open:
                self._arrived(held)
                await asyncio.wrap_future(held.released)
            yield
        finally:
            with self._lock:
                self._held.discard(held)
            held.ended.set()

    def hold(self, request: Request) -> None:
        """Hold whoever calls this as if the request had come to a tap, until it is released or the gate is opened."""
        held = Held(request)
        with self._lock:
            if self._is_open:
                return
            self._held.add(held)
        self._arrived(held)
        held.released.result()

    def open(self) -> None:
        """Let everything through from now on: the run is over, whatever came of it."""
        with self._lock:
            self._is_open = True
            held = list(self._held)
        for one in held:
            one.release()
