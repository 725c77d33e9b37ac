"""The rules for Prometheus: valid, and every alert is complete, has a runbook, and is seen to fire and not to."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from naught.errors import CommandError
from support.alerting import (
    DASHBOARD_FILE,
    PROMETHEUS_FILE,
    RULES_FILE,
    RULES_TEST_FILE,
    alerts,
    all_rules,
    dashboard_expressions,
    parsed,
    recorded,
    rules,
    seconds,
)
from support.paths import DOCS
from support.programs import need
from support.promql import metrics, selectors

SEVERITIES = {"critical", "warning", "info"}
OF_PROMETHEUS = {"up", "ALERTS"}
"""Series that Prometheus makes itself."""
RUNBOOK = (DOCS / "runbook.md").read_text("utf-8")
GUIDE = (DOCS / "guide" / "watching.md").read_text("utf-8")
PARTS_UNSEEN = ("sum", "count")
"""Of a histogram of which the dashboard shows percentiles."""
PARTS = ("**Means.**", "**Look.**", "**Do.**", "**Over when**")


def promtool(*arguments: str, folder: Path | None = None) -> str:
    """The output of promtool, which must not complain."""
    need("promtool")
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=folder
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def sections() -> dict[str, str]:
    """The sections of the runbook by their anchor."""
    pieces = re.split(r"^## (.*)$", RUNBOOK, flags=re.MULTILINE)[1:]
    return {name.lower(): text for name, text in zip(pieces[::2], pieces[1::2], strict=True)}


def table_of(heading: str) -> list[list[str]]:
    """The rows of the tables under a heading of the guide."""
    _, _, text = GUIDE.partition(f"\n## {heading}\n")
    assert text, f"the guide has no heading {heading!r}"
    section = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    return [row for row in rows if row[0].startswith("`")]


# ------------------------------------------------------------------------------------------- by the tools


@pytest.mark.peer
def test_the_rules_are_valid() -> None:
    assert f"{len(all_rules())} rules found" in promtool("check", "rules", str(RULES_FILE))


@pytest.mark.peer
@pytest.mark.slow
def test_the_rules_do_what_their_test_says() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULES_TEST_FILE.name, folder=RULES_TEST_FILE.parent)


@pytest.mark.peer
def test_the_example_of_a_configuration_is_valid() -> None:
    assert "1 rule files found" in promtool("check", "config", str(PROMETHEUS_FILE))


@pytest.mark.peer
def test_a_wrong_rule_is_found(tmp_path: Path) -> None:
    need("promtool")
    file = tmp_path / "wrong.yml"
    for old, new in (("cache_deviation_ratio > 0.15", "cache_deviation_ratio >> 0.15"), ("for: 5m", "for: soon")):
        text = RULES_FILE.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new))
        done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, check=False, timeout=60)
        assert done.returncode != 0


@pytest.mark.peer
def test_every_expression_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    expressions = dashboard_expressions()
    as_rules = [{"record": f"dashboard:{number}", "expr": each} for number, each in enumerate(expressions)]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": DASHBOARD_FILE.name, "rules": as_rules}]}))
    assert f"{len(expressions)} rules found" in promtool("check", "rules", str(file))


# ------------------------------------------------------------------------------------------- what an alert has


@pytest.mark.parametrize("name", alerts())
def test_an_alert_is_complete(name: str) -> None:
    alert = alerts()[name]
    assert re.fullmatch(r"Naught([A-Z][a-z]+)+", name)
    assert set(alert["labels"]) == {"severity"}
    assert alert["labels"]["severity"] in SEVERITIES
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["description"].endswith(".")
    assert not annotations["summary"].endswith(".")
    assert len(annotations["summary"]) < len(annotations["description"])
    if not alert["expr"].startswith("absent("):
        assert "{{ $labels.instance }}" in annotations["summary"], "which server it is"
        assert "{{ $labels.instance }}" in annotations["description"]


@pytest.mark.parametrize("name", alerts())
def test_an_alert_leads_to_its_section_of_the_runbook(name: str) -> None:
    url = alerts()[name]["annotations"]["runbook_url"]
    page, _, anchor = url.partition("#")
    assert page == "docs/runbook.md"
    assert anchor == name.lower()
    section = sections()[anchor]
    assert [part for part in PARTS if section.count(part) != 1] == []
    assert [section.index(part) for part in PARTS] == sorted(section.index(part) for part in PARTS)
    look = section[section.index("**Look.**") : section.index("**Do.**")]
    assert "```sh" in look, "how to look is said in commands"


def test_the_runbook_has_no_other_sections() -> None:
    assert sorted(sections()) == sorted(name.lower() for name in alerts())


def test_links_within_the_runbook_lead_somewhere() -> None:
    linked = set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK))
    assert linked
    assert linked <= set(sections())


def test_the_guide_lists_the_alerts() -> None:
    listed = {row[0].strip("`"): row[1] for row in table_of("The alerts")}
    assert listed == {name: alert["labels"]["severity"] for name, alert in alerts().items()}


# ------------------------------------------------------------------------------------------- what an alert reads


def read_by(expression: str) -> set[str]:
    """The metrics that an expression reads, itself or through a recording rule."""
    found: set[str] = set()
    for name in metrics(expression):
        found |= read_by(recorded()[name]) if name in recorded() else {name}
    return found


def documented() -> set[str]:
    """The names of series that the guide's tables of metrics promise."""
    names = set()
    for metric, kind, *_ in table_of("The metrics"):
        name = metric.strip("`")
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


