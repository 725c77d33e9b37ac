"""Latency histograms with three significant digits, the way HdrHistogram keeps them.

Values are whole nanoseconds. A value below 2 048 has a bucket of its own; above, every doubling of the
value is cut into 1 024 equal buckets, so a bucket is never wider than a thousandth of what it holds. That
is *log-linear*: one `bit_length`, two shifts and one addition find the bucket, whatever the value. The range
is fixed (two hours and more), so nothing is ever resized while a measurement runs.

Histograms of several processes are merged by adding bucket to bucket. Percentiles are computed from the
merged buckets only: an average of percentiles is a percentile of nothing.

A percentile is worth printing only where enough samples lie beyond it; `printable` holds it to 100. What is
counted there are *records*: a pipeline of 100 requests timed once is one observation of a hundred requests,
and counts as one.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

# 2 048 buckets for the first span: the least power of two that keeps three significant digits.
SPAN_BITS = 11
HALF = 1 << (SPAN_BITS - 1)
# 2**43 ns is 2 hours 26 minutes; the harness promises at least one hour.
VALUE_BITS_MAX = 43
VALUE_NS_MAX = (1 << VALUE_BITS_MAX) - 1
BUCKETS = (VALUE_BITS_MAX - SPAN_BITS) * HALF + 2 * HALF

SAMPLES_BEYOND_MIN = 100

# The rows of every report, in this order.
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)

# Buckets added together for the live progress line: 32 neighbours are within 3 % of one another, and the
# whole reading costs the generator about a tenth of a millisecond.
COARSE = 32

# Steps between one halving of the distance to 100 % and the next in the .hgrm listing, as HdrHistogram's own
# tools print it.
TICKS_PER_HALF_DISTANCE = 5


def bucket_of(value_ns: int) -> int:
    """The bucket that holds a value. Values from 0 to `VALUE_NS_MAX`."""
    shift = value_ns.bit_length() - SPAN_BITS
    return (shift << (SPAN_BITS - 1)) + (value_ns >> shift) if shift > 0 else value_ns


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """The lowest and the highest value a bucket holds."""
    if bucket < 2 * HALF:
        return bucket, bucket
    shift = (bucket >> (SPAN_BITS - 1)) - 1
    low = ((bucket & (HALF - 1)) + HALF) << shift
    return low, low + (1 << shift) - 1


class Histogram:
    """Counts of latencies by bucket. `record` is the hot call: about a tenth of a microsecond."""

    __slots__ = ("counts", "max_ns", "records")

    def __init__(self) -> None:
        # How many values fell in each bucket. A list, not an array: adding to an item is a third faster.
        self.counts: list[int] = [0] * BUCKETS
        # The largest value ever recorded, exact.
        self.max_ns = 0
        # Calls of `record`, each one observation however many requests it stood for.
        self.records = 0

    def record(self, value_ns: int, count: int = 1) -> None:
        """Add `count` requests that took `value_ns`. Beyond the range they go to the last bucket."""
        if value_ns > self.max_ns:  # noqa: PLR1730 - a call of max() costs more than all the rest
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
        """Forget everything, keeping the same list."""
        self.counts[:] = [0] * BUCKETS
        self.max_ns = 0
        self.records = 0

    @property
    def total(self) -> int:
        """How many requests were recorded."""
        return sum(self.counts)

    def merge(self, other: Histogram) -> None:
        """Add what another histogram holds."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.max_ns = max(self.max_ns, other.max_ns)
        self.records += other.records

    def percentile(self, percent: float) -> int:
        """The latency that `percent` of the requests did not exceed, in ns; 0 when there are none.

        What is given is the highest value of its bucket (never more than the largest recorded), so the
        error is on the slow side and below a thousandth.
        """
        total = self.total
        if not total:
            return 0
        wanted = max(1, math.ceil(total * percent / 100 - 1e-9))
        reached = 0
        for bucket, count in enumerate(self.counts):
            reached += count
            if reached >= wanted:
                return min(bucket_bounds(bucket)[1], self.max_ns)
        return self.max_ns

    def printable(self, percent: float) -> bool:
        """Whether at least 100 observations lie beyond this percentile."""
        return self.records * (100 - percent) / 100 >= SAMPLES_BEYOND_MIN - 1e-6

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

    def summary_ns(self) -> dict[str, int | None]:
        """The rows of a report: `p50` … `p99.99`, `max`. None where a percentile must not be printed."""
        rows: dict[str, int | None] = {
            percentile_name(percent): self.percentile(percent) if self.printable(percent) else None
            for percent in PERCENTILES
        }
        rows["max"] = self.max_ns if self.records else None
        return rows

    def coarse(self) -> list[int]:
        """Sums over neighbouring buckets up to the largest value seen, cheap enough for a running
        generator. `coarse_percentile` reads them."""
        end = bucket_of(min(self.max_ns, VALUE_NS_MAX)) + 1
        counts = self.counts
        return [sum(counts[start : start + COARSE]) for start in range(0, end, COARSE)]

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain lists: what a worker process sends to its parent."""
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

    def hgrm_lines(self, unit_ns: int = 1_000_000) -> Iterator[str]:
        """The percentile distribution as HdrHistogram prints it, in milliseconds unless said otherwise.

        The plotter of HdrHistogram (and every tool that reads `.hgrm`) takes it as it is.
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
        """(value in ns, percentile level, requests up to it), each halving of the rest in five ticks."""
        total = self.total
        level = 0.0
        reached = 0
        for bucket, count in enumerate(self.counts):
            if not count:
                continue
            reached += count
            high = min(bucket_bounds(bucket)[1], self.max_ns)
            # The last bucket closes the listing at 100 %, so its intermediate levels are skipped.
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
    """The same as `Histogram.percentile`, within 3 %, from the lists of `Histogram.coarse`."""
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
