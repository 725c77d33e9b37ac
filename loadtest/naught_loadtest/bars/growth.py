"""The bar of growth: what an operation costs among ten thousand counters and among ten million.

The cost is the server's processor time divided by the operations it executed. It does not depend on how fast the
generator is, so this bar is measured even where the generator is the limit of the throughput. The operations are
increments of existing counters drawn from all of them, at pipeline depth 16, on naught and on Redis.

Both servers are filled to the same number of counters and then measured in turns, so that a change of the machine's
speed falls on both. The bar asks that naught's cost grows by no more nanoseconds than Redis's. The factor of the
growth is shown too, but it flatters the server with the greater cost at the beginning.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace

from naught_loadtest.bars.bar import Bar, Bench, at_most, skipped
from naught_loadtest.bars.filling import Filler, RedisFiller
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.machine import available_bytes
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import Contender, base_plan, started_all

GROUP = "growth"
WHAT = "growth of the cost of an operation"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
DEPTH = 16
# Memory that a counter takes on both servers together at worst, while a table doubles, and with some to spare.
BYTES_PER_COUNTER = 500


@dataclass(slots=True)
class Costs:
    """Nanoseconds of one server's processor time for an operation."""

    # By number of counters, one figure for each round.
    rounds_ns: dict[int, list[float]] = field(default_factory=dict)

    def add(self, size: int, cost_ns: float) -> None:
        self.rounds_ns.setdefault(size, []).append(cost_ns)

    def median_ns(self, size: int) -> float:
        return statistics.median(self.rounds_ns[size])

    @property
    def growth_ns(self) -> float:
        """From the smallest number of counters to the greatest."""
        return self.median_ns(max(self.rounds_ns)) - self.median_ns(min(self.rounds_ns))

    @property
    def factor(self) -> float:
        return self.median_ns(max(self.rounds_ns)) / self.median_ns(min(self.rounds_ns))

    def described(self) -> str:
        medians = ", ".join(f"{self.median_ns(size):,.0f} ns at {size:,}" for size in self.rounds_ns)
        return f"{medians} ({self.factor:.2f}x)"


def measure(bench: Bench) -> list[Bar]:
    """The one bar of growth."""
    sizes = SIZES[:-1] if bench.quick else SIZES
    memory_bytes = available_bytes()
    if memory_bytes is not None and memory_bytes < sizes[-1] * BYTES_PER_COUNTER:
        needed_gib = sizes[-1] * BYTES_PER_COUNTER / 2**30
        return [skipped(GROUP, WHAT, f"{sizes[-1]:,} counters on two servers need {needed_gib:.1f} GiB of memory")]
    with started_all(["naught", "redis"], bench.cores.server, bench.peer) as (contenders, missing):
        if missing:
            return [skipped(GROUP, WHAT, missing[0])]
        costs = _costs(bench, contenders, sizes)
    if costs is None:
        return [skipped(GROUP, WHAT, "this system does not report the processor time of both servers")]
    return [bar(costs["naught"], costs["redis"], contenders[1].version)]


def _costs(bench: Bench, contenders: list[Contender], sizes: tuple[int, ...]) -> dict[str, Costs] | None:
    """The costs of each contender. None where the system does not report them."""
    costs = {contender.name: Costs() for contender in contenders}
    prefix = new_prefix()
    naught, redis = contenders
    probe, _ = open_probe(parse_target(naught.url))
    other_probe, redis_inspector = open_probe(parse_target(redis.url))
    with probe, other_probe:
        fillers = Filler(probe, prefix), RedisFiller(other_probe, prefix)
        try:
            for size in sizes:
                for filler in fillers:
                    filler.fill_to(size)
                for number in range(bench.rounds):
                    for contender in (naught, redis) if number % 2 == 0 else (redis, naught):
                        cost_us = _run(bench, contender, prefix, size).server_cpu_us
                        if cost_us is None:
                            return None
                        costs[contender.name].add(size, cost_us * 1000)
                for name, each in costs.items():
                    bench.say(f"{name}: {each.median_ns(size):,.0f} ns per operation among {size:,} counters")
        finally:
            # A server that was not started here keeps nothing of the run.
            if bench.peer.url is not None:
                fillers[1].remove(redis_inspector)
    return costs


def _run(bench: Bench, server: Contender, prefix: str, size: int) -> Result:
    base = base_plan(
        bench.cores,
        scenario="incr",
        keys=size,
        pipeline=DEPTH,
        duration_s=1.0 if bench.quick else 3.0,
        warmup_s=0.5,
        seed=bench.seed,
    )
    plan = replace(base, target=server.url, prefix=prefix)
    return Run(plan, server_pid=server.pid, check=False, clean=False).execute()


def bar(mine: Costs, its: Costs, version: str) -> Bar:
    """The bar of these costs, naught's and those of a peer of this version."""
    first, last = min(mine.rounds_ns), max(mine.rounds_ns)
    return Bar(
        GROUP,
        f"{WHAT}, {first:,} to {last:,} counters",
        f"at most Redis's {its.growth_ns:+,.0f} ns",
        f"{mine.growth_ns:+,.0f} ns",
        at_most(mine.growth_ns, its.growth_ns),
        {
            "cost_ns": {"naught": mine.rounds_ns, "peer": its.rounds_ns},
            "growth_ns": {"naught": mine.growth_ns, "peer": its.growth_ns},
            "growth": {"naught": mine.factor, "peer": its.factor},
        },
        [f"CPU an operation, naught: {mine.described()}", f"CPU an operation, {version}: {its.described()}"],
    )
