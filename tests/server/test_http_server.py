"""The HTTP port on a loop: its replies are work like that of other connections, and are dealt with theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from naught_server.http import Request, Response
from naught_server.http_server import BYTES_PER_ENTRY, HttpServer
from naught_server.limits import DEALT_ENTRIES_MAX
from naught_server.turns import Turns
from support.transport import FakeTransport

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Routes:
    """Answers with so many bytes."""

    def __init__(self, size: int) -> None:
        self._size = size

    def respond(self, request: Request) -> Response:
        return Response(200, bytes(self._size))


class Feed:
    """Nobody looks at the page."""

    def is_watched(self, now_ms: int) -> bool:
        return False


class Transport(FakeTransport):
    """Keeps what is written as it is: it is HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)


@pytest.mark.asyncio
async def test_replies_are_dealt() -> None:
    size = BYTES_PER_ENTRY * DEALT_ENTRIES_MAX // 2
    soon: list[Callable[[], None]] = []
    turns = Turns(soon.append)
    server = HttpServer([], cast("Any", Routes(size)), cast("Any", Feed()), cast("Any", None), turns=turns)
    transports = [Transport() for _ in range(8)]
    connections = [server.connection() for _ in transports]
    for connection, transport in zip(connections, transports, strict=True):
        connection.connection_made(cast("Any", transport))
        connection.data_received(GET)
    served = []
    while soon:
        assert len(soon) == 1
        soon.pop()()
        served.append(sum(bool(transport.written) for transport in transports))
    assert served[-1] == 8
    assert max(after - before for before, after in zip([0, *served], served, strict=False)) <= 2
    for connection in connections:
        connection.connection_lost(None)


@pytest.mark.asyncio
async def test_nothing_more_is_read_while_a_turn_is_waited_for() -> None:
    """The turns of others may be many: a peer that goes on sending would be kept whole until its own."""
    soon: list[Callable[[], None]] = []
    turns = Turns(soon.append)
    server = HttpServer([], cast("Any", Routes(10)), cast("Any", Feed()), cast("Any", None), turns=turns)
    transport = Transport()
    connection = server.connection()
    connection.connection_made(cast("Any", transport))
    for number in range(8):
        turns.ask(lambda: DEALT_ENTRIES_MAX)
        connection.data_received(GET[number : number + 1] if number < 7 else GET[7:])
        assert not transport.reading
        while connection._received:
            soon.pop()()
        assert transport.reading
    assert len(transport.written) == 1
    connection.data_received(GET)
    connection.pause_writing()
    soon.pop()()
    assert not transport.reading, "its peer does not read"
    connection.resume_writing()
    assert transport.reading
    connection.connection_lost(None)
