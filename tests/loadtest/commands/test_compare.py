"""`compare`: a run that is slower is found, chance is not taken for it, and what cannot be compared is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from naught_loadtest.__main__ import main
from naught_loadtest.commands import status
from support.reports import run_report, versus_report


def compared(tmp_path: Path, before: object, after: object, *words: str) -> tuple[int, dict[str, Any]]:
    """(exit status, the comparison as JSON, empty where there was none)."""
    for name, document in (("a", before), ("b", after)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    out = tmp_path / "out.json"
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    exit_status = main(["compare", *files, "--json", str(out), *words])
    return exit_status, json.loads(out.read_text()) if out.exists() else {}


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {figure["name"]: figure["verdict"] for figure in document["figures"]}


def test_two_runs_alike_are_the_same(tmp_path: Path) -> None:
    exit_status, document = compared(tmp_path, run_report(seed=1), run_report(seed=2))
    assert exit_status == status.OK
    assert set(verdicts(document).values()) <= {"same", "fewer than 100 samples beyond"}
    for figure in document["figures"]:
        if figure["ratio"] is not None:
            assert figure["low"] <= figure["ratio"] <= figure["high"]


def test_a_slower_run_is_worse(tmp_path: Path) -> None:
    exit_status, document = compared(tmp_path, run_report(seed=1), run_report(seed=2, median_ms=0.3))
    assert exit_status == status.FAILED
    assert verdicts(document)["p50"] == "WORSE"
    p50 = next(figure for figure in document["figures"] if figure["name"] == "p50")
    assert p50["ratio"] == pytest.approx(1.5, rel=0.1)


def test_how_much_worse_is_allowed_is_an_option(tmp_path: Path) -> None:
    slower = run_report(seed=2, median_ms=0.3)
    assert compared(tmp_path, run_report(seed=1), slower, "--max-regress", "80%")[0] == status.OK


def test_a_faster_run_is_better(tmp_path: Path) -> None:
    exit_status, document = compared(tmp_path, run_report(seed=1), run_report(seed=2, median_ms=0.1, per_second=400))
    assert exit_status == status.OK
    assert (verdicts(document)["p50"], verdicts(document)["throughput"]) == ("better", "better")


def test_less_throughput_is_worse(tmp_path: Path) -> None:
    exit_status, document = compared(tmp_path, run_report(seed=1), run_report(seed=1, per_second=200))
    assert exit_status == status.FAILED
    assert verdicts(document)["throughput"] == "WORSE"


def test_one_slow_second_is_no_proof(tmp_path: Path) -> None:
    """The p99 of the whole run is a hundred times as long, but one second decides it."""
    before, after = run_report(seed=1, per_second=1100), run_report(seed=2, slow_second=4, per_second=1100)
    exit_status, document = compared(tmp_path, before, after)
    assert verdicts(document)["p99"] == "unclear"
    assert exit_status == status.OK


def test_errors_are_worse(tmp_path: Path) -> None:
    exit_status, document = compared(tmp_path, run_report(seed=1), run_report(seed=1, errors=3))
    assert exit_status == status.FAILED
    assert verdicts(document)["errors"] == "WORSE"
    assert verdicts(compared(tmp_path, run_report(errors=3), run_report())[1])["errors"] == "better"


def test_nothing_answered_is_worse(tmp_path: Path) -> None:
    exit_status, document = compared(tmp_path, run_report(), run_report(per_second=0, errors=9), "--force")
    assert exit_status == status.FAILED
    assert verdicts(document)["throughput"] == "WORSE"


def test_two_comparisons_with_peers_are_compared_by_their_ratios(tmp_path: Path) -> None:
    same, document = compared(tmp_path, versus_report(seed=1), versus_report(seed=2))
    assert same == status.OK
    assert set(verdicts(document)) == {
        "depth 1, redis",
        "depth 1, redis-lua",
        "depth 16, redis",
        "depth 16, redis-lua",
    }
    slower, document = compared(tmp_path, versus_report(seed=1), versus_report(seed=2, factor=0.8))
    assert slower == status.FAILED
    assert set(verdicts(document).values()) == {"WORSE"}


def changed(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**document, **changes}


def brief_report(**changes: Any) -> dict[str, Any]:
    """A report of few requests: what refuses a report does not look at how many there are."""
    return run_report(per_second=20, **changes)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no object": (lambda: [1, 2], "not a report"),
    "another schema": (lambda: changed(brief_report(), schema=99), "schema"),
    "another kind": (lambda: changed(brief_report(), kind="search"), "kind"),
    "no series": (lambda: {name: value for name, value in brief_report().items() if name != "series"}, "series"),
    "a wrong histogram": (
        lambda: changed(brief_report(), series=[{**brief_report()["series"][0], "histogram": "x"}] * 6),
        "wrong",
    ),
    "a wrong second": (lambda: changed(brief_report(), series=[7] * 6), "wrong"),
    "a bool": (lambda: changed(brief_report(), requests=True), "requests"),
    "another load": (lambda: brief_report(connections=7), "connections"),
    "another loop": (lambda: brief_report(rate=300.0), "rate"),
    "too short": (lambda: brief_report(seconds=4), "seconds"),
    "INVALID": (lambda: changed(brief_report(), invalid=["the generator was late"]), "INVALID"),
    "wrong counters": (lambda: changed(brief_report(), verification={"passed": False}), "differ"),
    "another host": (lambda: changed(brief_report(), host="elsewhere"), "elsewhere"),
    "a versus": (versus_report, "versus"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, word = REFUSED[name]
    for pair in ((brief_report(), make()), (make(), brief_report())):
        exit_status, _ = compared(tmp_path, *pair)
        said = capsys.readouterr().err
        assert exit_status == status.USAGE
        assert word in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{", "null", "\x00", "[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(text)
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "missing.json")]) == status.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_doubtful_can_be_forced(tmp_path: Path) -> None:
    exit_status, document = compared(tmp_path, run_report(), changed(run_report(), invalid=["late"]), "--force")
    assert exit_status == status.OK
    assert "INVALID" in document["notes"][0]


@pytest.mark.parametrize("text", ["5", "-5%", "x%", "nan%", "1e9%", "5000%", ""])
def test_what_is_no_percentage(tmp_path: Path, text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compare", "a.json", "b.json", f"--max-regress={text}"])
    assert caught.value.code == status.USAGE
