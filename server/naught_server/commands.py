"""The table of commands: name, number of parameters, the shards it touches, its handler. Sans-IO.

A handler gets the connection that asks (`Peer`), the decoded parameters and the time. It returns the result; or
raises a `CommandError`, whose code and sentence become the reply; or returns

- a generator, which works in slices: each `next()` is one bounded step, and its returned value is the result;
- a `Waiter`, which is parked;
- a `Batch`, which is done in portions, before any later request of the connection.

Each handler checks all its parameters (`params.py`) before it changes anything. PROTOCOL.md says what the methods
mean; `store.py` has their state. `incr`, `decr` and `apply` are here too: the hot path hands over every request that
is not plain.

Each row of the table has a price, in entries. It is taken from the turn before the handler runs; a handler that finds
out its price as it works takes it with `Peer.spend`. The section "prices" below has the figures.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

from naught._version import __version__
from naught.errors import InvalidRequest, NoSession, Unauthenticated
from naught.wire.limits import (
    BATCH_ITEMS_MAX,
    ITEMS_AT_ONCE_MAX,
    MSGID_MAX,
    NAME_BYTES_MAX,
    REPLY_BYTES_MAX,
    SECRET_BYTES_MAX,
    SESSION_ID_BYTES,
    SLOW_TURNS_MAX,
    TTL_MS_MAX,
    USER_BYTES_MAX,
    VALUE_MAX,
)
from naught_server.access import Login, Names, Rule
from naught_server.batch import Batch, DecodedItems
from naught_server.decoder import Map
from naught_server.engine import Engine
from naught_server.expiry import LATER_SLOTS, SLOTS
from naught_server.listing import LongPage, live_pieces, needs_long_page, short_page
from naught_server.params import (
    Params,
    array_of,
    filled,
    flag_of,
    integer_of,
    key_of,
    keys_of,
    kind_of,
    limited_of,
    name_of,
    prefix_of,
    traceparent_of,
    ttl_of,
    wait_of,
    word_of,
)
from naught_server.session import Session, Slices
from naught_server.sessions import Sessions
from naught_server.store import Bucket, Cache
from naught_server.sweep import LOOKS_AT_ONCE
from naught_server.waiters import AcquireWaiter, Waiter, ZeroWaiter, sums_of

Touches = Callable[[Session, Params], Iterable[int]]


class Peer(Protocol):
    """The connection that asks, as far as handlers use it."""

    session: Session

    @property
    def engine(self) -> Engine: ...

    def spend(self, entries: int) -> None:
        """Take work that was done from this turn, beside the price of the command."""

    @property
    def login(self) -> Login | None:
        """Which user it is; None on a server without users."""

    def log_in(self) -> None:
        """Take the user whose secret is in this `hello` and was checked before. Raises Unauthenticated, Busy."""

    def trace(self, traceparent: str | None) -> None:
        """Later requests of the connection belong to this trace; None for none."""

    def end_session(self, now_ms: int) -> None:
        """End the session, by `bye`. Later requests of this connection belong to a new, temporary one."""

    def resume_session(self, session_id: bytes, received: int) -> Session:
        """Take over the session of this id; the session."""


SLICE_ENTRIES: Final = 1_000
"""Raw entries that `top`, and `count` with a prefix, look at in one step, at 0.11 us each."""

SLICE_PRICE: Final = 250
"""What such a step costs its turn: all of it."""

HEAPED_AT_ONCE: Final = 250
"""Counters that `top` puts into its heap, or takes out of it, in one step, at up to 2 us each."""

RAW_ENTRIES_PER_ENTRY: Final = 4
"""Raw entries that a page of a scan passes for an entry: 0.11 us each."""


# ------------------------------------------------------------------------------------- prices
# One unit for all commands: an entry, about 0.5 us of work on the careful path, interpreted. A turn has
# `limits.TURN_ITEMS_MAX` entries. Measured on CPython 3.11, the least of 20 calls with 1 000 items each, rounded up:
#
#     a request, decoded, executed and answered      4.8 to 6.1 us
#     get_many                                       0.87 us an item
#     take of counters that exist                    1.3 us an item
#     try_incr granted, refused, creating            2.5, 2.0, 3.4 us an item
#     acquire granted                                3.1 us an item; parked 7.2; leaving its queues 0.6
#     release of a whole hold, of items              1.0, 2.7 us an amount
#     held                                           0.9 us an amount
#     count of 256 shards                            6 us
#     clear of 256 shards                            84 us, and 0.03 us for each slot of the wheel
#     sessions                                       2.6 us a session that is listed, 0.5 us each amount and each wait
#                                                    that is shown, 0.15 us each amount that is looked at, 0.01 us a
#                                                    session that is passed over
#     info                                           18 us for a cache

Price = Callable[[Session, Params], int]
"""What a call with these parameters will cost its turn, in entries, beside the price of every request."""

REQUEST_ENTRIES: Final = 10
"""Every request on the careful path, and every notification."""

ELEMENTS_PER_ENTRY: Final = 2
"""Elements of a large message that are walked over and decoded for an entry: 0.65 us each, compiled 0.1."""

KEYS_LOOKED_AT_PER_ENTRY: Final = 4
"""Keys of the wheel whose deadlines `clear` looks at for an entry, where some have expired and are still there."""

INFO_ENTRIES: Final = 24
"""What `info` says of a cache, beside its counts."""

HOLDS_PASSED_PER_ENTRY: Final = 8
"""Holds that a list passes over for an entry."""

HOLDS_LISTED_PER_ENTRY: Final = 64
"""Holds whose numbers are listed for an entry."""

HELD_ENTRIES: Final = 2
"""Each amount of a hold in a list."""

HOLDERS_LISTED_MAX: Final = 1_024
"""Sessions in a reply of `holders`: each takes at most `HOLDER_BYTES` of it."""

HOLDER_BYTES: Final = 90 + NAME_BYTES_MAX
"""Two integers, a name and an address, with what comes before each."""

assert HOLDERS_LISTED_MAX * HOLDER_BYTES + 64 < REPLY_BYTES_MAX


def _of_items(entries: int) -> Price:
    """So much for each item of the first parameter."""

    def price(session: Session, params: Params) -> int:
        return entries * len(params[0]) if params and params[0].__class__ is tuple else 0

    return price


def _fixed(entries: int) -> Price:
    """So much for each call."""
    return lambda session, params: entries


def _of_release(session: Session, params: Params) -> int:
    if len(params) == 2 and params[1].__class__ is tuple:
        return 6 * len(params[1])
    hold = session.holds.get(params[0]) if params and params[0].__class__ is int else None
    return 0 if hold is None else 3 * len(hold.amounts)


def _of_clear(session: Session, params: Params) -> int:
    cache = session.cache
    slots = SLOTS + LATER_SLOTS if cache.wheel.count else 0
    return len(cache.tables) // 2 + slots // 16 + cache.waiters.price_of_clear()


def _of_sweep(session: Session, params: Params) -> int:
    return SLICE_ENTRIES + LOOKS_AT_ONCE


_FREE: Final = _fixed(0)

Audited = Callable[[Session, Params, Any], dict[str, object] | None]
"""What the log says of a call that an operator may be asked about later, by its result; None where it changed
nothing."""


def _audit_clear(session: Session, params: Params, evicted: Any) -> dict[str, object]:
    return {"cache": session.cache.name, "evicted": evicted}


def _audit_end_session(session: Session, params: Params, found: Any) -> dict[str, object] | None:
    return {"ended": params[0]} if found else None


def _audit_slowlog_reset(session: Session, params: Params, removed: Any) -> dict[str, object]:
    return {"removed": removed}


def _audit_config_set(session: Session, params: Params, value: Any) -> dict[str, object]:
    return {"setting": word_of(params[0], "name"), "value": value}


class Command(NamedTuple):
    """One row of the table."""

    run: Callable[[Peer, Params, int], Any]
    rule: Rule  # who may ask it
    params_min: int
    params_max: int
    touches: Touches
    price: Price = _FREE
    passes: bool = False  # runs also when the client has too many unacknowledged replies: it gives something back
    outside: bool = False  # stands outside of the session's streams: neither it nor its reply is counted
    waits: bool = False  # may wait for its reply, for as long as its second parameter says
    audit: Audited | None = None  # what the log says of it, whatever the level

    def may_wait(self, params: Params) -> bool:
        """Whether its reply may come later. Such requests have a bound of their own, also when they are answered at
        once: a client has to know which bound a request counts against before it is answered."""
        return self.waits and len(params) == 2 and params[1] != 0


# ------------------------------------------------------------------------------------- which shards are touched
# Asked only while some shard is held. Bad parameters touch nothing: the handler refuses them.


def _no_shard(session: Session, params: Params) -> Iterable[int]:
    return ()


def _shard_of_key(session: Session, params: Params) -> Iterable[int]:
    return shards_of(session.cache, params[:1])


def _shards_of_keys(session: Session, params: Params) -> Iterable[int]:
    return shards_of(session.cache, params[0]) if params and isinstance(params[0], tuple) else ()


def _shards_of_items(session: Session, params: Params) -> Iterable[int]:
    if not params or not isinstance(params[0], tuple):
        return ()
    return shards_of(session.cache, [item[0] for item in params[0] if isinstance(item, tuple) and item])


def _shards_of_hold(session: Session, params: Params) -> Iterable[int]:
    if not params or params[0].__class__ is not int:
        return ()
    if len(params) == 2 and params[1] is not None:
        return _shards_of_items(session, params[1:])
    hold = session.holds.get(params[0])
    return shards_of(session.cache, hold.amounts) if hold is not None else ()


def shards_of(cache: Cache, keys: Iterable[object]) -> Iterable[int]:
    """The shards of these keys, in rising order."""
    # All connections take shards in this order, so two that need several never wait for each other.
    return sorted({cache.shard_of(key) for key in keys if isinstance(key, bytes)})


def _all_shards(session: Session, params: Params) -> Iterable[int]:
    return range(len(session.cache.tables))


# ------------------------------------------------------------------------------------- counters


def incr(peer: Peer, params: Params, now_ms: int) -> int:
    key, by, ttl_ms = filled(params, 1, None)
    by = integer_of(by, "by", 1, VALUE_MAX)
    return peer.session.cache.incr(key_of(key), by, ttl_of(ttl_ms), now_ms)


def decr(peer: Peer, params: Params, now_ms: int) -> int:
    key, by, strict = filled(params, 1, False)
    by = integer_of(by, "by", 1, VALUE_MAX)
    return peer.session.cache.decr(key_of(key), by, flag_of(strict, "strict"), now_ms)


def apply(peer: Peer, params: Params, now_ms: int) -> Batch:
    keys = array_of(params[0], "keys")
    deltas = params[1]
    ttl_ms = ttl_of(params[2]) if len(params) == 3 else None
    if deltas.__class__ is tuple:
        if len(deltas) != len(keys):
            raise InvalidRequest(f"apply has {len(keys)} keys and {len(deltas)} deltas")
    elif not integer_of(deltas, "delta", -VALUE_MAX, VALUE_MAX):
        raise InvalidRequest("a delta is an integer, not 0")
    login = peer.login
    rights = login.rights if login is not None and login.rights.prefixes else None
    return Batch(DecodedItems(keys, deltas), ttl_ms, rights=rights)


def get(peer: Peer, params: Params, now_ms: int) -> int:
    return peer.session.cache.get(key_of(params[0]), now_ms)


def get_many(peer: Peer, params: Params, now_ms: int) -> list[int]:
    value_of = peer.session.cache.get
    return [value_of(key, now_ms) for key in keys_of(params[0])]


def set_(peer: Peer, params: Params, now_ms: int) -> int:
    key, value, ttl_ms = filled(params, None, None)
    value = integer_of(value, "value", 0, VALUE_MAX)
    return peer.session.cache.set(key_of(key), value, ttl_of(ttl_ms), now_ms)


def take(peer: Peer, params: Params, now_ms: int) -> list[int]:
    return peer.session.cache.take(keys_of(params[0]), now_ms)


def try_incr(peer: Peer, params: Params, now_ms: int) -> tuple[bool, list[int]]:
    ttl_ms = ttl_of(params[1]) if len(params) == 2 else None
    return peer.session.cache.try_incr(limited_of(params[0]), ttl_ms, now_ms)


def throttle(peer: Peer, params: Params, now_ms: int) -> tuple[bool, int, int, int]:
    key = key_of(params[0])
    limit = integer_of(params[1], "limit", 1, VALUE_MAX)
    per_ms = integer_of(params[2], "per_ms", 1, TTL_MS_MAX)
    burst = integer_of(params[3], "burst", 1, VALUE_MAX) if len(params) > 3 else limit
    by = integer_of(params[4], "by", 0, VALUE_MAX) if len(params) > 4 else 1
    if by > burst:
        raise InvalidRequest(f"by is at most {burst}, the burst: {by} can never be granted")
    room = burst * per_ms
    if room > VALUE_MAX:
        raise InvalidRequest(f"burst times per_ms is at most {VALUE_MAX}, not {room}")
    if room > limit * TTL_MS_MAX:
        raise InvalidRequest(f"a burst is used up for at most {TTL_MS_MAX} ms, not {room // limit}")
    return peer.session.cache.throttle(key, Bucket(limit, per_ms, burst), by, now_ms)


def expire(peer: Peer, params: Params, now_ms: int) -> bool:
    return peer.session.cache.expire_in(key_of(params[0]), ttl_of(params[1]), now_ms)


def ttl(peer: Peer, params: Params, now_ms: int) -> int | None:
    return peer.session.cache.ttl(key_of(params[0]), now_ms)


# ------------------------------------------------------------------------------------- many counters


def scan(peer: Peer, params: Params, now_ms: int) -> tuple[Any, list[bytes], list[int]] | Slices:
    cursor, count, prefix = filled(params, 100, b"")
    if cursor == 0 and cursor.__class__ is int:
        cursor = b""
    elif cursor.__class__ is not bytes or not cursor:
        raise InvalidRequest("a cursor is 0, or what the last page of this scan gave")
    count = integer_of(count, "count", 1, BATCH_ITEMS_MAX)
    prefix = prefix_of(prefix)
    cache = peer.session.cache
    if needs_long_page(cache, cursor):
        return _scan_long(peer.session, cache, cursor, count, prefix)
    following, keys, values, passed = short_page(cache, cursor, count, prefix, now_ms)
    peer.spend(passed // RAW_ENTRIES_PER_ENTRY + len(keys) // 2)
    return following or 0, keys, values


def _scan_long(session: Session, cache: Cache, cursor: bytes, count: int, prefix: bytes) -> Slices:
    """A page of a scan that goes on in a large shard. All pages of a shard are in byte order, so each page has to
    pass all its entries."""
    page = LongPage(cache, cursor, count, prefix)
    while not page.step(session.now_ms, SLICE_ENTRIES):
        yield
    following, keys, values = page.result()
    return following or 0, keys, values


def top(peer: Peer, params: Params, now_ms: int) -> Slices:
    n = integer_of(params[0], "n", 1, BATCH_ITEMS_MAX)
    prefix = prefix_of(params[1]) if len(params) == 2 else b""
    return _top(peer.session, peer.session.cache, n, prefix)


def _top(session: Session, cache: Cache, n: int, prefix: bytes) -> Slices:
    best: list[tuple[int, bytes, bytes]] = []  # a heap of the best so far: the first is the worst of them
    for found in live_pieces(cache, prefix, SLICE_ENTRIES, lambda: session.now_ms):
        entered = 0
        for key, value in found:
            if len(best) < n:
                heapq.heappush(best, (value, _reversed_order(key), key))
            elif value > best[0][0] or (value == best[0][0] and key < best[0][2]):
                heapq.heappushpop(best, (value, _reversed_order(key), key))
            else:
                continue
            entered += 1
            if entered % HEAPED_AT_ONCE == 0:
                yield
        yield
    keys: list[bytes] = []
    values: list[int] = []
    while best:
        for _ in range(min(len(best), HEAPED_AT_ONCE)):
            value, _, key = heapq.heappop(best)
            keys.append(key)
            values.append(value)
        yield
    return keys[::-1], values[::-1]


_COMPLEMENT: Final = bytes(range(255, -1, -1))


def _reversed_order(key: bytes) -> bytes:
    """Bytes that come before another's where its key comes after the other's: of equal counters the last is the worst
    of a heap. What is at the end is above all bytes of a key, as a key comes after those that it begins with."""
    return key.translate(_COMPLEMENT).replace(b"\xff", b"\xff\x00") + b"\xff\xff"


def count(peer: Peer, params: Params, now_ms: int) -> int | Slices:
    prefix = prefix_of(params[0]) if params else b""
    if prefix:
        return _count_prefix(peer.session, peer.session.cache, prefix)
    peer.spend(peer.session.cache.price_of_count(now_ms))
    counters, exact = peer.session.cache.live_count(now_ms)
    return counters if exact else _count_all(peer.session, peer.session.cache)


def _count_prefix(session: Session, cache: Cache, prefix: bytes) -> Slices:
    total = 0
    for found in live_pieces(cache, prefix, SLICE_ENTRIES, lambda: session.now_ms):
        total += len(found)
        yield
    return total


def _count_all(session: Session, cache: Cache) -> Slices:
    while True:
        counters, exact = cache.live_count(session.now_ms)
        if exact:
            return counters
        yield


def clear(peer: Peer, params: Params, now_ms: int) -> int:
    cache = peer.session.cache
    if cache.has_backlog(now_ms):
        peer.spend(cache.wheel.count // KEYS_LOOKED_AT_PER_ENTRY)
    evicted = cache.clear(now_ms)
    peer.engine.tables_replaced()
    return evicted


# ------------------------------------------------------------------------------------- holding and waiting


def acquire(peer: Peer, params: Params, now_ms: int) -> tuple[bool, list[int], int | None] | Waiter:
    items = limited_of(params[0])
    wait_ms = wait_of(params[1], "wait_ms") if len(params) == 2 else 0
    sums = sums_of(items)
    peer.session.need_room_for_holds(len(sums))
    cache = peer.session.cache
    queues = cache.waiters.queues.by_key
    if not queues or queues.keys().isdisjoint(sums):
        granted, values = cache.add_within(items, sums, None, now_ms)
        if granted:
            return True, values, peer.session.hold(sums)
    # An amount above its own limit could never be granted; waiting, it would only block the others.
    if wait_ms == 0 or any(sums[key] > limit for key, _, limit in items):
        return False, cache.peek([key for key, _, _ in items], now_ms), None
    return AcquireWaiter(cache.waiters, wait_ms, items, peer.session.hold)


def release(peer: Peer, params: Params, now_ms: int) -> list[int]:
    number = integer_of(params[0], "hold", 1, VALUE_MAX)
    if len(params) == 1 or params[1] is None:
        return peer.session.holds.release(number, None, now_ms)
    items = []
    for item in array_of(params[1], "items", ITEMS_AT_ONCE_MAX):
        if item.__class__ is not tuple or len(item) != 2:
            raise InvalidRequest("an item is [key, by]")
        items.append((key_of(item[0]), integer_of(item[1], "by", 1, VALUE_MAX)))
    if not items:
        raise InvalidRequest("items has at least 1 item")
    return peer.session.holds.release(number, items, now_ms)


def held(peer: Peer, params: Params, now_ms: int) -> list[tuple[int, list[tuple[bytes, int]]]] | Slices:
    after = integer_of(params[0], "after", 0, VALUE_MAX) if params else 0
    holds = peer.session.holds
    numbers = holds.numbers()
    peer.spend(len(holds) // HOLDS_LISTED_PER_ENTRY)
    page = holds.page(numbers, after, now_ms)
    peer.spend(page.passed // HOLDS_PASSED_PER_ENTRY + HELD_ENTRIES * page.looked_at)
    return page.result() if page.is_whole else _held_behind(peer.session, numbers, after)


def _held_behind(session: Session, numbers: Iterator[int], after: int) -> Slices:
    """The page, where all holds that were looked at first have ended."""
    while not (page := session.holds.page(numbers, after, session.now_ms)).is_whole:
        yield
    return page.result()


def wait_zero(peer: Peer, params: Params, now_ms: int) -> bool | Waiter:
    key = key_of(params[0])
    timeout_ms = wait_of(params[1], "timeout_ms")
    if not peer.session.cache.get(key, now_ms):
        return True
    return ZeroWaiter(peer.session.cache.waiters, timeout_ms, key) if timeout_ms != 0 else False


def cancel(peer: Peer, params: Params, now_ms: int) -> bool:
    return peer.session.cancel(integer_of(params[0], "msgid", 0, MSGID_MAX), now_ms)


# ------------------------------------------------------------------------------------- sessions


def hello(peer: Peer, params: Params, now_ms: int) -> dict[str, Any]:
    words = _words_of(params)
    engine = peer.engine
    session = peer.session
    if "user" in words or "secret" in words:
        user_of(words)
        peer.log_in()
    if peer.login is None and engine.access.required:
        raise Unauthenticated("this server has users: hello takes the words user and secret")
    answer: dict[str, Any] = {"server": "naught", "version": __version__}
    if peer.login is not None:
        answer["user"] = peer.login.rights.user
    cache = _cache_of(peer, words)
    name = name_of(words["name"]) if "name" in words else session.name
    wanted = words.get("session")
    if wanted is None and ("received" in words or "lease_ms" in words):
        raise InvalidRequest("received and lease_ms say something about a session, and none is asked for")
    if isinstance(wanted, bytes):
        return answer | _resume(peer, wanted, words)
    if cache is not session.cache and session.id is not None:
        raise InvalidRequest(f"a session works on one cache, and this one on {session.cache.name!r}")
    if wanted is not None:
        if wanted is not True:
            raise InvalidRequest("session is true to open one, or the id of the one to resume")
        lease = words.get("lease_ms")
        lease_ms = None if lease is None else integer_of(lease, "lease_ms", 1, VALUE_MAX)
        engine.sessions.open(session, lease_ms, now_ms)
        answer |= {"session": session.id, "lease_ms": session.lease_ms}
    session.use_cache(cache)
    session.rename(name)
    return answer | {"cache": cache.name}


def _cache_of(peer: Peer, words: dict[str, object]) -> Cache:
    """The cache that hello names, or the one that the connection has. Raises Denied."""
    if "cache" not in words:
        return peer.session.cache
    name = word_of(words["cache"], "cache")
    login = peer.login
    if login is not None and not login.rights.may_use(name):
        raise login.rights.refuse_cache(name)
    return peer.engine.store.cache(name)


def credentials_of(params: Params) -> tuple[str, bytes] | None:
    """The user and the secret of a hello; None where it has none, or what it has is not valid."""
    asked = params[0] if params else None
    if not isinstance(asked, Map):
        return None
    words = {raw.decode("latin-1"): value for raw, value in asked.pairs if isinstance(raw, bytes)}
    try:
        return user_of(words)
    except InvalidRequest:
        return None


def user_of(words: dict[str, Any]) -> tuple[str, bytes]:
    """The user and the secret of a hello. Raises InvalidRequest, which never says what they are."""
    user, secret = words.get("user"), words.get("secret")
    if user.__class__ is not bytes or not 0 < len(user) <= USER_BYTES_MAX:
        raise InvalidRequest(f"user is a string of 1 to {USER_BYTES_MAX} bytes")
    if secret.__class__ is not bytes or not 0 < len(secret) <= SECRET_BYTES_MAX:
        raise InvalidRequest(f"secret is a string of 1 to {SECRET_BYTES_MAX} bytes, and comes with a user")
    return user.decode("utf-8", "replace"), secret


def _words_of(params: Params) -> dict[str, object]:
    """The map that hello was given, by word."""
    asked = params[0] if params else Map([])
    if not isinstance(asked, Map):
        raise InvalidRequest(f'hello takes a map such as {{"cache": name}}, not {kind_of(asked)}')
    known = ("cache", "session", "received", "lease_ms", "name", "user", "secret")
    words: dict[str, object] = {}
    for raw, value in asked.pairs:
        word = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""
        if word not in known:
            raise InvalidRequest(f"hello knows the words {', '.join(known)} and no other")
        if value is None:
            raise InvalidRequest(f"{word} is not nil; a word that says nothing is left out")
        words[word] = value
    return words


def _resume(peer: Peer, session_id: bytes, words: dict[str, object]) -> dict[str, Any]:
    if len(session_id) != SESSION_ID_BYTES:
        raise InvalidRequest(f"the id of a session has {SESSION_ID_BYTES} bytes, not {len(session_id)}")
    if "lease_ms" in words or "cache" in words or "name" in words:
        raise InvalidRequest("a session that is resumed has its cache, its lease and its name already")
    received = integer_of(words.get("received"), "received", 0, VALUE_MAX)
    session = peer.resume_session(session_id, received)
    return {
        "session": session.id,
        "lease_ms": session.lease_ms,
        "accepted": session.accepted,
        "replies_from": session.acknowledged + 1,
        "cache": session.cache.name,
    }


def ack(peer: Peer, params: Params, now_ms: int) -> None:
    if peer.session.id is None:
        raise NoSession("there is no session, and nothing to acknowledge")
    peer.session.acknowledge(integer_of(params[0], "received", 0, VALUE_MAX))


def bye(peer: Peer, params: Params, now_ms: int) -> None:
    peer.end_session(now_ms)


def sessions(peer: Peer, params: Params, now_ms: int) -> list[dict[str, Any]]:
    after = integer_of(params[0], "after", 0, VALUE_MAX) if params else 0
    found, entries = peer.engine.sessions.page(after, now_ms)
    peer.spend(entries)
    return found


def holders(peer: Peer, params: Params, now_ms: int) -> Slices:
    key = key_of(params[0])
    after = integer_of(params[1], "after", 0, VALUE_MAX) if len(params) == 2 else 0
    return _holders(peer.session, peer.session.cache, peer.engine.sessions, key, after)


def _holders(
    session: Session, cache: Cache, sessions: Sessions, key: bytes, after: int
) -> Generator[None, None, list[tuple[int, str, int, str]]]:
    # Listed in one step and looked at in steps, as the keys of a shard are. So each amount was true in that step.
    amounts = [] if cache.is_expired(key, session.now_ms) else cache.waiters.held_by(key)
    while True:
        first: list[tuple[int, int]] = []  # those of the page, by the numbers of their sessions
        for begin in range(0, len(amounts), SLICE_ENTRIES):
            first += [each for each in amounts[begin : begin + SLICE_ENTRIES] if each[0] > after]
            first.sort()
            del first[HOLDERS_LISTED_MAX:]
            yield
        found = []
        for number, amount in first:
            holder = sessions.get(number)
            if holder is not None:  # it has not ended since
                found.append((number, holder.name, min(amount, VALUE_MAX), holder.address))
        if found or not first:
            return found
        after = first[-1][0]


def end_session(peer: Peer, params: Params, now_ms: int) -> bool:
    number = integer_of(params[0], "session", 1, VALUE_MAX)
    if number == peer.session.number:
        raise InvalidRequest("this connection has that session; bye ends it")
    sessions = peer.engine.sessions
    session = sessions.get(number)
    if session is None:
        return False
    peer.spend(sessions.end_by_operator(session, now_ms))
    return True


# ------------------------------------------------------------------------------------- what was slow


def trace(peer: Peer, params: Params, now_ms: int) -> None:
    peer.trace(traceparent_of(params[0]))


def slowlog(peer: Peer, params: Params, now_ms: int) -> list[dict[str, Any]]:
    n = integer_of(params[0], "n", 1, SLOW_TURNS_MAX) if params else _SLOW_TURNS_LISTED
    found = [turn.as_dict() for turn in peer.engine.stats.slow_log.slowest(n)]
    peer.spend(_SLOW_TURN_ENTRIES * len(found) + SLOW_TURNS_MAX // 8)
    return found


def slowlog_reset(peer: Peer, params: Params, now_ms: int) -> int:
    return peer.engine.stats.slow_log.reset()


_SLOW_TURN_ENTRIES: Final = 2
"""Each turn in the list."""

_SLOW_TURNS_LISTED: Final = 32
"""Unless the request says how many."""

assert SLOW_TURNS_MAX * 512 <= REPLY_BYTES_MAX, "each takes less than 512 bytes of the reply"


# ------------------------------------------------------------------------------------- administration


def ping(peer: Peer, params: Params, now_ms: int) -> str:
    return "pong"


def info(peer: Peer, params: Params, now_ms: int) -> dict[str, Any]:
    engine = peer.engine
    for cache in engine.store.caches.values():
        peer.spend(INFO_ENTRIES + cache.price_of_count(now_ms))
    return engine.info(now_ms)


def config_get(peer: Peer, params: Params, now_ms: int) -> Any:
    settings = peer.engine.settings
    return settings.value(word_of(params[0], "name")) if params and params[0] is not None else settings.as_dict()


def config_set(peer: Peer, params: Params, now_ms: int) -> object:
    name = word_of(params[0], "name")
    result = peer.engine.change_setting(name, params[1])
    peer.spend(peer.engine.price_of_setting(name))
    return result


def sweep(peer: Peer, params: Params, now_ms: int) -> int:
    return peer.engine.advance(now_ms, SLICE_ENTRIES, asked=True)


COMMANDS: Final[dict[bytes, Command]] = {
    b"incr": Command(incr, Rule("write", Names.KEY), 1, 3, _shard_of_key),
    b"decr": Command(decr, Rule("write", Names.KEY), 1, 3, _shard_of_key),
    b"apply": Command(apply, Rule("write", Names.EACH), 2, 3, _shards_of_keys),  # each portion has its own price
    b"get": Command(get, Rule("read", Names.KEY), 1, 1, _shard_of_key),
    b"get_many": Command(get_many, Rule("read", Names.KEYS), 1, 1, _shards_of_keys, _of_items(2)),
    b"set": Command(set_, Rule("write", Names.KEY), 2, 3, _shard_of_key),
    b"take": Command(take, Rule("write", Names.KEYS), 1, 1, _shards_of_keys, _of_items(3)),
    b"try_incr": Command(try_incr, Rule("write", Names.ITEMS), 1, 2, _shards_of_items, _of_items(6)),
    b"throttle": Command(throttle, Rule("write", Names.KEY), 3, 5, _shard_of_key),
    b"expire": Command(expire, Rule("write", Names.KEY), 2, 2, _shard_of_key),
    b"ttl": Command(ttl, Rule("read", Names.KEY), 1, 1, _shard_of_key),
    b"scan": Command(scan, Rule("read", Names.PREFIX, 2), 1, 3, _no_shard),
    b"top": Command(top, Rule("read", Names.PREFIX, 1), 1, 2, _no_shard),
    b"count": Command(count, Rule("read", Names.PREFIX, 0), 0, 1, _no_shard),
    b"clear": Command(clear, Rule("admin", Names.CACHE), 0, 0, _all_shards, _of_clear, audit=_audit_clear),
    b"acquire": Command(acquire, Rule("write", Names.ITEMS), 1, 2, _shards_of_items, _of_items(7), waits=True),
    b"release": Command(release, Rule("write", Names.ITEMS_OF_HOLD), 1, 2, _shards_of_hold, _of_release, passes=True),
    b"held": Command(held, Rule("read", Names.OWN), 0, 1, _no_shard),
    b"wait_zero": Command(wait_zero, Rule("read", Names.KEY), 2, 2, _shard_of_key, waits=True),
    b"cancel": Command(cancel, Rule("read", Names.OWN), 1, 1, _no_shard, passes=True),
    b"hello": Command(hello, Rule("read", Names.OWN, before_login=True), 0, 1, _no_shard, _fixed(20), outside=True),
    b"ack": Command(ack, Rule("read", Names.OWN), 1, 1, _no_shard, outside=True),
    b"bye": Command(bye, Rule("read", Names.OWN), 0, 0, _no_shard, outside=True),
    b"sessions": Command(sessions, Rule("admin", Names.SERVER), 0, 1, _no_shard),
    b"holders": Command(holders, Rule("read", Names.KEY), 1, 2, _no_shard),
    b"end_session": Command(end_session, Rule("admin", Names.SERVER), 1, 1, _no_shard, audit=_audit_end_session),
    # It passes, because the requests behind it would else be shown under an earlier trace.
    b"trace": Command(trace, Rule("read", Names.OWN), 1, 1, _no_shard, passes=True),
    b"slowlog": Command(slowlog, Rule("admin", Names.SERVER), 0, 1, _no_shard),
    b"slowlog_reset": Command(
        slowlog_reset, Rule("admin", Names.SERVER), 0, 0, _no_shard, audit=_audit_slowlog_reset
    ),
    b"ping": Command(ping, Rule("read", Names.OWN), 0, 0, _no_shard),
    b"info": Command(info, Rule("read", Names.SERVER), 0, 0, _no_shard),
    b"config_get": Command(config_get, Rule("admin", Names.SERVER), 0, 1, _no_shard),
    b"config_set": Command(config_set, Rule("admin", Names.SERVER), 2, 2, _no_shard, audit=_audit_config_set),
    b"sweep": Command(sweep, Rule("admin", Names.SERVER), 0, 0, _no_shard, _of_sweep),
}
