"""The client's half of a conversation, sans-IO: calls and bytes go in, bytes and settled calls come out.

An adapter (`link.py` for asyncio) owns the socket, the clock and the timer, and drives this:

    session.change(...), session.ask(...)        calls of one turn of its loop; the first of a turn calls `wake`
    session.end_turn(now)                        the turn is over: what joined it belongs together, deadlines start
    session.output(now) -> bytes                 what to write, if the transport takes it; "" when nothing may go
    session.connected(greeted) -> bytes          a new connection, and what to write on it first
    session.receive(data)                        what was read; ProtocolError: drop the connection
    session.disconnected(error)                  the connection is gone
    session.next_due(), session.advance(now)     deadlines

A call comes with a *waiter*, on which its result is set: anything with the three methods of `Waiter`, as
`asyncio.Future` and `concurrent.futures.Future` have them. A waiter that is done already (its caller gave up) is left
alone.

**Joining.** Consecutive `incr`/`decr` of a turn with equal time to live and timeout become one `apply`: each item of
an `apply` stands alone, so it means what the calls mean one by one. Every call and every join is a *message*;
messages keep the order of the calls.

**Life of a message**: fresh (its turn goes on) -> queued -> in flight (encoded under a msgid) -> settled. A message
whose deadline passes in flight is settled for its callers, but keeps its msgid until its reply came or the connection
is gone: a reply can only ever meet the message it answers.

**A connection breaks.** Queued messages stay queued, for their bytes never left. Of those in flight, what changes
nothing is queued again, in front and in order; changes fail with `OutcomeUnknown`. A `shutting_down` reply says that
the request was not executed: it is queued again too, and nothing more is sent on that connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from heapq import heapify, heappop, heappush
from operator import methodcaller
from random import Random
from typing import Any, Final, Protocol

from naught.calls import Call, check_timeout, check_ttl, item_error, text
from naught.errors import (
    Busy,
    CallTimeout,
    ClientClosed,
    CommandError,
    NaughtError,
    OutcomeUnknown,
    ProtocolError,
    ShuttingDown,
    error_from_wire,
)
from naught.wire import (
    BATCH_ITEMS_MAX,
    KEY_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    REPLY,
    REPLY_BYTES_MAX,
    encode_request,
    reply_unpacker,
)

JOINED_ITEMS_MAX: Final = 1_000
"""Calls in one joined message: what a server does for one peer in a turn. More would gain nothing (2 % from 100 items
to 1 000), and no key is so long that a thousand of them pass the limit of a message: nothing counts bytes."""

UNANSWERED_MAX: Final = 1_024
"""Messages in flight. What a server keeps for one client, and with joining enough for a million calls."""

OUTPUT_BYTES_MAX: Final = 256 << 10
"""About what one `output` gives; the transport is asked between two whether it wants more."""

QUEUED_MAX: Final = 1 << 18
"""Messages waiting to be sent, joined ones counted once. Callers wait for their calls, so their number is the real
bound; this one ends a loop that never awaits before it ends the process."""

_HELLO_MSGID: Final = 0

ITEM_ERROR_BYTES: Final = 200
"""A failed item of a joined message takes less than this in the reply."""

assert JOINED_ITEMS_MAX <= BATCH_ITEMS_MAX
assert JOINED_ITEMS_MAX * (KEY_BYTES_MAX + 3 + 9) + 64 < MESSAGE_BYTES_MAX
assert JOINED_ITEMS_MAX * ITEM_ERROR_BYTES < REPLY_BYTES_MAX, "all items may fail and the reply still fits"
assert UNANSWERED_MAX < 1 << 14, "servers may keep small msgids encoded"


class Waiter(Protocol):
    """Where the result of a call goes."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


_is_done: Callable[[Waiter], bool] = methodcaller("done")


