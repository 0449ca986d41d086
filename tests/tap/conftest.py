"""What the tap stands between in its tests: real servers and clients on loopback that show every byte."""

import contextlib
import http.client
import itertools
import json
import socket
import socketserver
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from session_fix.events import Recorder
from session_fix.rest import Endpoint
from session_fix.tap import Tap

TIMEOUT_S = 10


def echo(request):
    """Return an answer that holds the target of the request."""
    body = json.dumps([{"target": request.split()[1].decode()}]).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Connection(socketserver.StreamRequestHandler):
    """Answers the requests of one connection by its script, then closes it."""

    timeout = TIMEOUT_S

    def handle(self):
        """Read and answer until the script or the peer ends."""
        with contextlib.suppress(ConnectionError):
            for answer in self.server.next_script():
                request = self.read()
                if not request:
                    break
                self.server.requests.append(request)
                self.wfile.write(answer(request) if callable(answer) else answer)
            else:
                return
        self.server.hung_up.set()

    def read(self):
        """Return one request as it came, empty at the end."""
        head = b"".join(itertools.takewhile(bytes.strip, iter(self.rfile.readline, b"")))
        lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
        return head and head + b"\r\n" + self.rfile.read(int(lengths[0]) if lengths else 0)


class Upstream(socketserver.ThreadingTCPServer):
    """Keeps the requests it gets. Each script answers one connection; without one it echoes as long as that lasts."""

    request_queue_size = 64

    def __init__(self, *scripts):
        super().__init__(("127.0.0.1", 0), Connection)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests = []
        self.connections = 0
        self.hung_up = threading.Event()
        self.closed = threading.Event()
        self._scripts = list(scripts)
        self._lock = threading.Lock()

    def next_script(self):
        """Return the answers of the next connection."""
        with self._lock:
            self.connections += 1
            return self._scripts.pop(0) if self._scripts else itertools.repeat(echo)

    def shutdown_request(self, request):
        """Close a connection, and say so."""
        super().shutdown_request(request)
        self.closed.set()

    def handle_error(self, request, client_address):
        """Leave it to the test to notice what was not answered."""


@dataclass
class Reply:
    """What a client got."""

    status: int
    reason: str
    headers: list
    body: bytes


class Client:
    """One connection to the tap."""

    def __init__(self, url):
        self.address = urlsplit(url).netloc
        self.socket = socket.create_connection(self.address.split(":"), timeout=TIMEOUT_S)

    def ask(self, data, method=None):
        """Send these bytes and return the answer. Raises ``http.client.HTTPException`` or ``OSError`` for none."""
        self.socket.sendall(data)
        response = http.client.HTTPResponse(self.socket, method=method)
        with contextlib.closing(response):
            response.begin()
            return Reply(response.status, response.reason, response.getheaders(), response.read())

    def call(self, target="/rest/v1/x", *, method="GET", headers=b"", body=b""):
        """Send a call under the tap's own name and return the answer."""
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        first = f"{method} {target} HTTP/1.1\r\nHost: {self.address}\r\n".encode()
        return self.ask(first + headers + length + b"\r\n" + body, method)


@pytest.fixture
def start_upstream():
    """Yield a function that starts a server with these scripts."""
    with contextlib.ExitStack() as cleanup:

        def start(*scripts):
            server = cleanup.enter_context(Upstream(*scripts))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            cleanup.callback(thread.join)
            cleanup.callback(server.shutdown)
            return server

        yield start


@pytest.fixture
def tap(start_upstream):
    """Yield a running tap that points at nothing; its upstreams outlive it."""
    assert start_upstream
    with Tap() as running:
        yield running


@pytest.fixture
def point(tap, start_upstream):
    """Yield a function that starts a server with these scripts behind the tap; it returns the server and the record."""

    def at(*scripts, path="", rest_path="/rest/v1"):
        upstream, recorder = start_upstream(*scripts), Recorder()
        tap.point_at(Endpoint(upstream.url + path, rest_path), recorder)
        return upstream, recorder

    return at


@pytest.fixture
def connect(tap):
    """Yield a function that connects a client to the tap."""
    with contextlib.ExitStack() as cleanup:

        def start():
            client = Client(tap.url)
            cleanup.enter_context(client.socket)
            return client

        yield start
