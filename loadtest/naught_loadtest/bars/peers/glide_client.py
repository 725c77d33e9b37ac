"""valkey-glide's client: one multiplexed connection, its core in Rust on threads of its own."""

from __future__ import annotations

import importlib.metadata
from urllib.parse import urlsplit

import calls

try:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress
except ImportError as error:
    calls.missing(error)


async def run(url: str, tasks: int, seconds: float) -> float:
    parts = urlsplit(url)
    configuration = GlideClientConfiguration(
        [NodeAddress(parts.hostname or "", parts.port or 6379)],
        request_timeout=int(calls.DEADLINE_S * 1000),
    )
    client = await GlideClient.create(configuration)
    try:
        return await calls.measure_tasks(client.incr, client.decr, tasks, seconds)
    finally:
        await client.close()


if __name__ == "__main__":
    calls.main(f"valkey-glide {importlib.metadata.version('valkey-glide')}", calls.on_a_loop(run))
