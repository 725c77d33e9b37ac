"""The asyncio client over TCP against a `ScriptedServer`, with asyncio's event loop and with uvloop."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from random import Random
from typing import Any, TypeVar

import pytest
import uvloop

import naught
from naught.aio import connection
from naught.names import default_name
from naught.wire.codec import encode_result
from support.client_helpers import HELLO_RESULT, Peer, ScriptedServer, connected

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

GUARD_S = 30.0
"""The time limit of a test. A test normally takes less than a tenth of it."""


@pytest.fixture(autouse=True)
def _bye_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted server does not answer `bye`, and each test that closes its client would wait for the answer."""
    monkeypatch.setattr(connection, "BYE_TIMEOUT_S", 0.005)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    async def guarded(coroutine: Coroutine[Any, Any, T]) -> T:
        async with asyncio.timeout(GUARD_S):
            return await coroutine

    with asyncio.Runner(loop_factory=factory) as runner:
        yield lambda coroutine: runner.run(guarded(coroutine))


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """The result, or the class of the exception."""
    try:
        return await awaitable
    except Exception as error:
        return type(error)


async def until(true: Callable[[], bool]) -> None:
    """Let the event loop run until it is true."""
    while not true():  # noqa: ASYNC110 - the client does not notify of this state
        await asyncio.sleep(0)


async def turns(count: int = 5) -> None:
    """Let the event loop run `count` turns."""
    for _ in range(count):
        await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------------- connecting


