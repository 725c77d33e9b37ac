"""10 000 connections at once, and very many sessions one after another, come and go: nothing of them stays."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

import pytest

from naught.wire.codec import encode_request, reply_unpacker
from support.seeds import exhaustive, told
from support.server_process import MIB, SERVER, RawPeer, ServerProcess, server_process, wait_until

CONNECTIONS = 10_000
WAVE = 500
"""Connections begun at once: fewer than a listener's queue holds, so that the kernel accepts all of them."""

SESSIONS = 120_000
"""Of these, 25 bytes of each that stayed would be seen: fewer than any object has."""
SESSIONS_EXHAUSTIVE = int(told("NAUGHT_TEST_SESSIONS") or 1_000_000)
WARM = 20_000
"""Sessions before the memory is looked at."""
AT_A_TIME = 250
"""Sessions whose requests are on their way together: fewer bytes than a socket takes."""

GROWTH_BYTES_MAX = 3 * MIB
"""Growth allowed after a second mass like the first."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="descriptors and resident memory are read from /proc"),
]


def descriptors(server: ServerProcess) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def come_and_go(server: ServerProcess, asking: RawPeer) -> None:
    """All connect, half of them open a session and hold something, all go."""
    with contextlib.ExitStack() as stack:
        for begin in range(0, CONNECTIONS, WAVE):
            peers = [stack.enter_context(server.connect()) for _ in range(WAVE)]
            for number, peer in enumerate(peers, begin):
                if number % 2:
                    peer.send(encode_request(1, "ping", ()))
                else:
                    peer.send(encode_request(1, "hello", ({"session": True, "lease_ms": 100},)))
                    peer.send(encode_request(2, "acquire", ([[b"held:%d" % number, 1, 1]],)))
            for number, peer in enumerate(peers, begin):
                assert peer.read(1), f"connection {number} was not served"
        assert asking.call("info")[b"connections"] == CONNECTIONS + 1
        wait_until(lambda: asking.call("count") == CONNECTIONS // 2, "half of them hold something")
    wait_until(lambda: asking.call("info")[b"connections"] == 1, "the server noticed that they are gone", 60)
    wait_until(lambda: asking.call("info")[b"sessions"][b"open"] == 0, "the sessions ended", 60)
    wait_until(lambda: asking.call("count") == 0, "what was held came back", 60)


def test_ten_thousand_connections_come_and_go_and_leave_no_memory_no_descriptor_and_no_task(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 200:
        pytest.skip(f"the hard limit on open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CONNECTIONS + 1_000), hard))
    try:
        limits = ("--connections-max", str(CONNECTIONS + 1), "--sessions-per-address-max", str(2 * CONNECTIONS))
        with server_process(tmp_path, *limits, command=SERVER) as server, server.connect() as asking:
            assert asking.call("ping") == b"pong"
            before = descriptors(server)
            come_and_go(server, asking)
            wait_until(lambda: descriptors(server) == before, "the descriptors were given back")
            resident = server.resident_bytes()
            come_and_go(server, asking)
            wait_until(lambda: descriptors(server) == before, "the descriptors were given back")
            wait_until(lambda: server.resident_bytes() - resident < GROWTH_BYTES_MAX, "the memory was given back")
            info = asking.call("info")
            assert info[b"connections_refused"] == 0
            assert info[b"sessions"][b"holds"] == info[b"sessions"][b"parked"] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_and_end(peer: RawPeer, sessions: int) -> None:
    """One after another, on one connection: each counts something, holds something, and says goodbye."""
    batch = b"".join(
        encode_request(number, method, params)
        for number, (method, params) in enumerate([("hello", ({"session": True},)), ("bye", ())] * AT_A_TIME)
    )
    unpacker = reply_unpacker()
    for _ in range(sessions // AT_A_TIME):
        peer.send(batch)
        left = 2 * AT_A_TIME
        while left:
            unpacker.feed(peer.socket.recv(1 << 18))
            for _, _, error, _ in unpacker:
                assert error is None
                left -= 1


@pytest.mark.parametrize("sessions", [SESSIONS, *exhaustive(SESSIONS_EXHAUSTIVE)])
def test_sessions_that_come_and_go_leave_no_memory(tmp_path: Path, sessions: int) -> None:
    with server_process(tmp_path, command=SERVER) as server, server.connect() as peer, server.connect() as asking:
        open_and_end(peer, WARM)
        resident = server.resident_bytes()
        open_and_end(peer, sessions)
        info = asking.call("info")[b"sessions"]
        assert info[b"open"] == info[b"holds"] == 0
        assert info[b"ended"][b"bye"] == WARM + sessions
        wait_until(lambda: server.resident_bytes() - resident < GROWTH_BYTES_MAX, "the memory was given back")
        assert asking.call("count") == 0
