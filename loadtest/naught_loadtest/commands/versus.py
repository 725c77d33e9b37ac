"""`naught-loadtest versus`: naught compared with Redis and memcached on this machine, in one run.

All servers are started here, on loopback, without configuration. Each server has one core, and the generator has the
others where there are any. All get the same workload. Only naught has a command for many counters, so where naught
sends an `apply` of a thousand counters, it is compared with the peer's deepest pipeline.

Redis and Valkey can delete a counter that reaches zero in several ways. All that the server supports are measured,
and the headline compares naught with the best of them. --peer-binary, --peer-url and --peer-args say which server.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from naught_loadtest.commands import status
from naught_loadtest.commands.outputs import add_html_argument, write_outputs
from naught_loadtest.commands.peer import add_peer_arguments, peer_of
from naught_loadtest.generate.workload import SCENARIOS
from naught_loadtest.measure.ceiling import WARMUP_S, ceiling_lines
from naught_loadtest.measure.machine import machine_lines
from naught_loadtest.measure.report import paragraph, text_stream, write_json
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import (
    EVICTING_WAYS,
    PEERS,
    Contender,
    Setting,
    Table,
    base_plan,
    run_rounds,
    started,
    started_all,
)

DEPTHS = (1, 16, 100)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `versus`."""
    add = parser.add_argument
    add("--peers", type=peers, default=list(PEERS), metavar="A,B", help=f"some of {', '.join(PEERS)} (all)")
    add_peer_arguments(parser)
    add("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")
    add("--duration", type=float, default=2.0, metavar="S", help="of each run (%(default)g)")
    add("--scenario", choices=SCENARIOS, default="churn", help="(%(default)s)")
    add("-c", "--connections", type=int, default=50, metavar="N", help="(%(default)s)")
    add("--depths", type=numbers, default=list(DEPTHS), metavar="N,N", help="pipeline depths (1,16,100)")
    add("-B", "--batch", type=int, default=1000, metavar="N", help="counters in each apply (%(default)s)")
    add("--processes", type=int, default=1, metavar="N", help="load processes (%(default)s)")
    add("--seed", type=int, default=1, help="(%(default)s)")
    add("--json", metavar="FILE", help="the report as JSON; - for standard output")
    add_html_argument(parser)


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
    peer, cores = peer_of(arguments)
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
        print(paragraph(line), file=out)
    if str(peer):
        print(peer, file=out)
    with started_all(["naught", *arguments.peers], cores.server, peer) as (contenders, missing):
        for line in (*missing, *(f"{each.name}: {each.version}" for each in contenders)):
            print(line, file=out)
        print(file=out)
        with started("echo", cores.server) as echo_contender:
            say = Announcer(arguments.rounds).say
            table = run_rounds(contenders, settings, arguments.rounds, base, say, echo=echo_contender, keep=True)
    echo = table.ceiling or Table()
    names = [each.name for each in contenders if each.name != "naught"]
    print(file=out)
    for line in lines(table, settings, names, echo):
        print(line, file=out)
    document = _document(table, settings, names)
    document["load"] = f"{load}, {base.connections} connections, seed {base.seed}"
    document["cores"] = cores.note
    document["peer"] = str(peer)
    document["versions"] = {each.name: each.version for each in contenders}
    document["ceiling"] = echo.to_json()
    if arguments.json:
        write_json(document, arguments.json)
    write_outputs(arguments, document)
    if table.failures() or not names:
        return status.FAILED
    return status.INTERRUPTED if table.cut_short else status.OK


class Announcer:
    """Prints one line to standard error after each run, as the command takes minutes."""

    def __init__(self, rounds: int) -> None:
        # The number of rounds, for "round 2/5".
        self._rounds = rounds

    def say(self, number: int, setting: Setting, contender: Contender, result: Result) -> None:
        share = "" if result.server_share is None else f"  server {result.server_share:.0%}"
        print(
            f"round {number + 1}/{self._rounds}  {setting.name:<13} {contender.name:<14}"
            f" {result.throughput:>9,.0f}/s{share}  generator {result.generator_share:.0%}",
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
    yield f"{'':<13}{'naught':>10} {'peer':<14}{'':>10} {'ratio (least-most)':<19} CPU us"
    for setting in settings:
        mine = (setting.name, "naught")
        for peer in names:
            its = compared(setting, settings, peer)
            mark = "*" if table.limited(*mine) or table.limited(*its) else ""
            cpu = f"{_short(table.cpu_us(*mine))}/{_short(table.cpu_us(*its))}"
            yield (
                f"{setting.name:<13}{table.throughput(*mine):>10,.0f} {peer:<14}"
                f"{table.throughput(*its):>10,.0f} {f'{table.ratio(mine, its)}{mark}':<19} {cpu}"
            )
    yield ""
    for setting in settings:
        best = best_evicting(table, setting, settings, names)
        if best is not None:
            mine = (setting.name, "naught")
            mark = "*" if table.limited(*mine) or table.limited(*best) else ""
            yield f"{setting.name}, evict at zero: {table.ratio(mine, best)}{mark} of the best, {best[1]}"
    yield ""
    yield "operations a second. Each ratio is of runs of the same round; shown are the"
    yield "median of the rounds, the least and the most. CPU: microseconds of the server's"
    yield "processor time for an operation, naught's/the peer's"
    if any(table.limited(*key) for key in table.results):
        yield "* INVALID: the generator was the limit of one of the two, or the machine was"
        yield "  busy. CPU does not depend on it"
    if table.cut_short:
        yield f"CUT SHORT after {table.rounds} rounds: {table.cut_short}"
    yield "the generator's own ceiling, against an echo server:"
    yield from (f"  {line}" for line in ceiling_lines(echo))
    for sentence in table.failures():
        yield f"FAILED  {sentence}"


def _short(cpu_us: float | None) -> str:
    return "-" if cpu_us is None else f"{cpu_us:.2f}" if cpu_us < 10 else f"{cpu_us:.1f}"


def best_evicting(
    table: Table, setting: Setting, settings: list[Setting], names: list[str]
) -> tuple[str, str] | None:
    """(setting, peer) of the fastest way in which Redis evicts at zero. None where none was measured."""
    ways = [name for name in names if name in EVICTING_WAYS]
    if not ways:
        return None
    its_setting, _ = compared(setting, settings, ways[0])
    return its_setting, table.best(its_setting, ways)


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
                    "naught_cpu_us": table.cpu_us(*mine),
                    "peer_cpu_us": table.cpu_us(*its),
                    "generator_limited": table.limited(*mine) or table.limited(*its),
                }
            )
    bests = {setting.name: best_evicting(table, setting, settings, names) for setting in settings}
    return {
        "schema": 1,
        "kind": "versus",
        "machine": list(machine_lines()),
        "ratios": ratios,
        "best_evicting": {name: best[1] for name, best in bests.items() if best is not None},
        "rounds": table.rounds,
        "cut_short": table.cut_short,
        "runs": table.to_json(),
        "failures": table.failures(),
    }
