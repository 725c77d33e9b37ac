"""A server that speaks naught's protocol and misbehaves on purpose: it lies, stalls, hangs up, or answers garbage.

It has as much of the protocol as the load-test harness uses. How it misbehaves is a `Fault`, one class for each way;
the base class behaves well. `support.listening` runs it in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgpack  # type: ignore[import-untyped]


def pack(message: object) -> bytes:
    packed: bytes = msgpack.packb(message)
    return packed


class Fault:
    """Behaves well. Others override a method."""

    def __init__(self) -> None:
        # The counters.
        self.counters: dict[bytes, int] = {}
        # Changes so far, and replies so far.
        self.changes = 0
        self.replies = 0

    def change(self, key: bytes, delta: int) -> int:
        """Execute an increment or decrement. Returns what is answered."""
        self.changes += 1
        return self.add(key, delta)

    def add(self, key: bytes, delta: int) -> int:
        """Change a counter as it should be."""
        value = max(0, self.counters.get(key, 0) + delta)
        if value:
            self.counters[key] = value
        else:
            self.counters.pop(key, None)
        return value

    def read(self, key: bytes) -> int:
        """What the harness is told when it compares the counters."""
        return self.counters.get(key, 0)

    def count(self, prefix: bytes) -> Any:
        """How many counters there are."""
        return sum(key.startswith(prefix) for key in self.counters)

    def reply(self, msgid: int, result: Any) -> bytes:
        """The bytes of a reply to a request of the load."""
        self.replies += 1
        return pack([1, msgid, None, result])

    async def before(self, writer: asyncio.StreamWriter) -> None:
        """Called for every connection and for every chunk of requests that arrives on it."""


class Misbehaving:
    """The server."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault or Fault()
        # Filled in when it listens.
        self.port = 0
        # Connections accepted so far.
        self.accepted = 0
        # Who waits for a permit: (connection, message id, key, amount, limit). And all holds so far: (key, amount).
        self._waiting: list[tuple[asyncio.StreamWriter, int, bytes, int, int]] = []
        self._holds: list[tuple[bytes, int]] = []

    @property
    def url(self) -> str:
        return f"naught://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.accepted += 1
        unpacker = msgpack.Unpacker(raw=True)
        try:
            while data := await reader.read(1 << 16):
                unpacker.feed(data)
                requests = list(unpacker)
                if any(request[2] in LOAD for request in requests):
                    await self.fault.before(writer)
                # A notification has no answer.
                asked = [request for request in requests if request[0] == 0]
                writer.write(b"".join(self._answer(writer, *request[1:]) for request in asked))
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _answer(self, writer: asyncio.StreamWriter, msgid: int, method: bytes, params: list[Any]) -> bytes:
        fault = self.fault
        if method == b"acquire":
            self._waiting.append((writer, msgid, *params[0][0]))
            self._grant()
            return b""
        if method in LOAD:
            return fault.reply(msgid, self._execute(method, params))
        result: Any = None
        if method == b"get_many":
            result = [fault.read(key) for key in params[0]]
        elif method == b"hello":
            result = {"protocol": 1}
        elif method == b"count":
            result = fault.count(params[0])
        elif method == b"take":
            result = [fault.counters.pop(key, 0) for key in params[0]]
        elif method == b"info":
            result = {"version": "of a test", "caches": {"default": {"counters": 0, "evictions": {"zero": 0}}}}
        return pack([1, msgid, None, result])

    def _grant(self) -> None:
        """Answer those who wait for a permit and can have it now, in their order."""
        waiting, self._waiting = self._waiting, []
        for writer, msgid, key, by, limit in waiting:
            if self.fault.counters.get(key, 0) + by > limit:
                self._waiting.append((writer, msgid, key, by, limit))
                continue
            self._holds.append((key, by))
            value = self.fault.change(key, by)
            writer.write(self.fault.reply(msgid, [True, [value], len(self._holds)]))

    def _execute(self, method: bytes, params: list[Any]) -> Any:
        fault = self.fault
        if method == b"release":
            key, by = self._holds[params[0] - 1]
            value = fault.change(key, -by)
            self._grant()
            return [value]
        if method == b"try_incr":
            ((key, by, limit),) = params[0]
            value = fault.counters.get(key, 0)
            return [True, [fault.change(key, by)]] if value + by <= limit else [False, [value]]
        if method == b"apply":
            keys, deltas = params
            deltas = [deltas] * len(keys) if isinstance(deltas, int) else deltas
            return [fault.change(key, delta) for key, delta in zip(keys, deltas, strict=True)]
        if method == b"get":
            return fault.read(params[0])
        by = params[1] if len(params) > 1 else 1
        return fault.change(params[0], by if method == b"incr" else -by)


LOAD = (b"incr", b"decr", b"get", b"apply", b"try_incr", b"acquire", b"release")


