"""The hooks of both clients: when they are called, in which thread, and what they are told. And their way to the slow
log of a server."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import naught
from naught import ObservedCall, blocking
from naught.aio import connection
from naught.blocking.future import Future
from naught.core.windows import Windows
from naught.wire.codec import encode_result
from support.client_helpers import HELLO_RESULT, Peer, ScriptedServer, connected, requests_in
from support.server_process import ServerProcess, server_process
from support.two_clients import KINDS, connect

GUARD_S = 30.0
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

both = pytest.mark.parametrize("kind", KINDS)


class Journal:
    """What the hooks of a client were told, in order."""

    def __init__(self) -> None:
        self.starts: list[ObservedCall] = []
        self.ends: list[ObservedCall] = []
        self.entries: list[tuple[str, str]] = []

    def on_start(self, call: ObservedCall) -> None:
        assert not call.ended
        self.starts.append(call)
        self.entries.append(("start", call.method))

    def on_end(self, call: ObservedCall) -> None:
        assert call.ended
        assert call.duration >= 0
        assert call in self.starts
        assert call not in self.ends, "told twice"
        self.ends.append(call)
        self.entries.append((call.outcome, call.method))

    @property
    def hooks(self) -> dict[str, Any]:
        """Options of a client."""
        return {"on_call_start": self.on_start, "on_call_end": self.on_end}

    def take(self) -> list[tuple[str, str]]:
        """The entries since the last call."""
        entries, self.entries = self.entries, []
        return entries


# ------------------------------------------------------------------------------------------------- both clients


@both
async def test_every_call_has_a_start_and_an_end(kind: str) -> None:
    journal = Journal()
    async with connect(kind, "memory://", **journal.hooks) as counters:
        assert journal.take() == [], "hello is no call"
        await counters.incr("a", 5)
        await counters.decr("a")
        await counters.get_many(["a", "b"])
        assert journal.take() == [
            *(("start", "incr"), ("ok", "incr")),
            *(("start", "decr"), ("ok", "decr")),
            *(("start", "get_many"), ("ok", "get_many")),
        ]
        assert [call.batch_size for call in journal.ends] == [1, 1, 2]
        assert {str(call.address) for call in journal.ends} == {"memory://"}
        with pytest.raises(naught.CounterUnderflow) as raised:
            await counters.decr("a", 100, strict=True)
        assert journal.take() == [("start", "decr"), ("underflow", "decr")]
        assert journal.ends[-1].error is raised.value
    assert journal.take() == [], "bye is no call"
    assert journal.starts == journal.ends


@both
async def test_methods_and_patterns_that_make_several_calls(kind: str) -> None:
    journal = Journal()
    async with connect(kind, "memory://", **journal.hooks) as counters:
        await counters.apply([f"k{number}" for number in range(30)], 1)
        journal.take()
        found = [pair async for pair in counters.scan_iter(count=4_096)]
        assert len(found) == 30
        pages = journal.take()
        assert set(pages) == {("start", "scan"), ("ok", "scan")}
        assert len(pages) % 2 == 0
        async with counters.semaphore("gpu", limit=1):
            assert journal.take() == [("start", "acquire"), ("ok", "acquire")]
            assert await counters.held()
            assert journal.take() == [("start", "held"), ("ok", "held")] * 2
        assert journal.take() == [("start", "release"), ("ok", "release")]
        assert not await counters.wait_zero("k0", timeout=0.001)
        assert journal.take() == [("start", "wait_zero"), ("ok", "wait_zero")]


@both
@pytest.mark.parametrize(
    "call",
    [
        lambda counters: counters.incr(""),
        lambda counters: counters.incr("a", 0),
        lambda counters: counters.incr("a", ttl_ms=0),
        lambda counters: counters.incr("a", timeout="soon"),
        lambda counters: counters.get("x" * 513),
        lambda counters: counters.get("a", timeout=True),
        lambda counters: counters.top(0),
        lambda counters: counters.slowlog(129),
    ],
    ids=["no key", "by 0", "ttl 0", "no timeout", "long key", "a flag", "top 0", "slowlog 129"],
)
async def test_what_is_refused_for_its_arguments_is_not_seen(kind: str, call: Callable[[Any], Any]) -> None:
    journal = Journal()
    async with connect(kind, "memory://", **journal.hooks) as counters:
        with pytest.raises((naught.InvalidRequest, naught.TooLarge)):
            await call(counters)
        assert journal.take() == []


@both
async def test_a_closed_client(kind: str) -> None:
    journal = Journal()
    async with connect(kind, "memory://", **journal.hooks) as counters:
        pass
    with pytest.raises(naught.ClientClosed):
        await counters.incr("a")
    with pytest.raises(naught.ClientClosed):
        await counters.get("a")
    assert journal.take() == [
        *(("start", "incr"), ("ClientClosed", "incr")),
        *(("start", "get"), ("ClientClosed", "get")),
    ]


@both
async def test_hooks_that_raise_harm_no_call(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(call: ObservedCall) -> None:
        raise RuntimeError("of a hook")

    with caplog.at_level(logging.ERROR, "naught"):
        async with connect(kind, "memory://", on_call_start=fail, on_call_end=fail) as counters:
            assert [await counters.incr("a"), await counters.get("a")] == [1, 1]
            with pytest.raises(naught.CounterUnderflow):
                await counters.decr("b", strict=True)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["on_call_start", "on_call_end"]


@both
async def test_a_hook_that_is_none(kind: str) -> None:
    seen: list[ObservedCall] = []
    async with connect(kind, "memory://", on_call_start=seen.append) as counters:
        await counters.incr("a")
        assert [call.ended for call in seen] == [True], "it is kept up to date without a second hook"
    for bad in ({"on_call_start": 5}, {"on_call_end": "print"}):
        with pytest.raises(naught.InvalidRequest, match="is a function or None"):
            async with connect(kind, "memory://", **bad):
                pass


async def test_without_hooks_nothing_stands_between_a_client_and_its_connection() -> None:
    async with naught.connect("memory://") as counters:
        assert counters._sink is counters._connection
        assert type(counters._connection.session._windows) is Windows
        future = counters.incr("a")
        assert type(future) is asyncio.Future
        assert await future == 1
    with blocking.Client("memory://") as threads:
        assert threads._inner._sink is threads._connection  # type: ignore[comparison-overlap]
        assert type(threads._connection.session._windows) is Windows
        assert type(threads._inner._new_future()) is Future


@contextlib.asynccontextmanager
async def scripted(kind: str, **options: Any) -> AsyncIterator[tuple[Any, Peer, ScriptedServer]]:
    """A client of a server whose replies the test writes."""
    async with ScriptedServer() as server:
        client = contextlib.AsyncExitStack()
        entering = asyncio.ensure_future(client.enter_async_context(connect(kind, server.url, **options)))
        peer = await server.peer()
        counters = await entering
        try:
            yield counters, peer, server
        finally:
            closing = asyncio.ensure_future(client.aclose())
            await asyncio.wait([closing, asyncio.ensure_future(_close_when_asked(server))])
            await closing


async def _close_when_asked(server: ScriptedServer) -> None:
    """A server that has read `bye` closes; without that a client waits for it."""
    for peer in server._all:
        await peer.ended()
        peer.close()


@pytest.mark.parametrize("kind", ["asyncio", pytest.param("blocking", marks=pytest.mark.slow)])
async def test_a_timeout_is_the_outcome_of_a_call_and_of_a_wait_that_has_no_answer(kind: str) -> None:
    journal = Journal()
    async with scripted(kind, **journal.hooks) as (counters, peer, _):
        with pytest.raises(naught.CallTimeout):
            await counters.incr("a", timeout=0.01)
        assert journal.take() == [("start", "incr"), ("CallTimeout", "incr")]
        assert (await peer.request())[2] == "incr"
        for answered in (True, False):
            waiting = asyncio.ensure_future(counters.acquire([("s", 1, 1)], wait=0.01))
            _, msgid, method, _ = await peer.request()
            assert method == "acquire"
            if answered:
                peer.reply(msgid, [False, [1], None])
                assert not (await waiting).granted
            else:
                with pytest.raises(naught.CallTimeout):
                    await waiting
            outcome = "ok" if answered else "CallTimeout"
            assert journal.take() == [("start", "acquire"), (outcome, "acquire")]


@both
async def test_a_request_that_is_sent_again_says_how_often(kind: str) -> None:
    journal = Journal()
    async with scripted(kind, timeout=None, **journal.hooks) as (counters, peer, server):
        getting = asyncio.ensure_future(counters.get("a"))
        last = peer
        for _ in range(2):
            assert (await last.request())[2] == "get"
            last.abort()
            last = await server.peer()  # which knows no session: a read is repeated
        _, msgid, _, _ = await last.request()
        last.reply(msgid, 7)
        assert await getting == 7
        assert [(call.method, call.retries, call.outcome) for call in journal.ends] == [("get", 2, "ok")]
        lost = asyncio.ensure_future(counters.incr("a"))
        await last.request()
        last.abort()
        await server.peer()
        with pytest.raises(naught.OutcomeUnknown):
            await lost
        assert [(call.retries, call.outcome) for call in journal.ends[1:]] == [(0, "OutcomeUnknown")]


@both
async def test_a_trace_goes_before_its_request(kind: str) -> None:
    wanted: list[str | None] = [None, TRACE, TRACE, None]

    def on_start(call: ObservedCall) -> None:
        call.traceparent = wanted.pop(0)

    received: list[Any] = []
    async with scripted(kind, on_call_start=on_start) as (counters, peer, _):
        for _ in range(4):
            calling = asyncio.ensure_future(counters.incr("a"))
            while True:
                message = await peer.request()
                received.append(message[2] if message[0] == 0 else message[1:])
                if message[0] == 0:
                    break
            peer.reply(message[1], 1)
            await calling
    assert received == ["incr", ["trace", [TRACE]], "incr", "incr", ["trace", [None]], "incr"]


# ------------------------------------------------------------------------------------------------- the event loop


@pytest.fixture
def _bye_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BYE_TIMEOUT_S", 0.005)


async def test_in_the_loop_the_end_comes_before_the_task_goes_on() -> None:
    task = contextvars.ContextVar("task", default="none")
    order: list[str] = []

    def note(what: str) -> Callable[[ObservedCall], None]:
        def hook(call: ObservedCall) -> None:
            assert threading.get_ident() == here
            assert asyncio.get_running_loop() is loop
            order.append(f"{what} of {task.get()}")

        return hook

    here, loop = threading.get_ident(), asyncio.get_running_loop()

    async def work(name: str) -> None:
        task.set(name)
        await counters.incr("a")
        order.append(f"{name} goes on")

    async with naught.connect("memory://", on_call_start=note("start"), on_call_end=note("end")) as counters:
        await asyncio.gather(work("x"), work("y"))
    assert order[:2] == ["start of x", "start of y"]
    for name in ("x", "y"):
        assert order.index(f"end of {name}") < order.index(f"{name} goes on")
    assert len(order) == 6


@pytest.mark.usefixtures("_bye_is_not_answered")
async def test_calls_that_travel_together_are_seen_one_by_one() -> None:
    journal = Journal()
    async with ScriptedServer() as server:
        counters, peer = await connected(naught.connect(server.url, **journal.hooks), server)
        futures = [counters.incr("a"), counters.decr("b", 2), counters.incr("c")]
        assert journal.take() == [("start", "incr"), ("start", "decr"), ("start", "incr")]
        _, msgid, method, (keys, deltas) = await peer.request()
        assert (method, keys, deltas) == ("apply", [b"a", b"b", b"c"], [1, -2, 1])
        peer.reply(msgid, [1, 0, ["full", "so"]])
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert journal.take() == [("ok", "incr"), ("ok", "decr"), ("full", "incr")]
        assert found[:2] == [1, 0]
        assert found[2] is journal.ends[2].error
        assert {call.batch_size for call in journal.ends} == {1}
        await counters.close()


@pytest.mark.usefixtures("_bye_is_not_answered")
async def test_a_call_that_is_cancelled_ends_once() -> None:
    journal = Journal()
    async with ScriptedServer() as server:
        counters, peer = await connected(naught.connect(server.url, **journal.hooks), server)
        before = asyncio.ensure_future(counters.incr("never sent"))
        before.cancel()
        after = asyncio.ensure_future(counters.get("a"))
        _, msgid, method, _ = await peer.request()
        assert method == "get"
        waiting = asyncio.ensure_future(counters.wait_zero("w"))
        _, _, method, _ = await peer.request()
        assert method == "wait_zero"
        after.cancel()
        waiting.cancel()
        await asyncio.wait([before, after, waiting])
        assert sorted(journal.take()) == [
            *(("CancelledError", "get"), ("CancelledError", "incr"), ("CancelledError", "wait_zero")),
            *(("start", "get"), ("start", "incr"), ("start", "wait_zero")),
        ]
        peer.reply(msgid, 7)  # nobody waits for it any more
        last = asyncio.ensure_future(counters.get("b"))
        while (message := await peer.request())[2] != "get":
            pass
        peer.reply(message[1], 8)
        assert await last == 8
        assert journal.take() == [("start", "get"), ("ok", "get")]
        await counters.close()
    assert set(journal.starts) == set(journal.ends)


@pytest.mark.usefixtures("_bye_is_not_answered")
async def test_calls_of_a_client_that_is_closed_end() -> None:
    journal = Journal()
    async with ScriptedServer() as server:
        counters, peer = await connected(naught.connect(server.url, **journal.hooks), server)
        calling = asyncio.ensure_future(counters.get("a"))
        await peer.request()
        await counters.close()
        with pytest.raises(naught.ClientClosed):
            await calling
    assert journal.take() == [("start", "get"), ("ClientClosed", "get")]


async def test_an_error_that_nobody_looks_at_is_still_reported() -> None:
    """Also where a hook has looked at it."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    journal = Journal()
    async with naught.connect("memory://", **journal.hooks) as counters:
        counters.decr("a", strict=True)
        await counters.ping()
    assert [call.outcome for call in journal.ends] == ["underflow", "ok"]
    error = journal.ends[0].error
    assert [context["exception"] for context in reported] == [error]
    assert reported[0]["message"].endswith("exception was never retrieved")


