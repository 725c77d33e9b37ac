"""Hooks without an event loop: what an observed call says, how hooks are run, and what a session does for them."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import pytest

from naught.core import calls
from naught.core.calls import Call
from naught.core.hooks import Hooks, ObservedCall, ObservedSink, Observer, check_hooks
from naught.core.session import ClientSession
from naught.core.windows import HELLO_MSGID
from naught.errors import (
    Busy,
    CallTimeout,
    ClientClosed,
    CounterOverflow,
    InvalidRequest,
    OutcomeUnknown,
    error_from_wire,
)
from naught.url import TcpAddress
from naught.wire.codec import encode_result
from support.client_helpers import HELLO_RESULT, FakeWaiter, SessionDriver, requests_in

ADDRESS = TcpAddress("localhost", 6480, "orders")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def observed_call() -> ObservedCall:
    return ObservedCall("incr", 1, ADDRESS)


# ------------------------------------------------------------------------------------------------- the call


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (CounterOverflow("so"), "overflow"),
        (error_from_wire("of_tomorrow", "so"), "of_tomorrow"),
        (CallTimeout("so"), "CallTimeout"),
        (OutcomeUnknown("so"), "OutcomeUnknown"),
        (CancelledError(), "CancelledError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
    ids=repr,
)
def test_the_outcome(error: BaseException | None, outcome: str) -> None:
    call = observed_call()
    assert (call.ended, repr(call)) == (False, "<naught.ObservedCall incr>")
    call.note_end(0.0, error)
    assert (call.ended, call.error, call.outcome) == (True, error, outcome)
    assert repr(call) == f"<naught.ObservedCall incr {outcome}>"


def test_only_a_traceparent_is_taken_for_one() -> None:
    call = observed_call()
    assert call.traceparent is None
    call.traceparent = TRACE
    assert call.traceparent == TRACE
    bad: list[Any] = ["", TRACE.upper(), TRACE[:-1], TRACE.encode(), 1, f"ff{TRACE[2:]}"]
    for text in bad:
        with pytest.raises(InvalidRequest, match="traceparent is 55 characters"):
            call.traceparent = text
        assert call.traceparent == TRACE
    call.traceparent = None
    assert call.traceparent is None


# ------------------------------------------------------------------------------------------------- running hooks


class Clock:
    """Stands still until the test sets `now`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def observer_of(
    start: Callable[[ObservedCall], object] | None = None,
    end: Callable[[ObservedCall], object] | None = None,
    clock: Callable[[], float] = lambda: 0.0,
) -> Observer:
    return Observer(Hooks(start, end), ADDRESS, clock)


def test_both_hooks_get_the_same_call() -> None:
    clock = Clock()
    seen: list[ObservedCall] = []

    def on_start(call: ObservedCall) -> None:
        seen.append(call)
        call.state = "of the hooks"
        clock.now = 105.0  # the time that a hook takes is not the call's

    def on_end(call: ObservedCall) -> None:
        seen.append(call)
        assert call.state == "of the hooks"
        assert (call.ended, call.duration, call.outcome) == (True, 2.5, "busy")

    observer = observer_of(on_start, on_end, clock)
    call = observer.start("take", 3)
    assert (call.method, call.batch_size, call.address, call.ended) == ("take", 3, ADDRESS, False)
    clock.now = 107.5
    observer.end(call, Busy("so"))
    clock.now = 200.0
    observer.end(call, None)
    assert seen == [call, call], "it has one end"
    assert call.outcome == "busy"


@pytest.mark.parametrize("set_", ["start", "end"])
def test_one_hook_is_enough(set_: str) -> None:
    seen: list[ObservedCall] = []
    observer = observer_of(**{set_: seen.append})
    call = observer.start("incr", 1)
    observer.end(call, None)
    assert seen == [call]


