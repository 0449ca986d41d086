"""Where libpq's own programs find a database: in their environment, which ``ps`` does not show to others."""

from __future__ import annotations

import os
from collections.abc import Mapping

from psycopg import pq


def environment(params: Mapping[str, str], outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which a program reaches that database, given by libpq parameters, and no other.

    No PG* variable of ``outside`` gets through: one of them could lead elsewhere. Parameters without a variable are
    left out; few have none: keepalives, and the passphrase of a client's key.
    """
    variables = {one.keyword.decode(): one.envvar.decode() for one in pq.Conninfo.get_defaults() if one.envvar}
    env = {name: value for name, value in outside.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    return env | {variables[key]: value for key, value in params.items() if value and key in variables}


def without_secrets(text: str, params: Mapping[str, str]) -> str:
    """Return what a program wrote, with the passwords of ``params`` replaced."""
    secret = {one.keyword.decode() for one in pq.Conninfo.get_defaults() if one.dispchar == b"*"}
    for value in (value for key, value in params.items() if value and key in secret):
        text = text.replace(value, "[secret]")
    return text
