"""A `Server` run in the test's own process: faults that cannot be caused from outside, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable

import pytest
import uvloop

from naught_server import server as server_module
from naught_server.config import ServerConfig
from naught_server.server import Server
from naught_server.sweeper import Sweeper

LOOPS = pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
DEADLINE_S = 20
NewLoop = Callable[[], asyncio.AbstractEventLoop]


def serve_until(new_loop: NewLoop, happened: Callable[[], object]) -> int:
    """Run a server, and send it SIGTERM once `happened` returns a true value. Returns its exit status."""

    async def run() -> int:
        server = Server(ServerConfig(port=0, http_port=None))

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
def test_a_sweeper_that_fails_is_reported_and_the_server_goes_on(
    new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(self: Sweeper) -> None:
        raise RuntimeError("a fault of the sweeper")

    monkeypatch.setattr(Sweeper, "run", fails)

    def reported() -> list[logging.LogRecord]:
        return [record for record in caplog.records if "the sweeper has failed" in record.getMessage()]

    assert serve_until(new_loop, reported) == 0
    (record,) = reported()
    assert record.levelname == "ERROR"
    assert record.exc_info is not None


@LOOPS
def test_sighup_without_a_configuration_to_reread_changes_nothing(
    new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[int] = []

    def reported() -> bool:
        # The ports are bound before the handlers are set; the log line says that both are done.
        if not sent and any(record.getMessage() == "listening" for record in caplog.records):
            sent.append(signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
        return any("configuration not reread" in record.getMessage() for record in caplog.records)

    with caplog.at_level(logging.INFO, "naught"):
        assert serve_until(new_loop, reported) == 0


@LOOPS
def test_it_leaves_the_process_as_it_was(new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (list(gc.callbacks), gc.get_freeze_count(), [signal.getsignal(n) for n in (1, 2, 15)])
    frozen: list[int] = []

    def seen_frozen() -> bool:
        frozen.append(gc.get_freeze_count())
        return frozen[-1] > before[1]

    assert serve_until(new_loop, seen_frozen) == 0
    assert (list(gc.callbacks), gc.get_freeze_count(), [signal.getsignal(n) for n in (1, 2, 15)]) == before


def test_an_engine_that_cannot_be_built_leaves_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(config: ServerConfig, **_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(server_module, "Engine", fails)

    async def run() -> None:
        with pytest.raises(MemoryError):
            Server(ServerConfig(port=0, http_port=None))

    # A listener left open is a ResourceWarning, and warnings are errors.
    with asyncio.Runner() as runner:
        runner.run(run())
