"""What the client scripts beside this one have in common: those who call, and counting their calls.

`python SCRIPT URL CALLERS SECONDS` prints one line of JSON: {"calls_per_s": ..., "client": ...}. Every caller, a
task or a thread, takes a counter of its own up and down, one call after the other, as code does that waits for its
answers. Half a second of warm-up is not counted. A wrong answer ends the script with an error.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

WARMUP_S = 0.5
DEADLINE_S = 1.0
# What a script's exit status is where its library is not installed.
NOT_INSTALLED_STATUS = 77


def key_of(number: int) -> str:
    """The counter of one caller."""
    return f"calls:{number:010d}"


async def measure_tasks(
    incr: Callable[[str], Awaitable[Any]], decr: Callable[[str], Awaitable[Any]], tasks: int, seconds: float
) -> float:
    """Calls a second of so many tasks."""
    counts = [0] * tasks
    running = True

    async def work(number: int) -> None:
        key = key_of(number)
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


def measure_threads(
    incr: Callable[[str], Any],
    decr: Callable[[str], Any],
    get: Callable[[str], Any],
    threads: int,
    seconds: float,
) -> float:
    """Calls a second of so many threads. At the end the counters must be what the last replies said: 0."""
    counts = [0] * threads
    running = True

    def work(number: int) -> None:
        key = key_of(number)
        while running:
            if int(incr(key)) != 1:
                raise RuntimeError("an increment did not answer 1")
            if int(decr(key)) != 0:
                raise RuntimeError("a decrement did not answer 0")
            counts[number] += 2

    with ThreadPoolExecutor(threads) as pool:
        try:
            works = [pool.submit(work, number) for number in range(threads)]
            # Sleeps, unless one of them fails.
            wait(works, WARMUP_S, FIRST_EXCEPTION)
            begun, begun_s = sum(counts), time.perf_counter()
            wait(works, seconds, FIRST_EXCEPTION)
            done, took_s = sum(counts) - begun, time.perf_counter() - begun_s
        finally:
            running = False
        for each in works:
            each.result()
    for key in map(key_of, range(threads)):
        left = int(get(key) or 0)
        if left != 0:
            raise RuntimeError(f"{key} is {left} in the end, where the last reply said 0")
    return done / took_s


def on_a_loop(run: Callable[[str, int, float], Coroutine[Any, Any, float]]) -> Callable[[str, int, float], float]:
    """What `main` takes, of a coroutine: on uvloop where it is installed."""

    def run_all(url: str, callers: int, seconds: float) -> float:
        try:
            import uvloop
        except ImportError:
            return asyncio.run(run(url, callers, seconds))
        return uvloop.run(run(url, callers, seconds))

    return run_all


def main(client: str, run: Callable[[str, int, float], float]) -> None:
    """Do what the command line says."""
    rate = run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    print(json.dumps({"calls_per_s": rate, "client": client}))


def missing(error: ImportError) -> None:
    """Say what is not installed, and leave."""
    print(f"{error.name} is not installed", file=sys.stderr)
    sys.exit(NOT_INSTALLED_STATUS)
