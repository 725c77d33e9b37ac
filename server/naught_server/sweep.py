"""What the sweeper does, in bounded steps. Pure: `now_ms` and an allowance of entries come in, the work done comes
out.

Jobs take turns. Each step of a job is bounded in entries, so no job can starve another:

    FireTimers       ends waits that run out and leases, and answers waiters that could not be answered at once
    ReleaseEnded     gives back what ended sessions hold
    RemoveExpired    takes out counters whose time to live has ended
    RemoveZeros      takes out the zeros that lazy eviction left
    FreeTables       empties tables that `clear` has replaced
    CompactTables    rebuilds tables that are mostly empty, and with them the memory of the keys
    MeasureTables    notes how much memory the tables have

Two jobs work on a shard over several steps. They hold its lock meanwhile (`ShardWork`), so the table does not change
under them, and they release it on every way out.

Compaction copies keys because a dict does not shrink when its entries go, and the bytes objects of the remaining keys
lie scattered over the allocator's arenas, which go back to the system only when empty. With one counter in a hundred
left, 61 % of the memory stays when only the table is rebuilt, and 4 % when keys are copied too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

from naught_server.sessions import Sessions
from naught_server.store import Cache, Store
from naught_server.timers import Timers
from naught_server.waiters import SETTLED_AT_ONCE

TABLE_BYTES_MIN: Final = 1 << 10
"""Smaller tables are not worth rebuilding: 256 of them are 256 KiB."""

BYTES_PER_ENTRY_MAX: Final = 128
"""A table with more bytes than this per entry is mostly empty: a rebuilt one has 27 to 54."""

SETTLED_MS: Final = 1_000
"""A table is rebuilt once it has lost less than a quarter of its entries in this time (at most twice this time)."""

BYTES_FREED_PER_ENTRY: Final = 1 << 10
"""Freeing this many bytes of a table costs about as much as moving an entry."""

SHARDS_PER_ENTRY: Final = 4
"""Looking at a shard's size costs a quarter of what moving an entry costs."""


class Job(Protocol):
    """One kind of upkeep of one cache."""

    name: str

    def step(self, now_ms: int, entries_max: int) -> int:
        """Do up to about `entries_max` entries of work, on one shard at most. Returns how many; 0: nothing to do."""


class FireTimers:
    """Fires due timers: waits that have run out, leases that have ended. And settles waiters that are noted."""

    name = "timers"

    def __init__(self, timers: Timers, caches: Iterable[Cache]) -> None:
        self._timers = timers
        self._caches = list(caches)

    def step(self, now_ms: int, entries_max: int) -> int:
        done = self._timers.fire_due(now_ms, entries_max)
        for cache in self._caches:
            if cache.waiters.unsettled:
                done += cache.waiters.settle(now_ms, max(1, entries_max - done))
        return done

    @property
    def urgent(self) -> bool:
        """Whether a waiter could be answered and was not, because the step was over."""
        return any(cache.waiters.unsettled and not cache.locks.held for cache in self._caches)


class ReleaseEnded:
    """Empties sessions that have ended: their waiters leave their queues, their holds are given back."""

    name = "ended sessions"

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def step(self, now_ms: int, entries_max: int) -> int:
        return self._sessions.step(now_ms, entries_max) if self._sessions.unfinished else 0


class RemoveExpired:
    """Takes out counters whose time to live has ended."""

    name = "expired counters"

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def step(self, now_ms: int, entries_max: int) -> int:
        wheel = self._cache.wheel
        before = wheel.visited
        self._cache.expire(now_ms, entries_max)
        waiters = self._cache.waiters
        if waiters.unsettled:
            waiters.settle(now_ms, SETTLED_AT_ONCE)
        return wheel.visited - before


class FreeTables:
    """Empties tables that `clear` has replaced, entry by entry: freeing a table of a million at once takes 100 ms."""

    name = "cleared tables"

    def __init__(self, cache: Cache, freed: Callable[[int], None]) -> None:
        self._cache = cache
        self._freed = freed  # called with the bytes of a table that was freed

    def step(self, now_ms: int, entries_max: int) -> int:
        tables = self._cache.cleared_tables
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
        """Take the shard's lock. None when it is held already."""
        if cache.locks.owner(shard) is not None:
            return None
        work = cls(cache, shard)
        cache.locks.acquire(shard, work)
        return work

    def step(self, entries_max: int) -> tuple[int, bool]:
        """Go on. Returns the entries done, and whether the work is finished. Releases the lock at the end, and when
        it raises."""
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
        raise AssertionError("each kind of work visits entries in its own way")

    def _finish(self, entries_max: int) -> int:
        """After the last visit: do up to `entries_max` more entries of work. Returns how many; fewer means
        finished."""
        raise AssertionError("each kind of work finishes in its own way")


