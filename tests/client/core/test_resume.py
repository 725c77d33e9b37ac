"""A session that outlives its connection, as tables: what the client sends again and what not, what it believes of an
answer to `hello`, when it acknowledges, how much it has under way, and what becomes of what it holds. No loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from naught.core import calls
from naught.core.calls import Call
from naught.core.holds import Hold
from naught.core.messages import Message
from naught.core.session import ClientSession
from naught.core.windows import ACKNOWLEDGE_BYTES, ACKNOWLEDGE_EVERY, REPLIES_BYTES_MAX
from naught.errors import (
    Busy,
    CallTimeout,
    ClientClosed,
    NaughtError,
    NotHeld,
    OutcomeUnknown,
    ProtocolError,
    ShuttingDown,
    Unavailable,
)
from naught.wire.codec import encode_error, encode_result
from naught.wire.limits import PARKED_MAX, REPLY_BYTES_MAX, UNACKNOWLEDGED_MAX
from support.client_helpers import HELLO_RESULT, Desk, FakeWaiter, packed, requests_in

ID = b"sixteen bytes id"
LEASE_MS = 10_000


class SessionDesk(Desk):
    """A desk whose session outlives its connections."""

    def __init__(self, *, cache: str | None = None, lease_ms: int | None = None, connect: bool = True) -> None:
        super().__init__(cache=cache, connect=False)
        self.session = ClientSession(cache=cache, wake=self._wake, resumable=True, lease_ms=lease_ms)
        if connect:
            self.open()

    def hello(self) -> dict[str, Any]:
        """A new connection; what is asked for on it."""
        self.greeted = FakeWaiter()
        ((_, msgid, method, params),) = requests_in(self.session.connected(self.greeted))
        assert (msgid, method) == (0, "hello")
        words: dict[str, Any] = params[0]
        return words

    def open(self, session_id: bytes = ID) -> None:
        """A new connection, and the session opened on it."""
        assert self.hello()["session"] is True
        self.opened(session_id)

    def opened(self, session_id: bytes = ID) -> None:
        """The server has opened one."""
        self.reply(0, HELLO_RESULT | {"session": session_id, "lease_ms": LEASE_MS})

    def resume(self, accepted: int, *, replies_from: int | None = None, then: bytes = b"") -> list[list[Any]]:
        """A new connection that goes on with the session, and `then` in the same piece; what is written next."""
        words = self.hello()
        first = words["received"] + 1 if replies_from is None else replies_from
        self.session.receive(encode_result(0, resumed(accepted, first)) + then)
        assert self.greeted.done()
        return self.write()

    def lost_session(self, code: str = "no_session") -> dict[str, Any]:
        """A new connection, to a server that does not know the session; what is asked for then."""
        self.hello()
        self.reply_error(0, code)
        ((_, msgid, method, params),) = self.write()
        assert (msgid, method) == (0, "hello")
        words: dict[str, Any] = params[0]
        return words

    def begin(self, call: Call[Any], *, timeout: float | None = 1.0) -> tuple[FakeWaiter, Message]:
        """A call, and what it travels as."""
        waiter = FakeWaiter()
        return waiter, self.session.ask(call, timeout, waiter)

    def wait(self, key: str = "s", *, timeout: float | None = None) -> tuple[FakeWaiter, Message]:
        """An acquire that waits without limit."""
        return self.begin(calls.acquire([(key, 1, 1)], None), timeout=timeout)

    def hold(self, number: int, key: str = "s") -> Hold:
        """Something held."""
        waiter = self.ask(calls.acquire([(key, 1, 1)], 0.0))
        ((_, msgid, _, _),) = self.turn()
        self.reply(msgid, [True, [1], number])
        held: Hold = waiter.result.hold
        return held

    def numbers_held(self) -> list[int]:
        return sorted(self.session._holds)


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
    desk = SessionDesk(cache=cache, lease_ms=lease_ms, connect=False)
    assert desk.hello() == words
    desk.opened()
    assert desk.greeted.done()
    desk.lose()
    assert desk.hello() == {"session": ID, "received": 0}


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
    desk = SessionDesk(connect=False)
    waiter = desk.incr()
    desk.turn()
    desk.hello()
    with pytest.raises(ProtocolError):
        desk.reply(0, HELLO_RESULT | words)
    desk.lose()
    assert desk.greeted.outcome is ConnectionResetError
    desk.open()
    ((_, msgid, _, _),) = desk.write()
    desk.reply(msgid, 1)
    assert waiter.outcome == 1


# ------------------------------------------------------------------------------------------------- resuming


def test_resuming_says_how_many_replies_have_come() -> None:
    desk = SessionDesk()
    for place in range(5):
        desk.get(f"k{place}")
    messages = desk.turn()
    desk.reply(messages[3][1], 1)
    desk.reply_error(messages[0][1], "unavailable")
    desk.reply_error(messages[4][1], "busy")
    desk.lose()
    assert desk.hello() == {"session": ID, "received": 3}
    assert desk.turn() == [], "nothing goes out before it is answered"


@pytest.mark.parametrize("answered", [(), (0,), (0, 1), (1, 3)], ids=str)
def test_what_was_accepted_stays_and_what_was_not_is_sent_again_in_order(answered: tuple[int, ...]) -> None:
    for accepted in range(max(answered, default=-1) + 1, 6):
        desk = SessionDesk()
        waiters = [desk.incr("a", 10), desk.get("b"), desk.ask(calls.set("c", 1, None)), desk.get("d")]
        waiters.append(desk.incr("e", 50))
        first = desk.turn()
        unsent = desk.incr("f", 60)
        desk.session.end_turn(desk.now)
        for place in answered:
            desk.reply(first[place][1], place)
        desk.lose()
        again = desk.resume(accepted)
        assert first_params(again) == [b"a", b"b", b"c", b"d", b"e", b"f"][accepted:]
        assert [message[2:] for message in again[:-1]] == [message[2:] for message in first[accepted:]]
        kept = [place for place in range(accepted) if place not in answered]
        used = [first[place][1] for place in kept] + [message[1] for message in again]
        assert len(set(used)) == len(used), "a msgid that is in flight is not used again"
        for place in reversed(kept):
            desk.reply(first[place][1], place)
        for message in again:
            desk.reply(message[1], ord(message[3][0]) - ord("a"))
        assert [waiter.outcome for waiter in (*waiters, unsent)] == [0, 1, 2, 3, 4, 5]


def test_what_nobody_waits_for_any_more_is_not_sent_again() -> None:
    desk = SessionDesk()
    gone, kept = desk.get("gone"), desk.get("kept")
    late = desk.ask(calls.set("late", 1, None), timeout=0.5)
    batch = [desk.incr("a", 1), desk.incr("b", 2), desk.incr("c", 3)]
    assert len(desk.turn()) == 4
    gone.cancel()
    batch[1].cancel()
    desk.lose()
    desk.now += 0.6
    desk.session.advance(desk.now)
    assert late.outcome is CallTimeout
    read, rest = desk.resume(0)
    assert (read[2:], rest[2:]) == (["get", [b"kept"]], ["apply", [[b"a", b"c"], [1, 3]]])
    desk.reply(rest[1], [10, 30])
    desk.reply(read[1], 5)
    assert [kept.outcome, batch[0].outcome, batch[2].outcome] == [5, 10, 30]


def test_what_nobody_waits_for_and_was_accepted_still_answers_under_its_msgid() -> None:
    desk = SessionDesk()
    gone = desk.get("gone")
    ((_, msgid, _, _),) = desk.turn()
    gone.cancel()
    desk.lose()
    assert desk.resume(1) == []
    other = desk.get("other")
    ((_, fresh, _, _),) = desk.turn()
    assert fresh != msgid
    desk.reply(msgid, 1)
    desk.reply(fresh, 2)
    assert other.outcome == 2
    assert desk.hello()["received"] == 2


def test_a_call_keeps_its_deadline_over_a_resumption() -> None:
    desk = SessionDesk()
    accepted, again = desk.incr("a", timeout=1.0), desk.get("b", timeout=2.0)
    desk.turn()
    desk.lose()
    desk.now += 0.5
    assert len(desk.resume(1)) == 1
    assert desk.session.next_due() == desk.now + 0.5
    desk.session.advance(desk.now + 0.5)
    assert accepted.outcome is CallTimeout
    assert not again.done()
    desk.session.advance(desk.now + 1.5)
    assert again.outcome is CallTimeout


@pytest.mark.parametrize("back", [1, 2, 3])
def test_replies_that_come_again_are_skipped(back: int) -> None:
    """By count, for their msgids may be others' by now."""
    desk = SessionDesk()
    for place in range(3):
        waiter = desk.get(f"k{place}")
        ((_, msgid, _, _),) = desk.turn()
        desk.reply(msgid, place)
        assert (waiter.outcome, msgid) == (place, 1)
    waiting = desk.get("new")
    ((_, msgid, _, _),) = desk.turn()
    assert msgid == 1
    desk.lose()
    again = b"".join(encode_result(1, place) for place in range(3 - back, 3))
    assert desk.resume(4, replies_from=4 - back, then=again[:-1]) == []
    assert not waiting.done()
    desk.session.receive(again[-1:] + encode_result(1, 99))
    assert waiting.outcome == 99


