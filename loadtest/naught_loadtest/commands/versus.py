"""`naught-loadtest versus`: naught beside its peers, on this machine, in one run.

All servers are started here, on loopback, without configuration. Each runs on one core, the generator on the
others where there are any. The peers do the same up-and-down workload; where naught sends an `apply` of a
thousand counters, a peer without such a command is taken at the deepest pipeline measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from naught_loadtest.commands import ceiling, status
from naught_loadtest.generate.workload import SCENARIOS
from naught_loadtest.measure.cores import split_cores
from naught_loadtest.measure.machine import machine_lines
from naught_loadtest.measure.report import write_json
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
WARMUP_S = 0.3


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of `versus`."""
    add = parser.add_argument
    add("--peers", type=peers, default=list(PEERS), metavar="A,B", help=f"of {', '.join(PEERS)} (all)")
    add("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")
    add("--duration", type=float, default=2.0, metavar="S", help="of each run (%(default)g)")
    add("--scenario", choices=SCENARIOS, default="churn", help="(%(default)s)")
    add("-c", "--connections", type=int, default=50, metavar="N", help="(%(default)s)")
    add("--depths", type=numbers, default=list(DEPTHS), metavar="N,N", help="pipelines (1,16,100)")
    add("-B", "--batch", type=int, default=1000, metavar="N", help="counters of an apply (%(default)s)")
    add("--processes", type=int, default=1, metavar="N", help="load processes (%(default)s)")
    add("--seed", type=int, default=1, help="(%(default)s)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")


def peers(text: str) -> list[str]:
    """For argparse: names, comma-separated."""
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"peers are among {', '.join(PEERS)}")
    return names


def numbers(text: str) -> list[int]:
    """For argparse: numbers from 1, comma-separated, growing."""
    try:
        values = sorted({int(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or values[0] < 1:
        raise argparse.ArgumentTypeError("whole numbers from 1, separated by commas")
    return values


def settings_for(depths: list[int], batch: int) -> list[Setting]:
    """Pipelines, then applies."""
    settings = [Setting(f"depth {depth}", depth) for depth in depths]
    return settings + ([Setting(f"apply of {batch}", 1, batch)] if batch > 1 else [])


def execute(arguments: argparse.Namespace) -> int:
    """The whole command. Its exit status."""
    if arguments.rounds < 1:
        raise ValueError("there is at least one round")
    people = sys.stderr if arguments.json == "-" else sys.stdout
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
    how = f"{arguments.rounds} rounds of {arguments.duration:g} s: {arguments.scenario}"
    for line in (*machine_lines(), cores.note, f"{how}, {base.connections} connections, seed {base.seed}"):
        print(line, file=people)
    with started_all(["naught", *arguments.peers], cores.server) as (contenders, missing):
        for line in (*missing, *(f"{each.name}: {each.version}" for each in contenders)):
            print(line, file=people)
        print(file=people)
        table = run_rounds(contenders, settings, arguments.rounds, base, Announcer(arguments.rounds).say)
    echo = ceiling.measure(cores, base, settings)
    names = [each.name for each in contenders if each.name != "naught"]
    print(file=people)
    for line in lines(table, settings, names, echo):
        print(line, file=people)
    if arguments.json:
        document = _document(table, settings, names)
        document["cores"] = cores.note
        document["versions"] = {each.name: each.version for each in contenders}
        document["ceiling"] = echo.to_json()
        write_json(document, arguments.json)
    return status.FAILED if table.failures() or not names else status.OK


class Announcer:
    """One line on standard error for each run, so that the wait is not silent."""

    def __init__(self, rounds: int) -> None:
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
    """What a peer is measured by beside this setting of naught's: the same, or its deepest pipeline."""
    if setting.batch == 1:
        return setting.name, peer
    return max((each for each in settings if each.batch == 1), key=lambda each: each.depth).name, peer


def lines(table: Table, settings: list[Setting], names: list[str], echo: Table) -> Iterator[str]:
    """The table of ratios."""
    yield f"{'':<15}{'naught':>13}  {'peer':<10}{'':>13}   ratio (least-most)   for each server core-second"
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
    yield "ratios are of the same round; the median of the rounds, with the least and the most"
    if any(table.limited(*key) for key in table.results):
        yield "* the generator was the limit of one of the two; the last column does not depend on that"
    yield "the generator's own ceiling, against an echo:"
    yield from (f"  {line}" for line in ceiling.lines(echo))
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
