"""The open loop: requests are due at moments that do not depend on the answers.

Each connection has a limited number of requests in flight (one, or what --pipeline says), as a caller has. A request
that is due goes to the next free connection. If there is none, the request waits in a queue and is sent as soon as a
reply frees a connection. Two latencies are recorded for every request:

- the *response time*, from the moment the request was **due**. If the server stands still for a second, every
  request that fell due meanwhile is charged with its wait. This is the figure to believe.
- the *service time*, from the write of the request. Beside the response time it shows how much of it was waiting.
  Alone it hides a stall: only the few requests in flight when it began show it. Measuring only this is called
  coordinated omission.

The `Pacer` sends what is due. The timers of an event loop have a resolution of a millisecond, which is far too
coarse. So shortly before the next request the pacer spins: it runs once in every turn of the loop, and the sockets
are served in between. It records for every request how late it was. Because a spinning process always looks busy to
the system, the pacer also measures in how much of its time there was work to do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic_ns

from naught_loadtest.drivers.base import Driver, ProtocolFaultError, ReplyCounter
from naught_loadtest.generate.encoding import EncodedScript
from naught_loadtest.measure.tally import FAILURES_KEPT_MAX, Tally

# Requests sent in one turn of the loop at most, so that replies are read in between.
SENDS_PER_TURN = 32
# Closer to the next request than this the pacer spins instead of setting a timer: the timers' resolution and
# lateness.
SPIN_NS = 2_000_000
# After the end the pacer still sends requests that are overdue for this long. The rest counts as missed.
GRACE_NS = 50_000_000
# This many missed requests are counted one by one. Beyond, their number is estimated from the rate.
MISSED_COUNTED_MAX = 100_000


class RequestQueue:
    """The due requests that wait for a connection, and the free connections. One of the two is always empty."""

    def __init__(self) -> None:
        # Due times of the waiting requests, oldest first.
        self.waiting: deque[int] = deque()
        # Each connection stands here once for every request that it may still send.
        self.free: deque[OpenLoopConnection] = deque()

    def remove(self, connection: OpenLoopConnection) -> None:
        """Offer no more requests to this connection."""
        self.free = deque(each for each in self.free if each is not connection)


class OpenLoopConnection(asyncio.Protocol):
    """One connection of an open loop.

    `on_idle` is called with the connection's number when it was stopped, no request waits and all are answered, and
    when the connection is lost.
    """

    def __init__(
        self,
        number: int,
        driver: Driver,
        script: EncodedScript,
        *,
        depth: int,
        queue: RequestQueue,
        tally: Tally,
        on_idle: Callable[[int], None],
    ) -> None:
        # The number of the connection in the run.
        self.number = number
        # None before `start`.
        self.transport: asyncio.Transport | None = None
        self._requests = script.requests
        self._operations = script.operations
        # Requests in flight at most.
        self._depth = depth
        # Shared by all connections of the process.
        self._queue = queue
        # Counts for the figures; shared by all connections of the process.
        self._tally = tally
        self._on_idle = on_idle
        # Index of the next request in the cycle.
        self._index = 0
        self._counter = ReplyCounter(driver, script.cycle)
        self._driver = driver
        # Replies after which the next acknowledgement is due; 0 where the protocol has none. And how many requests
        # were answered when the last one was sent.
        self._acknowledge_every = script.acknowledge_every(driver)
        self._acknowledged = 0
        # (due, written) of the requests in flight, oldest first: replies come in order.
        self._in_flight: deque[tuple[int, int]] = deque()
        # Only requests due from this moment on are in the figures.
        self._measure_from_ns = 0
        # For the account: requests written, requests answered, and the numbers of the refused ones.
        self.sent = 0
        self.answered = 0
        self.failed: list[int] = []
        # Whether more were refused than `failed` keeps.
        self.failures_dropped = False
        # Whether no further request falls due.
        self.stopping = False
        # Whether the connection has ended.
        self.lost = False

    def start(self, transport: asyncio.Transport) -> None:
        """Be free for requests."""
        self.transport = transport
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)
            return
        self._queue.free.extend([self] * self._depth)

    def measure_from(self, moment_ns: int) -> None:
        """Count only requests that are due from this moment on."""
        self._measure_from_ns = moment_ns

    def stop(self) -> None:
        """No further request falls due. `on_idle` is called when none waits and all are answered."""
        self.stopping = True
        self._check_idle()

    def send(self, due_ns: int, now_ns: int) -> None:
        """Write the next request of the cycle."""
        self._in_flight.append((due_ns, now_ns))
        self.transport.write(self._requests[self._index])  # type: ignore[union-attr]
        self._index += 1
        if self._index == len(self._requests):
            self._index = 0
        self.sent += 1
        if due_ns >= self._measure_from_ns:
            self._tally.request_sent()

    def data_received(self, data: bytes) -> None:
        now_ns = monotonic_ns()
        tally, in_flight = self._tally, self._in_flight
        tally.bytes_arrived()
        count = self._counter.feed(data)
        failures = self._take_failures() if self._counter.failures else None
        if count > len(in_flight):
            # More replies than requests: no reply on this connection can be trusted any more.
            tally.fail("unasked_reply", count - len(in_flight))
            count = len(in_flight)
            self.transport.abort()  # type: ignore[union-attr]
        first = self.answered
        self.answered += count
        for request in range(first, first + count):
            due_ns, written_ns = in_flight.popleft()
            if due_ns < self._measure_from_ns:
                continue
            if failures is not None and request in failures:
                tally.request_failed(now_ns - due_ns, now_ns - written_ns, failures[request])
            else:
                operations = self._operations[request % len(self._operations)]
                tally.request_done(now_ns - due_ns, now_ns - written_ns, operations)
        if self._acknowledge_every and self.answered - self._acknowledged >= self._acknowledge_every:
            self._acknowledged = self.answered
            self.transport.write(self._driver.acknowledgement(self.answered))  # type: ignore[union-attr]
        self._send_waiting(count)
        if self.stopping:
            self._check_idle()

    def _send_waiting(self, count: int) -> None:
        """Send up to `count` of the waiting requests; for the rest of `count` the connection is free again."""
        queue = self._queue
        for _ in range(count):
            if queue.waiting:
                self.send(queue.waiting.popleft(), monotonic_ns())
            else:
                queue.free.append(self)

    def _take_failures(self) -> dict[int, str]:
        """The refused requests that the counter found, by number. The account keeps their numbers."""
        failures = dict(self._counter.take_failures())
        room = FAILURES_KEPT_MAX - len(self.failed)
        self.failed += list(failures)[:room]
        self.failures_dropped |= len(failures) > room
        return failures

    def _check_idle(self) -> None:
        if not self._in_flight and not self._queue.waiting:
            self._on_idle(self.number)

    def give_up(self, now_ns: int) -> None:
        """Record that the requests in flight have waited at least until now."""
        for due_ns, written_ns in self._in_flight:
            if due_ns >= self._measure_from_ns:
                self._tally.request_unanswered(now_ns - due_ns, now_ns - written_ns)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._queue.remove(self)
        if self._in_flight:
            kind = "protocol_fault" if isinstance(exc, ProtocolFaultError) else "connection_lost"
            self._tally.fail(kind, len(self._in_flight))
            self.give_up(monotonic_ns())
            self._in_flight.clear()
        self._on_idle(self.number)


class Pacer:
    """Sends each request when it is due, and measures how late and how busy it was itself."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: list[OpenLoopConnection],
        queue: RequestQueue,
        due_times_ns: Iterator[int],
        *,
        rate_per_s: float,
        tally: Tally,
        spin: bool,
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._queue = queue
        # When the requests are due, counted from the start of the run.
        self._due_times_ns = due_times_ns
        # The rate of these times, for an estimate of what was missed.
        self._rate_per_s = rate_per_s
        self._tally = tally
        # Whether this process has a core to itself, so that it may spin.
        self._spin = spin
        # The moments of the run on the monotonic clock, set by `start`.
        self._start_ns = self._measure_ns = self._end_ns = 0
        # When the next request is due.
        self._due_ns = 0
        # Nanoseconds of the measured time in which there was work to do.
        self.busy_ns = 0
        # When the last turn ended.
        self._last_ns = 0
        # The tally's count of arrivals in the last turn.
        self._arrivals_seen = 0
        # Whether the last turn set a timer. Then the time since that turn was mostly sleep.
        self._slept = False
        # Resolves when the last request is handed out.
        self.done = loop.create_future()

    def start(self, start_ns: int, measure_ns: int, end_ns: int) -> None:
        """Send requests from `start_ns` to `end_ns`. Those due from `measure_ns` on are in the figures."""
        self._start_ns, self._measure_ns, self._end_ns = start_ns, measure_ns, end_ns
        for connection in self._connections:
            connection.measure_from(measure_ns)
        self._next()
        self._last_ns = monotonic_ns()
        self._tick()

    def end_by(self, end_ns: int) -> None:
        """End earlier: requests due from `end_ns` on are neither sent nor counted."""
        self._end_ns = min(self._end_ns, end_ns)

    def _next(self) -> None:
        self._due_ns = self._start_ns + next(self._due_times_ns)

    def _tick(self) -> None:
        """Do the work of one turn, and arrange for the next."""
        begin_ns = now_ns = monotonic_ns()
        if self._tally.arrivals != self._arrivals_seen:
            self._arrivals_seen = self._tally.arrivals
            if not self._slept:
                self._add_busy(begin_ns - self._last_ns, begin_ns)
        if self._due_ns <= now_ns:
            now_ns = self._hand_out(now_ns)
            self._add_busy(now_ns - begin_ns, now_ns)
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
        """Send what is due, or queue it where no connection is free. Returns the time afterwards."""
        queue, tally = self._queue, self._tally
        for _ in range(SENDS_PER_TURN):
            due_ns = self._due_ns
            if due_ns > now_ns or due_ns >= self._end_ns:
                break
            if due_ns >= self._measure_ns:
                tally.request_due(now_ns - due_ns)
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
        """Count what was due and never handed out, so that the report shows a generator too slow for its rate."""
        now_ns = monotonic_ns()
        counted = 0
        while self._due_ns < self._end_ns and counted < MISSED_COUNTED_MAX:
            if self._due_ns >= self._measure_ns:
                counted += 1
                self._tally.requests_missed(now_ns - self._due_ns)
            self._next()
        if self._due_ns < self._end_ns:
            rest = int((self._end_ns - self._due_ns) * self._rate_per_s / 1e9)
            self._tally.requests_missed((now_ns - self._due_ns) // 2, rest)
        if not self.done.done():
            self.done.set_result(None)

    def give_up(self, now_ns: int) -> None:
        """Send no more waiting requests: count them as not sent, with the time they have waited."""
        for due_ns in self._queue.waiting:
            if due_ns >= self._measure_ns:
                self._tally.request_not_sent(now_ns - due_ns)
        self._queue.waiting.clear()
