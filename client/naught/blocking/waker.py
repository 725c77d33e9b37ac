"""`Wakers`: what the threads of the program sleep on until the client's own thread wakes them.

A thread is woken by epoll, where there is one, and not by a lock. Who releases a lock keeps the GIL, for which the
thread that was woken has to wait at once. Calls of epoll let go of the GIL, so it runs on right away. On one core
that is 2 switches of threads a call where a lock takes 6. Processor time a call at 1, 8 and 32 threads: 69.5, 18.0
and 12.3 us in place of 76.9, 30.6 and 21.1 (by eventfd and poll 70.9, 18.3 and 12.7). Where another thread computes
nothing is lost: 160, 1 600 and 8 700 calls/s in place of 150, 1 600 and 5 000, measured by eventfd and poll.
"""

from __future__ import annotations

import os
import select
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from naught.green import GreenWaker, is_green

DESCRIPTORS_MAX: Final = 64
"""Of one client. More threads that wait at a time sleep on locks: the descriptors of a process are few."""


class Waker(Protocol):
    """What one thread sleeps on. It may be woken late, by who meant its last user."""

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, and for so long at most. Returns whether it was woken."""

    def wake(self) -> object:
        """In any thread."""


class _EpollWaker:
    """Waking it is to be told of a descriptor, once, that is always ready to be read."""

    def __init__(self, ready: select.epoll) -> None:
        epoll = select.epoll()
        epoll.register(ready, 0)
        self.descriptor: Final = epoll.fileno()
        self._poll: Final = epoll.poll
        self.wake: Final = partial(epoll.modify, ready, select.EPOLLIN | select.EPOLLONESHOT)

    def wait(self, seconds: float) -> bool:
        return bool(self._poll(seconds, 1))


class _LockWaker:
    """For one user."""

    def __init__(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.wake: Final = lock.release
        self._acquire: Final = lock.acquire

    def wait(self, seconds: float) -> bool:
        return self._acquire(True, seconds)


class Wakers:
    """Those of one client. Raises NaughtError where its threads cannot use a client."""

    def __init__(self, descriptors: int = DESCRIPTORS_MAX) -> None:
        self._free: Final[list[_EpollWaker]] = []
        # Where gevent or eventlet has patched `select` alone, it has no epoll.
        by_epoll = not is_green() and hasattr(os, "eventfd") and hasattr(select, "epoll")
        self._left = descriptors if by_epoll else 0  # that may be made
        self._ready: select.epoll | None = None  # which owns, and closes, a descriptor that is always ready
        self._closed = False

    def take(self) -> Waker:
        """One for this thread alone, until it is given back."""
        if is_green():  # gevent may have patched threads after this was made
            return GreenWaker()
        try:
            return self._free.pop()
        except IndexError:
            pass
        if self._left > 0:  # two threads may find that at once: then it is one more
            try:
                self._ready = ready = self._ready or select.epoll.fromfd(os.eventfd(1))
                waker = _EpollWaker(ready)
            except OSError:  # the process has no descriptor left
                pass
            else:
                self._left -= 1
                return waker
        return _LockWaker()

    def give_back(self, waker: Waker) -> None:
        """Its thread does not wait any more."""
        if isinstance(waker, _EpollWaker) and not self._closed:
            self._free.append(waker)

    def waking(self, loop: AbstractEventLoop, function: Callable[[], object]) -> Callable[[], object]:
        """What makes the loop call the function, as `call_soon_threadsafe` does. Called in any thread.

        uvloop keeps the GIL in that: so a lone call costs 68.4 us in place of 76.9 of processor time.
        """
        waker = self.take()
        if not isinstance(waker, _EpollWaker):
            return partial(loop.call_soon_threadsafe, function)

        def woken() -> None:
            waker.wait(0)  # the word is taken
            function()

        loop.add_reader(waker.descriptor, woken)
        return waker.wake

    def clear(self) -> None:
        """Let go of those that no thread has. Others are made where they are needed."""
        while self._free:
            self._free.pop()
            self._left += 1
        self._ready = None

    def close(self) -> None:
        """Keep none any more."""
        self._closed = True
        self.clear()
        self._left = 0
