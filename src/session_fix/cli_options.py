"""What the commands have in common: the options that choose the stack, exit codes, and reports that go to files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from session_fix import settings as settings_module
from session_fix.errors import UsageError

EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}

STACK_OPTIONS = (
    click.option("--postgres", type=click.Choice(settings_module.POSTGRES_KINDS), help="Where PostgreSQL comes from."),
    click.option(
        "--postgres-version",
        type=click.Choice(settings_module.CHOICES["postgres_version"]),
        help="Of the embedded one.",
    ),
    click.option("--rest", type=click.Choice(settings_module.REST_KINDS), help="Which data API stands before it."),
    click.option(
        "--allow-remote", is_flag=True, default=None, help="Let an external PostgreSQL be on another machine."
    ),
    click.option("--durable", is_flag=True, default=None, help="Let PostgreSQL wait for the disk."),
    click.option("--python", metavar="PROGRAM", help="Interpreter that runs the service; default: this one."),
)


def stack_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose the stack."""
    for option in reversed(STACK_OPTIONS):
        command = option(command)
    return command


def check_reports(*files: str | None) -> None:
    """Refuse report files that cannot be written, before anything is started."""
    named = [Path(file).resolve() for file in files if file]
    if len(set(named)) < len(named):
        raise UsageError(f"{named[0]}: two reports cannot go to one file.")
    for file in named:
        place = file if file.exists() else file.parent
        if not place.exists():
            raise UsageError(f"{file}: there is no folder {place}.")
        if not os.access(place, os.W_OK):
            raise UsageError(f"{file}: {place} cannot be written to.")


def write_report(file: str, text: str) -> None:
    """Write a report, whole or not at all where the file is a regular one; a device or pipe is written to as it is."""
    path = Path(file).resolve()
    try:
        if path.exists() and not path.is_file():
            path.write_text(text + "\n", encoding="utf-8")
            return
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as unfinished:
            unfinished.write(text + "\n")
        Path(unfinished.name).chmod(0o644)
        Path(unfinished.name).replace(path)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error
