"""What happens to clients when their process ends: their sessions are ended, which gives back what they hold.

A client that has a thread of its own is registered with `register` for as long as that thread runs: also while the
thread says `bye` for a client that was closed or dropped just before the end. Processes of `multiprocessing` do not
run what `atexit` has, so they are told as well. Daemon threads run on while the process ends. What they wait for will
not come any more, and an error would be printed as the last words of the program: so `hold_back` makes them wait for
the end.
"""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable
from threading import get_ident
from typing import Final, Protocol

END_S: Final = 2.0
"""Seconds that the end of a process waits, at most, for servers that do not read `bye`."""

HOLD_BACK_S: Final = 5.0
"""Seconds that a thread waits for the end of its process. Then its call fails: the process has not ended."""


class ExitHandler(Protocol):
    """A client."""

    def stop(self) -> None:
        """Begin to end the session. Called in any thread; must not wait."""

    def close(self, seconds: float) -> None:
        """End the session, and wait for that so long at most."""


_handlers: Final[set[ExitHandler]] = set()
_ending_in: Final[list[int]] = []  # the thread that ends the process, once it does


def register(handler: ExitHandler) -> None:
    """Have the handler called at the end of this process."""
    _handlers.add(handler)
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(_end, _finalize)  # a process that was spawned forgets its finalizers when it begins
        if sys.modules["multiprocessing.process"].parent_process() is not None:
            _finalize(_end)


def unregister(handler: ExitHandler) -> None:
    """Its session has ended."""
    _handlers.discard(handler)


def hold_back() -> None:
    """A call is about to fail: if the process is ending, in another thread, wait for that."""
    if _ending_in and get_ident() not in _ending_in:
        time.sleep(HOLD_BACK_S)


def _end() -> None:
    _ending_in.append(get_ident())
    handlers = list(_handlers)  # in one step, for the threads of clients unregister themselves meanwhile
    for handler in handlers:
        handler.stop()
    due = time.monotonic() + END_S
    for handler in handlers:
        handler.close(due - time.monotonic())


def _finalize(function: Callable[[], None]) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, function, exitpriority=0)


atexit.register(_end)
