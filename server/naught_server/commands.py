"""The table of commands: name, how many parameters, which shards it touches, and what it does. Sans-IO.

A handler gets the session that asks, the parameters as they were decoded and the time, and returns the result;
or it raises a `CommandError`, whose code and sentence become the reply; or it returns a generator, which works
in slices: each `next()` is one bounded step, and what the generator returns is the result; or it returns a `Waiter`,
which is parked; or a `Batch`, which is done in portions before anything that comes behind it.

Every handler checks its parameters before it changes anything. What the methods mean is in PROTOCOL.md; their
state is in `store.py`. `incr`, `decr` and `apply` are here too: the loop in `channel.py` hands over what it
does not do itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from naught._version import __version__
from naught.errors import InvalidRequest, NoSession, TooLarge
from naught.wire.limits import (
    BATCH_ITEMS_MAX,
    KEY_BYTES_MAX,
    MSGID_MAX,
    REPLY_BYTES_MAX,
    SESSION_ID_BYTES,
    TTL_MS_MAX,
    VALUE_MAX,
    WAIT_MS_MAX,
)
from naught_server.batch import PORTION_ITEMS, Batch
from naught_server.config import TURN_ITEMS_MAX
from naught_server.decoder import Map
from naught_server.waiters import ForRoom, ForZero, Waiter, sums_of

if TYPE_CHECKING:
    from naught_server.session import Session
    from naught_server.store import Cache

Params = tuple[Any, ...]
Slices = Generator[None, None, Any]
Touches = Callable[["Session", Params], Iterable[int]]

SLICE_ENTRIES: Final = 4_000
"""Raw entries that `top`, and `count` with a prefix, look at in one step; about 0.5 ms."""


class Command(NamedTuple):
    """One row of the table."""

    run: Callable[[Session, Params, int], Any]
    params_min: int
    params_max: int
    touches: Touches
    changes: bool  # whether it may change a counter, for roles and for who may repeat it
    items: int = 0  # what a call counts for in its turn, beside its parameters and its reply
    passes: bool = False  # runs also when the client has too many unacknowledged replies: it gives something back
    outside: bool = False  # stands outside the session's streams: neither it nor its reply is counted
    waits: bool = False  # lets its client wait for as long as its second parameter says

    def may_wait(self, params: Params) -> bool:
        """Whether it may be answered later than at once. Such requests count apart, whatever becomes of them: a
        client has to know against which bound a request counts before it is answered."""
        return self.waits and len(params) == 2 and params[1] != 0


# ------------------------------------------------------------------------------------- checking parameters


def key_of(value: object) -> bytes:
    """A key."""
    if value.__class__ is not bytes:
        raise InvalidRequest(f"a key is a string or binary of 1 to {KEY_BYTES_MAX} bytes, not {_kind(value)}")
    assert isinstance(value, bytes)
    if not value:
        raise InvalidRequest(f"a key is 1 to {KEY_BYTES_MAX} bytes, not 0")
    if len(value) > KEY_BYTES_MAX:
        raise TooLarge(f"a key is 1 to {KEY_BYTES_MAX} bytes, not {len(value)}")
    return value


def integer_of(value: object, name: str, low: int, high: int) -> int:
    """An integer within a range; a bool or a float is none."""
    if value.__class__ is not int:
        raise InvalidRequest(f"{name} is an integer from {low} to {high}, not {_kind(value)}")
    assert isinstance(value, int)
    if not low <= value <= high:
        raise InvalidRequest(f"{name} is an integer from {low} to {high}, not {value}")
    return value


def ttl_of(value: object) -> int | None:
    """A time to live, or nil for none."""
    return None if value is None else integer_of(value, "ttl_ms", 1, TTL_MS_MAX)


def wait_of(value: object, name: str) -> int | None:
    """How long to wait, or nil for no limit."""
    return None if value is None else integer_of(value, name, 0, WAIT_MS_MAX)


def flag_of(value: object, name: str) -> bool:
    """True or false and nothing that merely counts as one."""
    if value is not True and value is not False:
        raise InvalidRequest(f"{name} is true or false, not {_kind(value)}")
    return value


def array_of(value: object, name: str) -> tuple[Any, ...]:
    """An array of at most as many items as one call may have."""
    if value.__class__ is not tuple:
        raise InvalidRequest(f"{name} is an array, not {_kind(value)}")
    assert isinstance(value, tuple)
    if len(value) > BATCH_ITEMS_MAX:
        raise TooLarge(f"{name} has at most {BATCH_ITEMS_MAX} items, not {len(value)}")
    return value


def keys_of(value: object) -> list[bytes]:
    """An array of keys."""
    return [key_of(key) for key in array_of(value, "keys")]


def prefix_of(value: object) -> bytes:
    """The beginning of keys; empty for all."""
    if value.__class__ is not bytes or len(value) > KEY_BYTES_MAX:
        raise InvalidRequest(f"prefix is a string or binary of at most {KEY_BYTES_MAX} bytes")
    assert isinstance(value, bytes)
    return value


def word_of(value: object, name: str) -> str:
    """A short text that names something."""
    if value.__class__ is not bytes or not 0 < len(value) <= 64:
        raise InvalidRequest(f"{name} is a string of 1 to 64 bytes")
    assert isinstance(value, bytes)
    return value.decode("utf-8", "replace")


def limited_of(value: object) -> list[tuple[bytes, int, int]]:
    """An array of [key, by, limit]."""
    items = array_of(value, "items")
    if not items:
        raise InvalidRequest("items has at least 1 item")
    checked = []
    for item in items:
        if item.__class__ is not tuple or len(item) != 3:
            raise InvalidRequest(f"an item is [key, by, limit], not {_kind(item)}")
        key, by, limit = item
        checked.append((key_of(key), integer_of(by, "by", 1, VALUE_MAX), integer_of(limit, "limit", 0, VALUE_MAX)))
    return checked


def _filled(params: Params, second: object, third: object) -> tuple[Any, Any, Any]:
    """One to three parameters as three."""
    given = len(params)
    return params[0], params[1] if given > 1 else second, params[2] if given > 2 else third


_KINDS: Final = {
    bool: "a bool",
    int: "an integer",
    float: "a float",
    bytes: "a string",
    tuple: "an array",
    Map: "a map",
}


def _kind(value: object) -> str:
    return "nil" if value is None else _KINDS.get(type(value), "an extension type")


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
    # In one order for everybody, so that two who need several shards never wait for each other.
    return sorted({cache.shard_of(key) for key in keys if isinstance(key, bytes)})


def _all_shards(session: Session, params: Params) -> Iterable[int]:
    return range(len(session.cache.tables))


# ------------------------------------------------------------------------------------- counters


def incr(session: Session, params: Params, now_ms: int) -> int:
    key, by, ttl_ms = _filled(params, 1, None)
    by = integer_of(by, "by", 1, VALUE_MAX)
    return session.cache.incr(key_of(key), by, ttl_of(ttl_ms), now_ms)


def decr(session: Session, params: Params, now_ms: int) -> int:
    key, by, strict = _filled(params, 1, False)
    by = integer_of(by, "by", 1, VALUE_MAX)
    return session.cache.decr(key_of(key), by, flag_of(strict, "strict"), now_ms)


def apply(session: Session, params: Params, now_ms: int) -> list[Any] | Batch:
    keys = array_of(params[0], "keys")
    deltas = params[1]
    ttl_ms = ttl_of(params[2]) if len(params) == 3 else None
    if deltas.__class__ is tuple:
        if len(deltas) != len(keys):
            raise InvalidRequest(f"apply has {len(keys)} keys and {len(deltas)} deltas")
    elif not integer_of(deltas, "delta", -VALUE_MAX, VALUE_MAX):
        raise InvalidRequest("a delta is an integer, not 0")
    batch = Batch(keys, deltas, ttl_ms)
    if len(keys) > PORTION_ITEMS:
        return batch
    batch.go_on(session.cache, now_ms, unhindered=False)
    return batch.results


def get(session: Session, params: Params, now_ms: int) -> int:
    return session.cache.get(key_of(params[0]), now_ms)


def get_many(session: Session, params: Params, now_ms: int) -> list[int]:
    value_of = session.cache.get
    return [value_of(key, now_ms) for key in keys_of(params[0])]


def set_(session: Session, params: Params, now_ms: int) -> int:
    key, value, ttl_ms = _filled(params, None, None)
    value = integer_of(value, "value", 0, VALUE_MAX)
    return session.cache.set(key_of(key), value, ttl_of(ttl_ms), now_ms)


def take(session: Session, params: Params, now_ms: int) -> list[int]:
    return session.cache.take(keys_of(params[0]), now_ms)


def try_incr(session: Session, params: Params, now_ms: int) -> tuple[bool, list[int]]:
    ttl_ms = ttl_of(params[1]) if len(params) == 2 else None
    return session.cache.try_incr(limited_of(params[0]), ttl_ms, now_ms)


def expire(session: Session, params: Params, now_ms: int) -> bool:
    return session.cache.expire_in(key_of(params[0]), ttl_of(params[1]), now_ms)


def ttl(session: Session, params: Params, now_ms: int) -> int | None:
    return session.cache.ttl(key_of(params[0]), now_ms)


# ------------------------------------------------------------------------------------- many counters


def scan(session: Session, params: Params, now_ms: int) -> tuple[Any, list[bytes], list[int]]:
    cursor, count, prefix = _filled(params, 100, b"")
    if cursor == 0 and cursor.__class__ is int:
        cursor = b""
    elif cursor.__class__ is not bytes or not cursor:
        raise InvalidRequest("a cursor is 0, or what the last page of this scan gave")
    count = integer_of(count, "count", 1, BATCH_ITEMS_MAX)
    following, keys, values = session.cache.scan(cursor, count, prefix_of(prefix), now_ms)
    return following or 0, keys, values


def top(session: Session, params: Params, now_ms: int) -> Slices:
    n = integer_of(params[0], "n", 1, BATCH_ITEMS_MAX)
    prefix = prefix_of(params[1]) if len(params) == 2 else b""
    return _top(session, session.cache, n, prefix)


def _top(session: Session, cache: Cache, n: int, prefix: bytes) -> Slices:
    best: list[tuple[bytes, int]] = []
    for found in _live_slices(session, cache, prefix):
        best = heapq.nsmallest(n, best + found, key=lambda item: (-item[1], item[0]))
        yield
    return [key for key, _ in best], [value for _, value in best]


def count(session: Session, params: Params, now_ms: int) -> int | Slices:
    prefix = prefix_of(params[0]) if params else b""
    if prefix:
        return _count_prefix(session, session.cache, prefix)
    counters, exact = session.cache.live(now_ms)
    return counters if exact else _count_all(session, session.cache)


def _count_prefix(session: Session, cache: Cache, prefix: bytes) -> Slices:
    total = 0
    for found in _live_slices(session, cache, prefix):
        total += len(found)
        yield
    return total


def _count_all(session: Session, cache: Cache) -> Slices:
    while True:
        counters, exact = cache.live(session.now_ms)
        if exact:
            return counters
        yield


def _live_slices(session: Session, cache: Cache, prefix: bytes) -> Iterable[list[tuple[bytes, int]]]:
    """All live counters under a prefix, in pieces of about SLICE_ENTRIES raw entries; each is read as it is then.

    Reads held shards too: their owner changes nothing of them before its last step.
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


