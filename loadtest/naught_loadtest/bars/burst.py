"""The bar of the burst: a million zeros at once in a lazy cache, with the server's tuner on and with it off.

A lazy cache keeps each zero until the sweeper takes it. Here a cache with 200 000 counters that stay gets a million
more, which all reach zero within seven seconds, beside a steady load of single requests. The deviation (stale entries
for each live counter) goes to several hundred per cent. Two things are measured: how long it takes, from the end of
the burst, until the deviation is below 1 % again without an operator; and the latency of the steady load from the
beginning of the burst until then, compared with the same load while the cache is at rest.

Each round has a fresh server with the tuner on and one with it off, in turns. The medians of the valid rounds count.
"""

from __future__ import annotations

import concurrent.futures
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from naught_loadtest.bars.bar import INVALID, MISSED, PASS, Bar, Bench
from naught_loadtest.bars.drain import LATE_PART_MAX, STEADY_PER_S, Drainer
from naught_loadtest.bars.filling import Filler
from naught_loadtest.drivers.base import failure_in
from naught_loadtest.drivers.naught import request
from naught_loadtest.drivers.probe import Probe, open_probe
from naught_loadtest.drivers.servers import configured
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.cores import pinned_to
from naught_loadtest.measure.report import milliseconds
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import base_plan, cpu_us_median, microseconds, problems, spread, started

GROUP = "burst"
ZEROS = 1_000_000
LIVE_PART = 0.2
BURST_PER_S = 150_000
DEVIATION_MAX = 0.01
TRIGGER = 0.15
P99_TIMES_MAX = 2.0
QUIET_S = 5.0
SETTLE_S_MAX = 60.0
# Pause between two readings of the deviation.
SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst on a fresh server."""

    quiet: Result
    busy: Result
    # How long the burst took, and how long it should have taken.
    took_s: float
    planned_s: float
    # The highest deviation that was read.
    peak: float
    # From the end of the burst until the deviation was below 1 %; None when it was not within a minute.
    settled_s: float | None
    # How often the tuner has raised the sweeper's budget since the burst began.
    changes: int

    @property
    def times(self) -> float:
        """The p99 of the busy load, as a multiple of the quiet one's."""
        return self.busy.response.percentile(99) / max(self.quiet.response.percentile(99), 1)

    @property
    def invalid(self) -> list[str]:
        """The reasons why this burst's figures must not be believed."""
        reasons = [*self.quiet.invalid, *self.busy.invalid]
        if self.took_s > (1 + LATE_PART_MAX) * self.planned_s:
            reasons.append(f"the burst took {self.took_s:.1f} s instead of {self.planned_s:.1f} s")
        if self.peak <= TRIGGER:
            reasons.append(f"the deviation did not pass {TRIGGER:.0%}")
        return reasons


def measure(bench: Bench) -> list[Bar]:
    """The one bar of the burst."""
    count = ZEROS // 10 if bench.quick else ZEROS
    rounds: dict[str, list[Burst]] = {"on": [], "off": []}
    for number in range(bench.rounds):
        for mode in ("on", "off") if number % 2 == 0 else ("off", "on"):
            one = _one(bench, count, mode)
            rounds[mode].append(one)
            bench.say(f"round {number + 1}/{bench.rounds}  tuner {mode:<4} {_described(one)}")
    return [bar(rounds["on"], rounds["off"], count)]


def _one(bench: Bench, count: int, mode: str) -> Burst:
    text = f'tuner = "{mode}"\n[caches.default]\neviction = "lazy"\n'
    with (
        configured(text) as arguments,
        started("naught", bench.cores.server, arguments) as server,
        pinned_to(bench.cores.generator),
    ):
        base = base_plan(bench.cores, rate=STEADY_PER_S, warmup_s=1.0, seed=bench.seed)
        base = replace(base, target=server.url)
        prefix = new_prefix()
        probe, _ = open_probe(parse_target(server.url))
        with probe:
            Filler(probe, new_prefix()).fill_to(int(count * LIVE_PART))
            Filler(probe, prefix).fill_to(count)
            quiet = Run(replace(base, prefix=new_prefix(), duration_s=QUIET_S), server_pid=server.pid).execute()
            planned_s = count / BURST_PER_S
            plan = replace(base, prefix=new_prefix(), duration_s=planned_s + SETTLE_S_MAX)
            watch = DeviationWatch(probe)
            with Drainer(server, prefix, count, bench.cores, BURST_PER_S) as drainer:
                busy = _busy(Run(plan, server_pid=server.pid), drainer, watch)
    return Burst(quiet, busy, drainer.took_s, planned_s, watch.peak, watch.settled_s, watch.changes)


