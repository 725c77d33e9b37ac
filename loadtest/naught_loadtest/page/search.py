"""The page of a search.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from naught_loadtest.measure.slo import parse
from naught_loadtest.page import sections
from naught_loadtest.page.markup import tag
from naught_loadtest.page.pictures import Limit, rate_against_latency, together
from naught_loadtest.page.scales import count_label, duration_label

# The percentiles of the lines, besides those that the objectives name.
LINES = ("p50", "p99")
DRAWN_MAX = 4


def render(document: Mapping[str, Any]) -> str:
    """The page of a report of the kind `search`."""
    plan, probes, confirmed = document["plan"], document["probes"], document["confirmed"]
    names = line_names(document["objectives"])
    # A rate that was tried several times has its last run in the lines, and all of them as dots.
    last = {probe["rate_per_s"]: probe for probe in probes}
    lines = {name: [(rate, last[rate]["response_ns"].get(name)) for rate in sorted(last)] for name in names}
    objective = " and ".join(document["objectives"])
    return sections.page(
        f"Highest rate with {objective} on {plan['target']}",
        f"{plan['scenario']}, open loop, {plan['connections']:,} connections, {plan['arrival']} arrivals,"
        f" seed {plan['seed']}",
        document,
        sections.verdicts(_verdicts(document)),
        together(
            rate_against_latency(
                lines,
                {verdict: _dots(probes, names[-1], verdict) for verdict in ("met", "missed", "not judged")},
                list(_limits(document["objectives"], kept=confirmed is not None)),
                confirmed["rate_per_s"] if confirmed else None,
            )
        ),
        tag("h2", "The runs, in their order"),
        sections.table(
            ["rate due", "throughput", *names, "verdict"],
            [
                [
                    f"{count_label(probe['rate_per_s'])}/s",
                    f"{count_label(probe['throughput_per_s'])}/s",
                    *(_latency(probe["response_ns"].get(name)) for name in names),
                    _verdict(probe),
                ]
                for probe in probes
            ],
        ),
        sections.origin(document),
    )


def _latency(value_ns: int | None) -> str:
    return "–" if value_ns is None else duration_label(value_ns)


def _verdict(probe: Mapping[str, Any]) -> str:
    """What the table says: met, missed, or why the run tells neither."""
    if probe["held"]:
        return "met"
    if probe["invalid"]:
        return "INVALID"
    verdict = str(probe.get("verdict", "missed"))
    return "missed" if verdict == "MISSED" else verdict


def _judged(probe: Mapping[str, Any]) -> str:
    """What the dot of a run says."""
    verdict = _verdict(probe)
    return verdict if verdict in ("met", "missed") else "not judged"


def line_names(objectives: Sequence[str]) -> list[str]:
    """The percentiles that are drawn; the one that the first objective is about comes last."""
    asked = [text.partition("<")[0].strip() for text in objectives if parse(text).limit_ns]
    names = list(dict.fromkeys([*LINES, *reversed(asked)]))
    if asked:
        names = [name for name in names if name != asked[0]] + [asked[0]]
    return names[-DRAWN_MAX:]


def _dots(probes: Sequence[Mapping[str, Any]], name: str, verdict: str) -> list[tuple[float, float]]:
    return [
        (probe["rate_per_s"], probe["response_ns"][name])
        for probe in probes
        if _judged(probe) == verdict and probe["response_ns"].get(name)
    ]


def _limits(objectives: Sequence[str], *, kept: bool) -> Iterator[Limit]:
    for text in objectives:
        limit_ns = parse(text).limit_ns
        if limit_ns is not None:
            yield Limit(text, limit_ns, kept)


def _verdicts(document: Mapping[str, Any]) -> Iterator[sections.Verdict]:
    confirmed = document["confirmed"]
    if confirmed is None:
        yield "bad", "Not found", "No rate was found at which the objective holds."
    else:
        least = "at least " if document["generator_limited"] else ""
        yield "good", "Found", f"{least}{confirmed['rate_per_s']:,.0f} requests/s: {confirmed['sentence']}"
    if document["generator_limited"]:
        yield "slow", "Limited", "The generator was the limit at some rates, so the server may reach more."
    spoiled = sum(bool(probe["invalid"]) for probe in document["probes"])
    if spoiled:
        yield "slow", "INVALID", f"{spoiled} of {len(document['probes'])} runs were spoiled by the generator."