class Backoff:
    """How long to wait before the next attempt to connect: exponential with full jitter.

    Full jitter, a uniform draw from zero to the bound, spreads a thousand clients of a restarted server best; the
    bound doubles with every attempt that failed.
    """

    BASE: Final = 0.02
    """Seconds. A restarted process is back in tenths of a second."""

    BOUND_MAX: Final = 1.0
    """Seconds. The default deadline of a call: a longer pause would outlive every call that waits for it."""

    def __init__(self, random: Random | None = None) -> None:
        self._random = random if random is not None else Random()
        self._failures = 0  # attempts since a server last did something for us

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt, which is expected to fail until `reset`."""
        bound = min(self.BOUND_MAX, self.BASE * 2 ** min(self._failures, 16))
        self._failures += 1
        return self._random.uniform(0.0, bound)

    def reset(self) -> None:
        """A server answered."""
        self._failures = 0


# -------------------------------------------------------------------------------------------------- messages


class _Message:
    """What is sent under one msgid: a call, or changes that travel together."""

    __slots__ = ("deadline", "repeatable", "sent", "sequence", "settled", "timeout", "waiters")

    def __init__(self, timeout: float | None, waiters: list[Waiter], *, repeatable: bool) -> None:
        self.waiters = waiters  # who waits for it, those who gave up included
        self.timeout = timeout  # seconds from the end of its turn, None for no limit
        self.repeatable = repeatable  # it changes nothing, so it may be sent again
        self.deadline: float | None = None  # in the adapter's time; known once its turn has ended
        self.sequence = 0  # place in the order of calls; known once its turn has ended
        self.sent = False  # on the connection there is
        self.settled = False  # nobody waits for anything from it any more

    def encode(self, msgid: int) -> bytes:
        """Its bytes; none when all its callers have gone, and then it is settled."""
        raise NotImplementedError

    def resolve(self, result: Any) -> None:
        """Give the result to who waits. Raises ProtocolError for what cannot be its result."""
        raise NotImplementedError

    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.settled or all(map(_is_done, self.waiters))

    def fail(self, make_error: Callable[[], BaseException]) -> None:
        """Raise in every caller that still waits: an exception each, as each gets a traceback of its own."""
        self.settled = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(make_error())


class SingleCall(_Message):
    """A call that travels alone."""

    __slots__ = ("call",)

    def __init__(self, call: Call[Any], timeout: float | None, waiter: Waiter) -> None:
        super().__init__(timeout, [waiter], repeatable=call.repeatable)
        self.call: Final = call

    def encode(self, msgid: int) -> bytes:
        if self.waiters[0].done():
            self.settled = True
            return b""
        return encode_request(msgid, self.call.method, self.call.params)

    def resolve(self, result: Any) -> None:
        waiter = self.waiters[0]
        if self.settled or waiter.done():
            self.settled = True
            return
        converted = self.call.convert(result)
        self.settled = True
        waiter.set_result(converted)


class JoinedChanges(_Message):
    """Increments and decrements of one turn, in call order."""

    __slots__ = ("deltas", "keys", "ttl_ms")

    def __init__(self, ttl_ms: int | None, timeout: float | None) -> None:
        super().__init__(timeout, [], repeatable=False)
        self.ttl_ms: Final = ttl_ms
        # Beside `waiters`, item by item: keys and deltas travel as they are.
        self.keys: list[bytes] = []
        self.deltas: list[int] = []

    def encode(self, msgid: int) -> bytes:
        if any(map(_is_done, self.waiters)):
            self._drop_cancelled()
        deltas = self.deltas
        count = len(deltas)
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


def is_refusal(error: BaseException) -> bool:
    """Whether a failed attempt to connect is the server's last word (it knows no such cache), not a matter of
    time."""
    return isinstance(error, CommandError) and not isinstance(error, Busy | ConnectionError | TimeoutError)


def _refusal(error: BaseException) -> BaseException:
    assert isinstance(error, CommandError)
    return _caused(error_from_wire(error.code, str(error)), error)


def _caused(error: NaughtError, cause: BaseException | None) -> NaughtError:
    error.__cause__ = cause
    return error


# --------------------------------------------------------------------------------------------------- session


class _State(Enum):
    OFFLINE = "no connection"
    GREETING = "connected, hello not answered"
    READY = "requests may be sent"
    DRAINING = "the server is shutting down; replies may still come, nothing is sent"
    CLOSED = "for good"


class ClientSession:
    """See the module. Not safe between threads.

    `cache` is asked for by `hello`; None leaves it to the server. `wake` is called when
    the first call of a turn has come: the adapter answers by calling `end_turn` and `output` soon.
    """

    def __init__(self, *, cache: str | None, wake: Callable[[], None]) -> None:
        self._cache: Final = cache
        self._wake: Final = wake
        self._state = _State.OFFLINE
        self._woken = False  # wake was called in this turn
        self._joining: JoinedChanges | None = None  # the last message of this turn, if a change may join it
        self._fresh: list[_Message] = []  # messages of this turn, in call order
        self._queue: deque[_Message] = deque()  # of earlier turns, not sent; settled ones are skipped when met
        self._prune_at = UNANSWERED_MAX  # length of the queue at which abandoned messages are looked for
        self._in_flight: dict[int, _Message] = {}  # by msgid, in the order sent; abandoned ones too
        self._returned: list[_Message] = []  # answered `shutting_down`: for the next connection
        self._sequence = 0  # messages of ended turns, since ever
        # Free msgids below _msgid_next. Lately used ones first, so ids stay small: short on the wire, and
        # within what a server keeps encoded.
        self._msgids: list[int] = []
        self._msgid_next = 0
        # (deadline, sequence, message), a heap. Settled ones leave when they come to the top, or when they have
        # become the larger part.
        self._deadlines: list[tuple[float, int, _Message]] = []
        self._unpacker: Any = None  # of the connection there is; one that has raised is never fed again
        self._greeted: Waiter | None = None  # who waits for this connection to become usable
        self._fault: BaseException | None = None  # why there is no connection
        self.served = False
        """Whether the server has done something on this connection: backing off may start anew when it ends."""

    # Calls.

    def change(self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Waiter) -> None:
        """Add `delta`, below 0 to take away. The caller has checked key and delta; they are not looked at again.

        Raises InvalidRequest for a bad time to live or timeout, ClientClosed, and Busy beyond QUEUED_MAX.
        """
        joined = self._joining
        if (
            joined is None
            # Nearly always the very same objects; with these comparisons alone a call costs 40 ns more.
            or (ttl_ms is not joined.ttl_ms and ttl_ms != joined.ttl_ms)
            or (timeout is not joined.timeout and timeout != joined.timeout)
            or len(joined.deltas) >= JOINED_ITEMS_MAX
        ):
            joined = JoinedChanges(check_ttl(ttl_ms), check_timeout(timeout))
            self._add(joined)
            self._joining = joined
        joined.keys.append(key)
        joined.deltas.append(delta)
        joined.waiters.append(waiter)

    def ask(self, call: Call[Any], timeout: float | None, waiter: Waiter) -> None:
        """Any other call. Raises as `change` does."""
        self._add(SingleCall(call, check_timeout(timeout), waiter))
        self._joining = None

    def _add(self, message: _Message) -> None:
        if self._state is _State.CLOSED:
            raise ClientClosed("the client is closed")
        if len(self._queue) + len(self._fresh) >= QUEUED_MAX:
            raise Busy(f"{QUEUED_MAX} messages of this client wait to be sent already")
        self._fresh.append(message)
        if not self._woken:
            self._woken = True
            self._wake()

    def end_turn(self, now: float) -> None:
        """The turn is over: no call joins what it has made, and its deadlines run from `now`, in seconds."""
        self._woken = False
        self._joining = None
        for message in self._fresh:
            self._sequence += 1
            message.sequence = self._sequence
            if message.timeout is not None:
                message.deadline = now + message.timeout
                heappush(self._deadlines, (message.deadline, self._sequence, message))
        self._queue.extend(self._fresh)
        self._fresh.clear()
        if len(self._queue) > self._prune_at or len(self._deadlines) > 4 * UNANSWERED_MAX:
            self._prune()

    def _prune(self) -> None:
        """Forget what nobody waits for. Each look doubles the distance to the next, so it costs O(1) a message."""
        if len(self._queue) > self._prune_at:
            self._queue = deque(message for message in self._queue if not message.abandoned())
            self._prune_at = max(UNANSWERED_MAX, 2 * len(self._queue))
        if len(self._deadlines) > 2 * (len(self._queue) + len(self._in_flight)):
            self._deadlines = [entry for entry in self._deadlines if not entry[2].settled]
            heapify(self._deadlines)

    # Bytes.

    @property
    def has_output(self) -> bool:
        """Whether `output` may have something to give."""
        return bool(self._queue) and self._state is _State.READY and len(self._in_flight) < UNANSWERED_MAX

    def output(self, now: float) -> bytes:
        """The next messages, encoded, about OUTPUT_BYTES_MAX of them; the caller writes them all.

        From here on they count as sent. A message whose time has run out is not sent.
        """
        parts: list[bytes] = []
        size = 0
        queue = self._queue
        while self.has_output and size < OUTPUT_BYTES_MAX:
            message = queue.popleft()
            if message.settled:
                continue
            if message.deadline is not None and message.deadline <= now:
                self._time_out(message)
                continue
            msgids = self._msgids
            msgid = msgids[-1] if msgids else self._msgid_next
            data = message.encode(msgid)
            if not data:
                continue
            if msgids:
                msgids.pop()
            else:
                self._msgid_next += 1
            message.sent = True
            self._in_flight[msgid] = message
            parts.append(data)
            size += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def receive(self, data: bytes) -> None:
        """Settle what `data` answers.

        Raises ProtocolError when it is no reply to anything; what came before it is settled. The connection is of no
        use then: drop it and call `disconnected` with the error.
        """
        unpacker = self._unpacker
        in_flight = self._in_flight
        try:
            unpacker.feed(data)
            for reply in unpacker:
                if reply.__class__ is not list or len(reply) != 4 or reply[0] != REPLY:
                    self._receive_other(reply)
                    continue
                _, msgid, error, result = reply
                message = in_flight.get(msgid) if msgid.__class__ is int else None
                if message is None:
                    self._receive_greeting(msgid, error, result)
                else:
                    self._receive_reply(message, error, result)
                    del in_flight[msgid]
                    self._msgids.append(msgid)
        except NaughtError:
            raise
        except Exception as error:  # whatever msgpack makes of bytes that are none of its own
            raise ProtocolError("the server sent what is no reply of MessagePack-RPC") from error

    def _receive_reply(self, message: _Message, error: Any, result: Any) -> None:
        try:
            if error is None:
                message.resolve(result)
                self.served = True
                return
            failure = item_error(error)
        except ProtocolError as fault:
            # A change stays in doubt and becomes OutcomeUnknown. A read would only be answered the same again.
            if message.repeatable:
                message.fail(partial(ProtocolError, *fault.args))
            raise
        if not isinstance(failure, ShuttingDown):
            self.served = True
            message.fail(lambda: error_from_wire(failure.code, str(failure)))
            return
        self._state = _State.DRAINING
        self._fault = failure
        if not message.settled:
            self._returned.append(message)

    def _receive_greeting(self, msgid: Any, error: Any, result: Any) -> None:
        """A reply that no message in flight awaits: the answer to `hello`, or none at all."""
        if self._state is not _State.GREETING or msgid != _HELLO_MSGID:
            raise ProtocolError(f"a reply to {msgid!r:.20}, which asks nothing")
        if error is not None:
            raise item_error(error)
        if result.__class__ is not dict:
            raise ProtocolError("what answered is no naught server")
        self._state = _State.READY
        self._fault = None
        self._msgids.append(_HELLO_MSGID)
        greeted, self._greeted = self._greeted, None
        if greeted is not None and not greeted.done():
            greeted.set_result(None)

    def _receive_other(self, message: Any) -> None:
        """Servers may notify of what this version does not know; anything else ends the connection."""
        if message.__class__ is not list or len(message) != 3 or message[0] != 2:
            raise ProtocolError(f"a reply was expected, not {text(message)!r:.80}")

    # The connection.

    def connected(self, greeted: Waiter) -> bytes:
        """There is a new connection: write what this returns.

        `greeted` gets None once calls can be sent on it, else why not: the server's own CommandError, or what
        `disconnected` was given. It costs a round trip before the first call: a server that is full closes what it
        has accepted, other servers answer something else, and behind a `hello` for an unknown cache the calls would
        change another one.
        """
        self._unpacker = reply_unpacker()
        self._state = _State.GREETING
        self._greeted = greeted
        self._msgids.clear()
        self._msgid_next = _HELLO_MSGID + 1
        self.served = False
        return encode_request(_HELLO_MSGID, "hello", () if self._cache is None else ({"cache": self._cache},))

    def disconnected(self, error: BaseException) -> None:
        """The connection is gone; `error` says why and becomes the cause of what fails for it."""
        if self._state is _State.CLOSED:
            return
        self._state = _State.OFFLINE
        self._fault = error
        self._unpacker = None
        again = self._returned
        for message in self._in_flight.values():
            if message.settled:
                continue
            if message.repeatable:
                again.append(message)
            else:
                message.fail(
                    lambda: _caused(
                        OutcomeUnknown("the connection broke before the reply came; it may have happened"), error
                    )
                )
        self._in_flight.clear()
        self._returned = []
        again.sort(key=lambda message: message.sequence)
        for message in again:
            message.sent = False
        self._queue.extendleft(reversed(again))
        greeted, self._greeted = self._greeted, None
        if greeted is not None and not greeted.done():
            greeted.set_exception(error)

    @property
    def finished(self) -> bool:
        """Whether this connection should be closed: the server shuts down and owes no answer anybody waits for."""
        return self._state is _State.DRAINING and all(message.abandoned() for message in self._in_flight.values())

    def unreachable(self, error: BaseException) -> None:
        """An attempt to connect has failed. What waits goes on waiting, unless the server has refused: then it fails
        as refused, and a later attempt may find the server changed."""
        self._fault = error
        if not is_refusal(error):
            return
        for message in self._queue:
            if not message.settled:
                message.fail(lambda: _refusal(error))
        self._queue.clear()

    def close(self) -> None:
        """For good: every call that has not ended raises ClientClosed, and so does every later one."""
        self._state = _State.CLOSED
        self._joining = None
        pending: Iterable[_Message] = (
            *self._in_flight.values(),
            *self._returned,
            *self._queue,
            *self._fresh,
        )
        for message in pending:
            if not message.settled:
                message.fail(lambda: ClientClosed("the client was closed before the call ended"))
        self._in_flight.clear()
        self._returned.clear()
        self._queue.clear()
        self._fresh.clear()
        self._deadlines.clear()
        self._unpacker = None
        self._greeted = None

    # Time.

    def next_due(self) -> float | None:
        """When to call `advance` next, in the time given to `end_turn`; None while no call has a deadline."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].settled:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def advance(self, now: float) -> None:
        """Raise CallTimeout in the callers whose deadline is `now` or earlier."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            message = heappop(deadlines)[2]
            if not message.settled:
                self._time_out(message)

    def _time_out(self, message: _Message) -> None:
        fault = self._fault
        if message.sent:
            what = f"no answer within {message.timeout:g} s"
        elif self._state in (_State.OFFLINE, _State.DRAINING):
            what = f"not sent within {message.timeout:g} s: {fault or 'not connected'}"
        else:
            what = f"not sent within {message.timeout:g} s: earlier calls are unanswered"
        message.fail(lambda: _caused(CallTimeout(what), fault))