def clear(session: Session, params: Params, now_ms: int) -> int:
    evicted = session.cache.clear(now_ms)
    session.engine.tables_replaced()
    return evicted


# ------------------------------------------------------------------------------------- holding and waiting


def acquire(session: Session, params: Params, now_ms: int) -> tuple[bool, list[int], int | None] | Waiter:
    items = limited_of(params[0])
    wait_ms = wait_of(params[1], "wait_ms") if len(params) == 2 else 0
    sums = sums_of(items)
    session.need_room_for_holds(len(sums))
    cache = session.cache
    queues = cache.waiting.queues
    if not queues or queues.keys().isdisjoint(sums):
        granted, values = cache.add_within(items, sums, None, now_ms)
        if granted:
            return True, values, session.hold(sums)
    # Nothing could ever grant what alone is more than its limit; it would only stop the others.
    if wait_ms == 0 or any(sums[key] > limit for key, _, limit in items):
        return False, cache.peek([key for key, _, _ in items], now_ms), None
    return ForRoom(cache.waiting, wait_ms, items, session.hold)


def release(session: Session, params: Params, now_ms: int) -> list[int]:
    number = integer_of(params[0], "hold", 0, VALUE_MAX)
    if len(params) == 1 or params[1] is None:
        return session.release(number, None, now_ms)
    items = []
    for item in array_of(params[1], "items"):
        if item.__class__ is not tuple or len(item) != 2:
            raise InvalidRequest("an item is [key, by]")
        items.append((key_of(item[0]), integer_of(item[1], "by", 1, VALUE_MAX)))
    if not items:
        raise InvalidRequest("items has at least 1 item")
    return session.release(number, items, now_ms)


