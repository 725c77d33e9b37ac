"""Lines of the core that no other quick test reaches: edges between commands, locks, backlogs and byte forms."""

from __future__ import annotations

from typing import Any

import pytest

from naught.core.calls import Throttled, check_lease
from naught.errors import InvalidRequest
from naught.wire import codec
from naught.wire.codec import encode_request
from naught_server.config import CachePolicy, ServerConfig
from naught_server.engine import Engine
from naught_server.stats import Stats
from simulation.peer import Peer, engine_of
from support.cases_counters import Refused
from support.conversation import Conversation, decoded


class Work:
    """Holds a shard's lock, as a compaction does."""

    waits_only = False


@pytest.mark.parametrize(
    ("method", "params", "answer"),
    [
        ("try_incr", ("no items",), Refused("invalid")),
        ("try_incr", ([1, []],), Refused("invalid")),
        ("release", ("no number",), Refused("invalid")),
        ("release", (), Refused("invalid")),
    ],
)
def test_what_is_no_request_waits_for_no_shard(method: str, params: tuple[Any, ...], answer: Any) -> None:
    engine = engine_of(shards=2)
    cache = engine.store.caches["default"]
    work = Work()
    for shard in range(2):
        assert cache.locks.acquire(shard, work)
    assert Peer(engine).call(method, *params) == answer
    for shard in range(2):
        cache.locks.release(shard, work)


def test_a_count_takes_out_a_backlog_in_slices() -> None:
    peer = Peer(engine_of(shards=2))
    for first in range(0, 40_000, 4_000):
        peer.call("apply", [b"%d" % number for number in range(first, first + 4_000)], 1, 5)
    assert peer.call("incr", "stays") == 1
    peer.now_ms += 1_000
    assert peer.call("count") == 1


def test_a_wait_for_what_a_throttle_lowers_is_granted() -> None:
    engine = engine_of(shards=1)
    peer, waiting = Peer(engine), Peer(engine)
    waiting.call("hello", {"session": True})
    assert peer.call("throttle", "k", 10, 1_000, 5)[0] is True
    value = peer.call("get", "k")
    msgid = waiting.send("acquire", [["k", 1, value]], 60_000)
    assert msgid not in waiting.replies
    for _ in range(10):
        peer.now_ms += 100
        waiting.now_ms = peer.now_ms
        peer.call("throttle", "k", 10, 1_000)
        waiting.turn()
        if msgid in waiting.replies:
            break
    assert waiting.replies[msgid][0] is True


@pytest.mark.parametrize(
    "number",
    [
        b"\xd0\x85",
        b"\xd1\xff\x00",
        b"\xd2\xff\xff\x00\x00",
        b"\xd3" + b"\xff" * 8,
        b"\xd4\x01\x02",
        b"\xca\x00\x00\x00\x00",
    ],
)
def test_numbers_of_every_form_reach_an_answer(number: bytes) -> None:
    """Negative ones of every width in the place of an amount, and what is no integer."""
    message = b"\x94\x00\x01\xa4incr\x92\xa1k" + number
    ((_, msgid, error, _),) = decoded(Conversation().send(message + encode_request(2, "ping", ()))[:200])[:1]
    assert msgid == 1
    assert error[0] == b"invalid"


@pytest.mark.parametrize("method", [b"apple", b"apply"])
def test_what_begins_as_an_apply_and_is_none(method: bytes) -> None:
    message = b"\x94\x00\x01\xa5" + method + b"\x91\xa1k"
    ((_, _, error, _),) = decoded(Conversation().send(message))
    assert error[0] == (b"unknown_method" if method == b"apple" else b"invalid")


def test_a_deadline_in_an_empty_wheel_begins_at_the_present() -> None:
    peer = Peer(engine_of(shards=1))
    peer.now_ms += 10_000_000
    assert peer.call("incr", "k", 1, 5) == 1
    peer.now_ms += 10
    assert peer.call("get", "k") == 0
    assert peer.engine.store.caches["default"].wheel.due(peer.now_ms, 10) == 0


def test_a_page_of_a_scan_ends_within_what_came_first() -> None:
    peer = Peer(engine_of(shards=1))
    keys = sorted(b"%0500d" % number for number in range(1_200))
    peer.call("apply", keys, 1)
    found: list[bytes] = []
    cursor: Any = 0
    while True:
        cursor, page, _ = peer.call("scan", cursor, 4_096)
        found += page
        if cursor == 0:
            break
    assert found == keys


def test_handshakes_are_counted_by_outcome() -> None:
    stats = Stats()
    for outcome in list(stats.handshakes):
        stats.count_handshake(outcome)
    assert set(stats.handshakes.values()) == {1}


def test_a_live_setting_is_what_it_was_configured_to() -> None:
    engine = Engine(ServerConfig(compaction_bytes_per_entry=77, caches={"default": CachePolicy("default", shards=1)}))
    assert engine.settings.compaction_bytes_per_entry == 77


@pytest.mark.parametrize("name", ["encode", "encode_request", "encode_result"])
def test_an_encoder_without_memory_leaves_nothing_for_the_next(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[int] = []

    class Packer:
        def reset(self) -> None:
            resets.append(1)

    def fails(value: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(codec, "_pack", fails)
    monkeypatch.setattr(codec, "_packer", Packer())
    arguments = {"encode": (1,), "encode_request": (1, "ping", ()), "encode_result": (1, 2)}[name]
    with pytest.raises(MemoryError):
        getattr(codec, name)(*arguments)
    assert resets == [1]


def test_times_of_a_throttle_in_seconds() -> None:
    throttled = Throttled(False, 0, 1_500, 3_000)
    assert (throttled.retry_after, throttled.reset_after) == (1.5, 3.0)
    assert not throttled
    assert Throttled(False, 0, -1, -1).retry_after == Throttled(False, 0, -1, -1).reset_after == float("inf")


@pytest.mark.parametrize("lease", [0, 301, True, "5"])
def test_a_lease_has_a_range(lease: object) -> None:
    assert check_lease(None) is None
    assert check_lease(0.5) == 500
    with pytest.raises(InvalidRequest, match="lease is from"):
        check_lease(lease)
