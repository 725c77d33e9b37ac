"""`naught-loadtest bars`: the speed bars, each with the figure reached on this machine. `make bench` runs it.

All servers are started for the measurement and stopped afterwards, except for a peer that --peer-url names. Bars that
need Redis are skipped where Redis is not installed, and the report says so. A missed bar does not change the exit
status, because this command measures and does not judge. A bar whose generator was the limit is INVALID: neither met
nor missed. The exit status is 1 when a request failed or a counter differs from what was acknowledged.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from naught_loadtest.bars import (
    access,
    burst,
    capacity,
    client,
    drain,
    growth,
    in_use,
    latency,
    memory,
    overload,
    pruning,
    safemap,
    threads,
    victims,
)
from naught_loadtest.bars.bar import INVALID, MISSED, PASS, Bar, Bench
from naught_loadtest.commands import status
from naught_loadtest.commands.peer import add_peer_arguments, peer_of
from naught_loadtest.drivers.servers import installed_version
from naught_loadtest.measure.machine import load_average, machine_lines
from naught_loadtest.measure.report import text_stream, write_json

# What `--only` chooses from: the function that measures a group of bars, and what it measures.
GROUPS: dict[str, tuple[Callable[[Bench], list[Bar]], str]] = {
    capacity.GROUP: (capacity.measure, "single requests and applies, compared with Redis"),
    in_use.GROUP: (in_use.measure, "the same load on a server in use, compared with an empty one"),
    access.GROUP: (access.measure, "the same load with users and with TLS, compared with neither"),
    victims.GROUP: (victims.measure, "a light load beside clients that ask for costly things"),
    overload.GROUP: (overload.measure, "twice what the server can do"),
    client.GROUP: (client.measure, "the client library, compared with redis-py and valkey-glide"),
    threads.GROUP: (threads.measure, "the client library for threads, compared with redis-py and its pool"),
    latency.GROUP: (latency.measure, "an open loop at half of Redis's unpipelined capacity"),
    drain.GROUP: (drain.measure, "a steady load while a million counters drain"),
    burst.GROUP: (burst.measure, "a burst of zeros in a lazy cache, with the tuner and without"),
    memory.GROUP: (memory.measure, "bytes per counter"),
    memory.GROUP_AFTER: (memory.measure_after, "memory after a drain"),
    growth.GROUP: (growth.measure, "cost of an operation by number of counters"),
    safemap.GROUP: (safemap.measure, "SafeMap compared with a dict and a lock, medians with quartiles"),
    pruning.GROUP: (pruning.measure, "pruning of nested data, compared with a comprehension"),
}
ROUNDS_DEFAULT = 5
ROUNDS_QUICK = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bars`."""
    add = parser.add_argument
    add("--only", action="append", choices=GROUPS, metavar="NAME", help=f"one of {', '.join(GROUPS)}; repeatable")
    add(
        "--rounds",
        type=int,
        metavar="N",
        help=f"how often each bar is measured ({ROUNDS_DEFAULT}, with --quick {ROUNDS_QUICK})",
    )
    add_peer_arguments(parser)
    add("--quick", action="store_true", help="short and small: a check that it works, not figures to quote")
    add("--seed", type=int, default=1, help="(%(default)s)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    rounds = arguments.rounds
    if rounds is None:
        rounds = ROUNDS_QUICK if arguments.quick else ROUNDS_DEFAULT
    if rounds < 1:
        raise ValueError("--rounds must be at least 1")
    peer, cores = peer_of(arguments)
    out = text_stream(arguments.json)
    bench = Bench(cores, rounds, arguments.quick, arguments.seed, peer)
    heading = [
        *machine_lines(),
        f"server: {installed_version()}",
        bench.cores.note,
        f"load average at the start: {load_average()}",
        f"rounds: {rounds}, medians with least and most; seed {bench.seed}",
        *filter(None, [str(peer)]),
    ]
    print("\n".join(heading), file=out)
    if bench.quick:
        print("--quick: these figures show that it works and are not for quoting", file=out)
    bars: list[Bar] = []
    for name in arguments.only or GROUPS:
        measure, title = GROUPS[name]
        print(f"\n{name}: {title}", file=out, flush=True)
        for bar in measure(bench):
            bars.append(bar)
            print("\n".join(bar.lines()), file=out, flush=True)
    counts = {verdict: sum(bar.verdict == verdict for bar in bars) for verdict in (PASS, MISSED, INVALID)}
    print(f"\n{', '.join(f'{count} {verdict}' for verdict, count in counts.items())}", file=out)
    if arguments.json:
        document = {
            "schema": 1,
            "kind": "bars",
            "machine": heading,
            "peer": str(peer),
            "quick": bench.quick,
            "rounds": rounds,
            "bars": [bar.to_json() for bar in bars],
        }
        write_json(document, arguments.json)
    return status.FAILED if any(bar.wrong for bar in bars) else status.OK
