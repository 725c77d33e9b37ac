"""What rules, dashboard and guide name, held to the page `/metrics` of a real server that has been used."""

from __future__ import annotations

import re
import subprocess

import pytest

from support.alerting import all_rules, dashboard_expressions, recorded
from support.metrics_page import families, page_under_load, samples, series_names
from support.paths import DOCS
from support.programs import need
from support.promql import selectors

OF_PROMETHEUS = {"up", "ALERTS"}
"""Series that Prometheus makes itself."""
OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus adds."""
EXPRESSIONS = sorted({*(rule["expr"] for rule in all_rules()), *dashboard_expressions()})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_under_load(tmp_path_factory.mktemp("server"))


def test_every_metric_that_is_read_exists(page: str) -> None:
    names = series_names(page) | set(recorded()) | OF_PROMETHEUS
    missing = {
        selector.metric: expression
        for expression in EXPRESSIONS
        for selector in selectors(expression)
        if selector.metric not in names
    }
    assert missing == {}


def test_every_label_in_a_condition_is_one_of_the_metric(page: str) -> None:
    of_metric: dict[str, set[str]] = {}
    for sample in samples(page):
        of_metric.setdefault(sample.name, set()).update(sample.labels)
    wrong = {
        f"{selector.metric} has no label {matcher.label}"
        for expression in EXPRESSIONS
        for selector in selectors(expression)
        for matcher in selector.matchers
        if selector.metric in of_metric and matcher.label not in of_metric[selector.metric] | OF_TARGETS
    }
    assert wrong == set()


def test_every_bound_of_a_histogram_that_is_named_exists(page: str) -> None:
    bounds = {(sample.name, sample.labels["le"]) for sample in samples(page) if "le" in sample.labels}
    named = {
        (selector.metric, matcher.value)
        for expression in EXPRESSIONS
        for selector in selectors(expression)
        for matcher in selector.matchers
        if matcher.label == "le"
    }
    assert named
    assert named <= bounds


def test_the_outcomes_that_alerts_look_for_are_counted(page: str) -> None:
    outcomes = {sample.labels["outcome"] for sample in samples(page) if sample.name == "naught_commands_total"}
    assert outcomes >= {"ok", "full", "underflow", "unknown_method"}


def test_the_guide_explains_the_page(page: str) -> None:
    """Each metric with its type, and none that is not there."""
    text = (DOCS / "guide" / "watching.md").read_text("utf-8")
    explained = dict(re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|", text, re.MULTILINE))
    assert explained == families(page)


def test_promtool_finds_nothing_wrong_with_the_page(page: str) -> None:
    """But for the article's own name of the valid entries, which ends as the count of a histogram does."""
    need("promtool")
    command = ["promtool", "check", "metrics"]
    found = subprocess.run(command, input=page, capture_output=True, text=True, timeout=60, check=False)
    complaints = (found.stdout + found.stderr).splitlines()
    assert [line for line in complaints if not line.startswith("cache_valid_entry_count ")] == []
