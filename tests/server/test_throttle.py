"""`throttle` against a model in rational numbers, which rounds nothing, and in which time has no milliseconds."""

from __future__ import annotations

import random
from fractions import Fraction
from math import ceil, floor

import pytest

from naught.wire.codec import encode_request
from naught.wire.limits import TTL_MS_MAX, VALUE_MAX
from naught_server.store import Bucket, Cache
from support.conversation import Conversation, decoded, engine_of

RATES: dict[str, tuple[int, int]] = {
    "a million a second": (1_000_000, 1_000),
    "one a day": (1, 86_400_000),
    "seven in thirteen ms": (7, 13),
    "a thousand a minute": (1_000, 60_000),
    "one in ten years": (1, TTL_MS_MAX),
    "2^40 a second": (2**40, 1_000),
    "2^62 - 1 in 2 ms": (2**62 - 1, 2),
    "one a millisecond": (1, 1),
}


class Model:
    """The algorithm as it is written: the theoretical arrival time, in milliseconds that have any fraction."""

    def __init__(self, limit: int, per_ms: int, burst: int) -> None:
        self.interval = Fraction(per_ms, limit)
        self.burst = burst
        self.arrival = Fraction(0)

    def ask(self, by: int, now_ms: int) -> tuple[bool, int, int, int]:
        arrival = max(self.arrival, Fraction(now_ms))
        after = arrival + by * self.interval
        full = self.burst * self.interval
        if by and after - now_ms > full:
            left = floor((full - (arrival - now_ms)) / self.interval)
            return False, left, ceil(after - now_ms - full), ceil(arrival - now_ms)
        if by:
            self.arrival = after
        return True, floor((full - (after - now_ms)) / self.interval), 0, ceil(after - now_ms)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", range(3))
def test_it_decides_as_rational_numbers_do(rate: str, seed: int) -> None:
    limit, per_ms = RATES[rate]
    draw = random.Random(f"{rate} {seed}")
    longest = min(VALUE_MAX // per_ms, limit * TTL_MS_MAX // per_ms)
    burst = min(draw.choice([1, 2, 7, limit, 3 * limit]), longest)
    model = Model(limit, per_ms, burst)
    engine = engine_of()
    cache: Cache = engine.store.cache("default")
    now_ms = 1_000_000
    granted = 0
    for _ in range(400):
        by = min(draw.choice([0, 1, 1, 1, 2, burst, draw.randint(1, burst)]), burst)
        found = cache.throttle(b"k", Bucket(limit, per_ms, burst), by, now_ms)
        assert found == model.ask(by, now_ms)
        granted += found[0] and by > 0
        assert cache.ttl(b"k", now_ms) == (found[3] or None), "it lives as long as its debt"
        full_ms = per_ms * burst // limit + 1
        now_ms += draw.choice([0, 0, 1, found[2], max(0, found[2] - 1), found[3], per_ms // limit, full_ms])
    assert granted > 20
    now_ms += full_ms + 1
    assert cache.live_count(now_ms) == (0, True), "nothing is left behind"
    cache.invariants(now_ms)


def test_retry_after_is_exact() -> None:
    """One millisecond earlier the same call is refused, and at that millisecond it is granted."""
    draw = random.Random(7)
    for _ in range(300):
        limit, per_ms, burst = draw.randint(1, 50), draw.randint(1, 5_000), draw.randint(1, 9)
        cache = engine_of(shards=1).store.cache("default")
        now_ms = draw.randint(0, 10**9)
        cache.throttle(b"k", Bucket(limit, per_ms, burst), burst, now_ms)
        by = draw.randint(1, burst)
        granted, _, retry_ms, _ = cache.throttle(b"k", Bucket(limit, per_ms, burst), by, now_ms)
        assert not granted
        assert not cache.throttle(b"k", Bucket(limit, per_ms, burst), by, now_ms + retry_ms - 1)[0]
        assert cache.throttle(b"k", Bucket(limit, per_ms, burst), by, now_ms + retry_ms)[0]


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_no_span_of_the_period_has_more_than_the_burst_and_the_limit(limit: int) -> None:
    """A fixed window lets twice the limit through in a moment, around its end. This has no such moment."""
    cache = engine_of(shards=1).store.cache("default")
    per_ms = 1_000
    granted = [
        ms for ms in range(5_000) for _ in range(3) if cache.throttle(b"k", Bucket(limit, per_ms, limit), 1, ms)[0]
    ]
    for first in range(0, 5_000, 37):
        within = sum(first <= ms < first + per_ms for ms in granted)
        assert within <= 2 * limit
        assert within <= limit + 1 or first < per_ms, "once the first burst is used up it is the limit"
        assert sum(first <= ms < first + 2 for ms in granted) <= limit + 1, "never twice the limit in a moment"


def test_of_many_connections_as_many_are_granted_as_there_are() -> None:
    engine = engine_of()
    peers = [Conversation(engine) for _ in range(50)]
    answers = [
        decoded(peer.send(encode_request(1, "throttle", (b"k", 20, 1_000, 20, by))))[0][3]
        for by in (1, 2)
        for peer in peers
    ]
    assert sum(answer[0] for answer in answers) == 20
    assert answers[19] == [True, 0, 0, 1_000]
    assert all(answer == [False, 0, 50, 1_000] for answer in answers[20:50])


def test_a_grant_that_lowers_the_value_lets_those_in_who_queue() -> None:
    """The counter of a semaphore is no place for it; but nobody is forgotten."""
    here = Conversation(engine_of())
    other = Conversation(here.engine)
    for each in (here, other):
        each.send(encode_request(1, "hello", ({"session": True},)))
    here.send(encode_request(2, "set", (b"k", 10, 5_000)))
    assert other.send(encode_request(2, "acquire", ([[b"k", 1, 5]], None))) == b""
    (granted,) = decoded(here.send(encode_request(3, "throttle", (b"k", 1, 1, 9_999))))
    assert granted[3][0] is True
    here.send(encode_request(4, "throttle", (b"k", 1_000_000, 1, 9_000_000)))
    here.engine.invariants(here.now_ms)
    assert other.protocol.turn(here.now_ms) == b"", "that was too much, and lowered nothing"
    here.send(encode_request(5, "set", (b"k", 1_000, 3)))
    assert decoded(here.send(encode_request(6, "throttle", (b"k", 1, 1, 9_999))))[0][3][0] is True
    ((_, msgid, error, result),) = decoded(other.protocol.turn(here.now_ms))
    assert (msgid, error, result[:2]) == (2, None, [True, [5]])
    here.engine.invariants(here.now_ms)
