"""The lines of a report about stages."""

from __future__ import annotations

from naught_loadtest.measure.series import SECOND_NS, Row, Series
from naught_loadtest.measure.stages import stage_lines


def test_each_stage_is_told_with_its_own_seconds() -> None:
    rates = [10, 10, 500, 0]
    rows = [
        Row(second, SECOND_NS, rate, second, float(rate), {5: rate} if rate else {})
        for second, rate in enumerate(rates)
    ]
    told = list(stage_lines([(2.0, 10.0), (1.0, 500.0), (1.0, 5.0)], Series(rows)))
    assert told[0].endswith("2 s at 10/s: 10/s, p50 0.000 ms, p99 0.000 ms, max 0.000 ms, 1 errors")
    assert "1 s at 500/s: 500/s" in told[1]
    assert "2 errors" in told[1]
    assert told[2].endswith("1 s at 5/s: nothing was answered")


def test_a_run_without_stages_has_no_such_line() -> None:
    assert list(stage_lines([], Series())) == []
