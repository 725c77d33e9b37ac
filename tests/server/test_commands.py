"""Every command of the wire, from the table in `cases_counters`, in every way the server can execute a request."""

from __future__ import annotations

from typing import Any

import pytest

from naught.wire.codec import encode_request
from naught_server.store import Cache
from simulation.peer import Peer, engine_of
from support.cases_counters import CASES, EVERYTHING, LONG_ARRAYS, THREE_AT_MOST, TOP_OF_NONE, Case, cases_for
from support.each import hold_for_each

EVICTIONS = ["eager", "lazy"]
SHARDS = [1, 16]
WIRE_CASES = cases_for(EVERYTHING - {TOP_OF_NONE, THREE_AT_MOST, LONG_ARRAYS})
FULL_CASES = [case for case in CASES if THREE_AT_MOST in case.features]


def test_the_wire_has_every_case_but_two() -> None:
    """A case with a need that no adapter has would be run nowhere."""
    assert [case.name for case in CASES if case not in WIRE_CASES + FULL_CASES] == [
        "an array has at most 4 096 items",
        "top of none is empty",
    ]


def play_each(cases: list[Case], **policy: Any) -> None:
    """Every case on an engine of its own."""
    hold_for_each(((case.name, case.steps) for case in cases), lambda steps: play(Peer(engine_of(**policy)), steps))


def play(peer: Peer, steps: list[Any]) -> None:
    """Execute the steps of a case one by one, and check the whole state after each."""
    for operation, arguments, expected in steps:
        if operation == "pass":
            peer.now_ms += arguments[0]
            continue
        if operation == "keys":
            assert all_keys(peer) == expected
            continue
        result = peer.call(operation, *arguments)
        assert result == expected, f"{operation}{arguments}"
        assert type(result) is type(expected) or isinstance(expected, tuple), (
            f"{operation}{arguments} gave {result!r}"
        )
        peer.engine.store.invariants(peer.now_ms)


def all_keys(peer: Peer) -> list[bytes]:
    """The keys of all counters, from scans."""
    cursor, keys, _ = peer.call("scan", 0)
    while cursor:
        cursor, more, _ = peer.call("scan", cursor)
        keys += more
    return sorted(keys)


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("eviction", EVICTIONS)
def test_answers(eviction: str, shards: int) -> None:
    play_each(WIRE_CASES, eviction=eviction, shards=shards)


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_answers_without_the_fast_loop(eviction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cache, "prepare", lambda cache, now_ms: False)
    play_each(WIRE_CASES, eviction=eviction, shards=16)


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("eviction", EVICTIONS)
def test_answers_of_a_full_cache(eviction: str, shards: int) -> None:
    play_each(FULL_CASES, eviction=eviction, shards=shards, max_counters=3)


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_all_at_once_answers_as_one_by_one(eviction: str) -> None:
    """Requests in one piece of input are answered as if each had come alone."""
    for name, steps, _ in WIRE_CASES:
        if any(operation in {"pass", "keys", "top", "count"} for operation, _, _ in steps):
            continue
        peer = Peer(engine_of(eviction=eviction))
        requests = [encode_request(msgid, step[0], step[1]) for msgid, step in enumerate(steps)]
        peer.take(peer.protocol.receive(b"".join(requests), peer.now_ms))
        while peer.protocol.wants_turn:
            peer.turn()
        assert [peer.replies[msgid] for msgid in range(len(steps))] == [step[2] for step in steps], name
        assert list(peer.replies) == list(range(len(steps))), name
