"""The locks of a cache's shards: each has an owner and a queue of waiters. Sans-IO.

A command runs to its end within one turn of the event loop, so commands exclude each other without a lock. Work on a
shard that takes *several* turns, such as a compaction, holds the shard's lock from its first step to its last. A
command that touches the shard meanwhile waits in the lock's queue.

A waiter is an owner and a callback. Waiters are granted the lock in the order they asked. A waiter becomes the owner
first, and then its callback is called. The callback may only make a note or schedule something; it must not do the
work itself.

A waiter that does not want the lock any more calls `withdraw`, which is allowed at any time: before the grant it
leaves the queue, after the grant it releases the lock. So no lock is lost when a waiter is cancelled.
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
        # Waiters and their callbacks, first come first; made for the first one. A queue for each shard that was ever
        # waited for takes half a kilobyte, at a place where it keeps more memory from going back to the system.
        self.queue: deque[tuple[object, Granted]] | None = None


class ShardLocks:
    """All locks of one cache, and how many of them are held.

    The hot path tests `held` once per slice of input: while it is 0, no lock has to be looked at.
    """

    __slots__ = ("_locks", "held")

    def __init__(self, shards: int) -> None:
        self._locks = [ShardLock() for _ in range(shards)]
        self.held = 0  # how many shards have an owner

    def owner(self, shard: int) -> object | None:
        """The owner of a shard's lock; None where it is free."""
        return self._locks[shard].owner

    def is_worked_on(self, shard: int) -> bool:
        """Whether work goes on in a shard. An owner with `waits_only` does none: it only prevents new work."""
        owner = self._locks[shard].owner
        return owner is not None and not getattr(owner, "waits_only", False)

    def queue_length(self, shard: int) -> int:
        """The number of waiters in a shard's queue."""
        return len(self._locks[shard].queue or ())

    def acquire(self, shard: int, owner: object, granted: Granted | None = None) -> bool:
        """Take the lock if it is free. Returns whether `owner` has it now.

        If it is not free and `granted` is given, `owner` waits in the queue, and `granted` is called once it has the
        lock. An owner that asks again for its own lock gets True.
        """
        lock = self._locks[shard]
        if lock.owner is None:
            lock.owner = owner
            self.held += 1
            return True
        if lock.owner is owner:
            return True
        if granted is not None:
            if lock.queue is None:
                lock.queue = deque()
            lock.queue.append((owner, granted))
        return False

    def release(self, shard: int, owner: object) -> None:
        """Give the lock to the first waiter, or free it. Raises RuntimeError when `owner` does not own it."""
        lock = self._locks[shard]
        if lock.owner is not owner:
            raise RuntimeError(f"shard {shard} is not held by the owner that releases it")
        if lock.queue:
            lock.owner, granted = lock.queue.popleft()
            granted()
        else:
            lock.owner = lock.queue = None
            self.held -= 1

    def withdraw(self, shard: int, owner: object) -> None:
        """Leave the queue, or release the lock if it was granted. Does nothing when it was never asked for."""
        lock = self._locks[shard]
        if lock.owner is owner:
            self.release(shard, owner)
        elif lock.queue:
            lock.queue = deque(entry for entry in lock.queue if entry[0] is not owner)


class ShardClaim:
    """The shards that one connection's request touches, kept from the first one that had to be waited for until the
    request is done.

    While it waits, a claim keeps the shards it has got, so that no new work begins on them. All claims take shards in
    rising order, so they cannot wait for each other in a ring. A shard that another claim has got is no obstacle,
    because nobody works before the claim has all. (If it were an obstacle, a connection that waits for a compaction
    would stop the next one, and so on: under load the queue would never end.)
    """

    __slots__ = ("_shards", "locks")

    waits_only = True
    """As the owner of a lock: it keeps others from beginning work on the shard, and does no such work itself."""

    def __init__(self) -> None:
        self.locks: ShardLocks | None = None  # None while nothing is claimed
        self._shards: list[int] = []  # those it has got and those it waits for

    def make(self, locks: ShardLocks, shards: list[int], granted: Granted) -> bool:
        """Whether no work is under way on any of these shards, which are in rising order. If there is, claim them:
        `granted` is called when the first one that is worked on is free. Then call this again."""
        if not any(locks.is_worked_on(shard) for shard in shards):
            return True
        self.locks = locks
        self._shards = shards
        return all(locks.acquire(shard, self, granted) for shard in shards)  # it ends at the first that is not free

    def release(self) -> None:
        """Give back the shards it has got, and wait for no other. Does nothing while nothing is claimed."""
        locks, self.locks = self.locks, None
        if locks is not None:
            for shard in self._shards:
                locks.withdraw(shard, self)
