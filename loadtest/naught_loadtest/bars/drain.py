"""The bar of calm: a million counters drained by `apply` beside a steady load, which must hardly notice.

The steady load is an open loop of single requests, far below capacity. It is measured twice: *quiet*, beside a
million counters that nobody touches, and *busy*, from the beginning of the drain (200 000 counters a second)
until the server's resident memory has settled: its sweeper gives the memory back while callers wait.

Memory does not go in one piece: tables are rebuilt one by one, and only when all is at rest the system gets back
what they were made of. So it has settled when it has stood still for longer than the longest rest between (2 s);
those seconds are in the figures too, as the load must go on meanwhile.

The generator spins, so a drainer on its core would make it late, and a late generator spoils the run. Hence the
drainer does next to nothing (its requests are encoded and the right replies known beforehand, it only moves
bytes), and where the system can do that it runs in the time that everybody else leaves over (SCHED_IDLE), on any
core. On two cores that is time of the server's core: it costs the server a little, and flatters nobody.
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
from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.naught import NaughtDriver
from naught_loadtest.drivers.probe import Probe
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.cores import Cores, held_to
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
SAMPLE_S = 0.1
# Memory has settled when in so many seconds it has changed by less than this part of what the drain gives back.
SETTLED_S = 4.0
SETTLED_PART = 0.01
SETTLE_S_MAX = 60.0
# A drain that took longer than planned by more than this part was a gentler one than the bar asks for.
LATE_PART_MAX = 0.1
# The answers of the drain are read once in so many requests.
READ_EVERY = 20


def measure(bench: Bench) -> list[Bar]:
    """The one bar of calm."""
    count = COUNTERS // 10 if bench.quick else COUNTERS
    with started("naught", bench.cores.server) as server, held_to(bench.cores.generator):
        empty_bytes = resident_bytes(server.pid)
        drain_s = count / DRAIN_PER_S
        base = base_plan(bench.cores, rate=STEADY_PER_S, warmup_s=1.0, seed=bench.seed)
        base = replace(base, target=server.url)
        prefix = new_prefix()
        _fill(server, prefix, count)
        memory = Memory(server.pid, resident_bytes(server.pid) - empty_bytes)
        quiet = Run(replace(base, prefix=new_prefix(), duration_s=drain_s + 5), server_pid=server.pid).execute()
        bench.say(f"quiet: {_described(quiet)}")
        busy_plan = replace(base, prefix=new_prefix(), duration_s=drain_s + SETTLE_S_MAX)
        with Drainer(server, prefix, count, bench.cores) as drainer:
            busy = _busy(Run(busy_plan, server_pid=server.pid), drainer, memory)
        bench.say(f"busy: {_described(busy)}; memory settled: {memory.settled}")
    return [_bar(quiet, busy, memory, drainer, count)]


def _fill(server: Contender, prefix: str, count: int) -> None:
    target = parse_target(server.url)
    with Probe(target, driver_for(target.kind)) as probe:
        Filler(probe, prefix).fill_to(count)


class Memory:
    """Watches the resident memory of a process settle."""

    def __init__(self, pid: int, span_bytes: int) -> None:
        self._pid = pid
        # A change smaller than this is none.
        self._grain_bytes = max(1, span_bytes * SETTLED_PART)
        # Where it last moved to, and when.
        self.level_bytes = 0
        self._moved_s = time.monotonic()
        # Whether it has come to rest; it stays so.
        self.settled = False

    def watch(self, over: Callable[[], bool], *, until_settled: bool) -> None:
        """Look ten times a second until it is `over`, or memory has settled if that is what is waited for."""
        while not over() and not self.settled:
            time.sleep(SAMPLE_S)
            now_bytes = resident_bytes(self._pid)
            if abs(now_bytes - self.level_bytes) > self._grain_bytes:
                self.level_bytes = now_bytes
                self._moved_s = time.monotonic()
            self.settled = until_settled and time.monotonic() - self._moved_s >= SETTLED_S


class Drainer:
    """Takes all counters of a prefix to zero at an even pace, in time that nobody else wants."""

    def __init__(self, server: Contender, prefix: str, count: int, cores: Cores) -> None:
        driver = NaughtDriver()
        # (request, the bytes of the right reply, counters), made before anything is measured.
        self._messages = [
            (request, driver.many_reply(0, [0] * counters) or b"", counters)
            for request, counters in drain_requests(prefix, count)
        ]
        self._cores = cores
        # How long it took in the end.
        self.took_s = 0.0
        self._probe = Probe(parse_target(server.url), driver)

    def __enter__(self) -> Drainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._probe.close()

    def drain(self) -> None:
        """All of it. For a thread of its own, as it gives up the thread's share of the processor for good."""
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
                    raise RuntimeError("the server's answers to the drain are not all zeros")
                expected = b""
        self.took_s = time.monotonic() - start_s


def _yield_to_others(cores: Cores) -> None:
    """Run this thread only where and when nobody else would, if the system can do that."""
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setaffinity(0, [*cores.server, *cores.generator] or os.sched_getaffinity(0))


def _busy(run: Run, drainer: Drainer, memory: Memory) -> Result:
    """The steady load from the beginning of a drain until memory has settled."""
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
    p99, most = result.response.percentile(99), result.response.max_ns
    return f"p99 {milliseconds(p99)}, max {milliseconds(most)}, lateness p99 " + milliseconds(
        result.lateness.percentile(99)
    )


def _bar(quiet: Result, busy: Result, memory: Memory, drainer: Drainer, count: int) -> Bar:
    quiet_ns, busy_ns = quiet.response.percentile(99), busy.response.percentile(99)
    times = busy_ns / max(quiet_ns, 1)
    most_ns = busy.response.max_ns
    wrong = problems(quiet) + problems(busy)
    spoiled = [*quiet.invalid, *busy.invalid, *wrong]
    if drainer.took_s > (1 + LATE_PART_MAX) * count / DRAIN_PER_S:
        spoiled.append(f"the drain took {drainer.took_s:.1f} s instead of {count / DRAIN_PER_S:.1f} s")
    if not memory.settled:
        spoiled.append("memory had not settled at the end of the run")
    good = times <= P99_TIMES_MAX and most_ns <= MAX_NS
    return Bar(
        GROUP,
        f"steady load while {count:,} counters drain",
        f"p99 at most {P99_TIMES_MAX:g}x quiet, max at most {MAX_NS / 1e6:g} ms",
        f"p99 {times:.2f}x, max {milliseconds(most_ns)}",
        INVALID if spoiled else PASS if good else MISSED,
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
            f"drained in {drainer.took_s:.1f} s; memory came to rest at {memory.level_bytes / 2**20:.0f} MiB",
            *spoiled,
        ],
        wrong,
    )
