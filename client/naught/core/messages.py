"""`Message`: what travels under one msgid. Sans-IO.

    SingleCall       one call
    JoinedChanges    increments and decrements of one turn, as one `apply`
    CancelWait       the session's own request to end a wait whose callers have gone
    AcquireAgain     the session's own request for a hold that was lost with the session before

A message has the waiters of its reply, encodes the request, and converts the reply. The session (`session.py`)
decides when it is sent, and what happens to it when a connection breaks.

A call comes with a *waiter*, the future on which its result is set. A waiter is any object with the three methods of
`Waiter`; `asyncio.Future` and `concurrent.futures.Future` have them. A waiter that is done already (its caller has
cancelled it) is not touched.

**Joining.** Consecutive `incr` and `decr` calls of one turn with equal time to live and timeout become one `apply`.
Each item of an `apply` stands alone, so the batch has the same effect as the separate calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any, Final, NamedTuple, Protocol

from naught.core.calls import SMALL_REPLY_BYTES, Call, acquire_again, describe, item_error
from naught.core.holds import Hold
from naught.errors import ProtocolError, with_subject
from naught.wire.codec import encode_request
from naught.wire.limits import BATCH_ITEMS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, REPLY_BYTES_MAX

JOINED_ITEMS_MAX: Final = 1_000
"""Calls in one joined message: what a server does for one peer in a turn. More would gain nothing (2 % from 100 items
to 1 000). A thousand keys of the largest size stay below the limit of a message, so no code here counts bytes."""

ITEM_ERROR_BYTES: Final = 200
"""A failed item of a joined message takes fewer bytes than this in the reply."""

assert JOINED_ITEMS_MAX <= BATCH_ITEMS_MAX
assert JOINED_ITEMS_MAX * (KEY_BYTES_MAX + 3 + 9) + 64 < MESSAGE_BYTES_MAX
assert JOINED_ITEMS_MAX * ITEM_ERROR_BYTES < REPLY_BYTES_MAX, "all items may fail and the reply still fits"


class Waiter(Protocol):
    """The future of a call: its result or exception is set here."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


class NoWaiter:
    """The waiter of a request that the session makes itself: no caller waits for its reply."""

    def done(self) -> bool:
        return True

    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


_is_done: Callable[[Waiter], bool] = methodcaller("done")


class Delivery(NamedTuple):
    """A hold that a reply has brought."""

    hold: Hold
    taken: bool  # a caller receives it; if not, the session must release it
    # Gives it to the caller, if one waits for it. Called when the session has noted the hold: a thread goes on at
    # once, and may fork, in which all holds are lost that the session knows.
    give: Callable[[], object] | None = None


class Message:
    """See the module.

    Three classes assign its fields, each its own: `Windows` assigns `msgid` and `number`; `ClientSession` assigns
    `deadline` and `sequence`; the message assigns the others.
    """

    waiters: list[Waiter]  # of its callers, including those that have given up
    timeout: float | None  # seconds, counted from the end of the turn; None for no limit
    answer_s = 0.0  # seconds that the answer may take beyond the timeout, once the request is at the server

    # The initial values that nearly every message has. As class attributes they cost nothing per message.
    repeatable = False  # may be sent again when the server may have executed it already
    parks = False  # may wait at the server, so it counts in a window of its own and does not block later messages
    persistent = False  # gives something back, so it is sent even when no caller waits for the reply any more
    reply_bytes = 0  # upper bound of its reply; for joined changes known after `encode`
    msgid = -1  # 0 or more while it is in flight
    number = 0  # position in the session's stream of requests, while it is in flight
    deadline: float | None = None  # on the adapter's clock, set at the end of its turn; None for no limit
    sequence = 0  # position in the order of calls, set at the end of its turn
    settled = False  # every caller has its result, or has given up

    def encode(self, msgid: int) -> bytes:
        """The request. Returns b"", and counts as settled from then on, when no caller waits for it any more."""
        raise AssertionError("overridden by every kind of message")

    def resolve(self, result: Any) -> Delivery | None:
        """Set the result on the waiters. If it brings a hold, that is returned instead, with what sets the result.

        Raises ProtocolError for a value that cannot be the result of this request.
        """
        raise AssertionError("overridden by every kind of message")

    def abandoned(self) -> bool:
        """Whether no caller waits for it any more."""
        return self.settled or all(map(_is_done, self.waiters))

    def fail(self, make_error: Callable[[], BaseException]) -> None:
        """Raise in every caller that still waits. Each gets an exception of its own, as each adds its traceback."""
        self.settled = True
        for place, waiter in enumerate(self.waiters):
            if not waiter.done():
                waiter.set_exception(with_subject(make_error(), self.subject(place)))

    def subject(self, place: int) -> str:
        """What the caller at this place among the waiters has asked for, for the message of its error."""
        raise AssertionError("overridden by every kind of message that has callers")


class SingleCall(Message):
    """A call that travels alone."""

    def __init__(self, call: Call[Any], timeout: float | None, waiter: Waiter) -> None:
        self.waiters = [waiter]
        self.timeout = timeout
        self.call: Final = call
        self._params: Final = call.params if call.hold is None else (call.hold.number, *call.params)
        self.repeatable = call.repeatable
        self.parks = call.parks
        self.persistent = call.persistent
        self.reply_bytes = call.reply_bytes
        self.answer_s = call.answer_s

    def encode(self, msgid: int) -> bytes:
        if self.waiters[0].done() and not self.persistent:
            self.settled = True
            return b""
        return encode_request(msgid, self.call.method, self._params)

    def subject(self, place: int) -> str:
        return str(self.call)

    def resolve(self, result: Any) -> Delivery | None:
        waiter = self.waiters[0]
        taken = not (self.settled or waiter.done())
        if not (taken or self.call.holds):
            self.settled = True
            return None
        converted = self.call.convert(result)
        self.settled = True
        if self.call.holds and converted.hold is not None:
            return Delivery(converted.hold, taken, partial(waiter.set_result, converted) if taken else None)
        if taken:
            waiter.set_result(converted)
        return None


