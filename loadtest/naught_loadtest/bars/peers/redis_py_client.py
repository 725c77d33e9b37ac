"""redis-py's asyncio client with the hiredis parser: one client shared by all tasks, its default pool."""

from __future__ import annotations

from urllib.parse import urlsplit

import calls

try:
    import hiredis  # noqa: F401 - redis-py uses it where it is there
    import redis
    import redis.asyncio
except ImportError as error:
    calls.missing(error)


async def run(url: str, tasks: int, seconds: float) -> float:
    parts = urlsplit(url)
    client = redis.asyncio.Redis(host=parts.hostname or "", port=parts.port or 6379, socket_timeout=calls.DEADLINE_S)
    try:
        return await calls.measure_tasks(client.incr, client.decr, tasks, seconds)
    finally:
        await client.aclose()


if __name__ == "__main__":
    calls.main(f"redis-py {redis.__version__}", calls.on_a_loop(run))
