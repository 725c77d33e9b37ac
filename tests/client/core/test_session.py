"""The client's half of a conversation as a table: calls and bytes in, bytes and settled calls out. No loop."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from naught.core import calls, session
from naught.core.backoff import Backoff
from naught.core.holds import Hold
from naught.core.messages import JOINED_ITEMS_MAX, Message
from naught.core.windows import Windows
from naught.errors import (
    Busy,
    CacheFull,
    CallTimeout,
    ClientClosed,
    CounterOverflow,
    InvalidRequest,
    NaughtError,
    OutcomeUnknown,
    ProtocolError,
    Unavailable,
)
from naught.wire.codec import encode_error, encode_result
from naught.wire.limits import UNACKNOWLEDGED_MAX
from support.client_helpers import HELLO_RESULT, Desk, FakeWaiter, packed, requests_in

# ------------------------------------------------------------------------------------------------- alone


def state(desk: Desk) -> dict[str, Any]:
    """All that the session knows, but for who waits and for what."""

    def told(value: Any) -> Any:
        if isinstance(value, Message | Windows):
            return {name: told(each) for name, each in vars(value).items() if name not in {"waiters", "call"}}
        if isinstance(value, dict):
            return {key: told(each) for key, each in value.items()}
        if isinstance(value, list | tuple | deque):
            return [told(each) for each in value]
        return value

    left_out = {"_wake", "_unpacker", "_handshake"}
    return {name: told(value) for name, value in vars(desk.session).items() if name not in left_out}


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize(
    ("delta", "ttl_ms", "timeout"), [(1, None, 1.0), (-1, None, 0.5), (7, 50, None), (1, 50, 2), (-9, None, 1.0)]
)
def test_a_change_alone_is_what_a_turn_makes_of_it(
    before: int, delta: int, ttl_ms: int | None, timeout: float | None
) -> None:
    one, other = Desk(), Desk()
    for desk in (one, other):
        for _ in range(before):
            desk.get()
        for message in desk.turn():
            desk.reply(message[1], 0)
    waiters = FakeWaiter(), FakeWaiter()
    alone = one.session.change_alone((b"k", delta, ttl_ms, timeout), waiters[0], one.now)
    other.session.change(b"k", delta, ttl_ms, timeout, waiters[1])
    assert requests_in(alone) == other.turn()
    assert state(one) == state(other)
    msgid = requests_in(alone)[0][1]
    one.reply(msgid, 5)
    other.reply(msgid, 5)
    assert waiters[0].outcome == waiters[1].outcome == 5
    assert state(one) == state(other)


def get_in_flight(desk: Desk) -> None:
    desk.get()
    assert desk.turn()


def queued(desk: Desk) -> None:
    desk.get()
    desk.session.end_turn(desk.now)


def test_what_is_queued_can_be_sent_where_there_is_a_connection() -> None:
    desk = Desk()
    assert not desk.session.can_send
    queued(desk)
    assert desk.session.can_send
    desk.lose()
    assert not desk.session.can_send


@pytest.mark.parametrize(
    "first",
    [
        lambda desk: desk.incr("a"),
        queued,
        get_in_flight,
        lambda desk: desk.session.release_untaken(Hold(1, 1)),
        lambda desk: desk.lose(),
        lambda desk: desk.session.close(),
    ],
    ids=["the turn goes on", "queued", "in flight", "urgent", "lost", "closed"],
)
def test_a_change_goes_alone_only_where_nothing_else_goes_on(first: Callable[[Desk], object]) -> None:
    desk = Desk()
    first(desk)
    before = state(desk)
    assert desk.session.change_alone((b"k", 1, None, 1.0), FakeWaiter(), desk.now) == b""
    assert state(desk) == before


def test_a_change_alone_is_checked_as_any() -> None:
    desk = Desk()
    before = state(desk)
    for change in ((b"k", 1, 0, 1.0), (b"k", 1, None, "soon")):
        with pytest.raises(InvalidRequest):
            desk.session.change_alone(change, FakeWaiter(), desk.now)  # type: ignore[arg-type]
    assert desk.session.change_alone((b"k", 1, None, 0.0), FakeWaiter(), desk.now) == b"", "its time has run out"
    gone = FakeWaiter()
    gone.cancel()
    assert desk.session.change_alone((b"k", 1, None, 1.0), gone, desk.now) == b""
    assert state(desk) == before


# ------------------------------------------------------------------------------------------------- joining


def test_consecutive_changes_of_a_turn_become_one_apply() -> None:
    desk = Desk()
    waiters = [desk.incr("a"), desk.incr("b", 5), desk.incr("a", -2)]
    ((kind, msgid, method, params),) = desk.turn()
    assert (kind, method, params) == (0, "apply", [[b"a", b"b", b"a"], [1, 5, -2]])
    desk.reply(msgid, [1, 5, 0])
    assert [waiter.outcome for waiter in waiters] == [1, 5, 0]


def test_equal_deltas_travel_as_one_integer() -> None:
    desk = Desk()
    desk.incr("a", -3, ttl_ms=None)
    desk.incr("b", -3)
    assert desk.turn()[0][3] == [[b"a", b"b"], -3]


def test_a_time_to_live_travels_with_the_batch() -> None:
    desk = Desk()
    desk.incr("a", 2, ttl_ms=500)
    desk.incr("b", 2, ttl_ms=500)
    assert desk.turn()[0][3] == [[b"a", b"b"], 2, 500]


@pytest.mark.parametrize(
    ("delta", "ttl_ms", "request_"),
    [
        (1, None, ["incr", [b"k"]]),
        (7, None, ["incr", [b"k", 7]]),
        (1, 50, ["incr", [b"k", 1, 50]]),
        (-1, None, ["decr", [b"k"]]),
        (-7, None, ["decr", [b"k", 7]]),
    ],
)
def test_a_lone_change_travels_plain(delta: int, ttl_ms: int | None, request_: list[Any]) -> None:
    desk = Desk()
    waiter = desk.incr("k", delta, ttl_ms=ttl_ms)
    (message,) = desk.turn()
    assert message[2:] == request_
    desk.reply(message[1], 4)
    assert waiter.outcome == 4


def test_calls_of_a_turn_go_out_in_call_order_and_what_is_between_ends_a_batch() -> None:
    desk = Desk()
    desk.incr("a")
    desk.incr("b")
    desk.get("a")
    desk.incr("a", -1)
    desk.ask(calls.decr_strict("a", 1))
    desk.incr("c")
    assert [(message[2], message[3][0]) for message in desk.turn()] == [
        ("apply", [b"a", b"b"]),
        ("get", b"a"),
        ("decr", b"a"),
        ("decr", b"a"),
        ("incr", b"c"),
    ]


@pytest.mark.parametrize("other", [{"ttl_ms": 5}, {"timeout": 2.0}, {"timeout": None}])
def test_changes_that_mean_something_else_do_not_join(other: dict[str, Any]) -> None:
    desk = Desk()
    desk.incr("a")
    desk.incr("b", **other)
    desk.incr("c")
    assert [message[2] for message in desk.turn()] == ["incr"] * 3


def test_changes_of_two_turns_do_not_join_even_when_nothing_was_written_between() -> None:
    desk = Desk(connect=False)
    desk.incr("a")
    desk.turn()
    desk.incr("b")
    desk.connect()
    assert [message[2] for message in desk.turn()] == ["incr", "incr"]


def test_a_batch_has_a_largest_size() -> None:
    desk = Desk()
    for _ in range(JOINED_ITEMS_MAX + 1):
        desk.incr("a")
    batch, rest = desk.turn()
    assert (batch[2], len(batch[3][0]), rest[2]) == ("apply", JOINED_ITEMS_MAX, "incr")


def test_the_adapter_is_woken_once_a_turn() -> None:
    desk = Desk()
    desk.incr()
    desk.get()
    desk.incr()
    assert desk.woken == 1
    desk.turn()
    desk.incr()
    assert desk.woken == 2


@pytest.mark.parametrize("bad", [{"ttl_ms": 0}, {"ttl_ms": True}, {"timeout": "1"}, {"timeout": float("nan")}])
def test_a_bad_option_raises_at_once_and_spoils_nobodys_batch(bad: dict[str, Any]) -> None:
    desk = Desk()
    desk.incr("a")
    with pytest.raises(InvalidRequest):
        desk.incr("b", **bad)
    desk.incr("c")
    assert desk.turn()[0][3] == [[b"a", b"c"], 1]


def test_too_many_waiting_messages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "QUEUED_MAX", 3)
    desk = Desk(connect=False)
    for _ in range(3):
        desk.get()
    with pytest.raises(Busy):
        desk.get()
    desk.connect()
    assert len(desk.turn()) == 3
    desk.get()


# ------------------------------------------------------------------------------------------------- results


def test_a_failed_item_fails_its_call_alone() -> None:
    desk = Desk()
    waiters = [desk.incr("a"), desk.incr("b"), desk.incr("c")]
    ((_, msgid, _, _),) = desk.turn()
    desk.reply(msgid, [3, ["overflow", "too much"], ["full", "no room"]])
    assert [waiter.outcome for waiter in waiters] == [3, CounterOverflow, CacheFull]
    assert str(waiters[1].error) == "too much"


def test_a_failed_batch_fails_every_call_with_an_exception_of_its_own() -> None:
    desk = Desk()
    waiters = [desk.incr("a"), desk.incr("b")]
    ((_, msgid, _, _),) = desk.turn()
    desk.reply_error(msgid, "busy")
    assert [waiter.outcome for waiter in waiters] == [Busy, Busy]
    assert waiters[0].error is not waiters[1].error


def test_replies_may_come_in_any_order() -> None:
    desk = Desk()
    waiters = [desk.get(f"k{place}") for place in range(5)]
    messages = desk.turn()
    for place in (3, 0, 4, 1, 2):
        desk.reply(messages[place][1], place * 10)
    assert [waiter.outcome for waiter in waiters] == [0, 10, 20, 30, 40]


def test_replies_are_understood_however_they_are_cut() -> None:
    for cut in range(200):
        desk = Desk()
        batch = [desk.incr("a"), desk.incr("b")]
        read = desk.get("c")
        first, second = desk.turn()
        data = encode_result(first[1], [1 << 40, ["overflow", "x" * 40]]) + encode_result(second[1], 9)
        desk.session.receive(data[:cut])
        desk.session.receive(data[cut:])
        assert [waiter.outcome for waiter in (*batch, read)] == [1 << 40, CounterOverflow, 9]


def test_notifications_of_a_server_are_ignored() -> None:
    desk = Desk()
    waiter = desk.get()
    ((_, msgid, _, _),) = desk.turn()
    desk.session.receive(packed([[2, "news", ["of a later version"]], [1, msgid, None, 5]]))
    assert waiter.outcome == 5


# Bytes that are no reply to anything; what was asked is asked again if it is a read.
GARBAGE: dict[str, Callable[[int], bytes]] = {
    "a greeting nobody asked for": lambda msgid: packed([[1, 0, None, HELLO_RESULT]]),
    "no MessagePack": lambda msgid: b"\xc1",
    "text": lambda msgid: b"HTTP/1.1 400 Bad Request\r\n",
    "an integer": lambda msgid: packed([5]),
    "a map": lambda msgid: packed([{"a": 1}]),
    "a request": lambda msgid: packed([[0, msgid, "get", ["a"]]]),
    "too short": lambda msgid: packed([[1, msgid, None]]),
    "too long": lambda msgid: packed([[1, msgid, None, 1, 1]]),
    "a msgid nobody used": lambda msgid: packed([[1, msgid + 1, None, 1]]),
    "a msgid that is a bool": lambda msgid: packed([[1, True, None, 1]]),
    "a msgid that is a list": lambda msgid: packed([[1, [msgid], None, 1]]),
    "no msgid": lambda msgid: packed([[1, None, ["unavailable", "so"], None]]),
    "an array of a billion": lambda msgid: b"\xdd\x40\x00\x00\x00" + b"\xc0" * (2 << 20),
    "a string of a gigabyte": lambda msgid: b"\x94\x01\x01\xc0\xdb\x40\x00\x00\x00" + b"\xc0" * (2 << 20),
    "nested without end": lambda msgid: b"\x91" * 5_000,
}

# Replies to the request at hand that cannot be its reply; a read would only be answered the same again.
MISFITS: dict[str, Callable[[int], bytes]] = {
    "an error that is a string": lambda msgid: packed([[1, msgid, "oops", None]]),
    "an error without a code": lambda msgid: packed([[1, msgid, [5, "oops"], None]]),
    "a list for a value": lambda msgid: packed([[1, msgid, None, [1]]]),
    "a bool for a value": lambda msgid: packed([[1, msgid, None, True]]),
    "nil for a value": lambda msgid: packed([[1, msgid, None, None]]),
    "a float for a value": lambda msgid: packed([[1, msgid, None, 1.0]]),
}


@pytest.mark.parametrize("garbage", [*GARBAGE.values(), *MISFITS.values()], ids=[*GARBAGE, *MISFITS])
@pytest.mark.parametrize("kind", ["change", "read"])
def test_what_is_no_reply_ends_the_connection_and_nothing_hangs(garbage: Callable[[int], bytes], kind: str) -> None:
    desk = Desk()
    answered = desk.get("before")
    waiter = desk.incr() if kind == "change" else desk.get()
    before, message = desk.turn()
    desk.reply(before[1], 3)
    data = garbage(message[1])
    with pytest.raises(ProtocolError) as caught:
        list(map(desk.session.receive, (data[:65_536], data[65_536:])))
    desk.session.disconnected(caught.value, desk.now)
    assert answered.outcome == 3
    if kind == "change":
        assert waiter.outcome is OutcomeUnknown
        assert waiter.error is not None
        assert waiter.error.__cause__ is caught.value
        return
    desk.connect()
    again = desk.turn()
    if garbage in GARBAGE.values():
        desk.reply(again[0][1], 8)
        assert waiter.outcome == 8
    else:
        assert not again
        assert waiter.outcome is ProtocolError


def test_a_batch_with_a_bad_item_settles_what_stands_before_it() -> None:
    desk = Desk()
    waiters = [desk.incr("a"), desk.incr("b"), desk.incr("c")]
    ((_, msgid, _, _),) = desk.turn()
    with pytest.raises(ProtocolError) as caught:
        desk.reply(msgid, [1, 2.5, 3])
    desk.session.disconnected(caught.value, desk.now)
    assert [waiter.outcome for waiter in waiters] == [1, OutcomeUnknown, OutcomeUnknown]


@pytest.mark.parametrize("values", [[1], [1, 2, 3], 2, None, {"a": 1}])
def test_a_batch_with_the_wrong_number_of_values_is_no_reply(values: Any) -> None:
    desk = Desk()
    desk.incr("a")
    desk.incr("b")
    ((_, msgid, _, _),) = desk.turn()
    with pytest.raises(ProtocolError):
        desk.reply(msgid, values)


# ------------------------------------------------------------------------------------------------- cancellation


def test_a_call_cancelled_before_the_write_leaves_the_batch() -> None:
    desk = Desk()
    first, second, third = desk.incr("a"), desk.incr("b", 2), desk.incr("c", 3)
    second.cancel()
    (message,) = desk.turn()
    assert message[3] == [[b"a", b"c"], [1, 3]]
    desk.reply(message[1], [10, 30])
    assert (first.outcome, third.outcome) == (10, 30)


def test_a_batch_that_one_call_is_left_of_travels_plain_and_one_without_any_not_at_all() -> None:
    desk = Desk()
    gone, left = desk.incr("a"), desk.incr("b")
    gone.cancel()
    read = desk.get()
    read.cancel()
    (message,) = desk.turn()
    assert message[2:] == ["incr", [b"b"]]
    desk.reply(message[1], 2)
    assert left.outcome == 2
    desk.incr().cancel()
    assert desk.turn() == []


def test_a_call_cancelled_after_the_write_leaves_its_slot_unused() -> None:
    desk = Desk()
    first, second, third = desk.incr("a"), desk.incr("b"), desk.incr("c")
    read = desk.get()
    batch, single = desk.turn()
    second.cancel()
    read.cancel()
    desk.reply(batch[1], [1, ["overflow", "so"], 3])
    desk.reply(single[1], 5)
    assert (first.outcome, third.outcome, second.cancelled, read.cancelled) == (1, 3, True, True)


def test_a_msgid_is_not_used_again_before_its_reply_came() -> None:
    desk = Desk()
    gave_up = desk.get("slow")
    ((_, slow, _, _),) = desk.turn()
    gave_up.cancel()
    for _ in range(100):
        waiter = desk.get("fast")
        ((_, msgid, _, _),) = desk.turn()
        assert msgid != slow
        desk.reply(msgid, 1)
        assert waiter.outcome == 1
    desk.reply(slow, 2)
    waiters = [desk.get(), desk.get()]
    assert slow in [message[1] for message in desk.turn()]
    assert not any(waiter.done() for waiter in waiters)


def test_msgids_stay_small() -> None:
    desk = Desk()
    for _ in range(5_000):
        desk.get()
        desk.get()
        for message in desk.turn():
            assert message[1] < 3
            desk.reply(message[1], 0)


# ------------------------------------------------------------------------------------------------- windows


def test_a_bounded_number_of_messages_is_in_flight_and_the_rest_waits() -> None:
    desk = Desk()
    waiters = [desk.get(f"k{place}") for place in range(UNACKNOWLEDGED_MAX + 10)]
    messages = desk.turn()
    assert len(messages) == UNACKNOWLEDGED_MAX
    assert not desk.has_output()
    assert {message[1] for message in messages} == set(range(1, UNACKNOWLEDGED_MAX + 1))
    for message in messages[:4]:
        desk.reply(message[1], 1)
    assert desk.has_output()
    following = [[f"k{UNACKNOWLEDGED_MAX + place}".encode()] for place in range(4)]
    assert [message[3] for message in desk.write()] == following
    assert sum(waiter.done() for waiter in waiters) == 4


def test_a_write_has_a_bounded_size() -> None:
    desk = Desk()
    for _ in range(1_000):
        desk.get("k" * 500)
    desk.session.end_turn(desk.now)
    sizes = []
    while desk.has_output():
        sizes.append(len(desk.session.output(desk.now)))
    assert len(sizes) == 2
    assert max(sizes) <= session.OUTPUT_BYTES_MAX + 1_000


# ------------------------------------------------------------------------------------------------- deadlines


def test_a_call_in_flight_times_out_and_its_late_reply_meets_nobody() -> None:
    desk = Desk()
    late, patient = desk.incr(timeout=1.0), desk.get(timeout=None)
    first, second = desk.turn()
    assert desk.session.next_due() == desk.now + 1.0
    desk.session.advance(desk.now + 0.999)
    assert not late.done()
    desk.session.advance(desk.now + 1.0)
    assert late.outcome is CallTimeout
    assert "no answer within 1 s" in str(late.error)
    assert desk.session.next_due() is None
    desk.reply(first[1], 5)
    desk.reply(second[1], 6)
    assert patient.outcome == 6


def test_deadlines_come_in_their_own_order() -> None:
    desk = Desk()
    waiters = {timeout: desk.get(timeout=timeout) for timeout in (3.0, 1.0, 2.0)}
    desk.turn()
    for timeout in (1.0, 2.0, 3.0):
        assert desk.session.next_due() == desk.now + timeout
        desk.session.advance(desk.now + timeout)
        assert waiters[timeout].outcome is CallTimeout


def test_a_call_that_was_never_sent_says_so_and_why() -> None:
    desk = Desk()
    error = desk.lose()
    waiter = desk.incr()
    assert desk.turn() == []
    desk.session.advance(desk.now + 1)
    assert waiter.outcome is CallTimeout
    assert "not sent within 1 s: cut" in str(waiter.error)
    assert waiter.error is not None
    assert waiter.error.__cause__ is error
    desk.connect()
    assert desk.write() == []


@pytest.mark.parametrize("timeout", [0, -1, 0.5])
def test_a_call_whose_time_has_run_out_is_not_sent(timeout: float) -> None:
    desk = Desk()
    waiter = desk.incr(timeout=timeout)
    desk.session.end_turn(desk.now)
    desk.now += 0.5
    assert desk.write() == []
    assert waiter.outcome is CallTimeout


def test_a_time_out_behind_a_full_window_names_it() -> None:
    desk = Desk()
    for _ in range(UNACKNOWLEDGED_MAX):
        desk.get(timeout=None)
    waiter = desk.get()
    desk.turn()
    desk.session.advance(desk.now + 1)
    assert "earlier calls are unanswered" in str(waiter.error)


def test_answered_calls_leave_no_deadline_behind() -> None:
    desk = Desk()
    stuck = desk.get(timeout=5.0)
    ((_, _, _, _),) = desk.turn()
    for _ in range(20_000):
        desk.get(timeout=60.0)
        ((_, msgid, _, _),) = desk.turn()
        desk.reply(msgid, 0)
    assert len(desk.session._deadlines) < 3 * 4 * UNACKNOWLEDGED_MAX
    assert desk.session.next_due() == desk.now + 5.0
    assert not stuck.done()


def test_abandoned_calls_do_not_pile_up_while_there_is_no_connection() -> None:
    desk = Desk(connect=False)
    kept = desk.get("kept", timeout=None)
    for _ in range(20_000):
        desk.get(timeout=None).cancel()
        desk.turn()
    assert len(desk.session._queue) <= 2 * UNACKNOWLEDGED_MAX
    desk.connect()
    (message,) = desk.turn()
    desk.reply(message[1], 1)
    assert kept.outcome == 1


# ------------------------------------------------------------------------------------------------- lost connections


def test_a_lost_connection_leaves_changes_in_doubt_and_repeats_the_rest_in_order() -> None:
    desk = Desk()
    reads = [desk.get("r0")]
    changes = [desk.incr("a"), desk.incr("b"), desk.ask(calls.set("c", 1, None)), desk.ask(calls.take(["d"]))]
    reads.append(desk.ask(calls.get_many(["r1", "r2"])))
    assert len(desk.turn()) == 5
    unsent = desk.incr("e")
    desk.session.end_turn(desk.now)
    error = desk.lose()
    for change in changes:
        assert change.outcome is OutcomeUnknown
        assert change.error is not None
        assert change.error.__cause__ is error
    assert not any(waiter.done() for waiter in (*reads, unsent))
    desk.connect()
    again = desk.write()
    assert [(message[2], message[3][0]) for message in again] == [
        ("get", b"r0"),
        ("get_many", [b"r1", b"r2"]),
        ("incr", b"e"),
    ]
    for message, result in zip(again, (1, [2, 3], 4), strict=True):
        desk.reply(message[1], result)
    assert [waiter.outcome for waiter in (*reads, unsent)] == [1, [2, 3], 4]


def test_what_is_sent_again_keeps_the_order_of_the_calls() -> None:
    desk = Desk()
    desk.get("a")
    desk.ask(calls.set("b", 1, None))
    desk.get("c")
    desk.incr("d")
    messages = desk.turn()
    desk.reply_error(messages[3][1], "shutting_down")
    desk.reply_error(messages[1][1], "shutting_down")
    desk.lose()
    desk.connect()
    assert [message[3][0] for message in desk.write()] == [b"a", b"b", b"c", b"d"]


def test_a_read_that_waits_to_be_repeated_times_out_for_want_of_a_connection() -> None:
    desk = Desk()
    waiter = desk.get()
    desk.turn()
    desk.lose()
    desk.session.advance(desk.now + 1)
    assert waiter.outcome is CallTimeout
    assert "not sent within 1 s: cut" in str(waiter.error)


def test_a_repeated_read_keeps_its_deadline() -> None:
    desk = Desk()
    waiter = desk.get()
    desk.turn()
    desk.lose()
    desk.now += 0.9
    desk.connect()
    assert len(desk.turn()) == 1
    assert desk.session.next_due() == pytest.approx(desk.now + 0.1)
    desk.session.advance(desk.now + 0.2)
    assert waiter.outcome is CallTimeout


def test_a_cancelled_read_is_not_repeated() -> None:
    desk = Desk()
    waiter = desk.get()
    desk.turn()
    waiter.cancel()
    desk.lose()
    desk.connect()
    assert desk.write() == []


def test_replies_of_an_old_connection_are_forgotten_with_it() -> None:
    desk = Desk()
    desk.get()
    ((_, msgid, _, _),) = desk.turn()
    whole = encode_result(msgid, 77)
    desk.session.receive(whole[:-1])
    desk.lose()
    desk.connect()
    waiter = desk.get("other")
    messages = desk.turn()
    for message in messages:
        desk.reply(message[1], 5)
    assert waiter.outcome == 5


def test_what_a_stopping_server_refused_goes_to_the_next_connection() -> None:
    desk = Desk()
    answered, refused, read = desk.incr("a"), [desk.ask(calls.set("b", 1, None)), desk.incr("c")], desk.get("d")
    first, *others = desk.turn()
    desk.reply(first[1], 1)
    for message in others[:2]:
        desk.reply_error(message[1], "shutting_down")
    later = desk.incr("e")
    assert desk.turn() == [], "nothing more is sent to a server that stops"
    assert not desk.finished(), "it still owes the read an answer"
    desk.reply(others[2][1], 9)
    assert desk.finished()
    assert (answered.outcome, read.outcome) == (1, 9)
    desk.lose()
    desk.connect()
    again = desk.write()
    assert [message[3][0] for message in again] == [b"b", b"c", b"e"]
    for message in again:
        desk.reply(message[1], 7)
    assert [waiter.outcome for waiter in (*refused, later)] == [7, 7, 7]


def test_a_stopping_server_that_owes_nobody_an_answer_is_left() -> None:
    desk = Desk()
    refused, slow = desk.incr("a"), desk.get("b")
    first, _ = desk.turn()
    desk.reply_error(first[1], "shutting_down")
    assert not desk.finished()
    desk.session.advance(desk.now + 1)
    assert (refused.outcome, slow.outcome) == (CallTimeout, CallTimeout)
    assert desk.finished()


# ------------------------------------------------------------------------------------------------- greeting


def test_nothing_is_sent_before_the_greeting_is_answered() -> None:
    desk = Desk(cache="orders", connect=False)
    waiter, greeted = desk.incr(), FakeWaiter()
    assert requests_in(desk.session.connected(greeted)) == [[0, 0, "hello", [{"cache": "orders"}]]]
    assert desk.turn() == []
    desk.reply(0, HELLO_RESULT)
    assert greeted.done()
    ((_, msgid, _, _),) = desk.write()
    desk.reply(msgid, 1)
    assert waiter.outcome == 1


def test_an_unknown_cache_fails_the_greeting_and_what_waited_for_it() -> None:
    desk = Desk(cache="nope", connect=False)
    waiter, greeted = desk.incr(timeout=None), FakeWaiter()
    desk.turn()
    desk.session.connected(greeted)
    with pytest.raises(InvalidRequest) as caught:
        desk.reply_error(0, "invalid", "there is no cache named nope")
    desk.session.disconnected(caught.value, desk.now)
    assert greeted.error is caught.value
    desk.session.connect_failed(caught.value)
    assert waiter.outcome is InvalidRequest
    assert waiter.error is not caught.value


@pytest.mark.parametrize("error", [Busy("full"), Unavailable("so"), ConnectionRefusedError(), TimeoutError()])
def test_what_waits_goes_on_waiting_while_a_server_may_come_back(error: BaseException) -> None:
    desk = Desk(connect=False)
    waiter = desk.incr()
    desk.turn()
    desk.session.connect_failed(error)
    assert not waiter.done()


@pytest.mark.parametrize(
    "answer", [packed([[1, 1, None, {}]]), packed([[1, 0, None, "hello yourself"]]), b"SSH-2.0\r\n"]
)
def test_what_is_no_naught_server_fails_the_greeting(answer: bytes) -> None:
    desk = Desk(connect=False)
    greeted = FakeWaiter()
    desk.session.connected(greeted)
    with pytest.raises(ProtocolError) as caught:
        desk.session.receive(answer)
    desk.session.disconnected(caught.value, desk.now)
    assert greeted.error is caught.value


def test_a_connection_lost_while_greeting_says_so() -> None:
    desk = Desk(connect=False)
    greeted = FakeWaiter()
    desk.session.connected(greeted)
    assert desk.lose() is greeted.error


def test_having_served_is_known_until_the_next_connection() -> None:
    desk = Desk()
    assert not desk.served(), "a greeting is no service"
    desk.get()
    ((_, msgid, _, _),) = desk.turn()
    desk.reply_error(msgid, "invalid")
    assert desk.served()
    desk.lose()
    assert desk.served()
    desk.connect()
    assert not desk.served()


# ------------------------------------------------------------------------------------------------- the end


def test_closing_ends_every_call_wherever_it_is() -> None:
    desk = Desk()
    waiters = [desk.incr("in flight"), desk.get("in flight")]
    first, _ = desk.turn()
    waiters.append(desk.incr("refused"))
    message = desk.turn()[0]
    desk.reply_error(message[1], "shutting_down")
    waiters.append(desk.incr("queued"))
    desk.turn()
    waiters.append(desk.incr("fresh"))
    desk.session.close()
    assert [waiter.outcome for waiter in waiters] == [ClientClosed] * 5
    for late in (desk.incr, desk.get):
        with pytest.raises(ClientClosed):
            late()
    assert desk.session.next_due() is None
    desk.session.disconnected(ConnectionResetError(), desk.now)
    desk.session.end_turn(desk.now)
    assert not desk.has_output()
    assert first


def test_backing_off_doubles_a_bound_that_has_an_end_and_draws_below_it() -> None:
    draws = [Backoff(random.Random(seed)) for seed in range(200)]
    for attempt in range(12):
        bound = min(Backoff.BOUND_MAX, Backoff.BASE * 2**attempt)
        delays = [backoff.next_delay() for backoff in draws]
        assert all(0 <= delay <= bound for delay in delays)
        assert max(delays) > bound * 0.9, "full jitter uses the whole range"
        assert min(delays) < bound * 0.1
    for backoff in draws:
        backoff.reset()
        assert backoff.next_delay() <= Backoff.BASE


def test_equal_seeds_back_off_equally() -> None:
    first, second = Backoff(random.Random(5)), Backoff(random.Random(5))
    assert [first.next_delay() for _ in range(9)] == [second.next_delay() for _ in range(9)]


def test_an_error_reply_keeps_a_code_this_version_does_not_know() -> None:
    desk = Desk()
    waiter = desk.get()
    ((_, msgid, _, _),) = desk.turn()
    desk.session.receive(encode_error(msgid, "novel", "so"))
    assert isinstance(waiter.error, NaughtError)
    assert getattr(waiter.error, "code", None) == "novel"
