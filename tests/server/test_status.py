"""The figures of the page: right, bounded, and cheap."""

from __future__ import annotations

import json
from typing import Any

from naught.wire.codec import encode_request
from naught_server.config import CachePolicy
from naught_server.engine import Engine
from naught_server.status import STATUS_BYTES_MAX, STATUS_EVERY_MS, WATCHED_MS
from support.conversation import Conversation, engine_of
from support.pages import Pages


def call(peer: Conversation, method: str, *params: Any) -> None:
    peer.send(encode_request(1, method, list(params)))


def named(engine: Engine, name: str) -> Conversation:
    peer = Conversation(engine)
    call(peer, "hello", {"session": True, "name": name})
    return peer


def test_the_figures() -> None:
    engine = engine_of(CachePolicy("lazy", eviction="lazy"))
    pages = Pages(engine)
    pages.health.serve()
    peer = named(engine, "worker:1")
    call(peer, "incr", "a", 3)
    call(peer, "incr", "b", 7)
    call(peer, "acquire", [["room", 2, 2]])
    waiter = named(engine, "worker:2")
    waiter.send(encode_request(5, "acquire", [[["room", 1, 2]], 60_000]))
    engine.advance(pages.now_ms, 1_000)
    status = pages.status()
    assert status["state"] == "serving"
    assert status["pid"] == 77
    assert status["totals"]["by_method"]["incr"] == 2
    default, lazy = status["caches"]
    assert (default["name"], default["counters"], lazy["name"], lazy["eviction"]) == ("default", 3, "lazy", "lazy")
    assert default["top"]["counters"] == [["b", 7], ["a", 3], ["room", 2]]
    assert lazy["top"]["counters"] == []
    first, second = status["sessions"]["listed"]
    assert (first["name"], first["holds"], first["held"]) == ("worker:1", 1, [["room", 2]])
    assert (second["name"], second["holds"]) == ("worker:2", 0)
    assert [(wait["for"], wait["keys"]) for wait in second["waits"]] == [("room", ["room"])]
    assert (status["sessions"]["open"], status["sessions"]["parked"]) == (2, 1)
    assert status["memory"] == {
        "resident_bytes": 50 << 20,
        "table_bytes": status["memory"]["table_bytes"],
        "limit_bytes": None,
    }


def test_the_id_of_a_session_is_nowhere() -> None:
    engine = engine_of()
    named(engine, "w")
    assert b"session number" not in json.dumps(Pages(engine).status()).encode()


def test_many_hostile_keys_and_names_fit() -> None:
    engine = engine_of(*(CachePolicy(f"c{number}") for number in range(30)))
    for number in range(80):
        peer = named(engine, "\u202e" * 40 + str(number))
        for cache in ("default",):
            assert cache
            call(peer, "acquire", [[b'\x01\xff"<' * 100 + b"%d %d" % (number, each), 1, 9] for each in range(30)])
    pages = Pages(engine)
    status = pages.status()
    assert len(pages.get("/status.json").body) <= STATUS_BYTES_MAX
    assert len(status["caches"]) == 16
    assert status["caches_left_out"] == 15
    assert len(status["sessions"]["listed"]) >= 5
    key = status["caches"][0]["top"]["counters"][0][0]
    assert len(key) == 64
    assert key.startswith('\x01\\xff"<')
    assert key.endswith("…")


def test_it_is_made_once_a_second_however_many_ask() -> None:
    engine = engine_of()
    pages = Pages(engine)
    first = pages.get("/status.json").body
    call(Conversation(engine), "incr", "a")
    pages.now_ms += STATUS_EVERY_MS - 1
    assert pages.get("/status.json").body is first
    pages.now_ms += 1
    assert json.loads(pages.get("/status.json").body)["caches"][0]["counters"] == 1


def test_the_rankings_are_made_only_while_somebody_looks() -> None:
    engine = engine_of()
    pages = Pages(engine)
    assert not pages.feed.is_watched(pages.now_ms)
    pages.get("/metrics")
    assert not pages.feed.is_watched(pages.now_ms)
    assert json.loads(pages.text("/status.json"))["caches"][0]["top"] is None
    assert pages.feed.is_watched(pages.now_ms + WATCHED_MS - 1)
    assert not pages.feed.is_watched(pages.now_ms + WATCHED_MS)


def test_a_session_that_has_ended_is_not_shown() -> None:
    engine = engine_of()
    pages = Pages(engine)
    peer = named(engine, "w")
    assert len(pages.status()["sessions"]["listed"]) == 1
    call(peer, "bye")
    pages.now_ms += STATUS_EVERY_MS
    assert json.loads(pages.text("/status.json"))["sessions"]["listed"] == []


def test_when_nobody_looks_nothing_is_kept() -> None:
    """A walk under way has the keys of a shard and the sessions, which must not outlive the page."""
    engine = engine_of(shards=1)
    peer = named(engine, "w")
    call(peer, "apply", [b"k%d" % number for number in range(3_000)], 1)
    pages = Pages(engine)
    pages.get("/status.json")
    pages.feed.step(pages.now_ms)
    rankings = [ranking for _, ranking in pages.feed._counters]
    assert any(ranking._pieces is not None for ranking in rankings), "a walk is under way"
    pages.feed.rest()
    assert all(ranking._pieces is None and not ranking._best for ranking in [*rankings, pages.feed._sessions])
    assert json.loads(pages.text("/status.json"))["caches"][0]["top"] is None
