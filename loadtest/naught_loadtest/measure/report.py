"""Reports of a run: text for the terminal, JSON for programs, and .hgrm for HdrHistogram's plotter.

The JSON of a run is one object:

| field | what it is |
| --- | --- |
| schema | 1; another number when a field changes its meaning |
| kind | run, versus, search, ceiling, bars or zeros; only `run` has the fields below |
| plan | all settings, the seed and the prefix of the keys included |
| loop | `open` or `closed` |
| server | name and version of the target, as the server reports them |
| started_at | when the measured time began, in UTC; of the other kinds when the report was written |
| host, machine | the name of the machine of the generator; its processor, system and packages, as lines of text |
| command | the whole command |
| elapsed_s | seconds measured, warm-up excluded |
| operations | counters changed or read, by requests that succeeded within the measured time |
| requests | requests that succeeded in time; in an open loop also those answered after the measured time |
| throughput_per_s | operations per second |
| response_ns | p50 p90 p95 p99 p99.9 p99.99 max in ns; null where fewer than 100 samples lie beyond |
| service_ns | the same, measured from the write of the request (open loop; null in a closed one) |
| lateness_ns | the generator's own lateness (open loop; null in a closed one) |
| histograms | response, service and lateness (null in a closed loop): `hdr`, `max_ns`, `records`; see below |
| series | the run by seconds; see below |
| offered, sent | requests due, requests written (open loop; 0 in a closed one) |
| not_sent | due, but no connection was free within the timeout: the server was too slow |
| missed | due, but the generator was too slow to send it |
| timed_out, failed | requests answered too late; requests that failed, by class |
| generator_share | part of the time in which the busiest worker had work |
| ceiling_per_s | operations per second of the same generator with an echo server, null where not measured |
| server_share | part of a core that the server used, null where unknown |
| evictions | by reason, during the run; null where the server does not report them |
| verification | passed, compared, wrong, left, left_zeros, left_expected, unknown, refused; or null |
| invalid | reasons why the figures must not be believed; empty when there are none |
| objectives | for each --slo: text, met, sentence |

`hdr` is all counts of a histogram in ns, in the format V2 of HdrHistogram, compressed and in base64: each of its
libraries decodes it. Histograms of several runs are merged by adding their counts; percentiles must not be averaged.
`records` is the number of samples: a pipeline that was timed as a whole is one sample of many requests.

Each object of `series` is about the requests that were answered, or given up, in one second:

| field of a second | what it is |
| --- | --- |
| `second` | the second of the measured time in which it begins |
| `span_s` | how long it was; in runs of more than ten minutes several seconds |
| `operations`, `rate_per_s` | of requests that succeeded within the measured time |
| `errors` | requests that failed, timed out, or for which no connection was free in time |
| `p50_ns`, `p99_ns`, `max_ns` | of the response time, within a thousandth; null where nothing was answered |
| `histogram` | the response times, as `hdr` above |

The histograms of all seconds add up to the histogram of the response times of the run. In an open loop the last
second has the requests that were answered after the end too.

The other kinds have `schema`, `kind`, `started_at`, `host`, `machine` and `command` as well:

- *versus*: cores, peer, load, versions, ratios (one object for each setting and peer: ratio and core_ratio as median,
  low and high; the servers' processor time for an operation in microseconds), best_evicting (by setting the
  fastest way in which Redis evicts at zero), runs, ceiling, failures;
- *search*: plan, objectives, probes (the runs), confirmed (one of them or null), generator_limited;
- *ceiling*: cores, runs;
- *bars*: peer, quick, rounds, bars (group, what, asked, reached, verdict, figures, notes, wrong);
- *zeros*: work, allocations, guard, skipped, claims.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.origin import origin, with_origin
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.series import histogram_document
from naught_loadtest.measure.slo import Objective

SCHEMA = 1


def milliseconds(value_ns: int | None) -> str:
    """A latency in milliseconds with three significant digits; "-" for None."""
    if value_ns is None:
        return "-"
    value_ms = value_ns / 1e6
    if value_ms >= 100:
        return f"{value_ms:,.0f} ms"
    return f"{value_ms:.1f} ms" if value_ms >= 10 else f"{value_ms:.2f} ms" if value_ms >= 1 else f"{value_ms:.3f} ms"


def text_lines(result: Result, objectives: Iterable[Objective] = ()) -> Iterator[str]:
    """The report for the terminal."""
    plan = result.plan
    yield f"{result.server} at {plan.target}"
    yield f"{plan}"
    yield f"measured for {result.elapsed_s:.1f} s after {plan.warmup_s:g} s of warm-up"
    yield ""
    yield from _throughput_lines(result)
    yield ""
    yield from _latency_lines(result)
    yield ""
    yield from _answer_lines(result)
    yield from _generator_lines(result)
    for objective in objectives:
        yield f"objective     {objective.judge(result)[1]}"
    for reason in result.invalid:
        yield f"INVALID       {reason}"


def _throughput_lines(result: Result) -> Iterator[str]:
    loop = "open loop: at the given rate" if result.plan.open_loop else "closed loop: capacity"
    yield f"throughput    {result.throughput:,.0f} operations/s  ({loop})"
    if result.plan.batch > 1:
        yield f"              in {result.requests / max(result.elapsed_s, 1e-9):,.0f} requests/s"
    if result.plan.open_loop:
        yield (
            f"requests      {result.offered:,} offered, {result.sent:,} sent, {result.requests:,} completed,"
            f" {result.not_sent + result.missed:,} not sent"
        )
    else:
        yield f"requests      {result.requests:,} completed"
    failed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(result.failed.items()))
    yield f"failed        {failed or 'none'}; timed out {result.timed_out:,}"


def _latency_lines(result: Result) -> Iterator[str]:
    columns = [("latency", result.response)]
    if result.plan.open_loop:
        columns = [
            ("response", result.response),
            ("service", result.service),
            ("(lateness)", result.lateness),
        ]
    yield "              " + "".join(f"{name:>13}" for name, _ in columns)
    summaries = [histogram.summary_ns() for _, histogram in columns]
    for row in summaries[0]:
        if any(summary[row] is not None for summary in summaries):
            cells = "".join(f"{milliseconds(summary[row]):>13}" for summary in summaries)
            yield f"{row:<14}{cells}"
    missing = [row for row, value_ns in summaries[0].items() if value_ns is None]
    if missing:
        yield f"              ({', '.join(missing)}: fewer than 100 samples beyond, so not shown)"
    if result.plan.open_loop:
        yield "              response: from when a request was due; service: from when it was written;"
        yield "              lateness: the generator's own, a part of the response"
    elif result.plan.pipeline > 1:
        yield f"              of a whole pipeline of {result.plan.pipeline}, from its write to its last reply"


def _answer_lines(result: Result) -> Iterator[str]:
    if result.evictions is not None:
        total = sum(result.evictions.values())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(result.evictions.items()))
        yield f"evictions     {total:,}" + (f" ({reasons})" if reasons else "")
    check = result.verification
    if check is None:
        if result.not_verified:
            yield f"verified      no: {result.not_verified}"
        return
    if check.passed:
        yield f"verified      {check.compared:,} counters compared, all equal to what was acknowledged"
    else:
        yield f"verified      WRONG: {check.wrong:,} of {check.compared:,} counters differ from what was acknowledged"
        for sentence in check.wrong_named:
            yield f"              {sentence}"
    if check.unknown or check.refused:
        yield (
            f"              {check.unknown:,} requests with unknown outcome, {check.refused:,} refused:"
            " counters compared with the values these allow"
        )
    zeros = f", {check.left_zeros:,} of them zeros" if check.left_zeros else ""
    yield f"left          {check.left:,} counters left{zeros}"
    least, most = check.left_expected
    if not least <= check.left - check.left_zeros <= most:
        yield f"              WRONG: there should be {least:,}" + (f" to {most:,}" if most > least else "")


def _generator_lines(result: Result) -> Iterator[str]:
    shares = f"generator {result.generator_share:.0%} of a core"
    if len(result.cpu_shares) > 1:
        shares = f"generator {result.generator_share:.0%} of a core in the busiest of {len(result.cpu_shares)}"
    server = "" if result.server_share is None else f", server {result.server_share:.0%}"
    yield f"load          {shares}{server}"
    if result.ceiling is not None:
        yield f"ceiling       {result.ceiling:,.0f} operations/s by the same generator with an echo server"


def to_json(result: Result, objectives: Iterable[Objective] = ()) -> dict[str, Any]:
    """The JSON document that this module's docstring describes."""
    judged = [(objective, *objective.judge(result)) for objective in objectives]
    open_loop = result.plan.open_loop
    return {
        "schema": SCHEMA,
        "kind": "run",
        "plan": result.plan.to_json(),
        "loop": "open" if open_loop else "closed",
        "server": result.server,
        **origin(result.started_at_s or None),
        "elapsed_s": round(result.elapsed_s, 6),
        "operations": result.operations,
        "requests": result.requests,
        "throughput_per_s": round(result.throughput, 1),
        "response_ns": result.response.summary_ns(),
        "service_ns": result.service.summary_ns() if open_loop else None,
        "lateness_ns": result.lateness.summary_ns() if open_loop else None,
        "histograms": {
            "response": histogram_document(result.response),
            "service": histogram_document(result.service) if open_loop else None,
            "lateness": histogram_document(result.lateness) if open_loop else None,
        },
        "series": result.series.to_json(),
        "offered": result.offered,
        "sent": result.sent,
        "not_sent": result.not_sent,
        "missed": result.missed,
        "timed_out": result.timed_out,
        "failed": result.failed,
        "generator_share": round(result.generator_share, 4),
        "ceiling_per_s": None if result.ceiling is None else round(result.ceiling, 1),
        "server_share": None if result.server_share is None else round(result.server_share, 4),
        "evictions": result.evictions,
        "verification": None if result.verification is None else result.verification.to_json(),
        "invalid": result.invalid,
        "objectives": [
            {"text": objective.text, "met": met, "sentence": sentence} for objective, met, sentence in judged
        ],
    }


def text_stream(json_name: str | None) -> TextIO:
    """Where the text of a report goes: standard output, or standard error when the JSON goes to standard output."""
    return sys.stderr if json_name == "-" else sys.stdout


def write_json(document: dict[str, Any], name: str) -> None:
    """Write a report to a file, or to standard output for the name `-`."""
    text = json.dumps(with_origin(document), indent=2) + "\n"
    if name == "-":
        sys.stdout.write(text)
    else:
        Path(name).write_text(text)


def write_hgrm(histogram: Histogram, name: str) -> None:
    """Write the latency distribution in milliseconds to a file, in the format that HdrHistogram prints."""
    Path(name).write_text("\n".join(histogram.hgrm_lines()) + "\n")
