"""`apply` straight on a cache's tables: the loops over a batch, while nothing is in the way.

One loop for an array of deltas, and two for one delta for all, which spare the checks of each delta: 0.32 us
a counter against 0.40. An item that is not plain (a bad key, an overflow, a zero that lazy eviction left) is
handed to `Cache.apply_item`, which checks everything and says what was wrong with it.
"""

from __future__ import annotations

from typing import Any

from naught.errors import CommandError
from naught.wire import KEY_BYTES_MAX, VALUE_MAX
from naught_server.store import Cache


def apply_each(cache: Cache, keys: tuple[Any, ...], deltas: tuple[Any, ...], now_ms: int) -> list[Any]:
    """Add to each key its own delta, in order; the values after, or [code, message] for an item that failed."""
    tables = cache.tables
    mask = len(tables) - 1
    plain = cache.plain
    queues = cache.waiting.queues
    results: list[Any] = []
    append = results.append
    evicted = 0
    for key, by in zip(keys, deltas, strict=True):
        if key.__class__ is bytes and by.__class__ is int:
            table = tables[hash(key) & mask]
            if key in table:
                value = table[key] + by
                if value > 0:
                    # Equal to `by` where a lazy zero was; and 0 is no delta.
                    if value <= VALUE_MAX and value != by and by:
                        table[key] = value
                        append(value)
                        if queues and by < 0 and key in queues:
                            cache.fell(key, now_ms)
                        continue
                elif plain and by >= -VALUE_MAX:
                    del table[key]
                    evicted += 1
                    append(0)
                    continue
            elif 0 < by <= VALUE_MAX and 0 < len(key) <= KEY_BYTES_MAX:
                table[key] = by
                append(by)
                continue
        append(_checked(cache, key, by, now_ms))
    if evicted:
        cache.evictions["zero"] += evicted
    return results


def add_to_all(cache: Cache, keys: tuple[Any, ...], by: int, now_ms: int) -> list[Any]:
    """Add `by`, a good positive delta, to every key."""
    tables = cache.tables
    mask = len(tables) - 1
    results: list[Any] = []
    append = results.append
    for key in keys:
        if key.__class__ is bytes:
            table = tables[hash(key) & mask]
            if key in table:
                value = table[key] + by
                if by < value <= VALUE_MAX:
                    table[key] = value
                    append(value)
                    continue
            elif 0 < len(key) <= KEY_BYTES_MAX:
                table[key] = by
                append(by)
                continue
        append(_checked(cache, key, by, now_ms))
    return results


def take_from_all(cache: Cache, keys: tuple[Any, ...], by: int, now_ms: int) -> list[Any]:
    """Add `by`, a good negative delta, to every key."""
    tables = cache.tables
    mask = len(tables) - 1
    plain = cache.plain
    queues = cache.waiting.queues
    results: list[Any] = []
    append = results.append
    evicted = 0
    for key in keys:
        if key.__class__ is bytes:
            table = tables[hash(key) & mask]
            if key in table:
                value = table[key] + by
                if value > 0:
                    table[key] = value
                    append(value)
                    if queues and key in queues:
                        cache.fell(key, now_ms)
                    continue
                if plain:
                    del table[key]
                    evicted += 1
                    append(0)
                    continue
        append(_checked(cache, key, by, now_ms))
    if evicted:
        cache.evictions["zero"] += evicted
    return results


def _checked(cache: Cache, key: object, by: object, now_ms: int) -> object:
    result = cache.apply_item(key, by, None, now_ms)
    return (result.code, str(result)) if isinstance(result, CommandError) else result
