"""The bars of the client for threads: calls a second of 1, 8 and 32 threads in one process, beside redis-py.

They are alike: every thread takes its own counter up and down, every call with a deadline of one second, and one
client is shared by all. redis-py has a pool with a connection for each thread; naught has one connection.
"""

from __future__ import annotations

from naught_loadtest.bars.bar import Bar, Bench
from naught_loadtest.bars.libraries import Library, Pairing, compare

GROUP = "threads"
NAUGHT = Library("naught_threads.py", "naught", "naught.blocking")
REDIS_PY = Library("redis_py_threads.py", "redis", "redis-py")
PAIRINGS = [
    Pairing(1, "1 thread", REDIS_PY, 1.0),
    Pairing(8, "8 threads", REDIS_PY, None),
    Pairing(32, "32 threads", REDIS_PY, 3.0),
]


def measure(bench: Bench) -> list[Bar]:
    """A bar for a lone thread and one for many; what lies between is reported."""
    return compare(bench, GROUP, NAUGHT, PAIRINGS)
