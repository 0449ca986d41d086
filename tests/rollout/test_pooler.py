"""An audit through what stands in for a pooler: it keeps connection options from the server, or refuses them."""

import socket
import struct
import threading
from contextlib import ExitStack, suppress

import pytest

from session_fix.rollout import facts, target

KEY_DATA = b"K\x00\x00\x00\x0c"  # Source: PostgreSQL manual, "Message Formats", BackendKeyData
REFUSAL = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"


class Pooler:
    """Passes one connection after the other on to a server; ``refuses`` options, or drops them without a word."""

    def __init__(self, server, *, refuses, cleanup):
        self._server, self._refuses, self._cleanup = server, refuses, cleanup
        self._listener = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with suppress(OSError):  # closed at the end of the test
            while True:
                client = self._cleanup.enter_context(self._listener.accept()[0])
                length = struct.unpack("!i", client.recv(4, socket.MSG_WAITALL))[0]
                startup = client.recv(length - 4, socket.MSG_WAITALL)
                if self._refuses and b"\0options\0" in startup:
                    client.sendall(b"E" + struct.pack("!i", len(REFUSAL) + 4) + REFUSAL)
                    client.close()
                else:
                    self._pass_on(client, startup)

    def _pass_on(self, client, startup):
        words = startup[4:].split(b"\0")
        kept = [pair for pair in zip(words[::2], words[1::2], strict=False) if pair[0] and pair[0] != b"options"]
        startup = startup[:4] + b"".join(b"%s\0%s\0" % pair for pair in kept) + b"\0"
        family = socket.AF_UNIX if self._server["host"].startswith("/") else socket.AF_INET
        server = self._cleanup.enter_context(socket.socket(family))
        port = self._server.get("port", "5432")
        server.connect(
            f"{self._server['host']}/.s.PGSQL.{port}" if family == socket.AF_UNIX else (self._server["host"], int(port))
        )
        server.sendall(struct.pack("!i", len(startup) + 4) + startup)
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        threading.Thread(target=_pump, args=(server, client), kwargs={"hide": True}, daemon=True).start()


def _pump(source, sink, *, hide=False):
    with suppress(OSError):
        while data := source.recv(65536):
            if hide and (at := data.find(KEY_DATA)) >= 0:  # a pooler makes up the process that a client may cancel
                data, hide = data[: at + 5] + struct.pack("!i", 1) + data[at + 9 :], False
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def through(database):
    """Return a function that starts a pooler in front of the test's server and returns parameters that lead there."""
    with ExitStack() as cleanup:

        def start(*, refuses):
            pooler = Pooler(database.params, refuses=refuses, cleanup=cleanup)
            there = {"host": "127.0.0.1", "port": str(pooler.port), "sslmode": "disable", "gssencmode": "disable"}
            return database.params | there

        yield start


@pytest.mark.parametrize("refuses", [True, False])
def test_a_pooler_that_keeps_options_back_is_read_through_and_told_of(through, refuses):
    """PgBouncer refuses them, others drop them; the transaction is bounded all the same."""
    params = through(refuses=refuses)
    with target.reading(params, timeout_s=5) as (connection, arrived):
        assert not arrived
        assert connection.execute("SHOW statement_timeout").fetchone() == ("5s",)
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
    read = facts.read(params)
    assert len(read.tables) == 2
    assert read.pooler == (
        "connection options did not reach the server",
        "the process that was announced is not the one that answers",
    )


def test_a_direct_connection_shows_no_sign_of_a_pooler(database):
    """A hint that is always there says nothing."""
    assert facts.read(database.params).pooler == ()
