"""redis-py's synchronous client with the hiredis parser: one client, a pool with a connection for each thread."""

from __future__ import annotations

from urllib.parse import urlsplit

import calls

try:
    import hiredis  # noqa: F401 - redis-py uses it where it is there
    import redis
except ImportError as error:
    calls.missing(error)


def run(url: str, threads: int, seconds: float) -> float:
    parts = urlsplit(url)
    pool = redis.ConnectionPool(
        host=parts.hostname or "",
        port=parts.port or 6379,
        socket_timeout=calls.DEADLINE_S,
        max_connections=threads,
    )
    try:
        client = redis.Redis(connection_pool=pool)
        return calls.measure_threads(client.incr, client.decr, client.get, threads, seconds)
    finally:
        pool.disconnect()


if __name__ == "__main__":
    calls.main(f"redis-py {redis.__version__}", run)