def test_skipping_ends_with_the_connection() -> None:
    desk = SessionDesk()
    desk.get()
    ((_, msgid, _, _),) = desk.turn()
    desk.reply(msgid, 1)
    desk.lose()
    desk.resume(1, replies_from=1)
    desk.lose()
    desk.resume(1)
    waiter = desk.get()
    ((_, msgid, _, _),) = desk.turn()
    desk.reply(msgid, 2)
    assert waiter.outcome == 2


def test_a_connection_that_breaks_before_hello_is_answered_changes_nothing() -> None:
    desk = SessionDesk()
    waiter = desk.incr()
    desk.turn()
    desk.lose()
    for _ in range(3):
        assert desk.hello() == {"session": ID, "received": 0}
        error = desk.lose()
        assert desk.greeted.error is error
    assert len(desk.resume(0)) == 1
    desk.lose()
    assert desk.resume(1) == []
    assert not waiter.done()


def test_changes_and_reads_are_asked_once_over_many_cuts() -> None:
    desk = SessionDesk()
    change, read = desk.incr("a"), desk.get("b")
    first = desk.turn()
    for _ in range(5):
        desk.lose()
        assert desk.resume(2) == []
    desk.reply(first[1][1], 2)
    desk.lose()
    assert desk.resume(2) == []
    desk.reply(first[0][1], 1)
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
    """Three were sent and one was answered. Nothing is settled by such an answer, and a good one later goes on."""
    desk = SessionDesk()
    waiters = [desk.get("a"), desk.incr("b"), desk.get("c")]
    messages = desk.turn()
    desk.reply(messages[0][1], 0)
    desk.lose()
    desk.hello()
    with pytest.raises(ProtocolError) as caught:
        desk.reply(0, answer)
    assert not desk.greeted.done()
    desk.session.disconnected(caught.value, desk.now)
    assert desk.greeted.error is caught.value
    assert [waiter.done() for waiter in waiters] == [True, False, False]
    assert first_params(desk.resume(2)) == [b"c"]


