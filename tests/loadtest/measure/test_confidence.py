"""Bounds on a part: against published values, and by what they promise."""

from __future__ import annotations

import math
import random

import pytest

from naught_loadtest.measure.confidence import bounds, samples_min
from support.seeds import slow


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Clopper and Pearson, 90 % two-sided, as statistics packages print them.
        (0, 10, 0.0, 0.2589),
        (1, 10, 0.0051, 0.3942),
        (5, 10, 0.2224, 0.7776),
        (10, 10, 0.7411, 1.0),
        (10, 1000, 0.00544, 0.01690),
        (0, 300, 0.0, 0.009936),
    ],
)
def test_bounds_are_those_of_the_tables(count: int, total: int, low: float, high: float) -> None:
    assert bounds(count, total) == pytest.approx((low, high), abs=6e-5)


def test_nothing_says_nothing() -> None:
    assert bounds(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("part", [0.001, *slow(0.01), 0.3])
def test_the_truth_lies_within_the_bounds_as_often_as_promised(part: float) -> None:
    source = random.Random(f"bounds {part}")
    outside = 0
    for _ in range(400):
        count = sum(source.random() < part for _ in range(700))
        low, high = bounds(count, 700)
        assert low <= count / 700 <= high
        outside += not low <= part <= high
    # At most 5 % on each side: 40 of 400, and three deviations more.
    assert outside <= 40 + 3 * math.sqrt(40)


@pytest.mark.parametrize(("count", "total"), [(0, 10**7), (10**4, 10**7), (5 * 10**6, 10**7), (10**7, 10**7)])
def test_millions_of_samples_neither_overflow_nor_take_long(count: int, total: int) -> None:
    low, high = bounds(count, total)
    assert low <= count / total <= high
    assert high - low < 0.001


@pytest.mark.parametrize("percent", [50, 90, 99, 99.9, 99.99])
def test_so_many_samples_without_a_slow_one_are_just_enough(percent: float) -> None:
    allowed = 1 - percent / 100
    enough = samples_min(allowed)
    assert bounds(0, enough)[1] <= allowed
    assert bounds(0, enough - 1)[1] > allowed
