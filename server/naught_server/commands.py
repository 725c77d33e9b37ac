"""The table of commands: name, how many parameters, which shards it touches, and what it does. Sans-IO.

A handler gets the session that asks, the parameters as they were decoded and the time, and returns the result;
or it raises a `CommandError`, whose code and sentence become the reply; or it returns a generator, which works
in slices: each `next()` is one bounded step, and what the generator returns is the result.

Every handler checks its parameters before it changes anything. What the methods mean is in PROTOCOL.md; their
state is in `store.py`. `incr`, `decr` and `apply` are here too: the loop in `session.py` hands over what it
does not do itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from naught._version import __version__
from naught.errors import CommandError, InvalidRequest, TooLarge
from naught.wire import BATCH_ITEMS_MAX, KEY_BYTES_MAX, TTL_MS_MAX, VALUE_MAX, Map
from naught_server.config import TURN_ITEMS_MAX

if TYPE_CHECKING:
    from naught_server.session import Session
    from naught_server.store import Cache

Params = tuple[Any, ...]
Slices = Generator[None, None, Any]
Touches = Callable[["Cache", Params], Iterable[int]]

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


def _no_shard(cache: Cache, params: Params) -> Iterable[int]:
    return ()


def _shard_of_key(cache: Cache, params: Params) -> Iterable[int]:
    return _shards_of(cache, params[:1])


def _shards_of_keys(cache: Cache, params: Params) -> Iterable[int]:
    return _shards_of(cache, params[0]) if params and isinstance(params[0], tuple) else ()


def _shards_of_items(cache: Cache, params: Params) -> Iterable[int]:
    if not params or not isinstance(params[0], tuple):
        return ()
    return _shards_of(cache, [item[0] for item in params[0] if isinstance(item, tuple) and item])


def _shards_of(cache: Cache, keys: Iterable[object]) -> Iterable[int]:
    # In one order for everybody, so that two who need several shards never wait for each other.
    return sorted({cache.shard_of(key) for key in keys if isinstance(key, bytes)})


def _all_shards(cache: Cache, params: Params) -> Iterable[int]:
    return range(len(cache.tables))


# ------------------------------------------------------------------------------------- counters


def incr(session: Session, params: Params, now_ms: int) -> int:
    key, by, ttl_ms = _filled(params, 1, None)
    by = integer_of(by, "by", 1, VALUE_MAX)
    return session.cache.incr(key_of(key), by, ttl_of(ttl_ms), now_ms)


def decr(session: Session, params: Params, now_ms: int) -> int:
    key, by, strict = _filled(params, 1, False)
    by = integer_of(by, "by", 1, VALUE_MAX)
    return session.cache.decr(key_of(key), by, flag_of(strict, "strict"), now_ms)


def apply(session: Session, params: Params, now_ms: int) -> list[Any]:
    keys = array_of(params[0], "keys")
    deltas = params[1]
    ttl_ms = ttl_of(params[2]) if len(params) == 3 else None
    if deltas.__class__ is tuple:
        if len(deltas) != len(keys):
            raise InvalidRequest(f"apply has {len(keys)} keys and {len(deltas)} deltas")
    else:
        if not integer_of(deltas, "delta", -VALUE_MAX, VALUE_MAX):
            raise InvalidRequest("a delta is an integer, not 0")
        deltas = (deltas,) * len(keys)
    apply_item = session.cache.apply_item
    results = []
    for key, delta in zip(keys, deltas, strict=True):
        result = apply_item(key, delta, ttl_ms, now_ms)
        results.append((result.code, str(result)) if isinstance(result, CommandError) else result)
    return results


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


# ------------------------------------------------------------------------------------- administration


def ping(session: Session, params: Params, now_ms: int) -> str:
    return "pong"


def hello(session: Session, params: Params, now_ms: int) -> dict[str, Any]:
    asked = params[0] if params else Map([])
    if not isinstance(asked, Map):
        raise InvalidRequest(f'hello takes a map such as {{"cache": name}}, not {_kind(asked)}')
    cache = session.cache
    for word, value in asked.pairs:
        if word != b"cache":
            raise InvalidRequest('hello knows the word "cache" and no other')
        cache = session.engine.store.cache(word_of(value, "cache"))
    session.cache = cache
    return {"server": "naught", "version": __version__, "cache": session.cache.name}


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
    b"ping": Command(ping, 0, 0, _no_shard, False),
    b"hello": Command(hello, 0, 1, _no_shard, False),
    b"info": Command(info, 0, 0, _no_shard, False, _WHOLE_TURN),
    b"config_get": Command(config_get, 0, 1, _no_shard, False),
    b"config_set": Command(config_set, 2, 2, _no_shard, False),
    b"sweep": Command(sweep, 0, 0, _no_shard, False, _WHOLE_TURN),
}