@pytest.mark.parametrize("accepted", [1, 2, 3])
def test_the_edges_of_what_may_be_accepted(accepted: int) -> None:
    desk = SessionDesk()
    for key in "abc":
        desk.get(key)
    messages = desk.turn()
    desk.reply(messages[0][1], 0)
    desk.lose()
    assert len(desk.resume(accepted)) == 3 - accepted


@pytest.mark.parametrize("code", ["busy", "shutting_down", "unavailable", "timeout"])
def test_a_server_that_cannot_now_may_later(code: str) -> None:
    desk = SessionDesk()
    waiter = desk.incr()
    desk.turn()
    desk.lose()
    desk.hello()
    with pytest.raises((Busy, ConnectionError, TimeoutError)):
        desk.reply_error(0, code)
    desk.lose()
    assert not waiter.done()
    assert desk.hello() == {"session": ID, "received": 0}


def test_what_a_stopping_server_refused_has_been_answered_and_is_asked_again() -> None:
    desk = SessionDesk()
    refused, other = desk.incr("a"), desk.incr("b", 2, timeout=None)
    messages = desk.turn()
    for message in messages:
        desk.reply_error(message[1], "shutting_down")
    assert desk.finished()
    desk.lose()
    assert desk.hello() == {"session": ID, "received": 2}
    desk.reply(0, resumed(2, 3))
    again = desk.write()
    assert [message[2:] for message in again] == [message[2:] for message in messages]
    for message in again:
        desk.reply(message[1], 7)
    assert (refused.outcome, other.outcome) == (7, 7)


# ------------------------------------------------------------------------------------------------- a lost session


@pytest.mark.parametrize("code", ["no_session", "invalid", "unknown_method"])
def test_when_the_session_is_lost_only_what_changes_something_is_in_doubt(code: str) -> None:
    desk = SessionDesk(cache="orders", lease_ms=500)
    held = desk.hold(7)
    lost: list[int] = []
    held.when_lost(lambda: lost.append(7))
    changes = [desk.incr("a"), desk.incr("b"), desk.ask(calls.set("c", 1, None))]
    reads = [desk.get("d")]
    waits = [desk.wait("e")[0], desk.begin(calls.wait_zero("f", None))[0]]
    at_once = desk.ask(calls.acquire([("g", 1, 1)], 0.0))
    given_back = desk.ask(calls.release(5, None))
    assert len(desk.turn()) == 7
    unsent = desk.incr("h")
    desk.session.end_turn(desk.now)
    desk.lose()
    assert desk.lost_session(code) == {"session": True, "cache": "orders", "lease_ms": 500}
    for change in changes:
        assert change.outcome is OutcomeUnknown
        assert isinstance(change.error.__cause__, NaughtError)
    assert len({id(change.error) for change in changes}) == 3
    assert given_back.outcome is NotHeld
    assert (held.lost, lost, desk.numbers_held()) == (True, [7], [])
    again = (*reads, *waits, at_once, unsent)
    assert not any(waiter.done() for waiter in again)
    assert desk.turn() == [], "nothing is sent before the new session is open"
    desk.opened(b"another 16 bytes")
    messages = desk.write()
    assert methods(messages) == ["get", "acquire", "wait_zero", "acquire", "incr"]
    assert [message[1] for message in messages] == [1, 2, 3, 4, 5]
    for message, result in zip(messages, (1, [True, [1], 8], True, [False, [9], None], 2), strict=True):
        desk.reply(message[1], result)
    assert all(waiter.done() and waiter.error is None for waiter in again)
    assert desk.numbers_held() == [8]
    desk.lose()
    assert desk.hello() == {"session": b"another 16 bytes", "received": 5}


def test_what_nobody_waits_for_is_lost_with_the_session() -> None:
    desk = SessionDesk()
    (gone, wait), late, late_change = desk.wait("a"), desk.get("b", timeout=0.1), desk.incr("c", timeout=0.1)
    given_back = desk.ask(calls.release(5, None), timeout=0.1)
    desk.turn()
    gone.cancel()
    desk.session.cancel_wait(wait)
    desk.session.advance(desk.now + 0.1)
    assert [waiter.outcome for waiter in (late, late_change, given_back)] == [CallTimeout] * 3
    desk.lose()
    desk.lost_session()
    desk.opened()
    assert desk.write() == []
    assert desk.session.next_due() is None


def test_a_session_lost_over_and_over_asks_reads_again_and_again() -> None:
    desk = SessionDesk()
    read, wait = desk.get(timeout=None), desk.wait()[0]
    desk.turn()
    for number in range(5):
        desk.lose()
        desk.lost_session()
        desk.opened(b"session number %d" % number)
        assert methods(desk.write()) == ["get", "acquire"]
    assert not read.done()
    assert not wait.done()


def test_a_session_that_is_lost_while_it_is_opened_anew() -> None:
    desk = SessionDesk()
    change, read = desk.incr("a"), desk.get("b")
    desk.turn()
    desk.lose()
    desk.lost_session()
    desk.lose()
    assert change.outcome is OutcomeUnknown
    desk.open()
    ((_, msgid, _, _),) = desk.write()
    desk.reply(msgid, 3)
    assert read.outcome == 3