EXPRESSIONS = {
    **{f"rule {number}": rule["expr"] for number, rule in enumerate(all_rules())},
    **{f"panel {number}": each for number, each in enumerate(dashboard_expressions())},
}


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_an_expression_reads_only_metrics_that_the_guide_explains(where: str) -> None:
    assert read_by(EXPRESSIONS[where]) - OF_PROMETHEUS - documented() == set()


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_a_condition_on_an_outcome_names_an_outcome(where: str) -> None:
    outcomes = {"ok", *CommandError._class_of_code}
    for selector in selectors(EXPRESSIONS[where]):
        for matcher in selector.matchers:
            if matcher.label == "outcome":
                assert matcher.value in outcomes


def test_every_metric_but_a_few_is_on_the_dashboard() -> None:
    """What nobody can see need not be measured."""
    shown = set().union(*map(read_by, dashboard_expressions()))
    histograms = ("naught_turn_duration_seconds", "naught_loop_lag_seconds")
    parts = {f"{name}_{part}" for name in histograms for part in PARTS_UNSEEN}
    assert documented() - shown - parts == {"naught_ready", "process_virtual_memory_bytes"}


def test_every_recording_rule_is_used() -> None:
    used = set().union(*map(metrics, [*(rule["expr"] for rule in all_rules()), *dashboard_expressions()]))
    assert set(recorded()) - used == set()


# ------------------------------------------------------------------------------------------- the test of the rules


@cache
def rule_tests() -> list[dict[str, Any]]:
    """What `promtool test rules` is given."""
    found: list[dict[str, Any]] = parsed(RULES_TEST_FILE)["tests"]
    return found


def cases(name: str, what: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The tests of an alert whose names begin so, each with what it expects of the alert at which time."""
    return [
        (test, [case for case in test["alert_rule_test"] if case["alertname"] == name])
        for test in rule_tests()
        if test["name"].startswith(f"{name} {what}")
    ]


@pytest.mark.parametrize("name", alerts())
def test_an_alert_is_seen_to_fire_after_its_time(name: str) -> None:
    found = cases(name, "fires")
    assert found
    for _, expected in found:
        firing = [seconds(case["eval_time"]) for case in expected if case["exp_alerts"]]
        silent = [seconds(case["eval_time"]) for case in expected if not case["exp_alerts"]]
        assert firing
        if "for" in alerts()[name]:
            assert silent, "it is not seen to wait"
            assert max(silent) < min(firing)


@pytest.mark.parametrize("name", alerts())
def test_an_alert_is_seen_to_be_silent_though_its_metrics_are_there(name: str) -> None:
    found = cases(name, "is silent")
    assert found
    for test, expected in found:
        assert expected
        assert not [case for case in expected if case["exp_alerts"]]
        given = set().union(*(metrics(each["series"]) for each in test["input_series"]))
        assert given >= read_by(alerts()[name]["expr"]), "an alert without its metrics proves nothing by its silence"


def loosened(rule: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Copies of an alert that fire too easily: without its time, or with one condition that always holds."""
    if "for" in rule:
        yield {key: value for key, value in rule.items() if key != "for"}
    for found in re.finditer(r"(>|<|==) [\d.]+", rule["expr"]):
        always = {">": "> -1", "<": "< 1e18", "==": ">= 0"}[found[1]]
        yield {**rule, "expr": rule["expr"][: found.start()] + always + rule["expr"][found.end() :]}


LOOSENED = {
    f"{name} {number}": changed for name, alert in alerts().items() for number, changed in enumerate(loosened(alert))
}


@pytest.mark.peer
@pytest.mark.slow
def test_the_cases_notice_an_alert_that_fires_too_easily(tmp_path: Path) -> None:
    """Of all of them promtool is asked at once: it says of each file which of its cases failed."""
    need("promtool")
    whole = parsed(RULES_TEST_FILE)
    for number, loose in enumerate(LOOSENED.values()):
        groups = [
            {**group, "rules": [loose if rule.get("alert") == loose["alert"] else rule for rule in group["rules"]]}
            for group in rules()["groups"]
        ]
        own = [test for test in whole["tests"] if test["name"].split()[0] == loose["alert"]]
        assert own
        # JSON is YAML, and sooner written.
        (tmp_path / f"{number}.rules.yml").write_text(json.dumps({"groups": groups}))
        test = {**whole, "rule_files": [f"{number}.rules.yml"], "tests": own}
        (tmp_path / f"{number}.test.yml").write_text(json.dumps(test))
    files = [f"{number}.test.yml" for number in range(len(LOOSENED))]
    done = subprocess.run(
        ["promtool", "test", "rules", *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # where it says what failed, behind the name of the file
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    _, *said = re.split(r"(\d+\.test\.yml)\n", done.stdout)
    found = dict(zip(said[::2], said[1::2], strict=True))
    assert list(found) == files, done.stdout
    unnoticed = [
        which
        for file, (which, loose) in zip(files, LOOSENED.items(), strict=True)
        if "FAILED" not in found[file] or f"alertname: {loose['alert']}" not in found[file]
    ]
    assert unnoticed == []


def test_every_case_is_of_the_alert_that_its_test_is_named_after() -> None:
    for test in rule_tests():
        for case in test.get("alert_rule_test", ()):
            assert case["alertname"] == test["name"].split()[0]
            assert case["alertname"] in alerts()
