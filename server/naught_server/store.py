"""Caches of counters: shards, eviction, deadlines, bounds. Pure: no loop, no socket, no clock; `now_ms` is an
argument.

The invariant, which every method keeps: **a counter exists if and only if its value is at least 1.**

A `Cache` consists of shards. A shard has two tables, which are plain dicts of bytes to int, and a lock (`locks.py`).
The first has the counters without a time to live. The second, *timed*, has those with one: value and deadline are
packed into one integer (`expiry.py`), because an entry of its own for the deadline would take 59 to 92 bytes. No key
is in both. There is no object per counter. The shard of a key is chosen by Python's hash of its bytes. That hash is
keyed per process, so a client cannot choose keys that all fall into one shard.

There are two ways to work on a cache. The methods below check everything: expired counters, lazy zeros, bounds,
waiters. The hot path (`hot.py`) works on the same tables through `hot`, after `prepare` has told it what to check,
and leaves to the methods every operation on a counter that is special.

Eager eviction deletes an entry in the command that brings it to zero. Lazy eviction leaves the zero in the table, as
a *raw entry*, until the sweeper removes it. All methods treat such a zero as absent.

While a shard is held (`locks.held`), only the owner of its lock may change it. The caller checks the locks of the
shards that a command touches before it calls the methods here.

Waiters and holds are kept in `waiters.py`. The methods here report to it when a counter has become absent or its
value has decreased; the caller then has it `settle`, which wakes the waiters.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

from naught.errors import CacheFull, CommandError, CounterOverflow, CounterUnderflow, InvalidRequest
from naught.wire.limits import KEY_BYTES_MAX, VALUE_MAX
from naught_server.config import CachePolicy
from naught_server.expiry import DEADLINE_BITS, DEADLINE_MASK, DeadlineWheel
from naught_server.hot import SHARD_SHIFT, HotCounters, stored
from naught_server.locks import ShardLocks
from naught_server.waiters import SETTLED_AT_ONCE, Item, Waiters, sums_of

Reason = Literal["zero", "expired", "taken", "set", "cleared", "session"]
"""Why a counter was evicted. `session`: what was left of it had been held by a session that has ended."""

EXPIRE_AT_ONCE: Final = 64
"""Expired counters that are taken out before a slice of requests, once a millisecond; about 20 us. The sweeper takes
out the others."""

EXPIRE_TO_COUNT: Final = 500
"""Expired counters that `live_count` takes out in one call; about 0.25 ms."""

DUE_LOOKS_MAX: Final = 1_000
"""Places of the wheel at which `live_count` looks in one call for those that are left; about 0.25 ms."""

BACKLOG_ENTRIES: Final = 1_000
"""What such a call costs while expired counters are left. Prices are in the entries of commands.py."""

SHARDS_PER_ENTRY: Final = 16
"""Shards whose size is read for an entry."""

TABLES_SAMPLED: Final = 16
"""Cleared tables whose sizes stand for all."""

_UNBOUNDED: Final = 1 << 60
"""Creations that a cache without a bound lets the hot path make before it asks again."""

_FULL: Final = "the cache holds max_counters = {} already"
_PAST_MAX: Final = "the value would pass 2^63 - 1"


def deviation(raw_entries: int, counters: int) -> float:
    """Raw entries above live counters, for a live one: (raw - live) / live. With none live, as if one were."""
    return (raw_entries - counters) / max(1, counters)


class Bucket(NamedTuple):
    """What `throttle` takes its uses from. The caller has checked that `burst * per_ms` is at most VALUE_MAX."""

    limit: int  # uses that come back in `per_ms`, one after another
    per_ms: int
    burst: int  # uses that a full bucket has


class Cache:
    """One named, separate set of counters with its own policy."""

    __slots__ = (
        "_behind_ms",
        "_lazy",
        "_mask",
        "cleared_tables",
        "entries_measured",
        "evictions",
        "has_zeros",
        "hot",
        "locks",
        "name",
        "policy",
        "sparse_tables",
        "table_bytes",
        "table_capacity",
        "tables",
        "timed",
        "waiters",
        "wheel",
        "zeros",
        "zeros_measured",
    )

    def __init__(self, policy: CachePolicy) -> None:
        self.name = policy.name
        self.policy = policy
        # By shard: counters without a time to live, and zeros that lazy eviction has left.
        self.tables: list[dict[bytes, int]] = [{} for _ in range(policy.shards)]
        # By shard: counters with a time to live; value and deadline packed into one integer.
        self.timed: list[dict[bytes, int]] = [{} for _ in range(policy.shards)]
        self.wheel = DeadlineWheel(self.deadline_of)  # the keys of `timed`, by deadline
        self.locks = ShardLocks(policy.shards)
        self.waiters = Waiters(self)  # requests that wait for these counters, and the generations that are held
        self.zeros = [0] * policy.shards  # by shard: raw entries that are zeros, not counters (lazy eviction only)
        # Since the start, by reason.
        self.evictions: dict[Reason, int] = {
            "zero": 0,
            "expired": 0,
            "taken": 0,
            "set": 0,
            "cleared": 0,
            "session": 0,
        }
        # Tables that `clear` has replaced by empty ones. The sweeper empties them step by step, because freeing a
        # large dict at once takes long.
        self.cleared_tables: deque[dict[bytes, int] | dict[bytes, None]] = deque()
        # As the sweeper last measured them, which takes it some steps: memory of the tables, raw entries, zeros.
        self.table_bytes = 0
        self.entries_measured = 0
        self.zeros_measured = 0
        self.table_capacity = 0  # entries that the tables have room for
        self.sparse_tables = 0  # tables that are mostly empty
        self._behind_ms = -1  # when `prepare` last left counters that had expired
        self._mask = policy.shards - 1  # a key's shard is its hash & mask
        self._lazy = policy.eviction == "lazy"  # a decrement to zero leaves the zero
        self.has_zeros = self._lazy  # there may be zeros: still, when a lazy cache has become an eager one
        waiters = self.waiters
        self.hot = HotCounters(  # the same tables, as the hot path sees them
            self.tables,
            self.timed,
            self.zeros,
            (waiters.queues.by_key, waiters.awaited, waiters.generations),  # type: ignore[arg-type]
            waiters.marks.places,
            self._lazy,
        )
        self._find_room()

    def change_policy(self, policy: CachePolicy) -> None:
        """Evict, and bound, as this policy says from now on. Its name and shards must be those of the cache. O(1):
        the sweeper takes out the zeros that a lazy cache has left, and a bound below the counters there are refuses
        new ones only."""
        assert policy.name == self.name
        assert policy.shards == self.policy.shards
        self.policy = policy
        self._lazy = policy.eviction == "lazy"
        self.has_zeros = self.has_zeros or self._lazy
        self.hot.keep_zeros(lazy=self._lazy, has_zeros=self.has_zeros)
        self._find_room()

    def note_no_zeros(self) -> None:
        """All shards were looked at, and none has a zero left."""
        if not self._lazy and not any(self.zeros):
            self.has_zeros = False
            self.hot.keep_zeros(lazy=False, has_zeros=False)

    # -------------------------------------------------------------------------------------- the shards

    def shard_of(self, key: bytes) -> int:
        """The number of the shard a key belongs to."""
        return hash(key) >> SHARD_SHIFT & self._mask

    def raw_entries(self) -> int:
        """The number of entries in the tables, lazy zeros and expired counters included. O(shards)."""
        return sum(map(len, self.tables)) + self.wheel.count

    def entries_of(self, shard: int) -> int:
        """The number of raw entries of a shard."""
        return len(self.tables[shard]) + len(self.timed[shard])

    def keys_of(self, shard: int) -> list[bytes]:
        """The keys of a shard's raw entries. O(raw entries of the shard)."""
        keys = list(self.tables[shard])
        keys += self.timed[shard]
        return keys

    def deadline_of(self, key: bytes) -> int:
        """When a counter expires that has a time to live. Raises KeyError for any other."""
        return self.timed[self.shard_of(key)][key] & DEADLINE_MASK

    def live_count(self, now_ms: int) -> tuple[int, bool]:
        """The number of counters that exist at `now_ms`, and whether it is exact.

        Expired counters that are still in the tables are subtracted. Up to `EXPIRE_TO_COUNT` of them are taken out,
        none while a shard is held; the others are counted as far as `DUE_LOOKS_MAX` looks find them. If there are
        more, the result is too high and not exact. O(shards); see `price_of_count`.
        """
        due, exact = (
            (0, True) if self.expire(now_ms, EXPIRE_TO_COUNT) else self.wheel.count_due(now_ms, DUE_LOOKS_MAX)
        )
        return self.raw_entries() - sum(self.zeros) - due, exact

    def price_of_count(self, now_ms: int) -> int:
        """What `live_count` costs now, in entries. O(1)."""
        return len(self.tables) // SHARDS_PER_ENTRY + (BACKLOG_ENTRIES if self.has_backlog(now_ms) else 0)

    def has_backlog(self, now_ms: int) -> bool:
        """Whether counters may have expired that are still in the tables."""
        return self.wheel.count > 0 and self.wheel.passed_ms < now_ms

    def prepare(self, now_ms: int) -> bool:
        """Make the cache ready for the hot path: take out what has expired, up to a bound in each millisecond, and
        note what it has to ask per key. False where it must not touch the tables, because a shard is held."""
        if self.locks.held:
            return False
        timed = self.wheel.count > 0
        backlog = timed and (self._behind_ms == now_ms or not self.expire(now_ms, EXPIRE_AT_ONCE))
        self._behind_ms = now_ms if backlog else -1
        self.hot.begin(timed, now_ms if backlog else -1)
        return True

    def collect_evicted(self) -> None:
        """Count what the hot path has evicted."""
        evicted = self.hot.take_evicted()
        if evicted:
            self._count_evicted("zero", evicted)

    def _count_evicted(self, reason: Reason, count: int = 1) -> None:
        """So many counters are gone, and so many more can be created."""
        self.evictions[reason] += count
        self.hot.allow(self.hot.creations + count)

    def _find_room(self) -> None:
        """Let as many counters be created as the bound of the policy leaves. O(shards), so it is done once: each that
        is created or evicted changes that number, and a cache at its bound need not count its entries."""
        limit = self.policy.max_counters
        self.hot.allow(_UNBOUNDED if limit is None else -self._excess(limit))

    def _value(self, shard: int, key: bytes, now_ms: int) -> int:
        """A counter's value, 0 for absent. Takes it out when it has expired."""
        value = self.tables[shard].get(key, 0)
        if value or not self.wheel.count:
            return value
        packed = self.timed[shard].get(key, 0)
        if packed and packed & DEADLINE_MASK <= now_ms:
            self._evict(shard, key, "expired")
            return 0
        return packed >> DEADLINE_BITS

    def _change(self, shard: int, key: bytes, value: int) -> None:
        """Give a counter that exists another value, at least 1. Its time to live stays."""
        if self.wheel.count:
            timed = self.timed[shard]
            packed = timed.get(key, 0)
            if packed:
                timed[key] = value << DEADLINE_BITS | packed & DEADLINE_MASK
                return
        self.tables[shard][key] = stored(value)

    def _replace(self, shard: int, key: bytes, value: int, ttl_ms: int | None, now_ms: int) -> None:
        """Give a counter that exists another value, at least 1, and another time to live, or none."""
        was_timed = self._drop_timed(shard, key)
        if ttl_ms is None:
            self.tables[shard][key] = stored(value)
            return
        if not was_timed:
            del self.tables[shard][key]
        self._put_timed(shard, key, value, ttl_ms, now_ms)

    def _put_timed(self, shard: int, key: bytes, value: int, ttl_ms: int, now_ms: int) -> None:
        """Put a counter, which is in no table, into the second."""
        deadline_ms = now_ms + ttl_ms
        self.timed[shard][key] = value << DEADLINE_BITS | deadline_ms
        self.wheel.add(key, deadline_ms, now_ms)

    def _drop_timed(self, shard: int, key: bytes) -> bool:
        """Take a counter out of the second table if it has a time to live; whether it has."""
        if not self.wheel.count:
            return False
        packed = self.timed[shard].pop(key, 0)
        if not packed:
            return False
        self.wheel.discard(key, packed & DEADLINE_MASK)
        return True

    def _evict(self, shard: int, key: bytes, reason: Reason) -> None:
        """Take a counter out, with its deadline."""
        if not self._drop_timed(shard, key):
            del self.tables[shard][key]
        self._count_evicted(reason)
        if self.waiters.watched:
            self.waiters.on_absent(key)

    def on_zero(self, shard: int, key: bytes, reason: Reason = "zero") -> None:
        """A decrement has brought a counter to zero: take it out, or with lazy eviction leave the zero."""
        if self._lazy:
            self._drop_timed(shard, key)
            self.tables[shard][key] = 0
            self.zeros[shard] += 1
            self._count_evicted(reason)
            if self.waiters.watched:
                self.waiters.on_absent(key)
        else:
            self._evict(shard, key, reason)

    def _create(self, shard: int, key: bytes, value: int, ttl_ms: int | None, now_ms: int) -> None:
        """Make a counter that is absent. Raises CacheFull."""
        self._need_room(1, now_ms)
        self.hot.spend(1)
        table = self.tables[shard]
        if self.has_zeros and key in table:
            self.zeros[shard] -= 1
            if ttl_ms is not None:
                del table[key]
        if ttl_ms is None:
            table[key] = stored(value)
        else:
            self._put_timed(shard, key, value, ttl_ms, now_ms)

    def _need_room(self, creations: int, now_ms: int) -> None:
        """Raise CacheFull unless this many counters can be created. Takes out expired ones to make room."""
        missing = creations - self.hot.creations
        if missing <= 0:
            return
        self.expire(now_ms, max(missing, 1_000))
        missing = creations - self.hot.creations
        # Expired counters that cannot be taken out, because a shard is held, count as room too.
        if missing > 0 and self.wheel.due(now_ms, missing) < missing:
            raise CacheFull(_FULL.format(self.policy.max_counters))

    def _excess(self, limit: int) -> int:
        """By how much the number of counters exceeds `limit`; expired ones that were not taken out are included."""
        return self.raw_entries() - sum(self.zeros) - limit

    # -------------------------------------------------------------------------------------- single counters

    def incr(self, key: bytes, by: int, ttl_ms: int | None, now_ms: int) -> int:
        """Add; the value after. `ttl_ms` is used only when this creates. Raises CounterOverflow, CacheFull."""
        shard = self.shard_of(key)
        value = self._value(shard, key, now_ms)
        if not value:
            self._create(shard, key, by, ttl_ms, now_ms)
            return by
        value += by
        if value > VALUE_MAX:
            raise CounterOverflow(_PAST_MAX)
        self._change(shard, key, value)
        return value

    def decr(self, key: bytes, by: int, strict: bool, now_ms: int, reason: Reason = "zero") -> int:
        """Subtract, but stop at zero; the value after. With `strict`, raise CounterUnderflow instead of stopping. An
        eviction is counted under `reason`."""
        shard = self.shard_of(key)
        value = self._value(shard, key, now_ms)
        left = value - by
        if left > 0:
            self._change(shard, key, left)
            if key in self.waiters.queues.by_key:
                self.waiters.on_decrease(key)
            return left
        if strict and left:
            raise CounterUnderflow("the counter has less than that")
        if value:
            self.on_zero(shard, key, reason)
        return 0

    def get(self, key: bytes, now_ms: int) -> int:
        """The value; 0 for absent."""
        return self._value(self.shard_of(key), key, now_ms)

    def set(self, key: bytes, value: int, ttl_ms: int | None, now_ms: int) -> int:
        """Replace value and time to live; the value before. 0 evicts. Raises CacheFull."""
        shard = self.shard_of(key)
        before = self._value(shard, key, now_ms)
        if not value:
            if before:
                self._evict(shard, key, "set")
        elif not before:
            self._create(shard, key, value, ttl_ms, now_ms)
        else:
            self._replace(shard, key, value, ttl_ms, now_ms)
            if value < before and key in self.waiters.queues.by_key:
                self.waiters.on_decrease(key)
        return before

    def expire_in(self, key: bytes, ttl_ms: int | None, now_ms: int) -> bool:
        """Set a counter's time to live, or clear it with None; whether anything changed."""
        shard = self.shard_of(key)
        value = self._value(shard, key, now_ms)
        if not value:
            return False
        if ttl_ms is None and key not in self.timed[shard]:
            return False
        self._replace(shard, key, value, ttl_ms, now_ms)
        return True

    def ttl(self, key: bytes, now_ms: int) -> int | None:
        """Milliseconds left to live, -1 for no limit, None for absent."""
        shard = self.shard_of(key)
        if not self._value(shard, key, now_ms):
            return None
        packed = self.timed[shard].get(key, 0)
        return (packed & DEADLINE_MASK) - now_ms if packed else -1

    # -------------------------------------------------------------------------------------- many counters

    def apply_item(self, key: object, delta: object, ttl_ms: int | None, now_ms: int) -> int | CommandError:
        """One item of `apply`, with all checks: the value after, or the error."""
        waiters = self.waiters
        try:
            return self._apply_item(key, delta, ttl_ms, now_ms)
        except CounterOverflow as refusal:
            return refusal
        except CacheFull:
            return CacheFull("the cache holds max_counters already")
        finally:
            # An item is a command of its own, so its waiters are woken before the next item runs.
            if waiters.unsettled:
                waiters.settle(now_ms, SETTLED_AT_ONCE)

    def _apply_item(self, key: object, delta: object, ttl_ms: int | None, now_ms: int) -> int | CommandError:
        # The texts are fixed and short: the errors of a whole batch must fit one reply.
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES_MAX:
            return InvalidRequest("a key is 1 to 512 bytes")
        if delta.__class__ is not int or not delta or not -VALUE_MAX <= delta <= VALUE_MAX:
            return InvalidRequest("a delta is an integer, not 0")
        assert isinstance(key, bytes)
        assert isinstance(delta, int)
        return self.incr(key, delta, ttl_ms, now_ms) if delta > 0 else self.decr(key, -delta, False, now_ms)

    def take(self, keys: Sequence[bytes], now_ms: int) -> list[int]:
        """Read and evict, all in one step; the values. A key that is given twice has 0 the second time."""
        values = []
        for key in keys:
            shard = self.shard_of(key)
            value = self._value(shard, key, now_ms)
            if value:
                self._evict(shard, key, "taken")
            values.append(value)
        return values

    def try_incr(self, items: Sequence[Item], ttl_ms: int | None, now_ms: int) -> tuple[bool, list[int]]:
        """Add to several `(key, by, limit)`, all or nothing: every value stays within its limit or nothing changes.

        The amounts of items with the same key are added up, and the sum must stay within the limit of each. While
        requests wait for one of the keys, it is not granted. Returns whether it was granted, and the values: after
        the change, or unchanged. Raises CacheFull, with nothing changed.
        """
        sums = sums_of(items)
        queues = self.waiters.queues.by_key
        if queues and not queues.keys().isdisjoint(sums):
            return False, [self.get(key, now_ms) for key, _, _ in items]
        return self.add_within(items, sums, ttl_ms, now_ms)

    def throttle(self, key: bytes, bucket: Bucket, by: int, now_ms: int) -> tuple[bool, int, int, int]:
        """Grant `by` uses of a bucket, at most its burst; 0 changes nothing.

        Returns whether it was granted, the uses left, and milliseconds: until the same would be granted, and until
        the bucket is full (-1 for never). Raises CacheFull, with nothing changed.

        The debt is counted in units of which a use costs `per_ms` and a millisecond pays `limit`, so all numbers are
        whole and nothing is rounded. The deadline of the counter is the first millisecond in which nothing is owed;
        the last payment may be larger than what is owed then. So the debt is what would be paid until the deadline,
        less the part that is too much, which follows from the value: together they are a multiple of `limit`.
        """
        limit, per_ms, burst = bucket
        shard = self.shard_of(key)
        value = self._value(shard, key, now_ms)
        room = burst * per_ms
        debt = 0
        if value:
            packed = self.timed[shard].get(key, 0)
            if not packed:  # others have set it so: it is never paid
                return not by, 0, -1, -1
            debt = ((packed & DEADLINE_MASK) - now_ms) * limit - -value % limit
        after = debt + by * per_ms
        if not by or after > room:
            missing = after - room if by else 0
            return not by, max(0, room - debt) // per_ms, -(-missing // limit), -(-debt // limit)
        reset_ms = -(-after // limit)
        if not value:
            self._create(shard, key, after, reset_ms, now_ms)
        else:
            self._replace(shard, key, after, reset_ms, now_ms)
            if after < value and key in self.waiters.queues.by_key:
                self.waiters.on_decrease(key)
        return True, (room - after) // per_ms, 0, reset_ms

    def add_within(
        self, items: Sequence[Item], sums: dict[bytes, int], ttl_ms: int | None, now_ms: int
    ) -> tuple[bool, list[int]]:
        """As `try_incr`, but also while requests wait for a key. `sums` is `sums_of(items)`."""
        values = {key: self._value(self.shard_of(key), key, now_ms) for key in sums}
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
        """Values, 0 for absent. Changes nothing: unlike `get` it leaves expired counters, so shards may be held."""
        values = []
        for key in keys:
            shard = self.shard_of(key)
            value = self.tables[shard].get(key, 0)
            if not value and self.wheel.count:
                packed = self.timed[shard].get(key, 0)
                if packed & DEADLINE_MASK > now_ms:
                    value = packed >> DEADLINE_BITS
            values.append(value)
        return values

    def is_expired(self, key: bytes, now_ms: int) -> bool:
        """Whether a counter is still in its table although its time to live has ended. Does not take it out."""
        packed = self.timed[self.shard_of(key)].get(key, 0)
        return packed != 0 and packed & DEADLINE_MASK <= now_ms

    def is_worked_on(self, keys: Iterable[bytes]) -> bool:
        """Whether work over several steps, such as a compaction, goes on in the shard of one of these keys."""
        locks = self.locks
        return bool(locks.held) and any(locks.is_worked_on(self.shard_of(key)) for key in keys)

    def clear(self, now_ms: int) -> int:
        """Evict all; how many. One step: the tables are replaced by empty ones, and the sweeper frees the old ones.

        O(shards); with deadlines O(shards + slots of the wheel + expired counters that were not taken out yet, each
        once).
        """
        expired = self.wheel.due(now_ms, self.wheel.count)
        evicted = -expired
        for shard, table in enumerate(self.tables):
            if table:
                evicted += len(table) - self.zeros[shard]
                self.cleared_tables.append(table)
                self.tables[shard] = {}
                self.zeros[shard] = 0
            timed = self.timed[shard]
            if timed:
                evicted += len(timed)
                self.cleared_tables.append(timed)
                self.timed[shard] = {}
        if self.wheel.count:
            self.cleared_tables.extend(self.wheel.clear())
        self._count_evicted("expired", expired)
        self._count_evicted("cleared", evicted)
        if self.waiters.watched:
            self.waiters.on_all_absent()
        return evicted

    # -------------------------------------------------------------------------------------- listing

    def counters_of(
        self, shard: int, now_ms: int, prefix: bytes, keys: Sequence[bytes] | None = None
    ) -> list[tuple[bytes, int]]:
        """A shard's live counters under a prefix; only those among `keys`, where keys are given. O(raw entries of the
        shard, or keys); changes nothing."""
        table = self.tables[shard]
        items: Iterable[tuple[bytes, int]]
        items = table.items() if keys is None else [(key, table.get(key, 0)) for key in keys]
        if prefix:
            found = [item for item in items if item[0].startswith(prefix) and item[1]]
        else:
            found = [item for item in items if item[1]]
        timed = self.timed[shard]
        if timed:
            items = timed.items() if keys is None else [(key, timed[key]) for key in keys if key in timed]
            found += [
                (key, packed >> DEADLINE_BITS)
                for key, packed in items
                if packed & DEADLINE_MASK > now_ms and key.startswith(prefix)
            ]
        return found

    # -------------------------------------------------------------------------------------- upkeep

    def expire(self, now_ms: int, entries_max: int) -> bool:
        """Take out expired counters, up to about `entries_max`; whether no expired counter is left.

        Does nothing while a shard is held, because the shards of the expired counters are not known before.
        """
        if self.wheel.passed_ms >= now_ms or not self.wheel.count:
            return True
        if self.locks.held:
            return False
        due, finished = self.wheel.take_due(now_ms, entries_max)
        for key in due:
            del self.timed[self.shard_of(key)][key]
        self._count_evicted("expired", len(due))
        if self.waiters.watched:
            for key in due:
                self.waiters.on_absent(key)
        return finished

    def deadlines(self) -> dict[bytes, int]:
        """The deadlines of all counters that have one, expired ones included, for checks. O(those counters)."""
        return {key: packed & DEADLINE_MASK for timed in self.timed for key, packed in timed.items()}

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless this cache is consistent. O(counters)."""
        lazy = self.has_zeros
        for shard, (table, timed) in enumerate(zip(self.tables, self.timed, strict=True)):
            zeros = 0
            for key, value in table.items():
                self._check_entry(shard, key, value)
                assert value >= 1 or (lazy and value == 0), f"{key!r} is {value}: an entry that is not a counter"
                assert key not in timed, f"{key!r} is in both tables"
                zeros += not value
            assert zeros == self.zeros[shard], f"shard {shard} has {zeros} zeros, its count is {self.zeros[shard]}"
            for key, packed in timed.items():
                self._check_entry(shard, key, packed >> DEADLINE_BITS)
                assert packed >> DEADLINE_BITS >= 1, f"{key!r} is {packed}: it has a deadline and is not a counter"
        noted = self.deadlines().keys()
        assert self.wheel.count == len(noted), f"the wheel counts {self.wheel.count} of {len(noted)} deadlines"
        self.wheel.invariants(noted)
        held = sum(self.locks.owner(shard) is not None for shard in range(len(self.tables)))
        assert held == self.locks.held, f"{held} shards are held, their count is {self.locks.held}"
        limit = self.policy.max_counters
        if limit is not None:
            assert self.hot.creations == -self._excess(limit), "the room under max_counters is off"
            excess = self._excess(limit) - self.wheel.due(now_ms, self.wheel.count)
            assert excess <= 0, f"{limit + excess} counters in a cache of {limit}"
        self.waiters.invariants(now_ms)

    def _check_entry(self, shard: int, key: bytes, value: int) -> None:
        assert type(key) is bytes, f"bad key {key!r}"
        assert 1 <= len(key) <= KEY_BYTES_MAX, f"bad key {key!r}"
        assert self.shard_of(key) == shard, f"{key!r} is in shard {shard}, not its own"
        assert type(value) is int, f"{key!r} is {value!r}"
        assert value <= VALUE_MAX, f"{key!r} is {value!r}"

    def note_measured(self, table_bytes: int, entries: int, zeros: int) -> None:
        """The sweeper has measured all shards."""
        self.table_bytes = table_bytes
        self.entries_measured = entries
        self.zeros_measured = zeros

    def note_room(self, table_capacity: int, sparse_tables: int) -> None:
        """The sweeper has measured the room in all tables."""
        self.table_capacity = table_capacity
        self.sparse_tables = sparse_tables

    @property
    def load(self) -> float:
        """Entries for each that the tables have room for, as measured; 0 without room."""
        return self.entries_measured / self.table_capacity if self.table_capacity else 0.0

    def backlog(self, now_ms: int) -> dict[str, int]:
        """What is no counter any more and not removed yet, by kind: counters that have expired, lazy zeros, entries
        of cleared tables. Estimates, as of the last measuring. O(1)."""
        return {
            "expired": self.wheel.due_estimate(now_ms),
            "zeros": self.zeros_measured,
            "cleared": self.cleared_entries(),
        }

    def cleared_entries(self) -> int:
        """About how many entries are in tables that `clear` has replaced, by the sizes of the first of them."""
        tables = self.cleared_tables
        if not tables:
            return 0
        sampled = list(map(len, islice(tables, TABLES_SAMPLED)))
        return sum(sampled) * len(tables) // len(sampled)

    def measure(self, shard: int) -> int:
        """Bytes of a shard's tables, without its keys and values. O(1)."""
        return sys.getsizeof(self.tables[shard]) + sys.getsizeof(self.timed[shard])


class Store:
    """All caches of a server, by name."""

    __slots__ = ("caches",)

    def __init__(self, policies: Iterable[CachePolicy]) -> None:
        self.caches = {policy.name: Cache(policy) for policy in policies}

    def cache(self, name: str) -> Cache:
        """The cache of this name. Raises InvalidRequest, which lists the caches there are."""
        found = self.caches.get(name)
        if found is None:
            names = ", ".join(sorted(self.caches))
            raise InvalidRequest(f"there is no cache named {name[:64]!r}; there are: {names}")
        return found

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless every cache is consistent."""
        for cache in self.caches.values():
            cache.invariants(now_ms)
