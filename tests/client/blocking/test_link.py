"""The link and the keeper of the client for threads, step by step: every thread moves when the test says so, time
passes when it says so, and the wire does as it says. What each of these tests forces would else happen once in a
million calls."""

from __future__ import annotations

import select
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from naught.blocking import Client, link
from naught.blocking.crowd import LOOK_S
from naught.blocking.gathering import GATHER_S
from naught.blocking.keeper import BUSY_S, REST_S
from naught.core import calls, windows
from naught.core.holds import Hold
from naught.core.windows import ACKNOWLEDGE_EVERY, HELLO_MSGID
from naught.errors import Busy, CallTimeout, ClientClosed, ConnectionFailed, InvalidRequest, OutcomeUnknown
from naught.wire.codec import encode_error, encode_notification
from support.lines import Line
from support.stage import URL, Call, Stage, staged
from support.turns import Descriptor

LEASE_S = 10.0
SENDING = "taken = connection.wire.send(data)"
LOOKS = ["pending = future.state == PENDING", "connection = future.reading"]
TAKING = "self._took(future, connection, data)"


class Silence(Descriptor):
    """Nothing ever happens there."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return False


def raises(error: BaseException) -> Callable[[], None]:
    """A signal handler that raises this."""

    def handle() -> None:
        raise error

    return handle


def incr(client: Client[str]) -> int:
    return client.incr("k")


def pending(call: Call) -> bool:
    return not call.ended


def serves(stage: Stage) -> None:
    """Whatever was before, calls are answered: of a thread that follows, and of one that reads itself."""
    stage.wait(5.0)
    stage.line.requests()
    for value in (41, 42):
        call = stage.call(incr)
        stage.wait(2 * GATHER_S)
        stage.line.reply(*stage.msgids("incr"), value)
        stage.settle()
        assert call.outcome == value


# ------------------------------------------------------------------------------------------- who reads, who follows


@staged
def test_a_lone_call_writes_and_reads_itself(stage: Stage) -> None:
    stage.open()
    stage.busy()
    call = stage.call(incr)
    assert stage.link.connection is not None
    assert stage.link.connection.reader is not None
    assert call.task is not None
    assert stage.link.connection.reader.thread == call.task.thread.ident  # type: ignore[union-attr]
    stage.line.reply(*stage.msgids("incr"), 1)
    stage.settle()
    assert call.outcome == 1
    assert stage.link.connection.reader is None


@staged
def test_the_keeper_reads_while_nobody_calls_and_is_relieved(stage: Stage) -> None:
    stage.open()
    assert stage.link.connection is not None
    assert stage.link.connection.reader is stage.keeper
    call = stage.call(incr)
    stage.line.reply(*stage.msgids("incr"), 1)
    stage.settle()
    assert call.outcome == 1
    assert stage.link.connection.reader is None
    stage.wait(3 * REST_S)
    assert stage.link.connection.reader is stage.keeper


@staged
def test_reading_goes_from_one_to_the_next(stage: Stage) -> None:
    stage.open()
    stage.busy()
    callers = []
    msgids = []
    for number in range(5):
        callers.append(stage.call(lambda client, number=number: client.wait_zero(f"k:{number}")))
        msgids += stage.msgids("wait_zero")
    for number in (0, 4, 1, 3, 2):
        stage.line.reply(msgids[number], True)
        stage.settle()
        assert callers[number].outcome is True
    serves(stage)


@staged
def test_while_a_lone_thread_calls_the_keeper_does_not_read(stage: Stage) -> None:
    stage.open()
    stage.busy()
    for value in range(8):
        call = stage.call(incr)
        assert stage.answer(value) == 1
        assert call.outcome == value
        stage.wait(0.6 * REST_S)
        assert stage.link.connection is not None
        assert stage.link.connection.reader is None


@staged
def test_a_lone_call_that_is_not_answered_ends_in_time(stage: Stage) -> None:
    stage.open()
    stage.busy()
    call = stage.call(lambda client: client.incr("k", timeout=0.3))
    stage.msgids("incr")
    stage.wait(0.29)
    assert pending(call)
    stage.wait(0.02)
    assert call.outcome is CallTimeout
    serves(stage)


@staged
def test_a_lone_call_waits_for_who_writes(stage: Stage) -> None:
    """An acknowledgement is on its way, and no call."""
    stage.open()
    stage.busy()
    session = stage.link.session
    while session._windows.received - session._windows.acknowledged < ACKNOWLEDGE_EVERY - 1:
        call = stage.call(incr)
        assert stage.answer() == 1
    call = stage.call(incr)
    stage.line.slow = True
    assert stage.answer() == 1
    assert pending(call), "it writes"
    assert not session._windows.in_flight
    other = stage.call(incr)
    assert [request[1] for request in stage.line.requests()] == ["ack"]
    stage.line.slow = False
    stage.settle()
    assert stage.answer(2) == 1
    assert (call.outcome, other.outcome) == (1, 2)
    serves(stage)


@staged
def test_of_few_threads_each_call_is_written_at_once(stage: Stage) -> None:
    stage.open()
    stage.busy()
    first = stage.call(incr)
    (one,) = stage.msgids("incr")
    second = stage.call(incr)
    (two,) = stage.msgids("incr")
    stage.line.reply(one, 1)
    stage.line.reply(two, 2)
    stage.settle()
    assert (first.outcome, second.outcome) == (1, 2)


def many(stage: Stage) -> None:
    """Many threads have called at the same time, and their calls are answered: the keeper reads for all. And a
    moment has passed: nobody is expected to call again at once."""
    for _ in range(2):
        callers = [stage.call(incr) for _ in range(16)]
        while any(pending(call) for call in callers):
            if not stage.answer():
                stage.wait(2 * GATHER_S)
    assert stage.link.gathering.crowded
    stage.wait(2 * GATHER_S)


@staged
def test_of_many_threads_half_the_calls_travel_together(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    first = stage.call(incr)
    (one,) = stage.msgids("incr")
    share = stage.link.gathering.share
    assert 4 <= share <= 8
    others = [stage.call(incr) for _ in range(share - 1)]
    assert stage.msgids() == [], "more may come while the first is on its way"
    others.append(stage.call(incr))
    (half,) = stage.msgids("apply")
    more = [stage.call(incr) for _ in range(2)]
    assert stage.msgids() == []
    stage.line.reply(one, 1)
    stage.settle()
    assert first.outcome == 1
    assert stage.msgids() == [], "the server has something to do"
    now = stage.turns.now
    stage.line.reply(half, list(range(share)))
    stage.settle()
    assert sorted(call.outcome for call in others) == list(range(share))
    assert stage.msgids() == [], "those who have just been let through may call again"
    more += [stage.call(incr) for _ in range(stage.link.gathering.share - 2)]
    assert stage.answer() == len(more)
    assert {call.outcome for call in more} == {1}
    assert stage.turns.now == now
    serves(stage)


@staged
def test_a_write_waits_for_half_of_the_callers_only_where_they_are_about_to_call(stage: Stage) -> None:
    def two_wait_and_others_are_let_through() -> list[Call]:
        calls = [stage.call(incr)]
        calls += [stage.call(incr) for _ in range(stage.link.gathering.share)]
        first, half = (request for request in stage.line.requests() if len(request) == 4)
        calls += [stage.call(incr) for _ in range(2)]
        stage.line.reply(half[1], [1] * len(half[3][0]))
        stage.line.reply(first[1], 1)
        stage.settle()
        assert sum(map(pending, calls)) == 2
        return calls

    stage.open()
    stage.busy()
    many(stage)
    calls = two_wait_and_others_are_let_through()
    assert stage.msgids() == []
    now = stage.turns.now
    while not stage.answer():
        stage.wait(GATHER_S / 4)
    assert stage.turns.now < now + 2 * GATHER_S
    assert {call.outcome for call in calls} == {1}
    calls = two_wait_and_others_are_let_through()
    assert stage.answer() == 2, "nobody has called the last time, so that is not waited for again soon"
    assert {call.outcome for call in calls} == {1}


@staged
def test_the_first_to_call_again_waits_for_the_others(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    calls = [stage.call(incr) for _ in range(1 + stage.link.gathering.share)]
    while any(pending(call) for call in calls):
        assert stage.answer()
    calls = [stage.call(incr)]
    assert stage.msgids() == []
    calls += [stage.call(incr) for _ in range(stage.link.gathering.share - 1)]
    assert stage.answer() == len(calls)


@staged
def test_what_a_window_held_back_is_written_when_it_opens(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    calls = [stage.call(lambda client: client.top(3)) for _ in range(20)]
    stage.wait(2 * GATHER_S)
    msgids = [request[1] for request in stage.line.requests()]
    assert 1 < len(msgids) < 20
    assert stage.link.gathering.crowded
    for number in range(20 - len(msgids)):
        stage.line.reply(msgids[number], [[], []])
        stage.settle()
        assert calls[number].outcome == []
        msgids += stage.msgids("top")  # though others are on their way


def others_are_let_through(stage: Stage, meanwhile: Callable[[], None]) -> None:
    """Of a crowd that is half of all, while nothing else is on its way and `meanwhile` has begun to gather."""
    stage.call(incr)
    first = stage.msgids("incr")
    for _ in range(stage.link.gathering.share):
        stage.call(incr)
    half = [request for request in stage.line.requests() if len(request) == 4]
    meanwhile()
    assert stage.msgids() == []
    stage.line.reply(half[0][1], [1] * len(half[0][3][0]))
    stage.line.reply(first[0], 1)
    stage.settle()


@staged
def test_should_the_first_of_a_crowd_be_held_up_the_keeper_writes(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    calls: list[Call] = []

    def gather() -> None:
        calls.append(stage.call(incr, stops=["Link._follow"]))
        assert calls[0].task is not None
        assert calls[0].task.at is not None
        calls.extend(stage.call(incr) for _ in range(2))

    others_are_let_through(stage, gather)
    assert stage.msgids() == [], "others may call again"
    stage.wait(2 * BUSY_S)
    assert stage.answer() == 3
    assert [pending(call) for call in calls] == [True, False, False]
    stage.go_on(calls[0])
    assert calls[0].outcome == 1


@staged
def test_what_answers_nobody_raises_no_hopes(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    calls: list[Call] = []
    others_are_let_through(stage, lambda: calls.append(stage.call(incr)))
    stage.wait(0.9 * GATHER_S)
    stage.line.down += encode_notification("weather", ())
    stage.settle()
    stage.wait(0.2 * GATHER_S)
    assert stage.answer() == 1
    assert calls[0].outcome == 1
    assert stage.link.gathering._wary, "it was waited for those who were let through, and in vain"


@staged
def test_who_has_waited_for_the_server_was_not_disappointed_by_callers(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    stage.call(lambda client: client.top(3))
    (slow,) = stage.msgids("top")
    for _ in range(stage.link.gathering.share):
        stage.call(incr)
    assert stage.answer() > 3
    stage.wait(2 * GATHER_S)
    call = stage.call(incr)
    assert stage.msgids() == []
    stage.wait(2 * GATHER_S)
    assert stage.answer() == 1
    assert call.outcome == 1
    assert not stage.link.gathering._wary
    stage.line.reply(slow, [[], []])
    stage.settle()


@pytest.mark.patches
@staged
def test_nobody_joins_unseen_who_waits_for_a_window(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "PARKED_MAX", 2)
        for number in range(3):
            stage.call(lambda client, number=number: client.wait_zero(f"k:{number}"))
        assert len(stage.line.requests()) == 2
        now = stage.turns.now
        call = stage.call(incr)
        assert stage.answer() == 1
        assert call.outcome == 1
        assert stage.turns.now == now
        stage.close()


@staged
def test_an_acknowledgement_that_is_due_does_not_cut_what_gathers(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    calls: list[Call] = []

    def gather() -> None:
        calls.extend(stage.call(incr) for _ in range(2))
        stage.link.session._windows.must_acknowledge = True

    others_are_let_through(stage, gather)
    while stage.link.session._windows.must_acknowledge:
        assert stage.line.requests() == []
        calls.append(stage.call(incr))
    assert len(calls) > 3


@staged
def test_who_calls_long_after_many_have_been_let_through_waits_for_nobody(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    calls = [stage.call(incr) for _ in range(9)]
    while any(pending(call) for call in calls):
        if not stage.answer():
            stage.wait(2 * GATHER_S)
    stage.wait(GATHER_S)
    calls = [stage.call(incr)]
    assert stage.answer() == 1
    assert calls[0].outcome == 1


@staged
def test_a_call_waits_for_others_no_longer_than_it_takes(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    first = stage.call(lambda client: client.top(3))
    (slow,) = stage.msgids("top")
    second, third = stage.call(incr), stage.call(incr)
    stage.wait(GATHER_S / 2)
    assert stage.msgids() == []
    stage.wait(GATHER_S)
    stage.line.reply(*stage.msgids("apply"), [1, 2])
    stage.settle()
    assert sorted((second.outcome, third.outcome)) == [1, 2]
    stage.line.reply(slow, [[], []])
    stage.settle()
    assert first.outcome == []


@staged
def test_what_is_to_be_written_is_written_before_anybody_is_let_through(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    first = [stage.call(incr)]
    (one,) = stage.msgids("incr")
    second = [stage.call(incr) for _ in range(2)]
    stage.line.slow = True
    stage.line.reply(one, 1)
    stage.settle()
    assert pending(first[0]), "its answer is there, and the keeper writes"
    (two,) = stage.msgids("apply")
    stage.line.slow = False
    stage.settle()
    assert first[0].outcome == 1
    stage.line.reply(two, [2, 3])
    stage.settle()
    assert sorted(call.outcome for call in second) == [2, 3]


@staged
def test_the_keeper_reads_for_many_until_they_are_few(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    connection = stage.link.connection
    assert connection is not None
    assert connection.reader is stage.keeper
    for value in range(60):
        calls = [stage.call(incr), stage.call(incr)]
        while any(pending(call) for call in calls):
            if not stage.answer(value):
                stage.wait(2 * GATHER_S)
    assert not stage.link.gathering.crowded
    call = stage.call(incr)
    stage.answer()
    assert call.outcome == 1
    stage.busy()
    call = stage.call(incr)
    assert connection.reader is not stage.keeper
    stage.answer()
    assert call.outcome == 1


@staged
def test_a_crowd_survives_its_connection(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    calls = [stage.call(incr) for _ in range(6)]
    stage.line.tear()
    stage.resume(missing=stage.link.session.unanswered)
    while any(pending(call) for call in calls):
        if not stage.answer():
            stage.wait(2 * GATHER_S)
    assert [call.outcome for call in calls] == [1] * 6
    serves(stage)


@staged
def test_an_interrupt_in_a_crowd_costs_the_others_nothing(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    stage.call(lambda client: client.top(3))
    (slow,) = stage.msgids("top")
    calls = [stage.call(incr, main=not number) for number in range(3)]
    assert calls[0].task is not None
    stage.turns.interrupt(calls[0].task, raises(KeyboardInterrupt()))
    stage.settle()
    assert calls[0].outcome is KeyboardInterrupt
    stage.wait(2 * GATHER_S)
    assert stage.answer() == 2, "it was the first, who looks whether all is sent"
    assert [call.outcome for call in calls[1:]] == [1, 1]
    stage.line.reply(slow, [[], []])
    stage.settle()
    serves(stage)


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_many_threads_in_drawn_orders(seed: int, breaks: bool) -> None:
    """Nobody waits in vain, however they come in each other's way: only the waits that the test asks for take time,
    and each is as long as a call may gather. What is missed costs a whole look of `LOOK_S`."""
    outcomes: list[int] = []

    def work(client: Client[str]) -> None:
        outcomes.extend(client.incr("k", timeout=None) for _ in range(6))

    @staged
    def run(stage: Stage) -> None:
        stage.open()
        stage.busy()
        random = stage.turns.random = Random(seed)
        stage.turns.preempt = random.choice([0.02, 0.1, 0.3])
        start = stage.turns.now
        callers = [stage.call(work) for _ in range(random.choice([3, 5, 9, 17]))]
        while any(pending(call) for call in callers):
            if breaks and random.random() < 0.05:
                stage.line.requests()  # read, and not answered
                stage.line.tear()
                stage.resume(missing=random.randint(0, stage.link.session.unanswered))
                start += 10.0
            elif not stage.answer():
                stage.wait(2 * GATHER_S)
        assert {call.outcome for call in callers} == {None}
        assert len(outcomes) == 6 * len(callers)
        if not breaks:
            assert stage.turns.now - start < LOOK_S
        stage.turns.preempt = 0.0

    run()


@staged
def test_closing_lets_a_crowd_through(stage: Stage) -> None:
    stage.open()
    stage.busy()
    many(stage)
    calls = [stage.call(incr) for _ in range(6)]
    stage.close()
    assert {call.outcome for call in calls} == {ClientClosed}


@staged
def test_who_waits_at_the_server_holds_up_nobody(stage: Stage) -> None:
    stage.open()
    stage.parked()
    now = stage.turns.now
    call = stage.call(incr)
    stage.line.reply(*stage.msgids("incr"), 1)
    stage.settle()
    assert call.outcome == 1
    assert stage.turns.now == now


@staged
def test_a_call_without_any_time_leaves_nothing_behind(stage: Stage) -> None:
    stage.open()
    for timeout in (0, 0.0):
        assert stage.call(lambda client, timeout=timeout: client.incr("k", timeout=timeout)).outcome is CallTimeout
    serves(stage)
    stage.parked()
    assert stage.call(lambda client: client.incr("k", timeout=0)).outcome is CallTimeout
    assert stage.call(lambda client: client.get("k", timeout=0)).outcome is CallTimeout
    stage.line.reply(1, True)
    serves(stage)


@staged
def test_who_is_answered_before_he_waits_is_not_asked_to_read(stage: Stage) -> None:
    """A call is known to the session a moment before its thread waits, and others may have sent it meanwhile."""
    stage.open()
    parked = stage.parked()
    asked = stage.call(lambda client: client.get("k"), stops=["Link.wait"])
    other = stage.call(incr)
    for _, msgid, method, _ in stage.line.requests():
        stage.line.reply(msgid, {"get": 7, "incr": 1}[method])
    stage.settle()
    assert other.outcome == 1
    stage.go_on(asked)
    assert asked.outcome == 7
    stage.line.reply(1, True)
    stage.settle()
    assert parked.outcome is True
    serves(stage)


@staged
def test_who_is_appointed_and_settled_between_two_looks_passes_on(stage: Stage) -> None:
    """Another looks at the time for it, in the very moment between its own looks at what it is to do."""
    stage.open()
    parked = stage.parked()
    late = stage.call(lambda client: client.get("k", timeout=0.1), stops=LOOKS)
    stage.go_on(late)
    stage.msgids("get")
    stage.line.reply(1, True)
    stage.settle()
    assert parked.outcome is True
    other = stage.call(lambda client: client.get("j", timeout=0.2))
    stage.wait(0.3)
    assert other.outcome is CallTimeout
    stage.go_on(late)
    stage.wait(0.1)
    assert late.outcome is CallTimeout
    serves(stage)


@staged
def test_what_is_only_written_is_never_asked_to_read(stage: Stage) -> None:
    """A hold is given back, by nobody who waits, on a connection that breaks meanwhile."""
    stage.open()
    stage.parked()
    broken = stage.line
    broken.slow = True
    back = stage.do(lambda: stage.link.release_untaken(Hold(7, 1)))
    broken.tear()
    stage.resume()
    stage.settle()
    broken.slow = False
    stage.settle()
    assert back.outcome is None
    stage.line.requests()
    serves(stage)


@staged
def test_many_who_follow_are_forgotten_when_they_are_settled(stage: Stage) -> None:
    stage.open()
    stage.parked()
    for _ in range(300):
        call = stage.call(incr)
        stage.line.reply(*stage.msgids("incr"), 1)
        stage.settle()
        assert call.outcome == 1
    assert len(stage.link._followers) <= 101
    assert len(stage.link.session._deadlines) < 5_000


# ------------------------------------------------------------------------------------------------- deadlines


@staged
def test_a_server_that_stops_costs_every_caller_its_own_time(stage: Stage) -> None:
    stage.open()
    start = stage.turns.now
    ended: dict[float, float] = {}

    def ask(timeout: float) -> Callable[[Client[str]], None]:
        def asked(client: Client[str]) -> None:
            with pytest.raises(CallTimeout):
                client.incr("k", timeout=timeout)
            ended[timeout] = stage.turns.now - start

        return asked

    callers = [stage.call(ask(timeout)) for timeout in (0.5, 1.0, 0.2, 3.0, 0.2)]
    stage.wait(5.0)
    assert [call.outcome for call in callers] == [None] * 5
    assert all(timeout <= ended[timeout] < timeout + 5 * GATHER_S for timeout in ended), ended
    stage.answer()
    serves(stage)


@staged
def test_a_timeout_longer_than_the_system_knows(stage: Stage) -> None:
    stage.open()
    for timeout in (1e12, 1e300):
        for reads in (True, False):
            if reads:
                stage.busy()
            call = stage.call(lambda client, timeout=timeout: client.incr("k", timeout=timeout))
            stage.wait(200_000.0)
            stage.line.reply(*stage.msgids("incr"), 1)
            stage.settle()
            assert call.outcome == 1
            stage.wait(1.0)


@pytest.mark.parametrize("silent", ["machine", "server"])
def test_the_time_of_a_lease_is_kept_while_connecting(silent: str) -> None:
    """To a server that takes connections and is silent, and to one whose machine is."""

    @staged
    def scenario(stage: Stage) -> None:
        silence = Silence(stage.turns)
        stage.open(connect_timeout=60.0)
        permit = stage.call(lambda client: client.semaphore("s", 1).acquire())
        stage.line.reply(*stage.msgids("acquire"), [True, [1], 5])
        stage.settle()
        stage.wait(1.0)
        if silent == "machine":
            stage.net.connecting = lambda wait: wait(silence.fileno(), select.POLLOUT)
        stage.line.tear()
        stage.wait(LEASE_S - 0.1)
        assert not permit.outcome.lost
        stage.wait(0.2)
        assert permit.outcome.lost
        silence.close()

    scenario()


# ------------------------------------------------------------------------------------------------- writing


@staged
def test_what_does_not_fit_is_written_by_the_keeper(stage: Stage) -> None:
    stage.open()
    stage.busy()
    stage.line.room = 5
    first = stage.call(incr)
    others = [stage.call(lambda client: client.get("k")) for _ in range(3)]
    assert len(stage.line.up) == 5
    stage.line.room = 1 << 20
    stage.settle()
    stage.wait(2 * GATHER_S)
    requests = stage.line.requests()
    assert [request[2] for request in requests] == ["incr", "get", "get", "get"]
    for number, (_, msgid, _, _) in enumerate(requests):
        stage.line.reply(msgid, number)
    stage.settle()
    assert [first.outcome, *(call.outcome for call in others)] == [0, 1, 2, 3]


@staged
def test_what_does_not_fit_goes_on_byte_by_byte(stage: Stage) -> None:
    stage.open()
    stage.line.piece = 1
    calls = [stage.call(incr) for _ in range(4)]
    stage.line.piece = 3
    stage.wait(2 * GATHER_S)
    answered = 0
    while answered < 4:
        answered += stage.answer(9)
    assert [call.outcome for call in calls] == [9] * 4


@staged
def test_a_full_wire_is_waited_for_and_not_looked_at(stage: Stage) -> None:
    stage.open()
    stage.parked()
    stage.line.room = 5
    callers = [stage.call(incr) for _ in range(10)]
    stage.wait(0.9)
    wakes = [call.task.wakes for call in callers if call.task is not None]
    assert max(wakes) < 10, "they look every millisecond"
    stage.wait(1.0)
    assert {call.outcome for call in callers} == {CallTimeout}
    stage.line.room = 1 << 20
    stage.settle()
    stage.line.requests()
    serves(stage)


@staged
def test_a_connection_that_breaks_with_something_unsent(stage: Stage) -> None:
    for reading in (True, False):
        if stage.opened is None:
            stage.open()
        else:
            serves(stage)
        if reading:
            stage.busy()
        stage.line.room = 5
        call = stage.call(lambda client: client.get("k"))
        broken = stage.line
        broken.tear()
        stage.wait(0.5)
        assert broken.closed
        stage.resume(missing=1)
        stage.line.reply(*stage.msgids("get"), 3)
        stage.settle()
        assert call.outcome == 3


@staged
def test_who_writes_sends_what_could_not_be_sent_meanwhile(stage: Stage) -> None:
    """It is not the one who reads, and the reply is there before it is back from the system."""
    stage.open()
    stage.parked()
    stage.line.slow = True
    first = stage.call(incr)
    (msgid,) = stage.msgids("incr")
    second = stage.call(incr)
    stage.line.reply(msgid, 1)
    stage.settle()
    assert stage.msgids() == []
    now = stage.turns.now
    stage.line.slow = False
    stage.settle()
    assert first.outcome == 1
    stage.line.reply(*stage.msgids("incr"), 2)
    stage.settle()
    assert second.outcome == 2
    assert stage.turns.now == now


@staged
def test_who_reads_need_not_wait_for_who_writes(stage: Stage) -> None:
    """What is written has no reply that would have the reader look again."""
    stage.open()
    stage.busy()
    stage.line.slow = True
    back = stage.do(lambda: stage.link.release_untaken(Hold(7, 1)))
    stage.msgids("release")
    call = stage.call(incr)
    assert stage.msgids() == []
    stage.line.slow = False
    stage.settle()
    assert back.outcome is None
    stage.line.reply(*stage.msgids("incr"), 1)
    stage.settle()
    assert call.outcome == 1


# ------------------------------------------------------------------------------------------------- connections


@staged
def test_a_connection_that_is_lost_under_all_is_replaced_for_all(stage: Stage) -> None:
    stage.open()
    callers = [stage.call(lambda client: client.get("k")) for _ in range(5)]
    stage.wait(2 * GATHER_S)
    accepted = stage.msgids(*["get"] * 5)[:2]
    stage.line.tear()
    stage.resume(missing=3)
    for number, msgid in enumerate(accepted + stage.msgids(*["get"] * 3)):
        stage.line.reply(msgid, number)
    stage.settle()
    assert sorted(call.outcome for call in callers) == [0, 1, 2, 3, 4]
    assert stage.net.lines[0].closed


@staged
def test_the_keeper_looks_whether_the_connection_is_there_still(stage: Stage) -> None:
    """It is lost, and let go of, just before it was to be read."""
    stage.open()
    parked = stage.parked()
    stage.keepers_task.stops.add("Keeper._watch")
    stage.wait(2 * REST_S)
    assert stage.keepers_task.at is not None
    stage.line.tear()
    stage.settle()
    assert stage.line.closed
    stage.keepers_task.at = None
    stage.resume()
    stage.line.reply(1, True)
    stage.settle()
    assert parked.outcome is True


@staged
def test_a_server_that_says_more_than_hello(stage: Stage) -> None:
    stage.open()
    stage.line.tear()
    stage.wait(0.5)
    stage.line.resume(0)
    stage.line.reply(99, None)
    stage.settle()
    assert stage.net.lines[1].closed
    stage.resume()
    serves(stage)


@staged
def test_a_server_that_closes_at_once_or_is_silent(stage: Stage) -> None:
    stage.open(connect_timeout=2.0)
    stage.line.tear()
    for _ in range(3):
        stage.wait(1.5)
        stage.line.end()
    stage.wait(1.5)
    silent = stage.line
    stage.wait(2.0)
    assert silent.closed
    stage.resume()
    serves(stage)


@staged
def test_whatever_goes_wrong_while_connecting_it_is_tried_again(stage: Stage) -> None:
    def refuse(_: Any) -> None:
        raise UnicodeError("label too long")

    stage.open()
    stage.net.connecting = refuse
    stage.line.tear()
    stage.wait(3.0)
    stage.net.connecting = lambda _: None
    stage.resume()
    serves(stage)


@staged
def test_a_server_that_stops_is_left_when_it_owes_nothing(stage: Stage) -> None:
    stage.open()
    stage.busy()
    slow = stage.call(lambda client: client.top(3, timeout=0.5))
    stage.msgids("top")
    refused = stage.call(lambda client: client.incr("k", timeout=5.0))
    stage.wait(2 * GATHER_S)
    stage.line.reply_error(*stage.msgids("incr"), "shutting_down")
    stage.settle()
    assert not stage.line.hung_up, "there is a reply to come"
    stage.wait(1.0)
    assert slow.outcome is CallTimeout
    assert stage.net.lines[0].hung_up
    stage.resume()
    stage.line.reply(*stage.msgids("incr"), 1)
    stage.settle()
    assert refused.outcome == 1


@staged
def test_a_cache_that_is_refused_at_first_and_later(stage: Stage) -> None:
    refused = stage.do(lambda: Client(URL))
    stage.line.down += encode_error(HELLO_MSGID, "invalid", "no such cache")
    stage.settle()
    stage.wait(1.0)
    assert refused.outcome is InvalidRequest
    assert stage.line.closed
    stage.open(session=False)
    stage.line.tear()
    waits = stage.call(lambda client: client.incr("k", timeout=None))
    stage.wait(0.5)
    stage.line.down += encode_error(HELLO_MSGID, "invalid", "no such cache any more")
    stage.settle()
    assert waits.outcome is InvalidRequest
    stage.wait(2.0)
    stage.line.greet(session=None)
    serves(stage)


@staged
def test_a_first_connection_that_is_not_made_in_time(stage: Stage) -> None:
    silent = stage.do(lambda: Client(URL, connect_timeout=2.0))
    stage.wait(3.0)
    assert silent.outcome is ConnectionFailed
    assert all(line.closed for line in stage.net.lines)
    stage.net.up = False
    refused = stage.do(lambda: Client(URL, connect_timeout=2.0))
    stage.wait(3.0)
    assert refused.outcome is ConnectionFailed
    assert "refused" in str(refused.error)


@staged
def test_what_is_asked_while_there_is_no_connection_goes_out_with_the_next(stage: Stage) -> None:
    stage.open(session=False)
    stage.line.tear()
    stage.settle()
    stage.net.up = False
    callers = [stage.call(lambda client: client.incr("k", timeout=None)) for _ in range(3)]
    stage.wait(0.2)
    stage.net.up = True
    while len(stage.net.lines) == 1:
        stage.wait(0.01)
    stage.line.greet(session=None)
    stage.settle()
    assert stage.answer() == 3
    assert [call.outcome for call in callers] == [1, 1, 1]


# ------------------------------------------------------------------------------------------------- idle


@staged
def test_nobody_wakes_up_for_nothing(stage: Stage) -> None:
    stage.open()
    before = stage.keepers_task.wakes
    stage.wait(100_000.0)
    assert stage.keepers_task.wakes == before
    parked = stage.parked()
    follower = stage.call(lambda client: client.wait_zero("too"))
    stage.wait(1.0)
    tasks = [parked.task, follower.task, stage.keepers_task]
    wakes = [task.wakes for task in tasks if task is not None]
    stage.wait(50_000.0)
    assert [task.wakes for task in tasks if task is not None] == wakes


@staged
def test_the_keeper_reads_when_one_who_read_for_long_stops(stage: Stage) -> None:
    stage.open()
    parked = stage.parked()
    stage.wait(10.0)
    stage.line.reply(1, True)
    stage.settle()
    assert parked.outcome is True
    stage.wait(1.0)
    assert stage.link.connection is not None
    assert stage.link.connection.reader is stage.keeper
    stage.line.tear()
    stage.wait(0.5)
    assert len(stage.net.lines) == 2, "nobody calls, and the session is kept"


# ------------------------------------------------------------------------------------------------- the end


@staged
def test_closing_wakes_all(stage: Stage) -> None:
    stage.open()
    waiters = [stage.call(lambda client: client.wait_zero("k")) for _ in range(20)]
    closing = stage.call(lambda client: client.close())
    assert sum(call.ended for call in waiters) >= 19, "the last one reads"
    assert [request[1 if request[0] == 2 else 2] for request in stage.line.requests()][-1] == "bye"
    assert stage.line.finished
    stage.line.end()
    stage.settle()
    assert {call.outcome for call in waiters} == {ClientClosed}
    assert closing.outcome is None
    assert stage.call(incr).outcome is ClientClosed
    assert stage.call(lambda client: client.close()).outcome is None


@staged
def test_closing_does_not_wait_long_for_a_server_that_is_silent(stage: Stage) -> None:
    stage.open()
    parked = stage.parked()
    start = stage.turns.now
    closing = stage.call(lambda client: client.close())
    while pending(closing):
        stage.wait(0.01)
    assert stage.turns.now - start < 1.0
    stage.settle()
    assert parked.outcome is ClientClosed


@staged
def test_what_still_comes_after_the_farewell_does_not_end_the_connection(stage: Stage) -> None:
    """Closing with replies unread would have the system reset it, and the server lose the farewell."""
    for reading in (True, False):
        stage.open()
        parked = stage.parked() if reading else None
        closing = stage.call(lambda client: client.close())
        for _ in range(3):
            stage.line.reply(1, True)
            stage.settle()
            assert not stage.line.hung_up
            assert pending(closing)
        stage.line.end()
        stage.settle()
        assert closing.outcome is None
        assert parked is None or parked.outcome is ClientClosed


@staged
def test_the_farewell_comes_after_what_is_half_written(stage: Stage) -> None:
    stage.open()
    stage.line.room = 5
    call = stage.call(incr)
    closing = stage.call(lambda client: client.close())
    stage.settle()
    assert not stage.line.finished
    stage.line.room = 1 << 20
    stage.settle()
    first, *_, last = stage.line.requests()
    assert (first[2], last[1]) == ("incr", "bye")
    assert stage.line.finished
    stage.line.end()
    stage.settle()
    assert call.outcome is ClientClosed
    assert closing.outcome is None


@staged
def test_the_farewell_comes_after_what_another_writes(stage: Stage) -> None:
    stage.open()
    stage.line.slow = True
    call = stage.call(incr)
    closing = stage.call(lambda client: client.close())
    assert len(stage.line.requests()) == 1
    stage.line.slow = False
    stage.settle()
    assert [request[1] for request in stage.line.requests()] == ["bye"]
    stage.line.end()
    stage.settle()
    assert call.outcome is ClientClosed
    assert closing.outcome is None


@pytest.mark.parametrize("silent", ["machine", "server"])
def test_closing_while_connecting_is_done_at_once(silent: str) -> None:
    @staged
    def scenario(stage: Stage) -> None:
        silence = Silence(stage.turns)
        stage.open()
        if silent == "machine":
            stage.net.connecting = lambda wait: wait(silence.fileno(), select.POLLOUT)
        stage.line.tear()
        stage.wait(0.5)
        call = stage.call(lambda client: client.incr("k", timeout=None))
        now = stage.turns.now
        wakes = stage.keepers_task.wakes
        closing = stage.call(lambda client: client.close())
        assert closing.outcome is None
        assert call.outcome is ClientClosed
        assert stage.keepers_task.ended
        assert stage.turns.now == now
        assert stage.keepers_task.wakes - wakes < 10
        silence.close()

    scenario()


@staged
def test_closing_by_a_thread_that_has_interrupted_the_shutting(stage: Stage) -> None:
    """The keeper sees that the client is closed before all of that is done."""
    stage.open()
    stage.busy()
    stage.keepers_task.stops.add("Keeper._see_off")
    closing = stage.call(lambda client: client.close(), stops=["self.connection = None"])
    stage.wait(REST_S)
    stage.go_on(closing)
    stage.wait(0.1)
    assert stage.keepers_task.at == "Keeper._see_off", "there is somebody to be seen off"
    stage.keepers_task.at = None
    stage.settle()
    stage.line.end()
    stage.settle()
    assert closing.outcome is None


@pytest.mark.parametrize("when", ["idle", "locked", "connecting", "full"])
def test_a_client_that_is_forgotten_is_closed(when: str) -> None:
    @staged
    def scenario(stage: Stage) -> None:
        stage.open()
        line = stage.line
        if when == "connecting":
            line.tear()
            stage.wait(0.5)
        if when == "full":  # of calls that the keeper has not heard, as it is slow
            stage.keepers_task.ready = lambda: False
            for _ in range(300):
                stage.keeper.call()
        if when == "locked":
            stage.do(lambda: stage.link.locked(stage.link.finalize))
        else:
            stage.do(stage.link.finalize)
        stage.keepers_task.ready = None
        stage.settle()
        if when != "connecting":
            assert [request[1] for request in line.requests()] == ["bye"]
            line.end()
        stage.settle()
        assert stage.link.closed
        assert stage.keepers_task.ended

    scenario()


# ------------------------------------------------------------------------------------------------- interrupts


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError("the handler's")])
def test_an_interrupt_where_it_reads_costs_the_connection(error: BaseException) -> None:
    @staged
    def scenario(stage: Stage) -> None:
        stage.open()
        stage.busy()
        follower = stage.call(lambda client: client.wait_zero("other"), name="follower")
        stage.msgids("wait_zero")
        stage.line.reply(1, True)
        stage.settle()
        assert follower.outcome is True
        main = stage.call(lambda client: client.wait_zero("k"), main=True)
        (msgid,) = stage.msgids("wait_zero")
        follower = stage.call(lambda client: client.wait_zero("other"), name="follower")
        stage.msgids("wait_zero")
        assert main.task is not None
        stage.turns.interrupt(main.task, raises(error))
        stage.settle()
        assert main.error is error
        assert stage.net.lines[0].closed
        stage.resume()
        stage.line.reply(msgid, True)
        stage.line.reply(msgid + 1, True)
        stage.settle()
        assert follower.outcome is True
        serves(stage)

    scenario()


@staged
def test_an_interrupt_of_who_follows_costs_nothing(stage: Stage) -> None:
    stage.open()
    parked = stage.parked()
    main = stage.call(lambda client: client.wait_zero("k"), main=True)
    assert main.task is not None
    stage.turns.interrupt(main.task, raises(KeyboardInterrupt()))
    stage.settle()
    assert main.outcome is KeyboardInterrupt
    stage.line.reply(1, True)
    stage.settle()
    assert parked.outcome is True
    serves(stage)
    assert len(stage.net.lines) == 1


@pytest.mark.parametrize("what", ["give back", "call"])
def test_an_interrupt_where_it_writes_frees_the_wire(what: str) -> None:
    @staged
    def scenario(stage: Stage) -> None:
        stage.open()
        stage.busy()
        if what == "call":
            main = stage.call(incr, main=True, stops=[SENDING])
        else:
            main = stage.do(lambda: stage.link.release_untaken(Hold(7, 1)), main=True, stops=[SENDING])
        assert main.task is not None
        stage.turns.interrupt(main.task, raises(KeyboardInterrupt()))
        stage.go_on(main)
        assert main.outcome is KeyboardInterrupt
        assert stage.net.lines[0].closed
        stage.resume()
        serves(stage)

    scenario()


@pytest.mark.parametrize("times", [2, 3, 4])
def test_interrupts_that_come_one_upon_another(times: int) -> None:
    """The next strikes where the one before is dealt with."""

    @staged
    def scenario(stage: Stage) -> None:
        def again() -> None:
            left[0] -= 1
            assert main.task is not None
            if left[0]:
                stage.turns.interrupt(main.task, again)
            raise KeyboardInterrupt

        left = [times]
        stage.open()
        stage.busy()
        main = stage.call(lambda client: client.wait_zero("k"), main=True)
        stage.msgids("wait_zero")
        follower = stage.call(lambda client: client.wait_zero("other"))
        (msgid,) = stage.msgids("wait_zero")
        assert main.task is not None
        stage.turns.interrupt(main.task, again)
        stage.settle()
        assert left == [0]
        assert main.outcome is KeyboardInterrupt
        assert stage.net.lines[0].hung_up, "somebody has heard that nobody reads"
        stage.resume()
        stage.line.reply(msgid, True)
        stage.settle()
        assert follower.outcome is True
        serves(stage)

    scenario()


class Broken:
    """A stage on which the main thread was interrupted in the middle of the books, while others waited."""

    def __init__(self, stage: Stage, error: BaseException | Callable[[], None], where: str = "Link.feed") -> None:
        stage.open()
        stage.busy()
        self.session = stage.link.session
        self.main = stage.call(incr, main=True)
        (self.msgid,) = stage.msgids("incr")
        self.followers = [stage.call(lambda client: client.wait_zero("k")) for _ in range(3)]
        stage.wait(2 * GATHER_S)
        assert len(stage.line.requests()) == 3
        assert self.main.task is not None
        self.main.task.stops.add(where)
        stage.line.reply(self.msgid, 1)
        stage.settle()
        assert self.main.task.at is not None
        stage.turns.interrupt(self.main.task, raises(error) if isinstance(error, BaseException) else error)
        stage.go_on(self.main)


PLACES = [
    "Link.feed",
    "ClientSession.receive",
    "ClientSession._receive_reply",
    "Future.set_result",
    "Link.appoint",
    "Future.follows",
    "Future.open_gate",
    "ClientSession.tidy",
]


@pytest.mark.parametrize(
    "where",
    [
        # It is not interrupted inside of a compiled function.
        pytest.param(place, marks=pytest.mark.patches) if place.startswith("ClientSession.") else place
        for place in PLACES
    ],
)
def test_an_interrupt_inside_ends_the_session_and_nothing_else(where: str) -> None:
    @staged
    def scenario(stage: Stage) -> None:
        broken = Broken(stage, KeyboardInterrupt(), where)
        assert broken.main.outcome is KeyboardInterrupt
        stage.settle()
        assert {call.outcome for call in broken.followers} == {OutcomeUnknown}
        assert stage.link.session is not broken.session
        stage.wait(0.5)
        assert stage.net.lines[0].closed
        assert stage.line.up
        stage.line.greet(b"another session!")
        serves(stage)

    scenario()


@pytest.mark.patches
@staged
def test_an_interrupt_while_a_lone_call_is_made_ends_the_session(stage: Stage) -> None:
    stage.open()
    stage.busy()
    session = stage.link.session
    call = stage.call(incr, main=True, stops=["Windows.register"])
    assert call.task is not None
    assert call.task.at is not None
    stage.turns.interrupt(call.task, raises(KeyboardInterrupt()))
    stage.go_on(call)
    assert call.outcome is KeyboardInterrupt
    assert stage.link.session is not session
    stage.wait(0.5)
    stage.line.greet(b"another session!")
    serves(stage)


@pytest.mark.patches
@pytest.mark.parametrize("error", [TimeoutError("the handler's"), CallTimeout("the handler's"), ValueError("its")])
def test_what_a_handler_raises_inside_is_not_taken_for_the_clients_own(error: Exception) -> None:
    @staged
    def scenario(stage: Stage) -> None:
        broken = Broken(stage, error, "ClientSession._receive_reply")
        assert broken.main.error is error
        assert stage.link.session is not broken.session
        stage.settle()
        stage.wait(0.5)
        stage.line.greet(b"another session!")
        serves(stage)

    scenario()


@staged
def test_an_interrupt_while_the_books_are_begun_anew(stage: Stage) -> None:
    struck = 0

    def again() -> None:
        nonlocal struck
        struck += 1
        assert broken_main.task is not None
        if struck < 4:
            stage.turns.interrupt(broken_main.task, again, 0.3)
        raise KeyboardInterrupt

    def first() -> None:
        nonlocal broken_main
        broken_main = next(call for call in callers if call.task is stage.turns.me())
        again()

    broken_main = Call()
    callers: list[Call] = []
    original = stage.do

    def do(*arguments: Any, **how: Any) -> Call:
        call = original(*arguments, **how)
        callers.append(call)
        return call

    stage.do = do  # type: ignore[method-assign]
    broken = Broken(stage, first)
    assert broken.main.outcome is KeyboardInterrupt
    assert struck > 1
    stage.settle()
    assert {call.outcome for call in broken.followers} == {OutcomeUnknown}
    stage.wait(0.5)
    stage.line.greet(b"another session!")
    serves(stage)


@pytest.mark.patches
@staged
def test_who_comes_late_to_books_that_were_begun_anew(stage: Stage) -> None:
    """One has read the end of a connection and not said so yet; the books lose what they had of it."""
    stage.open()
    stage.busy()
    slow = stage.call(lambda client: client.wait_zero("k"), stops=[TAKING])
    stage.msgids("wait_zero")
    stage.line.slow = True
    other = stage.call(incr)
    stage.line.tear()
    stage.line.torn, stage.line.ended = False, True
    stage.settle()
    assert slow.task is not None
    assert slow.task.at is not None
    stage.line.torn = True
    stage.line.slow = False
    stage.resume()

    def torn(*_: object) -> None:
        raise ValueError("half of it is missing")

    stage.link.session.close = torn  # type: ignore[method-assign]
    main = stage.call(lambda client: client.get("k"), main=True, stops=["Link._take_part"])
    assert main.task is not None
    stage.turns.interrupt(main.task, raises(KeyboardInterrupt()))
    stage.go_on(main)
    assert main.outcome is KeyboardInterrupt
    assert other.outcome is OutcomeUnknown
    stage.go_on(slow)
    assert slow.outcome is OutcomeUnknown
    stage.wait(0.5)
    stage.line.greet(b"another session!")
    serves(stage)


# ------------------------------------------------------------------------------------------- calls within calls


@staged
def test_a_handler_may_call_where_its_thread_reads(stage: Stage) -> None:
    stage.open()
    stage.busy()
    told: list[Any] = []
    main = stage.call(lambda client: client.wait_zero("k"), main=True)
    (outer,) = stage.msgids("wait_zero")
    assert main.task is not None
    stage.turns.interrupt(main.task, lambda: told.append(stage.client.incr("signals", timeout=None)))
    stage.resume()
    stage.settle()
    stage.line.reply(*stage.msgids("incr"), 1)
    stage.settle()
    assert told == [1]
    assert pending(main)
    stage.line.reply(outer, True)
    stage.settle()
    assert main.outcome is True
    serves(stage)


@staged
def test_a_handler_may_call_where_its_thread_follows(stage: Stage) -> None:
    stage.open()
    parked = stage.parked()
    told: list[Any] = []
    main = stage.call(lambda client: client.wait_zero("k"), main=True)
    (outer,) = stage.msgids("wait_zero")
    assert main.task is not None
    stage.turns.interrupt(main.task, lambda: told.append(stage.client.incr("signals", timeout=None)))
    stage.settle()
    (inner,) = stage.msgids("incr")
    stage.line.reply(1, True)
    stage.settle()
    assert parked.outcome is True
    stage.line.reply(inner, 1)
    stage.settle()
    assert told == [1]
    stage.line.reply(outer, True)
    stage.settle()
    assert main.outcome is True
    assert len(stage.net.lines) == 1
    serves(stage)


@pytest.mark.parametrize("reads", [True, False])
def test_a_handler_may_call_where_its_thread_writes(reads: bool) -> None:
    @staged
    def scenario(stage: Stage) -> None:
        stage.open()
        stage.busy()
        parked = None if reads else stage.parked()
        told: list[Any] = []
        main = stage.call(lambda client: client.get("k"), main=True, stops=[SENDING])
        assert main.task is not None
        stage.turns.interrupt(main.task, lambda: told.append(stage.client.incr("signals", timeout=None)))
        stage.go_on(main)
        stage.resume(missing=1)
        stage.answer(7)
        assert told == [7]
        assert main.outcome == 7
        if parked is not None:
            stage.line.reply(1, True)
            stage.settle()
            assert parked.outcome is True
        serves(stage)

    scenario()


@pytest.mark.patches
@pytest.mark.parametrize("caught", [True, False])
def test_a_handler_inside_is_refused(caught: bool) -> None:
    """A finalizer's exception goes nowhere and nothing has happened; a handler's strikes in the middle."""

    @staged
    def scenario(stage: Stage) -> None:
        told: list[type] = []

        def handle() -> None:
            try:
                stage.client.incr("signals")
            except Busy as error:
                told.append(type(error))
                if not caught:
                    raise

        broken = Broken(stage, handle, "ClientSession._receive_reply")
        assert told == [Busy]
        stage.settle()
        if caught:
            assert broken.main.outcome == 1
            assert stage.link.session is broken.session
            for msgid in (2, 3, 4):
                stage.line.reply(msgid, True)
            stage.settle()
            assert {call.outcome for call in broken.followers} <= {True}
        else:
            assert broken.main.outcome is Busy
            assert stage.link.session is not broken.session
            assert {call.outcome for call in broken.followers} == {OutcomeUnknown}
            stage.wait(0.5)
            stage.line.greet(b"another session!")
        serves(stage)

    scenario()


@staged
def test_a_finalizer_on_the_clients_own_thread_is_refused(stage: Stage) -> None:
    """To wait there would be to wait for itself."""
    told: list[type] = []

    def finalize() -> None:
        try:
            stage.client.incr("finalized", timeout=None)
        except Busy as error:
            told.append(type(error))

    stage.open()
    stage.turns.interrupt(stage.keepers_task, finalize)
    stage.settle()
    assert told == [Busy]
    serves(stage)
    stage.line.tear()
    stage.wait(0.5)
    stage.turns.interrupt(stage.keepers_task, finalize)
    stage.settle()
    assert told == [Busy, Busy]
    stage.resume()
    serves(stage)


@staged
def test_a_thread_that_cannot_be_had(stage: Stage) -> None:
    """The client is not made, and leaves nothing behind."""

    def none() -> None:
        raise RuntimeError("can't start new thread")

    made = link.Keeper.start
    link.Keeper.start = lambda _: none()  # type: ignore[method-assign]
    try:
        assert stage.do(lambda: Client(URL)).outcome is RuntimeError
    finally:
        link.Keeper.start = made  # type: ignore[method-assign]


assert calls
assert Line
