"""A server and the data API in front of it, started together; private databases that have an endpoint."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from session_fix import schema
from session_fix.databases import Database, Databases
from session_fix.errors import NoServerError
from session_fix.processes import GuardedProcess, Shared, shared
from session_fix.progress import Progress
from session_fix.rest import Endpoint, Keys, Rest, lite, postgrest
from session_fix.rest import external as external_rest
from session_fix.servers import Server, docker, embedded
from session_fix.servers import external as external_server
from session_fix.settings import Settings


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs: the server, its databases, the data API, and the keys for it."""

    databases: Databases
    rest: Rest
    keys: Keys = field(repr=False)

    def describe(self) -> dict[str, str]:
        """Return the kinds and versions for a report."""
        server = self.databases.server
        return {"postgres": f"{server.kind} {server.version}", "rest": f"{self.rest.kind} ({self.rest.version})"}

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Yield a private, migrated database; it is dropped afterwards."""
        database = self.databases.clone(name=self.rest.database)
        with ExitStack() as cleanup:
            cleanup.callback(self.databases.drop, database)
            cleanup.callback(self.rest.close, database.name)
            yield database

    def endpoint(self, database: Database) -> Endpoint:
        """Return where the data API of a database is."""
        return self.rest.open(database.name)


def new_keys(settings: Settings) -> Keys:
    """Return the keys of the run, known before anything is started so that services can start meanwhile."""
    match settings.rest:
        case "lite":
            return lite.new_keys()
        case "postgrest":
            return postgrest.new_keys()
    return settings.supabase_keys


@contextmanager
def start(settings: Settings, keys: Keys, *, progress: Progress, share: str | None = None) -> Iterator[Stack]:
    """Yield a running stack. With ``share``, all processes that pass the same text use one server.

    Raises ``NoServerError`` or ``NoRestError`` with what was tried, ``UsageError`` for a bad DSN.
    """
    run = share or secrets.token_hex(4)
    with (
        _server(settings, progress, share) as server,
        Databases(server, run=run, migrate=schema.migrate) as databases,
        _rest(settings, databases, keys, progress) as rest,
    ):
        yield Stack(databases, rest, keys)


@contextmanager
def _server(settings: Settings, progress: Progress, share: str | None) -> Iterator[Server]:
    if settings.postgres == "external":
        with external_server.start(dsn=settings.dsn, allow_remote=settings.allow_remote) as server:
            yield server
        return

    @contextmanager
    def begin(share_folder: Path | None = None) -> Iterator[Shared]:
        with ExitStack() as stack:
            with progress.step(f"Starting PostgreSQL ({settings.postgres})"):
                server, process = stack.enter_context(_starting(settings, share_folder))
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


def _starting(settings: Settings, share: Path | None) -> AbstractContextManager[tuple[Server, GuardedProcess]]:
    if settings.postgres == "docker":
        return docker.start(image=settings.postgres_image, share=share)
    return embedded.start(version=settings.postgres_version, share=share)


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


@contextmanager
def _rest(settings: Settings, databases: Databases, keys: Keys, progress: Progress) -> Iterator[Rest]:
    with ExitStack() as stack:
        with progress.step(f"Starting the data API ({settings.rest})"):
            rest = stack.enter_context(_starting_rest(settings, databases, keys, progress))
        yield rest


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
