"""The frontend's side of a flow: asks the backend's API and records what it asked and was answered."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from session_fix.events import Recorder, describe

TIMEOUT_S = 30.0
CREATE_PATH, QUERY_PATH = "/session/create", "/smart/query"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the backend answered: HTTP status, body (JSON if it is), and the session id it names, if any."""

    status: int
    body: Any

    @property
    def session_id(self) -> str | None:
        """The session id in the answer."""
        return self.body.get("session_id") if isinstance(self.body, dict) else None


class Frontend:
    """Calls the two endpoints of the backend at ``url``; may be used by several threads.

    Each call has a connection of its own: uvicorn closes one without a word after an error. Standard library, because
    importing an HTTP client costs a third of a second of every replay.
    """

    def __init__(self, url: str, recorder: Recorder) -> None:
        self._address = urlsplit(url).netloc
        self._recorder = recorder

    def create_session(self) -> Answer:
        """Ask for a session."""
        return self._post(CREATE_PATH, {})

    def query(self, session_id: str, text: str) -> Answer:
        """Ask a question in a session."""
        return self._post(QUERY_PATH, {"session_id": session_id, "text": text})

    def _post(self, path: str, body: dict[str, Any]) -> Answer:
        self._recorder.record("request", "frontend", method="POST", path=path, body=describe(body))
        began = time.monotonic_ns()
        with contextlib.closing(http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)) as connection:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        try:
            content = json.loads(text)
        except ValueError:
            content = text
        took_us = (time.monotonic_ns() - began) // 1000
        self._recorder.record(
            "answer", "frontend", path=path, status=response.status, duration_us=took_us, body=describe(content)
        )
        return Answer(response.status, content)
