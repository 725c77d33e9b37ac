"""`naught-loadtest bars`: the speed bars, each with the figure reached here. `make bench` runs it.

Everything is started here and stopped again. Where Redis is not installed, what needs it is skipped and says
so. A bar that is missed does not change the exit status: this measures, it does not judge. What does is a
failed request or a counter that is not what was acknowledged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from naught_loadtest.bars import capacity, client, drain, growth, latency, memory, safemap, threads
from naught_loadtest.bars.bar import INVALID, MISSED, PASS, Bar, Bench
from naught_loadtest.commands import status
from naught_loadtest.measure.cores import split_cores
from naught_loadtest.measure.machine import machine_lines
from naught_loadtest.measure.report import write_json

GROUPS: dict[str, tuple[Callable[[Bench], list[Bar]], str]] = {
    capacity.GROUP: (capacity.measure, "single requests and applies beside Redis"),
    client.GROUP: (client.measure, "the client library beside redis-py and valkey-glide"),
    threads.GROUP: (threads.measure, "the client library for threads beside redis-py with a pool"),
    latency.GROUP: (latency.measure, "an open loop at half of Redis's unpipelined capacity"),
    drain.GROUP: (drain.measure, "a steady load while a million counters drain"),
    memory.GROUP: (memory.measure, "bytes a counter"),
    memory.GROUP_AFTER: (memory.measure_after, "memory after a drain"),
    growth.GROUP: (growth.measure, "cost of an operation by number of counters"),
    safemap.GROUP: (safemap.measure, "SafeMap beside itself without its eviction branch, medians with quartiles"),
}
ROUNDS_DEFAULT = 5
ROUNDS_QUICK = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of `bars`."""
    add = parser.add_argument
    add("--only", action="append", choices=GROUPS, metavar="NAME", help=f"of {', '.join(GROUPS)}; repeatable")
    add("--rounds", type=int, metavar="N", help=f"({ROUNDS_DEFAULT}, with --quick {ROUNDS_QUICK})")
    add("--quick", action="store_true", help="short and small: to see that it works, not to quote")
    add("--seed", type=int, default=1, help="(%(default)s)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")


def execute(arguments: argparse.Namespace) -> int:
    """The whole command. Its exit status."""
    rounds = arguments.rounds or (ROUNDS_QUICK if arguments.quick else ROUNDS_DEFAULT)
    if rounds < 1:
        raise ValueError("there is at least one round")
    people = sys.stderr if arguments.json == "-" else sys.stdout
    bench = Bench(split_cores(), rounds, arguments.quick, arguments.seed)
    heading = (
        *machine_lines(),
        bench.cores.note,
        f"{rounds} rounds, medians with least and most, seed {bench.seed}; load of others: {_load()}",
    )
    for line in heading:
        print(line, file=people)
    if bench.quick:
        print("--quick: the figures below are to see that it works, not to quote", file=people)
    found: list[Bar] = []
    for name in arguments.only or GROUPS:
        measure, what = GROUPS[name]
        print(f"\n{name}: {what}", file=people, flush=True)
        for bar in measure(bench):
            found.append(bar)
            print("\n".join(bar.lines()), file=people, flush=True)
    counts = {verdict: sum(bar.verdict == verdict for bar in found) for verdict in (PASS, MISSED, INVALID)}
    print(f"\n{', '.join(f'{count} {verdict}' for verdict, count in counts.items())}", file=people)
    if arguments.json:
        document = {
            "schema": 1,
            "kind": "bars",
            "machine": list(heading),
            "quick": bench.quick,
            "rounds": rounds,
            "bars": [bar.to_json() for bar in found],
        }
        write_json(document, arguments.json)
    return status.FAILED if any(bar.wrong for bar in found) else status.OK


def _load() -> str:
    """What else the machine is doing, before anything is measured."""
    try:
        return Path("/proc/loadavg").read_text().split()[0]
    except OSError:
        return "unknown"
