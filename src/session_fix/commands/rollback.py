"""``session-fix migrate rollback``: back to an earlier revision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from session_fix.cli_options import check_reports
from session_fix.commands import carrying_out
from session_fix.errors import RolloutRefusedError

if TYPE_CHECKING:
    from session_fix.rollout.losses import Loss
    from session_fix.rollout.plan import Plan


@click.command()
@click.option("--to", "to", metavar="REVISION", required=True, help="Where to go back to; base is before the first.")
@click.option("--accept-data-loss", is_flag=True, help="Drop tables and columns that hold something.")
@carrying_out.options
def rollback(
    to: str,
    accept_data_loss: bool,  # noqa: FBT001  click passes it by name
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
    **how: Any,
) -> None:
    """Go back to an earlier revision, newest step first.

    Steps down take the strongest locks there are, so each is tried for a moment, again and again, as apply does. Where
    rows or values would be lost, it says how many and stops, unless --accept-data-loss is given. However it ends, the
    same command goes on where it stopped. Exit codes are those of apply.
    """
    from session_fix.rollout import target  # noqa: PLC0415  `--help` should not wait for it

    params = target.params(variable, allow_remote=allow_remote, purpose="it may be changed from here")
    check_reports(json_file)
    plan, losses = _planned(params, to)
    for step in plan.steps:
        click.echo(f"{step.id}: {step.title}", err=True)
    if losses and not accept_data_loss:
        lost = "\n".join(f"- {loss}" for loss in losses)
        raise RolloutRefusedError(
            f"Nothing was changed. Going back to {to} loses for good:\n{lost}\n"
            "Make a backup; then pass --accept-data-loss if that is meant."
        )
    carrying_out.carry_out(plan, params, allowed=plan.hazards, json_file=json_file, **how)


def _planned(params: Mapping[str, str], to: str) -> tuple[Plan, tuple[Loss, ...]]:
    import psycopg  # noqa: PLC0415  `--help` should not wait for it

    from session_fix.rollout import backwards, sessions, target  # noqa: PLC0415
    from session_fix.rollout import losses as losing  # noqa: PLC0415

    try:
        with sessions.opened(params, "rollback", statement_timeout_ms=0) as connection:
            plan = backwards.plan(connection, to)
            return plan, losing.counted(connection, plan)
    except psycopg.Error as error:
        raise target.unreadable(error, params) from None
