"""The tap's network half: one thread per client connection, one connection to the data API for each.

A call is read whole, recorded, held for as long as the gate wants, forwarded, its reply read whole, recorded and handed
back. What else is to be done to a call (break it) belongs between reading and forwarding, in ``Tap._forward``.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from session_fix.events import Recorder
from session_fix.rest import Endpoint
from session_fix.tap import messages
from session_fix.tap.calls import REST_PATH, reply_fields, request_fields
from session_fix.tap.connections import CONNECT_TIMEOUT_S, Connections, Link
from session_fix.tap.gate import Gate, Held
from session_fix.tap.messages import MessageError, Request, Response

NAME = "session-fix tap"
PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Way:
    """Where calls go now: the server, the path before the client's, where PostgREST's root lies; who records them."""

    authority: str
    host: str
    port: int
    prefix: str
    rest_path: str
    recorder: Recorder
    gate: Gate | None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def target(self, asked: str) -> str:
        """Return the path to ask upstream for."""
        if self.rest_path != REST_PATH.rstrip("/") and asked.startswith(REST_PATH):
            asked = f"{self.rest_path}/{asked.removeprefix(REST_PATH)}"
        return f"{self.prefix}{asked}"


class Tap:
    """A proxy on loopback that stays up while databases change under it; use it as a context manager.

    ``url`` is what the service gets as ``SUPABASE_URL``. ``point_at`` says where calls go and who records them.
    """

    def __init__(self) -> None:
        self.url = ""
        self._way: _Way | None = None
        self._under_way: set[Held] = set()
        self._lock = threading.Lock()  # of the two above
        self._connections = Connections()
        self._clients: list[threading.Thread] = []
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen, name=NAME, daemon=True)
        self._thread.start()
        self.url = f"http://{self._address}"
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        with socket.create_connection(self._listener.getsockname()):  # wakes the thread that listens
            self._thread.join()
        self._listener.close()
        with self._lock:
            self._way = None
            for call in self._under_way:
                call.drop()
        self._connections.end()
        for thread in self._clients:
            thread.join(CONNECT_TIMEOUT_S)  # nothing else can take long now

    def point_at(self, endpoint: Endpoint, recorder: Recorder, gate: Gate | None = None) -> None:
        """Send the calls that arrive from now on to ``endpoint`` and record them there, counted from 1.

        With a ``gate`` each is held until that lets it through.
        """
        url = urlsplit(endpoint.url)
        if url.scheme != "http" or not url.hostname:
            raise ValueError("The tap speaks plain HTTP to the data API; its URL must start with http://.")
        server = (url.netloc.rpartition("@")[2], url.hostname, url.port or 80, url.path.rstrip("/"))
        way = _Way(*server, endpoint.rest_path, recorder, gate)
        with self._lock:
            self._way = way

    def let_go(self, *, timeout_s: float = 5.0) -> bool:
        """Refuse the calls that arrive from now on; say whether those under way ended within ``timeout_s`` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._way = None
            calls = list(self._under_way)
        return all(call.has_ended(timeout_s=max(0.0, deadline - time.monotonic())) for call in calls)

    def _listen(self) -> None:
        while not self._ending.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:  # the client was faster, or too many files are open
                self._ending.wait(PAUSE_S)
                continue
            thread = threading.Thread(target=self._serve, args=(client,), name=f"{NAME}, a client", daemon=True)
            self._clients = [one for one in self._clients if one.is_alive()] + [thread]
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),  # the client hung up, or is hung up on
            self._connections.kept(connection) as client,
            contextlib.closing(Link(self._connections)) as link,
        ):
            try:
                while (request := messages.read_request(client.recv)) is not None:
                    client.sendall(messages.response_bytes(self._answer(request, link)))
            except MessageError as error:
                client.sendall(messages.response_bytes(_refusal(400, str(error))))

    def _answer(self, request: Request, link: Link) -> Response:
        if not request.target.startswith("/") or request.headers.get(b"host") != self._address.encode():
            return _refusal(403, "This proxy serves one data API, under its own name.")
        call = Held(request)
        with self._lock:
            if (way := self._way) is None:
                return _refusal(503, "No database stands behind this proxy now.")
            number = next(way.numbers)
            self._under_way.add(call)
        try:
            if way.gate:
                way.gate.hold(call)
            return self._forward(request, way, number, link)
        finally:
            with self._lock:
                self._under_way.remove(call)
            call.end()

    def _forward(self, request: Request, way: _Way, number: int, link: Link) -> Response:
        """Return the data API's response, or a 502 of our own; both are in the record."""
        sent, why = messages.request_bytes(request, target=way.target(request.target), host=way.authority), None
        began_ns = time.monotonic_ns()
        try:
            try:
                link.send(sent, (way.host, way.port))
            finally:  # what there is to say of the call is found out while the data API is at work
                way.recorder.record("call", "tap", at_ns=began_ns, call=number, **request_fields(request))
            response = link.receive(request.method)
        except (OSError, MessageError) as error:
            if self._connections.have_ended:  # which is why
                raise
            link.close()
            why = f"{type(error).__name__}: {error}"
            response = _refusal(502, f"The data API gave no answer: {why}")
        took_us = (time.monotonic_ns() - began_ns) // 1000
        way.recorder.record("reply", "tap", call=number, duration_us=took_us, reason=why, **reply_fields(response))
        return response


def _refusal(status: int, why: str) -> Response:
    return Response(status, b"", ((b"content-type", b"text/plain"),), why.encode())
