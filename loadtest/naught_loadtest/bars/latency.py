"""The bar of latency: an open loop at half of what Redis can do unpipelined, p99 beside Redis's own.

Redis's capacity is measured first, in a closed loop. Then both get the same constant rate, round by round. A
round in which the generator's lateness was more than a quarter of a response time does not count.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

from naught_loadtest.bars.bar import INVALID, Bar, Bench, at_most, skipped
from naught_loadtest.generate.runner import Run, new_prefix
from naught_loadtest.measure.report import milliseconds
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.rounds import base_plan, problems, spread, started_all

GROUP = "latency"
CAPACITY_RUNS = 3


def measure(bench: Bench) -> list[Bar]:
    """The one bar of latency."""
    what = "p99 at half of Redis's unpipelined capacity"
    with started_all(["naught", "redis"], bench.cores.server) as (contenders, missing):
        if missing:
            return [skipped(GROUP, what, missing[0])]
        naught, redis = contenders
        base = base_plan(bench.cores, duration_s=2.0 if bench.quick else 5.0, warmup_s=0.5, seed=bench.seed)
        closed = replace(base, target=redis.url)
        capacities = []
        for _ in range(CAPACITY_RUNS):
            result = Run(replace(closed, prefix=new_prefix()), server_pid=redis.pid).execute()
            capacities.append(result.throughput)
        rate = statistics.median(capacities) / 2
        bench.say(f"Redis unpipelined {2 * rate:,.0f}/s, so {rate:,.0f} requests/s are due")
        pairs: list[tuple[Result, Result]] = []
        for number in range(bench.rounds):
            found = {}
            for contender in (naught, redis) if number % 2 == 0 else (redis, naught):
                plan = replace(base, target=contender.url, prefix=new_prefix(), rate=rate)
                result = Run(plan, server_pid=contender.pid).execute()
                found[contender.name] = result
                bench.say(f"round {number + 1}/{bench.rounds}  {contender.name:<8} {_described(result)}")
            pairs.append((found["naught"], found["redis"]))
    return [_bar(what, rate, pairs)]


def _described(result: Result) -> str:
    response, lateness = result.response.percentile(99), result.lateness.percentile(99)
    spoiled = f"   INVALID: {result.invalid[0]}" if result.invalid else ""
    return f"p99 {milliseconds(response)}, lateness p99 {milliseconds(lateness)}{spoiled}"


def _bar(what: str, rate: float, pairs: list[tuple[Result, Result]]) -> Bar:
    valid = [pair for pair in pairs if not pair[0].invalid and not pair[1].invalid]
    figures = {
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
        reason = failures[0] if failures else "the generator spoiled every round"
        return Bar(GROUP, what, asked, reason, INVALID, figures, wrong=failures)
    ratio = spread([mine.response.percentile(99) / its.response.percentile(99) for mine, its in valid])
    medians = [
        milliseconds(int(statistics.median(pair[side].response.percentile(99) for pair in valid))) for side in (0, 1)
    ]
    notes = [
        f"naught {medians[0]}, Redis {medians[1]}, {rate:,.0f} requests/s; {len(valid)} of {len(pairs)} rounds valid"
    ]
    return Bar(GROUP, what, asked, str(ratio), at_most(ratio.median, 1.0), figures, notes)
