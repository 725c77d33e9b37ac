"""valkey-glide's asyncio client: one multiplexed connection, handled by threads of its own, written in Rust."""

from __future__ import annotations

import importlib.metadata
from urllib.parse import urlsplit

from naught_loadtest.bars.peers import callers

try:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress
except ImportError as error:
    callers.exit_not_installed(error)


async def run(url: str, tasks: int, seconds: float) -> callers.Pace:
    parts = urlsplit(url)
    configuration = GlideClientConfiguration(
        [NodeAddress(parts.hostname or "", parts.port or 6379)],
        request_timeout=int(callers.TIMEOUT_S * 1000),
    )
    client = await GlideClient.create(configuration)
    try:
        return await callers.measure_tasks(client.incr, client.decr, tasks, seconds)
    finally:
        await client.close()


if __name__ == "__main__":
    callers.main(f"valkey-glide {importlib.metadata.version('valkey-glide')}", callers.on_a_loop(run))
