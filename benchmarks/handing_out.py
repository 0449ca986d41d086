"""Milliseconds until a test has its private database, when tests ask more slowly than databases are made."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.figures import Row
from benchmarks.runs import Sizes, interleave, rows
from session_fix import stack
from session_fix.progress import SILENT
from session_fix.settings import ISOLATIONS, Settings

NAME = "handing_out"
READY = {isolation: f"session-fix, {isolation}" for isolation in ISOLATIONS}
PAUSE_S = 0.03


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each isolation. The first asking, which finds nothing made ahead, is not counted."""
    measures = {(name, ""): partial(_asked, isolation, sizes.calls) for isolation, name in READY.items()}
    found = interleave(measures, sizes.rounds)
    return rows(NAME, found, lambda runs: [took_ms for run in runs for took_ms in run])


def _asked(isolation: str, times: int) -> list[float]:
    took_ms = []
    settings = Settings()
    with stack.start(settings, stack.new_keys(settings), progress=SILENT) as running:
        for _ in range(times + 1):
            began = time.perf_counter()
            with running.lend(isolation):
                took_ms.append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE_S)
    return took_ms[1:]
