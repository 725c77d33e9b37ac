"""The time series: its seconds add up to the run, whatever became of the requests and whenever it was looked."""

from __future__ import annotations

import csv
import random

import pytest

from naught_loadtest.measure.histogram import VALUE_NS_MAX, Histogram, bucket_bounds
from naught_loadtest.measure.series import (
    CSV_COLUMNS,
    SECOND_NS,
    Recorder,
    Row,
    Series,
    csv_lines,
    histogram_document,
    histogram_of,
)
from naught_loadtest.measure.tally import Tally

SEED = 190
MS = 1_000_000
BEGIN = 5_000 * SECOND_NS


def started() -> tuple[Tally, Recorder]:
    tally = Tally(timeout_ns=SECOND_NS)
    return tally, Recorder(tally, BEGIN)


def answered(tally: Tally, *latencies_ns: int) -> None:
    for latency_ns in latencies_ns:
        tally.request_done(latency_ns, latency_ns, 1)


def added_up(series: Series) -> dict[int, int]:
    counts: dict[int, int] = {}
    for row in series.rows:
        for bucket, count in row.buckets.items():
            counts[bucket] = counts.get(bucket, 0) + count
    return counts


def test_the_seconds_of_all_workers_add_up_to_the_histogram_of_the_run() -> None:
    source = random.Random(SEED)
    series, whole = Series(), Histogram()
    operations = errors = 0
    for _ in range(3):
        tally, recorder = started()
        for second in range(1, 6):
            answered(tally, *(int(source.lognormvariate(13, 3)) for _ in range(source.randrange(400))))
            tally.fail("full", source.randrange(3))
            # Never quite in time.
            recorder.look(BEGIN + second * SECOND_NS + source.randrange(400 * MS))
        answered(tally, 7 * MS)
        recorder.close(BEGIN + 6 * SECOND_NS)
        answered(tally, 3 * SECOND_NS, VALUE_NS_MAX * 2)
        tally.fail("no_answer")
        recorder.look(BEGIN + 7 * SECOND_NS)
        recorder.settle(latencies=True)
        series.add_worker(recorder.to_json())
        whole.merge(tally.response)
        operations += tally.operations
        errors += tally.errors
    assert added_up(series) == {bucket: count for bucket, count in enumerate(whole.counts) if count}
    assert [row.second for row in series.rows] == [0, 1, 2, 3, 4, 5]
    # What was answered after the end is no operation of the measured time, but an error then is one.
    assert sum(row.operations for row in series.rows) <= operations
    assert sum(row.errors for row in series.rows) == errors


def test_a_request_stands_in_the_second_in_which_it_was_answered() -> None:
    tally, recorder = started()
    answered(tally, MS, MS)
    recorder.look(BEGIN + SECOND_NS)
    recorder.look(BEGIN + 2 * SECOND_NS)
    answered(tally, 900 * MS)
    recorder.close(BEGIN + 3 * SECOND_NS)
    rows = list(recorder.rows())
    assert [(row.second, row.operations, row.total) for row in rows] == [(0, 2, 2), (1, 0, 0), (2, 1, 1)]
    assert rows[1].percentile(50) is None
    assert rows[1].max_ns is None
    assert rows[2].percentile(99) == rows[2].max_ns == pytest.approx(900 * MS, rel=0.001)


def test_a_rate_is_divided_by_the_true_span() -> None:
    tally, recorder = started()
    answered(tally, *[MS] * 500)
    # The worker was stopped for a second, and is late for two of them.
    recorder.look(BEGIN + 2_250 * MS)
    recorder.look(BEGIN + 2_250 * MS + 1)
    answered(tally, *[MS] * 150)
    recorder.close(BEGIN + 3_000 * MS)
    assert [(row.second, round(row.rate)) for row in recorder.rows()] == [(0, 222), (2, 200)]


def test_the_end_with_a_whole_second_makes_no_row_of_a_moment() -> None:
    tally, recorder = started()
    answered(tally, MS)
    recorder.look(BEGIN + SECOND_NS)
    answered(tally, MS)
    recorder.close(BEGIN + SECOND_NS + 20_000)
    assert [(row.second, row.operations) for row in recorder.rows()] == [(0, 2)]


def test_a_closed_loop_counts_nothing_after_its_end_but_errors() -> None:
    tally, recorder = started()
    recorder.close(BEGIN + SECOND_NS)
    tally.block_done(MS, 1, 1)
    tally.fail("no_answer")
    recorder.settle(latencies=False)
    (row,) = recorder.rows()
    assert (row.total, row.errors) == (0, 1)


def test_rows_survive_the_report() -> None:
    tally, recorder = started()
    answered(tally, MS, 2 * MS, 40 * MS)
    recorder.close(BEGIN + SECOND_NS)
    series = Series(list(recorder.rows()))
    document = series.to_json()
    assert document[0]["p50_ns"] == bucket_bounds(sorted(series.rows[0].buckets)[1])[1]
    assert Series.from_json(document).to_json() == document


def test_a_host_that_began_later_is_shifted() -> None:
    series = Series([Row(second, SECOND_NS, 10, 0, 10.0, {5: 10}) for second in range(3)])
    series.add([Row(second, SECOND_NS, 4, 1, 4.0, {6: 4}) for second in range(3)], shift=2)
    assert [(row.second, row.operations, row.rate, row.errors) for row in series.rows] == [
        (0, 10, 10.0, 0),
        (1, 10, 10.0, 0),
        (2, 14, 14.0, 1),
        (3, 4, 4.0, 1),
        (4, 4, 4.0, 1),
    ]


def test_the_csv_has_a_line_for_each_second_and_nothing_where_nothing_was_answered() -> None:
    tally, recorder = started()
    answered(tally, MS)
    recorder.look(BEGIN + SECOND_NS)
    recorder.close(BEGIN + 2 * SECOND_NS)
    header, *rows = csv.reader(csv_lines(Series(list(recorder.rows()))))
    assert tuple(header) == CSV_COLUMNS
    assert [row[:5] for row in rows] == [["0", "1.000", "1", "1.0", "0"], ["1", "1.000", "0", "0.0", "0"]]
    assert float(rows[0][5]) == pytest.approx(1, rel=0.001)
    assert rows[1][5:] == ["", "", ""]


def test_a_histogram_survives_the_report() -> None:
    histogram = Histogram()
    histogram.record(3 * MS, 5)
    again = histogram_of(histogram_document(histogram))
    assert (again.counts, again.max_ns, again.records) == (histogram.counts, histogram.max_ns, histogram.records)


def test_a_long_run_has_rows_of_several_seconds() -> None:
    tally = Tally(timeout_ns=SECOND_NS)
    recorder = Recorder(tally, BEGIN, duration_s=1500)
    for second in range(1, 8):
        answered(tally, MS)
        recorder.look(BEGIN + second * SECOND_NS)
    recorder.close(BEGIN + 8 * SECOND_NS)
    assert [(row.second, row.operations) for row in recorder.rows()] == [(0, 3), (3, 3), (6, 1)]
    assert round(next(recorder.rows()).rate) == 1
