"""The histogram: three digits everywhere, exact merging, and the format HdrHistogram's tools read."""

from __future__ import annotations

import itertools
import random

import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from naught_loadtest.measure.histogram import (
    BUCKETS,
    PERCENTILES,
    ROWS,
    VALUE_NS_MAX,
    Histogram,
    bucket_bounds,
    bucket_of,
    coarse_percentile,
    merged,
)
from support.seeds import seeds


def test_every_value_lies_in_its_bucket_and_no_bucket_is_wider_than_a_thousandth() -> None:
    source = random.Random(1)
    values = [
        *range(5000),
        VALUE_NS_MAX,
        *(source.randrange(1 << source.randrange(1, 43)) for _ in range(20_000)),
    ]
    for value in values:
        low, high = bucket_bounds(bucket_of(value))
        assert low <= value <= high
        assert high - low <= low / 1000


def test_buckets_follow_one_another_without_gap() -> None:
    ends = [bucket_bounds(bucket) for bucket in range(BUCKETS)]
    assert ends[0] == (0, 0)
    assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(ends))
    assert ends[-1][1] == VALUE_NS_MAX


def test_the_range_is_at_least_an_hour_and_beyond_it_nothing_is_lost() -> None:
    assert VALUE_NS_MAX >= 3600 * 10**9
    histogram = Histogram()
    histogram.record(VALUE_NS_MAX * 5)
    assert histogram.total == 1
    assert histogram.max_ns == VALUE_NS_MAX * 5
    assert histogram.percentile(100) >= VALUE_NS_MAX


@pytest.mark.parametrize("percent", [50, 90, 95, 99, 99.9, 99.99, 100])
def test_percentiles_are_those_of_the_sorted_values_within_a_thousandth(percent: float) -> None:
    source = random.Random(2)
    values = sorted(int(source.lognormvariate(13, 2)) for _ in range(50_000))
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = values[min(len(values) - 1, max(0, round(len(values) * percent / 100) - 1))]
    assert exact <= histogram.percentile(percent) <= exact * 1.001 + 1


def test_merging_is_the_same_as_recording_all_in_one() -> None:
    source = random.Random(3)
    parts, whole = [Histogram() for _ in range(4)], Histogram()
    for number in range(10_000):
        value = source.randrange(10**9)
        parts[number % 4].record(value, number % 3)
        whole.record(value, number % 3)
    together = merged(parts)
    assert together.counts == whole.counts
    assert (together.max_ns, together.records, together.total) == (whole.max_ns, whole.records, whole.total)


def test_json_there_and_back() -> None:
    histogram = Histogram()
    for value in (0, 17, 2048, 10**6, 10**6, 10**11):
        histogram.record(value)
    again = Histogram.from_json(histogram.to_json())
    assert again.counts == histogram.counts
    assert again.max_ns == 10**11
    assert again.records == 6


def test_a_percentile_with_fewer_than_100_samples_beyond_is_shown_with_their_number() -> None:
    histogram = Histogram()
    for _ in range(9_999):
        histogram.record(1000)
    assert histogram.beyond("p95") is None
    assert histogram.beyond("p99") == 99
    assert histogram.beyond("p99.99") == 0
    assert histogram.beyond("max") is histogram.beyond("mean") is None
    assert histogram.summary_ns()["p99"] == 1000
    histogram.record(5000)
    assert histogram.beyond("p99") is None
    assert histogram.beyond("p99.99") == 1
    summary = histogram.summary_ns()
    assert list(summary) == [*ROWS, "samples"]
    assert (summary["min"], summary["max"], summary["samples"]) == (1000, 5000, 10_000)
    assert summary["mean"] == 1000
    assert summary["stddev"] == 40


def test_a_pipeline_timed_once_is_one_observation() -> None:
    histogram = Histogram()
    for _ in range(200):
        histogram.record(1000, 100)
    assert histogram.total == 20_000
    assert histogram.printable(50)
    assert not histogram.printable(90)


