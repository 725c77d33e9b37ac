"""What one session holds: amounts it has added to counters, each given back exactly once. Pure; `now_ms` comes in.

A hold is made by `acquire`, under a number that only grows. It ends by `release`, by `give_back` after its session
has ended, or counter by counter when the counter's generation ends (see `waiters.py`).

Each `Holds` reports what it adds and drops to the `HoldCounts` of the engine, so that the figures of all sessions are
known without a walk over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from naught.errors import Busy, NotHeld, TooLarge
from naught.wire.limits import REPLY_BYTES_MAX, VALUE_MAX
from naught_server.limits import HELD_ITEMS_MAX
from naught_server.store import Cache, Reason
from naught_server.waiters import Generation

_NO_HOLD: Final = "this session has no hold {}, or it has ended"


class Hold:
    """The amounts that one `acquire` has added and that are still to be given back."""

    __slots__ = ("amounts", "number")

    def __init__(self, number: int, amounts: dict[bytes, tuple[int, Generation]]) -> None:
        self.number: Final = number
        # By key: how much, and of which generation. What was given back is not here any more.
        self.amounts: Final = amounts


_NOTHING: Final = (0, None)
"""What a hold has of a counter that it does not have."""


GIVE_BACK_ENTRIES: Final = 3
"""Giving back an amount."""

PAGE_AMOUNTS: Final = 500
"""Amounts at which a page of holds ends: about a turn's work."""


LOOKED_AT_MAX: Final = 32
"""Amounts that `first` looks at: a session may have thousands of holds on one counter, or of ended generations."""

COUNTERS_NAMED_MAX: Final = 5
"""Counters that are named where the holds of a session are taken back: enough to recognize whose work it was."""


class HoldCounts:
    """How many holds and held amounts all sessions of an engine have. Amounts of ended generations are included until
    they are found."""

    __slots__ = ("amounts", "holds")

    def __init__(self) -> None:
        self.holds = 0
        self.amounts = 0

    def change(self, holds: int, amounts: int) -> None:
        """So many holds and amounts more, or less."""
        self.holds += holds
        self.amounts += amounts


class TakenBack:
    """What was taken back from a session that has ended: the amounts whose generation had not ended before."""

    __slots__ = ("amounts", "first", "holds", "total")

    def __init__(self) -> None:
        self.holds = 0
        self.amounts = 0  # amounts of these holds, one for each counter of a hold
        self.total = 0  # of all counters together
        self.first: dict[bytes, int] = {}  # the first few counters, each with what was taken back of it

    def add(self, live: dict[bytes, int]) -> None:
        """A hold with these amounts was taken back."""
        if not live:
            return
        first = self.first
        self.holds += 1
        self.amounts += len(live)
        for key, by in live.items():
            self.total += by
            if len(first) < COUNTERS_NAMED_MAX or key in first:
                first[key] = first.get(key, 0) + by


class HoldsPage:
    """Some holds of a session, for a reply, and the work of finding them."""

    __slots__ = ("fault", "found", "is_whole", "looked_at", "passed")

    def __init__(self) -> None:
        self.found: list[tuple[int, list[tuple[bytes, int]]]] = []
        self.passed = 0  # holds before those
        self.looked_at = 0  # amounts
        self.fault: TooLarge | None = None  # the first hold alone does not fit
        self.is_whole = True  # False where nothing was found yet, and there may be something behind

    def result(self) -> list[tuple[int, list[tuple[bytes, int]]]]:
        """The holds. Raises TooLarge if the first one does not fit."""
        if self.fault is not None:
            raise self.fault
        return self.found


