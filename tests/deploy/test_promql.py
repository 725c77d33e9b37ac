"""The helper that says what an expression reads."""

from __future__ import annotations

import pytest

from support.promql import Matcher, Selector, labels, metrics, selectors

CASES = {
    "up": ["up"],
    "up{} == 0": ["up"],
    'rate(a_total{x="y"}[5m])': ["a_total"],
    "sum without (x, y) (rate(a_total[5m])) / on (z) group_left (w) b": ["a_total", "b"],
    "sum by (le) (a_bucket) or sum(b) by (x)": ["a_bucket", "b"],
    "histogram_quantile(0.99, rate(a_bucket[5m]))": ["a_bucket"],
    "a:b:c5m > 1.5 * (a:b:c5m offset 1h)": ["a:b:c5m", "a:b:c5m"],
    "a and b unless c == bool 1e3": ["a", "b", "c"],
    "time() - a_seconds > 30": ["a_seconds"],
    'a{x=~"sum|{b}",y!="c"} @ end()': ["a"],
    "topk(3, a) + 5 * -b % 2 ^ 3": ["a", "b"],
    "max_over_time(a[1h:5m])": ["a"],
    "vector(0)": [],
}


@pytest.mark.parametrize("expression", CASES)
def test_the_metrics_of_an_expression(expression: str) -> None:
    assert [found.metric for found in selectors(expression)] == CASES[expression]
    assert metrics(expression) == set(CASES[expression])


def test_the_conditions_of_a_selector() -> None:
    assert selectors('a{x="1", y!="2" ,z=~\'3,"}\'} + b') == [
        Selector("a", (Matcher("x", "=", "1"), Matcher("y", "!=", "2"), Matcher("z", "=~", '3,"}'))),
        Selector("b", ()),
    ]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum by (x, le) (a{y="z"}) / ignoring (v) b', {"x", "le", "y", "v"}),
        ("sum(a) without (x)", {"x"}),
        ("a + on () group_right b", set()),
    ],
)
def test_the_labels_of_an_expression(expression: str, found: set[str]) -> None:
    assert labels(expression) == found


@pytest.mark.parametrize("expression", ["a ; b", 'a{x="1" "2"}', "a{1}"])
def test_what_is_not_understood_is_an_error(expression: str) -> None:
    with pytest.raises(AssertionError, match="not understood"):
        selectors(expression)
