"""The sweeper's jobs: steps are bounded, all jobs have turns, a fault stops one job only, and memory is freed."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from naught.wire.limits import ITEMS_AT_ONCE_MAX
from naught_server import expiry as deadlines
from naught_server import sweep
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.limits import COMPACTION_BYTES_PER_ENTRY
from naught_server.store import Cache
from naught_server.sweep import (
    TABLE_BYTES_MIN,
    CompactTables,
    MeasureTables,
    RemoveExpired,
    RemoveZeros,
    ShardCompaction,
)
from simulation.peer import Peer, engine_of

START_MS = 1_000_000
LONG_MS = 3_600_000


def cache_of(engine: Engine) -> Cache:
    return engine.store.cache("default")


def fill(cache: Cache, count: int, ttl_ms: int | None = None, prefix: bytes = b"key:") -> list[bytes]:
    keys = [b"%s%012d" % (prefix, number) for number in range(count)]
    for key in keys:
        cache.incr(key, 1_000, ttl_ms, START_MS)
    return keys


def run(engine: Engine, now_ms: int, entries_max: int = 1_000, steps_max: int = 10_000) -> int:
    """Sweep until no work is left. Returns the number of steps."""
    idle = 0
    for step in range(steps_max):
        # A table is rebuilt once it has stopped emptying, so time has to pass.
        idle = 0 if engine.advance(now_ms + step * 100, entries_max) else idle + 1
        if idle > 30:
            return step
    raise AssertionError("it never ends")


# ---------------------------------------------------------------------------------------- the jobs


class _Counted(list[Any]):
    """A list that counts how often it is walked over whole."""

    walks = 0

    def __iter__(self) -> Any:
        _Counted.walks += 1
        return super().__iter__()


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_no_step_walks_over_all_shards(eviction: str) -> None:
    engine = engine_of(shards=4_096, eviction=eviction)
    cache = cache_of(engine)
    fill(cache, 5_000)
    fill(cache, 100, ttl_ms=50, prefix=b"timed:")
    cache.tables, cache.timed, cache.zeros = _Counted(cache.tables), _Counted(cache.timed), _Counted(cache.zeros)
    _Counted.walks = 0
    for step in range(200):
        engine.advance(START_MS + step * 50, 20)
    assert _Counted.walks == 0


@pytest.mark.parametrize("shards", [1, 256])
def test_expired_counters_go(shards: int) -> None:
    engine = engine_of(shards=shards)
    cache = cache_of(engine)
    fill(cache, 2_000, ttl_ms=50)
    fill(cache, 10, prefix=b"stays:")
    engine.advance(START_MS + 49, 1_000)
    assert cache.raw_entries() == 2_010
    run(engine, START_MS + 50)
    assert cache.raw_entries() == 10
    assert cache.evictions["expired"] == 2_000
    cache.invariants(START_MS + 50)


@pytest.mark.parametrize("shards", [1, 256])
def test_lazy_zeros_go(shards: int) -> None:
    engine = engine_of(shards=shards, eviction="lazy")
    cache = cache_of(engine)
    keys = fill(cache, 2_000)
    for key in keys[10:]:
        cache.decr(key, 1_000, False, START_MS)
    assert cache.raw_entries() == 2_000
    assert cache.live_count(START_MS) == (10, True)
    run(engine, START_MS)
    assert cache.raw_entries() == 10
    assert sum(cache.zeros) == 0
    assert cache.evictions["zero"] == 1_990, "a zero is evicted once, when it became zero"
    cache.invariants(START_MS)


def test_cleared_tables_are_freed() -> None:
    engine = engine_of()
    cache = cache_of(engine)
    fill(cache, 2_000, ttl_ms=LONG_MS)
    assert cache.clear(START_MS) == 2_000
    assert cache.cleared_tables
    run(engine, START_MS)
    assert not cache.cleared_tables
    assert engine.sweep.table_bytes_freed > 0
    assert engine.sweep.to_release


MIB = 1 << 20


@pytest.mark.parametrize(
    ("estimates", "fallen"),
    [
        ([0, 0], False),
        ([3 * MIB, 0], False),  # not worth it
        ([4 * MIB, 0], True),
        ([4 * MIB, 3 * MIB, 2 * MIB, 1 * MIB], False),
        ([4 * MIB, 3 * MIB, 2 * MIB, 1 * MIB, 0], True),
        ([100 * MIB, 90 * MIB], False),  # less than a quarter
        ([100 * MIB, 75 * MIB], True),
        ([100 * MIB, 75 * MIB, 70 * MIB], False),  # released at 75
        ([8 * MIB, 7 * MIB, 8 * MIB, 7 * MIB, 8 * MIB], False),  # clients that come and go
    ],
)
def test_memory_that_has_gone_is_noticed(estimates: list[int], fallen: bool) -> None:
    level = sweep.MemoryLevel()
    found = [level.has_fallen(estimate) for estimate in estimates]
    assert found[-1] is fallen


@pytest.mark.parametrize("what", ["connections", "sessions", "waits", "holds"])
def test_memory_is_released_after_many_of_these_have_gone(what: str) -> None:
    engine = engine_of()
    peers = [Peer(engine, START_MS) for _ in range(1_100 if what == "sessions" else 1)]
    if what == "connections":
        for _ in range(300):
            engine.stats.count_opened()
    elif what == "sessions":
        for peer in peers:
            peer.call("hello", {"session": True})
    elif what == "waits":
        peers[0].call("hello", {"session": True})
        for number in range(12):
            keys = [b"%d:%d" % (number, key) for key in range(ITEMS_AT_ONCE_MAX)]
            peers[0].call("apply", keys, 1)
            peers[0].send("acquire", [[key, 1, 1] for key in keys], 60_000)
        assert len(cache_of(engine).waiters.queues.by_key) == 12 * ITEMS_AT_ONCE_MAX
    else:
        peers[0].call("hello", {"session": True})
        for number in range(12):
            peers[0].call("acquire", [[b"%d:%d" % (number, key), 1, 1] for key in range(ITEMS_AT_ONCE_MAX)])
    run(engine, START_MS)
    engine.sweep.released()
    if what == "connections":
        for _ in range(300):
            engine.stats.count_closed()
    for peer in peers if what != "connections" else []:
        peer.call("bye")
    for step in range(100):
        engine.advance(START_MS + step, 1_000)
    assert engine.sweep.to_release


def test_measuring_follows_the_tables() -> None:
    engine = engine_of()
    cache = cache_of(engine)
    for _ in range(10):
        engine.advance(START_MS, 1_000)
    empty = cache.table_bytes
    assert empty == 256 * 2 * sys.getsizeof({})
    fill(cache, 5_000)
    for _ in range(10):
        engine.advance(START_MS, 1_000)
    assert cache.table_bytes == sum(map(cache.measure, range(256))) > empty


@pytest.mark.parametrize("left", [0, 10])
def test_tables_of_what_waits_and_is_held_are_as_small_as_what_is_left(left: int) -> None:
    engine = engine_of()
    waiters = cache_of(engine).waiters
    tables: dict[str, dict[bytes, Any]] = {
        "queues": waiters.queues.by_key,
        "awaited": waiters.awaited,
        "generations": waiters.generations,
    }
    stays, goes = Peer(engine), Peer(engine)
    for peer, name, count in ((stays, b"stays", left), (goes, b"goes", 1_000)):
        peer.call("hello", {"session": True})
        peer.call("incr", b"full")
        for page in range(5 if count else 0):
            keys = [b"%s:%d:%d" % (name, page, number) for number in range(count)]
            peer.call("acquire", [(key, 1, 9) for key in keys])
            peer.send("acquire", [(b"full", 1, 1), *((b"q" + key, 1, 9) for key in keys[1:])], None)
            peer.send("wait_zero", keys[0], None)
            for key in keys[:200]:
                peer.send("wait_zero", key, None)
        while peer.protocol.wants_turn:
            peer.turn()
    full = {name: sys.getsizeof(table) for name, table in tables.items()}
    goes.call("bye")
    run(engine, START_MS)
    for name, table in tables.items():
        assert bool(table) is bool(left)
        assert sys.getsizeof(table) < full[name] // 8, name
    assert engine.sweep.table_bytes_freed >= sum(full.values()) // 2
    assert sum(waiters.marks.places) <= len(set().union(*tables.values())), "and so are their marks"
    stays.engine.invariants(stays.now_ms)
    if left:
        assert len(stays.call("held")) == 5
        goes.call("set", b"full", 0)
        assert waiters.awaited


# ---------------------------------------------------------------------------------------- compaction


def drain(cache: Cache, keys: list[bytes], keep_every: int) -> list[bytes]:
    kept = keys[::keep_every]
    keep = set(kept)
    for key in keys:
        if key not in keep:
            cache.decr(key, 1_000, False, START_MS)
    return kept


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
@pytest.mark.parametrize("shards", [1, 16])
def test_after_a_scattered_drain_tables_are_small_and_keys_are_copies(shards: int, eviction: str) -> None:
    engine = engine_of(shards=shards, eviction=eviction)
    cache = cache_of(engine)
    keys = fill(cache, 20_000, ttl_ms=LONG_MS)
    full = sum(map(cache.measure, range(shards)))
    kept = drain(cache, keys, 100)
    before = {key: (key, packed) for table in cache.timed for key, packed in table.items()}
    tables = [*map(id, cache.tables), *map(id, cache.timed)]
    run(engine, START_MS)
    after = sum(map(cache.measure, range(shards)))
    assert after <= full // 20 + shards * TABLE_BYTES_MIN
    assert engine.sweep.table_bytes_freed >= full // 2
    assert [*map(id, cache.tables), *map(id, cache.timed)] == tables, "rebuilt in place"
    held = {key: (key, packed) for table in cache.timed for key, packed in table.items()}
    assert sorted(held) == kept
    wheel = {key: key for key in cache.wheel.all_keys()}
    for key, packed in held.values():
        old_key, old_packed = before[key]
        assert key is not old_key, "the key's old bytes are still used"
        assert packed == old_packed
        assert packed is not old_packed, "the old object of its value is still used"
        assert cache.get(key, START_MS) == 1_000
        assert wheel[key] is key, "the wheel keeps the old bytes alive"
        assert cache.ttl(key, START_MS) == LONG_MS
    assert cache.locks.held == 0
    cache.invariants(START_MS)


def test_when_nothing_is_left_nothing_stays() -> None:
    engine = engine_of(shards=4)
    cache = cache_of(engine)
    keys = fill(cache, 10_000, ttl_ms=LONG_MS)
    cache.take(keys, START_MS)
    run(engine, START_MS)
    assert max(map(cache.measure, range(4))) <= TABLE_BYTES_MIN
    assert cache.wheel.count == 0


def test_deadlines_that_were_moved_still_come() -> None:
    engine = engine_of(shards=2)
    cache = cache_of(engine)
    kept = drain(cache, fill(cache, 4_000, ttl_ms=LONG_MS), 100)
    run(engine, START_MS)
    assert cache.live_count(START_MS + LONG_MS - 1) == (len(kept), True)
    assert cache.live_count(START_MS + LONG_MS) == (0, True)
    cache.invariants(START_MS + LONG_MS)


@pytest.mark.parametrize("idle_steps", range(30, 40))
def test_a_table_that_was_filled_a_moment_ago_and_is_emptying_is_left_alone(idle_steps: int) -> None:
    """Its entries of one and two seconds ago say nothing then: there were none. At each moment between two notes."""
    engine = engine_of(shards=1)
    cache = cache_of(engine)
    now_ms = START_MS
    for _ in range(idle_steps):
        now_ms += 100
        engine.advance(now_ms, 100_000)
    keys = fill(cache, 10_000)
    full = cache.measure(0)
    for start in range(0, 9_900, 1_100):
        now_ms += 100
        engine.advance(now_ms, 100_000)
        for key in keys[start : start + 1_100]:
            cache.decr(key, 1_000, False, now_ms)
    engine.advance(now_ms, 100_000)
    assert (cache.measure(0), len(cache.tables[0])) == (full, 100)
    run(engine, now_ms)
    assert cache.measure(0) <= full // 20


def test_a_table_that_is_still_emptying_is_left_alone() -> None:
    engine = engine_of(shards=1)
    cache = cache_of(engine)
    keys = fill(cache, 10_000)
    now_ms = START_MS
    for start in range(0, 10_000, 500):
        for key in keys[start : start + 500]:
            cache.decr(key, 1_000, False, now_ms)
        now_ms += 400
        engine.advance(now_ms, 100_000)
        if len(cache.tables[0]) >= 2_000:
            assert engine.sweep.table_bytes_freed == 0
    assert len(cache.tables[0]) == 0
    run(engine, now_ms)
    assert engine.sweep.table_bytes_freed > 0


@pytest.mark.parametrize("with_deadline", [0, 1, "all"])
def test_a_table_that_was_rebuilt_is_not_rebuilt_again(with_deadline: Any) -> None:
    """A rebuilt table of any size is not rebuilt again; otherwise the sweeper would never be idle."""
    for count in [*range(1, 100), 171, 172, 683, 684, 5_461, 5_462, 10_923]:
        cache = Cache(CachePolicy("default", shards=1))
        keys = fill(cache, count)
        for key in keys[: count if with_deadline == "all" else with_deadline]:
            cache.expire_in(key, LONG_MS, START_MS)
        work = ShardCompaction.begin(cache, 0)
        assert work is not None
        assert work.step(count + 1)[1]
        entries = cache.entries_of(0)
        assert cache.measure(0) <= max(TABLE_BYTES_MIN, COMPACTION_BYTES_PER_ENTRY * entries), f"{count} counters"


def test_nothing_begins_on_a_shard_that_is_held() -> None:
    engine = engine_of(shards=1, eviction="lazy")
    cache = cache_of(engine)
    keys = fill(cache, 1_000)
    for key in keys:
        cache.decr(key, 1_000, False, START_MS)
    cache.locks.acquire(0, "somebody")
    for step in range(50):
        engine.advance(START_MS + step * 100, 1_000)
    assert cache.raw_entries() == 1_000
    cache.locks.release(0, "somebody")
    run(engine, START_MS)
    assert cache.raw_entries() == 0


# ---------------------------------------------------------------------------------------- bounds


def test_expiry_takes_no_more_than_its_allowance() -> None:
    cache = cache_of(engine_of(shards=1))
    fill(cache, 1_000, ttl_ms=10)
    job = RemoveExpired(cache)
    assert job.step(START_MS + 10, 30) == 30
    assert cache.raw_entries() == 970


def test_expiry_says_it_works_when_it_only_sorts_out_later_laps() -> None:
    """Otherwise the sweeper would count as idle during the sorting, and take a step only every 100 ms."""
    cache = cache_of(engine_of(shards=1))
    grain_ms = 1 << deadlines.GRAIN_BITS
    fill(cache, 1_000, ttl_ms=deadlines.LATER_SLOTS * grain_ms + grain_ms)
    job = RemoveExpired(cache)
    done = [job.step(START_MS + grain_ms, 100) for _ in range(12)]
    assert done[:9] == [100] * 9
    assert sum(done) == 1_000
    assert cache.raw_entries() == 1_000


@pytest.mark.parametrize("entries_max", [1, 10])
def test_zeros_takes_no_more_than_its_allowance(entries_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SMALL_SHARD_ENTRIES", 0)
    cache = cache_of(engine_of(shards=1, eviction="lazy"))
    for key in fill(cache, 1_000):
        cache.decr(key, 1_000, False, START_MS)
    job = RemoveZeros(cache)
    steps = 0
    while (before := cache.raw_entries()) or cache.locks.held:
        assert job.step(START_MS, entries_max) > 0
        assert before - cache.raw_entries() <= entries_max * 5
        cache.invariants(START_MS)
        steps += 1
    assert steps <= 2 * 1_000 // entries_max
    assert job.step(START_MS, entries_max) == 0


def test_compaction_moves_no_more_than_its_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SMALL_SHARD_ENTRIES", 0)
    cache = cache_of(engine_of(shards=1))
    drain(cache, fill(cache, 20_000), 100)
    job = CompactTables(cache, lambda freed: None)
    steps = 1
    while job.step(START_MS, 10) and cache.locks.held:
        steps += 1
    assert steps == 200 // 10 + 1
    assert cache.raw_entries() == 200


def test_cleared_tables_are_freed_within_the_allowance() -> None:
    engine = engine_of(shards=1)
    cache = cache_of(engine)
    fill(cache, 1_000)
    cache.clear(START_MS)
    engine.sweep.advance(START_MS, 20)
    assert len(cache.cleared_tables[0]) >= 980


@pytest.mark.parametrize("job", [RemoveZeros, CompactTables, MeasureTables])
def test_a_step_does_not_look_at_all_of_very_many_shards(job: Any) -> None:
    looked_at: list[int] = []

    class Watched(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            looked_at.append(index)
            return super().__getitem__(index)

    cache = Cache(CachePolicy("default", shards=65_536, eviction="lazy"))
    cache.tables = Watched(cache.tables)
    cache.zeros = Watched(cache.zeros)
    one = job(cache, lambda freed: None) if job is CompactTables else job(cache)
    one.step(START_MS, 10)
    assert len(looked_at) <= 10 * sweep.SHARDS_PER_ENTRY * 2


def test_zeros_in_the_last_of_many_shards_are_found() -> None:
    cache = Cache(CachePolicy("default", shards=4_096, eviction="lazy"))
    key = next(key for n in range(10**6) if cache.shard_of(key := b"%d" % n) == 4_095)
    cache.incr(key, 1, None, START_MS)
    cache.decr(key, 1, False, START_MS)
    job = RemoveZeros(cache)
    for _ in range(4_096):
        job.step(START_MS, 1)
    assert cache.raw_entries() == 0


def zeros_in_every_shard(shards: int) -> Cache:
    cache = Cache(CachePolicy("default", shards=shards, eviction="lazy"))
    left = set(range(shards))
    number = 0
    while left:
        key = b"%d" % number
        number += 1
        if cache.shard_of(key) in left:
            left.discard(cache.shard_of(key))
            cache.incr(key, 1, None, START_MS)
            cache.decr(key, 1, False, START_MS)
    return cache


@pytest.mark.parametrize("entries_max", [1, 10, 500])
def test_zeros_of_many_small_shards_go_together(entries_max: int) -> None:
    """What a step does is bounded in entries, not in shards."""
    cache = zeros_in_every_shard(2_048)
    job = RemoveZeros(cache)
    steps = 0
    while cache.raw_entries():
        before = cache.raw_entries()
        assert 0 < job.step(START_MS, entries_max) <= entries_max
        assert before - cache.raw_entries() == min(before, entries_max)
        assert cache.locks.held == 0
        steps += 1
    assert steps == -(-2_048 // entries_max)
    cache.invariants(START_MS)


@pytest.mark.parametrize("with_deadlines", [False, True])
def test_a_small_shard_is_compacted_in_one_step_and_never_held(with_deadlines: bool) -> None:
    engine = engine_of(shards=1)
    cache = cache_of(engine)
    count = sweep.SMALL_SHARD_ENTRIES // (sweep.TIMED_ENTRIES if with_deadlines else 1)
    keys = fill(cache, 40_000, ttl_ms=LONG_MS if with_deadlines else None)
    cache.take(keys[count:], START_MS)
    full = cache.measure(0)
    job = CompactTables(cache, lambda freed: None)
    assert job.step(START_MS, 1) >= count
    assert cache.locks.held == 0
    assert cache.measure(0) < full // 2
    assert sorted(cache.keys_of(0)) == keys[:count]
    cache.invariants(START_MS)


def test_counters_of_both_tables_are_copied_over_several_steps() -> None:
    cache = cache_of(engine_of(shards=1))
    plain, timed = fill(cache, 20_000), fill(cache, 20_000, LONG_MS, b"timed:")
    cache.take(plain[2_000:] + timed[1_500:], START_MS)
    job = CompactTables(cache, lambda freed: None)
    full = cache.measure(0)
    steps = 0
    while job.step(START_MS, 1_000) and cache.locks.held:
        steps += 1
        assert cache.measure(0) == full
        cache.invariants(START_MS)
    assert steps == 3
    assert cache.measure(0) < full // 4
    assert cache.keys_of(0) == plain[:2_000] + timed[:1_500]
    assert cache.deadlines() == dict.fromkeys(timed[:1_500], START_MS + LONG_MS)
    cache.invariants(START_MS)


def test_a_shard_that_is_too_large_for_one_step_is_held_until_it_is_done() -> None:
    cache = cache_of(engine_of(shards=1))
    keys = fill(cache, 40_000)
    cache.take(keys[sweep.SMALL_SHARD_ENTRIES + 1 :], START_MS)
    job = CompactTables(cache, lambda freed: None)
    steps = 1
    while job.step(START_MS, 1_000) and cache.locks.held:
        steps += 1
    assert steps == 5
    assert sorted(cache.tables[0]) == keys[: sweep.SMALL_SHARD_ENTRIES + 1]


# ---------------------------------------------------------------------------------------- turns


def test_no_job_starves_another() -> None:
    """Each job of two caches has more work than a step allows, and each makes progress in every step or two."""
    policies = {name: CachePolicy(name, shards=1, eviction="lazy") for name in ("default", "other")}
    engine = Engine(ServerConfig(caches=policies))
    for cache in engine.store.caches.values():
        fill(cache, 3_000, prefix=b"cleared:")
        cache.clear(START_MS)
        fill(cache, 3_000, ttl_ms=10, prefix=b"expiring:")
    steps = 40
    for _ in range(steps):
        engine.advance(START_MS + 10, 4)
    for cache in engine.store.caches.values():
        assert cache.evictions["expired"] >= steps
        assert len(cache.cleared_tables[0]) <= 3_000 - steps


def test_expiry_has_its_turn_however_long_other_work_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs that hold shards over several steps leave time between, for tables of any size: expired counters are
    taken out only while no shard is held."""
    monkeypatch.setattr(sweep, "SMALL_SHARD_ENTRIES", 0)
    for per_shard in (20, 30, 50, 77, 100, 120):
        engine = engine_of(shards=4, eviction="lazy")
        cache = cache_of(engine)
        fill(cache, 2_000, ttl_ms=10, prefix=b"expiring:")
        busy = fill(cache, 4 * per_shard, prefix=b"busy:")
        expired = []
        for _ in range(400):
            for key in busy:  # new zeros all the time
                cache_value = cache.get(key, START_MS) if not cache.locks.held else 0
                if cache_value:
                    cache.decr(key, 1_000, False, START_MS + 10)
                elif not cache.locks.held:
                    cache.incr(key, 1_000, None, START_MS + 10)
            engine.advance(START_MS + 10, 8)
            expired.append(cache.evictions["expired"])
        assert expired[-1] > expired[200] > 0 or expired[-1] == 2_000, per_shard


