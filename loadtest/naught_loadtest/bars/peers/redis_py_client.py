"""redis-py's asyncio client with the hiredis parser: one client with its default pool, shared by all tasks."""

from __future__ import annotations

from urllib.parse import urlsplit

from naught_loadtest.bars.peers import callers

try:
    import hiredis  # noqa: F401 - redis-py uses it where it is installed
    import redis
    import redis.asyncio
except ImportError as error:
    callers.exit_not_installed(error)


async def run(url: str, tasks: int, seconds: float) -> callers.Pace:
    parts = urlsplit(url)
    client = redis.asyncio.Redis(host=parts.hostname or "", port=parts.port or 6379, socket_timeout=callers.TIMEOUT_S)
    try:
        return await callers.measure_tasks(client.incr, client.decr, tasks, seconds)
    finally:
        await client.aclose()


if __name__ == "__main__":
    callers.main(f"redis-py {redis.__version__}", callers.on_a_loop(run))
