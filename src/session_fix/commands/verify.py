"""``session-fix migrate verify``."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import click

from session_fix.cli_options import EXIT_CODES, check_reports, write_report
from session_fix.commands.options import database_options
from session_fix.progress import Progress


@click.command()
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 86_400),
    default=300.0,
    show_default=True,
    help="How long looking for orphans may take.",
)
@database_options
def verify(
    timeout_s: float,
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
) -> None:
    """Ask a database whether it is what its version promises.

    Compares every object with what the version's revision leaves; looks for orphans itself, whatever the foreign key
    says; finds what is INVALID, NOT VALID, NOT ENFORCED or disabled; and tries what anon, authenticated and
    service_role can do, with rows that it writes in a transaction and rolls back. Nothing stays.

    Exit code 0: all is as promised; 1: something is not;
    3: no connection, or not all could be looked at.
    """
    from session_fix.report import verified as report  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.rollout import target  # noqa: PLC0415
    from session_fix.rollout import verify as verifying  # noqa: PLC0415

    params = target.params(variable, allow_remote=allow_remote, purpose="it may be verified from here")
    check_reports(json_file)
    progress = Progress()
    with progress.live(), progress.step("Looking at the database"):
        found = verifying.judge(verifying.look(params, timeout_s=timeout_s))
    if json_file:
        write_report(json_file, json.dumps(report.as_json(found), indent=1))
    with suppress(BrokenPipeError):
        click.echo(report.text(found))
    sys.exit(EXIT_CODES[found.verdict])
