"""The bar of growth: what an operation costs among ten thousand counters and among ten million.

The cost is the server's processor time divided by the operations it executed, which the generator does not
influence. The operations are increments of existing counters drawn from all of them, at pipeline depth 16, on
naught and on Redis. The bar asks that naught's cost grows by no greater factor than Redis's.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

from naught_loadtest.bars.bar import Bar, Bench, at_most, skipped
from naught_loadtest.bars.filling import Filler, RedisFiller
from naught_loadtest.drivers.probe import open_probe
from naught_loadtest.drivers.servers import MissingProgramError
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.rounds import Contender, base_plan, started
from naught_loadtest.measure.usage import cpu_s

GROUP = "growth"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
RUNS = 3
DEPTH = 16


def measure(bench: Bench) -> list[Bar]:
    """The one bar of growth."""
    what = "growth of the cost of an operation"
    sizes = SIZES[:-1] if bench.quick else SIZES
    try:
        # One server after the other: not every machine has memory for ten million counters of both.
        costs = {name: _costs(bench, name, sizes) for name in ("naught", "redis")}
    except MissingProgramError as error:
        return [skipped(GROUP, what, str(error))]
    if not all(cost for by_size in costs.values() for cost in by_size.values()):
        return [skipped(GROUP, what, "this system does not report the processor time of another process")]
    growth = {name: by_size[sizes[-1]] / by_size[sizes[0]] for name, by_size in costs.items()}
    rows = [
        f"{name}: " + ", ".join(f"{cost:.2f} us at {size:,}" for size, cost in by_size.items())
        for name, by_size in costs.items()
    ]
    return [
        Bar(
            GROUP,
            f"{what}, {sizes[0]:,} to {sizes[-1]:,} counters",
            f"at most Redis's {growth['redis']:.2f}x",
            f"{growth['naught']:.2f}x",
            at_most(growth["naught"], growth["redis"]),
            {"cost_us": costs, "growth": growth},
            rows,
        )
    ]


def _costs(bench: Bench, name: str, sizes: tuple[int, ...]) -> dict[int, float]:
    """Microseconds of server time per operation, by number of counters. All 0 where that cannot be measured."""
    costs = {}
    with started(name, bench.cores.server) as server:
        if cpu_s(server.pid) is None:
            return dict.fromkeys(sizes, 0.0)
        prefix = new_prefix()
        probe, _ = open_probe(parse_target(server.url))
        with probe:
            filler = Filler(probe, prefix) if name == "naught" else RedisFiller(probe, prefix)
            for size in sizes:
                filler.fill_to(size)
                costs[size] = statistics.median(_cost(bench, server, prefix, size) for _ in range(RUNS))
                bench.say(f"{name}: {costs[size]:.3f} us per operation among {size:,} counters")
    return costs


def _cost(bench: Bench, server: Contender, prefix: str, size: int) -> float:
    """Microseconds of server time per operation, measured by one run."""
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
    result = Run(plan, server_pid=server.pid, check=False, clean=False).execute()
    return (result.server_share or 0.0) / max(result.throughput, 1e-9) * 1e6
