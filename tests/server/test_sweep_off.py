"""A sweeper that is off: what it goes on doing, what it leaves, and that it says so."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from naught.errors import InvalidRequest
from naught_server import sweep
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.settings import SWEEPER_OFF
from naught_server.store import Cache
from simulation.peer import Peer, Refused

START_MS = 1_000_000
BACKLOG_EVERY_MS = 4  # a step in so many, with a backlog
COUNT = 2_000

Advance = Callable[[Engine, int], object]
WAYS: dict[str, Advance] = {
    "entries": lambda engine, now_ms: engine.advance(now_ms, 1_000),
    "time": lambda engine, now_ms: engine.advance_within(now_ms, lambda: 0),
}


def engine_that_is_off(**policy: object) -> tuple[Engine, Cache]:
    caches = {"default": CachePolicy("default", **policy)}  # type: ignore[arg-type]
    engine = Engine(ServerConfig(sweep_budget_ms=0, caches=caches))
    return engine, engine.store.cache("default")


def fill(cache: Cache, count: int = COUNT, ttl_ms: int | None = None) -> list[bytes]:
    keys = [b"key:%012d" % number for number in range(count)]
    for key in keys:
        cache.incr(key, 1, ttl_ms, START_MS)
    return keys


def drain(cache: Cache, keys: list[bytes]) -> None:
    for key in keys:
        cache.decr(key, 1, False, START_MS)


def pass_time(engine: Engine, way: str, begin_ms: int = START_MS, end_ms: int = START_MS + 10_000) -> None:
    """Take a step every 100 ms."""
    for now_ms in range(begin_ms, end_ms, 100):
        WAYS[way](engine, now_ms)


# ---------------------------------------------------------------------------------------- what it leaves


@pytest.mark.parametrize("way", WAYS)
def test_zeros_stay_until_it_is_on(way: str) -> None:
    engine, cache = engine_that_is_off(eviction="lazy")
    drain(cache, fill(cache)[10:])
    pass_time(engine, way)
    assert cache.raw_entries() == COUNT
    assert cache.live_count(START_MS) == (10, True), "and no answer shows one"
    assert engine.info(START_MS)["caches"]["default"]["deviation"] == (COUNT - 10) / 10
    engine.settings.change("sweep_budget_ms", 1)
    pass_time(engine, way, START_MS + 10_000, START_MS + 20_000)
    assert cache.raw_entries() == 10
    cache.invariants(START_MS)


@pytest.mark.parametrize("way", WAYS)
def test_cleared_and_emptied_tables_stay_until_it_is_on(way: str) -> None:
    engine, cache = engine_that_is_off(shards=1)
    fill(cache)
    cache.clear(START_MS)
    drain(cache, fill(cache)[10:])
    full = cache.measure(0)
    pass_time(engine, way)
    assert len(cache.cleared_tables) == 1
    assert cache.measure(0) == full
    assert engine.sweep.table_bytes_freed == 0
    engine.settings.change("sweep_budget_ms", 1)
    pass_time(engine, way, START_MS + 10_000, START_MS + 20_000)
    assert not cache.cleared_tables
    assert cache.measure(0) < full


@pytest.mark.patches
@pytest.mark.parametrize("way", WAYS)
def test_a_shard_that_it_holds_is_finished_and_let_go(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests may wait for its lock. The next shard is not begun."""
    monkeypatch.setattr(sweep, "SMALL_SHARD_ENTRIES", 0)
    engine, cache = engine_that_is_off(shards=2, eviction="lazy")
    drain(cache, fill(cache))
    engine.settings.change("sweep_budget_ms", 1)
    while not cache.locks.held:
        engine.advance(START_MS, 20)
    engine.settings.change("sweep_budget_ms", 0)
    pass_time(engine, way)
    assert cache.locks.held == 0
    assert sorted(bool(zeros) for zeros in cache.zeros) == [False, True]
    cache.invariants(START_MS)


