"""Say on standard error what is being waited for: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

QUIET_FOR_S = 2.0  # what takes less is not worth a line in a log


@dataclass
class Progress:
    """Names the steps under way, and remembers how long each took. Steps may run at the same time."""

    quiet: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    _running: dict[object, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def console(self) -> Console:
        """Standard error, made by the first who has something to say: most runs of pytest have not."""
        from rich.console import Console  # noqa: PLC0415  pytest starts without it

        return Console(stderr=True)

    @contextmanager
    def step(self, doing: str) -> Iterator[Callable[[int, int | None], None]]:
        """Show ``doing`` for the length of the block, and add its seconds to ``timings``.

        Yields a function that says how far it is: (done, of how many), or (done, None) where nobody knows.
        """
        began, key = time.monotonic(), object()

        def count(done: int, of: int | None) -> None:
            self._running[key] = f"{doing}: {done:,}" if of is None else f"{doing}: {done:,} of {of:,}"

        with self._lock:
            self._running[key] = doing
        late = None
        if not self.quiet:
            late = threading.Timer(QUIET_FOR_S, self._say, [f"{doing} ..."])
            late.daemon = True
            late.start()
        try:
            yield count
        finally:
            if late:
                late.cancel()
            with self._lock:
                del self._running[key]
                self.timings[doing] = self.timings.get(doing, 0.0) + time.monotonic() - began

    def _say(self, line: str) -> None:
        if not self.console.is_terminal:
            self.console.print(line, soft_wrap=True, highlight=False)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep one line on the terminal up to date for the block; elsewhere do nothing."""
        if self.quiet or not self.console.is_terminal:
            yield
            return
        done = threading.Event()
        with self.console.status("") as status:

            def redraw() -> None:
                while not done.wait(0.1):
                    with self._lock:
                        status.update(" · ".join(self._running.values()))

            painter = threading.Thread(target=redraw, daemon=True)
            painter.start()
            try:
                yield
            finally:
                done.set()
                painter.join()


SILENT = Progress(quiet=True)
