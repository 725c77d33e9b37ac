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

from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, Protocol

from naught.errors import CommandError
from naught_server.marks import Marks
from naught_server.queues import PLACES_MOVED_PER_ENTRY, Queues
from naught_server.timers import Timer, Timers

Item = tuple[bytes, int, int]
"""A key, the amount to add, and the limit that the value must stay within."""

SETTLED_AT_ONCE: Final = 1_000
"""Entries of work that the waiters of one command may take in its own step: half a millisecond. The first grant may
take more, as it is one step for all its keys. The engine's next steps do the rest."""

SETTLED_BEFORE: Final = 100
"""The same before the requests of a turn, for waiters that other connections or an expiry have noted. It is mostly
work of others, so there is little of it, and the sweeper does the rest at once. With 1 000 a light request beside 20
clients that wait for 1 024 keys each was charged for them, and had to wait until a turn was dealt to it: its p99 was
17.0 ms, and is 5.3 (`naught-loadtest bars --only victims --quick --rounds 2`)."""

WAIT_BYTES: Final = 1_024
"""Memory of a request that waits, without its keys."""

WAIT_KEY_BYTES: Final = 136
"""Memory of each of its keys, beside the key's own length. Measured at worst: 132 for a key with one waiter, 130 with
two, 82 in a long queue.

For a key with one waiter: its object has 33 bytes and up to 15 for alignment, its place in the request 8, amount and
limit 2 to 16, and its entry in the table of queues 26 to 60, most when that has just grown. Without the entry these
are 72, and no dict has entries of 28 bytes at all times: so 100 cannot be promised while the key is an object that
the table is asked for."""

ANSWER_ENTRIES: Final = 8
"""Answering a waiter: about 4 us. Prices are in the entries of commands.py."""

GRANT_ENTRIES: Final = 8
"""Granting one key of an `acquire` that waited: adding, holding, leaving its queue."""

LEAVE_ENTRIES: Final = 2
"""Reading a key's value and leaving its queue, at the end of a wait."""

PARK_ENTRIES: Final = 7
"""Entering the queue of a key."""

KEYS_LISTED_PER_ENTRY: Final = 16
"""Keys with waiters that `clear` lists for an entry."""


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
    """One generation of a counter that is held. Two are the same only if they are the same object.

    It knows how much of it each session holds, so that this is known without a walk over the holds.
    """

    __slots__ = ("_amount", "_amounts", "_holder", "holds")

    def __init__(self) -> None:
        self.holds = 0  # how many holds are on it
        # The number of the session that holds it, and how much. Most generations are held by one session, and a dict
        # takes ten times the memory.
        self._holder = 0
        self._amount = 0
        self._amounts: dict[int, int] | None = None  # by session; from the second one on, instead of the two above

    def add_hold(self, holder: int, by: int) -> None:
        """One more hold is on it: `holder` holds so much more."""
        self.holds += 1
        amounts = self._amounts
        if amounts is not None:
            amounts[holder] = amounts.get(holder, 0) + by
        elif self.holds == 1 or holder == self._holder:
            self._holder = holder
            self._amount += by
        else:
            self._amounts = {self._holder: self._amount, holder: by}

    def remove_hold(self, holder: int, by: int) -> bool:
        """One hold less is on it, which had this amount left; whether none is left."""
        self.holds -= 1
        self.reduce(holder, by)
        return not self.holds

    def reduce(self, holder: int, by: int) -> None:
        """`holder` holds so much less."""
        amounts = self._amounts
        if amounts is None:
            self._amount -= by
        elif amounts[holder] > by:
            amounts[holder] -= by
        else:
            del amounts[holder]

    def amount_of(self, holder: int) -> int:
        """How much of it this session holds, in all its holds. O(1)."""
        if self._amounts is not None:
            return self._amounts.get(holder, 0)
        return self._amount if holder == self._holder else 0

    def amounts(self) -> list[tuple[int, int]]:
        """The numbers of the sessions that hold it, each with its amount. O(these sessions)."""
        return list(self._amounts.items()) if self._amounts is not None else [(self._holder, self._amount)]


class Owner:
    """Whose the waiters of a session are. The end of the session is noted here, in one step for all of them: it may
    have thousands."""

    __slots__ = ("is_gone",)

    def __init__(self) -> None:
        self.is_gone = False  # its waiters are granted nothing and answer nothing


