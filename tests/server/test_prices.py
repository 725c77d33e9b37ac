"""What each command takes from its turn, in entries, and that its work is what it pays for."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from typing import Any

import pytest

from naught.wire.codec import encode_request
from naught.wire.limits import PARKED_ITEMS_MAX
from naught_server.commands import REQUEST_ENTRIES
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.holds import PAGE_AMOUNTS, Holds
from naught_server.limits import TURN_ITEMS_MAX
from naught_server.memory_bounds import sliced_bytes_max
from naught_server.queues import Queues
from naught_server.session import SLICES_MAX
from naught_server.waiters import (
    ANSWER_ENTRIES,
    SETTLED_AT_ONCE,
    SETTLED_BEFORE,
    WAIT_BYTES,
    WAIT_KEY_BYTES,
    ZeroWaiter,
)
from simulation.peer import Peer, engine_of
from support.conversation import decoded
from support.counting import Calls
from support.seeds import exhaustive, slow

KEYS = [b"%d" % number for number in range(100)]


def price_of(peer: Peer, method: str, *params: Any) -> int:
    """What a request takes from its turn, without its reply's bytes."""
    protocol = peer.protocol
    protocol._left = TURN_ITEMS_MAX
    before = TURN_ITEMS_MAX
    data = protocol.receive(encode_request(1, method, params), peer.now_ms)
    return before - protocol._left - (len(data) >> 8)


def opened(**policy: Any) -> Peer:
    """A peer with a session."""
    peer = Peer(engine_of(**policy))
    peer.call("hello", {"session": True})
    return peer


@pytest.mark.parametrize(
    ("method", "params", "entries"),
    [
        ("ping", (), 0),
        ("set", (b"k", 1), 0),
        ("throttle", (b"k", 5, 1_000), 0),
        ("get_many", (KEYS,), 200),
        ("take", (KEYS,), 300),
        ("try_incr", ([(key, 1, 9) for key in KEYS],), 600),
        ("try_incr", ([(key, 1, 0) for key in KEYS],), 600),
        ("acquire", ([(key, 1, 9) for key in KEYS],), 700),
        ("release", (1, [(key, 1) for key in KEYS]), 600),
        ("release", (1, [(b"0", 1)]), 6),
        ("release", (1,), 300),
        ("release", (7,), 0),
        ("held", (), 202),
        ("held", (1,), 0),
        ("count", (), 16),
        ("clear", (), 128 + 6),
        ("sessions", (), 5 + 32 // 4 + 10),
        ("sessions", (1,), 0),
        ("end_session", (99,), 0),
        ("trace", (None,), 0),
        ("slowlog", (), 16),
        ("slowlog_reset", (), 0),
        ("info", (), 40),
        ("sweep", (), 2_000),
    ],
)
def test_prices(method: str, params: tuple[Any, ...], entries: int) -> None:
    peer = opened()
    peer.call("acquire", [(key, 1, 9) for key in KEYS])
    assert price_of(peer, method, *params) == REQUEST_ENTRIES + entries


def test_clear_pays_for_the_slots_of_the_wheel() -> None:
    peer = opened()
    peer.call("incr", b"k", 1, 1_000)
    assert price_of(peer, "clear") > 5_000


def test_a_request_that_costs_more_than_a_turn_is_paid_by_later_turns() -> None:
    peer = Peer(engine_of())
    items = [(b"%d" % number, 1, 10**9) for number in range(1_000)]
    requests = [encode_request(number, "try_incr", (items,)) for number in range(20)]
    turns = [peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))]
    while peer.protocol.wants_turn:
        turns.append(peer.turn())
    assert sorted(peer.replies) == list(range(20))
    assert max(map(len, turns)) == 1
    # The last one is not paid for: the connection has nothing more to do.
    assert len(turns) >= 19 * 6_000 // TURN_ITEMS_MAX


