"""What the connections of one worker count together, and the moments that divide a run.

A run has three parts: warming up, measuring, and afterwards letting what is in flight come in. In the closed
loop a reply belongs to the part in which it arrives; in the open loop a request belongs to the part in which
it was *due*, so that a stall at the end of the measurement is charged to the measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.measure.histogram import Histogram

# Requests that failed and are remembered one by one, for each connection. A server that refuses more than
# this has no need of a verification.
FAILURES_KEPT_MAX = 10_000


@dataclass(slots=True)
class Tally:
    """The counts of one worker. The loops reach in directly: this is their hot path."""

    # A request answered later than this has timed out, though its latency is still recorded.
    timeout_ns: int
    # Latency as the caller has it: from when it was due (open loop), from the write (closed loop).
    response: Histogram = field(default_factory=Histogram)
    # From the write to the reply; in the closed loop it stays empty, being the same.
    service: Histogram = field(default_factory=Histogram)
    # Open loop: from when a request was due until the generator got to it (not: until a connection was free).
    lateness: Histogram = field(default_factory=Histogram)
    # Requests and operations answered well and in time.
    requests: int = 0
    operations: int = 0
    # Requests answered well, but too late.
    timed_out: int = 0
    # Requests that failed, by class.
    failed: dict[str, int] = field(default_factory=dict)
    # Open loop: requests due and those written.
    offered: int = 0
    sent: int = 0
    # Open loop: due, but no connection came free for it; and due, but the generator did not get to it.
    not_sent: int = 0
    missed: int = 0
    # Bytes arrived so many times; tells a spinning generator whether it had anything to do.
    events: int = 0

    def fail(self, kind: str, count: int = 1) -> None:
        """Count failed requests by class."""
        self.failed[kind] = self.failed.get(kind, 0) + count

    def begin(self) -> None:
        """The warm-up is over: forget what it counted."""
        for histogram in (self.response, self.service, self.lateness):
            histogram.clear()
        self.requests = self.operations = self.timed_out = 0
        self.offered = self.sent = self.not_sent = self.missed = 0
        self.failed.clear()

    def to_json(self) -> dict[str, Any]:
        """What a worker reports."""
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
