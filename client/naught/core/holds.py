"""An amount that a session has added and will give back, as its client knows it. Sans-IO.

The server keeps the books; here is what the holder needs: the number to release it by, and word when it is lost. The
session (`session.py`) knows every hold that is out, and tells them all when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final


class Hold:
    """What `acquire` has granted. `number` only grows on a server, so it serves as a fencing token too."""

    __slots__ = ("_listeners", "counters", "lost", "number")

    def __init__(self, number: int, counters: int) -> None:
        self.number: Final = number
        self.counters: Final = counters  # how many it was acquired on, at most
        self.lost = False  # the session ended, or may have: what was held may be others' by now
        self._listeners: list[Callable[[], None]] = []  # told once, when it is lost

    def when_lost(self, listener: Callable[[], None]) -> None:
        """Have this called when the hold is lost; at once if it is."""
        self._listeners.append(listener)
        if self.lost:
            self.lose()

    def lose(self) -> None:
        """It is lost. Again does nothing."""
        self.lost = True  # before the list is emptied: who joins it later looks at this, perhaps in another thread
        while self._listeners:
            try:
                listener = self._listeners.pop()
            except IndexError:  # another thread had the last one
                return
            listener()

    def __repr__(self) -> str:
        return f"<naught.Hold {self.number}{' lost' if self.lost else ''}>"
