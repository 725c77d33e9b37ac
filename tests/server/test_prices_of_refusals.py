"""What is refused, counted or full has its price too: a few bytes that are answered with an error cost no more turns'
work than they pay for."""

from __future__ import annotations

from typing import Any

import pytest

from naught.wire.codec import encode_notification, encode_request
from naught_server.access import PREFIXES_PER_ENTRY, Login, Rights
from naught_server.commands import REQUEST_ENTRIES
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.expiry import GRAIN_BITS, SLOTS
from naught_server.holds import Holds
from naught_server.limits import TURN_ITEMS_MAX
from naught_server.store import EXPIRE_AT_ONCE, Cache
from naught_server.walk import SMALL_BYTES
from simulation.peer import Peer, engine_of
from support.counting import Calls

FAR_MS = 2 * SLOTS
"""A time to live whose deadline goes into the later wheel at first."""


def spent_on(peer: Peer, data: bytes) -> int:
    """The entries that the peer's connection is charged for these bytes, its debt to later turns included."""
    protocol = peer.protocol
    before = protocol._left = TURN_ITEMS_MAX
    protocol.receive(data, peer.now_ms)
    spent = before - protocol._left
    while protocol.wants_turn:
        protocol.turn(peer.now_ms)
        spent += protocol.spent
    return spent


def of_user(*prefixes: bytes) -> Peer:
    """A peer whose user is bound to these prefixes."""
    peer = Peer(engine_of())
    principal = peer.protocol._principal
    principal.login = Login(Rights("u", "read", None, prefixes), b"")
    principal.careful = True
    return peer


# ---------------------------------------------------------------------------------------- messages that do nothing

WIDE = [[b"%d" % number, 1, 1] for number in range(4_000)]
KEYS = [b"k%d" % number for number in range(4_000)]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("nothing", (KEYS,)),  # there is no such method
        ("ping", (KEYS,)),  # too many parameters
        ("get", (KEYS,)),  # a wrong type
        ("hello", (KEYS,)),
        ("ack", (KEYS,)),
        ("cancel", (WIDE,)),
        ("set", (b"k", KEYS, 7)),
        ("apply", (KEYS, KEYS[1:])),
    ],
)
def test_a_large_message_that_is_refused_pays_for_its_elements(method: str, params: tuple[Any, ...]) -> None:
    elements = sum(len(each) * (4 if each is WIDE else 1) for each in params if isinstance(each, list))
    assert spent_on(Peer(engine_of()), encode_request(1, method, params)) >= elements // 4
    assert spent_on(Peer(engine_of()), encode_notification(method, params)) >= elements // 4


def test_what_is_done_does_not_pay_for_its_elements_twice() -> None:
    peer = Peer(engine_of())
    assert spent_on(peer, encode_request(1, "get_many", (KEYS,))) < 2 * len(KEYS) + 200


def test_a_message_that_is_denied_pays_for_the_prefixes_that_were_compared() -> None:
    few = spent_on(of_user(b"k"), encode_request(1, "get_many", ([*KEYS, b"x"],)))
    many = spent_on(of_user(*(b"k" * 64 + b"%d" % n for n in range(64))), encode_request(1, "get_many", (KEYS,)))
    assert many > 2 * few > len(KEYS) // 2
    assert many < 2 * few + 2 * len(KEYS), "and no more"


# ---------------------------------------------------------------------------------------- holds


SMALL = [b"k" * 100 + b"%02d" % number for number in range(51)]


