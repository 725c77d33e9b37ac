"""What the sweeper does, in bounded steps. Pure: `now_ms` and an allowance of entries come in, the work done
comes out.

Jobs take turns, and each step of a job is bounded by entries and by one shard, so none can starve another:

    Waits        ends waits that run out and leases, and answers who could not be answered at once
    Ended        lets what ended sessions hold go back
    Expiry       takes out counters whose time to live has ended
    Zeros        takes out the zeros that lazy eviction left
    Remains      empties tables that `clear` swapped out
    Compaction   rebuilds tables that are mostly empty, and with them the keys' own memory
    Measuring    notes how much memory the tables have

Two jobs work on a shard over several steps. They hold its lock meanwhile (`ShardWork`), so nobody changes the table
under them, and they give it back on every way out.

Why compaction copies keys: a dict does not shrink when its entries go, and the bytes objects of the keys that
stay lie scattered over the allocator's arenas, which go back to the system only when empty. With one counter in
a hundred left, 61 % of the memory stays when only the table is rebuilt, and 4 % when keys are copied too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

from naught_server.session import Sessions
from naught_server.store import Cache, Store
from naught_server.timers import Alarms
from naught_server.waiters import SETTLED_AT_ONCE

TABLE_BYTES_MIN: Final = 1 << 10
"""Smaller tables are not worth rebuilding: 256 of them are 256 KiB."""

BYTES_PER_ENTRY_MAX: Final = 128
"""A table with more bytes than this per entry is mostly empty: a rebuilt one has 27 to 54."""

SETTLED_MS: Final = 1_000
"""A table is rebuilt when it has not lost a quarter of its entries for so long, and at most twice as long."""

BYTES_FREED_PER_ENTRY: Final = 1 << 10
"""Freeing so much of a table costs about what moving an entry costs."""

SHARDS_PER_ENTRY: Final = 4
"""Looking at a shard's size costs a quarter of what moving an entry costs."""


class Job(Protocol):
    """One kind of upkeep of one cache."""

    name: str

    def step(self, now_ms: int, entries_max: int) -> int:
        """Do up to about `entries_max` entries of work, on one shard at most; how many were done. 0: nothing to
        do."""


class Waits:
    """Rings the alarms that are due: waits that have run out, leases that have ended. And settles what is noted."""

    name = "waits"

    def __init__(self, alarms: Alarms, caches: Iterable[Cache]) -> None:
        self._alarms = alarms
        self._caches = list(caches)

    def step(self, now_ms: int, entries_max: int) -> int:
        done = self._alarms.step(now_ms, entries_max)
        for cache in self._caches:
            if cache.waiting.unsettled:
                done += cache.waiting.settle(now_ms, max(1, entries_max - done))
        return done

    @property
    def urgent(self) -> bool:
        """Whether somebody could be answered and was not, for want of time."""
        return any(cache.waiting.unsettled and not cache.locks.held for cache in self._caches)


class Ended:
    """Lets what ended sessions hold go back."""

    name = "ended"

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def step(self, now_ms: int, entries_max: int) -> int:
        return self._sessions.step(now_ms, entries_max) if self._sessions.unfinished else 0


class Expiry:
    """Takes out counters whose time to live has ended."""

    name = "expiry"

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def step(self, now_ms: int, entries_max: int) -> int:
        wheel = self._cache.wheel
        before = wheel.visited
        self._cache.expire(now_ms, entries_max)
        waiting = self._cache.waiting
        if waiting.unsettled:
            waiting.settle(now_ms, SETTLED_AT_ONCE)
        return wheel.visited - before


class Remains:
    """Empties what `clear` swapped out, entry by entry: freeing a table of a million at once takes 100 ms."""

    name = "remains"

    def __init__(self, cache: Cache, freed: Callable[[int], None]) -> None:
        self._cache = cache
        self._freed = freed  # told how many bytes a table had that is gone

    def step(self, now_ms: int, entries_max: int) -> int:
        tables = self._cache.swapped_out
        done = 0
        while tables and done < entries_max:
            table = tables[0]
            count = min(len(table), entries_max - done)
            for _ in range(count):
                table.popitem()
            done += count + 1
            if not table:
                self._freed(sys.getsizeof(tables.popleft()))
        return done


