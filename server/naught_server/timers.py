"""Callbacks at a set time: a wait that runs out, a lease that ends. Sans-IO: the time is an argument.

The timers are a heap. A cancelled timer stays in the heap until its time comes, or until more than half of the heap
is cancelled: most waits end long before they run out, and removing an entry from the middle of a heap costs more.

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

    __slots__ = ("_cancelled", "_heap", "_number", "_on_earlier")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []  # by time, then in the order they were set
        self._number = 0  # timers set since the start
        self._cancelled = 0  # timers in the heap that are cancelled
        self._on_earlier: Callable[[], None] = _ignore  # called when `next_due` has become earlier

    def __len__(self) -> int:
        """Timers that are set and not cancelled."""
        return len(self._heap) - self._cancelled

    def watch(self, on_earlier: Callable[[], None]) -> None:
        """Have `on_earlier` called whenever `next_due` becomes earlier, so that the owner can wake up in time."""
        self._on_earlier = on_earlier

    def set(self, due_ms: int, callback: Callback) -> Timer:
        """Have `callback(now_ms)` called at `due_ms` or soon after. O(log n)."""
        timer = Timer(due_ms, callback)
        self._number += 1
        heapq.heappush(self._heap, (due_ms, self._number, timer))
        if self._heap[0][2] is timer:
            self._on_earlier()
        return timer

    def cancel(self, timer: Timer) -> None:
        """Do not call it. Does nothing when it was called or cancelled before. O(1) amortized."""
        if timer.take() is None:
            return
        self._cancelled += 1
        if self._cancelled > _PRUNE_MIN and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_due(self) -> int | None:
        """The earliest time a timer is set for; None when there is none."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def fire_due(self, now_ms: int, entries_max: int) -> int:
        """Call what is due, in the order of time, up to about `entries_max` entries of work: one for each call, and
        what it returns. Returns how many were done."""
        done = 0
        while done < entries_max:
            due_ms = self.next_due()
            if due_ms is None or due_ms > now_ms:
                break
            callback = heapq.heappop(self._heap)[2].take()
            assert callback is not None, "next_due drops cancelled timers"
            done += 1 + (callback(now_ms) or 0)
        return done


def _ignore() -> None:
    """The owner has not asked to be woken."""
