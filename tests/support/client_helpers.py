"""Helpers for tests of the client.

FakeWaiter       the future of a call, without an event loop
SessionDriver    drives a `ClientSession` as an adapter would, step by step
ScriptedServer   a TCP server whose replies the test writes; each connection is a `Peer`
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgpack  # type: ignore[import-untyped]

from naught.core import calls
from naught.core.calls import Call
from naught.core.session import ClientSession
from naught.wire.codec import encode, encode_error, encode_key, encode_result
from naught_loadtest.drivers.servers import reserved_port

HELLO_RESULT = {"server": "naught", "version": "0", "cache": "default"}


class FakeWaiter:
    """The future of a call. As with a real future, it is an error to settle it twice."""

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
        """The result, or the class of the exception. The waiter must be settled."""
        assert self._done, "not settled"
        return type(self.error) if self.error is not None else self.result


def requests_in(data: bytes) -> list[list[Any]]:
    """The messages that a client has written as `data`."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
    unpacker.feed(data)
    return list(unpacker)


class SessionDriver:
    """A session without resumption, and methods that do what an adapter does. Time passes only when `now` is set."""

    def __init__(self, *, cache: str | None = None, connect: bool = True, observed: bool = False) -> None:
        self.woken = 0  # how often the session has called `wake`
        self.now = 100.0  # seconds
        self.session = ClientSession(cache=cache, wake=self._wake, observed=observed)
        self.handshake = FakeWaiter()  # of the latest connection
        if connect:
            self.connect()

    def _wake(self) -> None:
        self.woken += 1

    def connect(self) -> FakeWaiter:
        """A new connection, with `hello` answered. Returns the waiter of the handshake."""
        self.handshake = FakeWaiter()
        (hello,) = requests_in(self.session.connected(self.handshake))
        self.session.receive(encode_result(hello[1], HELLO_RESULT))
        return self.handshake

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
        """End the turn. Returns the requests that are written then."""
        self.session.end_turn(self.now)
        return self.write()

    def write(self) -> list[list[Any]]:
        """Take all output of the session. Returns its requests."""
        data = b""
        while self.session.has_output:
            data += self.session.output(self.now)
        return requests_in(data)

    # These are methods, because mypy assumes that a property which was False in one assertion stays False.

    def has_output(self) -> bool:
        return self.session.has_output

    def drained(self) -> bool:
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
    """One connection of a `ScriptedServer`. The test reads its requests and writes its replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    async def request(self) -> list[Any]:
        """The next request or notification. Raises EOFError when the client has closed the connection.

        The notification with which a client begins a connection is left out.
        """
        while True:
            for message in self._unpacker:
                assert isinstance(message, list)
                if message != [2, "\r\n\r\n", []]:
                    return message
            data = await self._reader.read(1 << 16)
            if not data:
                raise EOFError
            self._unpacker.feed(data)

    async def answer_hello(self) -> None:
        """Answer `hello` as a server that has just started: it knows no session, and opens one if asked to."""
        _, msgid, method, params = await self.request()
        assert method == "hello"
        wanted = params[0].get("session") if params else None
        if isinstance(wanted, bytes):
            self.reply_error(msgid, "no_session")
            await self.answer_hello()
        else:
            self.reply(msgid, HELLO_RESULT | ({"session": b"0123456789abcdef", "lease_ms": 10_000} if wanted else {}))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def reply(self, msgid: int, result: Any) -> None:
        self.send(encode_result(msgid, result))

    def reply_error(self, msgid: int, code: str) -> None:
        self.send(encode_error(msgid, code, "so"))

    async def ended(self) -> None:
        """Wait until the client has closed the connection; ignores what it sends."""
        try:
            while await self._reader.read(1 << 16):
                pass
        except ConnectionError:
            pass

    def pause(self) -> None:
        """Stop reading from the client."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


class ScriptedServer:
    """Listens on the loopback interface and passes every connection to the test.

    async with ScriptedServer() as server:
        client = ...connect(server.url)
        peer = await server.peer()
    """

    def __init__(self) -> None:
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()  # connections that the test has not taken
        self._all: list[Peer] = []  # every connection, to close them at the end
        self._over = False  # the block has ended
        self._server: asyncio.Server | None = None
        self._reserved = ExitStack()
        self.port = 0

    @property
    def url(self) -> str:
        return f"naught://127.0.0.1:{self.port}"

    async def __aenter__(self) -> ScriptedServer:
        self.port = self._reserved.enter_context(reserved_port())
        await self.listen()
        return self

    async def listen(self) -> None:
        """Accept connections, always on the same port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Stop accepting connections."""
        assert self._server is not None
        self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._over:  # it was accepted before the end, and is connected only now
            writer.transport.abort()
            return
        peer = Peer(reader, writer)
        self._all.append(peer)
        self._peers.put_nowait(peer)

    async def peer(self, *, answer_hello: bool = True) -> Peer:
        """The next connection, with its `hello` answered unless told otherwise."""
        peer = await self._peers.get()
        if answer_hello:
            await peer.answer_hello()
        return peer

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        self.refuse()
        for peer in self._all:
            peer.abort()
            await asyncio.gather(peer._writer.wait_closed(), return_exceptions=True)
        self._reserved.close()


async def connected(connecting: Any, server: ScriptedServer) -> tuple[Any, Peer]:
    """Connect a client. Returns it, and the server's end of its connection."""
    opening = asyncio.ensure_future(_awaited(connecting))
    peer = await server.peer()
    return await opening, peer


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def packed(values: Sequence[Any]) -> bytes:
    """The bytes of any messages, one after another."""
    return b"".join(encode(value) for value in values)
