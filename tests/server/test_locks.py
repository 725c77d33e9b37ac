"""The locks of shards: granted in order, not lost with a cancelled waiter, released in every case."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import pytest

from naught_server import sweep
from naught_server.locks import ShardLocks
from naught_server.protocol import ServerProtocol
from naught_server.store import Cache
from naught_server.sweep import CompactTables, ShardCompaction
from simulation.peer import Peer, engine_of
from support.cases_counters import Refused


class Waiter:
    """Makes a note when it is granted a lock."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    def granted(self) -> None:
        self.log.append(self.name)


# ---------------------------------------------------------------------------------------- ShardLocks


def test_a_free_shard_is_taken_and_given_back() -> None:
    locks = ShardLocks(2)
    assert locks.acquire(1, "a")
    assert (locks.owner(0), locks.owner(1), locks.held) == (None, "a", 1)
    assert locks.acquire(1, "a"), "an owner that asks again has it"
    assert not locks.acquire(1, "b")
    assert locks.queue_length(1) == 0, "without a callback it does not queue"
    locks.release(1, "a")
    assert (locks.owner(1), locks.held) == (None, 0)


def test_locks_are_granted_in_the_order_of_asking() -> None:
    locks = ShardLocks(1)
    log: list[str] = []
    locks.acquire(0, "first")
    waiters = [Waiter(log, name) for name in "abc"]
    for waiter in waiters:
        assert not locks.acquire(0, waiter, waiter.granted)
    assert locks.queue_length(0) == 3
    locks.release(0, "first")
    for waiter in waiters:
        assert locks.owner(0) is waiter, "it owns the lock before its callback is called"
        assert locks.held == 1
        locks.release(0, waiter)
    assert log == ["a", "b", "c"]
    assert locks.held == 0


def test_release_by_another_owner_is_refused_and_changes_nothing() -> None:
    locks = ShardLocks(1)
    with pytest.raises(RuntimeError):
        locks.release(0, "a")
    locks.acquire(0, "a")
    with pytest.raises(RuntimeError):
        locks.release(0, "b")
    assert locks.owner(0) == "a"


def test_a_waiter_that_leaves_before_its_turn_is_passed_over() -> None:
    locks = ShardLocks(1)
    log: list[str] = []
    a, b, c = (Waiter(log, name) for name in "abc")
    locks.acquire(0, "first")
    for waiter in (a, b, c):
        locks.acquire(0, waiter, waiter.granted)
    locks.withdraw(0, b)
    locks.withdraw(0, b)
    locks.release(0, "first")
    locks.release(0, a)
    assert locks.owner(0) is c
    assert log == ["a", "c"]


def test_a_waiter_that_leaves_after_its_turn_gives_the_lock_on() -> None:
    locks = ShardLocks(1)
    log: list[str] = []
    a, b = (Waiter(log, name) for name in "ab")
    locks.acquire(0, "first")
    locks.acquire(0, a, a.granted)
    locks.acquire(0, b, b.granted)
    locks.release(0, "first")
    locks.withdraw(0, a)
    assert locks.owner(0) is b
    locks.withdraw(0, b)
    assert (locks.owner(0), locks.held) == (None, 0)


def test_withdrawing_what_was_never_asked_for_does_nothing() -> None:
    locks = ShardLocks(1)
    locks.withdraw(0, "a")
    locks.acquire(0, "b")
    locks.withdraw(0, "a")
    assert (locks.owner(0), locks.held) == ("b", 1)


