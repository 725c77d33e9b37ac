"""The reference model of a cache: one plain dict without shards, locks, wheel or sweeper.

`ModelCache` executes a request, given as on the wire, at a given time, and returns what the reply must be. It keeps
each counter and its deadline. Expired counters are removed before each request.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil, floor
from typing import Any

from support.cases_counters import FULL, OVERFLOW, UNDERFLOW, VALUE_MAX, Refused


class ModelCache:
    """Counters by key, each with its deadline or None."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.values: dict[bytes, int] = {}
        self.deadlines: dict[bytes, int] = {}
        self.evictions: Counter[str] = Counter()
        self.scans: list[set[bytes]] = []  # for each scan under way: keys present since it began

    def answer(self, method: str, params: tuple[Any, ...], now_ms: int) -> Any:
        """Execute; the result, or a Refused."""
        self.purge(now_ms)
        return getattr(self, method)(now_ms, *params)

    def purge(self, now_ms: int) -> None:
        """Remove expired counters."""
        for key in [key for key, deadline_ms in self.deadlines.items() if deadline_ms <= now_ms]:
            self._evict(key, "expired")

    def _evict(self, key: bytes, reason: str) -> None:
        del self.values[key]
        self.deadlines.pop(key, None)
        self.evictions[reason] += 1
        for present in self.scans:
            present.discard(key)

    def _change(self, now_ms: int, key: bytes, by: int, ttl_ms: int | None) -> int | Refused:
        value = self.values.get(key, 0) + by
        if value > VALUE_MAX:
            return OVERFLOW
        if key not in self.values and value > 0:
            if self.limit is not None and len(self.values) >= self.limit:
                return FULL
            if ttl_ms is not None:
                self.deadlines[key] = now_ms + ttl_ms
        if value > 0:
            self.values[key] = value
        elif key in self.values:
            self._evict(key, "zero")
        return max(value, 0)

    def incr(self, now_ms: int, key: bytes, by: int = 1, ttl_ms: int | None = None) -> int | Refused:
        return self._change(now_ms, key, by, ttl_ms)

    def decr(self, now_ms: int, key: bytes, by: int = 1, strict: bool = False) -> int | Refused:
        if strict and self.values.get(key, 0) < by:
            return UNDERFLOW
        return self._change(now_ms, key, -by, None)

    def apply(
        self, now_ms: int, keys: list[bytes], deltas: list[int] | int, ttl_ms: int | None = None
    ) -> list[int | Refused]:
        each = [deltas] * len(keys) if isinstance(deltas, int) else deltas
        return [self._change(now_ms, key, by, ttl_ms) for key, by in zip(keys, each, strict=True)]

    def get(self, now_ms: int, key: bytes) -> int:
        return self.values.get(key, 0)

    def get_many(self, now_ms: int, keys: list[bytes]) -> list[int]:
        return [self.values.get(key, 0) for key in keys]

    def set(self, now_ms: int, key: bytes, value: int, ttl_ms: int | None = None) -> int | Refused:
        before = self.values.get(key, 0)
        if not value:
            if before:
                self._evict(key, "set")
            return before
        if not before and self.limit is not None and len(self.values) >= self.limit:
            return FULL
        self.values[key] = value
        self.deadlines.pop(key, None)
        if ttl_ms is not None:
            self.deadlines[key] = now_ms + ttl_ms
        return before

    def take(self, now_ms: int, keys: list[bytes]) -> list[int]:
        taken = []
        for key in keys:
            taken.append(self.values.get(key, 0))
            if key in self.values:
                self._evict(key, "taken")
        return taken

    def try_incr(self, now_ms: int, items: list[Any], ttl_ms: int | None = None) -> list[Any] | Refused:
        after = {key: self.values.get(key, 0) for key, _, _ in items}
        creations = sum(not value for value in after.values())
        before = dict(after)
        for key, by, _ in items:
            after[key] += by
        if any(after[key] > limit for key, _, limit in items):
            return [False, [before[key] for key, _, _ in items]]
        if self.limit is not None and creations and len(self.values) + creations > self.limit:
            return FULL
        for key, by, _ in items:
            self._change(now_ms, key, by, ttl_ms)
        return [True, [after[key] for key, _, _ in items]]

    def throttle(self, now_ms: int, key: bytes, limit: int, per_ms: int, *more: int) -> list[Any] | Refused:
        burst, by = (*more, *(limit, 1)[len(more) :])
        if key in self.values and key not in self.deadlines:
            return [not by, 0, -1, -1]
        refill = Fraction(limit, per_ms)  # uses in a millisecond
        used = Fraction(0)
        if key in self.values:
            used = (self.deadlines[key] - now_ms - Fraction(-self.values[key] % limit, limit)) * refill
        after = used + by
        if not by or after > burst:
            retry = max(Fraction(0), (after - burst) / refill) if by else 0
            return [not by, max(0, floor(burst - used)), ceil(retry), ceil(used / refill)]
        if key not in self.values and self.limit is not None and len(self.values) >= self.limit:
            return FULL
        self.values[key] = int(after * per_ms)
        self.deadlines[key] = now_ms + ceil(after / refill)
        return [True, floor(burst - after), 0, ceil(after / refill)]

    def expire(self, now_ms: int, key: bytes, ttl_ms: int | None) -> bool:
        if key not in self.values or (ttl_ms is None and key not in self.deadlines):
            return False
        self.deadlines.pop(key, None)
        if ttl_ms is not None:
            self.deadlines[key] = now_ms + ttl_ms
        return True

    def ttl(self, now_ms: int, key: bytes) -> int | None:
        if key not in self.values:
            return None
        return self.deadlines[key] - now_ms if key in self.deadlines else -1

    def count(self, now_ms: int, prefix: bytes = b"") -> int:
        return len(self.under(prefix))

    def top(self, now_ms: int, n: int, prefix: bytes = b"") -> list[list[Any]]:
        best = sorted(self.under(prefix).items(), key=lambda item: (-item[1], item[0]))[:n]
        return [[key for key, _ in best], [value for _, value in best]]

    def clear(self, now_ms: int) -> int:
        keys = list(self.values)
        for key in keys:
            self._evict(key, "cleared")
        return len(keys)

    def ping(self, now_ms: int) -> bytes:
        return b"pong"

    def under(self, prefix: bytes) -> dict[bytes, int]:
        """The counters under a prefix."""
        return {key: value for key, value in self.values.items() if key.startswith(prefix)}