def test_without_a_session_what_is_in_flight_is_lost_with_the_connection() -> None:
    desk = Desk()
    change, read = desk.incr("a"), desk.get("b")
    given_back = desk.ask(calls.release(5, None))
    desk.turn()
    desk.lose()
    assert (change.outcome, read.done(), given_back.outcome) == (OutcomeUnknown, False, NotHeld)


# ------------------------------------------------------------------------------------------------- acknowledging


def acknowledgements(messages: Sequence[list[Any]]) -> list[list[Any]]:
    return [message for message in messages if message[0] == 2]


def test_replies_are_acknowledged_every_so_many() -> None:
    desk = SessionDesk()
    for number in range(1, 3 * ACKNOWLEDGE_EVERY + 1):
        desk.get()
        written = desk.turn()
        due = number > 1 and (number - 1) % ACKNOWLEDGE_EVERY == 0
        assert acknowledgements(written) == ([[2, "ack", [number - 1]]] if due else [])
        assert written[0][0] == (2 if due else 0), "it goes first"
        desk.reply(written[-1][1], 0)


def test_an_acknowledgement_waits_for_no_call() -> None:
    desk = SessionDesk()
    for _ in range(ACKNOWLEDGE_EVERY):
        desk.get()
    messages = desk.turn()
    assert not desk.has_output()
    for message in messages[:-1]:
        desk.reply(message[1], 0)
        assert not desk.has_output()
    desk.reply_error(messages[-1][1], "busy")
    assert desk.has_output()
    assert desk.write() == [[2, "ack", [ACKNOWLEDGE_EVERY]]]
    assert not desk.has_output()


def test_a_change_does_not_go_alone_where_an_acknowledgement_is_due() -> None:
    desk = SessionDesk()
    for place in range(ACKNOWLEDGE_EVERY):
        alone = desk.session.change_alone((b"k", 1, None, 1.0), FakeWaiter(), desk.now)
        ((_, msgid, _, _),) = requests_in(alone)
        desk.reply(msgid, place)
    assert desk.session.change_alone((b"k", 1, None, 1.0), FakeWaiter(), desk.now) == b""
    assert methods(desk.write()) == ["ack"]
    assert desk.session.change_alone((b"k", 1, None, 1.0), FakeWaiter(), desk.now)


