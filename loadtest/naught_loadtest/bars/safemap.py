"""What `naught.SafeMap` costs: its `incr` and `decr` against ten lines that anybody would write in their place.

The bar is 90 % of the rate of `LockedDict`, a dict and a lock. It keeps its zeros, checks no amount and does not say
what was evicted, so SafeMap does more in the same time. (The same lines with a `defaultdict` take as many
instructions.)

Three workloads, over the same keys in the same order:

    held       Counters stay above zero.
    mixed      One counter in ten reaches zero on each pass.
    flapping   Every counter goes from nothing to 1 and back: each decrement evicts, each increment creates.
               LockedDict keeps a zero for every key instead, which is the leak.

Passes of the two over the keys alternate, and the one that goes first alternates too. A pair's ratio is of the CPU
time of the whole process, the cleaning thread of the deferred policy included: other programs on the machine disturb
CPU time less than elapsed time. The bars show the median of the pairs' ratios with its quartiles. Each round of
`--rounds` is a number of such pairs. With several threads, each runs over a part of the keys. No server takes part.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, get_args

from naught.safemap import Policy, SafeMap
from naught_loadtest.bars.bar import Bar, Bench, at_least

GROUP = "safemap"
RATIO_MIN = 0.9
# From one that stays in the processor's caches to one that does not.
SIZES = (1_000, 100_000, 1_000_000)
# About how many counts of each map a round has. A pass of 1 000 keys takes a fraction of a millisecond: long against
# the resolution of the clock, and so short that a disturbance most often falls on both passes of a pair.
COUNTS_PER_ROUND = 60_000
COUNTS_PER_ROUND_QUICK = 10_000
# Passes before the first that counts: until the interpreter has specialised the code and the tables have their size.
WARM_UP_COUNTS = 10_000
# Of the mixed workload's keys, one in this many is evicted on each pass.
MIXED_EVERY = 10
WORKLOADS = ("held", "mixed", "flapping")
THREADS = 4


class LockedDict:
    """A dict with a lock: counts that threads share, whose zeros stay."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[Any, int] = {}

    def incr(self, key: Any, by: int = 1) -> int:
        with self.lock:
            value = self.counts[key] = self.counts.get(key, 0) + by
        return value

    def decr(self, key: Any, by: int = 1) -> int:
        with self.lock:
            value = self.counts[key] = self.counts.get(key, 0) - by
        return value


class Counts(Protocol):
    """What is compared."""

    @property
    def incr(self) -> Callable[..., Any]: ...

    @property
    def decr(self) -> Callable[..., Any]: ...


