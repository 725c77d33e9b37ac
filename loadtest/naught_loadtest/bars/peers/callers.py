"""What the programs of this package share: the callers, tasks or threads, and the count of their calls.

Every caller takes a counter of its own up and down, one call after the other, as code does that waits for its
answers. Calls of the first half second, the warm-up, are not counted. A wrong answer ends the program with an
error. A program prints one line of JSON: the fields of `Pace`, and `client`, the name of the library.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, NoReturn

from naught_loadtest.bars.peers import NOT_INSTALLED_STATUS, key_of

WARMUP_S = 0.5
# The timeout of each call, where the library takes one.
TIMEOUT_S = 1.0


class Pace(NamedTuple):
    """What the callers reached together."""

    calls_per_s: float
    # Processor time of the whole process for one call, the threads of a library included.
    cpu_us_per_call: float
    # All calls, those of the warm-up too: for the server's processor time, which is measured from outside.
    calls: int


async def measure_tasks(
    incr: Callable[[str], Awaitable[Any]], decr: Callable[[str], Awaitable[Any]], tasks: int, seconds: float
) -> Pace:
    """What this number of tasks reach."""
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
        before, begin_s, begin_cpu_s = sum(counts), time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        calls, took_s = sum(counts) - before, time.perf_counter() - begin_s
        cpu_s = time.process_time() - begin_cpu_s
        running = False
    return _pace(calls, took_s, cpu_s, sum(counts))


def measure_threads(
    incr: Callable[[str], Any],
    decr: Callable[[str], Any],
    get: Callable[[str], Any],
    threads: int,
    seconds: float,
) -> Pace:
    """What this number of threads reach. At the end every counter must be 0, as the last replies said."""
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
            # Sleeps for the given time, or until one of the threads fails.
            wait(works, WARMUP_S, FIRST_EXCEPTION)
            before, begin_s, begin_cpu_s = sum(counts), time.perf_counter(), time.process_time()
            wait(works, seconds, FIRST_EXCEPTION)
            calls, took_s = sum(counts) - before, time.perf_counter() - begin_s
            cpu_s = time.process_time() - begin_cpu_s
        finally:
            running = False
        for each in works:
            each.result()
    for key in map(key_of, range(threads)):
        left = int(get(key) or 0)
        if left != 0:
            raise RuntimeError(f"{key} is {left} at the end, where the last reply said 0")
    return _pace(calls, took_s, cpu_s, sum(counts))


def _pace(calls: int, took_s: float, cpu_s: float, all_calls: int) -> Pace:
    return Pace(calls / took_s, cpu_s / max(calls, 1) * 1e6, all_calls)


def on_a_loop(run: Callable[[str, int, float], Coroutine[Any, Any, Pace]]) -> Callable[[str, int, float], Pace]:
    """A coroutine function as the plain function that `main` takes. It runs on uvloop where that is installed."""

    def run_all(url: str, callers: int, seconds: float) -> Pace:
        try:
            import uvloop
        except ImportError:
            return asyncio.run(run(url, callers, seconds))
        return uvloop.run(run(url, callers, seconds))

    return run_all


def main(client: str, run: Callable[[str, int, float], Pace]) -> None:
    """Measure what the command line asks for and print the result."""
    pace = run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    print(json.dumps({**pace._asdict(), "client": client}))


def exit_not_installed(error: ImportError) -> NoReturn:
    """Say which library is not installed, and end the program."""
    print(f"{error.name} is not installed", file=sys.stderr)
    sys.exit(NOT_INSTALLED_STATUS)
