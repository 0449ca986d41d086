"""Writes ``migrations/schemas.json`` anew: ``python -m session_fix.rollout.snapshots``. A test says when it is old."""

from __future__ import annotations

import json
from collections.abc import Mapping

import psycopg
from psycopg.conninfo import make_conninfo

from session_fix import connecting, folders, schema
from session_fix.databases import Databases
from session_fix.rollout import objects, revisions
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


def main() -> None:
    """Write the file."""
    with embedded.start() as (server, _), Databases(server, run="00000000", migrate=schema.migrate) as databases:
        databases.ensure_api_roles()
        text = json.dumps(taken(databases.empty().params), indent=1)
    (folders.bundled("migrations") / "schemas.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except psycopg.Error as error:
        raise SystemExit(str(error)) from error