def measure(bench: Bench) -> list[Bar]:
    """A bar for each policy, workload, size and method. Five rounds take about two minutes."""
    counts = COUNTS_PER_ROUND_QUICK if bench.quick else COUNTS_PER_ROUND
    bars = []
    for keys in SIZES[:1] if bench.quick else SIZES:
        # The deferred policy is for counters that flap, which are few.
        for policy in get_args(Policy) if keys == SIZES[0] else ("eager",):
            for workload in WORKLOADS:
                pairs = bench.rounds * max(1, counts // keys)
                bars += [
                    _bar(each) for each in measure_workload(policy, workload, keys, pairs) if each.method != "both"
                ]
    for workload in WORKLOADS:
        pairs = bench.rounds * max(1, counts // SIZES[0])
        bars += [_bar(measure_workload("eager", workload, SIZES[0], pairs, THREADS)[-1])]
    return bars


@dataclass(frozen=True, slots=True)
class Ratio:
    """SafeMap's rate divided by that of LockedDict."""

    policy: str
    workload: str
    keys: int
    threads: int
    # "incr", "decr", or "both" for the pair.
    method: str
    median: float
    lower_quartile: float
    upper_quartile: float
    # CPU nanoseconds of one call of SafeMap's method, the loop around it included; the median of the passes.
    safe_ns: float


def _bar(ratio: Ratio) -> Bar:
    threads = f", {ratio.threads} threads" if ratio.threads > 1 else ""
    return Bar(
        GROUP,
        f"SafeMap, {ratio.policy}, {ratio.workload}, {ratio.keys:,} keys{threads}: {ratio.method}",
        f"at least {RATIO_MIN:.0%}",
        f"{ratio.median:.1%} ({ratio.lower_quartile:.1%}-{ratio.upper_quartile:.1%})",
        at_least(ratio.median, RATIO_MIN),
        figures={
            "policy": ratio.policy,
            "workload": ratio.workload,
            "keys": ratio.keys,
            "threads": ratio.threads,
            "method": ratio.method,
            "ratio": [ratio.median, ratio.lower_quartile, ratio.upper_quartile],
            "safe_ns": ratio.safe_ns,
        },
    )


def measure_workload(policy: Policy, workload: str, key_count: int, pairs: int, threads: int = 1) -> list[Ratio]:
    """The ratios of one workload: for `incr`, for `decr`, and for both together, in this order."""
    keys = [f"user:{number}:requests" for number in range(key_count)]
    safe: SafeMap[str, int] = SafeMap(int, policy=policy)
    locked = LockedDict()
    for counts in (safe, locked):
        _prepare(counts, workload, keys, threads)
    safe_passes: list[tuple[int, int]] = []
    locked_passes: list[tuple[int, int]] = []
    gc.collect()
    gc.disable()  # a collection would fall on one of the two by chance
    try:
        for number in range(pairs):
            if number % 2:
                safe_passes.append(_one_pass(safe, keys, threads))
                locked_passes.append(_one_pass(locked, keys, threads))
            else:
                locked_passes.append(_one_pass(locked, keys, threads))
                safe_passes.append(_one_pass(safe, keys, threads))
    finally:
        gc.enable()
        safe.close()
    ratios = []
    for method, (incrs, decrs) in (("incr", (1, 0)), ("decr", (0, 1)), ("both", (1, 1))):
        safe_ns = [up_ns * incrs + down_ns * decrs for up_ns, down_ns in safe_passes]
        locked_ns = [up_ns * incrs + down_ns * decrs for up_ns, down_ns in locked_passes]
        by_pair = [other / mine for mine, other in zip(safe_ns, locked_ns, strict=True)]
        lower, middle, upper = statistics.quantiles(by_pair, n=4) if pairs > 1 else by_pair * 3
        per_call_ns = statistics.median(safe_ns) / (key_count * (incrs + decrs))
        ratios.append(Ratio(policy, workload, key_count, threads, method, middle, lower, upper, per_call_ns))
    return ratios


def _prepare(counts: Counts, workload: str, keys: list[str], threads: int) -> None:
    """Fill with the counters of the workload, and run some passes."""
    held = {"held": keys, "mixed": [key for i, key in enumerate(keys) if i % MIXED_EVERY], "flapping": []}
    for key in held[workload]:
        counts.incr(key, 5)
    for _ in range(max(1, WARM_UP_COUNTS // len(keys))):
        _one_pass(counts, keys, threads)


def _one_pass(counts: Counts, keys: list[str], threads: int) -> tuple[int, int]:
    """Increment every key, then decrement every key. Returns the CPU nanoseconds of each of the two loops."""
    if threads == 1:
        begin = time.process_time_ns()
        _call_each(counts.incr, keys)
        middle = time.process_time_ns()
        _call_each(counts.decr, keys)
        return middle - begin, time.process_time_ns() - middle
    return tuple(_in_threads(method, keys, threads) for method in (counts.incr, counts.decr))  # type: ignore[return-value]


def _call_each(method: Callable[[str], Any], keys: list[str]) -> None:
    for key in keys:
        method(key)


def _in_threads(method: Callable[[str], Any], keys: list[str], count: int) -> int:
    """Call a method for all keys, in threads that begin together and each have a part of the keys ten times. Returns
    the CPU nanoseconds of all of them, divided by ten.
    """
    go = threading.Event()

    def run(part: list[str]) -> None:
        go.wait()
        _call_each(method, part * 10)

    threads = [threading.Thread(target=run, args=(keys[number::count],)) for number in range(count)]
    for thread in threads:
        thread.start()
    begin = time.process_time_ns()
    go.set()
    for thread in threads:
        thread.join()
    return (time.process_time_ns() - begin) // 10
