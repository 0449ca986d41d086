"""A tap's sockets: ready when they are used, closed afterwards, and ended together."""

import gc
import socket

import pytest

from session_fix.tap.connections import Connections


@pytest.fixture
def pair():
    """Yield both ends of a TCP connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), 10) as client,
        listener.accept()[0] as server,
    ):
        yield client, server


def test_a_small_message_is_sent_at_once(pair):
    """Nagle's algorithm and a delayed acknowledgement together would add 40 ms to a call."""
    with Connections().kept(pair[1]) as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_connection_is_closed_after_use(pair):
    """Whatever ends its use, the peer learns of it."""
    client, server = pair
    with pytest.raises(ZeroDivisionError), Connections().kept(server):
        raise ZeroDivisionError
    assert client.recv(1) == b""


def test_a_connection_is_forgotten_after_use(pair):
    """A stack that stays up for days sees many clients."""
    connections = Connections()
    with connections.kept(pair[1]) as connection:
        assert any(isinstance(one, set) for one in gc.get_referrers(connection))
    assert not any(isinstance(one, set) for one in gc.get_referrers(connection))


def test_all_are_ended_at_once(pair):
    """Whoever waits for a peer finds the connection closed, and the peer too."""
    connections = Connections()
    with connections.kept(pair[0]) as client, connections.kept(pair[1]) as server:
        connections.end()
        assert (client.recv(1), server.recv(1)) == (b"", b"")


def test_one_whose_peer_is_gone_does_not_keep_the_others(pair):
    """At the end some have always hung up already."""
    connections = Connections()
    with socket.socket() as never_connected, connections.kept(never_connected), connections.kept(pair[1]) as server:
        connections.end()
        assert server.recv(1) == b""


def test_after_the_end_there_is_no_new_one(pair):
    """A thread that was about to connect would wait for ever."""
    connections = Connections()
    connections.end()
    with pytest.raises(ConnectionAbortedError), connections.kept(pair[1]):
        pass
    assert pair[0].recv(1) == b""
