"""An outage looks like what it is: every pattern and every wait of both clients raises at its own deadline, and says
that there is no connection. "No" is only ever the server's answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import naught
from support.client_helpers import ScriptedServer
from support.proxy import Proxy
from support.server_process import ServerProcess, server_process
from support.two_clients import KINDS, connect

GUARD_S = 30.0
DEADLINE_S = 0.05

both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


async def entered(pattern: Any) -> None:
    async with pattern:
        pass


# What waits, or asks: each with a deadline of its own, or that of the client.
USES: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "in flight": lambda counters: entered(counters.in_flight("n")),
    "in flight with a timeout": lambda counters: entered(counters.in_flight("n", timeout=DEADLINE_S)),
    "acquire": lambda counters: counters.semaphore("n", limit=1).acquire(timeout=DEADLINE_S),
    "acquire now": lambda counters: counters.semaphore("n", limit=1).acquire(timeout=0),
    "try": lambda counters: counters.semaphore("n", limit=1).try_acquire(),
    "a block with a timeout": lambda counters: entered(counters.semaphore("n", limit=1, timeout=DEADLINE_S)),
    "several": lambda counters: counters.acquire_all({"n": 1, "m": 1}, timeout=DEADLINE_S),
    "a wait for zero": lambda counters: counters.wait_zero("n", timeout=DEADLINE_S),
    "a look at zero": lambda counters: counters.wait_zero("n", timeout=0),
    "a group": lambda counters: counters.wait_group("n").wait(timeout=DEADLINE_S),
    "a group's work": lambda counters: counters.wait_group("n").add(),
    "held work": lambda counters: counters.wait_group("n", held=True).add(),
    "a reference": lambda counters: counters.reference("n").retain(),
    "a quota": lambda counters: counters.quota("n", limit=1, per=60).use(),
    "what is left": lambda counters: counters.quota("n", limit=1, per=60).remaining(),
    "permits": lambda counters: counters.semaphore("n", limit=1).value(),
    "a raw wait": lambda counters: counters.acquire([("n", 1, 1)], wait=DEADLINE_S),
}


@both
async def test_without_a_server_every_use_says_so_at_its_deadline(kind: str, server: ServerProcess) -> None:
    async with (
        asyncio.timeout(GUARD_S),
        Proxy(server.port) as proxy,
        connect(kind, proxy.url, timeout=DEADLINE_S) as counters,
    ):
        proxy.refuse()
        proxy.cut()
        ended = await asyncio.gather(*(use(counters) for use in USES.values()), return_exceptions=True)
        for name, error in zip(USES, ended, strict=True):
            assert type(error) is naught.CallTimeout, f"{name}: {error!r}"
            assert isinstance(error.__cause__, OSError), f"{name}: {error!r}"
            assert str(error.__cause__) in str(error), f"{name} says why: {error}"
            assert "'n'" in str(error), f"{name} names the counter: {error}"


@pytest.mark.parametrize("kind", ["asyncio", pytest.param("blocking", marks=pytest.mark.slow)])
async def test_a_server_that_answers_nothing_is_no_answer(kind: str) -> None:
    async with (
        asyncio.timeout(GUARD_S),
        ScriptedServer() as server,
        connecting(kind, server, timeout=DEADLINE_S) as counters,
    ):
        ended = await asyncio.gather(*(use(counters) for use in USES.values()), return_exceptions=True)
        assert {type(error) for error in ended} == {naught.CallTimeout}, ended
        for peer in server._all:
            peer.abort()


def connecting(kind: str, server: ScriptedServer, **options: Any) -> Any:
    async def answer() -> None:
        await server.peer()

    class Connected:
        async def __aenter__(self) -> Any:
            self._client = connect(kind, server.url, **options)
            self._answering = asyncio.ensure_future(answer())
            return await self._client.__aenter__()

        async def __aexit__(self, *error: Any) -> None:
            await self._client.__aexit__(*error)

    return Connected()


@both
async def test_no_is_the_answer_of_the_server(kind: str, server: ServerProcess) -> None:
    """An answer that comes after the deadline of the wait, as it does with every server, is the answer."""
    async with asyncio.timeout(GUARD_S), connect(kind, f"naught://127.0.0.1:{server.port}") as counters:
        permit = await counters.semaphore("n", limit=1).acquire(timeout=DEADLINE_S)
        for use in (
            counters.semaphore("n", limit=1).acquire(timeout=DEADLINE_S),
            entered(counters.semaphore("n", limit=1, timeout=DEADLINE_S)),
            counters.acquire_all({"n": 1, "m": 1}, timeout=DEADLINE_S),
        ):
            with pytest.raises(naught.NoPermit, match=r"no permit of n(, m)? within 0.05 s"):
                await use
        assert await counters.semaphore("n", limit=1).value() == 1
        assert await counters.wait_zero("n", timeout=DEADLINE_S) is False
        assert await counters.wait_group("n").wait(timeout=DEADLINE_S) is False
        assert not (await counters.acquire([("n", 1, 1)], wait=DEADLINE_S)).granted
        await permit.release()


@both
async def test_entering_what_is_in_flight_has_an_end_where_others_queue(kind: str, server: ServerProcess) -> None:
    """Nothing is limited by it, but it does not overtake who waits for room in the same counter."""
    url = f"naught://127.0.0.1:{server.port}"
    async with asyncio.timeout(GUARD_S), connect(kind, url) as counters, naught.connect(url) as others:
        async with others.semaphore("n", limit=1):
            queued = asyncio.ensure_future(others.semaphore("n", limit=1).acquire())
            await others.ping()
            with pytest.raises(naught.NoPermit):
                await entered(counters.in_flight("n", timeout=DEADLINE_S))
        await (await queued).release()


def test_a_client_without_a_timeout_enters_in_a_second() -> None:
    client = naught.connect("memory://", timeout=None, lazy=True)
    assert client.in_flight("n")._timeout == 1.0
    assert naught.connect("memory://", timeout=3, lazy=True).in_flight("n")._timeout == 3.0


async def test_the_timeout_of_a_semaphore_serves_its_block_and_its_decorator() -> None:
    async with naught.connect("memory://") as counters:
        semaphore = counters.semaphore("n", limit=1, timeout=DEADLINE_S)

        @semaphore
        async def limited() -> int:
            return 7

        assert await asyncio.create_task(limited()) == 7
        async with semaphore:
            for use in (limited(), entered(semaphore), semaphore.acquire()):
                with pytest.raises(naught.NoPermit):
                    await use
        with pytest.raises(naught.InvalidRequest, match="timeout is"):
            counters.semaphore("n", limit=1, timeout=-1)


@both
async def test_while_the_server_is_away_what_may_fail_open_does(kind: str, server: ServerProcess) -> None:
    async with (
        asyncio.timeout(GUARD_S),
        Proxy(server.port) as proxy,
        connect(kind, proxy.url, timeout=DEADLINE_S) as counters,
    ):
        quota = counters.quota("q", limit=1, per=60, unreachable="open")
        semaphore = counters.semaphore("n", limit=1, timeout=DEADLINE_S, unreachable="open")
        async with semaphore as permit:
            assert permit.counted
            assert not (await quota.use() and await quota.use()), "with a server, a limit is a limit"
            with pytest.raises(naught.NoPermit):
                await semaphore.acquire()
        proxy.refuse()
        proxy.cut()
        assert [await quota.use() for _ in range(3)] == [True] * 3
        for free in (await semaphore.acquire(), await semaphore.try_acquire()):
            assert not free.counted
            assert (free.number, bool(free.lost)) == (0, False)
            assert repr(free) == "<naught.Permit 0 not counted>"
            await free.release()
            with pytest.raises(naught.NotHeld, match="before"):
                await free.release()
        async with semaphore:
            pass
        with pytest.raises(naught.InvalidRequest):
            await quota.use(0)
        await proxy.listen()
        assert await counters.take(["q"], timeout=GUARD_S) == [1], "what passed uncounted is not counted"


def test_what_fails_open_needs_a_timeout_and_knows_two_words() -> None:
    client = naught.connect("memory://", lazy=True)
    with pytest.raises(naught.InvalidRequest, match="needs a timeout"):
        client.semaphore("n", 1, unreachable="open")
    for make in (
        lambda word: client.quota("q", 1, 60, unreachable=word),
        lambda word: client.semaphore("n", 1, unreachable=word),
    ):
        with pytest.raises(naught.InvalidRequest, match='unreachable is "open" or "closed"'):
            make("ajar")