def test_a_hook_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def fails(call: ObservedCall) -> None:
        raise ZeroDivisionError("of the hook")

    observer = observer_of(fails, fails)
    with caplog.at_level(logging.ERROR, "naught"):
        for _ in range(3):
            call = observer.start("incr", 1)
            observer.end(call, None)
            assert call.outcome == "ok"
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "on_call_start raised; further exceptions of it are not logged",
        "on_call_end raised; further exceptions of it are not logged",
    ]
    assert caplog.text.count("ZeroDivisionError: of the hook") == 2, "with its traceback"


def test_an_interrupt_in_a_hook_is_the_callers() -> None:
    def interrupted(call: ObservedCall) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observer_of(interrupted).start("incr", 1)


def test_which_hooks_are_refused() -> None:
    assert check_hooks(None, None) is None
    assert check_hooks(print, None) == Hooks(print, None)
    for bad in ((1, None), (None, "print")):
        with pytest.raises(InvalidRequest, match=r"on_call_(start|end) is a function or None, not (int|str)"):
            check_hooks(*bad)


# ------------------------------------------------------------------------------------------------- the sink


class ObservedWaiter(FakeWaiter):
    """The future of an observed call."""

    def __init__(self, traceparent: str | None = None) -> None:
        super().__init__()
        self.observed = observed_call()
        self.observed.traceparent = traceparent
        self.followed = False

    def observe(self, call: ObservedCall) -> None:
        self.observed = call

    def follow(self) -> None:
        self.followed = True


class FakeSink:
    """Notes what it is given; may refuse it."""

    def __init__(self, journal: list[Any], error: BaseException | None = None) -> None:
        self.journal = journal
        self.error = error
        self.cancel_wait = self.release_untaken = self.current_caller = None

    def change(self, *arguments: Any) -> None:
        self._take(arguments)

    def ask(self, *arguments: Any) -> Any:
        return self._take(arguments)

    def _take(self, arguments: tuple[Any, ...]) -> str:
        assert not arguments[-1].followed
        self.journal.append(arguments[:-1])
        if self.error is not None:
            raise self.error
        return "the message"


def sink_of(journal: list[Any], error: BaseException | None = None) -> Any:
    observer = observer_of(
        lambda call: journal.append(("start", call.method, call.batch_size)),
        lambda call: journal.append(("end", call.outcome)),
    )
    return ObservedSink(FakeSink(journal, error), observer, ObservedWaiter)  # type: ignore[arg-type]


def test_the_start_comes_before_the_call_is_queued() -> None:
    journal: list[Any] = []
    sink = sink_of(journal)
    waiter = sink.new_future()
    sink.change(b"k", 5, None, 1.0, waiter)
    assert journal == [("start", "incr", 1), (b"k", 5, None, 1.0)]
    assert waiter.followed
    assert waiter.observed.method == "incr"
    journal.clear()
    call = calls.get("k")
    assert sink.ask(call, None, sink.new_future()) == "the message"
    assert journal == [("start", "get", 1), (call, None)]


@pytest.mark.parametrize("error", [ClientClosed("closed"), Busy("too many"), KeyboardInterrupt()], ids=repr)
def test_a_call_that_cannot_be_queued_ends_at_once(error: BaseException) -> None:
    journal: list[Any] = []
    sink = sink_of(journal, error)
    for call in (
        lambda waiter: sink.change(b"k", -1, None, 1.0, waiter),
        lambda waiter: sink.ask(calls.get("k"), 1.0, waiter),
    ):
        journal.clear()
        waiter = sink.new_future()
        with pytest.raises(type(error)):
            call(waiter)
        assert [entry[0] for entry in (journal[0], journal[-1])] == ["start", "end"]
        assert len(journal) == 3
        assert not waiter.followed, "nobody will tell of its end"


