"""One process that measures one way of counting: `python -m naught_loadtest.zeros.trial`, started by the command.

What to do comes in as JSON on standard input, the figures go out as JSON on standard output. It is a process of
its own because memory that was once in use shows in every later figure of the same process.

The work, on N keys of 16 characters:

    fill     every key counts to 1
    drain    all but every hundredth come back to zero, so that 1 in 100 lives, scattered
    churn    N new keys, at most CHURN_KEYS_MAX, each counts to 1 and back to zero, a batch at a time

The keys of a batch are made before its time is taken and dropped after it, so no list of all keys holds memory
that the counters gave up. Times are CPU times of the whole process, threads in the background included, which
other programs disturb less than the clock. Memory is what the system says (VmRSS, VmHWM), less what the process
had before the first key; it is read when whoever works in the background has come to rest. The collector runs as
it does in any program, and its pauses are taken by gc.callbacks; full collections are also forced at the end, to
have one of a known size. The interpreter's and the libraries' own objects are frozen first: walking over them takes
milliseconds, the same in every variant, and would hide what the counters add.

Allocations are measured in a process of their own, because tracing them changes times and memory. CPython does not
count allocations, so what is told is what they leave: blocks (sys.getallocatedblocks) and bytes (tracemalloc) that
are still there after an operation, and the bytes that a batch needs at its highest.
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
from typing import Any

from naught_loadtest.bars_safemap import ROUNDS, measure_workload
from naught_loadtest.measure.usage import own_peak_bytes, resident_bytes
from naught_loadtest.zeros.maps import Counters, amounts_for, open_counters

BATCH = 1_000
LIVE_EVERY = 100
CHURN_KEYS_MAX = 1_000_000
# How many times what lives is gone over, and a full collection forced; the median counts.
REPEATS = 3
# Memory is at rest when it has not changed by more than this for so many looks in a row: three seconds, because the
# engine rebuilds a table one to two seconds after it has stopped emptying.
REST_BYTES = 64 * 1024
REST_LOOKS = 30
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Task:
    """What one process is to do."""

    # "work", "allocations" or "guard".
    kind: str
    variant: str = ""
    values: str = ""
    keys: int = 0
    # The longest wait for memory to come to rest. 0: read it at once.
    rest_s_max: float = 15.0


@dataclass(slots=True)
class Pauses:
    """What gc.callbacks tells, while it is installed."""

    # Of each collection, of whatever generation, in nanoseconds.
    found_ns: list[int] = field(default_factory=list)
    # When the one under way began.
    began_ns: int = 0

    def __call__(self, phase: str, details: dict[str, int]) -> None:
        if phase == "start":
            self.began_ns = process_time_ns()
        else:
            self.found_ns.append(process_time_ns() - self.began_ns)


def batches(first: int, last: int, skip_every: int = 0) -> Iterator[list[str]]:
    """The keys of these numbers, a batch at a time; without every `skip_every`th."""
    for start in range(first, last, BATCH):
        numbers = range(start, min(start + BATCH, last))
        yield [f"user:{number:011d}" for number in numbers if not skip_every or number % skip_every]


def live_after(keys: int) -> int:
    """How many live when the drain is over."""
    return (keys + LIVE_EVERY - 1) // LIVE_EVERY


async def at_rest(counters: Counters, rest_s_max: float) -> int:
    """The resident memory once it does not change any more, or when the wait is over."""
    now = resident_bytes(os.getpid())
    if not counters.settles:
        return now
    deadline = time.monotonic() + rest_s_max
    same = 0
    while same < REST_LOOKS and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_EVERY_S)
        before, now = now, resident_bytes(os.getpid())
        same = same + 1 if abs(now - before) <= REST_BYTES else 0
    return now


@dataclass(slots=True)
class Clock:
    """Operations and the CPU time they took."""

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
        """Operations a second of CPU time."""
        return self.operations * 1e9 / max(1, self.taken_ns)


async def work(task: Task) -> dict[str, Any]:
    """Fill, drain, churn; the figures of all."""
    counters = await open_counters(task.variant, task.values)
    gc.collect()
    gc.freeze()
    empty = resident_bytes(os.getpid())
    pauses = Pauses()
    gc.callbacks.append(pauses)
    fill, drain, churn = Clock(), Clock(), Clock()
    for keys in batches(0, task.keys):
        await fill.up(counters, keys, task.values)
    full = resident_bytes(os.getpid())
    for keys in batches(0, task.keys, LIVE_EVERY):
        await drain.down(counters, keys, task.values)
    kept = await at_rest(counters, task.rest_s_max)
    iterate_ns = await _iterated(counters, live_after(task.keys))
    churn_keys = min(task.keys, CHURN_KEYS_MAX)
    for keys in batches(task.keys, task.keys + churn_keys):
        await churn.up(counters, keys, task.values)
        await churn.down(counters, keys, task.values)
    after_churn = await at_rest(counters, task.rest_s_max)
    gc.callbacks.remove(pauses)
    full_collection_ns = _forced_collection()
    live = await counters.live()
    await counters.close()
    if live != live_after(task.keys):
        raise RuntimeError(f"{live} live at the end, not {live_after(task.keys)}")
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


def _rate_figures(fill: Clock, drain: Clock, churn: Clock) -> dict[str, Any]:
    everything = Clock()
    for clock in (fill, drain, churn):
        everything.add(clock.operations, clock.taken_ns)
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


async def _iterated(counters: Counters, expected: int) -> float:
    """CPU nanoseconds to go over what lives. It checks the answer."""
    taken = []
    for _ in range(REPEATS):
        begin = process_time_ns()
        live = await counters.live()
        taken.append(process_time_ns() - begin)
        if live != expected:
            raise RuntimeError(f"{live} live after the drain, not {expected}")
    return statistics.median(taken)


def _forced_collection() -> float:
    """CPU nanoseconds of one full collection."""
    taken = []
    for _ in range(REPEATS):
        begin = process_time_ns()
        gc.collect()
        taken.append(process_time_ns() - begin)
    return statistics.median(taken)


async def allocations(task: Task) -> dict[str, Any]:
    """What operations on new keys leave allocated, and what a batch of them needs at its highest."""
    counters = await open_counters(task.variant, task.values)
    warm_up = next(batches(task.keys, task.keys + BATCH))
    await counters.up(warm_up, amounts_for(task.values, len(warm_up)))
    await counters.down(warm_up, amounts_for(task.values, len(warm_up)))
    del warm_up
    await at_rest(counters, task.rest_s_max)
    gc.collect()
    tracemalloc.start()
    bytes_before, _ = tracemalloc.get_traced_memory()
    blocks_before = sys.getallocatedblocks()
    highest = 0
    for keys in batches(0, task.keys):
        for step in (counters.up, counters.down):
            amounts = amounts_for(task.values, len(keys))
            tracemalloc.reset_peak()
            begin, _ = tracemalloc.get_traced_memory()
            await step(keys, amounts)
            highest += tracemalloc.get_traced_memory()[1] - begin
            del amounts
    keys = []
    await at_rest(counters, task.rest_s_max)
    gc.collect()
    blocks = sys.getallocatedblocks() - blocks_before
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await counters.close()
    operations = 2 * task.keys
    return {
        "blocks_left_per_operation": blocks / operations,
        "bytes_left_per_operation": (left - bytes_before) / operations,
        "bytes_at_peak_per_operation": highest / operations,
    }


def guard(task: Task) -> dict[str, Any]:
    """SafeMap's rate as a part of its own without the eviction branch, by policy and workload."""
    ratios = {}
    for policy in ("eager", "deferred"):
        for workload in ("held", "mixed", "flapping"):
            both = measure_workload(policy, workload, ROUNDS)[-1]
            ratios[f"{policy}/{workload}"] = both.ratio_median
    return {"ratios": ratios}


def main() -> None:
    task = Task(**json.load(sys.stdin))
    if task.kind == "guard":
        figures = guard(task)
    else:
        figures = asyncio.run(work(task) if task.kind == "work" else allocations(task))
    json.dump({"task": asdict(task), "figures": figures}, sys.stdout)


if __name__ == "__main__":
    main()
