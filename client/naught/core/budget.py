"""How many calls may be made again because a server was busy. Sans-IO.

A server that is busy is not helped by clients that ask again and again: their repetitions are load too. So a client
repeats at most a tenth of its calls, and a few when it has made none yet. What exceeds that raises `Busy` at once.
"""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.1
"""Repetitions per call. With more, the repetitions of all clients could keep a server busy that has just become
free."""

SAVED_MAX: Final = 100.0
"""Repetitions that a client may save up: a burst of them after a long time without any is no load that lasts."""

AT_FIRST: Final = 10.0
"""What a client may do before it has made calls."""


class RetryBudget:
    """The repetitions that a client may still make."""

    __slots__ = ("_counted", "left")

    def __init__(self) -> None:
        self.left = AT_FIRST
        self._counted = 0  # calls that have earned their share

    def spend(self, calls: int, made: int) -> bool:
        """Whether this number of calls may be made again; if so, they count. `made`: all calls of the client so far.

        A message that joins many calls is made again wholly or not at all, and never needs more than can be saved.
        """
        self.left = min(SAVED_MAX, self.left + SHARE * (made - self._counted))
        self._counted = made
        if self.left < min(calls, SAVED_MAX):
            return False
        self.left = max(0.0, self.left - calls)
        return True
