"""What a server counts for its operator: requests, errors, connections, turns, pauses. Plain numbers, read by `info`.

Each number has one place that adds to it: requests, errors and turns the protocol, connections their adapter, pauses
the process. Nothing here knows the clock.

**Turns** (`note_turn`). All their bytes are counted. Their durations are a sample, because timing each costs a lone
request 2 200 instructions, where it needs 10 000 with its socket (CPython 3.11, compiled). So a turn of
`TIMED_ENTRIES` or more is always timed. Of the others one in eight is timed (`TIMED_OF_SMALL`), at distances that
vary, and stands for all since the last one. In the long run the figures are those of all turns.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from naught_server.slowlog import SlowLog

if TYPE_CHECKING:
    from mypy_extensions import i64

UNKNOWN_METHOD: Final = "unknown"
"""Stands for every method that does not exist, and for what is no request, so that there are few names."""

TIMED_ENTRIES: Final = 64
"""A turn of this much work or more is always timed: the timing costs less than a hundredth of it."""

TIMED_OF_SMALL: Final = 8
"""On the average, one turn with less work out of this number is timed."""


BUCKETS: Final = 25
"""Of a histogram of durations. The last one counts those above 8 s."""


class Durations:
    """How often something took time, how long in total and at most, and a histogram. In nanoseconds."""

    __slots__ = ("_count", "_histogram", "_max_ns", "_total_ns")

    def __init__(self) -> None:
        # They change all the time. An object of its own for each would, once it is made while counters go, keep a
        # mebibyte of the allocator's memory from going back to the system. So they are machine words: the first three
        # where this is compiled, the others in an array (to change one of which takes 900 instructions).
        self._count: i64 = 0
        self._total_ns: i64 = 0
        self._max_ns: i64 = 0
        self._histogram = array("q", [0]) * BUCKETS

    @property
    def count(self) -> int:
        """How many there were."""
        return self._count

    @property
    def total_ns(self) -> int:
        """How long they took together."""
        return self._total_ns

    @property
    def max_ns(self) -> int:
        """How long the longest took."""
        return self._max_ns

    @property
    def buckets(self) -> list[int]:
        """The histogram: bucket i counts durations below 2^i us that are not below half of that."""
        return self._histogram.tolist()

    def add(self, duration_ns: i64, times: i64 = 1) -> None:
        """Count one duration, or a sample that stands for several."""
        self._count += times
        self._total_ns += times * duration_ns
        self._max_ns = max(self._max_ns, duration_ns)
        bucket: i64 = 0
        last: i64 = BUCKETS - 1
        left: i64 = duration_ns // 1000
        while left > 0 and bucket < last:
            left >>= 1
            bucket += 1
        self._histogram[bucket] += times

    def as_dict(self) -> dict[str, Any]:
        """For `info`."""
        return {
            "count": self.count,
            "total_us": self.total_ns // 1000,
            "max_us": self.max_ns // 1000,
            "histogram": self.buckets,
        }


class Stats:
    """The figures of one engine since its start."""

    __slots__ = (
        "_commands",
        "_gap",
        "_plain_decrs",
        "_plain_gets",
        "_plain_incrs",
        "_step",
        "_until_timed",
        "collections",
        "connections",
        "connections_accepted",
        "connections_cut",
        "connections_refused",
        "errors",
        "errors_by_method",
        "handshakes",
        "log_lines_dropped",
        "longest_collection_ns",
        "loop_lag",
        "received_bytes",
        "refused_by_reason",
        "sent_bytes",
        "slow_log",
        "turns",
    )

    def __init__(self) -> None:
        self._commands: defaultdict[str, int] = defaultdict(int)  # requests executed, by method
        # Those that the hot path has executed since they were last added to `_commands`, which for a turn would take
        # 550 instructions.
        self._plain_incrs = 0
        self._plain_decrs = 0
        self._plain_gets = 0
        self.errors: defaultdict[str, int] = defaultdict(int)  # error replies, by code; items of a batch not included
        # Error replies by method and code; `UNKNOWN_METHOD` for a method that does not exist.
        self.errors_by_method: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.connections = 0  # open now
        self.connections_accepted = 0
        self.connections_cut: defaultdict[str, int] = defaultdict(int)  # ended by the server, by reason
        self.connections_refused = 0  # over the limit, or no descriptor was left
        self.refused_by_reason: defaultdict[str, int] = defaultdict(int)  # the same, by the limit that was reached
        # Handshakes of TLS on the port of the counters, by outcome.
        self.handshakes: dict[str, int] = {"done": 0, "failed": 0, "timeout": 0}
        self.collections = Durations()  # pauses of Python's garbage collector
        self.longest_collection_ns = 0  # of those since the tuner last took it
        self.loop_lag = Durations()  # how late the event loop ran the sweeper
        self.turns = Durations()  # turns of connections, from received bytes to the replies; a sample
        # Only one turn with little work in a *gap* of them is timed. The gaps are 1 to 15 turns, 8 on the average, in
        # an order that no clients in lockstep follow.
        self._gap = TIMED_OF_SMALL  # the present one
        self._until_timed = TIMED_OF_SMALL  # how many turns are left of it
        self._step = TIMED_OF_SMALL  # 0 to 15: what the next gap is computed from
        self.received_bytes = 0  # from clients, since the start
        self.sent_bytes = 0  # to clients, since the start: what transports were given
        self.slow_log: Final = SlowLog()  # the slowest turns
        # Asks the log; a process without one, such as a client with `memory://`, drops none.
        self.log_lines_dropped: Callable[[], int] = int

    def watch_log(self, lines_dropped: Callable[[], int]) -> None:
        """Have the log asked how many of its lines were dropped."""
        self.log_lines_dropped = lines_dropped

    def turns_to_time(self, entries: int) -> int:
        """A connection has had a turn of `entries` of work. Returns for how many turns its duration stands, and 0
        where it is not to be timed."""
        if entries >= TIMED_ENTRIES:
            return 1
        self._until_timed -= 1
        if self._until_timed:
            return 0
        timed, self._step = self._gap, (5 * self._step + 3) & 15
        self._gap = self._until_timed = self._step or TIMED_OF_SMALL
        return timed

    def note_turn(self, took_ns: int, received_bytes: int, sent_bytes: int, turns: int = 1) -> bool:
        """A turn was timed. `received_bytes`: what had arrived for it; `sent_bytes`: its replies; `turns`: for how
        many its duration stands. Returns whether it is slow enough for the slow log."""
        self.note_bytes(received_bytes, sent_bytes)
        self.turns.add(took_ns, turns)
        return took_ns > self.slow_log.above_ns

    def note_bytes(self, received_bytes: int, sent_bytes: int) -> None:
        """The bytes of a turn that was not timed, or what a connection had received when it was closed."""
        self.received_bytes += received_bytes
        self.sent_bytes += sent_bytes

    def note_collection(self, took_ns: int) -> None:
        """The garbage collector has made a pause."""
        self.collections.add(took_ns)
        self.longest_collection_ns = max(self.longest_collection_ns, took_ns)

    def take_longest_collection_ns(self) -> int:
        """The longest pause of the garbage collector since this was last asked."""
        longest_ns = self.longest_collection_ns
        self.longest_collection_ns = 0
        return longest_ns

    def count_plain(self, incrs: int, decrs: int, gets: int) -> None:
        """The hot path has executed so many requests."""
        self._plain_incrs += incrs
        self._plain_decrs += decrs
        self._plain_gets += gets

    @property
    def commands(self) -> defaultdict[str, int]:
        """Requests executed since the start, by method."""
        commands = self._commands
        if self._plain_incrs:
            commands["incr"] += self._plain_incrs
            self._plain_incrs = 0
        if self._plain_decrs:
            commands["decr"] += self._plain_decrs
            self._plain_decrs = 0
        if self._plain_gets:
            commands["get"] += self._plain_gets
            self._plain_gets = 0
        return commands

    def commands_total(self) -> int:
        """Requests executed since the start."""
        return sum(self.commands.values())

    def count_error(self, method: str, code: str) -> None:
        """An error reply was made to a request of this method: one of the table of commands, or `UNKNOWN_METHOD`."""
        self.errors[code] += 1
        self.errors_by_method[method, code] += 1

    def count_handshake(self, outcome: str) -> None:
        """A handshake of TLS was done, has failed, or took too long."""
        self.handshakes[outcome] += 1

    def count_opened(self) -> None:
        """A connection was opened."""
        self.connections += 1
        self.connections_accepted += 1

    def count_closed(self) -> None:
        """A connection was closed."""
        self.connections -= 1

    def count_refused(self, limit: str) -> None:
        """A connection was refused, because this limit was reached."""
        self.connections_refused += 1
        self.refused_by_reason[limit] += 1

    def count_cut(self, reason: str) -> None:
        """The server ends a connection whose peer does not go on."""
        self.connections_cut[reason] += 1
