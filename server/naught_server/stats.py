"""What a server counts for its operator: requests, errors, connections, turns, pauses. Plain numbers, read by `info`.

Each number has one place that adds to it: requests and errors the protocol, connections and their turns the adapter,
pauses the process. Nothing here knows the clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from naught_server.slowlog import SlowLog

UNKNOWN_METHOD: Final = "unknown"
"""Stands for all methods there are not, and for what is no request, so that there are few names."""


class Durations:
    """How often something took time, how long in total and at most, and a histogram. In nanoseconds."""

    __slots__ = ("buckets", "count", "max_ns", "total_ns")

    BUCKETS: Final = 25
    """The last bucket counts durations above 8 s."""

    def __init__(self) -> None:
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0
        # Bucket i counts durations below 2^i us that are not below half of that.
        self.buckets = [0] * self.BUCKETS

    def add(self, duration_ns: int) -> None:
        """Count one duration."""
        self.count += 1
        self.total_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)
        self.buckets[min((duration_ns // 1000).bit_length(), self.BUCKETS - 1)] += 1

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
        "collections",
        "commands",
        "connections",
        "connections_accepted",
        "connections_cut",
        "connections_refused",
        "errors",
        "errors_by_method",
        "log_lines_dropped",
        "loop_lag",
        "received_bytes",
        "refused_by_reason",
        "sent_bytes",
        "slow_log",
        "turns",
    )

    def __init__(self) -> None:
        self.commands: defaultdict[str, int] = defaultdict(int)  # requests executed, by method
        self.errors: defaultdict[str, int] = defaultdict(int)  # error replies, by code; items of a batch not included
        # The same by method and code; `UNKNOWN_METHOD` for what there is not.
        self.errors_by_method: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.connections = 0  # open now
        self.connections_accepted = 0
        self.connections_cut: defaultdict[str, int] = defaultdict(int)  # ended by the server, by reason
        self.connections_refused = 0  # over the limit, or no descriptor was left
        self.refused_by_reason: defaultdict[str, int] = defaultdict(int)  # the same, by the limit that was reached
        self.collections = Durations()  # pauses of Python's garbage collector
        self.loop_lag = Durations()  # how late the event loop ran the sweeper
        self.turns = Durations()  # turns of connections: from received bytes until the transport has the replies
        self.received_bytes = 0  # from clients, since the start
        self.sent_bytes = 0  # to clients, since the start: what transports were given
        self.slow_log: Final = SlowLog()  # the slowest turns
        # Asks the log; a process without one, such as a client with `memory://`, drops none.
        self.log_lines_dropped: Callable[[], int] = int

    def watch_log(self, lines_dropped: Callable[[], int]) -> None:
        """Have the log asked how many of its lines were dropped."""
        self.log_lines_dropped = lines_dropped

    def note_turn(self, took_ns: int, received_bytes: int, sent_bytes: int) -> bool:
        """A connection has had a turn, which took so long. `received_bytes`: what had arrived for it; `sent_bytes`:
        its replies. Returns whether it is slow enough for the slow log, which its caller then gives the details."""
        self.received_bytes += received_bytes
        self.sent_bytes += sent_bytes
        self.turns.add(took_ns)
        return took_ns > self.slow_log.above_ns

    def count_received(self, size: int) -> None:
        """So many bytes came from a client for which there was no turn any more."""
        self.received_bytes += size

    def commands_total(self) -> int:
        """Requests executed since the start."""
        return sum(self.commands.values())

    def count_error(self, method: str, code: str) -> None:
        """An error reply was made to a request of this method: one of the table of commands, or `UNKNOWN_METHOD`."""
        self.errors[code] += 1
        self.errors_by_method[method, code] += 1

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
