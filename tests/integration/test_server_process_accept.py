"""Faults of a server process that no real process can be made to have: accepting and sweeping go wrong here."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from naught_server import server as server_module
from naught_server.config import ServerConfig
from naught_server.server import Server, _Acceptor
from naught_server.stats import Stats
from naught_server.sweeper import Sweeper

LOOPS = pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
DEADLINE_S = 20
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class FaultyListener:
    """A listening socket whose `accept` fails as often as told."""

    def __init__(self, *faults: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._faults = list(faults)
        self.accepts = 0  # how often it was asked

    def fileno(self) -> int:
        return self._socket.fileno()

    def address(self) -> Any:
        return self._socket.getsockname()

    def accept(self) -> tuple[socket.socket, Any]:
        self.accepts += 1
        if self._faults:
            fault = self._faults.pop(0)
            raise OSError(fault, os.strerror(fault))
        return self._socket.accept()

    def close(self) -> None:
        self._socket.close()


def accept_one(new_loop: NewLoop, *faults: int) -> tuple[FaultyListener, Stats]:
    """Let one client connect to a listener that has these faults first, until it is closed: admitted or refused."""
    stats = Stats()
    listener = FaultyListener(*faults)
    client = socket.socket()

    def admit(accepted: socket.socket) -> bool:
        accepted.close()
        return True

    async def run() -> None:
        acceptor = _Acceptor([listener], admit, stats)  # type: ignore[list-item]
        acceptor.start()
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, listener.address())
        assert await asyncio.wait_for(loop.sock_recv(client, 1), DEADLINE_S) == b""
        acceptor.stop()
        acceptor.stop()

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run())
    finally:
        client.close()
        listener.close()
    return listener, stats


@LOOPS
@pytest.mark.parametrize("fault", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_the_reserve_is_enough_to_refuse(new_loop: NewLoop, fault: int, caplog: pytest.LogCaptureFixture) -> None:
    _, stats = accept_one(new_loop, fault)
    assert stats.connections_refused == 1
    assert [record.getMessage() for record in caplog.records] == ["connections refused"]


@LOOPS
@pytest.mark.parametrize("faults", [(errno.EMFILE, errno.EMFILE), (errno.ENFILE, errno.ENFILE), (errno.EPERM,)])
def test_when_nothing_helps_the_listener_rests(
    new_loop: NewLoop, faults: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    listener, stats = accept_one(new_loop, *faults)
    assert stats.connections_refused == 0
    assert [record.getMessage() for record in caplog.records] == ["cannot accept"]
    # It was not asked over and over meanwhile: the faults, the client, and that there was no other.
    assert listener.accepts <= len(faults) + 2


@LOOPS
def test_a_client_that_went_while_it_waited_is_passed_over(
    new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    _, stats = accept_one(new_loop, errno.ECONNABORTED)
    assert stats.connections_refused == 0
    assert caplog.records == []


def serve_until(new_loop: NewLoop, happened: Callable[[], object]) -> int:
    """Run a server on its own; once something has happened, tell it to stop. Its exit status."""

    async def run() -> int:
        server = Server(ServerConfig(port=0))

        loop = asyncio.get_running_loop()

        def look() -> None:
            if happened():
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                loop.call_soon(look)

        loop.call_soon(look)
        return await asyncio.wait_for(server.run(), DEADLINE_S)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(run())


@LOOPS
def test_a_sweeper_that_ends_is_reported_and_the_server_goes_on(
    new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def ends(self: Sweeper) -> None:
        raise RuntimeError("a fault of the sweeper")

    monkeypatch.setattr(Sweeper, "run", ends)

    def reported() -> list[logging.LogRecord]:
        return [record for record in caplog.records if "the sweeper has ended" in record.getMessage()]

    assert serve_until(new_loop, reported) == 0
    (record,) = reported()
    assert record.levelname == "ERROR"
    assert record.exc_info is not None


@LOOPS
def test_it_leaves_the_process_as_it_was(new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (list(gc.callbacks), gc.get_freeze_count(), [signal.getsignal(n) for n in (2, 15)])
    frozen: list[int] = []

    def seen_frozen() -> bool:
        frozen.append(gc.get_freeze_count())
        return frozen[-1] > before[1]

    assert serve_until(new_loop, seen_frozen) == 0
    assert (list(gc.callbacks), gc.get_freeze_count(), [signal.getsignal(n) for n in (2, 15)]) == before


def test_an_engine_that_cannot_be_built_leaves_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(config: ServerConfig, **_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(server_module, "Engine", fails)

    async def run() -> None:
        with pytest.raises(MemoryError):
            Server(ServerConfig(port=0))

    # A listener left open is a ResourceWarning, and warnings are errors.
    with asyncio.Runner() as runner:
        runner.run(run())