class DropsIncrements(Fault):
    """Every third increment is acknowledged with the value it should have, and dropped."""

    def change(self, key: bytes, delta: int) -> int:
        self.changes += 1
        if delta > 0 and self.changes % 3 == 0:
            return self.counters.get(key, 0) + delta
        return self.add(key, delta)


class DoublesDecrements(Fault):
    """Every decrement is executed twice."""

    def change(self, key: bytes, delta: int) -> int:
        return self.add(key, 2 * delta if delta < 0 else delta)


class AnswersWrongValues(Fault):
    """The counters are right. Every seventh change is answered by a value that is one too high."""

    def change(self, key: bytes, delta: int) -> int:
        value = super().change(key, delta)
        return value + 1 if self.changes % 7 == 0 else value


class AnswersWrongIds(Fault):
    """Every reply has the message id of the next request."""

    def reply(self, msgid: int, result: Any) -> bytes:
        return super().reply(msgid + 1, result)


class AnswersOneWrongId(Fault):
    """One reply of all has a wrong message id."""

    def reply(self, msgid: int, result: Any) -> bytes:
        return super().reply(msgid + 7 if self.replies == 20 else msgid, result)


class AnswersFloats(Fault):
    """Every fifth value is a float that is equal to the right number."""

    def change(self, key: bytes, delta: int) -> Any:
        value = super().change(key, delta)
        return float(value) if self.changes % 5 == 0 else value


class AnswersNil(Fault):
    """Every ninth reply says nil."""

    def reply(self, msgid: int, result: Any) -> bytes:
        return super().reply(msgid, None if self.replies % 9 == 8 else result)


class AnswersTwice(Fault):
    """One reply of all is sent twice."""

    def reply(self, msgid: int, result: Any) -> bytes:
        data = super().reply(msgid, result)
        return data + data if self.replies == 20 else data


class LosesCounters(Fault):
    """After every eleventh change a counter is forgotten."""

    def change(self, key: bytes, delta: int) -> int:
        value = super().change(key, delta)
        if self.changes % 11 == 0 and self.counters:
            del self.counters[next(iter(self.counters))]
        return value


class KeepsZeros(Fault):
    """A counter that reaches zero stays, and is counted."""

    def add(self, key: bytes, delta: int) -> int:
        self.counters[key] = max(0, self.counters.get(key, 0) + delta)
        return self.counters[key]


class StoresNothing(Fault):
    """All replies are right, from a memory that nobody else can read."""

    def read(self, key: bytes) -> int:
        return 0

    def count(self, prefix: bytes) -> int:
        return 0


class StopsWhenLookedAt(Fault):
    """From the first comparison of the counters on, decrements are acknowledged and dropped."""

    looked_at = False

    def read(self, key: bytes) -> int:
        self.looked_at = True
        return super().read(key)

    def change(self, key: bytes, delta: int) -> int:
        if self.looked_at and delta < 0:
            return max(0, self.counters.get(key, 0) + delta)
        return super().change(key, delta)


LIES = (
    DropsIncrements,
    DoublesDecrements,
    AnswersWrongValues,
    AnswersWrongIds,
    AnswersOneWrongId,
    AnswersFloats,
    AnswersNil,
    AnswersTwice,
    LosesCounters,
    KeepsZeros,
    StoresNothing,
    StopsWhenLookedAt,
)


class HangsUp(Fault):
    """Closes the connection with every 7th chunk of requests, unanswered."""

    chunks = 0

    async def before(self, writer: asyncio.StreamWriter) -> None:
        self.chunks += 1
        if self.chunks % 7 == 0:
            raise ConnectionError


class HangsUpAlways(Fault):
    """Closes every connection of the load as soon as it sends something."""

    async def before(self, writer: asyncio.StreamWriter) -> None:
        raise ConnectionError


class NeverAnswers(Fault):
    """Reads requests of the load and answers none."""

    async def before(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()


class AnswersGarbage(Fault):
    """Answers the load in another protocol."""

    def reply(self, msgid: int, result: Any) -> bytes:
        return b"HTTP/1.1 400 Bad Request\r\n\r\n"


class NeverEndsAReply(Fault):
    """Begins one reply and goes on with it for ever."""

    async def before(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x94\x01\xce\x00\x01\x00\x00\xc0\xdb\x7f\xff\xff\xff")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            # A drain alone need not give way to anything else.
            await asyncio.sleep(0)


class Refuses(Fault):
    """Refuses every fifth change if it is an increment, as a full cache does."""

    def reply(self, msgid: int, result: Any) -> bytes:
        if result is REFUSED:
            return pack([1, msgid, ["full", "no room"], None])
        if isinstance(result, list):
            return pack([1, msgid, None, [["full", "no room"] if item is REFUSED else item for item in result]])
        return super().reply(msgid, result)

    def change(self, key: bytes, delta: int) -> Any:
        self.changes += 1
        return REFUSED if delta > 0 and self.changes % 5 == 0 else self.add(key, delta)


REFUSED = object()
