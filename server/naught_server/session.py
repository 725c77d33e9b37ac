"""The server's half of a session: everything of a client that outlives its connection. Sans-IO.

A session is a pair of ordered streams, requests and replies, and both ends count them. `hello` opens a session on a
connection. On a later connection `hello` resumes it: the client says how many replies it has received, the server how
many requests it has accepted, and the server sends the replies again that the client lacks. So each request runs at
most once, however often the connection breaks.

    connection (connection.py) -> ServerProtocol (protocol.py) -> Session -> outbox, kept replies, waiters, holds

The session owns both counts, the outbox, the replies that are not acknowledged, the requests that wait or work in
slices, and the holds. A connection always has exactly one session. One that was not opened by `hello` is *temporary*:
it has no id, keeps no replies, can hold nothing, and ends with its connection. So a parked request always belongs to
a session, and there is one way to park.

Replies are kept in chunks as they were sent, one for each turn and not one for each reply. An acknowledgement drops
whole chunks, so the first chunk may begin with replies that were acknowledged; a resumption cuts those off. The
windows must not depend on how replies were put into chunks. So what the windows count is noted by reply: of a long
reply its length, of a reply to a request that may wait that it was one.

How sessions are found, resumed and ended is in `sessions.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, Protocol

from naught.errors import Busy, CommandError, InvalidRequest, NoSession
from naught.wire.codec import encode_error, encode_result
from naught.wire.limits import PARKED_ITEMS_MAX, PARKED_MAX, UNACKNOWLEDGED_BYTES_MAX, UNACKNOWLEDGED_MAX
from naught_server.access import Login
from naught_server.batch import Batch
from naught_server.decoder import without_first
from naught_server.holds import LOOKED_AT_MAX, HoldCounts, Holds
from naught_server.limits import LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN
from naught_server.quotas import Quota
from naught_server.stats import Stats
from naught_server.store import Cache
from naught_server.timers import Timer, Timers
from naught_server.waiters import Owner, Waiter

Slices = Generator[None, None, Any]
"""A request that works in slices: each `next()` is one bounded step, the returned value is the result."""


class SlicedRequest(NamedTuple):
    """A request of a session that works in slices."""

    msgid: int
    work: Slices
    method: bytes
    traceparent: str | None
    """The trace it belongs to, where its client has said so."""


SHORT_REPLY_BYTES: Final = 32
"""Replies up to this size are only counted: 1 024 of them have at most 32 KiB. The loops over plain requests make
only such replies, and so need not measure them."""

ASK_FOR_ACK: Final = "call ack with the number of those received"

SLICES_MAX: Final = 8
"""Requests of one session that work in slices at the same time. One more is `busy`."""

HELD_SHOWN_MAX: Final = 10
WAITS_SHOWN_MAX: Final = 5
WAIT_KEYS_SHOWN_MAX: Final = 3
"""What operators see of a session: at most this many of the counters that it holds, of its requests that wait, and of
the keys of each such request. Enough to recognize what it does, and little enough that hundreds of sessions fit one
reply."""

LISTED_ENTRIES: Final = 5
"""A session in a list, without what it holds and waits for. Prices are in the entries of commands.py."""

EndReason = Literal["bye", "lease", "overrun", "protocol", "displaced", "operator", "access"]
"""Why a session has ended: by `bye`; its lease ran out; its client did not acknowledge; its client sent bytes that
are no message; it made room for another session; the operator has ended it; its user was removed or may do less."""

END_REASONS: Final[tuple[EndReason, ...]] = (
    "bye",
    "lease",
    "overrun",
    "protocol",
    "displaced",
    "operator",
    "access",
)


class Outlet(Protocol):
    """The connection of a session, as far as the session calls it."""

    @property
    def address(self) -> str | None:
        """Where it comes from; None where sessions have no bound by address."""

    @property
    def peer(self) -> str:
        """The address of its client, as operators see it."""

    @property
    def login(self) -> Login | None:
        """Whose it is; None on a server without users."""

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """What its principals may use."""

    def output_ready(self) -> None:
        """There is output although no request of this connection is being served."""

    def lose_session(self) -> None:
        """The session is not this connection's any more: another one has resumed it, or the operator has ended it.
        Close at once."""


class Services(Protocol):
    """What a session uses of its server."""

    @property
    def timers(self) -> Timers: ...

    @property
    def stats(self) -> Stats: ...

    @property
    def hold_counts(self) -> HoldCounts: ...

    def next_hold(self) -> int:
        """A number for a hold, higher than all before."""

    def add_parked(self, keys: int, size: int) -> None:
        """A request is to wait for this number of keys, and takes `size` bytes. Raises Busy where all waits together
        take too much."""

    def remove_parked(self, keys: int, size: int) -> None:
        """Such a request waits no longer."""


class Session:
    """One client's conversation with one cache."""

    __slots__ = (
        "_charged",
        "_kept",
        "_kept_after",
        "_lease",
        "_long",
        "_owner",
        "_sealed",
        "_services",
        "accepted",
        "acknowledged",
        "address",
        "batch",
        "cache",
        "holds",
        "id",
        "kept_bytes",
        "lease_ms",
        "login",
        "long_bytes",
        "name",
        "now_ms",
        "number",
        "opened_ms",
        "outbox",
        "outlet",
        "parked",
        "parked_items",
        "parked_replies",
        "replied",
        "slices",
    )

    def __init__(self, services: Services, cache: Cache, outlet: Outlet) -> None:
        self._services: Final = services
        self.cache = cache  # the cache it works on; a temporary session may change it
        self.outlet: Outlet | None = outlet  # its connection; None while it has none
        self.id: bytes | None = None  # the credential; None for a temporary session
        self.login: Login | None = None  # whose it is, once it has an id; None on a server without users
        self.number = 0  # what operators call it by; no credential
        self.name = ""  # what its client calls itself; empty where it has not said
        self.address = outlet.peer  # where its latest connection comes from, as operators see it
        self.now_ms = 0  # the time of the latest step of requests that work in slices
        self.opened_ms = 0
        self.lease_ms = LEASE_MS_DEFAULT  # how long it outlives its connection
        self._lease: Timer | None = None  # ends the session; set while it has no connection
        self.accepted = 0  # requests, ever; a parked request counts when it is accepted
        self.replied = 0  # replies, ever
        self.acknowledged = 0  # replies the client has confirmed
        # Replies that were made and not sent yet. The first `_sealed` of them are kept already, or must not be kept.
        self.outbox: list[bytes] = []
        self._sealed = 0
        self._kept: deque[tuple[int, bytes]] = deque()  # unacknowledged chunks: the number of the last reply, bytes
        self._kept_after = 0  # the number of the last reply before those chunks
        self.kept_bytes = 0  # the size of those chunks
        # Of the unacknowledged replies, by number:
        self.parked_replies: deque[int] = deque()  # those to requests that waited, or might have
        self._long: deque[tuple[int, int]] = deque()  # those above SHORT_REPLY_BYTES, with their size
        self.long_bytes = 0  # the sum of those sizes
        self.slices: deque[SlicedRequest] = deque()  # requests that work in slices; the first one has the next step
        self.batch: Batch | None = None  # an `apply` that is partly done; later requests begin after its end
        self._owner = Owner()  # of the requests that wait
        self.parked: dict[int, Waiter] = {}  # requests that wait, by msgid
        self._charged: tuple[Quota, ...] = ()  # the principals that those count for
        self.parked_items = 0  # keys that those wait for, all together
        self.holds = Holds(cache, services.hold_counts, 0)

    # ---------------------------------------------------------------------------------------- opening and ending

    def open(
        self, session_id: bytes, number: int, lease_ms: int | None, now_ms: int, login: Login | None = None
    ) -> None:
        """Give a temporary session an id, and an owner: its streams begin here."""
        self.id = session_id
        self.login = login
        self.number = number
        self.holds = Holds(self.cache, self._services.hold_counts, number)
        self.opened_ms = now_ms
        self.accepted = self.replied = 0
        if lease_ms is not None:
            self.lease_ms = min(max(lease_ms, LEASE_MS_MIN), LEASE_MS_MAX)

    def renew_login(self, login: Login) -> None:
        """The users were changed, and it is the same user's."""
        self.login = login

    def rename(self, name: str) -> None:
        """Its client calls itself so from now on."""
        self.name = name

    def use_cache(self, cache: Cache) -> None:
        """Work on another cache from now on. Only before there are holds."""
        if cache is not self.cache:
            assert not self.holds, "holds are on counters of one cache"
            self.cache = cache
            self.holds = Holds(cache, self._services.hold_counts, self.number)

    def attach(self, outlet: Outlet) -> None:
        """It has this connection now."""
        if self._lease is not None:
            self._services.timers.cancel(self._lease)
            self._lease = None
        self.outlet = outlet
        self.address = outlet.peer

    def detach(self) -> None:
        """It has no connection. What was not sent is kept for the next one."""
        self.outlet = None
        self.flush()

    def start_lease(self, now_ms: int, on_end: Callable[[int], int]) -> None:
        """Call `on_end` unless there is a new connection within the lease."""
        self._lease = self._services.timers.set(now_ms + self.lease_ms, on_end)

    @property
    def has_lease_running(self) -> bool:
        """Whether the session ends when its lease does, as it has no connection."""
        return self._lease is not None

    def end(self) -> None:
        """It is over. Its waiters have still to leave their queues, and its holds to be given back. O(1)."""
        if self._lease is not None:
            self._services.timers.cancel(self._lease)
            self._lease = None
        self.batch = None
        self.slices.clear()
        self._kept.clear()
        self.kept_bytes = 0
        self._owner.is_gone = True

    # ---------------------------------------------------------------------------------------- replies

    def count(self, accepted: int, replied: int) -> None:
        """Count accepted requests, and replies that were put into the outbox. All these replies are short."""
        self.accepted += accepted
        self.replied += replied

    def accept(self) -> None:
        """A request was accepted."""
        self.accepted += 1

    def reply(self, reply: bytes, *, parks: bool = False) -> None:
        """Put a reply into the outbox. `parks`: it is to a request that may wait."""
        self.outbox.append(reply)
        self.replied += 1
        if self.id is not None:
            self._note_length(len(reply))
            if parks:
                self.parked_replies.append(self.replied)

    def seal(self) -> None:
        """Keep what is in the outbox. What is put there next by `send_outside` is not kept."""
        self._keep_unsealed()
        self._sealed = len(self.outbox)

    def send_outside(self, reply: bytes) -> None:
        """Send a reply that stands outside of the streams: it is neither counted nor kept. `seal` comes before."""
        self.outbox.append(reply)
        self._sealed = len(self.outbox)

    def send_again(self) -> None:
        """On a new connection: send what the client has not acknowledged."""
        self.outbox += self._unacknowledged_chunks()
        self._sealed = len(self.outbox)

    def flush(self) -> bytes:
        """Take the outbox as the bytes to send; a session with an id keeps them until they are acknowledged."""
        outbox = self.outbox
        data = b"".join(outbox)
        if self._sealed:
            self._keep_unsealed()
            self._sealed = 0
        elif self.id is not None and outbox:
            self._keep(data)  # the same object: what is sent in one piece is kept in one piece
        outbox.clear()
        return data

    def _keep_unsealed(self) -> None:
        if len(self.outbox) > self._sealed and self.id is not None:
            self._keep(b"".join(self.outbox[self._sealed :]))

    def _keep(self, chunk: bytes) -> None:
        """Keep all replies made since the last call, as this chunk."""
        self._kept.append((self.replied, chunk))
        self.kept_bytes += len(chunk)

    def _note_length(self, size: int) -> None:
        """Count the bytes of the last reply where the window needs them."""
        if size > SHORT_REPLY_BYTES:
            self._long.append((self.replied, size))
            self.long_bytes += size

    # ---------------------------------------------------------------------------------------- acknowledgements

    def acknowledge(self, received: int) -> None:
        """The client has this many replies. Raises InvalidRequest for a number that cannot be."""
        self.need_sent(received)
        self.acknowledged = received
        kept = self._kept
        while kept and kept[0][0] <= received:
            self._kept_after, chunk = kept.popleft()
            self.kept_bytes -= len(chunk)
        parked = self.parked_replies
        while parked and parked[0] <= received:
            parked.popleft()
        long = self._long
        while long and long[0][0] <= received:
            self.long_bytes -= long.popleft()[1]

    def need_sent(self, received: int) -> None:
        """Raise InvalidRequest where the client cannot have that many replies, or had more before."""
        if not self.acknowledged <= received <= self.replied:
            raise InvalidRequest(
                f"received is an integer from {self.acknowledged} to {self.replied} (replies sent), not {received}"
            )

    def _unacknowledged_chunks(self) -> list[bytes]:
        """The kept chunks, the first one cut where the client's replies end."""
        surplus = self.acknowledged - self._kept_after
        if self._kept and surplus:
            number, chunk = self._kept[0]
            rest = without_first(chunk, surplus)
            self.kept_bytes += len(rest) - len(chunk)
            self._kept[0] = (number, rest)
            self._kept_after = self.acknowledged
        return [chunk for _, chunk in self._kept]

    def kept_replies(self) -> bytes:
        """All replies that are kept. For tests."""
        return b"".join(chunk for _, chunk in self._kept)

    def unacknowledged(self) -> int:
        """Replies that count against the window. Those to requests that may wait have a bound of their own."""
        return self.replied - self.acknowledged - len(self.parked_replies)

    def room(self) -> int:
        """How many more requests may be executed before the client acknowledges."""
        if self.id is None:
            return UNACKNOWLEDGED_MAX
        if self.long_bytes > UNACKNOWLEDGED_BYTES_MAX:
            return 0
        return UNACKNOWLEDGED_MAX - (self.replied - self.acknowledged - len(self.parked_replies))

    def has_room(self, requests: int) -> bool:
        """Whether this many more requests may be executed before the client acknowledges."""
        return (
            self.replied - self.acknowledged - len(self.parked_replies) + requests <= UNACKNOWLEDGED_MAX
            and self.long_bytes <= UNACKNOWLEDGED_BYTES_MAX
        )

    @property
    def overrun(self) -> bool:
        """Whether the client has sent twice as much as it may without acknowledging."""
        return self.unacknowledged() > 2 * UNACKNOWLEDGED_MAX or self.long_bytes > 2 * UNACKNOWLEDGED_BYTES_MAX

    # ---------------------------------------------------------------------------------------- work in slices

    def begin_slices(self, sliced: SlicedRequest) -> None:
        """Let a request work in slices. Raises Busy where too many do."""
        if len(self.slices) >= SLICES_MAX:
            raise Busy(f"at most {SLICES_MAX} requests of a client work in slices at a time")
        self.slices.append(sliced)

    def begin_batch(self, batch: Batch) -> None:
        """Do this batch before any later request."""
        self.batch = batch

    def finish_batch(self) -> None:
        """The batch under way is done."""
        self.batch = None

    def take_time(self, now_ms: int) -> None:
        """Say the time to the requests that work in slices."""
        self.now_ms = now_ms

    # ---------------------------------------------------------------------------------------- parked requests

    def park(self, msgid: int, waiter: Waiter, now_ms: int) -> None:
        """Let a request wait. Raises Busy where too many do, InvalidRequest where one has the same msgid."""
        if msgid in self.parked:
            raise InvalidRequest(f"a request with msgid {msgid} waits already")
        self.need_room_to_wait()
        if self.parked_items + waiter.size > PARKED_ITEMS_MAX:
            raise Busy(f"the requests of a client wait for at most {PARKED_ITEMS_MAX} keys at a time")
        outlet = self.outlet
        if not self.parked and outlet is not None:
            self._charged = outlet.quotas
        size, memory_bytes = waiter.size, waiter.memory_bytes
        self._charge(memory_bytes)
        try:
            self._services.add_parked(size, memory_bytes)
        except Busy:
            for quota in self._charged:
                quota.parked_bytes -= memory_bytes
            raise
        self.parked_items += size
        self.parked[msgid] = waiter
        waiter.park(partial(self._answer, msgid), self._owner, self._services.timers, now_ms)

    def _answer(self, msgid: int, result: object) -> None:
        """Reply to a parked request: in this turn, in the next one, or on the next connection."""
        waiter = self.parked.pop(msgid)
        self._count_left(waiter)
        stats = self._services.stats
        if isinstance(result, CommandError):
            stats.count_error(waiter.method, result.code)
            reply = encode_error(msgid, result.code, str(result))
        else:
            stats.commands[waiter.method] += 1
            reply = encode_result(msgid, result)
        self.reply(reply, parks=True)
        if self.outlet is not None:
            self.outlet.output_ready()
        else:
            self.flush()

    def _charge(self, size: int) -> None:
        """A request is to wait: it counts for the principals that all waiting ones count for. Raises Busy."""
        charged: list[Quota] = []
        try:
            for quota in self._charged:
                quota.park(size)
                charged.append(quota)
        except Busy:
            for quota in charged:
                quota.parked_bytes -= size
            raise

    def _count_left(self, waiter: Waiter) -> None:
        """A request waits no longer."""
        size, memory_bytes = waiter.size, waiter.memory_bytes
        for quota in self._charged:
            quota.parked_bytes -= memory_bytes
        self.parked_items -= size
        self._services.remove_parked(size, memory_bytes)

    def need_room_to_wait(self) -> None:
        """Raise Busy where no further request may wait: too many wait, or have waited and are not acknowledged."""
        if len(self.parked) + len(self.parked_replies) >= PARKED_MAX:
            raise Busy(f"at most {PARKED_MAX} requests of a client wait at a time")
        if self.long_bytes > UNACKNOWLEDGED_BYTES_MAX:
            raise Busy(f"too many bytes of replies are not acknowledged; {ASK_FOR_ACK}")

    def cancel(self, msgid: int, now_ms: int) -> bool:
        """End a wait as if its time had run out; whether there was one."""
        waiter = self.parked.get(msgid)
        if waiter is None:
            return False
        waiter.end(now_ms)
        return True

    def refuse_parked(self, fault: CommandError) -> None:
        """Answer all parked requests with an error; nothing of them was done."""
        for waiter in list(self.parked.values()):
            waiter.leave()
            waiter.finish(fault)

    def empty_queues(self, entries_max: int) -> int:
        """It has ended: take its waiters out of their queues, for up to about `entries_max` entries of work. Returns
        how many were done."""
        done = 0
        while self.parked and done < entries_max:
            _, waiter = self.parked.popitem()
            self._count_left(waiter)
            done += 1 + waiter.drop()
        return done

    # ---------------------------------------------------------------------------------------- holds

    def need_room_for_holds(self, items: int) -> None:
        """Raise NoSession for a temporary session, Busy where too much is held already."""
        if self.id is None:
            raise NoSession("acquire needs a session: hello opens one")
        self.holds.need_room(items)

    def hold(self, sums: dict[bytes, int]) -> int:
        """Note that these amounts, which have just been added, are held; the hold's number."""
        number = self._services.next_hold()
        self.holds.add(number, sums)
        return number

    # ---------------------------------------------------------------------------------------- for operators

    def as_dict(self, now_ms: int) -> dict[str, Any]:
        """What `sessions` shows. Never the id."""
        return {
            "session": self.number,
            "user": None if self.login is None else self.login.rights.user,
            "name": self.name,
            "address": self.address,
            "cache": self.cache.name,
            "connected": self.outlet is not None,
            "age_ms": now_ms - self.opened_ms,
            "lease_ms": self.lease_ms,
            "commands": self.accepted,
            "unacknowledged": self.replied - self.acknowledged,
            "kept_bytes": self.kept_bytes,
            "parked": len(self.parked),
            "holds": len(self.holds),
            "held": list(self.holds.first(HELD_SHOWN_MAX, now_ms).items()),
            "waits": [(awaits, keys) for awaits, keys, _ in self.waits(WAITS_SHOWN_MAX)],
        }

    def waits(self, count_max: int) -> list[tuple[str, tuple[bytes, ...], int]]:
        """The first of its requests that wait: for `room` or for `zero`, for which keys (the first few), and since
        when, in milliseconds. O(count_max)."""
        return [
            (waiter.awaits, waiter.keys[:WAIT_KEYS_SHOWN_MAX], waiter.since_ms)
            for waiter in islice(self.parked.values(), count_max)
        ]

    def price_of_dict(self) -> int:
        """What `as_dict` costs, in entries."""
        entries = LISTED_ENTRIES
        if self.holds:
            entries += min(self.holds.items, LOOKED_AT_MAX) // 4 + min(self.holds.items, HELD_SHOWN_MAX)
        if self.parked:
            entries += min(len(self.parked), WAITS_SHOWN_MAX)
        return entries

    def invariants(self) -> None:
        """Raise AssertionError, naming what is wrong, unless the counts agree. O(everything)."""
        self.holds.invariants()
        assert self.parked_items == sum(waiter.size for waiter in self.parked.values()), "parked_items is off"
        assert self.kept_bytes == sum(len(chunk) for _, chunk in self._kept), "kept_bytes is off"
        assert self.long_bytes == sum(size for _, size in self._long), "long_bytes is off"
