"""The counts of one worker process: what became of every request, and how long it took.

A run has three parts: the warm-up, the measured time, and the time after it in which requests in flight are
answered. Only the measured time is in the figures. In the closed loop a reply belongs to the part in which it
arrives. In the open loop a request belongs to the part in which it was *due*, so that a stall of the server at the
end of the measured time is charged to the measured time.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.measure.histogram import Histogram

# Each connection keeps the numbers of this many failed requests. With more failures the run cannot be verified.
FAILURES_KEPT_MAX = 10_000


@dataclass(slots=True)
class Tally:
    """The counts of one worker. All its connections share it."""

    # A request answered later than this has timed out. Its latency is recorded all the same.
    timeout_ns: int
    # Latency as a caller has it: from when the request was due (open loop) or from its write (closed loop).
    response: Histogram = field(default_factory=Histogram)
    # Open loop: latency from the write. Empty in the closed loop, where it would be the same.
    service: Histogram = field(default_factory=Histogram)
    # Open loop: time from when a request was due until the generator handled it, whether a connection was free or
    # not.
    lateness: Histogram = field(default_factory=Histogram)
    # Requests that succeeded in time, and the operations they carried.
    requests: int = 0
    operations: int = 0
    # Requests that succeeded too late.
    timed_out: int = 0
    # Requests that failed, by class.
    failed: dict[str, int] = field(default_factory=dict)
    # Open loop: requests that were due, and those that were written.
    offered: int = 0
    sent: int = 0
    # Open loop: requests that were due and never written, because no connection was free, or because the generator
    # was too slow.
    not_sent: int = 0
    missed: int = 0
    # How many times bytes arrived. A generator that spins learns from it whether there was anything to do.
    arrivals: int = 0

    @property
    def errors(self) -> int:
        """Requests that failed, timed out, or were never sent because no connection was free."""
        return sum(self.failed.values()) + self.timed_out + self.not_sent

    def fail(self, kind: str, count: int = 1) -> None:
        """Count failed requests by class."""
        self.failed[kind] = self.failed.get(kind, 0) + count

    def block_done(self, took_ns: int, block_operations: int, requests: int, operations: int) -> None:
        """Closed loop: a block of `block_operations` was answered; this many requests and operations succeeded."""
        self.response.record(took_ns, block_operations)
        if took_ns > self.timeout_ns:
            self.timed_out += requests
        else:
            self.requests += requests
            self.operations += operations

    def request_due(self, lateness_ns: int) -> None:
        """Open loop: a request was due this long ago, and the generator handles it now."""
        self.offered += 1
        self.lateness.record(lateness_ns)

    def request_sent(self) -> None:
        """Open loop: a request was written."""
        self.sent += 1

    def bytes_arrived(self) -> None:
        """Open loop: a connection received bytes."""
        self.arrivals += 1

    def request_done(self, response_ns: int, service_ns: int, operations: int) -> None:
        """Open loop: a request of this many operations succeeded."""
        self.response.record(response_ns)
        self.service.record(service_ns)
        if response_ns > self.timeout_ns:
            self.timed_out += 1
        else:
            self.requests += 1
            self.operations += operations

    def request_failed(self, response_ns: int, service_ns: int, kind: str) -> None:
        """Open loop: a request was answered by an error of this class."""
        self.response.record(response_ns)
        self.service.record(service_ns)
        self.fail(kind)

    def request_unanswered(self, response_ns: int, service_ns: int) -> None:
        """Open loop: a request is given up after this time. Without its latency the server would look fast."""
        self.response.record(response_ns)
        self.service.record(service_ns)

    def request_not_sent(self, response_ns: int) -> None:
        """Open loop: a request is given up that waited this long for a free connection."""
        self.response.record(response_ns)
        self.not_sent += 1

    def requests_missed(self, lateness_ns: int, count: int = 1) -> None:
        """Open loop: the generator was too slow for this many requests, due this long ago on average."""
        self.lateness.record(lateness_ns, count)
        self.offered += count
        self.missed += count

    def start_measuring(self) -> None:
        """Forget the counts of the warm-up."""
        for histogram in (self.response, self.service, self.lateness):
            histogram.clear()
        self.requests = self.operations = self.timed_out = 0
        self.offered = self.sent = self.not_sent = self.missed = 0
        self.failed.clear()

    def to_json(self) -> dict[str, Any]:
        """What a worker reports to the parent process."""
        return {
            "requests": self.requests,
            "operations": self.operations,
            "timed_out": self.timed_out,
            "failed": dict(self.failed),
            "offered": self.offered,
            "sent": self.sent,
            "not_sent": self.not_sent,
            "missed": self.missed,
            "response": self.response.to_json(),
            "service": self.service.to_json(),
            "lateness": self.lateness.to_json(),
        }
