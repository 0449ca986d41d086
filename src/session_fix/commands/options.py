"""Options that the commands of a rollout have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

DATABASE = (
    click.option(
        "--dsn-variable",
        "variable",
        metavar="NAME",
        default="SESSION_FIX_DSN",
        show_default=True,
        help="Environment variable that holds the database's DSN.",
    ),
    click.option("--allow-remote", is_flag=True, help="Let the database be on another machine."),
    click.option("--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False), help="Write JSON here."),
)

replicas_option = click.option(
    "--ignore-replicas", is_flag=True, help="Do not wait, between steps or batches, until replicas have the last one."
)


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the database, and the file for JSON."""
    for option in reversed(DATABASE):
        command = option(command)
    return command
