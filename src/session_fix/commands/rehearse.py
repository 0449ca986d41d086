"""``session-fix migrate rehearse``: the rollout on a throwaway database, while backends use it."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

import click

from session_fix import settings as settings_module
from session_fix.cli_options import EXIT_CODES, check_reports, stack_options, write_report
from session_fix.progress import Progress


@click.command()
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(1, 50_000_000),
    default=100_000,
    show_default=True,
    help="Interactions to fill it with; a tenth as many sessions.",
)
@click.option(
    "--old",
    metavar="SERVICE",
    default="documented",
    show_default=True,
    help="The backend that runs now: a variant, or a service directory.",
)
@click.option("--new", metavar="SERVICE", default="fixed", show_default=True, help="The backend that comes.")
@click.option(
    "--dsn-variable",
    "variable",
    metavar="NAME",
    help="Environment variable with the DSN of a database whose schema is copied; its rows are not read.",
)
@click.option("--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write JSON here.")
@stack_options
def rehearse(rows: int, old: str, new: str, variable: str | None, json_file: str | None, **flags: Any) -> None:
    """Roll out on a throwaway database while old and new code use it.

    Fills a database in the schema of before, or in that of your own, and brings it to head by the very plan and the
    very statements of `migrate apply`, while a client of each backend creates sessions and asks questions. Says which
    requests failed that did not before, the longest that anybody waited, and for which locks.

    Exit code 0: nothing failed and nothing was lost. 1: something did. 3: no server, or hardly anything was asked.
    """
    from session_fix import subjects  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.report import rehearsed as report  # noqa: PLC0415
    from session_fix.rollout import target  # noqa: PLC0415
    from session_fix.rollout.rehearsal.rehearsing import rehearse as perform  # noqa: PLC0415

    check_reports(json_file)
    allow_remote = bool(flags["allow_remote"])
    origin = (
        target.params(variable, allow_remote=allow_remote, purpose="its schema may be copied") if variable else None
    )
    chosen = [subjects.named(old), subjects.named(new)]
    settings = settings_module.load(flags)
    progress = Progress()
    with progress.live():
        found = perform(chosen, settings, interactions=rows, origin=origin, progress=progress)
    if json_file:
        write_report(json_file, json.dumps(report.as_json(found), indent=1))
    with suppress(BrokenPipeError):
        click.echo(report.text(found))
    sys.exit(EXIT_CODES[found.verdict])
