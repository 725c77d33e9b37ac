"""What evicting at zero costs `naught.SafeMap`: its methods against the same methods without the eviction branch.

The bar is 97 % of the rate. The map that SafeMap is compared with is made from SafeMap's own source: only the
branch that asks whether anything will be left, and what follows when nothing is left, are taken out. So the two
cannot drift apart: they have the same shards, the same locks and the same checks of the amount. `incr` has no such
branch. It is measured beside `decr` for two reasons: after a decrement that evicted, it must create the key again,
and a program runs the two as a pair.

Three workloads, over the same keys in the same order:

    held       Counters stay above zero: the branch is asked and never taken. This is the plain price of the guard.
    mixed      One counter in ten reaches zero on each pass.
    flapping   Every counter goes from nothing to 1 and back: each decrement evicts, each increment creates.
               The map without the branch keeps a zero for every key instead, which is the leak.

Passes of the two maps over the keys alternate, and the map that goes first alternates too. A pair's ratio is of the
CPU time of the whole process, the cleaning thread of the deferred policy included: other programs on the machine
disturb CPU time less than elapsed time. The bars show the median of the pairs' ratios with its quartiles. Each round
of `--rounds` is a number of such pairs. No server takes part.
"""

from __future__ import annotations

import ast
import gc
import inspect
import statistics
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from naught.safemap import Policy, SafeMap
from naught_loadtest.bars.bar import Bar, Bench, at_least

GROUP = "safemap"
RATIO_MIN = 0.97
# Some tens of keys for each shard, and few enough to stay in the processor's caches: the bar compares the work of the
# methods, and slow memory would only hide it.
KEYS = 2_000
# Pairs of passes in each round. A pass takes about a millisecond. That is long against the resolution of the clock,
# and so short that a disturbance most often falls on both passes of a pair.
PAIRS_PER_ROUND = 61
PAIRS_PER_ROUND_QUICK = 11
# Of the mixed workload's keys, one in this many is evicted on each pass.
MIXED_EVERY = 10
WORKLOADS = ("held", "mixed", "flapping")


def measure(bench: Bench) -> list[Bar]:
    """A bar for each policy, workload and method. Five rounds take about six seconds."""
    pairs = bench.rounds * (PAIRS_PER_ROUND_QUICK if bench.quick else PAIRS_PER_ROUND)
    return [
        _bar(ratio)
        for policy in get_args(Policy)
        for workload in WORKLOADS
        for ratio in measure_workload(policy, workload, pairs)
        if ratio.method != "both"
    ]


@dataclass(frozen=True, slots=True)
class GuardRatio:
    """SafeMap's rate divided by the rate of the map without eviction: 1 means that the guard costs nothing."""

    policy: str
    workload: str
    # "incr", "decr", or "both" for the pair.
    method: str
    median: float
    lower_quartile: float
    upper_quartile: float
    # CPU nanoseconds of one call of SafeMap's method, the loop around it included; the median of the passes.
    guarded_ns: float


def _bar(ratio: GuardRatio) -> Bar:
    return Bar(
        GROUP,
        f"SafeMap, {ratio.policy}, {ratio.workload}: {ratio.method}",
        f"at least {RATIO_MIN:.0%}",
        f"{ratio.median:.1%} ({ratio.lower_quartile:.1%}-{ratio.upper_quartile:.1%})",
        at_least(ratio.median, RATIO_MIN),
        figures={
            "policy": ratio.policy,
            "workload": ratio.workload,
            "method": ratio.method,
            "ratio": [ratio.median, ratio.lower_quartile, ratio.upper_quartile],
            "guarded_ns": ratio.guarded_ns,
        },
    )


def measure_workload(policy: Policy, workload: str, pairs: int) -> list[GuardRatio]:
    """The ratios of one workload: for `incr`, for `decr`, and for both together, in this order."""
    keys = [f"user:{number}:requests" for number in range(KEYS)]
    guarded = _prepared(SafeMap, policy, workload, keys)
    unguarded = _prepared(UnguardedMap, policy, workload, keys)
    guarded_passes: list[tuple[int, int]] = []
    unguarded_passes: list[tuple[int, int]] = []
    gc.collect()
    gc.disable()  # a collection would fall on one of the two maps by chance
    try:
        for number in range(pairs):
            if number % 2:
                guarded_passes.append(_one_pass(guarded, keys))
                unguarded_passes.append(_one_pass(unguarded, keys))
            else:
                unguarded_passes.append(_one_pass(unguarded, keys))
                guarded_passes.append(_one_pass(guarded, keys))
    finally:
        gc.enable()
        guarded.close()
        unguarded.close()
    ratios = []
    for method, (incrs, decrs) in (("incr", (1, 0)), ("decr", (0, 1)), ("both", (1, 1))):
        guarded_ns = [up_ns * incrs + down_ns * decrs for up_ns, down_ns in guarded_passes]
        unguarded_ns = [up_ns * incrs + down_ns * decrs for up_ns, down_ns in unguarded_passes]
        by_pair = [other / mine for mine, other in zip(guarded_ns, unguarded_ns, strict=True)]
        lower, middle, upper = statistics.quantiles(by_pair, n=4)
        calls = KEYS * (incrs + decrs)
        ratios.append(
            GuardRatio(policy, workload, method, middle, lower, upper, statistics.median(guarded_ns) / calls)
        )
    return ratios


def _prepared(map_class: type[SafeMap[Any, Any]], policy: Policy, workload: str, keys: list[str]) -> Any:
    """A map with the workload's counters in it, on which some passes have already run."""
    counters = map_class(int, policy=policy)
    held = {"held": keys, "mixed": [key for i, key in enumerate(keys) if i % MIXED_EVERY], "flapping": []}
    counters.merge(dict.fromkeys(held[workload], 5))
    for _ in range(10):
        _one_pass(counters, keys)  # until the interpreter has specialised the code and the tables have their size
    return counters


def _one_pass(counters: SafeMap[Any, Any], keys: list[str]) -> tuple[int, int]:
    """Increment every key, then decrement every key. Returns the CPU nanoseconds of each of the two loops."""
    incr, decr = counters.incr, counters.decr
    begin = time.process_time_ns()
    for key in keys:
        incr(key)
    middle = time.process_time_ns()
    for key in keys:
        decr(key)
    end = time.process_time_ns()
    return middle - begin, end - middle


def without_eviction(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method compiled from its own source without the eviction branch: it takes the other path unconditionally.

    ValueError when the source does not have exactly one such branch.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    remover = _BranchRemover()
    tree = ast.fix_missing_locations(remover.visit(tree))
    if remover.found != 1:
        raise ValueError(f"{method.__qualname__} has {remover.found} eviction branches, not one")
    names: dict[str, Any] = {}
    exec(compile(tree, "<without eviction>", "exec", dont_inherit=False), method.__globals__, names)
    compiled: Callable[..., Any] = names[method.__name__]
    return compiled


class _BranchRemover(ast.NodeTransformer):
    """Replaces `if before > by:` by its body, and drops the statements that follow it in the same block."""

    def __init__(self) -> None:
        # How many such branches the source had.
        self.found = 0

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        for position, statement in enumerate(node.body):
            if isinstance(statement, ast.If) and ast.unparse(statement.test) == "before > by":
                self.found += 1
                node.body[position:] = statement.body
                break
        return node


class UnguardedMap(SafeMap[Any, Any]):
    """SafeMap whose `decr` does not evict: what the bar is measured against. Its zeros stay visible."""

    decr = without_eviction(SafeMap.decr)
