"""`ClientSession` with resumption: which requests are sent again, which replies to `hello` are accepted, when replies
are acknowledged, the windows, and holds. There is no event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from naught.core import calls
from naught.core.calls import Call
from naught.core.holds import Hold
from naught.core.messages import Message
from naught.core.session import ClientSession
from naught.core.windows import ACKNOWLEDGE_BYTES, ACKNOWLEDGE_EVERY, HELLO_MSGID, REPLIES_BYTES_MAX
from naught.errors import (
    Busy,
    CallTimeout,
    ClientClosed,
    Denied,
    NaughtError,
    NotHeld,
    OutcomeUnknown,
    ProtocolError,
    ShuttingDown,
    Unavailable,
)
from naught.wire.codec import encode_error, encode_result
from naught.wire.limits import PARKED_MAX, REPLY_BYTES_MAX, UNACKNOWLEDGED_MAX
from support.client_helpers import HELLO_RESULT, FakeWaiter, SessionDriver, packed, requests_in

ID = b"sixteen bytes id"
LEASE_MS = 10_000


class ResumableDriver(SessionDriver):
    """A driver whose session is resumable."""

    def __init__(self, *, cache: str | None = None, lease_ms: int | None = None, connect: bool = True) -> None:
        super().__init__(cache=cache, connect=False)
        self.session = ClientSession(cache=cache, wake=self._wake, resumable=True, lease_ms=lease_ms)
        if connect:
            self.open()

    def hello(self) -> dict[str, Any]:
        """A new connection. Returns the options in its `hello`."""
        self.handshake = FakeWaiter()
        ((_, msgid, method, params),) = requests_in(self.session.connected(self.handshake))
        assert (msgid, method) == (HELLO_MSGID, "hello")
        words: dict[str, Any] = params[0]
        return words

    def open(self, session_id: bytes = ID) -> None:
        """A new connection, and the session opened on it."""
        assert self.hello()["session"] is True
        self.opened(session_id)

    def opened(self, session_id: bytes = ID) -> None:
        """The server answers `hello`: it has opened a session."""
        self.reply(HELLO_MSGID, HELLO_RESULT | {"session": session_id, "lease_ms": LEASE_MS})

    def resume(self, accepted: int, *, replies_from: int | None = None, then: bytes = b"") -> list[list[Any]]:
        """A new connection that resumes the session. `then` arrives together with the reply to `hello`.

        Returns the requests that are written next.
        """
        words = self.hello()
        first = words["received"] + 1 if replies_from is None else replies_from
        self.session.receive(encode_result(HELLO_MSGID, resumed(accepted, first)) + then)
        assert self.handshake.done()
        return self.write()

    def lost_session(self, code: str = "no_session") -> dict[str, Any]:
        """A new connection to a server that does not know the session. Returns the options in the second `hello`."""
        self.hello()
        self.reply_error(HELLO_MSGID, code)
        ((_, msgid, method, params),) = self.write()
        assert (msgid, method) == (HELLO_MSGID, "hello")
        words: dict[str, Any] = params[0]
        return words

    def begin(self, call: Call[Any], *, timeout: float | None = 1.0) -> tuple[FakeWaiter, Message]:
        """Make a call. Returns its waiter and its message."""
        waiter = FakeWaiter()
        return waiter, self.session.ask(call, timeout, waiter)

    def wait(self, key: str = "s", *, timeout: float | None = None) -> tuple[FakeWaiter, Message]:
        """Make an `acquire` that may wait without limit. Returns its waiter and its message."""
        return self.begin(calls.acquire([(key, 1, 1)], None), timeout=timeout)

    def hold(self, number: int, key: str = "s") -> Hold:
        """Acquire a hold with this number."""
        waiter = self.ask(calls.acquire([(key, 1, 1)], 0.0))
        ((_, msgid, _, _),) = self.turn()
        self.reply(msgid, [True, [1], number])
        held: Hold = waiter.result.hold
        return held

    def hold_again(self, number: int, key: str = "s", *, limit: int = 1) -> Hold:
        """Acquire a hold that is to be acquired again when its session is lost."""
        waiter = self.ask(calls.acquire([(key, 1, limit)], 0.0, again=True))
        ((_, msgid, _, _),) = self.turn()
        self.reply(msgid, [True, [1], number])
        held: Hold = waiter.result.hold
        return held

    def numbers_held(self) -> list[int]:
        return sorted(self.session._holds.by_number)


def resumed(accepted: Any, replies_from: Any) -> dict[str, Any]:
    return HELLO_RESULT | {
        "session": ID,
        "lease_ms": LEASE_MS,
        "accepted": accepted,
        "replies_from": replies_from,
    }


def methods(messages: Sequence[list[Any]]) -> list[str]:
    return [message[2] if message[0] == 0 else message[1] for message in messages]


def first_params(messages: Sequence[list[Any]]) -> list[Any]:
    return [message[3][0] for message in messages]


# ------------------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize(
    ("cache", "lease_ms", "words"),
    [
        (None, None, {"session": True}),
        ("orders", None, {"session": True, "cache": "orders"}),
        (None, 500, {"session": True, "lease_ms": 500}),
        ("orders", 500, {"session": True, "cache": "orders", "lease_ms": 500}),
    ],
)
def test_what_is_asked_for(cache: str | None, lease_ms: int | None, words: dict[str, Any]) -> None:
    driver = ResumableDriver(cache=cache, lease_ms=lease_ms, connect=False)
    assert driver.hello() == words
    driver.opened()
    assert driver.handshake.done()
    driver.lose()
    assert driver.hello() == {"session": ID, "received": 0}


NOT_OPENED: list[dict[str, Any]] = [
    {},
    {"session": ID},
    {"lease_ms": 5},
    {"session": ID[1:], "lease_ms": 5},
    {"session": True, "lease_ms": 5},
    {"session": ID, "lease_ms": True},
    {"session": ID, "lease_ms": 5.0},
    {"session": ID, "lease_ms": None},
]


@pytest.mark.parametrize("words", NOT_OPENED, ids=repr)
def test_a_server_that_opens_no_session_is_no_server(words: dict[str, Any]) -> None:
    driver = ResumableDriver(connect=False)
    waiter = driver.incr()
    driver.turn()
    driver.hello()
    with pytest.raises(ProtocolError):
        driver.reply(HELLO_MSGID, HELLO_RESULT | words)
    driver.lose()
    assert driver.handshake.outcome is ConnectionResetError
    driver.open()
    ((_, msgid, _, _),) = driver.write()
    driver.reply(msgid, 1)
    assert waiter.outcome == 1


# ------------------------------------------------------------------------------------------------- resuming


def test_resuming_says_how_many_replies_have_come() -> None:
    driver = ResumableDriver()
    for place in range(5):
        driver.get(f"k{place}")
    messages = driver.turn()
    driver.reply(messages[3][1], 1)
    driver.reply_error(messages[0][1], "unavailable")
    driver.reply_error(messages[4][1], "busy")
    driver.lose()
    assert driver.hello() == {"session": ID, "received": 3}
    assert driver.turn() == [], "nothing is sent before hello is answered"


@pytest.mark.parametrize("answered", [(), (0,), (0, 1), (1, 3)], ids=str)
def test_what_was_accepted_stays_and_what_was_not_is_sent_again_in_order(answered: tuple[int, ...]) -> None:
    for accepted in range(max(answered, default=-1) + 1, 6):
        driver = ResumableDriver()
        waiters = [driver.incr("a", 10), driver.get("b"), driver.ask(calls.set("c", 1, None)), driver.get("d")]
        waiters.append(driver.incr("e", 50))
        first = driver.turn()
        unsent = driver.incr("f", 60)
        driver.session.end_turn(driver.now)
        for place in answered:
            driver.reply(first[place][1], place)
        driver.lose()
        again = driver.resume(accepted)
        assert first_params(again) == [b"a", b"b", b"c", b"d", b"e", b"f"][accepted:]
        assert [message[2:] for message in again[:-1]] == [message[2:] for message in first[accepted:]]
        kept = [place for place in range(accepted) if place not in answered]
        used = [first[place][1] for place in kept] + [message[1] for message in again]
        assert len(set(used)) == len(used), "a msgid in flight is not reused"
        for place in reversed(kept):
            driver.reply(first[place][1], place)
        for message in again:
            driver.reply(message[1], ord(message[3][0]) - ord("a"))
        assert [waiter.outcome for waiter in (*waiters, unsent)] == [0, 1, 2, 3, 4, 5]


def test_what_nobody_waits_for_any_more_is_not_sent_again() -> None:
    driver = ResumableDriver()
    gone, kept = driver.get("gone"), driver.get("kept")
    late = driver.ask(calls.set("late", 1, None), timeout=0.5)
    batch = [driver.incr("a", 1), driver.incr("b", 2), driver.incr("c", 3)]
    assert len(driver.turn()) == 4
    gone.cancel()
    batch[1].cancel()
    driver.lose()
    driver.now += 0.6
    driver.session.advance(driver.now)
    assert late.outcome is CallTimeout
    read, rest = driver.resume(0)
    assert (read[2:], rest[2:]) == (["get", [b"kept"]], ["apply", [[b"a", b"c"], [1, 3]]])
    driver.reply(rest[1], [10, 30])
    driver.reply(read[1], 5)
    assert [kept.outcome, batch[0].outcome, batch[2].outcome] == [5, 10, 30]


def test_what_nobody_waits_for_and_was_accepted_still_answers_under_its_msgid() -> None:
    driver = ResumableDriver()
    gone = driver.get("gone")
    ((_, msgid, _, _),) = driver.turn()
    gone.cancel()
    driver.lose()
    assert driver.resume(1) == []
    other = driver.get("other")
    ((_, fresh, _, _),) = driver.turn()
    assert fresh != msgid
    driver.reply(msgid, 1)
    driver.reply(fresh, 2)
    assert other.outcome == 2
    assert driver.hello()["received"] == 2


def test_a_call_keeps_its_deadline_over_a_resumption() -> None:
    driver = ResumableDriver()
    accepted, again = driver.incr("a", timeout=1.0), driver.get("b", timeout=2.0)
    driver.turn()
    driver.lose()
    driver.now += 0.5
    assert len(driver.resume(1)) == 1
    assert driver.session.next_due() == driver.now + 0.5
    driver.session.advance(driver.now + 0.5)
    assert accepted.outcome is CallTimeout
    assert not again.done()
    driver.session.advance(driver.now + 1.5)
    assert again.outcome is CallTimeout


@pytest.mark.parametrize("back", [1, 2, 3])
def test_replies_that_come_again_are_skipped(back: int) -> None:
    """They are skipped by count, because their msgids may belong to later requests."""
    driver = ResumableDriver()
    for place in range(3):
        waiter = driver.get(f"k{place}")
        ((_, msgid, _, _),) = driver.turn()
        driver.reply(msgid, place)
        assert (waiter.outcome, msgid) == (place, 1)
    waiting = driver.get("new")
    ((_, msgid, _, _),) = driver.turn()
    assert msgid == 1
    driver.lose()
    again = b"".join(encode_result(1, place) for place in range(3 - back, 3))
    assert driver.resume(4, replies_from=4 - back, then=again[:-1]) == []
    assert not waiting.done()
    driver.session.receive(again[-1:] + encode_result(1, 99))
    assert waiting.outcome == 99


def test_skipping_ends_with_the_connection() -> None:
    driver = ResumableDriver()
    driver.get()
    ((_, msgid, _, _),) = driver.turn()
    driver.reply(msgid, 1)
    driver.lose()
    driver.resume(1, replies_from=1)
    driver.lose()
    driver.resume(1)
    waiter = driver.get()
    ((_, msgid, _, _),) = driver.turn()
    driver.reply(msgid, 2)
    assert waiter.outcome == 2


def test_a_connection_that_breaks_before_hello_is_answered_changes_nothing() -> None:
    driver = ResumableDriver()
    waiter = driver.incr()
    driver.turn()
    driver.lose()
    for _ in range(3):
        assert driver.hello() == {"session": ID, "received": 0}
        error = driver.lose()
        assert driver.handshake.error is error
    assert len(driver.resume(0)) == 1
    driver.lose()
    assert driver.resume(1) == []
    assert not waiter.done()


def test_changes_and_reads_are_asked_once_over_many_cuts() -> None:
    driver = ResumableDriver()
    change, read = driver.incr("a"), driver.get("b")
    first = driver.turn()
    for _ in range(5):
        driver.lose()
        assert driver.resume(2) == []
    driver.reply(first[1][1], 2)
    driver.lose()
    assert driver.resume(2) == []
    driver.reply(first[0][1], 1)
    assert (change.outcome, read.outcome) == (1, 2)


BAD_RESUMPTIONS: dict[str, Any] = {
    "no map": 5,
    "nothing": {},
    "a session that was opened": {"session": ID, "lease_ms": 5},
    "no accepted": {"replies_from": 2},
    "no replies_from": {"accepted": 3},
    "accepted a bool": resumed(True, 2),
    "accepted a float": resumed(3.0, 2),
    "accepted more than was sent": resumed(4, 2),
    "accepted less than was answered": resumed(0, 2),
    "replies from nowhere": resumed(3, 0),
    "replies missing": resumed(3, 3),
    "replies_from a bool": resumed(3, True),
    "replies_from nil": resumed(3, None),
}


@pytest.mark.parametrize("answer", BAD_RESUMPTIONS.values(), ids=BAD_RESUMPTIONS.keys())
def test_an_answer_that_cannot_be_is_not_believed(answer: Any) -> None:
    """Three requests were sent and one was answered. The bad reply settles none; a good one later resumes."""
    driver = ResumableDriver()
    waiters = [driver.get("a"), driver.incr("b"), driver.get("c")]
    messages = driver.turn()
    driver.reply(messages[0][1], 0)
    driver.lose()
    driver.hello()
    with pytest.raises(ProtocolError) as caught:
        driver.reply(HELLO_MSGID, answer)
    assert not driver.handshake.done()
    driver.session.disconnected(caught.value, driver.now)
    assert driver.handshake.error is caught.value
    assert [waiter.done() for waiter in waiters] == [True, False, False]
    assert first_params(driver.resume(2)) == [b"c"]


@pytest.mark.parametrize("accepted", [1, 2, 3])
def test_the_edges_of_what_may_be_accepted(accepted: int) -> None:
    driver = ResumableDriver()
    for key in "abc":
        driver.get(key)
    messages = driver.turn()
    driver.reply(messages[0][1], 0)
    driver.lose()
    assert len(driver.resume(accepted)) == 3 - accepted


@pytest.mark.parametrize("code", ["busy", "shutting_down", "unavailable", "timeout"])
def test_a_server_that_cannot_now_may_later(code: str) -> None:
    driver = ResumableDriver()
    waiter = driver.incr()
    driver.turn()
    driver.lose()
    driver.hello()
    with pytest.raises((Busy, ConnectionError, TimeoutError)):
        driver.reply_error(HELLO_MSGID, code)
    driver.lose()
    assert not waiter.done()
    assert driver.hello() == {"session": ID, "received": 0}


def test_what_a_stopping_server_refused_has_been_answered_and_is_asked_again() -> None:
    driver = ResumableDriver()
    refused, other = driver.incr("a"), driver.incr("b", 2, timeout=None)
    messages = driver.turn()
    for message in messages:
        driver.reply_error(message[1], "shutting_down")
    assert driver.drained()
    driver.lose()
    assert driver.hello() == {"session": ID, "received": 2}
    driver.reply(HELLO_MSGID, resumed(2, 3))
    again = driver.write()
    assert [message[2:] for message in again] == [message[2:] for message in messages]
    for message in again:
        driver.reply(message[1], 7)
    assert (refused.outcome, other.outcome) == (7, 7)


# ------------------------------------------------------------------------------------------------- a lost session


@pytest.mark.parametrize("code", ["no_session", "invalid", "unknown_method"])
def test_when_the_session_is_lost_only_what_changes_something_is_in_doubt(code: str) -> None:
    driver = ResumableDriver(cache="orders", lease_ms=500)
    held = driver.hold(7)
    lost: list[int] = []
    held.when_lost(lambda: lost.append(7))
    changes = [driver.incr("a"), driver.incr("b"), driver.ask(calls.set("c", 1, None))]
    reads = [driver.get("d")]
    waits = [driver.wait("e")[0], driver.begin(calls.wait_zero("f", None))[0]]
    at_once = driver.ask(calls.acquire([("g", 1, 1)], 0.0))
    given_back = driver.ask(calls.release(5, None))
    assert len(driver.turn()) == 7
    unsent = driver.incr("h")
    driver.session.end_turn(driver.now)
    driver.lose()
    assert driver.lost_session(code) == {"session": True, "cache": "orders", "lease_ms": 500}
    for change in changes:
        assert change.outcome is OutcomeUnknown
        assert isinstance(change.error.__cause__, NaughtError)
    assert len({id(change.error) for change in changes}) == 3
    assert given_back.outcome is NotHeld
    assert (held.lost, lost, driver.numbers_held()) == (True, [7], [])
    again = (*reads, *waits, at_once, unsent)
    assert not any(waiter.done() for waiter in again)
    assert driver.turn() == [], "nothing is sent before the new session is opened"
    driver.opened(b"another 16 bytes")
    messages = driver.write()
    assert methods(messages) == ["get", "acquire", "wait_zero", "acquire", "incr"]
    assert [message[1] for message in messages] == [1, 2, 3, 4, 5]
    for message, result in zip(messages, (1, [True, [1], 8], True, [False, [9], None], 2), strict=True):
        driver.reply(message[1], result)
    assert all(waiter.done() and waiter.error is None for waiter in again)
    assert driver.numbers_held() == [8]
    driver.lose()
    assert driver.hello() == {"session": b"another 16 bytes", "received": 5}


def test_what_nobody_waits_for_is_lost_with_the_session() -> None:
    driver = ResumableDriver()
    (gone, wait), late, late_change = driver.wait("a"), driver.get("b", timeout=0.1), driver.incr("c", timeout=0.1)
    given_back = driver.ask(calls.release(5, None), timeout=0.1)
    driver.turn()
    gone.cancel()
    driver.session.cancel_wait(wait)
    driver.session.advance(driver.now + 0.1)
    assert [waiter.outcome for waiter in (late, late_change, given_back)] == [CallTimeout] * 3
    driver.lose()
    driver.lost_session()
    driver.opened()
    assert driver.write() == []
    assert driver.session.next_due() is None


def test_a_session_lost_over_and_over_asks_reads_again_and_again() -> None:
    driver = ResumableDriver()
    read, wait = driver.get(timeout=None), driver.wait()[0]
    driver.turn()
    for number in range(5):
        driver.lose()
        driver.lost_session()
        driver.opened(b"session number %d" % number)
        assert methods(driver.write()) == ["get", "acquire"]
    assert not read.done()
    assert not wait.done()


def test_a_session_that_is_lost_while_it_is_opened_anew() -> None:
    driver = ResumableDriver()
    change, read = driver.incr("a"), driver.get("b")
    driver.turn()
    driver.lose()
    driver.lost_session()
    driver.lose()
    assert change.outcome is OutcomeUnknown
    driver.open()
    ((_, msgid, _, _),) = driver.write()
    driver.reply(msgid, 3)
    assert read.outcome == 3


def test_without_a_session_what_is_in_flight_is_lost_with_the_connection() -> None:
    driver = SessionDriver()
    change, read = driver.incr("a"), driver.get("b")
    given_back = driver.ask(calls.release(5, None))
    driver.turn()
    driver.lose()
    assert (change.outcome, read.done(), given_back.outcome) == (OutcomeUnknown, False, NotHeld)


# ------------------------------------------------------------------------------------------------- acknowledging


def acknowledgements(messages: Sequence[list[Any]]) -> list[list[Any]]:
    return [message for message in messages if message[0] == 2]


def test_replies_are_acknowledged_every_so_many() -> None:
    driver = ResumableDriver()
    for number in range(1, 3 * ACKNOWLEDGE_EVERY + 1):
        driver.get()
        written = driver.turn()
        due = number > 1 and (number - 1) % ACKNOWLEDGE_EVERY == 0
        assert acknowledgements(written) == ([[2, "ack", [number - 1]]] if due else [])
        assert written[0][0] == (2 if due else 0), "the acknowledgement is sent first"
        driver.reply(written[-1][1], 0)


def test_an_acknowledgement_waits_for_no_call() -> None:
    driver = ResumableDriver()
    for _ in range(ACKNOWLEDGE_EVERY):
        driver.get()
    messages = driver.turn()
    assert not driver.has_output()
    for message in messages[:-1]:
        driver.reply(message[1], 0)
        assert not driver.has_output()
    driver.reply_error(messages[-1][1], "busy")
    assert driver.has_output()
    assert driver.write() == [[2, "ack", [ACKNOWLEDGE_EVERY]]]
    assert not driver.has_output()


def test_a_change_does_not_go_alone_where_an_acknowledgement_is_due() -> None:
    driver = ResumableDriver()
    for place in range(ACKNOWLEDGE_EVERY):
        alone = driver.session.change_alone((b"k", 1, None, 1.0), FakeWaiter(), driver.now)
        ((_, msgid, _, _),) = requests_in(alone)
        driver.reply(msgid, place)
    assert driver.session.change_alone((b"k", 1, None, 1.0), FakeWaiter(), driver.now) == b""
    assert methods(driver.write()) == ["ack"]
    assert driver.session.change_alone((b"k", 1, None, 1.0), FakeWaiter(), driver.now)


def test_bytes_of_replies_are_acknowledged_too() -> None:
    driver = ResumableDriver()
    sizes = []
    for place in range(40):
        waiter = driver.ask(calls.get_many([f"{place}:{other}" for other in range(1_000)]))
        written = driver.turn()
        for _, _, (count,) in acknowledgements(written):
            sizes.append(count)
        reply = encode_result(written[-1][1], [1 << 40] * 1_000)
        driver.session.receive(reply)
        assert waiter.done()
    replies_each = -(-ACKNOWLEDGE_BYTES // len(reply))
    assert sizes == list(range(replies_each, 40, replies_each))


def test_bytes_without_a_whole_reply_are_not_acknowledged() -> None:
    driver = ResumableDriver()
    driver.ask(calls.scan(0, 4_000, "", bytes))
    ((_, msgid, _, _),) = driver.turn()
    reply = encode_result(msgid, [0, [b"k" * 60] * 4_000, [1] * 4_000])
    assert len(reply) > 3 * ACKNOWLEDGE_BYTES
    driver.session.receive(reply[:-1])
    assert not driver.has_output()
    driver.session.receive(reply[-1:])
    assert driver.write() == [[2, "ack", [1]]]


def test_hello_acknowledges() -> None:
    driver = ResumableDriver()
    for _ in range(ACKNOWLEDGE_EVERY):
        driver.get()
    for message in driver.turn():
        driver.reply(message[1], 0)
    driver.lose()
    assert driver.resume(ACKNOWLEDGE_EVERY) == []
    driver.get()
    ((_, msgid, _, _),) = driver.turn()
    driver.reply(msgid, 0)
    assert not driver.has_output()


def test_without_a_session_nothing_is_acknowledged() -> None:
    driver = SessionDriver()
    for _ in range(3 * ACKNOWLEDGE_EVERY):
        driver.get()
        ((_, msgid, _, _),) = driver.turn()
        driver.reply(msgid, 0)
    assert not driver.has_output()


# ------------------------------------------------------------------------------------------------- windows


def test_what_is_unanswered_and_what_is_unacknowledged_share_a_window() -> None:
    driver = ResumableDriver()
    for place in range(2 * UNACKNOWLEDGED_MAX):
        driver.get(f"k{place}")
    messages = driver.turn()
    assert len(messages) == UNACKNOWLEDGED_MAX
    for place, message in enumerate(messages, 1):
        driver.reply(message[1], 0)
        following = driver.write()
        if place % ACKNOWLEDGE_EVERY:
            assert following == []
        else:
            assert following[0] == [2, "ack", [place]]
            assert len(following) == 1 + ACKNOWLEDGE_EVERY


def test_resuming_makes_room() -> None:
    driver = ResumableDriver()
    for place in range(UNACKNOWLEDGED_MAX + 5):
        driver.get(f"k{place}")
    messages = driver.turn()
    for message in messages[:3]:
        driver.reply(message[1], 0)
    assert driver.write() == []
    driver.lose()
    assert len(driver.resume(UNACKNOWLEDGED_MAX)) == 3
    driver.lose()
    assert len(driver.resume(UNACKNOWLEDGED_MAX)) == 3, "the others were not accepted"


def test_replies_that_may_be_large_share_a_window_of_bytes() -> None:
    driver = ResumableDriver()
    for _ in range(20):
        driver.ask(calls.scan(0, 100, "", bytes))
    small = driver.get()
    at_once = REPLIES_BYTES_MAX // REPLY_BYTES_MAX
    messages = driver.turn()
    assert methods(messages) == ["scan"] * at_once
    driver.reply(messages[0][1], [0, [], []])
    assert methods(driver.write()) == ["scan"]
    driver.lose()
    assert methods(driver.resume(1)) == ["scan"] * at_once, "a request that is sent again counts once"
    assert not small.done()


def test_waiting_counts_apart_from_the_rest() -> None:
    driver = ResumableDriver()
    waits = [driver.wait("a")[0] for _ in range(PARKED_MAX)]
    reads = [driver.get("b") for _ in range(UNACKNOWLEDGED_MAX)]
    messages = driver.turn()
    assert methods(messages) == ["acquire"] * PARKED_MAX + ["get"] * UNACKNOWLEDGED_MAX
    for message in messages[PARKED_MAX:]:
        driver.reply(message[1], 1)
    assert all(read.done() for read in reads)
    assert not any(wait.done() for wait in waits)


def test_waiting_for_absence_counts_as_waiting() -> None:
    driver = ResumableDriver()
    for _ in range(PARKED_MAX):
        driver.begin(calls.wait_zero("a", None))
    assert len(driver.turn()) == PARKED_MAX
    driver.wait()
    assert driver.turn() == []


def test_who_would_wait_beyond_the_window_is_set_aside_and_blocks_nobody() -> None:
    driver = ResumableDriver()
    first = [driver.wait("a") for _ in range(PARKED_MAX)]
    messages = driver.turn()
    assert len(messages) == PARKED_MAX
    beyond = [driver.wait(f"b{place}")[0] for place in range(3)]
    read, change = driver.get("c"), driver.incr("d")
    written = driver.turn()
    assert methods(written) == ["get", "incr"]
    for message in written:
        driver.reply(message[1], 4)
    assert (read.outcome, change.outcome) == (4, 4)
    beyond[1].cancel()
    driver.reply(messages[5][1], [False, [1], None])
    assert first[5][0].result.hold is None
    # At the server, a wait that has ended counts until its reply is acknowledged.
    assert driver.write() == [[2, "ack", [3]], [0, messages[5][1], "acquire", [[[b"b0", 1, 1]], None]]]
    driver.reply(messages[6][1], [False, [1], None])
    assert [message[3][0][0][0] for message in driver.write()[1:]] == [b"b2"]
    driver.reply(messages[7][1], [False, [1], None])
    assert driver.write() == []


def test_a_wait_that_is_over_makes_room_once_it_is_acknowledged() -> None:
    """At the server it keeps its place until then. While no message needs the place, no acknowledgement is sent."""
    driver = ResumableDriver()
    for _ in range(PARKED_MAX):
        driver.wait("a")
    messages = driver.turn()
    for place in range(2):
        driver.reply(messages[place][1], [False, [1], None])
        assert driver.write() == []
        driver.wait("b")
        assert methods(driver.turn()) == ["ack", "acquire"]
    driver.reply(messages[2][1], [False, [1], None])
    driver.wait("b")
    for _ in range(UNACKNOWLEDGED_MAX + 1):
        driver.get("c")
    assert methods(driver.turn())[:2] == ["ack", "acquire"]
    driver.reply(messages[3][1], [False, [1], None])
    for _ in range(2):
        driver.wait("b")
    assert methods(driver.turn()) == [], "messages in front of them have no room"


def test_one_output_acknowledges_what_makes_room_and_fills_it() -> None:
    driver = ResumableDriver()
    for _ in range(PARKED_MAX):
        driver.wait("a")
    messages = driver.turn()
    driver.reply(messages[0][1], [False, [1], None])
    driver.wait("b")
    driver.session.end_turn(driver.now)
    assert methods(requests_in(driver.session.output(driver.now))) == ["ack", "acquire"]


def test_tidying_forgets_deadlines_and_tells_whether_there_is_something_to_write() -> None:
    driver = ResumableDriver()
    for place in range(ACKNOWLEDGE_EVERY):
        driver.get(f"{place}")
        assert driver.session.tidy(), "a call of the current turn"
        ((_, msgid, _, _),) = driver.turn()
        assert not driver.session.tidy()
        assert len(driver.session._deadlines) == 1
        driver.reply(msgid, 0)
    assert driver.session.tidy(), "an acknowledgement"
    assert driver.session._deadlines == []
    assert methods(driver.write()) == ["ack"]
    assert not driver.session.tidy()


def test_who_was_set_aside_times_out_there() -> None:
    driver = ResumableDriver()
    for _ in range(PARKED_MAX):
        driver.wait("a")
    driver.turn()
    late = driver.wait("b", timeout=1.0)[0]
    driver.turn()
    driver.session.advance(driver.now + 1.0)
    assert late.outcome is CallTimeout
    assert driver.write() == []


def test_what_gives_back_passes_the_windows() -> None:
    driver = ResumableDriver()
    holds = [driver.hold(number) for number in (1, 2)]
    waits = [driver.wait("a") for _ in range(PARKED_MAX)]
    driver.turn()
    released = driver.ask(calls.release(holds[0], None))
    assert methods(driver.turn()) == ["release"], "a full window of waits does not block a release"
    for place in range(UNACKNOWLEDGED_MAX + 10):
        driver.get(f"b{place}")
    driver.turn()
    assert driver.turn() == []
    waits[0][0].cancel()
    driver.session.cancel_wait(waits[0][1])
    driver.session.release_untaken(holds[1])
    assert [(message[2], message[3]) for message in driver.turn()] == [
        ("cancel", [waits[0][1].msgid]),
        ("release", [2]),
    ]
    assert not released.done()


def test_thousands_who_give_up_at_once_do_so_within_what_a_server_bears() -> None:
    """It ends a session whose unacknowledged requests pass twice the window."""
    driver = ResumableDriver()
    waits = [driver.wait("a") for _ in range(3 * UNACKNOWLEDGED_MAX)]
    driver.turn()
    for waiter, message in waits:
        waiter.cancel()
        driver.session.cancel_wait(message)
    cancels = driver.turn()
    assert methods(cancels) == ["cancel"] * 2 * UNACKNOWLEDGED_MAX
    read = driver.get()
    assert driver.turn() == []
    for place, (cancel, (_, message)) in enumerate(zip(cancels, waits, strict=False), 1):
        driver.reply(message.msgid, [False, [1], None])
        driver.reply(cancel[1], True)
        written = driver.write()
        assert bool(written) == (2 * place % ACKNOWLEDGE_EVERY == 0)
        if written:
            assert written[0] == [2, "ack", [2 * place]]
        cancels += written[1:]
    assert methods(cancels) == ["cancel"] * len(waits) + ["get"]
    assert not read.done()


# ------------------------------------------------------------------------------------------------- giving up


def test_giving_up_a_wait_ends_it_at_the_server() -> None:
    driver = ResumableDriver()
    for call in (calls.acquire([("a", 1, 1)], 5.0), calls.wait_zero("a", None)):
        waiter, message = driver.begin(call, timeout=None)
        ((_, msgid, _, _),) = driver.turn()
        waiter.cancel()
        woken = driver.woken
        driver.session.cancel_wait(message)
        assert driver.woken == woken + 1, "no other call of this turn would request the write"
        ((_, other, method, params),) = driver.turn()
        assert (method, params) == ("cancel", [msgid])
        assert other != msgid
        driver.reply(msgid, [False, [1], None])
        driver.reply(other, True)
        assert not driver.session._windows.in_flight


@pytest.mark.parametrize("when", ["unsent", "answered", "it does not wait", "no session left"])
def test_there_is_nothing_to_end(when: str) -> None:
    driver = ResumableDriver()
    if when == "it does not wait":
        waiter, message = driver.begin(calls.acquire([("a", 1, 1)], 0.0))
        driver.turn()
    else:
        waiter, message = driver.wait()
        if when != "unsent":
            ((_, msgid, _, _),) = driver.turn()
        if when == "answered":
            driver.reply(msgid, [False, [1], None])
        elif when == "no session left":
            driver.lose()
            driver.lost_session()
            driver.opened()
    waiter.cancel()
    driver.session.cancel_wait(message)
    assert driver.turn() == []


def test_a_wait_that_ended_before_its_cancel_was_written_is_not_cancelled() -> None:
    driver = ResumableDriver()
    waiter, message = driver.wait()
    ((_, msgid, _, _),) = driver.turn()
    waiter.cancel()
    driver.session.cancel_wait(message)
    driver.reply(msgid, [False, [1], None])
    assert driver.turn() == []


def test_a_wait_that_times_out_is_ended_at_the_server() -> None:
    driver = ResumableDriver()
    waiter, _ = driver.wait(timeout=2.0)
    ((_, msgid, _, _),) = driver.turn()
    driver.session.advance(driver.now + 2.0)
    assert waiter.outcome is CallTimeout
    assert [message[2:] for message in driver.turn()] == [["cancel", [msgid]]]


@pytest.mark.parametrize(
    ("accepted", "written"),
    [(0, []), (1, ["cancel"]), (2, [])],
    ids=["neither", "the wait alone", "both"],
)
def test_a_cancel_over_a_cut(accepted: int, written: list[str]) -> None:
    driver = ResumableDriver()
    waiter, message = driver.wait()
    ((_, msgid, _, _),) = driver.turn()
    waiter.cancel()
    driver.session.cancel_wait(message)
    assert methods(driver.turn()) == ["cancel"]
    driver.lose()
    again = driver.resume(accepted)
    assert methods(again) == written
    assert all(each[3] == [msgid] for each in again)


def test_a_wait_given_up_without_connection_is_ended_on_the_next() -> None:
    driver = ResumableDriver()
    waiter, message = driver.wait()
    ((_, msgid, _, _),) = driver.turn()
    driver.lose()
    waiter.cancel()
    driver.session.cancel_wait(message)
    assert driver.turn() == []
    ((_, _, method, params),) = driver.resume(1)
    assert (method, params) == ("cancel", [msgid])


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_a_grant_that_reaches_nobody_is_given_back(how: str) -> None:
    driver = ResumableDriver()
    waiter, _ = driver.wait(timeout=1.0)
    ((_, msgid, _, _),) = driver.turn()
    if how == "cancelled":
        waiter.cancel()
    else:
        driver.session.advance(driver.now + 1.0)
        driver.turn()
    woken = driver.woken
    driver.reply(msgid, [True, [1], 33])
    assert driver.woken == woken + 1
    assert driver.numbers_held() == []
    assert [message[2:] for message in driver.turn()] == [["release", [33]]]
    driver.lose()
    again = driver.resume(1)
    assert [message[2:] for message in again] == [["release", [33]]], (
        "the release was not accepted, so it is sent again"
    )
    driver.reply_error(again[0][1], "not_held")
    assert not driver.session._windows.in_flight


def test_a_grant_that_comes_again_after_a_cut_meets_who_waits() -> None:
    driver = ResumableDriver()
    waiter, _ = driver.wait()
    ((_, msgid, _, _),) = driver.turn()
    driver.lose()
    assert driver.resume(1, then=encode_result(msgid, [True, [1], 9])) == []
    assert waiter.result.hold.number == 9
    assert driver.numbers_held() == [9]


def test_a_grant_nobody_took_in_time_is_given_back_once() -> None:
    driver = ResumableDriver()
    held = driver.hold(4)
    driver.session.release_untaken(held)
    assert driver.numbers_held() == []
    assert [message[2:] for message in driver.turn()] == [["release", [4]]]
    assert driver.turn() == []


# ------------------------------------------------------------------------------------------------- the lease


def test_what_is_held_is_lost_a_lease_after_the_connection() -> None:
    driver = ResumableDriver(lease_ms=77)
    holds = [driver.hold(number) for number in (3, 4)]
    notified: list[int] = []
    for held in holds:
        held.when_lost(lambda number=held.number: notified.append(number))  # type: ignore[misc]
    assert driver.session.next_due() is None
    driver.lose()
    ends = driver.now + LEASE_MS / 1000  # the lease in the server's reply, not the requested one
    assert driver.session.next_due() == ends
    driver.session.advance(ends - 0.001)
    assert not notified
    driver.session.advance(ends)
    assert notified == [3, 4]
    assert all(held.lost for held in holds)
    assert driver.session.next_due() is None
    driver.session.advance(ends + 1)
    assert notified == [3, 4], "each listener is called once"
    later: list[int] = []
    holds[0].when_lost(lambda: later.append(1))
    assert later == [1], "a late listener is called immediately"


def test_the_lease_runs_from_the_first_loss() -> None:
    driver = ResumableDriver()
    held = driver.hold(3)
    driver.session.advance(driver.now + 1)
    driver.lose()
    ends = driver.now + LEASE_MS / 1000
    for _ in range(3):
        driver.now += 1
        driver.hello()
        driver.lose()
        assert driver.session.next_due() == ends
    driver.resume(1)
    assert driver.session.next_due() is None
    driver.session.advance(ends)
    assert not held.lost
    driver.lose()
    assert driver.session.next_due() == driver.now + LEASE_MS / 1000


def test_a_session_found_alive_after_its_lease_gets_back_what_was_given_up() -> None:
    driver = ResumableDriver()
    first, second, third = (driver.hold(number) for number in (3, 4, 5))
    released = driver.ask(calls.release(third, None), timeout=None)
    assert methods(driver.turn()) == ["release"]
    driver.lose()
    driver.now += LEASE_MS / 1000
    driver.session.advance(driver.now)
    assert (first.lost, second.lost, third.lost) == (True, True, False)
    again = driver.resume(4)
    assert [message[2:] for message in again] == [["release", [3]], ["release", [4]]]
    for message in again:
        driver.reply(message[1], [0])
    assert not released.done()
    driver.lose()
    assert driver.resume(6) == [], "they are released once"


def test_what_was_given_up_and_not_given_back_yet_is_sent_over_a_cut() -> None:
    driver = ResumableDriver()
    driver.hold(3)
    driver.lose()
    driver.session.advance(driver.now + LEASE_MS / 1000)
    assert methods(driver.resume(1)) == ["release"]
    driver.lose()
    assert methods(driver.resume(1)) == ["release"]


def test_a_hold_is_known_before_its_caller_goes_on() -> None:
    """A thread goes on at once, and may fork: then all holds are lost that the session knows."""
    driver = ResumableDriver()
    known: list[list[int]] = []

    class Caller(FakeWaiter):
        def set_result(self, result: Any, /) -> None:
            known.append(driver.numbers_held())
            super().set_result(result)

    driver.session.ask(calls.acquire([("s", 1, 1)], 0.0), 1.0, Caller())
    ((_, msgid, _, _),) = driver.turn()
    driver.reply(msgid, [True, [1], 3])
    assert known == [[3]]


def test_a_released_hold_is_not_lost() -> None:
    driver = ResumableDriver()
    held = driver.hold(3)
    driver.session.advance(driver.now + 1)
    driver.session.untrack(held)
    driver.lose()
    assert driver.session.next_due() is None
    driver.lost_session()
    assert not held.lost


def test_closing_loses_what_is_held() -> None:
    driver = ResumableDriver()
    held = driver.hold(3)
    driver.session.close()
    assert held.lost


# ------------------------------------------------------------------------------------------------- acquiring again


def asking_again(limit: int = 1) -> tuple[ResumableDriver, Hold, list[Any]]:
    """A hold whose session was lost, and the request for it in the next session."""
    driver = ResumableDriver()
    held = driver.hold_again(3, limit=limit)
    driver.lose()
    driver.lost_session()
    driver.opened(b"another 16 bytes")
    (request,) = driver.write()
    assert request[2] == "acquire"
    return driver, held, request


def test_what_is_to_be_acquired_again_goes_on_under_another_number() -> None:
    driver, held, request = asking_again()
    assert request[3] == [[[b"s", 1, 1]]], "without waiting"
    assert not held.lost
    driver.reply(request[1], [True, [1], 9])
    assert (held.lost, held.number, driver.numbers_held()) == (False, 9, [9])
    assert driver.session.next_due() is None


@pytest.mark.parametrize("answer", [[False, [1], None], "invalid", "cache_full"])
def test_what_is_not_granted_again_is_lost(answer: Any) -> None:
    driver, held, request = asking_again()
    told: list[int] = []
    held.when_lost(lambda: told.append(held.number))
    if isinstance(answer, str):
        driver.reply_error(request[1], answer)
    else:
        driver.reply(request[1], answer)
    assert (held.lost, told, driver.numbers_held()) == (True, [3], [])
    driver.session.close()
    assert told == [3]


def test_who_has_no_limit_waits_to_be_granted_again_over_lost_sessions() -> None:
    driver, held, request = asking_again(limit=2**63 - 1)
    assert request[3] == [[[b"s", 1, 2**63 - 1]], None]
    driver.lose()
    driver.lost_session()
    driver.opened(b"the third bytes!")
    ((_, msgid, method, params),) = driver.write()
    assert [method, params] == request[2:]
    driver.reply(msgid, [True, [1], 12])
    assert (held.lost, held.number, driver.numbers_held()) == (False, 12, [12])


def test_released_while_it_is_asked_for_again_it_is_given_back() -> None:
    driver, held, request = asking_again()
    driver.session.untrack(held)
    driver.reply(request[1], [True, [1], 9])
    assert [message[2:] for message in driver.turn()] == [["release", [9]]]
    assert (held.lost, driver.numbers_held()) == (False, [])
    driver, held, request = asking_again()
    driver.session.untrack(held)
    driver.reply(request[1], [False, [1], None])
    assert driver.turn() == [], "there is nothing to give back"


def test_a_grant_nobody_took_is_given_back_while_it_is_asked_for_again() -> None:
    """A thread was interrupted after the grant, and gives up when the session has been lost since."""
    driver, held, request = asking_again()
    driver.session.release_untaken(held)
    assert "release" not in methods(driver.turn()), "this session does not have its number"
    driver.reply(request[1], [True, [1], 9])
    assert [message[2:] for message in driver.turn()] == [["release", [9]]]
    assert driver.numbers_held() == []


def test_a_server_that_is_busy_is_asked_for_it_once_more() -> None:
    driver, held, request = asking_again()
    driver.reply_error(request[1], "busy")
    assert driver.turn() == []
    due = driver.session.next_due()
    assert due is not None
    driver.session.advance(due)
    ((_, msgid, method, params),) = driver.turn()
    assert [method, params] == request[2:]
    driver.reply(msgid, [True, [1], 9])
    assert (held.lost, held.number) == (False, 9)


@pytest.mark.parametrize("released", [True, False])
def test_a_client_that_is_refused_has_lost_what_it_did_not_release(released: bool) -> None:
    driver = ResumableDriver()
    held = driver.hold_again(3)
    driver.lose()
    driver.lost_session()
    if released:
        driver.session.untrack(held)
    driver.lose()
    driver.session.connect_failed(Denied("not from here"))
    assert held.lost is not released


@pytest.mark.parametrize("how", ["closed", "the lease ends"])
def test_what_is_asked_for_again_is_lost_with_its_client(how: str) -> None:
    driver, held, _ = asking_again()
    told: list[int] = []
    held.when_lost(lambda: told.append(held.number))
    if how == "closed":
        driver.session.close()
    else:
        driver.lose()
        driver.session.advance(driver.now + LEASE_MS / 1000)
    assert (held.lost, told) == (True, [3])
    if how != "closed":
        driver.resume(0)
        assert driver.session.next_due() is None


# ------------------------------------------------------------------------------------------------- releasing


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
@pytest.mark.parametrize("when", ["fresh", "queued", "in flight"])
def test_a_release_is_sent_though_its_caller_has_gone(how: str, when: str) -> None:
    driver = ResumableDriver()
    held = driver.hold(3)
    if when != "in flight":
        driver.lose()
    waiter = driver.ask(calls.release(held, None), timeout=0.5)
    if when != "fresh" or how == "timed out":
        driver.turn()
    if how == "cancelled":
        waiter.cancel()
    else:
        driver.session.advance(driver.now + 0.5)
        assert waiter.outcome is CallTimeout
    driver.now += 20
    driver.session.end_turn(driver.now)
    if when == "in flight":
        driver.lose()
    again = driver.resume(1)
    assert [message[2:] for message in again] == [["release", [3]]]
    driver.lose()
    assert [message[2:] for message in driver.resume(1)] == [["release", [3]]]
    driver.lose()
    assert driver.resume(2) == []


def test_releases_of_callers_who_have_gone_outlive_a_pile_of_others() -> None:
    driver = ResumableDriver()
    held = driver.hold(3)
    driver.lose()
    driver.ask(calls.release(held, None)).cancel()
    for _ in range(5 * UNACKNOWLEDGED_MAX):
        driver.get(timeout=None).cancel()
        driver.turn()
    assert len(driver.session._queue) <= 2 * UNACKNOWLEDGED_MAX
    assert [message[2:] for message in driver.resume(1)] == [["release", [3]]]


@pytest.mark.parametrize("items", [None, [("s", 1)]], ids=["whole", "a part"])
def test_a_release_names_the_number_that_its_hold_has_when_the_session_takes_it(items: Any) -> None:
    """A thread makes the call, and before the client's own thread takes it the hold is acquired again."""
    driver, held, request = asking_again()
    call = calls.release(held, items)
    driver.reply(request[1], [True, [1], 8])
    driver.ask(call)
    ((_, _, method, params),) = driver.turn()
    assert (method, params[0]) == ("release", 8)
    assert driver.numbers_held() == ([] if items is None else [8])
    driver.lose()
    driver.lost_session()
    assert held.lost is (items is not None), "what is released whole is not lost, and what is left of it is"


