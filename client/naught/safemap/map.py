"""The class SafeMap: counting, reading, deferred eviction, copying. The docstring of the package explains the design.

The tables are in `shard`; this module picks a key's shard, takes its lock in one of the forms that `locks` explains,
checks amounts, and starts and ends the cleaning thread.
"""

from __future__ import annotations

import heapq
import operator
import queue
import sys
import threading
import weakref
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from decimal import Decimal
from decimal import Overflow as DecimalOverflow
from fractions import Fraction
from functools import partial
from reprlib import recursive_repr
from types import GenericAlias, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args, overload

from naught.safemap.alias import Alias
from naught.safemap.cleaner import CLEAN_AFTER_S, clean
from naught.safemap.forks import hold_over_forks
from naught.safemap.locks import Lock, settle, with_locks
from naught.safemap.numbers import (
    K,
    Unmatched,
    V,
    kind_of,
    negated,
    raise_infinite,
    raise_underflow,
    shown,
    tolerance_of,
)
from naught.safemap.shard import Shard
from naught.safemap.views import Items, Values

D = TypeVar("D")

Policy = Literal["eager", "deferred"]

# How many shards a map has by default. Under the interpreter's global lock only one thread runs at a time, so more
# tables would seldom spare a thread a wait, and picking one costs `incr` a fifth more instructions. Without the
# global lock threads would wait for each other. A prime, so that integer keys at equal distances spread over all
# shards.
SHARD_COUNT = 1 if getattr(sys, "_is_gil_enabled", lambda: True)() else 31
# How many keys a sweep deletes before it releases the shard's lock: some tens of microseconds.
CLEAN_BATCH_KEYS = 256


