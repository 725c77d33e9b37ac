"""Axes: they hold their values, their ticks are round and in order, and labels are short and exact."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from naught_loadtest.page.scales import (
    LOG_TICKS_MAX,
    clock_label,
    count_label,
    duration_label,
    linear,
    logarithmic,
    percentiles,
    seconds,
    whole_label,
)

SEED = 3


def test_a_linear_axis_begins_at_zero_and_holds_its_value() -> None:
    source = random.Random(SEED)
    for _ in range(2_000):
        value = 10 ** source.uniform(-2, 9)
        scale = linear(value, count_label)
        places = [scale.place(tick.value) for tick in scale.ticks]
        assert places[0] == 0
        assert places[-1] == 1
        assert places == sorted(places)
        assert 2 <= len(places) <= 7
        assert scale.holds(value)
        assert len({tick.label for tick in scale.ticks}) == len(places)


def test_a_logarithmic_axis_ends_at_ticks_and_has_few_of_them() -> None:
    source = random.Random(SEED)
    for _ in range(2_000):
        low = 10 ** source.uniform(0, 9)
        high = low * 10 ** source.uniform(0, 6)
        scale = logarithmic([low, high], duration_label)
        assert scale.low <= low * (1 + 1e-9)
        assert scale.high >= high * (1 - 1e-9)
        assert 2 <= len(scale.ticks) <= LOG_TICKS_MAX + 1, (low, high)
        places = [scale.place(tick.value) for tick in scale.ticks]
        assert places == sorted(places)
        assert all(later - earlier > 0.05 for earlier, later in itertools.pairwise(places)), (low, high)
        assert len({tick.label for tick in scale.ticks}) == len(places)


def test_an_axis_of_nothing_is_an_axis() -> None:
    assert len(logarithmic([], count_label).ticks) >= 2
    assert len(logarithmic([0.0, -1.0], count_label).ticks) >= 2
    assert len(linear(0, count_label).ticks) >= 2
    assert len(seconds(0).ticks) >= 2
    assert len(percentiles(0).ticks) >= 2


@pytest.mark.parametrize("high", [1, 2, 9, 10, 11.5, 59, 61, 119, 300, 301, 3_600, 86_400, 1_000_000])
def test_an_axis_of_time_ends_with_the_run(high: float) -> None:
    scale = seconds(high)
    assert scale.high == high
    assert scale.place(high) == 1
    assert 2 <= len(scale.ticks) <= 9
    assert all(tick.value <= high for tick in scale.ticks)


def test_percentiles_stand_at_equal_distances() -> None:
    scale = percentiles(99.95)
    places = {tick.label: scale.place(tick.value) for tick in scale.ticks}
    assert places["99.9 %"] - places["99 %"] == pytest.approx(places["99 %"] - places["90 %"])
    assert scale.ticks[-1].label == "99.9 %"
    assert scale.high == 99.95
    assert scale.place(0) == 0


@pytest.mark.parametrize(
    ("value_ns", "label"),
    [(0, "0 ns"), (1, "1 ns"), (999.7, "1 µs"), (1_500, "1.5 µs"), (41_234, "41.2 µs"), (123_456, "123 µs"),
     (999_499, "999 µs"), (2e6, "2 ms"), (1_234_567_890, "1.23 s"), (3_600e9, "3,600 s")],
)  # fmt: skip
def test_durations(value_ns: float, label: str) -> None:
    assert duration_label(value_ns) == label


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0, "0"),
        (7, "7"),
        (0.25, "0.25"),
        (950, "950"),
        (1_500, "1.5k"),
        (20_000, "20k"),
        (1_234_567, "1.23M"),
        (5e9, "5G"),
    ],
)
def test_counts(value: float, label: str) -> None:
    assert count_label(value) == label


def test_figures_to_read_have_all_their_digits() -> None:
    assert [whole_label(value) for value in (7, 3_999.4, 261_755, 1_234_567)] == ["7", "3,999", "261,755", "1.23M"]


def test_moments() -> None:
    assert [clock_label(20, 60), clock_label(200, 600), clock_label(7_500, 8_000)] == ["20 s", "3:20", "2:05:00"]
    assert not math.isnan(seconds(5).place(2.5))
