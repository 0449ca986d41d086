"""The group of commands that take a database from one revision to another."""

from __future__ import annotations

import click

from session_fix.commands.adopt import adopt
from session_fix.commands.apply import apply
from session_fix.commands.export import export
from session_fix.commands.option import option
from session_fix.commands.plan import plan
from session_fix.commands.rehearse import rehearse
from session_fix.commands.rollback import rollback
from session_fix.commands.status import status
from session_fix.commands.verify import verify


@click.group()
def migrate() -> None:
    """Roll the schema out, or hand it to a tool that does."""


for command in (status, plan, adopt, rehearse, apply, verify, rollback, option, export):
    migrate.add_command(command)
