"""What is counted for the operator."""

from __future__ import annotations

import random

import pytest

from naught_server.slowlog import SLOW_NS_MIN
from naught_server.stats import BUCKETS, TIMED_ENTRIES, Durations, Stats


@pytest.mark.parametrize(
    ("duration_ns", "bucket"),
    [(0, 0), (999, 0), (1_000, 1), (1_999, 1), (2_000, 2), (4_000_000, 12), (2**23 * 1_000, 24), (2**60, 24)],
)
def test_the_bucket_of_a_duration(duration_ns: int, bucket: int) -> None:
    durations = Durations()
    durations.add(duration_ns)
    assert durations.buckets == [int(place == bucket) for place in range(BUCKETS)]
    assert (durations.count, durations.total_ns, durations.max_ns) == (1, duration_ns, duration_ns)


def test_a_sample_stands_for_several() -> None:
    durations = Durations()
    durations.add(5_000)
    durations.add(3_000, 8)
    assert (durations.count, durations.total_ns, durations.max_ns) == (9, 29_000, 5_000)
    assert (durations.buckets[3], durations.buckets[2]) == (1, 8)


def test_which_turns_are_timed() -> None:
    """Every one with much work. Of the others one in eight, and all together they stand for as many as there were."""
    stats = Stats()
    assert [stats.turns_to_time(TIMED_ENTRIES) for _ in range(20)] == [1] * 20
    assert [stats.turns_to_time(0) for _ in range(16)] == [*[0] * 7, 8, *[0] * 8]
    source = random.Random(5)
    entries = [source.choice([0, 1, TIMED_ENTRIES - 1, TIMED_ENTRIES, 9_000]) for _ in range(8_000)]
    stand_for = sum(stats.turns_to_time(each) for each in entries)
    assert stand_for == pytest.approx(len(entries), abs=15)


def test_turns_are_counted_with_their_bytes() -> None:
    stats = Stats()
    stats.note_turn(5_000, 100, 20)
    stats.note_turn(3_000, 0, 7)
    stats.note_turn(0, 1, 0)
    stats.note_bytes(3, 0)
    assert (stats.turns.count, stats.turns.total_ns, stats.turns.max_ns) == (3, 8_000, 5_000)
    assert (stats.received_bytes, stats.sent_bytes) == (104, 27)


@pytest.mark.parametrize(("took_ns", "slow"), [(0, False), (SLOW_NS_MIN, False), (SLOW_NS_MIN + 1, True)])
def test_which_turn_is_slow(took_ns: int, slow: bool) -> None:
    assert Stats().note_turn(took_ns, 1, 1) is slow
