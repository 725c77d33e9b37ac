"""After the load: a tail to where there is something to compare, and the decrements that undo an unfinished cycle.

A run stops in the middle of the cycles, and there the counters are compared for the first time. A connection that
happens to be where all its counters are zero first goes on a little (`Tail`). So that an
up-and-down workload really ends at zero, every connection then sends one *closing decrement* for each key that it has
raised, by the amount that it has added and not yet subtracted. These requests are in no figure. Afterwards the
counters are compared again.
"""

from __future__ import annotations

import asyncio

from naught_loadtest.drivers.base import Driver, ProtocolFaultError
from naught_loadtest.generate.encoding import EncodedScript, encode
from naught_loadtest.generate.replies import ReplyReader
from naught_loadtest.generate.workload import Script
from naught_loadtest.measure.tally import CONNECTION_LOST, PROTOCOL_FAULT, UNASKED_REPLY

# Decrements in flight on one connection: enough to be quick, few enough for any server's buffers.
PORTION = 256
# Requests in a tail.
TAIL_MAX = 64


class Tail(asyncio.Protocol):
    """A few more requests of a connection's script, in one portion, before the counters are compared.

    A connection that stopped where its counters are zero would have nothing to compare. So it goes on to where it has
    added the most.
    """

    def __init__(self, script: EncodedScript, reader: ReplyReader, driver: Driver) -> None:
        self._reader = reader
        self._driver = driver
        first = reader.counted
        numbers = range(first, first + script.tail(first, TAIL_MAX))
        self._requests = [script.requests[number % script.length] for number in numbers]
        # Requests written, and those of them that are not answered.
        self.sent = 0
        self._missing = 0
        # The failed ones, as (number, class).
        self.failed: list[tuple[int, str]] = []
        # Why the connection ended, or is not to be used any more; empty while it may be.
        self.ended = ""
        # Resolves when all are answered and when the connection is lost.
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def settled(self) -> bool:
        """Whether all requests are answered on a connection that is still there."""
        return self.finished.done() and not self.ended

    def start(self, transport: asyncio.Transport) -> None:
        """Send all."""
        transport.set_protocol(self)
        if transport.is_closing():
            self._end(CONNECTION_LOST)
            return
        self.sent = len(self._requests)
        if not self.sent:
            self.finished.set_result(None)
            return
        acknowledgement = (
            self._driver.acknowledgement(self._reader.counted) if self._driver.acknowledge_every else b""
        )
        self._missing = self.sent
        transport.write(acknowledgement + b"".join(self._requests))

    def data_received(self, data: bytes) -> None:
        try:
            self._missing -= self._reader.feed(data, self._missing)
        except ProtocolFaultError:
            self._end(PROTOCOL_FAULT)
            return
        self.failed += self._reader.take_failures()
        if self._reader.unasked:
            self._end(UNASKED_REPLY)
        elif not self._missing and not self.finished.done():
            self.finished.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(CONNECTION_LOST)

    def _end(self, why: str) -> None:
        self.ended = self.ended or why
        if not self.finished.done():
            self.finished.set_result(None)


class Closing(asyncio.Protocol):
    """The closing decrements of one connection, sent in portions. It stops at the first that fails.

    `answered` is how many requests the connection has had answered before. With `owned` no other connection uses the
    keys, so each decrement must answer 0.
    """

    def __init__(
        self,
        driver: Driver,
        steps: list[tuple[int, int]],
        prefix: str,
        answered: int = 0,
        *,
        owned: bool = False,
    ) -> None:
        self._driver = driver
        self._answered = answered
        keys = [key for key, _ in steps]
        deltas = [-amount for _, amount in steps]
        values = [0] * len(steps) if owned else None
        script = Script(keys, deltas, values, [1] * len(steps), owned=owned)
        self._requests: list[bytes] = []
        # Reads the replies; None where there is nothing to send.
        self._reader: ReplyReader | None = None
        if steps:
            encoded = encode(driver, script, prefix, 1)
            self._requests = encoded.requests
            self._reader = ReplyReader(driver, encoded)
        # None before `start`.
        self._transport: asyncio.Transport | None = None
        # Decrements written.
        self.sent = 0
        # Decrements that succeeded. Replies come in order, so these are the first ones.
        self.done = 0
        # The classes of those that failed.
        self.failed: list[str] = []
        # Resolves when the last decrement is answered, when one fails, and when the connection is lost.
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, transport: asyncio.Transport) -> None:
        """Send the first portion."""
        self._transport = transport
        transport.set_protocol(self)
        if transport.is_closing():
            self._finish()
            return
        self._send()

    def _send(self) -> None:
        portion = self._requests[self.sent : self.sent + PORTION]
        if not portion or self.failed:
            self._finish()
            return
        if self._driver.acknowledge_every:
            portion = [self._driver.acknowledgement(self._answered + self.sent), *portion]
        self._transport.write(b"".join(portion))  # type: ignore[union-attr]
        self.sent = min(self.sent + PORTION, len(self._requests))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None or self.finished.done():
            self._fail(UNASKED_REPLY)
            return
        try:
            reader.feed(data, self.sent - reader.counted)
        except ProtocolFaultError:
            self._fail(PROTOCOL_FAULT)
            return
        failures = reader.take_failures()
        if not self.failed:
            self.done = failures[0][0] if failures else reader.counted
        self.failed += [kind for _, kind in failures]
        if reader.unasked:
            self._fail(UNASKED_REPLY)
        elif reader.counted >= self.sent:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self._fail(CONNECTION_LOST)

    def _fail(self, kind: str) -> None:
        self.failed.append(kind)
        self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