@pytest.mark.parametrize(
    ("method", "params", "items"),
    [
        ("get_many", ([*SMALL, 7],), 52),
        ("try_incr", ([*((key, 1, 9) for key in SMALL[:11]), (b"x", 1)],), 12),
        ("release", (1, [*((key, 1) for key in SMALL[:16]), (b"x", 1)]), 17),
        ("nothing", (SMALL,), 51),
        ("take", (SMALL, 1), 51),
    ],
)
@pytest.mark.parametrize("prefixes", [0, 1, 64])
def test_a_small_message_that_is_refused_pays_for_its_items(
    method: str, params: tuple[Any, ...], items: int, prefixes: int
) -> None:
    """It took 36 us with 51 items, and 55 with 64 prefixes, for the price of 5."""
    peer = of_user(*(b"k" * 100 + b"%02d" % (50 - n) for n in range(prefixes))) if prefixes else Peer(engine_of())
    data = encode_request(1, method, params)
    assert len(data) < SMALL_BYTES
    spent = spent_on(peer, data)
    assert spent >= REQUEST_ENTRIES + items // 2 + items * prefixes // PREFIXES_PER_ENTRY
    assert spent <= REQUEST_ENTRIES + 8 * items + items * prefixes // PREFIXES_PER_ENTRY


@pytest.mark.patches
def test_a_page_of_holds_that_fits_no_reply_pays_for_what_it_has_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(engine_of())
    peer.call("hello", {"session": True})
    peer.call("acquire", [(b"%0512d" % number, 1, 9) for number in range(1_000)])
    looks = Calls(monkeypatch, Holds, "live_amount")
    spent = spent_on(peer, b"".join(encode_request(number, "held", ()) for number in range(20)))
    assert looks.count == 20_000
    assert spent >= looks.count


# ---------------------------------------------------------------------------------------- counting beside a backlog


def expired(count: int, *, laps: int = 0, **policy: Any) -> Peer:
    """A peer of a server on which so many counters have just expired, all in one grain of the wheel; with `laps` as
    many are in the same grain and live for longer."""
    peer = Peer(engine_of(**policy))
    cache = peer.protocol.session.cache
    for number in range(count):
        cache.incr(b"%d" % number, 1, FAR_MS, peer.now_ms)
    later_ms = laps << GRAIN_BITS + 14
    for number in range(count if laps else 0):
        cache.incr(b"later %d" % number, 1, FAR_MS + later_ms, peer.now_ms)
    peer.now_ms += FAR_MS
    return peer


@pytest.mark.patches
@pytest.mark.parametrize("laps", [0, 1])
@pytest.mark.parametrize("method", ["count", "info"])
def test_counting_beside_expired_counters_pays_for_what_it_looks_at(
    method: str, laps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, Cache, "deadline_of")
    peer = expired(20_000, laps=laps)
    spent = spent_on(peer, b"".join(encode_notification(method, ()) for _ in range(10)))
    assert calls.count + peer.protocol.session.cache.wheel.visited <= 3 * spent


@pytest.mark.parametrize(("method", "params"), [("ping", ()), ("ttl", (b"k",)), ("apply", ([b"k0", b"k1"] * 100, 1))])
def test_requests_beside_expired_counters_take_out_some_in_a_turn(method: str, params: tuple[Any, ...]) -> None:
    """Each took out 64, which it did not pay for: a turn of pings took 1 ms. The sweeper takes out the others."""
    peer = expired(20_000)
    cache = peer.protocol.session.cache
    peer.protocol._left = TURN_ITEMS_MAX
    peer.protocol.receive(encode_request(1, method, params) * 100, peer.now_ms)
    assert 0 < cache.evictions["expired"] <= EXPIRE_AT_ONCE + 2, "and those that are named"
    peer.protocol.turn(peer.now_ms + 1)
    assert cache.evictions["expired"] > EXPIRE_AT_ONCE


def test_an_exact_count_comes_in_the_end_whatever_shares_the_grain() -> None:
    peer = expired(3_000, laps=1)
    assert peer.call("count") == 3_000
    assert peer.call("info")[b"caches"][b"default"][b"counters_exact"] is True


def test_info_pays_for_the_shards_of_all_caches() -> None:
    caches = {f"c{number}": CachePolicy(f"c{number}", shards=4_096) for number in range(4)}
    peer = Peer(Engine(ServerConfig(caches=caches)))
    assert spent_on(peer, encode_request(1, "info", ())) >= 4 * 4_096 // 16


