"""Leave a stack and a service running, to try by hand: URLs, keys, and lines to paste into another terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from psycopg.conninfo import make_conninfo

from session_fix import host, stack
from session_fix.databases import Database
from session_fix.events import Recorder
from session_fix.host.service import Service, environment
from session_fix.progress import Progress
from session_fix.rest import Endpoint, Keys
from session_fix.servers import embedded
from session_fix.settings import Settings
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
        yield "The database", f"{self._psql()} {shlex.quote(make_conninfo(**self._params()))}"

    def _params(self) -> dict[str, str]:
        own = {"password"} if self.settings.postgres == "external" else set()
        return {key: value for key, value in self.database.params.items() if value and key not in own}

    def _psql(self) -> str:
        if self.settings.postgres == "embedded":
            return shlex.quote(str(embedded.binaries(self.settings.postgres_version) / "psql"))
        return "psql"


@contextmanager
def up(subject: Subject, settings: Settings, *, progress: Progress) -> Iterator[Up]:
    """Yield a running service on a stack of its own, until the block ends."""
    keys = stack.new_keys(settings)
    with stack.start(settings, keys, progress=progress) as running, running.database() as database, Tap() as tap:
        endpoint = running.endpoint(database)
        tap.point_at(endpoint, Recorder())
        with ExitStack() as cleanup:
            with progress.step(f"Importing the service {subject.name}"):
                starting = host.start(subject.directory, environment(tap.url, keys), python=settings.python)
                service = cleanup.enter_context(starting)
            service.require("api")
            yield Up(settings, running.describe(), service, database, endpoint, keys)
