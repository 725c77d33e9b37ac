"""What a run found: the figures of all workers together, and whether they may be believed.

A figure that the generator itself spoiled is worse than none. So a result carries the reasons that make it
INVALID, all of them about the generator and none about the server:

- open loop: the generator's own lateness (p99) is more than a quarter of the response time it reports (p99);
- open loop: it was busy more than 95 % of the time, or did not get to all that was due;
- closed loop: it used more than 95 % of a core while the server, where that can be seen, still had time left.
  Then the generator was the limit, not the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.expectation import Account
from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.verification import Verification

GENERATOR_SHARE_MAX = 0.95
# A server this busy is the limit, however busy the generator is.
SERVER_SHARE_LIMIT = 0.90
LATENESS_PART_MAX = 0.25
# Up to this part of the offered requests the generator may miss at the end without a word.
MISSED_PART_MAX = 0.001


@dataclass(slots=True)
class Result:
    """One run, merged over its workers."""

    plan: Plan
    # Seconds measured, without the warm-up; the longest of the workers.
    elapsed_s: float = 0.0
    # Answered well and in time: requests, and the counters they changed or read. In an open loop the requests
    # include those whose answers came after the end, and the operations do not.
    requests: int = 0
    operations: int = 0
    # Operations a second, added up over the workers.
    throughput: float = 0.0
    timed_out: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    # Open loop: requests due in the measured time, those written, those for which no connection came free in
    # time, and those the generator itself did not get to.
    offered: int = 0
    sent: int = 0
    not_sent: int = 0
    missed: int = 0
    response: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    # Of each worker: the part of a core it used, and (open loop) the part of the time it had work.
    cpu_shares: list[float] = field(default_factory=list)
    busy_shares: list[float] = field(default_factory=list)
    # The part of a core the server used, where its process is known.
    server_share: float | None = None
    accounts: list[Account] = field(default_factory=list)
    # Whether more requests failed on some connection than are remembered one by one.
    failures_dropped: bool = False
    verification: Verification | None = None
    # Why there is no verification though one was asked for.
    not_verified: str = ""
    # Evictions by reason during the run, where the server tells.
    evictions: dict[str, int] | None = None
    # Operations a second this generator does with an echo in the same way, where that was measured.
    ceiling: float | None = None
    # The server, as it tells.
    server: str = ""

    def add(self, answer: dict[str, Any]) -> None:
        """Take in what one worker reports."""
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
        self.cpu_shares.append(answer["cpu_share"])
        if answer["busy_share"] is not None:
            self.busy_shares.append(answer["busy_share"])
        for account in answer["accounts"]:
            self.failures_dropped |= account.pop("failures_dropped")
            self.accounts.append(Account(**account))

    @property
    def failures(self) -> int:
        """Requests that failed, timed out, or could not even be sent."""
        return sum(self.failed.values()) + self.timed_out + self.not_sent

    @property
    def generator_share(self) -> float:
        """How busy the busiest worker was. A spinning worker is as busy as it had work."""
        pairs = zip(self.cpu_shares, self.busy_shares or self.cpu_shares, strict=True)
        return max((min(pair) for pair in pairs), default=0.0)

    @property
    def invalid(self) -> list[str]:
        """Why the figures must not be believed; empty when they may."""
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
            reasons.append(f"the generator did not get to {self.missed:,} of {self.offered:,} due requests")
        return reasons

    def _invalid_closed(self) -> list[str]:
        server_is_limit = self.server_share is not None and self.server_share >= SERVER_SHARE_LIMIT
        if self.generator_share <= GENERATOR_SHARE_MAX or server_is_limit:
            return []
        had_time = "" if self.server_share is None else f" and the server only {self.server_share:.0%}"
        used = f"the generator used {self.generator_share:.0%} of a core{had_time}"
        return [f"{used}: it was the limit; use more --processes"]
