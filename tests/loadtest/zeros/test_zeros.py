"""`naught-loadtest zeros`: its verdicts, its tables, its JSON, and one tiny run from end to end."""

from __future__ import annotations

import asyncio
import gc
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from naught_loadtest.__main__ import main
from naught_loadtest.commands import zeros as command
from naught_loadtest.generate.runner import RunError
from naught_loadtest.zeros import claims, page, table
from naught_loadtest.zeros.claims import CONFIRMED, NOT_APPLICABLE, REFUTED, judge
from naught_loadtest.zeros.figures import Figures, Place
from naught_loadtest.zeros.maps import TRACKED, UNTRACKED, VALUES, VARIANTS, amounts_for, open_counters, supports
from naught_loadtest.zeros.trial import BATCH, Trial, batches, live_after
from support.paths import DOCS

ROUND = {
    "operations_per_s": 2e6,
    "fill_per_s": 2e6,
    "drain_per_s": 2e6,
    "churn_per_s": 2e6,
    "empty_bytes": 30 * 2**20,
    "peak_bytes": 8 * 2**20,
    "full_bytes": 8 * 2**20,
    "kept_bytes": 2**20,
    "churn_growth_bytes": 0,
    "churn_keys": 1_000_000,
    "iterate_ms": 1.5,
    "collections": 10,
    "pause_mean_ns": 5_000.0,
    "pause_longest_ns": 9_000_000,
    "pause_part": 0.01,
    "full_collection_ns": 1e6,
}
ALLOCATED = {
    "blocks_left_per_operation": 0.5,
    "bytes_left_per_operation": 70.0,
    "bytes_at_peak_per_operation": 25.0,
}
SIZE = 1_000_000


def figures(**changes: float) -> Figures:
    """All that the verdicts rest on; a change is to the dict whose zeros are kept, or to `safe_…` of SafeMap."""
    kept = {name: value for name, value in changes.items() if not name.startswith("safe_")}
    safe = {name.removeprefix("safe_"): value for name, value in changes.items() if name.startswith("safe_")}
    made = Figures(guard={SIZE: {"eager/held": 0.99, "eager/flapping": 0.98, "deferred/held": 0.5}})
    for values in VALUES:
        made.add(Place("kept", values, SIZE), {**ROUND, **kept})
        made.add(Place("eager", values, SIZE), {**ROUND, **safe})
        made.allocations["kept", values] = {**ALLOCATED, **kept}
        made.allocations["eager", values] = {**ALLOCATED, **safe}
    return made


ALLOCATION, PAUSE_UNTRACKED, PAUSE_TRACKED, GUARD, RATE, STEADY = range(6)


@pytest.mark.parametrize(
    ("which", "changes", "outcome"),
    [
        (ALLOCATION, {}, REFUTED),
        (ALLOCATION, {"bytes_at_peak_per_operation": 1240, "safe_bytes_at_peak_per_operation": 96}, CONFIRMED),
        (ALLOCATION, {"bytes_at_peak_per_operation": 610, "safe_bytes_at_peak_per_operation": 96}, REFUTED),
        (PAUSE_UNTRACKED, {}, NOT_APPLICABLE),
        (PAUSE_UNTRACKED, {"full_collection_ns": 90e3, "safe_full_collection_ns": 10e3}, NOT_APPLICABLE),
        (PAUSE_UNTRACKED, {"full_collection_ns": 2e6}, REFUTED),
        (PAUSE_UNTRACKED, {"full_collection_ns": 5e6}, CONFIRMED),
        (PAUSE_TRACKED, {}, REFUTED),
        (PAUSE_TRACKED, {"full_collection_ns": 90e3, "safe_full_collection_ns": 10e3}, REFUTED),
        (PAUSE_TRACKED, {"full_collection_ns": 2.6e6}, REFUTED),
        (PAUSE_TRACKED, {"full_collection_ns": 2.7e6}, CONFIRMED),
        (GUARD, {}, CONFIRMED),
        (RATE, {}, CONFIRMED),
        (RATE, {"safe_operations_per_s": 795_000}, CONFIRMED),
        (RATE, {"safe_operations_per_s": 794_999}, REFUTED),
        (STEADY, {}, REFUTED),
        (STEADY, {"safe_empty_bytes": 10e6}, CONFIRMED),
        (STEADY, {"safe_empty_bytes": 10e6, "safe_churn_growth_bytes": 100e6}, REFUTED),
    ],
)
def test_verdicts(which: int, changes: dict[str, float], outcome: str) -> None:
    assert judge(figures(**changes))[which].outcome == outcome


def test_the_guard_is_judged_by_the_worst_workload_of_the_eager_policy_at_every_size() -> None:
    found = figures()
    found.guard[10] = {"eager/held": 1.0, "eager/mixed": 0.96, "deferred/held": 0.1}
    verdict = judge(found)[GUARD]
    assert verdict.outcome == REFUTED
    assert "1,000,000 keys 98.0% (flapping), 10 keys 96.0% (mixed)" in verdict.measured
    assert "not with 10 keys" in verdict.reason
    found.guard = {10: {"eager/held": 0.9}}
    assert "at every size" in judge(found)[GUARD].reason


