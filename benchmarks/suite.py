"""Milliseconds for a whole pytest run, its start included: one after another, and two workers of pytest-xdist.

"net" takes off what two workers cost before they do anything: the time of the run of empty tests with them, less that
of the same run without. The same plugins are loaded for empty tests, which ask for no database. The body of a test,
where it has one, waits 10 ms. What pytest itself takes to start is no shorter with two workers: tests with a body and
no database show how much a second worker can save at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.figures import Row
from benchmarks.per_test import CLONED, RECYCLED, ours
from benchmarks.runs import Contender, FailedError, Key, Sizes, interleave, rows, run_pytest, together

NAME = "suite"
EMPTY, IDLE, PLAIN, WAITING = "empty tests", "no database: a body", "two inserts", "two inserts and a body"
SERIAL, PARALLEL, NET = "one after another", "-n 2", "-n 2, net"
BASE = [
    replace(ours(EMPTY, "recycle"), test="test_stores.py::test_empty"),
    replace(ours(IDLE, "recycle"), test="test_stores.py::test_waits"),
    *(
        replace(ours(f"{name}: {kind}", isolation), test=f"test_stores.py::{test}")
        for name, isolation in ((RECYCLED, "recycle"), (CLONED, "clone"))
        for kind, test in ((PLAIN, "test_stores"), (WAITING, "test_stores_and_waits"))
    ),
]


def _parallel(one: Contender) -> Contender:
    return replace(one, setting=PARALLEL, options=(*one.options, "-p", "xdist.plugin", "-n", "2"), needs="xdist")


CONTENDERS = [both for one in BASE for both in (replace(one, setting=SERIAL), _parallel(one))]
QUICK = [one for one in CONTENDERS if not one.name.startswith(CLONED)]


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each kind of run, and the net ones."""
    measures = {one.key: lambda one=one: run_pytest(one, tests=sizes.tests).wall_ms for one in CONTENDERS}
    found = _with_net(interleave(measures, sizes.rounds))
    again = _with_net(interleave({one.key: measures[one.key] for one in QUICK}, sizes.more_rounds))
    return rows(NAME, found | {key: together(found[key], again[key]) for key in again}, list)


def _with_net(found: dict[Key, list[float] | FailedError]) -> dict[Key, list[float] | FailedError]:
    names = dict.fromkeys(name for name, _ in found if name != EMPTY)
    return found | {(name, NET): _net(name, found) for name in names}


def _net(name: str, found: Mapping[Key, list[float] | FailedError]) -> list[float] | FailedError:
    """Return what two workers took beyond their own start, round by round."""
    parts = [found[name, PARALLEL], found[EMPTY, PARALLEL], found[EMPTY, SERIAL]]
    for part in parts:
        if isinstance(part, FailedError):
            return part
    return [took_ms - (two_ms - one_ms) for took_ms, two_ms, one_ms in zip(*parts, strict=True)]
