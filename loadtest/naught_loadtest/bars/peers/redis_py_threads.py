"""redis-py's synchronous client with the hiredis parser: one client, and a pool with one connection per thread."""

from __future__ import annotations

from urllib.parse import urlsplit

from naught_loadtest.bars.peers import callers

try:
    import hiredis  # noqa: F401 - redis-py uses it where it is installed
    import redis
except ImportError as error:
    callers.exit_not_installed(error)


def run(url: str, threads: int, seconds: float) -> callers.Pace:
    parts = urlsplit(url)
    pool = redis.ConnectionPool(
        host=parts.hostname or "",
        port=parts.port or 6379,
        socket_timeout=callers.TIMEOUT_S,
        max_connections=threads,
    )
    try:
        client = redis.Redis(connection_pool=pool)
        return callers.measure_threads(client.incr, client.decr, client.get, threads, seconds)
    finally:
        pool.disconnect()


if __name__ == "__main__":
    callers.main(f"redis-py {redis.__version__}", run)
