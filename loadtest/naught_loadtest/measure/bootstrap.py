"""How much two runs differ, and how much of it is chance: ratios with bootstrap intervals.

The seconds of a run are drawn again and again, with replacement, and the figure is computed from each draw. What
lies between the 2.5th and the 97.5th percentile of these figures is its 95 % interval. *Seconds* are drawn and not
requests, because the requests of one second are alike: they met the same queue. Long runs are cut into `BLOCKS_MAX`
blocks of neighbouring seconds, as neighbouring seconds are alike too.

The interval holds what varies within the runs. What differs between any two runs (another machine, another minute)
is in none of them, so two runs should follow one another on the same machine.

Pure: no clock, no input or output; the seed is an argument.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from naught_loadtest.measure.histogram import bucket_bounds, rank
from naught_loadtest.measure.series import SECOND_NS, Row

# Draws: enough for the ends of a 95 % interval.
DRAWS = 1000
BLOCKS_MAX = 60
# With fewer seconds an interval says nothing.
BLOCKS_MIN = 5
# The interval has this part of the draws.
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float


class Sample:
    """The blocks of one run, prepared for drawing."""

    def __init__(self, rows: Sequence[Row]) -> None:
        together = -(-len(rows) // BLOCKS_MAX) or 1
        blocks = [rows[start : start + together] for start in range(0, len(rows), together)]
        if len(blocks) > 1 and _span_s(blocks[-1]) < _span_s(blocks[0]) / 2:
            # The end of a run, shorter than a block, would weigh as much as a whole one.
            blocks[-2:] = [[*blocks[-2], *blocks[-1]]]
        # Of each block: seconds, operations per second times seconds, requests, errors.
        self._spans_s = [_span_s(block) for block in blocks]
        self._operations = [sum(row.rate * row.span_ns / SECOND_NS for row in block) for block in blocks]
        self._errors = [sum(row.errors for row in block) for block in blocks]
        self._totals = [sum(row.total for row in block) for block in blocks]
        # All buckets that one of them has, and of each block how many requests lie up to each of these.
        self._buckets = sorted({bucket for row in rows for bucket in row.buckets})
        self._reached = [self._sums(block) for block in blocks]

    def _sums(self, block: Sequence[Row]) -> list[int]:
        counts = (sum(row.buckets.get(bucket, 0) for row in block) for bucket in self._buckets)
        return list(itertools.accumulate(counts))

    @property
    def blocks(self) -> int:
        return len(self._spans_s)

    def rate(self, drawn: Sequence[int]) -> float:
        """Operations per second of the drawn blocks."""
        return sum(self._operations[index] for index in drawn) / sum(self._spans_s[index] for index in drawn)

    def error_part(self, drawn: Sequence[int]) -> float:
        """Errors as a part of the requests of the drawn blocks."""
        errors = sum(self._errors[index] for index in drawn)
        return errors / max(errors + sum(self._totals[index] for index in drawn), 1)

    def percentile(self, percent: float) -> Callable[[Sequence[int]], float]:
        """A function that computes this percentile, in ns, of drawn blocks; 0 where they have no requests."""

        def compute(drawn: Sequence[int]) -> float:
            total = sum(self._totals[index] for index in drawn)
            if not total:
                return 0.0
            reached = [self._reached[index] for index in drawn]
            wanted = rank(total, percent)
            place = bisect.bisect_left(
                range(len(self._buckets)), wanted, key=lambda at: sum(sums[at] for sums in reached)
            )
            return float(bucket_bounds(self._buckets[place])[1])

        return compute

    def requests(self) -> int:
        """Requests that the run has latencies of."""
        return sum(self._totals)


# What is compared: it makes of a sample the function that computes a figure of drawn blocks.
Figure = Callable[[Sample], Callable[[Sequence[int]], float]]


def ratio(
    before: Sample,
    after: Sample,
    figure: Figure,
    source: random.Random,
) -> Estimate | None:
    """How many times the figure of `before` that of `after` is. None where a figure is 0."""
    one, other = figure(before), figure(after)
    whole_before, whole_after = one(range(before.blocks)), other(range(after.blocks))
    if whole_before <= 0 or whole_after <= 0:
        return None
    draws = []
    for _ in range(DRAWS):
        low, high = one(_draw(before, source)), other(_draw(after, source))
        draws.append(high / low if low > 0 else float("inf"))
    return interval(whole_after / whole_before, draws)


def difference(
    before: Sample,
    after: Sample,
    figure: Figure,
    source: random.Random,
) -> Estimate:
    """How much more than the figure of `before` that of `after` is."""
    one, other = figure(before), figure(after)
    draws = [other(_draw(after, source)) - one(_draw(before, source)) for _ in range(DRAWS)]
    return interval(other(range(after.blocks)) - one(range(before.blocks)), draws)


def ratio_of_medians(before: Sequence[float], after: Sequence[float], source: random.Random) -> Estimate:
    """The ratio of the medians of two lists that have one figure for each round, with its interval."""
    draws = []
    for _ in range(DRAWS):
        low = _median(source.choices(before, k=len(before)))
        draws.append(_median(source.choices(after, k=len(after))) / low)
    return interval(_median(after) / _median(before), draws)


def interval(value: float, draws: list[float]) -> Estimate:
    """The value with the interval of its draws. The value itself always lies in it."""
    draws.sort()
    beyond = (1 - LEVEL) / 2
    low, high = draws[int(len(draws) * beyond)], draws[min(len(draws) - 1, int(len(draws) * (1 - beyond)))]
    return Estimate(value, min(low, value), max(high, value))


def _draw(sample: Sample, source: random.Random) -> list[int]:
    return source.choices(range(sample.blocks), k=sample.blocks)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _span_s(rows: Sequence[Row]) -> float:
    return sum(row.span_ns for row in rows) / SECOND_NS