@pytest.mark.parametrize("seed", range(5))
def test_locks_against_a_model(seed: int) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    locks = ShardLocks(3)
    queues: list[list[int]] = [[], [], []]  # the first is the owner
    grants: list[tuple[int, int]] = []
    for _ in range(3_000):
        shard, caller = random.randrange(3), random.randrange(6)
        queue = queues[shard]
        owner_before = queue[0] if queue else None
        if random.random() < 0.5:
            if caller not in queue[1:]:
                granted = locks.acquire(shard, caller, partial(grants.append, (shard, caller)))  # type: ignore[misc]
                assert granted is (not queue or queue[0] == caller)
                if caller not in queue:
                    queue.append(caller)
            continue
        locks.withdraw(shard, caller)
        if caller in queue:
            queue.remove(caller)
        owner = queue[0] if queue else None
        assert locks.owner(shard) == owner
        assert grants == ([(shard, owner)] if owner is not None and owner != owner_before else [])
        grants.clear()
        assert locks.held == sum(map(bool, queues))
        assert locks.queue_length(shard) == max(0, len(queue) - 1)


# ---------------------------------------------------------------------------------------- connections that wait


def key_in(cache: Cache, shard: int, prefix: str = "key") -> bytes:
    """A key of this shard."""
    return next(key for n in range(10**6) if cache.shard_of(key := b"%s%d" % (prefix.encode(), n)) == shard)


def test_a_session_waits_where_its_request_meets_a_held_shard_and_others_go_on() -> None:
    engine = engine_of(shards=4)
    first, second = Peer(engine), Peer(engine)
    cache = first.protocol.session.cache
    held, free = key_in(cache, 1), key_in(cache, 2)
    cache.locks.acquire(1, "upkeep")
    ahead = first.send("incr", free)
    waiting = first.send("incr", held)
    behind = first.send("incr", free)
    assert set(first.replies) == {ahead}
    assert not first.protocol.wants_turn
    assert not first.protocol.idle
    assert first.turn() == [], "a turn it did not ask for changes nothing"
    assert second.call("incr", free) == 2
    assert second.call("top", 5, "") == [[free], [2]], "a command that only reads all shards does not wait"
    cache.locks.release(1, "upkeep")
    assert first.woken == 1
    assert first.turn() == [waiting, behind]
    assert first.replies[behind] == 3
    assert first.protocol.idle
    assert cache.locks.held == 0


def test_sessions_are_served_in_the_order_they_came_to_the_shard() -> None:
    engine = engine_of(shards=1)
    peers = [Peer(engine) for _ in range(4)]
    cache = peers[0].protocol.session.cache
    cache.locks.acquire(0, "upkeep")
    asked = [peer.send("incr", "k") for peer in peers]
    cache.locks.release(0, "upkeep")
    for number, peer in enumerate(peers):
        assert [other.woken for other in peers] == [1] * (number + 1) + [0] * (3 - number)
        peer.turn()
        assert peer.replies[asked[number]] == number + 1
    assert cache.locks.held == 0


def test_a_request_for_several_shards_has_them_all_or_changes_nothing() -> None:
    engine = engine_of(shards=8)
    peer, other = Peer(engine), Peer(engine)
    cache = peer.protocol.session.cache
    keys = [key_in(cache, shard) for shard in (6, 2, 4)]
    cache.locks.acquire(4, "upkeep")
    cache.locks.acquire(6, "upkeep")
    asked = peer.send("apply", keys, 1)
    assert cache.locks.owner(2) is peer.protocol._claim, "it keeps the shard it has got"
    assert cache.raw_entries() == 0
    cache.locks.release(4, "upkeep")
    assert peer.turn() == []
    assert cache.raw_entries() == 0
    assert ShardCompaction.begin(cache, 2) is None, "no work begins on a shard that a connection has got"
    assert other.call("incr", keys[1]) == 1, "another connection may use it"
    cache.locks.release(6, "upkeep")
    assert peer.turn() == [asked]
    assert peer.replies[asked] == [1, 2, 1]
    assert cache.locks.held == 0


