"""The bar of calm: a million counters drained by `apply` beside a steady load, which must hardly notice.

The steady load is an open loop of single requests, far below capacity. It is measured twice: *quiet*, beside a
million counters that nobody touches, and *busy*, from the beginning of the drain (200 000 counters a second)
until the server's resident memory has settled: its sweeper gives the memory back while callers wait.

How long settling takes is found out beforehand by a drain without load, as the measured run must be told its
length. The drainer lives on the generator's core and sends without waiting for replies, so that it takes
little of it; what it takes anyway shows in the generator's lateness, and spoils the run if it is too much.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable
from dataclasses import replace

from naught_loadtest.bars.bar import INVALID, MISSED, PASS, Bar, Bench
from naught_loadtest.bars.filling import Filler, drain_requests
from naught_loadtest.drivers import driver_for
from naught_loadtest.link import Link
from naught_loadtest.plan import Plan
from naught_loadtest.processes import held_to, resident_bytes
from naught_loadtest.report import milliseconds
from naught_loadtest.result import Result
from naught_loadtest.rounds import Contender, base_plan, problems, started
from naught_loadtest.runner import Run, new_prefix
from naught_loadtest.target import parse_target

GROUP = "drain"
COUNTERS = 1_000_000
DRAIN_PER_S = 200_000
STEADY_PER_S = 5_000.0
P99_TIMES_MAX = 2.0
MAX_NS = 10_000_000
SAMPLE_S = 0.1
# Memory has settled when in so many seconds it has changed by less than this part of what the drain gives back.
SETTLED_S = 2.0
SETTLED_PART = 0.01
SETTLE_S_MAX = 60.0
# The answers of the drain are read once in so many requests.
READ_EVERY = 20


def measure(bench: Bench) -> list[Bar]:
    """The one bar of calm."""
    count = COUNTERS // 10 if bench.quick else COUNTERS
    with started("naught", bench.cores.server) as server, held_to(bench.cores.generator):
        settle_s = _settling(server, count)
        bench.say(f"memory settles {settle_s:.1f} s after a drain of {count:,}")
        drain_s = count / DRAIN_PER_S
        base = base_plan(bench.cores, rate=STEADY_PER_S, warmup_s=1.0, seed=bench.seed)
        base = replace(base, target=server.url)
        prefix = new_prefix()
        _fill(server, prefix, count)
        quiet = Run(replace(base, prefix=new_prefix(), duration_s=drain_s + 5), server_pid=server.pid).execute()
        bench.say(f"quiet: {_described(quiet)}")
        busy_plan = replace(base, prefix=new_prefix(), duration_s=drain_s + 1.5 * settle_s + 3)
        busy, settled = _busy(server, busy_plan, prefix, count)
        bench.say(f"busy: {_described(busy)}")
    return [_bar(quiet, busy, settled, count)]


def _fill(server: Contender, prefix: str, count: int) -> None:
    target = parse_target(server.url)
    with Link(target, driver_for(target.kind)) as link:
        Filler(link, prefix).fill_to(count)


def _settling(server: Contender, count: int) -> float:
    """Seconds from the end of a drain until memory has settled, with nobody else there."""
    prefix = new_prefix()
    empty = resident_bytes(server.pid)
    _fill(server, prefix, count)
    memory = Memory(server.pid, resident_bytes(server.pid) - empty)
    _drain(server, prefix, count, memory.sample)
    ended_s = time.monotonic()
    while not memory.settled and time.monotonic() < ended_s + SETTLE_S_MAX:
        time.sleep(SAMPLE_S)
        memory.sample()
    return max(0.0, memory.settled_since_s - ended_s)


class Memory:
    """Watches the resident memory of a process settle."""

    def __init__(self, pid: int, span_bytes: int) -> None:
        self._pid = pid
        # A change smaller than this is none.
        self._grain_bytes = max(1, span_bytes * SETTLED_PART)
        self._level_bytes = 0
        # When it last moved.
        self.settled_since_s = time.monotonic()

    def sample(self) -> None:
        now_bytes = resident_bytes(self._pid)
        if abs(now_bytes - self._level_bytes) > self._grain_bytes:
            self._level_bytes = now_bytes
            self.settled_since_s = time.monotonic()

    @property
    def settled(self) -> bool:
        return time.monotonic() - self.settled_since_s >= SETTLED_S


def _drain(server: Contender, prefix: str, count: int, beside: Callable[[], None]) -> None:
    """Take everything to zero at an even pace, doing `beside` ten times a second."""
    messages = list(drain_requests(prefix, count))
    target = parse_target(server.url)
    with Link(target, driver_for(target.kind)) as link:
        start_s = sampled_s = time.monotonic()
        drained = unread = 0
        for message, counters in messages:
            wait_s = start_s + drained / DRAIN_PER_S - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            unread += 1
            if unread == READ_EVERY:
                link.ask(message, unread)
                unread = 0
            else:
                link.send(message)
            drained += counters
            if time.monotonic() > sampled_s + SAMPLE_S:
                sampled_s = time.monotonic()
                beside()
        if unread:
            link.ask(b"", unread)


def _busy(server: Contender, plan: Plan, prefix: str, count: int) -> tuple[Result, bool]:
    """The steady load from the beginning of a drain on. Whether memory had settled before its end."""
    full = resident_bytes(server.pid)
    memory = Memory(server.pid, full)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        run = Run(plan, server_pid=server.pid)
        load = pool.submit(run.execute)
        run.measuring.wait(SETTLE_S_MAX)
        _drain(server, prefix, count, memory.sample)
        while not load.done():
            time.sleep(SAMPLE_S)
            memory.sample()
        return load.result(), memory.settled


def _described(result: Result) -> str:
    p99, most = result.response.percentile(99), result.response.max_ns
    return f"p99 {milliseconds(p99)}, max {milliseconds(most)}, lateness p99 " + milliseconds(
        result.lateness.percentile(99)
    )


def _bar(quiet: Result, busy: Result, settled: bool, count: int) -> Bar:
    quiet_ns, busy_ns = quiet.response.percentile(99), busy.response.percentile(99)
    times = busy_ns / max(quiet_ns, 1)
    most_ns = busy.response.max_ns
    spoiled = [*quiet.invalid, *busy.invalid, *problems(quiet), *problems(busy)]
    if not settled:
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
        },
        [
            f"quiet: {_described(quiet)}",
            f"busy:  {_described(busy)}; {STEADY_PER_S:,.0f} requests/s for {busy.elapsed_s:.0f} s",
            *spoiled,
        ],
    )
