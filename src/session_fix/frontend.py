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
    """What the backend answered: HTTP status, None for no answer at all; and the body, JSON if it is."""

    status: int | None
    body: Any

    @property
    def session_id(self) -> str | None:
        """The session id in the answer, None when there is no text of that name."""
        named = self.body.get("session_id") if isinstance(self.body, dict) else None
        return named if isinstance(named, str) else None


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
        reason = None
        try:
            with contextlib.closing(http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)) as connection:
                connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
                response = connection.getresponse()
                answer = Answer(response.status, _content(response.read().decode(errors="replace")))
        except (OSError, http.client.HTTPException) as error:  # the service hung up, hangs, or is gone
            answer, reason = Answer(None, None), f"no answer to {path}: {type(error).__name__}"
        took_us = (time.monotonic_ns() - began) // 1000
        fields = {"status": answer.status, "reason": reason, "duration_us": took_us, "body": describe(answer.body)}
        self._recorder.record("answer", "frontend", path=path, **fields)
        return answer


def _content(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
