"""`max_counters`: never one counter more, and no refusal while expired counters would make room."""

from __future__ import annotations

import pytest

from naught.errors import CacheFull
from naught.wire.codec import encode_request
from naught_server.config import CachePolicy
from naught_server.store import Cache
from simulation.peer import Peer, engine_of
from support.cases_counters import FULL, Refused


def bounded(limit: int, eviction: str = "eager", shards: int = 4) -> Cache:
    return Cache(CachePolicy("default", shards=shards, eviction=eviction, max_counters=limit))  # type: ignore[arg-type]


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_a_batch_and_what_follows_it_in_one_piece_of_input_share_the_room(eviction: str) -> None:
    peer = Peer(engine_of(eviction=eviction, max_counters=1_000))
    keys = [b"%d" % number for number in range(990)]
    requests = [encode_request(1, "apply", (keys, 1))]
    requests += [encode_request(2 + number, "incr", (b"more%d" % number,)) for number in range(30)]
    peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))
    while peer.protocol.wants_turn:
        peer.turn()
    assert [peer.replies[2 + number] for number in range(30)] == [1] * 10 + [FULL] * 20
    assert peer.protocol.session.cache.live_count(peer.now_ms) == (1_000, True)


def test_many_narrow_batches_in_one_piece_of_input_share_the_room() -> None:
    peer = Peer(engine_of(max_counters=1_000))
    requests = [
        encode_request(number, "apply", ([b"%d-%d" % (number, item) for item in range(15)], 1))
        for number in range(80)
    ]
    peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))
    while peer.protocol.wants_turn:
        peer.turn()
    assert peer.protocol.session.cache.live_count(peer.now_ms) == (1_000, True)


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_single_increments_fill_a_cache_to_the_last_place(eviction: str) -> None:
    peer = Peer(engine_of(eviction=eviction, max_counters=2_000))
    requests = b"".join(encode_request(number, "incr", (b"%d" % number,)) for number in range(2_100))
    peer.take(peer.protocol.receive(requests, peer.now_ms))
    while peer.protocol.wants_turn:
        peer.turn()
    answers = [peer.replies[number] for number in range(2_100)]
    assert answers == [1] * 2_000 + [FULL] * 100


def test_sessions_do_not_promise_the_same_room_twice() -> None:
    engine = engine_of(max_counters=1_500)
    peers = [Peer(engine) for _ in range(4)]
    for start in range(0, 1_000, 100):
        for index, peer in enumerate(peers):
            requests = [
                encode_request(number, "incr", (b"%d-%d" % (index, number),)) for number in range(start, start + 100)
            ]
            peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))
            engine.store.invariants(peer.now_ms)
    granted = [answer for peer in peers for answer in peer.replies.values() if not isinstance(answer, Refused)]
    assert len(granted) == 1_500


def test_more_has_expired_than_one_look_takes_out() -> None:
    cache = bounded(4_000)
    for number in range(4_000):
        cache.incr(b"old%d" % number, 1, 10, 1_000)
    items = [(b"new%d" % number, 1, 1) for number in range(4_000)]
    assert cache.try_incr(items, None, 1_010)[0]
    cache.invariants(1_010)
    with pytest.raises(CacheFull):
        cache.incr(b"one more", 1, None, 1_010)


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_a_shard_that_is_held_does_not_make_an_expired_cache_full(eviction: str) -> None:
    cache = bounded(8, eviction, shards=4)
    for number in range(8):
        cache.incr(b"%d" % number, 1, 10, 1_000)
    used = {cache.shard_of(b"%d" % number) for number in range(8)}
    held = min(used)
    cache.locks.acquire(held, "upkeep")
    free = next(key for key in (b"new%d" % n for n in range(99)) if cache.shard_of(key) != held)
    with pytest.raises(CacheFull):
        cache.incr(free, 1, None, 1_009)
    assert cache.incr(free, 1, None, 1_010) == 1
    assert cache.live_count(1_010) == (1, True)
    cache.locks.release(held, "upkeep")
    cache.invariants(1_010)


def test_invariants_change_nothing() -> None:
    cache = bounded(8)
    cache.incr(b"k", 1, 10, 1_000)
    cache.invariants(2_000)
    assert cache.raw_entries() == 1
    assert cache.evictions["expired"] == 0


def test_a_refused_try_incr_changes_nothing_in_a_full_cache() -> None:
    cache = bounded(2)
    cache.set(b"a", 1, None, 0)
    with pytest.raises(CacheFull):
        cache.try_incr([(b"a", 1, 9), (b"b", 1, 9), (b"c", 1, 9)], None, 0)
    assert cache.get(b"a", 0) == 1
    assert cache.live_count(0) == (1, True)
