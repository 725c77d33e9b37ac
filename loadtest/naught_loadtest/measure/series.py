"""The time series of a run: for every second how much was answered, how fast, and what failed.

A `Recorder` in each worker looks at the worker's `Tally` at every whole second, and after the run computes what has
changed from second to second. So the loops do nothing for the series, and the histograms of all seconds add up to the
histogram of the run: a test says so. For that it copies a list of some ten thousand numbers, which takes twenty
microseconds.

A request stands in the second in which it was *answered*, or given up. A server that stands still for two seconds
therefore shows two empty seconds and then a second with latencies of up to two. A second that a worker was late for
is part of the row before, whose span is then longer. Rates are divided by the true span, so they are right all the
same.

`Series` merges the rows of several workers, or of several hosts, by adding bucket to bucket.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.measure import hdr
from naught_loadtest.measure.histogram import VALUE_NS_MAX, Histogram, bucket_bounds, bucket_of, rank
from naught_loadtest.measure.tally import Tally

SECOND_NS = 1_000_000_000
# The most rows. A worker keeps some 90 kB for a row until the run is over. In a run of more than ten minutes, a row
# covers several seconds.
ROWS_MAX = 600
# A shorter row is joined to the row before. Such a row comes about where the measured time ends just after a whole
# second.
SPAN_NS_MIN = SECOND_NS // 20


@dataclass(slots=True)
class Row:
    """One second of a run."""

    # The whole second of the measured time in which the row begins.
    second: int
    # The time that the row covers.
    span_ns: int
    # Operations of requests that succeeded in time, and requests that failed or timed out.
    operations: int
    errors: int
    # Operations per second; the sum over the workers.
    rate: float
    # Counts of the response times by bucket, as `Histogram` numbers them.
    buckets: dict[int, int]

    @property
    def total(self) -> int:
        return sum(self.buckets.values())

    def percentile(self, percent: float) -> int | None:
        """The response time in ns that `percent` of the second's requests did not exceed. None where it has none."""
        return percentile(self.buckets, percent)

    @property
    def max_ns(self) -> int | None:
        """The greatest response time, as the highest value of its bucket. None where the second has none."""
        return bucket_bounds(max(self.buckets))[1] if self.buckets else None

    def to_json(self) -> dict[str, Any]:
        """The row in the report."""
        return {
            "second": self.second,
            "span_s": round(self.span_ns / SECOND_NS, 6),
            "operations": self.operations,
            "rate_per_s": round(self.rate, 1),
            "errors": self.errors,
            "p50_ns": self.percentile(50),
            "p99_ns": self.percentile(99),
            "max_ns": self.max_ns,
            "histogram": hdr.encode(self.buckets),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Row:
        """The reverse of `to_json`. ValueError when it is not one."""
        span_ns = round(document["span_s"] * SECOND_NS)
        return cls(
            document["second"],
            span_ns,
            document["operations"],
            document["errors"],
            float(document["rate_per_s"]),
            hdr.decode(document["histogram"]),
        )


@dataclass(slots=True)
class _Mark:
    """What a tally had at the end of a row."""

    # The second in which the row begins, and the moment at which it ends.
    second: int
    until_ns: int
    operations: int
    errors: int
    # The counts of the response times up to the greatest.
    counts: list[int]


class Recorder:
    """Notes what a worker's tally has at each second.

    It is made when the measured time begins and nothing of it is in the tally. `close` ends the series with the
    measured time.
    """

    def __init__(self, tally: Tally, begin_ns: int, duration_s: float = 0.0) -> None:
        self._tally = tally
        self._begin_ns = begin_ns
        # How many seconds a row covers.
        self._seconds = max(1, math.ceil(duration_s / ROWS_MAX))
        # One for each row so far.
        self._marks: list[_Mark] = []
        # Whether the measured time is over.
        self._closed = False

    def look(self, now_ns: int) -> None:
        """End a row now. Does nothing after `close`."""
        if self._closed:
            return
        tally, marks = self._tally, self._marks
        last_ns = marks[-1].until_ns if marks else self._begin_ns
        second = max(0, round((last_ns - self._begin_ns) / SECOND_NS)) // self._seconds * self._seconds
        if marks and (marks[-1].second == second or now_ns - last_ns < SPAN_NS_MIN):
            second = marks.pop().second
        marks.append(_Mark(second, now_ns, tally.operations, tally.errors, self._copy()))

    def close(self, now_ns: int) -> None:
        """End the last row now: the measured time is over."""
        self.look(now_ns)
        self._closed = True

    def settle(self, *, latencies: bool) -> None:
        """Add to the last row what became of the requests that were in flight at the end: the errors, and in an open
        loop, where these requests belong to the measured time, the latencies."""
        last = self._marks[-1]
        last.errors = self._tally.errors
        if latencies:
            last.counts = self._copy()

    def _copy(self) -> list[int]:
        # A value beyond the range is counted in the last bucket.
        return self._tally.response.counts[: bucket_of(min(self._tally.response.max_ns, VALUE_NS_MAX)) + 1]

    def rows(self) -> Iterator[Row]:
        """The rows so far."""
        before = _Mark(0, self._begin_ns, 0, 0, [])
        for mark in self._marks:
            span_ns = max(mark.until_ns - before.until_ns, 1)
            operations = mark.operations - before.operations
            known = before.counts + [0] * (len(mark.counts) - len(before.counts))
            # Three passes in C: a loop over the buckets takes ten times as long.
            changes = list(map(operator.sub, mark.counts, known))
            filled = itertools.compress(range(len(changes)), changes)
            buckets = dict(zip(filled, filter(None, changes), strict=True))
            rate = operations / span_ns * SECOND_NS
            yield Row(mark.second, span_ns, operations, mark.errors - before.errors, rate, buckets)
            before = mark

    def to_json(self) -> list[list[Any]]:
        """All rows, for a worker to send to its parent."""
        return [
            [row.second, row.span_ns, row.operations, row.errors, list(row.buckets), list(row.buckets.values())]
            for row in self.rows()
        ]


@dataclass(slots=True)
class Series:
    """The rows of all workers merged, in order."""

    rows: list[Row] = field(default_factory=list)

    def add(self, rows: Iterable[Row], shift: int = 0) -> None:
        """Merge the rows of one more worker or host, which began `shift` seconds later."""
        known = {row.second: row for row in self.rows}
        for row in rows:
            second = row.second + shift
            mine = known.get(second)
            if mine is None:
                known[second] = Row(second, row.span_ns, row.operations, row.errors, row.rate, dict(row.buckets))
                continue
            mine.span_ns = max(mine.span_ns, row.span_ns)
            mine.operations += row.operations
            mine.errors += row.errors
            mine.rate += row.rate
            for bucket, count in row.buckets.items():
                mine.buckets[bucket] = mine.buckets.get(bucket, 0) + count
        self.rows = [known[second] for second in sorted(known)]

    def add_worker(self, document: Iterable[list[Any]]) -> None:
        """Merge what `Recorder.to_json` gave."""
        self.add(
            Row(second, span_ns, operations, errors, operations / span_ns * SECOND_NS,
                dict(zip(buckets, counts, strict=True)))
            for second, span_ns, operations, errors, buckets, counts in document
        )  # fmt: skip

    def to_json(self) -> list[dict[str, Any]]:
        return [row.to_json() for row in self.rows]

    @classmethod
    def from_json(cls, document: Iterable[Mapping[str, Any]]) -> Series:
        """The reverse of `to_json`. ValueError when it is not one."""
        return cls([Row.from_json(row) for row in document])


CSV_COLUMNS = ("second", "span_s", "operations", "rate_per_s", "errors", "p50_ms", "p99_ms", "max_ms")


def csv_lines(series: Series) -> Iterator[str]:
    """The series as CSV, latencies in milliseconds. A second in which nothing was answered has no latencies."""
    yield ",".join(CSV_COLUMNS)
    for row in series.rows:
        latencies = (row.percentile(50), row.percentile(99), row.max_ns)
        cells = [row.second, f"{row.span_ns / SECOND_NS:.3f}", row.operations, f"{row.rate:.1f}", row.errors]
        cells += ["" if value_ns is None else f"{value_ns / 1e6:.6f}" for value_ns in latencies]
        yield ",".join(map(str, cells))


def percentile(buckets: Mapping[int, int], percent: float) -> int | None:
    """Like `Histogram.percentile`, of counts by bucket. None where there are none."""
    total = sum(buckets.values())
    if not total:
        return None
    filled = sorted(buckets)
    wanted = rank(total, percent)
    reached = 0
    for bucket in filled:
        reached += buckets[bucket]
        if reached >= wanted:
            return bucket_bounds(bucket)[1]
    return bucket_bounds(filled[-1])[1]


def histogram_document(histogram: Histogram) -> dict[str, Any]:
    """A histogram in the report: mergeable, and readable by every HdrHistogram library."""
    counts = {bucket: count for bucket, count in enumerate(histogram.counts) if count}
    return {"hdr": hdr.encode(counts), "max_ns": histogram.max_ns, "records": histogram.records}


def histogram_of(document: Mapping[str, Any]) -> Histogram:
    """The reverse of `histogram_document`. ValueError when it is not one."""
    histogram = Histogram()
    for bucket, count in hdr.decode(document["hdr"]).items():
        histogram.counts[bucket] = count
    histogram.max_ns = document["max_ns"]
    histogram.records = document["records"]
    return histogram
