"""Which counters expire when: the keys of those with a time to live, in two timing wheels. Sans-IO; `now_ms` is an
argument.

The wheels have keys only. The deadline of a key stands in the owner's table, and is asked for (`deadline_of`) where a
slot does not say it: a second copy would take 32 bytes for each counter.

The near wheel has a slot for each of the next 65 536 milliseconds. Later deadlines are in the later wheel. It has
16 384 slots, called grains, of 64 milliseconds each. One lap of it is 17.5 minutes; deadlines that are whole laps
apart share a grain.

When the time of a grain comes, it is poured: its deadlines of this lap move to the near wheel, and those of later
laps stay. Then the slots of the near wheel are visited one by one, and all deadlines in a slot are due. (Scheme 7 of
Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, with scheme 6 for its upper wheel.)

Why wheels and not a heap: the deadline of a counter that is evicted early is removed in O(1), so counters that are
created and evicted leave no memory behind. And a slot is a dict of bytes to None, which the garbage collector does
not track up to Python 3.13. From 3.14 on it tracks all dicts, so all slots are made at once, before its heap is
frozen. (A set would take up to twice the memory, and a list needs to know the place of each key.)

Why two wheels: in a single wheel of milliseconds, the deadlines of a million counters that live for an hour are
visited every 65 seconds, which takes 150 to 450 ms each time. Grains are short because a slot is one dict, and a
large dict takes long when it has to grow.

Costs: adding O(1), discarding O(1) amortized. Taking out O(1) for each deadline, and O(1) more for each lap it was
ahead. A slot is rebuilt by each visit, and when most of its deadlines were discarded, so its memory follows how many
it has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Set
from typing import Final

from naught_server.tables import capacity

DEADLINE_BITS: Final = 48
"""The bits of a deadline, in milliseconds of the server's clock: 8 900 years of them."""

DEADLINE_MASK: Final = (1 << DEADLINE_BITS) - 1
"""A counter with a time to live is one integer: `value << DEADLINE_BITS | deadline_ms`. It takes 32 bytes with
values to 2^12 - 1, else 48. This selects the deadline."""

SLOTS: Final = 1 << 16
"""Slots of the near wheel, one for each millisecond."""
_MASK: Final = SLOTS - 1

GRAIN_BITS: Final = 6
"""A grain has 2^6 milliseconds."""
LATER_SLOTS: Final = 1 << 14
"""Grains of the later wheel."""
_LATER_MASK: Final = LATER_SLOTS - 1

assert SLOTS >= 1 << GRAIN_BITS, "a grain must fit into the near wheel"

_ALL_DICTS_ARE_TRACKED: Final = sys.version_info >= (3, 14)

_EMPTY_SLOTS_PER_ENTRY: Final = 32
"""Passing an empty slot costs about a thirtieth of taking out a deadline, so 32 of them count as one entry."""

_SLOTS_SAMPLED: Final = 64
"""Slots that `due_estimate` looks at in each wheel."""

_SHRUNK_AT: Final = frozenset(8**power for power in range(1, 6))
"""Deadlines that are left in a slot when it is rebuilt, where it has room for eight times as many. Rebuilding one of
32 768 takes 2 ms, and before the next time as many times seven have gone."""

Slots = list[dict[bytes, None] | None]

_NEVER_USED: Final[Slots] = [None] * 1024


def _slots(count: int) -> Slots:
    """New slots. An empty one is None, except where the collector would track a dict that is made later."""
    if _ALL_DICTS_ARE_TRACKED:
        return [{} for _ in range(count)]
    return [None] * count


def _empty(slots: Slots, index: int) -> None:
    """Free the memory of a slot that is empty: removing entries does not shrink a dict."""
    slot = slots[index]
    if _ALL_DICTS_ARE_TRACKED and slot is not None:
        slot.clear()
    else:
        slots[index] = None  # the empty dicts of all slots would take 5 MiB


