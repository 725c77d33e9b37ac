"""What evicting at zero costs `naught.SafeMap`: its methods against the same methods without that branch.

The bar is 97 % of the rate. What it is measured against is made from the methods' own source, with nothing
taken out but the branch that asks whether anything will be left and all that follows when nothing is, so the
two cannot drift apart: same shards, same locks, same checks of the amount. `incr` has no such branch; it is
measured beside `decr` because a decrement that evicts leaves it a key to make again, and because a pair of
the two is what a program runs.

Three workloads, over the same keys in the same order:

    held       counters that stay above zero: the branch is asked, and never taken. The plain price of the
    guard. mixed      one counter in ten is brought to zero. flapping   every counter goes from nothing to 1
    and back: each decrement evicts, each increment creates.
               The map without the branch keeps a zero for every key instead, which is the leak.

Rounds of the two maps alternate, the first of a pair changing from round to round; a round's ratio is of CPU
time of the whole process, the cleaning thread of the deferred policy included, which other programs on the
machine disturb less than time by the clock. What is printed is the median of the rounds' ratios with its
quartiles. Run as `python -m naught_loadtest.bars_safemap`; nothing in it asserts a time.
"""

from __future__ import annotations

import argparse
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

BAR = 0.97
# Enough that a shard has some tens of keys, few enough to stay in the processor's caches: what is compared is
# the work of the methods, and memory that is slow to come would only hide it.
KEYS = 2_000
# Rounds of one pass over the keys, about a millisecond: long against the clock's grain, and short enough that
# what disturbs one of a pair most often disturbs the other too.
ROUNDS = 301
# Of the mixed workload's keys, one in this many is evicted on each pass.
MIXED_EVERY = 10
WORKLOADS = ("held", "mixed", "flapping")


def without_eviction(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method compiled from its own source, the branch for values above zero taken unasked."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    unguard = _Unguard()
    tree = ast.fix_missing_locations(unguard.visit(tree))
    if unguard.found != 1:
        raise ValueError(f"{method.__qualname__} has {unguard.found} eviction branches, not one")
    names: dict[str, Any] = {}
    exec(compile(tree, "<without eviction>", "exec", dont_inherit=False), method.__globals__, names)
    compiled: Callable[..., Any] = names[method.__name__]
    return compiled


class _Unguard(ast.NodeTransformer):
    """Puts the body of `if before > by:` in its place, and drops what came after it in the block."""

    def __init__(self) -> None:
        # How many such branches there were.
        self.found = 0

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        for place, statement in enumerate(node.body):
            if isinstance(statement, ast.If) and ast.unparse(statement.test) == "before > by":
                self.found += 1
                node.body[place:] = statement.body
                break
        return node


class UnguardedMap(SafeMap[Any, Any]):
    """SafeMap without eviction in `decr`: what the bar is measured against. Its zeros stay, and show."""

    decr = without_eviction(SafeMap.decr)


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the result. A ratio is of rates, SafeMap's by the unguarded map's: 1 is a free guard."""

    policy: str
    workload: str
    # "incr", "decr", or "both" for the pair.
    method: str
    ratio_median: float
    ratio_lower_quartile: float
    ratio_upper_quartile: float
    # CPU nanoseconds of one call of SafeMap's method, the loop around it included; the median of the rounds.
    guarded_ns: float

    @property
    def reached(self) -> bool:
        return self.ratio_median >= BAR


def one_round(counters: SafeMap[Any, Any], keys: list[str]) -> tuple[int, int]:
    """Count every key up and then down; the CPU nanoseconds of the ups and of the downs."""
    incr, decr = counters.incr, counters.decr
    begin = time.process_time_ns()
    for key in keys:
        incr(key)
    middle = time.process_time_ns()
    for key in keys:
        decr(key)
    end = time.process_time_ns()
    return middle - begin, end - middle


def prepare(map_class: type[SafeMap[Any, Any]], policy: Policy, workload: str, keys: list[str]) -> Any:
    counters = map_class(int, policy=policy)
    held = {"held": keys, "mixed": [key for i, key in enumerate(keys) if i % MIXED_EVERY], "flapping": []}
    counters.merge(dict.fromkeys(held[workload], 5))
    for _ in range(10):
        one_round(counters, keys)  # the interpreter has specialised the code, and the tables have their size
    return counters


def measure_workload(policy: Policy, workload: str, rounds: int) -> list[Bar]:
    """The bars of one workload: for incr, for decr, and for both together."""
    keys = [f"user:{number}:requests" for number in range(KEYS)]
    guarded = prepare(SafeMap, policy, workload, keys)
    unguarded = prepare(UnguardedMap, policy, workload, keys)
    guarded_rounds: list[tuple[int, int]] = []
    unguarded_rounds: list[tuple[int, int]] = []
    gc.collect()
    gc.disable()  # a collection would fall on one of the two by chance
    try:
        for number in range(rounds):
            if number % 2:
                guarded_rounds.append(one_round(guarded, keys))
                unguarded_rounds.append(one_round(unguarded, keys))
            else:
                unguarded_rounds.append(one_round(unguarded, keys))
                guarded_rounds.append(one_round(guarded, keys))
    finally:
        gc.enable()
        guarded.close()
        unguarded.close()
    bars = []
    for method, choose in (("incr", (1, 0)), ("decr", (0, 1)), ("both", (1, 1))):
        guarded_ns = [up * choose[0] + down * choose[1] for up, down in guarded_rounds]
        unguarded_ns = [up * choose[0] + down * choose[1] for up, down in unguarded_rounds]
        ratios = [other / mine for mine, other in zip(guarded_ns, unguarded_ns, strict=True)]
        lower, middle, upper = statistics.quantiles(ratios, n=4)
        calls = KEYS * sum(choose)
        bars.append(Bar(policy, workload, method, middle, lower, upper, statistics.median(guarded_ns) / calls))
    return bars


def measure(rounds: int = ROUNDS) -> list[Bar]:
    """Every bar, both policies. Takes about a quarter of a minute with the default number of rounds."""
    return [
        bar
        for policy in get_args(Policy)
        for workload in WORKLOADS
        for bar in measure_workload(policy, workload, rounds)
    ]


def table(bars: list[Bar]) -> str:
    lines = [f"SafeMap against itself without the eviction branch; the bar is {BAR:.0%} of the rate", ""]
    lines.append(f"{'policy':10}{'workload':10}{'method':8}{'rate':>8}   {'quartiles':18}{'ns a call':>10}")
    for bar in bars:
        quartiles = f"{bar.ratio_lower_quartile:.1%} - {bar.ratio_upper_quartile:.1%}"
        lines.append(
            f"{bar.policy:10}{bar.workload:10}{bar.method:8}{bar.ratio_median:8.1%}   {quartiles:18}"
            f"{bar.guarded_ns:10.0f}  {'' if bar.reached else 'below the bar'}".rstrip()
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m naught_loadtest.bars_safemap", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"pairs of rounds, {ROUNDS} unless said")
    print(table(measure(max(2, parser.parse_args().rounds))))


if __name__ == "__main__":
    main()
