"""The page of a comparison.

Pure: no clock, no input or output.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from naught_loadtest.measure.series import histogram_of
from naught_loadtest.page import sections
from naught_loadtest.page.markup import Child, Markup, joined, number, tag
from naught_loadtest.page.pictures import by_percentile, empty, together
from naught_loadtest.page.scales import count_label

# The colour of each contender, the same in all charts.
COLOURS = {
    "naught": "s1",
    "redis": "s6",
    "redis-lua": "s2",
    "redis-function": "s3",
    "valkey-delifeq": "s4",
    "redis-delex": "s7",
    "memcached": "s5",
}


def render(document: Mapping[str, Any]) -> str:
    """The page of a report of the kind `versus`."""
    runs = document["runs"]
    settings = list(dict.fromkeys(run["setting"] for run in runs))
    by_setting = {setting: [run for run in runs if run["setting"] == setting] for setting in settings}
    peers = [name for name in dict.fromkeys(run["contender"] for run in runs) if name != "naught"]
    return sections.page(
        f"naught against {_listed(peers) if peers else 'nothing: no peer could be measured'}",
        f"{document.get('load', 'interleaved rounds')}. Only throughputs of the same round are divided.",
        document,
        sections.verdicts(_verdicts(document)),
        together(*(_throughputs(setting, by_setting[setting]) for setting in settings)),
        tag("h2", "Ratios"),
        _ratios(document),
        tag("h2", "Latency of the closed loops") if runs else None,
        together(*(_latencies(setting, by_setting[setting]) for setting in settings)) if runs else None,
        sections.origin(document, _facts(document)),
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verdicts(document: Mapping[str, Any]) -> Iterator[sections.Verdict]:
    for sentence in document["failures"]:
        yield "bad", "FAILED", sentence
    ratios = {(each["setting"], each["peer"]): each for each in document["ratios"]}
    for setting, peer in document["best_evicting"].items():
        each = ratios[setting, peer]
        words = f"{setting}, evict at zero: {_spread(each['ratio'])} of the best of the peer, {peer}."
        if each["generator_limited"]:
            yield "slow", "INVALID", f"{words} The generator was the limit of one of the two."
        else:
            yield ("good" if each["ratio"]["median"] >= 1 else "slow"), "Measured", words
    if not document["ratios"] and not document["failures"]:
        yield "bad", "Nothing", "No peer could be measured, so there is no ratio."


def _spread(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.2f}x ({ratio['low']:.2f}–{ratio['high']:.2f})"


def _throughputs(setting: str, runs: Sequence[Mapping[str, Any]]) -> Markup:
    """The throughputs at one setting as bars, with the least and the most of the rounds."""
    title = f"Throughput, {setting}"
    rows: list[tuple[float, list[Child]]] = []
    most = max((max(run["throughput_per_s"]) for run in runs), default=0)
    if not most:
        return empty(title, "Nothing was answered.")
    for run in runs:
        rates = run["throughput_per_s"]
        median, low, high = statistics.median(rates), min(rates), max(rates)
        bar = tag("div", class_=f"bar {COLOURS.get(run['contender'], 's6')}", style=_width(median / most))
        line = tag("div", class_="range", style=f"left:{number(low / most * 100)}%;{_width((high - low) / most)}")
        mark = "*" if 2 * sum(bool(each) for each in run["invalid"]) > len(rates) else ""
        cells: list[Child] = [
            tag("span", run["contender"]),
            tag("div", bar, line, class_="track"),
            tag("span", f"{count_label(median)}/s{mark}", class_="value"),
        ]
        rows.append((-median, cells))
    rows.sort(key=lambda row: row[0])
    note = (
        f"Operations per second: the median of {len(runs[0]['throughput_per_s'])} rounds, and the least and the most."
    )
    if any(2 * sum(bool(each) for each in run["invalid"]) > len(run["invalid"]) for run in runs):
        note += " * INVALID: the generator was the limit."
    return tag(
        "figure",
        tag("figcaption", tag("h3", title), tag("p", note)),
        tag("div", *(cell for _, cells in rows for cell in cells), class_="bars"),
        class_="chart",
    )


def _width(part: float) -> str:
    return f"width:{number(part * 100)}%"


def _ratios(document: Mapping[str, Any]) -> Markup:
    rows: list[list[Child]] = []
    for each in document["ratios"]:
        best = document["best_evicting"].get(each["setting"]) == each["peer"]
        at = "" if each["setting"] == each["peer_setting"] else f" at {each['peer_setting']}"
        core = each["core_ratio"]
        rows.append(
            [
                each["setting"],
                tag("span", f"{each['peer']}{at}", class_="best") if best else f"{each['peer']}{at}",
                f"{_spread(each['ratio'])}{'*' if each['generator_limited'] else ''}",
                _spread(core) if core else "–",
                _cpu(each["naught_cpu_us"]),
                _cpu(each["peer_cpu_us"]),
            ]
        )
    columns = ["setting", "peer", "ratio", "per core-second", "naught's CPU", "peer's CPU"]
    note = "Medians with the least and the most of the rounds. CPU: the server's processor time for an operation."
    bold = " Bold: the fastest way in which the peer evicts at zero." if document["best_evicting"] else ""
    limited = (
        " * INVALID: the generator was the limit." if any(r["generator_limited"] for r in document["ratios"]) else ""
    )
    return joined(sections.table(columns, rows, texts=2), tag("footer", tag("p", note + bold + limited)))


def _cpu(value_us: float | None) -> str:
    return "–" if value_us is None else f"{value_us:.2f} µs"


def _latencies(setting: str, runs: Sequence[Mapping[str, Any]]) -> Markup:
    named = [
        (COLOURS.get(run["contender"], "s6"), run["contender"], histogram_of(run["response"]))
        for run in runs
        if run.get("response")
    ]
    return by_percentile(f"Latency by percentile, {setting}", named)


def _facts(document: Mapping[str, Any]) -> list[tuple[str, Child]]:
    versions = [joined(f"{name}: {version}", tag("br")) for name, version in document.get("versions", {}).items()]
    return [("servers", versions or None), ("cores", document.get("cores")), ("peer", document.get("peer"))]
