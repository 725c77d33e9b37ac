"""`naught-loadtest versus`: naught compared with Redis and memcached on this machine, in one run.

All servers are started here, on loopback, without configuration. Each server has one core, and the generator has the
others where there are any. All get the same workload. Only naught has a command for many counters, so where naught
sends an `apply` of a thousand counters, it is compared with the peer's deepest pipeline.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from naught_loadtest.commands import status
from naught_loadtest.generate.workload import SCENARIOS
from naught_loadtest.measure.ceiling import WARMUP_S, ceiling_lines, ceilings
from naught_loadtest.measure.cores import split_cores
from naught_loadtest.measure.machine import machine_lines
from naught_loadtest.measure.report import text_stream, write_json
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import (
    PEERS,
    Contender,
    Setting,
    Table,
    base_plan,
    run_rounds,
    started_all,
)

DEPTHS = (1, 16, 100)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `versus`."""
    add = parser.add_argument
    add("--peers", type=peers, default=list(PEERS), metavar="A,B", help=f"some of {', '.join(PEERS)} (all)")
    add("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")
    add("--duration", type=float, default=2.0, metavar="S", help="of each run (%(default)g)")
    add("--scenario", choices=SCENARIOS, default="churn", help="(%(default)s)")
    add("-c", "--connections", type=int, default=50, metavar="N", help="(%(default)s)")
    add("--depths", type=numbers, default=list(DEPTHS), metavar="N,N", help="pipeline depths (1,16,100)")
    add("-B", "--batch", type=int, default=1000, metavar="N", help="counters in each apply (%(default)s)")
    add("--processes", type=int, default=1, metavar="N", help="load processes (%(default)s)")
    add("--seed", type=int, default=1, help="(%(default)s)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")


def peers(text: str) -> list[str]:
    """An argparse type: names of peers, separated by commas."""
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"peers are some of {', '.join(PEERS)}, not {text!r}")
    return names


def numbers(text: str) -> list[int]:
    """An argparse type: whole numbers from 1, separated by commas. They are sorted, each once."""
    try:
        values = sorted({int(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or values[0] < 1:
        raise argparse.ArgumentTypeError(f"must be whole numbers from 1, separated by commas, not {text!r}")
    return values


def settings_for(depths: list[int], batch: int) -> list[Setting]:
    """One setting for each pipeline depth, then one for applies of `batch` counters unless that is 1."""
    settings = [Setting(f"depth {depth}", depth) for depth in depths]
    return settings + ([Setting(f"apply of {batch}", 1, batch)] if batch > 1 else [])


def execute(arguments: argparse.Namespace) -> int:
    """Run the whole command. Returns the exit status."""
    if arguments.rounds < 1:
        raise ValueError("--rounds must be at least 1")
    out = text_stream(arguments.json)
    cores = split_cores()
    settings = settings_for(arguments.depths, arguments.batch)
    base = base_plan(
        cores,
        scenario=arguments.scenario,
        connections=arguments.connections,
        duration_s=arguments.duration,
        warmup_s=WARMUP_S,
        processes=arguments.processes,
        seed=arguments.seed,
    )
    load = f"{arguments.rounds} rounds of {arguments.duration:g} s: {arguments.scenario}"
    for line in (*machine_lines(), cores.note, f"{load}, {base.connections} connections, seed {base.seed}"):
        print(line, file=out)
    with started_all(["naught", *arguments.peers], cores.server) as (contenders, missing):
        for line in (*missing, *(f"{each.name}: {each.version}" for each in contenders)):
            print(line, file=out)
        print(file=out)
        table = run_rounds(contenders, settings, arguments.rounds, base, Announcer(arguments.rounds).say)
    echo = ceilings(cores, base, settings)
    names = [each.name for each in contenders if each.name != "naught"]
    print(file=out)
    for line in lines(table, settings, names, echo):
        print(line, file=out)
    if arguments.json:
        document = _document(table, settings, names)
        document["cores"] = cores.note
        document["versions"] = {each.name: each.version for each in contenders}
        document["ceiling"] = echo.to_json()
        write_json(document, arguments.json)
    return status.FAILED if table.failures() or not names else status.OK


class Announcer:
    """Prints one line to standard error after each run, as the command takes minutes."""

    def __init__(self, rounds: int) -> None:
        # The number of rounds, for "round 2/5".
        self._rounds = rounds

    def say(self, number: int, setting: Setting, contender: Contender, result: Result) -> None:
        share = "" if result.server_share is None else f"   server {result.server_share:.0%}"
        print(
            f"round {number + 1}/{self._rounds}   {setting.name:<14} {contender.name:<10}"
            f" {result.throughput:>11,.0f}/s{share}   generator {result.generator_share:.0%}",
            file=sys.stderr,
            flush=True,
        )


def compared(setting: Setting, settings: list[Setting], peer: str) -> tuple[str, str]:
    """(setting, peer) that naught at `setting` is compared with: the same, or for applies the deepest pipeline."""
    if setting.batch == 1:
        return setting.name, peer
    return max((each for each in settings if each.batch == 1), key=lambda each: each.depth).name, peer


def lines(table: Table, settings: list[Setting], names: list[str], echo: Table) -> Iterator[str]:
    """The table of ratios, with its notes."""
    yield f"{'':<15}{'naught':>13}  {'peer':<10}{'':>13}   ratio (least-most)   per server core-second"
    for setting in settings:
        mine = (setting.name, "naught")
        for peer in names:
            its = compared(setting, settings, peer)
            core = table.core_ratio(mine, its)
            marks = "*" if table.limited(*mine) or table.limited(*its) else ""
            yield (
                f"{setting.name:<15}{table.throughput(*mine):>11,.0f}/s  {peer:<10}"
                f"{table.throughput(*its):>11,.0f}/s   {table.ratio(mine, its)!s:<20} {core or '-'} {marks}".rstrip()
            )
    yield ""
    yield "each ratio is of runs of the same round; shown are the median of the rounds, the least and the most"
    if any(table.limited(*key) for key in table.results):
        yield "* the generator was the limit of one of the two; the last column does not depend on that"
    yield "the generator's own ceiling, against an echo server:"
    yield from (f"  {line}" for line in ceiling_lines(echo))
    for sentence in table.failures():
        yield f"FAILED  {sentence}"


def _document(table: Table, settings: list[Setting], names: list[str]) -> dict[str, Any]:
    ratios = []
    for setting in settings:
        for peer in names:
            mine, its = (setting.name, "naught"), compared(setting, settings, peer)
            core = table.core_ratio(mine, its)
            ratios.append(
                {
                    "setting": setting.name,
                    "peer": peer,
                    "peer_setting": its[0],
                    "ratio": table.ratio(mine, its).to_json(),
                    "core_ratio": core.to_json() if core else None,
                    "generator_limited": table.limited(*mine) or table.limited(*its),
                }
            )
    return {
        "schema": 1,
        "kind": "versus",
        "machine": list(machine_lines()),
        "ratios": ratios,
        "runs": table.to_json(),
        "failures": table.failures(),
    }
