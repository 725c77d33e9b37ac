"""When counters expire: two timing wheels. Sans-IO; time is a whole number of milliseconds that comes in.

The near wheel has a slot for each of the next 65 536 milliseconds. What lies farther ahead stands in the later
wheel, whose slots are grains of 64 milliseconds, 16 384 of them: a lap of 17.5 minutes, and deadlines that are laps
apart share a slot. When a grain's time comes, what is due in it is poured into the near wheel, and what belongs to
a later lap stays; then the near wheel's slots are visited one by one, and all that a slot holds is due. (Scheme 7
of Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, with scheme 6 for its upper wheel.)

Why wheels and not a heap: a counter that goes away early takes its deadline with it in O(1), so counters that
come and go leave nothing behind; and a slot is a dict of bytes to int, which the garbage collector does not
track (up to Python 3.13; from 3.14 all slots are made at once, before the collector's heap is frozen).

Why two: in one wheel of milliseconds, a million counters that live for an hour are looked at every 65 seconds,
which costs 150 to 450 ms each time. Grains are short because a slot is one dict, and the moment in which a large
dict grows is long.

Costs: add and discard O(1); taking out costs O(1) per deadline, and O(1) more for each 17.5 minutes it lay ahead. A
slot is rebuilt by each visit, so its memory follows what it holds.
"""

from __future__ import annotations

import sys
from typing import Final

SLOTS: Final = 1 << 16
_MASK: Final = SLOTS - 1

GRAIN_BITS: Final = 6
LATER_SLOTS: Final = 1 << 14
_LATER_MASK: Final = LATER_SLOTS - 1

assert SLOTS >= 1 << GRAIN_BITS, "a grain must fit into the near wheel"

_ALL_DICTS_ARE_TRACKED: Final = sys.version_info >= (3, 14)

_EMPTY_SLOTS_PER_ENTRY: Final = 32
"""Passing an empty slot costs about a thirtieth of taking a deadline out."""

Slots = list[dict[bytes, int] | None]


def _slots(count: int) -> Slots:
    """A slot that was never used is None, but for Pythons that would track a dict made later."""
    return [{} if _ALL_DICTS_ARE_TRACKED else None for _ in range(count)]


