"""The bar of the client library: calls a second of 100 tasks in one process, beside redis-py and valkey-glide.

They are alike: 100 tasks, each taking its own counter up and down, every call with a deadline of one second.
"""

from __future__ import annotations

from naught_loadtest.bars.bar import Bar, Bench
from naught_loadtest.bars.libraries import Library, Pairing, compare

GROUP = "client"
TASKS = 100
NAUGHT = Library("naught_client.py", "naught", "naught.connect")
REDIS_PY = Library("redis_py_client.py", "redis", "redis-py asyncio")
GLIDE = Library("glide_client.py", "redis", "valkey-glide")
PAIRINGS = [
    Pairing(TASKS, f"{TASKS} tasks", REDIS_PY, 12.0),
    Pairing(TASKS, f"{TASKS} tasks", GLIDE, None),
]


def measure(bench: Bench) -> list[Bar]:
    """The bar of the client, and valkey-glide beside it."""
    return compare(bench, GROUP, NAUGHT, PAIRINGS)