@pytest.mark.patches
def test_the_next_shard_is_not_begun_even_in_a_step_with_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SMALL_SHARD_ENTRIES", 0)
    engine, cache = engine_that_is_off(shards=2)
    drain(cache, fill(cache, 40_000)[100:])
    full = [cache.measure(shard) for shard in range(2)]
    assert min(full) > 500 * sweep.BYTES_FREED_PER_ENTRY, "a rebuilt shard is all that fits a turn"
    engine.settings.change("sweep_budget_ms", 1)
    for step in range(100):
        engine.advance(START_MS + step * 100, 20)
        if cache.locks.held:
            break
    engine.settings.change("sweep_budget_ms", 0)
    pass_time(engine, "time", START_MS + 20_000, START_MS + 22_000)
    assert cache.locks.held == 0
    assert sorted(cache.measure(shard) == full[shard] for shard in range(2)) == [False, True]


# ---------------------------------------------------------------------------------------- what goes on


@pytest.mark.parametrize("way", WAYS)
def test_waits_end_and_holds_come_back(way: str) -> None:
    engine, cache = engine_that_is_off()
    holder, waiter = Peer(engine, START_MS), Peer(engine, START_MS)
    holder.call("hello", {"session": True, "lease_ms": 500})
    assert holder.call("acquire", [["gpu", 1, 1]])[0] is True
    short = waiter.send("wait_zero", "gpu", 200)
    pass_time(engine, way, end_ms=START_MS + 201)
    waiter.turn()
    assert waiter.replies[short] is False, "its time has run out"
    waiter.now_ms = START_MS + 300
    long = waiter.send("wait_zero", "gpu", 60_000)
    holder.protocol.close(START_MS + 300)
    pass_time(engine, way, begin_ms=START_MS + 300)
    waiter.turn()
    assert waiter.replies[long] is True, "the lease has ended, and the hold was given back"
    assert cache.raw_entries() == 0
    engine.invariants(START_MS + 10_000)


@pytest.mark.parametrize("way", WAYS)
def test_many_holds_come_back(way: str) -> None:
    """More than the end of a session gives back at once."""
    engine, cache = engine_that_is_off()
    holder = Peer(engine, START_MS)
    holder.call("hello", {"session": True, "lease_ms": 500})
    for number in range(8):
        assert holder.call("acquire", [[b"%d:%d" % (number, key), 1, 1] for key in range(1_000)])[0] is True
    holder.protocol.close(START_MS)
    engine.advance(START_MS + 501, 1)
    assert engine.sessions.unfinished == 1
    pass_time(engine, way, begin_ms=START_MS + 600)
    assert engine.sessions.unfinished == 0
    assert cache.raw_entries() == 0


@pytest.mark.parametrize("way", WAYS)
def test_what_has_expired_is_taken_out(way: str) -> None:
    engine, cache = engine_that_is_off()
    fill(cache, ttl_ms=50)
    waiter = Peer(engine, START_MS)
    waiting = waiter.send("wait_zero", "key:000000000007", 60_000)
    pass_time(engine, way)
    waiter.turn()
    assert waiter.replies[waiting] is True
    assert cache.raw_entries() == 0
    assert cache.evictions["expired"] == COUNT


@pytest.mark.parametrize("way", WAYS)
def test_tables_are_measured(way: str) -> None:
    engine, cache = engine_that_is_off(eviction="lazy")
    drain(cache, fill(cache))
    pass_time(engine, way)
    assert (cache.entries_measured, cache.zeros_measured) == (COUNT, COUNT)
    assert cache.table_bytes == sum(map(cache.measure, range(256)))


@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_a_client_asks_for_is_a_whole_one(way: str) -> None:
    engine, cache = engine_that_is_off(eviction="lazy", shards=1)
    drain(cache, fill(cache))
    pass_time(engine, way)
    peer = Peer(engine, START_MS)
    while peer.call("sweep"):
        pass
    assert cache.raw_entries() == 0


# ---------------------------------------------------------------------------------------- when it works


