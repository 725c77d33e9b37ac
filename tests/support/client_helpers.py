"""What the client's tests share: a waiter without a loop, the wire's other end, a server that does as told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]

from naught.core import calls
from naught.core.calls import Call
from naught.core.session import ClientSession
from naught.wire.codec import encode, encode_error, encode_key, encode_result

HELLO_RESULT = {"server": "naught", "version": "0", "cache": "default"}


class FakeWaiter:
    """A caller. Being settled twice is an error, as it is for a future."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.cancelled = False
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Any, /) -> None:
        assert not self._done, "settled twice"
        self._done = True
        self.result = result

    def set_exception(self, exception: BaseException, /) -> None:
        assert not self._done, "settled twice"
        self._done = True
        self.error = exception

    def cancel(self) -> None:
        if not self._done:
            self._done = self.cancelled = True

    @property
    def outcome(self) -> Any:
        """The result, or the class of the exception."""
        assert self._done, "not settled"
        return type(self.error) if self.error is not None else self.result


def requests_in(data: bytes) -> list[list[Any]]:
    """What a client wrote, message by message."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
    unpacker.feed(data)
    return list(unpacker)


class Desk:
    """A session and what an adapter would do with it, by hand."""

    def __init__(self, *, cache: str | None = None, connect: bool = True) -> None:
        self.woken = 0
        self.now = 100.0
        self.session = ClientSession(cache=cache, wake=self._wake)
        self.greeted = FakeWaiter()
        if connect:
            self.connect()

    def _wake(self) -> None:
        self.woken += 1

    def connect(self) -> FakeWaiter:
        """A new connection, greeted."""
        self.greeted = FakeWaiter()
        (hello,) = requests_in(self.session.connected(self.greeted))
        self.session.receive(encode_result(hello[1], HELLO_RESULT))
        return self.greeted

    def incr(
        self, key: str = "k", delta: int = 1, *, ttl_ms: int | None = None, timeout: float | None = 1.0
    ) -> FakeWaiter:
        waiter = FakeWaiter()
        self.session.change(encode_key(key), delta, ttl_ms, timeout, waiter)
        return waiter

    def ask(self, call: Call[Any], *, timeout: float | None = 1.0) -> FakeWaiter:
        waiter = FakeWaiter()
        self.session.ask(call, timeout, waiter)
        return waiter

    def get(self, key: str = "k", *, timeout: float | None = 1.0) -> FakeWaiter:
        return self.ask(calls.get(key), timeout=timeout)

    def turn(self) -> list[list[Any]]:
        """End the turn; the requests that are written then."""
        self.session.end_turn(self.now)
        return self.write()

    def write(self) -> list[list[Any]]:
        data = b""
        while self.session.has_output:
            data += self.session.output(self.now)
        return requests_in(data)

    # Methods, for a type checker takes a property it has seen false to stay so.

    def has_output(self) -> bool:
        return self.session.has_output

    def finished(self) -> bool:
        return self.session.drained

    def served(self) -> bool:
        return self.session.served

    def reply(self, msgid: int, result: Any) -> None:
        self.session.receive(encode_result(msgid, result))

    def reply_error(self, msgid: int, code: str, message: str = "so") -> None:
        self.session.receive(encode_error(msgid, code, message))

    def lose(self) -> ConnectionResetError:
        """Break the connection."""
        error = ConnectionResetError("cut")
        self.session.disconnected(error, self.now)
        return error


class Peer:
    """One connection of a `ScriptedServer`, driven by the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    async def request(self) -> list[Any]:
        """The next request; EOFError when there will be none."""
        while True:
            for message in self._unpacker:
                assert isinstance(message, list)
                return message
            data = await self._reader.read(1 << 16)
            if not data:
                raise EOFError
            self._unpacker.feed(data)

    async def greet(self) -> None:
        """Answer `hello` as a server that has just started: it opens sessions, and knows none."""
        _, msgid, method, params = await self.request()
        assert method == "hello"
        wanted = params[0].get("session") if params else None
        if isinstance(wanted, bytes):
            self.reply_error(msgid, "no_session")
            await self.greet()
        else:
            self.reply(msgid, HELLO_RESULT | ({"session": b"0123456789abcdef", "lease_ms": 10_000} if wanted else {}))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def reply(self, msgid: int, result: Any) -> None:
        self.send(encode_result(msgid, result))

    def reply_error(self, msgid: int, code: str) -> None:
        self.send(encode_error(msgid, code, "so"))

    async def ended(self) -> None:
        """Wait until the client has closed, reading nothing of meaning."""
        try:
            while await self._reader.read(1 << 16):
                pass
        except ConnectionError:
            pass

    def pause(self) -> None:
        """Read no more from the client."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


class ScriptedServer:
    """Listens on loopback and hands every connection to the test.

    async with ScriptedServer() as server:
        client = ...connect(server.url)
        peer = await server.peer()
    """

    def __init__(self) -> None:
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._all: list[Peer] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"naught://127.0.0.1:{self.port}"

    async def __aenter__(self) -> ScriptedServer:
        await self.listen()
        return self

    async def listen(self) -> None:
        """Take connections, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Take no more connections."""
        assert self._server is not None
        self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self._all.append(peer)
        self._peers.put_nowait(peer)

    async def peer(self, *, greet: bool = True) -> Peer:
        """The next connection."""
        peer = await self._peers.get()
        if greet:
            await peer.greet()
        return peer

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        for peer in self._all:
            peer.abort()
            await asyncio.gather(peer._writer.wait_closed(), return_exceptions=True)


async def greeted(connecting: Any, server: ScriptedServer) -> tuple[Any, Peer]:
    """Connect a client; it and the server's end of its connection."""
    opening = asyncio.ensure_future(_awaited(connecting))
    peer = await server.peer()
    return await opening, peer


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def packed(values: Sequence[Any]) -> bytes:
    """Any messages, one after another."""
    return b"".join(encode(value) for value in values)
