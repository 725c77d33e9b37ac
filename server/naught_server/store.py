"""Caches of counters: shards, eviction, deadlines, bounds. Pure: no loop, no socket, no clock; `now_ms` comes in.

The invariant, which every method keeps: **a counter exists if and only if its value is at least 1.**

A `Cache` is a number of shards, and a shard is a plain dict of bytes to int, plus the deadlines of those of its
counters that have one, plus a lock (`locks.py`). There is no object per counter. Which shard a key is in is
told by Python's hash of its bytes, which is keyed per process, so nobody outside can aim at one shard.

Two ways in. The methods below are complete: they look for expired counters, lazy zeros and bounds. The loops over
requests (`channel.py`, `column.py`, `batch.py`, and `lone.py` for a single one) do `incr`, `decr` and `apply`
themselves, on the tables, while `prepare()`, or for `lone.py` a few shorter questions, says that there is none of
that to look for; a call per request would cost a third of the throughput.

Eager eviction deletes the entry in the command that brought it to zero. Lazy eviction leaves the zero as a *raw
entry* until the sweeper takes it; whatever is asked of the cache is answered as if it were not there.

A shard that is held (`locks.held`) must not be touched by anybody but its owner: who calls these methods checks
first, with `shards_of` what the command touches.

Who waits for a counter, and who holds it, is kept in `waiting.py`. The methods here tell it when a counter has become
absent or has less than before; whoever ran the command then has it `settle`.
"""

from __future__ import annotations

import heapq
import struct
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from naught.errors import CacheFull, CommandError, CounterOverflow, CounterUnderflow, InvalidRequest
from naught.wire.limits import KEY_BYTES_MAX, REPLY_BYTES_MAX, VALUE_MAX
from naught_server.config import CachePolicy
from naught_server.expiry import DeadlineWheel
from naught_server.locks import ShardLocks
from naught_server.waiters import SETTLED_AT_ONCE, Item, Waiters, sums_of

Reason = Literal["zero", "expired", "taken", "set", "cleared"]

EXPIRE_AT_ONCE: Final = 64
"""Expired counters that a slice of requests takes out before it starts; about 20 us. More are the sweeper's."""

DUE_COUNTED_MAX: Final = 20_000
"""Expired counters still there that one look counts; about 0.5 ms."""

SCAN_ENTRIES_MAX: Final = 20_000
"""Raw entries one page of a scan looks at before it ends early; about 1 ms."""

_FULL: Final = "the cache holds max_counters = {} already"
_PAST_MAX: Final = "the value would pass 2^63 - 1"


