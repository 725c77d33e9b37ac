"""What is counted for the operator."""

from __future__ import annotations

import pytest

from naught_server.slowlog import SLOW_NS_MIN
from naught_server.stats import Durations, Stats


@pytest.mark.parametrize(
    ("duration_ns", "bucket"),
    [(0, 0), (999, 0), (1_000, 1), (1_999, 1), (2_000, 2), (4_000_000, 12), (2**23 * 1_000, 24), (2**60, 24)],
)
def test_the_bucket_of_a_duration(duration_ns: int, bucket: int) -> None:
    durations = Durations()
    durations.add(duration_ns)
    assert durations.buckets == [int(place == bucket) for place in range(Durations.BUCKETS)]
    assert (durations.count, durations.total_ns, durations.max_ns) == (1, duration_ns, duration_ns)


def test_turns_are_counted_with_their_bytes() -> None:
    stats = Stats()
    stats.note_turn(5_000, 100, 20)
    stats.note_turn(3_000, 0, 7)
    stats.note_turn(0, 1, 0)
    stats.count_received(3)
    assert (stats.turns.count, stats.turns.total_ns, stats.turns.max_ns) == (3, 8_000, 5_000)
    assert (stats.received_bytes, stats.sent_bytes) == (104, 27)


@pytest.mark.parametrize(("took_ns", "slow"), [(0, False), (SLOW_NS_MIN, False), (SLOW_NS_MIN + 1, True)])
def test_which_turn_is_slow(took_ns: int, slow: bool) -> None:
    assert Stats().note_turn(took_ns, 1, 1) is slow
