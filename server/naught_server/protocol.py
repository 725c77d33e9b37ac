"""The server's end of one connection: bytes of requests in, bytes of replies out. Sans-IO.

    channel = Channel(engine, wake)
    replies = channel.receive(data, now_ms)      # what arrived; runs one turn
    while channel.wants_turn:                    # more was read than one turn may do: let others go first
        replies += channel.turn(now_ms)
    if channel.backlog: ...                      # read no more before it is worked off
    if channel.closing: ...                      # send the replies, then close
    if channel.aborted: ...                      # another connection has taken the session over: close at once

A turn does about `TURN_ITEMS_MAX` counters' worth of work. Requests are executed in the order they came in; a reply
comes later than that order only for a request that works in slices or waits.

The adapter calls `turn` again when `wants_turn` is set and when `wake` is called: a channel that met a shard held by
somebody else stands in the queue of its lock, and goes on when the lock has come to it; and a request that waited may
have got its answer.

Here is what a connection takes along when it breaks: undecoded input, and the request that waits for a shard. What
outlives it is its `Session` (session.py).

Two loops run requests. `_run` does `incr`, `decr`, `apply` and `get` itself, on the cache's tables, as long as
the cache says that nothing is in the way; at 1 us a request all in all, a call to a handler would be a third of
it. Everything else, and everything while something is in the way, goes through `_serve` and the table in
`commands.py`, which checks all there is to check. A request the fast loop does not like it hands to `_serve`
before it has changed anything, so there is one place that says what was wrong.

Two shorter ways lead past `_run`: a slice of many requests of one kind is a column (column.py), and a chunk that is
one small request needs no turn (lone.py). They give way to `_run` as it does to `_serve`.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from types import GeneratorType
from typing import Any, Final

from naught.errors import Busy, CommandError, InvalidRequest, ShuttingDown, TooLarge, Unavailable, UnknownMethod
from naught.wire.codec import NOTIFICATION, REQUEST, Message, encode, encode_error, encode_result
from naught.wire.limits import DEFAULT_CACHE, KEY_BYTES_MAX, MSGID_MAX, REPLY_BYTES_MAX, VALUE_MAX
from naught_server import column, lone
from naught_server.batch import DIGIT_MAX, PORTION_ITEMS, Batch, apply_plainly
from naught_server.column import COLUMN_MIN
from naught_server.commands import COMMANDS, Command, Params, Slices, shards_of
from naught_server.config import TURN_ITEMS_MAX
from naught_server.decoder import BadInput, Decoder
from naught_server.engine import Engine
from naught_server.lone import LONE_BYTES_MAX
from naught_server.session import ACK_THOSE, SHORT_REPLY_BYTES, Session
from naught_server.store import Cache
from naught_server.waiters import SETTLED_AT_ONCE, Waiter

log = logging.getLogger("naught.server")

SLICES_MAX: Final = 8
"""Requests of one client that work in slices at the same time. One more is `busy`."""

# A reply is a head, which depends on the msgid, and a value. Looking both up costs 0.05 us, packing them 0.12. The
# head of an id that is not in the table is made in one call; struct refuses what is no unsigned 32-bit integer.
_TABLED: Final = 1 << 14
_HEADS: Final = {msgid: b"\x94\x01" + encode(msgid) + b"\xc0" for msgid in range(_TABLED)}
_short_head: Final = struct.Struct(">HBHB").pack
_wide_head: Final = struct.Struct(">HBIB").pack
_SHORT_RESULT_BYTES: Final = SHORT_REPLY_BYTES - 8
"""With its head such a reply is short, however long the head."""
_VALUES: Final = [encode(value) for value in range(_TABLED)]


def _wake_nobody() -> None:
    """The adapter of a channel that is closed."""


class _Stalled(Exception):
    """The request at hand waits for a shard."""


class Channel:
    """One connection's requests. Owned by the adapter, which feeds it and sends what it gives."""

    __slots__ = (
        "_decoder",
        "_fault",
        "_items",
        "_mark",
        "_pending",
        "_stalled",
        "_unburdened",
        "_waiting",
        "_wake",
        "_wanted",
        "aborted",
        "backlog",
        "closing",
        "engine",
        "idle",
        "refusing",
        "session",
        "wants_turn",
    )

    waits_only = True
    """As the owner of a shard: it has the shard so that nobody begins to work on it, and does no such work itself."""

    def __init__(self, engine: Engine, wake: Callable[[], None]) -> None:
        self.engine = engine
        self.session = Session(engine, engine.store.caches[DEFAULT_CACHE], self)
        self.wants_turn = False  # there is more to do right now
        self.backlog = False  # something that was received has not been looked at yet
        self.idle = True  # everything that was received has been answered, or waits
        self.closing = False  # the peer broke the protocol: send what is there, then close
        self.aborted = False  # the session is another connection's: close at once
        self.refusing = False  # answer everything with `shutting_down`
        self._decoder = Decoder()
        self._pending: Iterator[Message] | None = None  # what is left of the slice of input under way
        self._fault: BadInput | None = None  # the peer is told when all that came before is answered
        self._items = 0  # work done in this turn
        self._mark = 0  # how many of this turn's replies the session has kept already, or must not
        self._wake = wake
        self._unburdened = True  # nothing is pending, kept or refused: what comes next stands alone
        # A request that waits for a shard, the cache it works on and the shards it wants, those it has included.
        self._stalled: Message | None = None
        self._wanted: tuple[Cache, list[int]] | None = None
        self._waiting = False  # in a lock's queue: nothing goes on before it grants

    # ---------------------------------------------------------------------------------------- what the adapter calls

    def receive(self, data: bytes, now_ms: int) -> bytes:
        """Take in what the peer sent, and run a turn; the replies."""
        if self._unburdened and len(data) <= LONE_BYTES_MAX:
            reply = lone.serve(self.session, data)
            if reply is not None:
                return reply
        self._decoder.feed(data)
        return self.turn(now_ms)

    def feed(self, data: bytes) -> None:
        """Take in what the peer sent, for a later turn."""
        self._decoder.feed(data)
        self.backlog = True
        self.idle = self._unburdened = False

    def turn(self, now_ms: int) -> bytes:
        """Go on for one turn; the replies."""
        if self._waiting or self.closing:
            return b""
        out = self.session.posted
        self._items = 0
        try:
            if self._stalled is not None:
                message, self._stalled = self._stalled, None
                self._serve(message, out, now_ms)
            decoder = self._decoder
            while (
                self._items < TURN_ITEMS_MAX
                and self._fault is None
                and not self.closing
                and self.session.batch is None
            ):
                fresh = None
                if self._pending is None:
                    if not decoder.unread:
                        break
                    fresh = batch = decoder.messages()
                    self._items += len(batch)
                    self._pending = iter(batch)
                requests_max = length_hint(self._pending)  # of the iterator of a list it is exact
                session = self.session
                cache = session.cache
                unhindered = cache.unhindered(now_ms, requests_max)
                # After that, which may have found counters expired: who waits for them comes before these requests.
                if cache.waiting.unsettled:
                    cache.waiting.settle(now_ms, SETTLED_AT_ONCE)
                if self.refusing:
                    self._refuse_requests(self._pending, out)
                elif unhindered and (session.id is None or session.has_room(requests_max)):
                    if fresh is not None and requests_max >= COLUMN_MIN:
                        self._run_column(fresh, out)
                    if self._pending is not None:
                        self._run(self._pending, out, now_ms)
                else:
                    self._run_carefully(self._pending, out, now_ms)
            if self.session.batch is not None:
                self._go_on_with_batch(self.session.batch, out, now_ms)
        except _Stalled:
            pass
        except BadInput as fault:
            self._fault = fault
        session = self.session
        if session.slices:
            self._advance_slices(out, now_ms)
        if self._fault is not None and not session.slices and session.batch is None:
            self._refuse_peer(out, self._fault, now_ms)
            session = self.session
        replies = b"".join(out)
        if self._mark:
            self._keep(out)
            self._mark = 0
        elif session.id is not None and out:
            session.keep(replies)  # the same bytes: what is sent in one piece is kept in one
        out.clear()
        behind = (
            self._pending is not None
            or self._waiting
            or self._decoder.unread
            or self._fault is not None
            or session.batch is not None
        )
        self.backlog = behind
        self.idle = not (behind or session.slices)
        self._unburdened = self.idle and self._decoder.between and not (self.closing or self.refusing)
        # Nothing more is done for a peer that waits or leaves.
        self.wants_turn = not (self.idle or self._waiting or self.closing)
        return replies

    def refuse(self) -> None:
        """The server stops: answer what waits, and everything from now on, with `shutting_down`."""
        self.refusing = True
        self._unburdened = False
        self.session.refuse_parked(ShuttingDown("the server is stopping, and did not do this"))

    def close(self, now_ms: int) -> None:
        """The connection is gone, or must go. What it alone knew is forgotten; its session goes on without it."""
        if self.session.channel is self:
            self.engine.sessions.leave(self.session, now_ms)
        self._forget()

    # ---------------------------------------------------------------------------------------- what sessions call

    def post(self) -> None:
        """The session has something to send outside of a turn."""
        if not self._waiting and not self.closing:
            self.wants_turn = True
            self._wake()

    def lose_session(self) -> None:
        """Another connection has taken the session over."""
        self.aborted = True
        wake = self._wake
        self._forget()
        wake()

    def _forget(self) -> None:
        self.closing = True
        self.wants_turn = self._unburdened = False
        self._waiting = False
        self._pending = self._stalled = self._fault = None
        self._release_shards()
        # What holds nobody up any more should hold no memory either: the input goes, and with `wake` the ring of
        # channel and adapter, which else lives until the collector finds it.
        self._decoder = Decoder()
        self._wake = _wake_nobody

    # ---------------------------------------------------------------------------------------- replies of a turn

    def _keep(self, out: list[bytes]) -> None:
        """Have the session keep the replies of this turn that it has not kept yet."""
        if len(out) > self._mark and self.session.id is not None:
            self.session.keep(b"".join(out[self._mark :]))
        self._mark = len(out)

    # ---------------------------------------------------------------------------------------- the loops

    def _run_carefully(self, pending: Iterator[Message], out: list[bytes], now_ms: int) -> None:
        """Serve what is left of the slice with every check there is."""
        for message in pending:
            self._serve(message, out, now_ms)
            if self._items >= TURN_ITEMS_MAX or self.closing or self.session.batch is not None:
                return
        self._pending = None

    def _run_column(self, messages: list[Message], out: list[bytes]) -> None:
        """Serve what can be served as a column; `_run` takes what is left. Only of a whole slice and once, as what is
        done for all requests is in vain for those behind the first that is not plain."""
        served = column.serve(self.session, messages, out)
        self._pending = iter(messages[served:]) if served < len(messages) else None

    def _run(self, pending: Iterator[Message], out: list[bytes], now_ms: int) -> None:
        """Serve what is left of the slice; returns early when a request may have changed what is taken for granted.

        Long on purpose: at depth 100 a request costs 0.7 us here, decoding included, and a call per request 0.3 more.
        A key that is in a table needs no check: only good keys get there. Everything that is not plain raises or
        falls through to `_serve`, always before anything is changed.
        """
        session = self.session
        cache = session.cache
        tables = cache.tables
        mask = len(tables) - 1
        plain = cache.plain  # an eviction is `del` and nothing more
        queues = cache.waiting.queues
        awaited = cache.waiting.awaited
        waited = bool(queues or awaited)  # 3 ns for each decrement, where a look into empty dicts costs 24
        bounded = cache.policy.max_counters is not None
        heads = _HEADS
        short_head = _short_head
        wide_head = _wide_head
        values = _VALUES
        zero = REQUEST
        append = out.append
        incrs = decrs = gets = applies = evicted = 0
        counted = 0  # how many of those the session has counted: it has when a batch may bring other replies
        not_plain: tuple[Message, ...] = ()  # the request this loop ends at, if any: a message may be None itself
        for message in pending:
            try:
                kind, msgid, method, params = message
                if msgid > 0xFFFF:
                    head = wide_head(0x9401, 0xCE, msgid, 0xC0)  # refuses what is no integer
                elif msgid.__class__ is not int:
                    raise ValueError
                else:
                    head = heads[msgid] if msgid in heads else short_head(0x9401, 0xCD, msgid, 0xC0)
                if method == b"incr" and kind is zero:
                    if len(params) == 1:
                        (key,) = params
                        by = 1
                    else:
                        key, by = params
                        if by.__class__ is not int or not 0 < by <= VALUE_MAX:
                            raise ValueError
                    table = tables[hash(key) & mask]
                    if key in table:
                        value = table[key] + by
                        if value <= by or (value > DIGIT_MAX and value > VALUE_MAX):  # a lazy zero, or an overflow
                            raise ValueError
                    elif key.__class__ is bytes and 0 < len(key) <= KEY_BYTES_MAX:
                        value = by
                    else:
                        raise ValueError
                    table[key] = value
                    incrs += 1
                elif method == b"decr" and kind is zero:
                    if len(params) == 1:
                        (key,) = params
                        by = 1
                    else:
                        key, by = params
                        if by.__class__ is not int or not 0 < by <= VALUE_MAX:
                            raise ValueError
                    shard = hash(key) & mask
                    table = tables[shard]
                    if key in table:
                        value = table[key] - by
                        if waited and (key in queues or (value <= 0 and key in awaited)):
                            raise ValueError
                        if value > 0:
                            table[key] = value
                        elif plain:
                            value = 0
                            del table[key]
                            evicted += 1
                        else:
                            if value != -by:  # there was a counter and not a lazy zero
                                cache.zeroed(shard, key)
                            value = 0
                    elif key.__class__ is bytes and 0 < len(key) <= KEY_BYTES_MAX:
                        value = 0
                    else:
                        raise ValueError
                    decrs += 1
                elif method == b"apply" and kind is zero:
                    keys, deltas = params
                    session.replied += incrs + decrs + gets + applies - counted
                    counted = incrs + decrs + gets + applies
                    results = encode(self._apply(cache, keys, deltas, now_ms))
                    applies += 1
                    append(head)
                    append(results)
                    if session.id is not None and len(results) > _SHORT_RESULT_BYTES:
                        session.replied += 1
                        counted += 1
                        session.note_length(len(head) + len(results))
                        if not session.has_room(1):
                            break
                    if bounded or self._items >= TURN_ITEMS_MAX:
                        break  # it may have used the room that the rest of the slice counts on, or it fills the turn
                    continue
                elif method == b"get" and kind is zero:
                    (key,) = params
                    value = tables[hash(key) & mask].get(key, 0)
                    if not value and (key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES_MAX):
                        raise ValueError
                    gets += 1
                else:
                    raise ValueError
            except (ValueError, TypeError, struct.error):
                not_plain = (message,)
                break
            append(head)
            append(values[value] if value < _TABLED else encode(value))
        else:
            self._pending = None
        commands = self.engine.stats.commands
        if incrs:
            commands["incr"] += incrs
        if decrs:
            commands["decr"] += decrs
        if gets:
            commands["get"] += gets
        if evicted:
            cache.evictions["zero"] += evicted
        if session.id is not None:
            served = incrs + decrs + gets + applies
            session.accepted += served
            session.replied += served - counted
        if not_plain:
            self._serve(not_plain[0], out, now_ms)

    def _apply(self, cache: Cache, keys: Any, deltas: Any, now_ms: int) -> list[Any]:
        """`apply` without a time to live, on a cache with nothing in the way. Raises ValueError, with nothing
        changed, for what as a whole is for `commands.apply` to refuse."""
        count = len(keys)
        if keys.__class__ is not tuple or count > PORTION_ITEMS:
            raise ValueError
        if deltas.__class__ is int:
            if not deltas or not -VALUE_MAX <= deltas <= VALUE_MAX:
                raise ValueError
        elif deltas.__class__ is not tuple or len(deltas) != count:
            raise ValueError
        if cache.policy.max_counters is not None and not cache.unhindered(now_ms, count):
            raise ValueError
        self.engine.stats.commands["apply"] += 1
        self._items += count
        return apply_plainly(cache, keys, deltas, now_ms)

    def _go_on_with_batch(self, batch: Batch, out: list[bytes], now_ms: int) -> None:
        """Do a portion of the batch under way, and reply when it was the last. Raises _Stalled to wait for a
        shard."""
        session = self.session
        cache = session.cache
        keys = batch.next_keys()
        self._items += len(keys)
        unhindered = cache.unhindered(now_ms, len(keys))
        if cache.waiting.unsettled:  # as in `turn`
            cache.waiting.settle(now_ms, SETTLED_AT_ONCE)
        if cache.locks.held:
            self._need_shards(None, session, shards_of(cache, keys))
        try:
            batch.go_on(cache, now_ms, unhindered=unhindered)
        finally:
            if self._wanted is not None:
                self._release_shards()
        if cache.waiting.unsettled:
            cache.waiting.settle(now_ms, SETTLED_AT_ONCE)
        if not batch.finished:
            return
        session.batch = None
        if batch.msgid is not None:
            reply = self._reply_or_refusal(batch.msgid, batch.results)
            session.replied += 1
            if session.id is not None:
                session.note_length(len(reply))
            out.append(reply)

    # ---------------------------------------------------------------------------------------- one request, all checks

    def _serve(self, message: Message, out: list[bytes], now_ms: int) -> None:
        """Execute any message. Raises BadInput when it is none, _Stalled when it has to wait for a shard."""
        msgid, method, params = self._parse(message)
        command = COMMANDS.get(method)
        if command is None and msgid is None:
            return
        if command is not None and command.outside:
            self._keep(out)
            reply = self._answer(msgid, method, command, params, now_ms)
            if reply is not None:
                out.append(reply)
            self._send_again(out)
            return
        session = self.session
        if session.id is not None and session.overrun:
            log.warning("session %d is ended: its client does not acknowledge", session.number)
            self.end_session(now_ms)
            self._forget()
            return
        if command is not None and session.cache.locks.held:
            self._need_shards(message, session, command.touches(session, params))
        try:
            reply = self._answer(msgid, method, command, params, now_ms)
        finally:
            if self._wanted is not None:
                self._release_shards()
        if msgid is not None:
            session.accepted += 1
        if reply is not None:
            session.replied += 1
            if session.id is not None:
                session.note_length(len(reply))
                if command is not None and command.may_wait(params):
                    session.parked_replies.append(session.replied)
            out.append(reply)

    def _answer(
        self, msgid: int | None, method: bytes, command: Command | None, params: Params, now_ms: int
    ) -> bytes | None:
        """Run a command; the reply, if there is one now: none where it waits, works in slices, or nobody asked."""
        session = self.session
        stats = self.engine.stats
        try:
            if command is None:
                raise UnknownMethod(f"there is no method {method[:64].decode('utf-8', 'replace')!r}")
            if not command.params_min <= len(params) <= command.params_max:
                raise InvalidRequest(_arity(method, command, len(params)))
            if session.id is not None and not (command.passes or command.outside):
                if command.may_wait(params):
                    session.need_room_to_wait()
                elif not session.has_room(1):
                    raise Busy(f"as many replies are unacknowledged as are kept for a client; {ACK_THOSE}")
            # Before it runs, because a call that is refused at its last item has cost as much.
            self._items += command.items
            if params and params[0].__class__ is tuple:
                self._items += len(params[0])
            waiting = session.cache.waiting
            try:
                result = command.run(session, params, now_ms)
            finally:
                # Before the reply, whichever loop serves the request: replies come in one order, however cut.
                if waiting.unsettled:
                    waiting.settle(now_ms, SETTLED_AT_ONCE)
            reply = None
            if msgid is not None:  # else nobody would learn the result
                if result.__class__ is GeneratorType:
                    session.now_ms = now_ms
                    self._begin_slices(msgid, result)
                elif isinstance(result, Waiter):
                    session.park(msgid, result, now_ms)
                elif not isinstance(result, Batch):
                    reply = self._reply(msgid, result)
            if isinstance(result, Batch):
                result.msgid = msgid
                session.batch = result
            stats.commands[method.decode()] += 1
            return reply
        except Exception as fault:
            reply = self._refuse(msgid or 0, method, fault)
            return reply if msgid is not None else None

    def end_session(self, now_ms: int) -> None:
        """End the session; what else comes on this connection belongs to a new, nameless one."""
        ended = self.session
        ended.channel = None
        self.session = Session(self.engine, ended.cache, self)
        self.engine.sessions.end(ended, now_ms)

    def _send_again(self, out: list[bytes]) -> None:
        """After `hello`, `bye` and `ack`: where the session is another one now, begin its stream with what its client
        has not acknowledged."""
        session = self.session
        if session.posted is not out:
            out += session.replies_again()
            session.posted = out
        self._mark = len(out)

    @staticmethod
    def _parse(message: Message) -> tuple[int | None, bytes, Params]:
        """The parts of a request, or of a notification, which has no msgid. Raises BadInput for anything else."""
        msgid: Any = None
        if message.__class__ is tuple:
            if len(message) == 4 and message[0].__class__ is int and message[0] == REQUEST:
                _, msgid, method, params = message
                if msgid.__class__ is not int or not 0 <= msgid <= MSGID_MAX:
                    raise BadInput("invalid", f"a msgid is an integer from 0 to {MSGID_MAX}", None)
                if method.__class__ is bytes and params.__class__ is tuple:
                    return msgid, method, params
            elif len(message) == 3 and message[0].__class__ is int and message[0] == NOTIFICATION:
                _, method, params = message
                if method.__class__ is bytes and params.__class__ is tuple:
                    return None, method, params
        raise BadInput("invalid", "a request is [0, msgid, method, params] with a string and an array", msgid)

    def _reply(self, msgid: int, result: object) -> bytes:
        reply = encode_result(msgid, result)
        self._items += len(reply) >> 8  # what a turn puts out is bounded too: to 256 KiB and one reply
        if len(reply) > REPLY_BYTES_MAX:
            raise TooLarge(f"the reply would have {len(reply)} bytes, at most {REPLY_BYTES_MAX} are sent")
        return reply

    def _refuse(self, msgid: int, method: bytes | str, fault: Exception) -> bytes:
        """The reply to a request that failed, from within the handler of its exception."""
        if not isinstance(fault, CommandError):
            log.exception("a fault in the server's own code while serving %r", method)
            fault = Unavailable("a fault in the server; its log says which")
        self.engine.stats.error(fault.code)
        return encode_error(msgid, fault.code, str(fault))

    def _refuse_peer(self, out: list[bytes], fault: BadInput, now_ms: int) -> None:
        """End the connection, and the session: whoever sends this would send it again on the next one."""
        self._keep(out)
        self.end_session(now_ms)
        self._forget()
        self.engine.stats.error(fault.code)
        if fault.msgid is not None:
            out.append(encode_error(fault.msgid, fault.code, str(fault)))

    def _refuse_requests(self, pending: Iterator[Message], out: list[bytes]) -> None:
        for message in pending:
            msgid, method, _ = self._parse(message)
            command = COMMANDS.get(method)
            if command is not None and command.outside:
                self._keep(out)
                if msgid is not None:
                    out.append(encode_error(msgid, "shutting_down", "the server is stopping"))
                self._mark = len(out)
            elif msgid is not None:
                self.session.accepted += 1
                self.session.replied += 1
                out.append(encode_error(msgid, "shutting_down", "the server is stopping, and did not do this"))
        self._pending = None

    # ---------------------------------------------------------------------------------------- shards that are held

    def _need_shards(self, message: Message | None, session: Session, touched: Iterable[int]) -> None:
        """Go on only when there is no work under way on any shard the request touches. Raises _Stalled to wait; the
        message, if it is one and not a portion of a batch, is served then.

        While it waits the channel keeps those it has got, so that no new work begins on them. Everybody takes
        shards in rising order, so none wait in a ring. A shard that another channel has got is no obstacle: a
        channel does nothing before it has all. (If it were one, whoever waited for a compaction would stop the
        next, and that one the next: under load the queue would never end.)
        """
        cache = session.cache
        locks = cache.locks
        shards = list(touched)
        if not any(locks.worked_on(shard) for shard in shards):
            return
        self._wanted = (cache, shards)
        for shard in shards:
            if not locks.acquire(shard, self, self._granted):
                self._stalled = message
                self._waiting = True
                raise _Stalled

    def _granted(self) -> None:
        self._waiting = False
        self._wake()

    def _release_shards(self) -> None:
        if self._wanted is not None:
            (cache, shards), self._wanted = self._wanted, None
            for shard in shards:
                cache.locks.withdraw(shard, self)

    # ---------------------------------------------------------------------------------------- work in slices

    def _begin_slices(self, msgid: int, work: Slices) -> None:
        slices = self.session.slices
        if len(slices) >= SLICES_MAX:
            raise Busy(f"at most {SLICES_MAX} requests of a client work in slices at a time")
        slices.append((msgid, work))

    def _advance_slices(self, out: list[bytes], now_ms: int) -> None:
        """One step for the request that has waited longest."""
        session = self.session
        session.now_ms = now_ms
        msgid, work = session.slices.popleft()
        try:
            next(work)
        except StopIteration as end:
            reply = self._reply_or_refusal(msgid, end.value)
        except Exception as fault:
            reply = self._refuse(msgid, "in slices", fault)
        else:
            session.slices.append((msgid, work))
            return
        session.replied += 1
        if session.id is not None:
            session.note_length(len(reply))
        out.append(reply)

    def _reply_or_refusal(self, msgid: int, result: object) -> bytes:
        try:
            return self._reply(msgid, result)
        except TooLarge as fault:
            return self._refuse(msgid, "in parts", fault)


def _arity(method: bytes, command: Command, count: int) -> str:
    low, high = command.params_min, command.params_max
    allowed = str(low) if low == high else f"{low} to {high}"
    return f"{method.decode()} takes {allowed} parameters, not {count}"
