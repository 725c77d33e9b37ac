"""What the three client scripts beside this one have in common: the tasks, and counting their calls.

`python SCRIPT URL TASKS SECONDS` prints one line of JSON: {"calls_per_s": ..., "client": ...}. Every task takes a
counter of its own up and down, one call after the other, as code does that waits for its answers. Half a second of
warm-up is not counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

WARMUP_S = 0.5
DEADLINE_S = 1.0
# What a script's exit status is where its library is not installed.
NOT_INSTALLED_STATUS = 77

Call = Callable[[str], Awaitable[Any]]


async def measure(incr: Call, decr: Call, tasks: int, seconds: float) -> float:
    """Calls a second of so many tasks."""
    counts = [0] * tasks
    running = True

    async def work(number: int) -> None:
        key = f"calls:{number:010d}"
        while running:
            if int(await incr(key)) != 1:
                raise RuntimeError("an increment did not answer 1")
            if int(await decr(key)) != 0:
                raise RuntimeError("a decrement did not answer 0")
            counts[number] += 2

    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            group.create_task(work(number))
        await asyncio.sleep(WARMUP_S)
        begun, begun_s = sum(counts), time.perf_counter()
        await asyncio.sleep(seconds)
        done, took_s = sum(counts) - begun, time.perf_counter() - begun_s
        running = False
    return done / took_s


def main(client: str, run: Callable[[str, int, float], Awaitable[float]]) -> None:
    """Do what the command line says."""
    url, tasks, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

    async def all_of_it() -> float:
        return await run(url, tasks, seconds)

    try:
        import uvloop
    except ImportError:
        rate = asyncio.run(all_of_it())
    else:
        rate = uvloop.run(all_of_it())
    print(json.dumps({"calls_per_s": rate, "client": client}))


def missing(error: ImportError) -> None:
    """Say what is not installed, and leave."""
    print(f"{error.name} is not installed", file=sys.stderr)
    sys.exit(NOT_INSTALLED_STATUS)
