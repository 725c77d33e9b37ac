"""`Gathering`: the calls that will be sent in the next write, and how their threads wait: each at a lock of its own,
or together as a `Crowd`.

While replies are on their way, calls gather; a write goes out when half of the callers have. So the server works on
the calls of one half while the threads of the other make their next, and neither waits for the other. (With two
threads that is each call by itself.)

Of few threads each has a gate of its own, and one of them reads for all (`link.py`). Where many call, that becomes
dear: to open a gate is to wake a thread that finds the interpreter's lock taken, and so is to hand the reading on. So
from `CROWDED_FROM` callers on (`crowded`) those whose calls go in one write wait as one crowd, let through at once
and without that lock (`crowd.py`), and the client's own thread reads for all (`keeper.py`).

A server is often faster than the threads are: its replies are there when a part of the next half has gathered. That
is not written at once then, but when half have, where with those who have just been let through it would be as many
(`filling`): a write costs about as much as eight calls. They may have better to do than to call, so it is not waited
for longer than `GATHER_S`; where that was in vain, not at all in the next `WARY_WRITES`.

Figures, medians of interleaved rounds on a busy virtual machine. Halves and crowds, against one batch on its way at a
time and readers that change: 32 threads make 1.55 times the calls, 8 threads 1.5 times, 4 threads 1.6, 2 threads 1.3;
a lone one the same (5 rounds). Filling up on top of that, and counting those let through as callers: 32 threads 1.15
times (0.80-1.53, 16 rounds; 19 % less of the processor's time a call), 8 threads 1.17 (12 rounds).

A `Gathering` belongs to a link. Its methods are for who has the link's lock, but for `open_gates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from naught.blocking.crowd import Crowd

if TYPE_CHECKING:
    from naught.blocking.future import Future

GATHER_S: Final = 0.001
"""How long a call may wait for others, to go with them, before it is written all the same. Several round trips on a
good network, so that it is the exception; and less than anybody notices."""

CROWDED_FROM: Final = 4
"""So many callers wait as crowds."""

PARTS: Final = 2
"""Into so many parts the callers are divided. With three, 32 threads made 0.80 of the calls, as the writes cost more
than they bring; with one, that is waiting for all of them, 0.96."""

WARY_WRITES: Final = 64
"""So many writes are not filled up after one has waited in vain for those let through to call again. Where threads
call once and go, as in bursts, that costs some of them a millisecond in 64 writes."""


class Gathering:
    """See the module."""

    def __init__(self) -> None:
        self.crowd: Crowd | None = None  # those whose calls go in the next write, where they wait together
        self.crowded = False  # there are so many callers that they do
        self.opening: list[Crowd] = []  # answered, and to be let through when the lock is free
        self.count = 0  # threads that have begun to wait since the last write
        self._likely = 0  # so many will have gathered if those let through since the last write call again,
        self._likely_until = 0.0  # which is hoped for until then,
        self._wary = 0  # and not in so many writes
        self._callers = 0  # about how many threads call: lately the most that waited, or were about to
        self.share = 1  # how many of them are to gather before a write
        self._crowds: list[Crowd] = []  # who may wait still

    @property
    def enough(self) -> bool:
        """Whether so many have gathered that they are written, though replies are on their way."""
        return self.count >= self.share

    def filling(self, now: float) -> bool:
        """Whether so many are about to have."""
        return self._likely >= self.share and now < self._likely_until and not self._wary

    def disappoint(self, now: float) -> None:
        """Somebody has waited as long as one may."""
        if self._likely >= self.share and now >= self._likely_until:
            self._wary = WARY_WRITES

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
        future.gate = None
        self.join(future, crowd)
        return True

    def join(self, future: Future, crowd: Crowd) -> bool:
        """The same, where others wait in `crowd` already, for who has no gate. Whether that is `enough`."""
        future.crowd = crowd
        crowd.members += 1
        self.count = count = self.count + 1
        return count >= self.share

    def written(self, unanswered: int) -> None:
        """What has gathered is on its way, where `unanswered` messages are already."""
        if not self.count:
            return
        # Each a lower bound: of a message one waits at least, and some wait at gates of their own.
        waiting = max(unanswered + self.count, sum(crowd.members for crowd in self._crowds if not crowd.opened))
        # Who was let through since the last write counts as a caller. (Without these, 32 threads were taken for 26,
        # and what went out was ten calls on average.)
        waiting += max(0, self._likely - self.count)
        self._likely = 0
        if self._wary:
            self._wary -= 1
        # Down by a sixteenth at a time.
        self._callers = max(waiting, self._callers - ((self._callers + 15) >> 4))
        self.share = max(1, self._callers // PARTS)
        self.crowded = self._callers >= CROWDED_FROM
        self.count = 0
        self.crowd = None

    # Letting through.

    def hope(self, now: float) -> None:
        """Who is let through at this moment may call again at once."""
        self._likely_until = now + GATHER_S

    def let_through(self, crowd: Crowd) -> None:
        """Open its gate, once the lock is free: those who come through want that next."""
        if not crowd.opened:
            crowd.opened = True
            self.opening.append(crowd)
            if crowd is not self.crowd:  # whose members count as gathered
                self._likely = max(self._likely, self.count) + crowd.members

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
