"""The engine as a whole: it is deterministic, its figures are right, and its caches are separate."""

from __future__ import annotations

import logging
from random import Random
from typing import Any

import pytest

from naught.wire.codec import encode_request
from naught_server import store
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol
from simulation.peer import Peer, engine_of
from support.cases_counters import CASES, LONG_ARRAYS, Refused

WIRE_CASES = [case for case in CASES if LONG_ARRAYS not in case.needs]


def conversation(eviction: Any) -> list[bytes]:
    """All replies to two sessions, from the same bytes, times and steps."""
    random = Random(7)
    engine = Engine(ServerConfig(caches={"default": CachePolicy("default", shards=4, eviction=eviction)}))
    sessions = [ServerProtocol(engine, lambda: None) for _ in range(2)]
    heard = []
    now_ms = 1_000
    requests = b""
    for number in range(3_000):
        steps = random.choice(WIRE_CASES).steps
        method, params, _ = random.choice(steps)
        if method not in {"pass", "keys", "config_set", "hello"}:
            requests += encode_request(number, method, params)
        if random.random() < 0.2:
            cut = random.randint(0, len(requests))
            heard.append(sessions[0].receive(requests[:cut], now_ms))
            requests = requests[cut:]
            heard.append(sessions[1].receive(encode_request(number, "incr", (b"%d" % number,)), now_ms))
        if random.random() < 0.2:
            heard.append(b"%d" % engine.advance(now_ms, random.choice([1, 5, 100])))
        heard.append(sessions[0].turn(now_ms))
        now_ms += random.choice([0, 1, 30])
    engine.store.invariants(now_ms)
    heard.append(encode_request(0, "info", (str(engine.info(now_ms)),)))
    return heard


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_the_same_bytes_times_and_steps_give_the_same_replies(eviction: str) -> None:
    first = conversation(eviction)
    assert first == conversation(eviction)
    assert sum(map(len, first)) > 10_000


def replies_to(protocol: ServerProtocol, pieces: list[bytes]) -> bytes:
    """The replies to these pieces, each of which is worked off before the next comes."""
    replies = b""
    for piece in pieces:
        replies += protocol.receive(piece, 1_000)
        while protocol.wants_turn:
            replies += protocol.turn(1_000)
    return replies


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
def test_how_the_input_is_cut_does_not_matter(eviction: str) -> None:
    requests = [
        encode_request(number, method, params)
        for number, (method, params, _) in enumerate(step for case in WIRE_CASES for step in case.steps)
        # Replies of slices may come out of order, and limits of the wire have their own tests.
        if method not in {"pass", "keys", "top", "count", "info", "config_set", "config_get", "sweep"}
        and len(str(params)) < 2_000
    ]
    whole = ServerProtocol(engine_of(eviction=eviction), lambda: None)
    data = b"".join(requests)
    replies = replies_to(whole, [data])
    assert not whole.closing
    single = ServerProtocol(engine_of(eviction=eviction), lambda: None)
    assert replies_to(single, requests) == replies
    bytewise = ServerProtocol(engine_of(eviction=eviction), lambda: None)
    assert replies_to(bytewise, [data[at : at + 1] for at in range(len(data))]) == replies


def test_caches_are_separate_sets_with_policies_of_their_own() -> None:
    caches = {"default": CachePolicy("default"), "small": CachePolicy("small", max_counters=1, eviction="lazy")}
    engine = Engine(ServerConfig(caches=caches))
    first, second = Peer(engine), Peer(engine)
    assert first.call("hello", {"cache": "small"})[b"cache"] == b"small"
    assert first.call("incr", "k", 5) == 5
    assert second.call("incr", "k") == 1
    assert first.call("incr", "l") == Refused("full")
    assert second.call("incr", "l") == 1
    assert first.call("hello", {"cache": "nobody"}) == Refused("invalid")
    assert first.call("get", "k") == 5, "the cache before stays"
    assert first.call("clear") == 1
    assert second.call("count") == 2
    assert first.call("hello")[b"cache"] == b"small"


def test_hello_in_the_middle_of_a_piece_of_input() -> None:
    engine = Engine(ServerConfig(caches={"other": CachePolicy("other")}))
    peer = Peer(engine)
    methods: list[tuple[str, Any]] = [
        ("incr", (b"k",)),
        ("hello", ({"cache": "other"},)),
        ("incr", (b"k", 5)),
        ("hello", ({"cache": "default"},)),
        ("get", (b"k",)),
    ]
    requests = [encode_request(number, method, params) for number, (method, params) in enumerate(methods)]
    peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))
    assert [peer.replies[0], peer.replies[2], peer.replies[4]] == [1, 5, 1]


