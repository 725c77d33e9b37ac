"""One table of a SafeMap: a dict and its lock, the zeros flagged in it, and when it is rebuilt."""

from __future__ import annotations

import sys
import threading
from itertools import repeat
from sys import getrefcount
from typing import Any

# A dict takes up to 120 bytes an entry just after it has grown, up to 60 just after it was rebuilt. Above the
# first it is mostly empty, and far enough above the second not to be rebuilt again at once.
SPARSE_BYTES_PER_ENTRY = 160
# Below this a table is not worth rebuilding. The smallest dict with an entry has 232 bytes.
SPARSE_BYTES_MIN = 256
# Evictions between two looks at a small table's size, so up to 9 KiB of table that may stay in a shard. With 16 a
# decrement that evicts had 92 % of the rate without eviction, with 256 it has 97, and with 512 had 93, as tables
# were then rebuilt too late to stay in the processor's cache.
COMPACTION_EVICTIONS_MIN = 256
# With flags for more than one key in so many, all keys count as flagged.
ALL_FLAGGED_FROM = 4
# Keys are moved where less than this part is left of what a shard had since they were last moved, so that a drain
# moves at most one key for two evictions.
MOVE_BELOW = 0.4
# In shards that had at least so many keys. Below, two or three megabytes are at stake in the whole map.
MOVE_KEYS_MIN = 1024