# ------------------------------------------------------------------------------------------------- threads


def test_in_threads_both_hooks_run_in_the_thread_of_the_call() -> None:
    seen: list[tuple[str, str, int]] = []
    with blocking.Client(
        "memory://",
        on_call_start=lambda call: seen.append(("start", call.method, threading.get_ident())),
        on_call_end=lambda call: seen.append(("end", call.method, threading.get_ident())),
    ) as counters:

        def work() -> int:
            for _ in range(50):
                counters.incr("a")
                counters.get("a")
            return threading.get_ident()

        with ThreadPoolExecutor(4) as pool:
            threads = [future.result() for future in [pool.submit(work) for _ in range(8)]]
        assert counters.get("a") == 400
    for thread in set(threads):
        own = [(what, method) for what, method, ident in seen if ident == thread]
        once = [("start", "incr"), ("end", "incr"), ("start", "get"), ("end", "get")]
        assert own == once * (len(own) // 4)
    assert len(seen) == 8 * 50 * 4 + 2


def test_a_hook_holds_no_lock_of_the_client() -> None:
    """While one thread is in its hook, others call."""
    inside, leave = threading.Event(), threading.Event()

    def on_end(call: ObservedCall) -> None:
        if call.method == "ping":
            inside.set()
            assert leave.wait(GUARD_S)

    with blocking.Client("memory://", timeout=GUARD_S, on_call_end=on_end) as counters:
        slow = threading.Thread(target=counters.ping)
        slow.start()
        assert inside.wait(GUARD_S)
        assert [counters.incr("a") for _ in range(3)] == [1, 2, 3]
        leave.set()
        slow.join()


class Interrupt(BaseException):
    """What the handler of a signal raises."""


def _raise_interrupt(*_: object) -> None:
    raise Interrupt


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """SIGUSR1 interrupts the main thread."""
    before = signal.signal(signal.SIGUSR1, _raise_interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("_interrupts")
def test_a_thread_that_is_interrupted_ends_its_call() -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals interrupt the main thread only")
    main = threading.main_thread().ident
    assert main is not None
    journal = Journal()

    def serve(listener: socket.socket) -> None:
        """Answer `hello`, and interrupt the client when its call has arrived."""
        peer, _ = listener.accept()
        with peer:
            while data := peer.recv(1 << 16):
                for message in requests_in(data):
                    if message[0] == 0 and message[2] == "hello":
                        peer.sendall(encode_result(message[1], HELLO_RESULT))
                    elif message[0] == 0 and message[2] == "get":
                        signal.pthread_kill(main, signal.SIGUSR1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        url = f"naught://127.0.0.1:{listener.getsockname()[1]}"
        with blocking.Client(url, session=False, timeout=GUARD_S, **journal.hooks) as counters:
            with pytest.raises(Interrupt):
                counters.get("a")
            assert journal.take() == [("start", "get"), ("Interrupt", "get")]
        server.join()


# ------------------------------------------------------------------------------------------------- the slow log


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


@both
async def test_a_call_is_found_in_the_slow_log_by_its_trace(kind: str, server: ServerProcess) -> None:
    def on_start(call: ObservedCall) -> None:
        call.traceparent = TRACE if call.method == "try_incr" else None

    url = f"naught://127.0.0.1:{server.port}"
    items = [(f"{kind}:{number}:{'x' * 200}", 1, 2**60) for number in range(1_024)]
    async with connect(kind, url, timeout=GUARD_S, on_call_start=on_start) as counters:
        await counters.slowlog_reset()
        for _ in range(1_000):  # until one took more than a millisecond
            await counters.try_incr(items)
            turns = [turn for turn in await counters.slowlog(128) if turn["method"] == "try_incr"]
            if turns:
                break
        turn = turns[0]
        assert turn["traceparent"] == TRACE
        assert turn["entries"] >= 10 + 6 * 1_024
        assert turn["received_bytes"] > 0
        assert turn["sent_bytes"] > 1_024
        assert turn["duration_us"] > 1_000
        assert turn["address"] == "127.0.0.1"
        assert turn["session"] >= 1
        assert all(turn["traceparent"] is None for turn in await counters.slowlog() if turn["method"] != "try_incr")
        assert await counters.slowlog_reset() >= 1