def test_connecting_both_ways_and_closing_twice(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            entering = asyncio.ensure_future(enter(server.url))
            await (await server.peer()).ended()
            client = await entering
            with pytest.raises(naught.ClientClosed):
                client.incr("a")
            client, peer = await connected(naught.connect(server.url), server)
            await client.close()
            await client.aclose()
            await peer.ended()

    async def enter(url: str) -> naught.Client:
        async with naught.connect(url) as client:
            assert repr(client) == f"<naught.Client {url}>"
        assert repr(client) == f"<naught.Client {url} closed>"
        return client

    run(scenario())


def test_no_server_is_a_failed_connection_with_its_reason(run: Run[None]) -> None:
    async def scenario() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"naught://127.0.0.1:{unused.getsockname()[1]}"
            with pytest.raises(naught.ConnectionFailed, match=r"within 0\.05 s: .*(refused|failed)") as caught:
                await naught.connect(url, connect_timeout=0.05)
            assert isinstance(caught.value, ConnectionError)
            assert isinstance(caught.value.__cause__, OSError)

    run(scenario())


def test_a_server_that_comes_up_later_is_waited_for(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            server.refuse()
            connecting = asyncio.ensure_future(opened(naught.connect(server.url, connect_timeout=GUARD_S)))
            await turns()
            await server.listen()
            await server.peer()
            await (await connecting).close()

    run(scenario())


async def opened(connecting: Any) -> Any:
    return await connecting


def test_a_server_that_closes_what_it_accepts_is_no_connection(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            closing = asyncio.ensure_future(close_all(server))
            with pytest.raises(naught.ConnectionFailed, match=r"closed the connection|reset"):
                await naught.connect(server.url, connect_timeout=0.2)
            closing.cancel()

    async def close_all(server: ScriptedServer) -> None:
        while True:
            (await server.peer(answer_hello=False)).close()

    run(scenario())


def test_a_refused_cache_raises_what_the_server_said_at_once(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            connecting = asyncio.ensure_future(opened(naught.connect(f"{server.url}/nope", connect_timeout=GUARD_S)))
            peer = await server.peer(answer_hello=False)
            _, msgid, method, params = await peer.request()
            assert (method, params) == ("hello", [{"cache": "nope", "session": True, "name": default_name()}])
            peer.reply_error(msgid, "invalid")
            assert await outcome(connecting) is naught.InvalidRequest

    run(scenario())


def test_cancelling_while_connecting_leaves_nothing_open(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            connecting = asyncio.ensure_future(opened(naught.connect(server.url)))
            peer = await server.peer(answer_hello=False)
            await peer.request()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await peer.ended()

    run(scenario())


@pytest.mark.parametrize("options", [{"timeout": "1"}, {"connect_timeout": 0}, {"connect_timeout": None}])
def test_bad_options_raise_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(naught.InvalidRequest):
        naught.connect("naught://localhost", **options)


# ------------------------------------------------------------------------------------------------- a turn


def test_the_calls_of_a_turn_share_a_message_and_a_lone_one_waits_for_nobody(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url), server)
            both = asyncio.gather(client.incr("a"), client.decr("b", 3), client.get("a"))
            _, msgid, method, params = await peer.request()
            assert (method, params) == ("apply", [[b"a", b"b"], [1, -3]])
            _, other, method, params = await peer.request()
            assert (method, params) == ("get", [b"a"])
            peer.reply(other, 9)
            peer.reply(msgid, [1, 0])
            assert list(await both) == [1, 0, 9]
            alone = client.incr("c", 4, ttl_ms=100)
            _, msgid, method, params = await peer.request()
            assert (method, params) == ("incr", [b"c", 4, 100])
            peer.reply(msgid, 4)
            assert await alone == 4
            await client.close()

    run(scenario())


def test_bad_arguments_raise_from_the_call_and_spoil_nothing(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url), server)
            good = asyncio.gather(client.incr("a"), client.incr("\udcff"), client.incr(b"b"))
            bad: list[Any] = ["", "k" * 513, b"", 5, None, "ä" * 257]
            for key in bad:
                for method in (client.incr, client.decr):
                    with pytest.raises(ValueError, match="a key"):
                        method(key)
            amounts: list[Any] = [0, -1, True, 1.0, "1", 2**63]
            for by in amounts:
                with pytest.raises(naught.InvalidRequest, match="by is"):
                    client.incr("a", by)
                with pytest.raises(naught.InvalidRequest, match="by is"):
                    client.decr("a", by)
            _, msgid, _, params = await peer.request()
            assert params == [[b"a", b"\xff", b"b"], 1]
            peer.reply(msgid, [1, 2, 3])
            assert list(await good) == [1, 2, 3]
            await client.close()

    run(scenario())


def test_one_timer_serves_all_calls(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url), server)
            connection = client._connection
            made = 0
            set_timer = connection._set_timer

            def counted(due: float) -> None:
                nonlocal made
                made += 1
                set_timer(due)

            monkeypatch.setattr(connection, "_set_timer", counted)
            for value in range(200):
                call = client.incr("a", timeout=20.0)
                peer.reply((await peer.request())[1], value)
                assert await call == value
            assert made == 1
            await client.close()

    run(scenario())


# ------------------------------------------------------------------------------------------------- deadlines


def test_an_unanswered_call_times_out_and_the_connection_goes_on(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=0.05), server)
            late = client.incr("a")
            slow = await peer.request()
            with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s") as caught:
                await late
            assert isinstance(caught.value, naught.CallTimeout)
            call = client.get("b", timeout=None)
            _, msgid, _, _ = await peer.request()
            assert msgid != slow[1]
            peer.reply(slow[1], 111)
            peer.reply(msgid, 2)
            assert await call == 2
            await client.close()

    run(scenario())


def test_a_call_without_connection_times_out_unsent(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url), server)
            server.refuse()
            peer.abort()
            in_doubt = await outcome(client.get("a", timeout=0.05))
            assert in_doubt is naught.CallTimeout
            with pytest.raises(naught.CallTimeout, match=r"not sent within 0\.05 s: ") as caught:
                await client.incr("a", timeout=0.05)
            assert isinstance(caught.value.__cause__, OSError)
            await client.close()

    run(scenario())


def test_every_deadline_has_its_turn(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, _ = await connected(naught.connect(server.url), server)
            calls = [client.get("a", timeout=seconds) for seconds in (0.06, 0.02, 0.04, 0)]
            assert [await outcome(call) for call in calls] == [naught.CallTimeout] * 4
            await client.close()

    run(scenario())


# ------------------------------------------------------------------------------------------------- lost connections


def test_a_lost_reply_leaves_a_change_in_doubt_and_a_read_is_repeated(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, session=False, random=Random(1)), server)
            change, read = client.incr("a"), client.get("b", timeout=None)
            await peer.request()
            await peer.request()
            peer.abort()
            with pytest.raises(naught.OutcomeUnknown) as caught:
                await change
            assert isinstance(caught.value, ConnectionError)
            peer = await server.peer()
            _, msgid, method, _ = await peer.request()
            assert method == "get"
            later = client.incr("c")
            peer.reply(msgid, 5)
            assert await read == 5
            peer.reply((await peer.request())[1], 6)
            assert await later == 6
            await client.close()

    run(scenario())


