"""The command ``session-fix repair``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from session_fix.cli_options import EXIT_CODES, check_reports, write_report
from session_fix.commands.carrying_out import Shown
from session_fix.commands.options import database_options, replicas_option
from session_fix.errors import UsageError
from session_fix.progress import Progress

INTERRUPTED = 130
PATIENCE_S = 30.0  # for a migration, or another repair, to end
PURPOSE = "it may be changed from here"


@dataclass(slots=True)
class _Latest:
    """What was told last, for when somebody presses Ctrl-C."""

    told: list[Any] = field(default_factory=list)

    def __call__(self, outcome: Any) -> None:
        self.told[:] = [outcome]


@click.command()
@click.option("--apply", "applies", is_flag=True, help="Do it; without this, only say what would be done.")
@click.option(
    "--phantoms",
    type=click.Choice(["certain", "likely", "none"]),
    default="certain",
    show_default=True,
    help="Which phantom sessions to merge into those they stand for; likely includes certain.",
)
@click.option(
    "--orphans",
    type=click.Choice(["create", "quarantine", "delete", "none"]),
    default="create",
    show_default=True,
    help="Interactions without a session: create it, put them into a table aside, or delete them.",
)
@click.option("--delete-orphans", is_flag=True, help="Say once more that --orphans delete is meant.")
@click.option("--run", metavar="NAME", default="repair", show_default=True, help="Under which the journal keeps it.")
@click.option("--undo", "undone", metavar="NAME", help="Put back what a run, or a revision, has changed.")
@click.option(
    "--undo-script",
    "script_file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write SQL that undoes --run without this program; with --apply, before anything is changed.",
)
@click.option(
    "--batch-rows",
    type=click.IntRange(1, 100_000),
    default=2000,
    show_default=True,
    help="At most so many in one transaction.",
)
@click.option(
    "--batch-ms",
    type=click.FloatRange(1, 60_000),
    default=200.0,
    show_default=True,
    help="About so long is a transaction; batches grow and shrink to fit.",
)
@replicas_option
@database_options
def repair(
    applies: bool,  # noqa: FBT001  click passes it by name
    phantoms: str,
    orphans: str,
    delete_orphans: bool,  # noqa: FBT001  click passes it by name
    run: str,
    undone: str | None,
    script_file: str | None,
    batch_rows: int,
    batch_ms: float,
    ignore_replicas: bool,  # noqa: FBT001  click passes it by name
    variable: str,
    allow_remote: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
) -> None:
    """Repair what the bug left behind: phantom sessions, and interactions without a session.

    Says what there is and changes nothing, unless --apply is given. Works in small transactions while the database is
    in use, and leaves alone what somebody uses at that moment. However it ends, the same command goes on. Each row is
    copied into session_fix.repair_journal before it changes: --undo puts it back. Fix the backend first, or more will
    come; and take a backup.

    Exit code 0: nothing is left; 1: something is; 2: wrong usage; 3: no connection, or others are in the way.
    """
    from session_fix.rollout import target  # noqa: PLC0415  `--help` should not wait for it
    from session_fix.rollout.repair.statements import checked_run  # noqa: PLC0415

    if undone is not None and (applies or script_file):
        raise UsageError("--undo stands alone: it takes no --apply, and --undo-script writes what it would do.")
    if applies and (orphans == "delete") != delete_orphans:
        raise UsageError("Deleting interactions takes both: --orphans delete and --delete-orphans.")
    checked_run(run)
    check_reports(json_file, script_file)
    if script_file:
        _write_script(script_file, run)
        if not applies:
            return
    params = target.params(variable, allow_remote=allow_remote, purpose=PURPOSE)
    pace = {"batch_rows": batch_rows, "batch_ms": batch_ms, "ignore_replicas": ignore_replicas}
    progress = Progress()
    if undone is not None:
        _finish(*_undo(params, undone, progress, **pace), json_file)
    elif applies:
        _finish(*_apply(params, progress, phantoms=phantoms, orphans=orphans, run=run, **pace), json_file)
    else:
        _finish(*_look(params, progress, phantoms=phantoms, orphans=orphans), json_file)


def _write_script(file: str, run: str) -> None:
    from session_fix.rollout import repair as repairing  # noqa: PLC0415

    write_report(file, repairing.script(run).rstrip())
    click.echo(f"Written: {file} undoes the run {run!r}.", err=True)


def _look(params: dict[str, str], progress: Progress, **options: str) -> tuple[str, dict[str, Any]]:
    from session_fix.report import repaired as report  # noqa: PLC0415
    from session_fix.rollout import repair as repairing  # noqa: PLC0415

    with progress.live(), progress.step("Looking for what there is to repair"):
        found = repairing.look(params, phantoms=options["phantoms"])
    return report.found_text(found, **options), report.found_json(found, **options)


def _apply(params: dict[str, str], progress: Progress, **options: Any) -> tuple[str, dict[str, Any]]:
    from session_fix.report import repaired as report  # noqa: PLC0415
    from session_fix.rollout import repair as repairing  # noqa: PLC0415

    done = _alone(params, progress, partial(repairing.repair, params), **options)
    return report.repaired_text(done), report.repaired_json(done)


def _undo(params: dict[str, str], run: str, progress: Progress, **options: Any) -> tuple[str, dict[str, Any]]:
    from session_fix.report import repaired as report  # noqa: PLC0415
    from session_fix.rollout import repair as repairing  # noqa: PLC0415

    done = _alone(params, progress, partial(repairing.undo, params, run), **options)
    return report.undone_text(done), report.undone_json(done)


def _alone(params: dict[str, str], progress: Progress, perform: Callable[..., Any], **options: Any) -> Any:
    from session_fix.report import repaired as report  # noqa: PLC0415
    from session_fix.rollout import lock, replicas  # noqa: PLC0415
    from session_fix.rollout.repair import APPLICATION  # noqa: PLC0415

    latest, shown = _Latest(), Shown(progress.console)
    try:
        alone = lock.held(params, patience_s=PATIENCE_S, on=shown, application=APPLICATION)
        with progress.live(), alone as held:
            if not options["ignore_replicas"]:
                replicas.tell_of_unseen(held.connection, shown)
            return perform(progress=progress, tell=latest, check=held.check, on=shown, **options)
    except KeyboardInterrupt:
        click.echo(report.interrupted(latest.told), err=True)
        sys.exit(INTERRUPTED)


def _finish(text: str, found: dict[str, Any], json_file: str | None) -> None:
    if json_file:
        write_report(json_file, json.dumps(found, indent=1))
    with suppress(BrokenPipeError):
        click.echo(text)
    sys.exit(EXIT_CODES[found["verdict"]])
