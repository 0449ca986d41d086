"""What pytest prints at the end of a run: what became of the private databases, and the testing checklist."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from session_fix.isolation import summary
from session_fix.pytest_plugin import CHECKLIST, STACK
from session_fix.subjects import VARIANTS

WORKERS = pytest.StashKey[list[tuple[dict[str, int], list[str]]]]()  # what those of pytest-xdist sent
SENT = "session_fix_databases"


@pytest.hookimpl(trylast=True)  # when the fixtures have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what became of a worker's private databases to the process that prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[SENT] = _own(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note what a worker of pytest-xdist sent; one that crashed has sent nothing."""
    sent = getattr(node, "workeroutput", None) or {}
    if SENT in sent:
        node.config.stash.setdefault(WORKERS, []).append(sent[SENT])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print both, where there is anything to print."""
    _print_databases(terminalreporter)
    _print_checklist(terminalreporter)


def _own(config: pytest.Config) -> tuple[dict[str, int], list[str]]:
    if STACK not in config.stash:
        return {}, []
    private = config.stash[STACK].private
    return dict(private.ended), private.mishaps


def _print_databases(terminalreporter: Any) -> None:
    config = terminalreporter.config
    ended: Counter[str] = Counter()
    mishaps: list[str] = []
    for counts, names in [_own(config), *config.stash.get(WORKERS, [])]:
        ended.update(counts)
        mishaps += names
    if not (ended or mishaps):
        return
    if terminalreporter.verbosity < 0 and not mishaps:
        terminalreporter.write_line(f"{summary.TITLE}: {summary.total(ended)}")
        return
    terminalreporter.section(summary.TITLE)
    for line in (summary.total(ended), *summary.details(ended, mishaps)):
        terminalreporter.write_line(line)


def _print_checklist(terminalreporter: Any) -> None:
    """Print the testing checklist, ticked from the results."""
    results: dict[str, dict[str, bool]] = {}
    places: dict[str, tuple[int, str, int]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == CHECKLIST and report.when == "call":
                    line, column = value
                    results.setdefault(line, {})[column] = outcome == "passed"
                    file, number, _ = report.location
                    places[line] = (file.count("/"), file, number or 0)
    if not results:
        return
    columns = sorted({column for ticks in results.values() for column in ticks}, key=_column_order)
    terminalreporter.section("testing checklist: [x] as expected of the variant, [ ] not, blank: not run")
    width = max(map(len, results))
    terminalreporter.write_line(f"{'':{width}}  {'  '.join(columns)}")
    for line in sorted(results, key=lambda line: places[line]):
        ticks = (_tick(results[line].get(column)).center(len(column)) for column in columns)
        terminalreporter.write_line(f"{line:{width}}  {'  '.join(ticks)}".rstrip())


def _tick(passed: bool | None) -> str:  # noqa: FBT001  a result, not a switch
    return {True: "[x]", False: "[ ]", None: ""}[passed]


def _column_order(column: str) -> tuple[int, str]:
    return (VARIANTS.index(column) if column in VARIANTS else len(VARIANTS), column)
