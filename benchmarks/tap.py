"""Milliseconds that the tap adds to a call of the data API, each beside the same call without it.

A read of one row that is not there, by one client that keeps its connections: directly; through the tap, which records
it; with a gate that was opened; and with one at which each call is held, and released by whoever is told of it. "net"
is the difference to the direct call that was made just before or just after, by turns.
"""

from __future__ import annotations

import http.client
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

from benchmarks.figures import Row
from benchmarks.runs import FailedError, Key, Sizes, interleave, rows
from session_fix import stack
from session_fix.events import Recorder
from session_fix.progress import SILENT
from session_fix.rest import Keys
from session_fix.settings import Settings
from session_fix.tap import Tap
from session_fix.tap.calls import REST_PATH
from session_fix.tap.gate import Gate, Held

NAME = "tap"
DIRECT, RECORDING = "the data API, directly", "session-fix, recording"
OPEN, RELEASING = "session-fix, recording, an open gate", "session-fix, recording, held and released"
THROUGH = (RECORDING, OPEN, RELEASING)
NET = "net"
TIMEOUT_S = 30.0
Took = dict[Key, list[float]]


def measure(sizes: Sizes) -> list[Row]:
    """Return a row for each way to the data API, and one for what each adds."""
    settings = Settings()
    with ExitStack() as running:
        keys = stack.new_keys(settings)
        base = running.enter_context(stack.start(settings, keys, progress=SILENT))
        endpoint = base.endpoint(running.enter_context(base.database()))
        ways = {DIRECT: _call(running, endpoint.url, endpoint.rest_path, keys)}
        for name in THROUGH:
            tap = running.enter_context(Tap())
            tap.point_at(endpoint, Recorder(), _gate(name))
            ways[name] = _call(running, tap.url, REST_PATH.rstrip("/"), keys)
        _measured(ways, 1)  # connects
        found = interleave({(NAME, ""): lambda: _measured(ways, sizes.calls)}, sizes.rounds)[NAME, ""]
    if isinstance(found, FailedError):
        raise found
    return [row for key in found[0] for row in rows(NAME, {key: [one[key] for one in found]}, _flat)]


def _gate(name: str) -> Gate | None:
    if name == RECORDING:
        return None
    gate = Gate(Held.release)
    if name == OPEN:
        gate.open()
    return gate


def _call(running: ExitStack, url: str, rest_path: str, keys: Keys) -> Callable[[], None]:
    """Return a function that makes the call over a connection that stays."""
    address = urlsplit(url)
    connection = running.enter_context(closing(http.client.HTTPConnection(address.netloc, timeout=TIMEOUT_S)))
    headers = {"apikey": keys.service_role, "authorization": f"Bearer {keys.service_role}"}
    target = f"{address.path.rstrip('/')}{rest_path}/ai_sessions?select=id&id=eq.{uuid.uuid4()}"

    def call() -> None:
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        if (answer := (response.status, response.read())) != (http.client.OK, b"[]"):
            raise FailedError(f"the data API answered {answer}")

    return call


def _measured(ways: Mapping[str, Callable[[], None]], times: int) -> Took:
    took: Took = {(name, setting): [] for name in ways for setting in ("", NET) if (name, setting) != (DIRECT, NET)}
    for turn in range(times):
        for name in THROUGH:
            pair = [DIRECT, name] if turn % 2 else [name, DIRECT]
            took_ms = {way: _took_ms(ways[way]) for way in pair}
            took[DIRECT, ""].append(took_ms[DIRECT])
            took[name, ""].append(took_ms[name])
            took[name, NET].append(took_ms[name] - took_ms[DIRECT])
    return took


def _took_ms(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _flat(results: Sequence[list[float]]) -> list[float]:
    return [took_ms for values in results for took_ms in values]
