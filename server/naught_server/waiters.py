"""Requests that wait for a cache's counters, and the generations of counters that are held. Pure; `now_ms` comes in.

Two kinds of requests are parked here until a counter changes:

- an `acquire` that waits for room stands in the queue of each of its keys. It is granted when it is the first in all
  of these queues and every value stays within its limit: first come, first served, with no overtaking;
- a `wait_zero` waits until its counter is absent.

The store reports two events by key, whatever command caused them: the counter has become absent (`on_absent`), and
its value has decreased (`on_decrease`). Both only make a note. `settle` acts on the notes when the command is over,
in the same step, so no waiter sees half of a command and none has to poll. What exceeds the bound of one step, or
needs a shard that is held, stays noted for a later step.

A *generation* of a counter is the time from its creation until it is absent. A hold belongs to one generation. The
record in `generations` is dropped when the counter becomes absent, so a hold of an ended generation finds no record,
and releasing it does not touch the counter's next generation.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from naught.errors import CommandError
from naught_server.timers import Timer, Timers

Item = tuple[bytes, int, int]
"""A key, the amount to add, and the limit that the value must stay within."""

SETTLED_AT_ONCE: Final = 1_000
"""Waiters that one command wakes in its own step; about 4 ms. The engine's next steps wake the others."""


class Counters(Protocol):
    """What waiters ask of their cache (`store.Cache`)."""

    def peek(self, keys: Sequence[bytes], now_ms: int) -> list[int]:
        """Values, 0 for absent; changes nothing."""

    def is_expired(self, key: bytes, now_ms: int) -> bool:
        """Whether the counter's time to live has ended and it was not taken out yet."""

    def fits(self, items: Sequence[Item], sums: dict[bytes, int], now_ms: int) -> bool:
        """Whether `add_within` would find every value within its limit."""

    def add_within(
        self, items: Sequence[Item], sums: dict[bytes, int], ttl_ms: int | None, now_ms: int
    ) -> tuple[bool, list[int]]:
        """Add all amounts if every value stays within its limit, else none."""

    def is_worked_on(self, keys: Iterable[bytes]) -> bool:
        """Whether work over several steps goes on in the shard of one of these keys."""


class Generation:
    """One generation of a counter that is held. Two are the same only if they are the same object."""

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds = 0  # how many holds are on it

    def add_hold(self) -> None:
        """One more hold is on it."""
        self.holds += 1

    def remove_hold(self) -> bool:
        """One hold less is on it; whether none is left."""
        self.holds -= 1
        return not self.holds


class Waiter:
    """A parked request. Its session is called once with the result, or with the CommandError that ended it."""

    __slots__ = ("_answer", "_timer", "_timers", "wait_ms", "waiters")

    def __init__(self, waiters: Waiters, wait_ms: int | None) -> None:
        self.waiters: Final = waiters
        self.wait_ms: Final = wait_ms  # how long to wait, None for no limit
        self._answer: Callable[[object], None] | None = None  # None before `park`, and when the wait is over
        self._timer: Timer | None = None  # set while a limited wait goes on
        self._timers: Timers | None = None  # where that timer was set

    def park(self, answer: Callable[[object], None], timers: Timers, now_ms: int) -> None:
        """Enter the queues. `answer` is called with the result."""
        self._answer = answer
        self.enqueue()
        if self.wait_ms is not None:
            self._timers = timers
            self._timer = timers.set(now_ms + self.wait_ms, self.end)

    def enqueue(self) -> None:
        """Enter the queues."""
        raise AssertionError("each kind of waiter has its own queues")

    def leave(self) -> None:
        """Leave the queues."""
        raise AssertionError("each kind of waiter has its own queues")

    def outcome(self, now_ms: int) -> object:
        """The result of a wait that ends without success."""
        raise AssertionError("each kind of waiter has its own result")

    @property
    def is_over(self) -> bool:
        """Whether it was answered, or its session has ended: it must be granted nothing."""
        return self._answer is None

    def drop(self) -> None:
        """Its session has ended: from now on it is granted nothing and answers nothing."""
        self._answer = None
        self._cancel_timer()

    def finish(self, result: object) -> None:
        """Answer. The waiter has left its queues."""
        self._cancel_timer()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(result)

    def end(self, now_ms: int) -> None:
        """End the wait without success: its time ran out, or it was cancelled."""
        if self._answer is not None:
            result = self.outcome(now_ms)
            self.leave()
            self.finish(result)
            self.waiters.settle(now_ms, SETTLED_AT_ONCE)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timers is not None:
            self._timers.cancel(self._timer)
            self._timer = None


