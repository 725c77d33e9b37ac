"""The bar of the drain: a million counters drained by `apply` beside a steady load, whose latency must hardly change.

The steady load is an open loop of single requests, far below the server's capacity. It is measured twice. *Quiet* is
beside a million counters that no client touches. *Busy* lasts from the start of the drain (200 000 counters a second)
until the server's resident memory has settled, so it includes the time in which the sweeper gives the memory back.

Memory is not given back at once: the sweeper rebuilds one table after the other, and the old tables go back to the
system only when all of them are rebuilt. Between these steps memory stands still for up to two seconds. So memory
counts as settled when it has stood still for four seconds. These four seconds are part of the figures too.

Each round has a fresh server. The medians of the valid rounds count.

The generator spins, so a drainer on the generator's core would make it late, and a late generator makes the run
INVALID. Therefore the drainer does little: its requests and the right replies are encoded beforehand, and it only
moves bytes. Where the system allows it (SCHED_IDLE), the drainer runs on any core, in time that no other process
wants. On two cores that is time of the server's core, which costs the server a little and favours no figure.
"""

from __future__ import annotations

import concurrent.futures
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from naught_loadtest.bars.bar import INVALID, MISSED, PASS, Bar, Bench
from naught_loadtest.bars.filling import Filler, drain_requests
from naught_loadtest.drivers.naught import NaughtDriver
from naught_loadtest.drivers.probe import Probe, open_probe
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.cores import Cores, pinned_to, yield_to_others
from naught_loadtest.measure.report import milliseconds
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import (
    Contender,
    base_plan,
    cpu_us_median,
    microseconds,
    problems,
    spread,
    started,
)
from naught_loadtest.measure.usage import resident_bytes

GROUP = "drain"
COUNTERS = 1_000_000
DRAIN_PER_S = 200_000
STEADY_PER_S = 5_000.0
P99_TIMES_MAX = 2.0
MAX_NS = 10_000_000
# Pause between two readings of the resident memory.
SAMPLE_S = 0.1
# Memory has settled when for this long it has changed by less than this part of what the counters took.
SETTLED_S = 4.0
SETTLED_PART = 0.01
SETTLE_S_MAX = 60.0
# A drain slower than planned by more than this part was easier for the server than the bar asks for.
LATE_PART_MAX = 0.1
# The drainer reads the replies once in this many requests.
READ_EVERY = 20


@dataclass(frozen=True, slots=True)
class Round:
    """One drain of a fresh server."""

    quiet: Result
    busy: Result
    # How long the drain took, and how long it should have taken.
    drain_s: float
    planned_s: float
    # Whether the resident memory settled, and at which level.
    settled: bool
    level_bytes: int

    @property
    def times(self) -> float:
        """The p99 of the busy load, as a multiple of the quiet one's."""
        return self.busy.response.percentile(99) / max(self.quiet.response.percentile(99), 1)

    @property
    def invalid(self) -> list[str]:
        """The reasons why this round's figures must not be believed."""
        reasons = [*self.quiet.invalid, *self.busy.invalid]
        if self.drain_s > (1 + LATE_PART_MAX) * self.planned_s:
            reasons.append(f"the drain took {self.drain_s:.1f} s instead of {self.planned_s:.1f} s")
        if not self.settled:
            reasons.append("memory had not settled at the end of the run")
        return reasons


def measure(bench: Bench) -> list[Bar]:
    """The one bar of the drain."""
    count = COUNTERS // 10 if bench.quick else COUNTERS
    return [bar([_one_round(bench, count, number) for number in range(bench.rounds)], count)]


def _one_round(bench: Bench, count: int, number: int) -> Round:
    with started("naught", bench.cores.server) as server, pinned_to(bench.cores.generator):
        empty_bytes = resident_bytes(server.local_pid)
        drain_s = count / DRAIN_PER_S
        base = base_plan(bench.cores, rate=STEADY_PER_S, warmup_s=1.0, seed=bench.seed)
        base = replace(base, target=server.url)
        prefix = new_prefix()
        probe, _ = open_probe(parse_target(server.url))
        with probe:
            Filler(probe, prefix).fill_to(count)
        memory = MemoryWatch(server.local_pid, resident_bytes(server.local_pid) - empty_bytes)
        quiet = Run(replace(base, prefix=new_prefix(), duration_s=drain_s + 5), server_pid=server.pid).execute()
        turn = f"round {number + 1}/{bench.rounds}"
        bench.say(f"{turn}  quiet: {_described(quiet)}")
        busy_plan = replace(base, prefix=new_prefix(), duration_s=drain_s + SETTLE_S_MAX)
        with Drainer(server, prefix, count, bench.cores) as drainer:
            busy = _busy(Run(busy_plan, server_pid=server.pid), drainer, memory)
        bench.say(f"{turn}  busy: {_described(busy)}; memory settled: {memory.settled}")
    return Round(quiet, busy, drainer.took_s, drain_s, memory.settled, memory.level_bytes)


