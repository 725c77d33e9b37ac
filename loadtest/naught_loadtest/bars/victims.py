"""The bars of victims: the latency of a light load beside 20 clients that ask for costly things.

The *victim* is one connection with a steady open loop of single requests. Its neighbours are described in
`bars.neighbours`. Each kind of neighbour has a bar: the victim's p99 beside 20 of them. A server that does each piece
of work to its end before it looks at the next connection fails it, however fast it is.

All kinds share one server with a million counters, and the rounds are interleaved. In each round the victim is
measured alone, too.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from naught_loadtest.bars.bar import INVALID, Bar, Bench, at_most
from naught_loadtest.bars.filling import Filler
from naught_loadtest.bars.neighbours import KINDS
from naught_loadtest.drivers.naught import request
from naught_loadtest.drivers.probe import Probe, open_probe
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import Run, RunError, new_prefix
from naught_loadtest.measure.cores import Cores
from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.report import milliseconds
from naught_loadtest.measure.result import LATENESS_PART_MAX, MISSED_PART_MAX, Result
from naught_loadtest.measure.rounds import base_plan, cpu_us_median, microseconds, problems, started
from naught_loadtest.processes import end, environment

GROUP = "victims"
P99_NS_MAX = 25_000_000
CLIENTS = 20
COUNTERS = 1_000_000
# Seldom enough that the generator sleeps between two requests, and so leaves its core to the neighbours.
RATE_PER_S = 400.0
# Requests of the victim in flight at most, so that it is the server that makes a request wait and not the victim.
IN_FLIGHT_MAX = 1000
# A slow answer is what this bar measures, so it is no failure.
TIMEOUT_S = 60.0
READY_S_MAX = 120.0
# How long the server may take to end the sessions of neighbours that have gone.
SETTLE_S_MAX = 30.0
POLL_S = 0.05
ALONE = "alone"


@dataclass(slots=True)
class Beside:
    """The victim beside one kind of neighbour, in all rounds."""

    results: list[Result] = field(default_factory=list)
    # What the neighbours reported, see `bars.neighbours`.
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def p99_ns(self) -> list[int]:
        """The victim's p99 in each round."""
        return [result.response.percentile(99) for result in self.results]

    @property
    def response(self) -> Histogram:
        """The response times of all rounds."""
        merged = Histogram()
        for result in self.results:
            merged.merge(result.response)
        return merged

    @property
    def answered(self) -> int:
        """Requests of the neighbours that the server answered, with an error or by closing the connection too."""
        return sum(report["answered"] + report["reconnects"] for report in self.reports)

    @property
    def invalid(self) -> list[str]:
        """The reasons why the figures must not be believed."""
        reasons = [reason for result in self.results for reason in _spoiled(result)]
        if self.reports and self.answered < CLIENTS * len(self.reports):
            reasons.append(f"the neighbours were answered only {self.answered} times, so they were no load")
        return list(dict.fromkeys(reasons))


def _spoiled(result: Result) -> Iterator[str]:
    """Reasons that lie with the generator. Its lateness is judged by what the bar allows: less is no matter."""
    lateness_ns = result.lateness.percentile(99)
    if lateness_ns > LATENESS_PART_MAX * max(result.response.percentile(99), P99_NS_MAX):
        yield f"the generator's own lateness was {milliseconds(lateness_ns)} (p99)"
    if result.missed > MISSED_PART_MAX * result.offered:
        yield f"the generator was too slow to send {result.missed:,} of {result.offered:,} due requests"


