"""One process that measures one way of counting: `python -m naught_loadtest.zeros.trial`, started by the command.

The trial to run comes in as JSON on standard input, and the figures go out as JSON on standard output. Each trial
is a process of its own because memory that was once in use shows in every later figure of the same process.

The work, on N keys of 16 characters:

    fill     every key counts to 1
    drain    all keys but every hundredth come back to zero, so 1 in 100 lives, scattered
    churn    N new keys (at most CHURN_KEYS_MAX) count to 1 and back to zero, one batch after the other

The keys of a batch are made before its time is taken and dropped after it. So no list of all keys holds memory that
the counters have given up.

*Times* are CPU times of the whole process, background threads included: other programs disturb them less than elapsed
time. *Memory* is what the system reports (VmRSS, VmHWM) minus what the process had before the first key. It is read
when the work in the background has settled. The *garbage collector* runs as in any program, and gc.callbacks reports
its pauses. At the end full collections are forced, to have one of a known size. The objects of the interpreter and of
the libraries are frozen first: visiting them takes milliseconds, the same in every variant, and would hide what the
counters add.

*Allocations* are measured in a process of their own, because tracing them changes times and memory. CPython does
not count allocations, so the figures are what they leave and need: blocks (sys.getallocatedblocks) and bytes
(tracemalloc) that still exist after an operation, and the bytes that a batch needs at its peak.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from time import process_time_ns
from typing import Any, get_args

from naught.safemap import Policy
from naught_loadtest.bars.safemap import WORKLOADS, measure_workload
from naught_loadtest.measure.usage import own_peak_bytes, resident_bytes
from naught_loadtest.zeros.maps import Counters, amounts_for, open_counters

BATCH = 1_000
LIVE_EVERY = 100
CHURN_KEYS_MAX = 1_000_000
# How often the live counters are iterated over, and how many full collections are forced. The median counts.
REPEATS = 3
# Memory has settled when this many readings in a row differ by no more than this: three seconds, because the engine
# rebuilds a table one to two seconds after it has stopped emptying.
SETTLED_BYTES = 64 * 1024
SETTLED_READINGS = 30
READING_EVERY_S = 0.1
# SafeMap is compared with a dict and a lock: about how many counts each makes, and the fewest pairs of passes.
GUARD_COUNTS = 300_000
GUARD_PAIRS_MIN = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """What one process is to measure."""

    # "work", "allocations" or "guard".
    kind: str
    # A way of counting and a kind of value, as `zeros.maps` names them; empty for "guard", which has both of its own.
    variant: str = ""
    values: str = ""
    keys: int = 0
    # The longest wait for memory to settle, in seconds. 0 reads it at once.
    rest_s_max: float = 15.0


@dataclass(slots=True)
class Pauses:
    """Times the collector's pauses: an instance is a callback for gc.callbacks."""

    # CPU nanoseconds of each collection, of any generation.
    found_ns: list[int] = field(default_factory=list)
    # When the current collection began.
    began_ns: int = 0

    def __call__(self, phase: str, details: dict[str, int]) -> None:
        if phase == "start":
            self.began_ns = process_time_ns()
        else:
            self.found_ns.append(process_time_ns() - self.began_ns)


def batches(first: int, last: int, skip_every: int = 0) -> Iterator[list[str]]:
    """The keys `first` to `last - 1`, one batch at a time. Multiples of `skip_every` are left out."""
    for start in range(first, last, BATCH):
        numbers = range(start, min(start + BATCH, last))
        yield [f"user:{number:011d}" for number in numbers if not skip_every or number % skip_every]


def live_after(keys: int) -> int:
    """How many counters live after the drain."""
    return (keys + LIVE_EVERY - 1) // LIVE_EVERY


async def settled_bytes(counters: Counters, rest_s_max: float) -> int:
    """The resident memory once it does not change any more, or when the wait is over."""
    now = resident_bytes(os.getpid())
    if not counters.settles:
        return now
    deadline = time.monotonic() + rest_s_max
    same = 0
    while same < SETTLED_READINGS and time.monotonic() < deadline:
        await asyncio.sleep(READING_EVERY_S)
        before, now = now, resident_bytes(os.getpid())
        same = same + 1 if abs(now - before) <= SETTLED_BYTES else 0
    return now


@dataclass(slots=True)
class Stopwatch:
    """Counts operations and the CPU time they took."""

    operations: int = 0
    taken_ns: int = 0

    async def up(self, counters: Counters, keys: list[str], values: str) -> None:
        amounts = amounts_for(values, len(keys))
        begin = process_time_ns()
        await counters.up(keys, amounts)
        self.add(len(keys), process_time_ns() - begin)

    async def down(self, counters: Counters, keys: list[str], values: str) -> None:
        amounts = amounts_for(values, len(keys))
        begin = process_time_ns()
        await counters.down(keys, amounts)
        self.add(len(keys), process_time_ns() - begin)

    def add(self, operations: int, taken_ns: int) -> None:
        self.operations += operations
        self.taken_ns += taken_ns

    @property
    def rate(self) -> float:
        """Operations per second of CPU time."""
        return self.operations * 1e9 / max(1, self.taken_ns)


