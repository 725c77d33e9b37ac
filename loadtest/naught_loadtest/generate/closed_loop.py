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

from naught_loadtest.drivers.base import Driver, ProtocolFaultError, ReplyCounter, failure_in
from naught_loadtest.generate.encoding import EncodedScript
from naught_loadtest.measure.tally import FAILURES_KEPT_MAX, Tally


class ClosedLoopConnection(asyncio.Protocol):
    """One connection of a closed loop.

    `on_idle` is called with the connection's number when it was stopped and its last block is answered, and when the
    connection is lost.
    """

    def __init__(
        self,
        number: int,
        driver: Driver,
        script: EncodedScript,
        *,
        depth: int,
        tally: Tally,
        on_idle: Callable[[int], None],
    ) -> None:
        # The number of the connection in the run.
        self.number = number
        # None before `start`.
        self.transport: asyncio.Transport | None = None
        self._driver = driver
        self._script = script
        self._blocks = script.blocks(depth)
        # Counts for the figures; shared by all connections of the process.
        self._tally = tally
        self._on_idle = on_idle
        # The block in flight, its index in the cycle, and when it was written.
        self._index = 0
        self._block = self._blocks[0]
        self._written_ns = 0
        # The bytes that must arrive next; None where they are not known, or not known any more.
        self._expected: bytes | None = None
        # What has arrived of the expected bytes.
        self._received = b""
        # Where replies are counted instead: how many of the block are still to come, and the counter.
        self._missing = 0
        self._counter = ReplyCounter(driver, script.cycle)
        # Replies after which the next acknowledgement is due; 0 where the protocol has none. And how many requests
        # were answered when the last one was sent.
        self._acknowledge_every = script.acknowledge_every(driver)
        self._acknowledged = 0
        # Whether replies are compared. After a refused request they are not, because later values depend on it.
        self._comparing = script.replies is not None
        # Requests of the block that were refused, and the operations they carried.
        self._refused_requests = 0
        self._refused_operations = 0
        # For the account: requests written, requests answered, and the numbers of the refused ones.
        self.sent = 0
        self.answered = 0
        self.failed: list[int] = []
        # Whether more were refused than `failed` keeps.
        self.failures_dropped = False
        # Whether no further block is to be sent.
        self.stopping = False
        # Whether the connection has ended.
        self.lost = False

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
        self._expected = block.reply if self._comparing else None
        self._written_ns = now_ns
        self.sent += block.requests
        request = block.request
        if self._acknowledge_every and self.answered - self._acknowledged >= self._acknowledge_every:
            self._acknowledged = self.answered
            request = self._driver.acknowledgement(self.answered) + request
        self.transport.write(request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        if data == self._expected:
            self._complete()
        elif self._expected is not None:
            self._compare(data)
        else:
            self._count(data)

    def _complete(self) -> None:
        """The block in flight is answered: count it, and send the next one."""
        now_ns = monotonic_ns()
        block = self._block
        requests, operations = block.requests, block.operations
        if self._refused_requests:
            requests -= self._refused_requests
            operations -= self._refused_operations
            self._refused_requests = self._refused_operations = 0
        self._tally.block_done(now_ns - self._written_ns, block.operations, requests, operations)
        self.answered += block.requests
        self._index += 1
        if self._index == len(self._blocks):
            self._index = 0
        if self.stopping:
            self._on_idle(self.number)
        else:
            self._send(now_ns)

    def _compare(self, data: bytes) -> None:
        """Part of a reply has arrived, or a reply that is not the expected one."""
        received = self._received + data
        assert self._expected is not None
        if len(received) < len(self._expected) and self._expected.startswith(received):
            self._received = received
        elif received == self._expected:
            self._received = b""
            self._complete()
        else:
            self._examine(received)

    def _examine(self, received: bytes) -> None:
        """A block's reply is not the expected one: find the requests that were refused or answered wrongly."""
        self._received = received
        replies, used = self._driver.parse(received)
        right, _ = self._driver.parse(self._expected or b"")
        if len(replies) < len(right):
            return
        if used < len(received) or len(replies) > len(right):
            self._abort()
            return
        cycle = self._script.cycle
        first = self.answered if cycle is None else cycle.first_reply(self.answered)
        refused: dict[int, str] = {}
        wrong: set[int] = set()
        for number, (reply, expected) in enumerate(zip(replies, right, strict=True), first):
            request = number if cycle is None else cycle.request_of(number)
            failure = failure_in(reply)
            if failure is not None:
                refused.setdefault(request, failure.kind)
            elif reply != expected:
                wrong.add(request)
        for request, kind in refused.items():
            self._refused(request, kind)
            self._comparing = False
        for _ in wrong - refused.keys():
            self._tally.fail("wrong_value")
        if not self._comparing:
            self._counter.skip_to(self.answered + self._block.requests)
        self._received = b""
        self._complete()

    def _count(self, data: bytes) -> None:
        """Count replies whose values are not known beforehand."""
        self._missing -= self._counter.feed(data)
        if self._counter.failures:
            for request, kind in self._counter.take_failures():
                self._refused(request, kind)
        if self._missing < 0:
            self._abort()
        elif self._missing == 0:
            self._complete()

    def _abort(self) -> None:
        """There were more replies than requests: no reply on this connection can be trusted any more."""
        self._tally.fail("unasked_reply")
        self._missing = 0
        self.transport.abort()  # type: ignore[union-attr]

    def _refused(self, request: int, kind: str) -> None:
        self._tally.fail(kind)
        self._refused_requests += 1
        self._refused_operations += self._script.operations[request % len(self._script.operations)]
        if len(self.failed) < FAILURES_KEPT_MAX:
            self.failed.append(request)
        else:
            self.failures_dropped = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.sent > self.answered:
            kind = "protocol_fault" if isinstance(exc, ProtocolFaultError) else "connection_lost"
            self._tally.fail(kind, self.sent - self.answered)
        self._on_idle(self.number)
