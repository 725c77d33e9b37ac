"""The client's half of a session, sans-IO: calls and bytes go in, bytes and settled calls come out.

An adapter (`link.py` for asyncio) owns the socket, the clock and the timer, and drives this:

    session.change(...), session.ask(...)        calls of one turn of its loop; the first of a turn calls `wake`
    session.change_alone(...) -> bytes           a call that is a turn of its own, where nothing else goes on
    session.end_turn(now)                        the turn is over: what joined it belongs together, deadlines start
    session.output(now) -> bytes                 what to write, if the transport takes it; "" when nothing may go
    session.connected(greeted) -> bytes          a new connection, and what to write on it first
    session.receive(data)                        what was read; ProtocolError: drop the connection
    session.disconnected(error, now)             the connection is gone
    session.next_due(), session.advance(now)     deadlines; or, for who has no timer,
    session.tidy() -> bool                       forget those that are over; whether there is something to write

Every call, and every join of calls, is a *message* (`messages.py`); messages keep the order of the calls.

**Life of a message**: fresh (its turn goes on) -> queued -> in flight (encoded under a msgid) -> settled. A message
whose deadline passes in flight is settled for its callers, but keeps its msgid until its reply came or the session
is gone: a reply can only ever meet the message it answers.

**A connection breaks.** The session goes on with the next one (PROTOCOL.md, section 6): both sides count requests and
replies, so the server says what it has accepted, and sends again what was not received. What it had not
accepted is queued again, in front and in order, unless its caller has gone. The caller sees a delay.

**The session is lost** when the server no longer knows it, or, for a client that asked for none, with the
connection. Queued messages stay queued, for their bytes never left. Of those in flight, what changes nothing is
queued again; changes fail with `OutcomeUnknown`; and every hold is lost. A `shutting_down` reply says that the
request was not executed: it is queued again too, and nothing more is sent on that connection.

**Windows** (`windows.py`) bound what is in flight, so a server that keeps the replies never has to refuse one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any, Final

from naught.core import calls
from naught.core.calls import Call, check_timeout, check_ttl, item_error, text
from naught.core.holds import Hold
from naught.core.messages import JOINED_ITEMS_MAX, CancelWait, JoinedChanges, Message, Nobody, SingleCall, Waiter
from naught.core.windows import HELLO_MSGID, Windows
from naught.errors import (
    Busy,
    CallTimeout,
    ClientClosed,
    NaughtError,
    NotHeld,
    OutcomeUnknown,
    ProtocolError,
    ShuttingDown,
    caused,
    error_from_wire,
    is_refusal,
    refused,
)
from naught.wire.codec import REPLY, encode_notification, encode_request, reply_unpacker
from naught.wire.limits import SESSION_ID_BYTES, UNACKNOWLEDGED_MAX

OUTPUT_BYTES_MAX: Final = 256 << 10
"""About what one `output` gives; the transport is asked between two whether it wants more."""

QUEUED_MAX: Final = 1 << 18
"""Messages waiting to be sent, joined ones counted once. Callers wait for their calls, so their number is the real
bound; this one ends a loop that never awaits before it ends the process."""

Change = tuple[bytes, int, int | None, float | None]
"""Key, delta, time to live, timeout: the arguments of `ClientSession.change` but for the waiter."""

# --------------------------------------------------------------------------------------------------- session


class _State(Enum):
    OFFLINE = "no connection"
    GREETING = "connected, hello not answered"
    READY = "requests may be sent"
    DRAINING = "the server is shutting down; replies may still come, nothing is sent"
    CLOSED = "for good"


class ClientSession:
    """See the module. Not safe between threads.

    `cache` is asked for by `hello`; None leaves it to the server. `resumable`: have a session at the server that
    outlives a connection, for `lease_ms`, or as long as the server does unless told. `wake` is called when the first
    call of a turn has come: the adapter answers by calling `end_turn` and `output` soon.
    """

    def __init__(
        self,
        *,
        cache: str | None,
        wake: Callable[[], None],
        resumable: bool = False,
        lease_ms: int | None = None,
    ) -> None:
        self._cache: Final = cache
        self._wake: Final = wake
        self._resumable: Final = resumable
        self._lease_ms: Final = lease_ms  # what is asked for
        self._state = _State.OFFLINE
        self._woken = False  # wake was called in this turn
        self._joining: JoinedChanges | None = None  # the last message of this turn, if a change may join it
        self._fresh: list[Message] = []  # messages of this turn, in call order
        self._queue: deque[Message] = deque()  # of earlier turns, not sent; settled ones are skipped when met
        self._set_aside: deque[Message] = deque()  # from the queue: they would wait at the server, where too many do
        self._urgent: deque[Message] = deque()  # what the session sends on its own account; passes every window
        self._prune_at = UNACKNOWLEDGED_MAX  # length of the queue at which abandoned messages are looked for
        self._windows: Final = Windows()
        self._returned: list[Message] = []  # answered `shutting_down`: for the next connection
        self._sequence = 0  # messages of ended turns, since ever
        # (deadline, sequence, message), a heap. Settled ones leave when they come to the top, or when they have
        # become the larger part.
        self._deadlines: list[tuple[float, int, Message]] = []
        self._unpacker: Any = None  # of the connection there is; one that has raised is never fed again
        self._greeting = b""  # to be written before anything else
        self._greeted: Waiter | None = None  # who waits for this connection to become usable
        self._fault: BaseException | None = None  # why there is no connection
        self._closed_why = "the client is closed"
        # The session at the server, whose streams both sides count.
        self._id: bytes | None = None  # None while there is none
        self._lease: float = 0.0  # seconds it outlives a connection
        self._known = 0  # replies that come again and are here already
        self._holds: dict[int, Hold] = {}  # what is held, by number
        self._stale: list[int] = []  # given up as lost, and to be given back should the session be found alive
        self._lost_at: float | None = None  # when the connection broke, while there is none
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
            joined = JoinedChanges(None if ttl_ms is None else check_ttl(ttl_ms), check_timeout(timeout))
            self._add(joined)
            self._joining = joined
        joined.keys.append(key)
        joined.deltas.append(delta)
        joined.waiters.append(waiter)

    def ask(self, call: Call[Any], timeout: float | None, waiter: Waiter) -> Message:
        """Any other call; what it travels as, for `give_up`. Raises as `change` does."""
        message = SingleCall(call, check_timeout(timeout), waiter)
        self._add(message)
        self._joining = None
        return message

    def give_up(self, message: Message) -> None:
        """Nobody waits for this any more, and its waiter is done: a wait at the server is ended, too."""
        if message.parks and message.msgid >= 0 and self._state is not _State.CLOSED:
            self._send_soon(CancelWait(message))

    def give_back(self, hold: Hold) -> None:
        """Release a hold that nobody has taken."""
        self._holds.pop(hold.number, None)
        if self._state is not _State.CLOSED:
            self._send_soon(SingleCall(calls.release(hold, None), None, Nobody()))

    def forget(self, hold: Hold) -> None:
        """It is being released: from here on it cannot be lost."""
        self._holds.pop(hold.number, None)

    def _send_soon(self, message: Message) -> None:
        self._urgent.append(message)
        self._be_woken()

    def _be_woken(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake()

    def _add(self, message: Message) -> None:
        if self._state is _State.CLOSED:
            raise ClientClosed(self._closed_why)
        if len(self._queue) + len(self._fresh) + len(self._set_aside) >= QUEUED_MAX:
            raise Busy(f"{QUEUED_MAX} messages of this client wait to be sent already")
        self._fresh.append(message)
        if not self._woken:
            self._woken = True
            self._wake()

    def end_turn(self, now: float) -> None:
        """The turn is over: no call joins what it has made, and its deadlines run from `now`, in seconds."""
        self._woken = False
        self._joining = None
        fresh = self._fresh
        if not fresh:
            return
        for message in fresh:
            self._set_deadline(message, now)
        self._queue.extend(fresh)
        fresh.clear()
        if len(self._queue) > self._prune_at or len(self._deadlines) > 4 * UNACKNOWLEDGED_MAX:
            self._prune()

    def _set_deadline(self, message: Message, now: float) -> None:
        """Its turn has ended."""
        self._sequence = message.sequence = self._sequence + 1
        if message.timeout is not None:
            message.deadline = now + message.timeout
            heappush(self._deadlines, (message.deadline, message.sequence, message))

    def _prune(self) -> None:
        """Forget what nobody waits for. Each look doubles the distance to the next, so it costs O(1) a message."""
        if len(self._queue) > self._prune_at:
            self._queue = deque(message for message in self._queue if message.persistent or not message.abandoned())
            self._set_aside = deque(message for message in self._set_aside if not message.abandoned())
            self._prune_at = max(UNACKNOWLEDGED_MAX, 2 * len(self._queue))
        if len(self._deadlines) > 2 * (len(self._queue) + len(self._set_aside) + len(self._windows.in_flight)):
            self._deadlines = [entry for entry in self._deadlines if not entry[2].settled]
            heapify(self._deadlines)

    # Bytes.

    @property
    def ready(self) -> bool:
        """Whether requests may be sent."""
        return self._state is _State.READY

    @property
    def unanswered(self) -> int:
        """Messages in flight, but for those that may wait at the server."""
        return self._windows.unanswered

    def tidy(self) -> bool:
        """Forget the deadlines of what is settled, which else pile up where nobody asks for the next. Whether there
        is something to write: of the turn that goes on, or by `output`."""
        self.next_due()
        return self._woken or self.has_output

    @property
    def can_send(self) -> bool:
        """Whether the windows let something of earlier turns through."""
        if self._state is not _State.READY:
            return False
        queue = self._queue
        windows = self._windows
        return (
            (bool(self._urgent) and windows.may_pass(self._urgent[0]))
            or (bool(queue) and (queue[0].parks or windows.has_room(queue[0])))
            or (bool(self._set_aside) and windows.has_room(self._set_aside[0]))
        )

    @property
    def has_output(self) -> bool:
        """Whether `output` may have something to give."""
        if self._state is not _State.READY:
            return bool(self._greeting)
        if not (self._queue or self._urgent or self._set_aside):  # nearly always
            return self._windows.much_unacknowledged
        return self.can_send or self._acknowledgement_due

    @property
    def _acknowledgement_due(self) -> bool:
        # For the server a wait that is over keeps its place until it is acknowledged, and somebody wants it.
        windows = self._windows
        return windows.much_unacknowledged or (windows.parked_unacknowledged > 0 and bool(self._set_aside))

    def output(self, now: float) -> bytes:
        """The next messages, encoded, about OUTPUT_BYTES_MAX of them; the caller writes them all.

        From here on they count as sent. A message whose time has run out is not sent.
        """
        if self._greeting:
            data, self._greeting = self._greeting, b""
            return data
        if self._state is not _State.READY:
            return b""
        parts: list[bytes] = []
        size = 0
        if self._acknowledgement_due:
            parts.append(self._windows.acknowledge())
        while size < OUTPUT_BYTES_MAX:
            message = self._next_to_send()
            if message is None:
                if not (self._set_aside and self._acknowledgement_due):
                    break
                parts.append(self._windows.acknowledge())  # to make room for what was set aside
                continue
            if not message.persistent:
                if message.settled:
                    continue
                if message.deadline is not None and message.deadline <= now:
                    self._time_out(message)
                    continue
            data = self._windows.launch(message)
            if data:
                parts.append(data)
                size += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def change_alone(self, change: Change, waiter: Waiter, now: float) -> bytes:
        """What `change`, `end_turn` and `output` do for a change with nothing on its way, before it or beside it, in
        one: a lone call of a thread costs a fifth less in all, and 1.08 times as many are made (0.68-1.33, 16
        interleaved rounds). Empty, with nothing done, where something is, or where it may not be sent.

        Raises InvalidRequest for a bad time to live or timeout.
        """
        # Where something is set aside, something is in flight or much is unacknowledged.
        if (
            self._windows.in_flight
            or self._fresh
            or self._queue
            or self._urgent
            or self._windows.much_unacknowledged
            or self._state is not _State.READY
        ):
            return b""
        key, delta, ttl_ms, timeout = change
        message = JoinedChanges(None if ttl_ms is None else check_ttl(ttl_ms), check_timeout(timeout))
        message.keys.append(key)
        message.deltas.append(delta)
        message.waiters.append(waiter)
        if message.timeout is not None and message.timeout <= 0:
            return b""
        data = self._windows.launch(message)
        if data:
            self._set_deadline(message, now)
        return data

    def _next_to_send(self) -> Message | None:
        """The next in turn, if the windows let one through."""
        if self._urgent and self._windows.may_pass(self._urgent[0]):
            return self._urgent.popleft()
        if self._set_aside and self._windows.has_room(self._set_aside[0]):
            return self._set_aside.popleft()
        queue = self._queue
        while queue:
            if self._windows.has_room(queue[0]):
                return queue.popleft()
            if not queue[0].parks:
                break
            self._set_aside.append(queue.popleft())
            if self._acknowledgement_due:
                break
        return None

    def receive(self, data: bytes) -> None:
        """Settle what `data` answers.

        Raises ProtocolError when it is no reply to anything; what came before it is settled. The connection is of no
        use then: drop it and call `disconnected` with the error.
        """
        unpacker = self._unpacker
        windows = self._windows
        in_flight = windows.in_flight
        try:
            unpacker.feed(data)
            for reply in unpacker:
                if reply.__class__ is not list or len(reply) != 4 or reply[0] != REPLY:
                    self._receive_other(reply)
                    continue
                _, msgid, error, result = reply
                if self._known and msgid != HELLO_MSGID:
                    self._known -= 1
                    continue
                message = in_flight.get(msgid) if msgid.__class__ is int else None
                if message is None:
                    self._receive_greeting(msgid, error, result)
                else:
                    windows.land(message, kept=self._id is not None)
                    self._receive_reply(message, error, result)
            if self._id is not None:
                windows.read(len(data))
        except NaughtError:
            raise
        except Exception as error:  # whatever msgpack makes of bytes that are none of its own
            raise ProtocolError("the server sent what is no reply of MessagePack-RPC") from error

    def _receive_reply(self, message: Message, error: Any, result: Any) -> None:
        try:
            if error is None:
                delivery = message.resolve(result)
                self.served = True
                if delivery is None:
                    return
                if delivery.taken:
                    self._holds[delivery.hold.number] = delivery.hold
                else:
                    self.give_back(delivery.hold)
                return
            failure = item_error(error)
        except ProtocolError as fault:
            # It would only be answered the same again.
            if message.repeatable:
                message.fail(partial(ProtocolError, *fault.args))
            else:
                reason = fault
                message.fail(lambda: caused(OutcomeUnknown("the reply made no sense; it may have happened"), reason))
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
        if self._state is not _State.GREETING or msgid != HELLO_MSGID:
            raise ProtocolError(f"a reply to {msgid!r:.20}, which asks nothing")
        if error is not None:
            failure = item_error(error)
            if self._id is None or not is_refusal(failure):
                raise failure
            # The server knows nothing of the session: it is another one by now, or the lease has run out.
            self._lose_session(failure)
            self._greeting = self._hello()
            return
        if result.__class__ is not dict:
            raise ProtocolError("what answered is no naught server")
        if self._id is not None:
            self._resume(result)
        elif self._resumable:
            self._open(result)
        self._requeue(())
        self._lost_at = None
        self._state = _State.READY
        self._fault = None
        greeted, self._greeted = self._greeted, None
        if greeted is not None and not greeted.done():
            greeted.set_result(None)

    def _receive_other(self, message: Any) -> None:
        """Servers may notify of what this version does not know; anything else ends the connection."""
        if message.__class__ is not list or len(message) != 3 or message[0] != 2:
            raise ProtocolError(f"a reply was expected, not {text(message)!r:.80}")

    # The session at the server.

    def _hello(self) -> bytes:
        words: dict[str, Any] = {}
        if self._id is not None:
            words = {"session": self._id, "received": self._windows.received}
        else:
            if self._cache is not None:
                words["cache"] = self._cache
            if self._resumable:
                words["session"] = True
                if self._lease_ms is not None:
                    words["lease_ms"] = self._lease_ms
        return encode_request(HELLO_MSGID, "hello", (words,) if words else ())

    def _open(self, answer: dict[Any, Any]) -> None:
        """The server has opened a session."""
        session_id, lease_ms = answer.get(b"session"), answer.get(b"lease_ms")
        if session_id.__class__ is not bytes or len(session_id) != SESSION_ID_BYTES or lease_ms.__class__ is not int:
            raise ProtocolError("the server opened no session")
        self._id = session_id
        self._lease = lease_ms / 1000
        self._windows.begin()

    def _resume(self, answer: dict[Any, Any]) -> None:
        """The session goes on: what the server has not accepted is to be sent again, in front and in order."""
        accepted, first = answer.get(b"accepted"), answer.get(b"replies_from")
        if accepted.__class__ is not int or first.__class__ is not int:
            raise ProtocolError("the server resumed no session")
        windows = self._windows
        sent, received = windows.sent, windows.received
        if not sent - len(windows.in_flight) <= accepted <= sent or not 1 <= first <= received + 1:
            raise ProtocolError("the server counts otherwise than this client")
        self._known = received + 1 - first
        windows.acknowledge()
        self._requeue(windows.retract(accepted))
        for number in self._stale:
            self._urgent.append(SingleCall(calls.release(number, None), None, Nobody()))
        self._stale.clear()

    def _lose_session(self, error: BaseException) -> None:
        """Whatever was in flight is in doubt, and nothing is held any more."""
        self._id = self._lost_at = None
        self._stale.clear()
        self._urgent.clear()
        self._known = 0
        again: list[Message] = []
        for message in self._windows.lose():
            if message.settled:
                continue
            if message.repeatable:
                again.append(message)
            elif message.persistent:
                message.fail(lambda: caused(NotHeld("the session was lost, and what it held with it"), error))
            else:
                message.fail(
                    lambda: caused(
                        OutcomeUnknown("the connection broke before the reply came; it may have happened"), error
                    )
                )
        self._requeue(again)
        self._lose_holds()

    def _lose_holds(self) -> None:
        holds, self._holds = self._holds, {}
        for hold in holds.values():
            hold.lose()

    def _requeue(self, messages: Iterable[Message]) -> None:
        """Queue these again, and what was answered `shutting_down`: in front and in the order of the calls."""
        again = [*messages, *self._returned]
        self._returned = []
        again.sort(key=lambda message: message.sequence)
        for message in again:
            message.sent = False
        self._queue.extendleft(reversed(again))

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
        self._greeting = b""
        self.served = False
        return self._hello()

    def disconnected(self, error: BaseException, now: float) -> None:
        """The connection is gone; `error` says why and becomes the cause of what fails for it."""
        if self._state is _State.CLOSED:
            return
        self._state = _State.OFFLINE
        self._fault = error
        self._unpacker = None
        self._known = 0
        if self._id is None:
            self._lose_session(error)
        elif self._lost_at is None:
            self._lost_at = now
        greeted, self._greeted = self._greeted, None
        if greeted is not None and not greeted.done():
            greeted.set_exception(error)

    @property
    def finished(self) -> bool:
        """Whether this connection should be closed: the server shuts down and owes no answer anybody waits for."""
        in_flight = self._windows.in_flight
        return self._state is _State.DRAINING and all(message.abandoned() for message in in_flight.values())

    def unreachable(self, error: BaseException) -> None:
        """An attempt to connect has failed. What waits goes on waiting, unless the server has refused: then it fails
        as refused, and a later attempt may find the server changed."""
        self._fault = error
        if not is_refusal(error):
            return
        for message in (*self._queue, *self._set_aside):
            if not message.settled:
                message.fail(lambda: refused(error))
        self._queue.clear()
        self._set_aside.clear()

    def farewell(self) -> bytes:
        """What to write before the connection is closed for good: then the server need not wait for the lease."""
        if self._id is None or self._state not in (_State.READY, _State.DRAINING):
            return b""
        return encode_notification("bye", ())

    def forsake(self, why: str) -> None:
        """It is another process's now. Nobody is told, as whoever waits does so there. Here later calls raise
        ClientClosed, and what it holds counts as lost, as nobody would learn of it if it were."""
        for hold in self._holds.values():
            hold.lost = True
        self._state = _State.CLOSED
        self._closed_why = why
        self._joining = None  # a call of the same turn would join what nobody sends
        self._greeting = b""
        self._greeted = None

    def close(self, make_error: Callable[[], NaughtError] | None = None) -> None:
        """For good: every call that has not ended raises ClientClosed, unless told otherwise, and so does every later
        one."""
        self._state = _State.CLOSED
        self._joining = None
        pending: Iterable[Message] = (
            *self._windows.in_flight.values(),
            *self._returned,
            *self._urgent,
            *self._set_aside,
            *self._queue,
            *self._fresh,
        )
        for message in pending:
            if not message.settled:
                message.fail(make_error or (lambda: ClientClosed("the client was closed before the call ended")))
        self._windows.in_flight.clear()
        self._returned.clear()
        self._urgent.clear()
        self._set_aside.clear()
        self._queue.clear()
        self._fresh.clear()
        self._deadlines.clear()
        self._unpacker = None
        self._greeted = None
        self._id = None
        self._lose_holds()

    # Time.

    def next_due(self) -> float | None:
        """When to call `advance` next, in the time given to `end_turn`; None while nothing has a deadline."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].settled:
            heappop(deadlines)
        due = deadlines[0][0] if deadlines else None
        if self._lost_at is None or not self._holds:
            return due
        lease_ends = self._lost_at + self._lease
        return lease_ends if due is None else min(due, lease_ends)

    def advance(self, now: float) -> None:
        """Raise CallTimeout in the callers whose deadline is `now` or earlier; and give up what may be held no more,
        a lease after the connection was lost."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            message = heappop(deadlines)[2]
            if not message.settled:
                self._time_out(message)
        if self._lost_at is not None and self._holds and now >= self._lost_at + self._lease:
            self._stale.extend(self._holds)
            self._lose_holds()

    def _time_out(self, message: Message) -> None:
        fault = self._fault
        if message.sent:
            what = f"no answer within {message.timeout:g} s"
        elif self._state in (_State.OFFLINE, _State.DRAINING):
            what = f"not sent within {message.timeout:g} s: {fault or 'not connected'}"
        else:
            what = f"not sent within {message.timeout:g} s: earlier calls are unanswered"
        message.fail(lambda: caused(CallTimeout(what), fault))
        self.give_up(message)
