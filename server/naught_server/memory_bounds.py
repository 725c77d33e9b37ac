"""What the limits of a configuration add up to: the most memory that a server needs. `--print-config` prints it.

Each figure is the worst that clients can do, with keys of the largest size, and every limit reached at once. A test
drives a server there. Out of memory it ends (`exhausted.py`), so a machine should have as much, or lower limits.
"""

from __future__ import annotations

from typing import Final

from naught.wire.limits import BATCH_ITEMS_MAX, KEY_BYTES_MAX, REPLY_BYTES_MAX, UNACKNOWLEDGED_BYTES_MAX
from naught_server.config import ServerConfig
from naught_server.limits import (
    HELD_ITEMS_MAX,
    HTTP_CONNECTIONS_MAX,
    INPUT_BYTES_MAX,
    LOG_BYTES_QUEUED_MAX,
    OUTPUT_BYTES_MAX,
)
from naught_server.session import SLICES_MAX

MIB: Final = 1 << 20

PROCESS_BYTES: Final = 64 * MIB
"""The interpreter, the modules and what they have made, measured at 33 MiB, and what the allocator keeps."""

SHARD_BYTES: Final = 1 << 10
"""Two empty tables and a lock."""

CONNECTION_BYTES_MAX: Final = (
    2 * INPUT_BYTES_MAX + OUTPUT_BYTES_MAX + 3 * REPLY_BYTES_MAX + 2 * UNACKNOWLEDGED_BYTES_MAX + (16 << 10)
)
"""An unfinished message and a piece that is joined to it; output up to the bound, and that of a turn beyond it; what
is sent again where it resumes a session."""

TLS_BYTES_MAX: Final = 1 << 20
"""Of a connection with TLS too: what asyncio reads into, and records on their way in and out."""

HELD_BYTES_MAX: Final = 400 + KEY_BYTES_MAX
"""An amount that a session holds."""

SESSION_BYTES_MAX: Final = 2 * UNACKNOWLEDGED_BYTES_MAX + HELD_ITEMS_MAX * HELD_BYTES_MAX + (4 << 10)
"""At twice the bound of what is not acknowledged it ends."""

LISTED_BYTES_MAX: Final = BATCH_ITEMS_MAX * (3 * KEY_BYTES_MAX + 256) + (256 << 10)
"""What `top` has found so far, with each key once more in another order; and a piece of what it looks at."""

HTTP_CONNECTION_BYTES_MAX: Final = 2 * MIB
"""A page or the metrics on their way."""

COUNTER_BYTES_MAX: Final = 320 + KEY_BYTES_MAX
"""One with a time to live, in a table that is being rebuilt."""


def sliced_bytes_max(config: ServerConfig) -> int:
    """The most bytes of one request that works in slices: what it has found, and the keys of a shard, each of which
    may have twice its part of the counters. Without those of caches without a bound."""
    shards = [1_000 + 2 * (cache.max_counters or 0) // cache.shards for cache in config.caches.values()]
    return LISTED_BYTES_MAX + 8 * max(shards)


def memory_bounds(config: ServerConfig) -> dict[str, int | None]:
    """The most bytes for each kind of thing; None for caches without a bound."""
    caches = config.caches.values()
    counters = [cache.max_counters for cache in caches]
    return {
        "the process": PROCESS_BYTES + SHARD_BYTES * sum(cache.shards for cache in caches),
        "connections": (CONNECTION_BYTES_MAX + (TLS_BYTES_MAX if config.tls_certificate else 0))
        * config.connections_max,
        "sessions": SESSION_BYTES_MAX * config.sessions_max,
        # Of each session, and of each connection without one.
        "requests in slices": SLICES_MAX * sliced_bytes_max(config) * (config.sessions_max + config.connections_max),
        "requests that wait": config.parked_bytes_max,
        "HTTP": HTTP_CONNECTION_BYTES_MAX * HTTP_CONNECTIONS_MAX if config.serves_http else 0,
        "the log": 4 * LOG_BYTES_QUEUED_MAX,
        "counters": None if None in counters else COUNTER_BYTES_MAX * sum(each or 0 for each in counters),
    }


def memory_lines(config: ServerConfig) -> list[str]:
    """The bounds as comments of a file."""
    bounds = memory_bounds(config)
    lines = ["# Memory, if every limit is reached at once:"]
    lines += [f"#   {name}: {_shown(size)}" for name, size in bounds.items() if size != 0]
    known = sum(size or 0 for size in bounds.values())
    lines.append(f"#   all together: {_shown(known)}{', and the counters' if bounds['counters'] is None else ''}")
    return lines


def _shown(size: int | None) -> str:
    if size is None:
        return "no bound, as a cache has no max_counters"
    return f"{size / MIB:,.0f} MiB"
