"""A server and the data API in front of it, started together; private databases that have an endpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from session_fix import kept, schema
from session_fix.databases import Database, Databases
from session_fix.errors import NoServerError
from session_fix.isolation.private import CLONE, PrivateDatabases
from session_fix.kept import Kept
from session_fix.processes import GuardedProcess, Shared, shared
from session_fix.progress import SILENT, Progress
from session_fix.rest import Endpoint, Keys, Rest, lite, postgrest
from session_fix.rest import external as external_rest
from session_fix.servers import UNSAFE_BUT_FAST, Server, docker, embedded, warm
from session_fix.servers import external as external_server
from session_fix.settings import Settings
from session_fix.states import State


class Stack:
    """What runs: the server, its databases, and the data API with its keys, which is started when it is first needed.

    A context manager; ``alone`` says that no other process uses the server.
    """

    def __init__(
        self, settings: Settings, databases: Databases, keys: Keys, *, progress: Progress = SILENT, alone: bool = True
    ) -> None:
        self.databases = databases
        self.keys = keys
        self.private = PrivateDatabases(
            databases, rest=self._login, settled=self._settled, let_go=self._let_go, alone=alone
        )
        self._settings = settings
        self._progress = progress
        self._starting = threading.Lock()
        self._rest: Rest | None = None
        self._opened: set[str] = set()
        self._used: set[str] = set()  # by the tests that have a database now
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._cleanup, contextlib.closing(self.private):
            self.settle()

    @property
    def rest(self) -> Rest:
        """The data API; it is started by the first who asks. Raises ``NoRestError``."""
        with self._starting:
            if not self._rest:
                with self._progress.step(f"Starting the data API ({self._settings.rest})"):
                    starting = _starting_rest(self._settings, self.databases, self.keys, self._progress)
                    self._rest = self._cleanup.enter_context(starting)
            return self._rest

    def describe(self) -> dict[str, str]:
        """Return the kinds and versions for a report, and what the server does not wait for."""
        server = self.databases.server
        off = "SELECT name || '=' || setting FROM pg_settings WHERE name = ANY(%s) AND setting = 'off' ORDER BY 1"
        unsafe = [setting for (setting,) in self.databases.execute(off, list(UNSAFE_BUT_FAST))]
        return {
            "postgres": f"{server.kind} {server.version}",
            "durability": ", ".join(unsafe) or "durable",
            "rest": f"{self.rest.kind} ({self.rest.version})",
        }

    @contextmanager
    def database(self, state: State | None = None) -> Iterator[Database]:
        """Yield a clone of the migrated template, or of a state's; it is dropped afterwards."""
        template = self.databases.template(state, progress=self._progress)
        database = self.databases.clone(template, name=self._only_name())
        with ExitStack() as cleanup:
            cleanup.callback(self.databases.drop, database)
            cleanup.callback(self._let_go, database.name)
            yield database

    @contextmanager
    def reopened(self, one: Kept) -> Iterator[tuple[Database, list[str]]]:
        """Yield a new database with what was kept, and the roles that the server lacked; it is dropped afterwards."""
        self.databases.ensure_api_roles()
        with ExitStack() as cleanup:
            database = self.databases.empty(name=self._only_name())
            cleanup.callback(self.databases.drop, database)
            cleanup.callback(self._let_go, database.name)
            yield database, kept.restore(one, database.params, foreign=self.databases.server.kind == "external")

    def _only_name(self) -> str | None:
        """Return the name of the one database that an external data API serves."""
        return self._settings.supabase_database if self._settings.rest == "external" else None

    def lend(
        self, isolation: str | None = None, state: State | None = None, *, settle: bool = True
    ) -> AbstractContextManager[Database]:
        """Return a context manager of a private database that is ready already, see ``PrivateDatabases.lend``.

        ``isolation`` is by default the run's.
        Only with the data API that comes with us can we tell whether it has finished with a database, and it alone
        serves many: with the others each test has a clone.
        """
        if self._settings.rest == "external":
            return self.database(state)
        isolation = (isolation or self._settings.isolation) if self._settings.rest == "lite" else CLONE
        return self.private.lend(isolation, state, progress=self._progress, settle=settle)

    def give_back(self) -> None:
        """Ask what was left by a test that had a database with ``settle=False``, now that it has ended."""
        self.private.give_back()

    def settle(self) -> None:
        """Wait until it is known what that test did to the server; raises what it has to answer for."""
        self.private.settle()

    def endpoint(self, database: Database) -> Endpoint:
        """Return where the data API of a database is."""
        self._opened.add(database.name)
        self._used.add(database.name)
        return self.rest.open(database.name)

    def endpoint_if_started(self, database: Database) -> str:
        """Return the URL of a database's data API if somebody has asked for it, else ""."""
        return self.endpoint(database).url if self._rest and database.name in self._opened else ""

    def _login(self) -> str:
        return self._rest.login if self._rest else ""

    def _settled(self, name: str) -> bool | None:
        if not self._rest or name not in self._used:
            return None
        self._used.discard(name)
        return self._rest.is_idle(name)

    def _let_go(self, name: str) -> None:
        if self._rest and name in self._opened:
            self._opened.discard(name)
            self._rest.close(name)