def test_empty() -> None:
    histogram = Histogram()
    assert histogram.percentile(99) == 0
    assert histogram.summary_ns() == {**dict.fromkeys(ROWS), "samples": 0}
    assert histogram.mean_ns() == histogram.deviation_ns() == 0
    assert list(histogram.hgrm_lines())[2].startswith("#[Mean")


def test_clear_forgets_everything() -> None:
    histogram = Histogram()
    histogram.record(5)
    counts = histogram.counts
    histogram.clear()
    assert histogram.total == histogram.max_ns == histogram.records == 0
    assert histogram.counts is counts


def test_coarse_readings_are_within_four_percent() -> None:
    source = random.Random(4)
    histogram = Histogram()
    for _ in range(20_000):
        histogram.record(int(source.lognormvariate(13, 1)))
    for percent in (50, 99):
        exact = histogram.percentile(percent)
        assert exact <= coarse_percentile(histogram.coarse(), percent) <= exact * 1.04
    assert coarse_percentile([], 50) == 0


@pytest.mark.parametrize("seed", seeds([0], [1, 2]))
def test_hdrhistogram_finds_the_same_percentiles_and_counts(seed: int) -> None:
    """The library of its inventors, in Python, is the oracle."""
    oracle = HdrHistogram(1, VALUE_NS_MAX, 3)
    source, histogram = random.Random(seed), Histogram()
    # A hundred thousand requests, so that each of the percentiles is a whole number of them: the oracle rounds.
    for count in [1] * 5_000 + [19] * 5_000:
        value = int(source.lognormvariate(13, 1.5))
        histogram.record(value, count)
        oracle.record_value(value, count)
    for percent in (*PERCENTILES, 0.001, 12.5, 99.999):
        assert histogram.percentile(percent) == min(oracle.get_value_at_percentile(percent), histogram.max_ns)
    assert histogram.total == oracle.get_total_count()
    assert histogram.min_ns == oracle.get_min_value()
    assert histogram.mean_ns() == pytest.approx(oracle.get_mean_value(), rel=1e-3)
    assert histogram.deviation_ns() == pytest.approx(oracle.get_stddev(), rel=1e-3)
    # Where the lines are is another matter: this oracle steps in smaller steps than the other libraries.
    reached = {row.value_iterated_to: row.total_count_to_this_value for row in oracle.get_recorded_iterator()}
    rows = [line.split() for line in list(histogram.hgrm_lines())[2:-3]]
    assert len(rows) > 50
    for value, percent, total, *_ in rows[:-1]:
        high_ns = bucket_bounds(bucket_of(round(float(value) * 1000)))[1]
        assert reached[high_ns] == int(total)
        assert 1e5 * float(percent) <= int(total)
    assert rows[-1][1:] == ["1.000000000000", "100000"]


def test_hgrm_is_what_hdrhistogram_prints() -> None:
    histogram = Histogram()
    for value_ms in range(1, 1001):
        histogram.record(value_ms * 1_000_000)
    lines = list(histogram.hgrm_lines())
    assert lines[0] == "       Value     Percentile TotalCount 1/(1-Percentile)"
    assert lines[1] == ""
    assert lines[2].split()[1:] == ["0.000000000000", "1", "1.00"]
    assert float(lines[2].split()[0]) == pytest.approx(1000, rel=1e-3), "microseconds"
    rows = [line.split() for line in lines[2:] if not line.startswith("#")]
    levels = [float(row[1]) for row in rows]
    assert levels == sorted(levels)
    assert [float(row[0]) for row in rows] == sorted(float(row[0]) for row in rows)
    # Five steps to each halving: 0, 10, 20, 30, 40 %, then 50, 55, 60 ...
    assert levels[:8] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6])
    assert rows[-1] == ["1000000.000", "1.000000000000", "1000"]
    assert lines[-3].startswith("#[Mean    =   500")
    assert lines[-2] == "#[Max     =  1000000.000, Total count    =         1000]"
    assert lines[-1].startswith("#[Buckets = ")