def measure(bench: Bench) -> list[Bar]:
    """A bar for each kind of neighbour."""
    found = {kind: Beside() for kind in (ALONE, *KINDS)}
    with started("naught", bench.cores.server) as server:
        probe, _ = open_probe(parse_target(server.url))
        with probe:
            Filler(probe, new_prefix()).fill_to(COUNTERS // 10 if bench.quick else COUNTERS)
            for number in range(bench.rounds):
                for kind, beside in found.items():
                    with contextlib.ExitStack() as stack:
                        neighbours = None
                        if kind != ALONE:
                            neighbours = stack.enter_context(running(server.url, kind, bench.cores))
                        result = _victim(bench, server.url, server.pid)
                        if neighbours is not None:
                            beside.reports.append(neighbours.finish())
                    beside.results.append(result)
                    bench.say(f"round {number + 1}/{bench.rounds}  {kind:<11} {_described(result.response)}")
                    _wait_for_sessions_to_end(probe)
    return [bar(kind, found[kind], found[ALONE]) for kind in KINDS]


def _victim(bench: Bench, url: str, pid: int | None) -> Result:
    base = base_plan(
        bench.cores,
        connections=1,
        keys=100,
        pipeline=IN_FLIGHT_MAX,
        rate=RATE_PER_S,
        duration_s=1.0 if bench.quick else 5.0,
        warmup_s=0.5,
        timeout_s=TIMEOUT_S,
        seed=bench.seed,
    )
    return Run(replace(base, target=url, prefix=new_prefix()), server_pid=pid).execute()


class Neighbours:
    """The process of the neighbours. They work from here to `finish`."""

    def __init__(self, process: subprocess.Popen[str], kind: str) -> None:
        self._process = process
        self._kind = kind
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RunError(f"the neighbours of the kind {kind} did not start")

    def finish(self) -> dict[str, Any]:
        """Stop them. Returns what they report."""
        out, _ = self._process.communicate(timeout=READY_S_MAX)
        if self._process.returncode:
            raise RunError(f"the neighbours of the kind {self._kind} ended with status {self._process.returncode}")
        report: dict[str, Any] = json.loads(out)
        return report


@contextlib.contextmanager
def running(url: str, kind: str, cores: Cores) -> Iterator[Neighbours]:
    """`CLIENTS` neighbours of a kind, each of which has had its first answer when the block begins."""
    numbers = ",".join(map(str, [*cores.server, *cores.generator])) or "-"
    command = [sys.executable, "-m", "naught_loadtest.bars.neighbours", url, kind, str(CLIENTS), numbers]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        yield Neighbours(process, kind)
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        end(process)  # type: ignore[arg-type]


def _wait_for_sessions_to_end(probe: Probe) -> None:
    """What the server does for neighbours that have gone must not be charged to the next kind."""
    until_s = time.monotonic() + SETTLE_S_MAX
    while time.monotonic() < until_s:
        info = probe.ask(request("info"))[0]
        if info[b"sessions"][b"open"] == 0:
            return
        time.sleep(POLL_S)


def _described(response: Histogram) -> str:
    p50, p99, most = response.percentile(50), response.percentile(99), response.max_ns
    return f"p50 {milliseconds(p50)}, p99 {milliseconds(p99)}, max {milliseconds(most)}"


def bar(kind: str, beside: Beside, alone: Beside) -> Bar:
    """The bar of one kind of neighbour."""
    p99_ns = beside.p99_ns
    median_ns = int(statistics.median(p99_ns))
    wrong = list(dict.fromkeys(problem for result in beside.results for problem in problems(result)))
    invalid = [*beside.invalid, *wrong]
    elapsed_s = sum(result.elapsed_s + result.plan.warmup_s for result in beside.results)
    rate = beside.answered / max(elapsed_s, 1e-9)
    errors: dict[str, int] = {}
    for report in beside.reports:
        for code, count in report["errors"].items():
            errors[code] = errors.get(code, 0) + count
    refused = ", ".join(f"{count:,} {code}" for code, count in sorted(errors.items()))
    shares = [result.server_share for result in beside.results if result.server_share is not None]
    cpu_us = [microseconds(cpu_us_median(each.results)) for each in (beside, alone)]
    busy = f"; server busy {statistics.median(shares):.0%}" if shares else ""
    return Bar(
        GROUP,
        f"p99 beside {CLIENTS} clients: {kind}",
        f"at most {P99_NS_MAX / 1e6:g} ms",
        f"{milliseconds(median_ns)} ({milliseconds(min(p99_ns))}-{milliseconds(max(p99_ns))})",
        INVALID if invalid else at_most(median_ns, P99_NS_MAX),
        {
            "p99_ns": p99_ns,
            "response_ns": beside.response.summary_ns(),
            "alone_ns": alone.response.summary_ns(),
            "neighbours": beside.reports,
            "server_share": shares,
            "cpu_us": cpu_us_median(beside.results),
            "alone_cpu_us": cpu_us_median(alone.results),
        },
        [
            f"victim: {_described(beside.response)}",
            f"alone:  {_described(alone.response)}",
            f"all of the server's CPU for one operation of the victim: {cpu_us[0]}, alone {cpu_us[1]}",
            f"neighbours: {rate:,.0f} answers/s, refused: {refused or 'none'}{busy}",
            *invalid,
        ],
        wrong,
    )
