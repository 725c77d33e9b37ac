"""Clients that are given up while they connect: the server keeps nothing for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

import naught
from naught import blocking
from support.server_process import ServerProcess, server_process, wait_until

GUARD_S = 30.0
LOOPS = {"asyncio": None, "uvloop": uvloop.new_event_loop}
TURNS = 40
"""Connecting takes fewer turns of the loop, with the answer to `hello`."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


async def cancelled(url: str, turns: int) -> None:
    """Connecting is cancelled after so many turns of the loop."""
    connecting = asyncio.ensure_future(_connect(url))
    for _ in range(turns):
        await asyncio.sleep(0)
    connecting.cancel()
    try:
        client = await connecting
    except asyncio.CancelledError:
        return
    await client.close()


async def _connect(url: str) -> naught.Client:
    return await naught.connect(url)


async def closed(url: str, turns: int) -> None:
    """A client without a connection is closed so many turns after its first call."""
    client = naught.connect(url, lazy=True)
    call = asyncio.ensure_future(client.semaphore("given-up", 1000).acquire(timeout=GUARD_S))
    for _ in range(turns):
        await asyncio.sleep(0)
    await client.close()
    await asyncio.wait([call])
    call.exception()


async def in_threads(url: str, turns: int) -> None:
    client = blocking.Client(url, lazy=True, timeout=0.0)
    with pytest.raises(naught.CallTimeout):
        client.get("n")
    for _ in range(turns):
        await asyncio.sleep(0)
    client.close()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("give_up", [cancelled, closed, in_threads], ids=lambda function: function.__name__)
def test_what_is_given_up_while_it_connects_leaves_no_session(
    server: ServerProcess, give_up: Callable[[str, int], Awaitable[None]], loop: str
) -> None:
    url = f"naught://127.0.0.1:{server.port}?lease=300&connect_timeout={GUARD_S}"

    async def give_up_everywhere() -> None:
        for turns in range(TURNS):
            await give_up(url, turns)

    factory: Any = LOOPS[loop]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(give_up_everywhere())
    with blocking.Client(url, timeout=GUARD_S) as direct:
        wait_until(lambda: len(direct.sessions()) == 1, "the other sessions have ended")
        assert direct.get("given-up") == 0
