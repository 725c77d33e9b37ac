"""Turns of a connection: no peer takes more than its share of the loop, however much it sends at once."""

from __future__ import annotations

import logging
from random import Random
from typing import Any

import pytest

from naught.wire.codec import encode, encode_notification, encode_request
from naught_server import commands
from naught_server.limits import TURN_ITEMS_MAX
from naught_server.listing import SCAN_ENTRIES_MAX
from naught_server.protocol import ServerProtocol
from naught_server.session import SLICES_MAX
from naught_server.store import Cache
from simulation.peer import Peer, engine_of
from support.cases_counters import Refused


def turns_of(peer: Peer, requests: list[bytes]) -> list[list[int]]:
    """The msgids that each turn has answered, when all input comes in one piece."""
    turns = [peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))]
    while peer.protocol.wants_turn:
        turns.append(peer.turn())
    assert peer.protocol.idle
    return turns


def test_a_flood_is_served_in_turns() -> None:
    peer = Peer(engine_of())
    turns = turns_of(peer, [encode_request(number, "incr", (b"k",)) for number in range(20_000)])
    assert [msgid for turn in turns for msgid in turn] == list(range(20_000))
    assert peer.replies[19_999] == 20_000
    assert max(map(len, turns)) <= TURN_ITEMS_MAX
    assert len(turns) >= 20_000 // TURN_ITEMS_MAX


@pytest.mark.parametrize("method", ["ping", "ttl", "set", "nothing"])
def test_so_is_a_flood_of_what_the_fast_loop_leaves_alone(method: str) -> None:
    params = {"ping": (), "ttl": (b"k",), "set": (b"k", 1), "nothing": ()}[method]
    peer = Peer(engine_of())
    turns = turns_of(peer, [encode_request(number, method, params) for number in range(10_000)])
    assert max(map(len, turns)) <= TURN_ITEMS_MAX


def test_and_a_flood_of_notifications() -> None:
    peer = Peer(engine_of())
    peer.protocol.receive(encode_notification("incr", (b"k",)) * 10_000, peer.now_ms)
    turns = 1
    while peer.protocol.wants_turn:
        peer.turn()
        turns += 1
    assert turns >= 10_000 // TURN_ITEMS_MAX
    assert peer.call("get", "k") == 10_000


@pytest.mark.parametrize("end", ["whole", "bad"])
def test_pieces_of_a_large_message_ask_for_a_turn_when_there_is_something_to_do(end: str) -> None:
    """A peer whose turns are dealt sends it slowly: not one of them is spent before the message is whole, or bad."""
    peer = Peer(engine_of())
    items = 1_000
    request = encode_request(7, "try_incr", [[[f"{number:0100}", 1, 9] for number in range(items)]])
    begin, *pieces = [request[at : at + 9_000] for at in range(0, len(request), 9_000)]
    last = pieces.pop()
    if end == "bad":
        last = b"\xc1" * 1_000
    assert peer.take(peer.protocol.receive(begin, peer.now_ms)) == []
    for piece in pieces:
        peer.protocol.feed(piece)
        assert not peer.protocol.wants_turn
        assert not peer.protocol.backlog
        assert peer.protocol.unfinished_since_ms is not None
    peer.protocol.feed(last)
    assert peer.protocol.wants_turn
    peer.turn()
    assert peer.protocol.unfinished_since_ms is None
    if end == "whole":
        assert peer.replies[7] == [True, [1] * items]
    else:
        assert peer.protocol.closing


