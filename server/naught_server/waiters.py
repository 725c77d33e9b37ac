"""Who waits for a cache's counters, and which of their lives are held. Pure; `now_ms` comes in.

Two kinds of requests are parked here until a counter changes:

- an `acquire` that waits for room stands in the queue of each of its keys, and is granted when it is the first in all
  of them and every value stays within its limit: first come, first served, nobody overtakes;
- a `wait_zero` waits until its counter is absent.

The store tells of two events, by key, from whatever command brought them about: the counter has become absent
(`absent`), and its value has fallen (`freed`). Both only make a note. `settle` acts on the notes, once the command
is over, so no waiter ever sees half of one: it grants what can be granted and answers who waited for nothing. It is
called in the same step, so nobody polls; what is more than one step may do, or needs a shard that is held, stays
noted for the next.

A *life* of a counter is the time from its creation to its absence. A hold is on one life: the record in `lives` goes
with the life, so a hold whose life has ended no longer finds it, and can give nothing back to the next.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from naught.errors import CommandError

if TYPE_CHECKING:
    from naught_server.store import Cache
    from naught_server.timers import Alarm

Item = tuple[bytes, int, int]
"""A key, what to add to it, and the limit its value must stay within."""

SETTLED_AT_ONCE: Final = 1_000
"""Waiters that one command wakes in its own step; about 4 ms. More follow in the next steps of the engine."""


class Life:
    """One life of a counter that is held: how many holds are on it. Its identity is what counts."""

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds = 0


class Waiter:
    """A parked request. `answer` is told its result, or the CommandError that ended it, once."""

    __slots__ = ("alarm", "answer", "wait_ms", "waiting")

    def __init__(self, waiting: Waiting, wait_ms: int | None) -> None:
        self.waiting: Final = waiting
        self.wait_ms: Final = wait_ms  # how long, None for no limit
        self.answer: Callable[[object], None] | None = None  # None before it is parked, and when it is over
        self.alarm: Alarm | None = None  # rings when the wait has run out

    def stand(self) -> None:
        """Take the place in the queues."""
        raise AssertionError("a kind of waiter says where it stands")

    def leave(self) -> None:
        """Give the place up."""
        raise AssertionError("a kind of waiter says where it stands")

    def outcome(self, now_ms: int) -> object:
        """What a wait that ends without success is answered."""
        raise AssertionError("a kind of waiter says how it ends")

    def finish(self, result: object) -> None:
        """Answer. The place in the queues has been given up."""
        answer, self.answer = self.answer, None
        if answer is not None:
            answer(result)

    def end(self, now_ms: int) -> None:
        """The wait is over without success: its time ran out, or it was cancelled."""
        if self.answer is not None:
            result = self.outcome(now_ms)
            self.leave()
            self.finish(result)
            self.waiting.settle(now_ms, SETTLED_AT_ONCE)


class ForRoom(Waiter):
    """An `acquire` that waits. `grant` makes the hold once the amounts are added; the hold's number.

    It knows one key that keeps it back, and is not looked at before something is noted of that one: a batch that
    counts thousands of keys down by one would else look thousands of times at a waiter for all of them, for seconds.
    """

    __slots__ = ("_at", "_keys", "_limits", "grant", "items", "kept_back_by", "sums")

    def __init__(
        self,
        waiting: Waiting,
        wait_ms: int | None,
        items: Sequence[Item],
        grant: Callable[[dict[bytes, int]], int],
    ) -> None:
        super().__init__(waiting, wait_ms)
        self.items: Final = items
        self.sums: Final = sums_of(items)
        self.grant: Final = grant
        self.kept_back_by: bytes | None = None  # when last looked at; None before, and when it was by nothing
        self._keys: Final = list(self.sums)
        self._limits: Final = limits_of(items)
        self._at = 0  # of the keys: where the next look begins

    def stand(self) -> None:
        queues = self.waiting.queues
        for key in self.sums:
            queue = queues.get(key)
            if queue is None:
                # Ordered, as the first of a plain dict that loses its first over and over is found ever more slowly.
                queue = queues[key] = OrderedDict()
            queue[self] = None

    def leave(self) -> None:
        queues = self.waiting.queues
        for key in self.sums:
            queue = queues.get(key)
            if queue is None or self not in queue:
                continue
            was_first = next(iter(queue)) is self
            del queue[self]
            if not queue:
                del queues[key]
            elif was_first:
                self.waiting.freed(key)

    def outcome(self, now_ms: int) -> object:
        return False, self.waiting.cache.peek([key for key, _, _ in self.items], now_ms), None

    def is_first(self) -> bool:
        """Whether nobody came before it, for any of its keys."""
        queues = self.waiting.queues
        return all(next(iter(queues[key])) is self for key in self.sums)

    def is_kept_back(self, now_ms: int) -> bool:
        """Whether somebody came before it for a key, or there is no room; notes which. O(1), at the end O(keys)."""
        queues = self.waiting.queues
        peek = self.waiting.cache.peek
        keys = self._keys
        for _ in keys:
            key = keys[self._at]
            if next(iter(queues[key])) is not self or peek((key,), now_ms)[0] + self.sums[key] > self._limits[key]:
                self.kept_back_by = key
                return True
            self._at = (self._at + 1) % len(keys)
        self.kept_back_by = None
        return False


class ForZero(Waiter):
    """A `wait_zero`."""

    __slots__ = ("key",)

    def __init__(self, waiting: Waiting, wait_ms: int | None, key: bytes) -> None:
        super().__init__(waiting, wait_ms)
        self.key: Final = key

    def stand(self) -> None:
        self.waiting.awaited.setdefault(self.key, {})[self] = None

    def leave(self) -> None:
        others = self.waiting.awaited.get(self.key)
        if others is not None:  # it may have been woken in this very step
            others.pop(self, None)
            if not others:
                del self.waiting.awaited[self.key]

    def outcome(self, now_ms: int) -> object:
        # True also where nobody has answered it, or found out, yet.
        waiting = self.waiting
        return self not in waiting.awaited.get(self.key, ()) or waiting.cache.expired(self.key, now_ms)


def sums_of(items: Sequence[Item]) -> dict[bytes, int]:
    """What is added to each key; items of one key add up."""
    sums: dict[bytes, int] = {}
    for key, by, _ in items:
        sums[key] = sums.get(key, 0) + by
    return sums


def limits_of(items: Sequence[Item]) -> dict[bytes, int]:
    """What each key must stay within: of items of one key, the lowest."""
    limits: dict[bytes, int] = {}
    for key, _, limit in items:
        limits[key] = min(limit, limits.get(key, limit))
    return limits


class Waiting:
    """The queues and the held lives of one cache."""

    __slots__ = ("_ready", "_woken", "awaited", "cache", "lives", "queues", "unsettled")

    def __init__(self, cache: Cache) -> None:
        self.cache: Final = cache
        self.queues: dict[bytes, OrderedDict[ForRoom, None]] = {}  # by key: who waits for room, in order; none empty
        self.awaited: dict[bytes, dict[ForZero, None]] = {}  # by key: who waits until it is absent; none empty
        self.lives: dict[bytes, Life] = {}  # by key: the life that is held; a subset of the counters
        self._ready: deque[bytes] = deque()  # keys whose first waiter may fit now
        self._woken: deque[ForZero] = deque()  # their counter was absent; they are in `awaited` no more
        self.unsettled = False  # there is something noted for `settle`; looked at in every turn of every connection

    @property
    def watched(self) -> bool:
        """Whether it matters to anybody here that a counter becomes absent."""
        return bool(self.lives or self.queues or self.awaited)

    # What the store tells.

    def absent(self, key: bytes) -> None:
        """A counter has become absent: its life is over."""
        self.lives.pop(key, None)
        woken = self.awaited.pop(key, None)
        if woken is not None:
            self._woken.extend(woken)
            self.unsettled = True
        if key in self.queues:
            self._ready.append(key)
            self.unsettled = True

    def all_absent(self) -> None:
        """All counters have become absent in one step. O(keys that are waited for)."""
        self.lives = {}
        for woken in self.awaited.values():
            self._woken.extend(woken)
        self.awaited = {}
        self._ready.extend(self.queues)
        self.unsettled = bool(self._woken or self._ready)

    def freed(self, key: bytes) -> None:
        """Whoever is first in this key's queue may fit now."""
        self._ready.append(key)
        self.unsettled = True

    # What is done about it.

    def settle(self, now_ms: int, waiters_max: int) -> int:
        """Answer those whose time has come, at most so many; how many were looked at."""
        looked_at = 0
        held: list[bytes] = []  # need a shard that somebody works on
        while looked_at < waiters_max:
            if self._woken:
                self._woken.popleft().finish(True)
            elif self._ready:
                key = self._ready.popleft()
                queue = self.queues.get(key)
                if queue is None:
                    continue
                first = next(iter(queue))
                if first.answer is None:  # its session has ended
                    first.leave()
                    continue
                if first.kept_back_by not in {None, key}:
                    continue
                if first.is_kept_back(now_ms):
                    continue  # whoever makes room there, or leaves the front of that queue, tells
                if self.cache.being_worked_on(first.sums):
                    held.append(key)
                    continue
                self._try(first, now_ms)
            else:
                break
            looked_at += 1
        self._ready.extend(held)
        self.unsettled = bool(self._woken or self._ready)
        return looked_at

    def _try(self, waiter: ForRoom, now_ms: int) -> None:
        try:
            granted, values = self.cache.add_within(waiter.items, waiter.sums, None, now_ms)
        except CommandError as fault:  # no room in the cache for another counter
            waiter.leave()
            waiter.finish(fault)
            return
        if granted:
            waiter.leave()  # and with that the next one of each key is looked at
            waiter.finish((True, values, waiter.grant(waiter.sums)))

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless all is as it must be. O(everything)."""
        for key, life in self.lives.items():
            assert self.cache.peek([key], now_ms) != [0] or self.cache.expired(key, now_ms), (
                f"{key!r}: a life of none"
            )
            assert life.holds > 0, f"{key!r}: a life nobody holds"
        for key, waiters in self.awaited.items():
            assert waiters, f"{key!r}: nobody waits, and is noted"
        for key, queue in self.queues.items():
            assert queue, f"{key!r}: nobody queues, and is noted"
            assert all(key in waiter.sums for waiter in queue), f"{key!r}: a waiter in a wrong queue"
        if self.unsettled:
            return
        for key in self.awaited:
            assert self.cache.peek([key], now_ms) != [0] or self.cache.expired(key, now_ms), f"{key!r}: not woken"
        for queue in self.queues.values():
            first = next(iter(queue))
            if first.answer is None or any(self.cache.expired(key, now_ms) for key in first.sums):
                continue  # it leaves, or nobody has found out yet
            assert not first.is_first() or not self.cache.fits(first.items, first.sums, now_ms), "one sleeps who fits"