class DeadlineWheel:
    """Keys by the millisecond in which they expire. A key has one deadline at most; its owner keeps which."""

    __slots__ = ("_kept", "_later", "_near", "_near_count", "_poured", "count", "passed_ms", "visited")

    def __init__(self) -> None:
        self._near = _slots(SLOTS)  # by millisecond: deadlines at most a lap after `passed_ms`
        self._later = _slots(LATER_SLOTS)  # by grain: all others
        # What the visit of a grain under way has found to belong to a later lap; takes the slot's place at its end.
        self._kept: dict[bytes, int] = {}
        self._near_count = 0  # deadlines in the near wheel
        self._poured = 0  # the last grain that was poured: that of `passed_ms`, or the next one has just begun
        self.count = 0  # deadlines in both wheels
        self.visited = 0  # deadlines looked at since the start, those included that belonged to a later lap
        self.passed_ms = 0  # all slots up to this time have been visited; after a long pause, some will be yet

    def add(self, key: bytes, deadline_ms: int, now_ms: int) -> None:
        """Note that `key` expires at `deadline_ms`, after now. The key has no other deadline in the wheel."""
        if not self.count:
            self._begin_at(now_ms)
        if deadline_ms - self.passed_ms <= SLOTS:
            slots, index = self._near, deadline_ms & _MASK
            self._near_count += 1
        else:
            slots, index = self._later, (deadline_ms >> GRAIN_BITS) & _LATER_MASK
        slot = slots[index]
        if slot is None:
            slot = slots[index] = {}
        slot[key] = deadline_ms
        self.count += 1

    def _begin_at(self, now_ms: int) -> None:
        """With no deadline anywhere, there is nothing to be found up to now."""
        self.passed_ms = now_ms
        self._poured = now_ms >> GRAIN_BITS

    def discard(self, key: bytes, deadline_ms: int) -> None:
        """Forget a key's deadline, which must be in the wheel."""
        slot = self._near[deadline_ms & _MASK]
        if slot and slot.pop(key, None) is not None:
            self._near_count -= 1
        else:
            slot = self._far_slot(key, deadline_ms)
            del slot[key]
        if not slot:
            slot.clear()  # taking out leaves the table at its size
        self.count -= 1

    def _far_slot(self, key: bytes, deadline_ms: int) -> dict[bytes, int]:
        """Where a deadline stands that is not in the near wheel."""
        slot = self._later[(deadline_ms >> GRAIN_BITS) & _LATER_MASK]
        return slot if slot and key in slot else self._kept

    def due(self, now_ms: int, enough: int) -> int:
        """How many deadlines have come at `now_ms` and are still here. Stops counting when `enough` were found.

        O(milliseconds not visited yet, at most a lap of them, + deadlines that stand there and in the last grain).
        """
        if not self.count:
            return 0
        found = sum(deadline_ms <= now_ms for deadline_ms in self._kept.values())
        if self._near_count:
            for at in range(self.passed_ms + 1, min(now_ms, self.passed_ms + SLOTS) + 1):
                if found >= enough:
                    break
                found += len(self._near[at & _MASK] or ())
        for grain in range(self._poured + 1, min(now_ms >> GRAIN_BITS, self._poured + LATER_SLOTS) + 1):
            if found >= enough:
                break
            slot = self._later[grain & _LATER_MASK]
            if slot:
                found += sum(deadline_ms <= now_ms for deadline_ms in slot.values())
        return found

    def take_due(self, now_ms: int, entries_max: int) -> tuple[list[tuple[bytes, int]], bool]:
        """Take out up to about `entries_max` deadlines that have come; and whether no more are due at `now_ms`."""
        due: list[tuple[bytes, int]] = []
        if not self.count:
            self._begin_at(now_ms)
            return due, True
        left = entries_max
        while self.passed_ms < now_ms and left > 0:
            if (self.passed_ms + 1) >> GRAIN_BITS > self._poured:
                if not self._near_count:
                    left -= self._skip_grains(now_ms, left * _EMPTY_SLOTS_PER_ENTRY) // _EMPTY_SLOTS_PER_ENTRY
                if self.passed_ms < now_ms and left > 0:
                    left = self._pour(now_ms, left, due)
                continue
            stop = min(now_ms, ((self._poured + 1) << GRAIN_BITS) - 1)
            left -= self._skip_empty(stop, left * _EMPTY_SLOTS_PER_ENTRY) // _EMPTY_SLOTS_PER_ENTRY
            if self.passed_ms >= stop or left <= 0:
                continue
            slot = self._near[(self.passed_ms + 1) & _MASK]
            assert slot is not None
            taken = min(len(slot), left)
            due += [slot.popitem() for _ in range(taken)]
            left -= taken
            self.visited += taken
            self.count -= taken
            self._near_count -= taken
            if not slot:
                slot.clear()
                self.passed_ms += 1
        return due, self.passed_ms >= now_ms

    def _skip_empty(self, stop_ms: int, slots_max: int) -> int:
        """Pass over milliseconds with nothing inside, within a grain that is poured; how many were looked at."""
        start_ms = self.passed_ms + 1
        if not self._near_count:
            self.passed_ms = stop_ms
            return 0
        slots = self._near
        at = start_ms
        stop_ms = min(stop_ms, start_ms + slots_max - 1)
        while at <= stop_ms and not slots[at & _MASK]:
            at += 1
        self.passed_ms = at - 1
        return at - start_ms

    def _skip_grains(self, now_ms: int, slots_max: int) -> int:
        """Pass over grains with nothing inside, with the near wheel empty; how many were looked at."""
        if self._kept:
            return 0  # a visit is under way
        slots = self._later
        last = now_ms >> GRAIN_BITS
        # After a pause of more than a lap one round visits every slot.
        start = grain = max(self._poured, last - LATER_SLOTS) + 1
        stop = min(last, start + slots_max - 1)
        while grain <= stop and not slots[grain & _LATER_MASK]:
            grain += 1
        self._poured = grain - 1
        self.passed_ms = min(now_ms, (grain << GRAIN_BITS) - 1)
        return grain - start

    def _pour(self, now_ms: int, entries_max: int, due: list[tuple[bytes, int]]) -> int:
        """Visit the next grain: what has come is `due`, what comes in it goes to its millisecond, what belongs to a
        later lap stays. Gives back how many of the entries are left."""
        grain = self._poured + 1
        slot = self._later[grain & _LATER_MASK]
        left = entries_max
        while slot and left > 0:
            key, deadline_ms = slot.popitem()
            left -= 1
            self.visited += 1
            if deadline_ms <= now_ms:
                due.append((key, deadline_ms))
                self.count -= 1
            elif deadline_ms >> GRAIN_BITS > grain:
                self._kept[key] = deadline_ms
            else:
                near = self._near[deadline_ms & _MASK]
                if near is None:
                    near = self._near[deadline_ms & _MASK] = {}
                near[key] = deadline_ms
                self._near_count += 1
        if not slot:
            if slot is not None:
                self._finish_visit(grain & _LATER_MASK, slot)
            self._poured = grain
        return left

    def _finish_visit(self, index: int, emptied: dict[bytes, int]) -> None:
        emptied.clear()
        if self._kept:
            # The two dicts change places, so the ones the collector never looks at stay the same ones.
            self._later[index], self._kept = self._kept, emptied

    def replace(self, copy: bytes, deadline_ms: int) -> None:
        """Put an equal key object in the place of the one that is there, so the old one's memory can go."""
        slot = self._near[deadline_ms & _MASK]
        if not slot or copy not in slot:
            slot = self._far_slot(copy, deadline_ms)
        del slot[copy]
        slot[copy] = deadline_ms

    def swap_out(self) -> list[dict[bytes, int]]:
        """Forget all deadlines in one step; what held them, for somebody to empty at leisure. O(slots)."""
        full = [self._kept] if self._kept else []
        self._kept = {}
        for slots in (self._near, self._later):
            for index, slot in enumerate(slots):
                if slot:
                    full.append(slot)
                    slots[index] = {}
        self.count = self._near_count = 0
        return full

    def entries(self) -> dict[bytes, int]:
        """All of it, for the check of invariants. O(slots + deadlines)."""
        found = dict(self._kept)
        for slots in (self._near, self._later):
            for slot in slots:
                if slot:
                    found.update(slot)
        return found
