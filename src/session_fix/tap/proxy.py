"""The tap's network half: one task per client connection, one connection to the data API for each.

A call is read whole, recorded, held for as long as the gate wants, forwarded, its reply read whole, recorded and handed
back. What else is to be done to a call (break it) belongs between reading and forwarding, in ``Tap._forward``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import threading
import time
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from session_fix.events import Recorder
from session_fix.rest import Endpoint
from session_fix.tap import messages
from session_fix.tap.calls import REST_PATH, reply_fields, request_fields
from session_fix.tap.gate import Gate
from session_fix.tap.messages import MessageError, Request, Response

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Upstream:
    """Where calls go now: the server, the path before the client's, and where PostgREST's root lies."""

    authority: str
    host: str
    port: int
    prefix: str
    rest_path: str

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
        self._upstream: _Upstream | None = None
        self._recorder = Recorder()
        self._gate: Gate | None = None
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._clients: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="session-fix tap", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def point_at(self, endpoint: Endpoint, recorder: Recorder, gate: Gate | None = None) -> None:
        """Send the calls that arrive from now on to ``endpoint`` and record them there, counted from 1.

        With a ``gate`` each is held until that lets it through.
        """
        url = urlsplit(endpoint.url)
        if url.scheme != "http" or not url.hostname:
            raise ValueError("The tap speaks plain HTTP to the data API; its URL must start with http://.")
        self._upstream = _Upstream(
            url.netloc.rpartition("@")[2], url.hostname, url.port or 80, url.path.rstrip("/"), endpoint.rest_path
        )
        self._recorder = recorder
        self._gate = gate
        self._numbers = itertools.count(1)

    def let_go(self, *, timeout_s: float = 5.0) -> bool:
        """Refuse the calls that arrive from now on; say whether those under way ended within ``timeout_s`` seconds."""
        return asyncio.run_coroutine_threadsafe(self._let_go(timeout_s), self._loop).result()

    async def _let_go(self, timeout_s: float) -> bool:
        self._upstream = None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), timeout_s)
        return self._quiet.is_set()

    async def _listen(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return f"http://{self._address}"

    async def _close(self) -> None:
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101  a coroutine that runs has a task
        self._clients.add(task)
        upstream: dict[tuple[str, int], Streams] = {}
        try:
            while (request := await messages.read_request(reader)) is not None:
                writer.write(messages.response_bytes(await self._answer(request, upstream)))
                await writer.drain()
        except MessageError as error:
            writer.write(messages.response_bytes(_refusal(400, str(error))))
        except ConnectionError:
            pass
        except asyncio.CancelledError:  # the tap is ending, and the client may never read what was sent
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            for _, connection in upstream.values():
                connection.transport.abort()
            await _closed(writer)

    async def _answer(self, request: Request, upstream: dict[tuple[str, int], Streams]) -> Response:
        if not request.target.startswith("/") or request.headers.get(b"host") != self._address.encode():
            return _refusal(403, "This proxy serves one data API, under its own name.")
        if self._upstream is None:
            return _refusal(503, "No database stands behind this proxy now.")
        to, number, recorder, gate = self._upstream, next(self._numbers), self._recorder, self._gate
        self._under_way += 1
        self._quiet.clear()
        try:
            async with gate.passed(request) if gate else contextlib.nullcontext():
                began = time.monotonic_ns()
                recorder.record("call", "tap", call=number, **request_fields(request))
                response, why = await self._forward(request, to, upstream)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()
        took_us = (time.monotonic_ns() - began) // 1000
        recorder.record("reply", "tap", call=number, duration_us=took_us, reason=why, **reply_fields(response))
        return response

    async def _forward(
        self, request: Request, to: _Upstream, upstream: dict[tuple[str, int], Streams]
    ) -> tuple[Response, str | None]:
        """Return the data API's response, or a 502 of our own and why."""
        address = (to.host, to.port)
        sent = messages.request_bytes(request, target=to.target(request.target), host=to.authority)
        try:
            response = await _exchange(sent, request.method, upstream, address)
        except (OSError, TimeoutError, MessageError) as error:
            _forget(upstream, address)
            response, why = None, f"{type(error).__name__}: {error}"
        else:
            why = "it closed the connection"
        if response is None:
            return _refusal(502, f"The data API gave no answer: {why}"), why
        return response, None


async def _exchange(
    sent: bytes, method: str, upstream: dict[tuple[str, int], Streams], address: tuple[str, int]
) -> Response | None:
    if address in upstream and _was_closed(upstream[address]):  # asked before sending: no call may be sent twice
        _forget(upstream, address)
    if address not in upstream:
        upstream[address] = await asyncio.wait_for(asyncio.open_connection(*address), CONNECT_TIMEOUT_S)
    reader, writer = upstream[address]
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        await writer.drain()
        if (response := await messages.read_response(reader, to=method)) is not None:
            return response
    _forget(upstream, address)
    return None


def _was_closed(streams: Streams) -> bool:
    """Say whether the other side closed an idle connection: there is something to read before anything was asked."""
    reader, writer = streams
    if reader.at_eof() or writer.is_closing():
        return True
    arrived = select.poll()
    arrived.register(writer.get_extra_info("socket"), select.POLLIN)
    return bool(arrived.poll(0))


def _forget(upstream: dict[tuple[str, int], Streams], address: tuple[str, int]) -> None:
    if address in upstream:
        _, writer = upstream.pop(address)
        writer.transport.abort()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the client was faster
        await writer.wait_closed()


def _refusal(status: int, why: str) -> Response:
    return Response(status, b"", ((b"content-type", b"text/plain"),), why.encode())
