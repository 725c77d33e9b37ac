"""A connection: bytes from a transport to its channel, replies back, flow control. Nothing else.

Reading is paused, so that the peer's own sending is held back by TCP, while

- more has been read than one turn of the loop may serve: the rest follows in later turns, after the others';
- the peer does not read its replies: above `OUTPUT_BYTES_MAX` of them it is not served at all, and if that
  lasts `OUTPUT_PAUSED_MS_MAX` the connection ends;
- the channel waits for a shard;
- the peer has closed its side: what it sent is answered, then the connection closes.

A connection that drains executes what it has read, and answers what arrives in the next `LAME_DUCK_MS` with
`shutting_down`. Then it flushes and closes.
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
    """One peer. Made by the server for an accepted socket; `on_lost` is called once, when it is gone."""

    __slots__ = (
        "_channel",
        "_draining",
        "_ending",
        "_engine",
        "_loop",
        "_on_lost",
        "_output_timer",
        "_reading",
        "_transport",
        "_turn_due",
        "closed",
    )

    def __init__(self, engine: Engine, on_lost: Callable[[Connection], None]) -> None:
        self._engine = engine
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._channel = ServerProtocol(engine, self._schedule_turn)
        self._transport: asyncio.Transport | None = None  # None before the connection is made and after it is lost
        self._reading = True  # the transport hands over what arrives
        self._turn_due = False  # call_soon has a turn of ours
        self._output_timer: asyncio.TimerHandle | None = None  # runs while the peer leaves its replies unread
        self._draining = False  # execute what was read and nothing more
        self._ending = False  # close when everything read is answered
        self.closed = False  # gone

    # ---------------------------------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=OUTPUT_BYTES_MAX)
        self._engine.stats.count_opened()

    def data_received(self, data: bytes) -> None:
        protocol = self._channel
        if self._reading and not self._turn_due:
            replies = protocol.receive(data, _clock_ns() // 1_000_000)
            if replies:
                self._transport.write(replies)  # type: ignore[union-attr]
            if protocol.idle and not protocol.closing:
                return
            self._settle()
        else:
            protocol.feed(data)

    def eof_received(self) -> bool:
        # The peer may still read: what it sent before is answered first.
        self._end()
        return True

    def pause_writing(self) -> None:
        self._output_timer = self._loop.call_later(OUTPUT_PAUSED_MS_MAX / 1000, self._give_up)
        self._settle()

    def resume_writing(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return  # whoever takes its last replies in sips has no more time for it than others
        if self._output_timer is not None:
            self._output_timer.cancel()
            self._output_timer = None
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._transport = None
        if self._output_timer is not None:
            self._output_timer.cancel()
        self._channel.close(_clock_ns() // 1_000_000)
        self._engine.stats.count_closed()
        self._on_lost(self)

    # ---------------------------------------------------------------------------------------- from the server

    def drain(self) -> None:
        """Execute what was read, refuse what still comes, flush, close. Takes LAME_DUCK_MS at least."""
        self._draining = True
        self._settle()

    def abort(self) -> None:
        """Close at once; replies not yet sent are lost."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self) -> None:
        self._ending = True
        self._settle()

    # ---------------------------------------------------------------------------------------- turns

    def _schedule_turn(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        transport = self._transport
        if self._channel.aborted:
            self.abort()
            return
        if transport is None or self._output_timer is not None:
            return
        replies = self._channel.turn(_clock_ns() // 1_000_000)
        if replies:
            transport.write(replies)
        self._settle()

    def _settle(self) -> None:
        """After anything that may have changed it: go on, read, or close, as things stand."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        protocol = self._channel
        output_paused = self._output_timer is not None
        if self._draining and protocol.idle and not protocol.refusing:
            protocol.refuse()
            lame_duck_ms = min(LAME_DUCK_MS, self._engine.settings.drain_timeout_ms / 4)
            self._loop.call_later(lame_duck_ms / 1000, self._end)
        if protocol.closing or (self._ending and protocol.idle):
            # Closing flushes. A peer that does not read its last replies has as long as any other.
            if self._output_timer is None:
                self._output_timer = self._loop.call_later(OUTPUT_PAUSED_MS_MAX / 1000, self._give_up)
            transport.close()
            return
        if protocol.wants_turn and not output_paused:
            self._schedule_turn()
        # Work in slices goes on beside what comes later, so it is no reason not to read.
        reading = not (protocol.backlog or output_paused or self._ending)
        if reading is not self._reading:
            self._reading = reading
            if reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _give_up(self) -> None:
        _log.info("a peer left its replies unread for %d ms: connection ended", OUTPUT_PAUSED_MS_MAX)
        self.abort()