def test_the_rate_is_judged_and_told_at_every_size() -> None:
    found = figures()
    found.add(Place("eager", UNTRACKED, 10), {**ROUND, "operations_per_s": 7e5})
    verdict = judge(found)[RATE]
    assert verdict.outcome == REFUTED
    assert verdict.measured.endswith("700,000 with 10 keys, 2,000,000 with 1,000,000 keys")


def test_what_was_not_measured_is_not_judged() -> None:
    verdicts = judge(Figures())
    assert {verdict.outcome for verdict in verdicts} == {NOT_APPLICABLE}
    assert {verdict.measured for verdict in verdicts} == {"not measured in this run"}


def test_every_claimed_number_is_told() -> None:
    told = "\n".join(verdict.claim for verdict in judge(figures()))
    for number in ("1240", "96", "3820", "712", "97%", "795,000", "12 MB"):
        assert number in told


def test_every_verdict_gives_one_sentence() -> None:
    for changes in ({}, {"full_collection_ns": 9e6}, {"safe_operations_per_s": 1}):
        for verdict in judge(figures(**changes)):
            assert verdict.reason.endswith(".")
            assert ". " not in verdict.reason


def test_what_depends_on_the_size_is_judged_at_each() -> None:
    found = figures()
    found.add(Place("kept", UNTRACKED, 10 * SIZE), {**ROUND, "full_collection_ns": 5e6})
    assert found.sizes(UNTRACKED, ("kept", "eager")) == [SIZE]
    found.add(Place("eager", UNTRACKED, 10 * SIZE), ROUND)
    assert found.sizes(UNTRACKED, ("kept", "eager")) == [SIZE, 10 * SIZE]
    assert found.sizes(TRACKED, ("kept", "memory")) == []
    verdicts = judge(found)
    pauses = [each for each in verdicts if "not tracked" in each.claim]
    assert [(each.measured.partition(" ")[0], each.outcome) for each in pauses] == [
        ("1,000,000", NOT_APPLICABLE),
        ("10,000,000", CONFIRMED),
    ]
    assert len(verdicts) == 8


PAGE = DOCS / "zeros-figures.md"