# ---------------------------------------------------------------------------------------- full caches


@pytest.mark.patches
@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_a_full_cache_does_not_count_its_entries_for_each_request(
    eviction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(engine_of(max_counters=100, eviction=eviction, shards=64))
    peer.call("apply", [b"%d" % number for number in range(100)], 1)
    calls = Calls(monkeypatch, Cache, "raw_entries")
    for number in range(20):
        assert peer.call("incr", b"new%d" % number).code == "full"
        assert peer.call("ping") == b"pong"
        assert [each[0] for each in peer.call("apply", [b"a%d" % number, b"b"], 1)] == [b"full", b"full"]
        # One goes, one comes.
        assert peer.call("apply", [b"%d" % number, b"x%d" % number, b"x%d" % number], [-1, 1, -1]) == [0, 1, 0]
        assert peer.call("set", b"%d" % number, 1) == 0
        assert peer.call("take", [b"%d" % number]) == [1]
        assert peer.call("try_incr", [(b"%d" % number, 1, 1)]) == [True, [1]]
    assert calls.count == 0
    peer.engine.invariants(peer.now_ms)


@pytest.mark.patches
@pytest.mark.parametrize("what", ["full", "queued", "evicted with a deadline"])
def test_a_batch_pays_for_items_that_are_not_plain(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is plain by its bytes, and its items turn out not to be: each is done with every check."""
    peer = Peer(engine_of(max_counters=1_000 if what == "full" else None))
    keys = [b"%d" % number for number in range(1_000)]
    peer.call("apply", keys, 1, None if what != "evicted with a deadline" else 60_000)
    careful = Calls(monkeypatch, Cache, "apply_item")
    if what == "queued":
        peer.call("hello", {"session": True})
        for begin in range(0, 1_000, 500):
            peer.send("acquire", [(b"wall", 1, 0), *((key, 1, 9) for key in keys[begin : begin + 500])], None)
    spent = spent_on(
        peer,
        encode_request(
            1, "apply", ([b"new" + key for key in keys] if what == "full" else keys, 1 if what == "full" else -1)
        ),
    )
    assert careful.count == (0 if what == "queued" else 1_000)
    assert spent >= 4 * careful.count


def test_the_room_of_a_cache_is_known_after_each_way_to_evict() -> None:
    peer = Peer(engine_of(max_counters=4, shards=4))
    peer.call("hello", {"session": True})

    def fill() -> None:
        for number in range(4):
            assert peer.call("incr", b"%d" % number, 1, 50) >= 1
        assert peer.call("incr", b"one more").code == "full"

    fill()
    for way in (
        lambda: peer.call("clear"),
        lambda: peer.call("take", [b"0", b"1", b"2", b"3"]),
        lambda: [peer.call("set", b"%d" % number, 0) for number in range(4)],
        lambda: [peer.call("decr", b"%d" % number) for number in range(4)],
        lambda: peer.call("apply", [b"0", b"1", b"2", b"3"], -1),
    ):
        way()
        peer.engine.invariants(peer.now_ms)
        fill()
    peer.now_ms += 50
    fill()
    peer.call("config_set", "caches.default.max_counters", 3)
    peer.call("clear")
    for number in range(3):
        assert peer.call("incr", b"%d" % number) == 1
    assert peer.call("incr", b"one more").code == "full"
    peer.call("config_set", "caches.default.max_counters", 0)
    assert peer.call("incr", b"one more") == 1
    peer.engine.invariants(peer.now_ms)


# ---------------------------------------------------------------------------------------- settings, clear, resuming


def test_a_setting_pays_for_what_it_sets_off() -> None:
    caches = {f"c{number}": CachePolicy(f"c{number}", shards=4_096) for number in range(50)}
    engine = Engine(ServerConfig(caches=caches))
    collections: list[object] = []
    engine.watch(on_collector=lambda name, value: collections.append((name, value)))

    def spent(name: str, value: object) -> int:
        return spent_on(Peer(engine), encode_request(1, "config_set", (name, value)))

    assert spent("tuner", "dry-run") >= 10 * len(caches)
    assert spent("caches.c1.max_counters", 7) >= 4_096 // 16
    assert spent("gc_freeze", True) >= 10 * TURN_ITEMS_MAX
    assert spent("gc_freeze", False) >= 10 * TURN_ITEMS_MAX
    assert collections == [("gc_freeze", True), ("gc_freeze", False)]
    assert spent("drain_timeout_ms", 7) < 100
    assert spent("gc_freeze", 7) < 100, "it was refused"


def test_clear_pays_for_the_expired_counters_it_looks_at() -> None:
    peer = expired(20_000, laps=1)
    spent = spent_on(peer, encode_request(1, "clear", ()))
    assert peer.protocol.session.cache.evictions["expired"] == 20_000
    assert spent >= 40_000 // 4


def test_resuming_pays_for_the_replies_that_are_sent_again() -> None:
    peer = Peer(engine_of())
    session_id = peer.call("hello", {"session": True})[b"session"]
    peer.call("set", b"k", 2**62)
    for _ in range(60):
        assert len(peer.call("get_many", [b"k"] * 4_000)) == 4_000
    kept = peer.protocol.session.kept_bytes
    assert kept > 2_000_000
    again = Peer(peer.engine)
    assert spent_on(again, encode_request(1, "hello", ({"session": session_id, "received": 1},))) >= kept >> 9


# ---------------------------------------------------------------------------------------- shards


@pytest.mark.patches
@pytest.mark.parametrize("filled", [0, 1])
@pytest.mark.parametrize(("method", "params"), [("scan", (0, 1, b"no")), ("top", (1, b"no")), ("count", (b"no",))])
def test_what_walks_over_shards_pays_for_each(
    method: str, params: tuple[Any, ...], filled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard with a counter takes 1 us, whatever is in it, and an empty one 0.3 us."""
    peer = Peer(engine_of(shards=1 << 13))
    cache = peer.protocol.session.cache
    for number in range(filled << 16):
        cache.incr(b"%d" % number, 1, None, peer.now_ms)
    walked = Calls(monkeypatch, Cache, "counters_of")
    looked = Calls(monkeypatch, Cache, "entries_of" if method == "scan" else "keys_of")
    spent = spent_on(peer, encode_request(1, method, params))
    assert 2 * walked.count <= spent
    assert looked.count <= 2 * spent
    assert bool(walked.count) is bool(filled)


@pytest.mark.patches
@pytest.mark.parametrize(("caches", "shards"), [(64, 256), (2, 1 << 14)])
def test_a_sweep_looks_at_some_shards_however_many_there_are(
    caches: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at a shard takes as long as an entry. The next step goes on where this one has stopped."""
    more = [CachePolicy(f"c{number}", shards=shards) for number in range(1, caches)]
    peer = Peer(
        Engine(ServerConfig(caches={each.name: each for each in [CachePolicy("default", shards=shards), *more]}))
    )
    looked = Calls(monkeypatch, Cache, "measure")
    steps = 0
    every = peer.engine.store.caches.values()
    while not all(cache.table_bytes for cache in every):
        looked.count = 0
        spent = spent_on(peer, encode_request(1, "sweep", ()))
        assert looked.count <= spent
        steps += 1
    assert steps <= caches * shards // 200


def test_a_step_of_a_sweeper_that_is_off_goes_on_too_where_the_last_has_stopped() -> None:
    policies = [CachePolicy(name, shards=1 << 12) for name in ("default", *"abcdefg")]
    engine = Engine(ServerConfig(caches={each.name: each for each in policies}, sweep_budget_ms=0))
    for _ in range(8 << 12 >> 9):
        engine.advance(1_000_000, 1_000)
    assert all(cache.table_bytes for cache in engine.store.caches.values())
