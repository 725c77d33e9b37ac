"""`merge`: what several hosts did at the same time adds up, and no percentile is averaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from naught_loadtest.__main__ import main
from naught_loadtest.commands import status
from naught_loadtest.measure.series import Series, histogram_of
from support.reports import run_report


def of_host(name: str, **changes: Any) -> dict[str, Any]:
    return {**run_report(prefix=f"{name}:", **changes), "host": name}


def merged(tmp_path: Path, documents: list[dict[str, Any]], *words: str) -> tuple[int, dict[str, Any]]:
    """(exit status, the merged report, empty where there is none)."""
    names = []
    for number, document in enumerate(documents):
        names.append(str(tmp_path / f"{number}.json"))
        Path(names[-1]).write_text(json.dumps(document))
    out = tmp_path / "merged.json"
    exit_status = main(["merge", *names, "--json", str(out), *words])
    return exit_status, json.loads(out.read_text()) if out.exists() else {}


def test_counts_add_up_and_percentiles_come_from_all_samples(tmp_path: Path) -> None:
    fast, slow = of_host("one", seed=1, median_ms=0.1, rate=300.0), of_host("two", seed=2, median_ms=5, rate=300.0)
    exit_status, document = merged(tmp_path, [fast, slow])
    assert exit_status == status.OK
    assert document["throughput_per_s"] == 600
    assert document["requests"] == document["offered"] == 6_000
    whole = histogram_of(document["histograms"]["response"])
    assert whole.total == 6_000
    assert whole.records == 6_000
    # The average of both medians is 2.5 ms. Half of all requests were faster than the fastest of the slow ones.
    assert document["response_ns"]["p50"] == whole.percentile(50) < 1e6
    assert document["plan"]["connections"] == 100
    assert document["plan"]["rate"] == 600
    assert [each["host"] for each in document["merged"]] == ["one", "two"]
    assert sum(row.total for row in Series.from_json(document["series"]).rows) == 6_000


def test_the_seconds_are_aligned_by_the_clocks(tmp_path: Path) -> None:
    later = {**of_host("two"), "started_at": "2026-01-02T03:04:06.100+00:00"}
    _, document = merged(tmp_path, [of_host("one"), later])
    rows = Series.from_json(document["series"]).rows
    assert [row.operations for row in rows] == [300, *[600] * 9, 300]
    assert document["started_at"].startswith("2026-01-02T03:04:05")


def test_a_merged_report_is_a_report(tmp_path: Path) -> None:
    _, document = merged(tmp_path, [of_host("one"), of_host("two")], "--html", str(tmp_path / "a.html"))
    again, _ = merged(tmp_path, [{**document, "plan": {**document["plan"], "prefix": "other:"}}, of_host("three")])
    assert again == status.OK
    assert "Merged from" in (tmp_path / "a.html").read_text()
    assert main(["compare", str(tmp_path / "merged.json"), str(tmp_path / "merged.json")]) == status.OK


def test_objectives_are_judged_on_all_together(tmp_path: Path) -> None:
    hosts = [of_host("one", per_second=1100), of_host("two", per_second=1100, median_ms=5)]
    assert merged(tmp_path, hosts, "--slo", "p99<1s", "--slo", "rate>2000")[0] == status.OK
    exit_status, document = merged(tmp_path, hosts, "--slo", "p99<1ms", "--slo", "errors<1%")
    assert exit_status == status.OBJECTIVE_MISSED
    assert [each["met"] for each in document["objectives"]] == [False, True]


def test_what_is_wrong_on_one_host_is_wrong(tmp_path: Path) -> None:
    wrong = of_host("two")
    wrong["verification"] = {**wrong["verification"], "passed": False, "wrong": 3}
    exit_status, document = merged(tmp_path, [of_host("one"), wrong])
    assert exit_status == status.FAILED
    assert (document["verification"]["passed"], document["verification"]["wrong"]) == (False, 3)
    spoiled = {**of_host("two"), "invalid": ["it was late"]}
    exit_status, document = merged(tmp_path, [of_host("one"), spoiled])
    assert exit_status == status.INVALID
    assert document["invalid"] == ["two: it was late"]
    unverified = {**of_host("two"), "verification": None}
    assert merged(tmp_path, [of_host("one"), unverified])[1]["verification"] is None
    assert merged(tmp_path, [of_host("one"), of_host("two", errors=1)])[0] == status.FAILED


REFUSED = {
    "not at the same time": (lambda: {**of_host("two"), "started_at": "2026-01-02T03:04:09.000+00:00"}, "in common"),
    "another loop": (lambda: of_host("two", rate=300.0), "loop"),
    "another scenario": (lambda: of_host("two", scenario="hotkey"), "scenario"),
    "another pipeline": (lambda: of_host("two", pipeline=3), "pipeline"),
    "the same run": (lambda: of_host("one"), "same run"),
    "no time": (lambda: {**of_host("two"), "started_at": "yesterday"}, "when"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_added_up_is_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, word = REFUSED[name]
    exit_status, _ = merged(tmp_path, [of_host("one"), make()])
    said = capsys.readouterr().err
    assert exit_status == status.USAGE
    assert word in said
    assert said.count("\n") == 1


def test_one_report_is_too_few(tmp_path: Path) -> None:
    assert merged(tmp_path, [of_host("one")])[0] == status.USAGE
