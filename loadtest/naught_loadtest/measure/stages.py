"""What a run with stages reached in each of them.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from naught_loadtest.generate.schedule import Stage
from naught_loadtest.measure.report import milliseconds
from naught_loadtest.measure.series import SECOND_NS, Row, Series


def stage_lines(stages: Sequence[Stage], series: Series) -> Iterator[str]:
    """A line of the report for each stage. A second belongs to the stage in which it begins."""
    begin_s = 0.0
    for number, (duration_s, rate) in enumerate(stages, 1):
        end_s = begin_s + duration_s
        rows = [row for row in series.rows if begin_s <= row.second < end_s]
        yield f"stage {number:<8}{duration_s:g} s at {rate:,.0f}/s: {_reached(rows)}"
        begin_s = end_s


def _reached(rows: Sequence[Row]) -> str:
    whole = Series()
    for row in rows:
        whole.add([row], shift=-row.second)
    if not whole.rows or not whole.rows[0].total:
        return "nothing was answered"
    span_s = sum(row.span_ns for row in rows) / SECOND_NS
    rate = sum(row.rate * row.span_ns / SECOND_NS for row in rows) / span_s
    both = whole.rows[0]
    errors = f", {both.errors:,} errors" if both.errors else ""
    return (
        f"{rate:,.0f}/s, p50 {milliseconds(both.percentile(50))}, p99 {milliseconds(both.percentile(99))},"
        f" max {milliseconds(both.max_ns)}{errors}"
    )
