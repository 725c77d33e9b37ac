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

from naught_loadtest.drivers.base import Driver, ProtocolFaultError
from naught_loadtest.generate.encoding import EncodedScript
from naught_loadtest.generate.replies import ACKNOWLEDGED, ReplyReader
from naught_loadtest.generate.value_sums import ValueSums
from naught_loadtest.measure.tally import (
    CONNECTION_LOST,
    FAILURES_KEPT_MAX,
    GIVEN_UP,
    PROTOCOL_FAULT,
    UNASKED_REPLY,
    Tally,
)

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


class LoopTurn:
    """How long bytes may have lain in this process before they are handled.

    A spinning loop looks at its sockets in every turn, so what arrives now came after the last turn. A sleeping loop
    is woken by the first bytes, and what is handled after them in the same turn had to wait for them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # When the last turn of a spinning loop ended, or when a sleeping loop was woken; 0 while it sleeps.
        self._began_ns = 0

    def ended(self, now_ns: int, *, sleeps: bool) -> None:
        """The pacer has done the work of a turn."""
        self._began_ns = 0 if sleeps else now_ns

    def arrived(self, now_ns: int) -> int:
        """Bytes are handled now. Returns for how many nanoseconds they may have lain here."""
        if not self._began_ns:
            self._began_ns = now_ns
            self._loop.call_soon(self._sleep_again, now_ns)
        return now_ns - self._began_ns

    def _sleep_again(self, woken_ns: int) -> None:
        if self._began_ns == woken_ns:
            self._began_ns = 0


class OpenLoopConnection(asyncio.Protocol):
    """One connection of an open loop, from its start until it is lost.

    `on_idle` is called when the connection was stopped, no request waits and all in this process are answered.
    `on_lost` is called with this object when the connection is lost.
    """

    def __init__(
        self,
        number: int,
        driver: Driver,
        script: EncodedScript,
        *,
        depth: int,
        queue: RequestQueue,
        turn: LoopTurn,
        tally: Tally,
        on_idle: Callable[[], None],
        on_lost: Callable[[OpenLoopConnection], None],
        life: int = 0,
        sums: ValueSums | None = None,
        measure_from_ns: int = 0,
    ) -> None:
        # The number of the connection in the run, and how often it was opened anew before.
        self.number = number
        self.life = life
        # None before `start`.
        self.transport: asyncio.Transport | None = None
        self.script = script
        self._requests = script.requests
        self._operations = script.operations
        # Requests in flight at most.
        self._depth = depth
        # Shared by all connections of the process.
        self._queue = queue
        self._turn = turn
        # Counts for the figures; shared by all connections of the process.
        self._tally = tally
        self._on_idle = on_idle
        self._on_lost = on_lost
        # Index of the next request in the cycle.
        self._index = 0
        self._reader = ReplyReader(driver, script, sums)
        self._driver = driver
        # Replies after which the next acknowledgement is due; 0 where the protocol has none. And how many requests
        # were answered when the last one was sent.
        self._acknowledge_every = script.acknowledge_every(driver)
        self._acknowledged = 0
        # (due, written) of the requests in flight, oldest first: replies come in order.
        self._in_flight: deque[tuple[int, int]] = deque()
        # Only requests due from this moment on are in the figures.
        self._measure_from_ns = measure_from_ns
        # For the account: requests written, and the numbers of those that the server refused.
        self.sent = 0
        self.failed: list[int] = []
        # Whether more were refused than `failed` keeps.
        self.failures_dropped = False
        # Whether no further request falls due.
        self.stopping = False
        # Whether the connection has ended, and why: the class of the failure of its requests in flight.
        self.lost = False
        self._why = ""

    @property
    def reader(self) -> ReplyReader:
        """Reads the replies, also those to a tail that is sent on the connection after the load."""
        return self._reader

    @property
    def answered(self) -> int:
        """Requests that were answered, whatever the answer was."""
        return self._reader.counted

    def start(self, transport: asyncio.Transport) -> None:
        """Send what waits, and be free for further requests."""
        self.transport = transport
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)
            return
        self._send_waiting(self._depth)

    def measure_from(self, moment_ns: int) -> None:
        """Count only requests that are due from this moment on."""
        self._measure_from_ns = moment_ns

    def stop(self) -> None:
        """No further request falls due."""
        self.stopping = True

    def send(self, due_ns: int, now_ns: int) -> None:
        """Write the next request of the cycle."""
        self._in_flight.append((due_ns, now_ns))
        self.transport.write(self._requests[self._index])  # type: ignore[union-attr]
        self._index += 1
        if self._index == len(self._requests):
            self._index = 0
        self.sent += 1
        self._tally.request_sent(due_ns >= self._measure_from_ns)

    def data_received(self, data: bytes) -> None:
        if self._why:
            return
        now_ns = monotonic_ns()
        self._tally.bytes_arrived(self._turn.arrived(now_ns))
        first = self.answered
        try:
            count = self._reader.feed(data, len(self._in_flight))
        except ProtocolFaultError:
            self._abort(PROTOCOL_FAULT)
            return
        self._count(first, count, now_ns)
        if self._reader.unasked:
            # No reply on this connection can be trusted any more.
            self._abort(UNASKED_REPLY)
            return
        if self._acknowledge_every and self.answered - self._acknowledged >= self._acknowledge_every:
            self._acknowledged = self.answered
            self.transport.write(self._driver.acknowledgement(self.answered))  # type: ignore[union-attr]
        self._send_waiting(count)
        if self.stopping and not self._tally.in_flight and not self._queue.waiting:
            self._on_idle()

    def _count(self, first: int, count: int, now_ns: int) -> None:
        """Count the answered requests from number `first` on."""
        tally, in_flight = self._tally, self._in_flight
        failures = self._take_failures() if self._reader.failures else None
        for request in range(first, first + count):
            due_ns, written_ns = in_flight.popleft()
            kind = failures.get(request) if failures is not None else None
            if due_ns < self._measure_from_ns:
                if kind is None:
                    tally.warm_up_over()
                else:
                    tally.fail(kind, measured=False)
            elif kind is not None:
                tally.request_failed(now_ns - due_ns, kind)
            else:
                operations = self._operations[request % len(self._operations)]
                tally.request_done(now_ns - due_ns, now_ns - written_ns, operations)

    def _send_waiting(self, count: int) -> None:
        """Send up to `count` of the waiting requests; for the rest of `count` the connection is free again.

        A request that has waited for longer than the timeout is not sent any more, as its caller is gone.
        """
        queue, tally = self._queue, self._tally
        for _ in range(count):
            now_ns = monotonic_ns()
            while queue.waiting and now_ns - queue.waiting[0] > tally.timeout_ns:
                due_ns = queue.waiting.popleft()
                if due_ns >= self._measure_from_ns:
                    tally.request_not_sent(now_ns - due_ns)
            if queue.waiting:
                self.send(queue.waiting.popleft(), now_ns)
            else:
                queue.free.append(self)

    def _take_failures(self) -> dict[int, str]:
        """The failures that the reader found, by number. The account keeps the numbers of the refused ones."""
        failures = dict(self._reader.take_failures())
        refused = [number for number, kind in failures.items() if kind not in ACKNOWLEDGED]
        room = FAILURES_KEPT_MAX - len(self.failed)
        self.failed += refused[:room]
        self.failures_dropped |= len(refused) > room
        return failures

    def give_up(self, now_ns: int) -> None:
        """Count the requests in flight as timed out, and wait no longer for them."""
        for due_ns, written_ns in self._in_flight:
            if due_ns >= self._measure_from_ns:
                self._tally.request_unanswered(now_ns - due_ns, now_ns - written_ns)
            else:
                self._tally.warm_up_over()
        if self._in_flight:
            self._in_flight.clear()
            self._abort(GIVEN_UP)

    def _abort(self, why: str) -> None:
        self._why = self._why or why
        self._queue.remove(self)
        self.transport.abort()  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        self._queue.remove(self)
        if self._why == GIVEN_UP:
            return
        why = self._why or CONNECTION_LOST
        self._tally.connection_ended(why)
        now_ns = monotonic_ns()
        for due_ns, _ in self._in_flight:
            if due_ns >= self._measure_from_ns:
                self._tally.request_failed(now_ns - due_ns, why)
            else:
                self._tally.fail(why, measured=False)
        self._in_flight.clear()
        self._on_lost(self)


class Pacer:
    """Sends each request when it is due, and measures how late and how busy it was itself."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: RequestQueue,
        turn: LoopTurn,
        due_times_ns: Iterator[int],
        *,
        rate_per_s: float,
        tally: Tally,
        spin: bool,
    ) -> None:
        self._loop = loop
        self._queue = queue
        self._turn = turn
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
            self._turn.ended(now_ns, sleeps=True)
            self._finish()
            return
        away_ns = self._due_ns - now_ns
        self._slept = away_ns > SPIN_NS or (away_ns > 0 and not self._spin)
        self._turn.ended(now_ns, sleeps=self._slept)
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
                self._tally.request_missed(now_ns - self._due_ns)
            self._next()
        if self._due_ns < self._end_ns:
            rest = int((self._end_ns - self._due_ns) * self._rate_per_s / 1e9)
            self._tally.requests_missed(now_ns - self._due_ns, rest)
        if not self.done.done():
            self.done.set_result(None)

    def give_up(self, now_ns: int) -> None:
        """Send no more waiting requests: count them as not sent, with the time they have waited."""
        for due_ns in self._queue.waiting:
            if due_ns >= self._measure_ns:
                self._tally.request_not_sent(now_ns - due_ns)
        self._queue.waiting.clear()
