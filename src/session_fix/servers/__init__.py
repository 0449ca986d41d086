"""Throwaway PostgreSQL servers: ``embedded``, ``docker`` and ``external``, all used the same way."""

from __future__ import annotations

from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import make_conninfo

from session_fix import connecting

# Nothing has to survive a crash of the machine: the data is thrown away. Left out where durability is what is tested.
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# What happens in a database that lives for seconds is what its test does.
QUIET = {"autovacuum": "off"}

VERSION_15 = 150_000  # as a connection's ``server_version`` says it

# libpq takes what a connection string leaves out from PG* variables; one of them could lead to another server.
NOT_FROM_ENVIRONMENT = {"hostaddr": "", "options": "", "target_session_attrs": "any"}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and how to reach it as a role that may create databases and roles.

    ``admin`` holds libpq connection parameters without ``dbname``; ``inside`` those that differ for a container beside
    it. ``kind`` and ``version`` go into every report.
    """

    kind: str
    version: str
    admin: dict[str, str] = field(repr=False)
    inside: dict[str, str] = field(default_factory=dict, repr=False)


def server_version(admin: dict[str, str]) -> str | None:
    """Return the version of the server behind these parameters, None while it accepts no connection."""
    try:
        with connecting.connect(make_conninfo(**admin, dbname="postgres", connect_timeout="5")) as connection:
            return str(connection.info.parameter_status("server_version")).split()[0]
    except psycopg.OperationalError:
        return None
