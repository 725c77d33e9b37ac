"""The counts of one worker process: what became of every request, and how long it took.

A run has three parts: the warm-up, the measured time, and the time after it in which requests in flight are
answered. The figures are about the requests *offered* in the measured time: in the open loop those that were due in
it, so that a stall of the server at its end is charged to it; in the closed loop those that were in flight when it
began or were written in it.

Each offered request ends in exactly one class: completed, failed, timed out, missed or not sent. `Result` refuses
counts that do not add up.

Latencies of failed requests are kept apart from those of completed ones, as an error is often quick. What came too
late, or never, is with the completed ones: without it a slow server would look fast.

Pure: no clock, no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.measure.histogram import Histogram

# Each connection keeps the numbers of this many failed requests. With more failures the run cannot be verified.
FAILURES_KEPT_MAX = 10_000
# Missed requests whose number is estimated are recorded in this number of steps.
ESTIMATE_STEPS = 100

# Why a connection ended, which is also the class of its requests that were in flight: the server closed it, sent
# bytes that are no reply, or sent a reply that no request waited for.
CONNECTION_LOST = "connection_lost"
PROTOCOL_FAULT = "protocol_fault"
UNASKED_REPLY = "unasked_reply"
# The harness itself has closed it after the run, because its requests were not answered in time.
GIVEN_UP = "given_up"


@dataclass(slots=True)
class Tally:
    """The counts of one worker. All its connections share it."""

    # A request answered later than this has timed out. Its latency is recorded all the same.
    timeout_ns: int
    # Latency as a caller has it: from when the request was due (open loop) or from its write (closed loop).
    response: Histogram = field(default_factory=Histogram)
    # Open loop: latency from the write. Empty in the closed loop, where it would be the same.
    service: Histogram = field(default_factory=Histogram)
    # Latency of the requests that failed.
    error_times: Histogram = field(default_factory=Histogram)
    # Open loop: time from when a request was due until the generator handled it, whether a connection was free or
    # not.
    lateness: Histogram = field(default_factory=Histogram)
    # Open loop: how long a reply lay in this process before the generator handled it, at most.
    receiving: Histogram = field(default_factory=Histogram)
    # Requests that succeeded in time, and the operations they carried.
    requests: int = 0
    operations: int = 0
    # Requests that succeeded too late, or had no answer when the run ended.
    timed_out: int = 0
    # Requests that failed, by class.
    failed: dict[str, int] = field(default_factory=dict)
    # Requests that failed before or after the measured time. They are in no figure, but a run with them has failed.
    failed_outside: dict[str, int] = field(default_factory=dict)
    # Connections that ended before the run did, by reason.
    connections_lost: dict[str, int] = field(default_factory=dict)
    # How often a connection was opened anew.
    reconnects: int = 0
    # Requests offered, and those of them that were written.
    offered: int = 0
    sent: int = 0
    # Open loop: requests that were due and never written, because no connection was free, or because the generator
    # was too slow.
    not_sent: int = 0
    missed: int = 0
    # Requests that were written and have no answer yet, those of the warm-up included.
    in_flight: int = 0
    # How many times bytes arrived. A generator that spins learns from it whether there was anything to do.
    arrivals: int = 0

    @property
    def errors(self) -> int:
        """Requests that failed, timed out, or were never sent because no connection was free."""
        return sum(self.failed.values()) + self.timed_out + self.not_sent

    def fail(self, kind: str, count: int = 1, *, measured: bool = True) -> None:
        """Count failed requests by class."""
        counts = self.failed if measured else self.failed_outside
        counts[kind] = counts.get(kind, 0) + count
        self.in_flight -= count

    def failed_after(self, kind: str) -> None:
        """A request that was sent after the load failed."""
        self.failed_outside[kind] = self.failed_outside.get(kind, 0) + 1

    def connection_ended(self, why: str) -> None:
        """A connection was lost."""
        self.connections_lost[why] = self.connections_lost.get(why, 0) + 1

    def reconnected(self) -> None:
        """A connection was opened anew."""
        self.reconnects += 1

    def requests_sent(self, count: int) -> None:
        """Closed loop: requests were written."""
        self.offered += count
        self.sent += count
        self.in_flight += count

    def block_done(self, took_ns: int, requests: int, operations: int) -> None:
        """Closed loop: these requests succeeded, all after the same time."""
        if not requests:
            return
        self.in_flight -= requests
        self.response.record(took_ns, operations)
        if took_ns > self.timeout_ns:
            self.timed_out += requests
        else:
            self.requests += requests
            self.operations += operations

    def failed_took(self, took_ns: int, operations: int) -> None:
        """Closed loop: requests with this many operations failed after this time. `fail` has counted them."""
        self.error_times.record(took_ns, operations)

    def unanswered(self, waited_ns: int, count: int) -> None:
        """Closed loop: these requests are given up after this time."""
        self.response.record(waited_ns, count)
        self.timed_out += count
        self.in_flight -= count

    def request_due(self, lateness_ns: int) -> None:
        """Open loop: a request was due this long ago, and the generator handles it now."""
        self.offered += 1
        self.lateness.record(lateness_ns)

    def request_sent(self, measured: bool) -> None:
        """Open loop: a request was written."""
        self.sent += measured
        self.in_flight += 1

    def bytes_arrived(self, late_ns: int) -> None:
        """Open loop: a connection received bytes, which may have lain here for this long."""
        self.arrivals += 1
        self.receiving.record(late_ns)

    def request_done(self, response_ns: int, service_ns: int, operations: int) -> None:
        """Open loop: a request of this many operations succeeded."""
        self.in_flight -= 1
        self.response.record(response_ns)
        self.service.record(service_ns)
        if response_ns > self.timeout_ns:
            self.timed_out += 1
        else:
            self.requests += 1
            self.operations += operations

    def request_failed(self, response_ns: int, kind: str) -> None:
        """Open loop: a request was answered by an error of this class, or its connection was lost."""
        self.error_times.record(response_ns)
        self.fail(kind)

    def request_unanswered(self, response_ns: int, service_ns: int) -> None:
        """Open loop: a request is given up after this time."""
        self.in_flight -= 1
        self.response.record(response_ns)
        self.service.record(service_ns)
        self.timed_out += 1

    def warm_up_over(self) -> None:
        """Open loop: a request of the warm-up was answered, or is given up."""
        self.in_flight -= 1

    def request_not_sent(self, response_ns: int) -> None:
        """Open loop: a request is given up that waited this long for a free connection."""
        self.response.record(response_ns)
        self.not_sent += 1

    def request_missed(self, late_ns: int) -> None:
        """Open loop: the generator was too slow for this request, which was due this long ago."""
        self.lateness.record(late_ns)
        self.response.record(late_ns)
        self.offered += 1
        self.missed += 1

    def requests_missed(self, oldest_ns: int, count: int) -> None:
        """Open loop: the same for many requests, due at even gaps from `oldest_ns` ago until now."""
        steps = min(count, ESTIMATE_STEPS)
        for step in range(steps):
            share = count * (step + 1) // steps - count * step // steps
            late_ns = oldest_ns * (steps - step) // steps
            self.lateness.record(late_ns, share)
            self.response.record(late_ns, share)
        self.offered += count
        self.missed += count

    def start_measuring(self) -> None:
        """Closed loop: forget the counts of the warm-up. What is in flight is offered."""
        for histogram in (self.response, self.error_times):
            histogram.clear()
        self.requests = self.operations = self.timed_out = 0
        self.offered = self.sent = self.in_flight
        for kind, count in self.failed.items():
            self.failed_outside[kind] = self.failed_outside.get(kind, 0) + count
        self.failed.clear()

    def to_json(self) -> dict[str, Any]:
        """What a worker reports to the parent process."""
        return {
            "requests": self.requests,
            "operations": self.operations,
            "timed_out": self.timed_out,
            "failed": dict(self.failed),
            "failed_outside": dict(self.failed_outside),
            "connections_lost": dict(self.connections_lost),
            "reconnects": self.reconnects,
            "offered": self.offered,
            "sent": self.sent,
            "not_sent": self.not_sent,
            "missed": self.missed,
            "response": self.response.to_json(),
            "service": self.service.to_json(),
            "error_times": self.error_times.to_json(),
            "lateness": self.lateness.to_json(),
            "receiving": self.receiving.to_json(),
        }
