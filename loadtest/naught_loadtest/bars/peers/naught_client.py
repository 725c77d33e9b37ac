"""naught's asyncio client: one connection; calls made in the same turn of the event loop are sent together."""

from __future__ import annotations

import naught
from naught_loadtest.bars.peers import callers


async def run(url: str, tasks: int, seconds: float) -> callers.Pace:
    async with naught.connect(url, timeout=callers.TIMEOUT_S) as counters:
        return await callers.measure_tasks(counters.incr, counters.decr, tasks, seconds)


if __name__ == "__main__":
    callers.main(f"naught {naught.__version__}", callers.on_a_loop(run))
