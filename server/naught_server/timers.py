"""What time alone brings about at a set moment: a wait that runs out, a lease that ends. Sans-IO.

A heap of times. An alarm that is cancelled stays in it until its time comes, or until such ones are the larger part:
most waits end long before they run out, and taking an entry out of the middle of a heap costs more than all of this.

Counters that expire are not here: there are millions of them, and the sweeper's wheel (`deadlines.py`) is theirs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

Ring = Callable[[int], None]

_PRUNE_AT: Final = 1_024
"""Fewer cancelled alarms than this are not worth a look."""


class Alarm:
    """One moment, and what to do then; see `Alarms.set`."""

    __slots__ = ("due_ms", "ring")

    def __init__(self, due_ms: int, ring: Ring) -> None:
        self.due_ms = due_ms
        self.ring: Ring | None = ring  # None once it rang or was cancelled


class Alarms:
    """All alarms of one engine. Whoever owns the engine asks `next_due`, and calls `step` when that has come."""

    __slots__ = ("_cancelled", "_heap", "_number", "sooner")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Alarm]] = []  # by time, then in the order they were set
        self._number = 0  # alarms set since the start
        self._cancelled = 0  # how many in the heap will not ring
        self.sooner: Callable[[], None] = _nobody  # called when `next_due` has become earlier

    def __len__(self) -> int:
        """How many will ring."""
        return len(self._heap) - self._cancelled

    def set(self, due_ms: int, ring: Ring) -> Alarm:
        """Have `ring(now_ms)` called once it is `due_ms`. O(log n)."""
        alarm = Alarm(due_ms, ring)
        self._number += 1
        heapq.heappush(self._heap, (due_ms, self._number, alarm))
        if self._heap[0][2] is alarm:
            self.sooner()
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """Let it not ring. Nothing happens when it has rung, or was cancelled before. O(1) over time."""
        if alarm.ring is None:
            return
        alarm.ring = None
        self._cancelled += 1
        if self._cancelled > _PRUNE_AT and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].ring is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_due(self) -> int | None:
        """The time of the next to ring; None when there is none."""
        heap = self._heap
        while heap and heap[0][2].ring is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def step(self, now_ms: int, entries_max: int) -> int:
        """Ring what is due, in the order of time, at most so many; how many rang."""
        rang = 0
        while rang < entries_max:
            due_ms = self.next_due()
            if due_ms is None or due_ms > now_ms:
                break
            alarm = heapq.heappop(self._heap)[2]
            ring, alarm.ring = alarm.ring, None
            assert ring is not None
            rang += 1
            ring(now_ms)
        return rang


def _nobody() -> None:
    """Nobody waits for the time."""
