"""HTTP/1.1 messages, read whole from a stream and written back; parsed by llhttp through ``httptools``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httptools

CHUNK = 1 << 16
LARGEST_MESSAGE = 64 << 20
# Source: RFC 9110, sections 7.6.1 and 10.1.1. Lengths are set anew, since bodies are read whole.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"})
NOT_FORWARDED = HOP_BY_HOP | {b"host", b"content-length"}


class MessageError(Exception):
    """What came is not one complete HTTP message."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived, its headers in their order."""

    method: str
    target: str
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The headers by lower-case name; of several, the last."""
        return {name.lower(): value for name, value in self.raw_headers}


@dataclass(frozen=True, slots=True)
class Response:
    """A response as it arrived."""

    status: int
    reason: bytes
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class _Collector:
    """Receives the parser's callbacks for one message."""

    def __init__(self) -> None:
        self.target = b""
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.complete = False

    def on_message_begin(self) -> None:
        if self.complete:
            raise MessageError("a second message came before the answer to the first")

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body
        if len(self.body) > LARGEST_MESSAGE:
            raise MessageError(f"the body is larger than {LARGEST_MESSAGE} bytes")

    def on_message_complete(self) -> None:
        self.complete = True


async def _read(reader: asyncio.StreamReader, parser: Any, collector: _Collector) -> bool:
    """Feed the parser until its message is complete; false when the peer closed before sending a byte."""
    begun = False
    while not collector.complete:
        data = await reader.read(CHUNK)
        if not data:
            if begun:
                raise MessageError("the connection was closed in the middle of a message")
            return False
        begun = True
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise MessageError(str(error)) from error
    return True


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request, None when the client closed the connection. Raises ``MessageError``."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    if not await _read(reader, parser, collector):
        return None
    method, target = parser.get_method().decode("ascii"), collector.target.decode("latin-1")
    return Request(method, target, tuple(collector.headers), bytes(collector.body))


async def read_response(reader: asyncio.StreamReader, *, to: str) -> Response | None:
    """Return the response to a request of method ``to``, None when the server closed first. Raises ``MessageError``."""
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    if to == "HEAD":
        return await _read_head_only(reader, parser, collector)
    if not await _read(reader, parser, collector):
        return None
    return Response(parser.get_status_code(), collector.reason, tuple(collector.headers), bytes(collector.body))


async def _read_head_only(reader: asyncio.StreamReader, parser: Any, collector: _Collector) -> Response | None:
    try:
        parser.feed_data(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError:
        return None
    return Response(parser.get_status_code(), collector.reason, tuple(collector.headers), b"")


def _head(first_line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join([first_line, *(b"%b: %b" % header for header in headers), b"", b""])


def request_bytes(request: Request, *, target: str, host: str) -> bytes:
    """Return the request to send on: another target and host, its own headers and body."""
    headers = [(b"host", host.encode())]
    headers += [(n, v) for n, v in request.raw_headers if n.lower() not in NOT_FORWARDED]
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        headers.append((b"content-length", b"%d" % len(request.body)))
    return _head(f"{request.method} {target} HTTP/1.1".encode("latin-1"), headers) + request.body


def response_bytes(response: Response) -> bytes:
    """Return the response to hand to the client: its own headers and body, with a length of their own."""
    headers = [(n, v) for n, v in response.raw_headers if n.lower() not in NOT_FORWARDED]
    length = next((v for n, v in response.raw_headers if n.lower() == b"content-length"), None)
    if response.status not in (204, 304):
        headers.append((b"content-length", (length if not response.body and length else b"%d" % len(response.body))))
    return _head(b"HTTP/1.1 %d %b" % (response.status, response.reason), headers) + response.body