class Waiter:
    """A parked request. Its session is called once with the result, or with the CommandError that ended it."""

    __slots__ = ("_answer", "_owner", "_timer", "_timers", "since_ms", "wait_ms", "waiters")

    def __init__(self, waiters: Waiters, wait_ms: int | None) -> None:
        self.waiters: Final = waiters
        self.wait_ms: Final = wait_ms  # how long to wait, None for no limit
        self.since_ms = 0  # when it began to wait
        self._answer: Callable[[object], None] | None = None  # None before `park`, and when the wait is over
        self._owner: Owner | None = None  # None before `park`
        self._timer: Timer | None = None  # set while a limited wait goes on
        self._timers: Timers | None = None  # where that timer was set

    def park(self, answer: Callable[[object], None], owner: Owner, timers: Timers, now_ms: int) -> None:
        """Enter the queues. `answer` is called with the result, unless the owner has gone."""
        self._answer = answer
        self._owner = owner
        self.since_ms = now_ms
        self.enqueue()
        if self.wait_ms is not None:
            self._timers = timers
            self._timer = timers.set(now_ms + self.wait_ms, self.end)

    def enqueue(self) -> None:
        """Enter the queues."""
        raise AssertionError("each kind of waiter has its own queues")

    def leave(self) -> int:
        """Leave the queues. Returns the entries of work."""
        raise AssertionError("each kind of waiter has its own queues")

    def outcome(self, now_ms: int) -> object:
        """The result of a wait that ends without success."""
        raise AssertionError("each kind of waiter has its own result")

    @property
    def is_over(self) -> bool:
        """Whether it was answered, or its session has ended: it must be granted nothing."""
        return self._answer is None or self._owner is None or self._owner.is_gone

    def drop(self) -> int:
        """Its session has ended: leave the queues. Returns the entries of work."""
        self._answer = None
        self._cancel_timer()
        return self.leave()

    def finish(self, result: object) -> None:
        """Answer. The waiter has left its queues."""
        self._cancel_timer()
        answer = None if self.is_over else self._answer
        self._answer = None
        if answer is not None:
            answer(result)

    def end(self, now_ms: int) -> int:
        """End the wait without success: its time ran out, or it was cancelled. Returns the entries of work."""
        if self.is_over:
            return 0
        result = self.outcome(now_ms)
        done = ANSWER_ENTRIES + self.leave()
        self.finish(result)
        self.waiters.add_work(done)
        return done + self.waiters.settle(now_ms, SETTLED_AT_ONCE)

    @property
    def awaits(self) -> str:
        """What it waits for, for operators."""
        raise AssertionError("each kind of waiter has its own")

    @property
    def method(self) -> str:
        """The method of the request."""
        raise AssertionError("each kind of waiter has its own")

    @property
    def size(self) -> int:
        """How many keys it waits for."""
        return len(self.keys)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Those it waits for, each once."""
        raise AssertionError("each kind of waiter has its own keys")

    @property
    def memory_bytes(self) -> int:
        """The memory it is charged: at least what it takes."""
        return WAIT_BYTES + WAIT_KEY_BYTES * self.size + sum(map(len, self.keys))

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timers is not None:
            self._timers.cancel(self._timer)
            self._timer = None


class AcquireWaiter(Waiter):
    """An `acquire` that waits for room. `grant` makes the hold once the amounts are added, and returns its number.

    The waiter remembers one key that blocks it, and is checked again only when that key has changed. Without this, a
    batch that decrements thousands of keys by one would check a waiter for all of them thousands of times.
    """

    __slots__ = ("_amounts", "_keys", "_limits", "_next", "_order", "blocked_by", "grant", "number")

    def __init__(
        self,
        waiters: Waiters,
        wait_ms: int | None,
        items: Sequence[Item],
        grant: Callable[[dict[bytes, int]], int],
    ) -> None:
        super().__init__(waiters, wait_ms)
        self.grant: Final = grant
        self.number = 0  # among all that have entered the queues of this cache; see `queues.py`
        self.blocked_by: bytes | None = None  # the key that blocked it at the last check; None if none did
        sums = sums_of(items)
        if len(items) == len(sums):
            limits = [item[2] for item in items]
            order = None
        else:
            lowest = limits_of(items)
            limits = [lowest[key] for key in sums]
            index = {key: number for number, key in enumerate(sums)}
            order = array("H", [index[key] for key, _, _ in items])
        # In columns, which take a tenth of the memory of the items as they came.
        self._keys: Final = tuple(sums)
        self._amounts: Final = _column(list(sums.values()))
        self._limits: Final = _column(limits)
        self._order: Final = order  # by item, the index of its key; None where each key is named once
        self._next = 0  # index in _keys where the next check begins

    @property
    def awaits(self) -> str:
        return "room"

    @property
    def method(self) -> str:
        return "acquire"

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Those it waits for, each once."""
        return self._keys

    @property
    def sums(self) -> dict[bytes, int]:
        """The amount to add to each key."""
        return dict(zip(self._keys, self._amounts, strict=True))

    @property
    def items(self) -> list[Item]:
        """Its items in the order they came, each with the whole amount and the lowest limit of its key."""
        keys, amounts, limits = self._keys, self._amounts, self._limits
        order = range(len(keys)) if self._order is None else self._order
        return [(keys[at], amounts[at], limits[at]) for at in order]

    def enqueue(self) -> None:
        self.number = self.waiters.next_number()
        for key in self._keys:
            self.waiters.marks.add(key)
            self.waiters.queues.enter(key, self)

    def leave(self) -> int:
        queues = self.waiters.queues
        moved = 0
        for key in self._keys:
            moved += queues.places_moved(key)
            if queues.remove(key, self):
                self.waiters.on_decrease(key)
        return LEAVE_ENTRIES * len(self._keys) + moved // PLACES_MOVED_PER_ENTRY

    def outcome(self, now_ms: int) -> object:
        return False, self.waiters.cache.peek([key for key, _, _ in self.items], now_ms), None

    def is_first(self) -> bool:
        """Whether it is the first in the queue of each of its keys."""
        return all(self.waiters.queues.first(key) is self for key in self._keys)

    def look(self, now_ms: int) -> int:
        """Note in `blocked_by` for which of its keys it is not the first, or has no room. Returns how many keys were
        looked at: 1 for a key that blocks it again, all when it can be granted.
        """
        queues = self.waiters.queues
        peek = self.waiters.cache.peek
        keys = self._keys
        for looked_at in range(1, len(keys) + 1):
            at = self._next
            key = keys[at]
            if queues.first(key) is not self or peek((key,), now_ms)[0] + self._amounts[at] > self._limits[at]:
                self.blocked_by = key
                return looked_at
            self._next = (at + 1) % len(keys)
        self.blocked_by = None
        return len(keys)


