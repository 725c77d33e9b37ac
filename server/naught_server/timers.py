"""Callbacks at a set time: a wait that runs out, a lease that ends. Sans-IO: the time is an argument.

The timers are a heap. A cancelled timer stays in the heap until its time comes, or until more than half of the heap
is cancelled: most waits end long before they run out, and removing an entry from the middle of a heap costs more.
Then a new heap takes its place, and each call moves some timers there from the end of the old one, which is a heap
without them too. So no call takes long, however many timers there are.

Counters that expire are not here. There can be millions of them, and `expiry.py` keeps them in a wheel.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

Callback = Callable[[int], int | None]
"""Called with `now_ms`. It may return the entries of work it has done."""

_PRUNE_MIN: Final = 1_024
"""Cancelled timers below which the heap is not pruned."""

_MOVED_AT_ONCE: Final = 8
"""Timers that are moved in one call. The old heap is empty before the new one has many cancelled ones."""

Entry = tuple[int, int, "Timer"]
"""When a timer is due, and its number."""


class Timer:
    """One callback and its time; see `Timers.set`."""

    __slots__ = ("callback", "due_ms")

    def __init__(self, due_ms: int, callback: Callback) -> None:
        self.due_ms: Final = due_ms
        self.callback: Callback | None = callback  # None once it was called or cancelled

    def take(self) -> Callback | None:
        """The callback, which the timer forgets; None when it was called or cancelled before."""
        callback, self.callback = self.callback, None
        return callback


class Timers:
    """All timers of one engine. The engine's owner asks `next_due`, and calls `fire_due` at that time."""

    __slots__ = ("_cancelled", "_heap", "_number", "_old", "_on_earlier")

    def __init__(self) -> None:
        self._heap: list[Entry] = []  # by time, then in the order they were set
        self._old: list[Entry] = []  # the heap before, with those that were not moved yet
        self._number = 0  # timers set since the start
        self._cancelled = 0  # timers in both that are cancelled
        self._on_earlier: Callable[[], None] = _ignore  # called when `next_due` has become earlier

    def __len__(self) -> int:
        """Timers that are set and not cancelled."""
        return len(self._heap) + len(self._old) - self._cancelled

    def watch(self, on_earlier: Callable[[], None]) -> None:
        """Have `on_earlier` called whenever `next_due` becomes earlier, so that the owner can wake up in time."""
        self._on_earlier = on_earlier

    def set(self, due_ms: int, callback: Callback) -> Timer:
        """Have `callback(now_ms)` called at `due_ms` or soon after. O(log n)."""
        timer = Timer(due_ms, callback)
        self._number += 1
        heapq.heappush(self._heap, (due_ms, self._number, timer))
        if self._heap[0][2] is timer and not (self._old and self._old[0] < self._heap[0]):
            self._on_earlier()
        if self._old:
            self._move()
        return timer

    def cancel(self, timer: Timer) -> None:
        """Do not call it. Does nothing when it was called or cancelled before. O(log n)."""
        if timer.take() is None:
            return
        self._cancelled += 1
        if self._old:
            self._move()
        elif self._cancelled > _PRUNE_MIN and self._cancelled * 2 > len(self._heap):
            self._old, self._heap = self._heap, []

    def _move(self) -> None:
        """Move some timers to the new heap, and drop those that are cancelled."""
        old = self._old
        for _ in range(min(_MOVED_AT_ONCE, len(old))):
            entry = old.pop()
            if entry[2].callback is None:
                self._cancelled -= 1
            else:
                heapq.heappush(self._heap, entry)

    def next_due(self) -> int | None:
        """The earliest time a timer is set for; None when there is none."""
        heap = self._first_heap()
        return heap[0][0] if heap else None

    def _first_heap(self) -> list[Entry]:
        """The one of the two heaps that has the earliest timer; an empty one where there is none."""
        for heap in (self._heap, self._old):
            while heap and heap[0][2].callback is None:
                heapq.heappop(heap)
                self._cancelled -= 1
        return self._old if self._old and not (self._heap and self._heap[0] < self._old[0]) else self._heap

    def fire_due(self, now_ms: int, entries_max: int) -> int:
        """Call what is due, in the order of time, up to about `entries_max` entries of work: one for each call, and
        what it returns. Returns how many were done."""
        done = 0
        while done < entries_max:
            heap = self._first_heap()
            if not heap or heap[0][0] > now_ms:
                break
            callback = heapq.heappop(heap)[2].take()
            assert callback is not None, "cancelled timers were dropped"
            done += 1 + (callback(now_ms) or 0)
        return done


def _ignore() -> None:
    """The owner has not asked to be woken."""
