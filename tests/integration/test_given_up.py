"""Clients that are given up while they connect: the server keeps nothing for them.

The lease is longer than any test, so what goes back goes back because of `bye`. The server may be stopped meanwhile:
then it has not answered when the client gives up, and reads all that was written when it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import naught
from naught import blocking
from naught.aio import connection
from naught.aio.connection import Connection
from naught.core.backoff import Backoff
from support.server_process import ServerProcess, server_process, stopped, wait_until

GUARD_S = 30.0
LOOPS = {"asyncio": None, "uvloop": uvloop.new_event_loop}
TURNS = 40
"""Connecting takes fewer turns of the loop, with the answer to `hello`."""

pytestmark = pytest.mark.patches


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with server_process(tmp_path) as server:
        yield server


def url_of(server: ServerProcess) -> str:
    return f"naught://127.0.0.1:{server.port}?lease=300&connect_timeout={GUARD_S}"


def run(scenario: Awaitable[None], loop: str) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await scenario

    factory: Any = LOOPS[loop]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(guarded())


def assert_nothing_is_left(server: ServerProcess) -> None:
    with blocking.Client(url_of(server), timeout=GUARD_S) as direct:
        wait_until(lambda: len(direct.sessions()) == 1, "the other sessions have ended")
        assert direct.get("given-up") == 0


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled(url: str, count: int) -> None:
    """Connecting is cancelled after so many turns of the loop."""

    async def connect() -> naught.Client:
        return await naught.connect(url)

    connecting = asyncio.ensure_future(connect())
    await turns(count)
    connecting.cancel()
    try:
        client = await connecting
    except asyncio.CancelledError:
        return
    await client.close()


async def closed(url: str, count: int) -> None:
    """A client without a connection is closed so many turns after its first call."""
    client = naught.connect(url, lazy=True)
    call = asyncio.ensure_future(client.semaphore("given-up", 1000).acquire(timeout=GUARD_S))
    await turns(count)
    await client.close()
    await asyncio.wait([call])
    call.exception()


async def in_threads(url: str, count: int) -> None:
    client = blocking.Client(url, lazy=True, timeout=0.0)
    with pytest.raises(naught.CallTimeout):
        client.get("n")
    await turns(count)
    client.close()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("answers", [True, False], ids=["answered", "unanswered"])
@pytest.mark.parametrize("give_up", [cancelled, closed, in_threads], ids=lambda function: function.__name__)
def test_what_is_given_up_while_it_connects_leaves_no_session(
    server: ServerProcess,
    give_up: Callable[[str, int], Awaitable[None]],
    answers: bool,
    loop: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def give_up_everywhere() -> None:
        for count in range(TURNS):
            await give_up(url_of(server), count)

    with contextlib.ExitStack() as stack:
        if not answers:
            monkeypatch.setattr(connection, "BYE_TIMEOUT_S", 0.005)  # nobody reads it
            stack.enter_context(stopped(server))
        run(give_up_everywhere(), loop)
    assert_nothing_is_left(server)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_attempt_that_takes_too_long_leaves_no_session(
    server: ServerProcess, loop: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first connection of a client, and the one of a lazy client, which tries again and has its session then."""
    caplog.set_level(logging.DEBUG, "naught")
    monkeypatch.setattr(connection, "BYE_TIMEOUT_S", 0.005)

    async def scenario() -> None:
        with stopped(server):
            with pytest.raises(naught.ConnectionFailed, match=r"within 0\.05 s"):
                await naught.connect(url_of(server), connect_timeout=0.05)
            lazy = naught.connect(url_of(server), connect_timeout=0.05, lazy=True)
            call = asyncio.ensure_future(lazy.acquire([("given-up", 1, 1)], timeout=None))
            while "attempt 2 to connect failed" not in caplog.text:  # noqa: ASYNC110 - nothing else says so
                await asyncio.sleep(0.005)
        await call
        assert len(await lazy.sessions(timeout=GUARD_S)) == 1
        await lazy.close()

    run(scenario(), loop)
    assert_nothing_is_left(server)


def lose(lost: Connection | None) -> Callable[[], bool]:
    """Have the connection of a client end, in its own loop. Returns what says whether it resumes its session."""
    assert lost is not None
    before = lost._protocol
    assert before is not None
    assert before.transport is not None
    lost._loop.call_soon_threadsafe(before.transport.abort)
    return lambda: lost._protocol not in (None, before)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_session_holds_goes_back_when_it_is_closed_while_it_is_resumed(
    server: ServerProcess, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BYE_TIMEOUT_S", 0.005)

    async def scenario() -> None:
        client = await naught.connect(url_of(server), timeout=GUARD_S)
        await client.acquire([("given-up", 1, 1)])
        with stopped(server):
            resumes = lose(client._connection)
            while not resumes():  # noqa: ASYNC110 - the client does not notify of this state
                await asyncio.sleep(0)
            assert not client.connected
            await client.close()

    run(scenario(), loop)
    assert_nothing_is_left(server)


def test_so_does_what_a_client_for_threads_holds(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BYE_TIMEOUT_S", 0.005)
    client = blocking.Client(url_of(server), timeout=GUARD_S)
    client.acquire([("given-up", 1, 1)])
    with stopped(server):
        wait_until(lose(client._connection.connection), "the session is resumed")
        assert not client.connected
        client.close()
    assert_nothing_is_left(server)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_session_holds_goes_back_at_whatever_turn_of_connecting_anew_it_is_closed(
    server: ServerProcess, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it dials, too: then `bye` has a connection of its own."""
    monkeypatch.setattr(Backoff, "next_delay", lambda _: 0.0)

    async def scenario() -> None:
        for count in range(TURNS):
            client = await naught.connect(url_of(server), timeout=GUARD_S)
            await client.acquire([("given-up", 1, 1_000)])
            lose(client._connection)
            while client.connected:  # noqa: ASYNC110 - the client does not notify of this state
                await asyncio.sleep(0)
            await turns(count)
            await client.close()

    run(scenario(), loop)
    assert_nothing_is_left(server)


def test_so_does_what_a_client_for_threads_holds_without_a_connection(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next_delay", lambda _: GUARD_S)
    client = blocking.Client(url_of(server), timeout=GUARD_S)
    client.acquire([("given-up", 1, 1)])
    lose(client._connection.connection)
    wait_until(lambda: not client.connected, "its connection is lost")
    client.close()
    assert_nothing_is_left(server)


async def test_a_server_that_is_gone_is_not_waited_for(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next_delay", lambda _: GUARD_S)
    client = await naught.connect(url_of(server), timeout=GUARD_S)
    permit = await client.semaphore("given-up", 1).acquire()
    server.stop()
    while client.connected:  # noqa: ASYNC110 - the client does not notify of this state
        await asyncio.sleep(0.001)
    await client.close()
    assert permit.lost
