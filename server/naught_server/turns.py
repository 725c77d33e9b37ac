"""`Turns`: the turns of connections that have more to do, dealt round robin. It decides when, and knows no loop.

Most requests are served as their bytes arrive. What a connection is asked beyond one turn of work waits here, and so
does the next input of a connection whose last work was *costly*, which is more than one turn may do (a step of a
command that cannot be parted). In each iteration of the loop turns are dealt until they have done
`DEALT_ENTRIES_MAX` entries; the rest waits for later iterations, between which the loop looks at all sockets. So a
light request waits for one costly step, however many connections ask for such steps. (When each
connection had its turn in each iteration, p99 of a light load beside 20 clients that add to 1 024 counters a request
was 46 ms, and is 4.9: `naught-loadtest bars --only victims --quick`, both on one machine in one quarter of an hour.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from naught_server.limits import DEALT_ENTRIES_MAX


class Turns:
    """The turns that wait. One for each loop."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """`call_soon`: have a function called in the next iteration of the loop."""
        self._call_soon: Final = call_soon
        self._waiting: Final[deque[Callable[[], int]]] = deque()
        self._is_due = False  # `_deal` will be called

    def ask(self, turn: Callable[[], int]) -> None:
        """Have this called when it is its turn. It returns the entries of work that it has done."""
        self._waiting.append(turn)
        if not self._is_due:
            self._is_due = True
            self._call_soon(self._deal)

    def _deal(self) -> None:
        waiting = self._waiting
        left = DEALT_ENTRIES_MAX
        try:
            for _ in range(len(waiting)):  # those that ask meanwhile have had their turn
                left -= waiting.popleft()()
                if left <= 0:
                    break
        finally:
            self._is_due = bool(waiting)
            if self._is_due:
                self._call_soon(self._deal)