def new_keys(settings: Settings) -> Keys:
    """Return the keys of the run, known before anything is started so that services can start meanwhile."""
    match settings.rest:
        case "lite":
            return lite.new_keys()
        case "postgrest":
            return postgrest.new_keys()
    return settings.supabase_keys


@contextmanager
def start(
    settings: Settings,
    keys: Keys,
    *,
    states: Sequence[State] = (),
    progress: Progress,
    share: str | None = None,
) -> Iterator[Stack]:
    """Yield a running stack. With ``share``, all processes that pass the same text use one server.

    ``states`` are made with an embedded server, and kept with it; others are made when they are asked for.
    Raises ``NoServerError`` with what was tried, ``UsageError`` for a bad DSN.
    """
    run = share or secrets.token_hex(4)
    with (
        _server(settings, states, progress, share) as server,
        Databases(server, run=run, migrate=schema.migrate) as databases,
        Stack(settings, databases, keys, progress=progress, alone=not share and server.kind != "external") as stack,
    ):
        yield stack


@contextmanager
def _server(settings: Settings, states: Sequence[State], progress: Progress, share: str | None) -> Iterator[Server]:
    if settings.postgres == "external":
        with external_server.start(dsn=settings.dsn, allow_remote=settings.allow_remote) as server:
            yield server
        return

    @contextmanager
    def begin(share_folder: Path | None = None) -> Iterator[Shared]:
        with ExitStack() as stack:
            with progress.step(f"Starting PostgreSQL ({settings.postgres})"):
                server, process = stack.enter_context(_starting(settings, states, progress, share_folder))
            yield Shared(str(process.folder), dataclasses.asdict(server))

    try:
        with shared(share, begin) if share else _alone(begin()) as found:
            yield Server(**found)
    except NoServerError as error:
        raise NoServerError(f"{error}\n{_other_ways(settings)}") from error


@contextmanager
def _alone(starting: AbstractContextManager[Shared]) -> Iterator[dict[str, Any]]:
    with starting as started:
        yield started.value


def _starting(
    settings: Settings, states: Sequence[State], progress: Progress, share: Path | None
) -> AbstractContextManager[tuple[Server, GuardedProcess]]:
    if settings.postgres == "docker":
        return docker.start(image=settings.postgres_image, share=share, durable=settings.durable)
    version, durable = settings.postgres_version, settings.durable
    return warm.start(version=version, states=states, progress=progress, share=share, durable=durable)


def _other_ways(settings: Settings) -> str:
    """Return, for an error, what the other kinds of server would need."""
    ways = {kind: why for kind, why in server_ways(settings).items() if kind != settings.postgres}
    lines = "\n".join(f"  --postgres {kind}: {why or 'would be possible here'}" for kind, why in ways.items())
    return f"Other ways to a PostgreSQL:\n{lines}"


def server_ways(settings: Settings) -> dict[str, str | None]:
    """Return each kind of server with the reason why it cannot be had here, None where nothing speaks against it."""
    try:
        embedded.binaries(settings.postgres_version)
        no_binaries = None
    except NoServerError as error:
        no_binaries = str(error)
    no_dsn = None if settings.dsn else f"{external_server.DSN_VARIABLE} is not set"
    return {"embedded": no_binaries, "docker": docker.missing(), "external": no_dsn}


def _starting_rest(
    settings: Settings, databases: Databases, keys: Keys, progress: Progress
) -> AbstractContextManager[Rest]:
    if settings.rest == "external":
        return external_rest.start(settings.supabase_url, settings.supabase_database, keys)
    user, password = databases.make_login()
    login = databases.server.admin | {"user": user, "password": password}
    if settings.rest == "postgrest":
        return postgrest.start(login | databases.server.inside, keys, image=settings.postgrest_image)
    return lite.start(login, keys, progress=progress)
