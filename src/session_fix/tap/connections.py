"""The sockets of a tap: each is waited for by one thread, for as long as it takes or until the tap ends."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

from session_fix.tap import messages
from session_fix.tap.messages import Response

CONNECT_TIMEOUT_S = 10.0
Address = tuple[str, int]


class Connections:
    """The open connections of a tap; ``end`` wakes all who wait for a peer."""

    def __init__(self) -> None:
        self.have_ended = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def kept(self, connection: socket.socket) -> Iterator[socket.socket]:
        """Yield the connection and close it afterwards. Raises ``ConnectionError`` when all have ended."""
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self.have_ended:
                    raise ConnectionAbortedError("the tap has ended")
                self._open.add(connection)
            try:
                yield connection
            finally:
                with self._lock:  # closed afterwards: its number may then be another's, which nobody must shut down
                    self._open.remove(connection)

    def end(self) -> None:
        """Shut all down, and those that are yet to come."""
        with self._lock:
            self.have_ended = True
            for connection in self._open:
                with contextlib.suppress(OSError):  # the peer was faster
                    connection.shutdown(socket.SHUT_RDWR)


class Link:
    """A client's way to the data API: a connection that is made when it is needed, and kept for the next call."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._to: tuple[Address, socket.socket] | None = None
        self._kept = contextlib.ExitStack()

    def close(self) -> None:
        """Hang up; what is sent next goes over a new connection."""
        self._to = None
        self._kept.close()

    def send(self, request: bytes, address: Address) -> None:
        """Send a request there. Raises ``OSError``."""
        self._connected(address).sendall(request)

    def receive(self, method: str) -> Response:
        """Return the response to what was sent with this method. Raises ``OSError`` or ``MessageError``."""
        assert self._to  # noqa: S101  something was sent
        if (response := messages.read_response(self._to[1].recv, to=method)) is None:
            raise ConnectionAbortedError("it closed the connection")
        return response

    def _connected(self, address: Address) -> socket.socket:
        if self._to and self._to[0] == address and not _was_closed(self._to[1]):  # no call may be sent twice
            return self._to[1]
        self.close()
        connection = socket.create_connection(address, CONNECT_TIMEOUT_S)
        connection.settimeout(None)
        self._to = address, self._kept.enter_context(self._connections.kept(connection))
        return connection


def _was_closed(connection: socket.socket) -> bool:
    """Say whether the other side closed an idle connection: there is something to read before anything was asked."""
    arrived = select.poll()
    arrived.register(connection, select.POLLIN)
    return bool(arrived.poll(0))