class AcquireWaiter(Waiter):
    """An `acquire` that waits for room. `grant` makes the hold once the amounts are added, and returns its number.

    The waiter remembers one key that blocks it, and is checked again only when that key has changed. Without this, a
    batch that decrements thousands of keys by one would check a waiter for all of them thousands of times.
    """

    __slots__ = ("_keys", "_limits", "_next", "blocked_by", "grant", "items", "sums")

    def __init__(
        self,
        waiters: Waiters,
        wait_ms: int | None,
        items: Sequence[Item],
        grant: Callable[[dict[bytes, int]], int],
    ) -> None:
        super().__init__(waiters, wait_ms)
        self.items: Final = items
        self.sums: Final = sums_of(items)
        self.grant: Final = grant
        self.blocked_by: bytes | None = None  # the key that blocked it at the last check; None if none did
        self._keys: Final = list(self.sums)
        self._limits: Final = limits_of(items)
        self._next = 0  # index in _keys where the next check begins

    def enqueue(self) -> None:
        queues = self.waiters.queues
        for key in self.sums:
            queue = queues.get(key)
            if queue is None:
                # An OrderedDict, because finding the first entry of a plain dict gets slower each time its first
                # entry is removed.
                queue = queues[key] = OrderedDict()
            queue[self] = None

    def leave(self) -> None:
        queues = self.waiters.queues
        for key in self.sums:
            queue = queues.get(key)
            if queue is None or self not in queue:
                continue
            was_first = next(iter(queue)) is self
            del queue[self]
            if not queue:
                del queues[key]
            elif was_first:
                self.waiters.on_decrease(key)

    def outcome(self, now_ms: int) -> object:
        return False, self.waiters.cache.peek([key for key, _, _ in self.items], now_ms), None

    def is_first(self) -> bool:
        """Whether it is the first in the queue of each of its keys."""
        queues = self.waiters.queues
        return all(next(iter(queues[key])) is self for key in self.sums)

    def is_blocked(self, now_ms: int) -> bool:
        """Whether it is not the first for one of its keys, or has no room there; notes which key.

        O(1) for a key that blocks it again, O(keys) when it is granted.
        """
        queues = self.waiters.queues
        peek = self.waiters.cache.peek
        keys = self._keys
        for _ in keys:
            key = keys[self._next]
            if next(iter(queues[key])) is not self or peek((key,), now_ms)[0] + self.sums[key] > self._limits[key]:
                self.blocked_by = key
                return True
            self._next = (self._next + 1) % len(keys)
        self.blocked_by = None
        return False


class ZeroWaiter(Waiter):
    """A `wait_zero`."""

    __slots__ = ("key",)

    def __init__(self, waiters: Waiters, wait_ms: int | None, key: bytes) -> None:
        super().__init__(waiters, wait_ms)
        self.key: Final = key

    def enqueue(self) -> None:
        self.waiters.awaited.setdefault(self.key, {})[self] = None

    def leave(self) -> None:
        others = self.waiters.awaited.get(self.key)
        if others is not None:  # the key is not there when this step has woken the waiter already
            others.pop(self, None)
            if not others:
                del self.waiters.awaited[self.key]

    def outcome(self, now_ms: int) -> object:
        # Also True when the counter is absent and the waiter was not answered yet.
        waiters = self.waiters
        return self not in waiters.awaited.get(self.key, ()) or waiters.cache.is_expired(self.key, now_ms)


def sums_of(items: Sequence[Item]) -> dict[bytes, int]:
    """The amount to add to each key; items of one key add up."""
    sums: dict[bytes, int] = {}
    for key, by, _ in items:
        sums[key] = sums.get(key, 0) + by
    return sums


def limits_of(items: Sequence[Item]) -> dict[bytes, int]:
    """The limit of each key: the lowest, where several items name it."""
    limits: dict[bytes, int] = {}
    for key, _, limit in items:
        limits[key] = min(limit, limits.get(key, limit))
    return limits


