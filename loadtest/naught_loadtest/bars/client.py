"""The bar of the client library: calls per second of 100 tasks in one process, compared with other libraries.

The conditions are equal: 100 tasks, each takes a counter of its own up and down, every call has a timeout of one
second. redis-py and valkey-glide talk to Redis, naught's library to naught.
"""

from __future__ import annotations

from naught_loadtest.bars.bar import Bar, Bench
from naught_loadtest.bars.libraries import Library, Pairing, compare

GROUP = "client"
TASKS = 100
NAUGHT = Library("naught_client", "naught", "naught.connect")
REDIS_PY = Library("redis_py_client", "redis", "redis-py asyncio")
GLIDE = Library("glide_client", "redis", "valkey-glide")
PAIRINGS = [
    Pairing(TASKS, f"{TASKS} tasks", REDIS_PY, 12.0),
    Pairing(TASKS, f"{TASKS} tasks", GLIDE, None),
]


def measure(bench: Bench) -> list[Bar]:
    """The bar of the client against redis-py; the ratio to valkey-glide is only reported."""
    return compare(bench, GROUP, NAUGHT, PAIRINGS)
