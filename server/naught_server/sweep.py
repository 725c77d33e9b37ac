"""What the sweeper does, in bounded steps. Pure: `now_ms` and an allowance of entries come in, the work done comes
out.

Jobs take turns. Each step of a job is bounded in entries, so no job can starve another. The bound comes from the
caller (`advance`), or from a time and the measured price of each job's entries (`advance_within`, `pace.py`):

    FireTimers       ends waits that run out and leases, and answers waiters that could not be answered at once
    ReleaseEnded     gives back what ended sessions hold
    RemoveExpired    takes out counters whose time to live has ended
    RemoveZeros      takes out the zeros that lazy eviction left
    FreeTables       empties tables that `clear` has replaced
    CompactTables    rebuilds tables that are mostly empty, and with them the memory of the keys
    ShrinkWatched    the same for the tables of what waits and what is held, which are not in shards
    MeasureTables    counts memory, entries and zeros of the tables

A sweeper can be *off*, for an operator who looks for a fault or shows what zeros do. Then only the jobs go on whose
absence a client would notice (`Job.is_duty`): timers, ended sessions, expired counters, and measuring. The others do
nothing but give memory back. A shard that one of them holds is still finished, as requests may wait for its lock.

Two jobs work on shards (`ShardJob`). Small shards are done whole, several in a step. Work on a large shard takes
several steps. It holds the shard's lock meanwhile (`ShardWork`), so the table does not change under it, and releases
the lock on every way out.

Compaction copies keys because a dict does not shrink when its entries go, and the bytes objects of the remaining keys
lie scattered over the allocator's arenas, which go back to the system only when empty. With one counter in a hundred
left, 61 % of the memory stays when only the table is rebuilt, and 4 % when keys are copied too.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, Protocol, Self

from naught_server.expiry import DEADLINE_MASK
from naught_server.fatal import FATAL
from naught_server.hot import stored
from naught_server.limits import COMPACTION_BYTES_PER_ENTRY, STALE_SHARE_MAX
from naught_server.pace import TURNS_MAX, Pace
from naught_server.sessions import Sessions
from naught_server.store import Cache, Store
from naught_server.tables import capacity, is_sparse
from naught_server.timers import Timers
from naught_server.waiters import SETTLED_AT_ONCE

TABLE_BYTES_MIN: Final = 1 << 10
"""Smaller tables are not worth rebuilding: 256 of them are 256 KiB."""

SETTLED_MS: Final = 1_000
"""A table is rebuilt once it has lost less than a quarter of its entries in this time (at most twice this time)."""

BYTES_FREED_PER_ENTRY: Final = 1 << 10
"""Freeing this many bytes of a table costs about as much as moving an entry."""

SHARDS_PER_ENTRY: Final = 4
"""Looking at a shard's size costs a quarter of what moving an entry costs."""

LOOKS_AT_ONCE: Final = 1_000
"""Shards that a step looks at to find work, where it is counted in entries: each takes 0.3 to 1.5 us. 128 caches have
32 768 unless configured otherwise, and looking at all of them took 26 ms."""

ENTRIES_PER_ZERO: Final = 200
"""To take out a shard's zeros, all its entries are looked at. A shard with more entries than this for each zero is
looked at once in `ZEROS_EVERY_MS` only: else a steady trickle of zeros would keep the sweeper at work all the time.
In the simulation of the tuner's workloads this halves its work."""

ZEROS_EVERY_MS: Final = 1_000
"""How often a shard with few zeros is looked at."""

SMALL_SHARD_ENTRIES: Final = 4_000
"""A shard with up to this many entries is worked on in one step, however small the allowance: copying 4 000 counters
takes 0.4 ms, and no command finds the shard held."""

TIMED_ENTRIES: Final = 4
"""A counter with a time to live costs as much to copy as this many entries, because the wheel has its key too."""

SHRUNK_ENTRIES_MAX: Final = 16_000
"""A table of what waits or is held is rebuilt when it has so few entries left: 1 ms."""

ROOM_EVERY_MS: Final = 1_000
"""How often the room in the tables is measured, which takes three times as long as their size does."""

MEMORY_LEVEL_STEP: Final = 4 << 20
"""Memory of connections, waits and sessions that must have gone before it is worth walking over the heap."""