def test_a_release_that_was_never_sent_is_answered_by_the_next_session() -> None:
    driver = ResumableDriver()
    held = driver.hold(3)
    driver.lose()
    waiter = driver.ask(calls.release(held, None))
    driver.session.end_turn(driver.now)
    driver.lost_session()
    driver.opened()
    ((_, msgid, method, _),) = driver.write()
    assert method == "release"
    driver.reply_error(msgid, "not_held")
    assert waiter.outcome is NotHeld


# ------------------------------------------------------------------------------------------------- the end


def test_a_farewell_ends_the_session_where_there_is_one() -> None:
    driver = ResumableDriver(connect=False)
    assert driver.session.encode_bye() == b""
    assert driver.session.encode_bye_of_attempt() == b""
    driver.hello()
    assert requests_in(driver.session.encode_bye()) == [[2, "bye", []]], "the server opens one before it reads this"
    assert driver.session.encode_bye_of_attempt() == driver.session.encode_bye()
    driver.opened()
    assert driver.session.encode_bye_of_attempt() == b"", "the session goes on"
    assert requests_in(driver.session.encode_bye()) == [[2, "bye", []]]
    driver.lose()
    assert driver.session.encode_bye() == b"", "there is no connection"
    driver.hello()
    assert requests_in(driver.session.encode_bye()) == [[2, "bye", []]], "the server resumes it before"
    assert driver.session.encode_bye_of_attempt() == b"", "the next attempt resumes it"
    driver.reply(HELLO_MSGID, resumed(0, 1))
    assert requests_in(driver.session.encode_bye()) == [[2, "bye", []]]
    driver.get()
    ((_, msgid, _, _),) = driver.turn()
    driver.reply_error(msgid, "shutting_down")
    assert requests_in(driver.session.encode_bye()) == [[2, "bye", []]]
    driver.session.close()
    assert driver.session.encode_bye() == b""
    assert SessionDriver().session.encode_bye() == b""


