"""Objectives: their grammar, and how they are judged."""

from __future__ import annotations

import pytest

from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.slo import parse


@pytest.mark.parametrize(
    ("text", "percent", "limit_ns", "strict"),
    [
        ("p99<2ms", 99, 2e6, True),
        ("p99.9 <= 500us", 99.9, 5e5, False),
        ("p50<1.5µs", 50, 1500, True),
        ("max<1s", None, 1e9, True),
    ],
)
def test_grammar(text: str, percent: float | None, limit_ns: float, strict: bool) -> None:
    objective = parse(text)
    assert (objective.percent, objective.limit_ns, objective.strict) == (percent, limit_ns, strict)


@pytest.mark.parametrize("text", ["", "p99", "p99<2", "p99>2ms", "99<2ms", "p100<1ms", "p0<1ms", "mean<1ms"])
def test_what_is_no_objective(text: str) -> None:
    with pytest.raises(ValueError, match=r"objective|percentile"):
        parse(text)


def test_judgement() -> None:
    histogram = Histogram()
    for _ in range(10_000):
        histogram.record(1024)
    assert parse("p99<1.025us").judge(histogram)[0]
    assert not parse("p99<1.024us").judge(histogram)[0]
    assert parse("p99<=1.024us").judge(histogram)[0]
    assert parse("max<=1.024us").judge(histogram)[0]
    assert "too few" in parse("p99.9<1s").judge(histogram)[1]
    assert not parse("p99.9<1s").judge(histogram)[0]
    assert not parse("max<1s").judge(Histogram())[0]
