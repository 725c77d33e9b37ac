"""What `items` and `values` of a SafeMap answer."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, Any

from naught.safemap.numbers import K, V

if TYPE_CHECKING:
    from naught.safemap.map import SafeMap


class Items(ItemsView[K, V]):
    """The items of a map, by shard and not by key: a key can be gone before its value is asked for."""

    __slots__ = ()
    _mapping: SafeMap[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for entries in self._mapping._copies():
            yield from entries.items()


class Values(ValuesView[V]):
    """The values of a map, as `Items`."""

    __slots__ = ()
    _mapping: SafeMap[Any, V]

    def __iter__(self) -> Iterator[V]:
        for entries in self._mapping._copies():
            yield from entries.values()

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)
