"""The garbage collector does not look at counters: the time of a full collection does not grow with their number."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from naught_server import expiry as deadlines
from naught_server.store import Cache
from simulation.peer import Peer, engine_of

ALL_DICTS_ARE_TRACKED = sys.version_info >= (3, 14)


def slots_of(cache: Cache) -> list[Any]:
    """All slots of the wheels."""
    return [*cache.wheel._near, *cache.wheel._later]


def tracked(cache: Cache) -> int:
    """The number of tables and slots that the collector tracks."""
    slots = [slot for slot in slots_of(cache) if slot is not None]
    return sum(map(gc.is_tracked, [*cache.tables, *cache.timed, *slots]))


def fill(peer: Peer, start: int, count: int, ttl_ms: int | None) -> None:
    for at in range(start, start + count, 4_000):
        keys = [b"key:%d" % number for number in range(at, min(at + 4_000, start + count))]
        peer.call("apply", keys, 1_000, ttl_ms)


@pytest.mark.skipif(ALL_DICTS_ARE_TRACKED, reason="from 3.14 tables are frozen instead")
@pytest.mark.parametrize("ttl_ms", [None, 3_600_000])
@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_counters_add_nothing_for_the_collector(eviction: str, ttl_ms: int | None) -> None:
    peer = Peer(engine_of(eviction=eviction))
    cache = peer.protocol.session.cache
    fill(peer, 0, 1_000, ttl_ms)
    gc.collect()
    before = len(gc.get_objects())
    fill(peer, 1_000, 20_000, ttl_ms)
    gc.collect()
    # The interpreter makes some objects itself; one object per counter would be 20 000.
    assert len(gc.get_objects()) - before < 100
    assert tracked(cache) == 0


@pytest.mark.skipif(ALL_DICTS_ARE_TRACKED, reason="from 3.14 tables are frozen instead")
def test_nothing_is_tracked_after_a_drain_a_compaction_and_a_clear() -> None:
    peer = Peer(engine_of(shards=8))
    cache = peer.protocol.session.cache
    fill(peer, 0, 20_000, 3_600_000)
    for at in range(200, 20_000, 4_000):
        peer.call("take", [b"key:%d" % number for number in range(at, min(at + 4_000, 20_000))])
    for step in range(100):
        peer.engine.advance(peer.now_ms + step * 100, 1_000)
    assert peer.engine.sweep.table_bytes_freed > 0
    assert tracked(cache) == 0
    peer.call("clear")
    fill(peer, 0, 4_000, 3_600_000)
    assert tracked(cache) == 0


@pytest.mark.parametrize("shards", [1, 8])
def test_compaction_makes_no_new_tables(shards: int) -> None:
    """From 3.14 a table made after gc.freeze() would be walked through by every full collection."""
    peer = Peer(engine_of(shards=shards))
    cache = peer.protocol.session.cache
    tables = [*map(id, cache.tables), *map(id, cache.timed)]
    fill(peer, 0, 4_000, 3_600_000)
    peer.call("take", [b"key:%d" % number for number in range(40, 4_000)])
    for step in range(100):
        peer.engine.advance(peer.now_ms + step * 100, 1_000)
    assert peer.engine.sweep.table_bytes_freed > 0
    assert [*map(id, cache.tables), *map(id, cache.timed)] == tables


@pytest.mark.skipif(not ALL_DICTS_ARE_TRACKED, reason="up to 3.13 tables are not tracked at all")
def test_all_tables_are_there_before_the_heap_is_frozen() -> None:
    cache = engine_of().store.cache("default")
    assert all(slot is not None for slot in slots_of(cache))
    before = {*map(id, slots_of(cache)), id(cache.wheel._kept)}
    lap_ms = deadlines.LATER_SLOTS << deadlines.GRAIN_BITS
    for number in range(1_000):
        cache.incr(b"%d" % number, 1, 100 + number % 7, 1_000)
        cache.incr(b"later %d" % number, 1, lap_ms + number, 1_000)
    for now_ms in (2_000, lap_ms // 2, lap_ms + 1_500):
        while not cache.expire(now_ms, 10_000):
            pass
    assert cache.wheel.count == 499
    assert {*map(id, slots_of(cache)), id(cache.wheel._kept)} == before


def test_the_owner_is_notified_of_new_tables() -> None:
    peer = Peer(engine_of())
    calls: list[int] = []
    peer.engine.watch(on_tables_replaced=lambda: calls.append(1))
    peer.call("incr", "k")
    assert not calls
    peer.call("clear")
    assert calls
