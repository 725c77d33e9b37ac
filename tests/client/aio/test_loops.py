"""A client for asyncio belongs to one event loop. A call from anywhere else is refused before anything is sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import naught
from naught.core.hooks import ObservedCall

CALLS: dict[str, Callable[[Any], Any]] = {
    "incr": lambda client: client.incr("n"),
    "get": lambda client: client.get("n"),
    "try_incr": lambda client: client.try_incr([("n", 1, 9)]),
}
WAITS: dict[str, Callable[[Any], Any]] = {
    "acquire": lambda client: client.semaphore("n", limit=9).acquire(),
    "wait": lambda client: client.wait_zero("n"),
    "in flight": lambda client: client.in_flight("n").__aenter__(),
    "close": lambda client: client.close(),
}


def hooks(observed: bool) -> dict[str, Any]:
    def seen(call: ObservedCall) -> None:
        """A client with hooks makes its futures in another way."""

    return {"on_call_start": seen} if observed else {}


def value_of(name: str) -> int:
    async def read() -> int:
        async with naught.connect(f"memory://{name}") as counters:
            return await counters.get("n")

    return asyncio.run(read())


@pytest.mark.parametrize("observed", [False, True])
def test_in_another_loop_nothing_is_counted(observed: bool, request: pytest.FixtureRequest) -> None:
    url = f"memory://{request.node.originalname}"

    async def elsewhere(client: naught.Client) -> None:
        for call in (CALLS | WAITS).values():
            with pytest.raises(naught.WrongLoop, match="belongs to another event loop"):
                await call(client)
        for error in (RuntimeError, naught.NaughtError, naught.ClientClosed):
            with pytest.raises(error):
                await client.incr("n")

    async def scenario() -> None:
        async with naught.connect(url, **hooks(observed)) as client:
            await asyncio.to_thread(lambda: asyncio.run(elsewhere(client)))
            assert "closed" not in repr(client), "the close was refused"
            assert await client.get("n") == 0
            assert await client.incr("n") == 1
            await client.clear()

    asyncio.run(scenario())


@pytest.mark.parametrize("observed", [False, True])
def test_without_a_loop_nothing_is_counted(observed: bool, request: pytest.FixtureRequest) -> None:
    url = f"memory://{request.node.originalname}"

    async def scenario() -> None:
        async with naught.connect(url, **hooks(observed)) as client:
            refused: list[BaseException] = []

            def call_them() -> None:
                for call in CALLS.values():
                    try:
                        call(client)
                    except naught.WrongLoop as error:
                        refused.append(error)

            thread = threading.Thread(target=call_them)
            thread.start()
            await asyncio.to_thread(thread.join)
            assert len(refused) == len(CALLS)
            assert "no event loop runs" in str(refused[0])
            assert "blocking" in str(refused[0]), "it says what to use there"
            assert await client.get("n") == 0

    asyncio.run(scenario())


def test_after_its_loop_has_ended_nothing_is_counted(request: pytest.FixtureRequest) -> None:
    url = f"memory://{request.node.originalname}"

    async def make() -> naught.Client:
        return await naught.connect(url)

    client = asyncio.run(make())

    async def later() -> None:
        for call in CALLS.values():
            with pytest.raises(naught.WrongLoop, match="has ended: connect again"):
                await call(client)
        await client.close()  # there is nothing left to wait for
        with pytest.raises(naught.ClientClosed, match="closed"):
            await client.incr("n")

    for call in CALLS.values():
        with pytest.raises(naught.WrongLoop, match="no event loop runs"):
            call(client)
    asyncio.run(later())
    assert value_of(request.node.originalname) == 0


def test_a_lazy_client_is_made_without_a_loop_and_belongs_to_that_of_its_first_call(
    request: pytest.FixtureRequest,
) -> None:
    client = naught.connect(f"memory://{request.node.originalname}", lazy=True)
    assert not client.connected
    semaphore = client.semaphore("gpu", limit=1)
    with pytest.raises(naught.WrongLoop):
        client.incr("n")

    async def scenario() -> None:
        assert await client.incr("n") == 1
        async with semaphore:
            assert client.connected
        with pytest.raises(naught.WrongLoop):
            await asyncio.to_thread(client.incr, "n")
        await client.close()

    asyncio.run(scenario())
    assert value_of(request.node.originalname) == 1


def test_a_lazy_client_that_was_never_used_has_nothing_to_close() -> None:
    client = naught.connect("memory://", lazy=True)
    asyncio.run(client.close())
    del client  # without a ResourceWarning
    naught.connect("memory://", lazy=True)


async def test_a_lazy_client_waits_for_a_server_within_the_timeout_of_each_call(unused_tcp_port: int) -> None:
    async with naught.connect(f"naught://127.0.0.1:{unused_tcp_port}", lazy=True, timeout=0.05) as client:
        for _ in range(2):
            with pytest.raises(
                naught.CallTimeout, match=r"not sent within 0\.05 s: .*(refused|Connect call failed)"
            ) as caught:
                await client.incr("n")
            assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_one_connect_serves_one_block_at_a_time() -> None:
    """Two tasks that share it would close each other's client."""
    shared = naught.connect("memory://")
    async with shared as first:
        with pytest.raises(naught.NaughtError, match="call connect\\(\\) for each"):
            await shared.__aenter__()
        assert await first.incr("n") == 1
    async with shared as later:
        assert await later.get("n") == 0
    refused = naught.connect("naught://127.0.0.1:1", connect_timeout=0.01)
    for _ in range(2):
        with pytest.raises(naught.ConnectionFailed):
            await refused.__aenter__()
