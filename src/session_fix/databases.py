"""Private databases on a server: one template migrated once, a clone per test, and nothing left on a foreign server.

Everything a run makes carries its id: ``sf_<run>_...``. The run holds a shared advisory lock on that id; what carries
an id nobody locks belongs to a dead run and is dropped by the next. "Migrated" is a fact in the database: the template
flag, set last.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from session_fix.errors import NoServerError, UsageError
from session_fix.servers import Server

API_ROLES = {"anon": "NOLOGIN", "authenticated": "NOLOGIN", "service_role": "NOLOGIN BYPASSRLS"}
OURS = "made by session-fix"
MAINTENANCE = "postgres"
RIGHTS = (
    "Use a superuser, or a role with CREATEDB, CREATEROLE and, where anon, authenticated and service_role are missing, "
    "BYPASSRLS; where they are there, with ADMIN OPTION on them."
)
# The names that a run makes, complete: on somebody's server, a beginning like ours is not enough to drop their data.
DATABASE_NAME = "^sf_{run}_([0-9a-f]{{12}}|template)$"
ROLE_NAME = "^sf_{run}_rest_[0-9a-f]{{6}}$"


@dataclass(frozen=True, slots=True)
class Database:
    """A private database: where it is, and a way to look into it."""

    name: str
    params: dict[str, str]

    @property
    def dsn(self) -> str:
        """The libpq connection string. It holds the password where the server has one."""
        return make_conninfo(**self.params)

    def __repr__(self) -> str:
        """Return the name only: the parameters may hold a password."""
        return f"Database({self.name!r})"

    def connect(self, **options: Any) -> psycopg.Connection:
        """Open a connection as the server's owner."""
        return psycopg.connect(self.dsn, **options)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own; return its rows, none for a statement without a result."""
        with self.connect() as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []


def _lock_key(run: str) -> int:
    return int.from_bytes(hashlib.sha256(f"session-fix {run}".encode()).digest()[:8], signed=True)


class Databases:
    """A run's databases on one server; ``run`` is eight hexadecimal digits. A context manager."""

    def __init__(self, server: Server, *, run: str, migrate: Callable[[dict[str, str]], str]) -> None:
        if not re.fullmatch("[0-9a-f]{8}", run):
            raise ValueError(f"{run!r} is no run id: databases under it would not be found again.")
        self.server = server
        self._prefix = f"sf_{run}_"
        self._run = run
        self._migrate = migrate
        self._made: set[str] = set()
        self._one_at_a_time = threading.Lock()
        self._builder = threading.Lock()
        try:
            self._admin = psycopg.connect(make_conninfo(**self.params(MAINTENANCE)), autocommit=True)
        except psycopg.OperationalError as error:
            raise NoServerError(f"The {server.kind} PostgreSQL does not let us in: {error}") from error
        self._execute("SELECT pg_advisory_lock_shared(%s)", _lock_key(run))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _execute(self, query: str | sql.Composed, *values: Any) -> list[tuple[Any, ...]]:
        with self._one_at_a_time:
            cursor = self._admin.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def params(self, name: str) -> dict[str, str]:
        """Return libpq connection parameters for one database."""
        return self.server.admin | {"dbname": name, "client_encoding": "utf8"}  # SQL_ASCII would give bytes

    @contextmanager
    def _building(self) -> Iterator[None]:
        """Let one thread of one process at a time make what all of them share."""
        with self._builder:  # the server's lock is the session's, and all threads here share one
            self._execute("SELECT pg_advisory_lock(%s)", _lock_key("build"))
            try:
                yield
            except psycopg.errors.InsufficientPrivilege as error:
                raise NoServerError(f"{error.diag.message_primary}. {RIGHTS}") from error
            finally:
                self._execute("SELECT pg_advisory_unlock(%s)", _lock_key("build"))

    def template(self) -> str:
        """Return the name of the migrated template, made by whichever process of the run asks first."""
        name = f"{self._prefix}template"
        with self._building():
            state = self._execute("SELECT datistemplate FROM pg_database WHERE datname = %s", name)
            if state == [(True,)]:
                return name
            if state:  # half-made by a process that died
                self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            self._make_api_roles()
            self._execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'").format(sql.Identifier(name))
            )
            self._migrate(self.params(name))
            self._execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name)))
        return name

    def _make_api_roles(self) -> None:
        for role, rights in API_ROLES.items():
            if not self._execute("SELECT 1 FROM pg_roles WHERE rolname = %s", role):
                identifier = sql.Identifier(role)
                self._execute(sql.SQL(f"CREATE ROLE {{}} {rights}").format(identifier))
                self._execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(identifier, sql.Literal(OURS)))

    def clone(self, template: str | None = None, *, name: str | None = None) -> Database:
        """Return a new private copy of ``template``, the migrated one by default.

        With ``name``, a database of that name is replaced if it was made here; ``UsageError`` if it was not.
        """
        source = template or self.template()
        name = self._freed(name) if name else f"{self._prefix}{secrets.token_hex(6)}"
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source)))
        self._made.add(name)
        if not name.startswith(self._prefix):
            self._execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(OURS)))
        return Database(name, self.params(name))

    def _freed(self, name: str) -> str:
        found = self._execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", name)
        if found and found != [(OURS,)]:
            raise UsageError(f"Database {name} exists and was not made by session-fix; name one that may be replaced.")
        self.drop(Database(name, {}))
        return name

    def empty(self) -> Database:
        """Return a new private database with nothing in it, not even the migrations."""
        return self.clone("template0")

    def drop(self, database: Database) -> None:
        """Drop a private database, whoever is still connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))
        self._made.discard(database.name)

    def make_login(self) -> tuple[str, str]:
        """Return the name and password of a new role that may act as each of the data API's roles, and as nobody else.

        It is what Supabase calls ``authenticator``.
        """
        name, password = f"{self._prefix}rest_{secrets.token_hex(3)}", secrets.token_urlsafe(24)
        with self._building():
            self._make_api_roles()
            self._execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    sql.Identifier(name), sql.Literal(password), sql.SQL(", ").join(map(sql.Identifier, API_ROLES))
                )
            )
        return name, password

    def close(self) -> None:
        """Leave a server of ours to its end; on a foreign one, drop what this run and dead runs made."""
        with contextlib.closing(self._admin):
            if self.server.kind != "external":
                return
            for name in list(self._made):
                self.drop(Database(name, {}))
            self._execute("SELECT pg_advisory_unlock_shared(%s)", _lock_key(self._run))
            with self._building():
                self._drop_what_nobody_locks()

    def _drop_what_nobody_locks(self) -> None:
        found = self._execute(
            "SELECT substr(datname, 4, 8) FROM pg_database WHERE datname ~ %s "
            "UNION SELECT substr(rolname, 4, 8) FROM pg_roles WHERE rolname ~ %s",
            *(DATABASE_NAME.format(run="[0-9a-f]{8}"), ROLE_NAME.format(run="[0-9a-f]{8}")),
        )
        in_use = [run for (run,) in found if not self._dropped(run)]
        if not in_use:
            for role in API_ROLES:
                comment = self._execute(
                    "SELECT 1 FROM pg_roles WHERE rolname = %s AND shobj_description(oid, 'pg_authid') = %s",
                    *(role, OURS),
                )
                if comment:
                    with contextlib.suppress(psycopg.errors.DependentObjectsStillExist):
                        self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    def _dropped(self, run: str) -> bool:
        """Drop what carries the id of ``run`` unless that run lives; say whether it is gone."""
        key = _lock_key(run)
        if self._execute("SELECT pg_try_advisory_lock(%s)", key) != [(True,)]:
            return False
        try:
            for (name,) in self._execute(
                "SELECT datname FROM pg_database WHERE datname ~ %s", DATABASE_NAME.format(run=run)
            ):
                identifier = sql.Identifier(name)
                self._execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(identifier))
                self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))
            for (name,) in self._execute("SELECT rolname FROM pg_roles WHERE rolname ~ %s", ROLE_NAME.format(run=run)):
                self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
        finally:
            self._execute("SELECT pg_advisory_unlock(%s)", key)
        return True
