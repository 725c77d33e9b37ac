"""Clients that use all that the limits allow, at once: the memory stays within what the limits add up to."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from naught.wire.codec import encode_request
from naught_server.config import CachePolicy, ServerConfig
from naught_server.memory_bounds import MIB, memory_bounds
from support.server_process import RawPeer, ServerProcess, server_process, wait_until

CLIENTS = 3
ROUNDS = 2
"""A session outlives its connection, so there may be twice as many."""

WIDE = 1_024
HOLDS = 63
"""A session holds 65 536 amounts at most."""

SCANS = 12
"""Of 256 KiB each: fewer than end a session that does not acknowledge (4 MiB), however many the server has answered
when the connection ends."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc"),
]


def hold_all(peer: RawPeer, number: int) -> None:
    """Hold as many amounts as a session may, of counters with long names."""
    for hold in range(HOLDS):
        items = [[b"%d:%d:%d:%0480d" % (number, hold, item, 0), 1, 5] for item in range(WIDE)]
        assert peer.call("acquire", items)[0] is True


def use_up(server: ServerProcess, asking: RawPeer, peers: list[RawPeer]) -> None:
    """Wait with all the memory there is for that. Leave replies unread and unacknowledged, and a message
    unfinished."""
    waits = [encode_request(each, "wait_zero", (b"0:0:0:%0480d" % 0, 600_000)) for each in range(2, 1_000)]
    peers[0].send(b"".join(waits))
    wait_until(lambda: asking.call("info")[b"errors"].get(b"busy", 0) > 0, "all memory for waits is in use")
    before = server.resident_bytes()
    # All of it is allowed: a string that is too long would end the session, if the server comes so far.
    unended = encode_request(2_001, "apply", ([b"%0500d" % key for key in range(120)], 1))[:-9]
    for peer in peers[1:]:
        peer.send(encode_request(2_000, "scan", (0, 1_000, b"")) * SCANS + unended)
    wait_until(lambda: server.resident_bytes() > before + 2 * MIB, "it keeps replies that nobody reads")


def test_with_all_limits_reached_at_once_memory_stays_within_what_they_add_up_to(tmp_path: Path) -> None:
    counters = ROUNDS * CLIENTS * HOLDS * WIDE
    file = tmp_path / "naught.toml"
    file.write_text(
        f"connections_max = {CLIENTS + 1}\nparked_bytes_max = {MIB}\n[caches.default]\nmax_counters = {counters}\n"
    )
    config = ServerConfig(
        connections_max=CLIENTS + 1,
        parked_bytes_max=MIB,
        http_port=None,
        caches={"default": CachePolicy("default", max_counters=counters)},
    )
    # Without requests in slices, which `test_prices.py` holds to their bound: they are over too soon to be all there.
    most = sum(size or 0 for name, size in memory_bounds(config).items() if name != "requests in slices")
    with server_process(tmp_path, "--config", str(file)) as server, server.connect() as asking:
        for number in range(ROUNDS):
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(server.connect()) for _ in range(CLIENTS)]
                for at, peer in enumerate(peers):
                    assert peer.call("hello", {"session": True, "lease_ms": 300_000})
                    hold_all(peer, number * CLIENTS + at)
                use_up(server, asking, peers)
            wait_until(lambda: asking.call("info")[b"connections"] == 1, "they are gone, and their sessions are not")
        info = asking.call("info")
        assert info[b"sessions"][b"open"] == ROUNDS * CLIENTS
        assert info[b"caches"][b"default"][b"counters"] == counters, "the bound of the cache is reached"
        highest = server.highest_resident_bytes()
        print(f"{highest / MIB:.0f} MiB of {most / MIB:.0f}")
        assert most / 4 < highest < most
