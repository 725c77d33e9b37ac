"""The client of naught: one connection, calls of the same turn of the loop travelling together."""

from __future__ import annotations

import calls

import naught


async def run(url: str, tasks: int, seconds: float) -> float:
    async with naught.connect(url, timeout=calls.DEADLINE_S) as counters:
        return await calls.measure_tasks(counters.incr, counters.decr, tasks, seconds)


if __name__ == "__main__":
    calls.main(f"naught {naught.__version__}", calls.on_a_loop(run))
