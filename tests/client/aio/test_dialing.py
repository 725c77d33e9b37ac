"""The addresses of a name are tried side by side: one that swallows packets costs a delay and not the whole time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgpack
import pytest
import uvloop

import naught
from naught.aio import dialing
from naught_server.secret_hash import hash_of
from support.proxy import Proxy
from support.server_process import server_process
from support.users import SECRET

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


def race(addresses: list[dialing.AddressInfo]) -> Any:
    """Where connecting alone is success."""
    return dialing.race(addresses, dialing.connect, socket.socket.close)


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
            connected = await race([info("127.0.0.2", silent), info("127.0.0.1", good)])
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
            (await race([info("127.0.0.1", unused_tcp_port), good])).close()
        with pytest.raises(ConnectionRefusedError):
            await race([info("127.0.0.1", unused_tcp_port)])
        with pytest.raises(OSError, match=r"127\.0\.0\.1.*; .*127\.0\.0\.2"):
            await race([info(host, unused_tcp_port) for host in ("127.0.0.1", "127.0.0.2")])
        with pytest.raises(OSError, match="no address"):
            await race([])

    run(scenario(), make_loop)


@both_loops
def test_giving_up_ends_every_attempt(make_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY_S", 0.001)

    async def scenario(silent: int) -> None:
        racing = asyncio.ensure_future(race([info("127.0.0.2", silent)] * 3))
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


def resolving_to(*addresses: dialing.AddressInfo) -> Any:
    """In place of `dialing.resolve`."""

    async def resolve(host: str, port: int) -> list[dialing.AddressInfo]:
        return list(addresses)

    return resolve


@contextmanager
def mute() -> Iterator[int]:
    """A port of 127.0.0.2 that accepts connections and says nothing: the kernel does so while nobody accepts them."""
    with socket.create_server(("127.0.0.2", 0)) as listening:
        yield listening.getsockname()[1]


KINDS = ["asyncio", "threads"]


@contextmanager
def opened(kind: str, url: str, **options: Any) -> Iterator[Any]:
    """A function that calls a method of a client: `call("incr", "n")`."""
    if kind == "threads":
        with naught.blocking.Client(url, **options) as counters:
            yield lambda method, *arguments: getattr(counters, method)(*arguments)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            client = naught.connect(url, **options)
            counters = runner.run(client.__aenter__())

            async def call(method: str, *arguments: Any) -> Any:
                return await getattr(counters, method)(*arguments)

            yield lambda method, *arguments: runner.run(call(method, *arguments))
            runner.run(counters.close())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lazy", [False, True], ids=["at-once", "lazy"])
def test_an_address_that_accepts_and_is_silent_does_not_hold_up_the_next(
    kind: str, lazy: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_process(tmp_path) as server, mute() as silent:
        monkeypatch.setattr(
            dialing, "resolve", resolving_to(info("127.0.0.2", silent), info("127.0.0.1", server.port))
        )
        options = {"lazy": lazy, "connect_timeout": GUARD_S, "timeout": GUARD_S / 2}
        with opened(kind, f"naught://counters.test:{server.port}", **options) as call:
            assert call("incr", "n") == 1


def test_a_name_whose_addresses_are_all_silent_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with mute() as silent:
        monkeypatch.setattr(dialing, "resolve", resolving_to(*[info("127.0.0.2", silent)] * 2))
        with (
            pytest.raises(naught.ConnectionFailed, match="within"),
            naught.blocking.Client(f"naught://counters.test:{silent}", connect_timeout=0.5),
        ):
            pass


async def test_a_session_is_resumed_at_a_name_whose_first_address_is_silent(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it holds is kept: no attempt takes the session over from the one that is used, or ends it."""
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY_S", 0.01)
    with server_process(tmp_path) as server, mute() as silent:
        async with Proxy(server.port) as proxy, asyncio.timeout(GUARD_S):
            found = [info("127.0.0.2", silent), *[info("127.0.0.1", proxy.port)] * 3]
            monkeypatch.setattr(dialing, "resolve", resolving_to(*found))
            url = f"naught://counters.test:{proxy.port}?connect_timeout={GUARD_S}&timeout={GUARD_S}"
            async with naught.connect(url) as counters:
                acquired = await counters.acquire([("seat", 1, 1)])
                for expected in range(1, 4):
                    proxy.cut()
                    assert await counters.incr("n") == expected
                assert acquired.hold is not None
                assert not acquired.hold.lost
                assert await counters.release(acquired.hold) == [0]


def test_a_user_logs_in_at_a_name_whose_first_address_is_silent(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret is said to both, and a wrong one is refused as it is where there is one address."""
    (tmp_path / "users.toml").write_text(
        f"""
        [caches.orders]
        [users.ann]
        role = "write"
        caches = ["orders"]
        secret = "{hash_of(SECRET.encode(), b"salt" * 4)}"
        """
    )
    with server_process(tmp_path, "--config", str(tmp_path / "users.toml")) as server, mute() as silent:
        monkeypatch.setattr(
            dialing, "resolve", resolving_to(info("127.0.0.2", silent), info("127.0.0.1", server.port))
        )
        url, options = (
            f"naught://counters.test:{server.port}/orders",
            {"timeout": GUARD_S, "connect_timeout": GUARD_S},
        )
        with naught.blocking.Client(url, user="ann", secret=SECRET, **options) as counters:
            assert counters.incr("n") == 1
        with pytest.raises(naught.Unauthenticated):
            naught.blocking.Client(url, user="ann", secret="wrong", **options)
        with pytest.raises(naught.Denied):
            naught.blocking.Client(url.replace("/orders", "/others"), user="ann", secret=SECRET, **options)


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port of 127.0.0.2 that gives this answer to whatever arrives, and keeps the connection."""
    with ExitStack() as kept, socket.create_server(("127.0.0.2", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted = kept.enter_context(listening.accept()[0])
                    accepted.recv(1)
                    accepted.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


ANSWERS = {
    "redis": b"-ERR unknown command\r\n",
    "half a reply": b"\x94\x01\x00\xc0",
    "a server that stops": msgpack.packb([1, 0, ["shutting_down", "it stops"], None]),
    "no MessagePack": b"\x94\xc1",
    "a notification": b"\x93\x02\xa1n\x90",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_address_at_which_something_else_answers_does_not_hide_the_next(
    kind: str, answer: bytes, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_process(tmp_path) as server, answering(answer) as other:
        found = [info("127.0.0.2", other), info("127.0.0.1", server.port)]
        monkeypatch.setattr(dialing, "resolve", resolving_to(*found))
        options = {"connect_timeout": GUARD_S, "timeout": GUARD_S / 2}
        with opened(kind, f"naught://counters.test:{server.port}", **options) as call:
            assert call("incr", "n") == 1


def test_where_no_address_has_a_server_the_error_says_what_answers(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(ANSWERS["redis"]) as other:
        found = [info("127.0.0.1", unused_tcp_port), info("127.0.0.2", other), info("127.0.0.1", unused_tcp_port)]
        monkeypatch.setattr(dialing, "resolve", resolving_to(*found))
        with pytest.raises(naught.ConnectionFailed, match=r"test:\d+: what answers there .* but Redis"):
            naught.blocking.Client(f"naught://counters.test:{other}", connect_timeout=GUARD_S)


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
