"""`naught-loadtest ceiling`: the most this generator can do on this machine, against a server that only echoes.

No figure of this harness can be above its ceiling, and a figure close to it says more about the generator than about
the server. The echo server costs time too, as it shares the kernel's work of moving bytes, so the true ceiling is
somewhat higher.
"""

from __future__ import annotations

import argparse

from naught_loadtest.commands import status
from naught_loadtest.measure.ceiling import SETTINGS, WARMUP_S, ceiling_lines, ceilings
from naught_loadtest.measure.cores import split_cores
from naught_loadtest.measure.report import paragraph, text_stream, write_json
from naught_loadtest.measure.rounds import base_plan


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ceiling`."""
    add = parser.add_argument
    add("-c", "--connections", type=int, default=50, metavar="N", help="(%(default)s)")
    add("--duration", type=float, default=2.0, metavar="S", help="of each of the four runs (%(default)g)")
    add("--processes", type=int, default=1, metavar="N", help="load processes (%(default)s)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    cores = split_cores()
    out = text_stream(arguments.json)
    heading = f"the generator against an echo server, {arguments.connections} connections; {cores.note}"
    print(f"{paragraph(heading)}\n", file=out)
    base = base_plan(
        cores,
        connections=arguments.connections,
        duration_s=arguments.duration,
        warmup_s=WARMUP_S,
        processes=arguments.processes,
    )
    table = ceilings(cores, base, SETTINGS)
    for line in ceiling_lines(table):
        print(line, file=out)
    if arguments.json:
        document = {"schema": 1, "kind": "ceiling", "cores": cores.note, "runs": table.to_json()}
        write_json(document, arguments.json)
    return status.OK
