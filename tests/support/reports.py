"""Reports as the harness writes them, made of seeded latencies, with nothing measured."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from typing import Any, ParamSpec

from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.origin import with_origin
from naught_loadtest.measure.report import to_json
from naught_loadtest.measure.result import Result
from naught_loadtest.measure.series import SECOND_NS, Recorder, histogram_document
from naught_loadtest.measure.slo import parse
from naught_loadtest.measure.tally import Tally
from naught_loadtest.measure.verification import Verification

SEED = 7
STARTED_AT_S = 1_767_323_045.25

P = ParamSpec("P")


def made_once(function: Callable[P, dict[str, Any]]) -> Callable[P, dict[str, Any]]:
    """The function, with its result for the same arguments kept as JSON: each call returns a new object."""

    @functools.cache
    def made(*args: P.args, **kwargs: P.kwargs) -> str:
        return json.dumps(function(*args, **kwargs))

    @functools.wraps(function)
    def read(*args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(made(*args, **kwargs))
        return document

    return read


def made_result(
    *,
    seconds: int = 10,
    per_second: int = 300,
    median_ms: float = 0.2,
    slow_second: int | None = None,
    errors: int = 0,
    seed: int = SEED,
    **changes: Any,
) -> Result:
    """The result of a run in which `per_second` requests were answered in each second."""
    source = random.Random(seed)
    settings = {"target": "naught://counters.example.org", "prefix": "a1b2c3d:", "duration_s": seconds, **changes}
    plan = Plan.from_json(settings)
    tally = Tally(timeout_ns=10 * SECOND_NS)
    recorder = Recorder(tally, 0)
    for second in range(1, seconds + 1):
        factor = 200 if second == slow_second else 1
        for _ in range(per_second):
            latency_ns = int(source.lognormvariate(0, 0.6) * median_ms * 1e6 * factor)
            if plan.open_loop:
                tally.request_due(source.randrange(2_000))
                tally.request_sent(True)
                tally.request_done(latency_ns, latency_ns * 3 // 4, 1)
            else:
                tally.requests_sent(1)
                tally.block_done(latency_ns, 1, 1)
        for _ in range(errors):
            if plan.open_loop:
                tally.request_due(0)
                tally.request_sent(True)
            else:
                tally.requests_sent(1)
            tally.fail("full")
        recorder.look(second * SECOND_NS)
    recorder.close(seconds * SECOND_NS)
    recorder.settle(latencies=True)
    result = Result(plan, server="naught 1.2.3", started_at_s=STARTED_AT_S)
    result.add(
        {
            "tally": tally.to_json(),
            "series": recorder.to_json(),
            "elapsed_s": float(seconds),
            "cpu_share": 0.4,
            "busy_share": 0.3 if plan.open_loop else None,
            "wait_share": None,
            "levels": None,
            "accounts": [],
        }
    )
    result.verification = Verification(compared=10_000)
    return result


@made_once
def run_report(*objectives: str, **changes: Any) -> dict[str, Any]:
    """The report of such a run."""
    return to_json(made_result(**changes), [parse(text) for text in objectives])


def _histogram(source: random.Random, median_ms: float) -> dict[str, Any]:
    histogram = Histogram()
    for _ in range(3_000):
        histogram.record(int(source.lognormvariate(0, 0.5) * median_ms * 1e6))
    return histogram_document(histogram)


@made_once
def versus_report(*, factor: float = 1.0, spoiled: bool = False, seed: int = SEED) -> dict[str, Any]:
    """The report of a comparison of five rounds; naught is `factor` times as fast as it was."""
    source = random.Random(seed)
    rates = {
        ("depth 1", "naught"): 150_000 * factor,
        ("depth 1", "redis"): 160_000,
        ("depth 1", "redis-lua"): 128_000,
        ("depth 16", "naught"): 1_000_000 * factor,
        ("depth 16", "redis"): 900_000,
        ("depth 16", "redis-lua"): 430_000,
    }
    runs = [
        {
            "setting": setting,
            "contender": contender,
            "throughput_per_s": [rate * source.uniform(0.97, 1.03) for _ in range(5)],
            "server_share": [0.99] * 5,
            "server_cpu_us_per_operation": [1e6 / rate] * 5,
            "generator_share": [0.5] * 5,
            "invalid": [["the generator was the limit"] if spoiled else []] * 5,
            "response": _histogram(source, 5e4 / rate),
        }
        for (setting, contender), rate in rates.items()
    ]
    ratios = [
        {
            "setting": setting,
            "peer": peer,
            "peer_setting": setting,
            "ratio": _spread(rates[setting, "naught"] / rates[setting, peer]),
            "core_ratio": None if peer == "redis" else _spread(1.5),
            "naught_cpu_us": 1e6 / rates[setting, "naught"],
            "peer_cpu_us": None,
            "generator_limited": spoiled,
        }
        for setting in ("depth 1", "depth 16")
        for peer in ("redis", "redis-lua")
    ]
    return with_origin(
        {
            "schema": 1,
            "kind": "versus",
            "ratios": ratios,
            "best_evicting": {"depth 1": "redis-lua", "depth 16": "redis-lua"},
            "runs": runs,
            "failures": [],
            "load": "5 rounds of 2 s: churn, 50 connections, seed 1",
            "cores": "cores: server on 0, generator on 1",
            "peer": "",
            "versions": {"naught": "naught 1.2.3", "redis": "Redis 7.0.15"},
        }
    )


def _spread(median: float) -> dict[str, float]:
    return {"median": median, "low": median * 0.95, "high": median * 1.05}


@made_once
def search_report(*, found: bool = True) -> dict[str, Any]:
    """The report of a search for p99<1ms that ends at 12 000 requests a second."""
    probes = [_probe(rate, held=rate <= 12_000 and found) for rate in (1e3, 2e3, 4e3, 8e3, 16e3, 12e3, 14e3, 13e3)]
    return with_origin(
        {
            "schema": 1,
            "kind": "search",
            "plan": Plan.from_json({"target": "naught://h", "prefix": "a1b2c3d:", "rate": 1000.0}).to_json(),
            "objectives": ["p99<1ms"],
            "probes": probes,
            "confirmed": _probe(12e3, held=True) if found else None,
            "generator_limited": False,
        }
    )


def _probe(rate: float, *, held: bool) -> dict[str, Any]:
    p50_ns = int(5e4 + 4.5e8 / max(15e3 - rate, 400))
    summary = {
        "p50": p50_ns,
        "p90": 2 * p50_ns,
        "p95": 3 * p50_ns,
        "p99": 4 * p50_ns,
        "p99.9": None,
        "max": 9 * p50_ns,
    }
    sentence = f"p99<1ms: {'met' if held else 'MISSED'} with {4 * p50_ns / 1e6:.3f} ms"
    return {
        "rate_per_s": rate,
        "held": held,
        "sentence": sentence,
        "throughput_per_s": rate,
        "response_ns": summary,
        "lateness_ns": summary,
        "invalid": [],
    }
