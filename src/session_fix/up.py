"""Leave a stack and a service running, to try by hand: URLs, keys, and lines to paste into another terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from psycopg.conninfo import make_conninfo

from session_fix import host, stack
from session_fix.databases import Database
from session_fix.events import Recorder
from session_fix.host.service import Service, environment
from session_fix.kept import Kept
from session_fix.progress import Progress
from session_fix.rest import Endpoint, Keys
from session_fix.servers import embedded
from session_fix.settings import Settings
from session_fix.stack import Stack
from session_fix.states import State
from session_fix.subjects import Subject
from session_fix.tap import Tap


@dataclass(frozen=True, slots=True)
class Up:
    """What runs."""

    settings: Settings
    stack: dict[str, str]
    service: Service
    database: Database
    endpoint: Endpoint
    missing_roles: tuple[str, ...]
    keys: Keys = field(repr=False)

    def instructions(self) -> Iterator[tuple[str, str]]:
        """Yield a title and what to paste, for each thing there is to try."""
        yield "The backend's API", str(self.service.url)
        yield "Create a session", f"curl -s -X POST {self.service.url}/session/create"
        body = shlex.quote('{"session_id": "PASTE-IT-HERE", "text": "hello"}')
        yield (
            "Ask in it",
            f"curl -s -X POST {self.service.url}/smart/query -H 'content-type: application/json' -d {body}",
        )
        yield "The Supabase URL", self.endpoint.url
        key = "$SUPABASE_SERVICE_ROLE_KEY"
        if self.settings.rest != "external":  # keys made for this run; somebody's own are not for a terminal
            key = self.keys.service_role
            yield "Its anon key", self.keys.anon
            yield "Its service role key", key
        table = f"{self.endpoint.url}{self.endpoint.rest_path}/ai_sessions?select=*"
        yield "Read the sessions through it", f'curl -s "{table}" -H "apikey: {key}" -H "authorization: Bearer {key}"'
        yield "The database", psql_line(self.settings, self.database)


def psql_line(settings: Settings, database: Database) -> str:
    """Return the command that opens a database, to be pasted; without its password where that is somebody's own."""
    own = {"password"} if settings.postgres == "external" else set()
    params = {key: value for key, value in database.params.items() if value and key not in own}
    psql = "psql"
    if settings.postgres == "embedded":
        psql = shlex.quote(str(embedded.binaries(settings.postgres_version) / "psql"))
    env = "env -u PGSERVICE " if "PGSERVICE" in os.environ else ""  # which no parameter overrides, see connecting.py
    return f"{env}{psql} {shlex.quote(make_conninfo(**params))}"


@contextmanager
def up(
    subject: Subject,
    settings: Settings,
    *,
    state: State | None = None,
    kept: Kept | None = None,
    progress: Progress,
) -> Iterator[Up]:
    """Yield a running service on a stack of its own, until the block ends.

    Its database has the contents of ``state``, or those of a failed test's that was ``kept``.
    """
    keys = stack.new_keys(settings)
    states = (state,) if state else ()
    with (
        stack.start(settings, keys, states=states, progress=progress) as running,
        running.reopened(kept) if kept else _with_state(running, state) as (database, missing_roles),
        Tap() as tap,
    ):
        endpoint = running.endpoint(database)
        tap.point_at(endpoint, Recorder())
        with ExitStack() as cleanup:
            with progress.step(f"Importing the service {subject.name}"):
                starting = host.start(subject.directory, environment(tap.url, keys), python=settings.python)
                service = cleanup.enter_context(starting)
            service.require("api")
            yield Up(settings, running.describe(), service, database, endpoint, tuple(missing_roles), keys)


@contextmanager
def _with_state(running: Stack, state: State | None) -> Iterator[tuple[Database, list[str]]]:
    with running.database(state) as database:
        yield database, []
