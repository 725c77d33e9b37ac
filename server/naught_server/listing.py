"""The counters of a cache, listed: pages of a scan, and all counters in pieces. Pure, as `store.py` is.

A scan goes through the shards in order, and through each shard's keys in byte order. A cursor is a shard and the last
key that was given of it, so no state is kept for it. A page passes a shard as a whole, unless the shard has more
entries than one step may look at; then it is a `LongPage`, which is found in steps.

A counter that exists during the whole scan is seen exactly once, any other at most once.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Iterator
from typing import Final

from naught.errors import InvalidRequest
from naught.wire.limits import KEY_BYTES_MAX, REPLY_BYTES_MAX
from naught_server.store import Cache

SCAN_ENTRIES_MAX: Final = 4_000
"""Raw entries that one page of a scan passes, about a turn's work. It ends early before a shard that is more than is
left. A page in a shard with more entries works in slices."""

SHARD_ENTRIES: Final = 8
"""Raw entries that a shard counts as beside its own: 1 us."""

EMPTY_SHARD_ENTRIES: Final = 2
"""Raw entries that a shard without any counts as: 0.3 us."""

SHARD_KEYS_LISTED_PER_ENTRY: Final = 16
"""Keys of a shard that are listed at the cost of looking at one entry."""


def live_pieces(
    cache: Cache, prefix: bytes, entries_max: int, clock_ms: Callable[[], int]
) -> Iterator[list[tuple[bytes, int]]]:
    """All live counters under a prefix, in pieces of up to `entries_max` raw entries, each read when it is asked
    for, as of the time that the clock says then.

    A shard's keys are listed in one step, which for a million of them takes a few milliseconds, and looked up in
    the steps after it: a counter that has gone by then is not seen, one that has come since is not either. Shards
    whose lock is held are read too: their owner does not change the table before its last step.
    """
    found: list[tuple[bytes, int]] = []
    left = entries_max
    for shard in range(len(cache.tables)):
        keys = cache.keys_of(shard)
        left -= SHARD_ENTRIES + len(keys) // SHARD_KEYS_LISTED_PER_ENTRY if keys else EMPTY_SHARD_ENTRIES
        at = 0
        while True:
            if left <= 0:
                yield found
                found = []
                left = entries_max
            if at >= len(keys):
                break
            some = keys[at : at + left]
            found += cache.counters_of(shard, clock_ms(), prefix, some)
            left -= len(some)
            at += len(some)
    yield found


def short_page(
    cache: Cache, cursor: bytes, count: int, prefix: bytes, now_ms: int
) -> tuple[bytes, list[bytes], list[int], int]:
    """A page of about `count` counters, found in one step: the cursor of the next page, keys, values; and how many
    raw entries it counts as having passed.

    The cursor of the first page is b"", and b"" is returned when there are no more pages. A page may end early, even
    empty. Raises InvalidRequest for a cursor that no page has given.
    """
    shard, after = _read_cursor(cache, cursor)
    page = _Page()
    passed = 0
    while shard < len(cache.tables):
        entries = cache.entries_of(shard)
        size = SHARD_ENTRIES + entries if entries else EMPTY_SHARD_ENTRIES
        if passed and passed + size > SCAN_ENTRIES_MAX:
            passed = SCAN_ENTRIES_MAX  # it ends for its work, and is a turn's, whatever sizes the shards have
            break
        passed += size
        found = cache.counters_of(shard, now_ms, prefix) if entries else []
        if after:
            found = [item for item in found if item[0] > after]
        for item in heapq.nsmallest(count - len(page.keys), found) if found else ():
            if not page.add(item):
                # `after`, not the last key of the page, which may be of the shard before.
                return _write_cursor(shard, after), page.keys, page.values, passed
            after = item[0]
        if len(page.keys) >= count:
            return _write_cursor(shard, after), page.keys, page.values, passed
        shard += 1
        after = b""
    return _cursor_at(cache, shard), page.keys, page.values, passed


def needs_long_page(cache: Cache, cursor: bytes) -> bool:
    """Whether the next page is in a shard with more entries than one step may pass. Raises InvalidRequest for a
    cursor that no page has given."""
    shard, _ = _read_cursor(cache, cursor)
    return cache.entries_of(shard) > SCAN_ENTRIES_MAX


class LongPage:
    """A page of a scan in a large shard: the first `count` counters behind a key, in byte order, found in steps.

    The keys are listed when it begins. A counter that exists during the whole scan is among them, and every step
    keeps the first `count` of those it has seen. A counter that goes while the page is under way may be in it or not.
    """

    __slots__ = ("_after", "_at", "_cache", "_count", "_first", "_keys", "_prefix", "_shard")

    def __init__(self, cache: Cache, cursor: bytes, count: int, prefix: bytes) -> None:
        """Raises InvalidRequest for a cursor that no page has given."""
        self._cache = cache
        self._shard, self._after = _read_cursor(cache, cursor)  # the page begins behind this key
        self._count = count
        self._prefix = prefix
        self._keys = cache.keys_of(self._shard)
        self._at = 0  # how many of those were looked at
        self._first: list[tuple[bytes, int]] = []  # the first `count` of what was found, in order

    def step(self, now_ms: int, entries_max: int) -> bool:
        """Look at up to `entries_max` keys. Returns whether those were the last."""
        some = self._keys[self._at : self._at + entries_max]
        self._at += len(some)
        after = self._after
        first = self._first
        found = [
            item
            for item in self._cache.counters_of(self._shard, now_ms, self._prefix, some)
            if item[0] > after and (len(first) < self._count or item < first[-1])
        ]
        if found:
            # One sort of two sorted runs costs little more than their length.
            found.sort()
            first += found
            first.sort()
            del first[self._count :]
        return self._at >= len(self._keys)

    def result(self) -> tuple[bytes, list[bytes], list[int]]:
        """The cursor of the next page, keys, values."""
        page = _Page()
        for item in self._first:
            if not page.add(item):
                return _write_cursor(self._shard, page.keys[-1]), page.keys, page.values
        if len(self._first) >= self._count:
            return _write_cursor(self._shard, page.keys[-1]), page.keys, page.values
        return _cursor_at(self._cache, self._shard + 1), page.keys, page.values


class _Page:
    """The counters of a page of a scan, as many as fit a reply."""

    __slots__ = ("_room", "keys", "values")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[int] = []
        self._room = REPLY_BYTES_MAX - 2 * KEY_BYTES_MAX

    def add(self, item: tuple[bytes, int]) -> bool:
        """Add a counter; whether there was room."""
        key, value = item
        self._room -= len(key) + 12
        if self._room < 0:
            return False
        self.keys.append(key)
        self.values.append(value)
        return True


def _read_cursor(cache: Cache, cursor: bytes) -> tuple[int, bytes]:
    """The shard in which the page begins, and the key behind which it does; b"" for its first key."""
    if not cursor:
        return 0, b""
    if len(cursor) < 4 or len(cursor) > 4 + KEY_BYTES_MAX:
        raise InvalidRequest("a cursor is 0, or what the last page of this scan gave")
    shard: int
    (shard,) = struct.unpack_from(">I", cursor)
    if shard >= len(cache.tables):
        raise InvalidRequest("a cursor is 0, or what the last page of this scan gave")
    return shard, cursor[4:]


def _write_cursor(shard: int, after: bytes) -> bytes:
    return struct.pack(">I", shard) + after


def _cursor_at(cache: Cache, shard: int) -> bytes:
    """The cursor at the begin of a shard; b"" behind the last one."""
    return _write_cursor(shard, b"") if shard < len(cache.tables) else b""
