"""The queues of the requests that wait for room: by key, the waiters in the order they came. Pure.

A waiter for many keys has a place in the queue of each, so a place must be small: what it takes is counted
(`waiters.WAIT_KEY_BYTES`). A queue has one of three forms. A waiter alone, as most are, stands there itself. Up to
`TUPLE_MAX` of them are a tuple. More are a deque, in which a waiter is found by its number: waiters get their numbers
in the order in which they enter, and each enters all its queues at once, so every queue is sorted. (An OrderedDict,
which needs no search, takes 300 bytes for a key with two waiters and 100 bytes a place in long queues.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from operator import attrgetter
from typing import Final, Generic, Protocol, TypeVar

TUPLE_MAX: Final = 64
"""Waiters in a queue that is a tuple. Entering and leaving copy it, which takes 0.4 us at most. A deque begins
with 64 places."""

PLACES_MOVED_PER_ENTRY: Final = 2_048
"""Places that a waiter's leaving may move for an entry of work. It takes 3 us with 10 000, 66 us with 200 000."""


class Numbered(Protocol):
    """What a queue asks of a waiter."""

    @property
    def number(self) -> int:
        """Higher than that of every waiter that has entered a queue before."""


WaiterT = TypeVar("WaiterT", bound=Numbered)


_number_of: Final = attrgetter("number")
"""For the search in a queue, which asks for seven numbers in one of 80. (A function takes twice the time.)"""


class Queues(Generic[WaiterT]):
    """No queue is empty: a key without waiters is not in `by_key`."""

    __slots__ = ("by_key",)

    def __init__(self) -> None:
        # Read by all who ask whether a key has a queue; a dict that stays the same, because the hot path has it.
        self.by_key: Final[dict[bytes, WaiterT | tuple[WaiterT, ...] | deque[WaiterT]]] = {}

    def enter(self, key: bytes, waiter: WaiterT) -> None:
        """Put a waiter at the end of a key's queue. O(1)."""
        queue = self.by_key.get(key)
        if queue is None:
            self.by_key[key] = waiter
        elif isinstance(queue, deque):
            queue.append(waiter)
        elif not isinstance(queue, tuple):
            self.by_key[key] = (queue, waiter)
        elif len(queue) < TUPLE_MAX:
            self.by_key[key] = (*queue, waiter)
        else:
            self.by_key[key] = deque((*queue, waiter))

    def first(self, key: bytes) -> WaiterT | None:
        """The first waiter in a key's queue; None where there is no queue. O(1)."""
        queue = self.by_key.get(key)
        return queue[0] if isinstance(queue, tuple | deque) else queue

    def remove(self, key: bytes, waiter: WaiterT) -> bool:
        """Take a waiter out of a key's queue, if it is there. Returns whether another one is the first now.

        O(1) for the first and the last; for those between see `PLACES_MOVED_PER_ENTRY`.
        """
        queue = self.by_key.get(key)
        if queue is waiter:
            del self.by_key[key]
            return False
        if not isinstance(queue, tuple | deque):
            return False
        at = 0 if queue[0] is waiter else bisect_left(queue, waiter.number, key=_number_of)
        if at == len(queue) or queue[at] is not waiter:
            return False
        if isinstance(queue, tuple):
            left = queue[:at] + queue[at + 1 :]
            self.by_key[key] = left if len(left) > 1 else left[0]
        else:
            del queue[at]
            if len(queue) <= TUPLE_MAX // 2:  # half: a queue at the boundary does not change its form at every turn
                self.by_key[key] = tuple(queue)
        return at == 0

    def places_moved(self, key: bytes) -> int:
        """How many places taking a waiter out of a key's queue may move. O(1)."""
        queue = self.by_key.get(key)
        return len(queue) if isinstance(queue, deque) else 0

    def of(self, key: bytes) -> list[WaiterT]:
        """The waiters in a key's queue, in order. O(its waiters)."""
        queue = self.by_key.get(key, ())
        return list(queue) if isinstance(queue, tuple | deque) else [queue]

    def firsts(self) -> set[WaiterT]:
        """The first waiters of all queues; one may be the first in many. O(keys)."""
        return {first for key in self.by_key if (first := self.first(key)) is not None}
