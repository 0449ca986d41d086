"""``session-fix migrate rollback``: back to an earlier revision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from session_fix.cli_options import check_reports
from session_fix.commands import carrying_out
from session_fix.errors import RolloutRefusedError
from session_fix.progress import Progress

if TYPE_CHECKING:
    import psycopg

    from session_fix.rollout.losses import Loss
    from session_fix.rollout.plan import Plan

DROPS = "drops-data"


@click.command()
@click.option("--to", "to", metavar="REVISION", required=True, help="Where to go back to; base is before the first.")
@click.option("--accept-data-loss", is_flag=True, help="Drop tables and columns that hold something.")
@click.option(
    "--allow", "allowed", metavar="HAZARD", multiple=True, help="Allow a hazard that is named; once for each."
)
@click.option("--unmeasured", is_flag=True, help="Make no copy to rehearse the steps on.")
@carrying_out.options
def rollback(
    to: str,
    accept_data_loss: bool,  # noqa: FBT001  click passes it by name
    allowed: tuple[str, ...],
    unmeasured: bool,  # noqa: FBT001  click passes it by name
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
    api_url: str | None,
    **how: Any,
) -> None:
    """Go back to an earlier revision, newest step first.

    The steps are rehearsed on a copy of the schema, on a throwaway server, as `plan` does; then they are carried out.
    They take the strongest locks there are, so each is tried for a moment, again and again, as apply does. Where rows
    or values would be lost, it says how many and stops, unless --accept-data-loss is given. However it ends, the same
    command goes on where it stopped. Exit codes are those of apply.
    """
    from session_fix.rollout import target  # noqa: PLC0415  `--help` should not wait for it

    params = target.params(variable, allow_remote=allow_remote, purpose="it may be changed from here")
    api = carrying_out.data_api_at(api_url, allow_remote=allow_remote)
    check_reports(json_file)
    plan, losses = _planned(params, to, measured=not unmeasured)
    for number, step in enumerate(plan.steps, 1):
        locks = ", ".join(f"{lock.mode} on {lock.relation}" for lock in step.measured or step.predicted) or "none"
        click.echo(f"{number}. {step.title} Locks: {locks}.", err=True)
    if losses and not accept_data_loss:
        lost = "\n".join(f"- {loss}" for loss in losses)
        raise RolloutRefusedError(
            f"Nothing was changed. Going back to {to} loses for good:\n{lost}\n"
            "Make a backup; then pass --accept-data-loss if that is meant."
        )
    accepted = tuple(hazard for hazard in plan.hazards if hazard == DROPS)  # of what is empty, or with its own flag
    carrying_out.carry_out(plan, params, allowed=(*allowed, *accepted), json_file=json_file, api=api, **how)


def _planned(params: Mapping[str, str], to: str, *, measured: bool) -> tuple[Plan, tuple[Loss, ...]]:
    """Return the plan down and what it loses; one that broke off is gone on with."""
    import psycopg  # noqa: PLC0415  `--help` should not wait for it

    from session_fix.rollout import journal, planning, sessions, target, versions  # noqa: PLC0415
    from session_fix.rollout import losses as losing  # noqa: PLC0415

    progress = Progress()
    try:
        with sessions.opened(params, "rollback", statement_timeout_ms=0) as connection:
            begun = journal.latest(connection)
            if (
                begun
                and (begun.direction, begun.target) == (planning.DOWN, versions.named(to))
                and _goes_on(connection, begun)
            ):
                return begun, losing.counted(connection, begun)
        with progress.live():
            plan = planning.made(params, to=to, direction=planning.DOWN, measured=measured, progress=progress).plan
        with sessions.opened(params, "rollback", statement_timeout_ms=0) as connection:
            return plan, losing.counted(connection, plan)
    except psycopg.Error as error:
        raise target.unreadable(error, params) from None


def _goes_on(connection: psycopg.Connection, plan: Plan) -> bool:
    """Say whether the database is where the plan leads, or on the way there."""
    from session_fix.rollout import binding, version_table  # noqa: PLC0415  see above

    versions = version_table.noted(connection)
    return len(versions) <= 1 and binding.place(plan, versions[0] if versions else binding.BASE) is not None
