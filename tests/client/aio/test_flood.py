"""A peer that sends without end: the deadline of a call holds all the same, and other tasks have their turns."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
import uvloop

import naught
from naught.aio.connection import Connection, TransportProtocol
from naught.wire.codec import encode_notification, encode_result
from support.client_helpers import HELLO_RESULT

GUARD_S = 30.0
TIMEOUT_S = 0.1
FLOOD = encode_notification("n", ()) * 200_000


@contextmanager
def flooding() -> Iterator[int]:
    """A server that answers `hello` and then sends notifications as fast as it can."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_flood, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join()


def _flood(listening: socket.socket) -> None:
    connected, _ = listening.accept()
    with connected, suppress(ConnectionError):
        unpacker = msgpack.Unpacker()
        while True:
            unpacker.feed(connected.recv(1 << 16))
            hello = next((each for each in unpacker if each[0] == 0), None)
            if hello is not None:
                break
        connected.sendall(
            encode_result(hello[1], HELLO_RESULT | {"session": b"0123456789abcdef", "lease_ms": 10_000})
        )
        while True:
            connected.sendall(FLOOD)


@pytest.mark.patches
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_deadline_holds_whatever_arrives(make_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = 0  # that were read after the deadline and before the caller went on
    due = float("inf")
    received = Connection.received

    def counted(self: Connection, protocol: TransportProtocol, data: bytes) -> None:
        nonlocal pieces
        pieces += monotonic() > due
        received(self, protocol, data)

    monkeypatch.setattr(Connection, "received", counted)

    async def scenario(port: int) -> None:
        nonlocal due
        async with asyncio.timeout(GUARD_S):
            client = await naught.connect(f"naught://127.0.0.1:{port}")
            for _ in range(3):
                asking = client.get("n", timeout=TIMEOUT_S)
                await asyncio.sleep(0)
                due = monotonic() + TIMEOUT_S
                with pytest.raises(naught.CallTimeout, match=r"no answer within 0\.1 s"):
                    await asking
                due = float("inf")
            client._connection.stop()
            client._connection._close_transport = lambda *_: None  # type: ignore[method-assign]
            await client.close()

    with flooding() as port, asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(scenario(port))
    assert pieces <= 3 * 3, "the loop goes on reading while a caller waits for its timeout"
