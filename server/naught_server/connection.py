"""One connection on the event loop: received bytes to its `ServerProtocol`, replies to the transport, flow control.

This is the asyncio.Protocol of an accepted socket. All requests are decoded and executed in `protocol.py`; here is
what needs the loop: turns, timers and backpressure. Reading is paused, so that TCP slows the peer down, while

- more was received than one turn may execute: the rest is executed in later turns, after those of other connections;
- the peer does not read its replies: with more than `OUTPUT_BYTES_MAX` of them unsent no request is executed, and
  after
  `OUTPUT_PAUSED_MS_MAX` the connection is aborted;
- a request waits for the lock of a shard;
- the peer has closed its side of the connection: its requests are answered, then the connection closes.

A connection that drains executes what it has received, and answers requests that arrive in the next `LAME_DUCK_MS`
with `shutting_down`. Then it flushes and closes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from naught_server.config import LAME_DUCK_MS, OUTPUT_BYTES_MAX, OUTPUT_PAUSED_MS_MAX
from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol

_log = logging.getLogger("naught.server")
_clock_ns = time.monotonic_ns


class Connection(asyncio.Protocol):
    """One peer. Made by the server for an accepted socket; `on_lost` is called once, when it is closed."""

    __slots__ = (
        "_draining",
        "_ending",
        "_engine",
        "_loop",
        "_on_lost",
        "_output_timer",
        "_protocol",
        "_reading",
        "_transport",
        "_turn_due",
        "closed",
    )

    def __init__(self, engine: Engine, on_lost: Callable[[Connection], None]) -> None:
        self._engine = engine
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._protocol = ServerProtocol(engine, self._schedule_turn)
        self._transport: asyncio.Transport | None = None  # None before the connection is made and after it is lost
        self._reading = True  # the transport is not paused
        self._turn_due = False  # a turn is scheduled with call_soon
        # Aborts the connection. Runs while the peer does not read its replies, and after `close` until all are sent.
        self._output_timer: asyncio.TimerHandle | None = None
        self._draining = False  # execute what was received, then refuse further requests
        self._ending = False  # close when all that was received is answered
        self.closed = False  # the connection is lost

    # ---------------------------------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=OUTPUT_BYTES_MAX)
        self._engine.stats.count_opened()

    def data_received(self, data: bytes) -> None:
        protocol = self._protocol
        if self._reading and not self._turn_due:
            replies = protocol.receive(data, _clock_ns() // 1_000_000)
            if replies:
                self._transport.write(replies)  # type: ignore[union-attr]
            if protocol.idle and not protocol.closing:
                return
            self._update_flow()
        else:
            protocol.feed(data)

    def eof_received(self) -> bool:
        # The peer may still read replies: its requests are answered before the connection closes.
        self._end()
        return True

    def pause_writing(self) -> None:
        self._output_timer = self._loop.call_later(OUTPUT_PAUSED_MS_MAX / 1000, self._abort_unread)
        self._update_flow()

    def resume_writing(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return  # a slow reader of its last replies keeps the deadline: reading a few bytes must not extend it
        if self._output_timer is not None:
            self._output_timer.cancel()
            self._output_timer = None
        self._update_flow()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._transport = None
        if self._output_timer is not None:
            self._output_timer.cancel()
        self._protocol.close(_clock_ns() // 1_000_000)
        self._engine.stats.count_closed()
        self._on_lost(self)

    # ---------------------------------------------------------------------------------------- from the server

    def drain(self) -> None:
        """Execute what was received, refuse later requests, flush, close. Takes at least LAME_DUCK_MS."""
        self._draining = True
        self._update_flow()

    def abort(self) -> None:
        """Close at once; replies that were not sent are lost."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self) -> None:
        self._ending = True
        self._update_flow()

    # ---------------------------------------------------------------------------------------- turns

    def _schedule_turn(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        transport = self._transport
        if self._protocol.aborted:
            self.abort()
            return
        if transport is None or self._output_timer is not None:
            return
        replies = self._protocol.turn(_clock_ns() // 1_000_000)
        if replies:
            transport.write(replies)
        self._update_flow()

    def _update_flow(self) -> None:
        """Do what the protocol's state asks for: schedule a turn, pause or resume reading, or close."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        protocol = self._protocol
        output_paused = self._output_timer is not None
        if self._draining and protocol.idle and not protocol.refusing:
            protocol.refuse()
            lame_duck_ms = min(LAME_DUCK_MS, self._engine.settings.drain_timeout_ms / 4)
            self._loop.call_later(lame_duck_ms / 1000, self._end)
        if protocol.closing or (self._ending and protocol.idle):
            # `close` sends the last replies first. The peer has as long to read them as replies before.
            if self._output_timer is None:
                self._output_timer = self._loop.call_later(OUTPUT_PAUSED_MS_MAX / 1000, self._abort_unread)
            transport.close()
            return
        if protocol.wants_turn and not output_paused:
            self._schedule_turn()
        # Work in slices does not pause reading, because later requests are served beside it.
        reading = not (protocol.backlog or output_paused or self._ending)
        if reading is not self._reading:
            self._reading = reading
            if reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _abort_unread(self) -> None:
        _log.info("connection aborted: its peer has not read its replies for %d ms", OUTPUT_PAUSED_MS_MAX)
        self.abort()
