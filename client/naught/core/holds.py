"""`Hold`: an amount that a session has added to counters and will give back, as its client knows it. Sans-IO.

The server records the amounts. The client needs two things: the number to release the hold by, and a notification
when the hold is lost. The session (`session.py`) keeps every hold that is not released, and marks them all as lost
when it ends.

**Again.** A server that was restarted has no sessions and no holds. A hold that is to be *acquired again* has its
items, and the session asks for them first of all in the next session, without waiting. If the server grants them,
the hold goes on under another number; if not, it is lost. It is lost too where the server was not restarted and has
ended the session (its lease was over, or its operator has ended it), as others may have had it meanwhile.

A hold whose items have no limit (what is in flight) can be nobody else's. It is acquired again in all of these cases,
and waits where others queue for room, so it is never lost while there is a client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from naught.wire.limits import VALUE_MAX

Items = list[tuple[bytes, int, int]]
"""What `acquire` asks for: key, amount and limit of each counter."""


class Hold:
    """A grant of `acquire`. `number` only grows on a server, so it also serves as a fencing token."""

    __slots__ = ("_listeners", "again", "counters", "lost", "number")

    def __init__(self, number: int, counters: int, again: Items | None = None) -> None:
        self.number = number  # another one after it was acquired again
        self.counters: Final = counters  # the number of items of `acquire`: an upper bound of the held counters
        self.again = again  # what to ask for when the session was lost; None where the hold is lost with it
        self.lost = False  # the session has ended, or may have: other clients may hold the amount by now
        self._listeners: list[Callable[[], None]] = []  # called once each, when the hold is lost

    @property
    def unlimited(self) -> bool:
        """It is acquired again and has no limit, so nobody can be given what it holds instead."""
        return self.again is not None and all(limit == VALUE_MAX for _, _, limit in self.again)

    def renew(self, number: int) -> None:
        """It was acquired again, under this number."""
        self.number = number

    def shrink(self) -> None:
        """A part of it is being released. What is left is not acquired again."""
        self.again = None

    def when_lost(self, listener: Callable[[], None]) -> None:
        """Have `listener` called when the hold is lost, or immediately if it already is."""
        self._listeners.append(listener)
        if self.lost:
            self.lose()

    def lose(self) -> None:
        """Mark the hold as lost and call its listeners. A second call does nothing."""
        # Set before the list is emptied: another thread that appends a listener later checks `lost` afterwards.
        self.lost = True
        while True:
            try:
                listener = self._listeners.pop()
            except IndexError:  # not asked before: another thread may take the last one in between
                return
            listener()

    def lose_after_fork(self) -> None:
        """Mark the hold as lost in the child of a fork. The listeners are not called: they belong to the parent."""
        self.lost = True

    def __repr__(self) -> str:
        return f"<naught.Hold {self.number}{' lost' if self.lost else ''}>"
