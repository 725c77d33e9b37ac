"""Both loops without sockets or clocks: a transport that keeps what is written, and a hand that sets the time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]
import pytest

from naught_loadtest.drivers import driver_for
from naught_loadtest.generate import closed_loop, open_loop
from naught_loadtest.generate.closed_loop import ClosedLoopConnection
from naught_loadtest.generate.closing import Closing
from naught_loadtest.generate.encoding import encode
from naught_loadtest.generate.open_loop import LoopTurn, OpenLoopConnection, Pacer, RequestQueue
from naught_loadtest.generate.schedule import due_times_ns
from naught_loadtest.generate.workload import Workload
from naught_loadtest.measure.tally import FAILURES_KEPT_MAX, Tally

MS = 1_000_000
DRIVER = driver_for("redis")


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Clock:
    """A clock that stands still unless moved."""

    def __init__(self) -> None:
        self.now_ns = 1000 * MS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(closed_loop, "monotonic_ns", clock)
    monkeypatch.setattr(open_loop, "monotonic_ns", clock)
    return clock


def closed(scenario: str = "churn", depth: int = 4) -> tuple[ClosedLoopConnection, Transport, Tally, list[int]]:
    # Two connections, so that `inflight` does not know its values.
    connections = 2 if scenario == "inflight" else 1
    load = Workload(scenario, keys=10, connections=connections, batch=1, seed=1)
    tally, idle, transport = Tally(timeout_ns=100 * MS), list[int](), Transport()
    lane = encode(DRIVER, load.script(0), "p:", 1)
    connection = ClosedLoopConnection(
        0,
        DRIVER,
        lane,
        depth=depth,
        tally=tally,
        on_idle=lambda: idle.append(0),
        on_lost=lambda lost: idle.append(lost.number),
    )
    connection.start(cast(asyncio.Transport, transport))
    return connection, transport, tally, idle


def churn_reply(first: int, count: int) -> bytes:
    """What ten keys going to two and back answer, from request number `first` on."""
    return b"".join(b":%d\r\n" % (1, 2, 1, 0)[number // 10 % 4] for number in range(first, first + count))


@pytest.mark.parametrize("scenario", ["churn", "inflight"])
def test_a_closed_loop_counts_the_same_however_replies_are_cut(scenario: str, clock: Clock) -> None:
    source = random.Random(scenario)
    connection, transport, tally, _ = closed(scenario)
    answered = 0
    for _ in range(500):
        clock.now_ns += 3 * MS
        count = transport.written[-1].count(b"*")
        reply = churn_reply(answered, count) if scenario == "churn" else b":7\r\n" * count
        answered += count
        cuts = sorted(source.sample(range(len(reply)), source.randrange(4)))
        for start, end in itertools.pairwise([0, *cuts, len(reply)]):
            if start < end:
                connection.data_received(reply[start:end])
    assert len(transport.written) == 501
    assert tally.operations == tally.requests == connection.answered == answered
    assert tally.failed == {}
    assert tally.response.total == answered
    assert tally.response.records == 500
    assert tally.response.max_ns == 3 * MS


def test_a_wrong_value_in_a_reply_is_found(clock: Clock) -> None:
    connection, _, tally, _ = closed()
    connection.data_received(b":1\r\n:1\r\n:8\r\n:1\r\n")
    assert tally.failed == {"wrong_value": 1}
    assert connection.answered == 4
    connection.data_received(churn_reply(4, 4))
    assert tally.failed == {"wrong_value": 1}
    assert connection.answered == 8


def test_a_refusal_is_counted_by_class_and_its_number_kept(clock: Clock) -> None:
    connection, transport, tally, _ = closed()
    connection.data_received(churn_reply(0, 4))
    connection.data_received(b":1\r\n-OOM no room\r\n:1")
    connection.data_received(b"\r\n:1\r\n")
    assert tally.failed == {"OOM": 1}
    assert connection.failed == [5]
    assert (connection.answered, tally.requests, tally.operations) == (8, 7, 7)
    # The counter of request 5 was not raised, so the second increment of it answers 1.
    second = connection.script.steps(5)[0][0]
    place = next(number for number in range(10, 20) if connection.script.steps(number)[0][0] == second)
    replies = [b":%d\r\n" % (1 if number < 10 or number == place else 2) for number in range(8, 20)]
    for start in (0, 4, 8):
        connection.data_received(b"".join(replies[start : start + 4]))
    assert tally.failed == {"OOM": 1}
    assert (connection.answered, tally.requests) == (20, 19)
    assert len(transport.written) == 6


def test_after_a_refusal_the_values_are_still_compared(clock: Clock) -> None:
    connection, _, tally, _ = closed()
    connection.data_received(b":1\r\n-OOM no room\r\n:1\r\n:1\r\n")
    connection.data_received(b":1\r\n:1\r\n:1\r\n:7\r\n")
    assert tally.failed == {"OOM": 1, "wrong_value": 1}
    assert connection.failed == [1], "an answer of the wrong value is acknowledged all the same"


def test_more_failures_than_are_kept_are_still_counted(clock: Clock) -> None:
    connection, transport, tally, _ = closed("inflight", depth=1024)
    while not connection.failures_dropped:
        connection.data_received(b"-ERR no\r\n" * transport.written[-1].count(b"*"))
    assert len(connection.failed) == FAILURES_KEPT_MAX
    assert tally.failed["ERR"] == connection.answered > FAILURES_KEPT_MAX
    assert tally.requests == tally.operations == 0


@pytest.mark.parametrize("scenario", ["churn", "inflight"])
def test_a_reply_nobody_asked_for_ends_the_connection(scenario: str, clock: Clock) -> None:
    connection, transport, tally, _ = closed(scenario)
    connection.data_received(b":1\r\n" * 5)
    assert transport.aborted
    connection.connection_lost(None)
    assert tally.connections_lost == {"unasked_reply": 1}
    assert tally.failed == {}
    assert (tally.offered, tally.requests, tally.in_flight) == (4, 4, 0)


def test_an_answer_after_the_timeout_is_no_success_but_its_latency_counts(clock: Clock) -> None:
    connection, _, tally, _ = closed()
    clock.now_ns += 101 * MS
    connection.data_received(churn_reply(0, 4))
    assert (tally.timed_out, tally.requests, tally.operations) == (4, 0, 0)
    assert tally.response.max_ns == 101 * MS
    assert connection.answered == 4


def test_a_connection_that_ended_before_the_start_is_lost_at_once(clock: Clock) -> None:
    connection, transport, _, idle = closed()
    transport.abort()
    connection.start(cast(asyncio.Transport, transport))
    assert connection.lost
    assert idle == [0]
    assert len(transport.written) == 1
    opened = Open(clock)
    opened.queue.free.clear()
    opened.transports[0].abort()
    opened.connections[0].start(cast(asyncio.Transport, opened.transports[0]))
    assert opened.connections[0].lost
    assert not opened.queue.free


def test_stopping_waits_for_the_block_in_flight(clock: Clock) -> None:
    connection, transport, _, idle = closed()
    connection.stop()
    assert idle == []
    connection.data_received(churn_reply(0, 4))
    assert idle == [0]
    assert len(transport.written) == 1
    assert connection.sent == connection.answered == 4


def test_a_lost_connection_leaves_its_requests_unknown(clock: Clock) -> None:
    connection, _, tally, lost = closed()
    connection.data_received(b":1\r\n")
    connection.connection_lost(None)
    connection.connection_lost(None)
    assert connection.lost
    assert lost == [0]
    assert (connection.sent, connection.answered) == (4, 1)
    assert tally.failed == {"connection_lost": 3}
    assert (tally.offered, tally.requests, tally.in_flight) == (4, 1, 0)
    assert tally.connections_lost == {"connection_lost": 1}


def test_garbage_ends_the_connection_without_a_traceback(clock: Clock) -> None:
    connection, transport, tally, _ = closed()
    connection.data_received(b"HTTP/1.1 400 Bad Request\r\n")
    assert transport.aborted
    connection.data_received(b":1\r\n")
    connection.connection_lost(None)
    assert tally.failed == {"protocol_fault": 4}
    assert connection.answered == 0


def test_a_failed_request_is_not_in_the_latency_of_the_others(clock: Clock) -> None:
    connection, _, tally, _ = closed()
    clock.now_ns += 7 * MS
    connection.data_received(b":1\r\n-OOM no room\r\n-OOM no room\r\n:1\r\n")
    assert (tally.response.total, tally.error_times.total) == (2, 2)
    assert (tally.offered, tally.requests, tally.failed, tally.in_flight) == (8, 2, {"OOM": 2}, 4)


def test_what_is_in_flight_when_the_measured_time_begins_is_offered_in_it(clock: Clock) -> None:
    connection, _, tally, _ = closed()
    connection.data_received(b":1\r\n:8\r\n:1\r\n:1\r\n")
    tally.start_measuring()
    assert (tally.offered, tally.failed, tally.failed_outside) == (4, {}, {"wrong_value": 1})
    connection.stop()
    clock.now_ns += MS
    connection.give_up(clock.now_ns)
    assert (tally.offered, tally.timed_out, tally.in_flight) == (4, 4, 0)
    assert tally.response.max_ns == MS


class Open:
    """An open loop with everything in hand."""

    def __init__(self, clock: Clock, connections: int = 2, depth: int = 1, rate: float = 1000.0) -> None:
        load = Workload("inflight", keys=10, connections=max(connections, 2), batch=1, seed=1)
        self.clock = clock
        self.turns = LoopTurn(cast(asyncio.AbstractEventLoop, self))
        self.tally = Tally(timeout_ns=100 * MS)
        self.queue = RequestQueue()
        self.idle: list[int] = []
        self.transports = [Transport() for _ in range(connections)]
        self.connections = [
            OpenLoopConnection(
                number,
                DRIVER,
                encode(DRIVER, load.script(number), "p:", 1),
                depth=depth,
                queue=self.queue,
                turn=self.turns,
                tally=self.tally,
                on_idle=lambda: self.idle.append(-1),
                on_lost=lambda lost: self.idle.append(lost.number),
            )
            for number in range(connections)
        ]
        for connection, transport in zip(self.connections, self.transports, strict=True):
            connection.start(cast(asyncio.Transport, transport))
        # What the pacer asked the loop for: (seconds from now, callback).
        self.timers: deque[tuple[float, Callable[[], None]]] = deque()
        self.pacer = Pacer(
            cast(asyncio.AbstractEventLoop, self),
            self.queue,
            self.turns,
            due_times_ns("constant", rate, 0, 1, 1),
            rate_per_s=rate,
            tally=self.tally,
            spin=True,
        )

    def create_future(self) -> Any:
        return Done()

    def call_soon(self, callback: Callable[..., None], *arguments: object) -> None:
        if arguments:
            # Not the pacer's: that a sleeping loop sleeps again.
            return
        self.timers.append((0.0, callback))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))

    def turn(self) -> float:
        """One turn of the loop; the seconds its timer was set for."""
        seconds, callback = self.timers.popleft()
        callback()
        return seconds

    def answer(self, number: int, reply: bytes = b":1\r\n") -> None:
        self.connections[number].data_received(reply)


class Done:
    """As much of a future as the pacer uses."""

    def __init__(self) -> None:
        self.resolved = False

    def done(self) -> bool:
        return self.resolved

    def set_result(self, result: None) -> None:
        self.resolved = True


@pytest.fixture
def opened(clock: Clock) -> Open:
    return Open(clock)


def test_requests_go_out_when_due_and_to_the_next_free_connection(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 10 * MS)
    assert [len(transport.written) for transport in opened.transports] == [1, 0]
    clock.now_ns += MS
    opened.turn()
    assert [len(transport.written) for transport in opened.transports] == [1, 1]
    opened.answer(1)
    clock.now_ns += MS
    opened.turn()
    assert [len(transport.written) for transport in opened.transports] == [1, 2]
    assert opened.tally.offered == opened.tally.sent == 3
    assert opened.tally.lateness.max_ns == 0


def test_response_runs_from_when_it_was_due_and_service_from_the_write(opened: Open, clock: Clock) -> None:
    """The server stands still for 60 ms: with two connections, only two requests were written before it."""
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 50 * MS)
    for _ in range(49):
        clock.now_ns += MS
        opened.turn()
    clock.now_ns = start_ns + 60 * MS
    assert opened.pacer.done.done()
    assert [len(transport.written) for transport in opened.transports] == [1, 1]
    assert len(opened.queue.waiting) == 48
    for _ in range(25):
        opened.answer(0)
        opened.answer(1)
    tally = opened.tally
    assert (tally.offered, tally.sent, tally.requests, tally.not_sent, tally.missed) == (50, 50, 50, 0, 0)
    assert tally.response.percentile(50) == pytest.approx(35 * MS, rel=0.01)
    assert tally.response.max_ns == 60 * MS
    assert tally.service.percentile(90) == 0
    assert tally.service.max_ns == 60 * MS
    assert tally.lateness.max_ns == 0


def test_an_end_before_its_time_leaves_nothing_of_what_was_handed_out_uncounted(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 50 * MS)
    clock.now_ns += 5 * MS
    opened.pacer.end_by(clock.now_ns)
    opened.pacer.end_by(clock.now_ns + 20 * MS)
    assert not opened.pacer.done.done()
    opened.turn()
    assert opened.pacer.done.done()
    assert not opened.timers
    assert (opened.tally.offered, opened.tally.missed, len(opened.queue.waiting)) == (5, 0, 3)


def test_more_in_flight_when_asked_for(clock: Clock) -> None:
    opened = Open(clock, connections=2, depth=3)
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 20 * MS)
    clock.now_ns += 19 * MS
    opened.turn()
    assert [len(transport.written) for transport in opened.transports] == [3, 3]
    assert len(opened.queue.waiting) == 14
    opened.answer(1, b":1\r\n:1\r\n")
    assert [len(transport.written) for transport in opened.transports] == [3, 5]


def test_warm_up_belongs_to_no_figure_but_to_the_account(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    for connection in opened.connections:
        connection.measure_from(start_ns + 2 * MS)
    opened.pacer.start(start_ns, start_ns + 2 * MS, start_ns + 3 * MS)
    for _ in range(3):
        for connection in opened.connections:
            if connection.sent > connection.answered:
                opened.answer(connection.number)
        clock.now_ns += MS
        if opened.timers:
            opened.turn()
    assert opened.tally.offered == opened.tally.sent == 1
    assert sum(connection.sent for connection in opened.connections) == 3


def test_the_pacers_own_lateness_is_recorded_and_what_it_missed_counted(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 10 * MS)
    clock.now_ns += 5 * MS
    opened.turn()
    assert opened.tally.lateness.max_ns == 4 * MS
    clock.now_ns = start_ns + 1000 * MS
    opened.pacer._tick()
    tally = opened.tally
    assert opened.pacer.done.done()
    assert tally.offered == 10
    assert tally.lateness.total == 10


def test_a_hopeless_rate_is_estimated_and_not_counted_one_by_one(clock: Clock) -> None:
    opened = Open(clock, rate=1e9)
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 1000 * MS)
    clock.now_ns = start_ns + 2000 * MS
    opened.turn()
    assert opened.tally.offered == pytest.approx(1e9, rel=0.01)
    assert opened.tally.missed > 0.99 * opened.tally.offered


def test_far_from_the_next_request_the_pacer_sleeps_and_near_it_spins(clock: Clock) -> None:
    opened = Open(clock, rate=100.0)
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 1000 * MS)
    assert opened.timers[0][0] == pytest.approx(0.009)
    clock.now_ns += 9 * MS
    opened.turn()
    assert opened.timers[0][0] == 0.0
    # Asleep and spinning with nothing to do are not being busy.
    assert opened.pacer.busy_ns == 0


def test_refusals_and_late_answers_in_an_open_loop(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 2 * MS)
    clock.now_ns += MS
    opened.turn()
    opened.answer(0, b"-ERR no\r\n")
    clock.now_ns += 200 * MS
    opened.answer(1)
    tally = opened.tally
    assert (tally.failed, tally.timed_out, tally.requests) == ({"ERR": 1}, 1, 0)
    assert opened.connections[0].failed == [0]
    assert (tally.response.total, tally.error_times.total) == (1, 1), "what came too late is no error"
    assert tally.response.max_ns >= 200 * MS


def test_what_waits_when_all_is_given_up_was_not_sent_and_its_wait_counts(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 10 * MS)
    clock.now_ns += 9 * MS
    opened.turn()
    for connection in opened.connections:
        connection.stop()
    assert opened.idle == []
    clock.now_ns = start_ns + 500 * MS
    opened.pacer.give_up(clock.now_ns)
    for connection in opened.connections:
        connection.give_up(clock.now_ns)
    tally = opened.tally
    assert (tally.offered, tally.sent, tally.not_sent, tally.timed_out) == (10, 2, 8, 2)
    assert tally.response.total == 10
    assert tally.response.percentile(1) >= 490 * MS
    assert tally.in_flight == 0


def test_stopping_an_open_loop_waits_for_the_last_answer_of_all_connections(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 3 * MS)
    clock.now_ns += 2 * MS
    opened.turn()
    for connection in opened.connections:
        connection.stop()
    opened.answer(0)
    assert [len(transport.written) for transport in opened.transports] == [2, 1]
    opened.answer(1)
    assert opened.idle == []
    opened.answer(0)
    assert opened.idle == [-1]


def test_a_request_that_waited_longer_than_its_timeout_is_not_sent_any_more(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 10 * MS)
    clock.now_ns += 9 * MS
    opened.turn()
    clock.now_ns = start_ns + 105 * MS
    opened.answer(0)
    tally = opened.tally
    # Those due 2 to 4 ms after the start waited for more than 100 ms; the next is sent.
    assert (tally.offered, tally.sent, tally.not_sent, tally.timed_out) == (10, 3, 3, 1)
    assert tally.response.total == 4


def test_what_the_generator_missed_is_in_the_response_times(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 100 * MS)
    clock.now_ns = start_ns + 1000 * MS
    opened.turn()
    tally = opened.tally
    assert tally.missed == tally.offered - tally.sent - len(opened.queue.waiting) > 50
    assert tally.response.total == tally.missed
    assert tally.response.max_ns >= 900 * MS


def test_how_long_replies_lay_here_is_recorded(opened: Open, clock: Clock) -> None:
    """A spinning loop looks at its sockets in every turn; in a sleeping one the second reply waits for the first."""
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 3 * MS)
    clock.now_ns += MS
    opened.turn()
    clock.now_ns += MS // 4
    opened.answer(0)
    assert opened.tally.receiving.max_ns == MS // 4
    asleep = Open(clock, rate=100.0)
    asleep.pacer.start(clock.now_ns, clock.now_ns, clock.now_ns + 30 * MS)
    clock.now_ns += 5 * MS
    asleep.answer(0)
    assert asleep.tally.receiving.max_ns == 0


def test_a_lost_connection_gets_nothing_more(opened: Open, clock: Clock) -> None:
    start_ns = clock.now_ns
    opened.pacer.start(start_ns, start_ns, start_ns + 10 * MS)
    opened.connections[0].connection_lost(None)
    opened.connections[1].connection_lost(None)
    clock.now_ns += 5 * MS
    opened.turn()
    assert opened.tally.failed == {"connection_lost": 1}
    assert opened.tally.connections_lost == {"connection_lost": 2}
    assert len(opened.queue.waiting) == 5
    assert opened.idle == [0, 1]


def test_more_replies_than_requests_end_an_open_connection(opened: Open, clock: Clock) -> None:
    opened.pacer.start(clock.now_ns, clock.now_ns, clock.now_ns + 10 * MS)
    opened.answer(0, b":1\r\n:1\r\n")
    assert opened.transports[0].aborted
    opened.connections[0].connection_lost(None)
    assert opened.tally.connections_lost == {"unasked_reply": 1}
    assert opened.tally.failed == {}
    assert (opened.tally.offered, opened.tally.requests) == (1, 1)
    assert list(opened.queue.free) == [opened.connections[1]]


SESSION = driver_for("naught-session")


def acknowledged(written: list[bytes]) -> list[int]:
    """The numbers of replies that were acknowledged, in the order sent."""
    unpacker = msgpack.Unpacker(raw=False)
    for data in written:
        unpacker.feed(data)
    return [message[2][0] for message in unpacker if message[:2] == [2, "ack"]]


@pytest.mark.parametrize(("depth", "batch", "every"), [(1, 1, 256), (100, 1, 300), (1, 100, 2)])
def test_a_closed_loop_acknowledges_replies_sooner_where_they_are_long(
    depth: int, batch: int, every: int, clock: Clock
) -> None:
    load = Workload("churn", keys=100, connections=1, batch=batch, seed=1)
    tally, transport = Tally(timeout_ns=100 * MS), Transport()
    lane = encode(SESSION, load.script(0), "p:", 1)
    connection = ClosedLoopConnection(
        0, SESSION, lane, depth=depth, tally=tally, on_idle=lambda: None, on_lost=lambda _: None
    )
    connection.start(cast(asyncio.Transport, transport))
    blocks = itertools.cycle(lane.blocks(depth))
    while connection.answered < 4 * every:
        reply = next(blocks).reply
        assert reply is not None
        connection.data_received(reply)
    assert acknowledged(transport.written) == [every * turn for turn in (1, 2, 3, 4)]
    assert tally.failed == {}


async def test_closing_acknowledges_before_each_portion() -> None:
    transport = Transport()
    closing = Closing(SESSION, [(number, 1) for number in range(600)], "p:", 77)
    closing.start(cast(asyncio.Transport, transport))
    for count in (256, 256, 88):
        numbers = range(closing.done, closing.done + count)
        closing.data_received(b"".join(SESSION.single_reply(number, -1, 0) or b"" for number in numbers))
    assert (closing.sent, closing.done) == (600, 600)
    assert closing.finished.done()
    assert acknowledged(transport.written) == [77, 77 + 256, 77 + 512]


async def test_closing_sends_portions_and_stops_at_a_refusal() -> None:
    transport = Transport()
    closing = Closing(DRIVER, [(number, 2) for number in range(300)], "p:")
    closing.start(cast(asyncio.Transport, transport))
    assert closing.sent == 256
    closing.data_received(b":0\r\n" * 256)
    assert closing.sent == 300
    closing.data_received(b":0\r\n" * 10 + b"-ERR no\r\n" + b":0\r\n" * 33)
    assert closing.finished.done()
    assert (closing.sent, closing.failed) == (300, ["ERR"])
    assert 256 <= closing.done <= 266


async def test_closing_nothing_is_done_at_once_and_a_lost_connection_ends_it() -> None:
    closing = Closing(DRIVER, [], "p:")
    closing.start(cast(asyncio.Transport, Transport()))
    assert closing.finished.done()
    closing = Closing(DRIVER, [(1, 1)], "p:")
    closing.start(cast(asyncio.Transport, Transport()))
    closing.connection_lost(None)
    assert closing.finished.done()
    assert (closing.sent, closing.done) == (1, 0)