@pytest.mark.parametrize("name", ["expired counters", "zeros", "cleared tables", "compaction", "measuring"])
def test_a_job_that_raises_is_logged_and_counted_and_the_others_go_on(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(shards=1, eviction="lazy")
    cache = cache_of(engine)
    fill(cache, 500, prefix=b"cleared:")
    cache.clear(START_MS)
    fill(cache, 500, ttl_ms=10)
    for key in fill(cache, 500, prefix=b"zero:"):
        cache.decr(key, 1_000, False, START_MS)
    broken = next(job for job in engine.sweep._jobs if job.name == name)
    broken.step = lambda now_ms, entries_max: 1 // 0  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR, "naught.server"):
        for step in range(100):
            engine.advance(START_MS + 10 + step * 100, 1_000)
    assert engine.sweep.failures == 100
    assert len(caplog.records) == 100
    assert name in caplog.records[0].getMessage()
    assert cache.raw_entries() == {"expired counters": 500, "zeros": 0 if name != "zeros" else 500}.get(name, 0)
    assert bool(cache.cleared_tables) is (name == "cleared tables")
    assert cache.locks.held == 0


def test_a_step_that_raises_in_the_middle_of_a_shard_gives_the_shard_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweep, "SMALL_SHARD_ENTRIES", 0)
    engine = engine_of(shards=4)
    cache = cache_of(engine)
    kept = drain(cache, fill(cache, 4_000, ttl_ms=LONG_MS), 100)
    visit = ShardCompaction._visit
    visits = 0

    def fails_once(work: ShardCompaction, entries: list[tuple[bytes, int]]) -> None:
        nonlocal visits
        visits += 1
        if visits == 2:
            raise RuntimeError("on purpose")
        visit(work, entries)

    monkeypatch.setattr(ShardCompaction, "_visit", fails_once)
    with caplog.at_level(logging.ERROR, "naught.server"):
        run(engine, START_MS)
    assert engine.sweep.failures == 1
    assert cache.locks.held == 0
    assert cache.live_count(START_MS) == (len(kept), True)
    cache.invariants(START_MS)


def test_next_due_is_soon_while_there_is_work_and_later_when_idle() -> None:
    engine = engine_of()
    cache = cache_of(engine)
    fill(cache, 100, ttl_ms=10)
    assert engine.advance(START_MS + 10, 1_000) == 100
    assert engine.next_due(START_MS + 10) == START_MS + 20
    assert engine.advance(START_MS + 20, 1_000) == 0
    assert engine.next_due(START_MS + 20) == START_MS + 120
    assert engine.next_due(START_MS + 500) == START_MS + 500