@pytest.mark.parametrize("when", ["waiting", "granted"])
def test_a_session_that_closes_gives_back_what_it_has_and_wants(when: str) -> None:
    engine = engine_of(shards=8)
    peer, other = Peer(engine), Peer(engine)
    cache = peer.protocol.session.cache
    keys = [key_in(cache, 1), key_in(cache, 5)]
    cache.locks.acquire(5, "upkeep")
    peer.send("apply", keys, 1)
    waiting = other.send("incr", keys[1])
    if when == "granted":
        cache.locks.release(5, "upkeep")
        assert cache.locks.owner(5) is peer.protocol._claim
    peer.protocol.close(peer.now_ms)
    if when == "waiting":
        cache.locks.release(5, "upkeep")
    assert other.turn() == [waiting]
    assert cache.locks.held == 0
    assert cache.get(keys[0], 0) == 0
    assert cache.get(keys[1], 0) == 1
    assert peer.turn() == []


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("decr", ("k", 5, True), Refused("underflow")),
        ("incr", ("k", 0), Refused("invalid")),
        ("incr", ("k", 2**63 - 1), Refused("overflow")),
        ("apply", (["k", "l"], [1]), Refused("invalid")),
        ("try_incr", ([["k", 1, 0]],), [False, [3]]),
        ("clear", (), 1),
        ("take", (["k"],), [3]),
        ("expire", ("k", 5), True),
        ("ttl", ("k",), -1),
        ("get", ("k",), 3),
        ("get_many", (["k", "m"],), [3, 0]),
        ("set", ("k", 9), 3),
    ],
)
def test_a_lock_that_was_waited_for_is_released_on_every_way_out(
    method: str, params: tuple[Any, ...], expected: Any
) -> None:
    peer = Peer(engine_of(shards=1))
    cache = peer.protocol.session.cache
    peer.call("incr", "k", 3)
    cache.locks.acquire(0, "upkeep")
    asked = peer.send(method, *params)
    assert asked not in peer.replies
    cache.locks.release(0, "upkeep")
    peer.turn()
    assert peer.replies[asked] == expected
    assert cache.locks.held == 0
    assert peer.protocol._claim.locks is None


