"""After the run: each connection takes off what it still has up.

A run stops in the middle of its cycles. So that an up-and-down workload really ends at zero, every
connection then sends one decrement for each key it has raised, by the amount it still has up. These requests
belong to no figure; they are counted for the verification.
"""

from __future__ import annotations

import asyncio

from naught_loadtest.drivers.base import Driver, ReplyCounter
from naught_loadtest.generate.workload import key_name

# Decrements in flight on one connection: enough to be quick, few enough for any server's buffers.
PORTION = 256


class Closing(asyncio.Protocol):
    """The decrements of one connection. `finished` resolves when the last is answered, or the connection
    is lost."""

    def __init__(self, driver: Driver, steps: list[tuple[int, int]], prefix: str) -> None:
        self._requests = [
            driver.single(number, key_name(prefix, key), -amount) for number, (key, amount) in enumerate(steps)
        ]
        self._counter = ReplyCounter(driver)
        self._transport: asyncio.Transport | None = None
        self.sent = 0
        # Decrements answered well. Replies come in order, so these are the first ones.
        self.done = 0
        # What was answered badly, by class.
        self.failed: list[str] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_protocol(self)
        self._send()

    def _send(self) -> None:
        portion = self._requests[self.sent : self.sent + PORTION]
        if not portion or self.failed:
            self._finish()
            return
        self.sent += len(portion)
        self._transport.write(b"".join(portion))  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        count = self._counter.feed(data)
        self.failed += [kind for _, kind in self._counter.failures]
        self._counter.failures.clear()
        if not self.failed:
            self.done += count
        if self._counter.counted >= self.sent:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
