"""The slow log: the slowest turns of connections since the start, or since it was reset. Sans-IO.

A *turn* is what a connection does at one time: from received bytes to the replies. Where it is timed
(`Stats.turns_to_time` says which turns are), one comparison with `above_ns` tells whether it enters the log. Only
such a turn becomes a `SlowTurn`, which says what it did and for which client.

The log keeps `SLOW_TURNS_MAX` of them. When it is full, a slower turn takes the place of the fastest, whose duration
is `above_ns`. A turn of `SLOW_NS_MIN` or less is never kept, so the log of a server that has nothing slow is empty.

Its memory is taken at the start, and a turn is written into it as numbers and bytes. Turns are slow while the memory
grows or shrinks, and an object made then would keep the whole arena that it lies in (1 MiB) from going back to the
system: 128 turns kept 73 % of the memory of 300 000 counters after they were drained.
"""

from __future__ import annotations

from array import array
from typing import Any, Final, NamedTuple

from naught.wire.limits import NAME_BYTES_MAX, SLOW_TURNS_MAX
from naught.wire.traceparent import TRACEPARENT_BYTES

SLOW_NS_MIN: Final = 1_000_000
"""A turn is bounded to about half of this. A turn that takes no longer is normal."""


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
    """Where the connection comes from; None where that is not known."""
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


_TEXT_BYTES: Final = NAME_BYTES_MAX + TRACEPARENT_BYTES + 128
"""The four texts of a turn, and what is between them. A method and an address have some 60 bytes each at most."""

_NUMBERS: Final = 8
"""Of a turn: duration, when it was added, the other numbers in the order of `SlowTurn`, the length of its texts."""

_NO_SESSION: Final = -1


class SlowLog:
    """The slowest turns. Belongs to the `Stats` of an engine."""

    __slots__ = ("_added", "_count", "_numbers", "_texts", "above_ns")

    def __init__(self) -> None:
        self._numbers = array("q", bytes(8 * _NUMBERS * SLOW_TURNS_MAX))  # by place: those of a turn
        self._texts = bytearray(_TEXT_BYTES * SLOW_TURNS_MAX)  # by place: method, name, address, trace
        self._count = 0  # places in use, the first ones
        self._added = 0  # turns since the start; tells apart those of equal duration
        self.above_ns = SLOW_NS_MIN  # a turn enters the log if it took longer

    def __len__(self) -> int:
        return self._count

    def add(self, turn: SlowTurn) -> None:
        """Keep a turn, unless there are enough slower ones. O(SLOW_TURNS_MAX)."""
        if turn.took_ns <= self.above_ns:
            return
        self._added += 1
        if self._count < SLOW_TURNS_MAX:
            place = self._count
            self._count += 1
        else:
            place = self._fastest()
        self._write(place, turn)
        if self._count == SLOW_TURNS_MAX:
            self.above_ns = self._numbers[_NUMBERS * self._fastest()]

    def _fastest(self) -> int:
        """The place of the fastest turn; of equal ones the latest."""
        numbers = self._numbers
        return min(range(self._count), key=lambda place: (numbers[_NUMBERS * place], -numbers[_NUMBERS * place + 1]))

    def _write(self, place: int, turn: SlowTurn) -> None:
        session = _NO_SESSION if turn.session is None else turn.session
        texts = (turn.method, turn.name, turn.address, turn.traceparent)
        text = "\n".join(each or "" for each in texts).encode()
        assert len(text) <= _TEXT_BYTES, "the parts are bounded"
        numbers = (turn.took_ns, self._added, turn.time_ms, turn.entries, turn.received_bytes, turn.sent_bytes)
        self._numbers[_NUMBERS * place : _NUMBERS * (place + 1)] = array("q", (*numbers, session, len(text)))
        self._texts[_TEXT_BYTES * place : _TEXT_BYTES * place + len(text)] = text

    def _read(self, place: int) -> SlowTurn:
        took_ns, _, time_ms, entries, received, sent, session, size = self._numbers[
            _NUMBERS * place : _NUMBERS * (place + 1)
        ]
        text = self._texts[_TEXT_BYTES * place : _TEXT_BYTES * place + size].decode("utf-8", "replace")
        method, name, address, traceparent = text.split("\n")
        number = None if session == _NO_SESSION else session
        return SlowTurn(
            took_ns,
            time_ms,
            method or None,
            entries,
            received,
            sent,
            number,
            name or None,
            address or None,
            traceparent or None,
        )

    def slowest(self, n: int) -> list[SlowTurn]:
        """The `n` slowest, the slowest first; of equal ones the first that was added. O(SLOW_TURNS_MAX)."""
        numbers = self._numbers
        places = sorted(
            range(self._count), key=lambda place: (-numbers[_NUMBERS * place], numbers[_NUMBERS * place + 1])
        )
        return [self._read(place) for place in places[:n]]

    def reset(self) -> int:
        """Forget all. Returns how many there were."""
        forgotten = self._count
        self._count = 0
        self.above_ns = SLOW_NS_MIN
        return forgotten