class DeviationWatch:
    """Reads the deviation of the default cache, and what the tuner has done."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.peak = 0.0
        self.changes = 0
        # From the end of the burst until the deviation was low.
        self.settled_s: float | None = None

    def watch(self, has_ended: Callable[[], bool], is_over: Callable[[], bool]) -> None:
        """Read until the burst has ended and the deviation is low, or the load is over."""
        began_s = time.monotonic()
        ended_s: float | None = None
        while not is_over():
            if ended_s is None and has_ended():
                ended_s = time.monotonic()
            reply: Any = self._probe.ask(request("info"))[0]
            failure = failure_in(reply)
            if failure is not None:
                raise RuntimeError(f"info: the server answers {failure.kind}: {failure.message}")
            deviation = reply[b"caches"][b"default"][b"deviation"]
            self.peak = max(self.peak, deviation)
            self.changes = reactions(reply[b"tuner"][b"decisions"], time.monotonic() - began_s)
            if ended_s is not None and deviation < DEVIATION_MAX:
                self.settled_s = time.monotonic() - ended_s
                return
            time.sleep(SAMPLE_S)


def reactions(decisions: list[dict[bytes, Any]], since_s: float) -> int:
    """How many of these decisions have answered a burst that began `since_s` seconds ago. Filling the cache is
    followed by changes too, and the collector has its own."""
    return sum(
        each[b"what"] == b"changed"
        and each[b"setting"] == b"sweep_budget_ms"
        and not each[b"dry_run"]
        and each[b"age_ms"] <= since_s * 1000
        for each in decisions
    )


def _busy(run: Run, drainer: Drainer, watch: DeviationWatch) -> Result:
    """The steady load from the beginning of the burst until the deviation is low."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        load = pool.submit(run.execute)
        run.measuring.wait(SETTLE_S_MAX)
        draining = pool.submit(drainer.drain)
        try:
            watch.watch(draining.done, load.done)
        finally:
            run.enough.set()
        draining.result()
        return load.result()


def _described(one: Burst) -> str:
    settled = "never" if one.settled_s is None else f"{one.settled_s:.2f} s"
    return (
        f"deviation {one.peak:.0%} at most, below 1 % after {settled}; p99 quiet"
        f" {milliseconds(one.quiet.response.percentile(99))}, busy {milliseconds(one.busy.response.percentile(99))},"
        f" max {milliseconds(one.busy.response.max_ns)}; {one.changes} changes"
    )


def bar(on: list[Burst], off: list[Burst], count: int) -> Bar:
    """The bar of these rounds: the first of each list belong together, and so on."""
    bursts = [*on, *off]
    wrong = list(
        dict.fromkeys(problem for each in bursts for run in (each.quiet, each.busy) for problem in problems(run))
    )
    reasons = list(dict.fromkeys(reason for each in bursts for reason in each.invalid))
    pairs = [(with_it, without) for with_it, without in zip(on, off, strict=True)]
    valid = [pair for pair in pairs if not pair[0].invalid and not pair[1].invalid]
    shown = valid or pairs
    times = spread([with_it.times for with_it, _ in shown])
    unsettled = [each for pair in shown for each in pair if each.settled_s is None]
    on_s = [with_it.settled_s or SETTLE_S_MAX for with_it, _ in shown]
    off_s = [without.settled_s or SETTLE_S_MAX for _, without in shown]
    longer = spread([without / max(with_it, SAMPLE_S) for with_it, without in zip(on_s, off_s, strict=True)])
    reacted = all(with_it.changes for with_it, _ in shown) and not any(without.changes for _, without in shown)
    # In every round: with a median alone, two rounds of three that differ by chance would do.
    sooner = longer.low > 1
    reached = times.median <= P99_TIMES_MAX and sooner and reacted and not unsettled
    return Bar(
        GROUP,
        f"a burst of {count:,} zeros in a lazy cache",
        "deviation back below 1 % by itself, in every round sooner than with the tuner off,"
        f" p99 at most {P99_TIMES_MAX:g}x quiet",
        f"after {statistics.median(on_s):.2f} s, without the tuner {statistics.median(off_s):.2f} s ({longer}),"
        f" p99 {times}",
        INVALID if wrong or not valid else PASS if reached else MISSED,
        {"on": [_figures(each) for each in on], "off": [_figures(each) for each in off]},
        [
            f"tuner on:  {_described(shown[-1][0])}",
            f"tuner off: {_described(shown[-1][1])}",
            f"CPU a request, the sweeper's work included: tuner on {_cpu(shown, 0)}, off {_cpu(shown, 1)}",
            *(["the tuner did not react in every round, or did while it was off"] if not reacted else []),
            f"{len(valid)} of {len(pairs)} rounds valid; medians of {'these' if valid else 'all'}",
            *reasons,
            *wrong,
        ],
        wrong,
    )


def _cpu(pairs: list[tuple[Burst, Burst]], side: int) -> str:
    return microseconds(cpu_us_median([pair[side].busy for pair in pairs]))


def _figures(each: Burst) -> dict[str, Any]:
    return {
        "quiet_ns": each.quiet.response.summary_ns(),
        "busy_ns": each.busy.response.summary_ns(),
        "burst_s": round(each.took_s, 3),
        "peak_deviation": round(each.peak, 4),
        "settled_s": None if each.settled_s is None else round(each.settled_s, 3),
        "changes": each.changes,
        "busy_cpu_us": each.busy.server_cpu_us,
        "invalid": each.invalid,
    }
