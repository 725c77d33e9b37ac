"""`Commands` on a sink that notes what it is given: arguments, defaults, and interrupted calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator
from typing import Any

import pytest

from naught.core.calls import ANSWER_S, Acquired, Call
from naught.core.commands import Commands
from naught.core.holds import Hold
from naught.core.messages import Message, SingleCall, Waiter
from naught.errors import CallTimeout, InvalidRequest, NaughtError, TooLarge
from naught.wire.codec import decode_key

MAX = 2**63 - 1


class Sink:
    """A `CallSink` that notes all, and the commands that use it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.commands: Commands[str] = Commands(self, timeout=3.0, decode=decode_key)
        self.changes: list[tuple[Any, ...]] = []
        self.asked: list[tuple[str, tuple[Any, ...], float | None]] = []
        self.answer_s: list[float] = []  # of the calls that were asked
        self.futures: list[asyncio.Future[Any]] = []
        self.cancelled: list[Message] = []
        self.released: list[Hold] = []

    def change(self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Waiter, /) -> None:
        self.changes.append((key, delta, ttl_ms, timeout))

    def ask(self, call: Call[Any], timeout: float | None, waiter: Waiter, /) -> Message:
        self.asked.append((call.method, call.params, timeout))
        self.answer_s.append(call.answer_s)
        return SingleCall(call, timeout, waiter)

    def cancel_wait(self, message: Message, /) -> None:
        self.cancelled.append(message)

    def release_untaken(self, hold: Hold, /) -> None:
        self.released.append(hold)

    def new_future(self) -> asyncio.Future[Any]:
        self.futures.append(self._loop.create_future())
        return self.futures[-1]

    def current_caller(self) -> Hashable:
        return 1


@pytest.fixture
def sink() -> Iterator[Sink]:
    loop = asyncio.new_event_loop()
    yield Sink(loop)
    loop.close()


class Amount(int):
    """A number of another class."""


# Key, amount, and what is added.
CHANGES: list[tuple[Any, Any, tuple[bytes, int]]] = [
    ("k", 1, (b"k", 1)),
    ("ä", MAX, ("ä".encode(), MAX)),
    ("\udcff", 2, (b"\xff", 2)),
    (b"\xff", 2, (b"\xff", 2)),
    ("k" * 512, Amount(5), (b"k" * 512, 5)),
]


@pytest.mark.parametrize(("key", "by", "added"), CHANGES)
def test_what_a_change_adds(sink: Sink, key: Any, by: Any, added: tuple[bytes, int]) -> None:
    data, amount = added
    sink.commands.incr(key, by)
    sink.commands.incr(key, by, ttl_ms=7, timeout=None)
    sink.commands.decr(key, by)
    sink.commands.decr(key, by, timeout=0.5)
    assert sink.changes == [
        (data, amount, None, 3.0),
        (data, amount, 7, None),
        (data, -amount, None, 3.0),
        (data, -amount, None, 0.5),
    ]
    assert all(type(change[1]) is int for change in sink.changes)


@pytest.mark.parametrize("method", ["incr", "decr"])
@pytest.mark.parametrize(
    ("key", "by", "error"),
    [
        ("", 1, InvalidRequest),
        (b"", 1, InvalidRequest),
        (5, 1, InvalidRequest),
        ("\ud800", 1, InvalidRequest),
        ("k" * 513, 1, TooLarge),
        (b"k" * 513, 1, TooLarge),
        ("\udcff" * 513, 1, TooLarge),
        ("k", 0, InvalidRequest),
        ("k", -1, InvalidRequest),
        ("k", MAX + 1, InvalidRequest),
        ("k", True, InvalidRequest),
        ("k", Amount(0), InvalidRequest),
    ],
)
def test_a_bad_change_is_refused_at_once(
    sink: Sink, method: str, key: Any, by: Any, error: type[NaughtError]
) -> None:
    with pytest.raises(error):
        getattr(sink.commands, method)(key, by)
    assert (sink.changes, sink.futures) == ([], [])


# A command of an operator, and the request.
OF_OPERATORS: list[tuple[Callable[[Commands[str]], object], str, tuple[Any, ...]]] = [
    (lambda commands: commands.config_get(), "config_get", ()),
    (lambda commands: commands.config_get("log_level"), "config_get", ("log_level",)),
    (lambda commands: commands.config_set("log_level", "debug"), "config_set", ("log_level", "debug")),
    (lambda commands: commands.sweep(), "sweep", ()),
    (lambda commands: commands.slowlog(), "slowlog", (32,)),
    (lambda commands: commands.slowlog(5), "slowlog", (5,)),
    (lambda commands: commands.slowlog_reset(), "slowlog_reset", ()),
    (lambda commands: commands.end_session(7), "end_session", (7,)),
]


@pytest.mark.parametrize(("make", "method", "params"), OF_OPERATORS)
def test_what_operators_ask(
    sink: Sink,
    make: Callable[[Commands[str]], object],
    method: str,
    params: tuple[Any, ...],
) -> None:
    assert make(sink.commands) is sink.futures[0]
    assert sink.asked == [(method, params, 3.0)]


@pytest.mark.parametrize(
    ("timeout", "wait", "asked", "answer_s"),
    [(..., 0, 3.0, 0), (..., 2, 2, ANSWER_S), (..., None, None, ANSWER_S), (0.5, 2, 0.5, 0), (None, 2, None, 0)],
)
def test_a_wait_bounds_its_call_unless_a_timeout_is_given(
    sink: Sink, timeout: Any, wait: float | None, asked: float | None, answer_s: float
) -> None:
    begin(sink.commands.acquire([("k", 1, 1)], wait=wait, timeout=timeout))
    assert (sink.asked[0][2], sink.answer_s) == (asked, [answer_s])


def begin(coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """Run a call up to where it waits for its reply."""
    coroutine.send(None)
    return coroutine


@pytest.mark.parametrize("granted", [True, False])
def test_an_acquire_interrupted_as_its_reply_comes_gives_back_what_it_was_granted(sink: Sink, granted: bool) -> None:
    waiting = begin(sink.commands.acquire([("k", 1, 1)], wait=2))
    hold = Hold(7, 1) if granted else None
    sink.futures[0].set_result(Acquired(granted, [1], hold))
    with pytest.raises(asyncio.CancelledError):
        waiting.throw(asyncio.CancelledError())
    assert sink.released == ([hold] if granted else [])


@pytest.mark.parametrize(
    ("error", "ended"), [(asyncio.CancelledError(), True), (KeyboardInterrupt(), True), (CallTimeout("late"), False)]
)
def test_who_is_interrupted_ends_its_wait_and_who_has_timed_out_has_ended_it(
    sink: Sink, error: BaseException, ended: bool
) -> None:
    waiting = begin(sink.commands.wait_zero("k", timeout=2))
    if ended:
        with pytest.raises(type(error)):
            waiting.throw(error)
    else:
        sink.futures[0].set_exception(error)
        with pytest.raises(type(error)):
            waiting.send(None)
    assert [message.waiters for message in sink.cancelled] == ([sink.futures] if ended else [])
    assert sink.futures[0].cancelled() is ended
