"""Service level objectives: `p99<2ms`, `p99.9<=500us`, `max<1s`.

An objective names a percentile (or the maximum), a limit and a unit. In an open loop it is about the response time,
measured from when the request was due; in a closed loop about the only latency there is.

An objective about a percentile with too few samples beyond it is not met: the run was too short to tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from naught_loadtest.measure.histogram import Histogram

UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}

_GRAMMAR = re.compile(r"\s*(p(\d+(?:\.\d+)?)|max)\s*(<=?)\s*(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s)\s*")


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective."""

    # As it was written.
    text: str
    # The percentile; None for the maximum.
    percent: float | None
    limit_ns: float
    # True for `<`, False for `<=`.
    strict: bool

    def judge(self, histogram: Histogram) -> tuple[bool, str]:
        """(whether it is met, a sentence for the report)."""
        if self.percent is None:
            reached_ns = histogram.max_ns
            if not histogram.records:
                return False, f"{self.text}: nothing was measured"
        else:
            if not histogram.printable(self.percent):
                return False, f"{self.text}: too few samples to tell ({histogram.records} samples)"
            reached_ns = histogram.percentile(self.percent)
        met = reached_ns < self.limit_ns if self.strict else reached_ns <= self.limit_ns
        return met, f"{self.text}: {'met' if met else 'MISSED'} with {reached_ns / 1e6:.3f} ms"


def parse(text: str) -> Objective:
    """An objective from its text. ValueError says what is wrong with it."""
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(f"an objective must be written like p99<2ms or max<=1s, not {text!r}")
    _, percent, sign, amount, unit = match.groups()
    if percent is not None and not 0 < float(percent) < 100:
        raise ValueError(f"a percentile must lie between 0 and 100, not {percent}")
    limit_ns = float(amount) * UNITS_NS[unit]
    return Objective(text.strip(), float(percent) if percent else None, limit_ns, sign == "<")
