"""The page of a run.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from naught_loadtest.measure.histogram import SAMPLES_BEYOND_MIN, Histogram
from naught_loadtest.measure.series import SECOND_NS, Row, Series, histogram_of
from naught_loadtest.measure.slo import parse
from naught_loadtest.measure.verification import other_failures, worst_check
from naught_loadtest.page import sections
from naught_loadtest.page.markup import Markup, joined, tag
from naught_loadtest.page.pictures import (
    Limit,
    by_percentile,
    heat_map,
    latency_over_time,
    rate_over_time,
    together,
)
from naught_loadtest.page.scales import clock_label, count_label, duration_label, whole_label


def render(document: Mapping[str, Any]) -> str:
    """The page of a report of the kind `run`."""
    plan = document["plan"]
    rows = Series.from_json(document["series"]).rows
    latency_limits = list(_latency_limits(document["objectives"]))
    histograms = {name: histogram_of(each) for name, each in document["histograms"].items() if each is not None}
    return sections.page(
        f"{plan['scenario']} on {plan['target']}",
        described(document),
        document,
        sections.verdicts(run_verdicts(document)),
        sections.figures(_figures(document)),
        together(
            by_percentile(
                "Latency by percentile",
                _lines(histograms),
                latency_limits,
                _latency_note(document),
            ),
            rate_over_time(rows, due_rates(plan), list(_rate_limits(document["objectives"]))),
            latency_over_time(rows, latency_limits),
            heat_map(rows),
        ),
        sections.folded("The seconds as a table", _seconds(rows)) if rows else None,
        sections.origin(document, [("server", document.get("server", "")), ("load", described(document))]),
        _hosts(document),
    )


def described(document: Mapping[str, Any]) -> str:
    """The load in words."""
    plan = document["plan"]
    if document["loop"] == "open":
        stages = plan.get("stages") or []
        rates = ", ".join(f"{seconds:g} s at {count_label(rate)}/s" for seconds, rate in stages)
        how = f"open loop, {rates or count_label(plan['rate']) + ' requests/s due'}, {plan['arrival']} arrivals"
    else:
        how = f"closed loop, pipeline {plan['pipeline']}"
    batch = f", {plan['batch']:,} counters per request" if plan["batch"] > 1 else ""
    many = "es" if plan["processes"] > 1 else ""
    return (
        f"{how}{batch}, {plan['connections']:,} connections, {document['elapsed_s']:.1f} s measured after"
        f" {plan['warmup_s']:g} s of warm-up, {plan['processes']} process{many}, seed {plan['seed']}"
    )


def run_verdicts(document: Mapping[str, Any]) -> Iterator[sections.Verdict]:
    """Whether the figures can be believed, whether the answers were right, and whether the objectives were met."""
    for reason in document["invalid"]:
        yield "slow", "INVALID", f"{reason}. These figures must not be quoted."
    check = worst_check(document)
    if document.get("cut_short"):
        yield "slow", "Cut short", "The run was interrupted. The figures are about the time until then."
    if check is None:
        why = document.get("not_verified") or "that was not asked for"
        yield "slow", "Unverified", f"The counters were not compared with what was acknowledged: {why}."
    elif check["passed"]:
        yield "good", "Verified", f"{check['compared']:,} counters compared, all equal to what was acknowledged."
    else:
        wrong = f"{check['wrong']:,} of {check['compared']:,} counters differ from what was acknowledged."
        yield "bad", "WRONG", " ".join([wrong, *check.get("wrong_named", [])])
    yield _failures(document)
    for each in document["objectives"]:
        yield ("good" if each["met"] else "bad"), ("Met" if each["met"] else "MISSED"), each["sentence"]


def _failures(document: Mapping[str, Any]) -> sections.Verdict:
    counts = {**document["failed"], "timed out": document["timed_out"], "not sent": document["not_sent"]}
    counts.update(other_failures(document))
    told = [f"{count:,} {kind}" for kind, count in counts.items() if count]
    if document["missed"]:
        told.append(f"{document['missed']:,} that the generator was too slow to send")
    told += [f"{count:,} {kind} outside of the measured time" for kind, count in _outside(document).items()]
    lost = sum(document.get("connections_lost", {}).values())
    if lost:
        told.append(f"those of {lost:,} lost connections among them")
    if told:
        return "bad", "Errors", f"Requests that did not succeed: {', '.join(told)}."
    if not document["requests"]:
        return "bad", "Nothing", "No request was answered."
    return "good", "No errors", f"All {document['requests']:,} requests succeeded in time."


def _figures(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield "throughput", f"{whole_label(document['throughput_per_s'])}/s", "operations that succeeded"
    names = ("p50", "p99", "p99.9", "max")
    for name in names:
        value_ns = document["response_ns"].get(name)
        yield name, duration_label(value_ns) if value_ns is not None else "–", _certainty(document, name)
    share = document["server_share"]
    if share is not None and document["throughput_per_s"]:
        each_us = share / document["throughput_per_s"] * 1e6
        yield "server CPU", f"{each_us:.2f} µs", f"an operation; {share:.0%} of a core"
    yield "generator", f"{document['generator_share']:.0%}", "of a core, the busiest process"


def _outside(document: Mapping[str, Any]) -> Mapping[str, int]:
    counts: Mapping[str, int] = document.get("failed_outside", {})
    return counts


def _certainty(document: Mapping[str, Any], name: str) -> str:
    """How many samples lie beyond a percentile, where they are few."""
    samples = document["histograms"]["response"]["records"]
    if not samples:
        return "nothing was answered"
    if name == "max":
        return ""
    beyond = int(samples * (100 - float(name[1:])) / 100)
    return f"uncertain: {beyond:,} samples beyond" if beyond < SAMPLES_BEYOND_MIN else ""


def _lines(histograms: Mapping[str, Histogram]) -> list[tuple[str, str, Histogram]]:
    if "service" not in histograms:
        return [("s1", "latency", histograms["response"])]
    colours = {"response": "s1", "service": "s2", "lateness": "s6"}
    names = {"response": "response", "service": "service", "lateness": "the generator's lateness"}
    return [(colours[name], names[name], histograms[name]) for name in colours if name in histograms]


def _latency_note(document: Mapping[str, Any]) -> str:
    if document["loop"] == "open":
        return "Response: from when a request was due. Service: from when it was written."
    pipeline = document["plan"]["pipeline"]
    pipelined = f" Of a whole pipeline of {pipeline}, from its write to its last reply." if pipeline > 1 else ""
    return f"A closed loop measures capacity: a slow server gets fewer requests.{pipelined}"


def _latency_limits(objectives: Sequence[Mapping[str, Any]]) -> Iterator[Limit]:
    for each in objectives:
        objective = parse(each["text"])
        if objective.limit_ns is not None:
            yield Limit(each["text"], objective.limit_ns, each["met"], objective.percent)


def _rate_limits(objectives: Sequence[Mapping[str, Any]]) -> Iterator[Limit]:
    for each in objectives:
        objective = parse(each["text"])
        if objective.kind == "rate":
            yield Limit(each["text"], objective.limit, each["met"])


def due_rates(plan: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(second, rate) wherever the rate that is due changes; empty for a closed loop."""
    stages = plan.get("stages")
    if not stages:
        return [(0.0, plan["rate"] * plan["batch"])] if plan["rate"] is not None else []
    begin, due = 0.0, []
    for duration_s, rate in stages:
        due.append((begin, rate * plan["batch"]))
        begin += duration_s
    return due


def _seconds(rows: Sequence[Row]) -> Markup:
    longest_s = rows[-1].second
    cells = []
    for row in rows:
        latencies = (row.percentile(50), row.percentile(99), row.max_ns)
        cells.append(
            [
                clock_label(row.second, longest_s),
                f"{row.rate:,.0f}",
                *("–" if value_ns is None else duration_label(value_ns) for value_ns in latencies),
                f"{row.errors / row.span_ns * SECOND_NS:,.0f}",
            ]
        )
    return sections.table(["from", "operations/s", "p50", "p99", "max", "errors/s"], cells)


def _hosts(document: Mapping[str, Any]) -> Markup | None:
    """The runs that a merged report is made of."""
    merged = document.get("merged")
    if not merged:
        return None
    rows = [
        [each["host"], each["started_at"], count_label(each["throughput_per_s"]) + "/s", tag("code", each["command"])]
        for each in merged
    ]
    return joined(
        tag("h2", "Merged from"), sections.table(["host", "started", "throughput", "command"], rows, texts=2)
    )
