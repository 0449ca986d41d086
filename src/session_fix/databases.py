"""Private databases on a server: a migrated template, one per state, clones of them; nothing left on a foreign server.

Everything a run makes carries its id, and goes with it or with the next run, see ``leftovers.py``. "Migrated" is a fact
in the database: the template flag, set last.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from session_fix import connecting, leftovers, roles
from session_fix.database import Database, fetched
from session_fix.errors import NoServerError, UsageError
from session_fix.isolation.tasks import Line, Task
from session_fix.leftovers import OURS, lock_key
from session_fix.progress import SILENT, Progress
from session_fix.servers import VERSION_15, Server
from session_fix.states import HEAD, State

__all__ = ["KEPT_RUN", "Database", "Databases"]

MAINTENANCE, EMPTY = "postgres", "template0"
KEPT_RUN = "00000000"  # made the templates of a kept cluster, see ``servers/warm.py``
RIGHTS = (
    "Use a superuser, or a role with CREATEDB, CREATEROLE and, where anon, authenticated and service_role are missing, "
    "BYPASSRLS; where they are there, with ADMIN OPTION on them."
)
SUBSCRIPTIONS = """
SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def _drop_statement(name: str) -> sql.Composed:
    return sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))


class Databases:
    """A run's databases on one server; ``run`` is eight hexadecimal digits. A context manager.

    ``migrate`` brings the database of its libpq parameters to the newest revision, or to that of ``to=``.
    """

    def __init__(self, server: Server, *, run: str, migrate: Callable[..., str]) -> None:
        if not re.fullmatch(leftovers.RUN, run):
            raise ValueError(f"{run!r} is no run id: databases under it would not be found again.")
        self.server = server
        self._prefix = leftovers.prefix(run)
        self._run = run
        self._migrate = migrate
        self._made: set[str] = set()
        self._one_at_a_time = threading.Lock()
        self._builder = threading.Lock()
        try:
            self._admin = connecting.connect(
                make_conninfo(**self.params(MAINTENANCE)), autocommit=True, prepare_threshold=None
            )
        except psycopg.OperationalError as error:
            raise NoServerError(f"The {server.kind} PostgreSQL does not let us in: {error}") from error
        self.execute("SELECT pg_advisory_lock_shared(%s)", lock_key(run))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def execute(self, query: str | sql.Composed, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement for the server as a whole; return its rows."""
        with self._one_at_a_time:
            return fetched(self._admin.execute(query, values or None))

    @property
    def is_superuser(self) -> bool:
        """Whether we may look at, and put back, what a test did to the server."""
        return self._admin.info.parameter_status("is_superuser") == "on"

    def params(self, name: str) -> dict[str, str]:
        """Return libpq connection parameters for one database."""
        return self.server.admin | {"dbname": name, "client_encoding": "utf8"}  # SQL_ASCII would give bytes

    @contextmanager
    def _building(self) -> Iterator[None]:
        """Let one thread of one process at a time make what all of them share."""
        with self._builder:  # the server's lock is the session's, and all threads here share one
            self.execute("SELECT pg_advisory_lock(%s)", lock_key("build"))
            try:
                yield
            except psycopg.errors.InsufficientPrivilege as error:
                raise NoServerError(f"{error.diag.message_primary}. {RIGHTS}") from error
            finally:
                self.execute("SELECT pg_advisory_unlock(%s)", lock_key("build"))

    def template(self, state: State | None = None, *, progress: Progress = SILENT) -> str:
        """Return the name of the template that has a state's contents: by default the migrated schema, and no rows.

        It is made by whichever process of the run asks first, unless it came with the server.
        """
        name = f"state_{state.label}" if state else "template"
        own, kept = (f"{leftovers.prefix(run)}{name}" for run in (self._run, KEPT_RUN))
        newest = self.template() if state else ""
        base = newest if state and state.revision == HEAD else EMPTY
        with self._building():
            if self._is_finished(own):
                return own
            if self.server.kind == "embedded" and self._is_finished(kept):
                return kept
            if not state:
                roles.make(self.execute)
            self.execute(self._creation(own, base))
            if state:
                if base == EMPTY and state.revision:
                    self._migrate(self.params(own), to=state.revision)
                with progress.step(f"Filling the state {state.name}") as count:
                    self._fill(own, state, count)
            else:
                self._migrate(self.params(own))
            self.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(own)))
        return own

    def _is_finished(self, name: str) -> bool:
        """Say whether a template is there and complete; one that a dead process half made is dropped."""
        found = self.execute("SELECT datistemplate FROM pg_database WHERE datname = %s", name)
        if found == [(False,)]:
            self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        return found == [(True,)]

    def _fill(self, name: str, state: State, count: Callable[[int, int], None]) -> None:
        with connecting.connect(make_conninfo(**self.params(name))) as connection:
            state.fill(connection, count)
            connection.commit()
            connection.autocommit = True
            connection.execute("VACUUM (FREEZE, ANALYZE)")

    def _creation(self, name: str, template: str) -> sql.Composed:
        # Files are copied as they are: a fifth faster than through the log, and much faster for a large state. It takes
        # a checkpoint, which is for our own servers only to bear.
        known = self._admin.info.server_version >= VERSION_15
        strategy = " STRATEGY file_copy" if known and self.server.kind != "external" else ""
        options = " ENCODING 'UTF8' LOCALE 'C'" if template == EMPTY else ""
        names = (sql.Identifier(name), sql.Identifier(template))
        return sql.SQL(f"CREATE DATABASE {{}} TEMPLATE {{}}{options}{strategy}").format(*names)

    def ensure_api_roles(self) -> None:
        """Make those of the data API's roles that are missing, and let every login of a data API act as them."""
        with self._building():
            roles.make(self.execute)
            roles.grant_to_logins(self.execute)

    def clone(self, template: str | None = None, *, name: str | None = None) -> Database:
        """Return a new private copy of ``template``, the migrated one by default.

        With ``name``, a database of that name is replaced if it was made here; ``UsageError`` if it was not.
        """
        source = template or self.template()
        name = self._freed(name) if name else self._new_name()
        self.execute(self._creation(name, source))
        self._made.add(name)
        if not name.startswith(self._prefix):
            self.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(OURS)))
        return Database(name, self.params(name), source)

    def _new_name(self) -> str:
        return f"{self._prefix}{secrets.token_hex(6)}"

    def line(self) -> Line:
        """Open one more connection, for tasks."""
        return Line(self.maintenance())

    def maintenance(self) -> psycopg.Connection:
        """Open one more connection for what concerns the server as a whole."""
        return connecting.connect(make_conninfo(**self.params(MAINTENANCE)), autocommit=True)

    def cloning(self, template: str, line: Line) -> Task[Database]:
        """Return a new private copy of ``template``, without waiting for it."""
        name = self._new_name()
        self._made.add(name)
        yield from line.run(self._creation(name, template).as_string())
        return Database(name, self.params(name), template)

    def dropping(self, database: Database, line: Line) -> Task[None]:
        """Drop a private database as ``drop`` does, without waiting for it."""
        try:
            yield from line.run(_drop_statement(database.name).as_string())
            self._made.discard(database.name)
        except (psycopg.errors.ObjectInUse, psycopg.errors.WrongObjectType):  # rare, and takes its time
            self.drop(database)

    def _freed(self, name: str) -> str:
        found = self.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", name)
        if found and found != [(OURS,)]:
            raise UsageError(f"Database {name} exists and was not made by session-fix; name one that may be replaced.")
        self.drop(Database(name, {}))
        return name

    def empty(self, *, name: str | None = None) -> Database:
        """Return a new private database with nothing in it, not even the migrations; ``name`` as in ``clone``."""
        return self.clone(EMPTY, name=name)

    def drop(self, database: Database) -> None:
        """Drop a private database, whoever is still connected to it, and whatever a test left half done in it."""
        statement = _drop_statement(database.name)
        try:
            self.execute(statement)
        except (psycopg.errors.ObjectInUse, psycopg.errors.WrongObjectType):  # which FORCE does not end
            self._end_what_holds(database.name)
            self.execute(statement)
        self._made.discard(database.name)

    def _end_what_holds(self, name: str) -> None:
        identifier = sql.Identifier(name)
        self.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false ALLOW_CONNECTIONS true").format(identifier))
        with connecting.connect(make_conninfo(**self.params(name)), autocommit=True) as there:
            prepared = there.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()").fetchall()
            for (gid,) in prepared:
                there.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
            for (subscription,) in there.execute(SUBSCRIPTIONS).fetchall():
                for action in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)"):
                    there.execute(sql.SQL(action).format(sql.Identifier(subscription)))
                there.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(subscription)))

    def make_login(self) -> tuple[str, str]:
        """Return the name and password of a new role that may act as each of the data API's roles, and as nobody else.

        It is what Supabase calls ``authenticator``.
        """
        with self._building():
            roles.make(self.execute)
            return roles.make_login(self.execute, self._prefix)

    def close(self) -> None:
        """Leave a server of ours to its end; on a foreign one, drop what this run and dead runs made.

        What of that fails is raised when all the rest has been done.
        """
        with ExitStack() as ending:  # the last callback is the first to be called
            ending.callback(self._admin.close)
            if self.server.kind == "external":
                ending.callback(self._drop_dead_runs)
                for name in self._made:
                    ending.callback(self.drop, Database(name, {}))

    def _drop_dead_runs(self) -> None:
        self.execute("SELECT pg_advisory_unlock_shared(%s)", lock_key(self._run))
        with self._building():
            if leftovers.drop_dead_runs(self.execute):
                roles.drop(self.execute)
