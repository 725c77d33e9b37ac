"""When counters expire: a hashed timing wheel. Sans-IO; time is a whole number of milliseconds that comes in.

The wheel has a slot for each of 65 536 consecutive milliseconds; a deadline stands in the slot of its number modulo
that, so deadlines a lap (65.5 s) apart share one. A slot is visited when its millisecond has come: what is due
comes out, what belongs to a later lap stays. (Scheme 6 of Varghese and Lauck, "Hashed and Hierarchical Timing
Wheels", 1987.)

Why a wheel and not a heap: a counter that goes away early takes its deadline with it in O(1), so counters that
come and go leave nothing behind; and a slot is a dict of bytes to int, which the garbage collector does not
track (up to Python 3.13; from 3.14 all slots are made at once, before the collector's heap is frozen).

Costs: add and discard O(1); taking out costs O(1) per deadline and lap. A slot is rebuilt by each visit, so
its memory follows what it holds.
"""

from __future__ import annotations

import sys
from typing import Final

SLOTS: Final = 1 << 16
_MASK: Final = SLOTS - 1

_ALL_DICTS_ARE_TRACKED: Final = sys.version_info >= (3, 14)

_EMPTY_SLOTS_PER_ENTRY: Final = 32
"""Passing an empty slot costs about a thirtieth of taking a deadline out."""


class DeadlineWheel:
    """Keys by the millisecond in which they expire. A key has one deadline at most; its owner keeps which."""

    __slots__ = ("_kept", "_slots", "count", "passed_ms", "visited")

    def __init__(self) -> None:
        # A slot that was never used is None, but for Pythons that would track a dict made later.
        self._slots: list[dict[bytes, int] | None] = [{} if _ALL_DICTS_ARE_TRACKED else None for _ in range(SLOTS)]
        # What a visit under way has found to belong to a later lap; takes the slot's place at the visit's end.
        self._kept: dict[bytes, int] = {}
        self.count = 0  # deadlines in the wheel
        self.visited = 0  # deadlines looked at since the start, those included that belonged to a later lap
        self.passed_ms = 0  # all slots up to this time have been visited since their time came

    def add(self, key: bytes, deadline_ms: int, now_ms: int) -> None:
        """Note that `key` expires at `deadline_ms`, after now. The key has no other deadline in the wheel."""
        if not self.count:
            self.passed_ms = now_ms
        slot = self._slots[deadline_ms & _MASK]
        if slot is None:
            slot = self._slots[deadline_ms & _MASK] = {}
        slot[key] = deadline_ms
        self.count += 1

    def discard(self, key: bytes, deadline_ms: int) -> None:
        """Forget a key's deadline, which must be in the wheel."""
        slot = self._slots[deadline_ms & _MASK]
        assert slot is not None
        if slot.pop(key, None) is None:
            del self._kept[key]
        elif not slot:
            slot.clear()  # pop() leaves the table at its size
        self.count -= 1

    def due(self, now_ms: int, enough: int) -> int:
        """How many deadlines have come at `now_ms` and are still here. Stops counting when `enough` were found.

        O(milliseconds not visited yet, at most a lap of them, + deadlines that stand there).
        """
        if not self.count:
            return 0
        found = sum(deadline_ms <= now_ms for deadline_ms in self._kept.values())
        for at in range(self.passed_ms + 1, min(now_ms, self.passed_ms + SLOTS) + 1):
            if found >= enough:
                break
            slot = self._slots[at & _MASK]
            if slot:
                found += sum(deadline_ms <= now_ms for deadline_ms in slot.values())
        return found

    def take_due(self, now_ms: int, entries_max: int) -> tuple[list[tuple[bytes, int]], bool]:
        """Take out up to about `entries_max` deadlines that have come; and whether no more are due at `now_ms`."""
        due: list[tuple[bytes, int]] = []
        if not self.count:
            self.passed_ms = now_ms
            return due, True
        left = entries_max
        while self.passed_ms < now_ms:
            if not self._kept:
                # After a pause of more than a lap one round visits every slot.
                self.passed_ms = max(self.passed_ms, now_ms - SLOTS)
            at = self.passed_ms + 1
            left -= self._skip_empty(at, now_ms, left * _EMPTY_SLOTS_PER_ENTRY) // _EMPTY_SLOTS_PER_ENTRY
            if self.passed_ms >= now_ms or left <= 0:
                break
            at = self.passed_ms + 1
            slot = self._slots[at & _MASK]
            assert slot is not None
            while slot and left > 0:
                key, deadline_ms = slot.popitem()
                left -= 1
                self.visited += 1
                if deadline_ms <= now_ms:
                    due.append((key, deadline_ms))
                    self.count -= 1
                else:
                    self._kept[key] = deadline_ms
            if slot:
                break
            self._finish_visit(at & _MASK, slot)
            self.passed_ms = at
        return due, self.passed_ms >= now_ms

    def _skip_empty(self, start_ms: int, now_ms: int, slots_max: int) -> int:
        """Pass over slots with nothing inside; how many."""
        slots = self._slots
        if self._kept:
            return 0  # a visit is under way
        at = start_ms
        stop = min(now_ms, start_ms + slots_max - 1)
        while at <= stop and not slots[at & _MASK]:
            at += 1
        self.passed_ms = at - 1
        return at - start_ms

    def _finish_visit(self, index: int, emptied: dict[bytes, int]) -> None:
        emptied.clear()
        if self._kept:
            # The two dicts change places, so the ones the collector never looks at stay the same ones.
            self._slots[index], self._kept = self._kept, emptied

    def replace(self, copy: bytes, deadline_ms: int) -> None:
        """Put an equal key object in the place of the one that is there, so the old one's memory can go."""
        self.discard(copy, deadline_ms)
        self.add(copy, deadline_ms, self.passed_ms)

    def swap_out(self) -> list[dict[bytes, int]]:
        """Forget all deadlines in one step; what held them, for somebody to empty at leisure. O(slots)."""
        full = [self._kept] if self._kept else []
        self._kept = {}
        for index, slot in enumerate(self._slots):
            if slot:
                full.append(slot)
                self._slots[index] = {}
        self.count = 0
        return full

    def entries(self) -> dict[bytes, int]:
        """All of it, for the check of invariants. O(slots + deadlines)."""
        found = dict(self._kept)
        for slot in self._slots:
            if slot:
                found.update(slot)
        return found
