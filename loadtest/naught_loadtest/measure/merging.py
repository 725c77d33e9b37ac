"""Several reports of runs as one: what several hosts did to one server at the same time.

Counts and rates are added up and histograms are merged bucket by bucket. No percentile is averaged, because an
average of percentiles is a percentile of nothing. The seconds of the hosts are aligned by their clocks, to a whole
second, so clocks should be kept by NTP.

Rates may only be added up if they were reached at the same time. Runs that did not overlap for most of their time
are refused.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from naught_loadtest.measure.histogram import Histogram, merged
from naught_loadtest.measure.series import Series, histogram_document, histogram_of
from naught_loadtest.measure.slo import Objective

# Fields of the plan that must be the same; the others are added up, or those of the first report.
SAME = ("scenario", "arrival", "pipeline", "batch")
# The part of the longest run that all must have had in common.
OVERLAP_MIN = 0.9
KINDS = ("response", "service", "lateness")


@dataclass(frozen=True, slots=True)
class MergedRun:
    """What an objective is judged on."""

    response: Histogram
    throughput: float
    requests: int
    failures: int
    missed: int


def merge(documents: Sequence[Mapping[str, Any]], objectives: Iterable[Objective] = ()) -> dict[str, Any]:
    """One report of the kind `run`. ValueError says why there cannot be one."""
    first = documents[0]
    _check_alike(documents)
    begins_s = _begins_s(documents)
    _check_overlap(documents, begins_s)
    histograms = {
        name: merged(histogram_of(each["histograms"][name]) for each in documents)
        for name in KINDS
        if all(each["histograms"].get(name) is not None for each in documents)
    }
    series = Series()
    for document, begin_s in zip(documents, begins_s, strict=True):
        series.add(Series.from_json(document["series"]).rows, shift=round(begin_s - min(begins_s)))
    counts = {name: sum(each[name] for each in documents) for name in COUNTS}
    failed = added(each["failed"] for each in documents)
    throughput = sum(each["throughput_per_s"] for each in documents)
    failures = sum(failed.values()) + counts["timed_out"] + counts["not_sent"]
    run = MergedRun(histograms["response"], throughput, counts["requests"], failures, counts["missed"])
    judged = [(objective, *objective.judge(run)) for objective in objectives]
    return {
        "schema": first["schema"],
        "kind": "run",
        "plan": _plan([each["plan"] for each in documents]),
        "loop": first["loop"],
        "server": ", ".join(dict.fromkeys(each.get("server", "") for each in documents)),
        "started_at": documents[begins_s.index(min(begins_s))]["started_at"],
        "host": ", ".join(dict.fromkeys(each["host"] for each in documents)),
        "machine": list(dict.fromkeys(f"{each['host']}: {line}" for each in documents for line in each["machine"])),
        "elapsed_s": max(each["elapsed_s"] for each in documents),
        **counts,
        "throughput_per_s": round(throughput, 1),
        **{f"{name}_ns": histograms[name].summary_ns() if name in histograms else None for name in KINDS},
        "histograms": {name: histogram_document(histograms[name]) if name in histograms else None for name in KINDS},
        "series": series.to_json(),
        "failed": failed,
        **{name: added(each.get(name, {}) for each in documents) for name in ("failed_outside", "connections_lost")},
        "reconnects": sum(each.get("reconnects", 0) for each in documents),
        "cut_short": any(each.get("cut_short") for each in documents),
        "generator_share": max(each["generator_share"] for each in documents),
        "ceiling_per_s": None,
        "server_share": None,
        "evictions": None,
        "verification_before": _verification([each.get("verification_before") for each in documents]),
        "verification": _verification([each.get("verification") for each in documents]),
        "invalid": [f"{each['host']}: {reason}" for each in documents for reason in each["invalid"]],
        "objectives": [{"text": each.text, "met": met, "sentence": sentence} for each, met, sentence in judged],
        "merged": [
            {name: each[name] for name in ("host", "started_at", "elapsed_s", "throughput_per_s", "command")}
            for each in documents
        ],
    }


COUNTS = ("operations", "requests", "offered", "sent", "not_sent", "missed", "timed_out")


def _check_alike(documents: Sequence[Mapping[str, Any]]) -> None:
    first = documents[0]
    for number, document in enumerate(documents[1:], 2):
        if document["loop"] != first["loop"]:
            raise ValueError(f"report 1 is of a loop that is {first['loop']}, report {number} of one that is not")
        for field in SAME:
            mine, its = first["plan"].get(field), document["plan"].get(field)
            if mine != its:
                raise ValueError(f"the loads differ: {field} is {mine} in report 1 and {its} in report {number}")
    prefixes = [document["plan"].get("prefix") for document in documents]
    if len(set(prefixes)) < len(prefixes):
        raise ValueError("two of the reports are of the same run")


def _begins_s(documents: Sequence[Mapping[str, Any]]) -> list[float]:
    try:
        return [datetime.fromisoformat(document["started_at"]).timestamp() for document in documents]
    except ValueError as error:
        raise ValueError(f"a report does not say when it was started: {error}") from None


def _check_overlap(documents: Sequence[Mapping[str, Any]], begins_s: Sequence[float]) -> None:
    ends_s = [begin_s + document["elapsed_s"] for document, begin_s in zip(documents, begins_s, strict=True)]
    longest_s = max(document["elapsed_s"] for document in documents)
    together_s = min(ends_s) - max(begins_s)
    if together_s < OVERLAP_MIN * longest_s:
        raise ValueError(
            f"the runs had {max(together_s, 0):.1f} of {longest_s:.1f} s in common, and their rates can only be added"
            f" up when that is at least {OVERLAP_MIN:.0%}"
        )


def _plan(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The load of all together."""
    plan = dict(plans[0])
    for name in ("connections", "processes", "keys"):
        plan[name] = sum(each[name] for each in plans)
    if plan["rate"] is not None:
        plan["rate"] = sum(each["rate"] for each in plans)
    if plan.get("stages"):
        plan["stages"] = _stages([each["stages"] for each in plans])
    targets = dict.fromkeys(each["target"] for each in plans)
    plan["target"] = " and ".join(targets)
    return plan


def _stages(stages: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """The stages of all together, where they change at the same moments."""
    durations = [[duration_s for duration_s, _ in each] for each in stages]
    if any(each != durations[0] for each in durations):
        raise ValueError("the loads differ: their stages are not of the same lengths")
    rates = zip(*([rate for _, rate in each] for each in stages), strict=True)
    return [[duration_s, sum(each)] for duration_s, each in zip(durations[0], rates, strict=True)]


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by class, added up."""
    total: dict[str, int] = {}
    for each in counts:
        for kind, count in each.items():
            total[kind] = total.get(kind, 0) + count
    return total


def _verification(checks: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Passed if all passed; None if one of them was not verified."""
    known = [check for check in checks if check is not None]
    if len(known) < len(checks):
        return None
    total: dict[str, Any] = {
        name: sum(check.get(name, 0) for check in known)
        for name in ("compared", "wrong", "inconsistent", "left", "left_zeros", "unknown", "refused")
    }
    total["passed"] = all(check["passed"] for check in known)
    total["wrong_named"] = [name for check in known for name in check.get("wrong_named", [])]
    ends = [check.get("left_expected", [0, 0]) for check in known]
    total["left_expected"] = [sum(each) for each in zip(*ends, strict=True)]
    return total