class DeadlineWheel:
    """Keys by the millisecond in which they expire. A key has at most one deadline, which the owner remembers."""

    __slots__ = (
        "_deadline_of",
        "_kept",
        "_later",
        "_near",
        "_near_count",
        "_poured",
        "count",
        "passed_ms",
        "visited",
    )

    def __init__(self, deadline_of: Callable[[bytes], int]) -> None:
        """`deadline_of` says the deadline with which a key was added. It is asked for keys that are here."""
        self._deadline_of: Final = deadline_of
        self._near = _slots(SLOTS)  # by millisecond: deadlines at most a lap after `passed_ms`
        self._later = _slots(LATER_SLOTS)  # by grain: all other deadlines
        # While a grain is being poured: its keys of later laps. At the end this dict becomes the grain's slot.
        self._kept: dict[bytes, None] = {}
        self._near_count = 0  # deadlines in the near wheel
        self._poured = 0  # the last grain that was poured: the one of `passed_ms`, or the one after it
        self.count = 0  # deadlines in both wheels
        self.visited = 0  # deadlines looked at since the start, including those of later laps that stayed
        self.passed_ms = 0  # all slots up to this time were visited; it is behind `now_ms` after a long pause

    def add(self, key: bytes, deadline_ms: int, now_ms: int) -> None:
        """Note that `key` expires at `deadline_ms`, which is after now. The key must not have a deadline here."""
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
        slot[key] = None
        self.count += 1

    def _begin_at(self, now_ms: int) -> None:
        """Pass over all time up to now. Only while there are no deadlines."""
        self.passed_ms = now_ms
        self._poured = now_ms >> GRAIN_BITS

    def discard(self, key: bytes, deadline_ms: int) -> None:
        """Remove a key's deadline, which must be here."""
        slots, index = self._near, deadline_ms & _MASK
        slot = slots[index]
        if slot and key in slot:
            self._near_count -= 1
        else:
            slots, index = self._later, (deadline_ms >> GRAIN_BITS) & _LATER_MASK
            slot = self._far_slot(key, deadline_ms)
        del slot[key]
        self.count -= 1
        if not slot:
            if slot is self._kept:
                slot.clear()
            else:
                _empty(slots, index)
        elif len(slot) in _SHRUNK_AT:
            _shrink(slot)

    def _far_slot(self, key: bytes, deadline_ms: int) -> dict[bytes, None]:
        """The slot of a deadline that is not in the near wheel."""
        slot = self._later[(deadline_ms >> GRAIN_BITS) & _LATER_MASK]
        return slot if slot and key in slot else self._kept

    def due(self, now_ms: int, enough: int) -> int:
        """The number of deadlines that are due at `now_ms` and still here. Stops counting at `enough` of them.

        O(milliseconds not visited yet, at most a lap of them, + deadlines in the grains that were not poured yet).
        """
        found = 0
        for count in self._due_places(now_ms):
            found += count
            if found >= enough:
                break
        return found

    def count_due(self, now_ms: int, looks_max: int) -> tuple[int, bool]:
        """How many deadlines are due at `now_ms`, as far as `looks_max` looks tell, and whether these are all."""
        found = 0
        for looks, count in enumerate(self._due_places(now_ms)):
            if looks == looks_max:
                return found, False
            found += count
        return found, True

    def _due_places(self, now_ms: int) -> Iterator[int]:
        """How many deadlines are due at each place: a millisecond of the near wheel, or a single key of a grain that
        was not poured yet, because grains have keys of all laps."""
        if not self.count:
            return
        # What was kept lives for a lap more at least, unless pouring its grain takes longer than that.
        if self._kept and now_ms >> GRAIN_BITS > self._poured + LATER_SLOTS:
            yield from self._due_of(self._kept, now_ms)
        if self._near_count:
            near = self._near
            for at in range(self.passed_ms + 1, min(now_ms, self.passed_ms + SLOTS) + 1):
                slot = near[at & _MASK]
                if slot:
                    yield len(slot)
        for grain in range(self._poured + 1, min(now_ms >> GRAIN_BITS, self._poured + LATER_SLOTS) + 1):
            slot = self._later[grain & _LATER_MASK]
            if slot:
                yield from self._due_of(slot, now_ms)

    def _due_of(self, slot: dict[bytes, None], now_ms: int) -> Iterator[int]:
        """For each key whether it is due."""
        deadline_of = self._deadline_of
        for key in slot:  # mypyc makes a list of a generator expression
            yield deadline_of(key) <= now_ms

    def due_estimate(self, now_ms: int) -> int:
        """About how many deadlines are due at `now_ms` and still here: the next slots, and as many in each of the
        others. O(1)."""
        behind = min(now_ms - self.passed_ms, SLOTS)
        if behind <= 0 or not self.count:
            return 0
        found = len(self._kept)
        if self._near_count:
            sampled = min(behind, _SLOTS_SAMPLED)
            slots = self._near
            near = sum(len(slots[at & _MASK] or ()) for at in range(self.passed_ms + 1, self.passed_ms + sampled + 1))
            found += near * behind // sampled
        grains = (now_ms >> GRAIN_BITS) - self._poured
        if grains > 0:
            sampled = min(grains, _SLOTS_SAMPLED)
            first = self._poured + 1
            later = sum(len(self._later[grain & _LATER_MASK] or ()) for grain in range(first, first + sampled))
            found += later * min(grains, LATER_SLOTS) // sampled
        return min(found, self.count)

    def take_due(self, now_ms: int, entries_max: int) -> tuple[list[bytes], bool]:
        """Take out keys that are due at `now_ms`, up to about `entries_max`; and whether none is left."""
        due: list[bytes] = []
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
            due += [slot.popitem()[0] for _ in range(taken)]
            left -= taken
            self.visited += taken
            self.count -= taken
            self._near_count -= taken
            if not slot:
                self.passed_ms += 1
                _empty(self._near, self.passed_ms & _MASK)
        return due, self.passed_ms >= now_ms

    def _skip_empty(self, stop_ms: int, slots_max: int) -> int:
        """Pass over empty milliseconds within a grain that was poured; how many were looked at."""
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
        """Pass over empty grains. Only while the near wheel is empty. Returns how many were looked at."""
        if self._kept:
            return 0  # a grain is being poured
        slots = self._later
        last = now_ms >> GRAIN_BITS
        # After a pause of more than a lap, one round over the wheel visits every slot.
        start = grain = max(self._poured, last - LATER_SLOTS) + 1
        stop = min(last, start + slots_max - 1)
        while grain <= stop and not slots[grain & _LATER_MASK]:
            grain += 1
        self._poured = grain - 1
        self.passed_ms = min(now_ms, (grain << GRAIN_BITS) - 1)
        return grain - start

    def _pour(self, now_ms: int, entries_max: int, due: list[bytes]) -> int:
        """Pour the next grain, or a part of it. Returns what is left of `entries_max`.

        A key that is due is added to `due`, one within this grain moves to its millisecond in the near wheel, and
        one of a later lap stays.
        """
        deadline_of = self._deadline_of
        grain = self._poured + 1
        slot = self._later[grain & _LATER_MASK]
        left = entries_max
        while slot and left > 0:
            key, _ = slot.popitem()
            deadline_ms = deadline_of(key)
            left -= 1
            self.visited += 1
            if deadline_ms <= now_ms:
                due.append(key)
                self.count -= 1
            elif deadline_ms >> GRAIN_BITS > grain:
                self._kept[key] = None
            else:
                near = self._near[deadline_ms & _MASK]
                if near is None:
                    near = self._near[deadline_ms & _MASK] = {}
                near[key] = None
                self._near_count += 1
        if not slot:
            self._finish_pouring(grain & _LATER_MASK)
            self._poured = grain
        return left

    def _finish_pouring(self, index: int) -> None:
        _empty(self._later, index)
        if self._kept:
            # The two dicts change places: from 3.14 on, when the collector would track a new one, there is one.
            emptied = self._later[index]
            self._later[index], self._kept = self._kept, {} if emptied is None else emptied

    def replace(self, copy: bytes, deadline_ms: int) -> None:
        """Replace the key object by an equal copy, so that the memory of the old one can be freed."""
        slot = self._near[deadline_ms & _MASK]
        if not slot or copy not in slot:
            slot = self._far_slot(copy, deadline_ms)
        del slot[copy]
        slot[copy] = None

    def clear(self) -> list[dict[bytes, None]]:
        """Remove all deadlines in one step. Returns the dicts they were in, for the caller to empty. O(slots)."""
        full = [self._kept] if self._kept else []
        self._kept = {}
        for slots in (self._near, self._later):
            for index, slot in enumerate(slots):
                if slot:
                    full.append(slot)
                    slots[index] = {} if _ALL_DICTS_ARE_TRACKED else None
        self.count = self._near_count = 0
        return full

    def all_keys(self) -> set[bytes]:
        """All keys, for checks. O(slots + keys)."""
        return set(self._kept).union(*_full(self._near), *_full(self._later))

    def invariants(self, noted: Set[bytes]) -> None:
        """Raise AssertionError unless the keys are those that the owner has noted, each in the slot of its deadline.
        O(slots + keys)."""
        near, later = _full(self._near), _full(self._later)
        assert noted == set(self._kept).union(*near, *later), "the wheel and the shards have different deadlines"
        for slots, full, bits in ((self._near, near, 0), (self._later, later, GRAIN_BITS)):
            mask = len(slots) - 1
            for slot in full:
                for key in slot:
                    own = slots[(self._deadline_of(key) >> bits) & mask]
                    assert own is slot, f"{key!r} is in a wrong slot"


def _shrink(slot: dict[bytes, None]) -> None:
    """Give back the room of a slot that most deadlines have left. In place: the collector would track a new dict from
    Python 3.14 on."""
    if capacity(slot) >= 8 * len(slot):
        left = list(slot)
        slot.clear()
        slot.update(dict.fromkeys(left))


def _full(slots: Slots) -> list[dict[bytes, None]]:
    """The slots that hold keys, for checks. Many tests check after every step, so stretches of slots that were never
    used are passed over whole: a tenth of the time of asking each slot."""
    found: list[dict[bytes, None]] = []
    for begin in range(0, len(slots), len(_NEVER_USED)):
        stretch = slots[begin : begin + len(_NEVER_USED)]
        if stretch != _NEVER_USED:
            found += filter(None, stretch)
    return found
