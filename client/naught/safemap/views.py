"""The views that `items` and `values` of a SafeMap return.

The views of `collections.abc` loop over the keys and then read each value, and a key can be evicted in between.
These loop over a copy of one shard after another.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any, Protocol

from naught.safemap.numbers import K, V


class CopiedByShard(Protocol[K, V]):
    """What a view calls of its map."""

    def _copies(self) -> Iterator[dict[K, V]]:
        """Return the counters of one shard after another, each copied at one instant."""


class Items(ItemsView[K, V]):
    """The keys and values of a map."""

    __slots__ = ()
    _mapping: CopiedByShard[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for entries in self._mapping._copies():
            yield from entries.items()


class Values(ValuesView[V]):
    """The values of a map."""

    __slots__ = ()
    _mapping: CopiedByShard[Any, V]

    def __iter__(self) -> Iterator[V]:
        for entries in self._mapping._copies():
            yield from entries.values()

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)
