"""The dashboard for Grafana: its form, its variables, and that a reader can tell what each panel shows.

Its expressions are tested with those of the rules, in test_rules.py and test_live_metrics.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from support.alerting import DASHBOARD_FILE, alerts, panels

DASHBOARD: dict[str, Any] = json.loads(DASHBOARD_FILE.read_text("utf-8"))
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
ROWS = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
SHOWN = [panel for panel in panels() if panel["type"] != "row"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_GRAFANA = {"__rate_interval", "__all"}


def test_it_is_one_that_grafana_10_can_load() -> None:
    assert DASHBOARD["schemaVersion"] == 38, "that of Grafana 10.0; later ones convert it when they load it"
    (grafana,) = (each for each in DASHBOARD["__requires"] if each["type"] == "grafana")
    assert grafana["version"] == "10.0.0"
    assert DASHBOARD["id"] is None, "else Grafana would look for a dashboard of that number"
    assert DASHBOARD["uid"] == DASHBOARD["title"] == "naught"
    assert {each["id"] for each in DASHBOARD["__requires"] if each["type"] == "panel"} == {
        panel["type"] for panel in SHOWN
    }


def test_its_rows() -> None:
    assert ROWS == [
        "At a glance",
        "Traffic",
        "Latency",
        "Counters and deviation",
        "Memory and tables",
        "Sweeper",
        "Sessions and holds",
        "Process",
    ]


def test_its_variables() -> None:
    assert list(VARIABLES) == ["datasource", "instance", "cache"]
    assert (VARIABLES["datasource"]["type"], VARIABLES["datasource"]["query"]) == ("datasource", "prometheus")
    for name in ("instance", "cache"):
        assert VARIABLES[name]["multi"]
        assert VARIABLES[name]["includeAll"]
        assert VARIABLES[name]["datasource"] == SOURCE
        assert VARIABLES[name]["definition"] == VARIABLES[name]["query"]["query"]


def test_every_variable_that_is_used_exists() -> None:
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$\{?(\w+)", text))
    assert used - OF_GRAFANA == set(VARIABLES)


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies over {taken[x, y]}"
                taken[x, y] = panel["title"]
    bottom = max(y for _, y in taken) + 1
    assert len(taken) == 24 * bottom, "there is no hole"


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["datasource"] == SOURCE
    assert panel["targets"]
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        if len(panel["targets"]) > 1:
            assert target["legendFormat"], "or nobody can tell the lines apart"
    unit = (
        panel["options"]["yAxis"]["unit"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]["unit"]
    )
    assert unit in {"none", "short", "reqps", "cps", "Bps", "bytes", "s", "percentunit"}


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: panel["title"])
def test_the_unit_is_that_of_the_metric(panel: dict[str, Any]) -> None:
    unit = panel["fieldConfig"]["defaults"].get("unit", "s")
    for target in panel["targets"]:
        expression = target["expr"]
        if "_ratio" in expression or re.search(r"[a-z_}] / (naught|process)_", expression):
            assert unit == "percentunit"
        elif re.fullmatch(r"(sum\w* by \(\w+\) \()?(naught|process)_\w+_bytes\{.*", expression):
            assert unit == "bytes"
        elif "histogram_quantile" in expression:
            assert unit == "s"


def test_panels_of_what_alerts_watch_show_where_the_alert_is() -> None:
    """Thresholds of the dashboard are those of the rules."""
    limits = {
        panel["title"]: [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        for panel in SHOWN
        if panel["type"] == "timeseries"
    }
    for title, alert, value in (
        ("Error rate", "NaughtErrorRateHigh", 0.035),
        ("Lag of the event loop", "NaughtLoopLagHigh", 0.025),
        ("Deviation", "NaughtDeviationHigh", 0.15),
        ("Part of max_counters", "NaughtCountersNearBound", 0.9),
        ("Load factor", "NaughtTableLoadLow", 0.2),
        ("Sparse tables", "NaughtTablesSparse", 0.5),
        ("Memory of waits", "NaughtWaitingMemoryHigh", 0.8),
        ("File descriptors", "NaughtDescriptorsHigh", 0.85),
    ):
        assert re.search(rf"[<>] {value}\b", alerts()[alert]["expr"]), alert
        assert value in limits[title], title
