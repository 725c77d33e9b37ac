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
