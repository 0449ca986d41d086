"""The group of commands that take a database from one revision to another."""

from __future__ import annotations

import click

from session_fix.commands.export import export


@click.group()
def migrate() -> None:
    """Roll the schema out, or hand it to a tool that does."""


migrate.add_command(export)
