"""The server's clock: monotonic, without the time in which the process was stopped.

A process that is stopped (SIGSTOP, a virtual machine that is moved, a debugger) finds afterwards that time has
passed, and in its sockets what its clients have sent meanwhile: renewals of times to live, new connections of their
sessions. If the time counted, everything would expire before these are read. So of a long gap between two readings of
the clock only `GAP_COUNTED_NS` count. The sweeper reads it at least every second, so a gap is a stop and not
idleness.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

STOPPED_NS: Final = 1_500_000_000
"""A gap longer than this is a stop. The sweeper sleeps for a second at most (`SWEEP_INTERVAL_MS_MAX`); half a second
more is a busy machine."""

GAP_COUNTED_NS: Final = 1_000_000_000
"""How much of such a gap counts: what may have passed before the stop."""


class Clock:
    """One clock, to be asked for every time that the engine is given."""

    __slots__ = ("_last_ns", "_source_ns", "stopped_ns")

    def __init__(self, source_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._source_ns = source_ns
        self._last_ns = source_ns()  # the last reading of the source
        self.stopped_ns = 0  # time that does not count, since the start

    def now_ns(self) -> int:
        """The time, in nanoseconds."""
        now_ns = self._source_ns()
        if now_ns - self._last_ns > STOPPED_NS:
            self.stopped_ns += now_ns - self._last_ns - GAP_COUNTED_NS
        self._last_ns = now_ns
        return now_ns - self.stopped_ns

    def now_ms(self) -> int:
        """The time, in milliseconds."""
        return self.now_ns() // 1_000_000


CLOCK: Final = Clock()
"""The clock of this process: all that runs in a process is stopped together."""
