"""A client is closed while its server goes away."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgpack
import pytest
import uvloop

import naught

GUARD_S = 30.0


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_server_that_has_gone_at_that_moment_is_no_error(make_loop: Any) -> None:
    """The kernel answers `bye` by a reset, and then there is no connection whose sending side could be ended."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            url = f"naught://127.0.0.1:{listening.getsockname()[1]}"
            client = naught.connect(url)
            opening = asyncio.ensure_future(client.__aenter__())
            peer, _ = await loop.sock_accept(listening)
            await loop.sock_recv(peer, 1 << 16)
            answer = {"server": "naught", "session": bytes(16), "lease_ms": 10_000}
            await loop.sock_sendall(peer, msgpack.packb([1, 0, None, answer]))
            counters = await opening
            peer.close()
            await counters.close()  # says bye before the loop has looked at the socket

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), GUARD_S))
