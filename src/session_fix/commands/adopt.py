"""``session-fix migrate adopt``: a schema made by hand, brought under Alembic."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import click

from session_fix.cli_options import EXIT_CODES, check_reports, write_report
from session_fix.commands.options import database_options
from session_fix.progress import Progress

EPILOG = "Then: session-fix migrate apply FILE"


@click.command(epilog=EPILOG)
@click.option("--output", metavar="FILE", type=click.Path(dir_okay=False), help="Save the plan here.")
@click.option("--allow", "allowed", metavar="HAZARD", multiple=True, help="A hazard that you accept; may be repeated.")
@click.option("--unmeasured", is_flag=True, help="Make no copy: predict locks from the statements.")
@database_options
def adopt(
    output: str | None,
    allowed: tuple[str, ...],
    unmeasured: bool,  # noqa: FBT001  click passes it by name
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
) -> None:
    """Plan how a schema that was made by hand comes under Alembic, and change nothing.

    For tables that are there without a version. Says what differs from what the migrations make, and what becomes of
    each difference; the plan then settles what has to be settled, notes the revision, and goes on to head. Nothing that
    holds more is narrowed, and no row is dropped. What only a person can decide is in the way until it is settled.

    Exit code 0: the plan is there, and nothing is left to be allowed; 1: something is in the way, or to be allowed;
    2: there is nothing to adopt; 3: no connection, or no server.
    """
    from session_fix.report import adopted, planned  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.rollout import hazards, planning, target  # noqa: PLC0415
    from session_fix.rollout import plan as plans  # noqa: PLC0415

    hazards.check(allowed)
    params = target.params(variable, allow_remote=allow_remote, purpose="a plan may be made for it")
    check_reports(output, json_file)
    progress = Progress()
    with progress.live():
        made, adoption = planning.adopted(params, measured=not unmeasured, progress=progress)
    fingerprint = made.plan.binding.fingerprint
    if output and made.plan.steps:
        write_report(output, plans.written(made.plan).rstrip("\n"))
    if json_file:
        found = adopted.as_json(adoption, fingerprint) | {"plan": planned.as_json(made, allowed)}
        write_report(json_file, json.dumps(found, indent=1))
    with suppress(BrokenPipeError):
        click.echo(adopted.text(adoption, fingerprint))
        if made.plan.steps:
            click.echo("\n" + planned.text(made, allowed=allowed, file=output))
    missing = adoption.in_the_way or hazards.not_allowed(made.plan.hazards, allowed)
    sys.exit(EXIT_CODES["fail" if missing else "pass"])