class SafeMap(Mapping[K, V]):
    """A thread-safe mapping from keys to numbers above zero. A number that reaches zero is deleted with its key.

        seats = SafeMap[str, int]()
        seats.incr("gold")             # 1
        seats.decr("gold")             # (0, True): this call evicted it
        "gold" in seats                # False

    `SafeMap(value_type=int, entries=(), *, tolerance, policy="eager", shard_count=1, clean_after_s=1.0)`

    value_type: the type of the values: int (without limit), Fraction, Decimal, or float. Any other type raises
        TypeError, because its zero cannot be known; type checkers refuse it as well. Amounts must be of this type
        or int (bool is neither), finite and above zero. Otherwise TypeError or ValueError is raised, and nothing
        has changed.
    entries: a mapping, or pairs of key and number, to start with, as for `merge`.
    tolerance: required for float and refused for the other types. A number from -tolerance to tolerance counts as
        zero: a value that comes down to it is evicted, and an amount within it is refused as 0 is. Finite, and at
        least 0.
    policy: "eager" evicts at once. "deferred" flags zeros, and a background thread evicts them `clean_after_s`
        seconds later, or sooner when many are flagged; it is for counters that flap between 0 and 1. Counting and
        reading return the same results under both policies. `close` or a `with` block ends the thread when you
        choose; it also ends when no key is flagged, and when the map is collected.
    shard_count: how many tables and locks, at least 1. More than one is for Python without the global lock, where the
        default is 31, and for maps of millions of keys whose rebuilding must not take long at once. A prime spreads
        integer keys best.
    clean_after_s: how long a flagged zero stays, in seconds, at least 0.

    The promises of `collections.abc.Mapping` hold: `map[key]` raises KeyError for an absent key, `get` returns None
    or the default. There is no `map[key] = value` and no `map[key] += 1`, which would lose counts between threads.
    A loop goes over a copy of one shard after another: it never fails because the map changes meanwhile, and each
    value was true when its shard was copied. `snapshot` gives the values of all shards at one instant.

    Decimal sums follow the calling thread's context (28 digits unless changed); float sums round as floats do.

    Cost: the time of `incr`, `decr`, `get`, `in`, `take` and `set` does not depend on the number of keys. Now and
    then one of them rebuilds a shard's table that is mostly empty; spread over the evictions before it, that is a
    constant cost for each. `len` takes time in proportion to the number of shards, and with deferred eviction to
    the number of flagged keys, at most four for each zero. Pickling and copying keep settings and counters. A
    forked child has its own copy of the map, with no lock left held by a thread of the parent.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: SafeMap[K, int],
            value_type: type[int] = ...,
            entries: Mapping[K, int] | Iterable[tuple[K, int]] = ...,
            *,
            policy: Policy = ...,
            shard_count: int = ...,
            clean_after_s: float = ...,
        ) -> None: ...
        @overload
        def __init__(
            self: SafeMap[K, Fraction],
            value_type: type[Fraction],
            entries: Mapping[K, Fraction | int] | Iterable[tuple[K, Fraction | int]] = ...,
            *,
            policy: Policy = ...,
            shard_count: int = ...,
            clean_after_s: float = ...,
        ) -> None: ...
        @overload
        def __init__(
            self: SafeMap[K, Decimal],
            value_type: type[Decimal],
            entries: Mapping[K, Decimal | int] | Iterable[tuple[K, Decimal | int]] = ...,
            *,
            policy: Policy = ...,
            shard_count: int = ...,
            clean_after_s: float = ...,
        ) -> None: ...
        @overload
        def __init__(
            self: SafeMap[K, float],
            value_type: type[float],
            entries: Mapping[K, float] | Iterable[tuple[K, float]] = ...,
            *,
            tolerance: float,
            policy: Policy = ...,
            shard_count: int = ...,
            clean_after_s: float = ...,
        ) -> None: ...

    def __init__(
        self,
        value_type: Any = int,
        entries: Any = (),
        *,
        tolerance: float | None = None,
        policy: Policy = "eager",
        shard_count: int = SHARD_COUNT,
        clean_after_s: float = CLEAN_AFTER_S,
    ) -> None:
        self._configure(value_type, tolerance, policy, shard_count, clean_after_s)
        self._start_empty()
        self.merge(entries)

    def _configure(
        self, value_type: Any, tolerance: float | None, policy: Any, shard_count: int, clean_after_s: float
    ) -> None:
        """Check the settings and keep them. No field set here changes afterwards."""
        kind = kind_of(value_type)
        # The type of every value in the tables.
        self._value_type: type[Any] = value_type
        # The zero and the one of that type: what an absent counter counts as, and the default amount.
        self._zero = kind.zero
        self._one = kind.one
        # The one amount that is valid without any check: the 1 of an exact type, which is the default for int.
        self._known_amount = kind.one if kind.is_finite is None else Unmatched
        # What `decr` returns where no counter is left, made only once: this saves an eviction as much time as the
        # test for it costs.
        self._evicted: tuple[Any, bool] = (kind.zero, True)
        self._absent: tuple[Any, bool] = (kind.zero, False)
        # The type of amounts that need no check but `> 0`. See Unmatched.
        self._exact_type: type[Any] = value_type if kind.is_finite is None else Unmatched
        # Tells finite numbers from the others; None where the type has no others.
        self._is_finite = kind.is_finite
        # Every finite number is below it. Used only where the type has others.
        self._infinity = kind.infinity
        # A number that is not above it counts as zero. Always 0 except for float.
        self._tolerance = tolerance_of(value_type, tolerance)
        if policy not in get_args(Policy):
            raise ValueError(f"policy must be 'eager' or 'deferred', not {policy!r}")
        # How zeros are evicted unless `close` was called; `_eager_result` says how they are evicted now.
        self._policy: Policy = policy
        if isinstance(shard_count, bool) or not isinstance(shard_count, int):
            raise TypeError(f"shard_count must be an int, not {type(shard_count).__name__}")
        if shard_count < 1:
            raise ValueError(f"shard_count must be at least 1, not {shard_count}")
        # The length of `_shards`.
        self._shard_count = shard_count
        if not 0 <= clean_after_s < threading.TIMEOUT_MAX:
            raise ValueError(f"clean_after_s must be a number of seconds of at least 0, not {clean_after_s!r}")
        # How long the cleaning thread leaves a flagged zero in its table.
        self._clean_after_s = clean_after_s

    def _start_empty(self) -> None:
        """Set the fields that change during the life of the map."""
        # The key's hash modulo the number of shards picks its shard. The tuple is never changed.
        self._shards = tuple(Shard(self._shard_count) for _ in range(self._shard_count))
        # The only shard. None where there are more: then the key's hash picks one.
        self._only_shard = self._shards[0] if self._shard_count == 1 else None
        # The lock of each shard, in their order.
        self._locks = tuple(shard.lock for shard in self._shards)
        # What a decrement that evicts eagerly returns; None while zeros are flagged instead, until `close`.
        self._eager_result = self._evicted if self._policy == "eager" else None
        # Held to start, end or forget the cleaning thread. Taken before a shard's lock, never after.
        self._cleaner_lock = Lock()
        # Whether a cleaning thread runs or is being started: it will see every key that is flagged now.
        self._cleaning = False
        # The cleaning thread, which `close` joins.
        self._cleaner: threading.Thread | None = None
        # The cleaning thread waits on it; an item ends the thread. A SimpleQueue, because its `put` is safe in a
        # finalizer, which may run anywhere.
        self._stop: queue.SimpleQueue[None] = queue.SimpleQueue()
        hold_over_forks(self)

    if not TYPE_CHECKING:

        def __class_getitem__(cls, parameters: Any) -> GenericAlias:
            if any("__orig_bases__" in base.__dict__ for base in cls.__mro__[: cls.__mro__.index(SafeMap)]):
                return GenericAlias(cls, parameters)  # it has types of its own, or none left to choose
            if not isinstance(parameters, tuple) or len(parameters) != 2:
                raise TypeError(f"{cls.__name__} takes two types, of its keys and of its values")
            # A type that is not known yet (a type variable, a name in quotes, Any) is left to the type checker.
            if parameters[1] is not Any and not isinstance(parameters[1], TypeVar | str):
                kind_of(parameters[1])
            return Alias(cls, parameters)

    # Counting.

    def incr(self, key: K, by: V | int = 1) -> V:
        """Add `by` to a counter, creating it if it is absent; return the value after.

        TypeError if `by` is not a number of this map's type (or int), ValueError if it is not finite or not above
        zero, or if the sum is not finite. Nothing has changed then.
        """
        if by is not self._known_amount and (type(by) is not self._exact_type or by <= 0):
            by = self._amount(by)
            if self._is_finite is not None:
                return self._incr_rounded(key, by)
        shard = self._only_shard or self._shards[hash(key) % self._shard_count]
        lock = shard.lock
        held = None
        try:
            held = lock.acquired
            table = shard.table
            value: V
            # Not `table.get`: where a call returns, Python may run other code (a signal handler, a finalizer). Its
            # own change to this counter would be lost if it came between reading and storing.
            if key in table:
                value = table[key] + by
            else:
                value = by  # type: ignore[assignment]
            table[key] = value
            held = lock.released
        except BaseException:
            was_held = held
            if held and lock.owned:
                held = lock.released
            if was_held or lock.owned:
                settle(lock)
            raise
        return value

    # `strict` is meant to be given by name. It may be given by place too, because Python 3.11 calls a method with
    # parameters by name alone a tenth slower than the whole of this one.
    def decr(self, key: K, by: V | int = 1, strict: bool = False) -> tuple[V, bool]:
        """Subtract `by` from a counter; return the value after, and whether this call evicted the counter.

        A result of zero or below counts as zero, and the counter is gone. For an absent counter the result is
        (0, False). With `strict`, subtracting more than the counter has raises Underflow, and nothing has changed.
        Other errors as for `incr`.
        """
        if by is not self._known_amount and (type(by) is not self._exact_type or by <= 0):
            by = self._amount(by)
            if self._is_finite is not None:
                return self._decr_rounded(key, by, strict)
        shard = self._only_shard or self._shards[hash(key) % self._shard_count]
        lock = shard.lock
        held = None
        try:
            # Not `key in table`, which would look a second time; a key that is absent takes the longer way. The lock
            # is taken within this `try`, because no handler covers the step with which a `try` begins.
            try:
                held = lock.acquired
                table = shard.table
                before: V | None = table[key]
            except KeyError:  # perhaps of the key's own comparison, which then raises it again
                before = table[key] if key in table else None  # noqa: SIM401 - as in `incr`
            if before is None:
                held = lock.released
                if strict:
                    raise_underflow(key, self._zero, by)
                return self._absent
            # The eviction branch. It compares before it subtracts, and returns a tuple that was made before, so an
            # eviction costs little more than a count. naught_loadtest/bars/safemap.py measures it.
            if before > by:
                value: V = before - by
                table[key] = value
                held = lock.released
                return value, False
            if strict and before < by:
                held = lock.released
                raise_underflow(key, before, by)
            eager_result = self._eager_result
            if eager_result is not None:
                del table[key]
                # As count_eviction does, without the call.
                for _ in shard.evictions_left:
                    held = lock.released
                    return eager_result
                shard.compact()
                held = lock.released
                return eager_result
            if not before:  # a zero that was flagged earlier: the counter is absent
                held = lock.released
                return self._absent
            # A key that is still flagged is not flagged a second time, which would take a counter that flaps a tenth
            # longer.
            if shard.all_flagged:
                table[key] = 0
                held = lock.released
                return self._evicted
            flagged = shard.flagged
            if key in flagged:
                table[key] = 0
                held = lock.released
                return self._evicted
            seen = self._cleaning and flagged
            flagged[key] = None
            table[key] = 0
            if seen:
                shard.flag_all()
                held = lock.released
                return self._evicted
            held = lock.released
        except BaseException:
            was_held = held
            if held and lock.owned:
                held = lock.released
            if was_held or lock.owned:
                settle(lock)
            raise
        # This is the first key of its shard to be flagged, or an interrupt has kept the thread from starting with the
        # first. The thread that starts here sees the later ones as well.
        self._start_cleaner()
        return self._evicted

    def _incr_rounded(self, key: K, by: Any) -> V:
        """`incr` for Decimal and float, whose sums may be infinite."""
        shard = self._only_shard or self._shards[hash(key) % self._shard_count]
        lock = shard.lock
        held = None
        try:
            held = lock.acquired
            table = shard.table
            before = table[key] if key in table else None  # noqa: SIM401 - as in `incr`
            value: V = before + by if before else by  # a flagged zero is no number to round the sum with
            # A comparison and not a call of `_is_finite`, for the reason in `incr`. A sum of Decimals can be rounded
            # to zero.
            finite = 0 < value < self._infinity
            if finite:
                table[key] = value
            held = lock.released
        except BaseException as error:
            was_held = held
            if held and lock.owned:
                held = lock.released
            if was_held or lock.owned:
                settle(lock)
            if not isinstance(error, DecimalOverflow):
                raise
            finite = False
        if not finite:
            raise_infinite(key, by)
        return value

    def _decr_rounded(self, key: K, by: Any, strict: bool) -> tuple[V, bool]:
        """`decr` for Decimal and float: it compares the difference with zero, because differences are rounded."""
        shard = self._only_shard or self._shards[hash(key) % self._shard_count]
        lock = shard.lock
        held = None
        try:
            held = lock.acquired
            table = shard.table
            before = table[key] if key in table else self._zero  # noqa: SIM401 - as in `incr`
            # Where all is exact but the difference, it is not made if it is below zero: it could be infinite.
            value: V = before - by if before >= by or self._tolerance else negated(self._one)
            if value > self._tolerance:
                table[key] = value
                held = lock.released
                return value, False
            if strict and value < -self._tolerance:
                held = lock.released
                raise_underflow(key, before, by)
            if not before:
                held = lock.released
                return self._absent
            if self._eager_result is not None:
                shard.remove(key, None)
                held = lock.released
                return self._evicted
            shard.flagged[key] = None
            table[key] = 0
            held = lock.released
        except BaseException:
            was_held = held
            if held and lock.owned:
                held = lock.released
            if was_held or lock.owned:
                settle(lock)
            raise
        if not lock.owned:  # else `_take_steps` starts it, once it has released all locks
            self._start_cleaner()
        return self._evicted

    def add(self, deltas: Mapping[K, V | int] | Iterable[tuple[K, V | int]]) -> list[V]:
        """Change several counters: a delta above zero is an `incr`, below zero a `decr`. Return the values after.

        The items are applied one by one, in order; other threads may see some applied and others not yet. All are
        checked first: if one is refused as `incr` would refuse it, nothing has changed.
        """
        steps: list[tuple[K, bool, V]] = []
        for key, delta in _pairs(deltas):
            hash(key)
            number = self._number(delta)
            down = number < 0
            steps.append((key, down, self._amount(negated(number) if down else number)))
        return self._take_steps(steps)

    def merge(self, other: Mapping[K, V | int] | Iterable[tuple[K, V | int]]) -> None:
        """Add every number of another mapping (or of pairs) to the counter of its key.

        Zeros are skipped. All numbers are checked first: TypeError for a number of another type, ValueError for one
        that is negative or not finite, and nothing has changed. `other` is read before anything is added, so a map
        may be merged into itself.
        """
        steps: list[tuple[K, bool, V]] = []
        for key, number in _pairs(other):
            hash(key)
            amount = self._value(number)
            if amount > self._tolerance:
                steps.append((key, False, amount))
        self._take_steps(steps)

    def _take_steps(self, steps: list[tuple[K, bool, V]]) -> list[V]:
        """Count checked amounts up or down, one by one; return the values after."""
        if self._is_finite is not None:
            # Whether a sum is finite depends on what is there, so the locks are held from the check to the last step.
            after = with_locks(self._locks, partial(self._take_steps_locked, steps))
            if not self._cleaning and self._flagged_count():
                self._start_cleaner()
            return after
        return [self.decr(key, by)[0] if down else self.incr(key, by) for key, down, by in steps]

    def _take_steps_locked(self, steps: list[tuple[K, bool, V]]) -> list[V]:
        after: dict[K, Any] = {}
        for key, down, by in steps:
            before = after[key] if key in after else SafeMap.get(self, key, self._zero)
            try:
                if down:
                    after[key] = before - by if before > by else self._zero
                else:
                    after[key] = before + by if before else by
            except DecimalOverflow:
                raise_infinite(key, by)
            if not (down or 0 < after[key] < self._infinity):
                raise_infinite(key, by)
        return [self.decr(key, by)[0] if down else self.incr(key, by) for key, down, by in steps]

    def set(self, key: K, value: V | int) -> V:
        """Set the value of a counter; return the value before, 0 if it was absent. Setting zero evicts.

        TypeError for a number of another type, ValueError for one that is negative or not finite.
        """
        number = self._value(value)
        if number <= self._tolerance:
            return self.take(key)
        shard = self._only_shard or self._shards[hash(key) % self._shard_count]
        lock = shard.lock
        held = None
        try:
            held = lock.acquired
            table = shard.table
            before: V = table[key] if key in table else self._zero  # noqa: SIM401 - as in `incr`
            table[key] = number
            held = lock.released
        except BaseException:
            was_held = held
            if held and lock.owned:
                held = lock.released
            if was_held or lock.owned:
                settle(lock)
            raise
        return before or self._zero  # a flagged zero is the int 0, whatever the type

    def take(self, key: K) -> V:
        """Evict a counter and return the value it had, 0 if it was absent, in one step."""
        shard = self._only_shard or self._shards[hash(key) % self._shard_count]
        lock = shard.lock
        held = None
        try:
            held = lock.acquired
            removed: V = shard.remove(key, self._zero)
            held = lock.released
        except BaseException:
            was_held = held
            if held and lock.owned:
                held = lock.released
            if was_held or lock.owned:
                settle(lock)
            raise
        return removed

    def clear(self) -> int:
        """Evict every counter at one instant; return how many there were. Their memory is released."""
        return with_locks(self._locks, self._clear_locked)

    def _clear_locked(self) -> int:
        count = sum([shard.live_count() for shard in self._shards])
        for shard in self._shards:
            shard.clear()
        return count

    # Reading: the methods of Mapping.

    def __getitem__(self, key: K) -> V:
        value: V | None = SafeMap.get(self, key)  # a subclass may have another default
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: Any) -> bool:
        return SafeMap.get(self, key) is not None

    if TYPE_CHECKING:

        @overload
        def get(self, key: K, /) -> V | None: ...
        @overload
        def get(self, key: K, /, default: V) -> V: ...
        @overload
        def get(self, key: K, /, default: D) -> V | D: ...

    def get(self, key: Any, /, default: Any = None) -> Any:
        """Return the value of a counter, or `default` (None unless given, as for every Mapping) if it is absent.

        Calculations want `get(key, 0)`.
        """
        shard = self._only_shard or self._shards[hash(key) % self._shard_count]
        lock = shard.lock
        held = None
        try:
            held = lock.acquired
            value = shard.table.get(key)
            held = lock.released
        except BaseException:
            was_held = held
            if held and lock.owned:
                held = lock.released
            if was_held or lock.owned:
                settle(lock)
            raise
        return value or default

    def __len__(self) -> int:
        return sum([with_locks((shard.lock,), shard.live_count) for shard in self._shards])

    def __iter__(self) -> Iterator[K]:
        for entries in self._copies():
            yield from entries

    def items(self) -> ItemsView[K, V]:
        """Return a live view of keys and values. A loop over it goes over a copy of one shard after another."""
        return Items(self)

    def values(self) -> ValuesView[V]:
        """Return a live view of the values. A loop over it goes over a copy of one shard after another."""
        return Values(self)

    def _copies(self) -> Iterator[dict[K, V]]:
        """Return the counters of one shard after another, each copied at one instant."""
        for shard in self._shards:
            yield with_locks((shard.lock,), shard.live_entries)

    def snapshot(self) -> dict[K, V]:
        """Return a dict of all counters at one instant. Other threads' changes wait until the shards are copied."""
        copies = with_locks(self._locks, self._copies_locked)
        entries: dict[K, V] = copies[0]
        for each in copies[1:]:
            entries.update(each)
        return entries

    def _copies_locked(self) -> list[dict[Any, Any]]:
        return [shard.live_entries() for shard in self._shards]

    def most_common(self, n: int | None = None) -> list[tuple[K, V]]:
        """Return the `n` largest counters (all, for None) with their values, the largest first.

        Counters of the same value come in no particular order. All values are of one instant, as for `snapshot`.
        Cost: a copy of all entries, and a heap of `n`.
        """
        entries = self.snapshot().items()
        if n is None:
            return sorted(entries, key=operator.itemgetter(1), reverse=True)
        return heapq.nlargest(n, entries, key=operator.itemgetter(1))

    # Settings and sizes.

    @property
    def value_type(self) -> type[V]:
        """The type of the values: int, Fraction, Decimal or float."""
        return self._value_type

    @property
    def tolerance(self) -> float:
        """A number that is not above it counts as zero; 0 for all types but float."""
        return self._tolerance

    @property
    def policy(self) -> Policy:
        """How zeros are evicted: "eager" or "deferred"."""
        return self._policy

    @property
    def shard_count(self) -> int:
        """The number of tables that the keys are spread over, each with its own lock."""
        return self._shard_count

    @property
    def clean_after_s(self) -> float:
        """How long a flagged zero stays, in seconds, unless many are flagged. The eager policy does not use it."""
        return self._clean_after_s

    @property
    def raw_entries(self) -> int:
        """The number of entries in the tables, flagged zeros included. With the eager policy always `len(map)`."""
        return sum(len(shard.table) for shard in self._shards)

    @property
    def table_bytes(self) -> int:
        """The memory of the tables in bytes, without keys and values."""
        return sum(sys.getsizeof(shard.table) + sys.getsizeof(shard.flagged) for shard in self._shards)

    # Deferred eviction.

    def sweep(self) -> int:
        """Evict every zero that is flagged now, in the calling thread; return how many. For eager maps 0.

        The background thread calls it as well. A shard's lock is held for 256 keys at a time, and where many of a
        shard's keys are flagged, once for a pass over all of them.
        """
        cleared = 0
        for shard in self._shards:
            # As many keys as are flagged now: keys that flap faster than they are deleted wait for the next sweep.
            left = shard.flagged_count()
            if shard.all_flagged:  # those that are flagged one by one are cleared first
                left += len(shard.flagged) + CLEAN_BATCH_KEYS
            while left > 0 and shard.flagged_count():
                cleared += with_locks((shard.lock,), partial(shard.clear_flagged, CLEAN_BATCH_KEYS))
                left -= CLEAN_BATCH_KEYS
        return cleared

    def _start_cleaner(self) -> None:
        """Start the cleaning thread unless it runs. Called after a key was flagged, with no lock held."""
        if not with_locks((self._cleaner_lock,), self._start_locked):
            # The map was closed meanwhile, or no thread could be started: evict the zeros here.
            self.sweep()

    def _start_locked(self) -> bool:
        """Start the cleaning thread, with its lock held; return whether there is one."""
        if self._cleaning:
            return True
        # Set before the first call below, so that a finalizer that runs there does not start a second thread.
        self._cleaning = True
        try:
            if self._eager_result is None:
                stop = self._stop
                owner = weakref.ref(self, lambda _: stop.put(None))
                thread = threading.Thread(
                    target=clean,
                    args=(owner, stop, self._clean_after_s),
                    name="naught-safemap-cleaner",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError:
                    pass  # the system has no more threads, or the interpreter is ending
                else:
                    # The thread cannot have ended yet: it takes this lock before it ends.
                    self._cleaner = thread
                    return True
            self._cleaning = False
        except BaseException:
            # Interrupted. The next zero starts a thread; if this one runs, there are two until none is flagged.
            self._cleaning = False
            raise
        return False

    def _flagged_count(self) -> int:
        """Return how many keys are flagged. Takes no lock, so other threads may have changed it already."""
        return sum(shard.flagged_count() for shard in self._shards)

    def _clean_once(self) -> bool:
        """Sweep, in the cleaning thread. Return whether keys are flagged again; if not, the thread must end."""
        self.sweep()
        return with_locks((self._cleaner_lock,), self._goes_on_locked)

    def _goes_on_locked(self) -> bool:
        # A decrement flags its key first and calls `_start_cleaner` after, which needs this lock: a key that is not
        # seen here will start the thread again.
        if self._flagged_count():
            return True
        self._cleaning = False
        self._cleaner = None
        return False

    def close(self) -> None:
        """End the background thread and evict the flagged zeros. From now on the map evicts eagerly.

        Waits until the thread has ended. The map can still be used; closing it again does nothing.
        """
        thread = with_locks((self._cleaner_lock,), self._close_locked)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        # In a loop, because a decrement that began before `_eager_result` was set may flag another key.
        is_inside = any(lock.owned for lock in self._locks)
        while self._flagged_count():
            self.sweep()
            if is_inside:  # called from inside a method, whose flags a sweep leaves
                break

    def _close_locked(self) -> threading.Thread | None:
        """End the cleaning thread, with its lock held; return it."""
        self._eager_result = self._evicted
        self._cleaning = False
        thread, self._cleaner = self._cleaner, None
        self._stop.put(None)
        return thread

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Copies and text.

    def copy(self) -> Self:
        """Return an independent map with the same settings and the counters of one instant."""
        twin: Self = object.__new__(type(self))  # a subclass's own `__new__` may need arguments
        twin.__setstate__(self.__getstate__())
        return twin

    __copy__ = copy

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings, the counters and the fields that a subclass has added, without locks and thread."""
        added = {name: value for name, value in self.__dict__.items() if name not in _OWN_FIELDS}
        settings = (
            self._value_type,
            None if self._value_type is not float else self._tolerance,
            self._policy,
            self._shard_count,
            self._clean_after_s,
        )
        return {"settings": settings, "entries": self.snapshot(), "added": added, "slots": self._slots()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._configure(*state["settings"])
        self._start_empty()
        self.__dict__.update(state["added"])
        for name, value in state.get("slots", {}).items():
            object.__setattr__(self, name, value)
        kind, is_finite, tolerance = self._value_type, self._is_finite, self._tolerance
        for key, value in state["entries"].items():
            if type(value) is not kind or (is_finite is not None and not is_finite(value)) or value <= tolerance:
                raise ValueError(f"the state of a SafeMap of {kind.__name__} has {shown(value)} for {shown(key)}")
            self._shards[hash(key) % self._shard_count].table[key] = value

    def _slots(self) -> dict[str, Any]:
        """Return what is in the slots that a subclass has added with `__slots__`."""
        found = {}
        for base in reversed(type(self).__mro__):
            for name, member in vars(base).items():
                if isinstance(member, MemberDescriptorType):
                    try:
                        found[name] = member.__get__(self)
                    except AttributeError:  # never set
                        continue
        return found

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The same for every protocol: by default the oldest ones do not call __getstate__.
        return _make_bare, (type(self),), self.__getstate__()

    @recursive_repr("SafeMap(...)")
    def __repr__(self) -> str:
        parts = [self._value_type.__name__]
        if entries := self.snapshot():
            parts.append(repr(entries))
        if self._value_type is float:
            parts.append(f"tolerance={self._tolerance!r}")
        if self._policy != "eager":
            parts.append(f"policy={self._policy!r}")
        if self._shard_count != SHARD_COUNT:
            parts.append(f"shard_count={self._shard_count}")
        if self._clean_after_s != CLEAN_AFTER_S:
            parts.append(f"clean_after_s={self._clean_after_s!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    # Numbers.

    def _number(self, number: object) -> V:
        """Return a finite number converted to this map's type; TypeError or ValueError if that cannot be done."""
        kind = self._value_type
        if isinstance(number, bool) or not isinstance(number, kind | int):
            raise TypeError(f"this SafeMap counts {kind.__name__}, not {type(number).__name__}")
        try:
            exact: Any = number if type(number) is kind else kind(number)
        except OverflowError:  # an int too large to be a float
            raise ValueError(f"too large for {kind.__name__}: {shown(number)}") from None
        if self._is_finite is not None and not self._is_finite(exact):
            raise ValueError(f"a number to count must be finite, not {shown(number)}")
        result: V = exact
        return result

    def _amount(self, by: object) -> V:
        """Check an amount of `incr` or `decr`, which is finite and above zero; return it as this map's type."""
        if type(by) is int and by == 1 and self._tolerance < 1:  # the default, where the type is not int
            one: V = self._one
            return one
        amount = self._number(by)
        if amount > self._tolerance:
            return amount
        if amount > 0:
            raise ValueError(
                f"{shown(by)} is zero by this map's tolerance of {self._tolerance!r}; amounts must be above zero"
            )
        raise ValueError(f"an amount must be above zero, not {shown(by)}")

    def _value(self, number: object) -> V:
        """Check a value to set or add, which is finite and not below zero; return it as this map's type."""
        value = self._number(number)
        if value < -self._tolerance:
            raise ValueError(f"a counter cannot be negative: {shown(number)}")
        return value

    # Fork, as `forks` explains.

    def _every_lock(self) -> tuple[Lock, ...]:
        """Return the locks that a fork takes, in the order in which they are always taken."""
        return (self._cleaner_lock, *self._locks)

    def _start_again_in_child(self) -> None:
        """In a child, evict the zeros that the cleaning thread, which is left in the parent, would."""
        self._cleaning = False
        self._cleaner = None
        self._stop = queue.SimpleQueue()
        self.sweep()


def _pairs(entries: Any) -> list[tuple[Any, Any]]:
    """Read a mapping or an iterable of pairs as a whole; return its pairs."""
    if isinstance(entries, SafeMap):
        return list(entries.snapshot().items())
    if isinstance(entries, Mapping):
        return list(entries.items())
    return [(key, number) for key, number in entries]


def _make_bare(map_class: type[SafeMap[Any, Any]]) -> SafeMap[Any, Any]:
    """Return a map without fields, which pickle and copy fill with `__setstate__`."""
    return object.__new__(map_class)


# The fields that SafeMap itself sets. Any other field of an instance was added by a subclass, and is pickled.
_OWN_FIELDS = frozenset(vars(SafeMap[str, int]()))
