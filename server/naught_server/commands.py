"""The table of commands: name, number of parameters, the shards it touches, its handler. Sans-IO.

A handler gets the connection that asks (`Peer`), the decoded parameters and the time. It returns the result; or
raises a `CommandError`, whose code and sentence become the reply; or returns

- a generator, which works in slices: each `next()` is one bounded step, and its returned value is the result;
- a `Waiter`, which is parked;
- a `Batch`, which is done in portions, before any later request of the connection.

Each handler checks all its parameters (`params.py`) before it changes anything. PROTOCOL.md says what the methods
mean; `store.py` has their state. `incr`, `decr` and `apply` are here too: the loops in `protocol.py` hand over every
request that they do not do themselves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

from naught._version import __version__
from naught.errors import InvalidRequest, NoSession
from naught.wire.limits import BATCH_ITEMS_MAX, MSGID_MAX, REPLY_BYTES_MAX, SESSION_ID_BYTES, VALUE_MAX
from naught_server.batch import Batch
from naught_server.config import TURN_ITEMS_MAX
from naught_server.decoder import Map
from naught_server.engine import Engine
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
    prefix_of,
    ttl_of,
    wait_of,
    word_of,
)
from naught_server.session import Session, Slices
from naught_server.store import Cache
from naught_server.waiters import AcquireWaiter, Waiter, ZeroWaiter, sums_of

Touches = Callable[[Session, Params], Iterable[int]]


class Peer(Protocol):
    """The connection that asks, as far as handlers use it."""

    session: Session

    @property
    def engine(self) -> Engine: ...

    def end_session(self, now_ms: int) -> None:
        """End the session. Later requests of this connection belong to a new, nameless one."""

    def resume_session(self, session_id: bytes, received: int) -> Session:
        """Take over the session of this id; the session."""


SLICE_ENTRIES: Final = 4_000
"""Raw entries that `top`, and `count` with a prefix, look at in one step; about 0.5 ms."""


class Command(NamedTuple):
    """One row of the table."""

    run: Callable[[Peer, Params, int], Any]
    params_min: int
    params_max: int
    touches: Touches
    items: int = 0  # how much of a turn a call uses, in items, beside its parameters and its reply
    passes: bool = False  # runs also when the client has too many unacknowledged replies: it gives something back
    outside: bool = False  # stands outside of the session's streams: neither it nor its reply is counted
    in_portions: bool = False  # it is done in portions, and each portion pays for its items
    waits: bool = False  # may wait for its reply, for as long as its second parameter says

    def price_of(self, params: Params) -> int:
        """What a call with these parameters costs its turn, in entries, beside the one that each request costs."""
        if self.in_portions or not params or params[0].__class__ is not tuple:
            return self.items
        return self.items + len(params[0])

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
    return Batch(keys, deltas, ttl_ms)


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


def expire(peer: Peer, params: Params, now_ms: int) -> bool:
    return peer.session.cache.expire_in(key_of(params[0]), ttl_of(params[1]), now_ms)


def ttl(peer: Peer, params: Params, now_ms: int) -> int | None:
    return peer.session.cache.ttl(key_of(params[0]), now_ms)


# ------------------------------------------------------------------------------------- many counters


def scan(peer: Peer, params: Params, now_ms: int) -> tuple[Any, list[bytes], list[int]]:
    cursor, count, prefix = filled(params, 100, b"")
    if cursor == 0 and cursor.__class__ is int:
        cursor = b""
    elif cursor.__class__ is not bytes or not cursor:
        raise InvalidRequest("a cursor is 0, or what the last page of this scan gave")
    count = integer_of(count, "count", 1, BATCH_ITEMS_MAX)
    following, keys, values = peer.session.cache.scan(cursor, count, prefix_of(prefix), now_ms)
    return following or 0, keys, values


def top(peer: Peer, params: Params, now_ms: int) -> Slices:
    n = integer_of(params[0], "n", 1, BATCH_ITEMS_MAX)
    prefix = prefix_of(params[1]) if len(params) == 2 else b""
    return _top(peer.session, peer.session.cache, n, prefix)


def _top(session: Session, cache: Cache, n: int, prefix: bytes) -> Slices:
    best: list[tuple[bytes, int]] = []
    for found in _live_slices(session, cache, prefix):
        best = heapq.nsmallest(n, best + found, key=lambda item: (-item[1], item[0]))
        yield
    return [key for key, _ in best], [value for _, value in best]


def count(peer: Peer, params: Params, now_ms: int) -> int | Slices:
    prefix = prefix_of(params[0]) if params else b""
    if prefix:
        return _count_prefix(peer.session, peer.session.cache, prefix)
    counters, exact = peer.session.cache.live_count(now_ms)
    return counters if exact else _count_all(peer.session, peer.session.cache)


def _count_prefix(session: Session, cache: Cache, prefix: bytes) -> Slices:
    total = 0
    for found in _live_slices(session, cache, prefix):
        total += len(found)
        yield
    return total


def _count_all(session: Session, cache: Cache) -> Slices:
    while True:
        counters, exact = cache.live_count(session.now_ms)
        if exact:
            return counters
        yield


def _live_slices(session: Session, cache: Cache, prefix: bytes) -> Iterable[list[tuple[bytes, int]]]:
    """All live counters under a prefix, in pieces of about SLICE_ENTRIES raw entries, each read when it is its turn.

    Reads shards whose lock is held too: their owner does not change the table before its last step.
    """
    found: list[tuple[bytes, int]] = []
    looked_at = 0
    for shard in range(len(cache.tables)):
        found += cache.counters_of(shard, session.now_ms, prefix)
        looked_at += len(cache.tables[shard]) + 1
        if looked_at >= SLICE_ENTRIES:
            yield found
            found = []
            looked_at = 0
    yield found


def clear(peer: Peer, params: Params, now_ms: int) -> int:
    evicted = peer.session.cache.clear(now_ms)
    peer.engine.tables_replaced()
    return evicted


# ------------------------------------------------------------------------------------- holding and waiting


def acquire(peer: Peer, params: Params, now_ms: int) -> tuple[bool, list[int], int | None] | Waiter:
    items = limited_of(params[0])
    wait_ms = wait_of(params[1], "wait_ms") if len(params) == 2 else 0
    sums = sums_of(items)
    peer.session.need_room_for_holds(len(sums))
    cache = peer.session.cache
    queues = cache.waiters.queues
    if not queues or queues.keys().isdisjoint(sums):
        granted, values = cache.add_within(items, sums, None, now_ms)
        if granted:
            return True, values, peer.session.hold(sums)
    # An amount above its own limit could never be granted; waiting, it would only block the others.
    if wait_ms == 0 or any(sums[key] > limit for key, _, limit in items):
        return False, cache.peek([key for key, _, _ in items], now_ms), None
    return AcquireWaiter(cache.waiters, wait_ms, items, peer.session.hold)


def release(peer: Peer, params: Params, now_ms: int) -> list[int]:
    number = integer_of(params[0], "hold", 0, VALUE_MAX)
    if len(params) == 1 or params[1] is None:
        return peer.session.holds.release(number, None, now_ms)
    items = []
    for item in array_of(params[1], "items"):
        if item.__class__ is not tuple or len(item) != 2:
            raise InvalidRequest("an item is [key, by]")
        items.append((key_of(item[0]), integer_of(item[1], "by", 1, VALUE_MAX)))
    if not items:
        raise InvalidRequest("items has at least 1 item")
    return peer.session.holds.release(number, items, now_ms)


def held(peer: Peer, params: Params, now_ms: int) -> list[tuple[int, list[tuple[bytes, int]]]]:
    after = integer_of(params[0], "after", 0, VALUE_MAX) if params else 0
    return peer.session.holds.page(after, now_ms)


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
    answer: dict[str, Any] = {"server": "naught", "version": __version__}
    cache = engine.store.cache(word_of(words["cache"], "cache")) if "cache" in words else session.cache
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
    return answer | {"cache": cache.name}


def _words_of(params: Params) -> dict[str, object]:
    """The map that hello was given, by word."""
    asked = params[0] if params else Map([])
    if not isinstance(asked, Map):
        raise InvalidRequest(f'hello takes a map such as {{"cache": name}}, not {kind_of(asked)}')
    known = ("cache", "session", "received", "lease_ms")
    words: dict[str, object] = {}
    for word, value in asked.pairs:
        name = word.decode("utf-8", "replace") if isinstance(word, bytes) else ""
        if name not in known:
            raise InvalidRequest(f"hello knows the words {', '.join(known)} and no other")
        if value is None:
            raise InvalidRequest(f"{name} is not nil; a word that says nothing is left out")
        words[name] = value
    return words


def _resume(peer: Peer, session_id: bytes, words: dict[str, object]) -> dict[str, Any]:
    if len(session_id) != SESSION_ID_BYTES:
        raise InvalidRequest(f"the id of a session has {SESSION_ID_BYTES} bytes, not {len(session_id)}")
    if "lease_ms" in words or "cache" in words:
        raise InvalidRequest("a session that is resumed has its cache and its lease already")
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
    return peer.engine.sessions.page(after, _SESSIONS_LISTED_MAX, now_ms)


_SESSIONS_LISTED_MAX: Final = REPLY_BYTES_MAX // 512
"""Each takes less than 512 bytes of the reply."""


# ------------------------------------------------------------------------------------- administration


def ping(peer: Peer, params: Params, now_ms: int) -> str:
    return "pong"


def info(peer: Peer, params: Params, now_ms: int) -> dict[str, Any]:
    return peer.engine.info(now_ms)


def config_get(peer: Peer, params: Params, now_ms: int) -> Any:
    words = peer.engine.settings.as_dict()
    if not params or params[0] is None:
        return words
    name = word_of(params[0], "name")
    if name not in words:
        raise InvalidRequest(f"there is no setting named {name!r}; there are: {', '.join(words)}")
    return words[name]


def config_set(peer: Peer, params: Params, now_ms: int) -> object:
    return peer.engine.settings.change(word_of(params[0], "name"), params[1])


def sweep(peer: Peer, params: Params, now_ms: int) -> int:
    return peer.engine.advance(now_ms, SLICE_ENTRIES)


# A command that costs much more than its parameters show runs at most once in a turn: 600 scans that find nothing fit
# a slice of input, and each looks at 20 000 entries. A command that looks at every shard counts as 50 items.
_WHOLE_TURN: Final = TURN_ITEMS_MAX
_ALL_SHARDS: Final = 50

COMMANDS: Final[dict[bytes, Command]] = {
    b"incr": Command(incr, 1, 3, _shard_of_key),
    b"decr": Command(decr, 1, 3, _shard_of_key),
    b"apply": Command(apply, 2, 3, _shards_of_keys, in_portions=True),
    b"get": Command(get, 1, 1, _shard_of_key),
    b"get_many": Command(get_many, 1, 1, _shards_of_keys),
    b"set": Command(set_, 2, 3, _shard_of_key),
    b"take": Command(take, 1, 1, _shards_of_keys),
    b"try_incr": Command(try_incr, 1, 2, _shards_of_items),
    b"expire": Command(expire, 2, 2, _shard_of_key),
    b"ttl": Command(ttl, 1, 1, _shard_of_key),
    b"scan": Command(scan, 1, 3, _no_shard, _WHOLE_TURN),
    b"top": Command(top, 1, 2, _no_shard),
    b"count": Command(count, 0, 1, _no_shard, _ALL_SHARDS),
    b"clear": Command(clear, 0, 0, _all_shards, _ALL_SHARDS),
    b"acquire": Command(acquire, 1, 2, _shards_of_items, waits=True),
    b"release": Command(release, 1, 2, _shards_of_hold, passes=True),
    b"held": Command(held, 0, 1, _no_shard, _WHOLE_TURN),
    b"wait_zero": Command(wait_zero, 2, 2, _shard_of_key, waits=True),
    b"cancel": Command(cancel, 1, 1, _no_shard, passes=True),
    b"hello": Command(hello, 0, 1, _no_shard, outside=True),
    b"ack": Command(ack, 1, 1, _no_shard, outside=True),
    b"bye": Command(bye, 0, 0, _no_shard, outside=True),
    b"sessions": Command(sessions, 0, 1, _no_shard, _WHOLE_TURN),
    b"ping": Command(ping, 0, 0, _no_shard),
    b"info": Command(info, 0, 0, _no_shard, _WHOLE_TURN),
    b"config_get": Command(config_get, 0, 1, _no_shard),
    b"config_set": Command(config_set, 2, 2, _no_shard),
    b"sweep": Command(sweep, 0, 0, _no_shard, _WHOLE_TURN),
}
