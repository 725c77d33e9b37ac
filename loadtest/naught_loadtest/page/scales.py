"""Scales: from a value to a place on an axis, with round ticks and their labels.

A place is a part of the axis, from 0 to 1. Three kinds of axis are drawn: linear ones that start at 0 (rates, time),
logarithmic ones (latencies, rates of a search), and that of percentiles, where 90 %, 99 % and 99.9 % stand at equal
distances. Ticks are round in the unit they are labelled in.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# Ticks of a logarithmic axis within a decade, from few to many. The first with enough ticks is taken.
_LOG_STEPS: tuple[tuple[float, ...], ...] = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
)
LOG_TICKS_MIN = 4
LOG_TICKS_MAX = 8
# Seconds between the ticks of an axis of time.
_TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
TIME_TICKS_MAX = 8
PERCENT_TICKS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999, 99.99999)


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick and its label."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high`."""

    low: float
    high: float
    # What makes values that are at equal distances on the axis.
    transform: Callable[[float], float]
    ticks: tuple[Tick, ...]

    def place(self, value: float) -> float:
        """Where a value stands, from 0 to 1. What lies outside stands at the end."""
        value = min(max(value, self.low), self.high)
        low, high = self.transform(self.low), self.transform(self.high)
        return (self.transform(value) - low) / (high - low)

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high


def _same(value: float) -> float:
    return value


def linear(high: float, label: Callable[[float], str], ticks: int = 5) -> Scale:
    """An axis from 0 to a round number that is at least `high`, and at least 1."""
    step = _round_step(max(high, 1.0) / ticks)
    count = max(1, math.ceil(max(high, 1.0) / step - 1e-9))
    top = count * step
    return Scale(0.0, top, _same, tuple(Tick(index * step, label(index * step)) for index in range(count + 1)))


def _round_step(least: float) -> float:
    decade = 10.0 ** math.floor(math.log10(least))
    return next(factor * decade for factor in (1, 2, 2.5, 5, 10) if factor * decade >= least - 1e-9 * decade)


def logarithmic(values: Iterable[float], label: Callable[[float], str]) -> Scale:
    """An axis that holds all values above 0 and ends at ticks."""
    positive = [value for value in values if value > 0]
    low, high = (min(positive), max(positive)) if positive else (1.0, 10.0)
    if high < low * 1.5:
        low, high = low / 1.25, high * 1.25
    best: list[float] = []
    for steps in _LOG_STEPS:
        found = _log_ticks(low, high, steps)
        if best and len(found) > LOG_TICKS_MAX:
            break
        best = found
        if len(found) >= LOG_TICKS_MIN + 1:
            break
    if len(best) > LOG_TICKS_MAX + 1:
        apart = math.ceil(len(best) / LOG_TICKS_MAX)
        shown = set(best[::apart])
    else:
        shown = set(best)
    return Scale(best[0], best[-1], math.log10, tuple(Tick(value, label(value)) for value in best if value in shown))


def _log_ticks(low: float, high: float, steps: tuple[float, ...]) -> list[float]:
    """The ticks from the last one that is at most `low` to the first that is at least `high`."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    every = [_exact(step, decade) for decade in range(first, last + 1) for step in steps]
    begin = max(index for index, value in enumerate(every) if value <= low * (1 + 1e-9))
    end = min(index for index, value in enumerate(every) if value >= high * (1 - 1e-9))
    return every[begin : end + 1]


def _exact(step: float, decade: int) -> float:
    # 3 * 10**2 is exact, 3 * 100.00000000000001 would not be.
    return step * 10.0**decade if decade >= 0 else step / 10.0**-decade


def seconds(high: float) -> Scale:
    """An axis of time from 0 to `high` seconds, which need not be round."""
    high = max(high, 1.0)
    step = next((step for step in _TIME_STEPS_S if high / step <= TIME_TICKS_MAX), math.ceil(high / TIME_TICKS_MAX))
    marks = [index * step for index in range(int(high / step + 1e-9) + 1)]
    return Scale(0.0, high, _same, tuple(Tick(mark, clock_label(mark, high)) for mark in marks))


def clock_label(value_s: float, longest_s: float) -> str:
    """A moment of a run: "20 s", or "3:20" in runs of more than five minutes."""
    if longest_s <= 300:
        return f"{value_s:g} s"
    minutes, rest = divmod(round(value_s), 60)
    if longest_s < 7200:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def percentiles(highest: float) -> Scale:
    """An axis of percentiles from 0 to `highest`, and to 90 at least."""
    highest = max(highest, PERCENT_TICKS[2])
    ticks = [percent for percent in PERCENT_TICKS if percent <= highest]
    if len(ticks) > 4:
        # 0 % and 50 % would stand too close to one another.
        ticks = ticks[1:]
    return Scale(0.0, highest, halvings, tuple(Tick(percent, f"{percent:g} %") for percent in ticks))


def halvings(percent: float) -> float:
    """How far a percentile is on the axis: in decades of the part beyond it."""
    return -math.log10(max(1 - percent / 100, 1e-12))


def duration_label(value_ns: float) -> str:
    """A latency with its unit, as short as it is exact to three digits."""
    for unit, unit_ns in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if value_ns >= unit_ns * 0.9995:
            return f"{_three(value_ns / unit_ns)} {unit}"
    return f"{_three(value_ns)} ns"


def count_label(value: float) -> str:
    """A count or a rate, as short as it is exact to three digits: 950, 1.5k, 20k, 1.2M."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor * 0.9995:
            return f"{_three(value / factor)}{unit}"
    return _three(value)


def whole_label(value: float) -> str:
    """A figure to read: all digits below a million."""
    return f"{value:,.0f}" if 100 <= abs(value) < 999_999.5 else count_label(value)


def _three(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")
