"""What the kernel is told and asked about a peer, on real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from naught.sockets import keep_alive
from naught.wire.limits import PEER_PROBES, PEER_SILENT_S, PEER_UNACKNOWLEDGED_MS
from naught_server.limits import PROBE_INTERVAL_MS_MAX
from naught_server.peers import can_tell, prepare_accepted, uid_of, unanswered_ms

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket as the server accepts it, and its client's."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(listener.getsockname())
        accepted = stack.enter_context(listener.accept()[0])
        prepare_accepted(accepted)
        yield accepted, client


def option(connected: socket.socket, name: str) -> int:
    return connected.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


def test_a_closed_window_is_not_death(pair: tuple[socket.socket, socket.socket]) -> None:
    accepted, _ = pair
    assert option(accepted, "TCP_USER_TIMEOUT") == 0
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert option(accepted, "TCP_KEEPIDLE") == PEER_SILENT_S
    assert option(accepted, "TCP_KEEPCNT") == PEER_PROBES
    assert option(accepted, "TCP_NODELAY") == 1
    with contextlib.suppress(OSError):  # TCP_RTO_MAX_MS, in Linux 6.15 and later
        assert accepted.getsockopt(socket.IPPROTO_TCP, 44) == PROBE_INTERVAL_MS_MAX


def test_a_client_still_has_its_timeout(pair: tuple[socket.socket, socket.socket]) -> None:
    _, client = pair
    keep_alive(client)
    assert option(client, "TCP_USER_TIMEOUT") == PEER_UNACKNOWLEDGED_MS


def test_a_peer_that_reads_nothing_is_asked_about(pair: tuple[socket.socket, socket.socket]) -> None:
    accepted, client = pair
    assert can_tell(accepted)
    assert unanswered_ms(accepted) is None, "nothing was sent"
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += accepted.send(b"x" * 65_536)
    silent_ms = unanswered_ms(accepted)
    assert silent_ms is not None, "something waits for the window"
    assert silent_ms < PEER_UNACKNOWLEDGED_MS
    client.settimeout(20)
    while sent:
        sent -= len(client.recv(1 << 20))
    client.sendall(b"y")  # and with it the acknowledgement of all
    accepted.setblocking(True)
    assert accepted.recv(1) == b"y"
    assert unanswered_ms(accepted) is None


def test_a_unix_socket_is_not_asked() -> None:
    one, other = socket.socketpair()
    with one, other:
        prepare_accepted(one)
        assert not can_tell(one)
    assert not can_tell(None)


# ------------------------------------------------------------------------------------------- who is there


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the kernel of this system does not tell so")
def test_the_user_of_a_process_at_a_unix_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert uid_of(one) == os.getuid()


def test_a_connection_over_tcp_has_no_user_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        assert uid_of(peer) is None
    assert uid_of(None) is None
