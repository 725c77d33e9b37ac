"""The addresses of a name are tried side by side: one that swallows packets costs a delay and not the whole time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvloop

import naught
from naught.aio import dialing
from support.server_process import server_process

GUARD_S = 30.0
LOOPS: list[Any] = [asyncio.new_event_loop, uvloop.new_event_loop]


def run(coroutine: Any, make_loop: Any) -> Any:
    async def guarded() -> Any:
        async with asyncio.timeout(GUARD_S):
            return await coroutine

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(guarded())


def info(host: str, port: int) -> dialing.AddressInfo:
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


@contextmanager
def swallowing() -> Iterator[int]:
    """A port of 127.0.0.2 that answers no attempt to connect: its queue is full."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        for _ in range(4):
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        yield full.getsockname()[1]


both_loops = pytest.mark.parametrize("make_loop", LOOPS, ids=["asyncio", "uvloop"])


@both_loops
def test_an_address_that_swallows_packets_does_not_hold_up_the_next(make_loop: Any) -> None:
    async def scenario(silent: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            good = listening.getsockname()[1]
            connected = await dialing.race([info("127.0.0.2", silent), info("127.0.0.1", good)])
            with connected:
                assert connected.getpeername() == ("127.0.0.1", good)
                assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert len(asyncio.all_tasks()) == 1, "no attempt is left"

    with swallowing() as silent:
        run(scenario(silent), make_loop)


@both_loops
def test_an_attempt_that_fails_is_followed_by_the_next_at_once(
    make_loop: Any, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY_S", 10 * GUARD_S)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            good = info(*listening.getsockname())
            (await dialing.race([info("127.0.0.1", unused_tcp_port), good])).close()
        with pytest.raises(ConnectionRefusedError):
            await dialing.race([info("127.0.0.1", unused_tcp_port)])
        with pytest.raises(OSError, match=r"127\.0\.0\.1.*; .*127\.0\.0\.2"):
            await dialing.race([info(host, unused_tcp_port) for host in ("127.0.0.1", "127.0.0.2")])
        with pytest.raises(OSError, match="no address"):
            await dialing.race([])

    run(scenario(), make_loop)


@both_loops
def test_giving_up_ends_every_attempt(make_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY_S", 0.001)

    async def scenario(silent: int) -> None:
        racing = asyncio.ensure_future(dialing.race([info("127.0.0.2", silent)] * 3))
        while len(asyncio.all_tasks()) < 5:  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0.001)
        racing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await racing
        assert len(asyncio.all_tasks()) == 1

    with swallowing() as silent:
        run(scenario(silent), make_loop)


def test_families_take_turns_beginning_with_the_first() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    assert [each[0] for each in dialing.in_turn([(six,), (six,), (six,), (four,)])] == [six, four, six, six]
    assert [each[0] for each in dialing.in_turn([(four,), (six,), (six,)])] == [four, six, six]


@both_loops
def test_a_client_connects_to_a_name_whose_first_address_swallows_packets(
    make_loop: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_process(tmp_path) as server, swallowing() as silent:

        async def resolve(host: str, port: int) -> list[dialing.AddressInfo]:
            assert host == "counters.test"
            return [info("127.0.0.2", silent), info("127.0.0.1", port)]

        monkeypatch.setattr(dialing, "resolve", resolve)

        async def scenario() -> None:
            async with naught.connect(f"naught://counters.test:{server.port}") as counters:
                assert await counters.incr("n") == 1

        run(scenario(), make_loop)


@contextmanager
def closing() -> Iterator[int]:
    """A port of 127.0.0.2 that accepts a connection and closes it, as a proxy does that has no server behind it."""
    with socket.create_server(("127.0.0.2", 0)) as listening:

        def close_each() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listening.accept()[0].close()

        thread = threading.Thread(target=close_each)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@both_loops
@pytest.mark.parametrize("lazy", [False, True])
def test_a_client_tries_the_next_address_where_the_first_accepts_and_does_not_answer(
    make_loop: Any, lazy: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_process(tmp_path) as server, closing() as closed:

        async def resolve(host: str, port: int) -> list[dialing.AddressInfo]:
            return [info("127.0.0.2", closed), info("127.0.0.1", port)]

        monkeypatch.setattr(dialing, "resolve", resolve)
        url = f"naught://counters.test:{server.port}?timeout={GUARD_S}"

        async def scenario() -> None:
            async with naught.connect(url, lazy=True) if lazy else naught.connect(url) as counters:
                assert await counters.incr("n") == 1

        run(scenario(), make_loop)


def test_so_does_the_client_for_threads(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with server_process(tmp_path) as server, swallowing() as silent:

        async def resolve(host: str, port: int) -> list[dialing.AddressInfo]:
            return [info("127.0.0.2", silent), info("127.0.0.1", port)]

        monkeypatch.setattr(dialing, "resolve", resolve)
        with naught.blocking.Client(f"naught://counters.test:{server.port}") as counters:
            assert counters.incr("n") == 1


async def test_a_name_is_resolved() -> None:
    found = await dialing.resolve("localhost", 6480)
    assert {address[4][0] for address in found} <= {"127.0.0.1", "::1"}
    assert {address[4][1] for address in found} == {6480}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_not_asked_for(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = await asyncio.get_running_loop().getaddrinfo(host, 6480, type=socket.SOCK_STREAM)

    async def never(*_: object, **__: object) -> Any:
        raise AssertionError("the resolver was asked")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    assert await dialing.resolve(host, 6480) == asked