def printed() -> Any:
    """The report of the run that the page quotes."""
    return json.loads((DOCS / "zeros-figures.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("part", ["conditions", "int", "Fraction", "allocations", "guard", "claims"])
def test_the_page_has_what_the_run_printed(part: str) -> None:
    """Word for word: its tables and claims are those that the command makes of docs/zeros-figures.json."""
    _, start, rest = PAGE.read_text(encoding="utf-8").partition(f"<!-- {part} -->\n")
    text, end, _ = rest.partition(f"<!-- end of {part} -->")
    assert start
    assert end
    found, heading = page.read(printed())
    assert text.strip().splitlines() == page.parts(found, heading)[part]
    assert len(text.strip().splitlines()) > 1


def test_the_page_has_the_claims_that_were_printed() -> None:
    found, _ = page.read(printed())
    assert [asdict(verdict) for verdict in judge(found)] == printed()["claims"]
    sizes = found.sizes(UNTRACKED, ("kept", "eager"))
    assert sizes == found.sizes(TRACKED, ("kept", "eager")) == list(found.guard)
    assert len(sizes) >= 3


def test_a_page_is_written_between_its_marks(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    names = list(page.parts(figures(), ["a machine"]))
    file.write_text("".join(f"{name}:\n<!-- {name} -->\nleft over\n<!-- end of {name} -->\n" for name in names))
    page.write(str(file), figures(), ["a machine"])
    text = file.read_text()
    assert "left over" not in text
    assert "<!-- conditions -->\n\n- a machine\n\n<!-- end of conditions -->\n" in text
    assert text.count("| **refuted** |") == sum(verdict.outcome == REFUTED for verdict in judge(figures()))
    file.write_text("nothing")
    with pytest.raises(ValueError, match="no part"):
        page.write(str(file), figures(), [])


def test_tables() -> None:
    found = Figures()
    for rate in (1e6, 3e6, 2e6):
        found.add(Place("eager", UNTRACKED, SIZE), {**ROUND, "operations_per_s": rate})
    heading, *rows = table.aligned(table.work_rows(found, UNTRACKED, SIZE))
    assert heading.split() == " ".join(title for title, _, _ in table.COLUMNS).split()
    assert len(rows) == 1
    assert rows[0].startswith("SafeMap, eager")
    assert "2,000 [1,000-3,000]" in rows[0]
    assert len(rows[0]) == len(heading)


def test_one_round_has_no_spread() -> None:
    assert table.spread([2.0], str) == "2.0"
    assert table.spread([3.0, 1.0, 2.0], str) == "2.0 [1.0-3.0]"


def test_tables_of_allocations_and_guard() -> None:
    lines = table.aligned(table.allocation_rows(figures()))
    assert len(lines) == 5
    assert lines[1].split() == ["dict,", "zeros", "kept", "int", "0.500", "70.0", "25.0"]
    assert table.guard_rows({10: {"eager/held": 0.985}, 20: {"eager/held": 1.0}}) == [
        ["policy/workload", "10 keys", "20 keys"],
        ["eager/held", "98.5%", "100.0%"],
    ]


def test_claims_are_laid_out_with_verdict_and_reason() -> None:
    verdict = claims.Verdict("seven", REFUTED, "eight", "Because.")
    assert table.claim_lines([verdict])[1:] == ["  seven", "    refuted: eight", "    Because."]


def test_rounds_are_interleaved() -> None:
    assert list(command.interleaved(3, ["a", "b", "c"])) == list("abcbcacab")


def test_batches_cover_the_numbers_once() -> None:
    last = 2 * BATCH + 345
    keys = [key for batch in batches(0, last) for key in batch]
    assert len(keys) == len(set(keys)) == last
    assert {len(key) for key in keys} == {16}
    assert max(len(batch) for batch in batches(0, last)) == BATCH
    drained = {key for batch in batches(0, last, 100) for key in batch}
    assert len(set(keys) - drained) == live_after(last)


@pytest.mark.parametrize("values", VALUES)
def test_amounts_are_tracked_or_not(values: str) -> None:
    amounts = amounts_for(values, 2)
    assert amounts == [1, 1]
    assert all(gc.is_tracked(amount) == (values == TRACKED) for amount in amounts)
    assert (amounts[0] is amounts[1]) == (values == UNTRACKED)


@pytest.mark.parametrize(
    ("variant", "values"),
    [(variant, values) for variant in VARIANTS for values in VALUES if supports(variant, values)],
)
def test_every_way_of_counting_counts(variant: str, values: str) -> None:
    async def count() -> tuple[int, int]:
        counters = await open_counters(variant, values)
        try:
            await counters.up(["a", "b", "c"], amounts_for(values, 3))
            await counters.up(["a"], amounts_for(values, 1))
            before = await counters.live()
            await counters.down(["a", "b"], amounts_for(values, 2))
            return before, await counters.live()
        finally:
            await counters.close()

    assert asyncio.run(count()) == (3, 2)


def test_a_size_that_does_not_fit_is_skipped_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_nothing(task: Any) -> dict[str, Any]:
        pytest.fail(f"started {task}")

    monkeypatch.setattr(command, "available_bytes", lambda: 2**20)
    monkeypatch.setattr(command, "run_trial", run_nothing)
    assert main(["zeros", "--keys", "1e6", "--only", "work", "--json", "-"]) == 0
    said = capsys.readouterr()
    assert "skipped: it may need 0.3 GiB, and 0.0 are free" in said.err
    assert len(json.loads(said.out)["skipped"]) == 2


def test_a_trial_that_fails_says_why() -> None:
    with pytest.raises(RunError, match="abacus"):
        command.run_trial(Trial("work", "abacus", UNTRACKED, 100, 0))


@pytest.mark.parametrize("words", [["--keys", "99"], ["--keys", "many"], ["--values", "lists"]])
def test_words_that_mean_nothing_here(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["zeros", *words])


def test_no_rounds_are_wrong_usage() -> None:
    assert main(["zeros", "--rounds", "0"]) == 2


@pytest.mark.slow
def test_a_tiny_run_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "zeros.json"
    words = ["zeros", "--keys", "1000", "--rounds", "1", "--rest", "0", "--values", UNTRACKED]
    assert main([*words, "--only", "work", "--only", "allocations", "--json", str(report)]) == 0
    said = capsys.readouterr().out
    document = json.loads(report.read_text())
    assert (document["schema"], document["kind"]) == (1, "zeros")
    assert {row["variant"] for row in document["work"]} == set(VARIANTS)
    assert {row["variant"] for row in document["allocations"]} == set(VARIANTS)
    for row in document["work"]:
        assert (row["values"], row["keys"], row["rounds"]) == (UNTRACKED, 1000, 1)
        assert row["figures"][0].keys() == ROUND.keys()
        assert row["figures"][0]["operations_per_s"] > 0
    for row in document["allocations"]:
        assert row.keys() == {"variant", "values", *ALLOCATED}
    kept, deleted = document["allocations"][:2]
    assert kept["bytes_left_per_operation"] > deleted["bytes_left_per_operation"]
    assert document["skipped"] == []
    assert [claim.keys() for claim in document["claims"]] == 6 * [{"claim", "outcome", "measured", "reason"}]
    for claim in document["claims"]:
        assert claim["claim"] in said
