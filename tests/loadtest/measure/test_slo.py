"""Objectives: their grammar, and how they are judged."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.slo import allow_errors, parse


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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p99",
        "p99<2",
        "p99>2ms",
        "99<2ms",
        "p100<1ms",
        "p0<1ms",
        "mean<1ms",
        "errors<1",
        "errors>1%",
        "errors<101%",
        "rate<5",
        "rate>-1",
        "rate>inf",
        "p99<" + "9" * 400 + "s",
        "p٩<1ms",
    ],
)
def test_what_is_no_objective(text: str) -> None:
    with pytest.raises(ValueError, match=r"objective|percentile|100 %"):
        parse(text)


@dataclass
class Run:
    """What an objective is judged on."""

    response: Histogram = field(default_factory=Histogram)
    throughput: float = 0.0
    requests: int = 0
    failures: int = 0
    missed: int = 0


def test_judgement() -> None:
    histogram = Histogram()
    for _ in range(10_000):
        histogram.record(1024)
    run = Run(histogram)
    assert parse("p99<1.025us").judge(run)[0]
    assert not parse("p99<1.024us").judge(run)[0]
    assert parse("p99<=1.024us").judge(run)[0]
    assert parse("max<=1.024us").judge(run)[0]
    assert "too few" in parse("p99.9<1s").judge(run)[1]
    assert not parse("p99.9<1s").judge(run)[0]
    assert not parse("max<1s").judge(Run())[0]


@pytest.mark.parametrize(
    ("text", "requests", "failures", "missed", "met"),
    [
        ("errors<1%", 99_001, 999, 0, True),
        ("errors<1%", 99_000, 1_000, 0, False),
        ("errors<=1%", 99_000, 1_000, 0, True),
        ("errors<=0%", 10, 0, 0, True),
        ("errors<0.1 %", 999, 1, 0, False),
        # What the generator could not send is not known to have succeeded.
        ("errors<1%", 98_000, 0, 2_000, False),
        ("errors<1%", 0, 0, 0, False),
    ],
)
def test_errors_are_a_part_of_all_that_was_asked_for(
    text: str, requests: int, failures: int, missed: int, met: bool
) -> None:
    assert parse(text).judge(Run(requests=requests, failures=failures, missed=missed))[0] == met


@pytest.mark.parametrize(
    ("text", "rate", "met"),
    [("rate>50000", 50_000.0, False), ("rate>=50000", 50_000.0, True), ("rate > 2.5/s", 3.0, True)],
)
def test_rates(text: str, rate: float, met: bool) -> None:
    reached, sentence = parse(text).judge(Run(throughput=rate))
    assert reached == met
    assert f"{rate:,.0f} operations/s" in sentence


def test_which_objectives_allow_errors() -> None:
    assert allow_errors([parse("p99<1s"), parse("errors<1%")])
    assert not allow_errors([parse("p99<1s"), parse("rate>5")])
