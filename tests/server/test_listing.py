"""Listings of a cache while it changes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from naught.errors import InvalidRequest
from naught.wire.codec import encode_result
from naught.wire.limits import REPLY_BYTES_MAX
from naught_server.config import CachePolicy
from naught_server.listing import SCAN_ENTRIES_MAX, LongPage, needs_long_page, short_page
from naught_server.store import Cache

NOW_MS = 1_000_000


def cache_of(shards: int = 4, eviction: Any = "eager") -> Cache:
    return Cache(CachePolicy("default", shards=shards, eviction=eviction))


def scan_all(cache: Cache, count: int, prefix: bytes = b"") -> list[bytes]:
    cursor, seen = b"", []
    while True:
        cursor, keys, _ = short_page(cache, cursor, count, prefix, NOW_MS)[:3]
        assert len(keys) <= count
        seen += keys
        if not cursor:
            return seen


@pytest.mark.parametrize("count", [1, 2, 7, 100, 4_096])
@pytest.mark.parametrize("shards", [1, 4, 256])
def test_a_scan_sees_every_counter_once(shards: int, count: int) -> None:
    cache = cache_of(shards)
    keys = [b"%d" % number for number in range(300)]
    for key in keys:
        cache.incr(key, 1, None, NOW_MS)
    assert sorted(scan_all(cache, count)) == sorted(keys)
    assert sorted(scan_all(cache, count, b"1")) == sorted(key for key in keys if key.startswith(b"1"))


@pytest.mark.parametrize("length", [512, 511, 300, 100, 1])
@pytest.mark.parametrize("shards", [1, 16, 256])
def test_a_page_of_the_longest_keys_and_largest_values_fits_a_reply(shards: int, length: int) -> None:
    cache = cache_of(shards)
    random = Random(length)
    keys = {random.randbytes(length) for _ in range(3_000)}
    for key in keys:
        cache.incr(key, 2**63 - 1, None, NOW_MS)
    cursor, seen = b"", []
    while True:
        page = short_page(cache, cursor, 4_096, b"", NOW_MS)[:3]
        assert len(encode_result(2**32 - 1, page)) <= REPLY_BYTES_MAX
        cursor, found, _ = page
        seen += found
        if not cursor:
            break
    assert sorted(seen) == sorted(keys)


def test_a_long_page_ends_before_the_reply_is_too_large() -> None:
    cache = cache_of(shards=1)
    keys = [b"%0512d" % number for number in range(3_000)]
    for key in keys:
        cache.incr(key, 1, None, NOW_MS)
    cursor, found, sizes = b"", [], []
    while cursor or not sizes:
        page = LongPage(cache, cursor, len(keys), b"")
        while not page.step(NOW_MS, 1_000):
            pass
        cursor, some, values = page.result()
        sizes.append(len(encode_result(1, [cursor, some, values])))
        found += some
    assert found == keys
    assert all(REPLY_BYTES_MAX * 15 // 16 < size <= REPLY_BYTES_MAX for size in sizes[:-1])
    assert len(sizes) > 1


def test_a_scan_of_a_large_cache_ends_its_pages_early() -> None:
    cache = cache_of(256)
    for number in range(3 * SCAN_ENTRIES_MAX):
        cache.incr(b"%d" % number, 1, None, NOW_MS)
    pages = 0
    cursor = b""
    while True:
        cursor, keys, _ = short_page(cache, cursor, 10, b"nobody", NOW_MS)[:3]
        assert keys == []
        pages += 1
        if not cursor:
            break
    assert pages >= 3


class Changing:
    """A cache of drawn counters that change while it is listed, and those that have lived since the beginning."""

    def __init__(self, random: Random, shards: int, eviction: str) -> None:
        self._random = random
        self.cache = cache_of(shards, eviction)
        self._keys = [b"%d" % number for number in range(200)]
        for key in self._keys[::2]:
            self.cache.incr(key, 1, random.choice([None, 5, 10_000]), NOW_MS)
        self.lives_through = {key for key in self._keys if self.cache.get(key, NOW_MS)}

    def change(self, now_ms: int, then_ms: int) -> None:
        """Two counters change; then it is `then_ms`."""
        for key in self._random.sample(self._keys, 2):
            if self._random.random() < 0.5:
                self.cache.incr(key, 1, None, now_ms)
            else:
                self.cache.decr(key, 10**6, False, now_ms)
                self.lives_through.discard(key)
        self.lives_through = {key for key in self.lives_through if self.cache.get(key, then_ms)}

    def check(self, seen: list[bytes]) -> None:
        """Whether a listing has seen what it must, and nothing twice."""
        assert len(seen) == len(set(seen))
        assert self.lives_through
        assert self.lives_through <= set(seen)


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
@pytest.mark.parametrize("seed", range(6))
def test_a_counter_that_lives_through_a_scan_is_seen_once_any_other_at_most_once(seed: int, eviction: str) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    changing = Changing(random, random.choice([1, 4, 16]), eviction)
    cache = changing.cache
    cursor, seen, now_ms = b"", [], NOW_MS
    while True:
        cursor, found, values = short_page(cache, cursor, random.choice([1, 3, 20]), b"", now_ms)[:3]
        assert [cache.get(key, now_ms) for key in found] == values
        seen += found
        if not cursor:
            break
        then_ms = now_ms + random.choice([0, 1])
        changing.change(now_ms, then_ms)
        now_ms = then_ms
    changing.check(seen)


@pytest.mark.parametrize("eviction", ["eager", "lazy"])
@pytest.mark.parametrize("seed", range(6))
def test_so_it_is_where_pages_are_taken_in_steps(seed: int, eviction: str) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    changing = Changing(random, random.choice([1, 4]), eviction)
    cursor, seen, now_ms = b"", [], NOW_MS
    while True:
        page = LongPage(changing.cache, cursor, random.choice([1, 3, 20]), b"")
        finished = False
        while not finished:
            finished = page.step(now_ms, random.choice([1, 7, 50]))
            then_ms = now_ms + random.choice([0, 0, 1])
            changing.change(now_ms, then_ms)
            now_ms = then_ms
        cursor, found, _ = page.result()
        seen += found
        if not cursor:
            break
    changing.check(seen)


@pytest.mark.parametrize("cursor", [b"abc", b"\0\0\0\x04", b"\xff\xff\xff\xff", b"\0" * 517])
def test_an_invented_cursor_is_refused(cursor: bytes) -> None:
    with pytest.raises(InvalidRequest):
        short_page(cache_of(4), cursor, 10, b"", NOW_MS)


def test_a_scan_sees_a_counter_whose_time_to_live_comes_and_goes() -> None:
    """Such a counter changes its table. It exists during the whole scan, and is seen once."""
    for long_page in (False, True):
        cache = cache_of(1)
        keys = [b"%04d" % number for number in range(SCAN_ENTRIES_MAX + 100 if long_page else 500)]
        for number, key in enumerate(keys):
            cache.incr(key, 5, (None, 50)[number % 2], NOW_MS)
        seen: list[bytes] = []
        cursor, random = b"", Random(1)
        while True:
            for key in random.sample(keys, 50):
                cache.expire_in(key, random.choice([None, 50]), NOW_MS)
            if needs_long_page(cache, cursor):
                page = LongPage(cache, cursor, 1_000, b"")
                while not page.step(NOW_MS, 500):
                    for key in random.sample(keys, 50):
                        cache.expire_in(key, random.choice([None, 50]), NOW_MS)
                cursor, found, values = page.result()
            else:
                cursor, found, values, _ = short_page(cache, cursor, 100, b"", NOW_MS)
            seen += found
            assert set(values) <= {5}
            if not cursor:
                break
        assert seen == keys
        cache.invariants(NOW_MS)
