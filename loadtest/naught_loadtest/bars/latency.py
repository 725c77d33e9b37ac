"""The bar of latency: an open loop at half of Redis's unpipelined capacity, naught's p99 compared with Redis's.

First a closed loop measures Redis's capacity. Then both servers get the same constant rate, round by round. Rounds in
which the generator itself made the figures INVALID do not count.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from naught_loadtest.bars.bar import INVALID, Bar, Bench, at_most, skipped
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.report import milliseconds
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import base_plan, cpu_us_median, microseconds, problems, spread, started_all

GROUP = "latency"


def measure(bench: Bench) -> list[Bar]:
    """The one bar of latency."""
    what = "p99 at half of Redis's unpipelined capacity"
    with started_all(["naught", "redis"], bench.cores.server, bench.peer) as (contenders, missing):
        if missing:
            return [skipped(GROUP, what, missing[0])]
        naught, redis = contenders
        base = base_plan(bench.cores, duration_s=2.0 if bench.quick else 5.0, warmup_s=0.5, seed=bench.seed)
        closed = replace(base, target=redis.url)
        capacities = []
        for _ in range(bench.rounds):
            result = Run(replace(closed, prefix=new_prefix()), server_pid=redis.pid).execute()
            capacities.append(result.throughput)
        rate = statistics.median(capacities) / 2
        bench.say(f"Redis reaches {2 * rate:,.0f} requests/s unpipelined, so the rate is {rate:,.0f} requests/s")
        pairs: list[tuple[Result, Result]] = []
        for number in range(bench.rounds):
            results = {}
            for contender in (naught, redis) if number % 2 == 0 else (redis, naught):
                plan = replace(base, target=contender.url, prefix=new_prefix(), rate=rate)
                result = Run(plan, server_pid=contender.pid).execute()
                results[contender.name] = result
                bench.say(f"round {number + 1}/{bench.rounds}  {contender.name:<8} {_described(result)}")
            pairs.append((results["naught"], results["redis"]))
    return [_bar(what, rate, pairs)]


def _described(result: Result) -> str:
    response, lateness = result.response.percentile(99), result.lateness.percentile(99)
    invalid = f"   INVALID: {result.invalid[0]}" if result.invalid else ""
    return f"p99 {milliseconds(response)}, lateness p99 {milliseconds(lateness)}{invalid}"


def _bar(what: str, rate: float, pairs: list[tuple[Result, Result]]) -> Bar:
    """The bar of these pairs of results, naught's and Redis's of the same round."""
    valid = [pair for pair in pairs if not pair[0].invalid and not pair[1].invalid]
    figures: dict[str, Any] = {
        "rate_per_s": round(rate, 1),
        "rounds": [
            {
                "naught_p99_ns": mine.response.percentile(99),
                "redis_p99_ns": its.response.percentile(99),
                "naught_lateness_p99_ns": mine.lateness.percentile(99),
                "redis_lateness_p99_ns": its.lateness.percentile(99),
                "invalid": mine.invalid + its.invalid,
            }
            for mine, its in pairs
        ],
    }
    failures = [sentence for pair in pairs for result in pair for sentence in problems(result)]
    asked = "no more than Redis's"
    if failures or not valid:
        reason = failures[0] if failures else "the generator made every round INVALID"
        return Bar(GROUP, what, asked, reason, INVALID, figures, wrong=failures)
    ratio = spread([mine.response.percentile(99) / its.response.percentile(99) for mine, its in valid])
    medians = [
        milliseconds(int(statistics.median(pair[side].response.percentile(99) for pair in valid))) for side in (0, 1)
    ]
    cpu_us = [cpu_us_median([pair[side] for pair in valid]) for side in (0, 1)]
    notes = [
        f"naught {medians[0]}, Redis {medians[1]}, {rate:,.0f} requests/s; {len(valid)} of {len(pairs)} rounds valid",
        f"CPU an operation: naught {microseconds(cpu_us[0])}, Redis {microseconds(cpu_us[1])}",
    ]
    figures.update(naught_cpu_us=cpu_us[0], redis_cpu_us=cpu_us[1])
    return Bar(GROUP, what, asked, str(ratio), at_most(ratio.median, 1.0), figures, notes)
