"""The end of a tap: every connection, the listener and the thread go with it."""

import contextlib
import gc
import socket
import threading

import pytest

from session_fix.events import Recorder
from session_fix.rest import Endpoint
from session_fix.tap import Tap


@contextlib.contextmanager
def running_tap(upstream):
    """Yield a tap in front of a server, and the address a client connects to."""
    with Tap() as tap:
        tap.point_at(Endpoint(upstream.url), Recorder())
        yield tap.url.removeprefix("http://")


def connection(address):
    """Return a client's socket."""
    return socket.create_connection(address.split(":"), timeout=10)


def test_everything_is_closed_at_the_end(start_upstream):
    """A worker runs many taps; what each leaves behind adds up."""
    upstream = start_upstream()
    threads = set(threading.enumerate())
    with contextlib.ExitStack() as cleanup:
        with running_tap(upstream) as address:
            asking, silent = (cleanup.enter_context(connection(address)) for _ in range(2))
            asking.sendall(f"GET /x HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            assert asking.recv(12) == b"HTTP/1.1 200"
        while asking.recv(4096):
            pass
        assert silent.recv(1) == b""
    assert upstream.hung_up.wait(5)
    assert [
        thread.name for thread in threading.enumerate() if thread.name == "session-fix tap" and thread not in threads
    ] == []
    with pytest.raises(ConnectionRefusedError):
        connection(address)


def test_a_call_that_waits_for_its_answer_is_given_up(start_upstream):
    """An upstream that never answers must not keep a run from ending."""
    arrived, released = threading.Event(), threading.Event()

    def never(_):
        arrived.set()
        released.wait(10)
        return b""

    with running_tap(start_upstream([never])) as address:
        client = connection(address)
        client.sendall(f"GET /x HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert arrived.wait(10)
    with client:
        assert client.recv(1) == b""
    released.set()


def test_a_client_that_does_not_read_is_given_up(start_upstream):
    """What is still to be sent to it must not leave its connection open behind the tap."""
    body = b"x" * (16 << 20)
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with running_tap(start_upstream([answer])) as address:
        client = connection(address)
        client.sendall(f"GET /x HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert client.recv(1, socket.MSG_PEEK) == b"H"
    gc.collect()  # a transport that was not closed says so when it is collected, and warnings are errors
    with client, contextlib.suppress(ConnectionResetError):
        while client.recv(1 << 20):
            pass
