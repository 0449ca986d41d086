"""Measure what we claim about speed, beside our peers: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import psycopg

from benchmarks import (
    all_orders,
    first_failure,
    handing_out,
    machine,
    orders,
    per_test,
    report,
    rollout,
    server_start,
    service,
    suite,
    tap,
)
from benchmarks.claims import CLAIMS
from benchmarks.figures import Row
from benchmarks.runs import TINY, FailedError, Sizes
from session_fix.errors import SessionFixError

MEASURED = (server_start, per_test, handing_out, suite, service, tap, orders, all_orders, first_failure, rollout)
BENCHMARKS = {one.NAME: one for one in MEASURED}


def main() -> int:
    """Measure, write the results, print the report; return the exit code: 1 when one of ours was not measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--tiny", action="store_true", help="everything once, to see that it works; the figures are not"
    )
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="one benchmark; may be given again")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/benchmarks"), metavar="DIR", help="default: %(default)s"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers end on the way out
    chosen = {name: one for name, one in BENCHMARKS.items() if name in (arguments.only or BENCHMARKS)}
    sizes = TINY if arguments.tiny else Sizes()
    found = machine.describe(sizes)
    rows = [row for name in chosen for row in _measured(name, sizes)]
    _write(arguments.output, found, rows, {name: str(one.__doc__) for name, one in chosen.items()})
    return int(any(row.error and row.contender.startswith("session-fix") for row in rows))


def _measured(name: str, sizes: Sizes) -> list[Row]:
    print(f"{name}:", file=sys.stderr)
    try:
        return BENCHMARKS[name].measure(sizes)
    except (FailedError, SessionFixError, psycopg.Error, OSError) as error:  # what all of its contenders need
        return [Row(name, "session-fix", error=str(error))]


def _write(folder: Path, found: dict[str, str], rows: list[Row], descriptions: dict[str, str]) -> None:
    asked = [one for one in CLAIMS if one.contender[0] in descriptions]
    claims = [
        {"claim": one.text, "measured": one.measured(rows), "wanted": one.wanted, "verdict": one.verdict(rows)}
        for one in asked
    ]
    results = {"machine": found, "claims": claims, "rows": [asdict(row) for row in rows]}
    text = report.markdown(found, descriptions, rows, asked)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "results.md").write_text(text)
    (folder / "results.svg").write_text(report.svg(rows))
    print(text)
    print(f"Written to {folder}.", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # everything has ended on the way here
        sys.exit(128 + signal.SIGINT)