def test_zeros_do_not_hurry_it() -> None:
    engine, cache = engine_that_is_off(eviction="lazy")
    drain(cache, fill(cache))
    pass_time(engine, "time")
    now_ms = START_MS + 10_000
    engine.advance_within(now_ms, lambda: 0)
    assert engine.sweep.is_behind(now_ms), "there is a backlog"
    assert engine.next_due(now_ms) == now_ms + 100, "that it does nothing about"


def test_expired_counters_hurry_it() -> None:
    engine, cache = engine_that_is_off()
    fill(cache, ttl_ms=1)
    engine.advance(START_MS + 10, 20)
    assert engine.next_due(START_MS + 10) == START_MS + 10 + BACKLOG_EVERY_MS


def test_what_goes_on_has_the_time_of_a_step() -> None:
    engine, cache = engine_that_is_off()
    fill(cache)
    for number in range(100):
        cache.expire_in(b"key:%012d" % number, 1, START_MS)
    assert engine.advance_within(START_MS + 10, lambda: 0) == 100, "not one at a time"


@pytest.mark.parametrize("way", WAYS)
def test_its_steps_do_not_count(way: str) -> None:
    """So an operator's alert sees that it stands still."""
    engine, _ = engine_that_is_off()
    pass_time(engine, way)
    assert engine.sweep.steps == 0
    engine.settings.change("sweep_budget_ms", 1)
    pass_time(engine, way, START_MS + 10_000, START_MS + 20_000)
    assert engine.sweep.steps == 100


# ---------------------------------------------------------------------------------------- that it says so


def test_it_says_so() -> None:
    engine, _ = engine_that_is_off()
    peer = Peer(engine, START_MS)
    assert peer.call("config_get", "sweep_budget_ms") == 0.0
    assert peer.call("info")[b"sweeper"][b"off"] is True
    assert peer.call("config_set", "sweep_budget_ms", 0.1) == 0.1
    assert peer.call("info")[b"sweeper"][b"off"] is False
    assert str(peer.call("config_set", "sweep_budget_ms", -0.0)) == "0.0"
    assert peer.call("info")[b"sweeper"][b"off"] is True


@pytest.mark.parametrize("value", [0.05, -1, False, b"0"])
def test_nothing_else_turns_it_off(value: object) -> None:
    settings = Engine().settings
    with pytest.raises(
        InvalidRequest, match=r"^sweep_budget_ms must be a number from 0\.1 to 10, or 0 for off, not "
    ):
        settings.change("sweep_budget_ms", value)
    assert Peer(Engine()).call("config_set", "sweep_budget_ms", value) == Refused("invalid")
    assert not settings.sweeper_off


def test_the_log_warns_at_the_start_and_when_it_is_turned_off(caplog: pytest.LogCaptureFixture) -> None:
    def said() -> list[tuple[str, str]]:
        lines = [(record.levelname, record.getMessage()) for record in caplog.records]
        caplog.clear()
        return lines

    level = logging.getLogger("naught").level
    caplog.set_level(logging.INFO, "naught")
    try:
        engine, _ = engine_that_is_off()
        engine.start(START_MS)
        engine.start(START_MS)
        assert said() == [("WARNING", SWEEPER_OFF)]
        engine.settings.change("sweep_budget_ms", 0)
        assert said() == []
        engine.settings.change("sweep_budget_ms", 1)
        assert said() == [("INFO", "the sweeper is on again")]
        engine.settings.change("sweep_budget_ms", 2)
        assert said() == []
        engine.settings.take_from(ServerConfig(sweep_budget_ms=0))
        assert said() == [("WARNING", SWEEPER_OFF)]
        engine.settings.take_from(ServerConfig(sweep_budget_ms=0))
        assert said() == []
        engine.settings.take_from(ServerConfig())
        assert said() == [("INFO", "the sweeper is on again")]
        Engine().start(START_MS)
        assert said() == []
    finally:
        logging.getLogger("naught").setLevel(level)