def held(session: Session, params: Params, now_ms: int) -> list[tuple[int, list[tuple[bytes, int]]]]:
    after = integer_of(params[0], "after", 0, VALUE_MAX) if params else 0
    return session.held(after, now_ms)


def wait_zero(session: Session, params: Params, now_ms: int) -> bool | Waiter:
    key = key_of(params[0])
    timeout_ms = wait_of(params[1], "timeout_ms")
    if not session.cache.get(key, now_ms):
        return True
    return ForZero(session.cache.waiting, timeout_ms, key) if timeout_ms != 0 else False


def cancel(session: Session, params: Params, now_ms: int) -> bool:
    return session.cancel(integer_of(params[0], "msgid", 0, MSGID_MAX), now_ms)


# ------------------------------------------------------------------------------------- sessions


def hello(session: Session, params: Params, now_ms: int) -> dict[str, Any]:
    words = _words_of(params)
    engine = session.engine
    answer: dict[str, Any] = {"server": "naught", "version": __version__}
    cache = engine.store.cache(word_of(words["cache"], "cache")) if "cache" in words else session.cache
    wanted = words.get("session")
    if wanted is None and ("received" in words or "lease_ms" in words):
        raise InvalidRequest("received and lease_ms say something about a session, and none is asked for")
    if isinstance(wanted, bytes):
        return answer | _resume(session, wanted, words)
    if cache is not session.cache and session.id is not None:
        raise InvalidRequest(f"a session works on one cache, and this one on {session.cache.name!r}")
    if wanted is not None:
        if wanted is not True:
            raise InvalidRequest("session is true to open one, or the id of the one to resume")
        lease = words.get("lease_ms")
        engine.sessions.open(session, None if lease is None else integer_of(lease, "lease_ms", 1, VALUE_MAX), now_ms)
        answer |= {"session": session.id, "lease_ms": session.lease_ms}
    session.cache = cache
    return answer | {"cache": cache.name}


