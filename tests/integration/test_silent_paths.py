"""A path that keeps the connection open and swallows its bytes: the client notices, and dials anew. The session makes
that safe: every call is executed once, and what is held stays held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from naught.aio import connection
from support.proxy import Proxy
from support.server_process import ServerProcess, server_process
from support.two_clients import KINDS, connect

GUARD_S = 30.0

both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TICK_S", 0.02)


@both
async def test_calls_into_a_silent_path_are_answered_over_another(kind: str, server: ServerProcess) -> None:
    async with (
        asyncio.timeout(GUARD_S),
        Proxy(server.port) as proxy,
        connect(kind, proxy.url, timeout=GUARD_S) as counters,
    ):
        async with counters.semaphore("gpu", limit=1) as permit, counters.in_flight("busy"):
            for _ in range(3):
                proxy.swallow()
                results = await asyncio.gather(*(counters.incr("n") for _ in range(20)))
                assert len(set(results)) == 20, "each was executed, and once"
            assert not permit.lost
            assert await counters.get_many(["n", "gpu", "busy"]) == [60, 1, 1]
        assert await counters.take(["n", "gpu", "busy"]) == [60, 0, 0]


@both
@pytest.mark.parametrize("waits", [False, True])
async def test_an_idle_client_notices_before_it_is_needed(kind: str, waits: bool, server: ServerProcess) -> None:
    """Also one that only waits at the server."""
    async with (
        asyncio.timeout(GUARD_S),
        Proxy(server.port) as proxy,
        connect(kind, proxy.url, timeout=GUARD_S) as counters,
    ):
        assert await counters.incr("n") == 1
        waiting = asyncio.ensure_future(counters.wait_zero("n")) if waits else None
        await counters.ping()
        swallowed = set(proxy._open)
        proxy.swallow()
        while swallowed & set(proxy._open):  # noqa: ASYNC110 - the client closes it
            await asyncio.sleep(0.01)
        assert await counters.decr("n") == 0
        assert waiting is None or await waiting is True


def test_the_constants_are_a_few_seconds() -> None:
    from naught.core import silence

    assert 2 <= silence.TICK_S * silence.SILENT_TICKS <= 5
    assert silence.TICK_S * silence.IDLE_TICKS <= 10


@pytest.mark.parametrize("kind", ["asyncio"])
async def test_a_busy_loop_is_not_mistaken_for_a_silent_path(kind: str, server: ServerProcess) -> None:
    """A program that blocks its event loop reads what has arrived before it judges."""
    import time

    async with asyncio.timeout(GUARD_S), connect(kind, f"naught://127.0.0.1:{server.port}") as counters:
        before: Any = counters._connection._protocol
        for _ in range(5):
            asking = counters.get("n")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            time.sleep(0.05)  # noqa: ASYNC251 - more than two ticks
            assert await asking == 0
        assert counters._connection._protocol is before
