"""Service level objectives: `p99<2ms`, `p99.9<=500us`, `max<1s`, `errors<0.1%`, `rate>50000`.

- A percentile or the maximum, a limit and a unit. In an open loop it is about the response time, measured from when
  the request was due; in a closed loop about the only latency there is. An objective about a percentile with too few
  samples beyond it is not met: the run was too short to tell.
- The part of the requests that did not succeed in time, of all that were asked for. Without such an objective any
  failed request makes a run fail; with one, those that it allows do not.
- Operations per second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from naught_loadtest.measure.histogram import Histogram

UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}

# More than any limit that can be reached takes; a number of hundreds of digits would be an infinity.
LENGTH_MAX = 60

_LATENCY = re.compile(r"\s*(p(\d+(?:\.\d+)?)|max)\s*(<=?)\s*(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s)\s*", re.ASCII)
_ERRORS = re.compile(r"\s*errors\s*(<=?)\s*(\d+(?:\.\d+)?)\s*%\s*", re.ASCII)
_RATE = re.compile(r"\s*rate\s*(>=?)\s*(\d+(?:\.\d+)?)\s*(?:/s)?\s*", re.ASCII)


class Measured(Protocol):
    """What an objective is judged on: a `Result`, or a merged one."""

    @property
    def response(self) -> Histogram: ...

    @property
    def throughput(self) -> float: ...

    @property
    def requests(self) -> int: ...

    @property
    def failures(self) -> int: ...

    @property
    def missed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Objective:
    """A bound that a run is to keep, such as `p99<1ms`."""

    # As it was written.
    text: str
    # "latency", "errors" or "rate".
    kind: str
    # The limit: nanoseconds, a part of the requests, or operations per second.
    limit: float
    # True for `<` and `>`, False for `<=` and `>=`.
    strict: bool
    # The percentile of an objective about latency; None for the maximum.
    percent: float | None = None

    @property
    def limit_ns(self) -> float | None:
        """The limit of an objective about latency; None for the others."""
        return self.limit if self.kind == "latency" else None

    def judge(self, measured: Measured) -> tuple[bool, str]:
        """(whether it is met, a sentence for the report)."""
        if self.kind == "errors":
            asked = measured.requests + measured.failures + measured.missed
            if not asked:
                return False, f"{self.text}: nothing was asked for"
            part = (measured.failures + measured.missed) / asked
            return self._told(self._below(part), f"{part:.4%} of {asked:,} requests")
        if self.kind == "rate":
            rate = measured.throughput
            met = rate > self.limit if self.strict else rate >= self.limit
            return self._told(met, f"{rate:,.0f} operations/s")
        return self._judge_latency(measured.response)

    def _judge_latency(self, histogram: Histogram) -> tuple[bool, str]:
        if self.percent is None:
            reached_ns = histogram.max_ns
            if not histogram.records:
                return False, f"{self.text}: nothing was measured"
        else:
            if not histogram.printable(self.percent):
                return False, f"{self.text}: too few samples to tell ({histogram.records} samples)"
            reached_ns = histogram.percentile(self.percent)
        return self._told(self._below(reached_ns), f"{reached_ns / 1e6:.3f} ms")

    def _below(self, value: float) -> bool:
        return value < self.limit if self.strict else value <= self.limit

    def _told(self, met: bool, reached: str) -> tuple[bool, str]:
        return met, f"{self.text}: {'met' if met else 'MISSED'} with {reached}"


def parse(text: str) -> Objective:
    """An objective from its text. ValueError says what is wrong with it."""
    written = text.strip()
    if len(written) > LENGTH_MAX:
        raise ValueError(f"an objective has at most {LENGTH_MAX} characters")
    if match := _LATENCY.fullmatch(text):
        _, percent, sign, amount, unit = match.groups()
        if percent is not None and not 0 < float(percent) < 100:
            raise ValueError(f"a percentile must lie between 0 and 100, not {percent}")
        limit_ns = float(amount) * UNITS_NS[unit]
        return Objective(written, "latency", limit_ns, sign == "<", float(percent) if percent else None)
    if match := _ERRORS.fullmatch(text):
        sign, amount = match.groups()
        if not float(amount) <= 100:
            raise ValueError(f"a part of the requests is at most 100 %, not {amount}")
        return Objective(written, "errors", float(amount) / 100, sign == "<")
    if match := _RATE.fullmatch(text):
        sign, amount = match.groups()
        return Objective(written, "rate", float(amount), sign == ">")
    raise ValueError(f"an objective must be written like p99<2ms, max<=1s, errors<0.1% or rate>50000, not {text!r}")


def allow_errors(objectives: Iterable[Objective]) -> bool:
    """Whether an objective says how many requests may fail, so that a failed request alone is no failed run."""
    return any(each.kind == "errors" for each in objectives)
