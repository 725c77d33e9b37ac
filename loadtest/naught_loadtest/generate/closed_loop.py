"""The closed loop: every connection sends a pipeline of requests, waits for all replies, and sends the next pipeline.

It measures *capacity*: how much a server does when it always has work. It does not measure how long callers would
wait, because a slow server gets fewer requests (coordinated omission). Reports label its figures accordingly.

One block of requests takes one write, one or few reads, one reading of the clock and one record in the histogram.
Where the right reply is known, the reply is compared as a whole. That is the cheapest way to count a hundred
replies, and the only one that checks the value in each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic_ns

from naught_loadtest.drivers.base import Driver, ProtocolFaultError
from naught_loadtest.generate.encoding import EncodedScript
from naught_loadtest.generate.replies import ACKNOWLEDGED, ReplyReader
from naught_loadtest.generate.value_sums import ValueSums
from naught_loadtest.measure.tally import (
    CONNECTION_LOST,
    FAILURES_KEPT_MAX,
    GIVEN_UP,
    PROTOCOL_FAULT,
    UNASKED_REPLY,
    Tally,
)


class ClosedLoopConnection(asyncio.Protocol):
    """One connection of a closed loop, from its start until it is lost.

    `on_idle` is called when the connection was stopped and its last block is answered. `on_lost` is called with this
    object when the connection is lost.
    """

    def __init__(
        self,
        number: int,
        driver: Driver,
        script: EncodedScript,
        *,
        depth: int,
        tally: Tally,
        on_idle: Callable[[], None],
        on_lost: Callable[[ClosedLoopConnection], None],
        life: int = 0,
        sums: ValueSums | None = None,
    ) -> None:
        # The number of the connection in the run, and how often it was opened anew before.
        self.number = number
        self.life = life
        # None before `start`.
        self.transport: asyncio.Transport | None = None
        self._driver = driver
        self.script = script
        self._blocks = script.blocks(depth)
        # Counts for the figures; shared by all connections of the process.
        self._tally = tally
        self._on_idle = on_idle
        self._on_lost = on_lost
        # The block in flight, its index in the cycle, and when it was written.
        self._index = 0
        self._block = self._blocks[0]
        self._written_ns = 0
        # The bytes that must arrive next; None where they are not known, or where some of them have arrived.
        self._expected: bytes | None = None
        # Reads replies that are not exactly `_expected`.
        self._reader = ReplyReader(driver, script, sums)
        # Requests of the block that are not answered, and whether the block is still to be counted.
        self._missing = 0
        self._uncounted = False
        # Replies after which the next acknowledgement is due; 0 where the protocol has none. And how many requests
        # were answered when the last one was sent.
        self._acknowledge_every = script.acknowledge_every(driver)
        self._acknowledged = 0
        # Requests of the block that failed, and the operations they carried.
        self._failed_requests = 0
        self._failed_operations = 0
        # For the account: requests written, and the numbers of those that the server refused.
        self.sent = 0
        self.failed: list[int] = []
        # Whether more were refused than `failed` keeps.
        self.failures_dropped = False
        # Whether no further block is to be sent.
        self.stopping = False
        # Whether the connection has ended, and why: the class of the failure of its requests in flight.
        self.lost = False
        self._why = ""

    @property
    def reader(self) -> ReplyReader:
        """Reads the replies, also those to a tail that is sent on the connection after the load."""
        return self._reader

    @property
    def answered(self) -> int:
        """Requests that were answered, whatever the answer was."""
        return self._reader.counted

    def start(self, transport: asyncio.Transport) -> None:
        """Send the first block."""
        self.transport = transport
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)
            return
        self._send(monotonic_ns())

    def stop(self) -> None:
        """Send no further block. `on_idle` is called when the block in flight is answered."""
        self.stopping = True

    def _send(self, now_ns: int) -> None:
        block = self._blocks[self._index]
        self._block = block
        self._missing = block.requests
        self._uncounted = True
        self._expected = block.reply if self._reader.exact else None
        self._written_ns = now_ns
        self.sent += block.requests
        self._tally.requests_sent(block.requests)
        request = block.request
        if self._acknowledge_every and self.answered - self._acknowledged >= self._acknowledge_every:
            self._acknowledged = self.answered
            request = self._driver.acknowledgement(self.answered) + request
        self.transport.write(request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        if data == self._expected and self._missing:
            self._reader.skip(self._missing)
            self._missing = 0
            self._complete()
        elif not self._why:
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Part of a block's replies has arrived, or replies that are not the expected ones."""
        self._expected = None
        try:
            count = self._reader.feed(data, self._missing)
        except ProtocolFaultError:
            self._abort(PROTOCOL_FAULT)
            return
        if self._reader.failures:
            for request, kind in self._reader.take_failures():
                self._fail(request, kind)
        self._missing -= count
        if self._reader.unasked:
            # No reply on this connection can be trusted any more.
            self._abort(UNASKED_REPLY)
        elif self._missing == 0 and count:
            self._complete()

    def _complete(self) -> None:
        """The block in flight is answered: count it, and send the next one."""
        now_ns = monotonic_ns()
        self._uncounted = False
        self._count(now_ns, self._block.requests, self._block.operations)
        self._index += 1
        if self._index == len(self._blocks):
            self._index = 0
        if self.stopping:
            self._on_idle()
        else:
            self._send(now_ns)

    def _count(self, now_ns: int, requests: int, operations: int) -> None:
        """Count requests that were answered, some of them by failures."""
        took_ns = now_ns - self._written_ns
        if self._failed_requests:
            self._tally.failed_took(took_ns, self._failed_operations)
            requests -= self._failed_requests
            operations -= self._failed_operations
            self._failed_requests = self._failed_operations = 0
        self._tally.block_done(took_ns, requests, operations)

    def _fail(self, request: int, kind: str) -> None:
        """The server refused a request or answered it wrongly."""
        self._tally.fail(kind)
        self._failed_requests += 1
        self._failed_operations += self.script.operations[request % self.script.length]
        if kind in ACKNOWLEDGED:
            return
        if len(self.failed) < FAILURES_KEPT_MAX:
            self.failed.append(request)
        else:
            self.failures_dropped = True

    def give_up(self, now_ns: int) -> None:
        """Count the requests in flight as timed out, and wait no longer for them."""
        missing = self._end_block(now_ns)
        if missing:
            self._tally.unanswered(now_ns - self._written_ns, missing)
            self._abort(GIVEN_UP)

    def _end_block(self, now_ns: int) -> int:
        """Count those requests of the block that were answered. Returns how many were not: the caller counts them."""
        if not self._uncounted:
            return 0
        self._uncounted = False
        missing, self._missing = self._missing, 0
        requests = self._block.requests - missing
        if requests:
            first = self.answered - requests
            length = self.script.length
            operations = sum(self.script.operations[number % length] for number in range(first, self.answered))
            self._count(now_ns, requests, operations)
        return missing

    def _abort(self, why: str) -> None:
        self._why = self._why or why
        self.transport.abort()  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        if self._why == GIVEN_UP:
            return
        why = self._why or CONNECTION_LOST
        self._tally.connection_ended(why)
        missing = self._end_block(monotonic_ns())
        if missing:
            self._tally.fail(why, missing)
        self._on_lost(self)