@pytest.mark.parametrize(("ttl_ms", "timeout"), [(0, 1.0), (1.5, 1.0), (None, "soon"), (None, True)])
def test_a_call_with_a_bad_argument_is_not_seen(ttl_ms: Any, timeout: Any) -> None:
    journal: list[Any] = []
    sink = sink_of(journal)
    with pytest.raises(InvalidRequest):
        sink.change(b"k", 1, ttl_ms, timeout, sink.new_future())
    if ttl_ms is None:
        with pytest.raises(InvalidRequest):
            sink.ask(calls.get("k"), timeout, sink.new_future())
    assert journal == []


ITEMS = [("a", 1, 2), ("b", 1, 2)]


@pytest.mark.parametrize(
    ("call", "batch_size"),
    [
        (calls.get("k"), 1),
        (calls.ping(), 1),
        (calls.decr_strict("k", 5), 1),
        (calls.scan(0, 100, "", bytes), 1),
        (calls.apply(["a", "b", "c"], 1, None), 3),
        (calls.apply(["a", "b", "c"], [1, 2, 3], 5), 3),
        (calls.get_many(["a", "b"]), 2),
        (calls.get_many([]), 0),
        (calls.take(["a"]), 1),
        (calls.try_incr(ITEMS, None), 2),
        (calls.acquire(ITEMS, 1.0), 2),
        (calls.release(7, None), 1),
        (calls.release(7, [("a", 1), ("b", 1), ("c", 1)]), 3),
    ],
    ids=lambda each: each.method if isinstance(each, Call) else "",
)
def test_the_batch_size_is_the_number_of_items(call: Call[Any], batch_size: int) -> None:
    journal: list[Any] = []
    sink = sink_of(journal)
    sink.ask(call, 1.0, sink.new_future())
    assert journal[0] == ("start", call.method, batch_size)


# ------------------------------------------------------------------------------------------------- traces


def sent(driver: SessionDriver) -> list[Any]:
    """What is written at the end of the turn: `trace` notifications as their parameter, requests as their method."""
    return [message[2] if message[0] == 0 else message[2][0] for message in driver.turn()]


def ask(driver: SessionDriver, traceparent: str | None, call: Call[Any] | None = None) -> ObservedWaiter:
    waiter = ObservedWaiter(traceparent)
    driver.session.ask(call or calls.get("k"), 1.0, waiter)
    return waiter


def change(driver: SessionDriver, traceparent: str | None) -> ObservedWaiter:
    waiter = ObservedWaiter(traceparent)
    driver.session.change(b"k", 1, None, 1.0, waiter)
    return waiter


def test_a_trace_is_sent_before_the_requests_that_belong_to_it() -> None:
    driver = SessionDriver(observed=True)
    for traceparent in (None, TRACE, TRACE, OTHER_TRACE, None, None, TRACE):
        ask(driver, traceparent)
    assert sent(driver) == ["get", TRACE, "get", "get", OTHER_TRACE, "get", None, "get", "get", TRACE, "get"]
    ask(driver, TRACE)
    assert sent(driver) == ["get"], "the server knows it"


def test_without_hooks_nothing_is_sent() -> None:
    driver = SessionDriver()
    ask(driver, TRACE)
    assert sent(driver) == ["get"]


def test_joined_calls_travel_under_the_first_trace_there_is() -> None:
    driver = SessionDriver(observed=True)
    for traceparent in (None, TRACE, OTHER_TRACE):
        change(driver, traceparent)
    assert sent(driver) == [TRACE, "apply"]
    gone = change(driver, TRACE)
    change(driver, OTHER_TRACE)
    gone.cancel()
    assert sent(driver) == [OTHER_TRACE, "incr"], "one that is not sent does not count"


def test_requests_of_the_session_itself_belong_to_no_trace() -> None:
    driver = SessionDriver(observed=True)
    waiter = ObservedWaiter(TRACE)
    message = driver.session.ask(calls.wait_zero("k", None), None, waiter)
    assert sent(driver) == [TRACE, "wait_zero"]
    waiter.cancel()
    driver.session.cancel_wait(message)
    assert sent(driver) == [None, "cancel"]


