"""Reports of a run: text for the terminal, JSON for programs, and .hgrm for HdrHistogram's plotter.

The JSON of a run is one object:

| field | what it is |
| --- | --- |
| schema | 1; another number when a field changes its meaning |
| kind | run, versus, search, compare, ceiling, bars or zeros; only `run` has the fields below |
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
| response_ns | min mean stddev p50 p90 p95 p99 p99.9 p99.99 max in ns, null without any; samples: see below |
| service_ns | the same, measured from the write of the request (open loop; null in a closed one) |
| errors_ns | the same of the requests that failed, which are in none of the others |
| lateness_ns, receiving_ns | the generator's own lateness in sending and receiving (null in a closed loop) |
| histograms | response, service and lateness (null in a closed loop): `hdr`, `max_ns`, `records`; see below |
| series | the run by seconds; see below |
| offered, sent | requests due (open loop) or in flight in the measured time; those of them that were written |
| not_sent | due, but no connection was free within the timeout: the server was too slow |
| missed | due, but the generator was too slow to send it |
| timed_out, failed | requests answered too late or never; requests that failed, by class |
| failed_outside | requests that failed before or after the measured time, by class |
| connections_lost, reconnects | connections that ended before the run did, by reason; how many were opened anew |
| cut_short | whether the run was interrupted |
| generator_share | part of the time in which the busiest worker had work |
| ceiling_per_s | operations per second of the same generator with an echo server, null where not measured |
| ceiling_is_least | whether the echo server was the limit, so that the ceiling is higher |
| server_share | part of a core that the server used, null where unknown |
| operations_per_cpu_s | operations for each second of the server's processor time, null where unknown |
| server_wait_share, generator_wait_share | part of the time in which they waited for a processor, or null |
| steal_share | part of all processor time that the machine below took, null where unknown |
| evictions | by reason, during the run; null where the server does not report them |
| verification_before | the counters before the closing decrements; null where there are none |
| verification | the counters at the end; null where they were not compared; see below |
| not_verified | why they were not although it was asked for; empty where they were |
| invalid | reasons why the figures must not be believed; empty when there are none |
| objectives | for each --slo: text, met, sentence |

`hdr` is all counts of a histogram in ns, in the format V2 of HdrHistogram, compressed and in base64: each of its
libraries decodes it. Histograms of several runs are merged by adding their counts; percentiles must not be averaged.
`records` is the number of samples: a pipeline that was timed as a whole is one sample of many requests.

`samples` is the number of samples. A percentile p with fewer than 100 of them beyond it, samples x (1 - p), is
uncertain, and the text shows how many there are. A verification has passed, compared, wrong, wrong_named,
inconsistent (counters on which the values in the replies cannot all be right), left, left_zeros, left_expected,
unknown, refused.

Each object of `series` is about the requests that were answered, or given up, in one second:

| field of a second | what it is |
| --- | --- |
| `second` | the second of the measured time in which it begins |
| `span_s` | how long it was; in runs of more than ten minutes several seconds |
| `operations`, `rate_per_s` | of requests that succeeded within the measured time |
| `errors` | requests that failed, timed out, or for which no connection was free in time |
| `p50_ns`, `p99_ns`, `max_ns` | of the response time, within a thousandth; null where nothing was answered |
| `histogram` | the response times, as `hdr` above |

A report that `merge` has made has `merged` too: for each of the runs host, started_at, elapsed_s, throughput_per_s
and command.

The histograms of all seconds add up to the histogram of the response times of the run. The last second has the
requests that were answered after the end too.

The other kinds have `schema`, `kind`, `started_at`, `host`, `machine` and `command` as well:

- *versus*: cores, peer, load, versions, ratios (one object for each setting and peer: ratio and core_ratio as median,
  low and high; the servers' processor time for an operation in microseconds), best_evicting (by setting the
  fastest way in which Redis evicts at zero), runs, ceiling, failures;
- *search*: plan, objectives, probes (the runs), confirmed (one of them or null), generator_limited;
- *ceiling*: cores, runs;
- *compare*: before and after (file, started_at, host), max_regress, notes, figures (name, before, after, ratio with
  low and high, verdict);
- *bars*: peer, quick, rounds, bars (group, what, asked, reached, verdict, figures, notes, wrong);
- *zeros*: work, allocations, guard, skipped, claims.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from naught_loadtest.measure.histogram import ROWS, Histogram
from naught_loadtest.measure.origin import origin, with_origin
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.series import histogram_document
from naught_loadtest.measure.slo import Objective
from naught_loadtest.measure.verification import Verification

SCHEMA = 1
# Lines of the text are no longer than this, one less than a terminal of 80 columns has.
WIDTH = 79
LABEL_WIDTH = 14


def milliseconds(value_ns: int | None) -> str:
    """A latency in milliseconds with three significant digits; "-" for None."""
    if value_ns is None:
        return "-"
    value_ms = value_ns / 1e6
    if value_ms >= 100:
        return f"{value_ms:,.0f} ms"
    return f"{value_ms:.1f} ms" if value_ms >= 10 else f"{value_ms:.2f} ms" if value_ms >= 1 else f"{value_ms:.3f} ms"


def wrapped(label: str, text: str) -> Iterator[str]:
    """Lines of a report: a label at the left, the text beside it. None is longer than a terminal is wide."""
    lines = textwrap.wrap(text, WIDTH - LABEL_WIDTH, break_long_words=False, break_on_hyphens=False)
    for place, line in enumerate(lines or [""]):
        yield f"{label if place == 0 else '':<{LABEL_WIDTH}}{line}"


def paragraph(text: str) -> str:
    """A text in lines that are no longer than a terminal is wide."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def text_lines(result: Result, objectives: Iterable[Objective] = ()) -> Iterator[str]:
    """The report for the terminal."""
    plan = result.plan
    yield f"{result.server} at {plan.target}"
    yield from paragraph(str(plan)).splitlines()
    asked = f" of {plan.duration_s:g} s" if result.cut_short else ""
    yield f"measured for {result.elapsed_s:.1f} s{asked} after {plan.warmup_s:g} s of warm-up"
    if result.cut_short:
        yield from wrapped("CUT SHORT", "the run was interrupted; all below is about the time until then")
    yield ""
    yield from _throughput_lines(result)
    yield ""
    yield from _latency_lines(result)
    yield ""
    yield from _answer_lines(result)
    yield from _generator_lines(result)
    for objective in objectives:
        yield from wrapped("objective", objective.judge(result)[1])
    for reason in result.invalid:
        yield from wrapped("INVALID", reason)


