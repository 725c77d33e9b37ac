"""`naught-loadtest compare A.json B.json`: is B slower than A?

A and B are reports of `run`, or both of `versus`. Each figure of B is divided by that of A, and the ratio has a 95 %
interval from a bootstrap over the seconds of the runs, or over the rounds. Two runs should be made one after the
other on the same machine: what differs between machines and days is in no interval. Of two `versus` the ratios to the
peers are compared, which depend on the machine far less.

A figure is WORSE when it is worse by more than --max-regress and its whole interval is on the worse side. It is
"unclear" when it is worse by more than that, and the interval says that this may be chance.

Exit status: 0 nothing is worse, 1 something is, 2 the reports cannot be compared: other loads, INVALID figures, too
few seconds or rounds. --force compares them all the same.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from naught_loadtest.commands import status
from naught_loadtest.measure.bootstrap import (
    BLOCKS_MIN,
    Estimate,
    Figure,
    Sample,
    difference,
    ratio,
    ratio_of_medians,
)
from naught_loadtest.measure.histogram import SAMPLES_BEYOND_MIN
from naught_loadtest.measure.loading import load
from naught_loadtest.measure.report import milliseconds, text_stream, write_json
from naught_loadtest.measure.series import Series
from naught_loadtest.measure.verification import worst_check

PERCENTS = (50.0, 99.0, 99.9)
ROUNDS_MIN = 3
# What makes two loads the same. The target, the seed and the cores may differ: that is what is compared.
LOAD = ("scenario", "connections", "pipeline", "batch", "rate", "stages", "arrival", "processes", "keys")
# More errors than by this part of the requests are worse, if they are no chance.
ERROR_PART_MAX = 0.0001

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both reports."""

    name: str
    # In words.
    before: str
    after: str
    # B's divided by A's, or for errors how much more; None where there is none.
    estimate: Estimate | None
    # "same", "better", "unclear", "WORSE", or why there is no verdict.
    verdict: str

    def to_json(self) -> dict[str, Any]:
        estimate = self.estimate
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "ratio": _rounded(estimate.value if estimate else None),
            "low": _rounded(estimate.low if estimate else None),
            "high": _rounded(estimate.high if estimate else None),
            "verdict": self.verdict,
        }


def _rounded(value: float | None) -> float | None:
    """For JSON, which has no infinity: a run of which some draws have no requests has no upper end."""
    return round(value, 5) if value is not None and math.isfinite(value) else None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `compare`."""
    add = parser.add_argument
    add("before", metavar="A.json", help="the report to compare with")
    add("after", metavar="B.json", help="the report that is judged")
    add("--max-regress", type=part, default=0.05, metavar="5%", help="how much worse B may be (5%%)")
    add("--force", action="store_true", help="compare even INVALID reports and other loads")
    add("--seed", type=int, default=1, help="of the bootstrap (%(default)s)")
    add("--json", metavar="FILE", help="the comparison as JSON; - for standard output")


def part(text: str) -> float:
    """An argparse type: `5%`, from 0 to 1000 per cent, as a part."""
    match = _PERCENT.fullmatch(text.strip())
    if match is None or float(match[1]) > 1000:
        raise argparse.ArgumentTypeError(f"must be a percentage such as 5%, not {text!r}")
    return float(match[1]) / 100


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    before = load(arguments.before, "run", "versus")
    after = load(arguments.after, "run", "versus")
    doubts = list(_doubts(before, after))
    out = text_stream(arguments.json)
    if doubts and not arguments.force:
        raise ValueError(f"{doubts[0]}; --force compares them all the same")
    for sentence in doubts:
        print(f"note: {sentence}", file=sys.stderr)
    judge = Judge(arguments.max_regress, random.Random(arguments.seed))
    compare = compare_runs if before["kind"] == "run" else compare_versus
    comparisons = list(compare(before, after, judge))
    for line in lines(before, after, comparisons):
        print(line, file=out)
    if arguments.json:
        document = {
            "schema": 1,
            "kind": "compare",
            "before": _named(before, arguments.before),
            "after": _named(after, arguments.after),
            "max_regress": arguments.max_regress,
            "notes": doubts,
            "figures": [each.to_json() for each in comparisons],
        }
        write_json(document, arguments.json)
    return status.FAILED if any(each.verdict == "WORSE" for each in comparisons) else status.OK


def _named(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"file": name, "started_at": document.get("started_at"), "host": document.get("host")}


def _doubts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Why the two should not be compared, a sentence each."""
    if before["kind"] != after["kind"]:
        raise ValueError("a run cannot be compared with a versus")
    if before["kind"] == "run":
        yield from _doubts_of_runs(before, after)
    for name, document in (("A", before), ("B", after)):
        failures = document.get("failures") or []
        if failures:
            yield f"{name} has failures: {failures[0]}"


def _doubts_of_runs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for field in LOAD:
        mine, its = before["plan"].get(field), after["plan"].get(field)
        if mine != its:
            yield f"the loads differ: {field} is {mine} in A and {its} in B"
    for name, document in (("A", before), ("B", after)):
        if document["invalid"]:
            yield f"{name} is INVALID: {document['invalid'][0]}"
        verification = worst_check(document)
        if verification is not None and not verification["passed"]:
            yield f"{name} has counters that differ from what was acknowledged"
        if len(document["series"]) < BLOCKS_MIN:
            yield f"{name} has {len(document['series'])} seconds, and an interval needs {BLOCKS_MIN}"
    if before.get("host") != after.get("host"):
        yield f"A was measured on {before.get('host')} and B on {after.get('host')}"


