"""The largest of many things, found some entries at a time, again and again. Sans-IO.

The page shows the largest counters and the sessions with the most holds. With millions of counters a walk over them
takes a second, so it is taken in small steps while somebody looks at the page, and shows when it ended. A walk sees
each thing as it is in the step that reaches it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")

Pieces = Iterator[Sequence[tuple[int, T]]]
"""Things with their ranks, some at a time."""


class Ranking(Generic[T]):
    """The `count` things of the highest rank."""

    def __init__(self, walk: Callable[[int], Pieces[T]], count: int) -> None:
        """`walk(entries_max)` walks over all things in pieces, each of about `entries_max` entries at most, and looks
        at none before its piece is asked for."""
        self._walk: Final = walk
        self._count: Final = count
        self._pieces: Pieces[T] | None = None  # of the walk under way
        self._best: list[tuple[int, T]] = []  # of that walk so far, the highest first
        self._began_ms = 0
        self.found: list[tuple[int, T]] | None = None  # of the last walk that ended
        self.found_ms = 0  # when that walk began: what it found was true then or later

    def step(self, now_ms: int, entries_max: int, every_ms: int) -> None:
        """Go on with the walk, or begin one where the last began `every_ms` ago or earlier."""
        if self._pieces is None:
            if self.found is not None and now_ms - self._began_ms < every_ms:
                return
            self._began_ms = now_ms
            self._best = []
            self._pieces = self._walk(entries_max)
        piece = next(self._pieces, None)
        if piece is None:
            self.found, self.found_ms = self._best, self._began_ms
            self._pieces = None
            return
        least = self._best[-1][0] if len(self._best) == self._count else -1
        better = [each for each in piece if each[0] > least]
        if better:
            self._best = heapq.nlargest(self._count, self._best + better, key=_rank)

    def stop(self) -> None:
        """Forget what was found, and the walk under way."""
        self._pieces = None
        self._best = []
        self.found = None


def _rank(each: tuple[int, object]) -> int:
    return each[0]
