"""The scenario `semaphore`: connections that take a permit, wait for one in the server's queue, and give it back.

There are fewer permits than connections, so about half of the connections hold one and the others wait. A permit is
an amount of a counter that a session holds (`acquire` with a wait, `release`). What is released is known only from
the reply to `acquire`, so these requests cannot be encoded before the run. `Permit` makes and checks them one by one;
it is sans-IO.

More holders than permits are found too, among the connections of one process.

The loop is closed: the time of an `acquire` is mostly that of waiting for the other connections. Every reply must
have its id; a grant must have a value from 1 to the limit and a hold with a greater number than the one before,
which is what makes it a fencing token. After the run all permits are given back, and no counter is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import msgpack  # type: ignore[import-untyped]

from naught_loadtest.drivers.base import Driver, ProtocolFaultError
from naught_loadtest.drivers.naught import message_id, request
from naught_loadtest.generate.workload import Script, key_name
from naught_loadtest.measure.tally import (
    CONNECTION_LOST,
    FAILURES_KEPT_MAX,
    GIVEN_UP,
    PROTOCOL_FAULT,
    UNASKED_REPLY,
    Tally,
)

# A reply of these requests has some twenty bytes.
REPLY_BYTES_MAX = 1 << 16


class Holders:
    """How many connections of this process hold a permit of each semaphore.

    A permit that is given back counts until the request is written. So when more are held than there are, the server
    has granted one too many, in whatever order it executed the requests.
    """

    def __init__(self) -> None:
        # By the name of the semaphore.
        self._held: dict[str, int] = {}

    @property
    def any(self) -> bool:
        """Whether a permit is held."""
        return any(self._held.values())

    def take(self, name: str) -> int:
        """One more is held. Returns how many are held now."""
        self._held[name] = self._held.get(name, 0) + 1
        return self._held[name]

    def give_back(self, name: str) -> None:
        """One less is held."""
        self._held[name] -= 1


class Permit:
    """The requests of one connection: acquire, release, acquire, and so on. Sans-IO."""

    def __init__(self, script: Script, prefix: str, limit: int, wait_ms: int, holders: Holders) -> None:
        # Shared by all connections of the process.
        self._holders = holders
        self._names = [key_name(prefix, key) for key in script.keys]
        # Permits of each semaphore.
        self._limit = limit
        # How long an acquire waits at most.
        self._wait_ms = wait_ms
        # The number of the request that is made next or waits for its reply. Even ones acquire, odd ones release.
        self.number = 0
        # The semaphore of the last acquire, and whether its permit is held and its release is not written.
        self._name = self._names[0]
        self._held = False
        # The hold that is released next, and the greatest one so far.
        self._hold = 0
        self._greatest_hold = 0

    @property
    def others_hold(self) -> bool:
        """Whether another connection of the process holds a permit and has not begun to give it back."""
        return self._holders.any

    @property
    def holding(self) -> bool:
        """Whether a permit is held, so that the next request gives it back."""
        return self.number % 2 == 1

    def request(self) -> bytes:
        """The next request."""
        msgid = message_id(self.number)
        if self.holding:
            self.drop()
            return request("release", self._hold, msgid=msgid)
        self._name = self._names[self.number % len(self._names)]
        return request("acquire", [[self._name, 1, self._limit]], self._wait_ms, msgid=msgid)

    @property
    def held(self) -> bool:
        """Whether a permit is held and its release is not written."""
        return self._held

    def drop(self) -> None:
        """The connection has ended. A permit that is held and not given back goes back with the session."""
        if self._held:
            self._held = False
            self._holders.give_back(self._name)

    def take(self, message: Any) -> str:
        """The reply to the last request. Returns the class of its failure, empty for none.

        ProtocolFaultError when it is no reply.
        """
        if not isinstance(message, list) or len(message) != 4 or message[0] != 1:
            raise ProtocolFaultError(f"not a reply of MessagePack-RPC: {message!r:.80}")
        _, msgid, error, result = message
        number = self.number
        self.number += 1
        if msgid != message_id(number):
            return "wrong_id"
        if error is not None:
            return _code_of(error)
        return self._take_released(result) if number % 2 else self._take_granted(result)

    def _take_granted(self, result: Any) -> str:
        match result:
            case [True, [int(value)], int(hold)] if 1 <= value <= self._limit and hold > self._greatest_hold:
                self._hold = self._greatest_hold = hold
                self._held = True
                return "too_many_holders" if self._holders.take(self._name) > self._limit else ""
            case [False, [int()], None]:
                return "not_granted"
        return "wrong_value"

    def _take_released(self, result: Any) -> str:
        match result:
            case [int(value)] if 0 <= value < self._limit:
                return ""
        return "wrong_value"


def _code_of(error: Any) -> str:
    match error:
        case [bytes(code), _]:
            return code.decode("utf-8", "replace")
    return "error"


class SemaphoreConnection(asyncio.Protocol):
    """One connection. `on_idle` and `on_lost` are called as `ClosedLoopConnection` calls them."""

    def __init__(
        self,
        number: int,
        driver: Driver,
        permit: Permit,
        *,
        tally: Tally,
        on_idle: Callable[[], None],
        on_lost: Callable[[SemaphoreConnection], None],
        life: int = 0,
    ) -> None:
        # The number of the connection in the run, and how often it was opened anew before.
        self.number = number
        self.life = life
        # None before `start`.
        self.transport: asyncio.Transport | None = None
        self._driver = driver
        self._permit = permit
        self._tally = tally
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._unpacker = msgpack.Unpacker(raw=True, max_buffer_size=REPLY_BYTES_MAX)
        # When the last request was written, and whether it has no answer yet.
        self._written_ns = 0
        self._in_flight = False
        # For the account, as in `ClosedLoopConnection`.
        self.sent = 0
        self.answered = 0
        self.failed: list[int] = []
        self.failures_dropped = False
        # How many replies are acknowledged.
        self._acknowledged = 0
        self.stopping = False
        # Whether the connection has ended, and why: the class of the failure of the request in flight.
        self.lost = False
        self._why = ""

    def start(self, transport: asyncio.Transport) -> None:
        """Send the first request."""
        self.transport = transport
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)
            return
        self._send()

    def stop(self) -> None:
        """Take no further permit. `on_idle` is called when the one that is held or waited for is given back."""
        self.stopping = True

    def _send(self) -> None:
        data = self._permit.request()
        if self.answered - self._acknowledged >= self._driver.acknowledge_every:
            self._acknowledged = self.answered
            data = self._driver.acknowledgement(self.answered) + data
        self.sent += 1
        self._in_flight = True
        self._tally.requests_sent(1)
        self._written_ns = monotonic_ns()
        self.transport.write(data)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                if self._why:
                    return
                if not self._in_flight:
                    self._abort(UNASKED_REPLY)
                    return
                self._take(message)
        except (ValueError, TypeError, msgpack.UnpackException, msgpack.BufferFull, ProtocolFaultError):
            self._abort(PROTOCOL_FAULT)

    def _take(self, message: Any) -> None:
        took_ns = monotonic_ns() - self._written_ns
        kind = self._permit.take(message)
        self._in_flight = False
        self.answered += 1
        if not kind:
            self._tally.block_done(took_ns, 1, 1)
        else:
            self._tally.fail(kind)
            self._tally.failed_took(took_ns, 1)
            self._note_failure(self._permit.number - 1)
            if self._permit.holding and not self._permit.held:
                # Without a permit there is nothing to give back: the release is left out.
                self._permit.number += 1
                self.sent += 1
                self.answered += 1
                self._note_failure(self._permit.number - 1)
        if self._permit.holding:
            # Held until the next turn of the loop. By then the replies to other connections that have arrived are
            # read, and a server that has granted one permit too many is seen.
            asyncio.get_running_loop().call_soon(self._send_again)
        elif not self.stopping:
            self._send()
        elif not self._permit.others_hold:
            self._on_idle()

    def _send_again(self) -> None:
        if not self._why and not self.lost:
            self._send()

    def _note_failure(self, number: int) -> None:
        if len(self.failed) < FAILURES_KEPT_MAX:
            self.failed.append(number)
        else:
            self.failures_dropped = True

    def give_up(self, now_ns: int) -> None:
        """Count the request in flight as timed out, and wait no longer for it."""
        if self._in_flight:
            self._in_flight = False
            self._tally.unanswered(now_ns - self._written_ns, 1)
            self._abort(GIVEN_UP)

    def _abort(self, why: str) -> None:
        self._why = self._why or why
        self.transport.abort()  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        self._permit.drop()
        if self._why == GIVEN_UP:
            return
        why = self._why or CONNECTION_LOST
        self._tally.connection_ended(why)
        if self._in_flight:
            self._in_flight = False
            self._tally.fail(why)
        self._on_lost(self)
