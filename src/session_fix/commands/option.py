"""``session-fix migrate option``: what may be added to the schema by choice."""

from __future__ import annotations

import json

import click

from session_fix.cli_options import check_reports, write_report
from session_fix.commands.carrying_out import Shown
from session_fix.commands.options import database_options
from session_fix.progress import Progress


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(["owner-policies"]))
@click.option("--undo", is_flag=True, help="Take it away again.")
@click.option("--apply", "does_apply", is_flag=True, help="Do it. Without this, only the SQL is printed.")
@click.option(
    "--patience",
    "patience_s",
    metavar="SECONDS",
    type=click.FloatRange(0, 86_400),
    default=60.0,
    show_default=True,
    help="How long to try to be let in.",
)
@database_options
def option(
    name: str,
    undo: bool,  # noqa: FBT001  click passes it by name
    does_apply: bool,  # noqa: FBT001  click passes it by name
    patience_s: float,
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
) -> None:
    """Add an option to a database at head.

    owner-policies: users who are signed in get at the rows of their own sessions, those whose user_id is their token's
    sub, with a browser's key. Without it, only the backend gets at any.

    Prints the SQL and what it blocks, and connects to nothing; --apply carries it out and reads it back. It waits 0.2 s
    for a lock, so that nobody stands behind it for longer, and tries again. May be run again. Exit code 0: printed or
    done. 1: the database refused it. 2: the database is not at head. 3: others were in the way for too long, or no
    connection.
    """
    from session_fix.rollout import opting, options, target  # noqa: PLC0415  `--help` should not wait for it

    check_reports(json_file)
    chosen = options.read(name)
    sql = [chosen.down] if undo else [chosen.index, chosen.up]
    report = {"option": name, "undo": undo, "applied": does_apply, "sql": sql}
    if not does_apply:
        click.echo("\n".join(sql), nl=False)
        if json_file:
            write_report(json_file, json.dumps(report, indent=1))
        return
    params = target.params(variable, allow_remote=allow_remote, purpose="it may be changed from here")
    progress = Progress()
    with progress.live(), progress.step(f"{'Taking away' if undo else 'Adding'} {name}"):
        opting.change(params, chosen, undo=undo, patience_s=patience_s, on=Shown(progress.console))
    click.echo(f"{name}: {'taken away' if undo else 'added'}, and read back.")
    if json_file:
        write_report(json_file, json.dumps(report, indent=1))
