"""The server's end of one connection: bytes of requests in, bytes of replies out. Sans-IO.

    protocol = ServerProtocol(engine, wake)
    replies = protocol.receive(data, now_ms)     # received bytes; runs one turn
    while protocol.wants_turn:                   # more is to be done than one turn may do: let the others go first
        replies += protocol.turn(now_ms)
    if protocol.backlog: ...                     # read no more before it is worked off
    if protocol.closing: ...                     # send the replies, then close
    if protocol.aborted: ...                     # another connection has resumed the session: close at once

A turn does about `TURN_ITEMS_MAX` counters' worth of work. Requests are executed in the order they came in. A reply
comes later than that order only for a request that works in slices or waits.

The adapter calls `turn` again when `wants_turn` is set, and when the protocol calls `wake`: the lock of a shard that
it had to wait for was granted, or a request that waited has its answer.

The protocol owns what ends with its connection: undecoded input, and the request that waits for a shard. What
outlives the connection is its `Session` (session.py), the outbox for replies included.

Two loops run requests. `_run` does `incr`, `decr`, `apply` and `get` itself, on the cache's tables, while the cache
says that nothing special has to be checked; at 1 us for a whole request, a call to a handler would be a third of it.
Every other request goes through `_serve` and the table in `commands.py`, which checks everything. `_run` hands a
request to `_serve` before it has changed anything for it, so one place says what was wrong with a request.

Two shorter ways go around `_run`: a slice of many requests of one kind is a column (column.py), and a chunk that is
one small request needs no turn (lone.py). They hand over to `_run` as it does to `_serve`.
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
from naught_server.commands import COMMANDS, Command, shards_of
from naught_server.config import TURN_ITEMS_MAX
from naught_server.decoder import BadInput, Decoder
from naught_server.engine import Engine
from naught_server.lone import LONE_BYTES_MAX
from naught_server.params import Params
from naught_server.session import ASK_FOR_ACK, Session
from naught_server.store import Cache
from naught_server.waiters import SETTLED_AT_ONCE, Waiter

log = logging.getLogger("naught.server")

# A reply is a head, which depends on the msgid, and a value. Looking both up costs 0.05 us, packing them 0.12. The
# head of a msgid that is not in the table is made in one call; struct raises for what is no unsigned 32-bit integer.
_TABLED: Final = 1 << 14
_HEADS: Final = {msgid: b"\x94\x01" + encode(msgid) + b"\xc0" for msgid in range(_TABLED)}
_short_head: Final = struct.Struct(">HBHB").pack
_wide_head: Final = struct.Struct(">HBIB").pack
_VALUES: Final = [encode(value) for value in range(_TABLED)]


def _ignore() -> None:
    """The adapter of a protocol that is closed."""


class _Stalled(Exception):
    """The request being served waits for a shard."""


class ServerProtocol:
    """One connection's requests. Owned by the adapter, which feeds it and sends what it returns."""

    __slots__ = (
        "_before",
        "_decoder",
        "_fault",
        "_items",
        "_nothing_pending",
        "_pending",
        "_stalled",
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
    """As the owner of a shard's lock: it keeps others from beginning work on the shard, and does no such work
    itself."""

    def __init__(self, engine: Engine, wake: Callable[[], None]) -> None:
        self.engine: Final = engine
        self.session = engine.sessions.nameless(engine.store.caches[DEFAULT_CACHE], self)
        self.wants_turn = False  # there is more to do right now
        self.backlog = False  # received input has not been looked at yet
        self.idle = True  # all received requests have been answered, or wait
        self.closing = False  # the peer broke the protocol: send the replies, then close
        self.aborted = False  # the session is another connection's: close at once
        self.refusing = False  # answer everything with `shutting_down`
        self._decoder = Decoder()
        self._pending: Iterator[Message] | None = None  # the rest of the slice of input being served
        self._fault: BadInput | None = None  # reported to the peer after the answers to all requests before it
        self._items = 0  # work done in this turn
        self._before: list[bytes] = []  # output of sessions that this connection had earlier in this turn
        self._wake = wake
        self._nothing_pending = True  # no input, reply or refusal is pending: a next chunk can be served alone
        # A request that waits for a shard; the cache it works on and its shards, those it has got included.
        self._stalled: Message | None = None
        self._wanted: tuple[Cache, list[int]] | None = None
        self._waiting = False  # in a lock's queue: nothing goes on before the lock is granted

    # ---------------------------------------------------------------------------------------- called by the adapter

    def receive(self, data: bytes, now_ms: int) -> bytes:
        """Take received bytes and run a turn. Returns the replies."""
        if self._nothing_pending and len(data) <= LONE_BYTES_MAX:
            reply = lone.serve(self.session, data, self.engine.stats.commands)
            if reply is not None:
                return reply
        self._decoder.feed(data)
        return self.turn(now_ms)

    def feed(self, data: bytes) -> None:
        """Take received bytes for a later turn."""
        self._decoder.feed(data)
        self.backlog = True
        self.idle = self._nothing_pending = False

    def turn(self, now_ms: int) -> bytes:
        """Go on for one turn. Returns the replies."""
        if self._waiting or self.closing:
            return b""
        self._items = 0
        try:
            if self._stalled is not None:
                message, self._stalled = self._stalled, None
                self._serve(message, now_ms)
            self._serve_input(now_ms)
            if self.session.batch is not None:
                self._go_on_with_batch(self.session.batch, now_ms)
        except _Stalled:
            pass
        except BadInput as fault:
            self._fault = fault
        if self.session.slices:
            self._advance_slices(now_ms)
        if self._fault is not None and not self.session.slices and self.session.batch is None:
            self._refuse_peer(self._fault, now_ms)
        self._note_pending()
        replies = self.session.flush()
        if self._before:
            replies = b"".join((*self._before, replies))
            self._before.clear()
        return replies

    def _serve_input(self, now_ms: int) -> None:
        """Serve decoded requests, slice by slice, until the turn is full or something has to wait."""
        decoder = self._decoder
        while (
            self._items < TURN_ITEMS_MAX and self._fault is None and not self.closing and self.session.batch is None
        ):
            fresh = None
            if self._pending is None:
                if not decoder.unread:
                    break
                fresh = decoder.messages()
                self._items += len(fresh)
                self._pending = iter(fresh)
            requests_max = length_hint(self._pending)  # of the iterator of a list it is exact
            session = self.session
            cache = session.cache
            direct = cache.prepare(now_ms, requests_max)
            # After `prepare`, which may have found expired counters: their waiters come before these requests.
            if cache.waiters.unsettled:
                cache.waiters.settle(now_ms, SETTLED_AT_ONCE)
            if self.refusing:
                self._refuse_requests(self._pending)
            elif direct and (session.id is None or session.has_room(requests_max)):
                if fresh is not None and requests_max >= COLUMN_MIN:
                    self._run_column(fresh)
                if self._pending is not None:
                    self._run(self._pending, now_ms)
            else:
                self._run_carefully(self._pending, now_ms)

    def _note_pending(self) -> None:
        session = self.session
        behind = (
            self._pending is not None
            or self._waiting
            or self._decoder.unread
            or self._fault is not None
            or session.batch is not None
        )
        self.backlog = behind
        self.idle = not (behind or session.slices)
        self._nothing_pending = self.idle and self._decoder.between and not (self.closing or self.refusing)
        # Nothing more is done for a connection that waits or is closing.
        self.wants_turn = not (self.idle or self._waiting or self.closing)

    def refuse(self) -> None:
        """The server stops: answer parked requests, and everything from now on, with `shutting_down`."""
        self.refusing = True
        self._nothing_pending = False
        self.session.refuse_parked(ShuttingDown("the server is stopping, and did not do this"))

    def close(self, now_ms: int) -> None:
        """The connection is gone, or must go. Its session goes on without it."""
        if self.session.outlet is self:
            self.engine.sessions.leave(self.session, now_ms)
        self._forget()

    # ---------------------------------------------------------------------------------------- called by sessions

    def output_ready(self) -> None:
        """The session has a reply although this connection is not in its turn."""
        if not self._waiting and not self.closing:
            self.wants_turn = True
            self._wake()

    def taken_over(self) -> None:
        """Another connection has resumed the session."""
        self.aborted = True
        wake = self._wake
        self._forget()
        wake()

    def _forget(self) -> None:
        self.closing = True
        self.wants_turn = self._nothing_pending = False
        self._waiting = False
        self._pending = self._stalled = self._fault = None
        self._release_shards()
        # A closed connection should hold no memory: the input goes, and with `wake` the reference cycle of protocol
        # and adapter, which otherwise lives until the collector finds it.
        self._decoder = Decoder()
        self._wake = _ignore

    # ---------------------------------------------------------------------------------------- called by commands

    def end_session(self, now_ms: int) -> None:
        """End the session. Later requests of this connection belong to a new, nameless one."""
        ended = self.session
        self._before.append(ended.flush())
        ended.detach()
        self.session = self.engine.sessions.nameless(ended.cache, self)
        self.engine.sessions.end(ended, now_ms)

    def resume_session(self, session_id: bytes, received: int) -> Session:
        """Take over the session of this id; the session. Raises what `Sessions.resume` does."""
        resumed = self.engine.sessions.resume(self.session, session_id, received)
        nameless, self.session = self.session, resumed
        self._before.append(nameless.flush())
        nameless.detach()
        return resumed

    # ---------------------------------------------------------------------------------------- the loops

    def _run_carefully(self, pending: Iterator[Message], now_ms: int) -> None:
        """Serve the rest of the slice with every check there is."""
        for message in pending:
            self._serve(message, now_ms)
            if self._items >= TURN_ITEMS_MAX or self.closing or self.session.batch is not None:
                return
        self._pending = None

    def _run_column(self, messages: list[Message]) -> None:
        """Serve as many requests as can be served as a column; `_run` takes the others. Only for a whole slice and
        once, because the work that is done for all requests is lost for those behind the first that is not plain."""
        served = column.serve(self.session, messages, self.engine.stats.commands)
        self._pending = iter(messages[served:]) if served < len(messages) else None

    def _run(self, pending: Iterator[Message], now_ms: int) -> None:
        """Serve the rest of the slice; returns early when a request may have changed what the loop relies on.

        Long on purpose: at depth 100 a request costs 0.7 us here, decoding included, and a call per request 0.3 more.
        A key that is in a table needs no check, as only valid keys get there. A request that is not plain raises or
        falls through to `_serve`, always before anything is changed for it.
        """
        session = self.session
        cache = session.cache
        tables = cache.tables
        mask = len(tables) - 1
        plain = cache.eviction_is_delete  # an eviction is `del` and nothing more
        queues = cache.waiters.queues
        awaited = cache.waiters.awaited
        waited = bool(queues or awaited)  # 3 ns for each decrement, where a look into empty dicts costs 24
        bounded = cache.policy.max_counters is not None
        heads = _HEADS
        short_head = _short_head
        wide_head = _wide_head
        values = _VALUES
        zero = REQUEST
        append = session.outbox.append
        incrs = decrs = gets = applies = evicted = 0
        counted = 0  # replies the session has counted: before a batch, which may make replies of its own
        not_plain: tuple[Message, ...] = ()  # the request this loop ends at, if any: a message itself may be None
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
                                cache.on_zero(shard, key)
                            value = 0
                    elif key.__class__ is bytes and 0 < len(key) <= KEY_BYTES_MAX:
                        value = 0
                    else:
                        raise ValueError
                    decrs += 1
                elif method == b"apply" and kind is zero:
                    keys, deltas = params
                    session.count(0, incrs + decrs + gets + applies - counted)
                    counted = incrs + decrs + gets + applies
                    results = encode(self._apply(cache, keys, deltas, now_ms))
                    session.reply_in_pieces(head, results)
                    applies += 1
                    counted += 1
                    if session.id is not None and not session.has_room(1):
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
        served = incrs + decrs + gets + applies
        session.count(served, served - counted)
        if not_plain:
            self._serve(not_plain[0], now_ms)

    def _apply(self, cache: Cache, keys: Any, deltas: Any, now_ms: int) -> list[Any]:
        """`apply` without a time to live, on a cache that `prepare` has allowed. Raises ValueError, with nothing
        changed, for a request that `commands.apply` has to refuse or do in portions."""
        count = len(keys)
        if keys.__class__ is not tuple or count > PORTION_ITEMS:
            raise ValueError
        if deltas.__class__ is int:
            if not deltas or not -VALUE_MAX <= deltas <= VALUE_MAX:
                raise ValueError
        elif deltas.__class__ is not tuple or len(deltas) != count:
            raise ValueError
        if cache.policy.max_counters is not None and not cache.prepare(now_ms, count):
            raise ValueError
        self.engine.stats.commands["apply"] += 1
        self._items += count
        return apply_plainly(cache, keys, deltas, now_ms)

    def _go_on_with_batch(self, batch: Batch, now_ms: int) -> None:
        """Do a portion of the batch under way, and reply after the last. Raises _Stalled to wait for a shard."""
        session = self.session
        cache = session.cache
        keys = batch.next_keys()
        self._items += len(keys)
        direct = cache.prepare(now_ms, len(keys))
        if cache.waiters.unsettled:  # as in `_serve_input`
            cache.waiters.settle(now_ms, SETTLED_AT_ONCE)
        if cache.locks.held:
            self._need_shards(None, session, shards_of(cache, keys))
        try:
            batch.go_on(cache, now_ms, direct=direct)
        finally:
            if self._wanted is not None:
                self._release_shards()
        if cache.waiters.unsettled:
            cache.waiters.settle(now_ms, SETTLED_AT_ONCE)
        if not batch.finished:
            return
        session.finish_batch()
        if batch.msgid is not None:
            session.reply(self._reply_or_refusal(batch.msgid, batch.results))

    # ---------------------------------------------------------------------------------------- one request, all checks

    def _serve(self, message: Message, now_ms: int) -> None:
        """Execute any message. Raises BadInput when it is no request, _Stalled when it has to wait for a shard."""
        msgid, method, params = self._parse(message)
        command = COMMANDS.get(method)
        if command is None and msgid is None:
            return
        if command is not None and command.outside:
            self._serve_outside(msgid, method, command, params, now_ms)
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
            session.accept()
        if reply is not None:
            session.reply(reply, parks=command is not None and command.may_wait(params))

    def _serve_outside(self, msgid: int | None, method: bytes, command: Command, params: Params, now_ms: int) -> None:
        """Execute `hello`, `ack` or `bye`, which stand outside of the session's streams. They may change the session:
        a resumed one begins with what its client has not acknowledged."""
        before = self.session
        before.seal()
        reply = self._answer(msgid, method, command, params, now_ms)
        session = self.session
        if reply is not None:
            session.send_outside(reply)
        if session is not before and session.id is not None:
            session.send_again()

    def _answer(
        self, msgid: int | None, method: bytes, command: Command | None, params: Params, now_ms: int
    ) -> bytes | None:
        """Run a command. Returns the reply, or None where it waits, works in slices, or was a notification."""
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
                    raise Busy(f"as many replies are unacknowledged as are kept for a client; {ASK_FOR_ACK}")
            # Before it runs, because a call that is refused at its last item has cost as much.
            self._items += command.items
            if params and params[0].__class__ is tuple:
                self._items += len(params[0])
            waiters = session.cache.waiters
            try:
                result = command.run(self, params, now_ms)
            finally:
                # Before the reply, in all loops: the order of replies must not depend on how the input was cut.
                if waiters.unsettled:
                    waiters.settle(now_ms, SETTLED_AT_ONCE)
            reply = None
            if msgid is not None:  # a notification has no result
                if result.__class__ is GeneratorType:
                    session.take_time(now_ms)
                    session.begin_slices(msgid, result)
                elif isinstance(result, Waiter):
                    session.park(msgid, result, now_ms)
                elif not isinstance(result, Batch):
                    reply = self._reply(msgid, result)
            if isinstance(result, Batch):
                result.msgid = msgid
                session.begin_batch(result)
            stats.commands[method.decode()] += 1
            return reply
        except Exception as fault:
            reply = self._refuse(msgid or 0, method, fault)
            return reply if msgid is not None else None

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
        self._items += len(reply) >> 8  # bounds the output of a turn, to 256 KiB and one reply
        if len(reply) > REPLY_BYTES_MAX:
            raise TooLarge(f"the reply would have {len(reply)} bytes, at most {REPLY_BYTES_MAX} are sent")
        return reply

    def _refuse(self, msgid: int, method: bytes | str, fault: Exception) -> bytes:
        """The reply to a request that failed, from within the handler of its exception."""
        if not isinstance(fault, CommandError):
            log.exception("a fault in the server's own code while serving %r", method)
            fault = Unavailable("a fault in the server; its log says which")
        self.engine.stats.count_error(fault.code)
        return encode_error(msgid, fault.code, str(fault))

    def _refuse_peer(self, fault: BadInput, now_ms: int) -> None:
        """End the connection and its session: on the next connection the client would send the same again."""
        self.end_session(now_ms)
        self._forget()
        self.engine.stats.count_error(fault.code)
        if fault.msgid is not None:
            self.session.send_outside(encode_error(fault.msgid, fault.code, str(fault)))

    def _refuse_requests(self, pending: Iterator[Message]) -> None:
        session = self.session
        for message in pending:
            msgid, method, _ = self._parse(message)
            command = COMMANDS.get(method)
            if command is not None and command.outside:
                session.seal()
                if msgid is not None:
                    session.send_outside(encode_error(msgid, "shutting_down", "the server is stopping"))
            elif msgid is not None:
                session.accept()
                session.reply(encode_error(msgid, "shutting_down", "the server is stopping, and did not do this"))
        self._pending = None

    # ---------------------------------------------------------------------------------------- shards that are held

    def _need_shards(self, message: Message | None, session: Session, touched: Iterable[int]) -> None:
        """Return if no work is under way on any shard the request touches; else raise _Stalled, to wait for them.
        The message, if there is one and not a portion of a batch, is served when they are granted.

        While it waits the connection keeps the shards it has got, so that no new work begins on them. All connections
        take shards in rising order, so they cannot wait for each other in a ring. A shard that another connection has
        got is no obstacle, because a connection does no work before it has all. (If it were an obstacle, a connection
        that waits for a compaction would stop the next one, and so on: under load the queue would never end.)
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

    def _advance_slices(self, now_ms: int) -> None:
        """Take one step for the request whose last step is the longest ago."""
        session = self.session
        session.take_time(now_ms)
        msgid, work = session.slices.popleft()
        try:
            next(work)
        except StopIteration as end:
            session.reply(self._reply_or_refusal(msgid, end.value))
        except Exception as fault:
            session.reply(self._refuse(msgid, "in slices", fault))
        else:
            session.slices.append((msgid, work))

    def _reply_or_refusal(self, msgid: int, result: object) -> bytes:
        try:
            return self._reply(msgid, result)
        except TooLarge as fault:
            return self._refuse(msgid, "in parts", fault)


def _arity(method: bytes, command: Command, count: int) -> str:
    low, high = command.params_min, command.params_max
    allowed = str(low) if low == high else f"{low} to {high}"
    return f"{method.decode()} takes {allowed} parameters, not {count}"
