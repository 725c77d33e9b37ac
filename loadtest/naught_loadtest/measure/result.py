"""The result of a run: the figures of all workers merged, and whether they may be believed.

There is no result whose requests do not add up: offered = completed + failed + timed out + missed + not sent.

A figure that shows the limits of the generator or of a busy machine instead of the server's is worse than no figure.
So a result has the reasons that make it INVALID. None of them is about the server:

- open loop: the generator's own lateness, in sending or in receiving, is more than a quarter of the response time, at
  p99 or at a percentile that an objective is about;
- open loop: the generator was busy for more than 95 % of the time, or could not send all requests that were due;
- closed loop: the generator used more than 95 % of a core while the server, as far as is known, was not busy. Then
  the generator was the limit and not the server;
- the throughput is above the ceiling of the generator;
- the server or the generator waited for a processor for more than a tenth of the time, because others had it, or the
  machine below a virtual one took more than a twentieth of all processor time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from naught_loadtest.generate.plan import Plan
from naught_loadtest.measure.expectation import Account
from naught_loadtest.measure.histogram import Histogram
from naught_loadtest.measure.series import Series
from naught_loadtest.measure.slo import Objective
from naught_loadtest.measure.tally import PROTOCOL_FAULT, UNASKED_REPLY
from naught_loadtest.measure.verification import Verification

GENERATOR_SHARE_MAX = 0.95
# From this share on the server is the limit, however busy the generator is.
SERVER_SHARE_LIMIT = 0.90
LATENESS_PART_MAX = 0.25
# The generator may miss this part of the offered requests at the end before the run counts as INVALID.
MISSED_PART_MAX = 0.001
# The part of the time in which a process may wait for a processor.
WAIT_SHARE_MAX = 0.10
# The part of all processor time that the machine below a virtual one may take.
STEAL_SHARE_MAX = 0.05
# A ceiling is measured too, so a figure may be this much above it.
ABOVE_CEILING_MAX = 1.05


# Classes of failures that are no failures of a request, but of the server's honesty.
LIES = ("wrong_value", "wrong_id", PROTOCOL_FAULT, UNASKED_REPLY)


class UnaccountedError(RuntimeError):
    """What became of some requests is not known: an error of this harness. There is no result."""


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
    # Requests that failed outside of the measured time, by class. They are in no figure.
    failed_outside: dict[str, int] = field(default_factory=dict)
    # Connections that ended before the run did, by reason, and how many were opened anew.
    connections_lost: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    # Requests offered in the measured time, those of them written, those for which no connection was free in time,
    # and those that the generator was too slow to send. The last two are of the open loop only.
    offered: int = 0
    sent: int = 0
    not_sent: int = 0
    missed: int = 0
    # Latencies, as `Tally` defines them.
    response: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    error_times: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    receiving: Histogram = field(default_factory=Histogram)
    # The response times and errors by seconds.
    series: Series = field(default_factory=Series)
    # For each worker: the part of a core it used, and (open loop) the part of the time in which it had work.
    cpu_shares: list[float] = field(default_factory=list)
    busy_shares: list[float] = field(default_factory=list)
    # For each worker the part of the time in which it waited for a processor, where that is known.
    wait_shares: list[float] = field(default_factory=list)
    # The part of a core that the server used, and the part of the time in which it waited for one; None where its
    # process is unknown.
    server_share: float | None = None
    server_wait_share: float | None = None
    # The part of all processor time that the machine below this one took; None where that is unknown.
    steal_share: float | None = None
    # What each connection knows about its requests.
    accounts: list[Account] = field(default_factory=list)
    # What `level` of each counter must be by all values that were answered, and whether that is known. See
    # `generate.value_sums`.
    levels: dict[int, int] = field(default_factory=dict)
    levels_known: bool = True
    # Whether more requests failed on some connection than it keeps numbers of.
    failures_dropped: bool = False
    # What the run was to reach.
    objectives: list[Objective] = field(default_factory=list)
    # Whether the run was ended before its time.
    cut_short: bool = False
    # The comparison of the counters at the end; None where there was none.
    verification: Verification | None = None
    # The comparison before the closing decrements; None where there are none.
    verification_before: Verification | None = None
    # Why there is no verification although one was asked for.
    not_verified: str = ""
    # Evictions by reason during the run; None where the server does not report them.
    evictions: dict[str, int] | None = None
    # Operations per second of the same generator with an echo server; None where that was not measured.
    ceiling: float | None = None
    # Whether the echo server was the limit, so that the generator's own ceiling is higher.
    ceiling_is_least: bool = False
    # Name and version of the server, as it reports them.
    server: str = ""

    def __post_init__(self) -> None:
        self.check_balance()

    def check_balance(self) -> None:
        """UnaccountedError unless every offered request ended in exactly one class."""
        failed = sum(self.failed.values())
        parts = (self.requests, failed, self.timed_out, self.missed, self.not_sent)
        if self.offered != sum(parts) or min(parts) < 0:
            raise UnaccountedError(
                f"{self.offered} requests were offered, but {self.requests} completed + {failed} failed +"
                f" {self.timed_out} timed out + {self.missed} missed + {self.not_sent} not sent are {sum(parts)}"
            )

    def add(self, answer: dict[str, Any]) -> None:
        """Merge the report of one worker. UnaccountedError when its requests do not add up."""
        tally = answer["tally"]
        self.elapsed_s = max(self.elapsed_s, answer["elapsed_s"])
        self.requests += tally["requests"]
        self.operations += tally["operations"]
        self.throughput += tally["operations"] / answer["elapsed_s"] if answer["elapsed_s"] else 0.0
        self.timed_out += tally["timed_out"]
        _merge(self.failed, tally["failed"])
        _merge(self.failed_outside, tally["failed_outside"])
        self.reconnects += tally["reconnects"]
        self.offered += tally["offered"]
        self.sent += tally["sent"]
        self.not_sent += tally["not_sent"]
        self.missed += tally["missed"]
        self.response.merge(Histogram.from_json(tally["response"]))
        self.service.merge(Histogram.from_json(tally["service"]))
        self.error_times.merge(Histogram.from_json(tally["error_times"]))
        self.lateness.merge(Histogram.from_json(tally["lateness"]))
        self.receiving.merge(Histogram.from_json(tally["receiving"]))
        self.series.add_worker(answer["series"])
        self.cpu_shares.append(answer["cpu_share"])
        if answer["busy_share"] is not None:
            self.busy_shares.append(answer["busy_share"])
        if answer["wait_share"] is not None:
            self.wait_shares.append(answer["wait_share"])
        if answer["levels"] is None:
            self.levels_known = False
        else:
            for key, level in zip(*answer["levels"], strict=True):
                self.levels[key] = self.levels.get(key, 0) + level
        for account in answer["accounts"]:
            self.failures_dropped |= account["failures_dropped"]
            known = {name: value for name, value in account.items() if name != "failures_dropped"}
            self.accounts.append(Account(**known))
        self.check_balance()

    def judge_by_ceiling(self, echoes: list[Result]) -> None:
        """Note the ceiling: the greatest of these results of the same generator with an echo server."""
        best = max(echoes, key=lambda each: each.throughput)
        self.ceiling = best.throughput
        self.ceiling_is_least = (best.server_share or 0.0) >= SERVER_SHARE_LIMIT

    def add_closing(self, answer: dict[str, Any]) -> None:
        """Merge what one worker reports after the closing decrements."""
        _merge(self.connections_lost, answer["connections_lost"])
        places = {(account.connection, account.life): place for place, account in enumerate(self.accounts)}
        for closing in answer["closings"]:
            for kind in closing["failed"]:
                _merge(self.failed_outside, {kind: 1})
            place = places[closing["connection"], closing["life"]]
            account = self.accounts[place]
            self.accounts[place] = replace(account, closing_sent=closing["sent"], closing_done=closing["done"])

    @property
    def failures(self) -> int:
        """Requests of the measured time that failed, timed out, or could not be sent as no connection was free."""
        return sum(self.failed.values()) + self.timed_out + self.not_sent

    @property
    def other_failures(self) -> int:
        """Requests that failed before or after the measured time, and lost connections."""
        return sum(self.failed_outside.values()) + sum(self.connections_lost.values())

    @property
    def lies(self) -> int:
        """Replies that no right server gives: a wrong value or message id, a reply nobody waited for, garbage."""
        counts = (self.failed, self.failed_outside, self.connections_lost)
        return sum(each.get(kind, 0) for each in counts for kind in LIES)

    @property
    def wrong(self) -> bool:
        """Whether counters differed from what was acknowledged, before the closing decrements or after them."""
        checks = (self.verification_before, self.verification)
        return any(check is not None and not check.passed for check in checks)

    @property
    def server_cpu_us(self) -> float | None:
        """The server's processor time for one operation, in microseconds. None where it is unknown."""
        if self.server_share is None or not self.throughput:
            return None
        return self.server_share / self.throughput * 1e6

    @property
    def per_cpu_second(self) -> float | None:
        """Operations for each second of the server's processor time. None where it is unknown."""
        return self.throughput / self.server_share if self.server_share else None

    @property
    def generator_share(self) -> float:
        """How busy the busiest worker was. Time in which a worker spun without work does not count."""
        pairs = zip(self.cpu_shares, self.busy_shares or self.cpu_shares, strict=True)
        return max((min(pair) for pair in pairs), default=0.0)

    @property
    def invalid(self) -> list[str]:
        """The reasons why the figures must not be believed; empty when there are none."""
        reasons = self._invalid_open() if self.plan.open_loop else self._invalid_closed()
        reasons += self._spoiled_by_machine()
        if not self.requests and not self.failures:
            reasons.append("nothing was answered in the measured time")
        return reasons

    def _invalid_open(self) -> list[str]:
        reasons = []
        for where, lateness in (("sending", self.lateness), ("receiving", self.receiving)):
            for percent in self._judged_percents():
                late_ns, response_ns = _at(lateness, percent), _at(self.response, percent)
                if late_ns > LATENESS_PART_MAX * response_ns:
                    name = "max" if percent is None else f"p{percent:g}"
                    reasons.append(
                        f"the generator's own lateness in {where} ({name} {late_ns / 1e6:.3f} ms) is more than a"
                        f" quarter of the response time ({name} {response_ns / 1e6:.3f} ms)"
                    )
                    break
        if self.generator_share > GENERATOR_SHARE_MAX:
            reasons.append(f"the generator was busy {self.generator_share:.0%} of the time; use more --processes")
        if self.missed > MISSED_PART_MAX * self.offered:
            reasons.append(f"the generator was too slow to send {self.missed:,} of {self.offered:,} due requests")
        return reasons

    def _judged_percents(self) -> list[float | None]:
        """The percentiles at which the generator's lateness is judged; None is the maximum."""
        asked = [each.percent for each in self.objectives if each.kind == "latency"]
        return [99.0, *dict.fromkeys(percent for percent in asked if percent != 99.0)]

    def _invalid_closed(self) -> list[str]:
        if self.ceiling and not self.ceiling_is_least and self.throughput > ABOVE_CEILING_MAX * self.ceiling:
            ceiling = f"{self.ceiling:,.0f} operations/s"
            return [f"the throughput is above the generator's ceiling of {ceiling}: the machine changed meanwhile"]
        server_is_limit = self.server_share is not None and self.server_share >= SERVER_SHARE_LIMIT
        if self.generator_share <= GENERATOR_SHARE_MAX or server_is_limit:
            return []
        server = "" if self.server_share is None else f" and the server only {self.server_share:.0%}"
        used = f"the generator used {self.generator_share:.0%} of a core{server}"
        return [f"{used}: it was the limit; use more --processes"]

    def _spoiled_by_machine(self) -> list[str]:
        reasons = []
        if self.server_wait_share is not None and self.server_wait_share > WAIT_SHARE_MAX:
            reasons.append(
                f"the server waited for a processor for {self.server_wait_share:.0%} of the time: other programs"
                " had it, or a limit of its control group stopped it"
            )
        waited = max(self.wait_shares, default=0.0)
        if waited > WAIT_SHARE_MAX:
            reasons.append(f"the generator waited for a processor for {waited:.0%} of the time")
        if self.steal_share is not None and self.steal_share > STEAL_SHARE_MAX:
            reasons.append(f"the machine below this one took {self.steal_share:.0%} of all processor time")
        return reasons


def _at(histogram: Histogram, percent: float | None) -> int:
    return histogram.max_ns if percent is None else histogram.percentile(percent)


def _merge(counts: dict[str, int], more: dict[str, int]) -> None:
    for kind, count in more.items():
        counts[kind] = counts.get(kind, 0) + count
