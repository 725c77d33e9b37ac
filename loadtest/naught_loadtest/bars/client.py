"""The bars of the client library: calls per second of 100 tasks in one process, and of one, compared with others.

The conditions are equal: each task takes a counter of its own up and down, every call has a timeout of one second.
redis-py and valkey-glide talk to Redis, naught's library to naught, in a session. valkey-glide comes first, because
it sends the calls of all tasks over one connection, as naught's library does.
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
    Pairing(TASKS, f"{TASKS} tasks", GLIDE, 7.0),
    Pairing(TASKS, f"{TASKS} tasks", REDIS_PY, 15.0),
    Pairing(1, "1 task", REDIS_PY, 1.1),
]


def measure(bench: Bench) -> list[Bar]:
    """The bars of the client against valkey-glide and redis-py."""
    return compare(bench, GROUP, NAUGHT, PAIRINGS)