class Waiters:
    """The queues and the held generations of one cache."""

    __slots__ = ("_ready", "_woken", "awaited", "cache", "generations", "queues", "unsettled")

    def __init__(self, cache: Counters) -> None:
        self.cache: Final = cache
        # By key: the waiters for room, in the order they came. No queue is empty.
        self.queues: dict[bytes, OrderedDict[AcquireWaiter, None]] = {}
        self.awaited: dict[bytes, dict[ZeroWaiter, None]] = {}  # by key: the waiters for zero. None is empty.
        self.generations: dict[
            bytes, Generation
        ] = {}  # by key: the generation that is held; a subset of the counters
        self._ready: deque[bytes] = deque()  # keys whose first waiter may fit now
        self._woken: deque[ZeroWaiter] = deque()  # their counter was absent; they are no longer in `awaited`
        self.unsettled = False  # `settle` has something to do; checked in every turn of every connection

    @property
    def watched(self) -> bool:
        """Whether anything here depends on a counter becoming absent."""
        return bool(self.generations or self.queues or self.awaited)

    # Events of the store.

    def on_absent(self, key: bytes) -> None:
        """A counter has become absent: its generation has ended."""
        self.generations.pop(key, None)
        woken = self.awaited.pop(key, None)
        if woken is not None:
            self._woken.extend(woken)
            self.unsettled = True
        if key in self.queues:
            self._ready.append(key)
            self.unsettled = True

    def on_all_absent(self) -> None:
        """All counters have become absent in one step. O(keys with waiters)."""
        self.generations.clear()
        for woken in self.awaited.values():
            self._woken.extend(woken)
        self.awaited.clear()
        self._ready.extend(self.queues)
        self.unsettled = bool(self._woken or self._ready)

    def on_decrease(self, key: bytes) -> None:
        """The first waiter in this key's queue may fit now."""
        self._ready.append(key)
        self.unsettled = True

    # Generations.

    def generation_to_hold(self, key: bytes) -> Generation:
        """The present generation of a counter, for one more hold on it."""
        generation = self.generations.get(key)
        if generation is None:
            generation = self.generations[key] = Generation()
        generation.add_hold()
        return generation

    def let_go(self, key: bytes, generation: Generation) -> None:
        """A hold on this generation is over."""
        if generation.remove_hold() and self.generations.get(key) is generation:
            del self.generations[key]

    # Acting on the notes.

    def settle(self, now_ms: int, waiters_max: int) -> int:
        """Answer the waiters that can be answered now, up to `waiters_max`. Returns how many were checked."""
        checked = 0
        postponed: list[bytes] = []  # keys whose first waiter needs a shard with work under way
        while checked < waiters_max:
            if self._woken:
                self._woken.popleft().finish(True)
            elif self._ready:
                key = self._ready.popleft()
                queue = self.queues.get(key)
                if queue is None:
                    continue
                first = next(iter(queue))
                if first.is_over:  # its session has ended
                    first.leave()
                    continue
                if first.blocked_by not in {None, key}:
                    continue
                if first.is_blocked(now_ms):
                    continue  # a decrease of that key, or its first waiter leaving, makes another note
                if self.cache.is_worked_on(first.sums):
                    postponed.append(key)
                    continue
                self._grant(first, now_ms)
            else:
                break
            checked += 1
        self._ready.extend(postponed)
        self.unsettled = bool(self._woken or self._ready)
        return checked

    def _grant(self, waiter: AcquireWaiter, now_ms: int) -> None:
        try:
            granted, values = self.cache.add_within(waiter.items, waiter.sums, None, now_ms)
        except CommandError as fault:  # the cache is full
            waiter.leave()
            waiter.finish(fault)
            return
        if granted:
            waiter.leave()  # which notes the next waiter of each key
            waiter.finish((True, values, waiter.grant(waiter.sums)))

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless queues and generations are consistent. O(everything)."""
        for key, generation in self.generations.items():
            assert self.cache.peek([key], now_ms) != [0] or self.cache.is_expired(key, now_ms), (
                f"{key!r}: a generation of an absent counter"
            )
            assert generation.holds > 0, f"{key!r}: a generation without holds"
        for key, waiters in self.awaited.items():
            assert waiters, f"{key!r}: an empty set of waiters for zero"
        for key, queue in self.queues.items():
            assert queue, f"{key!r}: an empty queue"
            assert all(key in waiter.sums for waiter in queue), f"{key!r}: a waiter in a wrong queue"
        if self.unsettled:
            return
        for key in self.awaited:
            assert self.cache.peek([key], now_ms) != [0] or self.cache.is_expired(key, now_ms), f"{key!r}: not woken"
        for queue in self.queues.values():
            first = next(iter(queue))
            if first.is_over or any(self.cache.is_expired(key, now_ms) for key in first.sums):
                continue  # it leaves soon, or the expiry has not been noticed yet
            assert not first.is_first() or not self.cache.fits(first.items, first.sums, now_ms), (
                "a waiter that fits was not granted"
            )
