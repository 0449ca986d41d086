"""Explorations as text for people, as one JSON object, and as JUnit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

import session_fix
from session_fix.explore.command import Explored
from session_fix.explore.explorer import Exploration
from session_fix.explore.runs import Run
from session_fix.explore.schedules import DROPPED, named, written
from session_fix.report import junit
from session_fix.report.messages import ERROR, call_in_words, clean, reply_in_words
from session_fix.report.replay import WORDS

Saved = Mapping[str, str]  # where a workload's counterexample was written


def console(found: Explored, saved: Saved) -> Iterator[RenderableType]:
    """Yield what to print: each counterexample with one column a client, then a line for each workload."""
    for one in found.explorations:
        shown = one.counterexample.run if one.counterexample else (one.last if one.method == "one order" else None)
        if shown:
            yield from _drawn(one, shown)
    services = dict.fromkeys(f"{one.service}, seed {one.seed}" for one in found.explorations)
    yield from (Text(f"service: {said}, session-fix {session_fix.__version__}", style="dim") for said in services)
    yield from (Text(f"{name}: {what}", style="dim") for name, what in found.stack.items())
    yield ""
    width = max((len(one.workload.name) for one in found.explorations), default=0)
    for one in found.explorations:
        word, style = WORDS[one.verdict]
        yield Text.assemble(f"{one.workload.name:{width}}  ", (word, style), f"  {_how(one)}")
        yield from (f"    {line}" for line in (summary(one), *_reasons(one, saved)))


def text(explorations: Sequence[Exploration], width: int = 100) -> str:
    """Return the same as plain text, without the stack: what a failed test shows."""
    out = Console(width=width, color_system=None, highlight=False)
    with out.capture() as drawn:
        for part in console(Explored({}, explorations), {}):
            out.print(part, soft_wrap=isinstance(part, str))
    return drawn.get().rstrip()


def _drawn(one: Exploration, run: Run) -> Iterator[RenderableType]:
    yield Text(f"{one.workload.name}, {one.service} at the layer {one.layer}", style="bold")
    yield ""
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    table.add_column("", justify="right")
    for number, client in enumerate(one.workload.clients):
        actions = ", ".join(dict.fromkeys(client.actions))
        name = f" ({one.other})" if client.other else ""
        table.add_column(f"{named(number)}: {actions}{name}", ratio=1, overflow="fold")
    for position, (chosen, text, good) in enumerate(_steps(run), start=1):
        cells: list[Text] = [Text("")] * len(one.workload.clients)
        cells[chosen] = Text(text, style="" if good else "bold red")
        table.add_row(str(position), *cells)
    told = (_told(run, number) for number in range(len(one.workload.clients)))
    table.add_row("", *(Text(text, style="green" if good else "bold red") for text, good in told))
    yield table
    yield ""


def _steps(run: Run) -> Iterator[tuple[int, str, bool]]:
    """Yield each call with its client and its reply; one at a time was let through, so they come in pairs."""
    calls = (event.fields for event in run.events if event.kind == "call")
    replies = (event.fields for event in run.events if event.kind == "reply")
    for point in run.points:
        if point.mark == DROPPED:
            yield point.chosen, f"{point.enabled[point.chosen].what}\n  dropped, and killed", False
        elif (call := next(calls, None)) and (reply := next(replies, None)):
            answer = "killed before the answer came" if point.mark else reply_in_words(reply)
            yield point.chosen, f"{call_in_words(call)}\n  {answer}", reply["status"] < ERROR and not point.mark


def _told(run: Run, client: int) -> tuple[str, bool]:
    told = run.told[client]
    if not told:
        return "= nothing", False
    words = dict.fromkeys(f"= {one.action}: {'done' if one.done else one.error or 'refused'}" for one in told)
    return clean("  ".join(words)), all(one.done for one in told)


def summary(one: Exploration) -> str:
    """Return the counts of an exploration in one line: exact when every order is covered."""
    if one.method == "one order":
        return f"{one.runs} run, {one.calls} calls"
    counts = one.counts
    orders = f"{counts['orders']:,} order{'' if counts['orders'] == 1 else 's'}{'' if one.complete else ' so far'}"
    parts = [f"{counts[name]:,} {word}" for name, word in (("runs", "run"), ("equivalent", "equivalent"))]
    parts += [f"{counts[name]:,} {name}" for name in ("infeasible", "inconclusive")]
    parts += [f"{one.failed:,} failed"] if one.failed else []
    return f"{orders}: {', '.join(parts)}"


def _how(one: Exploration) -> str:
    return f"{one.method}; layer {one.layer}; {one.seconds:.1f} s"


def _reasons(one: Exploration, saved: Saved) -> Iterator[str]:
    if one.counterexample:
        if one.found_after and one.method != "one order":
            yield f"found in run {one.found_after}{'; with the fewest switches:' if one.simplest else ''}"
        yield f"order {written(one.counterexample.run.points)}"
        yield from (f"{violation.invariant}: {violation.summary}" for violation in one.counterexample.violations)
        if one.workload.name in saved:
            yield f"again: {rerun_line(saved[one.workload.name])}"
    elif one.why_inconclusive:
        yield from one.why_inconclusive.splitlines()


def rerun_line(path: str) -> str:
    """Return the command that performs a saved order again."""
    return f"session-fix rerun {shlex.quote(path)}"


def as_json(found: Explored, saved: Saved) -> dict[str, Any]:
    """Return everything: the verdict, the stack, the sum of the counts, the findings, and each workload's share."""
    names = ("orders", "runs", "equivalent", "infeasible", "inconclusive", "failed")
    return {
        "verdict": found.verdict,
        "stack": found.stack,
        "service": next((one.service for one in found.explorations), ""),
        "counts": {name: sum(one.counts[name] for one in found.explorations) for name in names},
        "findings": [finding for one in found.explorations for finding in _findings(one, saved)],
        "workloads": [_workload(one) for one in found.explorations],
    }


def _workload(one: Exploration) -> dict[str, Any]:
    return {
        "name": one.workload.name,
        "verdict": one.verdict,
        "layer": one.layer,
        "seed": one.seed,
        "method": one.method,
        "complete": one.complete,
        "counts": one.counts,
        "found_after": one.found_after,
        "why_inconclusive": one.why_inconclusive,
    }


def _findings(one: Exploration, saved: Saved) -> Iterator[dict[str, Any]]:
    if not one.counterexample:
        return
    run = one.counterexample.run
    path = saved.get(one.workload.name)
    for violation in one.counterexample.violations:
        yield {
            "id": f"explore/{one.workload.name}/{one.layer}/{violation.invariant.split()[0]}",
            "scenario": one.workload.name,
            "layer": one.layer,
            "summary": f"{violation.invariant}: {violation.summary}",
            "evidence": {
                "order": written(run.points),
                "events": [event.as_json(str(run.number)) for event in run.events],
            },
            "rerun": rerun_line(path) if path else None,
        }


def junit_xml(found: Explored, saved: Saved) -> str:
    """Return one test case a workload."""
    return junit.xml(
        "explore",
        (
            junit.Case(one.workload.name, one.verdict, one.seconds, "\n".join([summary(one), *_reasons(one, saved)]))
            for one in found.explorations
        ),
        properties=found.stack,
    )
