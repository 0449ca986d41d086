"""``session-fix migrate export``: the revisions as files for another tool."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

import click

from session_fix.cli_options import check_reports, write_report
from session_fix.errors import UsageError
from session_fix.rollout import export as exporting
from session_fix.rollout import revisions

FORMATS = ("supabase", "sql")


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    help="supabase: for supabase/migrations. sql: for psql, noted as Alembic does.",
)
@click.option(
    "--output", metavar="DIR", required=True, type=click.Path(file_okay=False), help="Folder to write the files to."
)
@click.option(
    "--from", "start", metavar="REVISION", default="", help="Where the database is already; default: nowhere."
)
@click.option("--to", "end", metavar="REVISION", default="", help="The last one to export; default: the newest.")
@click.option(
    "--date",
    "day",
    metavar="YYYY-MM-DD",
    type=click.DateTime(["%Y-%m-%d"]),
    help=f"Day in the names for supabase; default: {exporting.DAY}.",
)
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write JSON here.")
def export(
    form: str,
    output: str,
    start: str,
    end: str,
    day: dt.datetime | None,
    force: bool,  # noqa: FBT001  click passes it by name
    json_file: str | None,
) -> None:
    """Write the revisions as SQL files for the Supabase CLI or for psql.

    One file a revision, each with its own timeouts. The same options give the same files; what is there already is left
    alone, and one that differs stops it before anything is written. Needs no database.
    """
    if day and form != "supabase":
        raise UsageError("--date goes into the names of --format supabase only.")
    check_reports(json_file)
    wanted = exporting.after(revisions.chain(), start, end)
    if form == "supabase":
        files = [exporting.supabase(*one, day=day.date() if day else exporting.DAY) for one in wanted]
    else:
        files = [exporting.sql(revision) for _, revision in wanted]
    folder = Path(output)
    states = _written(files, folder, force=force)
    for file in files:
        click.echo(f"{states[file.name]:9}  {folder / file.name}")
    if json_file:
        report = [{"file": file.name, "revision": file.revision, "state": states[file.name]} for file in files]
        write_report(json_file, json.dumps({"format": form, "files": report}, indent=1))


def _written(files: Sequence[exporting.File], folder: Path, *, force: bool) -> dict[str, str]:
    """Write the files; return of each whether it was written or is unchanged. Raises ``UsageError``."""
    found = exporting.compared(files, _there(folder))
    if found.renamed:
        pairs = "\n".join(f"  {folder / name}" for _, name in found.renamed)
        raise UsageError(
            "These revisions are there under another day, and would be applied twice. Give that day as --date, or "
            f"--from for what is new. Nothing was written.\n{pairs}"
        )
    if found.changed and not force:
        named = "\n".join(f"  {folder / file.name}" for file in found.changed)
        raise UsageError(f"These files are there and differ; --force overwrites them. Nothing was written.\n{named}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}.") from error
    for file in (*found.new, *found.changed):
        write_report(str(folder / file.name), file.text.removesuffix("\n"))
    unchanged = {file.name: "unchanged" for file in found.same}
    return {file.name: "written" for file in files} | unchanged


def _there(folder: Path) -> dict[str, bytes]:
    try:
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.sql"))}
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be read: {error.strerror}.") from error
