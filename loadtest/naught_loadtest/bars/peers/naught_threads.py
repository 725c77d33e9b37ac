"""naught's client for threads: one connection for all threads; calls made at the same time are sent together."""

from __future__ import annotations

import naught
from naught import blocking
from naught_loadtest.bars.peers import callers


def run(url: str, threads: int, seconds: float) -> callers.Pace:
    with blocking.Client(url, timeout=callers.TIMEOUT_S) as counters:
        return callers.measure_threads(counters.incr, counters.decr, counters.get, threads, seconds)


if __name__ == "__main__":
    callers.main(f"naught {naught.__version__}", run)