async def work(trial: Trial) -> dict[str, Any]:
    """Fill, drain and churn. Returns the figures of all three."""
    counters = await open_counters(trial.variant, trial.values)
    gc.collect()
    gc.freeze()
    empty = resident_bytes(os.getpid())
    pauses = Pauses()
    gc.callbacks.append(pauses)
    fill, drain, churn = Stopwatch(), Stopwatch(), Stopwatch()
    for keys in batches(0, trial.keys):
        await fill.up(counters, keys, trial.values)
    full = resident_bytes(os.getpid())
    for keys in batches(0, trial.keys, LIVE_EVERY):
        await drain.down(counters, keys, trial.values)
    kept = await settled_bytes(counters, trial.rest_s_max)
    iterate_ns = await _iteration_ns(counters, live_after(trial.keys))
    churn_keys = min(trial.keys, CHURN_KEYS_MAX)
    for keys in batches(trial.keys, trial.keys + churn_keys):
        await churn.up(counters, keys, trial.values)
        await churn.down(counters, keys, trial.values)
    after_churn = await settled_bytes(counters, trial.rest_s_max)
    gc.callbacks.remove(pauses)
    full_collection_ns = _full_collection_ns()
    live = await counters.live()
    await counters.close()
    if live != live_after(trial.keys):
        raise RuntimeError(f"{live} counters live at the end, not {live_after(trial.keys)}")
    return {
        **_rate_figures(fill, drain, churn),
        **_pause_figures(pauses.found_ns, fill.taken_ns + drain.taken_ns + churn.taken_ns),
        "full_collection_ns": full_collection_ns,
        "empty_bytes": empty,
        "peak_bytes": own_peak_bytes() - empty,
        "full_bytes": full - empty,
        "kept_bytes": kept - empty,
        "churn_growth_bytes": after_churn - kept,
        "churn_keys": churn_keys,
        "iterate_ms": iterate_ns / 1e6,
    }


def _rate_figures(fill: Stopwatch, drain: Stopwatch, churn: Stopwatch) -> dict[str, Any]:
    everything = Stopwatch()
    for part in (fill, drain, churn):
        everything.add(part.operations, part.taken_ns)
    return {
        "operations_per_s": everything.rate,
        "fill_per_s": fill.rate,
        "drain_per_s": drain.rate,
        "churn_per_s": churn.rate,
    }


def _pause_figures(found_ns: list[int], taken_ns: int) -> dict[str, Any]:
    return {
        "collections": len(found_ns),
        "pause_mean_ns": statistics.fmean(found_ns) if found_ns else 0.0,
        "pause_longest_ns": max(found_ns, default=0),
        "pause_part": sum(found_ns) / max(1, taken_ns),
    }


async def _iteration_ns(counters: Counters, expected: int) -> float:
    """CPU nanoseconds of one iteration over the live counters. RuntimeError if their number is not as expected."""
    taken = []
    for _ in range(REPEATS):
        begin = process_time_ns()
        live = await counters.live()
        taken.append(process_time_ns() - begin)
        if live != expected:
            raise RuntimeError(f"{live} counters live after the drain, not {expected}")
    return statistics.median(taken)


def _full_collection_ns() -> float:
    """CPU nanoseconds of one full collection."""
    taken = []
    for _ in range(REPEATS):
        begin = process_time_ns()
        gc.collect()
        taken.append(process_time_ns() - begin)
    return statistics.median(taken)


async def allocations(trial: Trial) -> dict[str, Any]:
    """What operations on new keys leave allocated, and what a batch of them needs at its peak."""
    counters = await open_counters(trial.variant, trial.values)
    warm_up = next(batches(trial.keys, trial.keys + BATCH))
    await counters.up(warm_up, amounts_for(trial.values, len(warm_up)))
    await counters.down(warm_up, amounts_for(trial.values, len(warm_up)))
    del warm_up
    await settled_bytes(counters, trial.rest_s_max)
    gc.collect()
    tracemalloc.start()
    bytes_before, _ = tracemalloc.get_traced_memory()
    blocks_before = sys.getallocatedblocks()
    peak = 0
    for keys in batches(0, trial.keys):
        for step in (counters.up, counters.down):
            amounts = amounts_for(trial.values, len(keys))
            tracemalloc.reset_peak()
            begin, _ = tracemalloc.get_traced_memory()
            await step(keys, amounts)
            peak += tracemalloc.get_traced_memory()[1] - begin
            del amounts
    keys = []  # or the last batch would count as left
    await settled_bytes(counters, trial.rest_s_max)
    gc.collect()
    blocks = sys.getallocatedblocks() - blocks_before
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await counters.close()
    operations = 2 * trial.keys
    return {
        "blocks_left_per_operation": blocks / operations,
        "bytes_left_per_operation": (left - bytes_before) / operations,
        "bytes_at_peak_per_operation": peak / operations,
    }


def guard(trial: Trial) -> dict[str, Any]:
    """SafeMap's rate as a part of that of a dict and a lock, by policy and workload: `incr` and `decr` together."""
    ratios = {}
    for policy in get_args(Policy):
        for workload in WORKLOADS:
            pairs = max(GUARD_PAIRS_MIN, GUARD_COUNTS // trial.keys)
            ratios[f"{policy}/{workload}"] = measure_workload(policy, workload, trial.keys, pairs)[-1].median
    return {"ratios": ratios}


def main() -> None:
    trial = Trial(**json.load(sys.stdin))
    if trial.kind == "guard":
        figures = guard(trial)
    else:
        figures = asyncio.run(work(trial) if trial.kind == "work" else allocations(trial))
    json.dump({"trial": asdict(trial), "figures": figures}, sys.stdout)


if __name__ == "__main__":
    main()