class ZeroWaiter(Waiter):
    """A `wait_zero`."""

    __slots__ = ("key",)

    def __init__(self, waiters: Waiters, wait_ms: int | None, key: bytes) -> None:
        super().__init__(waiters, wait_ms)
        self.key: Final = key

    @property
    def awaits(self) -> str:
        return "zero"

    @property
    def method(self) -> str:
        return "wait_zero"

    @property
    def keys(self) -> tuple[bytes, ...]:
        return (self.key,)

    def enqueue(self) -> None:
        self.waiters.marks.add(self.key)
        self.waiters.awaited.setdefault(self.key, {})[self] = None

    def leave(self) -> int:
        others = self.waiters.awaited.get(self.key)
        if others is not None:  # the key is not there when this step has woken the waiter already
            others.pop(self, None)
            if not others:
                del self.waiters.awaited[self.key]
        return LEAVE_ENTRIES

    def outcome(self, now_ms: int) -> object:
        # Also True when the counter is absent and the waiter was not answered yet.
        waiters = self.waiters
        return self not in waiters.awaited.get(self.key, ()) or waiters.cache.is_expired(self.key, now_ms)


def _column(numbers: list[int]) -> array[int]:
    """Numbers from 0 on, with as few bytes for each as the largest one needs."""
    largest = max(numbers)
    return array(
        "B" if largest < 1 << 8 else "H" if largest < 1 << 16 else "I" if largest < 1 << 32 else "q", numbers
    )


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

    __slots__ = (
        "_numbers",
        "_ready",
        "_ready_all",
        "_woken",
        "_woken_all",
        "awaited",
        "cache",
        "generations",
        "marks",
        "queues",
        "unsettled",
        "worked",
    )

    def __init__(self, cache: Counters) -> None:
        self.cache: Final = cache
        self._numbers = 0  # the last that a waiter for room got
        self.queues: Final[Queues[AcquireWaiter]] = Queues()  # the waiters for room
        self.awaited: dict[bytes, dict[ZeroWaiter, None]] = {}  # by key: the waiters for zero. None is empty.
        # By key: the generation that is held; a subset of the counters.
        self.generations: dict[bytes, Generation] = {}
        self.marks: Final = Marks()  # of the keys in these three, for the hot path
        # Keys whose first waiter may fit now, each once, in the order they were noted.
        self._ready: OrderedDict[bytes, None] = OrderedDict()
        self._woken: deque[ZeroWaiter] = deque()  # their counter was absent; they are no longer in `awaited`
        # The same after `clear`, and before those. They are listed in one step and looked at in steps.
        self._ready_all: deque[bytes] = deque()
        self._woken_all: deque[Iterator[ZeroWaiter]] = deque()
        self.worked = 0  # entries of work done for waiters since the start
        self.unsettled = False  # `settle` has something to do; checked in every turn of every connection

    @property
    def watched(self) -> bool:
        """Whether anything here depends on a counter becoming absent."""
        return bool(self.generations or self.queues.by_key or self.awaited)

    # Events of the store.

    def on_absent(self, key: bytes) -> None:
        """A counter has become absent: its generation has ended."""
        self.generations.pop(key, None)
        woken = self.awaited.pop(key, None)
        if woken is not None:
            self._woken.extend(woken)
            self.unsettled = True
        if key in self.queues.by_key:
            self.on_decrease(key)

    def on_all_absent(self) -> None:
        """All counters have become absent in one step. O(keys with waiters and held keys): see `price_of_clear`."""
        self.generations.clear()
        if self.awaited:
            # Copied, because the dict itself stays: the hot path has it.
            self._woken_all.append(chain(tuple(self._woken), chain.from_iterable(self.awaited.copy().values())))
            self._woken.clear()
            self.awaited.clear()
        self._ready_all = deque(self.queues.by_key)  # what was noted before is among them
        self._ready.clear()
        self.unsettled = self._has_notes()

    def price_of_clear(self) -> int:
        """What `on_all_absent` costs, in entries."""
        return (len(self.generations) + len(self.awaited) + len(self.queues.by_key)) // KEYS_LISTED_PER_ENTRY

    def on_decrease(self, key: bytes) -> None:
        """The first waiter in this key's queue may fit now."""
        self._ready[key] = None
        self.unsettled = True

    def add_work(self, entries: int) -> None:
        """Work was done for waiters."""
        self.worked += entries

    def next_number(self) -> int:
        """The number of a waiter that enters the queues now."""
        self._numbers += 1
        return self._numbers

    def unanswered(self) -> set[Waiter] | None:
        """All waiters that are still to be answered; None where that cannot be told, while `clear` answers many. For
        tests. O(waiters)."""
        if self._woken_all:
            return None
        waiters: set[Waiter] = {waiter for key in self.queues.by_key for waiter in self.queues.of(key)}
        waiters.update(chain.from_iterable(self.awaited.values()))
        waiters.update(self._woken)
        return {waiter for waiter in waiters if not waiter.is_over}

    # Generations.

    def generation_to_hold(self, key: bytes, holder: int, by: int) -> Generation:
        """The present generation of a counter, on which there is one more hold: a session holds so much more."""
        generation = self.generations.get(key)
        if generation is None:
            self.marks.add(key)
            generation = self.generations[key] = Generation()
        generation.add_hold(holder, by)
        return generation

    def let_go(self, key: bytes, generation: Generation, holder: int, by: int) -> None:
        """A hold on this generation is over, which had this amount left."""
        if generation.remove_hold(holder, by) and self.generations.get(key) is generation:
            del self.generations[key]

    def held_by(self, key: bytes) -> list[tuple[int, int]]:
        """The numbers of the sessions that hold a counter, each with its amount, in no order. O(these sessions)."""
        generation = self.generations.get(key)
        return [] if generation is None else generation.amounts()

    # Acting on the notes.

    def settle(self, now_ms: int, entries_max: int, *, strictly: bool = False) -> int:
        """Answer the waiters that can be answered now, for up to about `entries_max` entries of work. Returns how
        many were done. A grant that costs more than is left is put off, unless it is the first; `strictly`, that
        too."""
        done = 0
        granted = False
        postponed: list[bytes] = []  # keys whose first waiter needs a shard with work under way
        while done < entries_max and self._has_notes():
            if self._woken_all or self._woken:
                done += self._wake()
                continue
            key = self._next_ready()
            done += 1
            first = self.queues.first(key)
            if first is None:
                continue
            if first.is_over:  # its session has ended
                done += first.leave()
                continue
            if first.blocked_by is not None and first.blocked_by != key:
                continue
            done += first.look(now_ms)
            if first.blocked_by is not None:
                continue  # a decrease of that key, or its first waiter leaving, makes another note
            if self.cache.is_worked_on(first.keys):
                postponed.append(key)
                continue
            price = ANSWER_ENTRIES + GRANT_ENTRIES * first.size
            if (granted or strictly) and done + price > entries_max:
                self._ready_all.appendleft(key)
                break
            self._grant(first, now_ms)
            granted = True
            done += price
        self._ready.update(dict.fromkeys(postponed))
        self.unsettled = self._has_notes()
        self.worked += done
        return done

    def _has_notes(self) -> bool:
        return bool(self._woken_all or self._woken or self._ready_all or self._ready)

    def _wake(self) -> int:
        """Answer the next waiter whose counter was absent. Returns the entries of work."""
        if not self._woken_all:
            waiter: ZeroWaiter | None = self._woken.popleft()
        else:
            waiter = next(self._woken_all[0], None)
        if waiter is None:
            self._woken_all.popleft()
            return 0
        waiter.finish(True)
        return ANSWER_ENTRIES

    def _next_ready(self) -> bytes:
        """Take the next key whose first waiter may fit."""
        return self._ready_all.popleft() if self._ready_all else self._ready.popitem(last=False)[0]

    def _grant(self, waiter: AcquireWaiter, now_ms: int) -> None:
        try:
            sums = waiter.sums
            granted, values = self.cache.add_within(waiter.items, sums, None, now_ms)
        except CommandError as fault:  # the cache is full
            waiter.leave()
            waiter.finish(fault)
            return
        assert granted, "there was room for each key"
        waiter.leave()  # which notes the next waiter of each key
        waiter.finish((True, values, waiter.grant(sums)))

    def invariants(self, now_ms: int) -> None:
        """Raise AssertionError, naming what is wrong, unless queues and generations are consistent. O(everything)."""
        for key, generation in self.generations.items():
            assert self.cache.peek([key], now_ms) != [0] or self.cache.is_expired(key, now_ms), (
                f"{key!r}: a generation of an absent counter"
            )
            assert generation.holds > 0, f"{key!r}: a generation without holds"
            assert all(amount > 0 for _, amount in generation.amounts()), f"{key!r}: a session holds nothing of it"
        for key, waiters in self.awaited.items():
            assert waiters, f"{key!r}: an empty set of waiters for zero"
        for key, queue in self.queues.by_key.items():
            assert isinstance(queue, AcquireWaiter) or len(queue) > 1, f"{key!r}: a queue of one waiter or none"
            waiters_of_key = self.queues.of(key)
            assert all(key in waiter.keys for waiter in waiters_of_key), f"{key!r}: a waiter in a wrong queue"
            numbers = [waiter.number for waiter in waiters_of_key]
            assert numbers == sorted(set(numbers)), f"{key!r}: a queue that is not in order"
        if self.unsettled:
            return
        for key in self.awaited:
            assert self.cache.peek([key], now_ms) != [0] or self.cache.is_expired(key, now_ms), f"{key!r}: not woken"
        for first in self.queues.firsts():
            if first.is_over or any(self.cache.is_expired(key, now_ms) for key in first.keys):
                continue  # it leaves soon, or the expiry has not been noticed yet
            assert not first.is_first() or not self.cache.fits(first.items, first.sums, now_ms), (
                "a waiter that fits was not granted"
            )
