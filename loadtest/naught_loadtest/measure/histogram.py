"""Latency histograms with three significant digits, in the layout of HdrHistogram.

Values are whole nanoseconds. Each value below 2 048 has a bucket of its own. Above, every doubling of the value is
divided into 1 024 equal buckets, so a bucket is never wider than a thousandth of the values in it. This layout is
called *log-linear*: one `bit_length`, two shifts and one addition find the bucket of any value. The range is fixed
(more than two hours), so nothing is resized while a measurement runs.

Histograms of several processes are merged by adding bucket to bucket. Percentiles are computed from the merged
buckets only, because an average of percentiles is not a percentile.

A percentile with fewer than 100 samples beyond it is uncertain, and is printed with their number (`beyond`). A sample
is one call of `record`: a pipeline of 100 requests that was timed once is one sample.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

# 2 048 buckets for the first span: the smallest power of two that gives three significant digits.
SPAN_BITS = 11
HALF = 1 << (SPAN_BITS - 1)
# 2**43 ns is 2 hours 26 minutes. Values of at least one hour must be possible.
VALUE_BITS_MAX = 43
VALUE_NS_MAX = (1 << VALUE_BITS_MAX) - 1
BUCKETS = (VALUE_BITS_MAX - SPAN_BITS) * HALF + 2 * HALF

SAMPLES_BEYOND_MIN = 100

# The percentiles of every report, in this order.
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)

# All rows of a report.
ROWS = ("min", "mean", "stddev", *(f"p{percent:g}" for percent in PERCENTILES), "max")

# Neighbouring buckets added up for the progress line. The values of 32 neighbours differ by at most 3 %, and adding
# up all buckets costs the generator about a tenth of a millisecond.
COARSE = 32

# Lines of the .hgrm listing for each halving of the distance to 100 %, as HdrHistogram's own tools print them.
TICKS_PER_HALF_DISTANCE = 5


def bucket_of(value_ns: int) -> int:
    """The bucket of a value from 0 to `VALUE_NS_MAX`."""
    shift = value_ns.bit_length() - SPAN_BITS
    return (shift << (SPAN_BITS - 1)) + (value_ns >> shift) if shift > 0 else value_ns


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """The lowest and the highest value of a bucket."""
    if bucket < 2 * HALF:
        return bucket, bucket
    shift = (bucket >> (SPAN_BITS - 1)) - 1
    low = ((bucket & (HALF - 1)) + HALF) << shift
    return low, low + (1 << shift) - 1


def rank(total: int, percent: float) -> int:
    """Which of `total` values in ascending order, counted from 1, `percent` of them do not exceed."""
    return max(1, math.ceil(total * percent / 100 - 1e-9))


class Histogram:
    """Counts of latencies by bucket. `record`, called for every request, takes a tenth of a microsecond."""

    __slots__ = ("counts", "max_ns", "records")

    def __init__(self) -> None:
        # How many requests fell into each bucket. A list, because adding to an item of an array is a third slower.
        self.counts: list[int] = [0] * BUCKETS
        # The largest value recorded, exact.
        self.max_ns = 0
        # Calls of `record`: each is one sample, whatever number of requests it stands for.
        self.records = 0

    def record(self, value_ns: int, count: int = 1) -> None:
        """Add `count` requests that took `value_ns`. Values beyond the range go to the last bucket."""
        if value_ns > self.max_ns:  # noqa: PLR1730 - a call of max() costs more than the rest of this method
            self.max_ns = value_ns
        self.records += 1
        shift = value_ns.bit_length() - SPAN_BITS
        try:
            if shift > 0:
                self.counts[(shift << (SPAN_BITS - 1)) + (value_ns >> shift)] += count
            else:
                self.counts[value_ns] += count
        except IndexError:
            self.counts[-1] += count

    def clear(self) -> None:
        """Set all counts to zero, in the same list."""
        self.counts[:] = [0] * BUCKETS
        self.max_ns = 0
        self.records = 0

    @property
    def total(self) -> int:
        """How many requests were recorded."""
        return sum(self.counts)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.max_ns = max(self.max_ns, other.max_ns)
        self.records += other.records

    def percentile(self, percent: float) -> int:
        """The latency in ns that `percent` of the requests did not exceed; 0 when there are no requests.

        It is the highest value of its bucket, but never more than the largest value recorded. So it is never too low,
        and too high by less than a thousandth.
        """
        total = self.total
        if not total:
            return 0
        wanted = rank(total, percent)
        reached = 0
        for bucket, count in enumerate(self.counts):
            reached += count
            if reached >= wanted:
                return min(bucket_bounds(bucket)[1], self.max_ns)
        return self.max_ns

    def printable(self, percent: float) -> bool:
        """Whether at least 100 samples lie beyond this percentile."""
        return self.records * (100 - percent) / 100 >= SAMPLES_BEYOND_MIN - 1e-6

    def slower(self, limit_ns: float, *, or_equal: bool) -> int:
        """How many requests took longer than a limit, or just as long. All in the limit's own bucket count too."""
        return sum(
            count
            for bucket, count in enumerate(self.counts)
            if count and (bucket_bounds(bucket)[1] > limit_ns or (or_equal and bucket_bounds(bucket)[1] == limit_ns))
        )

    def mean_ns(self) -> float:
        """The mean, from the middles of the buckets."""
        total = self.total
        return sum(middle * count for middle, count in self._middles()) / total if total else 0.0

    def deviation_ns(self) -> float:
        """The standard deviation, from the middles of the buckets."""
        total = self.total
        if not total:
            return 0.0
        mean = self.mean_ns()
        return math.sqrt(sum((middle - mean) ** 2 * count for middle, count in self._middles()) / total)

    def _middles(self) -> Iterator[tuple[float, int]]:
        for bucket, count in enumerate(self.counts):
            if count:
                low, high = bucket_bounds(bucket)
                yield (low + high) / 2, count

    @property
    def min_ns(self) -> int:
        """The lowest value of the lowest bucket that has any; 0 when there is none."""
        return next((bucket_bounds(bucket)[0] for bucket, count in enumerate(self.counts) if count), 0)

    def summary_ns(self) -> dict[str, int | None]:
        """The rows of a report, and `samples`. All are None but `samples` when there is nothing."""
        if not self.records:
            return {**dict.fromkeys(ROWS), "samples": 0}
        return {
            "min": self.min_ns,
            "mean": round(self.mean_ns()),
            "stddev": round(self.deviation_ns()),
            **{percentile_name(percent): self.percentile(percent) for percent in PERCENTILES},
            "max": self.max_ns,
            "samples": self.records,
        }

    def beyond(self, row: str) -> int | None:
        """How many samples lie beyond the percentile of a row like `p99.9`, if fewer than 100. None otherwise."""
        if not row.startswith("p") or self.printable(float(row[1:])):
            return None
        return int(self.records * (100 - float(row[1:])) / 100 + 1e-6)

    def coarse(self) -> list[int]:
        """Sums over neighbouring buckets up to the largest value, for `coarse_percentile`.

        They are computed once a second while the generator runs, so they must be cheap.
        """
        end = bucket_of(min(self.max_ns, VALUE_NS_MAX)) + 1
        counts = self.counts
        return [sum(counts[start : start + COARSE]) for start in range(0, end, COARSE)]

    def to_json(self) -> dict[str, Any]:
        """All counts as plain lists, for a worker process to send to its parent."""
        filled = [bucket for bucket, count in enumerate(self.counts) if count]
        return {
            "buckets": filled,
            "counts": [self.counts[bucket] for bucket in filled],
            "max_ns": self.max_ns,
            "records": self.records,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Histogram:
        """The reverse of `to_json`."""
        histogram = cls()
        for bucket, count in zip(document["buckets"], document["counts"], strict=True):
            histogram.counts[bucket] = count
        histogram.max_ns = document["max_ns"]
        histogram.records = document["records"]
        return histogram

    def hgrm_lines(self, unit_ns: int = 1_000) -> Iterator[str]:
        """The percentile distribution as HdrHistogram prints it, in units of `unit_ns` (microseconds).

        HdrHistogram's plotter and other tools that read `.hgrm` files accept it.
        """
        yield f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}"
        yield ""
        for value_ns, percent, reached in self._distribution():
            row = f"{value_ns / unit_ns:12.3f} {percent / 100:2.12f} {reached:10d}"
            yield row if percent >= 100 else f"{row} {1 / (1 - percent / 100):14.2f}"
        mean, deviation = self.mean_ns() / unit_ns, self.deviation_ns() / unit_ns
        yield f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]"
        yield f"#[Max     = {self.max_ns / unit_ns:12.3f}, Total count    = {self.total:12d}]"
        yield f"#[Buckets = {VALUE_BITS_MAX - SPAN_BITS + 1:12d}, SubBuckets     = {2 * HALF:12d}]"

    def _distribution(self) -> Iterator[tuple[int, float, int]]:
        """(value in ns, percentile, requests up to it): five lines for each halving of the distance to 100 %."""
        total = self.total
        level = 0.0
        reached = 0
        for bucket, count in enumerate(self.counts):
            if not count:
                continue
            reached += count
            high = min(bucket_bounds(bucket)[1], self.max_ns)
            # The line for 100 % comes last, so the last bucket gets no other lines.
            while reached < total and 100 * reached / total >= level:
                yield high, level, reached
                halvings = int(math.log2(100 / (100 - level))) + 1
                level += 100 / (TICKS_PER_HALF_DISTANCE * 2**halvings)
        if total:
            yield self.max_ns, 100.0, total


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of all of them."""
    result = Histogram()
    for histogram in histograms:
        result.merge(histogram)
    return result


def coarse_percentile(sums: list[int], percent: float) -> int:
    """Like `Histogram.percentile`, within 3 %, from the sums of `Histogram.coarse`."""
    wanted = sum(sums) * percent / 100
    reached = 0
    for group, count in enumerate(sums):
        reached += count
        if count and reached >= wanted:
            return bucket_bounds(min((group + 1) * COARSE, BUCKETS) - 1)[1]
    return 0


def percentile_name(percent: float) -> str:
    """`p99.9` for 99.9."""
    return f"p{percent:g}"