class ShardWork:
    """Work on one shard that spans several steps, with the shard's lock held from its first to its last."""

    __slots__ = ("_cache", "_entries", "shard")

    def __init__(self, cache: Cache, shard: int) -> None:
        self._cache = cache
        self.shard = shard
        # The lock keeps the table as it is, which is also what keeps this iterator valid over the steps.
        self._entries: Iterator[tuple[bytes, int]] = iter(cache.tables[shard].items())

    @classmethod
    def begin(cls, cache: Cache, shard: int) -> ShardWork | None:
        """Take the shard's lock; None when somebody else has it."""
        if cache.locks.owner(shard) is not None:
            return None
        work = cls(cache, shard)
        cache.locks.acquire(shard, work)
        return work

    def step(self, entries_max: int) -> tuple[int, bool]:
        """Go on; entries done, and whether that was the end. The lock goes back at the end and when this raises."""
        finished = True
        try:
            done = 0
            for entry in islice(self._entries, entries_max):
                self._visit(*entry)
                done += 1
            if done < entries_max:
                done += self._finish(entries_max - done)
            finished = done < entries_max
        except BaseException:
            finished = True
            raise
        finally:
            if finished:
                self._cache.locks.release(self.shard, self)
        return done, finished

    def _visit(self, key: bytes, value: int) -> None:
        raise AssertionError("a kind of work says what it does with an entry")

    def _finish(self, entries_max: int) -> int:
        """After the last visit: up to that many more entries of work; how many were done. Fewer is the end."""
        raise AssertionError("a kind of work says what it does at the end")


class RemoveZeros(ShardWork):
    """Find a shard's zeros, then take them out."""

    __slots__ = ("_found",)

    def __init__(self, cache: Cache, shard: int) -> None:
        super().__init__(cache, shard)
        self._found: list[bytes] = []

    def _visit(self, key: bytes, value: int) -> None:
        if not value:
            self._found.append(key)

    def _finish(self, entries_max: int) -> int:
        table = self._cache.tables[self.shard]
        found = self._found
        count = min(len(found), entries_max)
        for _ in range(count):
            del table[found.pop()]
        self._cache.zeros[self.shard] -= count
        return count


class Compact(ShardWork):
    """Copy a shard's counters, with their keys, to new tables of the right size; then let them take the old place."""

    __slots__ = ("_deadlines", "_table", "_zeros")

    def __init__(self, cache: Cache, shard: int) -> None:
        super().__init__(cache, shard)
        self._table: dict[bytes, int] = {}
        self._deadlines: dict[bytes, int] = {}
        self._zeros = 0  # raw entries that are left behind

    def _visit(self, key: bytes, value: int) -> None:
        if not value:
            self._zeros += 1
            return
        copy = bytes(memoryview(key))  # bytes(key) would be the same object
        self._table[copy] = value + 0  # a value above 256 is an object of its own, scattered like its key
        deadline_ms = self._cache.deadlines[self.shard].get(key)
        if deadline_ms is not None:
            self._deadlines[copy] = deadline_ms + 0
            self._cache.wheel.replace(copy, self._deadlines[copy])

    def _finish(self, entries_max: int) -> int:
        cache = self._cache
        # In place: the tables are older than gc.freeze(), so that from Python 3.14 the collector passes them by.
        for old, new in ((cache.tables, self._table), (cache.deadlines, self._deadlines)):
            table = old[self.shard]
            table.clear()
            table.update(new)
        cache.zeros[self.shard] -= self._zeros
        return 0


class Zeros:
    """Takes out the zeros that lazy eviction left, a shard at a time."""

    name = "zeros"

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._next = 0  # the shard to look at next
        self._work: ShardWork | None = None

    def step(self, now_ms: int, entries_max: int) -> int:
        zeros = self._cache.zeros
        if self._work is None:
            for _ in range(min(len(zeros), entries_max * SHARDS_PER_ENTRY)):
                shard = self._next
                self._next = (shard + 1) % len(zeros)
                if zeros[shard]:
                    self._work = RemoveZeros.begin(self._cache, shard)
                    break
        if self._work is None:
            return 0
        # A look at an entry costs a fifth of what moving one costs.
        work, self._work = self._work, None
        done, finished = work.step(entries_max * 5)
        if not finished:
            self._work = work
        return done // 5 + 1


