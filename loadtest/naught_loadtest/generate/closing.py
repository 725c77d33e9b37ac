"""After a run: each connection undoes the increments of its unfinished cycle.

A run stops in the middle of the cycles. So that an up-and-down workload really ends at zero, every connection then
sends one *closing decrement* for each key that it has raised, by the amount that it has added and not yet
subtracted. These requests are in no figure, but the verification takes them into account.
"""

from __future__ import annotations

import asyncio

from naught_loadtest.drivers.base import Driver, ReplyCounter, ReplyCycle
from naught_loadtest.generate.workload import key_name

# Decrements in flight on one connection: enough to be quick, few enough for any server's buffers.
PORTION = 256


class Closing(asyncio.Protocol):
    """The closing decrements of one connection, sent in portions. It stops at the first that is refused.

    `answered` is how many requests the connection has had answered before.
    """

    def __init__(self, driver: Driver, steps: list[tuple[int, int]], prefix: str, answered: int = 0) -> None:
        self._driver = driver
        self._answered = answered
        self._requests = [
            driver.single(number, key_name(prefix, key), -amount) for number, (key, amount) in enumerate(steps)
        ]
        self._counter = ReplyCounter(driver, ReplyCycle([driver.replies_to(-1)]))
        # None before `start`.
        self._transport: asyncio.Transport | None = None
        # Decrements written.
        self.sent = 0
        # Decrements that succeeded. Replies come in order, so these are the first ones.
        self.done = 0
        # The classes of those that were refused.
        self.failed: list[str] = []
        # Resolves when the last decrement is answered, when one is refused, and when the connection is lost.
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, transport: asyncio.Transport) -> None:
        """Send the first portion."""
        self._transport = transport
        transport.set_protocol(self)
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
        count = self._counter.feed(data)
        self.failed += [kind for _, kind in self._counter.take_failures()]
        if not self.failed:
            self.done += count
        if self._counter.counted >= self.sent:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