def _throughput_lines(result: Result) -> Iterator[str]:
    loop = "open loop: at the given rate" if result.plan.open_loop else "closed loop: capacity"
    yield f"throughput    {result.throughput:,.0f} operations/s  ({loop})"
    if result.plan.batch > 1:
        yield f"              in {result.requests / max(result.elapsed_s, 1e-9):,.0f} requests/s"
    if result.per_cpu_second is not None:
        yield f"              {result.per_cpu_second:,.0f} for each second of the server's processor time"
    failed = sum(result.failed.values())
    parts = [f"{result.requests:,} completed", f"{failed:,} failed", f"{result.timed_out:,} timed out"]
    if result.plan.open_loop:
        parts += [f"{result.missed:,} missed", f"{result.not_sent:,} not sent"]
    yield from wrapped("requests", f"{result.offered:,} offered = {' + '.join(parts)}")
    yield from wrapped("failed", _counts(result.failed) or "none")
    if result.failed_outside:
        yield from wrapped("", f"and outside of the measured time: {_counts(result.failed_outside)}")
    if result.connections_lost:
        lost = _counts(result.connections_lost)
        yield from wrapped("connections", f"lost: {lost}; opened anew: {result.reconnects:,}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))


def _latency_lines(result: Result) -> Iterator[str]:
    columns = [("latency", result.response)]
    if result.plan.open_loop:
        columns = [
            ("response", result.response),
            ("service", result.service),
            ("sending", result.lateness),
            ("receiving", result.receiving),
        ]
    if result.error_times.records:
        columns.append(("failed", result.error_times))
    yield (f"{'':<8}" + "".join(f"{name:>10}{'':5}" for name, _ in columns)).rstrip()
    summaries = [histogram.summary_ns() for _, histogram in columns]
    few = False
    for row in ROWS:
        cells = []
        for (_, histogram), summary in zip(columns, summaries, strict=True):
            beyond = histogram.beyond(row)
            few |= beyond is not None
            cells.append(f"{milliseconds(summary[row]):>10}{'' if beyond is None else f' ({beyond})':<5}")
        yield (f"{row:<8}" + "".join(cells)).rstrip()
    if few:
        yield "(n): so few samples lie beyond this percentile, which makes it uncertain"
    if result.plan.open_loop:
        yield from paragraph(
            "response: from when a request was due; service: from when it was written; sending, receiving: the"
            " generator's own lateness, a part of the response"
        ).splitlines()
    elif result.plan.pipeline > 1:
        yield f"of a whole pipeline of {result.plan.pipeline}, from its write to its last reply"


def _answer_lines(result: Result) -> Iterator[str]:
    if result.evictions is not None:
        total = sum(result.evictions.values())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(result.evictions.items()))
        yield from wrapped("evictions", f"{total:,}" + (f" ({reasons})" if reasons else ""))
    if result.not_verified:
        yield from wrapped("verified", f"no: {result.not_verified}")
    check, before = result.verification, result.verification_before
    if check is not None and check.passed and (before is None or before.passed):
        twice = "" if before is None else " twice"
        yield from wrapped(
            "verified", f"{check.compared:,} counters compared{twice}, all equal to what was acknowledged"
        )
    else:
        if before is not None:
            yield from _wrong_lines(before, ", before the closing decrements")
        if check is not None:
            yield from _wrong_lines(check, ", after the closing decrements" if before is not None else "")
    if check is None:
        return
    if check.unknown or check.refused:
        many = f"{check.unknown:,} requests with unknown outcome, {check.refused:,} refused"
        yield from wrapped("", f"{many}: counters compared with the values these allow")
    zeros = f", {check.left_zeros:,} of them zeros" if check.left_zeros else ""
    yield f"left          {check.left:,} counters left{zeros}"