class Cache:
    """One named, separate set of counters with its own policy."""

    __slots__ = (
        "_credit",
        "_lazy",
        "_mask",
        "deadlines",
        "evictions",
        "locks",
        "name",
        "policy",
        "swapped_out",
        "table_bytes",
        "tables",
        "tables_replaced",
        "waiters",
        "wheel",
        "zeros",
    )

    def __init__(self, policy: CachePolicy) -> None:
        self.name = policy.name
        self.policy = policy
        self.tables: list[dict[bytes, int]] = [{} for _ in range(policy.shards)]  # by shard: the raw entries
        # By shard: when those of its counters that have a time to live expire. A subset of the table's keys.
        self.deadlines: list[dict[bytes, int]] = [{} for _ in range(policy.shards)]
        self.wheel = DeadlineWheel()  # all of `deadlines` by time
        self.locks = ShardLocks(policy.shards)
        self.waiters = Waiters(self)  # who waits for these counters, and who holds them
        self.zeros = [0] * policy.shards  # by shard: raw entries that are no counters (lazy eviction only)
        self.evictions: dict[Reason, int] = {"zero": 0, "expired": 0, "taken": 0, "set": 0, "cleared": 0}
        self.swapped_out: deque[dict[bytes, int]] = deque()  # tables that `clear` took out; the sweeper empties them
        self.tables_replaced = False  # set by `clear`: there are tables the collector's frozen heap does not know
        self.table_bytes = 0  # memory of the tables, as the sweeper last measured it
        self._mask = policy.shards - 1
        self._lazy = policy.eviction == "lazy"
        self._credit = 0  # counters that may surely still be created; a lower bound, for max_counters

    # -------------------------------------------------------------------------------------- what is there

    def shard_of(self, key: bytes) -> int:
        """The number of the shard a key belongs to."""
        return hash(key) & self._mask

    def raw_entries(self) -> int:
        """What the tables physically hold. O(shards)."""
        return sum(map(len, self.tables))

    def live(self, now_ms: int) -> tuple[int, bool]:
        """Live counters; and whether that is exact, or more has expired than one look may count.

        O(shards) and the expired ones: takes out at most 1 000, and counts those it leaves (all of them while a
        shard is held) up to `DUE_COUNTED_MAX`.
        """
        due = 0 if self.expire(now_ms, 1_000) else self.wheel.due(now_ms, DUE_COUNTED_MAX)
        return self.raw_entries() - sum(self.zeros) - due, due < DUE_COUNTED_MAX

    def prepare(self, now_ms: int, creations_max: int) -> bool:
        """Whether a loop may work on `tables` directly: no shard is held, nothing is expired but still there, and
        `creations_max` more counters fit. Lazy zeros it must look for itself."""
        if self.locks.held:
            return False
        if self.wheel.count and not self.expire(now_ms, EXPIRE_AT_ONCE):
            return False
        limit = self.policy.max_counters
        if limit is None:
            return True
        if self.waiters.queues:
            return False  # a waiter may be granted, and create, in the middle of the loop
        self._credit -= creations_max
        if self._credit < 0:
            self._credit = max(0, limit - self.raw_entries()) - creations_max
        return self._credit >= 0

    @property
    def eviction_is_delete(self) -> bool:
        """Whether taking out a counter that came to zero is deleting its entry and nothing more."""
        if self._lazy or self.wheel.count:
            return False
        waiters = self.waiters
        return not (waiters.generations or waiters.queues or waiters.awaited)

    def _value(self, shard: int, key: bytes, now_ms: int) -> int:
        """A counter's value, 0 for absent. Takes it out when it has expired."""
        value = self.tables[shard].get(key, 0)
        if value and self.wheel.count:
            deadline_ms = self.deadlines[shard].get(key)
            if deadline_ms is not None and deadline_ms <= now_ms:
                self._evict(shard, key, "expired")
                return 0
        return value

    def _evict(self, shard: int, key: bytes, reason: Reason) -> None:
        """Take a counter out, with its deadline."""
        del self.tables[shard][key]
        if self.wheel.count:
            self._drop_deadline(shard, key)
        self.evictions[reason] += 1
        if self.waiters.watched:
            self.waiters.on_absent(key)

    def on_zero(self, shard: int, key: bytes) -> None:
        """A counter came to zero by counting down: take it out, or with lazy eviction leave the zero."""
        if self._lazy:
            self.tables[shard][key] = 0
            self.zeros[shard] += 1
            if self.wheel.count:
                self._drop_deadline(shard, key)
            self.evictions["zero"] += 1
            if self.waiters.watched:
                self.waiters.on_absent(key)
        else:
            self._evict(shard, key, "zero")

    def on_decrease(self, key: bytes, now_ms: int) -> None:
        """For the loops over a batch: a counter that others queue for has less than before."""
        self.waiters.on_decrease(key)
        self.waiters.settle(now_ms, SETTLED_AT_ONCE)

    def _drop_deadline(self, shard: int, key: bytes) -> None:
        deadline_ms = self.deadlines[shard].pop(key, None)
        if deadline_ms is not None:
            self.wheel.discard(key, deadline_ms)

    def _set_deadline(self, shard: int, key: bytes, ttl_ms: int | None, now_ms: int) -> None:
        self._drop_deadline(shard, key)
        if ttl_ms is not None:
            deadline_ms = now_ms + ttl_ms
            self.deadlines[shard][key] = deadline_ms
            self.wheel.add(key, deadline_ms, now_ms)

    def _create(self, shard: int, key: bytes, value: int, ttl_ms: int | None, now_ms: int) -> None:
        """Make a counter that is absent. Raises CacheFull."""
        self._need_room(1, now_ms)
        table = self.tables[shard]
        if self._lazy and key in table:
            self.zeros[shard] -= 1
        table[key] = value
        if ttl_ms is not None:
            self._set_deadline(shard, key, ttl_ms, now_ms)

    def _need_room(self, creations: int, now_ms: int) -> None:
        limit = self.policy.max_counters
        if limit is None:
            return
        self._credit = 0
        missing = self._over(limit) + creations
        if missing <= 0:
            return
        self.expire(now_ms, max(missing, 1_000))
        missing = self._over(limit) + creations
        # What has expired and cannot be taken out, because a shard is held, is room too.
        if missing > 0 and self.wheel.due(now_ms, missing) < missing:
            raise CacheFull(_FULL.format(limit))

    def _over(self, limit: int) -> int:
        """How many counters are there above `limit`, those included that have expired and were not taken out."""
        return self.raw_entries() - sum(self.zeros) - limit

    # -------------------------------------------------------------------------------------- single counters

    def incr(self, key: bytes, by: int, ttl_ms: int | None, now_ms: int) -> int:
        """Add; the value after. `ttl_ms` counts only when this creates. Raises CounterOverflow, CacheFull."""
        shard = hash(key) & self._mask
        value = self._value(shard, key, now_ms)
        if not value:
            self._create(shard, key, by, ttl_ms, now_ms)
            return by
        value += by
        if value > VALUE_MAX:
            raise CounterOverflow(_PAST_MAX)
        self.tables[shard][key] = value
        return value

    def decr(self, key: bytes, by: int, strict: bool, now_ms: int) -> int:
        """Take away, down to zero; the value after. `strict` raises CounterUnderflow instead of stopping at zero."""
        shard = hash(key) & self._mask
        value = self._value(shard, key, now_ms)
        left = value - by
        if left > 0:
            self.tables[shard][key] = left
            if key in self.waiters.queues:
                self.waiters.on_decrease(key)
            return left
        if strict and left:
            raise CounterUnderflow("the counter has less than that")
        if value:
            self.on_zero(shard, key)
        return 0

    def get(self, key: bytes, now_ms: int) -> int:
        """The value; 0 for absent."""
        return self._value(hash(key) & self._mask, key, now_ms)

    def set(self, key: bytes, value: int, ttl_ms: int | None, now_ms: int) -> int:
        """Replace value and time to live; the value before. 0 evicts. Raises CacheFull."""
        shard = hash(key) & self._mask
        before = self._value(shard, key, now_ms)
        if not value:
            if before:
                self._evict(shard, key, "set")
        elif not before:
            self._create(shard, key, value, ttl_ms, now_ms)
        else:
            self.tables[shard][key] = value
            self._set_deadline(shard, key, ttl_ms, now_ms)
            if value < before and key in self.waiters.queues:
                self.waiters.on_decrease(key)
        return before

    def expire_in(self, key: bytes, ttl_ms: int | None, now_ms: int) -> bool:
        """Set a counter's time to live, or clear it with None; whether anything changed."""
        shard = hash(key) & self._mask
        if not self._value(shard, key, now_ms):
            return False
        if ttl_ms is None and key not in self.deadlines[shard]:
            return False
        self._set_deadline(shard, key, ttl_ms, now_ms)
        return True

    def ttl(self, key: bytes, now_ms: int) -> int | None:
        """Milliseconds left to live, -1 for no limit, None for absent."""
        shard = hash(key) & self._mask
        if not self._value(shard, key, now_ms):
            return None
        deadline_ms = self.deadlines[shard].get(key)
        return -1 if deadline_ms is None else deadline_ms - now_ms

    # -------------------------------------------------------------------------------------- many counters

    def apply_item(self, key: object, delta: object, ttl_ms: int | None, now_ms: int) -> int | CommandError:
        """One item of `apply`, with all checks: the value after, or what was wrong with it."""
        # Fixed and short sentences: the errors of a whole batch must fit one reply.
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES_MAX:
            return InvalidRequest("a key is 1 to 512 bytes")
        if delta.__class__ is not int or not delta or not -VALUE_MAX <= delta <= VALUE_MAX:
            return InvalidRequest("a delta is an integer, not 0")
        assert isinstance(key, bytes)
        assert isinstance(delta, int)
        try:
            return self.incr(key, delta, ttl_ms, now_ms) if delta > 0 else self.decr(key, -delta, False, now_ms)
        except CounterOverflow as refusal:
            return refusal
        except CacheFull:
            return CacheFull("the cache holds max_counters already")
        finally:
            # An item is a command of its own, so it wakes who waits for it before the next one runs.
            if self.waiters.unsettled:
                self.waiters.settle(now_ms, SETTLED_AT_ONCE)

    def take(self, keys: Sequence[bytes], now_ms: int) -> list[int]:
        """Read and evict, all in one step; their values. A key named twice gives 0 the second time."""
        values = []
        for key in keys:
            shard = hash(key) & self._mask
            value = self._value(shard, key, now_ms)
            if value:
                self._evict(shard, key, "taken")
            values.append(value)
        return values

    def try_incr(self, items: Sequence[Item], ttl_ms: int | None, now_ms: int) -> tuple[bool, list[int]]:
        """Add to several `(key, by, limit)`, all or nothing: every value stays within its limit or nothing changes.

        Items of one key add up and are judged together, each by its limit. Gives the values after, or as they
        are when not granted; and it is not while anyone queues for one of the keys. Raises CacheFull, with nothing
        changed.
        """
        sums = sums_of(items)
        queues = self.waiters.queues
        if queues and not queues.keys().isdisjoint(sums):
            return False, [self.get(key, now_ms) for key, _, _ in items]
        return self.add_within(items, sums, ttl_ms, now_ms)

    def add_within(
        self, items: Sequence[Item], sums: dict[bytes, int], ttl_ms: int | None, now_ms: int
    ) -> tuple[bool, list[int]]:
        """As `try_incr`, whoever queues. `sums` is what `sums_of` makes of the items."""
        values = {key: self._value(hash(key) & self._mask, key, now_ms) for key in sums}
        if any(values[key] + sums[key] > limit for key, _, limit in items):
            return False, [values[key] for key, _, _ in items]
        self._need_room(sum(not value for value in values.values()), now_ms)
        for key, by in sums.items():
            values[key] = self.incr(key, by, ttl_ms, now_ms)
        return True, [values[key] for key, _, _ in items]

    def fits(self, items: Sequence[Item], sums: dict[bytes, int], now_ms: int) -> bool:
        """Whether `add_within` would find every value within its limit. Changes nothing."""
        values = dict(zip(sums, self.peek(list(sums), now_ms), strict=True))
        return all(values[key] + sums[key] <= limit for key, _, limit in items)

    def peek(self, keys: Sequence[bytes], now_ms: int) -> list[int]:
        """Values, 0 for absent, without touching anything: also while their shards are held."""
        return [
            0 if self.is_expired(key, now_ms) else self.tables[hash(key) & self._mask].get(key, 0) for key in keys
        ]

    def is_expired(self, key: bytes, now_ms: int) -> bool:
        """Whether the time to live of a counter has ended and it was not taken out yet."""
        deadline_ms = self.deadlines[hash(key) & self._mask].get(key)
        return deadline_ms is not None and deadline_ms <= now_ms

    def is_worked_on(self, keys: Iterable[bytes]) -> bool:
        """Whether somebody works on the shard of one of these, over several steps."""
        locks = self.locks
        return bool(locks.held) and any(locks.worked_on(hash(key) & self._mask) for key in keys)

    def clear(self, now_ms: int) -> int:
        """Evict all; how many. One step: the tables are swapped out, and the sweeper frees them.

        O(shards), and with deadlines O(slots of the wheel + what has expired and was not taken out yet).
        """
        expired = self.wheel.due(now_ms, self.wheel.count)
        evicted = -expired
        for shard, table in enumerate(self.tables):
            if not table:
                continue
            evicted += len(table) - self.zeros[shard]
            self.swapped_out.append(table)
            self.tables[shard] = {}
            self.zeros[shard] = 0
            if self.deadlines[shard]:
                self.swapped_out.append(self.deadlines[shard])
                self.deadlines[shard] = {}
        if self.wheel.count:
            self.swapped_out.extend(self.wheel.swap_out())
        self.tables_replaced = True
        self._credit = 0
        self.evictions["expired"] += expired
        self.evictions["cleared"] += evicted
        if self.waiters.watched:
            self.waiters.on_all_absent()
        return evicted

    # -------------------------------------------------------------------------------------- looking around

    def counters_of(self, shard: int, now_ms: int, prefix: bytes) -> list[tuple[bytes, int]]:
        """A shard's live counters under a prefix. O(raw entries of the shard); changes nothing."""
        table = self.tables[shard]
        if prefix:
            found = [item for item in table.items() if item[0].startswith(prefix) and item[1]]
        else:
            found = [item for item in table.items() if item[1]]
        deadlines = self.deadlines[shard]
        if deadlines:
            found = [item for item in found if deadlines.get(item[0], now_ms + 1) > now_ms]
        return found

    def scan(self, cursor: bytes, count: int, prefix: bytes, now_ms: int) -> tuple[bytes, list[bytes], list[int]]:
        """A page of about `count` counters, and the cursor of the next; b"" is the first and means the end.

        Shard by shard, keys in byte order, so nothing is kept for a cursor: a counter that lives through the whole
        scan is seen exactly once, any other at most once. A page may end early, even empty, with a cursor to go on.
        """
        shard, after = self._read_cursor(cursor)
        keys: list[bytes] = []
        values: list[int] = []
        room = REPLY_BYTES_MAX - 2 * KEY_BYTES_MAX
        looked_at = 0
        while shard < len(self.tables):
            looked_at += len(self.tables[shard])
            found = self.counters_of(shard, now_ms, prefix)
            if after:
                found = [item for item in found if item[0] > after]
            for key, value in heapq.nsmallest(count - len(keys), found):
                room -= len(key) + 12
                if room < 0:
                    # `after`, and not the last key: that may be one of the shard before.
                    return self._write_cursor(shard, after), keys, values
                keys.append(key)
                values.append(value)
                after = key
            if len(keys) >= count:
                return self._write_cursor(shard, after), keys, values
            shard += 1
            after = b""
            if looked_at >= SCAN_ENTRIES_MAX:
                break
        return (self._write_cursor(shard, b"") if shard < len(self.tables) else b""), keys, values

    def _read_cursor(self, cursor: bytes) -> tuple[int, bytes]:
        if not cursor:
            return 0, b""
        if len(cursor) < 4 or len(cursor) > 4 + KEY_BYTES_MAX:
            raise InvalidRequest("a cursor is 0, or what the last page of this scan gave")
        shard: int
        (shard,) = struct.unpack_from(">I", cursor)
        if shard >= len(self.tables):
            raise InvalidRequest("a cursor is 0, or what the last page of this scan gave")
        return shard, cursor[4:]

    @staticmethod
    def _write_cursor(shard: int, after: bytes) -> bytes:
        return struct.pack(">I", shard) + after

    # -------------------------------------------------------------------------------------- upkeep

    def expire(self, now_ms: int, entries_max: int) -> bool:
        """Take out what has expired, up to about `entries_max`; whether nothing expired is left.

        Does nothing while a shard is held: which shards are touched is not known before.
        """
        if self.wheel.passed_ms >= now_ms or not self.wheel.count:
            return True
        if self.locks.held:
            return False
        due, finished = self.wheel.take_due(now_ms, entries_max)
        for key, _ in due:
            shard = hash(key) & self._mask
            del self.deadlines[shard][key]
            del self.tables[shard][key]
        self.evictions["expired"] += len(due)
        if self.waiters.watched:
            for key, _ in due:
                self.waiters.on_absent(key)
        return finished

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless this cache is as it must be. O(everything)."""
        lazy = self._lazy
        noted: dict[bytes, int] = {}
        for shard, table in enumerate(self.tables):
            zeros = 0
            for key, value in table.items():
                assert type(key) is bytes, f"bad key {key!r}"
                assert 1 <= len(key) <= KEY_BYTES_MAX, f"bad key {key!r}"
                assert hash(key) & self._mask == shard, f"{key!r} is in shard {shard}, not its own"
                assert type(value) is int, f"{key!r} is {value!r}"
                assert value <= VALUE_MAX, f"{key!r} is {value!r}"
                assert value >= 1 or (lazy and value == 0), f"{key!r} is {value}: an entry that is no counter"
                zeros += not value
            assert zeros == self.zeros[shard], f"shard {shard} has {zeros} zeros, noted are {self.zeros[shard]}"
            for key, deadline_ms in self.deadlines[shard].items():
                assert table.get(key), f"{key!r} has a deadline and is no counter"
                noted[key] = deadline_ms
        assert noted == self.wheel.entries(), "the wheel and the shards differ in their deadlines"
        assert self.wheel.count == len(noted), f"the wheel counts {self.wheel.count} of {len(noted)} deadlines"
        held = sum(self.locks.owner(shard) is not None for shard in range(len(self.tables)))
        assert held == self.locks.held, f"{held} shards are held, counted are {self.locks.held}"
        limit = self.policy.max_counters
        if limit is not None:
            over = self._over(limit) - self.wheel.due(now_ms, self.wheel.count)
            assert over <= 0, f"{limit + over} counters in a cache of {limit}"
        self.waiters.invariants(now_ms)

    def measure(self, shard: int) -> int:
        """Bytes of a shard's tables, without its keys and values. O(1)."""
        return sys.getsizeof(self.tables[shard]) + sys.getsizeof(self.deadlines[shard])


class Store:
    """All caches of a server, by name."""

    __slots__ = ("caches",)

    def __init__(self, policies: Iterable[CachePolicy]) -> None:
        self.caches = {policy.name: Cache(policy) for policy in policies}

    def cache(self, name: str) -> Cache:
        """The cache of that name. Raises InvalidRequest naming those there are."""
        found = self.caches.get(name)
        if found is None:
            there_are = ", ".join(sorted(self.caches))
            raise InvalidRequest(f"there is no cache named {name[:64]!r}; there are: {there_are}")
        return found

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless every cache is as it must be."""
        for cache in self.caches.values():
            cache.invariants(now_ms)
