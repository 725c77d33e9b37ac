"""`Marks`: a filter in front of the tables of what waits and what is held, for the hot path. Pure.

A decrement must look whether its key has waiters or holds. These are in three tables, and most keys are in none. So
a key that enters one of them gets a mark: some bits of its hash are the place of it. The hot path looks there first,
and into the tables only where there is a mark.

A mark stays when its key has left the tables, as other keys may have the same. Then it costs look-ups and nothing
else. The sweeper makes the marks anew now and then (`sweep.ShrinkWatched`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

MARK_SHIFT: Final = 24
"""The first bit of a hash that tells the place of its mark. These bits tell nothing else: see `hot.SHARD_SHIFT`."""

MARKS: Final = 1 << 11
"""Places of marks, in 16 KiB for a cache. With a hundred keys that are held, one of twenty others has a mark."""

MARKED_MAX: Final = 2 * MARKS
"""With more keys than this nearly every place has a mark, and to make the marks anew would be of no use."""


class Marks:
    """Which keys may be in one of some tables. No key that is in one is without a mark."""

    __slots__ = ("_added", "_rebuilt", "places")

    def __init__(self) -> None:
        self.places: Final[list[int]] = [0] * MARKS  # 1 is a mark; the hot path has this list
        self._added = 0  # calls of `add`, those of `rebuild` included
        self._rebuilt = (0, 0)  # how many there were when the marks were last made anew, and for how many keys

    def add(self, key: bytes) -> None:
        """This key enters one of the tables."""
        self._added += 1
        self.places[hash(key) >> MARK_SHIFT & MARKS - 1] = 1

    def rebuild(self, tables: list[Collection[bytes]]) -> int:
        """Take away marks of keys that are in none of these any more. Returns the entries of work: O(keys). Nothing
        is done where they are more than `MARKED_MAX`, or where nothing has changed."""
        keys = sum(map(len, tables))
        if keys > MARKED_MAX or self._rebuilt == (self._added, keys):
            return 0
        self.places[:] = [0] * MARKS
        for table in tables:
            for key in table:
                self.add(key)
        self._rebuilt = (self._added, keys)
        return keys
