"""What one client of a workload does, and what it was told: through the service, or beside it as an operator does."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import psycopg

from session_fix.events import Recorder
from session_fix.explore.workloads import CLEANUP, CREATE, DELETE, MIGRATE, QUERY, READ
from session_fix.frontend import Frontend
from session_fix.host.service import Outcome, Service
from session_fix.rest import Keys
from session_fix.tap.calls import REST_PATH

SESSIONS, INTERACTIONS = "ai_sessions", "ai_interactions"
OK = 200
FIRST_ERROR = 400
TIMEOUT_S = 30.0
CUTOFF = "2020-01-01T00:00:00"  # sessions that nobody used since are cleaned up


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told of one action: whether it was done, what came back, and the error's SQLSTATE or name."""

    action: str
    done: bool
    value: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Texts:
    """What a client asks, and what it is answered where the caller decides that: everywhere but at the API."""

    prompt: str
    response: str


class Client:
    """A client of one session, at one layer of one process of the service."""

    def __init__(
        self,
        service: Service,
        tap_url: str,
        keys: Keys,
        recorder: Recorder,
        layer: str,
        migrate: Callable[[], None] = lambda: None,
    ) -> None:
        self._service = service
        self._address = urlsplit(tap_url).netloc
        self._headers = {
            "apikey": keys.service_role,
            "authorization": f"Bearer {keys.service_role}",
            "prefer": "return=representation",
        }
        self._recorder = recorder
        self._layer = layer
        self._migration = migrate

    def act(self, action: str, session_id: str, texts: Texts) -> Told:
        """Perform one action, and say what came of it."""
        actions: dict[str, Callable[[], Told]] = {
            CREATE: lambda: self._create(session_id),
            QUERY: lambda: self._query(session_id, texts),
            DELETE: lambda: self._delete(session_id),
            CLEANUP: self._cleanup,
            READ: lambda: self._read(session_id),
            MIGRATE: self._migrate,
        }
        return actions[action]()

    def _create(self, session_id: str) -> Told:
        outcome = self._service.call("database", "create_session", session_id)
        return _told(CREATE, outcome, done=outcome.value == session_id, otherwise="another id")

    def _query(self, session_id: str, texts: Texts) -> Told:
        if self._layer == "api":
            answer = Frontend(str(self._service.url), self._recorder).query(session_id, texts.prompt)
            done = answer.status == OK and answer.session_id == session_id
            response = answer.body.get("response") if isinstance(answer.body, dict) else None
            return Told(QUERY, done, response if done else None, "" if done else f"HTTP {answer.status}")
        if self._layer == "logger":
            outcome = self._service.call(
                "logger", "log_interaction", texts.prompt, texts.response, session_id=session_id
            )
            return _told(QUERY, outcome, done=outcome.value is True, value=texts.response)
        outcome = self._service.call("database", "create_session", session_id)
        if outcome.value == session_id:
            outcome = self._service.call("database", "log_interaction", session_id, texts.prompt, texts.response)
            return _told(QUERY, outcome, done=outcome.value is True, value=texts.response)
        return _told(QUERY, outcome, done=False, otherwise="another id")

    def _delete(self, session_id: str) -> Told:
        status, body = self._ask("DELETE", SESSIONS, id=f"eq.{session_id}")
        return Told(DELETE, status < FIRST_ERROR, len(body) if isinstance(body, list) else None, _code(status, body))

    def _cleanup(self) -> Told:
        """Delete the sessions that are old and empty: look first, then delete what is still as it was seen."""
        status, found = self._ask("GET", SESSIONS, select="id", updated_at=f"lt.{CUTOFF}")
        removed = []
        for session in found if status < FIRST_ERROR else ():
            _, children = self._ask("GET", INTERACTIONS, select="id", session_id=f"eq.{session['id']}", limit="1")
            if children == []:
                status, gone = self._ask("DELETE", SESSIONS, id=f"eq.{session['id']}", updated_at=f"lt.{CUTOFF}")
                removed += [session["id"]] if status < FIRST_ERROR and gone else []
        return Told(CLEANUP, done=True, value=removed)

    def _read(self, session_id: str) -> Told:
        query = {"select": "id", "session_id": f"eq.{session_id}", "order": "created_at,id"}
        status, body = self._ask("GET", INTERACTIONS, **query)
        done = status < FIRST_ERROR
        return Told(READ, done, [row["id"] for row in body] if done else None, _code(status, body))

    def _migrate(self) -> Told:
        try:
            self._migration()
        except psycopg.Error as error:
            return Told(MIGRATE, done=False, error=error.sqlstate or type(error).__name__)
        return Told(MIGRATE, done=True)

    def _ask(self, method: str, table: str, **query: str) -> tuple[int, Any]:
        with contextlib.closing(http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)) as connection:
            connection.request(method, f"{REST_PATH}{table}?{urlencode(query)}", headers=self._headers)
            response = connection.getresponse()
            content = response.read()
        return response.status, json.loads(content) if content else []


def _code(status: int, body: Any) -> str:
    if status < FIRST_ERROR:
        return ""
    return str(body.get("code") or status) if isinstance(body, dict) else str(status)


def _told(
    action: str, outcome: Outcome, *, done: bool, value: Any = None, otherwise: str = "something else than True"
) -> Told:
    if outcome.error_type:
        return Told(action, done=False, error=outcome.code or outcome.error_type)
    return Told(action, done, value if done else outcome.value, "" if done else otherwise)
