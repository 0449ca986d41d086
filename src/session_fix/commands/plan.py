"""``session-fix migrate plan``."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import click

from session_fix.cli_options import EXIT_CODES, check_reports, write_report
from session_fix.commands.options import database_options
from session_fix.errors import UsageError
from session_fix.progress import Progress

EPILOG = "Then: session-fix migrate apply FILE"


@click.command(epilog=EPILOG)
@click.option(
    "--to", metavar="REVISION", default="head", show_default=True, help="Revision to reach; its beginning will do."
)
@click.option("--output", metavar="FILE", type=click.Path(dir_okay=False), help="Save the plan here.")
@click.option("--allow", "allowed", metavar="HAZARD", multiple=True, help="A hazard that you accept; may be repeated.")
@click.option(
    "--postgres-version",
    metavar="MAJOR",
    type=click.IntRange(15, 99),
    help="Measure on this version of PostgreSQL; default: the database's own.",
)
@click.option("--unmeasured", is_flag=True, help="Make no copy: predict locks from the statements.")
@database_options
def plan(
    to: str,
    output: str | None,
    allowed: tuple[str, ...],
    postgres_version: int | None,
    unmeasured: bool,  # noqa: FBT001  click passes it by name
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
) -> None:
    """Say what the migrations would do to a database, and change nothing.

    Carries each step out on a copy of the schema, on a throwaway server, and says what it locks, reads and rewrites;
    how long that takes, from the sizes of the tables; under which timeouts it will run; how it is resumed and undone.
    What an operator has to decide is a hazard: `apply` wants each one allowed by its name.

    Exit code 0: nothing is left to be allowed; 1: there is;
    2: this database is none to plan for; 3: no connection, or no server.
    """
    from session_fix.report import planned as report  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.rollout import hazards, planning, target  # noqa: PLC0415
    from session_fix.rollout import plan as plans  # noqa: PLC0415

    hazards.check(allowed)
    if unmeasured and postgres_version:
        raise UsageError("--unmeasured measures on no version: leave --postgres-version out.")
    params = target.params(variable, allow_remote=allow_remote, purpose="a plan may be made for it")
    check_reports(output, json_file)
    progress = Progress()
    with progress.live():
        made = planning.made(params, to=to, measured=not unmeasured, major=postgres_version, progress=progress)
    if output and made.plan.steps:
        write_report(output, plans.written(made.plan).rstrip("\n"))
    if json_file:
        write_report(json_file, json.dumps(report.as_json(made, allowed), indent=1))
    with suppress(BrokenPipeError):
        click.echo(report.text(made, allowed=allowed, file=output))
    sys.exit(EXIT_CODES["fail" if hazards.not_allowed(made.plan.hazards, allowed) else "pass"])
