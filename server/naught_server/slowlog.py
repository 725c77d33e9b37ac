"""The slow log: the slowest turns of connections since the start, or since it was reset. Sans-IO.

A *turn* is what a connection does at one time: from received bytes to the replies. Where it is timed
(`Stats.turns_to_time` says which turns are), one comparison with `above_ns` tells whether it enters the log. Only
such a turn becomes a `SlowTurn`, which says what it did and for which client.

The log keeps `SLOW_TURNS_MAX` of them in a heap whose first element is the fastest one. So a slower turn takes the
place of that one in O(log), and `above_ns` is at hand. A turn of `SLOW_NS_MIN` or less is never kept, so the log of a
server that has nothing slow is empty.
"""

from __future__ import annotations

from heapq import heappush, heappushpop
from typing import Any, Final, NamedTuple

from naught.wire.limits import SLOW_TURNS_MAX

SLOW_NS_MIN: Final = 1_000_000
"""A turn is bounded to about half of this. What takes no longer is no news to an operator."""


class SlowTurn(NamedTuple):
    """One turn that was slow, as the operator sees it. Its texts are bounded: less than 512 bytes on the wire."""

    took_ns: int
    time_ms: int
    """When it ended, in milliseconds since 1970."""
    method: str | None
    """Of the request that was the most work; None where the turn served none."""
    entries: int
    """Its work, as commands.py counts it."""
    received_bytes: int
    """What had arrived since the turn before."""
    sent_bytes: int
    session: int | None
    """The number of the session; None for a temporary one."""
    name: str | None
    """What the client calls itself; None where it does not."""
    address: str | None
    """Where the connection comes from; None for a Unix socket."""
    traceparent: str | None
    """The trace that the request belongs to, where its client has said so."""

    def as_dict(self) -> dict[str, Any]:
        """For the reply of `slowlog`."""
        return {
            "duration_us": self.took_ns // 1000,
            "time_ms": self.time_ms,
            "method": self.method,
            "entries": self.entries,
            "received_bytes": self.received_bytes,
            "sent_bytes": self.sent_bytes,
            "session": self.session,
            "name": self.name,
            "address": self.address,
            "traceparent": self.traceparent,
        }


class SlowLog:
    """The slowest turns. Belongs to the `Stats` of an engine."""

    __slots__ = ("_added", "_kept", "above_ns")

    def __init__(self) -> None:
        self._kept: list[tuple[int, int, SlowTurn]] = []  # a heap by duration; of equal ones the latest is first
        self._added = 0  # turns since the start; tells apart those of equal duration
        self.above_ns = SLOW_NS_MIN  # a turn enters the log if it took longer

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, turn: SlowTurn) -> None:
        """Keep a turn, unless there are enough slower ones. O(log SLOW_TURNS_MAX)."""
        if turn.took_ns <= self.above_ns:
            return
        self._added += 1
        entry = (turn.took_ns, -self._added, turn)
        if len(self._kept) < SLOW_TURNS_MAX:
            heappush(self._kept, entry)
        else:
            heappushpop(self._kept, entry)
        if len(self._kept) == SLOW_TURNS_MAX:
            self.above_ns = self._kept[0][0]

    def slowest(self, n: int) -> list[SlowTurn]:
        """The `n` slowest, the slowest first; of equal ones the first that was added. O(SLOW_TURNS_MAX)."""
        return [turn for _, _, turn in sorted(self._kept, reverse=True)[:n]]

    def reset(self) -> int:
        """Forget all. Returns how many there were."""
        forgotten = len(self._kept)
        self._kept.clear()
        self.above_ns = SLOW_NS_MIN
        return forgotten
