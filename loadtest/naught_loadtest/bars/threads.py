"""The bars of the client for threads: calls per second of 1, 8 and 32 threads in one process, compared with redis-py.

The conditions are equal: every thread takes a counter of its own up and down, every call has a timeout of one second,
and all threads share one client. redis-py has a pool with one connection per thread, naught has one connection.
"""

from __future__ import annotations

from naught_loadtest.bars.bar import Bar, Bench
from naught_loadtest.bars.libraries import Library, Pairing, compare

GROUP = "threads"
NAUGHT = Library("naught_threads", "naught", "naught.blocking")
REDIS_PY = Library("redis_py_threads", "redis", "redis-py")
PAIRINGS = [
    Pairing(1, "1 thread", REDIS_PY, 0.7),
    Pairing(8, "8 threads", REDIS_PY, 2.0),
    Pairing(32, "32 threads", REDIS_PY, 3.0),
]


def measure(bench: Bench) -> list[Bar]:
    """A bar for one thread, one for 8 and one for 32."""
    return compare(bench, GROUP, NAUGHT, PAIRINGS)
