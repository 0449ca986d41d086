"""How the tests ask a data API by hand: the exact key, host and path, which a client would choose itself."""

import contextlib
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest


@dataclass(frozen=True)
class Answer:
    """HTTP status and body, decoded where it is JSON."""

    status: int
    body: Any

    @property
    def code(self):
        """The error's code, None without one."""
        return self.body.get("code") if isinstance(self.body, dict) else None


@pytest.fixture
def ask():
    """Return a function that sends one request and returns the answer."""

    def send(url, method="GET", *, key=None, body=None, **headers):
        parts = urlsplit(url)
        if key:
            headers |= {"apikey": key, "authorization": f"Bearer {key}"}
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"content-type": "application/json"}
        with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)) as connection:
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(method, target, json.dumps(body) if body is not None else None, sent)
            response = connection.getresponse()
            text = response.read().decode()
        try:
            return Answer(response.status, json.loads(text))
        except ValueError:
            return Answer(response.status, text)

    return send
