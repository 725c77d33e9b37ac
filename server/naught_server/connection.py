"""One connection on the event loop: received bytes to its `ServerProtocol`, replies to the transport, flow control.

This is the asyncio.Protocol of an accepted socket. All requests are decoded and executed in `protocol.py`; here is
what needs the loop: turns, timers and backpressure. Reading is paused, so that TCP slows the peer down, while

- more was received than one turn may execute: the rest is executed in later turns, which are dealt (`turns.py`);
- the peer does not read its replies: with more than `OUTPUT_BYTES_MAX` of them unsent no request is executed, and
  after `OUTPUT_PAUSED_MS_MAX` the connection is aborted;
- a request waits for the lock of a shard;
- more than `INPUT_AHEAD_BYTES_MAX` have arrived while a turn was due for another reason;
- the peer has closed its side of the connection: its requests are answered, then the connection closes.

So a connection keeps one unfinished message or about one piece of input, whatever the peer sends (`INPUT_BYTES_MAX`).
A message that is not whole `MESSAGE_MS_MAX` after it began ends the connection.

While replies are on their way, the kernel is asked every `PEER_LOOK_MS` whether the peer still answers (`peers.py`).

On a server with users a connection that has not logged in `HANDSHAKE_MS_MAX` after it was made is aborted. The time
that a secret is being checked does not count. With TLS a connection is aborted at once that resumes a session whose
certificate of the client has ended since.

A connection that drains executes what it has received, and answers requests that arrive in the next `LAME_DUCK_MS`
with `shutting_down`. Then it flushes and closes.

Where there is no memory in a turn, the process ends, before the replies of this turn are sent (`exhausted.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from naught.errors import Busy
from naught.wire.limits import PEER_UNACKNOWLEDGED_MS
from naught_server.clock import CLOCK
from naught_server.engine import Engine
from naught_server.exhausted import end_process
from naught_server.fatal import FATAL
from naught_server.limits import (
    HANDSHAKE_MS_MAX,
    INPUT_AHEAD_BYTES_MAX,
    INPUT_BYTES_MAX,
    LAME_DUCK_MS,
    MESSAGE_MS_MAX,
    OUTPUT_BYTES_MAX,
    OUTPUT_PAUSED_MS_MAX,
    PEER_LOOK_MS,
)
from naught_server.peers import TcpSocket, can_tell, uid_of, unanswered_ms, unread_bytes
from naught_server.protocol import Clocks, ServerProtocol
from naught_server.tls import certificate_names, has_ended
from naught_server.turns import Turns

_log = logging.getLogger("naught.server")
_clock_ns = CLOCK.now_ns
_wall_clock_ns = time.time_ns


class Connection(asyncio.Protocol):
    """One peer. Made by the server for an accepted socket; `on_lost` is called once, when it is closed."""

    __slots__ = (
        "_draining",
        "_ending",
        "_engine",
        "_is_tls",
        "_login_timer",
        "_loop",
        "_on_lost",
        "_output_timer",
        "_peer_timer",
        "_protocol",
        "_reading",
        "_silent_ms",
        "_socket",
        "_transport",
        "_turn_due",
        "_turn_taken",
        "_turns",
        "_unfinished_timer",
        "address",
        "closed",
    )

    def __init__(
        self,
        engine: Engine,
        turns: Turns,
        on_lost: Callable[[Connection], None],
        address: str | None = None,
        peer: str = "",
    ) -> None:
        """`turns`: those of all connections of this loop. `address`: where its peer connects from, or None where that
        is no matter. `peer`: the same, as operators see it."""
        self.address = address
        self._engine = engine
        self._turns = turns
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        clocks = Clocks(_clock_ns, _wall_clock_ns)
        self._protocol = ServerProtocol(
            engine, self._schedule_turn, address=address, peer=peer, clocks=clocks, unread_bytes=self._unread_bytes
        )
        self._transport: asyncio.Transport | None = None  # None before the connection is made and after it is lost
        self._reading = True  # the transport is not paused
        self._turn_due = False  # a turn is asked for
        # It was taken already: with the piece that arrived, more was there than a connection may keep. That is a
        # message of 800 KiB or more, and none of the steps that turns are dealt for is asked for by one.
        self._turn_taken = False
        # Aborts the connection. Runs while the peer does not read its replies, and after `close` until all are sent.
        self._output_timer: asyncio.TimerHandle | None = None
        self._socket: TcpSocket | None = None  # asked whether the peer is there; None where it cannot tell
        # Looks whether the peer is there. Set by a write, and again while what was written is on its way.
        self._peer_timer: asyncio.TimerHandle | None = None
        self._silent_ms = 0  # how long the peer had been silent at the last look, if that was too long; else 0
        # Looks whether a message is unfinished for too long. Set by the first one that is not whole; it runs out
        # about once in `MESSAGE_MS_MAX`, however many such messages there are.
        self._unfinished_timer: asyncio.TimerHandle | None = None
        self._login_timer: asyncio.TimerHandle | None = None  # ends it; set while it must log in
        self._is_tls = False  # the transport is one of TLS
        self._draining = False  # execute what was received, then refuse further requests
        self._ending = False  # close when all that was received is answered
        self.closed = False  # the connection is lost

    # ---------------------------------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=OUTPUT_BYTES_MAX)
        connected = transport.get_extra_info("socket")
        self._socket = connected if can_tell(connected) else None
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        self._engine.stats.count_opened()
        if has_ended(transport.get_extra_info("peercert"), _wall_clock_ns() / 1e9):
            self._engine.stats.count_cut("certificate")
            _log.info("connection aborted: the certificate of its client, in a resumed session of TLS, has ended")
            self.abort()
            return
        if self._protocol.is_unknown:
            self._log_in_by_transport(transport)
        if self._protocol.is_unknown:
            self._login_timer = self._loop.call_later(HANDSHAKE_MS_MAX / 1000, self._look_at_login)

    def data_received(self, data: bytes) -> None:
        try:
            protocol = self._protocol
            due = self._turn_due
            if self._reading and (
                not (due or protocol.costly)
                or (not self._turn_taken and protocol.pinned_bytes() + len(data) > INPUT_BYTES_MAX)
            ):
                replies = protocol.receive_timed(data, _clock_ns())
                if replies:
                    self._transport.write(replies)  # type: ignore[union-attr]
                    if self._peer_timer is None and self._socket is not None:
                        self._peer_timer = self._loop.call_later(PEER_LOOK_MS / 1000, self._look_at_peer)
                if protocol.unfinished_since_ms is not None and self._unfinished_timer is None:
                    self._watch_unfinished(MESSAGE_MS_MAX)
                if due:
                    self._turn_taken = True
                elif protocol.idle and not protocol.closing:
                    return
                self._update_flow()
            else:
                protocol.feed(data)
                if protocol.backlog and self._reading:
                    self._schedule_turn()
                if protocol.pinned_bytes() > INPUT_AHEAD_BYTES_MAX:
                    self._update_flow()
        except FATAL as fault:
            end_process(fault)

    def eof_received(self) -> bool:
        # The peer may still read replies: its requests are answered before the connection closes. With TLS the
        # transport closes by itself: there is no half of a connection to leave open.
        self._end()
        return not self._is_tls

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
        self._socket = None
        for timer in (self._output_timer, self._peer_timer, self._unfinished_timer, self._login_timer):
            if timer is not None:
                timer.cancel()
        self._protocol.close(_clock_ns() // 1_000_000)
        self._engine.stats.count_closed()
        self._on_lost(self)

    def _log_in_by_transport(self, transport: asyncio.BaseTransport) -> None:
        """Take the user that the peer is by its certificate, or by the user of the system that its process has."""
        access = self._engine.access
        login = access.login_of_certificate(certificate_names(transport.get_extra_info("peercert")))
        if login is None:
            uid = uid_of(transport.get_extra_info("socket"))
            if uid is not None:
                self._protocol.take_uid(uid)
                login = access.login_of_uid(uid)
        if login is not None:
            try:
                self._protocol.take_login(login)
            except Busy:
                self._engine.stats.count_refused("connections_per_user_max")
                self.abort()

    # ---------------------------------------------------------------------------------------- from the server

    def drain(self) -> None:
        """Execute what was received, refuse later requests, flush, close. Takes at least LAME_DUCK_MS."""
        self._draining = True
        self._update_flow()

    def abort(self) -> None:
        """Close at once; replies that were not sent are lost."""
        if self._transport is not None:
            self._transport.abort()

    def renew_login(self) -> None:
        """The users were changed: end the connection if its client may not do any more what it might."""
        if not self.closed:
            self._protocol.renew_login(_clock_ns() // 1_000_000)

    def _end(self) -> None:
        self._ending = True
        self._update_flow()

    def _unread_bytes(self) -> int:
        """How much has arrived and was not read."""
        transport = self._transport
        return 0 if transport is None else unread_bytes(transport.get_extra_info("socket"))

    # ---------------------------------------------------------------------------------------- turns

    def _schedule_turn(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._turns.ask(self._turn)

    def _turn(self) -> int:
        """Take a turn. Returns the entries of work that it has done."""
        try:
            self._turn_due = False
            taken, self._turn_taken = self._turn_taken, False
            transport = self._transport
            protocol = self._protocol
            if protocol.aborted:
                self.abort()
                return 0
            if transport is None or self._output_timer is not None:
                return 0
            if not taken:
                replies = protocol.turn_timed(_clock_ns())
                if replies:
                    transport.write(replies)
                    if self._peer_timer is None and self._socket is not None:
                        self._peer_timer = self._loop.call_later(PEER_LOOK_MS / 1000, self._look_at_peer)
                if protocol.unfinished_since_ms is not None and self._unfinished_timer is None:
                    self._watch_unfinished(MESSAGE_MS_MAX)
            self._update_flow()
        except FATAL as fault:
            end_process(fault)
        return 0 if taken else protocol.spent

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
        reading = not (
            protocol.backlog
            or output_paused
            or self._ending
            or (self._turn_taken and protocol.unfinished_since_ms is not None)
        )
        if reading is not self._reading:
            self._reading = reading
            if reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    # ---------------------------------------------------------------------------------------- peers that do not go on

    def _watch_unfinished(self, delay_ms: int) -> None:
        self._unfinished_timer = self._loop.call_later(delay_ms / 1000, self._look_at_unfinished)

    def _look_at_unfinished(self) -> None:
        """End the connection if the message under way is too old; look again later if it is younger."""
        self._unfinished_timer = None
        began_ms = self._protocol.unfinished_since_ms
        if began_ms is None:
            return
        left_ms = began_ms + MESSAGE_MS_MAX - _clock_ns() // 1_000_000
        if left_ms <= 0 and not self._reading:
            left_ms = MESSAGE_MS_MAX  # its rest may have arrived, and is not read: that is not the peer's fault
        if left_ms > 0:
            self._watch_unfinished(left_ms)
        else:
            self._engine.stats.count_cut("unfinished")
            _log.info("connection aborted: a message of its peer is unfinished for %d ms", MESSAGE_MS_MAX)
            self.abort()

    def _look_at_login(self) -> None:
        """End the connection if its client has not said who it is; wait on while its secret is being checked."""
        self._login_timer = None
        if not self._protocol.is_unknown:
            return
        if self._protocol.is_checked:
            self._login_timer = self._loop.call_later(HANDSHAKE_MS_MAX / 1000, self._look_at_login)
            return
        self._engine.stats.count_cut("unknown")
        _log.info("connection aborted: its client has not logged in for %d ms", HANDSHAKE_MS_MAX)
        self.abort()

    def _look_at_peer(self) -> None:
        """End the connection if the peer is gone; look again while replies are on their way."""
        self._peer_timer = None
        # Once it is closing, the socket may be closed before `connection_lost`, and `_output_timer` runs.
        if self._socket is None or self._transport is None or self._transport.is_closing():
            return
        try:
            silent_ms = unanswered_ms(self._socket)
        except (OSError, ValueError):  # uvloop raises a ValueError for a socket that is closed
            return
        if silent_ms is None:
            self._silent_ms = 0
            return
        # Twice, because the first look may come between a probe and its answer.
        if 0 < self._silent_ms < silent_ms:
            self._engine.stats.count_cut("gone")
            _log.info("connection aborted: the machine of its peer has not answered for %d ms", silent_ms)
            self.abort()
            return
        self._silent_ms = silent_ms if silent_ms >= PEER_UNACKNOWLEDGED_MS - PEER_LOOK_MS else 0
        self._peer_timer = self._loop.call_later(PEER_LOOK_MS / 1000, self._look_at_peer)

    def _abort_unread(self) -> None:
        self._engine.stats.count_cut("unread")
        _log.info("connection aborted: its peer has not read its replies for %d ms", OUTPUT_PAUSED_MS_MAX)
        self.abort()
