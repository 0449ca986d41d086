"""The data API's roles on a server, and the logins that may act as them."""

from __future__ import annotations

import secrets
from contextlib import suppress

import psycopg
from psycopg import sql

from session_fix.leftovers import OURS, ROLE_NAME, RUN, Execute

API_ROLES = {"anon": "NOLOGIN", "authenticated": "NOLOGIN", "service_role": "NOLOGIN BYPASSRLS"}


def make(execute: Execute) -> None:
    """Make those of the data API's roles that are missing."""
    for role, rights in API_ROLES.items():
        if not execute("SELECT 1 FROM pg_roles WHERE rolname = %s", role):
            identifier = sql.Identifier(role)
            execute(sql.SQL(f"CREATE ROLE {{}} {rights}").format(identifier))
            execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(identifier, sql.Literal(OURS)))


def grant_to_logins(execute: Execute) -> None:
    """Let every login of a data API act as each of its roles, of which one may be new."""
    for (login,) in execute("SELECT rolname FROM pg_roles WHERE rolname ~ %s", ROLE_NAME.format(run=RUN)):
        for role in API_ROLES:
            execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(login)))


def make_login(execute: Execute, prefix: str) -> tuple[str, str]:
    """Return the name and password of a new role that may act as each of the data API's roles, and as nobody else."""
    name, password = f"{prefix}rest_{secrets.token_hex(3)}", secrets.token_urlsafe(24)
    execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
            sql.Identifier(name), sql.Literal(password), sql.SQL(", ").join(map(sql.Identifier, API_ROLES))
        )
    )
    return name, password


def drop(execute: Execute) -> None:
    """Drop those of the data API's roles that were made here and that nothing is granted to any more."""
    for role in API_ROLES:
        ours = execute(
            "SELECT 1 FROM pg_roles WHERE rolname = %s AND shobj_description(oid, 'pg_authid') = %s", role, OURS
        )
        if ours:
            with suppress(psycopg.errors.DependentObjectsStillExist):
                execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
