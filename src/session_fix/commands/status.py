"""``session-fix migrate status``."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import click

from session_fix.cli_options import EXIT_CODES, check_reports, write_report
from session_fix.commands.options import database_options
from session_fix.progress import Progress


@click.command()
@database_options
def status(
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
) -> None:
    """Say where a database stands, and what is still to come.

    Its version, and the revision that its schema really equals; revisions to come; indexes that are INVALID; a rollout
    that was cut short; who is at work now. Reads only.

    Exit code 0: at the newest revision, and that is true; 1: not yet, or not;
    3: no connection, or it cannot be read.
    """
    from session_fix.report import stood as report  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.rollout import status as statuses  # noqa: PLC0415
    from session_fix.rollout import target  # noqa: PLC0415

    params = target.params(variable, allow_remote=allow_remote)
    check_reports(json_file)
    progress = Progress()
    with progress.live(), progress.step("Reading the database"):
        found = statuses.look(params)
    if json_file:
        write_report(json_file, json.dumps(report.as_json(found), indent=1))
    with suppress(BrokenPipeError):
        click.echo(report.text(found))
    sys.exit(EXIT_CODES["pass" if found.is_settled else "fail"])