def _words_of(params: Params) -> dict[str, object]:
    """What hello was given, by word."""
    asked = params[0] if params else Map([])
    if not isinstance(asked, Map):
        raise InvalidRequest(f'hello takes a map such as {{"cache": name}}, not {_kind(asked)}')
    known = ("cache", "session", "received", "lease_ms")
    words: dict[str, object] = {}
    for word, value in asked.pairs:
        name = word.decode("utf-8", "replace") if isinstance(word, bytes) else ""
        if name not in known:
            raise InvalidRequest(f"hello knows the words {', '.join(known)} and no other")
        words[name] = value
    return words


def _resume(nameless: Session, session_id: bytes, words: dict[str, object]) -> dict[str, Any]:
    if len(session_id) != SESSION_ID_BYTES:
        raise InvalidRequest(f"the id of a session has {SESSION_ID_BYTES} bytes, not {len(session_id)}")
    if "lease_ms" in words or "cache" in words:
        raise InvalidRequest("a session that is resumed has its cache and its lease already")
    received = integer_of(words.get("received"), "received", 0, VALUE_MAX)
    session = nameless.engine.sessions.resume(nameless, session_id, received)
    return {
        "session": session.id,
        "lease_ms": session.lease_ms,
        "accepted": session.accepted,
        "replies_from": session.acknowledged + 1,
        "cache": session.cache.name,
    }


def ack(session: Session, params: Params, now_ms: int) -> None:
    if session.id is None:
        raise NoSession("there is no session, and nothing to acknowledge")
    session.acknowledge(integer_of(params[0], "received", 0, VALUE_MAX))


