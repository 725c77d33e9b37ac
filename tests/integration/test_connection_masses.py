"""Thousands of connections that open and end in different ways leave nothing behind: no connection that the server
still counts, no descriptor, no memory.

The peers are blocking sockets, and the server is a separate process. If both shared one event loop, connecting would
keep the server from accepting, the listener's queue would overflow, and some peers would look connected although the
server never accepts them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from naught.wire.codec import encode_request
from support.seeds import exhaustive
from support.server_process import (
    MIB,
    SERVER,
    SERVER_WITHOUT_UVLOOP,
    RawPeer,
    ServerProcess,
    server_process,
    wait_until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors and resident memory are read from /proc")

WAVE = 250
"""Connections open at once: fewer than a listener's queue holds, so that the kernel accepts all of them."""

WAVES = 8
PING = encode_request(9, "ping", ())
PONG = b"\x94\x01\x09\xc0\xa4pong"
LONG = encode_request(9, "get_many", ([b"%0100d" % number for number in range(4_000)],))
RESET = struct.pack("ii", 1, 0)

GROWTH_BYTES_MAX = 2 * MIB
"""Growth allowed after a second mass like the first. Measured: 0.6 MiB at most. A leak would be far more: the
sessions of 2 000 connections alone are 2.5 MiB, and half messages of 200 KiB, from a fifth of them, are 80 MiB."""


def cleanly(peer: RawPeer) -> None:
    peer.send(PING)
    assert peer.read(len(PONG)) == PONG
    peer.socket.close()


def without_a_word(peer: RawPeer) -> None:
    peer.socket.close()


def half_way(peer: RawPeer) -> None:
    peer.send(PING + PING[:4])
    peer.socket.close()


def reset(peer: RawPeer) -> None:
    """Ends while replies are on their way that the peer does not read."""
    peer.send(PING * 100)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.socket.close()


def reset_half_way(peer: RawPeer) -> None:
    """Ends in the middle of a long message."""
    peer.send(LONG[: len(LONG) // 2])
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.socket.close()


WAYS: list[Callable[[RawPeer], None]] = [cleanly, without_a_word, half_way, reset, reset_half_way]


@pytest.fixture(params=["uvloop", *exhaustive("asyncio")])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    command = SERVER if request.param == "uvloop" else SERVER_WITHOUT_UVLOOP
    with server_process(tmp_path, command=command) as found:
        yield found


def come_and_go(server: ServerProcess, asking: RawPeer) -> None:
    """Several waves; the server has noticed the end of each before the next begins."""
    for _ in range(WAVES):
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(server.connect()) for _ in range(WAVE)]
            for number, peer in enumerate(peers):
                WAYS[number % len(WAYS)](peer)
        wait_until(lambda: asking.call("info")[b"connections"] == 1, "only the asking connection was open")


def descriptors(server: ServerProcess) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


@pytest.mark.slow
def test_masses_of_connections_leave_nothing_behind(server: ServerProcess) -> None:
    with server.connect() as asking:
        assert asking.call("ping") == b"pong"
        before = descriptors(server)
        come_and_go(server, asking)
        resident = server.resident_bytes()
        come_and_go(server, asking)
        wait_until(lambda: descriptors(server) == before, "the descriptors were given back")
        assert server.resident_bytes() - resident < GROWTH_BYTES_MAX
        info = asking.call("info")
        # Only the connection that asks is open.
        assert info[b"connections_accepted"] == 1 + 2 * WAVES * WAVE
        assert info[b"connections_refused"] == 0
        assert asking.call("count") == 0
