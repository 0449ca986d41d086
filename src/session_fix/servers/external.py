"""A PostgreSQL that somebody else runs, in which we may create databases and roles; ours are dropped at the end."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from session_fix import connecting
from session_fix.errors import NoServerError, UsageError
from session_fix.servers import NOT_FROM_ENVIRONMENT, Server

DSN_VARIABLE = "SESSION_FIX_DSN"
UNREADABLE = (
    "The DSN cannot be parsed. Write postgresql://user:password@host:5432/postgres, "
    "with @ : / # % in the password percent-encoded."
)


def parse(dsn: str, *, allow_remote: bool = False) -> dict[str, str]:
    """Return the libpq parameters in ``dsn``, without its database.

    Raises ``UsageError``, which never quotes the string: it may hold a password.
    """
    params = checked(dsn, allow_remote=allow_remote, purpose="databases may be created there")
    params.pop("dbname", None)
    return params


def checked(dsn: str, *, allow_remote: bool, purpose: str) -> dict[str, str]:
    """Return all libpq parameters in ``dsn``; ``purpose`` says what --allow-remote would allow.

    Raises ``UsageError`` as ``parse`` does.
    """
    try:
        params = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    except (psycopg.ProgrammingError, UnicodeError):
        raise UsageError(UNREADABLE) from None
    hosts = [host for key in ("host", "hostaddr") for host in params.get(key, "").split(",") if host]
    if not hosts:
        raise UsageError("The DSN names no host. Name it: a host from the environment would be easy to mistake.")
    if any("@" in host for host in hosts):  # libpq ends a password at the first @, and takes its rest for a host
        raise UsageError(UNREADABLE)
    if not allow_remote and (remote := [host for host in hosts if not is_local(host)]):
        raise UsageError(f"{remote[0]} is not this machine. Pass --allow-remote if {purpose}.")
    return params


def is_local(host: str) -> bool:
    """Say whether a host is this machine, by its name or address alone."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def start(*, dsn: str, allow_remote: bool = False) -> Iterator[Server]:
    """Yield the server behind ``dsn``, checked for the right to create databases and roles.

    Raises ``NoServerError`` when it does not answer or lacks a right, ``UsageError`` for a bad DSN.
    """
    admin = NOT_FROM_ENVIRONMENT | parse(dsn, allow_remote=allow_remote)
    try:
        with connecting.connect(make_conninfo(**admin, dbname="postgres", connect_timeout="10")) as connection:
            version = str(connection.info.parameter_status("server_version"))
            rights = connection.execute(
                "SELECT rolsuper OR (rolcreatedb AND rolcreaterole) FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.OperationalError as error:
        raise NoServerError(f"The PostgreSQL at {admin.get('host')} does not answer: {error}") from error
    if rights != (True,):
        raise NoServerError(f"Role {admin.get('user')} needs CREATEDB and CREATEROLE on {admin.get('host')}.")
    yield Server("external", version, admin)