@pytest.mark.parametrize("items", [4_096, 1_000, 100, 16])
@pytest.mark.parametrize("method", ["apply", "apply with a time to live", "get_many", "take", "try_incr"])
def test_a_batch_counts_its_items(method: str, items: int) -> None:
    if method == "try_incr":
        items = min(items, 1_024)
    keys = [b"%d" % number for number in range(items)]
    params: dict[str, tuple[Any, ...]] = {
        "apply": (keys, 1),
        "apply with a time to live": (keys, 1, 1_000),
        "get_many": (keys,),
        "take": (keys,),
        "try_incr": ([(key, 1, 10**9) for key in keys],),
    }
    count = max(5, 5 * TURN_ITEMS_MAX // items)
    request = [encode_request(number, method.split(maxsplit=1)[0], params[method]) for number in range(count)]
    turns = turns_of(Peer(engine_of()), request)
    # A request that is done in one step may exceed its turn.
    assert max(map(len, turns)) * items <= TURN_ITEMS_MAX + items


def test_a_scan_that_finds_nothing_has_its_price() -> None:
    engine = engine_of()
    peer = Peer(engine)
    for start in range(0, 2 * SCAN_ENTRIES_MAX, 4_000):
        peer.call("apply", [b"%d" % number for number in range(start, start + 4_000)], 1)
    turns = turns_of(Peer(engine), [encode_request(number, "scan", (0, 1, "nobody")) for number in range(50)])
    assert max(map(len, turns)) <= 2


def longest_step(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The raw entries that each later turn of this peer looks at."""
    turns: list[int] = []
    counters_of = Cache.counters_of
    turn = ServerProtocol.turn

    def counted(cache: Cache, shard: int, now_ms: int, prefix: bytes, keys: Any = None) -> Any:
        turns[-1] += cache.entries_of(shard) if keys is None else len(keys)
        return counters_of(cache, shard, now_ms, prefix, keys)

    def turning(protocol: ServerProtocol, now_ms: int) -> bytes:
        turns.append(0)
        return turn(protocol, now_ms)

    monkeypatch.setattr(Cache, "counters_of", counted)
    monkeypatch.setattr(ServerProtocol, "turn", turning)
    return turns


@pytest.mark.patches
@pytest.mark.parametrize("shards", [1, 256])
@pytest.mark.parametrize(
    ("method", "params"),
    [("top", (3,)), ("top", (4_096, "k")), ("count", ("k",)), ("scan", (0, 4_096)), ("scan", (0, 1, "nobody"))],
)
def test_no_turn_looks_at_more_than_its_share(
    method: str, params: Any, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(big_engine(shards))
    turns = longest_step(peer, monkeypatch)
    found: list[Any] = []
    result = peer.call(method, *params)
    if method == "scan":
        found += result[1]
        while result[0] != 0:
            result = peer.call(method, result[0], *params[1:])
            found += result[1]
        assert sorted(found) == (sorted(b"k%d" % number for number in range(20_000)) if len(params) == 2 else [])
    assert sum(turns) >= 20_000
    assert max(turns) <= (SCAN_ENTRIES_MAX if method == "scan" and shards > 1 else commands.SLICE_ENTRIES)


@pytest.mark.parametrize("values", ["equal", "rising", "falling", "random"])
@pytest.mark.parametrize("n", [1, 3, 700, 4_096])
def test_the_top_is_exact_in_whatever_order_the_values_come(n: int, values: str) -> None:
    random = Random(n)
    engine = engine_of(shards=4)
    cache = engine.store.caches["default"]
    counters = {}
    for number in range(5_000):
        key = random.randbytes(random.randint(1, 3)) if number % 2 else b"k%d" % number
        value = {"equal": 1, "rising": number + 1, "falling": 9_000 - number, "random": random.randint(1, 99)}[values]
        cache.set(key, value, None, 1_000_000)
        counters[key] = value
    ordered = sorted(counters.items(), key=lambda item: (-item[1], item[0]))[:n]
    assert Peer(engine).call("top", n) == [[key for key, _ in ordered], [value for _, value in ordered]]


@pytest.mark.patches
def test_top_enters_its_heap_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters with rising values all enter it."""
    entered: list[int] = []
    reversed_order = commands._reversed_order

    def counted(key: bytes) -> bytes:
        entered[-1] += 1
        return reversed_order(key)

    monkeypatch.setattr(commands, "_reversed_order", counted)
    engine = engine_of(shards=1)
    for number in range(3_000):
        engine.store.caches["default"].set(b"%d" % number, number + 1, None, 1_000_000)
    work = commands._top(Peer(engine).protocol.session, engine.store.caches["default"], 10, b"")
    for _ in iter(lambda: entered.append(0) or next(work, "finished"), "finished"):  # type: ignore[func-returns-value]
        pass
    assert sum(entered) == 3_000
    assert max(entered) <= commands.HEAPED_AT_ONCE


def test_a_sweep_that_was_asked_for_has_its_price() -> None:
    engine = engine_of(eviction="lazy", shards=1)
    peer = Peer(engine)
    for start in range(0, 40_000, 4_000):
        keys = [b"%d" % number for number in range(start, start + 4_000)]
        peer.call("apply", keys, 1)
        peer.call("apply", keys, -1)
    turns = turns_of(Peer(engine), [encode_request(number, "sweep", ()) for number in range(30)])
    assert [len(turn) for turn in turns if turn] == [1] * 30
    assert len(turns) >= 29 * 1_000 // TURN_ITEMS_MAX


def big_engine(shards: int = 256) -> Any:
    engine = engine_of(shards=shards)
    peer = Peer(engine)
    for start in range(0, 20_000, 4_000):
        peer.call("apply", [b"k%d" % number for number in range(start, start + 4_000)], 1)
    return engine


@pytest.mark.parametrize(("method", "params"), [("top", (3, "k")), ("count", ("k",))])
def test_slices_let_other_requests_pass(method: str, params: tuple[Any, ...]) -> None:
    peer = Peer(big_engine())
    sliced = peer.send(method, *params)
    others = []
    while sliced not in peer.replies:
        others.append(peer.send("incr", "other"))
        assert others[-1] in peer.replies
    assert len(others) >= 20_000 // commands.SLICE_ENTRIES - 1
    assert peer.replies[sliced] == (20_000 if method == "count" else [[b"k0", b"k1", b"k10"], [1, 1, 1]])


def test_slices_of_one_session_take_turns() -> None:
    peer = Peer(big_engine())
    first = peer.send("count", "k")
    second = peer.send("count", "k")
    turns = 0
    while not {first, second} <= set(peer.replies):
        peer.turn()
        turns += 1
    assert turns >= 2 * (20_000 // commands.SLICE_ENTRIES) - 2


def test_at_most_eight_work_in_slices() -> None:
    peer = Peer(big_engine())
    requests = [encode_request(number, "count", ("k",)) for number in range(SLICES_MAX + 2)]
    peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))
    assert peer.replies == {SLICES_MAX: Refused("busy"), SLICES_MAX + 1: Refused("busy")}
    assert peer.engine.stats.errors == {"busy": 2}
    assert peer.engine.stats.commands["count"] == 0, "they are counted when they are answered"
    while peer.protocol.wants_turn:
        peer.turn()
    assert peer.engine.stats.commands["count"] == SLICES_MAX
    assert [peer.replies[number] for number in range(SLICES_MAX)] == [20_000] * SLICES_MAX


def test_a_closed_session_drops_its_slices() -> None:
    peer = Peer(big_engine())
    peer.send("top", 3)
    peer.protocol.close(peer.now_ms)
    assert not peer.protocol.wants_turn
    assert peer.turn() == []
    assert not peer.protocol.session.slices


@pytest.mark.patches
@pytest.mark.parametrize("method", ["ping", "top"])
def test_a_fault_of_ours_is_the_error_unavailable(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> Any:
        raise RuntimeError("on purpose")
        yield

    def broken_at_once(*arguments: object) -> Any:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(commands, "_top", broken)
    monkeypatch.setitem(commands.COMMANDS, b"ping", commands.COMMANDS[b"ping"]._replace(run=broken_at_once))
    peer = Peer(engine_of())
    with caplog.at_level(logging.ERROR, "naught.server"):
        assert peer.call(method, *([3] if method == "top" else [])) == Refused("unavailable")
    assert [record.getMessage() for record in caplog.records]
    assert peer.engine.stats.errors == {"unavailable": 1}
    assert peer.call("incr", "k") == 1


def test_an_answer_above_the_limit_is_refused() -> None:
    peer = Peer(engine_of())
    for number in range(700):
        peer.call("incr", b"%0512d" % number)
    assert peer.call("top", 700) == Refused("too_large")
    assert peer.engine.stats.errors == {"too_large": 1}
    cursor, keys, _ = peer.call("scan", 0, 700)
    seen = list(keys)
    while cursor != 0:
        cursor, keys, _ = peer.call("scan", cursor, 700)
        seen += keys
    assert sorted(seen) == [b"%0512d" % number for number in range(700)]


NOT_REQUESTS: list[Any] = [
    {0: 0, 1: 1, b"no_such": 2, (b"k",): 3},
    (0, 1, b"incr", {b"k": 1}),
    (0, 1, b"incr", {b"k": 1, 3: 1}),
    (0, 1, b"decr", {b"k": 1}),
    (0, 1, b"get", {b"k": 1}),
    (0, 1, b"apply", {(b"k",): 1, 1: 1}),
    (0, 1, b"incr", b"k"),
    (0, True, b"ttl", (b"k",)),
    (0, 1.0, b"ttl", (b"k",)),
    (0, -1, b"incr", (b"k",)),
    (0, 2**32, b"incr", (b"k",)),
    (False, 1, b"incr", (b"k",)),
    (0.0, 1, b"incr", (b"k",)),
    (0, None, b"incr", (b"k",)),
    (0, 1, [b"incr"], (b"k",)),
    (0, 1, b"incr", (b"k",), 1),
    (1, 1, None, 1),
    (3, b"incr", (b"k",)),
    5,
    b"abcd",
    [],
]


@pytest.mark.parametrize("value", NOT_REQUESTS, ids=repr)
@pytest.mark.parametrize("careful", [False, True], ids=["fast loop", "careful loop"])
def test_what_is_no_request_ends_the_conversation_on_every_way(
    value: Any, careful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(engine_of())
    if careful:
        monkeypatch.setattr(type(peer.protocol.session.cache), "prepare", lambda cache, now_ms: False)
    good = encode_request(9, "incr", (b"good",))
    peer.take(peer.protocol.receive(good + encode(value) + encode_request(10, "incr", (b"good",)), peer.now_ms))
    assert peer.protocol.closing
    assert peer.replies.pop(9) == 1
    assert set(peer.replies.values()) <= {Refused("invalid")}
    assert peer.protocol.session.cache.get(b"k", peer.now_ms) == 0
    assert peer.protocol.session.cache.get(b"good", peer.now_ms) == 1