class Judge:
    """Turns estimates into verdicts, and draws at random with one source."""

    def __init__(self, max_regress: float, source: random.Random) -> None:
        self._max_regress = max_regress
        self.source = source

    def ratio(self, estimate: Estimate, *, lower_is_better: bool) -> str:
        """The verdict on a ratio of B to A."""
        worse_by = estimate.value - 1 if lower_is_better else 1 / max(estimate.value, 1e-12) - 1
        surely_worse = estimate.low > 1 if lower_is_better else estimate.high < 1
        surely_better = estimate.high < 1 if lower_is_better else estimate.low > 1
        if worse_by > self._max_regress:
            return "WORSE" if surely_worse else "unclear"
        return "better" if surely_better and worse_by < -self._max_regress else "same"

    def errors(self, estimate: Estimate) -> str:
        """The verdict on how many more errors B has, as a part of the requests."""
        if estimate.value > ERROR_PART_MAX:
            return "WORSE" if estimate.low > 0 else "unclear"
        return "better" if estimate.value < -ERROR_PART_MAX and estimate.high < 0 else "same"


def compare_runs(before: Mapping[str, Any], after: Mapping[str, Any], judge: Judge) -> Iterator[Comparison]:
    """Throughput, percentiles and errors of two runs."""
    one, other = (Sample(Series.from_json(document["series"]).rows) for document in (before, after))
    rates = [f"{document['throughput_per_s']:,.0f}/s" for document in (before, after)]
    yield _compared("throughput", rates, (one, other), lambda sample: sample.rate, judge)
    for percent in PERCENTS:
        name = f"p{percent:g}"
        if min(one.requests(), other.requests()) * (100 - percent) / 100 < SAMPLES_BEYOND_MIN:
            yield Comparison(name, "-", "-", None, f"fewer than {SAMPLES_BEYOND_MIN} samples beyond")
            continue
        figures = [sample.percentile(percent)(range(sample.blocks)) for sample in (one, other)]
        words = [milliseconds(int(value_ns)) for value_ns in figures]
        yield _compared(name, words, (one, other), _percentile(percent), judge)
    estimate = difference(one, other, lambda sample: sample.error_part, judge.source)
    parts = [sample.error_part(range(sample.blocks)) for sample in (one, other)]
    yield Comparison("errors", f"{parts[0]:.3%}", f"{parts[1]:.3%}", estimate, judge.errors(estimate))


def _percentile(percent: float) -> Figure:
    return lambda sample: sample.percentile(percent)


def _compared(name: str, words: Sequence[str], samples: Sequence[Sample], figure: Figure, judge: Judge) -> Comparison:
    """The comparison of one figure; of all but the throughput less is better."""
    one, other = samples
    estimate = ratio(one, other, figure, judge.source)
    if estimate is not None:
        verdict = judge.ratio(estimate, lower_is_better=name != "throughput")
        return Comparison(name, words[0], words[1], estimate, verdict)
    values = [figure(sample)(range(sample.blocks)) for sample in samples]
    # A second run in which nothing was answered is worse than any other.
    verdict = "WORSE" if values[0] > 0 else "nothing measured"
    return Comparison(name, words[0], words[1], None, verdict)


def compare_versus(before: Mapping[str, Any], after: Mapping[str, Any], judge: Judge) -> Iterator[Comparison]:
    """naught's ratios to its peers in two comparisons."""
    ratios = [_round_ratios(document) for document in (before, after)]
    both = [key for key in ratios[0] if key in ratios[1]]
    if not both:
        raise ValueError("the two have no setting and peer in common")
    for key in both:
        mine, its = ratios[0][key], ratios[1][key]
        name = f"{key[0]}, {key[1]}"
        words = [f"{sorted(values)[len(values) // 2]:.2f}x" for values in (mine, its)]
        if min(len(mine), len(its)) < ROUNDS_MIN:
            yield Comparison(name, words[0], words[1], None, f"fewer than {ROUNDS_MIN} rounds")
            continue
        estimate = ratio_of_medians(mine, its, judge.source)
        yield Comparison(name, words[0], words[1], estimate, judge.ratio(estimate, lower_is_better=False))


def _round_ratios(document: Mapping[str, Any]) -> dict[tuple[str, str], list[float]]:
    """By (setting, peer) naught's ratio to the peer in each round, without rounds that the generator spoiled."""
    try:
        runs = {(run["setting"], run["contender"]): run for run in document["runs"]}
        ratios = {}
        for each in document["ratios"]:
            mine, its = runs[each["setting"], "naught"], runs[each["peer_setting"], each["peer"]]
            ratios[each["setting"], each["peer"]] = [
                rate / peer_rate
                for rate, peer_rate, spoiled, peer_spoiled in zip(
                    mine["throughput_per_s"],
                    its["throughput_per_s"],
                    mine["invalid"],
                    its["invalid"],
                    strict=True,
                )
                if rate and peer_rate and not spoiled and not peer_spoiled
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"a run or a ratio of a versus is wrong: {error}") from None
    return {key: values for key, values in ratios.items() if values}


def lines(before: Mapping[str, Any], after: Mapping[str, Any], comparisons: Sequence[Comparison]) -> Iterator[str]:
    """The comparison for the terminal."""
    for name, document in (("A", before), ("B", after)):
        yield f"{name}: {document.get('started_at', '')[:19]} on {document.get('host')}"
        yield f"   {document.get('command', '')}"
    yield ""
    width = max(10, *(len(each.name) for each in comparisons))
    yield f"{'':<{width}} {'A':>11} {'B':>11}   {'B/A (95 %)':<22} verdict"
    for each in comparisons:
        yield f"{each.name:<{width}} {each.before:>11} {each.after:>11}   {_interval(each):<22} {each.verdict}"


def _interval(comparison: Comparison) -> str:
    estimate = comparison.estimate
    if estimate is None:
        return "-"
    if comparison.name == "errors":
        return f"{estimate.value:+.3%}"
    return f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f})"
