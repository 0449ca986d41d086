"""``session-fix migrate apply``: a plan, carried out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from session_fix.cli_options import check_reports
from session_fix.commands import carrying_out
from session_fix.errors import UsageError


@click.command()
@click.argument("plan_file", metavar="PLAN_FILE", type=click.Path(dir_okay=False))
@click.option(
    "--allow", "allowed", metavar="HAZARD", multiple=True, help="Allow a hazard that the plan names; once for each."
)
@carrying_out.options
def apply(
    plan_file: str,
    allowed: tuple[str, ...],
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
    api_url: str | None,
    **how: Any,
) -> None:
    """Carry out a plan: exactly that one, or nothing of it.

    Checks first that this is the database that the plan was made for, as it was then, and that role and connection are
    fit for it; says all that is wrong at once. Waits its turn where another rollout is at work. A step that others are
    in the way of is tried again and again, so that nobody stands behind it for longer than its lock_timeout; says who
    it is, and ends nobody.

    However it ends, the same command goes on where it stopped. Exit code 0: all is done, and read back. 1: the database
    refused a step. 2: refused before anything was changed. 3: others were in the way for too long, no connection, what
    was read back is not what should be, or --api does not serve it. 130: interrupted.
    """
    from session_fix.rollout import plan as plans  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.rollout import target  # noqa: PLC0415

    try:
        text = Path(plan_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{plan_file} cannot be read: {reason}.") from error
    plan = plans.read(text)
    params = target.params(variable, allow_remote=allow_remote, purpose="it may be changed from here")
    api = carrying_out.data_api_at(api_url, allow_remote=allow_remote)
    check_reports(json_file)
    carrying_out.carry_out(plan, params, allowed=allowed, json_file=json_file, api=api, **how)
