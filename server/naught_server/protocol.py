"""The server's end of one connection: bytes of requests in, bytes of replies out. Sans-IO.

    protocol = ServerProtocol(engine, wake)
    replies = protocol.receive(data, now_ms)     # received bytes; runs one turn
    while protocol.wants_turn:                   # more is to be done than one turn may do: let the others go first
        replies += protocol.turn(now_ms)
    if protocol.backlog: ...                     # read no more before it is worked off
    if protocol.closing: ...                     # send the replies, then close
    if protocol.aborted: ...                     # the session was resumed elsewhere, or ended: close at once

A turn does `TURN_ITEMS_MAX` entries of work, as commands.py counts it, and goes on in the next one with what is left.
A request that is done in one step may cost more than is left of its turn; the following turns do so much less.
Requests are executed in the order they came in. A reply comes later than that order only for a request that works in
slices or waits.

The adapter calls `turn` again when `wants_turn` is set, and when the protocol calls `wake`: the lock of a shard that
it had to wait for was granted, or a request that waited has its answer.

A MemoryError leaves the protocol: a command may be half done, and no reply of the turn may be sent (exhausted.py).

The protocol owns what ends with its connection: undecoded input, the request that waits for a shard, who the client
is (principal.py), and what of it is refused in overload (admission.py). What outlives the connection is its `Session`
(session.py), the outbox for replies included.

On a server with users a connection is at first nobody's. Then it has little room for input and may ask for `hello`
only, which waits while the secret in it is checked. One that was refused is closed.

There are two ways to take the next request from the input. The hot path (hot.py) serves plain requests where they
lie. It stops before any other; that one is decoded (decoder.py) and goes through `_serve` and the table in
`commands.py`, with every check there is. Then the hot path goes on behind it. An `apply` of either way is a `Batch`,
which is done in portions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from typing import Final, NamedTuple

from naught.errors import Busy, CommandError, InvalidRequest, ShuttingDown, TooLarge, Unavailable, UnknownMethod
from naught.wire.codec import encode_error, encode_result
from naught.wire.limits import DEFAULT_CACHE, REPLY_BYTES_MAX, UNKNOWN_BYTES_MAX
from naught_server.access import Login
from naught_server.admission import ALL, HEAD_BYTES, NOTHING, Admission, refusal
from naught_server.bad_input import BadInput
from naught_server.batch import CHECKED_PER_ENTRY, Batch
from naught_server.commands import (
    COMMANDS,
    ELEMENTS_PER_ENTRY,
    REQUEST_ENTRIES,
    SLICE_PRICE,
    Command,
    shards_of,
)
from naught_server.decoder import Input, parts_of, peek_method
from naught_server.engine import Audit, Engine
from naught_server.fatal import FATAL
from naught_server.hot import Served, serve
from naught_server.limits import TURN_ITEMS_MAX
from naught_server.locks import ShardClaim
from naught_server.params import Params
from naught_server.principal import Principal
from naught_server.quotas import Quota
from naught_server.session import ASK_FOR_ACK, EndReason, Session, SlicedRequest
from naught_server.slowlog import SlowTurn
from naught_server.stats import UNKNOWN_METHOD
from naught_server.store import Cache
from naught_server.waiters import PARK_ENTRIES, SETTLED_AT_ONCE, SETTLED_BEFORE, Waiter

log = logging.getLogger("naught.server")


_REFUSED: Final = object()
"""In place of a message that was answered."""

_ACK: Final = COMMANDS[b"ack"]

_STOPPING: Final = "the server is stopping; the request was not executed"


class Clocks(NamedTuple):
    """Two clocks of an adapter, which are read for some turns only."""

    monotonic_ns: Callable[[], int]
    """The clock of `now_ns`."""
    wall_ns: Callable[[], int]
    """Since 1970."""


def _ignore() -> None:
    """The adapter of a protocol that is closed."""


class _Stalled(Exception):
    """The request being served waits for a shard, or for a secret to be checked."""


class ServerProtocol:
    """One connection's requests. Owned by the adapter, which feeds it and sends what it returns."""

    __slots__ = (
        "_admission",
        "_before",
        "_begun",
        "_claim",
        "_clocks",
        "_fault",
        "_fed_bytes",
        "_input",
        "_left",
        "_most_entries",
        "_most_method",
        "_most_traceparent",
        "_principal",
        "_served",
        "_stalled",
        "_starved",
        "_stats",
        "_traceparent",
        "_waiting",
        "_wake",
        "aborted",
        "address",
        "backlog",
        "closing",
        "costly",
        "engine",
        "idle",
        "peer",
        "refusing",
        "session",
        "unfinished_since_ms",
        "wants_turn",
    )

    def __init__(
        self,
        engine: Engine,
        wake: Callable[[], None],
        *,
        address: str | None = None,
        peer: str = "",
        clocks: Clocks | None = None,
        careful: bool = False,
        unread_bytes: Callable[[], int] | None = None,
    ) -> None:
        """`address`: where the connection comes from; None where sessions have no bound by address. `peer`: the same
        for operators. `clocks`: to time turns with; None where they are not. `careful`: serve every request with
        every check, none on the hot path. For tests, which compare the two. `unread_bytes`: what has arrived and was
        not given to the protocol."""
        self.engine: Final = engine
        self._stats: Final = engine.stats  # looked up in the engine they cost a lone request 200 instructions more
        self.address: Final = address  # its sessions count against the bound of this address
        self.peer: Final = peer  # the address of the client, as operators see it
        self._principal: Final = Principal(engine.access, address, careful=careful)
        self._admission: Final = Admission(engine, address, unread_bytes)
        self._clocks: Final = clocks
        self._fed_bytes = 0  # received since the last turn
        self.session = engine.sessions.temporary(engine.store.caches[DEFAULT_CACHE], self)
        self.wants_turn = False  # there is more to do right now
        self.backlog = False  # received input has not been looked at yet
        self.idle = True  # all received requests have been answered, or wait
        self.closing = False  # the peer broke the protocol: send the replies, then close
        self.aborted = False  # the session is another connection's, or was ended: close at once
        # Its last work was more than one turn may do, or it has done none yet: its next input waits until a turn is
        # dealt to it (turns.py).
        self.costly = True
        self.refusing = False  # answer everything with `shutting_down`
        self.unfinished_since_ms: int | None = None  # when the message began to arrive that is not whole
        self._input = Input(UNKNOWN_BYTES_MAX if engine.access.required else None)
        self._starved = False  # what is left of the input is a message that is not whole
        self._served = Served()  # what the hot path did last
        self._fault: BadInput | None = None  # reported to the peer after the answers to all requests before it
        self._left = TURN_ITEMS_MAX  # entries of work that this turn may still do; below 0, what later turns owe
        self._begun = 0  # how many it might do when it began
        # For the slow log: the request of this turn that was the most work. Plain ones of a method count together.
        self._most_method: bytes | None = None  # None while there was none
        self._most_entries = 0
        self._most_traceparent: str | None = None
        self._traceparent: str | None = None  # the trace that requests belong to; None where the client has said none
        self._before: list[bytes] = []  # output of sessions that this connection had earlier in this turn
        self._wake = wake
        self._stalled: object = None  # a request that waits for a shard, or for a secret to be checked
        self._claim: Final = ShardClaim()  # the shards of the request under way, where it had to wait for one
        self._waiting = False  # in a lock's queue: nothing goes on before the lock is granted

    # ---------------------------------------------------------------------------------------- called by the adapter

    def receive_timed(self, data: bytes, now_ns: int) -> bytes:
        """As `receive`, and note the turn: its bytes, and mostly its duration."""
        replies = self.receive(data, now_ns // 1_000_000)
        self._note_turn(now_ns, len(data) + self._fed_bytes, len(replies))
        return replies

    def turn_timed(self, now_ns: int) -> bytes:
        """As `turn`, and note it."""
        replies = self.turn(now_ns // 1_000_000)
        self._note_turn(now_ns, self._fed_bytes, len(replies))
        return replies

    def _note_turn(self, began_ns: int, received_bytes: int, sent_bytes: int) -> None:
        """A turn has ended."""
        self._fed_bytes = 0
        stats = self._stats
        turns = stats.turns_to_time(self._begun - self._left)
        if not turns or self._clocks is None:
            stats.note_bytes(received_bytes, sent_bytes)
            return
        took_ns = self._clocks.monotonic_ns() - began_ns
        if stats.note_turn(took_ns, received_bytes, sent_bytes, turns):
            self.note_slow_turn(took_ns, self._clocks.wall_ns() // 1_000_000, received_bytes, sent_bytes)

    def receive(self, data: bytes, now_ms: int) -> bytes:
        """Take received bytes and run a turn. Returns the replies."""
        self._input.feed(data)
        self._admission.queue.fed_bytes += len(data)
        self._starved = False
        return self.turn(now_ms)

    def feed(self, data: bytes) -> None:
        """Take received bytes for a later turn. They ask for none where they only continue a large message."""
        self._input.feed(data)
        self._fed_bytes += len(data)
        self._admission.queue.fed_bytes += len(data)
        if self._starved and self._input.is_unfinished():
            return
        self._starved = False
        self.backlog = True
        self.idle = False
        self.wants_turn = not (self._waiting or self.closing)

    def turn(self, now_ms: int) -> bytes:
        """Go on for one turn. Returns the replies."""
        self._most_method = None
        self._most_entries = 0
        if self._waiting or self.closing:
            self._begun = self._left
            return b""
        self._left = min(TURN_ITEMS_MAX, self._left + TURN_ITEMS_MAX)
        self._begun = self._left
        if self._left > 0:
            self._work(now_ms)
        if self._fault is not None and not self.session.slices and self.session.batch is None:
            self._refuse_peer(self._fault, now_ms)
        self._note_pending(now_ms)
        if self._admission.quotas:
            self._admission.spend(self._begun - self._left)
        replies = self.session.flush()
        if self._before:
            replies = b"".join((*self._before, replies))
            self._before.clear()
        return replies

    def _work(self, now_ms: int) -> None:
        """Serve what was received, and take a step of what works in slices."""
        try:
            if self._stalled is not None:
                message, self._stalled = self._stalled, None
                self._serve(message, now_ms)
            self._serve_input(now_ms)
        except _Stalled:
            pass
        except BadInput as fault:
            self._fault = fault
        if self.session.slices:
            self._advance_slices(now_ms)

    def _serve_input(self, now_ms: int) -> None:
        """Serve received requests until none is whole, the turn is full, or something has to wait."""
        source = self._input
        refused = NOTHING
        while self._left > 0 and self._fault is None and not self.closing:
            if self._admission.watches:
                refused = self._admission.refuses(source.left_bytes, now_ms)
                self._served.leave_apply = refused != NOTHING
            session = self.session
            cache = session.cache
            direct = cache.prepare(now_ms)
            # `prepare` may have taken out expired counters. Their waiters are answered before these requests are.
            if cache.waiters.unsettled:
                self._left -= cache.waiters.settle(now_ms, SETTLED_BEFORE, strictly=True)
            if session.batch is not None:
                self._go_on_with_batch(session.batch, now_ms, direct)
                continue
            if source.empty:
                break
            if direct and not (self.refusing or self._principal.careful or refused == ALL):
                if self._serve_plain(session, cache):
                    continue
                if self._served.ack >= 0:
                    self._left -= REQUEST_ENTRIES
                    self._answer(None, b"ack", _ACK, (self._served.ack,), now_ms)
                    continue
                if source.empty or self._left <= 0:
                    break
            message = source.next_message() if refused == NOTHING else self._next_not_refused(refused)
            if message is None:
                self._starved = True
                break
            if message is _REFUSED:
                continue
            if self.refusing:
                self._left -= REQUEST_ENTRIES + self._walked
                self._refuse_message(message)
            else:
                self._serve(message, now_ms)

    def _next_not_refused(self, refused: int) -> object:
        """The next message; `_REFUSED` where it was answered with `busy`, which does not decode it, None where it is
        not whole."""
        source, session = self._input, self.session
        end = source.end_of_message()
        if end < 0 or self.is_unknown or (session.id is not None and (session.overrun or not session.has_room(1))):
            return source.next_message()
        head = source.data[source.at : source.at + HEAD_BYTES]
        reply = refusal(refused, head, end - source.at)
        if reply is None:
            return source.next_message()
        source.advance(end)
        self._left -= REQUEST_ENTRIES
        self._count_error(peek_method(head), "busy")
        self.engine.overload.refused += 1
        session.accept()
        session.reply(reply)
        return _REFUSED

    def _serve_plain(self, session: Session, cache: Cache) -> bool:
        """Serve what is plain at the cursor, as far as the turn and the session's window let it. Whether that ended
        at an `apply`, which has begun."""
        source = self._input
        served = self._served
        requests_max = min(self._left, session.room())
        at = serve(source.data, source.at, cache.hot, session.outbox, served, requests_max)
        if at < 0:
            assert served.fault is not None
            raise served.fault
        source.advance(at)
        count = served.incrs + served.decrs + served.gets
        if count:
            self._left -= count
            session.count(count, count)
            self._stats.count_plain(served.incrs, served.decrs, served.gets)
            if served.incrs:
                self._note_work(b"incr", served.incrs, self._traceparent)
            if served.decrs:
                cache.collect_evicted()
                self._note_work(b"decr", served.decrs, self._traceparent)
            if served.gets:
                self._note_work(b"get", served.gets, self._traceparent)
        found = served.apply
        if found is None:
            return False
        served.apply = None
        self._left -= 1 + found.count // CHECKED_PER_ENTRY
        session.accept()
        session.begin_batch(Batch(found, None, found.msgid))
        return True

    def _go_on_with_batch(self, batch: Batch, now_ms: int, direct: bool) -> None:
        """Do a portion of the batch under way, and reply after the last. Raises _Stalled to wait for a shard."""
        session = self.session
        cache = session.cache
        left = self._left
        if cache.locks.held:
            self._need_shards(None, cache, shards_of(cache, batch.next_keys(left)))
        self._do_portion(batch, left, now_ms, direct=direct and not self._principal.careful)
        self._note_work(b"apply", left - self._left, self._traceparent)
        if not batch.finished:
            return
        session.finish_batch()
        if batch.msgid is not None:
            session.reply(self._checked(batch.reply()))  # never too large: results and errors of items are short
            self._stats.commands["apply"] += 1

    def _do_portion(self, batch: Batch, entries_max: int, now_ms: int, *, direct: bool) -> None:
        cache = self.session.cache
        worked = cache.waiters.worked
        try:
            self._left -= batch.go_on(cache, now_ms, entries_max, direct=direct)
        finally:
            self._left -= cache.waiters.worked - worked
            if self._claim.locks is not None:
                self._claim.release()

    def _note_pending(self, now_ms: int) -> None:
        """Set the flags that tell the adapter what is left to do."""
        session = self.session
        behind = (
            self._waiting
            or self._stalled is not None
            or self._fault is not None
            or session.batch is not None
            or not (self._starved or self._input.empty)
        )
        self.backlog = behind
        if behind or self._admission.watches:
            waits = behind and not self._waiting and self._fault is None and not self.closing
            self._admission.note(waits, self._input.left_bytes, now_ms)
        self.idle = not (behind or session.slices)
        # A connection that waits for a shard or is closing needs no turn.
        self.wants_turn = not (self.idle or self._waiting or self.closing)
        if self._left != self._begun:
            self.costly = self._left < 0
        if not self._starved:
            self.unfinished_since_ms = None
        elif self.unfinished_since_ms is None or self._left < self._begun:
            self.unfinished_since_ms = now_ms

    @property
    def _walked(self) -> int:
        """What it has cost to decode the message that is served, in entries, beside the price of every request. Also
        one that is refused has cost that."""
        return self._input.elements // ELEMENTS_PER_ENTRY

    @property
    def spent(self) -> int:
        """Entries of work that the last turn has done."""
        return self._begun - self._left

    def _note_work(self, method: bytes, entries: int, traceparent: str | None) -> None:
        """A request of this turn was this work."""
        if entries > self._most_entries:
            self._most_entries = entries
            self._most_method = method
            self._most_traceparent = traceparent

    def note_slow_turn(self, took_ns: int, time_ms: int, received_bytes: int, sent_bytes: int) -> None:
        """The last turn took so long that it belongs into the slow log. `time_ms`: now, since 1970."""
        session = self.session
        method = self._most_method
        self._stats.slow_log.add(
            SlowTurn(
                took_ns,
                time_ms,
                None if method is None else method.decode(),
                self.spent,
                received_bytes,
                sent_bytes,
                session.number if session.id is not None else None,
                session.name or None,
                self.peer or None,
                None if method is None else self._most_traceparent,
            )
        )

    def pinned_bytes(self) -> int:
        """How many received bytes are kept. For tests."""
        return self._input.pinned_bytes()

    def refuse(self) -> None:
        """The server stops: answer parked requests and all later requests with `shutting_down`."""
        self.refusing = True
        self.session.refuse_parked(ShuttingDown(_STOPPING))

    # ---------------------------------------------------------------------------------------- who the client is

    @property
    def login(self) -> Login | None:
        """Which user the client is; None for nobody yet, and on a server without users."""
        return self._principal.login

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """What the client's address and user may use, where they have limits."""
        return self._admission.quotas

    @property
    def is_unknown(self) -> bool:
        """Whether the client must log in before it may do anything."""
        return self._principal.is_unknown

    @property
    def is_checked(self) -> bool:
        """Whether a secret of the client is being checked."""
        return self._principal.is_checked

    def take_uid(self, uid: int) -> None:
        """The client's process is one of this user of the system: its log-ins are slowed with those of that one."""
        self._principal.take_uid(uid)

    def take_login(self, login: Login) -> None:
        """The client is this user. Raises Busy where the user has as many connections as it may have."""
        self._admission.log_in(login)
        self._principal.login = login
        self._input.lift_limit()
        self._principal.choose_path(self.session.cache)

    def renew_login(self, now_ms: int) -> None:
        """The users were changed. Ends the session and the connection, unless the client may do what it might before
        or more."""
        access = self.engine.access
        if not access.required:
            return
        login = access.renewed(self.login)
        if login is None:
            if self.login is None and self._input.is_limited:
                return  # it is logging in
            self.end_session(now_ms, "access")
            self.lose_session()
            return
        self._principal.login = login
        if self.session.id is not None:
            self.session.renew_login(login)
        self._principal.choose_path(self.session.cache)

    def _check_secret(self, message: object, params: Params, now_ms: int) -> None:
        """Before a `hello` with a secret is served: have it checked. Raises _Stalled while that takes time."""
        self._principal.check_secret(params, now_ms, self._secret_checked)
        if self._principal.is_checked:
            self._stalled = message
            self._waiting = True
            raise _Stalled

    def _secret_checked(self) -> None:
        if self._waiting:
            self._granted()

    def close(self, now_ms: int) -> None:
        """The connection is closed. Its session goes on without it."""
        self._stats.note_bytes(self._fed_bytes, 0)
        if self.session.outlet is self:
            self.engine.sessions.leave(self.session, now_ms)
        self._forget()
        self._admission.leave()

    # ---------------------------------------------------------------------------------------- called by sessions

    def output_ready(self) -> None:
        """The session has a reply although this connection is not in its turn."""
        if not self._waiting and not self.closing:
            self.wants_turn = True
            self._wake()

    def lose_session(self) -> None:
        """Another connection has resumed the session, or the operator has ended it."""
        self.aborted = True
        wake = self._wake
        self._forget()
        wake()

    def _forget(self) -> None:
        self.closing = True
        self._admission.end()
        self.wants_turn = self._waiting = False
        self._stalled = self._fault = None
        self._principal.drop_attempt()
        self._claim.release()
        # A closed connection should hold no memory. Without `wake` there is no reference cycle of protocol and
        # adapter, which would stay until the garbage collector finds it.
        self._input = Input()
        self._wake = _ignore

    # ---------------------------------------------------------------------------------------- called by commands

    def spend(self, entries: int) -> None:
        """Take work that was done from this turn, beside the price of the command."""
        self._left -= entries

    def trace(self, traceparent: str | None) -> None:
        """Later requests of this connection belong to this trace; None for none."""
        self._traceparent = traceparent

    def log_in(self) -> None:
        """Take the user whose secret is in this `hello` and was checked before. Raises Unauthenticated, Busy."""
        login = self._principal.take_attempt()
        if login is None:
            return
        session = self.session
        if session.id is not None or session.parked or session.slices:
            raise InvalidRequest("this connection has a user and work under way; log in on a new one")
        self.take_login(login)

    def _audit(self, event: str, details: dict[str, object]) -> None:
        """An operator may be asked later who did this."""
        session, login = self.session, self.login
        user = None if login is None else login.rights.user
        number = session.number if session.id is not None else None
        self.engine.audit(Audit(event, user, number, session.name, self.peer, details))

    def end_session(self, now_ms: int, reason: EndReason = "bye") -> None:
        """End the session. Later requests of this connection belong to a new, temporary one."""
        ended = self.session
        self._before.append(ended.flush())
        ended.detach()
        self.session = self.engine.sessions.temporary(ended.cache, self)
        self._left -= self.engine.sessions.end(ended, now_ms, reason)

    def resume_session(self, session_id: bytes, received: int) -> Session:
        """Take over the session with this id. Returns it. Raises as `Sessions.resume` does."""
        resumed = self.engine.sessions.resume(self.session, session_id, received)
        if self.login is not None:
            resumed.renew_login(self.login)
        temporary, self.session = self.session, resumed
        self._before.append(temporary.flush())
        temporary.detach()
        return resumed

    # ---------------------------------------------------------------------------------------- one request, all checks

    def _serve(self, message: object, now_ms: int) -> None:
        """Execute any message. Raises BadInput when it is no request, _Stalled when it has to wait for a shard."""
        left = self._left
        self._left -= REQUEST_ENTRIES + self._walked
        msgid, method, params = parts_of(message)
        command = COMMANDS.get(method)
        if command is None and msgid is None:
            return
        traceparent = self._traceparent
        if command is not None and command.outside:
            if command.rule.before_login:
                self._check_secret(message, params, now_ms)
            self._serve_outside(msgid, method, command, params, now_ms)
            self._note_work(method, left - self._left, traceparent)
            return
        session = self.session
        if session.id is not None and session.overrun:
            log.warning("session %d ended: its client does not acknowledge replies", session.number)
            self.end_session(now_ms, "overrun")
            self._forget()
            return
        cache = session.cache
        # What it may not ask must not wait for a shard, as others wait behind it.
        if command is not None and cache.locks.held and self._principal.may_ask(method, command, params, cache):
            self._need_shards(message, cache, command.touches(session, params))
        if self._claim.locks is None:
            reply = self._answer(msgid, method, command, params, now_ms)
        else:
            reply = self._answer_and_release(msgid, method, command, params, now_ms)
        if command is not None:
            self._note_work(method, left - self._left, traceparent)
        if msgid is not None:
            session.accept()
        if reply is not None:
            session.reply(reply, parks=command is not None and command.may_wait(params))

    def _answer_and_release(
        self, msgid: int | None, method: bytes, command: Command | None, params: Params, now_ms: int
    ) -> bytes | None:
        """`_answer` for a request that has waited for shards."""
        try:
            return self._answer(msgid, method, command, params, now_ms)
        finally:
            self._claim.release()

    def _serve_outside(self, msgid: int | None, method: bytes, command: Command, params: Params, now_ms: int) -> None:
        """Execute `hello`, `ack` or `bye`, which are outside of the session's streams. They may change the session. A
        resumed session first sends again the replies that its client has not acknowledged."""
        before = self.session
        if msgid is not None or command is not _ACK:  # an `ack` without a reply leaves nothing to keep apart
            before.seal()
        principal = self._principal
        refused = principal.renew_attempt()
        reply = self._answer(msgid, method, command, params, now_ms)
        principal.attempt = None
        session = self.session
        if principal.login is not None:
            principal.choose_path(session.cache)  # `hello` may have taken another cache
        if reply is not None:
            session.send_outside(reply)
        if refused:
            self._forget()  # each guess takes a connection
        if session is not before and session.id is not None:
            session.send_again()
            self._left -= session.kept_bytes >> 8  # as other output

    def _answer(
        self, msgid: int | None, method: bytes, command: Command | None, params: Params, now_ms: int
    ) -> bytes | None:
        """Run a command. Returns the reply, or None where it waits, works in slices, or was a notification."""
        # What can raise stands in functions of its own: an exception that passes a `finally` or `except` far behind
        # in a function needs memory, and CPython tries for ever where there is none (`exhausted.py`).
        try:
            return self._answer_or_raise(msgid, method, command, params, now_ms)
        except FATAL:
            raise
        except Exception as fault:
            self._left -= self._price_of_refusal(params)
            reply = self._refuse(msgid or 0, method, fault)
            return reply if msgid is not None else None

    def _price_of_refusal(self, params: Params) -> int:
        """What a message that is refused has cost, in entries, beside the price of every request. Items that are done
        pay for what it costs to decode and check them. A large message has paid for its elements."""
        if self._input.elements:
            return 0
        items = sum(len(each) for each in params if each.__class__ is tuple)
        return items // ELEMENTS_PER_ENTRY + self._principal.price_of_rights(items)

    def _answer_or_raise(
        self, msgid: int | None, method: bytes, command: Command | None, params: Params, now_ms: int
    ) -> bytes | None:
        session = self.session
        if self._principal.login is not None or self._principal.careful:
            self._left -= self._principal.price_of_rights(self._input.elements)
            self._principal.check_rights(method, command, params, session.cache)
        if command is None:
            raise UnknownMethod(f"there is no method {method[:64].decode('utf-8', 'replace')!r}")
        if not command.params_min <= len(params) <= command.params_max:
            raise InvalidRequest(_arity(method, command, len(params)))
        if session.id is not None and not (command.passes or command.outside):
            if command.may_wait(params):
                session.need_room_to_wait()
            elif not session.has_room(1):
                raise Busy(f"too many replies are not acknowledged; {ASK_FOR_ACK}")
        result = self._run(command, params, now_ms)
        if command.audit is not None:
            details = command.audit(session, params, result)
            if details is not None:
                self._audit(method.decode(), details)
        reply = None
        if msgid is not None:  # a notification has no result
            if isinstance(result, Generator):
                session.take_time(now_ms)
                session.begin_slices(SlicedRequest(msgid, result, method, self._traceparent))
            elif isinstance(result, Waiter):
                self._left -= PARK_ENTRIES * result.size
                session.park(msgid, result, now_ms)
            elif not isinstance(result, Batch):
                reply = self._reply(msgid, result)
        if isinstance(result, Batch):
            result.msgid = msgid
            self._left += self._walked  # each item pays for it
            session.begin_batch(result)
        # What is not done yet is counted when it is answered. A notification is not answered.
        if msgid is None or not isinstance(result, (Waiter, Generator, Batch)):
            self._stats.commands[method.decode()] += 1
        return reply

    def _run(self, command: Command, params: Params, now_ms: int) -> object:
        """What the command returns. It is counted, and waiters that it has made room for are woken."""
        # Counted before it runs, because a call that fails at its last item costs as much as one that succeeds. What
        # it costs to decode is in the price of each item, and was counted already.
        self._left -= max(0, command.price(self.session, params) - self._walked)
        waiters = self.session.cache.waiters
        worked = waiters.worked
        try:
            return command.run(self, params, now_ms)
        finally:
            # Before the reply, as in all loops: the order of replies must not depend on how TCP cut the input.
            if waiters.unsettled:
                waiters.settle(now_ms, SETTLED_AT_ONCE)
            self._left -= waiters.worked - worked

    def _reply(self, msgid: int, result: object) -> bytes:
        return self._checked(encode_result(msgid, result))

    def _checked(self, reply: bytes) -> bytes:
        self._left -= len(reply) >> 8  # bounds the output of a turn, to 256 KiB and one reply
        if len(reply) > REPLY_BYTES_MAX:
            raise TooLarge(f"the reply would have {len(reply)} bytes; the limit is {REPLY_BYTES_MAX}")
        return reply

    def _refuse(self, msgid: int, method: bytes | str, fault: Exception) -> bytes:
        """The reply to a request that failed, from within the handler of its exception."""
        if not isinstance(fault, CommandError):
            log.exception("a fault in the server while it executed %r", method)
            fault = Unavailable("a fault in the server; see its log")
        self._count_error(method, fault.code)
        return encode_error(msgid, fault.code, str(fault))

    def _count_error(self, method: bytes | str, code: str) -> None:
        name = method if isinstance(method, str) else method.decode() if method in COMMANDS else UNKNOWN_METHOD
        self._stats.count_error(name, code)

    def _refuse_peer(self, fault: BadInput, now_ms: int) -> None:
        """End the connection and its session: a client that resumed it would send the same bad input again."""
        self.end_session(now_ms, "protocol")
        self._forget()
        self._stats.count_error(UNKNOWN_METHOD, fault.code)
        self._stats.count_cut("protocol")
        if fault.msgid is not None:
            self.session.send_outside(encode_error(fault.msgid, fault.code, str(fault)))

    def _refuse_message(self, message: object) -> None:
        """Answer a request with `shutting_down`."""
        session = self.session
        msgid, method, _ = parts_of(message)
        command = COMMANDS.get(method)
        if command is not None and command.outside:
            session.seal()
            if msgid is not None:
                self._count_error(method, "shutting_down")
                session.send_outside(encode_error(msgid, "shutting_down", "the server is stopping"))
        elif msgid is not None:
            self._count_error(method, "shutting_down")
            session.accept()
            session.reply(encode_error(msgid, "shutting_down", _STOPPING))

    # ---------------------------------------------------------------------------------------- shards that are held

    def _need_shards(self, message: object, cache: Cache, touched: Iterable[int]) -> None:
        """Return if no work is under way on any shard the request touches; else raise _Stalled, to wait for them.
        The message, if there is one and not a portion of a batch, is served when they are granted."""
        if not self._claim.make(cache.locks, list(touched), self._granted):
            self._stalled = message
            self._waiting = True
            raise _Stalled

    def _granted(self) -> None:
        self._waiting = False
        self._wake()

    # ---------------------------------------------------------------------------------------- work in slices

    def _advance_slices(self, now_ms: int) -> None:
        """Take one step of one request. The requests that work in slices take turns."""
        session = self.session
        session.take_time(now_ms)
        sliced = session.slices.popleft()
        left = self._left
        self._left -= SLICE_PRICE
        self._take_step(sliced)
        self._note_work(sliced.method, left - self._left, sliced.traceparent)

    def _take_step(self, sliced: SlicedRequest) -> None:
        session = self.session
        try:
            next(sliced.work)
        except StopIteration as end:
            session.reply(self._reply_or_refusal(sliced, end.value))
        except FATAL:
            raise
        except Exception as fault:
            session.reply(self._refuse(sliced.msgid, sliced.method, fault))
        else:
            session.slices.append(sliced)

    def _reply_or_refusal(self, sliced: SlicedRequest, result: object) -> bytes:
        try:
            reply = self._reply(sliced.msgid, result)
        except TooLarge as fault:
            return self._refuse(sliced.msgid, sliced.method, fault)
        self._stats.commands[sliced.method.decode()] += 1
        return reply


def _arity(method: bytes, command: Command, count: int) -> str:
    low, high = command.params_min, command.params_max
    allowed = str(low) if low == high else f"{low} to {high}"
    return f"{method.decode()} takes {allowed} parameters, not {count}"