class Job(Protocol):
    """One kind of upkeep of one cache."""

    name: str

    @property
    def is_duty(self) -> bool:
        """Whether it goes on while the sweeper is off: clients or the operator's figures would miss it."""

    def step(self, now_ms: int, entries_max: int) -> int:
        """Do up to about `entries_max` entries of work, or one small shard. Returns how many. 0: none was found, in
        as many shards as the allowance lets it look at."""

    def is_behind(self, now_ms: int) -> bool:
        """Whether there is a backlog, for which the sweeper should take more of the time. O(1)."""


class FireTimers:
    """Fires due timers: waits that have run out, leases that have ended. And settles waiters that are noted."""

    name = "timers"
    is_duty = True

    def __init__(self, timers: Timers, caches: Iterable[Cache]) -> None:
        self._timers = timers
        self._caches = list(caches)

    def step(self, now_ms: int, entries_max: int) -> int:
        # Waiters that are noted come first: there may always be a timer that is due.
        done = self._settle(now_ms, entries_max // 2)
        done += self._timers.fire_due(now_ms, max(1, entries_max - done))
        return done + self._settle(now_ms, entries_max - done, strictly=True)

    def _settle(self, now_ms: int, entries_max: int, *, strictly: bool = False) -> int:
        done = 0
        for cache in self._caches:
            if cache.waiters.unsettled:
                done += cache.waiters.settle(now_ms, max(1, entries_max - done), strictly=strictly)
        return done

    def is_behind(self, now_ms: int) -> bool:
        return False  # waits and leases are due at their time, and `urgent` says the rest

    @property
    def urgent(self) -> bool:
        """Whether a waiter could be answered and was not, because the step was over."""
        return any(cache.waiters.unsettled and not cache.locks.held for cache in self._caches)


class ReleaseEnded:
    """Empties sessions that have ended: their waiters leave their queues, their holds are given back."""

    name = "ended sessions"
    is_duty = True

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def step(self, now_ms: int, entries_max: int) -> int:
        return self._sessions.step(now_ms, entries_max) if self._sessions.unfinished else 0

    def is_behind(self, now_ms: int) -> bool:
        ended = self._sessions.unfinished
        return ended > STALE_SHARE_MAX * (ended + len(self._sessions))


class RemoveExpired:
    """Takes out counters whose time to live has ended."""

    name = "expired counters"
    is_duty = True

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

    def is_behind(self, now_ms: int) -> bool:
        cache = self._cache
        return cache.wheel.due_estimate(now_ms) > STALE_SHARE_MAX * cache.entries_measured


class FreeTables:
    """Empties tables that `clear` has replaced, entry by entry: freeing a table of a million at once takes 100 ms."""

    name = "cleared tables"
    is_duty = False

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

    def is_behind(self, now_ms: int) -> bool:
        entries = self._cache.cleared_entries()
        return entries > STALE_SHARE_MAX * (entries + self._cache.entries_measured)


class ShardWork:
    """Work on one shard. Work that spans several steps holds the shard's lock from its first to its last."""

    __slots__ = ("_cache", "_entries", "shard")

    def __init__(self, cache: Cache, shard: int) -> None:
        self._cache = cache
        self.shard = shard
        # The lock keeps the table as it is, which is also what keeps this iterator valid over the steps.
        self._entries: Iterator[tuple[bytes, int]] = iter(cache.tables[shard].items())

    @classmethod
    def begin(cls, cache: Cache, shard: int) -> Self | None:
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
            entries = list(islice(self._entries, entries_max))
            self._visit(entries)
            done = len(entries)
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

    def _visit(self, entries: list[tuple[bytes, int]]) -> None:
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

    def _visit(self, entries: list[tuple[bytes, int]]) -> None:
        self._found += [key for key, value in entries if not value]

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

    __slots__ = ("_table", "_timed", "_timed_entries", "_zeros")

    def __init__(self, cache: Cache, shard: int) -> None:
        super().__init__(cache, shard)
        self._timed_entries: Iterator[tuple[bytes, int]] = iter(cache.timed[shard].items())
        self._table: dict[bytes, int] = {}
        self._timed: dict[bytes, int] = {}
        self._zeros = 0  # raw entries that are not copied

    def _visit(self, entries: list[tuple[bytes, int]]) -> None:
        # bytes(key) would be the same object: of the ways to copy it, formatting is the fastest. A large value is an
        # object of its own, scattered like its key.
        copies: dict[bytes, int] = {b"%b" % key: stored(value) for key, value in entries if value}
        self._zeros += len(entries) - len(copies)
        self._table.update(copies)

    def _finish(self, entries_max: int) -> int:
        cache = self._cache
        copies = {b"%b" % key: packed + 0 for key, packed in islice(self._timed_entries, entries_max)}
        for copy, packed in copies.items():
            cache.wheel.replace(copy, packed & DEADLINE_MASK)
        self._timed.update(copies)
        if len(copies) == entries_max:
            return entries_max
        # In place: the tables were there before gc.freeze(), so from Python 3.14 on the collector skips them.
        for old, new in ((cache.tables, self._table), (cache.timed, self._timed)):
            table = old[self.shard]
            table.clear()
            table.update(new)
        cache.zeros[self.shard] -= self._zeros
        return len(copies)


class ShardJob:
    """Work on those shards that need it, one after the other.

    A small shard is done whole within one step, and no command ever finds it held. A large one is done in slices, and
    is held meanwhile: its step ends with it, so that the jobs and commands that need a cache without held shards have
    their turn before the next large shard.
    """

    work: type[ShardWork]
    """What is done to a shard."""
    visits_per_entry: int
    """How many entries of a table are visited at the cost of one entry of the allowance."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._next = 0  # the shard to look at next
        self._work: ShardWork | None = None  # on a large shard

    @property
    def looks(self) -> int:
        """How many shards the next step may look at to find work; 0 where it goes on with the one that it holds."""
        return 0 if self._work is not None else len(self._cache.tables)

    @property
    def is_duty(self) -> bool:
        """A shard that is held must be finished: requests wait for it."""
        return self._work is not None

    def step(self, now_ms: int, entries_max: int) -> int:
        shards = len(self._cache.tables)
        looks_left = min(shards, entries_max * SHARDS_PER_ENTRY)
        done = 0
        while done < entries_max and self._work is None and looks_left:
            shard = self._next
            looks_left -= 1
            if not self._needs_work(shard):
                self._next = (shard + 1) % shards
            elif self._is_small(shard):
                self._next = (shard + 1) % shards
                done += self._do_whole(shard)
            elif done:
                return done  # the next step begins with it
            else:
                self._next = (shard + 1) % shards
                self._work = self.work.begin(self._cache, shard)
        if self._work is not None:
            done += self._go_on(self._work, entries_max)
        return done

    def _do_whole(self, shard: int) -> int:
        """Do all the work of a small shard, unless it is held. Returns the cost in entries."""
        work = self.work.begin(self._cache, shard)
        if work is None:
            return 0
        entries, _ = work.step(2 * self._cache.entries_of(shard) + 1)
        return entries // self.visits_per_entry + 1 + self._finished(shard)

    def _go_on(self, work: ShardWork, entries_max: int) -> int:
        """Do a slice of the work on a large shard. Returns its cost in entries."""
        self._work = None  # also when it raises, which has released the lock
        entries, finished = work.step(entries_max * self.visits_per_entry)
        if not finished:
            self._work = work
            return max(1, entries // self.visits_per_entry)
        return entries // self.visits_per_entry + 1 + self._finished(work.shard)

    def _is_small(self, shard: int) -> bool:
        """Whether a shard's work is short enough for one step."""
        cache = self._cache
        entries = len(cache.tables[shard]) + TIMED_ENTRIES * len(cache.timed[shard])
        return entries <= SMALL_SHARD_ENTRIES

    def _needs_work(self, shard: int) -> bool:
        """Whether there is work to do on a shard. O(1)."""
        raise AssertionError("each job has its own shards to work on")

    def _finished(self, shard: int) -> int:
        """The work on a shard is done. Returns what else it has cost, in entries."""
        raise AssertionError("each job has its own notes")


class RemoveZeros(ShardJob):
    """Takes out the zeros that lazy eviction left, a shard at a time."""

    name = "zeros"
    work = ZeroRemoval
    visits_per_entry = 5  # looking at an entry costs a fifth of moving one

    def __init__(self, cache: Cache) -> None:
        super().__init__(cache)
        self._now_ms = 0  # of the step under way
        self._swept_ms = array("q", [-ZEROS_EVERY_MS]) * len(cache.tables)  # by shard: when it was last swept

    @property
    def looks(self) -> int:
        return super().looks if self._cache.has_zeros else 0

    def step(self, now_ms: int, entries_max: int) -> int:
        cache = self._cache
        if not cache.has_zeros:
            return 0
        self._now_ms = now_ms
        done = super().step(now_ms, entries_max)
        if not done and cache.policy.eviction == "eager":
            cache.note_no_zeros()
        return done

    def is_behind(self, now_ms: int) -> bool:
        return self._cache.zeros_measured > STALE_SHARE_MAX * self._cache.entries_measured

    def _needs_work(self, shard: int) -> bool:
        zeros = self._cache.zeros[shard]
        return zeros > 0 and (
            zeros * ENTRIES_PER_ZERO > len(self._cache.tables[shard])
            or self._now_ms - self._swept_ms[shard] >= ZEROS_EVERY_MS
        )

    def _finished(self, shard: int) -> int:
        self._swept_ms[shard] = self._now_ms
        return 0


class CompactTables(ShardJob):
    """Rebuilds tables that are mostly empty, a shard at a time, once they have stopped emptying.

    Waiting for that matters, because copies are put where memory was freed last. Copies made during a drain are
    scattered over the whole heap: of a million counters drained to one in a hundred, 16 % of the memory stays. With
    copies made after the drain it is 4 %.
    """

    name = "compaction"
    work = ShardCompaction
    visits_per_entry = 1

    def __init__(self, cache: Cache, freed: Callable[[int], None]) -> None:
        super().__init__(cache)
        # A table with more bytes than this per entry is mostly empty.
        self._bytes_per_entry_max = COMPACTION_BYTES_PER_ENTRY
        self._freed = freed  # called with the bytes of tables that a rebuilt shard gave up
        self._bytes_before = 0  # of the shard that was last found to need work
        # By shard: the most entries that were seen since `_noted_ms`, and in the SETTLED_MS or more before that. The
        # most, and not those at one moment: a shard may be filled and drained within one such time.
        self._most = array("q", [0]) * len(cache.tables)
        self._most_before = array("q", [0]) * len(cache.tables)
        self._noted_ms = array("q", [0]) * len(cache.tables)
        self._now_ms = 0  # of the step under way

    def step(self, now_ms: int, entries_max: int) -> int:
        self._now_ms = now_ms
        return super().step(now_ms, entries_max)

    def compact_above(self, bytes_per_entry: int) -> None:
        """Rebuild tables with more bytes than this per entry."""
        self._bytes_per_entry_max = bytes_per_entry

    def is_behind(self, now_ms: int) -> bool:
        return False  # nothing that a table keeps is visible to clients

    def _needs_work(self, shard: int) -> bool:
        cache = self._cache
        size = cache.measure(shard)
        entries = cache.entries_of(shard)
        if self._now_ms - self._noted_ms[shard] >= SETTLED_MS:
            self._most_before[shard] = self._most[shard]
            self._most[shard] = entries
            self._noted_ms[shard] = self._now_ms
        elif entries > self._most[shard]:
            self._most[shard] = entries
        if (
            size > TABLE_BYTES_MIN
            and size > self._bytes_per_entry_max * entries
            and entries * 4 >= max(self._most[shard], self._most_before[shard]) * 3
        ):
            self._bytes_before = size
            return True
        return False

    def _finished(self, shard: int) -> int:
        self._freed(self._bytes_before - self._cache.measure(shard))
        return self._bytes_before // BYTES_FREED_PER_ENTRY


class ShrinkWatched:
    """Rebuilds the tables of the keys that requests wait for and that sessions hold, once most of them are gone, and
    the marks of these keys.

    They are dicts without shards, which others have too. So one is rebuilt in place and in one step, which is why it
    must have few entries left.
    """

    name = "tables of what waits and is held"
    is_duty = False

    def __init__(self, cache: Cache, freed: Callable[[int], None]) -> None:
        waiters = cache.waiters
        self._tables: list[dict[bytes, Any]] = [waiters.queues.by_key, waiters.awaited, waiters.generations]
        self._marks = waiters.marks
        self._freed = freed  # called with the bytes that a table gave up
        self._looked_ms: int | None = None  # when they were last looked at

    def step(self, now_ms: int, entries_max: int) -> int:
        if self._looked_ms is not None and now_ms - self._looked_ms < ROOM_EVERY_MS:
            return 0
        self._looked_ms = now_ms
        return sum(map(self._shrink, self._tables)) + self._marks.rebuild([*self._tables])

    def _shrink(self, table: dict[bytes, Any]) -> int:
        """Rebuild a table with room for eight times what it has. Returns the entries of work."""
        left, size = len(table), sys.getsizeof(table)
        if left > SHRUNK_ENTRIES_MAX or size <= TABLE_BYTES_MIN or capacity(table) < 8 * left:
            return 0
        entries = list(table.items())
        table.clear()
        table.update(entries)
        self._freed(size - sys.getsizeof(table))
        return left + 1

    def is_behind(self, now_ms: int) -> bool:
        return False  # nothing that a table keeps is visible to clients


class MeasureTables:
    """Counts the memory, entries and zeros of a cache's tables: some shards a step, noted after the last one. And
    once in `ROOM_EVERY_MS` for how many entries they have room."""

    name = "measuring"
    is_duty = True

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._next = 0
        self._bytes = self._entries = self._zeros = 0  # of the shards before the next
        self._room = self._sparse = 0  # of the same, where this round measures the room
        self._with_room = False  # whether it does
        self._room_ms: int | None = None  # when the last round that did began

    @property
    def looks(self) -> int:
        """How many shards a step may look at."""
        return len(self._cache.tables)

    def step(self, now_ms: int, entries_max: int) -> int:
        cache = self._cache
        shards = len(cache.tables)
        stop = min(shards, self._next + entries_max * SHARDS_PER_ENTRY)
        if not self._next:
            self._with_room = self._room_ms is None or now_ms - self._room_ms >= ROOM_EVERY_MS
            if self._with_room:
                self._room_ms = now_ms
        if self._with_room:
            self._measure_room(cache.tables[self._next : stop])
            self._measure_room(cache.timed[self._next : stop])
        for shard in range(self._next, stop):
            self._bytes += cache.measure(shard)
        self._entries += sum(map(len, cache.tables[self._next : stop]))
        self._entries += sum(map(len, cache.timed[self._next : stop]))
        self._zeros += sum(cache.zeros[self._next : stop])
        self._next = stop
        if stop == shards:
            cache.note_measured(self._bytes, self._entries, self._zeros)
            self._next = self._bytes = self._entries = self._zeros = 0
            if self._with_room:
                cache.note_room(self._room, self._sparse)
                self._room = self._sparse = 0
        return 0  # never a reason for an early next step

    def _measure_room(self, tables: list[dict[bytes, int]]) -> None:
        for table in tables:
            room = capacity(table)
            self._room += room
            self._sparse += is_sparse(table, room)

    def is_behind(self, now_ms: int) -> bool:
        return False


class MemoryLevel:
    """Notices that memory which is in no table has gone: connections, sessions, waits, holds.

    It is given an estimate now and then. Once the estimate is a good deal below its peak, memory is worth releasing,
    and the peak begins again from there. So clients that come and go at a constant rate cause no release.
    """

    __slots__ = ("_peak",)

    def __init__(self) -> None:
        self._peak = 0  # the highest estimate since memory was last found to have gone

    def has_fallen(self, estimate: int) -> bool:
        """Whether the memory is now worth releasing."""
        self._peak = max(self._peak, estimate)
        if self._peak - estimate < max(MEMORY_LEVEL_STEP, self._peak // 4):
            return False
        self._peak = estimate
        return True


class Sweep:
    """All jobs of all caches, in turns."""

    def __init__(
        self, store: Store, timers: Timers, sessions: Sessions, failed: Callable[[str, Exception], None]
    ) -> None:
        self._failed = failed  # called with a job that raised; the other jobs go on
        self.entries_done = 0  # since the start
        self.steps = 0  # calls of `advance` and `advance_within`, but for those of a sweeper that is off
        self.failures = 0  # jobs that raised
        self.worked_ns = 0  # time spent in `advance_within`
        self.table_bytes_freed = 0  # since the start
        self.to_release = False  # memory was freed that the allocator can give back to the system
        self._level = MemoryLevel()  # of memory that is in no table
        self._timers = FireTimers(timers, store.caches.values())
        self._jobs: list[Job] = [self._timers, ReleaseEnded(sessions)]
        self._compactions = [CompactTables(cache, self._freed) for cache in store.caches.values()]
        for cache, compaction in zip(store.caches.values(), self._compactions, strict=True):
            self._jobs += [RemoveExpired(cache), RemoveZeros(cache), FreeTables(cache, self._freed)]
            self._jobs += [compaction, ShrinkWatched(cache, self._freed), MeasureTables(cache)]
        # By job: the same where it looks at shards to find work; None where it finds it otherwise.
        self._looking = [job if isinstance(job, ShardJob | MeasureTables) else None for job in self._jobs]
        self._next = 0  # the job whose turn it is
        self._pace = Pace(len(self._jobs))  # for `advance_within`

    def _freed(self, table_bytes: int) -> None:
        self.table_bytes_freed += table_bytes
        self.to_release = True

    def compact_above(self, bytes_per_entry: int) -> None:
        """Rebuild tables with more bytes than this per entry."""
        for compaction in self._compactions:
            compaction.compact_above(bytes_per_entry)

    def note_memory(self, estimate: int) -> None:
        """About how many bytes connections, sessions, waits and holds have now."""
        if self._level.has_fallen(estimate):
            self.to_release = True

    def released(self) -> None:
        """Free memory was returned to the system."""
        self.to_release = False

    @property
    def urgent(self) -> bool:
        """Whether the next step should come at once."""
        return self._timers.urgent

    def is_behind(self, now_ms: int, *, off: bool = False) -> bool:
        """Whether any job has a backlog; with `off`, any job that goes on while the sweeper is off. O(jobs)."""
        return any(job.is_behind(now_ms) for job in self._jobs if job.is_duty or not off)

    def advance(self, now_ms: int, entries_max: int, *, off: bool = False) -> int:
        """Give each job one turn, with about `entries_max` entries for all. Returns how many entries were done.

        A job gets at most half of what is left, so the last job gets something too, and the first job changes from
        step to step. With `off`, only the jobs that go on while the sweeper is off. Jobs that look at shards to find
        work look at `LOOKS_AT_ONCE`, all together: the next step begins with the first one that is left out.
        """
        done = 0
        looks_left = LOOKS_AT_ONCE
        left_out = None
        for index in self._begin(off=off):
            allowance = max(1, (entries_max - done) // 2)
            looking = self._looking[index]
            shards = looking.looks if looking is not None else 0
            if shards:
                if looks_left <= 0:
                    left_out = index if left_out is None else left_out
                    continue
                allowance = min(allowance, max(1, looks_left // SHARDS_PER_ENTRY))
                looks_left -= min(shards, allowance * SHARDS_PER_ENTRY)
            done += self._turn(index, now_ms, allowance)
        if left_out is not None:
            self._next = left_out
        self.entries_done += done
        return done

    def advance_within(self, now_ms: int, budget_ns: float, clock_ns: Callable[[], int], *, off: bool = False) -> int:
        """As `advance`, with a time instead of a number: each job gets the entries that fit half of the time that is
        left, by what its entries have cost before. Jobs with more work get further turns while there is time."""
        pace = self._pace
        pace.begin(budget_ns)
        waiting = self._begin(off=off)
        done = 0
        started_ns = ended_ns = clock_ns()
        for _ in range(TURNS_MAX):
            unfinished: list[int] = []
            for index in waiting:
                begun_ns = ended_ns
                allowance = pace.allowance(index)
                entries = self._turn(index, now_ms, allowance)
                ended_ns = clock_ns()
                pace.note(index, entries, ended_ns - begun_ns)
                done += entries
                if entries >= allowance and (not off or self._jobs[index].is_duty):
                    unfinished.append(index)
            waiting = unfinished
            if not waiting or not pace.has_time:
                break
        self.entries_done += done
        self.worked_ns += ended_ns - started_ns
        return done

    def _begin(self, *, off: bool) -> list[int]:
        """A step begins. Returns the order of the jobs."""
        first = self._next
        order = [*range(first, len(self._jobs)), *range(first)]
        if off:
            return [index for index in order if self._jobs[index].is_duty]
        self.steps += 1
        self._next = (first + 1) % len(self._jobs)
        return order

    def _turn(self, index: int, now_ms: int, entries_max: int) -> int:
        """Give a job a turn. Returns how many entries were done."""
        job = self._jobs[index]
        try:
            return job.step(now_ms, entries_max)
        except FATAL:
            raise
        except Exception as fault:
            self.count_failure(job.name, fault)
            return 0

    def count_failure(self, name: str, fault: Exception) -> None:
        """Something that is done in a step has raised."""
        self.failures += 1
        self._failed(name, fault)
