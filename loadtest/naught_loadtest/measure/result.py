"""The result of a run: the figures of all workers merged, and whether they may be believed.

A figure that shows the generator's limits instead of the server's is worse than no figure. So a result has the
reasons that make it INVALID. All of them are about the generator and none about the server:

- open loop: the generator's own lateness (p99) is more than a quarter of the response time (p99);
- open loop: the generator was busy for more than 95 % of the time, or could not send all requests that were due;
- closed loop: the generator used more than 95 % of a core while the server, as far as is known, was not busy. Then
  the generator was the limit and not the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.expectation import Account
from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.series import Series
from naught_loadtest.measure.verification import Verification

GENERATOR_SHARE_MAX = 0.95
# From this share on the server is the limit, however busy the generator is.
SERVER_SHARE_LIMIT = 0.90
LATENESS_PART_MAX = 0.25
# The generator may miss this part of the offered requests at the end before the run counts as INVALID.
MISSED_PART_MAX = 0.001


@dataclass(slots=True)
class Result:
    """The result of one run. `add` merges the report of a worker into it; `Run` fills in what workers do not know."""

    plan: Plan
    # When the measured time began, in seconds since 1970; 0 before.
    started_at_s: float = 0.0
    # Seconds measured, without the warm-up; the longest of all workers.
    elapsed_s: float = 0.0
    # Requests that succeeded in time, and the counters they changed or read. In an open loop `requests` includes
    # those answered after the measured time, and `operations` does not.
    requests: int = 0
    operations: int = 0
    # Operations per second, added up over the workers.
    throughput: float = 0.0
    # Requests that succeeded too late.
    timed_out: int = 0
    # Requests that failed, by class.
    failed: dict[str, int] = field(default_factory=dict)
    # Open loop: requests due in the measured time, those written, those for which no connection was free in time, and
    # those that the generator was too slow to send.
    offered: int = 0
    sent: int = 0
    not_sent: int = 0
    missed: int = 0
    # Latencies, as `Tally` defines them.
    response: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    # The same by seconds.
    series: Series = field(default_factory=Series)
    # For each worker: the part of a core it used, and (open loop) the part of the time in which it had work.
    cpu_shares: list[float] = field(default_factory=list)
    busy_shares: list[float] = field(default_factory=list)
    # The part of a core that the server used; None where its process is unknown.
    server_share: float | None = None
    # What each connection knows about its requests.
    accounts: list[Account] = field(default_factory=list)
    # Whether more requests failed on some connection than it keeps numbers of.
    failures_dropped: bool = False
    # The check of the counters; None where there was none.
    verification: Verification | None = None
    # Why there is no verification although one was asked for.
    not_verified: str = ""
    # Evictions by reason during the run; None where the server does not report them.
    evictions: dict[str, int] | None = None
    # Operations per second of the same generator with an echo server; None where that was not measured.
    ceiling: float | None = None
    # Name and version of the server, as it reports them.
    server: str = ""

    def add(self, answer: dict[str, Any]) -> None:
        """Merge the report of one worker."""
        tally = answer["tally"]
        self.elapsed_s = max(self.elapsed_s, answer["elapsed_s"])
        self.requests += tally["requests"]
        self.operations += tally["operations"]
        self.throughput += tally["operations"] / answer["elapsed_s"] if answer["elapsed_s"] else 0.0
        self.timed_out += tally["timed_out"]
        for kind, count in tally["failed"].items():
            self.failed[kind] = self.failed.get(kind, 0) + count
        self.offered += tally["offered"]
        self.sent += tally["sent"]
        self.not_sent += tally["not_sent"]
        self.missed += tally["missed"]
        self.response.merge(Histogram.from_json(tally["response"]))
        self.service.merge(Histogram.from_json(tally["service"]))
        self.lateness.merge(Histogram.from_json(tally["lateness"]))
        self.series.add_worker(answer["series"])
        self.cpu_shares.append(answer["cpu_share"])
        if answer["busy_share"] is not None:
            self.busy_shares.append(answer["busy_share"])
        for account in answer["accounts"]:
            self.failures_dropped |= account.pop("failures_dropped")
            self.accounts.append(Account(**account))

    @property
    def failures(self) -> int:
        """Requests that failed, timed out, or could not be sent because no connection was free."""
        return sum(self.failed.values()) + self.timed_out + self.not_sent

    @property
    def server_cpu_us(self) -> float | None:
        """The server's processor time for one operation, in microseconds. None where it is unknown."""
        if self.server_share is None or not self.throughput:
            return None
        return self.server_share / self.throughput * 1e6

    @property
    def generator_share(self) -> float:
        """How busy the busiest worker was. Time in which a worker spun without work does not count."""
        pairs = zip(self.cpu_shares, self.busy_shares or self.cpu_shares, strict=True)
        return max((min(pair) for pair in pairs), default=0.0)

    @property
    def invalid(self) -> list[str]:
        """The reasons why the figures must not be believed; empty when there are none."""
        reasons = self._invalid_open() if self.plan.open_loop else self._invalid_closed()
        if not self.requests and not self.failures:
            reasons.append("nothing was answered in the measured time")
        return reasons

    def _invalid_open(self) -> list[str]:
        reasons = []
        lateness_ns, response_ns = self.lateness.percentile(99), self.response.percentile(99)
        if lateness_ns > LATENESS_PART_MAX * response_ns:
            reasons.append(
                f"the generator's own lateness (p99 {lateness_ns / 1e6:.3f} ms) is more than a quarter of the"
                f" response time (p99 {response_ns / 1e6:.3f} ms)"
            )
        if self.generator_share > GENERATOR_SHARE_MAX:
            reasons.append(f"the generator was busy {self.generator_share:.0%} of the time; use more --processes")
        if self.missed > MISSED_PART_MAX * self.offered:
            reasons.append(f"the generator was too slow to send {self.missed:,} of {self.offered:,} due requests")
        return reasons

    def _invalid_closed(self) -> list[str]:
        server_is_limit = self.server_share is not None and self.server_share >= SERVER_SHARE_LIMIT
        if self.generator_share <= GENERATOR_SHARE_MAX or server_is_limit:
            return []
        server = "" if self.server_share is None else f" and the server only {self.server_share:.0%}"
        used = f"the generator used {self.generator_share:.0%} of a core{server}"
        return [f"{used}: it was the limit; use more --processes"]
