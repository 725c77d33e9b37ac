"""One table of a SafeMap: a dict with its lock, the flagged zeros in it, and the compaction that rebuilds it.

SafeMap takes the lock and then calls the methods here. Its hot methods, `incr` and `decr`, read and write `table`
and `flagged` themselves.
"""

from __future__ import annotations

import sys
from itertools import repeat
from sys import getrefcount
from typing import Any

from naught.safemap.locks import Lock

# A dict takes up to 120 bytes an entry just after it has grown, and up to 60 just after it was rebuilt. A dict with
# more bytes an entry than this is mostly empty, and one that was rebuilt stays far below it.
SPARSE_BYTES_PER_ENTRY = 160
# A table of fewer bytes is not worth rebuilding. The smallest dict with an entry has 232 bytes.
SPARSE_BYTES_MIN = 256
# Evictions between two checks of a small table's size, so a shard keeps up to 9 KiB of empty table. With 16 a
# decrement that evicts reached 92 % of the rate without eviction, with 256 it reaches 97 %. With 512 it reached
# 93 %, because tables were rebuilt too late to stay in the processor's cache.
COMPACTION_EVICTIONS_MIN = 256
# When more than one key in four is flagged, all keys count as flagged.
ALL_FLAGGED_FROM = 4
# Keys are moved when fewer are left than this part of the most that the shard has had since they were last moved. A
# drain so moves at most one key for seven evictions. With 0.4 it moved two for three, and the decrements of a map
# that drains as a whole took a sixth longer.
MOVE_BELOW = 0.125
# Keys are moved only if the shards had at least this many together. In a smaller map, moving could release two or
# three megabytes.
MOVE_KEYS_MIN = 32_768


