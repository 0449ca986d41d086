"""HTTP/1.1 messages, read whole from a connection and written back; parsed by llhttp through ``httptools``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httptools

CHUNK = 1 << 16
LARGEST_MESSAGE = 64 << 20
FIRST_FINAL = 200
Receive = Callable[[int], bytes]  # returns what has arrived, up to so many bytes; nothing at the end
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
    """Receives the parser's callbacks for one message. ``problem`` says why it is none: the parser hides exceptions."""

    def __init__(self, *, to_head: bool = False) -> None:
        self.target = b""
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.complete = False
        self.problem: str | None = None
        self.parser: Any = None
        self._to_head = to_head

    def on_message_begin(self) -> None:
        if self.complete:
            self.problem = "a second message came before the answer to the first"

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        # Source: RFC 9110, section 9.3.2: the answer to HEAD has no body, whatever length it names.
        self.complete = self._to_head and not self._is_interim()

    def on_body(self, body: bytes) -> None:
        self.body += body
        if len(self.body) > LARGEST_MESSAGE:
            self.problem = f"the body is larger than {LARGEST_MESSAGE} bytes"

    def on_message_complete(self) -> None:
        if self._is_interim():
            self.reason, self.headers = b"", []
        else:
            self.complete = True

    def _is_interim(self) -> bool:
        """Source: RFC 9110, section 15.2: 1xx responses come before the final one."""
        return isinstance(self.parser, httptools.HttpResponseParser) and self.parser.get_status_code() < FIRST_FINAL


def _read(receive: Receive, collector: _Collector) -> bool:
    """Feed the parser until its message is complete; false when the peer closed before sending a byte."""
    begun = False
    while not collector.complete:
        data = receive(CHUNK)
        if not data:
            if begun:
                raise MessageError("the connection was closed in the middle of a message")
            return False
        begun = True
        try:
            collector.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # a server may ignore the wish to switch protocols, and this one does
            collector.complete = True
        except httptools.HttpParserError as error:
            raise MessageError(collector.problem or str(error)) from error
        if collector.problem:
            raise MessageError(collector.problem)
    return True


def read_request(receive: Receive) -> Request | None:
    """Return the next request, None when the client closed the connection. Raises ``MessageError``."""
    collector = _Collector()
    collector.parser = parser = httptools.HttpRequestParser(collector)
    if not _read(receive, collector):
        return None
    method, target = parser.get_method().decode("ascii"), collector.target.decode("latin-1")
    return Request(method, target, tuple(collector.headers), bytes(collector.body))


def read_response(receive: Receive, *, to: str) -> Response | None:
    """Return the response to a request of method ``to``, None when the server closed first. Raises ``MessageError``."""
    collector = _Collector(to_head=to == "HEAD")
    collector.parser = parser = httptools.HttpResponseParser(collector)
    if not _read(receive, collector):
        return None
    return Response(parser.get_status_code(), collector.reason, tuple(collector.headers), bytes(collector.body))


def _head(first_line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join([first_line, *map(b": ".join, headers), b"", b""])


def _end_to_end(headers: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    """Return the headers that are not for this connection only."""
    dropped = NOT_FORWARDED
    for name, value in headers:
        if name.lower() == b"connection":
            dropped |= {one.strip() for one in value.lower().split(b",")}
    return [header for header in headers if header[0].lower() not in dropped]


def request_bytes(request: Request, *, target: str, host: str) -> bytes:
    """Return the request to send on: another target and host, its own headers and body."""
    headers = [(b"host", host.encode()), *_end_to_end(request.raw_headers)]
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        headers.append((b"content-length", b"%d" % len(request.body)))
    return _head(f"{request.method} {target} HTTP/1.1".encode("latin-1"), headers) + request.body


def response_bytes(response: Response) -> bytes:
    """Return the response to hand to the client: its own headers and body, with a length of their own."""
    headers = _end_to_end(response.raw_headers)
    if response.status not in (204, 304):
        told = () if response.body else (v for n, v in response.raw_headers if n.lower() == b"content-length")
        headers.append((b"content-length", next(iter(told), b"%d" % len(response.body))))
    return _head(b"HTTP/1.1 %d %b" % (response.status, response.reason), headers) + response.body
