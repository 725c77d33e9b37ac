"""The locks of a cache's shards: who owns a shard across a pause, and who is next. Sans-IO.

Commands run to completion between two turns of the event loop, which on an event loop is what holding a lock
means; they need no lock object. Whatever works on a shard in *several* turns (a compaction in slices) holds the
shard's lock over its pauses, and a command that touches that shard waits in the lock's queue.

A waiter is an owner-to-be and a function. When the lock comes to it, in the order of asking, it *owns* the lock
first and is told second; the function must only make a note or schedule something, never do the work. A waiter
that no longer wants the lock says `withdraw`, which is right at any time: before its turn it leaves the queue,
after its turn it gives the lock on. So a lock is never lost with a waiter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Granted = Callable[[], None]


class ShardLock:
    """One shard's lock: an owner and a queue."""

    __slots__ = ("owner", "queue")

    def __init__(self) -> None:
        self.owner: object | None = None  # None: free
        self.queue: deque[tuple[object, Granted]] = deque()  # who waits, in the order of asking


class ShardLocks:
    """All locks of one cache, and how many of them are held.

    `held` is what the hot path tests once per slice of input: while it is 0 no shard needs a look.
    """

    __slots__ = ("_locks", "held")

    def __init__(self, shards: int) -> None:
        self._locks = [ShardLock() for _ in range(shards)]
        self.held = 0  # how many shards have an owner

    def owner(self, shard: int) -> object | None:
        """Who holds a shard; None where it is free."""
        return self._locks[shard].owner

    def worked_on(self, shard: int) -> bool:
        """Whether a shard's owner works on it. Those who have `waits_only` merely keep others from beginning."""
        owner = self._locks[shard].owner
        return owner is not None and not getattr(owner, "waits_only", False)

    def queue_length(self, shard: int) -> int:
        """How many stand in a shard's queue."""
        return len(self._locks[shard].queue)

    def acquire(self, shard: int, owner: object, granted: Granted | None = None) -> bool:
        """Take a free shard and answer True. Otherwise queue up, when `granted` is given, and answer False.

        An owner that asks again for what it owns gets True.
        """
        lock = self._locks[shard]
        if lock.owner is None:
            lock.owner = owner
            self.held += 1
            return True
        if lock.owner is owner:
            return True
        if granted is not None:
            lock.queue.append((owner, granted))
        return False

    def release(self, shard: int, owner: object) -> None:
        """Give a shard on to who is next. Raises RuntimeError when `owner` does not own it."""
        lock = self._locks[shard]
        if lock.owner is not owner:
            raise RuntimeError(f"shard {shard} is not held by who releases it")
        if lock.queue:
            lock.owner, granted = lock.queue.popleft()
            granted()
        else:
            lock.owner = None
            self.held -= 1

    def withdraw(self, shard: int, owner: object) -> None:
        """Stop wanting a shard, whether it was granted or not. Nothing happens when it was never asked for."""
        lock = self._locks[shard]
        if lock.owner is owner:
            self.release(shard, owner)
        else:
            lock.queue = deque(entry for entry in lock.queue if entry[0] is not owner)
