"""The client logs in with each `hello`, asks for its secret each time, and does not retry a refusal as an outage."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

import naught
from naught.errors import Denied, InvalidRequest, Unauthenticated
from support.client_helpers import Peer, ScriptedServer, connected

SECRET = "hunter2 hunter2"


class Greatest(Random):
    """Pauses are as long as they may be, and are noted."""

    def __init__(self) -> None:
        super().__init__(1)
        self.bounds: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append(b)
        return b


async def hello_of(server: ScriptedServer) -> tuple[Peer, int, dict[str, Any]]:
    peer = await server.peer(answer_hello=False)
    _, msgid, method, params = await peer.request()
    assert method == "hello"
    return peer, msgid, params[0]


async def test_hello_says_who_it_is_also_when_it_resumes() -> None:
    async with ScriptedServer() as server:
        connecting = naught.connect(server.url, user="me", secret=SECRET)
        opening = asyncio.ensure_future(_open(connecting))
        peer, msgid, words = await hello_of(server)
        assert (words["user"], words["secret"], words["session"]) == (b"me", SECRET.encode(), True)
        peer.reply(msgid, {"server": "naught", "version": "1", "session": b"0123456789abcdef", "lease_ms": 9_000})
        client = await opening
        peer.abort()
        peer, msgid, words = await hello_of(server)
        assert (words["user"], words["secret"]) == (b"me", SECRET.encode())
        assert words["session"] == b"0123456789abcdef"
        peer.reply_error(msgid, "no_session")
        _, msgid, _, (words,) = await peer.request()
        assert "secret" not in words, "it is logged in on this connection"
        assert words["session"] is True
        await client.close()


async def _open(connecting: Any) -> naught.Client[str]:
    client: naught.Client[str] = await connecting
    return client


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_function_is_asked_at_each_attempt(kind: str) -> None:
    tokens = iter(f"token {number}" for number in range(9))

    def token() -> str:
        return next(tokens)

    async def later() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    async with ScriptedServer() as server:
        secret: Any = token if kind == "sync" else later
        opening = asyncio.ensure_future(_open(naught.connect(server.url, user="me", secret=secret)))
        for number in range(3):
            peer, msgid, words = await hello_of(server)
            assert words["secret"] == b"token %d" % number
            if number:
                peer.reply_error(msgid, "no_session")
                await peer.answer_hello()
            else:
                peer.reply(msgid, {"server": "naught", "session": b"0123456789abcdef", "lease_ms": 9_000})
            await opening
            if number < 2:
                peer.abort()
        await opening.result().close()


async def test_what_the_function_raises_is_a_failed_attempt() -> None:
    calls = []

    def token() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the service of tokens is away")
        return "token 12"

    async with ScriptedServer() as server:
        client, _ = await connected(naught.connect(server.url, user="me", secret=token), server)
        assert len(calls) == 2
        await client.close()


async def test_a_function_that_returns_no_text_is_an_error_at_once() -> None:
    async with ScriptedServer() as server:
        with pytest.raises(InvalidRequest, match="a secret is a str, not bytes"):
            await naught.connect(server.url, user="me", secret=lambda: b"hunter2")  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "kind"), [("unauthenticated", Unauthenticated), ("denied", Denied)])
async def test_a_refusal_is_an_error_at_once(code: str, kind: type[Exception]) -> None:
    async with ScriptedServer() as server:
        opening = asyncio.ensure_future(_open(naught.connect(server.url, user="me", secret=SECRET)))
        peer, msgid, _ = await hello_of(server)
        peer.reply_error(msgid, code)
        with pytest.raises(kind):
            await opening
        assert isinstance(opening.exception(), PermissionError)
        await peer.ended()


async def test_a_refusal_later_is_told_to_all_callers_and_is_not_retried_like_an_outage() -> None:
    pauses = Greatest()
    async with ScriptedServer() as server:
        client, peer = await connected(naught.connect(server.url, user="me", secret=SECRET, random=pauses), server)
        waiting = [asyncio.ensure_future(client.incr("a")), asyncio.ensure_future(client.get("b"))]
        for _ in range(2):
            await peer.request()
        peer.abort()
        peer, msgid, words = await hello_of(server)
        late = asyncio.ensure_future(client.incr("c"))
        await asyncio.sleep(0)
        assert words["session"] == b"0123456789abcdef", "it would resume its session"
        pauses.bounds.clear()
        peer.reply_error(msgid, "unauthenticated")
        await peer.ended()
        for call in (late,):
            with pytest.raises(Unauthenticated):
                await call
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await client.incr("d")
        assert pauses.bounds == [1.0], "one attempt is due in a second, and none before"
        await client.close()
        for call in waiting:
            with pytest.raises(naught.NaughtError):
                await call


async def test_calls_go_on_when_the_server_takes_the_user_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedServer() as server:
        client, peer = await connected(naught.connect(server.url, user="me", secret=SECRET), server)
        client._connection._refused_backoff._base = 0.001
        peer.abort()
        peer, msgid, _ = await hello_of(server)
        peer.reply_error(msgid, "unauthenticated")
        peer, msgid, _ = await hello_of(server)
        call = asyncio.ensure_future(client.get("a"))  # while the next attempt is under way, calls wait for it
        peer.reply_error(msgid, "no_session")
        await peer.answer_hello()
        _, msgid, *_ = await peer.request()
        peer.reply(msgid, 7)
        assert await call == 7
        await client.close()


async def test_a_denied_call_is_an_error_of_its_own_and_nothing_else() -> None:
    async with ScriptedServer() as server:
        client, peer = await connected(naught.connect(server.url), server)
        call = asyncio.ensure_future(client.clear())
        _, msgid, *_ = await peer.request()
        peer.reply_error(msgid, "denied")
        with pytest.raises(Denied):
            await call
        assert client.connected
        await client.close()


async def test_one_denied_key_does_not_hurt_the_calls_that_travel_with_it() -> None:
    async with ScriptedServer() as server:
        client, peer = await connected(naught.connect(server.url), server)
        calls = [asyncio.ensure_future(client.incr(key)) for key in ("mine", "other")]
        _, msgid, method, _ = await peer.request()
        assert method == "apply"
        peer.reply(msgid, [1, ["denied", "so"]])
        assert await calls[0] == 1
        with pytest.raises(Denied):
            await calls[1]
        await client.close()