def test_a_farewell_on_a_connection_of_its_own() -> None:
    """For a session that has none: `bye` stands behind a `hello` that resumes it."""
    driver = ResumableDriver(connect=False)
    assert driver.session.farewell() is None, "there is no session"
    driver.open()
    assert driver.session.farewell() is None, "it has a connection"
    driver.incr("n")
    ((_, msgid, _, _),) = driver.turn()
    driver.reply(msgid, 1)
    driver.lose()
    farewell = driver.session.farewell()
    driver.session.close()
    assert farewell is not None
    words: dict[str, Any] = {"session": ID, "received": 1}
    assert requests_in(farewell(None)) == [[0, HELLO_MSGID, "hello", [words]], [2, "bye", []]]
    hello, _ = requests_in(farewell(("me", "secret")))
    assert hello[3] == [{"user": b"me", "secret": b"secret", **words}]
    assert driver.session.farewell() is None, "it is closed"
    assert SessionDriver().session.farewell() is None


def test_closing_ends_every_call_of_a_session() -> None:
    driver = ResumableDriver()
    waiters = [driver.incr("in flight"), driver.wait()[0], driver.ask(calls.release(1, None))]
    driver.turn()
    waiters += [driver.wait()[0] for _ in range(PARKED_MAX + 1)]
    driver.turn()
    waiters.append(driver.incr("fresh"))
    driver.session.close()
    assert {waiter.outcome for waiter in waiters} == {ClientClosed}
    assert driver.session.next_due() is None
    driver.lose()
    assert driver.turn() == []


