"""What travels under one msgid: a call, changes that travel together, or what the session itself has to say. Sans-IO.

A message knows who waits for it and how its reply is read; when it is sent, and what becomes of it when a connection
breaks, is the session's affair (`session.py`).

A call comes with a *waiter*, on which its result is set: anything with the three methods of `Waiter`, as
`asyncio.Future` and `concurrent.futures.Future` have them. A waiter that is done already (its caller gave up) is left
alone.

**Joining.** Consecutive `incr`/`decr` of a turn with equal time to live and timeout become one `apply`: each item of
an `apply` stands alone, so it means what the calls mean one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any, Final, NamedTuple, Protocol

from naught.core.calls import SMALL_REPLY_BYTES, Call, item_error
from naught.core.holds import Hold
from naught.errors import ProtocolError
from naught.wire.codec import encode_request
from naught.wire.limits import BATCH_ITEMS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, REPLY_BYTES_MAX

JOINED_ITEMS_MAX: Final = 1_000
"""Calls in one joined message: what a server does for one peer in a turn. More would gain nothing (2 % from 100 items
to 1 000), and no key is so long that a thousand of them pass the limit of a message: nothing counts bytes."""

ITEM_ERROR_BYTES: Final = 200
"""A failed item of a joined message takes less than this in the reply."""

assert JOINED_ITEMS_MAX <= BATCH_ITEMS_MAX
assert JOINED_ITEMS_MAX * (KEY_BYTES_MAX + 3 + 9) + 64 < MESSAGE_BYTES_MAX
assert JOINED_ITEMS_MAX * ITEM_ERROR_BYTES < REPLY_BYTES_MAX, "all items may fail and the reply still fits"


class Waiter(Protocol):
    """Where the result of a call goes."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


class Nobody:
    """Waits for what the session asks on its own account."""

    def done(self) -> bool:
        return True

    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


_is_done: Callable[[Waiter], bool] = methodcaller("done")


class Delivery(NamedTuple):
    """What became of a hold that a reply brought."""

    hold: Hold
    taken: bool  # somebody waited for it; if not, it goes back


class Message:
    """What is sent under one msgid: a call, or changes that travel together."""

    waiters: list[Waiter]  # who waits for it, those who gave up included
    timeout: float | None  # seconds from the end of its turn, None for no limit

    # What nearly every message is when it is made, said once for all.
    repeatable = False  # may be asked again of a server that does not know whether it was asked before
    parks = False  # the server may let it wait, so it counts apart and others do not wait for it
    persistent = False  # sent even when nobody waits for the answer any more: it gives something back
    reply_bytes = 0  # what its reply may have; known once it is encoded
    msgid = -1  # while it is in flight
    number = 0  # place in the session's stream of requests, while it is in flight
    deadline: float | None = None  # in the adapter's time; known once its turn has ended
    sequence = 0  # place in the order of calls; known once its turn has ended
    sent = False  # on the connection there is
    settled = False  # nobody waits for anything from it any more

    def encode(self, msgid: int) -> bytes:
        """Its bytes; none when all its callers have gone, and then it is settled."""
        raise AssertionError("a kind of message says so")

    def resolve(self, result: Any) -> Delivery | None:
        """Give the result to who waits, and say what became of the hold it brought, if it could bring one.

        Raises ProtocolError for what cannot be its result.
        """
        raise AssertionError("a kind of message says so")

    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.settled or all(map(_is_done, self.waiters))

    def fail(self, make_error: Callable[[], BaseException]) -> None:
        """Raise in every caller that still waits: an exception each, as each gets a traceback of its own."""
        self.settled = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(make_error())


class SingleCall(Message):
    """A call that travels alone."""

    def __init__(self, call: Call[Any], timeout: float | None, waiter: Waiter) -> None:
        self.waiters = [waiter]
        self.timeout = timeout
        self.call: Final = call
        self.repeatable = call.repeatable
        self.parks = call.parks
        self.persistent = call.persistent
        self.reply_bytes = call.reply_bytes

    def encode(self, msgid: int) -> bytes:
        if self.waiters[0].done() and not self.persistent:
            self.settled = True
            return b""
        return encode_request(msgid, self.call.method, self.call.params)

    def resolve(self, result: Any) -> Delivery | None:
        waiter = self.waiters[0]
        taken = not (self.settled or waiter.done())
        if not (taken or self.call.holds):
            self.settled = True
            return None
        converted = self.call.convert(result)
        self.settled = True
        if taken:
            waiter.set_result(converted)
        if not self.call.holds or converted.hold is None:
            return None
        return Delivery(converted.hold, taken)


class CancelWait(Message):
    """Ends the wait of a message whose callers have gone."""

    persistent = True

    def __init__(self, target: Message) -> None:
        self.waiters = []
        self.timeout = None
        self._target: Final = target
        self.reply_bytes = SMALL_REPLY_BYTES

    def encode(self, msgid: int) -> bytes:
        if self._target.msgid < 0:  # answered meanwhile, or it never reached the server
            self.settled = True
            return b""
        return encode_request(msgid, "cancel", (self._target.msgid,))

    def resolve(self, result: Any) -> None:
        self.settled = True


class JoinedChanges(Message):
    """Increments and decrements of one turn, in call order."""

    def __init__(self, ttl_ms: int | None, timeout: float | None) -> None:
        self.waiters = []
        self.timeout = timeout
        self.ttl_ms: Final = ttl_ms
        # Beside `waiters`, item by item: keys and deltas travel as they are.
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

    def resolve(self, result: Any) -> None:
        if self.settled:
            return
        waiters = self.waiters
        if (
            len(waiters) == 1 and result.__class__ is int and not waiters[0].done()
        ):  # a lone call spares itself the rest
            waiters[0].set_result(result)
            self.settled = True
            return
        values = [result] if len(waiters) == 1 else result
        if values.__class__ is not list or len(values) != len(waiters):
            raise ProtocolError(f"{len(waiters)} values were expected, not {values!r:.80}")
        for waiter, value in zip(waiters, values, strict=True):
            if value.__class__ is int:
                # Asking first whether its caller gave up costs 25 ns a call, of 1 750.
                try:
                    waiter.set_result(value)
                except Exception:
                    if not waiter.done():
                        raise
            else:
                error = item_error(value)
                if not waiter.done():
                    waiter.set_exception(error)
        self.settled = True
