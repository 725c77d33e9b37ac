"""A `Server` run in the test's own process: faults that cannot be caused from outside, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import signal
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvloop

from naught_server import server as server_module
from naught_server.config import ServerConfig
from naught_server.health import Health
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
def test_a_sweeper_that_fails_is_said_makes_the_server_unready_and_is_started_again(
    new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[Sweeper] = []
    states: list[str | None] = []
    real_run = Sweeper.run
    real_failed = Health.sweeper_failed

    async def fails_twice(self: Sweeper) -> None:
        runs.append(self)
        if len(runs) > 2:
            await real_run(self)
        raise RuntimeError("a fault of the sweeper")

    def failed(self: Health, now_ms: int) -> None:
        self.serve()
        real_failed(self, now_ms)
        states.append(self.why_not_ready(now_ms))
        healths[:] = [self]

    healths: list[Health] = []
    monkeypatch.setattr(Sweeper, "run", fails_twice)
    monkeypatch.setattr(Health, "sweeper_failed", failed)
    monkeypatch.setattr(server_module, "_SWEEPER_RESTART_S", 0.01)

    def swept_again() -> bool:
        return len(runs) == 3 and healths[0].why_not_ready(server_module._now_ms()) is None

    assert serve_until(new_loop, swept_again) == 0
    assert states == ["the sweeper has failed, and has taken no step since"] * 2
    records = [record for record in caplog.records if "the sweeper has failed" in record.getMessage()]
    assert [record.levelname for record in records] == ["ERROR", "ERROR"]
    assert all(record.exc_info for record in records)
    assert healths[0]._engine.sweep.failures == 2


class Ended(BaseException):
    """Instead of the end of the process."""


@pytest.mark.parametrize("where", ["the sweeper", "a callback"])
def test_without_memory_a_background_task_ends_the_process(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[BaseException] = []

    def end(fault: BaseException) -> None:
        ended.append(fault)
        raise Ended

    async def fails(self: Sweeper) -> None:
        raise MemoryError

    def raises() -> None:
        raise MemoryError

    def happened() -> bool:
        if where == "a callback" and not ended:
            asyncio.get_running_loop().call_soon(raises)
        return bool(ended)

    monkeypatch.setattr(server_module, "end_process", end)
    if where == "the sweeper":
        monkeypatch.setattr(Sweeper, "run", fails)
    with contextlib.suppress(Ended):
        serve_until(asyncio.new_event_loop, happened)
    assert isinstance(ended[0], MemoryError)


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


@LOOPS
def test_others_have_their_turns_between_the_connections_that_are_told_to_finish(new_loop: NewLoop) -> None:
    """Each may have thousands of requests that wait, which are all answered then."""
    order: list[str] = []

    async def run() -> None:
        server = Server(ServerConfig(port=0, http_port=None))
        loop = asyncio.get_running_loop()

        class Finishing:
            def drain(self) -> None:
                order.append("drain")
                loop.call_soon(order.append, "others")
                if order.count("drain") == 5:
                    server._connections.clear()

        server._connections.update(cast("Any", Finishing()) for _ in range(5))
        assert await server._drain() == 0
        server._listeners.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
    assert order[:9] == ["drain", "others"] * 4 + ["drain"]


async def test_others_have_their_turns_while_logins_are_looked_at_again() -> None:
    """10 000 connections may have to be ended, and what their sessions hold to be given back."""

    class Told:
        def renew_login(self) -> None:
            told.append(self)

    told: list[Told] = []
    ended: list[int] = []
    server = Server(ServerConfig(port=0, http_port=None))
    try:
        server._engine.sessions.without_access = lambda access: ended.append(len(told)) or []  # type: ignore[method-assign,func-returns-value,assignment,misc]
        server._connections.update(cast("Any", [Told() for _ in range(1_000)]))
        server._renew_logins()
        counts = [len(told)]
        while not ended:
            await asyncio.sleep(0)
            counts.append(len(told))
    finally:
        server._listeners.close()
    assert counts[-1] == ended[0] == 1_000, "sessions come last: a connection may have opened one before its turn"
    assert max(after - before for before, after in itertools.pairwise([0, *counts])) <= 100