class Shard:
    """One table of a map, with its lock. Its methods are called with the lock held."""

    __slots__ = ("all_flagged", "evictions_left", "flagged", "keys_max", "lock", "table")

    def __init__(self) -> None:
        # Held for every access to the other fields. Can be taken again by its holder: see the package's text.
        self.lock = threading.RLock()
        # What counts, and with the deferred policy zeros that are not cleared yet: always the int, whatever is
        # counted.
        self.table: dict[Any, Any] = {}
        # The keys that may hold a zero in `table`: every key that does, and some that have been counted up
        # since. A dict and not a set because storing into a dict is not a call. Replaced, never kept, once
        # emptied.
        self.flagged: dict[Any, None] = {}
        # Whether every key may hold a zero, flagged or not: there were so many flags that to look through the table
        # costs no more, and a decrement need not look for its flag.
        self.all_flagged = False
        # As many items as evictions are left until the table's size is looked at. An iterator and not a number:
        # to take one is half the cost of counting down and storing, and 1.5 % of the rate of an evicting `decr`.
        self.evictions_left = repeat(None, COMPACTION_EVICTIONS_MIN)
        # The most keys there can have been since keys were last moved.
        self.keys_max = COMPACTION_EVICTIONS_MIN

    def flag_all(self) -> None:
        """Flag every key if it costs little more than the flags that are there. Called after one was added."""
        if len(self.flagged) * ALL_FLAGGED_FROM > len(self.table):
            self.all_flagged = True

    def flagged_count(self) -> int:
        """How many keys are flagged at most; never 0 while `all_flagged` has to be taken back."""
        return max(1, len(self.table)) if self.all_flagged else len(self.flagged)

    def live_count(self) -> int:
        """How many counters there are. Cost: the number of flagged keys."""
        if self.all_flagged:
            return len(self.live_entries())
        if not self.flagged:
            return len(self.table)
        return len(self.table) - sum(not self.table.get(key, 1) for key in self.flagged)

    def live_entries(self) -> dict[Any, Any]:
        """A copy of the counters, without flagged zeros. Cost: the number of entries."""
        if not self.flagged and not self.all_flagged:
            return self.table.copy()
        return {key: value for key, value in self.table.copy().items() if value}

    def remove(self, key: Any, absent: Any) -> Any:
        """Take a key out and answer its value, `absent` if it had none."""
        value = self.table.pop(key, absent)
        if self.flagged:
            self.flagged.pop(key, None)
        self.count_eviction()
        return value or absent  # a flagged zero was absent to everyone

    def count_eviction(self) -> None:
        for _ in self.evictions_left:
            return
        self.compact()

    def compact(self) -> None:
        """Rebuild the table if it is mostly empty, and set when to look again. Cost: what is left in it.

        The next look is due when the table may have come to be mostly empty, if all changes until then were
        evictions. So a table that drains is caught at once, and one that flaps is looked at seldom.
        """
        table = self.table
        if not table:
            self.table = {**table}  # not {}: what making a dict lets in may have counted in the old one
            self.keys_max = COMPACTION_EVICTIONS_MIN
            self.evictions_left = repeat(None, COMPACTION_EVICTIONS_MIN)
            return
        sparse_below = self._sparse_below(table)
        if len(table) < sparse_below:
            if MOVE_KEYS_MIN <= self.keys_max > len(table) / MOVE_BELOW:
                self.move()
            # A display and not a call of `copy`: no other code of this thread can run, and change the old
            # table, between the copying and the storing.
            self.table = table = {**self.table}
            sparse_below = self._sparse_below(table)
        evictions = max(COMPACTION_EVICTIONS_MIN, len(table) - sparse_below)
        self.keys_max = max(self.keys_max, len(table) + evictions)
        self.evictions_left = repeat(None, evictions)

    def move(self) -> None:
        """Copy the keys, and the values that are large, so that the memory around the old ones can be given back.

        The allocator gives back what is wholly free, and survivors of a drain lie scattered. A key is copied if
        the table alone holds it: what the program holds too would stay where it is, and whoever looks for the
        very object that was given finds it. A table with keys of other types than str, bytes and int, which may
        be anything, is left as it is.
        """
        table = self.table
        moved: dict[Any, Any] = {}
        try:
            for key, value in table.items():
                kind = type(key)
                if kind is not str and kind is not bytes and kind is not int:
                    return
                if getrefcount(key) <= _ALONE:
                    key = ~~key if kind is int else key[:1] + key[1:]  # noqa: PLW2901
                moved[key] = ~~value if type(value) is int else value
        except RuntimeError:
            return  # what ran in between has changed the table; the next look tries again
        # As in `compact`: nothing can come between the comparison, which compares objects that are the same by
        # their addresses, and the storing.
        if moved == table:
            self.table = moved
            self.keys_max = len(moved)

    @staticmethod
    def _sparse_below(table: dict[Any, Any]) -> int:
        """With fewer entries than this a table of this size is mostly empty."""
        return (sys.getsizeof(table) - SPARSE_BYTES_MIN) // SPARSE_BYTES_PER_ENTRY

    def clear_flagged(self, keys_max: int) -> int:
        """Delete up to `keys_max` flagged keys that are still zero; answer how many were deleted.

        A key leaves `flagged` after it has left the table, so that one whose comparison raises stays flagged
        and is tried again.
        """
        cleared = 0
        if self.all_flagged:
            self._flag_each()
        table, flagged = self.table, self.flagged
        self.keys_max = max(self.keys_max, len(table))
        for _ in range(min(keys_max, len(flagged))):
            key = next(reversed(flagged))
            if not table.get(key, 1):
                del table[key]
                cleared += 1
            last, _ = flagged.popitem()
            if last is not key:  # the key's own comparison has flagged another meanwhile
                flagged[last] = None
                flagged.pop(key, None)
        if not flagged:
            self.flagged = {**flagged}  # the old one may be large, and a dict does not shrink
            self.compact()
        return cleared

    def _flag_each(self) -> None:
        """Flag the keys of all zeros, each by itself."""
        self.all_flagged = False  # before looking: what comes to zero meanwhile flags itself
        try:
            for key, value in self.table.copy().items():
                if not value:
                    self.flagged[key] = None
        except BaseException:
            self.all_flagged = True  # a key's own comparison has failed
            raise


def _references(table: dict[Any, Any]) -> int:
    """How many references a loop as in `move` sees to a key that the table alone holds: it differs by version."""
    return next(getrefcount(key) for key, _ in table.items())


_ALONE = _references({str(object()): 1})
