"""Bars of the server's capacity: single requests at three pipeline depths, and applies, compared with Redis.

Redis is measured with plain commands, which leave zeros behind, and in every way it has to delete a counter at zero.
The bars of "evict at zero" compare naught with the best of these ways at the same depth and say which one that was.
The server has one core and the generator another, the workload goes up and down on 50 connections, and the rounds are
interleaved.
"""

from __future__ import annotations

from dataclasses import dataclass

from naught_loadtest.bars.bar import INVALID, Bar, Bench, at_least, skipped
from naught_loadtest.measure.ceiling import SETTINGS, ceilings
from naught_loadtest.measure.rounds import (
    EVICTING_WAYS,
    REDIS_WAYS,
    Table,
    base_plan,
    microseconds,
    run_rounds,
    started_all,
)

GROUP = "server"
PLAIN = ("redis",)


@dataclass(frozen=True, slots=True)
class Row:
    """One bar: naught at a setting, compared with the best of some ways of Redis."""

    setting: str
    # The ways, by the names of their contenders, and the setting they have.
    ways: tuple[str, ...]
    its_setting: str
    # The least ratio of the throughputs.
    least: float


ROWS = (
    Row("depth 1", EVICTING_WAYS, "depth 1", 1.0),
    Row("depth 16", EVICTING_WAYS, "depth 16", 1.5),
    Row("depth 100", EVICTING_WAYS, "depth 100", 2.0),
    Row("depth 1", PLAIN, "depth 1", 0.9),
    Row("depth 16", PLAIN, "depth 16", 1.0),
    Row("depth 100", PLAIN, "depth 100", 1.2),
    Row("apply of 1000", PLAIN, "depth 100", 2.0),
)


def measure(bench: Bench) -> list[Bar]:
    """The seven bars of capacity."""
    with started_all(["naught", *REDIS_WAYS], bench.cores.server, bench.peer) as (contenders, missing):
        for sentence in missing:
            bench.say(sentence)
        names = [contender.name for contender in contenders]
        if "redis" not in names:
            return [skipped(GROUP, "capacity beside Redis", missing[0])]
        base = base_plan(bench.cores, duration_s=1.0 if bench.quick else 3.0, warmup_s=0.3, seed=bench.seed)

        table = run_rounds(contenders, SETTINGS, bench.rounds, base, bench.say_result)
        version = contenders[names.index("redis")].version
    echo = ceilings(bench.cores, base, SETTINGS)
    return [bar(table, echo, row, names, version) for row in ROWS]


def bar(table: Table, echo: Table, row: Row, names: list[str], version: str) -> Bar:
    """The bar of this row. `names` are the contenders that were measured, `version` is Redis's."""
    ways = [name for name in row.ways if name in names]
    at_setting = "" if row.setting == row.its_setting else f" at {row.its_setting}"
    against = f"plain INCR{at_setting}" if row.ways == PLAIN else "the best evict at zero"
    what = f"{row.setting} against {against}"
    if not ways:
        return skipped(GROUP, what, f"{version} has no way to delete a counter at zero that is measured here")
    mine = row.setting, "naught"
    # The fastest first.
    ways.sort(key=lambda way: table.throughput(row.its_setting, way), reverse=True)
    its = row.its_setting, ways[0]
    ratio = table.ratio(mine, its)
    core = table.core_ratio(mine, its)
    ceiling = echo.throughput(row.setting, "echo")
    notes = [
        _described(table, mine),
        f"{_described(table, its)}: {version}{', its best' if len(row.ways) > 1 else ''}",
        *(_described(table, (row.its_setting, way)) for way in ways[1:]),
        f"ratio per core-second of the server {core}; generator's ceiling {ceiling:,.0f}/s",
    ]
    limited = [key[1] for key in (mine, its) if table.limited(*key)]
    if limited:
        notes.append(f"the generator was the limit of {' and of '.join(limited)}")
    failures = table.failures()
    return Bar(
        GROUP,
        what,
        f"at least {row.least:g}x",
        str(ratio),
        INVALID if failures or limited else at_least(ratio.median, row.least),
        {
            "ratio": ratio.to_json(),
            "core_ratio": core.to_json() if core else None,
            "peer": its[1],
            "naught_per_s": round(table.throughput(*mine), 1),
            "peer_per_s": round(table.throughput(*its), 1),
            "ways_per_s": {way: round(table.throughput(row.its_setting, way), 1) for way in ways},
            "naught_cpu_us": table.cpu_us(*mine),
            "ways_cpu_us": {way: table.cpu_us(row.its_setting, way) for way in ways},
            "ceiling_per_s": round(ceiling, 1),
        },
        notes + failures,
        failures,
    )


def _described(table: Table, key: tuple[str, str]) -> str:
    return f"{key[1]:<14} {table.throughput(*key):>11,.0f}/s, CPU {microseconds(table.cpu_us(*key))} an operation"
