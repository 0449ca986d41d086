"""A pooler in transaction mode, as small as it can be: each transaction gets the server session that is free."""

import queue
import socket
import struct
import threading
from contextlib import suppress

READY, QUERY, SYNC, TERMINATE = b"Z", b"Q", b"S", b"X"
IDLE = b"I"  # Source: PostgreSQL manual, "Message Formats", ReadyForQuery


class TransactionPooler:
    """Listens on a port of its own. Each client brings a session of the server into the pool, and keeps none."""

    def __init__(self, server, cleanup, *, keep=8):
        self._server, self._cleanup, self._keep = server, cleanup, keep
        self._free = queue.LifoQueue()  # as PgBouncer does: the last one that was used is the first to be handed out
        self._pooled = 0
        self._listener = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):  # closed at the end of the test
            while True:
                client = self._cleanup.enter_context(self._listener.accept()[0])
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with suppress(OSError):
            self._let_in(client)
            held = None
            while True:
                kind, message = received(client)
                if kind == TERMINATE:
                    break
                if held is None:
                    held = self._free.get()
                held.sendall(message)
                if kind in (QUERY, SYNC):
                    while True:
                        answered, answer = received(held)
                        client.sendall(answer)
                        if answered == READY:
                            break
                    if answer[5:6] == IDLE:
                        self._free.put(held)
                        held = None
        client.close()

    def _let_in(self, client):
        """Pass the start of a session through, its login included; then the server's end belongs to the pool."""
        length = client.recv(4, socket.MSG_WAITALL)
        startup = client.recv(struct.unpack("!i", length)[0] - 4, socket.MSG_WAITALL)
        server = self._connected()
        server.sendall(length + startup)
        while True:
            kind, message = received(server)
            client.sendall(message)
            if kind == READY:
                break
            if kind == b"R" and struct.unpack("!i", message[5:9])[0] in (3, 5, 10, 11):  # it wants an answer
                server.sendall(received(client)[1])
        self._pooled += 1
        if self._pooled <= self._keep:
            self._free.put(server)
        else:
            server.close()

    def _connected(self):
        host, port = self._server["host"], self._server.get("port", "5432")
        unix = host.startswith("/")
        server = self._cleanup.enter_context(socket.socket(socket.AF_UNIX if unix else socket.AF_INET))
        server.connect(f"{host}/.s.PGSQL.{port}" if unix else (host, int(port)))
        return server


def received(source):
    """Return the kind of one message, and all of it."""
    head = source.recv(5, socket.MSG_WAITALL)
    if len(head) < 5:
        raise ConnectionError
    length = struct.unpack("!i", head[1:])[0] - 4
    body = source.recv(length, socket.MSG_WAITALL) if length else b""
    return head[:1], head + body
