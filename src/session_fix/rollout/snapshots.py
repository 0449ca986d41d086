"""Writes ``migrations/schemas.json`` and the ``objects.json`` of the options anew; tests say when they are old.

``python -m session_fix.rollout.snapshots``
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from session_fix import connecting, folders, schema
from session_fix.databases import Databases
from session_fix.rollout import objects, options, revisions
from session_fix.servers import embedded

Changes = dict[str, dict[str, str | None]]


def taken(params: Mapping[str, str]) -> Changes:
    """Migrate an empty database revision by revision; return what each changed: definitions, None for what is gone."""
    found: Changes = {}
    before: objects.Objects = {}
    for revision in revisions.chain():
        schema.migrate(dict(params), to=revision.id)
        with connecting.connect(make_conninfo(**params)) as connection:
            after = objects.read(connection)
        found[revision.id] = {name: new for name, (new, _) in objects.difference(after, before).items()}
        before = after
    return found


def of_option(option: options.Option, params: Mapping[str, str]) -> objects.Objects:
    """Apply an option to a database at head; return what it adds."""
    with connecting.connect(make_conninfo(**params), autocommit=True) as connection:
        before = objects.read(connection)
        for script in (option.index, option.up):
            connection.execute(script)
        after = objects.read(connection)
    return {name: new for name, (new, _) in objects.difference(after, before).items() if new is not None}


def main() -> None:
    """Write the files."""
    with embedded.start() as (server, _), Databases(server, run="00000000", migrate=schema.migrate) as databases:
        databases.ensure_api_roles()
        _write(folders.bundled("migrations") / "schemas.json", taken(databases.empty().params))
        for name in options.names():
            option = options.read(name)
            _write(option.folder / "objects.json", of_option(option, databases.clone().params))


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except psycopg.Error as error:
        raise SystemExit(str(error)) from error