class Shard:
    """One table of a map, with its lock. The caller of a method holds the lock."""

    __slots__ = ("all_flagged", "evictions_left", "flagged", "keys_max", "lock", "move_from", "table")

    def __init__(self, shard_count: int = 1) -> None:
        # Held for every access to the other fields. Reentrant, for the reason in the docstring of the package.
        self.lock = Lock()
        # Key -> value. With deferred eviction also zeros that are not deleted yet, as the int 0 for every type.
        self.table: dict[Any, Any] = {}
        # The keys that may have a zero in `table`: every key that has one, and some that were incremented since. A
        # dict and not a set, because storing into a dict is not a call. Replaced by a new dict once it is empty.
        self.flagged: dict[Any, None] = {}
        # Whether every key counts as flagged. With so many flags, a sweep over the whole table costs no more, and a
        # decrement need not look for the flag of its key.
        self.all_flagged = False
        # Has one item for each eviction that is left until the table's size is checked. An iterator and not a
        # number: taking an item costs half as much as counting down and storing, which was 1.5 % of the rate of a
        # `decr` that evicts.
        self.evictions_left = repeat(None, COMPACTION_EVICTIONS_MIN)
        # Keys are moved only if the table had at least this many.
        self.move_from = MOVE_KEYS_MIN // shard_count
        # The most keys that the table may have had since keys were last moved.
        self.keys_max = COMPACTION_EVICTIONS_MIN

    def flag_all(self) -> None:
        """Let every key count as flagged, if many are flagged. Called after a key was flagged."""
        if len(self.flagged) * ALL_FLAGGED_FROM > len(self.table):
            self.all_flagged = True

    def flagged_count(self) -> int:
        """Return the most keys that can be flagged; never 0 while `all_flagged` is set, so that a sweep resets it."""
        return max(1, len(self.table)) if self.all_flagged else len(self.flagged)

    def live_count(self) -> int:
        """Return how many counters there are. Cost: the number of flagged keys."""
        if self.all_flagged:
            return len(self.live_entries())
        if not self.flagged:
            return len(self.table)
        # Of a copy, as a comparison or a signal handler may flag another key meanwhile.
        return len(self.table) - sum(not self.table.get(key, 1) for key in [*self.flagged])

    def live_entries(self) -> dict[Any, Any]:
        """Return a copy of the counters, without flagged zeros. Cost: the number of entries."""
        table = self.table
        entries = table.copy()
        # Looked at now, as copying may compare keys.
        if not self.flagged and not self.all_flagged and table is self.table:
            return entries
        return {key: value for key, value in entries.items() if value}

    def remove(self, key: Any, absent: Any) -> Any:
        """Delete a key and return its value, `absent` if it had none."""
        value = self.table.pop(key, absent)
        self.count_eviction()
        return value or absent  # a flagged zero is an absent counter

    def clear(self) -> None:
        """Evict every counter, and release the memory of the table."""
        old = self.table, self.flagged
        # Both made before one is stored, and the old ones kept to the end: the finalizers of keys may use the map.
        self.table, self.flagged = {}, {}
        self.all_flagged = False
        self.compact()
        del old

    def count_eviction(self) -> None:
        """Check the table's size when the evictions until the next check are used up."""
        for _ in self.evictions_left:
            return
        self.compact()

    def compact(self) -> None:
        """Rebuild the table if it is mostly empty, and set when to check again. Cost: the entries left in it.

        The next check is due when the table could have become mostly empty, if every change until then were an
        eviction. A table that drains is so rebuilt without delay, and one that flaps is seldom checked.
        """
        table = self.table
        if not table:
            # Not {}: making a dict can run other code, which may have counted in the old table.
            self.table = {**table}
            self.keys_max = COMPACTION_EVICTIONS_MIN
            self.evictions_left = repeat(None, COMPACTION_EVICTIONS_MIN)
            return
        sparse_below = self._sparse_below(table)
        if len(table) < sparse_below:
            if self.move_from <= self.keys_max > len(table) / MOVE_BELOW:
                self.move()
            # A display and not a call of `copy`, so that no other code of this thread can run between copying and
            # storing, and change the old table.
            self.table = table = {**self.table}
            sparse_below = self._sparse_below(table)
        evictions = max(COMPACTION_EVICTIONS_MIN, len(table) - sparse_below)
        self.keys_max = max(self.keys_max, len(table) + evictions)
        self.evictions_left = repeat(None, evictions)

    def move(self) -> None:
        """Copy the keys and the large values, so that the memory around the old ones can be released.

        The allocator releases only memory that is wholly free, and the survivors of a drain are scattered over it.
        A key is copied only if nothing but the table refers to it: otherwise the old object would stay in memory,
        and the program may rely on finding the object that it passed in. A table with a key of any other type than
        str, bytes and int is left as it is, because nothing is known about copying such a key.
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
            return  # other code ran in between and changed the table's size; the next check tries again
        # As in `compact`, no other code can run between comparing and storing. The comparison runs none: keys are of
        # built-in types, and values are the same objects or ints.
        if moved == table:
            self.table = moved
            self.keys_max = len(moved)

    @staticmethod
    def _sparse_below(table: dict[Any, Any]) -> int:
        """Return the number of entries below which a table of this size is mostly empty."""
        return (sys.getsizeof(table) - SPARSE_BYTES_MIN) // SPARSE_BYTES_PER_ENTRY

    def clear_flagged(self, keys_max: int) -> int:
        """Take up to `keys_max` keys from `flagged` and delete those that are still zero; return how many were.

        A key leaves `flagged` after it has left the table. So a key whose comparison raises stays flagged, and the
        next sweep tries it again. Nothing is done from inside another method, which a key's comparison, a finalizer
        or a signal handler has interrupted: it may have flagged a key and not yet stored its zero.
        """
        cleared = 0
        if self.lock.depth() > 1:
            return 0
        # Only when no flag is left. Other threads set `all_flagged` again while a sweep takes its keys, and a look at
        # the whole table for each batch would take the square of the table's size.
        if self.all_flagged and not self.flagged:
            self._flag_each()
        flagged = self.flagged
        self.keys_max = max(self.keys_max, len(self.table))
        for _ in range(min(keys_max, len(flagged))):
            key = next(reversed(flagged))
            while True:
                table = self.table
                if not table.get(key, 1) and not table.pop(key, 1):
                    cleared += 1
                if table is self.table:  # a comparison may have led to another
                    break
            last, _ = flagged.popitem()
            if last is not key:  # the key's own comparison has flagged another key meanwhile
                flagged[last] = None
        if not self.flagged:
            self.flagged = {**self.flagged}  # the old dict may be large, and a dict does not shrink
            self.compact()
        return cleared

    def _flag_each(self) -> None:
        """Replace `all_flagged` by a flag for each key that has a zero."""
        self.all_flagged = False  # first, so that a key that comes to zero meanwhile is flagged by its decrement
        try:
            for key, value in self.table.copy().items():
                if not value:
                    self.flagged[key] = None
        except BaseException:
            self.all_flagged = True  # a key's own comparison has raised
            raise


def _references(table: dict[Any, Any]) -> int:
    """Return how many references a loop as in `move` sees to a key that only the table refers to."""
    return next(getrefcount(key) for key, _ in table.items())


# The number of references to such a key. It differs between versions of Python.
_ALONE = _references({str(object()): 1})
