"""The commands ``explore`` and ``rerun``."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from session_fix import settings as settings_module
from session_fix.cli_options import EXIT_CODES, check_reports, stack_options, write_report
from session_fix.errors import UsageError
from session_fix.explore import workloads as named
from session_fix.progress import Progress

BUDGET = re.compile(r"(\d+)(s?)")


def _budget(_: click.Context, __: click.Parameter, text: str | None) -> Any:
    """Return a budget from "200" (runs) or "30s" (seconds)."""
    from session_fix.explore.explorer import Budget  # noqa: PLC0415  `--help` should not wait for it

    if text is None:
        return None
    if not (found := BUDGET.fullmatch(text)) or not int(found[1]):
        raise click.BadParameter(f"{text!r} is neither a number of runs, as 200, nor of seconds, as 30s.")
    return Budget(seconds=float(found[1])) if found[2] else Budget(runs=int(found[1]))


def _rpcs(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Return the tables that functions touch, from "name=table,table"."""
    found = {}
    for text in texts:
        name, _equals, tables = text.partition("=")
        named_tables = frozenset(table.strip() for table in tables.split(",") if table.strip())
        if not name or not named_tables:
            raise click.BadParameter(f"{text!r} is not NAME=TABLE,..., as log_interaction=ai_sessions,ai_interactions.")
        found[name] = named_tables
    return found


WORKLOADS = f"Workloads: {', '.join(w.name for w in named.ALL)}. All but the sampled ones run when none is named."


@click.command(epilog=WORKLOADS)
@click.argument("workloads", nargs=-1, metavar="[WORKLOAD]...")
@click.option("--service", metavar="DIR", help="The service under test, or a variant's name; default: fixed.")
@click.option("--other", metavar="DIR", help="What runs beside it in query-query-versions; default: documented.")
@click.option("--layer", type=click.Choice(["database", "logger", "api"]), help="Where the clients call the service.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides ids, and the orders of a sample.")
@click.option("--budget", metavar="N|Ns", callback=_budget, help="Stop after N runs, or N seconds.")
@click.option("--prune/--no-prune", default=True, help="Leave out orders that are equivalent to one that was run.")
@click.option(
    "--rpc",
    "rpcs",
    multiple=True,
    metavar="NAME=TABLE,...",
    callback=_rpcs,
    help="A function touches these tables only; else it counts as touching everything.",
)
@click.option("--keep-going", is_flag=True, help="Go on after a counterexample, and count.")
@click.option(
    "--report-dir",
    metavar="DIR",
    type=click.Path(file_okay=False),
    default="session-fix-reports",
    show_default=True,
    help="Where counterexamples go.",
)
@click.option("--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write JSON here.")
@click.option("--junit", "junit_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write JUnit XML here.")
@stack_options
def explore(
    workloads: tuple[str, ...],
    service: str | None,
    other: str | None,
    report_dir: str,
    json_file: str | None,
    junit_file: str | None,
    **options: Any,
) -> None:
    """Try every order of the calls that concurrent clients make.

    Holds each call to the data API, and lets one through at a time. Exit code 0: nothing breaks, and the line says how
    many orders that covers; 1: an order breaks something, it is drawn and saved for rerun; 3: nothing can be concluded.
    """
    from session_fix.explore import command  # noqa: PLC0415  `--help` should not wait for it

    asked = {name: options.pop(name) for name in ("layer", "seed", "budget", "prune", "keep_going", "rpcs")}
    settings = settings_module.load(options)
    check_reports(json_file, junit_file)
    _check_folder(Path(report_dir))
    chosen = [named.named(name) for name in dict.fromkeys(workloads)] or [w for w in named.ALL if not w.sampled]
    progress = Progress()
    with progress.live():
        found = command.explore(
            chosen, settings, service=service or settings.service or "fixed", other=other, progress=progress, **asked
        )
    _report(found, Path(report_dir), json_file, junit_file)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write JSON here.")
@click.option("--junit", "junit_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write JUnit XML here.")
@stack_options
def rerun(file: str, json_file: str | None, junit_file: str | None, **options: Any) -> None:
    """Perform one recorded order again, exactly.

    FILE is what explore saved; its order may be edited. Exit code 1 when it breaks something again, 0 when it does
    not, 3 when such an order cannot happen.
    """
    from session_fix.explore import command, schedule_file  # noqa: PLC0415  `--help` should not wait for it

    recorded = schedule_file.load(Path(file))
    settings = settings_module.load(options)
    check_reports(json_file, junit_file)
    progress = Progress()
    with progress.live():
        found = command.rerun(recorded, settings, progress=progress)
    _report(found, None, json_file, junit_file)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, before anything is started."""
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"{folder}: {place} is no folder that can be written to.")


def _report(found: Any, report_dir: Path | None, json_file: str | None, junit_file: str | None) -> None:
    """Print and write what was found, and exit with its verdict."""
    from session_fix.explore import schedule_file  # noqa: PLC0415
    from session_fix.report import explored as report  # noqa: PLC0415

    saved: dict[str, str] = {}
    for one in found.explorations:
        if one.counterexample and report_dir:
            try:
                report_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"{report_dir} cannot be made: {error.strerror}") from error
            path = report_dir / f"{one.workload.name}.toml"
            write_report(str(path), schedule_file.text(one))
            saved[one.workload.name] = str(path)
    if json_file:
        write_report(json_file, json.dumps(report.as_json(found, saved), indent=1))
    if junit_file:
        write_report(junit_file, report.junit_xml(found, saved))
    out = Console(highlight=False)
    with out.capture() as drawn:
        for part in report.console(found, saved):
            out.print(part, soft_wrap=isinstance(part, str))
    with suppress(BrokenPipeError):
        click.echo(drawn.get().rstrip("\n"))
    sys.exit(EXIT_CODES[found.verdict])
