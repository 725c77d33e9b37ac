"""`Hold`: an amount that a session has added to counters and will give back, as its client knows it. Sans-IO.

The server records the amounts. The client needs two things: the number to release the hold by, and a notification
when the hold is lost. The session (`session.py`) keeps every hold that is not released, and marks them all as lost
when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final


class Hold:
    """A grant of `acquire`. `number` only grows on a server, so it also serves as a fencing token."""

    __slots__ = ("_listeners", "counters", "lost", "number")

    def __init__(self, number: int, counters: int) -> None:
        self.number: Final = number
        self.counters: Final = counters  # the number of items of `acquire`: an upper bound of the held counters
        self.lost = False  # the session has ended, or may have: other clients may hold the amount by now
        self._listeners: list[Callable[[], None]] = []  # called once each, when the hold is lost

    def when_lost(self, listener: Callable[[], None]) -> None:
        """Have `listener` called when the hold is lost, or immediately if it already is."""
        self._listeners.append(listener)
        if self.lost:
            self.lose()

    def lose(self) -> None:
        """Mark the hold as lost and call its listeners. A second call does nothing."""
        # Set before the list is emptied: another thread that appends a listener later checks `lost` afterwards.
        self.lost = True
        while self._listeners:
            try:
                listener = self._listeners.pop()
            except IndexError:  # another thread has taken the last one
                return
            listener()

    def lose_after_fork(self) -> None:
        """Mark the hold as lost in the child of a fork. The listeners are not called: they belong to the parent."""
        self.lost = True

    def __repr__(self) -> str:
        return f"<naught.Hold {self.number}{' lost' if self.lost else ''}>"
