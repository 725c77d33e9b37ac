"""The client of naught for threads: one connection for all, calls made at the same time travelling together."""

from __future__ import annotations

import calls

import naught
from naught import blocking


def run(url: str, threads: int, seconds: float) -> float:
    with blocking.Client(url, timeout=calls.DEADLINE_S) as counters:
        return calls.measure_threads(counters.incr, counters.decr, counters.get, threads, seconds)


if __name__ == "__main__":
    calls.main(f"naught {naught.__version__}", run)