class Compaction:
    """Rebuilds tables that are mostly empty, a shard at a time, once they have stopped emptying.

    To wait for that matters: copies go where memory was freed last. Made all along a drain they are strewn over the
    whole heap, and of a million counters drained to one in a hundred 16 % of the memory stays; made after it, 4 %.
    """

    name = "compaction"

    def __init__(self, cache: Cache, freed: Callable[[int], None]) -> None:
        self._cache = cache
        self._freed = freed  # told how many bytes of tables a rebuilt shard gave up
        self._next = 0  # the shard to look at next
        self._work: ShardWork | None = None
        self._bytes_before = 0  # of the shard under work
        # By shard: its entries when they were last noted, and the time before, which is SETTLED_MS ago at least.
        self._noted = self._noted_before = [0] * len(cache.tables)
        self._noted_ms = 0  # when they were last noted

    def step(self, now_ms: int, entries_max: int) -> int:
        if now_ms - self._noted_ms >= SETTLED_MS:
            self._noted_before = self._noted
            self._noted = list(map(len, self._cache.tables))
            self._noted_ms = now_ms
        done = 0
        looks_left = min(len(self._noted), entries_max * SHARDS_PER_ENTRY)
        while done < entries_max:
            if self._work is None:
                looks_left -= self._look(looks_left)
                if self._work is None:
                    break
            work, self._work = self._work, None
            entries, finished = work.step(entries_max - done)
            done += entries + 1
            if not finished:
                self._work = work
                break
            done += self._bytes_before // BYTES_FREED_PER_ENTRY
            self._freed(self._bytes_before - self._cache.measure(work.shard))
        return done

    def _look(self, shards_max: int) -> int:
        """Find a shard that is mostly empty and begin its work; how many were looked at."""
        cache = self._cache
        shards = len(cache.tables)
        for looked_at in range(1, shards_max + 1):
            shard = self._next
            self._next = (shard + 1) % shards
            size = cache.measure(shard)
            entries = len(cache.tables[shard])
            if (
                size > TABLE_BYTES_MIN
                and size > BYTES_PER_ENTRY_MAX * (entries + len(cache.deadlines[shard]))
                and entries * 4 >= self._noted_before[shard] * 3
            ):
                self._work = Compact.begin(cache, shard)
                self._bytes_before = size
                if self._work is not None:
                    return looked_at
        return shards_max


class Measuring:
    """Notes how much memory the tables of a cache have: a part of the shards each time, a sum when round."""

    name = "measuring"

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._next = 0
        self._sum = 0

    def step(self, now_ms: int, entries_max: int) -> int:
        shards = len(self._cache.tables)
        stop = min(shards, self._next + entries_max * SHARDS_PER_ENTRY)
        for shard in range(self._next, stop):
            self._sum += self._cache.measure(shard)
        self._next = stop
        if stop == shards:
            self._cache.table_bytes = self._sum
            self._next = self._sum = 0
        return 0  # never a reason to come back soon


class Sweep:
    """All jobs of all caches, in turns."""

    def __init__(
        self, store: Store, alarms: Alarms, sessions: Sessions, failed: Callable[[str, Exception], None]
    ) -> None:
        self._failed = failed  # told of a job that raised; the others go on
        self.entries_done = 0  # since the start
        self.steps = 0  # calls of `advance`
        self.failures = 0  # jobs that raised
        self.table_bytes_freed = 0  # since the start
        self.to_release = False  # memory was freed that the allocator may give back to the system
        self._waits = Waits(alarms, store.caches.values())
        self._jobs: list[Job] = [self._waits, Ended(sessions)]
        for cache in store.caches.values():
            self._jobs += [Expiry(cache), Zeros(cache), Remains(cache, self._freed)]
            self._jobs += [Compaction(cache, self._freed), Measuring(cache)]
        self._next = 0  # the job whose turn it is

    def _freed(self, table_bytes: int) -> None:
        self.table_bytes_freed += table_bytes
        self.to_release = True

    @property
    def urgent(self) -> bool:
        """Whether the next step should not wait for its time."""
        return self._waits.urgent

    def advance(self, now_ms: int, entries_max: int) -> int:
        """Let every job have its turn once, with about `entries_max` entries for all; how many were done.

        A job gets at most half of what is left, so the last in turn has something too, and who is first changes.
        """
        self.steps += 1
        jobs = self._jobs
        done = 0
        for offset in range(len(jobs)):
            job = jobs[(self._next + offset) % len(jobs)]
            allowance = max(1, (entries_max - done) // 2)
            try:
                done += job.step(now_ms, allowance)
            except Exception as fault:
                self.failures += 1
                self._failed(job.name, fault)
        self._next = (self._next + 1) % len(jobs)
        self.entries_done += done
        return done
