"""The end of a tap: every connection, the listener and the thread go with it."""

import contextlib
import gc
import queue
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from session_fix.events import Recorder
from session_fix.rest import Endpoint
from session_fix.tap import Tap
from session_fix.tap.gate import Gate
from session_fix.tap.proxy import NAME


@contextlib.contextmanager
def running_tap(upstream, *, recorder=None, gate=None):
    """Start a tap in front of a server; yield the address a client connects to."""
    with Tap() as tap:
        tap.point_at(Endpoint(upstream.url), recorder or Recorder(), gate)
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
            silent, asking = (cleanup.enter_context(connection(address)) for _ in range(2))
            asking.sendall(f"GET /x HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            assert asking.recv(12) == b"HTTP/1.1 200"
        while asking.recv(4096):
            pass
        assert silent.recv(1) == b""
    assert upstream.hung_up.wait(5)
    left = set(threading.enumerate()) - threads
    assert [thread.name for thread in left if thread.name.startswith(NAME)] == []
    with pytest.raises(ConnectionRefusedError):
        connection(address)


def test_a_call_that_waits_for_its_answer_is_given_up(start_upstream):
    """An upstream that never answers must not keep a run from ending."""
    arrived, released = threading.Event(), threading.Event()

    def never(_):
        arrived.set()
        released.wait(10)
        return b""

    recorder = Recorder()
    with running_tap(start_upstream([never]), recorder=recorder) as address:
        client = connection(address)
        client.sendall(f"GET /x HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert arrived.wait(10)
    with client:
        assert client.recv(1) == b""
    released.set()
    assert [event.kind for event in recorder.events()] == ["call"], "the data API has not hung up"


def test_a_call_that_is_held_is_dropped(start_upstream):
    """Who would have decided about it may have failed; it must neither keep the tap from ending nor be sent."""
    arrived, upstream, recorder = queue.SimpleQueue(), start_upstream(), Recorder()
    gate = Gate(arrived.put)
    with ThreadPoolExecutor(1) as ending, contextlib.ExitStack() as running:
        address = running.enter_context(running_tap(upstream, recorder=recorder, gate=gate))
        with connection(address) as client:
            client.sendall(f"GET /x HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            call = arrived.get(timeout=10)
            try:
                ending.submit(running.close).result(10)
            finally:
                gate.open()
            assert client.recv(1) == b""
    assert call.has_ended(timeout_s=0)
    assert (upstream.connections, recorder.events()) == (0, [])


def test_the_end_waits_for_what_its_threads_still_do(start_upstream):
    """Whoever ends a tap counts on not being told of any more calls."""
    arrived, ending, told = threading.Event(), threading.Event(), []

    def tell(call):
        arrived.set()
        ending.wait(10)
        threading.Event().wait(0.1)  # in which an end that did not wait would have come
        told.append(call)

    with running_tap(start_upstream(), gate=Gate(tell)) as address:
        client = connection(address)
        client.sendall(f"GET /x HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert arrived.wait(10)
        ending.set()
    assert len(told) == 1
    client.close()


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