class ZeroRemoval(ShardWork):
    """Finds a shard's zeros, then takes them out."""

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


class ShardCompaction(ShardWork):
    """Copies a shard's counters, with their keys, to new tables of the right size, then replaces the old contents."""

    __slots__ = ("_deadlines", "_table", "_zeros")

    def __init__(self, cache: Cache, shard: int) -> None:
        super().__init__(cache, shard)
        self._table: dict[bytes, int] = {}
        self._deadlines: dict[bytes, int] = {}
        self._zeros = 0  # raw entries that are not copied

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
        # In place: the tables were there before gc.freeze(), so from Python 3.14 on the collector skips them.
        for old, new in ((cache.tables, self._table), (cache.deadlines, self._deadlines)):
            table = old[self.shard]
            table.clear()
            table.update(new)
        cache.zeros[self.shard] -= self._zeros
        return 0


class RemoveZeros:
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
                    self._work = ZeroRemoval.begin(self._cache, shard)
                    break
        if self._work is None:
            return 0
        # Looking at an entry costs a fifth of moving one.
        work, self._work = self._work, None
        done, finished = work.step(entries_max * 5)
        if not finished:
            self._work = work
        return done // 5 + 1


class CompactTables:
    """Rebuilds tables that are mostly empty, a shard at a time, once they have stopped emptying.

    Waiting for that matters, because copies are put where memory was freed last. Copies made during a drain are
    scattered over the whole heap: of a million counters drained to one in a hundred, 16 % of the memory stays. With
    copies made after the drain it is 4 %.
    """

    name = "compaction"

    def __init__(self, cache: Cache, freed: Callable[[int], None]) -> None:
        self._cache = cache
        self._freed = freed  # called with the bytes of tables that a rebuilt shard gave up
        self._next = 0  # the shard to look at next
        self._work: ShardWork | None = None
        self._bytes_before = 0  # of the shard under work
        # By shard: its entries when they were last noted, and when they were noted before that, at least SETTLED_MS
        # ago.
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
        """Find a shard that is mostly empty and begin its work. Returns how many shards were looked at."""
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
                self._work = ShardCompaction.begin(cache, shard)
                self._bytes_before = size
                if self._work is not None:
                    return looked_at
        return shards_max


class MeasureTables:
    """Notes how much memory the tables of a cache have: some shards in each step, the sum after the last shard."""

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
        return 0  # never a reason for an early next step


class Sweep:
    """All jobs of all caches, in turns."""

    def __init__(
        self, store: Store, timers: Timers, sessions: Sessions, failed: Callable[[str, Exception], None]
    ) -> None:
        self._failed = failed  # called with a job that raised; the other jobs go on
        self.entries_done = 0  # since the start
        self.steps = 0  # calls of `advance`
        self.failures = 0  # jobs that raised
        self.table_bytes_freed = 0  # since the start
        self.to_release = False  # memory was freed that the allocator can give back to the system
        self._timers = FireTimers(timers, store.caches.values())
        self._jobs: list[Job] = [self._timers, ReleaseEnded(sessions)]
        for cache in store.caches.values():
            self._jobs += [RemoveExpired(cache), RemoveZeros(cache), FreeTables(cache, self._freed)]
            self._jobs += [CompactTables(cache, self._freed), MeasureTables(cache)]
        self._next = 0  # the job whose turn it is

    def _freed(self, table_bytes: int) -> None:
        self.table_bytes_freed += table_bytes
        self.to_release = True

    @property
    def urgent(self) -> bool:
        """Whether the next step should come at once."""
        return self._timers.urgent

    def advance(self, now_ms: int, entries_max: int) -> int:
        """Give each job one turn, with about `entries_max` entries for all. Returns how many entries were done.

        A job gets at most half of what is left, so the last job gets something too, and the first job changes from
        step to step.
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
