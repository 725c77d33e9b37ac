"""The closed loop: every connection sends a pipeline, waits for all its replies, sends the next.

It measures *capacity*: how much a server does when it always has something to do. It does not measure what
callers would wait, because a slow server is asked less (coordinated omission); reports label it so.

One block is one write, one or few reads, one clock reading and one record. Where the right reply is known it
is compared whole, which is both the cheapest way to count a hundred replies and the only one that checks each
of their values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic_ns

from naught_loadtest.drivers.base import Driver, ProtocolFaultError, ReplyCounter, failure_in
from naught_loadtest.generate.lane import Lane
from naught_loadtest.measure.tally import FAILURES_KEPT_MAX, Tally


class ClosedConnection(asyncio.Protocol):
    """One connection of a closed loop. `on_idle` is told its number: stopped and answered, or lost."""

    def __init__(
        self,
        number: int,
        driver: Driver,
        lane: Lane,
        *,
        depth: int,
        tally: Tally,
        on_idle: Callable[[int], None],
    ) -> None:
        self.number = number
        self.transport: asyncio.Transport | None = None
        self._driver = driver
        self._lane = lane
        self._blocks = lane.blocks(depth)
        self._tally = tally
        self._on_idle = on_idle
        # The block in flight, its place in the cycle, and when it was written.
        self._place = 0
        self._block = self._blocks[0]
        self._written_ns = 0
        # The bytes that must come next; None where they are not known, or no longer.
        self._awaited: bytes | None = None
        # Bytes of the block's reply so far, where they are compared.
        self._held = b""
        # Replies of the block still to come, where they are counted.
        self._missing = 0
        self._counter = ReplyCounter(driver)
        # Whether replies are compared: until something fails, as values then depend on what was refused.
        self._comparing = lane.replies is not None
        # Requests of the block that failed, and the operations they carried.
        self._block_failed = 0
        self._block_failed_operations = 0
        # The account: requests written, answered, and the numbers of those that failed.
        self.sent = 0
        self.answered = 0
        self.failed: list[int] = []
        self.failures_dropped = False
        self.stopping = False
        self.lost = False

    def start(self, transport: asyncio.Transport) -> None:
        """Begin with the first block."""
        self.transport = transport
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)
            return
        self._send(monotonic_ns())

    def stop(self) -> None:
        """Send nothing more; `on_idle` comes when the block in flight is answered."""
        self.stopping = True

    def _send(self, now_ns: int) -> None:
        block = self._blocks[self._place]
        self._block = block
        self._missing = block.requests
        self._awaited = block.reply if self._comparing else None
        self._written_ns = now_ns
        self.sent += block.requests
        self.transport.write(block.request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        if data == self._awaited:
            self._complete()
        elif self._awaited is not None:
            self._compare(data)
        else:
            self._count(data)

    def _complete(self) -> None:
        now_ns = monotonic_ns()
        block = self._block
        tally = self._tally
        took_ns = now_ns - self._written_ns
        tally.response.record(took_ns, block.operations)
        requests, operations = block.requests, block.operations
        if self._block_failed:
            requests -= self._block_failed
            operations -= self._block_failed_operations
            self._block_failed = self._block_failed_operations = 0
        if took_ns > tally.timeout_ns:
            tally.timed_out += requests
        else:
            tally.requests += requests
            tally.operations += operations
        self.answered += block.requests
        self._place += 1
        if self._place == len(self._blocks):
            self._place = 0
        if self.stopping:
            self._on_idle(self.number)
        else:
            self._send(now_ns)

    def _compare(self, data: bytes) -> None:
        """A reply in several pieces, or one that is not what it must be."""
        held = self._held + data
        assert self._awaited is not None
        if len(held) < len(self._awaited) and self._awaited.startswith(held):
            self._held = held
        elif held == self._awaited:
            self._held = b""
            self._complete()
        else:
            self._examine(held)

    def _examine(self, held: bytes) -> None:
        """Find out value by value what is wrong with a block's reply."""
        self._held = held
        replies, used = self._driver.parse(held)
        if len(replies) < self._block.requests:
            return
        if used < len(held) or len(replies) > self._block.requests:
            self._unasked()
            return
        right, _ = self._driver.parse(self._awaited or b"")
        for place, (reply, awaited) in enumerate(zip(replies, right, strict=False)):
            failure = failure_in(reply)
            if failure is not None:
                self._refused(self.answered + place, failure.kind)
                self._comparing = False
            elif reply != awaited:
                self._tally.fail("wrong_value")
        if not self._comparing:
            self._counter.counted = self.answered + self._block.requests
        self._held = b""
        self._complete()

    def _count(self, data: bytes) -> None:
        self._missing -= self._counter.feed(data)
        if self._counter.failures:
            for request, kind in self._counter.failures:
                self._refused(request, kind)
            self._counter.failures.clear()
        if self._missing < 0:
            self._unasked()
        elif self._missing == 0:
            self._complete()

    def _unasked(self) -> None:
        """More replies than requests: nothing on this connection can be trusted any more."""
        self._tally.fail("unasked_reply")
        self._missing = 0
        self.transport.abort()  # type: ignore[union-attr]

    def _refused(self, request: int, kind: str) -> None:
        self._tally.fail(kind)
        self._block_failed += 1
        self._block_failed_operations += self._lane.operations[request % len(self._lane.operations)]
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