def test_what_was_called_without_connection_is_sent_on_the_next(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            server.refuse()
            peer.abort()
            await until(lambda: client._connection._protocol is None)
            calls = [client.incr("a"), client.incr("b")]
            await turns()
            calls.append(client.incr("c"))
            await turns()
            await server.listen()
            peer = await server.peer()
            for result in ([1, 2], 3):
                _, msgid, _, _ = await peer.request()
                peer.reply(msgid, result)
            assert await asyncio.gather(*calls) == [1, 2, 3]
            await client.close()

    run(scenario())


@pytest.mark.parametrize("kind", ["read", pytest.param("change", marks=pytest.mark.slow)])
def test_a_reply_cut_at_every_byte(run: Run[None], kind: str) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(
                naught.connect(server.url, timeout=None, session=False, random=Random(2)), server
            )
            client._connection._backoff.BOUND_MAX = 0.001
            for cut in range(1, 14):
                call = client.incr("a") if kind == "change" else client.get("a")
                _, msgid, _, _ = await peer.request()
                reply = encode_result(msgid, 1 << 40)
                peer.send(reply[:cut])
                peer.close()
                if cut < len(reply):
                    if kind == "change":
                        assert await outcome(call) is naught.OutcomeUnknown
                    peer = await server.peer()
                    if kind == "read":
                        _, msgid, _, _ = await peer.request()
                        peer.reply(msgid, 7)
                        assert await call == 7
                else:
                    assert await call == 1 << 40
                    peer = await server.peer()
            await client.close()

    run(scenario())


GARBAGE = {
    "no MessagePack": b"\xc1",
    "text": b"ERR unknown\r\n",
    "a reply nobody awaits": encode_result(999, 1),
    "too much": b"\xdb\x7f\xff\xff\xff" + b"x" * (2 << 20),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_the_connection_and_the_next_one_serves(
    run: Run[None], garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None, session=False), server)
            change, read = client.incr("a"), client.get("b")
            await peer.request()
            peer.send(garbage)
            assert await outcome(change) is naught.OutcomeUnknown
            await peer.ended()
            peer = await server.peer()
            _, msgid, _, params = await peer.request()
            assert params == [b"b"]
            peer.reply(msgid, 3)
            assert await read == 3
            await client.close()

    with caplog.at_level(logging.WARNING, logger="naught"):
        run(scenario())
    assert [record.levelname for record in caplog.records if record.name == "naught"] == ["ERROR", "WARNING"]


def test_a_stopping_server_is_left_and_what_it_refused_runs_on_the_next(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            calls = [client.incr("a"), client.get("z"), client.incr("b")]
            for _ in calls:
                peer.reply_error((await peer.request())[1], "shutting_down")
            await peer.ended()
            peer = await server.peer()
            seen = []
            for _ in calls:
                _, msgid, _, params = await peer.request()
                seen.append(params[0])
                peer.reply(msgid, len(seen))
            assert seen == [b"a", b"z", b"b"]
            assert await asyncio.gather(*calls) == [1, 2, 3]
            await client.close()

    run(scenario())


def test_a_connection_lost_behind_the_greeting_is_replaced(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            client._connection._backoff.BOUND_MAX = 0.001
            call = client.get("a")
            for _ in range(5):
                peer.abort()
                peer = await server.peer(answer_hello=False)
                _, msgid, _, _ = await peer.request()
                peer.reply(msgid, HELLO_RESULT)
                peer.close()  # the client reads the reply and the end together
            peer = await server.peer()
            peer.reply((await peer.request())[1], 4)
            assert await call == 4
            await client.close()

    run(scenario())


def test_a_greeting_with_garbage_behind_it_is_no_connection(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            client._connection._backoff.BOUND_MAX = 0.001
            call = client.get("a")
            peer.abort()
            for _ in range(3):
                peer = await server.peer(answer_hello=False)
                peer.send(encode_result((await peer.request())[1], HELLO_RESULT) + b"\xc1")
                await peer.ended()
            peer = await server.peer()
            peer.reply((await peer.request())[1], 4)
            assert await call == 4
            await client.close()

    run(scenario())


def test_a_closing_transport_gets_no_calls(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    class Closing:
        def is_closing(self) -> bool:
            return True

    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            monkeypatch.setattr(client._connection._protocol, "transport", Closing())
            call = client.incr("a")
            await turns()
            peer.abort()
            peer = await server.peer()
            peer.reply((await peer.request())[1], 4)
            assert await call == 4, "it was not sent, so its outcome is known"
            await client.close()

    run(scenario())


def test_a_connection_that_was_let_go_of_is_not_listened_to(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            old = client._connection._protocol
            peer.send(b"\xc1")
            peer = await server.peer()
            call = client.get("a")
            old.data_received(b"\x94\x01")
            old.resume_writing()
            old.connection_lost(None)
            peer.reply((await peer.request())[1], 4)
            assert await call == 4
            await client.close()

    run(scenario())


def test_a_server_that_served_is_looked_for_without_delay_again(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            for value in range(10):
                call = client.incr("a")
                peer.reply((await peer.request())[1], value)
                assert await call == value
                peer.abort()
                peer = await server.peer()
            assert client._connection._backoff._failures == 1
            await client.close()

    run(scenario())


# ------------------------------------------------------------------------------------------------- a slow server


def test_a_server_that_does_not_read_holds_the_client_back_within_bounds(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            peer.pause()
            keys = [f"{place:0500}" for place in range(1_000)]
            calls = [client.get_many(keys) for _ in range(100)]  # 50 MB: more than the socket buffers hold
            await until(lambda: client._connection._protocol.writing_paused)
            later = client.incr("later")
            await turns(50)
            session = client._connection.session
            unsent = len(session._queue)
            assert unsent > 20
            assert client._connection._protocol.transport.get_write_buffer_size() < 4 << 20
            gone, calls = calls[-1], calls[:-1]
            gone.cancel()
            peer.resume()
            # The server answers only after it has read every request, so the client must continue to write.
            for _, msgid, method, params in [await peer.request() for _ in calls]:
                assert method == "get_many"
                peer.reply(msgid, [1] * len(params[0]))
            peer.reply((await peer.request())[1], 7)
            assert await later == 7
            assert [sum(values) for values in await asyncio.gather(*calls)] == [1_000] * 99
            await client.close()

    run(scenario())


def test_more_calls_than_the_window_all_get_answered(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url, timeout=None), server)
            answering = asyncio.ensure_future(answer(peer))
            results = await asyncio.gather(*(client.get(f"{place}") for place in range(5_000)))
            assert results == list(range(5_000))
            await client.close()
            await answering

    async def answer(peer: Peer) -> None:
        try:
            while True:
                kind, *rest = await peer.request()
                if kind == 0:  # a request; acknowledgements are notifications
                    msgid, _, (key,) = rest
                    peer.reply(msgid, int(key))
        except EOFError:
            pass

    run(scenario())


# ------------------------------------------------------------------------------------------------- the end


def test_closing_ends_calls_in_flight_queued_and_fresh(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url), server)
            calls = [client.incr("a")]
            await peer.request()
            calls.append(client.get("b"))
            await client.close()
            assert [await outcome(call) for call in calls] == [naught.ClientClosed] * 2
            await peer.ended()

    run(scenario())


def test_closing_ends_the_search_for_a_server(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url), server)
            server.refuse()
            peer.abort()
            call = client.get("a")
            await until(lambda: client._connection._reconnect_task is not None)
            await client.close()
            assert await outcome(call) is naught.ClientClosed
            assert len(asyncio.all_tasks()) <= 2 + len(server._all)

    run(scenario())


def forget(clients: list[naught.Client]) -> None:
    clients.clear()
    gc.collect()


def test_closing_ends_at_whatever_turn_of_connecting_it_comes(run: Run[None]) -> None:
    """uvloop does not say that a transport is closed whose making was cancelled."""

    async def scenario() -> None:
        async with ScriptedServer() as server:
            for count in [*range(40)] * 3:
                client = naught.connect(server.url, lazy=True)
                call = asyncio.ensure_future(outcome(client.incr("k")))
                await turns(count)
                async with asyncio.timeout(GUARD_S / 4):
                    await client.close()
                assert await call in {naught.ClientClosed, naught.OutcomeUnknown}

    run(scenario())


def test_a_forgotten_client_warns_and_lets_go(run: Run[None]) -> None:
    async def scenario() -> None:
        async with ScriptedServer() as server:
            client, peer = await connected(naught.connect(server.url), server)
            await turns()  # the loop's handle of the current step refers to the client too
            forgotten = [client]
            del client
            with pytest.warns(ResourceWarning, match=r"unclosed <naught\.Client naught://"):
                forget(forgotten)
            await peer.ended()

    run(scenario())
