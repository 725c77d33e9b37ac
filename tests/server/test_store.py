"""Caches by name, what counters take, and the faults that `invariants()` finds."""

from __future__ import annotations

import sys
import tracemalloc
from itertools import chain
from typing import Any

import pytest

from naught.errors import InvalidRequest
from naught_server.config import CachePolicy
from naught_server.engine import Engine
from naught_server.expiry import DEADLINE_BITS, DEADLINE_MASK, GRAIN_BITS
from naught_server.protocol import ServerProtocol
from naught_server.store import Cache, Store
from simulation.peer import Peer, engine_of

NOW_MS = 1_000_000


def cache_of(shards: int = 4, eviction: Any = "eager", limit: int | None = None) -> Cache:
    return Cache(CachePolicy("default", shards=shards, eviction=eviction, max_counters=limit))


def default_of(engine: Engine) -> Cache:
    return engine.store.caches["default"]


def test_caches_by_name() -> None:
    store = Store([CachePolicy("a"), CachePolicy("b", shards=1)])
    assert store.cache("b").policy.shards == 1
    with pytest.raises(InvalidRequest, match="a, b"):
        store.cache("c")
    store.invariants(NOW_MS)


def test_what_a_counter_with_a_time_to_live_takes() -> None:
    """At most 240 bytes, with a key of 16 bytes and a large value, where every table and slot has just doubled.

    A table of 2^15 places has room for 21 845 entries, a slot of 2^7 for 85.
    """
    cache = cache_of(shards=1)
    count = 21_846
    in_a_slot = 86
    keys = [b"counter:%08d" % number for number in range(count)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number, key in enumerate(keys):
            deadline_ms = NOW_MS + 3_600_000 + number // in_a_slot * (1 << GRAIN_BITS)
            cache.incr(b"%b" % key, 2**29 + number, deadline_ms - NOW_MS, NOW_MS)
        taken = (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
    # What is traced is the size that was asked for. The allocator has blocks of multiples of 16 bytes.
    rounded_up = sum(-sys.getsizeof(each) % 16 for each in next(iter(cache.timed[0].items())))
    assert taken + rounded_up <= 240


def broken(cache: Cache, how: str) -> None:
    key = b"k"
    shard = cache.shard_of(key)
    table = cache.tables[shard]
    if how == "a negative value":
        table[key] = -1
    elif how == "a value too large":
        table[key] = 2**63
    elif how == "a stored zero":
        table[key] = 0
    elif how == "a bool":
        table[key] = True
    elif how == "an empty key":
        cache.tables[cache.shard_of(b"")][b""] = 1
    elif how == "a key in the wrong shard":
        cache.tables[shard ^ 1][key] = 1
    elif how == "a key in both tables":
        cache.tables[cache.shard_of(b"l")][b"l"] = 5
    elif how == "a deadline without a counter":
        cache.timed[cache.shard_of(b"l")][b"l"] &= DEADLINE_MASK
    elif how == "a timed value too large":
        cache.timed[cache.shard_of(b"l")][b"l"] += 2**63 << DEADLINE_BITS
    elif how == "another deadline than the wheel's":
        cache.timed[cache.shard_of(b"l")][b"l"] += 5
    elif how == "a deadline the wheel does not know":
        cache.timed[shard][key] = 5 << DEADLINE_BITS | NOW_MS + 5
    elif how == "a deadline only the wheel knows":
        cache.wheel.add(b"nobody", NOW_MS + 5, NOW_MS)
    elif how == "a count of the wheel":
        cache.wheel.count += 1
    elif how == "a count of zeros":
        cache.zeros[shard] += 1
    elif how == "a count of locks":
        cache.locks.held += 1
    elif how == "one more than max_counters":
        cache.tables[cache.shard_of(b"more")][b"more"] = 1


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
@pytest.mark.parametrize(
    "how",
    [
        "a negative value",
        "a value too large",
        "a stored zero",
        pytest.param("a bool", marks=pytest.mark.patches),  # compiled code stores it as the integer it stands for
        "an empty key",
        "a key in the wrong shard",
        "a key in both tables",
        "a timed value too large",
        "another deadline than the wheel's",
        "a deadline without a counter",
        "a deadline the wheel does not know",
        "a deadline only the wheel knows",
        "a count of the wheel",
        "a count of zeros",
        "a count of locks",
        "one more than max_counters",
    ],
)
def test_invariants_find_what_is_wrong(how: str, eviction: str) -> None:
    cache = cache_of(4, eviction, limit=2)
    cache.incr(b"k", 5, None, NOW_MS)
    cache.incr(b"l", 5, 50, NOW_MS)
    cache.invariants(NOW_MS)
    broken(cache, how)
    with pytest.raises(AssertionError):
        cache.invariants(NOW_MS)


# ------------------------------------------------------------------------------------------- what lies in a table

KEYS = [b"key:%d" % number for number in range(4_096)]
LARGEST_SHARED = (1 << 14) - 1


@pytest.mark.parametrize("shards", [256, 4_096])
def test_the_keys_of_a_shard_begin_at_different_places_of_its_table(shards: int) -> None:
    """A dict looks for a key at the place that the lowest bits of its hash say."""
    cache = cache_of(shards)
    places: dict[int, set[int]] = {}
    for number in range(4 * shards):
        key = b"key:%d" % number
        places.setdefault(cache.shard_of(key), set()).add(hash(key) % 64)
    assert len(places) > shards * 0.9
    assert sum(map(len, places.values())) > 3.5 * shards


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("value", [1, 256, 257, 5_000, LARGEST_SHARED])
def test_equal_values_are_one_object(value: int, careful: bool) -> None:
    engine = engine_of(shards=4)
    peer = Peer(engine)
    if careful:
        peer.protocol = ServerProtocol(engine, peer._wake, careful=True)
    peer.call("apply", KEYS, value)
    peer.call("apply", KEYS[:9], -value)
    peer.call("apply", KEYS[:9], 1)
    if value > 1:
        for key in KEYS[:9]:
            peer.call("incr", key, value - 1)
    peer.call("set", KEYS[9], value)
    peer.call("try_incr", [(KEYS[9], 1, 2**63 - 1)])
    peer.call("decr", KEYS[9])
    values = [*chain.from_iterable(table.values() for table in default_of(engine).tables)]
    assert len(values) == len(KEYS)
    assert len({id(each) for each in values}) == 1
    assert values[0] == value


def test_they_are_after_a_compaction() -> None:
    engine = engine_of(shards=4)
    peer = Peer(engine)
    peer.call("apply", KEYS, 5_000)
    peer.call("apply", KEYS[30:], -5_000)
    cache = default_of(engine)
    tables = sum(table.__sizeof__() for table in cache.tables)
    for _ in range(5_000):
        peer.now_ms += 10
        engine.advance(peer.now_ms, 1_000)
    assert sum(table.__sizeof__() for table in cache.tables) < tables // 8, "they were compacted"
    values = [*chain.from_iterable(table.values() for table in cache.tables)]
    assert values == [5_000] * 30
    assert len({id(each) for each in values}) == 1