def test_bytes_of_replies_are_acknowledged_too() -> None:
    desk = SessionDesk()
    sizes = []
    for place in range(40):
        waiter = desk.ask(calls.get_many([f"{place}:{other}" for other in range(1_000)]))
        written = desk.turn()
        for _, _, (count,) in acknowledgements(written):
            sizes.append(count)
        reply = encode_result(written[-1][1], [1 << 40] * 1_000)
        desk.session.receive(reply)
        assert waiter.done()
    replies_each = -(-ACKNOWLEDGE_BYTES // len(reply))
    assert sizes == list(range(replies_each, 40, replies_each))


def test_bytes_without_a_whole_reply_are_not_acknowledged() -> None:
    desk = SessionDesk()
    desk.ask(calls.scan(0, 4_000, "", bytes))
    ((_, msgid, _, _),) = desk.turn()
    reply = encode_result(msgid, [0, [b"k" * 60] * 4_000, [1] * 4_000])
    assert len(reply) > 3 * ACKNOWLEDGE_BYTES
    desk.session.receive(reply[:-1])
    assert not desk.has_output()
    desk.session.receive(reply[-1:])
    assert desk.write() == [[2, "ack", [1]]]


def test_hello_acknowledges() -> None:
    desk = SessionDesk()
    for _ in range(ACKNOWLEDGE_EVERY):
        desk.get()
    for message in desk.turn():
        desk.reply(message[1], 0)
    desk.lose()
    assert desk.resume(ACKNOWLEDGE_EVERY) == []
    desk.get()
    ((_, msgid, _, _),) = desk.turn()
    desk.reply(msgid, 0)
    assert not desk.has_output()


def test_without_a_session_nothing_is_acknowledged() -> None:
    desk = Desk()
    for _ in range(3 * ACKNOWLEDGE_EVERY):
        desk.get()
        ((_, msgid, _, _),) = desk.turn()
        desk.reply(msgid, 0)
    assert not desk.has_output()


# ------------------------------------------------------------------------------------------------- windows


def test_what_is_unanswered_and_what_is_unacknowledged_share_a_window() -> None:
    desk = SessionDesk()
    for place in range(2 * UNACKNOWLEDGED_MAX):
        desk.get(f"k{place}")
    messages = desk.turn()
    assert len(messages) == UNACKNOWLEDGED_MAX
    for place, message in enumerate(messages, 1):
        desk.reply(message[1], 0)
        following = desk.write()
        if place % ACKNOWLEDGE_EVERY:
            assert following == []
        else:
            assert following[0] == [2, "ack", [place]]
            assert len(following) == 1 + ACKNOWLEDGE_EVERY


def test_resuming_makes_room() -> None:
    desk = SessionDesk()
    for place in range(UNACKNOWLEDGED_MAX + 5):
        desk.get(f"k{place}")
    messages = desk.turn()
    for message in messages[:3]:
        desk.reply(message[1], 0)
    assert desk.write() == []
    desk.lose()
    assert len(desk.resume(UNACKNOWLEDGED_MAX)) == 3
    desk.lose()
    assert len(desk.resume(UNACKNOWLEDGED_MAX)) == 3, "they were not accepted"


def test_replies_that_may_be_large_share_a_window_of_bytes() -> None:
    desk = SessionDesk()
    for _ in range(20):
        desk.ask(calls.scan(0, 100, "", bytes))
    small = desk.get()
    at_once = REPLIES_BYTES_MAX // REPLY_BYTES_MAX
    messages = desk.turn()
    assert methods(messages) == ["scan"] * at_once
    desk.reply(messages[0][1], [0, [], []])
    assert methods(desk.write()) == ["scan"]
    desk.lose()
    assert methods(desk.resume(1)) == ["scan"] * at_once, "what is sent again is counted once"
    assert not small.done()


def test_waiting_counts_apart_from_the_rest() -> None:
    desk = SessionDesk()
    waits = [desk.wait("a")[0] for _ in range(PARKED_MAX)]
    reads = [desk.get("b") for _ in range(UNACKNOWLEDGED_MAX)]
    messages = desk.turn()
    assert methods(messages) == ["acquire"] * PARKED_MAX + ["get"] * UNACKNOWLEDGED_MAX
    for message in messages[PARKED_MAX:]:
        desk.reply(message[1], 1)
    assert all(read.done() for read in reads)
    assert not any(wait.done() for wait in waits)


def test_waiting_for_absence_counts_as_waiting() -> None:
    desk = SessionDesk()
    for _ in range(PARKED_MAX):
        desk.begin(calls.wait_zero("a", None))
    assert len(desk.turn()) == PARKED_MAX
    desk.wait()
    assert desk.turn() == []


def test_who_would_wait_beyond_the_window_is_set_aside_and_blocks_nobody() -> None:
    desk = SessionDesk()
    first = [desk.wait("a") for _ in range(PARKED_MAX)]
    messages = desk.turn()
    assert len(messages) == PARKED_MAX
    beyond = [desk.wait(f"b{place}")[0] for place in range(3)]
    read, change = desk.get("c"), desk.incr("d")
    written = desk.turn()
    assert methods(written) == ["get", "incr"]
    for message in written:
        desk.reply(message[1], 4)
    assert (read.outcome, change.outcome) == (4, 4)
    beyond[1].cancel()
    desk.reply(messages[5][1], [False, [1], None])
    assert first[5][0].result.hold is None
    # At the server the wait that is over counts as long as it is not acknowledged.
    assert desk.write() == [[2, "ack", [3]], [0, messages[5][1], "acquire", [[[b"b0", 1, 1]], None]]]
    desk.reply(messages[6][1], [False, [1], None])
    assert [message[3][0][0][0] for message in desk.write()[1:]] == [b"b2"]
    desk.reply(messages[7][1], [False, [1], None])
    assert desk.write() == []


def test_a_wait_that_is_over_makes_room_once_it_is_acknowledged() -> None:
    """For the server it keeps its place until then; with nobody in want of it, that can wait."""
    desk = SessionDesk()
    for _ in range(PARKED_MAX):
        desk.wait("a")
    messages = desk.turn()
    for place in range(2):
        desk.reply(messages[place][1], [False, [1], None])
        assert desk.write() == []
        desk.wait("b")
        assert methods(desk.turn()) == ["ack", "acquire"]
    desk.reply(messages[2][1], [False, [1], None])
    desk.wait("b")
    for _ in range(UNACKNOWLEDGED_MAX + 1):
        desk.get("c")
    assert methods(desk.turn())[:2] == ["ack", "acquire"]
    desk.reply(messages[3][1], [False, [1], None])
    for _ in range(2):
        desk.wait("b")
    assert methods(desk.turn()) == [], "they come behind what has no room"


def test_one_output_acknowledges_what_makes_room_and_fills_it() -> None:
    desk = SessionDesk()
    for _ in range(PARKED_MAX):
        desk.wait("a")
    messages = desk.turn()
    desk.reply(messages[0][1], [False, [1], None])
    desk.wait("b")
    desk.session.end_turn(desk.now)
    assert methods(requests_in(desk.session.output(desk.now))) == ["ack", "acquire"]


def test_tidying_forgets_deadlines_and_tells_whether_there_is_something_to_write() -> None:
    desk = SessionDesk()
    for place in range(ACKNOWLEDGE_EVERY):
        desk.get(f"{place}")
        assert desk.session.tidy(), "of the turn that goes on"
        ((_, msgid, _, _),) = desk.turn()
        assert not desk.session.tidy()
        assert len(desk.session._deadlines) == 1
        desk.reply(msgid, 0)
    assert desk.session.tidy(), "an acknowledgement"
    assert desk.session._deadlines == []
    assert methods(desk.write()) == ["ack"]
    assert not desk.session.tidy()


def test_who_was_set_aside_times_out_there() -> None:
    desk = SessionDesk()
    for _ in range(PARKED_MAX):
        desk.wait("a")
    desk.turn()
    late = desk.wait("b", timeout=1.0)[0]
    desk.turn()
    desk.session.advance(desk.now + 1.0)
    assert late.outcome is CallTimeout
    assert desk.write() == []


def test_what_gives_back_passes_the_windows() -> None:
    desk = SessionDesk()
    holds = [desk.hold(number) for number in (1, 2)]
    waits = [desk.wait("a") for _ in range(PARKED_MAX)]
    desk.turn()
    released = desk.ask(calls.release(holds[0], None))
    assert methods(desk.turn()) == ["release"], "waiting keeps nobody from giving back"
    for place in range(UNACKNOWLEDGED_MAX + 10):
        desk.get(f"b{place}")
    desk.turn()
    assert desk.turn() == []
    waits[0][0].cancel()
    desk.session.cancel_wait(waits[0][1])
    desk.session.release_untaken(holds[1])
    assert [(message[2], message[3]) for message in desk.turn()] == [
        ("cancel", [waits[0][1].msgid]),
        ("release", [2]),
    ]
    assert not released.done()


def test_thousands_who_give_up_at_once_do_so_within_what_a_server_bears() -> None:
    """It ends the session of a client that goes on twice as far as the window without acknowledging."""
    desk = SessionDesk()
    waits = [desk.wait("a") for _ in range(3 * UNACKNOWLEDGED_MAX)]
    desk.turn()
    for waiter, message in waits:
        waiter.cancel()
        desk.session.cancel_wait(message)
    cancels = desk.turn()
    assert methods(cancels) == ["cancel"] * 2 * UNACKNOWLEDGED_MAX
    read = desk.get()
    assert desk.turn() == []
    for place, (cancel, (_, message)) in enumerate(zip(cancels, waits, strict=False), 1):
        desk.reply(message.msgid, [False, [1], None])
        desk.reply(cancel[1], True)
        written = desk.write()
        assert bool(written) == (2 * place % ACKNOWLEDGE_EVERY == 0)
        if written:
            assert written[0] == [2, "ack", [2 * place]]
        cancels += written[1:]
    assert methods(cancels) == ["cancel"] * len(waits) + ["get"]
    assert not read.done()


# ------------------------------------------------------------------------------------------------- giving up


def test_giving_up_a_wait_ends_it_at_the_server() -> None:
    desk = SessionDesk()
    for call in (calls.acquire([("a", 1, 1)], 5.0), calls.wait_zero("a", None)):
        waiter, message = desk.begin(call, timeout=None)
        ((_, msgid, _, _),) = desk.turn()
        waiter.cancel()
        woken = desk.woken
        desk.session.cancel_wait(message)
        assert desk.woken == woken + 1, "nobody else may call in this turn"
        ((_, other, method, params),) = desk.turn()
        assert (method, params) == ("cancel", [msgid])
        assert other != msgid
        desk.reply(msgid, [False, [1], None])
        desk.reply(other, True)
        assert not desk.session._windows.in_flight


@pytest.mark.parametrize("when", ["unsent", "answered", "it does not wait", "no session left"])
def test_there_is_nothing_to_end(when: str) -> None:
    desk = SessionDesk()
    if when == "it does not wait":
        waiter, message = desk.begin(calls.acquire([("a", 1, 1)], 0.0))
        desk.turn()
    else:
        waiter, message = desk.wait()
        if when != "unsent":
            ((_, msgid, _, _),) = desk.turn()
        if when == "answered":
            desk.reply(msgid, [False, [1], None])
        elif when == "no session left":
            desk.lose()
            desk.lost_session()
            desk.opened()
    waiter.cancel()
    desk.session.cancel_wait(message)
    assert desk.turn() == []


def test_a_wait_that_ended_before_its_cancel_was_written_is_not_cancelled() -> None:
    desk = SessionDesk()
    waiter, message = desk.wait()
    ((_, msgid, _, _),) = desk.turn()
    waiter.cancel()
    desk.session.cancel_wait(message)
    desk.reply(msgid, [False, [1], None])
    assert desk.turn() == []


def test_a_wait_that_times_out_is_ended_at_the_server() -> None:
    desk = SessionDesk()
    waiter, _ = desk.wait(timeout=2.0)
    ((_, msgid, _, _),) = desk.turn()
    desk.session.advance(desk.now + 2.0)
    assert waiter.outcome is CallTimeout
    assert [message[2:] for message in desk.turn()] == [["cancel", [msgid]]]


@pytest.mark.parametrize(
    ("accepted", "written"),
    [(0, []), (1, ["cancel"]), (2, [])],
    ids=["neither", "the wait alone", "both"],
)
def test_a_cancel_over_a_cut(accepted: int, written: list[str]) -> None:
    desk = SessionDesk()
    waiter, message = desk.wait()
    ((_, msgid, _, _),) = desk.turn()
    waiter.cancel()
    desk.session.cancel_wait(message)
    assert methods(desk.turn()) == ["cancel"]
    desk.lose()
    again = desk.resume(accepted)
    assert methods(again) == written
    assert all(each[3] == [msgid] for each in again)


def test_a_wait_given_up_without_connection_is_ended_on_the_next() -> None:
    desk = SessionDesk()
    waiter, message = desk.wait()
    ((_, msgid, _, _),) = desk.turn()
    desk.lose()
    waiter.cancel()
    desk.session.cancel_wait(message)
    assert desk.turn() == []
    ((_, _, method, params),) = desk.resume(1)
    assert (method, params) == ("cancel", [msgid])


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_a_grant_that_reaches_nobody_is_given_back(how: str) -> None:
    desk = SessionDesk()
    waiter, _ = desk.wait(timeout=1.0)
    ((_, msgid, _, _),) = desk.turn()
    if how == "cancelled":
        waiter.cancel()
    else:
        desk.session.advance(desk.now + 1.0)
        desk.turn()
    woken = desk.woken
    desk.reply(msgid, [True, [1], 33])
    assert desk.woken == woken + 1
    assert desk.numbers_held() == []
    assert [message[2:] for message in desk.turn()] == [["release", [33]]]
    desk.lose()
    again = desk.resume(1)
    assert [message[2:] for message in again] == [["release", [33]]], "it was not accepted, so it is sent again"
    desk.reply_error(again[0][1], "not_held")
    assert not desk.session._windows.in_flight


def test_a_grant_that_comes_again_after_a_cut_meets_who_waits() -> None:
    desk = SessionDesk()
    waiter, _ = desk.wait()
    ((_, msgid, _, _),) = desk.turn()
    desk.lose()
    assert desk.resume(1, then=encode_result(msgid, [True, [1], 9])) == []
    assert waiter.result.hold.number == 9
    assert desk.numbers_held() == [9]


def test_a_grant_nobody_took_in_time_is_given_back_once() -> None:
    desk = SessionDesk()
    held = desk.hold(4)
    desk.session.release_untaken(held)
    assert desk.numbers_held() == []
    assert [message[2:] for message in desk.turn()] == [["release", [4]]]
    assert desk.turn() == []


# ------------------------------------------------------------------------------------------------- the lease


def test_what_is_held_is_lost_a_lease_after_the_connection() -> None:
    desk = SessionDesk(lease_ms=77)
    holds = [desk.hold(number) for number in (3, 4)]
    told: list[int] = []
    for held in holds:
        held.when_lost(lambda number=held.number: told.append(number))  # type: ignore[misc]
    assert desk.session.next_due() is None
    desk.lose()
    ends = desk.now + LEASE_MS / 1000  # what the server said, whatever was asked for
    assert desk.session.next_due() == ends
    desk.session.advance(ends - 0.001)
    assert not told
    desk.session.advance(ends)
    assert told == [3, 4]
    assert all(held.lost for held in holds)
    assert desk.session.next_due() is None
    desk.session.advance(ends + 1)
    assert told == [3, 4], "each is told once"
    later: list[int] = []
    holds[0].when_lost(lambda: later.append(1))
    assert later == [1], "who asks late is told at once"


def test_the_lease_runs_from_the_first_loss() -> None:
    desk = SessionDesk()
    held = desk.hold(3)
    desk.session.advance(desk.now + 1)
    desk.lose()
    ends = desk.now + LEASE_MS / 1000
    for _ in range(3):
        desk.now += 1
        desk.hello()
        desk.lose()
        assert desk.session.next_due() == ends
    desk.resume(1)
    assert desk.session.next_due() is None
    desk.session.advance(ends)
    assert not held.lost
    desk.lose()
    assert desk.session.next_due() == desk.now + LEASE_MS / 1000


def test_a_session_found_alive_after_its_lease_gets_back_what_was_given_up() -> None:
    desk = SessionDesk()
    first, second, third = (desk.hold(number) for number in (3, 4, 5))
    released = desk.ask(calls.release(third, None), timeout=None)
    desk.session.untrack(third)
    assert methods(desk.turn()) == ["release"]
    desk.lose()
    desk.now += LEASE_MS / 1000
    desk.session.advance(desk.now)
    assert (first.lost, second.lost, third.lost) == (True, True, False)
    again = desk.resume(4)
    assert [message[2:] for message in again] == [["release", [3]], ["release", [4]]]
    for message in again:
        desk.reply(message[1], [0])
    assert not released.done()
    desk.lose()
    assert desk.resume(6) == [], "that is done once"


def test_what_was_given_up_and_not_given_back_yet_is_sent_over_a_cut() -> None:
    desk = SessionDesk()
    desk.hold(3)
    desk.lose()
    desk.session.advance(desk.now + LEASE_MS / 1000)
    assert methods(desk.resume(1)) == ["release"]
    desk.lose()
    assert methods(desk.resume(1)) == ["release"]


def test_a_released_hold_is_not_lost() -> None:
    desk = SessionDesk()
    held = desk.hold(3)
    desk.session.advance(desk.now + 1)
    desk.session.untrack(held)
    desk.lose()
    assert desk.session.next_due() is None
    desk.lost_session()
    assert not held.lost


def test_closing_loses_what_is_held() -> None:
    desk = SessionDesk()
    held = desk.hold(3)
    desk.session.close()
    assert held.lost


# ------------------------------------------------------------------------------------------------- releasing


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
@pytest.mark.parametrize("when", ["fresh", "queued", "in flight"])
def test_a_release_is_sent_though_its_caller_has_gone(how: str, when: str) -> None:
    desk = SessionDesk()
    held = desk.hold(3)
    if when != "in flight":
        desk.lose()
    waiter = desk.ask(calls.release(held, None), timeout=0.5)
    desk.session.untrack(held)
    if when != "fresh" or how == "timed out":
        desk.turn()
    if how == "cancelled":
        waiter.cancel()
    else:
        desk.session.advance(desk.now + 0.5)
        assert waiter.outcome is CallTimeout
    desk.now += 20
    desk.session.end_turn(desk.now)
    if when == "in flight":
        desk.lose()
    again = desk.resume(1)
    assert [message[2:] for message in again] == [["release", [3]]]
    desk.lose()
    assert [message[2:] for message in desk.resume(1)] == [["release", [3]]]
    desk.lose()
    assert desk.resume(2) == []


def test_releases_of_callers_who_have_gone_outlive_a_pile_of_others() -> None:
    desk = SessionDesk()
    held = desk.hold(3)
    desk.lose()
    desk.ask(calls.release(held, None)).cancel()
    for _ in range(5 * UNACKNOWLEDGED_MAX):
        desk.get(timeout=None).cancel()
        desk.turn()
    assert len(desk.session._queue) <= 2 * UNACKNOWLEDGED_MAX
    assert [message[2:] for message in desk.resume(1)] == [["release", [3]]]


def test_a_release_that_was_never_sent_is_answered_by_the_next_session() -> None:
    desk = SessionDesk()
    held = desk.hold(3)
    desk.lose()
    waiter = desk.ask(calls.release(held, None))
    desk.session.end_turn(desk.now)
    desk.lost_session()
    desk.opened()
    ((_, msgid, method, _),) = desk.write()
    assert method == "release"
    desk.reply_error(msgid, "not_held")
    assert waiter.outcome is NotHeld


# ------------------------------------------------------------------------------------------------- the end


def test_a_farewell_ends_the_session_where_there_is_one() -> None:
    desk = SessionDesk(connect=False)
    assert desk.session.encode_bye() == b""
    desk.hello()
    assert desk.session.encode_bye() == b"", "there is none yet"
    desk.opened()
    assert requests_in(desk.session.encode_bye()) == [[2, "bye", []]]
    desk.lose()
    assert desk.session.encode_bye() == b"", "there is nobody to say it to"
    desk.hello()
    assert desk.session.encode_bye() == b"", "it is not resumed yet"
    desk.reply(0, resumed(0, 1))
    assert requests_in(desk.session.encode_bye()) == [[2, "bye", []]]
    desk.get()
    ((_, msgid, _, _),) = desk.turn()
    desk.reply_error(msgid, "shutting_down")
    assert requests_in(desk.session.encode_bye()) == [[2, "bye", []]]
    desk.session.close()
    assert desk.session.encode_bye() == b""
    assert Desk().session.encode_bye() == b""


def test_closing_ends_every_call_of_a_session() -> None:
    desk = SessionDesk()
    waiters = [desk.incr("in flight"), desk.wait()[0], desk.ask(calls.release(1, None))]
    desk.turn()
    waiters += [desk.wait()[0] for _ in range(PARKED_MAX + 1)]
    desk.turn()
    waiters.append(desk.incr("fresh"))
    desk.session.close()
    assert {waiter.outcome for waiter in waiters} == {ClientClosed}
    assert desk.session.next_due() is None
    desk.lose()
    assert desk.turn() == []


CALLS: dict[str, Callable[[SessionDesk], Any]] = {
    "change": lambda desk: desk.incr("a"),
    "read": lambda desk: desk.get("a"),
    "acquire": lambda desk: desk.wait(),
    "release": lambda desk: desk.ask(calls.release(1, None)),
}


@pytest.mark.parametrize("state", ["fresh", "offline", "greeting", "ready"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_another_process_gets_nothing_out_of_it_and_settles_nobody(
    call: Callable[[SessionDesk], Any], state: str
) -> None:
    desk = SessionDesk(connect=state in {"ready", "fresh"})
    held = desk.hold(3) if desk.session._id is not None else None
    pending = [desk.get("b"), desk.incr("a")]
    if state != "fresh":
        desk.turn()
    if state == "greeting":
        desk.hello()
    desk.session.after_fork("this is another process")
    with pytest.raises(ClientClosed, match="another process"):
        call(desk)
    assert desk.turn() == []
    assert desk.session.encode_bye() == b""
    desk.lose()
    if held is not None:
        desk.session.release_untaken(held)
        assert held.lost, "it is the other's, and nobody would tell this one of its loss"
    assert desk.turn() == []
    assert not any(waiter.done() for waiter in pending)


# ------------------------------------------------------------------------------------------------- garbage


@pytest.mark.parametrize(
    "garbage",
    [
        packed([[1, 0, None, resumed(1, 1)]]),  # an answer to a hello that was answered
        packed([[1, 77, None, 5]]),
        b"\xc1",
    ],
)
def test_garbage_ends_the_connection_and_not_the_session(garbage: bytes) -> None:
    desk = SessionDesk()
    held = desk.hold(3)
    waiter = desk.incr()
    ((_, msgid, _, _),) = desk.turn()
    with pytest.raises(ProtocolError) as caught:
        desk.session.receive(garbage)
    desk.session.disconnected(caught.value, desk.now)
    assert not waiter.done()
    assert not held.lost
    desk.resume(2, then=encode_result(msgid, 6))
    assert waiter.outcome == 6


def test_a_reply_that_makes_no_sense_counts_as_received() -> None:
    """The server would only send it again, on every connection."""
    desk = SessionDesk()
    change, read = desk.incr("a"), desk.get("b")
    messages = desk.turn()
    with pytest.raises(ProtocolError) as caught:
        desk.reply(messages[0][1], "one")
    desk.session.disconnected(caught.value, desk.now)
    assert change.outcome is OutcomeUnknown
    assert desk.hello() == {"session": ID, "received": 1}
    desk.reply(0, resumed(2, 2))
    desk.reply(messages[1][1], 8)
    assert read.outcome == 8


@pytest.mark.parametrize("error", [Busy("so"), ShuttingDown("so"), Unavailable("so"), ConnectionRefusedError()])
def test_an_attempt_that_failed_leaves_the_session_as_it_is(error: BaseException) -> None:
    desk = SessionDesk()
    held = desk.hold(3)
    waiter = desk.incr()
    desk.turn()
    desk.lose()
    desk.session.connect_failed(error)
    assert not waiter.done()
    assert not held.lost
    assert desk.hello()["received"] == 1


def test_errors_are_understood_however_they_are_cut() -> None:
    data = encode_result(0, resumed(2, 2)) + encode_error(1, "overflow", "so") + encode_result(2, 5)
    for cut in range(len(data)):
        desk = SessionDesk()
        first = desk.get("a")
        ((_, msgid, _, _),) = desk.turn()
        desk.reply(msgid, 1)
        waiters = [desk.incr("b")]
        desk.turn()
        desk.lose()
        desk.hello()
        desk.session.receive(data[:cut])
        unsent = desk.get("c")
        desk.turn()
        desk.session.receive(data[cut : len(data) - len(encode_result(2, 5))])
        assert first.outcome == 1
        assert [type(waiter.error).__name__ for waiter in waiters] == ["CounterOverflow"]
        assert not unsent.done()