def bye(session: Session, params: Params, now_ms: int) -> None:
    channel = session.channel
    assert channel is not None, "who asks has a connection"
    channel.end_session(now_ms)


def sessions(session: Session, params: Params, now_ms: int) -> list[dict[str, Any]]:
    after = integer_of(params[0], "after", 0, VALUE_MAX) if params else 0
    return session.engine.sessions.listed(after, _SESSIONS_LISTED_MAX, now_ms)


_SESSIONS_LISTED_MAX: Final = REPLY_BYTES_MAX // 512
"""Each takes less than 512 bytes of the reply."""


# ------------------------------------------------------------------------------------- administration


def ping(session: Session, params: Params, now_ms: int) -> str:
    return "pong"


def info(session: Session, params: Params, now_ms: int) -> dict[str, Any]:
    return session.engine.info(now_ms)


def config_get(session: Session, params: Params, now_ms: int) -> Any:
    words = session.engine.settings.words()
    if not params or params[0] is None:
        return words
    name = word_of(params[0], "name")
    if name not in words:
        raise InvalidRequest(f"there is no setting named {name!r}; there are: {', '.join(words)}")
    return words[name]


def config_set(session: Session, params: Params, now_ms: int) -> object:
    return session.engine.settings.change(word_of(params[0], "name"), params[1])


def sweep(session: Session, params: Params, now_ms: int) -> int:
    return session.engine.advance(now_ms, SLICE_ENTRIES)


# What costs much more than its parameters show is at most one call in a turn: 600 scans that find nothing fit a
# slice of input, and each looks at 20 000 entries. What looks at every shard counts for some of them.
_WHOLE_TURN: Final = TURN_ITEMS_MAX
_ALL_SHARDS: Final = 50

COMMANDS: Final[dict[bytes, Command]] = {
    b"incr": Command(incr, 1, 3, _shard_of_key, True),
    b"decr": Command(decr, 1, 3, _shard_of_key, True),
    b"apply": Command(apply, 2, 3, _shards_of_keys, True),
    b"get": Command(get, 1, 1, _shard_of_key, False),
    b"get_many": Command(get_many, 1, 1, _shards_of_keys, False),
    b"set": Command(set_, 2, 3, _shard_of_key, True),
    b"take": Command(take, 1, 1, _shards_of_keys, True),
    b"try_incr": Command(try_incr, 1, 2, _shards_of_items, True),
    b"expire": Command(expire, 2, 2, _shard_of_key, True),
    b"ttl": Command(ttl, 1, 1, _shard_of_key, False),
    b"scan": Command(scan, 1, 3, _no_shard, False, _WHOLE_TURN),
    b"top": Command(top, 1, 2, _no_shard, False),
    b"count": Command(count, 0, 1, _no_shard, False, _ALL_SHARDS),
    b"clear": Command(clear, 0, 0, _all_shards, True, _ALL_SHARDS),
    b"acquire": Command(acquire, 1, 2, _shards_of_items, True, waits=True),
    b"release": Command(release, 1, 2, _shards_of_hold, True, passes=True),
    b"held": Command(held, 0, 1, _no_shard, False, _WHOLE_TURN),
    b"wait_zero": Command(wait_zero, 2, 2, _shard_of_key, False, waits=True),
    b"cancel": Command(cancel, 1, 1, _no_shard, False, passes=True),
    b"hello": Command(hello, 0, 1, _no_shard, False, outside=True),
    b"ack": Command(ack, 1, 1, _no_shard, False, outside=True),
    b"bye": Command(bye, 0, 0, _no_shard, False, outside=True),
    b"sessions": Command(sessions, 0, 1, _no_shard, False, _WHOLE_TURN),
    b"ping": Command(ping, 0, 0, _no_shard, False),
    b"info": Command(info, 0, 0, _no_shard, False, _WHOLE_TURN),
    b"config_get": Command(config_get, 0, 1, _no_shard, False),
    b"config_set": Command(config_set, 2, 2, _no_shard, False),
    b"sweep": Command(sweep, 0, 0, _no_shard, False, _WHOLE_TURN),
}
