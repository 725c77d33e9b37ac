"""Bars of the server's capacity: single requests at three pipeline depths, and applies, compared with Redis.

Redis is measured twice: with plain commands, which leave zeros behind, and with the script that deletes at zero. The
server has one core and the generator another, the workload goes up and down on 50 connections, and the rounds are
interleaved.
"""

from __future__ import annotations

from naught_loadtest.bars.bar import INVALID, Bar, Bench, at_least, skipped
from naught_loadtest.measure.ceiling import SETTINGS, ceilings
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import Contender, Setting, Table, base_plan, run_rounds, started_all

GROUP = "server"
# naught's setting, the peer, the peer's setting, and the least ratio of their throughputs.
BARS = (
    ("depth 1", "redis-lua", "depth 1", 0.95),
    ("depth 16", "redis-lua", "depth 16", 2.0),
    ("depth 100", "redis-lua", "depth 100", 2.5),
    ("depth 1", "redis", "depth 1", 0.7),
    ("depth 16", "redis", "depth 16", 0.7),
    ("depth 100", "redis", "depth 100", 0.7),
    ("apply of 1000", "redis", "depth 100", 1.2),
)


def measure(bench: Bench) -> list[Bar]:
    """The seven bars of capacity."""
    with started_all(["naught", "redis", "redis-lua"], bench.cores.server) as (contenders, missing):
        if missing:
            return [skipped(GROUP, "capacity beside Redis", missing[0])]
        base = base_plan(bench.cores, duration_s=1.0 if bench.quick else 3.0, warmup_s=0.3, seed=bench.seed)

        def say(number: int, setting: Setting, contender: Contender, result: Result) -> None:
            bench.say(
                f"round {number + 1}/{bench.rounds}  {setting.name:<14} {contender.name:<10}"
                f" {result.throughput:>11,.0f}/s   server {result.server_share or 0:.0%}"
                f"   generator {result.generator_share:.0%}"
            )

        table = run_rounds(contenders, SETTINGS, bench.rounds, base, say)
    echo = ceilings(bench.cores, base, SETTINGS)
    return [_bar(table, echo, row) for row in BARS]


def _bar(table: Table, echo: Table, row: tuple[str, str, str, float]) -> Bar:
    setting, peer, peer_setting, bar = row
    mine, its = (setting, "naught"), (peer_setting, peer)
    ratio = table.ratio(mine, its)
    core = table.core_ratio(mine, its)
    name = "Redis INCRBY" if peer == "redis" else "Redis with the evicting script"
    rates = (
        f"naught {table.throughput(*mine):,.0f}/s, {name} {table.throughput(*its):,.0f}/s,"
        f" generator's ceiling {echo.throughput(setting, 'echo'):,.0f}/s; ratio per server core-second {core}"
    )
    notes = [rates]
    if table.limited(*mine) or table.limited(*its):
        notes.append("the generator was the limit of one of the two: trust the ratio per core-second more")
    failures = table.failures()
    at_setting = "" if setting == peer_setting else f" at {peer_setting}"
    return Bar(
        GROUP,
        f"{setting} against {name}{at_setting}",
        f"at least {bar:g}x",
        str(ratio),
        INVALID if failures else at_least(ratio.median, bar),
        {
            "ratio": ratio.to_json(),
            "core_ratio": core.to_json() if core else None,
            "naught_per_s": round(table.throughput(*mine), 1),
            "peer_per_s": round(table.throughput(*its), 1),
            "ceiling_per_s": round(echo.throughput(setting, "echo"), 1),
        },
        notes + failures,
        failures,
    )