class Holds:
    """All holds of one session, on the counters of one cache."""

    __slots__ = ("_by_number", "_cache", "_counts", "_holder", "items")

    def __init__(self, cache: Cache, counts: HoldCounts, holder: int) -> None:
        """`holder` is the number of the session; `counts` has the figures of all."""
        self._cache: Final = cache
        self._counts: Final = counts
        self._holder: Final = holder
        self._by_number: dict[int, Hold] = {}  # in rising order
        self.items = 0  # amounts in all holds, those of ended generations included

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Hold]:
        """In the order they were made."""
        return iter(self._by_number.values())

    def get(self, number: int) -> Hold | None:
        """The hold of that number."""
        return self._by_number.get(number)

    def need_room(self, items: int) -> None:
        """Raise Busy where the session holds too much already."""
        if self.items + items > HELD_ITEMS_MAX:
            raise Busy(f"a session holds at most {HELD_ITEMS_MAX} amounts")

    def add(self, number: int, sums: dict[bytes, int]) -> None:
        """Note that these amounts, which have just been added to the counters, are held."""
        waiters = self._cache.waiters
        holder = self._holder
        amounts = {key: (by, waiters.generation_to_hold(key, holder, by)) for key, by in sums.items()}
        self.items += len(amounts)
        self._counts.change(1, len(amounts))
        self._by_number[number] = Hold(number, amounts)

    def live_amount(self, hold: Hold, key: bytes, now_ms: int) -> int:
        """How much of a counter the hold has; 0 where it has none, or where the generation it was on has ended."""
        by, generation = hold.amounts.get(key, _NOTHING)
        if self._cache.waiters.generations.get(key) is not generation or self._cache.is_expired(key, now_ms):
            return 0
        return by

    def live_amounts(self, hold: Hold, now_ms: int) -> dict[bytes, int]:
        """The amounts of a hold whose generation has not ended. O(amounts of the hold)."""
        live_amount = self.live_amount
        return {key: by for key in hold.amounts if (by := live_amount(hold, key, now_ms))}

    def first(self, counters_max: int, now_ms: int) -> dict[bytes, int]:
        """The first few counters that are held, each with all that is held of it. O(LOOKED_AT_MAX).

        Some are missing where the first holds are all on the same few counters, or on ended generations.
        """
        found: dict[bytes, int] = {}
        generations = self._cache.waiters.generations
        looked_at = 0
        for hold in self._by_number.values():
            for key, (_, generation) in hold.amounts.items():
                if len(found) == counters_max or looked_at == LOOKED_AT_MAX:
                    return found
                looked_at += 1
                if key in found or generations.get(key) is not generation or self._cache.is_expired(key, now_ms):
                    continue
                found[key] = min(generation.amount_of(self._holder), VALUE_MAX)
        return found

    def release(self, number: int, items: Sequence[tuple[bytes, int]] | None, now_ms: int) -> list[int]:
        """Give back a whole hold, or these amounts of it; the values after. Raises NotHeld, with nothing changed.

        O(items), or O(amounts of the hold) for a whole hold.
        """
        hold = self._by_number.get(number)
        if hold is None:
            raise NotHeld(_NO_HOLD.format(number))
        return self._release_whole(hold, now_ms) if items is None else self._release_items(hold, items, now_ms)

    def _release_whole(self, hold: Hold, now_ms: int) -> list[int]:
        live = self.live_amounts(hold, now_ms)
        values = [self._give_back(hold, key, by, now_ms, "zero") for key, by in live.items()]
        self._forget(hold)
        if not live:
            raise NotHeld(_NO_HOLD.format(hold.number))
        return values

    def _release_items(self, hold: Hold, items: Sequence[tuple[bytes, int]], now_ms: int) -> list[int]:
        # Only the named counters are looked at. When every generation of the hold has ended, one of them has too.
        sums: dict[bytes, int] = {}
        for key, by in items:
            sums[key] = sums.get(key, 0) + by
        for key, by in sums.items():
            live = self.live_amount(hold, key, now_ms)
            if live < by:
                self._drop_ended(hold, sums, now_ms)
                raise NotHeld(f"hold {hold.number} has {live} of a counter; {by} were to be released")
        after = {key: self._give_back(hold, key, by, now_ms, "zero") for key, by in sums.items()}
        if not hold.amounts:
            self._forget(hold)
        return [after[key] for key, _ in items]

    def _drop_ended(self, hold: Hold, keys: Iterable[bytes], now_ms: int) -> None:
        """Drop those of these amounts whose generation has ended, so that they count no longer as held."""
        for key in keys:
            if key in hold.amounts and not self.live_amount(hold, key, now_ms):
                self._drop(hold, key)
        if not hold.amounts:
            self._forget(hold)

    def _drop(self, hold: Hold, key: bytes) -> None:
        by, generation = hold.amounts.pop(key)
        self.items -= 1
        self._counts.change(0, -1)
        self._cache.waiters.let_go(key, generation, self._holder, by)

    def give_back(self, taken: TakenBack, now_ms: int, entries_max: int) -> int:
        """The session has ended: give back its holds, for up to about `entries_max` entries of work, and add them to
        `taken`. Returns how many entries were done.

        Stops early at a hold on a shard with work under way.
        """
        done = 0
        while self._by_number and done < entries_max:
            hold = next(iter(self._by_number.values()))
            if self._cache.is_worked_on(hold.amounts):
                break
            done += GIVE_BACK_ENTRIES * len(hold.amounts) + 1
            live = self.live_amounts(hold, now_ms)
            taken.add(live)
            for key, by in live.items():
                self._give_back(hold, key, by, now_ms, "session")
            self._forget(hold)
        return done

    def numbers(self) -> Iterator[int]:
        """The numbers of the holds there are now, in rising order, for `page`. O(holds)."""
        return iter(list(self._by_number))

    def page(self, numbers: Iterator[int], after: int, now_ms: int) -> HoldsPage:
        """The holds of the next numbers, if they are above `after`: as many as fit one reply and `PAGE_AMOUNTS`.
        Where it is not whole, a further one with the same numbers goes on."""
        page = HoldsPage()
        room = REPLY_BYTES_MAX - 64
        ended: list[Hold] = []  # nothing is left of them; forgotten, so that no later page looks at them again
        for number in numbers:
            if number <= after:
                page.passed += 1
                continue
            hold = self._by_number.get(number)
            if hold is None:
                continue  # it has ended since
            page.looked_at += len(hold.amounts) + 1
            live = self.live_amounts(hold, now_ms)
            if live:
                room -= 16 + sum(len(key) + 13 for key in live)
                if room < 0:
                    if not page.found:  # an empty page would mean that there are no more
                        page.fault = TooLarge(
                            f"hold {number} has {len(live)} amounts, more than fit a reply; ask for those after it"
                        )
                    break
                page.found.append((number, list(live.items())))
            else:
                ended.append(hold)
            if page.looked_at >= PAGE_AMOUNTS:
                page.is_whole = bool(page.found)
                break
        for hold in ended:
            self._forget(hold)
        return page

    def _give_back(self, hold: Hold, key: bytes, by: int, now_ms: int, reason: Reason) -> int:
        """Take all or a part of a held amount off its counter; the value after. `reason` is why the counter is
        evicted, where nothing is left of it."""
        held, generation = hold.amounts[key]
        if by < held:
            hold.amounts[key] = (held - by, generation)
            generation.reduce(self._holder, by)
        else:
            self._drop(hold, key)
        return self._cache.decr(key, by, False, now_ms, reason)

    def _forget(self, hold: Hold) -> None:
        """Drop a hold whose remaining amounts are of generations that have ended."""
        waiters = self._cache.waiters
        for key, (by, generation) in hold.amounts.items():
            waiters.let_go(key, generation, self._holder, by)
        self.items -= len(hold.amounts)
        self._counts.change(-1, -len(hold.amounts))
        del self._by_number[hold.number]

    def invariants(self) -> None:
        """Raise AssertionError, naming what is wrong, unless holds and their count agree."""
        assert self.items == sum(len(hold.amounts) for hold in self), "the count of held amounts is off"
        numbers = list(self._by_number)
        assert numbers == sorted(numbers), "holds are not in order"
        for hold in self:
            for key, (by, _) in hold.amounts.items():
                assert by > 0, f"{key!r}: nothing is held"
