"""`ClientSession` without resumption: calls and bytes in, bytes and results out. There is no event loop."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from naught.core import calls, session
from naught.core.backoff import Backoff
from naught.core.busy import BusyRequests
from naught.core.holds import Hold
from naught.core.messages import JOINED_ITEMS_MAX, Message
from naught.core.session import ClientSession
from naught.core.session_holds import SessionHolds
from naught.core.silence import SilenceWatch
from naught.core.windows import HELLO_MSGID, Windows
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
from support.client_helpers import HELLO_RESULT, FakeWaiter, SessionDriver, packed, requests_in

# ------------------------------------------------------------------------------------------------- change_alone


def state(driver: SessionDriver) -> dict[str, Any]:
    """Every field of the session and of what it owns, except waiters and calls."""

    def fields(value: object) -> dict[str, Any]:
        names = getattr(type(value), "__mypyc_attrs__", None)  # of a compiled class, whose objects have no __dict__
        return vars(value) if names is None else {name: getattr(value, name) for name in names}

    def plain(value: Any) -> Any:
        if isinstance(value, BusyRequests | Message | SessionHolds | SilenceWatch | Windows):
            left_out = {"waiters", "call", "_backoff", "_budget"}
            return {name: plain(each) for name, each in fields(value).items() if name not in left_out}
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple | deque):
            return [plain(each) for each in value]
        return value

    left_out = {"_wake", "_unpacker", "_handshake"}
    return {name: plain(value) for name, value in fields(driver.session).items() if name not in left_out}


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize(
    ("delta", "ttl_ms", "timeout"), [(1, None, 1.0), (-1, None, 0.5), (7, 50, None), (1, 50, 2), (-9, None, 1.0)]
)
def test_a_change_alone_is_what_a_turn_makes_of_it(
    before: int, delta: int, ttl_ms: int | None, timeout: float | None
) -> None:
    one, other = SessionDriver(), SessionDriver()
    for driver in (one, other):
        for _ in range(before):
            driver.get()
        for message in driver.turn():
            driver.reply(message[1], 0)
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


def get_in_flight(driver: SessionDriver) -> None:
    driver.get()
    assert driver.turn()


def queued(driver: SessionDriver) -> None:
    driver.get()
    driver.session.end_turn(driver.now)


def test_what_is_queued_can_be_sent_where_there_is_a_connection() -> None:
    driver = SessionDriver()
    assert not driver.session.can_send
    queued(driver)
    assert driver.session.can_send
    driver.lose()
    assert not driver.session.can_send


@pytest.mark.parametrize(
    "first",
    [
        lambda driver: driver.incr("a"),
        queued,
        get_in_flight,
        lambda driver: driver.session.release_untaken(Hold(1, 1)),
        lambda driver: driver.lose(),
        lambda driver: driver.session.close(),
    ],
    ids=["the turn goes on", "queued", "in flight", "urgent", "lost", "closed"],
)
def test_a_change_goes_alone_only_where_nothing_else_goes_on(first: Callable[[SessionDriver], object]) -> None:
    driver = SessionDriver()
    first(driver)
    before = state(driver)
    assert driver.session.change_alone((b"k", 1, None, 1.0), FakeWaiter(), driver.now) == b""
    assert state(driver) == before


def test_a_change_alone_is_checked_as_any() -> None:
    driver = SessionDriver()
    before = state(driver)
    for change in ((b"k", 1, 0, 1.0), (b"k", 1, None, "soon")):
        with pytest.raises(InvalidRequest):
            driver.session.change_alone(change, FakeWaiter(), driver.now)  # type: ignore[arg-type]
    assert driver.session.change_alone((b"k", 1, None, 0.0), FakeWaiter(), driver.now) == b"", (
        "its timeout has expired"
    )
    gone = FakeWaiter()
    gone.cancel()
    assert driver.session.change_alone((b"k", 1, None, 1.0), gone, driver.now) == b""
    assert state(driver) == before


# ------------------------------------------------------------------------------------------------- joining


def test_consecutive_changes_of_a_turn_become_one_apply() -> None:
    driver = SessionDriver()
    waiters = [driver.incr("a"), driver.incr("b", 5), driver.incr("a", -2)]
    ((kind, msgid, method, params),) = driver.turn()
    assert (kind, method, params) == (0, "apply", [[b"a", b"b", b"a"], [1, 5, -2]])
    driver.reply(msgid, [1, 5, 0])
    assert [waiter.outcome for waiter in waiters] == [1, 5, 0]


def test_equal_deltas_travel_as_one_integer() -> None:
    driver = SessionDriver()
    driver.incr("a", -3, ttl_ms=None)
    driver.incr("b", -3)
    assert driver.turn()[0][3] == [[b"a", b"b"], -3]


def test_a_time_to_live_travels_with_the_batch() -> None:
    driver = SessionDriver()
    driver.incr("a", 2, ttl_ms=500)
    driver.incr("b", 2, ttl_ms=500)
    assert driver.turn()[0][3] == [[b"a", b"b"], 2, 500]


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
    driver = SessionDriver()
    waiter = driver.incr("k", delta, ttl_ms=ttl_ms)
    (message,) = driver.turn()
    assert message[2:] == request_
    driver.reply(message[1], 4)
    assert waiter.outcome == 4


def test_calls_of_a_turn_go_out_in_call_order_and_what_is_between_ends_a_batch() -> None:
    driver = SessionDriver()
    driver.incr("a")
    driver.incr("b")
    driver.get("a")
    driver.incr("a", -1)
    driver.ask(calls.decr_strict("a", 1))
    driver.incr("c")
    assert [(message[2], message[3][0]) for message in driver.turn()] == [
        ("apply", [b"a", b"b"]),
        ("get", b"a"),
        ("decr", b"a"),
        ("decr", b"a"),
        ("incr", b"c"),
    ]


@pytest.mark.parametrize("other", [{"ttl_ms": 5}, {"timeout": 2.0}, {"timeout": None}])
def test_changes_that_mean_something_else_do_not_join(other: dict[str, Any]) -> None:
    driver = SessionDriver()
    driver.incr("a")
    driver.incr("b", **other)
    driver.incr("c")
    assert [message[2] for message in driver.turn()] == ["incr"] * 3


def test_changes_of_two_turns_do_not_join_even_when_nothing_was_written_between() -> None:
    driver = SessionDriver(connect=False)
    driver.incr("a")
    driver.turn()
    driver.incr("b")
    driver.connect()
    assert [message[2] for message in driver.turn()] == ["incr", "incr"]


def test_a_batch_has_a_largest_size() -> None:
    driver = SessionDriver()
    for _ in range(JOINED_ITEMS_MAX + 1):
        driver.incr("a")
    batch, rest = driver.turn()
    assert (batch[2], len(batch[3][0]), rest[2]) == ("apply", JOINED_ITEMS_MAX, "incr")


def test_the_adapter_is_woken_once_a_turn() -> None:
    driver = SessionDriver()
    driver.incr()
    driver.get()
    driver.incr()
    assert driver.woken == 1
    driver.turn()
    driver.incr()
    assert driver.woken == 2


@pytest.mark.parametrize("bad", [{"ttl_ms": 0}, {"ttl_ms": True}, {"timeout": "1"}, {"timeout": float("nan")}])
def test_a_bad_option_raises_at_once_and_spoils_nobodys_batch(bad: dict[str, Any]) -> None:
    driver = SessionDriver()
    driver.incr("a")
    with pytest.raises(InvalidRequest):
        driver.incr("b", **bad)
    driver.incr("c")
    assert driver.turn()[0][3] == [[b"a", b"c"], 1]


@pytest.mark.patches
def test_too_many_waiting_messages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "QUEUED_MAX", 3)
    driver = SessionDriver(connect=False)
    for _ in range(3):
        driver.get()
    with pytest.raises(Busy):
        driver.get()
    driver.connect()
    assert len(driver.turn()) == 3
    driver.get()


# ------------------------------------------------------------------------------------------------- results


def test_a_failed_item_fails_its_call_alone() -> None:
    driver = SessionDriver()
    waiters = [driver.incr("a"), driver.incr("b"), driver.incr("c")]
    ((_, msgid, _, _),) = driver.turn()
    driver.reply(msgid, [3, ["overflow", "too much"], ["full", "no room"]])
    assert [waiter.outcome for waiter in waiters] == [3, CounterOverflow, CacheFull]
    assert str(waiters[1].error) == "incr 'b': too much", "it names the counter"


def test_a_failed_batch_fails_every_call_with_an_exception_of_its_own() -> None:
    driver = SessionDriver()
    waiters = [driver.incr("a"), driver.incr("b")]
    ((_, msgid, _, _),) = driver.turn()
    driver.reply_error(msgid, "full")
    assert [waiter.outcome for waiter in waiters] == [CacheFull, CacheFull]
    assert waiters[0].error is not waiters[1].error


def test_replies_may_come_in_any_order() -> None:
    driver = SessionDriver()
    waiters = [driver.get(f"k{place}") for place in range(5)]
    messages = driver.turn()
    for place in (3, 0, 4, 1, 2):
        driver.reply(messages[place][1], place * 10)
    assert [waiter.outcome for waiter in waiters] == [0, 10, 20, 30, 40]


def test_replies_are_understood_however_they_are_cut() -> None:
    for cut in range(200):
        driver = SessionDriver()
        batch = [driver.incr("a"), driver.incr("b")]
        read = driver.get("c")
        first, second = driver.turn()
        data = encode_result(first[1], [1 << 40, ["overflow", "x" * 40]]) + encode_result(second[1], 9)
        driver.session.receive(data[:cut])
        driver.session.receive(data[cut:])
        assert [waiter.outcome for waiter in (*batch, read)] == [1 << 40, CounterOverflow, 9]


def test_notifications_of_a_server_are_ignored() -> None:
    driver = SessionDriver()
    waiter = driver.get()
    ((_, msgid, _, _),) = driver.turn()
    driver.session.receive(packed([[2, "news", ["of a later version"]], [1, msgid, None, 5]]))
    assert waiter.outcome == 5


# Bytes that are not a reply to a request in flight. A read in flight is sent again on the next connection.
GARBAGE: dict[str, Callable[[int], bytes]] = {
    "a greeting nobody asked for": lambda msgid: packed([[1, HELLO_MSGID, None, HELLO_RESULT]]),
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

# Malformed replies to the request in flight. A read is not sent again, as it would get the same reply.
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
    driver = SessionDriver()
    answered = driver.get("before")
    waiter = driver.incr() if kind == "change" else driver.get()
    before, message = driver.turn()
    driver.reply(before[1], 3)
    data = garbage(message[1])
    with pytest.raises(ProtocolError) as caught:
        list(map(driver.session.receive, (data[:65_536], data[65_536:])))
    driver.session.disconnected(caught.value, driver.now)
    assert answered.outcome == 3
    if kind == "change":
        assert waiter.outcome is OutcomeUnknown
        assert waiter.error is not None
        assert waiter.error.__cause__ is caught.value
        return
    driver.connect()
    again = driver.turn()
    if garbage in GARBAGE.values():
        driver.reply(again[0][1], 8)
        assert waiter.outcome == 8
    else:
        assert not again
        assert waiter.outcome is ProtocolError


def test_a_batch_with_a_bad_item_settles_what_stands_before_it() -> None:
    driver = SessionDriver()
    waiters = [driver.incr("a"), driver.incr("b"), driver.incr("c")]
    ((_, msgid, _, _),) = driver.turn()
    with pytest.raises(ProtocolError) as caught:
        driver.reply(msgid, [1, 2.5, 3])
    driver.session.disconnected(caught.value, driver.now)
    assert [waiter.outcome for waiter in waiters] == [1, OutcomeUnknown, OutcomeUnknown]


@pytest.mark.parametrize("values", [[1], [1, 2, 3], 2, None, {"a": 1}])
def test_a_batch_with_the_wrong_number_of_values_is_no_reply(values: Any) -> None:
    driver = SessionDriver()
    driver.incr("a")
    driver.incr("b")
    ((_, msgid, _, _),) = driver.turn()
    with pytest.raises(ProtocolError):
        driver.reply(msgid, values)


# ------------------------------------------------------------------------------------------------- cancellation


def test_a_call_cancelled_before_the_write_leaves_the_batch() -> None:
    driver = SessionDriver()
    first, second, third = driver.incr("a"), driver.incr("b", 2), driver.incr("c", 3)
    second.cancel()
    (message,) = driver.turn()
    assert message[3] == [[b"a", b"c"], [1, 3]]
    driver.reply(message[1], [10, 30])
    assert (first.outcome, third.outcome) == (10, 30)


def test_a_batch_that_one_call_is_left_of_travels_plain_and_one_without_any_not_at_all() -> None:
    driver = SessionDriver()
    gone, left = driver.incr("a"), driver.incr("b")
    gone.cancel()
    read = driver.get()
    read.cancel()
    (message,) = driver.turn()
    assert message[2:] == ["incr", [b"b"]]
    driver.reply(message[1], 2)
    assert left.outcome == 2
    driver.incr().cancel()
    assert driver.turn() == []


def test_a_call_cancelled_after_the_write_leaves_its_slot_unused() -> None:
    driver = SessionDriver()
    first, second, third = driver.incr("a"), driver.incr("b"), driver.incr("c")
    read = driver.get()
    batch, single = driver.turn()
    second.cancel()
    read.cancel()
    driver.reply(batch[1], [1, ["overflow", "so"], 3])
    driver.reply(single[1], 5)
    assert (first.outcome, third.outcome, second.cancelled, read.cancelled) == (1, 3, True, True)


def test_a_msgid_is_not_used_again_before_its_reply_came() -> None:
    driver = SessionDriver()
    gave_up = driver.get("slow")
    ((_, slow, _, _),) = driver.turn()
    gave_up.cancel()
    for _ in range(100):
        waiter = driver.get("fast")
        ((_, msgid, _, _),) = driver.turn()
        assert msgid != slow
        driver.reply(msgid, 1)
        assert waiter.outcome == 1
    driver.reply(slow, 2)
    waiters = [driver.get(), driver.get()]
    assert slow in [message[1] for message in driver.turn()]
    assert not any(waiter.done() for waiter in waiters)


def test_msgids_stay_small() -> None:
    driver = SessionDriver()
    for _ in range(5_000):
        driver.get()
        driver.get()
        for message in driver.turn():
            assert message[1] < 3
            driver.reply(message[1], 0)


# ------------------------------------------------------------------------------------------------- windows


def test_a_bounded_number_of_messages_is_in_flight_and_the_rest_waits() -> None:
    driver = SessionDriver()
    waiters = [driver.get(f"k{place}") for place in range(UNACKNOWLEDGED_MAX + 10)]
    messages = driver.turn()
    assert len(messages) == UNACKNOWLEDGED_MAX
    assert not driver.has_output()
    assert {message[1] for message in messages} == set(range(1, UNACKNOWLEDGED_MAX + 1))
    for message in messages[:4]:
        driver.reply(message[1], 1)
    assert driver.has_output()
    following = [[f"k{UNACKNOWLEDGED_MAX + place}".encode()] for place in range(4)]
    assert [message[3] for message in driver.write()] == following
    assert sum(waiter.done() for waiter in waiters) == 4


def test_a_write_has_a_bounded_size() -> None:
    driver = SessionDriver()
    for _ in range(1_000):
        driver.get("k" * 500)
    driver.session.end_turn(driver.now)
    sizes = []
    while driver.has_output():
        sizes.append(len(driver.session.output(driver.now)))
    assert len(sizes) == 2
    assert max(sizes) <= session.OUTPUT_BYTES_MAX + 1_000


# ------------------------------------------------------------------------------------------------- deadlines


def test_a_call_in_flight_times_out_and_its_late_reply_meets_nobody() -> None:
    driver = SessionDriver()
    late, patient = driver.incr(timeout=1.0), driver.get(timeout=None)
    first, second = driver.turn()
    assert driver.session.next_due() == driver.now + 1.0
    driver.session.advance(driver.now + 0.999)
    assert not late.done()
    driver.session.advance(driver.now + 1.0)
    assert late.outcome is CallTimeout
    assert "no answer within 1 s" in str(late.error)
    assert driver.session.next_due() is None
    driver.reply(first[1], 5)
    driver.reply(second[1], 6)
    assert patient.outcome == 6


def test_deadlines_come_in_their_own_order() -> None:
    driver = SessionDriver()
    waiters = {timeout: driver.get(timeout=timeout) for timeout in (3.0, 1.0, 2.0)}
    driver.turn()
    for timeout in (1.0, 2.0, 3.0):
        assert driver.session.next_due() == driver.now + timeout
        driver.session.advance(driver.now + timeout)
        assert waiters[timeout].outcome is CallTimeout


def test_a_call_that_was_never_sent_says_so_and_why() -> None:
    driver = SessionDriver()
    error = driver.lose()
    waiter = driver.incr()
    assert driver.turn() == []
    driver.session.advance(driver.now + 1)
    assert waiter.outcome is CallTimeout
    assert "not sent within 1 s: cut" in str(waiter.error)
    assert waiter.error is not None
    assert waiter.error.__cause__ is error
    driver.connect()
    assert driver.write() == []


@pytest.mark.parametrize("timeout", [0, 0.5])
def test_a_call_whose_time_has_run_out_is_not_sent(timeout: float) -> None:
    driver = SessionDriver()
    waiter = driver.incr(timeout=timeout)
    driver.session.end_turn(driver.now)
    driver.now += 0.5
    assert driver.write() == []
    assert waiter.outcome is CallTimeout
    assert str(waiter.error).endswith(f"not sent within {timeout:g} s"), "no other call is to blame"


def test_a_time_out_behind_a_full_window_names_it() -> None:
    driver = SessionDriver()
    for _ in range(UNACKNOWLEDGED_MAX):
        driver.get(timeout=None)
    waiter = driver.get()
    driver.turn()
    driver.session.advance(driver.now + 1)
    assert "earlier calls are unanswered" in str(waiter.error)


def test_answered_calls_leave_no_deadline_behind() -> None:
    driver = SessionDriver()
    stuck = driver.get(timeout=5.0)
    ((_, _, _, _),) = driver.turn()
    for _ in range(20_000):
        driver.get(timeout=60.0)
        ((_, msgid, _, _),) = driver.turn()
        driver.reply(msgid, 0)
    assert len(driver.session._deadlines) < 3 * 4 * UNACKNOWLEDGED_MAX
    assert driver.session.next_due() == driver.now + 5.0
    assert not stuck.done()


def test_abandoned_calls_do_not_pile_up_while_there_is_no_connection() -> None:
    driver = SessionDriver(connect=False)
    kept = driver.get("kept", timeout=None)
    for _ in range(20_000):
        driver.get(timeout=None).cancel()
        driver.turn()
    assert len(driver.session._queue) <= 2 * UNACKNOWLEDGED_MAX
    driver.connect()
    (message,) = driver.turn()
    driver.reply(message[1], 1)
    assert kept.outcome == 1


# ------------------------------------------------------------------------------------------------- lost connections


def test_a_lost_connection_leaves_changes_in_doubt_and_repeats_the_rest_in_order() -> None:
    driver = SessionDriver()
    reads = [driver.get("r0")]
    changes = [driver.incr("a"), driver.incr("b"), driver.ask(calls.set("c", 1, None)), driver.ask(calls.take(["d"]))]
    reads.append(driver.ask(calls.get_many(["r1", "r2"])))
    assert len(driver.turn()) == 5
    unsent = driver.incr("e")
    driver.session.end_turn(driver.now)
    error = driver.lose()
    for change in changes:
        assert change.outcome is OutcomeUnknown
        assert change.error is not None
        assert change.error.__cause__ is error
    assert not any(waiter.done() for waiter in (*reads, unsent))
    driver.connect()
    again = driver.write()
    assert [(message[2], message[3][0]) for message in again] == [
        ("get", b"r0"),
        ("get_many", [b"r1", b"r2"]),
        ("incr", b"e"),
    ]
    for message, result in zip(again, (1, [2, 3], 4), strict=True):
        driver.reply(message[1], result)
    assert [waiter.outcome for waiter in (*reads, unsent)] == [1, [2, 3], 4]


def test_what_is_sent_again_keeps_the_order_of_the_calls() -> None:
    driver = SessionDriver()
    driver.get("a")
    driver.ask(calls.set("b", 1, None))
    driver.get("c")
    driver.incr("d")
    messages = driver.turn()
    driver.reply_error(messages[3][1], "shutting_down")
    driver.reply_error(messages[1][1], "shutting_down")
    driver.lose()
    driver.connect()
    assert [message[3][0] for message in driver.write()] == [b"a", b"b", b"c", b"d"]


def test_a_read_that_waits_to_be_repeated_times_out_for_want_of_a_connection() -> None:
    driver = SessionDriver()
    waiter = driver.get()
    driver.turn()
    driver.lose()
    driver.session.advance(driver.now + 1)
    assert waiter.outcome is CallTimeout
    assert "not sent within 1 s: cut" in str(waiter.error)


def test_a_repeated_read_keeps_its_deadline() -> None:
    driver = SessionDriver()
    waiter = driver.get()
    driver.turn()
    driver.lose()
    driver.now += 0.9
    driver.connect()
    assert len(driver.turn()) == 1
    assert driver.session.next_due() == pytest.approx(driver.now + 0.1)
    driver.session.advance(driver.now + 0.2)
    assert waiter.outcome is CallTimeout


def test_a_cancelled_read_is_not_repeated() -> None:
    driver = SessionDriver()
    waiter = driver.get()
    driver.turn()
    waiter.cancel()
    driver.lose()
    driver.connect()
    assert driver.write() == []


def test_replies_of_an_old_connection_are_forgotten_with_it() -> None:
    driver = SessionDriver()
    driver.get()
    ((_, msgid, _, _),) = driver.turn()
    whole = encode_result(msgid, 77)
    driver.session.receive(whole[:-1])
    driver.lose()
    driver.connect()
    waiter = driver.get("other")
    messages = driver.turn()
    for message in messages:
        driver.reply(message[1], 5)
    assert waiter.outcome == 5


def test_what_a_stopping_server_refused_goes_to_the_next_connection() -> None:
    driver = SessionDriver()
    answered, refused, read = (
        driver.incr("a"),
        [driver.ask(calls.set("b", 1, None)), driver.incr("c")],
        driver.get("d"),
    )
    first, *others = driver.turn()
    driver.reply(first[1], 1)
    for message in others[:2]:
        driver.reply_error(message[1], "shutting_down")
    later = driver.incr("e")
    assert driver.turn() == [], "nothing more is sent to a server that is shutting down"
    assert not driver.drained(), "the read is not answered yet"
    driver.reply(others[2][1], 9)
    assert driver.drained()
    assert (answered.outcome, read.outcome) == (1, 9)
    driver.lose()
    driver.connect()
    again = driver.write()
    assert [message[3][0] for message in again] == [b"b", b"c", b"e"]
    for message in again:
        driver.reply(message[1], 7)
    assert [waiter.outcome for waiter in (*refused, later)] == [7, 7, 7]


def test_a_stopping_server_that_owes_nobody_an_answer_is_left() -> None:
    driver = SessionDriver()
    refused, slow = driver.incr("a"), driver.get("b")
    first, _ = driver.turn()
    driver.reply_error(first[1], "shutting_down")
    assert not driver.drained()
    driver.session.advance(driver.now + 1)
    assert (refused.outcome, slow.outcome) == (CallTimeout, CallTimeout)
    assert driver.drained()


# ------------------------------------------------------------------------------------------------- handshake


def test_nothing_is_sent_before_the_greeting_is_answered() -> None:
    driver = SessionDriver(cache="orders", connect=False)
    waiter, handshake = driver.incr(), FakeWaiter()
    assert requests_in(driver.session.connected(handshake)) == [[0, HELLO_MSGID, "hello", [{"cache": "orders"}]]]
    assert driver.turn() == []
    driver.reply(HELLO_MSGID, HELLO_RESULT)
    assert handshake.done()
    ((_, msgid, _, _),) = driver.write()
    driver.reply(msgid, 1)
    assert waiter.outcome == 1


@pytest.mark.parametrize("resumable", [False, True])
def test_a_name_is_said_where_a_session_begins_and_not_where_it_goes_on(resumable: bool) -> None:
    session = ClientSession(cache=None, wake=lambda: None, resumable=resumable, lease_ms=500, name="me")
    opens = {"session": True, "lease_ms": 500, "name": "me"} if resumable else {"name": "me"}
    ((_, msgid, _, params),) = requests_in(session.connected(FakeWaiter()))
    assert params == [opens]
    answer = HELLO_RESULT | ({"session": b"0123456789abcdef", "lease_ms": 500} if resumable else {})
    session.receive(encode_result(msgid, answer))
    session.disconnected(ConnectionResetError(), 1.0)
    ((_, msgid, _, params),) = requests_in(session.connected(FakeWaiter()))
    assert params == [{"session": b"0123456789abcdef", "received": 0} if resumable else opens]
    if resumable:
        session.receive(encode_error(msgid, "no_session", "so"))
        ((_, _, _, params),) = requests_in(session.output(2.0))
        assert params == [opens], "the next one is its own again"


def test_an_unknown_cache_fails_the_greeting_and_what_waited_for_it() -> None:
    driver = SessionDriver(cache="nope", connect=False)
    waiter, handshake = driver.incr(timeout=None), FakeWaiter()
    driver.turn()
    driver.session.connected(handshake)
    with pytest.raises(InvalidRequest) as caught:
        driver.reply_error(HELLO_MSGID, "invalid", "there is no cache named nope")
    driver.session.disconnected(caught.value, driver.now)
    assert handshake.error is caught.value
    driver.session.connect_failed(caught.value)
    assert waiter.outcome is InvalidRequest
    assert waiter.error is not caught.value


def test_a_refused_client_fails_nobody_twice() -> None:
    driver = SessionDriver(connect=False)
    late, waiting = driver.get("a", timeout=0.1), driver.get("b", timeout=None)
    driver.turn()
    driver.session.advance(driver.now + 0.1)
    driver.session.connect_failed(InvalidRequest("there is no cache named nope"))
    assert (late.outcome, waiting.outcome) == (CallTimeout, InvalidRequest)
    driver.connect()
    assert driver.turn() == []


def test_a_connection_is_of_use_where_nobody_waits_for_its_greeting() -> None:
    driver = SessionDriver(connect=False)
    waiter, handshake = driver.get(), FakeWaiter()
    driver.turn()
    driver.session.connected(handshake)
    handshake.cancel()
    driver.reply(HELLO_MSGID, HELLO_RESULT)
    assert [message[2] for message in driver.write()] == ["get"]
    driver.reply(1, 5)
    assert waiter.outcome == 5


@pytest.mark.parametrize("error", [Busy("full"), Unavailable("so"), ConnectionRefusedError(), TimeoutError()])
def test_what_waits_goes_on_waiting_while_a_server_may_come_back(error: BaseException) -> None:
    driver = SessionDriver(connect=False)
    waiter = driver.incr()
    driver.turn()
    driver.session.connect_failed(error)
    assert not waiter.done()


@pytest.mark.parametrize(
    "answer", [packed([[1, 1, None, {}]]), packed([[1, 0, None, "hello yourself"]]), b"SSH-2.0\r\n"]
)
def test_what_is_no_naught_server_fails_the_greeting(answer: bytes) -> None:
    driver = SessionDriver(connect=False)
    handshake = FakeWaiter()
    driver.session.connected(handshake)
    with pytest.raises(ProtocolError) as caught:
        driver.session.receive(answer)
    driver.session.disconnected(caught.value, driver.now)
    assert handshake.error is caught.value


def test_a_connection_lost_while_greeting_says_so() -> None:
    driver = SessionDriver(connect=False)
    handshake = FakeWaiter()
    driver.session.connected(handshake)
    assert driver.lose() is handshake.error


def test_having_served_is_known_until_the_next_connection() -> None:
    driver = SessionDriver()
    assert not driver.served(), "the reply to hello does not count"
    driver.get()
    ((_, msgid, _, _),) = driver.turn()
    driver.reply_error(msgid, "invalid")
    assert driver.served()
    driver.lose()
    assert driver.served()
    driver.connect()
    assert not driver.served()


# ------------------------------------------------------------------------------------------------- the end


def test_closing_ends_every_call_wherever_it_is() -> None:
    driver = SessionDriver()
    waiters = [driver.incr("in flight"), driver.get("in flight")]
    first, _ = driver.turn()
    waiters.append(driver.incr("refused"))
    message = driver.turn()[0]
    driver.reply_error(message[1], "shutting_down")
    waiters.append(driver.incr("queued"))
    driver.turn()
    waiters.append(driver.incr("fresh"))
    driver.session.close()
    assert [waiter.outcome for waiter in waiters] == [ClientClosed] * 5
    for late in (driver.incr, driver.get):
        with pytest.raises(ClientClosed):
            late()
    assert driver.session.next_due() is None
    driver.session.disconnected(ConnectionResetError(), driver.now)
    driver.session.end_turn(driver.now)
    assert not driver.has_output()
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
    driver = SessionDriver()
    waiter = driver.get()
    ((_, msgid, _, _),) = driver.turn()
    driver.session.receive(encode_error(msgid, "novel", "so"))
    assert isinstance(waiter.error, NaughtError)
    assert getattr(waiter.error, "code", None) == "novel"
