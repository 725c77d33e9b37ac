"""`naught-loadtest ceiling`: the most this generator can do here, against a server that only sends back.

No figure of this harness can be above its ceiling, and one close to it says more about the generator than
about the server. The echo costs time too (it shares the kernel's work of moving bytes), so the true ceiling
of the generator is somewhat higher.
"""

from __future__ import annotations

import argparse
import sys

from naught_loadtest.commands import status
from naught_loadtest.drivers.servers import echo_server
from naught_loadtest.generate.plan import Plan
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.cores import Cores, split_cores
from naught_loadtest.measure.report import write_json
from naught_loadtest.measure.rounds import Setting, Table, base_plan, run_rounds, started

SETTINGS = [
    Setting("depth 1", 1),
    Setting("depth 16", 16),
    Setting("depth 100", 100),
    Setting("apply of 1000", 1, 1000),
]
WARMUP_S = 0.3


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of `ceiling`."""
    add = parser.add_argument
    add("-c", "--connections", type=int, default=50, metavar="N", help="(%(default)s)")
    add("--duration", type=float, default=2.0, metavar="S", help="of each of the four runs (%(default)g)")
    add("--processes", type=int, default=1, metavar="N", help="load processes (%(default)s)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")


def measure(cores: Cores, base: Plan, settings: list[Setting]) -> Table:
    """The echo's rates for these settings."""
    with started("echo", cores.server) as echo:
        return run_rounds([echo], settings, 1, base)


def ceiling_of(plan: Plan, duration_s: float) -> float:
    """Operations a second the generator of this plan does with an echo, in place of its server."""
    with echo_server() as echo:
        changes = {"target": echo.url, "prefix": new_prefix(), "duration_s": duration_s, "warmup_s": WARMUP_S}
        return Run(Plan.from_json({**plan.to_json(), **changes})).execute().throughput


def execute(arguments: argparse.Namespace) -> int:
    """The whole command. Its exit status."""
    cores = split_cores()
    people = sys.stderr if arguments.json == "-" else sys.stdout
    print(f"the generator against an echo, {arguments.connections} connections; {cores.note}\n", file=people)
    base = base_plan(
        cores,
        connections=arguments.connections,
        duration_s=arguments.duration,
        warmup_s=WARMUP_S,
        processes=arguments.processes,
    )
    table = measure(cores, base, SETTINGS)
    for line in lines(table):
        print(line, file=people)
    if arguments.json:
        document = {"schema": 1, "kind": "ceiling", "cores": cores.note, "runs": table.to_json()}
        write_json(document, arguments.json)
    return status.OK


def lines(table: Table) -> list[str]:
    """A line for each setting."""
    rows = []
    for (setting, contender), results in table.results.items():
        share = results[0].generator_share
        rate = table.throughput(setting, contender)
        rows.append(f"{setting:<16}{rate:>14,.0f} operations/s   generator {share:.0%} of a core")
    return rows