class MemoryWatch:
    """Watches the resident memory of a process until it has settled."""

    def __init__(self, pid: int, span_bytes: int) -> None:
        self._pid = pid
        # Smaller changes do not count as movement.
        self._tolerance_bytes = max(1, span_bytes * SETTLED_PART)
        # The level after the last movement, and the time of that movement.
        self.level_bytes = 0
        self._moved_s = time.monotonic()
        # Whether memory has settled. It is not watched any more then.
        self.settled = False

    def watch(self, over: Callable[[], bool], *, until_settled: bool) -> None:
        """Read ten times a second until `over()` is true or, with `until_settled`, until memory has settled."""
        while not over() and not self.settled:
            time.sleep(SAMPLE_S)
            now_bytes = resident_bytes(self._pid)
            if abs(now_bytes - self.level_bytes) > self._tolerance_bytes:
                self.level_bytes = now_bytes
                self._moved_s = time.monotonic()
            self.settled = until_settled and time.monotonic() - self._moved_s >= SETTLED_S


class Drainer:
    """Takes all counters of a prefix to zero at an even rate, in processor time that no other process wants."""

    def __init__(self, server: Contender, prefix: str, count: int, cores: Cores, per_s: int = DRAIN_PER_S) -> None:
        self._per_s = per_s  # counters a second
        driver = NaughtDriver()
        # (request, bytes of the right reply, counters), encoded before anything is measured.
        self._messages = [
            (request, driver.many_reply(0, [0] * counters) or b"", counters)
            for request, counters in drain_requests(prefix, count)
        ]
        self._cores = cores
        # How long the drain took; 0 until it has ended.
        self.took_s = 0.0
        # The drain's own connection.
        self._probe = Probe(parse_target(server.url), driver)

    def __enter__(self) -> Drainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._probe.close()

    def drain(self) -> None:
        """Send every request and check every reply.

        Must run in a thread of its own: it lowers the thread's scheduling priority permanently.
        """
        yield_to_others(self._cores)
        start_s = time.monotonic()
        drained = 0
        expected = b""
        for number, (request, reply, counters) in enumerate(self._messages, 1):
            wait_s = start_s + drained / self._per_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            self._probe.send(request)
            expected += reply
            drained += counters
            if number % READ_EVERY == 0 or number == len(self._messages):
                if self._probe.read(len(expected)) != expected:
                    raise RuntimeError("the server's replies to the drain are not all zeros")
                expected = b""
        self.took_s = time.monotonic() - start_s


def _busy(run: Run, drainer: Drainer, memory: MemoryWatch) -> Result:
    """The steady load from the start of the drain until memory has settled."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        load = pool.submit(run.execute)
        run.measuring.wait(SETTLE_S_MAX)
        draining = pool.submit(drainer.drain)
        memory.watch(draining.done, until_settled=False)
        memory.watch(load.done, until_settled=True)
        run.enough.set()
        draining.result()
        return load.result()


def _described(result: Result) -> str:
    response = f"p99 {milliseconds(result.response.percentile(99))}, max {milliseconds(result.response.max_ns)}"
    return f"{response}, lateness p99 {milliseconds(result.lateness.percentile(99))}"


def bar(rounds: list[Round], count: int) -> Bar:
    """The bar of these rounds, each a drain of `count` counters."""
    wrong = list(
        dict.fromkeys(problem for each in rounds for run in (each.quiet, each.busy) for problem in problems(run))
    )
    reasons = list(dict.fromkeys(reason for each in rounds for reason in each.invalid))
    valid = [each for each in rounds if not each.invalid]
    shown = valid or rounds
    times = spread([each.times for each in shown])
    max_ns = [each.busy.response.max_ns for each in shown]
    median_max_ns = int(statistics.median(max_ns))
    reached = times.median <= P99_TIMES_MAX and median_max_ns <= MAX_NS
    most = f"max {milliseconds(median_max_ns)} ({milliseconds(min(max_ns))}-{milliseconds(max(max_ns))})"
    quiet_us = cpu_us_median([each.quiet for each in shown])
    busy_us = cpu_us_median([each.busy for each in shown])
    last = shown[-1]
    return Bar(
        GROUP,
        f"steady load while {count:,} counters drain",
        f"p99 at most {P99_TIMES_MAX:g}x quiet, max at most {MAX_NS / 1e6:g} ms",
        f"p99 {times}, {most}",
        INVALID if wrong or not valid else PASS if reached else MISSED,
        {"rounds": [_figures(each) for each in rounds]},
        [
            f"quiet: {_described(last.quiet)}",
            f"busy:  {_described(last.busy)}; {STEADY_PER_S:,.0f} requests/s for {last.busy.elapsed_s:.1f} s",
            f"CPU a request: quiet {microseconds(quiet_us)}, busy {microseconds(busy_us)} with the drain",
            f"drained in {last.drain_s:.1f} s; memory settled at {last.level_bytes / 2**20:.0f} MiB",
            f"{len(valid)} of {len(rounds)} rounds valid; medians of {'these' if valid else 'all'}",
            *reasons,
            *wrong,
        ],
        wrong,
    )


def _figures(each: Round) -> dict[str, Any]:
    return {
        "quiet_ns": each.quiet.response.summary_ns(),
        "busy_ns": each.busy.response.summary_ns(),
        "quiet_service_ns": each.quiet.service.summary_ns(),
        "busy_service_ns": each.busy.service.summary_ns(),
        "busy_lateness_ns": each.busy.lateness.summary_ns(),
        "busy_s": round(each.busy.elapsed_s, 3),
        "drain_s": round(each.drain_s, 3),
        "quiet_cpu_us": each.quiet.server_cpu_us,
        "busy_cpu_us": each.busy.server_cpu_us,
        "invalid": each.invalid,
    }
