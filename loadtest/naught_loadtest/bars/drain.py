"""The bar of the drain: a million counters drained by `apply` beside a steady load, whose latency must hardly change.

The steady load is an open loop of single requests, far below the server's capacity. It is measured twice. *Quiet* is
beside a million counters that no client touches. *Busy* lasts from the start of the drain (200 000 counters a second)
until the server's resident memory has settled, so it includes the time in which the sweeper gives the memory back.

Memory is not given back at once: the sweeper rebuilds one table after the other, and the old tables go back to the
system only when all of them are rebuilt. Between these steps memory stands still for up to two seconds. So memory
counts as settled when it has stood still for four seconds. These four seconds are part of the figures too.

The generator spins, so a drainer on the generator's core would make it late, and a late generator makes the run
INVALID. Therefore the drainer does little: its requests and the right replies are encoded beforehand, and it only
moves bytes. Where the system allows it (SCHED_IDLE), the drainer runs on any core, in time that no other process
wants. On two cores that is time of the server's core, which costs the server a little and favours no figure.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace

from naught_loadtest.bars.bar import INVALID, MISSED, PASS, Bar, Bench
from naught_loadtest.bars.filling import Filler, drain_requests
from naught_loadtest.drivers.naught import NaughtDriver
from naught_loadtest.drivers.probe import Probe, open_probe
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.cores import Cores, pinned_to
from naught_loadtest.measure.report import milliseconds
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import Contender, base_plan, problems, started
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


def measure(bench: Bench) -> list[Bar]:
    """The one bar of the drain."""
    count = COUNTERS // 10 if bench.quick else COUNTERS
    with started("naught", bench.cores.server) as server, pinned_to(bench.cores.generator):
        empty_bytes = resident_bytes(server.pid)
        drain_s = count / DRAIN_PER_S
        base = base_plan(bench.cores, rate=STEADY_PER_S, warmup_s=1.0, seed=bench.seed)
        base = replace(base, target=server.url)
        prefix = new_prefix()
        probe, _ = open_probe(parse_target(server.url))
        with probe:
            Filler(probe, prefix).fill_to(count)
        memory = MemoryWatch(server.pid, resident_bytes(server.pid) - empty_bytes)
        quiet = Run(replace(base, prefix=new_prefix(), duration_s=drain_s + 5), server_pid=server.pid).execute()
        bench.say(f"quiet: {_described(quiet)}")
        busy_plan = replace(base, prefix=new_prefix(), duration_s=drain_s + SETTLE_S_MAX)
        with Drainer(server, prefix, count, bench.cores) as drainer:
            busy = _busy(Run(busy_plan, server_pid=server.pid), drainer, memory)
        bench.say(f"busy: {_described(busy)}; memory settled: {memory.settled}")
    return [_bar(quiet, busy, memory, drainer, count)]


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

    def __init__(self, server: Contender, prefix: str, count: int, cores: Cores) -> None:
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
        _yield_to_others(self._cores)
        start_s = time.monotonic()
        drained = 0
        expected = b""
        for number, (request, reply, counters) in enumerate(self._messages, 1):
            wait_s = start_s + drained / DRAIN_PER_S - time.monotonic()
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


def _yield_to_others(cores: Cores) -> None:
    """Let this thread run on any core, but only in time that no other process wants, where the system allows it."""
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setaffinity(0, [*cores.server, *cores.generator] or os.sched_getaffinity(0))


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


def _bar(quiet: Result, busy: Result, memory: MemoryWatch, drainer: Drainer, count: int) -> Bar:
    quiet_ns, busy_ns = quiet.response.percentile(99), busy.response.percentile(99)
    times = busy_ns / max(quiet_ns, 1)
    max_ns = busy.response.max_ns
    wrong = problems(quiet) + problems(busy)
    invalid = [*quiet.invalid, *busy.invalid, *wrong]
    if drainer.took_s > (1 + LATE_PART_MAX) * count / DRAIN_PER_S:
        invalid.append(f"the drain took {drainer.took_s:.1f} s instead of {count / DRAIN_PER_S:.1f} s")
    if not memory.settled:
        invalid.append("memory had not settled at the end of the run")
    reached = times <= P99_TIMES_MAX and max_ns <= MAX_NS
    return Bar(
        GROUP,
        f"steady load while {count:,} counters drain",
        f"p99 at most {P99_TIMES_MAX:g}x quiet, max at most {MAX_NS / 1e6:g} ms",
        f"p99 {times:.2f}x, max {milliseconds(max_ns)}",
        INVALID if invalid else PASS if reached else MISSED,
        {
            "quiet_ns": quiet.response.summary_ns(),
            "busy_ns": busy.response.summary_ns(),
            "quiet_service_ns": quiet.service.summary_ns(),
            "busy_service_ns": busy.service.summary_ns(),
            "busy_lateness_ns": busy.lateness.summary_ns(),
            "busy_s": round(busy.elapsed_s, 3),
            "drain_s": round(drainer.took_s, 3),
        },
        [
            f"quiet: {_described(quiet)}",
            f"busy:  {_described(busy)}; {STEADY_PER_S:,.0f} requests/s for {busy.elapsed_s:.1f} s",
            f"drained in {drainer.took_s:.1f} s; memory settled at {memory.level_bytes / 2**20:.0f} MiB",
            *invalid,
        ],
        wrong,
    )