@pytest.mark.patches
def test_a_release_of_some_amounts_looks_at_those_only(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened()
    number = peer.call("acquire", [(b"%d" % number, 2, 9) for number in range(1_000)])[2]
    calls = Calls(monkeypatch, Holds, "live_amount")
    for key in range(100):
        assert peer.call("release", number, [(b"%d" % key, 1)]) == [1]
    assert calls.count == 100
    peer.call("clear")
    calls.count = 0
    assert peer.call("release", number, [(b"7", 1)]).code == "not_held"
    assert calls.count <= 2
    assert peer.protocol.session.holds.items == 999, "what was found ended is not counted as held any more"


def test_a_page_of_holds_ends_at_a_bound_and_forgets_what_has_ended() -> None:
    peer = opened()
    for start in range(0, 3_000, 300):
        peer.call("acquire", [(b"%d" % number, 1, 9) for number in range(start, start + 300)])
    seen: list[int] = []
    while page := peer.call("held", seen[-1] if seen else 0):
        assert len(page) <= 2
        seen += [number for number, _ in page]
    assert seen == list(range(1, 11))
    peer.call("clear")
    assert peer.call("held") == []
    assert peer.protocol.session.holds.items == 0


@pytest.mark.patches
def test_holds_that_have_ended_are_looked_at_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session may have 65 536 of them, and to look at all for one page took 85 ms."""
    peer = opened()
    held = [peer.call("acquire", [(b"%d" % number, 1, 9) for number in range(300)])[2] for _ in range(9)]
    peer.call("clear")
    last = peer.call("acquire", [(b"z", 1, 9)])[2]
    looked = Calls(monkeypatch, Holds, "live_amount")
    protocol = peer.protocol
    protocol._left = TURN_ITEMS_MAX
    data = protocol.receive(encode_request(1, "held", ()) + encode_request(2, "release", (held[8],)), peer.now_ms)
    while protocol.wants_turn:
        assert looked.count <= 3 * PAGE_AMOUNTS
        looked.count = 0
        data += protocol.turn(peer.now_ms)
    released, page = decoded(data)
    assert released[1:3] == [2, [b"not_held", b"this session has no hold 9, or it has ended"]], "it goes on meanwhile"
    assert page[1:] == [1, None, [[last, [[b"z", 1]]]]]
    assert protocol.session.holds.items == 1
    assert peer.call("held", last) == []


# ---------------------------------------------------------------------------------------- waits

WIDE = 1_000
"""Keys of a wide wait."""


def wide(name: int) -> list[tuple[bytes, int, int]]:
    """Items that wait: the counter `full` has no room."""
    return [(b"full", 1, 1), *((b"%d:%d" % (name, number), 1, 9) for number in range(WIDE - 1))]


def wide_waits(count: int) -> tuple[Peer, Peer]:
    """A peer with so many wide waits, and another peer."""
    peer = opened()
    peer.call("incr", b"full")
    for name in range(count):
        peer.send("acquire", wide(name), None)
    while peer.protocol.wants_turn:
        peer.turn()
    assert len(peer.protocol.session.parked) == count
    return peer, Peer(peer.engine)


def steps_of(peer: Peer, entries_max: int) -> list[int]:
    """The entries that each of the sweeper's steps does, until nothing is left."""
    steps = []
    while peer.engine.sessions.unfinished or peer.protocol.session.cache.waiters.unsettled:
        steps.append(peer.engine.advance(peer.now_ms, entries_max))
        assert len(steps) < 10_000
    return steps


@pytest.mark.patches
def test_the_end_of_wide_waits_is_spread_over_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, _ = wide_waits(60)
    calls = Calls(monkeypatch, Queues, "remove")
    peer.protocol.close(peer.now_ms)
    peer.now_ms += peer.protocol.session.lease_ms
    counts = []
    while peer.engine.sessions.unfinished or not counts:
        before = calls.count
        peer.engine.advance(peer.now_ms, 4_000)
        counts.append(calls.count - before)
    assert sum(counts) == 60 * WIDE
    assert max(counts) <= 4_000 + 2 * WIDE
    assert not peer.protocol.session.cache.waiters.queues.by_key
    assert peer.engine.sessions.parked_bytes == 0


@pytest.mark.patches
def test_the_end_of_many_waits_is_spread_over_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened()
    peer.call("incr", b"k")
    for _ in range(3_000):
        peer.send("wait_zero", b"k", None)
    assert len(peer.protocol.session.parked) == 3_000
    left: list[ZeroWaiter] = []
    drop = ZeroWaiter.drop
    monkeypatch.setattr(ZeroWaiter, "drop", lambda waiter: (left.append(waiter), drop(waiter))[1])
    peer.protocol.close(peer.now_ms)
    peer.now_ms += peer.protocol.session.lease_ms
    counts = []
    while peer.engine.sessions.unfinished or not counts:
        before = len(left)
        peer.engine.advance(peer.now_ms, 1_000)
        counts.append(len(left) - before)
    assert len(set(left)) == len(left) == 3_000
    assert max(counts) <= 1_000
    assert not peer.protocol.session.cache.waiters.awaited


def test_a_release_that_grants_many_goes_on_in_later_steps() -> None:
    peer, other = wide_waits(30)
    other.call("set", b"full", 0)
    granted = [len(peer.protocol.session.holds)]
    assert granted == [1], "one wide grant is more than a step may take"
    for name in range(1, 30):
        other.call("set", b"full", 0)
        while peer.protocol.session.cache.waiters.unsettled and len(peer.protocol.session.holds) == name:
            peer.engine.advance(peer.now_ms, 1_000)
        granted.append(len(peer.protocol.session.holds))
    assert granted == list(range(1, 31))


def test_grants_that_one_command_makes_possible_are_spread() -> None:
    """Ten wide waits fit at once: the command that makes room grants one. A step of the sweeper settles at most
    twice, and each time grants one more."""
    peer = opened()
    peer.call("incr", b"full", 10)
    for name in range(10):
        peer.send("acquire", [(b"full", 1, 10), *wide(name)[1:]], None)
    while peer.protocol.wants_turn:
        peer.turn()
    other = Peer(peer.engine)
    assert price_of(other, "set", b"full", 0) < 12 * WIDE
    seen = [len(peer.protocol.session.holds)]
    while peer.protocol.session.cache.waiters.unsettled:
        assert peer.engine.next_due(peer.now_ms) == peer.now_ms
        peer.engine.advance(peer.now_ms, 1_000)
        seen.append(len(peer.protocol.session.holds))
    assert seen[0] == 1
    assert seen[-1] == 10
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 2


def test_who_asks_for_little_is_not_charged_for_the_waiters_of_others() -> None:
    """Thousands of waiters are noted, of which each could be looked at now, and one granted 1 024 keys at once."""
    peer, other = wide_waits(20)
    light = Peer(peer.engine)
    light.call("ping")
    other.send("clear")
    assert len(peer.protocol.session.cache.waiters._ready_all) > 10 * SETTLED_BEFORE
    while peer.protocol.session.cache.waiters.unsettled:
        assert light.protocol.receive(encode_request(1, "incr", (b"light",)), light.now_ms), "it is served at once"
        assert light.protocol.spent <= SETTLED_BEFORE + 2 * ANSWER_ENTRIES
        assert not light.protocol.costly
        assert peer.engine.next_due(peer.now_ms) == peer.now_ms
        peer.engine.advance(peer.now_ms, 1_000)
    assert len(peer.protocol.session.holds) > 0


def test_clear_beside_many_waits() -> None:
    engine = engine_of()
    peers = [Peer(engine) for _ in range(4)]
    for place, peer in enumerate(peers):
        for start in range(0, 4_000, 1_000):
            keys = [b"%d:%d" % (place, number) for number in range(start, start + 1_000)]
            peer.call("apply", keys, 1)
            for key in keys:
                peer.send("wait_zero", key, None)
    other = Peer(engine)
    waiters = other.protocol.session.cache.waiters
    before = waiters.worked
    assert other.call("clear") == 16_000
    assert waiters.worked - before <= SETTLED_AT_ONCE + ANSWER_ENTRIES
    before = waiters.worked
    other.send("clear")
    assert waiters.worked - before <= 2 * (SETTLED_AT_ONCE + ANSWER_ENTRIES), "before the command, and after it"
    steps = steps_of(other, 2_000)
    assert max(steps) <= 2_000 + ANSWER_ENTRIES
    assert sum(map(len, (peer.protocol.session.parked for peer in peers))) == 0


def test_repeated_clears_note_each_queue_once() -> None:
    peer, other = wide_waits(20)
    for _ in range(5):
        other.call("set", b"full", 1)
        other.call("clear")
    waiters = peer.protocol.session.cache.waiters
    assert len(waiters._ready_all) + len(waiters._ready) <= 2 * len(waiters.queues.by_key) + 1


def test_waits_that_end_together_are_counted_by_their_keys() -> None:
    peer = opened()
    peer.call("incr", b"full")
    for name in range(20):
        peer.send("acquire", wide(name), 50)
    while peer.protocol.wants_turn:
        peer.turn()
    peer.now_ms += 50
    steps = []
    while peer.protocol.session.parked:
        steps.append(len(peer.protocol.session.parked))
        peer.engine.advance(peer.now_ms, 4_000)
    assert len(steps) >= 10


def test_a_session_waits_for_so_many_keys_and_no_more() -> None:
    peer, _ = wide_waits(PARKED_ITEMS_MAX // WIDE)
    left = PARKED_ITEMS_MAX % WIDE
    assert peer.call("acquire", wide(99), None).code == "busy"
    peer.send("acquire", wide(98)[:left], None)
    while peer.protocol.wants_turn:
        peer.turn()
    assert peer.protocol.session.parked_items == PARKED_ITEMS_MAX
    assert peer.call("wait_zero", b"full", None).code == "busy"
    assert peer.call("cancel", next(iter(peer.protocol.session.parked))) is True
    peer.send("acquire", wide(99), None)
    while peer.protocol.wants_turn:
        peer.turn()
    assert peer.protocol.session.parked_items == PARKED_ITEMS_MAX
    peer.engine.invariants(peer.now_ms)


def test_waits_of_all_sessions_have_so_much_memory_and_no_more() -> None:
    engine = Engine(ServerConfig(parked_bytes_max=1 << 20))
    peers = [Peer(engine) for _ in range(3)]
    peers[0].call("incr", b"full")
    waiting = 0
    for peer in peers:
        peer.call("hello", {"session": True})
        for name in range(4):
            peer.send("acquire", wide(name), None)
        while peer.protocol.wants_turn:
            peer.turn()
        waiting += len(peer.protocol.session.parked)
    assert waiting == (1 << 20) // (WAIT_BYTES + WIDE * (WAIT_KEY_BYTES + 5))
    assert engine.stats.errors == {"busy": 12 - waiting}
    peers[0].call("bye")
    steps_of(peers[1], 10_000)
    peers[2].send("acquire", wide(9), None)
    assert engine.stats.errors == {"busy": 12 - waiting}


QUEUED = ["alone", "in pairs", "all in one queue"]


@pytest.mark.parametrize(
    ("waits", "keys", "queued"),
    [
        *((500, 1, queued) for queued in QUEUED),
        (200, 30, "in pairs"),
        *slow((200, 30, "alone"), (200, 30, "all in one queue"), (88, 1_000, "in pairs")),
        *exhaustive((88, 1_000, "alone"), (88, 1_000, "all in one queue")),
    ],
)
def test_a_wait_takes_no_more_memory_than_it_is_charged(waits: int, keys: int, queued: str) -> None:
    peer = opened()
    peer.call("incr", b"full")
    data = []
    for name in range(waits):
        queue = {"alone": name, "in pairs": name // 2, "all in one queue": 0}[queued]
        others = [(b"%d:%d" % (queue, number), 10**6 + number, 10**9) for number in range(keys - 1)]
        data.append(encode_request(100 + name, "acquire", ([(b"full", 1, 1), *others], None)))
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for piece in data:
            peer.take(peer.protocol.receive(piece, peer.now_ms))
            while peer.protocol.wants_turn:
                peer.turn()
            peer.protocol._left = TURN_ITEMS_MAX
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    parked = len(peer.protocol.session.parked)
    assert parked == min(waits, PARKED_ITEMS_MAX // keys)
    assert taken <= peer.engine.sessions.parked_bytes


# ---------------------------------------------------------------------------------------- work in slices


@pytest.mark.parametrize("shards", [1, 256])
@pytest.mark.parametrize("method", ["top", "scan", "count"])
def test_a_request_in_slices_takes_no_more_memory_than_is_counted_for_it(method: str, shards: int) -> None:
    """The worst keys are those that `top` has to write twice as long, and that are gone from the tables meanwhile."""
    policy = CachePolicy("default", shards=shards, max_counters=20_000)
    peer = Peer(Engine(ServerConfig(caches={"default": policy})))
    cache = peer.protocol.session.cache
    for number in range(20_000):
        cache.incr(bytes(504) + b"%08d" % number, 1_000 + number, None, peer.now_ms)
    params = {"top": (4_096,), "scan": (0, 4_096), "count": (b"\0",)}[method]
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        protocol = peer.protocol
        protocol._left = TURN_ITEMS_MAX
        protocol.receive(encode_request(1, method, params) * SLICES_MAX, peer.now_ms)
        while protocol.wants_turn:
            protocol.turn(peer.now_ms)
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    bytes_max = SLICES_MAX * sliced_bytes_max(peer.engine.config)
    assert most < bytes_max
    assert method != "top" or most > bytes_max / 3
