"""The open loop: requests are due at moments that do not depend on the answers.

Each connection has a bounded number of requests in flight (one, unless --pipeline says more), as a caller has. A
request that is due goes to the next free connection; when there is none it waits here, and goes out as soon as
a reply frees one. Two latencies are recorded for every request:

- the *response time*, from the moment it was **due**. A server that stands still for a second is charged
  with the wait of every request that fell due meanwhile. This is the figure to believe.
- the *service time*, from its write. Beside the other it shows how much of the response was waiting. On its
  own it hides a stall: only as many requests as there are connections were written before it (this is
  called coordinated omission).

The `Pacer` watches the schedule. The timers of an event loop have a grain of a millisecond, which is far too
coarse, so close to the next request the pacer spins: it runs once in every turn of the loop, with the sockets
served in between. How late it is is recorded for every request, and how much of its time it was really busy is
counted, because a spinning process looks busy to the system always.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic_ns

from naught_loadtest.drivers.base import Driver, ProtocolFaultError, ReplyCounter
from naught_loadtest.generate.lane import Lane
from naught_loadtest.measure.tally import FAILURES_KEPT_MAX, Tally

# Requests handed out in one turn of the loop at most, so that replies are read in between.
SENDS_PER_TURN = 32
# Nearer than this the pacer spins instead of setting a timer: the grain of the timers and its lateness.
SPIN_NS = 2_000_000
# After the end, what is overdue is still handed out for this long; what is left then was missed.
GRACE_NS = 50_000_000
# Requests that were missed are gone through one by one up to here, and estimated beyond.
MISSED_COUNTED_MAX = 100_000


class Queue:
    """What is due and finds no connection free, and the connections that are free. One of both is empty."""

    def __init__(self) -> None:
        # Due times of the requests that wait, oldest first.
        self.waiting: deque[int] = deque()
        # A connection stands here as often as it may still send.
        self.free: deque[OpenConnection] = deque()


class OpenConnection(asyncio.Protocol):
    """One connection of an open loop. `on_idle` is told its number: stopped and answered, or lost."""

    def __init__(
        self,
        number: int,
        driver: Driver,
        lane: Lane,
        *,
        depth: int,
        queue: Queue,
        tally: Tally,
        on_idle: Callable[[int], None],
    ) -> None:
        self.number = number
        self.transport: asyncio.Transport | None = None
        self._lane = lane
        self._requests = lane.requests
        # Requests in flight at most.
        self._depth = depth
        self._queue = queue
        self._tally = tally
        self._on_idle = on_idle
        # Place of the next request in the cycle.
        self._place = 0
        self._counter = ReplyCounter(driver)
        # (due, written) of the requests in flight, oldest first: replies come in order.
        self._flying: deque[tuple[int, int]] = deque()
        # Set by the pacer: only requests due from here on count for the figures.
        self.measure_from_ns = 0
        # The account: requests written, answered, and the numbers of those that failed.
        self.sent = 0
        self.answered = 0
        self.failed: list[int] = []
        self.failures_dropped = False
        self.stopping = False
        self.lost = False

    def start(self, transport: asyncio.Transport) -> None:
        """Ready for `send`."""
        self.transport = transport
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)
            return
        self._queue.free.extend([self] * self._depth)

    def stop(self) -> None:
        """Nothing more falls due; `on_idle` comes when nothing waits and all is answered."""
        self.stopping = True
        self._tell_if_idle()

    def send(self, due_ns: int, now_ns: int) -> None:
        """Write the next request of the cycle."""
        self._flying.append((due_ns, now_ns))
        self.transport.write(self._requests[self._place])  # type: ignore[union-attr]
        self._place += 1
        if self._place == len(self._requests):
            self._place = 0
        self.sent += 1
        if due_ns >= self.measure_from_ns:
            self._tally.sent += 1

    def data_received(self, data: bytes) -> None:
        now_ns = monotonic_ns()
        tally, flying = self._tally, self._flying
        tally.events += 1
        count = self._counter.feed(data)
        failures = self._take_failures() if self._counter.failures else None
        if count > len(flying):
            # More replies than requests: nothing on this connection can be trusted any more.
            tally.fail("unasked_reply", count - len(flying))
            count = len(flying)
            self.transport.abort()  # type: ignore[union-attr]
        first = self.answered
        self.answered += count
        for request in range(first, first + count):
            due_ns, written_ns = flying.popleft()
            if due_ns < self.measure_from_ns:
                continue
            tally.response.record(now_ns - due_ns)
            tally.service.record(now_ns - written_ns)
            if failures is not None and request in failures:
                tally.fail(failures[request])
            elif now_ns - due_ns > tally.timeout_ns:
                tally.timed_out += 1
            else:
                tally.requests += 1
                tally.operations += self._lane.operations[request % len(self._lane.operations)]
        self._take_waiting(count)
        if self.stopping:
            self._tell_if_idle()

    def _take_waiting(self, count: int) -> None:
        """So many requests may be sent again: first what waits, then the connection is free."""
        queue = self._queue
        for _ in range(count):
            if queue.waiting:
                self.send(queue.waiting.popleft(), monotonic_ns())
            else:
                queue.free.append(self)

    def _take_failures(self) -> dict[int, str]:
        failures = dict(self._counter.failures)
        self._counter.failures.clear()
        room = FAILURES_KEPT_MAX - len(self.failed)
        self.failed += list(failures)[:room]
        self.failures_dropped |= len(failures) > room
        return failures

    def _tell_if_idle(self) -> None:
        if not self._flying and not self._queue.waiting:
            self._on_idle(self.number)

    def give_up(self, now_ns: int) -> None:
        """What is still unanswered has waited at least until now: record that, or it would look quick."""
        for due_ns, written_ns in self._flying:
            if due_ns >= self.measure_from_ns:
                self._tally.response.record(now_ns - due_ns)
                self._tally.service.record(now_ns - written_ns)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._queue.free = deque(each for each in self._queue.free if each is not self)
        if self._flying:
            kind = "protocol_fault" if isinstance(exc, ProtocolFaultError) else "connection_lost"
            self._tally.fail(kind, len(self._flying))
            self.give_up(monotonic_ns())
            self._flying.clear()
        self._on_idle(self.number)


class Pacer:
    """Hands out what is due, and measures how well it keeps up."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: list[OpenConnection],
        queue: Queue,
        due_times_ns: Iterator[int],
        *,
        rate_per_s: float,
        tally: Tally,
        spin: bool,
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._queue = queue
        self._due_times_ns = due_times_ns
        self._rate_per_s = rate_per_s
        self._tally = tally
        self._spin = spin
        # Set by `start`: the moments of the run, by the monotonic clock.
        self._start_ns = self._measure_ns = self._end_ns = 0
        # When the next request is due.
        self._due_ns = 0
        # Nanoseconds since the measurement began in which there was something to do.
        self.busy_ns = 0
        self._last_ns = 0
        self._events_seen = 0
        # Whether the last turn set a timer: the time since then was mostly sleep.
        self._slept = False
        # Resolved when the last request is handed out.
        self.done = loop.create_future()

    def start(self, start_ns: int, measure_ns: int, end_ns: int) -> None:
        """Hand out from `start_ns` to `end_ns`, counting what is due from `measure_ns` on."""
        self._start_ns, self._measure_ns, self._end_ns = start_ns, measure_ns, end_ns
        for connection in self._connections:
            connection.measure_from_ns = measure_ns
        self._next()
        self._last_ns = monotonic_ns()
        self._tick()

    def end_by(self, end_ns: int) -> None:
        """Nothing that is due from `end_ns` on is handed out any more, or counts."""
        self._end_ns = min(self._end_ns, end_ns)

    def _next(self) -> None:
        self._due_ns = self._start_ns + next(self._due_times_ns)

    def _tick(self) -> None:
        begun_ns = now_ns = monotonic_ns()
        if self._tally.events != self._events_seen:
            self._events_seen = self._tally.events
            if not self._slept:
                self._add_busy(begun_ns - self._last_ns, begun_ns)
        if self._due_ns <= now_ns:
            now_ns = self._hand_out(now_ns)
            self._add_busy(now_ns - begun_ns, now_ns)
        self._last_ns = now_ns
        if self._due_ns >= self._end_ns or now_ns > self._end_ns + GRACE_NS:
            self._finish()
            return
        away_ns = self._due_ns - now_ns
        self._slept = away_ns > SPIN_NS or (away_ns > 0 and not self._spin)
        if away_ns > SPIN_NS:
            self._loop.call_later((away_ns - SPIN_NS / 2) / 1e9, self._tick)
        elif self._slept:
            self._loop.call_later(away_ns / 1e9, self._tick)
        else:
            self._loop.call_soon(self._tick)

    def _hand_out(self, now_ns: int) -> int:
        queue, tally = self._queue, self._tally
        for _ in range(SENDS_PER_TURN):
            due_ns = self._due_ns
            if due_ns > now_ns or due_ns >= self._end_ns:
                break
            if due_ns >= self._measure_ns:
                tally.offered += 1
                tally.lateness.record(now_ns - due_ns)
            if queue.free:
                queue.free.popleft().send(due_ns, now_ns)
            else:
                queue.waiting.append(due_ns)
            self._next()
            now_ns = monotonic_ns()
        return now_ns

    def _add_busy(self, span_ns: int, now_ns: int) -> None:
        if self._measure_ns <= now_ns <= self._end_ns:
            self.busy_ns += span_ns

    def _finish(self) -> None:
        """Account for what was due and never handed out: a generator too slow for its rate must not hide it."""
        now_ns = monotonic_ns()
        missed = 0
        while self._due_ns < self._end_ns and missed < MISSED_COUNTED_MAX:
            if self._due_ns >= self._measure_ns:
                missed += 1
                self._tally.lateness.record(now_ns - self._due_ns)
            self._next()
        if self._due_ns < self._end_ns:
            rest = int((self._end_ns - self._due_ns) * self._rate_per_s / 1e9)
            self._tally.lateness.record((now_ns - self._due_ns) // 2, rest)
            missed += rest
        self._tally.offered += missed
        self._tally.missed += missed
        if not self.done.done():
            self.done.set_result(None)

    def give_up(self, now_ns: int) -> None:
        """What still waits will not be sent: count it, and the time it has waited in vain."""
        for due_ns in self._queue.waiting:
            if due_ns >= self._measure_ns:
                self._tally.response.record(now_ns - due_ns)
                self._tally.not_sent += 1
        self._queue.waiting.clear()