@pytest.mark.patches
def test_a_lock_is_released_when_a_handler_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(engine_of(shards=1))
    cache = peer.protocol.session.cache
    cache.locks.acquire(0, "upkeep")
    asked = peer.send("take", ["k"])
    monkeypatch.setattr(Cache, "take", lambda *arguments: 1 // 0)
    cache.locks.release(0, "upkeep")
    peer.turn()
    assert peer.replies[asked] == Refused("unavailable")
    assert cache.locks.held == 0


@pytest.mark.parametrize("work", ["_visit", "_finish"])
def test_a_lock_is_released_when_work_on_a_shard_fails(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(engine_of(shards=1))
    cache = peer.protocol.session.cache
    peer.call("apply", ["a", "b", "c"], 1)
    compact = ShardCompaction.begin(cache, 0)
    assert compact is not None
    monkeypatch.setattr(ShardCompaction, work, lambda *arguments: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        compact.step(100)
    assert cache.locks.held == 0
    cache.invariants(peer.now_ms)
    assert peer.call("get_many", ["a", "b", "c"]) == [1, 1, 1]


@pytest.mark.parametrize("seed", range(4))
def test_requests_for_many_shards_never_wait_in_a_ring(seed: int) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    engine = engine_of(shards=8)
    peers = [Peer(engine) for _ in range(6)]
    cache = peers[0].protocol.session.cache
    keys = [key_in(cache, shard) for shard in range(8)]
    upkeep: dict[int, object] = {}
    asked = 0
    for _ in range(1_500):
        shard = random.randrange(8)
        if shard in upkeep:
            cache.locks.release(shard, upkeep.pop(shard))
        elif cache.locks.owner(shard) is None and len(upkeep) < 3:
            upkeep[shard] = owner = object()
            cache.locks.acquire(shard, owner)
        peer = random.choice(peers)
        peer.send("apply", random.sample(keys, random.randint(1, 8)), 1)
        asked += 1
        for other in peers:
            if other.woken and random.random() < 0.5:
                other.woken = 0
                other.turn()
    for shard, owner in upkeep.items():
        cache.locks.release(shard, owner)
    for _ in range(asked):
        for peer in peers:
            peer.turn()
    assert sum(len(peer.replies) for peer in peers) == asked
    assert cache.locks.held == 0


def test_sessions_that_waited_leave_no_convoy_behind() -> None:
    """While requests for many shards come in faster than they are served, some connection always waits. If a shard
    that a session has got for a request of its own stopped the others, every one of them would come to stand in that
    queue, and all of them would be served the slow way for as long as the load lasts."""
    engine = engine_of(shards=8)
    peers = [Peer(engine) for _ in range(4)]
    cache = peers[0].protocol.session.cache
    keys = [key_in(cache, shard) for shard in range(8)]
    cache.locks.acquire(3, "upkeep")
    for peer in peers:
        for _ in range(50):
            peer.send("apply", keys * 100, 1)
    assert not any(peer.replies for peer in peers)
    cache.locks.release(3, "upkeep")
    rounds = 0
    while cache.locks.held:
        for peer in peers:
            if peer.woken or peer.protocol.wants_turn:
                peer.woken = 0
                peer.turn()
        rounds += 1
    assert rounds <= 2
    assert not any(peer.protocol.idle for peer in peers), "the load still lasts"


# ---------------------------------------------------------------------------------------- why there are locks


def increment_during_a_compaction() -> int:
    """Increment a counter after the compaction of a large shard has copied it. Returns its value in the end."""
    peer = Peer(engine_of(shards=1))
    cache = peer.protocol.session.cache
    cache.incr(b"a", 1, None, peer.now_ms)
    for number in range(40_000):
        cache.incr(b"%d" % number, 1, None, peer.now_ms)
    for number in range(sweep.SMALL_SHARD_ENTRIES, 40_000):
        cache.decr(b"%d" % number, 1, False, peer.now_ms)
    job = CompactTables(cache, lambda freed: None)
    size = cache.measure(0)
    assert job.step(peer.now_ms, 2) > 0
    assert cache.locks.held, "a shard of this size is worked on in slices"
    asked = peer.send("incr", "a")
    while cache.locks.held and cache.measure(0) == size:
        job.step(peer.now_ms, 500)
    if asked not in peer.replies:
        peer.turn()
    assert peer.replies[asked] == 2
    cache.invariants(peer.now_ms)
    return cache.get(b"a", peer.now_ms)


def test_an_increment_during_a_compaction_waits_and_is_not_lost() -> None:
    assert increment_during_a_compaction() == 2


@pytest.mark.patches
def test_without_the_lock_check_the_same_increment_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test before this one would find the fault."""
    direct = Cache.prepare

    def blind(cache: Cache, now_ms: int) -> bool:
        held, cache.locks.held = cache.locks.held, 0
        try:
            return direct(cache, now_ms)
        finally:
            cache.locks.held = held

    monkeypatch.setattr(Cache, "prepare", blind)
    monkeypatch.setattr(ServerProtocol, "_need_shards", lambda *arguments: None)
    assert increment_during_a_compaction() == 1


def test_a_whole_sweep_with_increments_between_its_steps_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "TABLE_BYTES_MIN", 600)
    monkeypatch.setattr(sweep, "SMALL_SHARD_ENTRIES", 0)
    peer = Peer(engine_of(shards=1))
    cache = peer.protocol.session.cache
    keys = [b"%d" % number for number in range(2_000)]
    peer.call("apply", keys, 1)
    peer.call("apply", keys[20:], -1)
    asked: list[int] = []
    for _ in range(300):
        peer.engine.advance(peer.now_ms, 4)
        peer.now_ms += 100
        asked.append(peer.send("incr", keys[len(asked) % 20]))
        peer.turn()
    assert peer.engine.sweep.table_bytes_freed > 0
    while cache.locks.held:
        peer.engine.advance(peer.now_ms, 4)
        peer.turn()
    assert [peer.replies[msgid] for msgid in asked] == [2 + number // 20 for number in range(300)]
