"""``session-fix audit``: what there is to repair."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import click

from session_fix.cli_options import EXIT_CODES, check_reports, write_report
from session_fix.commands.options import database_options
from session_fix.progress import Progress


@click.command()
@click.option("--exact", is_flag=True, help="Count every row of large tables, too.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 86_400),
    default=10.0,
    show_default=True,
    help="How long one statement may take.",
)
@database_options
def audit(
    exact: bool,  # noqa: FBT001  click passes it by name
    timeout_s: float,
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
) -> None:
    """Say what there is to repair in a database, and change nothing.

    Compares its tables with what the migrations leave, and counts what the bug left behind. Reads in one read-only
    transaction; needs no superuser, and says what it could not see. Exit code 0: nothing to repair; 1: there is
    something; 3: no connection, or not all could be read.
    """
    from session_fix.report import audited as report  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.rollout import audit as auditing  # noqa: PLC0415
    from session_fix.rollout import facts, objects, target  # noqa: PLC0415

    params = target.params(variable, allow_remote=allow_remote)
    check_reports(json_file)
    progress = Progress()
    with progress.live(), progress.step("Reading the database"):
        found = auditing.judge(facts.read(params, timeout_s=timeout_s, exact=exact), objects.revisions())
    if json_file:
        write_report(json_file, json.dumps(report.as_json(found), indent=1))
    with suppress(BrokenPipeError):
        click.echo(report.text(found))
    sys.exit(EXIT_CODES[found.verdict])