CALLS: dict[str, Callable[[ResumableDriver], Any]] = {
    "change": lambda driver: driver.incr("a"),
    "read": lambda driver: driver.get("a"),
    "acquire": lambda driver: driver.wait(),
    "release": lambda driver: driver.ask(calls.release(1, None)),
}


@pytest.mark.parametrize("state", ["fresh", "offline", "greeting", "ready"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_another_process_gets_nothing_out_of_it_and_settles_nobody(
    call: Callable[[ResumableDriver], Any], state: str
) -> None:
    driver = ResumableDriver(connect=state in {"ready", "fresh"})
    held = driver.hold(3) if driver.session._id is not None else None
    pending = [driver.get("b"), driver.incr("a")]
    if state != "fresh":
        driver.turn()
    if state == "greeting":
        driver.hello()
    driver.session.after_fork("this is another process")
    with pytest.raises(ClientClosed, match="another process"):
        call(driver)
    assert driver.turn() == []
    assert driver.session.encode_bye() == b""
    driver.lose()
    if held is not None:
        driver.session.release_untaken(held)
        assert held.lost, "the hold is the parent's, whose loss this process would not notice"
    assert driver.turn() == []
    assert not any(waiter.done() for waiter in pending)


# ------------------------------------------------------------------------------------------------- garbage


@pytest.mark.parametrize(
    "garbage",
    [
        packed([[1, HELLO_MSGID, None, resumed(1, 1)]]),  # a second reply to hello
        packed([[1, 77, None, 5]]),
        b"\xc1",
    ],
)
def test_garbage_ends_the_connection_and_not_the_session(garbage: bytes) -> None:
    driver = ResumableDriver()
    held = driver.hold(3)
    waiter = driver.incr()
    ((_, msgid, _, _),) = driver.turn()
    with pytest.raises(ProtocolError) as caught:
        driver.session.receive(garbage)
    driver.session.disconnected(caught.value, driver.now)
    assert not waiter.done()
    assert not held.lost
    driver.resume(2, then=encode_result(msgid, 6))
    assert waiter.outcome == 6


def test_a_reply_that_makes_no_sense_counts_as_received() -> None:
    """Otherwise the server would send it again on every connection."""
    driver = ResumableDriver()
    change, read = driver.incr("a"), driver.get("b")
    messages = driver.turn()
    with pytest.raises(ProtocolError) as caught:
        driver.reply(messages[0][1], "one")
    driver.session.disconnected(caught.value, driver.now)
    assert change.outcome is OutcomeUnknown
    assert driver.hello() == {"session": ID, "received": 1}
    driver.reply(HELLO_MSGID, resumed(2, 2))
    driver.reply(messages[1][1], 8)
    assert read.outcome == 8


@pytest.mark.parametrize("error", [Busy("so"), ShuttingDown("so"), Unavailable("so"), ConnectionRefusedError()])
def test_an_attempt_that_failed_leaves_the_session_as_it_is(error: BaseException) -> None:
    driver = ResumableDriver()
    held = driver.hold(3)
    waiter = driver.incr()
    driver.turn()
    driver.lose()
    driver.session.connect_failed(error)
    assert not waiter.done()
    assert not held.lost
    assert driver.hello()["received"] == 1


def test_errors_are_understood_however_they_are_cut() -> None:
    data = encode_result(HELLO_MSGID, resumed(2, 2)) + encode_error(1, "overflow", "so") + encode_result(2, 5)
    for cut in range(len(data)):
        driver = ResumableDriver()
        first = driver.get("a")
        ((_, msgid, _, _),) = driver.turn()
        driver.reply(msgid, 1)
        waiters = [driver.incr("b")]
        driver.turn()
        driver.lose()
        driver.hello()
        driver.session.receive(data[:cut])
        unsent = driver.get("c")
        driver.turn()
        driver.session.receive(data[cut : len(data) - len(encode_result(2, 5))])
        assert first.outcome == 1
        assert [type(waiter.error).__name__ for waiter in waiters] == ["CounterOverflow"]
        assert not unsent.done()