def _wrong_lines(check: Verification, when: str) -> Iterator[str]:
    if check.wrong:
        differ = f"{check.wrong:,} of {check.compared:,} counters differ from what was acknowledged"
        yield from wrapped("verified", f"WRONG{when}: {differ}")
        for sentence in check.wrong_named:
            yield from wrapped("", sentence)
    if check.inconsistent:
        many = f"on {check.inconsistent:,} of {check.compared:,} counters"
        yield from wrapped("verified", f"WRONG{when}: the values in the replies cannot all be right {many}")
    least, most = check.left_expected
    if not least <= check.left - check.left_zeros <= most:
        right = f"{least:,}" + (f" to {most:,}" if most > least else "")
        found = f"there are {check.left - check.left_zeros:,} counters"
        yield from wrapped("verified", f"WRONG{when}: {found}, and there should be {right}")


def _generator_lines(result: Result) -> Iterator[str]:
    shares = f"generator {result.generator_share:.0%} of a core"
    if len(result.cpu_shares) > 1:
        shares = f"generator {result.generator_share:.0%} of a core in the busiest of {len(result.cpu_shares)}"
    server = "" if result.server_share is None else f", server {result.server_share:.0%}"
    yield f"load          {shares}{server}"
    waits = [f"generator {max(result.wait_shares):.0%}"] if result.wait_shares else []
    if result.server_wait_share is not None:
        waits.append(f"server {result.server_wait_share:.0%}")
    if waits:
        steal = "" if result.steal_share is None else f"; stolen {result.steal_share:.0%}"
        yield from wrapped("waited", f"for a processor: {', '.join(waits)} of the time{steal}")
    if result.ceiling is not None:
        least = "at least " if result.ceiling_is_least else ""
        yield f"ceiling       {least}{result.ceiling:,.0f} operations/s by the same generator with an echo server"


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
        "errors_ns": result.error_times.summary_ns(),
        "lateness_ns": result.lateness.summary_ns() if open_loop else None,
        "receiving_ns": result.receiving.summary_ns() if open_loop else None,
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
        "failed_outside": result.failed_outside,
        "connections_lost": result.connections_lost,
        "reconnects": result.reconnects,
        "cut_short": result.cut_short,
        "generator_share": round(result.generator_share, 4),
        "ceiling_per_s": None if result.ceiling is None else round(result.ceiling, 1),
        "ceiling_is_least": result.ceiling_is_least,
        "server_share": _rounded(result.server_share),
        "operations_per_cpu_s": _rounded(result.per_cpu_second, 1),
        "server_wait_share": _rounded(result.server_wait_share),
        "generator_wait_share": _rounded(max(result.wait_shares, default=None)),
        "steal_share": _rounded(result.steal_share),
        "evictions": result.evictions,
        "verification_before": _checked(result.verification_before),
        "verification": _checked(result.verification),
        "not_verified": result.not_verified,
        "invalid": result.invalid,
        "objectives": [
            {"text": objective.text, "met": met, "sentence": sentence} for objective, met, sentence in judged
        ],
    }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def _checked(check: Verification | None) -> dict[str, Any] | None:
    return None if check is None else check.to_json()


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


def hgrm_names(name: str) -> tuple[str, str]:
    """The files for the response times and the service times: `a.hgrm` and `a.service.hgrm`."""
    path = Path(name)
    return name, str(path.with_name(f"{path.stem}.service{path.suffix}"))


def write_hgrm(result: Result, name: str) -> None:
    """Write the distributions in microseconds, in the format that HdrHistogram prints.

    The response times go to the file with this name. In an open loop the service times go to another one beside it.
    """
    response, service = hgrm_names(name)
    _write_hgrm(result.response, response)
    if result.plan.open_loop:
        _write_hgrm(result.service, service)


def _write_hgrm(histogram: Histogram, name: str) -> None:
    Path(name).write_text("\n".join(histogram.hgrm_lines()) + "\n")