def test_a_new_connection_is_told_again() -> None:
    driver = SessionDriver(observed=True)
    ask(driver, TRACE)
    assert sent(driver) == [TRACE, "get"]
    driver.lose()
    driver.connect()
    assert sent(driver) == [TRACE, "get"], "the read is repeated"
    ask(driver, TRACE)
    assert sent(driver) == ["get"]


def test_a_change_alone_has_its_trace() -> None:
    driver = SessionDriver(observed=True)
    waiter = ObservedWaiter(TRACE)
    data = driver.session.change_alone((b"k", 1, None, 1.0), waiter, driver.now)
    trace, request = requests_in(data)
    assert (trace, request[2]) == ([2, "trace", [TRACE]], "incr")
    driver.reply(request[1], 7)
    assert waiter.outcome == 7
    data = driver.session.change_alone((b"k", 1, None, 1.0), ObservedWaiter(TRACE), driver.now)
    assert [message[2] for message in requests_in(data)] == ["incr"]


# ------------------------------------------------------------------------------------------------- retries


class ResumableDriver(SessionDriver):
    """A driver whose session is resumable and observed."""

    def __init__(self) -> None:
        super().__init__(connect=False)
        self.session = ClientSession(cache=None, wake=self._wake, resumable=True, observed=True)
        self.session.connected(FakeWaiter())
        self.reply(HELLO_MSGID, HELLO_RESULT | {"session": b"sixteen bytes id", "lease_ms": 10_000})

    def resume(self, accepted: int) -> list[str]:
        """A new connection that resumes the session. Returns the methods that are sent again."""
        ((_, msgid, _, (words,)),) = requests_in(self.session.connected(FakeWaiter()))
        answer = {"session": b"sixteen bytes id", "lease_ms": 10_000, "accepted": accepted}
        self.session.receive(encode_result(msgid, HELLO_RESULT | answer | {"replies_from": words["received"] + 1}))
        return [message[2] for message in self.write() if message[0] == 0]


def test_a_call_counts_how_often_it_was_sent_again() -> None:
    driver = ResumableDriver()
    accepted, lost = ask(driver, None), [change(driver, None), change(driver, None)]
    driver.turn()
    assert [waiter.observed.retries for waiter in (accepted, *lost)] == [0, 0, 0]
    driver.lose()
    assert driver.resume(accepted=1) == ["apply"]
    assert [waiter.observed.retries for waiter in (accepted, *lost)] == [0, 1, 1]
    driver.lose()
    assert driver.resume(accepted=1) == ["apply"]
    assert [waiter.observed.retries for waiter in (accepted, *lost)] == [0, 2, 2]


def test_what_was_never_sent_is_not_sent_again() -> None:
    driver = ResumableDriver()
    driver.lose()
    waiter = ask(driver, None)
    driver.session.end_turn(driver.now)
    assert driver.resume(accepted=0) == ["get"]
    assert waiter.observed.retries == 0


def test_what_is_given_up_before_it_is_sent_again_counts_nothing() -> None:
    driver = ResumableDriver()
    waiter = ask(driver, None)
    driver.turn()
    driver.lose()
    driver.now += 1.0
    driver.session.advance(driver.now)
    assert waiter.outcome is CallTimeout
    assert driver.resume(accepted=0) == []
    assert waiter.observed.retries == 0


def test_a_read_that_is_repeated_with_another_session_counts() -> None:
    driver = SessionDriver(observed=True)
    waiter = ask(driver, None)
    driver.turn()
    driver.lose()
    driver.connect()
    assert sent(driver) == ["get"]
    assert waiter.observed.retries == 1


def test_what_a_server_that_stops_has_not_executed_counts_when_it_is_sent_again() -> None:
    driver = ResumableDriver()
    waiter = change(driver, None)
    ((_, msgid, _, _),) = driver.turn()
    driver.reply_error(msgid, "shutting_down")
    driver.lose()
    assert waiter.observed.retries == 0
    assert driver.resume(accepted=1) == ["incr"]
    assert waiter.observed.retries == 1