def test_info_counts_what_happened() -> None:
    peer = Peer(engine_of(eviction="lazy", shards=8, max_counters=50))
    peer.call("apply", ["a", "b", "c", "d", "e"], 2)
    peer.call("decr", "a", 2)
    peer.call("set", "b", 0)
    peer.call("take", ["c"])
    peer.call("expire", "d", 10)
    peer.call("incr", "f", 0)
    peer.now_ms += 10
    info = peer.call("info")
    cache = info[b"caches"][b"default"]
    assert (cache[b"counters"], cache[b"raw_entries"], cache[b"deadlines"]) == (1, 2, 0)
    assert cache[b"deviation"] == 1.0
    assert cache[b"evictions"] == {b"zero": 1, b"expired": 1, b"taken": 1, b"set": 1, b"cleared": 0, b"session": 0}
    assert (cache[b"shards"], cache[b"eviction"], cache[b"max_counters"]) == (8, b"lazy", 50)
    assert info[b"errors"] == {b"invalid": 1}
    assert info[b"commands"] == {b"apply": 1, b"decr": 1, b"set": 1, b"take": 1, b"expire": 1}
    peer.call("clear")
    assert peer.call("info")[b"caches"][b"default"][b"evictions"][b"cleared"] == 1


@pytest.mark.patches
def test_info_says_when_the_number_of_counters_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes out some expired counters, and looks at so many places for the others."""
    monkeypatch.setattr(store, "DUE_LOOKS_MAX", 5)
    peer = Peer(engine_of(shards=1))
    cache = peer.engine.store.cache("default")
    for number in range(3_000):
        cache.incr(b"%d" % number, 1, 1 + number // 100, peer.now_ms)
    peer.call("incr", "stays")
    peer.now_ms += 30
    found = []
    for _ in range(6):
        words = peer.call("info")[b"caches"][b"default"]
        found.append((words[b"counters"], words[b"counters_exact"]))
    assert [exact for _, exact in found] == sorted(exact for _, exact in found)
    assert found[0][1] is False
    assert all(counters >= 1 for counters, _ in found)
    assert found[-1] == (1, True)


def test_what_the_fast_loop_serves_is_counted_as_well() -> None:
    peer = Peer(engine_of())
    requests = [encode_request(number, "incr", (b"k",)) for number in range(5)]
    requests += [encode_request(5, "get", (b"k",)), encode_request(6, "decr", (b"k", 5))]
    requests += [encode_request(7, "apply", ([b"k", b"l"], [1, -1])), encode_request(8, "incr", (b"k", 0))]
    peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))
    counted = {name: count for name, count in peer.engine.stats.commands.items() if count}
    assert counted == {"incr": 5, "get": 1, "decr": 1, "apply": 1}
    assert peer.protocol.session.cache.evictions["zero"] == 1
    assert peer.engine.stats.commands_total() == 8


def test_settings_follow_a_configuration_that_is_reread() -> None:
    settings = Engine(ServerConfig(sweep_budget_ms=2)).settings
    level = logging.getLogger("naught").level
    try:
        settings.change("drain_timeout_ms", 5)
        reread = ServerConfig(sweep_budget_ms=2, log_level="error", port=7)
        changes = settings.changes(reread)
        assert changes == {"drain_timeout_ms": 10_000, "log_level": "error"}, "the file wins over config_set"
        settings.take_from(reread)
        values = settings.as_dict()
        assert (values["sweep_budget_ms"], values["drain_timeout_ms"], values["log_level"]) == (2.0, 10_000, "error")
        assert settings.changes(reread) == {}
        assert logging.getLogger("naught").level == logging.ERROR
    finally:
        logging.getLogger("naught").setLevel(level)


def test_the_ids_of_a_server_begin_alike_and_those_of_another_in_another_way() -> None:
    """So a client knows whether a server was restarted, or has ended its session."""
    ids = [[engine.sessions._new_id() for _ in range(50)] for engine in (Engine(), Engine())]
    assert all(len({each[:4] for each in of_engine}) == 1 for of_engine in ids)
    assert ids[0][0][:4] != ids[1][0][:4]
    assert len({each[4:] for of_engine in ids for each in of_engine}) == 100
    assert {len(each) for of_engine in ids for each in of_engine} == {16}


@pytest.mark.parametrize(("certificate", "connections"), [(None, 400), ("server.pem", 20)])
def test_memory_is_given_back_after_connections_with_what_they_have(
    certificate: str | None, connections: int
) -> None:
    """asyncio has 256 KiB for each connection with TLS: 56 MiB stayed after 200 of them."""
    engine = Engine(ServerConfig(tls_certificate=certificate))
    for _ in range(connections):
        engine.stats.count_opened()
    engine.advance(1_000, 1_000)
    assert not engine.sweep.to_release
    for _ in range(connections):
        engine.stats.count_closed()
    engine.advance(2_000, 1_000)
    assert engine.sweep.to_release
