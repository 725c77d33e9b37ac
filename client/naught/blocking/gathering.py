"""The calls that gather for the next write, and how their threads wait: each at a gate of its own, or as crowds.

While replies are on their way, calls gather; a write goes out when half of the callers have. So the server works on
the calls of one half while the threads of the other make their next, and neither waits for the other. (With two
threads that is each call by itself.)

Of few threads each has a gate of its own, and one of them reads for all (`link.py`). Where many call, that becomes
dear: to open a gate is to wake a thread that finds the interpreter's lock taken, and so is to hand the reading on. So
from `CROWDED_FROM` callers on (`crowded`) those whose calls go in one write wait as one crowd, let through at once
and without that lock (`crowd.py`), and the client's own thread reads for all (`keeper.py`).

Against one batch on its way at a time, and readers that change: 32 threads make 1.55 times the calls (medians of 5
interleaved rounds on a busy virtual machine), 8 threads 1.5 times, 4 threads 1.6, 2
threads 1.3; a lone one the same.

A `Gathering` belongs to a link. Its methods are for who has the link's lock, but for `open_gates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from naught.blocking.crowd import Crowd

if TYPE_CHECKING:
    from naught.blocking.future import Future

CROWDED_FROM: Final = 4
"""So many callers wait as crowds."""

PARTS: Final = 2
"""Into so many parts the callers are divided. With three, 32 threads made 0.80 of the calls, as the writes cost more
than they bring; with one, that is waiting for all of them, 0.96."""


class Gathering:
    """See the module."""

    def __init__(self) -> None:
        self.crowd: Crowd | None = None  # those whose calls go in the next write, where they wait together
        self.crowded = False  # there are so many callers that they do
        self.opening: list[Crowd] = []  # answered, and to be let through when the lock is free
        self.count = 0  # threads that have begun to wait since the last write
        self._callers = 0  # about how many threads call: the most that waited at a time, lately
        self.share = 1  # how many of them are to gather before a write
        self._crowds: list[Crowd] = []  # who may wait still

    @property
    def enough(self) -> bool:
        """Whether so many have gathered that they are written, though replies are on their way."""
        return self.count >= self.share

    # Joining.

    def admit(self, future: Future) -> bool:
        """One more waits. False where it needs a gate of its own: there are few, or no descriptors are left."""
        crowd = self.crowd
        if crowd is None or crowd.opened:
            crowd = Crowd() if self.crowded else None
            if crowd is None or not crowd.admit():
                self.count += 1
                return False
            self._crowds = [each for each in self._crowds if not each.opened]
            self._crowds.append(crowd)
            self.crowd = crowd  # the last: others join it without a look
        self.join(future, crowd)
        return True

    def join(self, future: Future, crowd: Crowd) -> None:
        """The same, where others wait in `crowd` already."""
        future.gate = None
        future.crowd = crowd
        crowd.members += 1
        self.count += 1

    def written(self, unanswered: int) -> None:
        """What has gathered is on its way, where `unanswered` messages are already."""
        if not self.count:
            return
        # Each a lower bound: of a message one waits at least, and some wait at gates of their own.
        waiting = max(unanswered + self.count, sum(crowd.members for crowd in self._crowds if not crowd.opened))
        # Down by a sixteenth at a time: who has just been answered, and has not called again yet, counts.
        self._callers = max(waiting, self._callers - ((self._callers + 15) >> 4))
        self.share = max(1, self._callers // PARTS)
        self.crowded = self._callers >= CROWDED_FROM
        self.count = 0
        self.crowd = None

    # Letting through.

    def let_through(self, crowd: Crowd) -> None:
        """Open its gate, once the lock is free: those who come through want that next."""
        if not crowd.opened:
            crowd.opened = True
            self.opening.append(crowd)

    def let_all_through(self) -> None:
        """Whoever waits in a crowd is to look again."""
        for crowd in self._crowds:
            self.let_through(crowd)
        self._crowds = []

    def open_gates(self) -> None:
        """Those that are to be opened. By any thread, without the lock."""
        while self.opening:
            try:
                crowd = self.opening.pop()
            except IndexError:  # another thread had the last one
                return
            crowd.open()