class CancelWait(Message):
    """Ends the wait of `target`, whose callers have gone."""

    persistent = True

    def __init__(self, target: Message) -> None:
        self.waiters = []
        self.timeout = None
        self._target: Final = target
        self.reply_bytes = SMALL_REPLY_BYTES

    def encode(self, msgid: int) -> bytes:
        if self._target.msgid < 0:  # it was answered meanwhile, or the server has never accepted it
            self.settled = True
            return b""
        return encode_request(msgid, "cancel", (self._target.msgid,))

    def resolve(self, result: Any) -> None:
        self.settled = True


class AcquireAgain(Message):
    """Asks for `hold` again, which was lost with the session before. `ended` is called when that is decided.

    No caller waits for it, and its place is before the calls of all callers (`sequence` 0).
    """

    repeatable = True
    persistent = True

    def __init__(self, hold: Hold, ended: Callable[[Hold], object]) -> None:
        self.waiters = []
        self.timeout = None
        self.hold: Final = hold
        self._ended: Final = ended
        self._call: Final = acquire_again(hold)
        self.parks = self._call.parks
        self.reply_bytes = self._call.reply_bytes

    def encode(self, msgid: int) -> bytes:
        return b"" if self.settled else encode_request(msgid, self._call.method, self._call.params)

    def resolve(self, result: Any) -> Delivery | None:
        acquired = self._call.convert(result)
        if self.settled:  # it was released meanwhile
            return None if acquired.hold is None else Delivery(acquired.hold, taken=False)
        if acquired.hold is None:
            self._end(lost=True)
            return None
        self._end(lost=False)
        self.hold.renew(acquired.hold.number)
        return Delivery(self.hold, taken=True)

    def abandoned(self) -> bool:
        return self.settled

    def fail(self, make_error: Callable[[], BaseException]) -> None:
        if not self.settled:
            self._end(lost=True)

    def drop(self) -> None:
        """The hold is being released, or is lost anyway: nobody wants it any more."""
        self._end(lost=False)

    def _end(self, *, lost: bool) -> None:
        self.settled = True
        self._ended(self.hold)
        if lost:
            self.hold.lose()


class JoinedChanges(Message):
    """Increments and decrements of one turn, in call order.

    `ClientSession.change` appends to the three lists directly: a method here would cost a frame per call.
    """

    def __init__(self, ttl_ms: int | None, timeout: float | None) -> None:
        self.waiters = []
        self.timeout = timeout
        self.ttl_ms: Final = ttl_ms
        # Parallel to `waiters`, one entry per call. Two lists, because `apply` sends keys and deltas as two arrays.
        self.keys: list[bytes] = []
        self.deltas: list[int] = []

    def encode(self, msgid: int) -> bytes:
        waiters = self.waiters
        if waiters[0].done() if len(waiters) == 1 else any(map(_is_done, waiters)):
            self._drop_cancelled()
        deltas = self.deltas
        count = len(deltas)
        self.reply_bytes = count * ITEM_ERROR_BYTES
        if count == 1:
            return self._encode_alone(msgid)
        if not count:
            self.settled = True
            return b""
        first = deltas[0]
        amounts = first if deltas.count(first) == count else deltas
        params = (self.keys, amounts) if self.ttl_ms is None else (self.keys, amounts, self.ttl_ms)
        return encode_request(msgid, "apply", params)

    def _drop_cancelled(self) -> None:
        kept = [place for place, waiter in enumerate(self.waiters) if not waiter.done()]
        self.keys = [self.keys[place] for place in kept]
        self.deltas = [self.deltas[place] for place in kept]
        self.waiters = [self.waiters[place] for place in kept]

    def _encode_alone(self, msgid: int) -> bytes:
        key, delta = self.keys[0], self.deltas[0]
        if delta < 0:
            return encode_request(msgid, "decr", (key,) if delta == -1 else (key, -delta))
        if self.ttl_ms is not None:
            return encode_request(msgid, "incr", (key, delta, self.ttl_ms))
        return encode_request(msgid, "incr", (key,) if delta == 1 else (key, delta))

    def subject(self, place: int) -> str:
        return describe("incr" if self.deltas[place] > 0 else "decr", self.keys[place : place + 1])

    def resolve(self, result: Any) -> None:
        if self.settled:
            return
        waiters = self.waiters
        # A lone call skips the loop below.
        if len(waiters) == 1 and result.__class__ is int and not waiters[0].done():
            waiters[0].set_result(result)
            self.settled = True
            return
        values = [result] if len(waiters) == 1 else result
        if values.__class__ is not list or len(values) != len(waiters):
            raise ProtocolError(f"{len(waiters)} values were expected, not {values!r:.80}")
        for waiter, value in zip(waiters, values, strict=True):
            if value.__class__ is int:
                # Checking `waiter.done()` first costs 25 ns a call, of 1 750.
                try:
                    waiter.set_result(value)
                except Exception:
                    if not waiter.done():
                        raise
            else:
                error = item_error(value)
                if not waiter.done():
                    waiter.set_exception(with_subject(error, self.subject(waiters.index(waiter))))
        self.settled = True
