"""How much work the sweeper does in a step: measured times come in, allowances in entries come out. Sans-IO.

The sweeper has a budget of time, and its jobs count entries. So each job has a `Price`: what one of its entries has
cost lately. A step gives every job the entries that fit half of the time that is left. Jobs that used all of that
have more work, and get further turns while there is time:

    left 1.00 ms   expired counters: 500 us at 0.5 us an entry = 1 000 entries, used 1 000
    left 0.50 ms   compaction: nothing to do
    left 0.50 ms   expired counters again: 500 entries, used 200

A step can be slow for reasons that are not the job's: another process had the core. Such a step must not make the
allowance small for longer than it lasts, because expired counters would pile up meanwhile. And when entries have
really become expensive, the very next step must be smaller. So the price is the median of the last steps, or the last
step where that was dearer: one slow step counts once, a lasting change counts at once and then stays.
"""

from __future__ import annotations

from array import array
from math import isnan, nan
from typing import Final

from naught_server.limits import SWEEP_BACKLOG_SHARE, SWEEP_INTERVAL_MS_MAX, SWEEP_SLICE_MS

SAMPLES: Final = 5
"""Steps whose median is the price: two slow ones of five change nothing."""

ENTRY_NS_AT_START: Final = 1_000.0
"""The price of an entry before anything was measured: more than it costs where the machine is not slow."""

FEW_ENTRIES: Final = 32
"""A step with fewer entries than this costs mostly what it costs to begin it, not the price of its entries."""

SHORT_NS: Final = 50_000
"""A step with few entries that took no longer than this can only show that entries are cheaper than they were taken
to be. One that took longer has dear entries."""

ENTRIES_MAX: Final = 50_000
"""The most entries of one turn of a job, about what a fast machine does in 10 ms: a bound for prices near zero."""

TURNS_MAX: Final = 8
"""The most turns of a job in one step. Each uses half of the time that is left, so after eight there is none."""


class Price:
    """What an entry of one job costs, in nanoseconds."""

    __slots__ = ("_numbers", "_sampled")

    def __init__(self) -> None:
        # What the next entries are taken to cost; then the last samples, a ring: nanoseconds per entry, NaN is none.
        # Numbers that change all the time lie in arrays: see `stats.Durations`.
        self._numbers = array("d", [ENTRY_NS_AT_START, *[nan] * SAMPLES])
        self._sampled = 0  # the place of the next sample

    @property
    def entry_ns(self) -> float:
        """What the next entries are taken to cost."""
        return self._numbers[0]

    def note(self, entries: int, took_ns: int) -> None:
        """A turn has done this many entries in this time."""
        if entries <= 0:
            return
        numbers = self._numbers
        last = max(took_ns, 1) / entries
        if entries < FEW_ENTRIES and took_ns <= SHORT_NS and last >= numbers[0]:
            return
        numbers[1 + self._sampled] = last
        self._sampled = (self._sampled + 1) % SAMPLES
        samples = sorted(number for number in numbers[1:] if not isnan(number))
        numbers[0] = max(samples[len(samples) // 2], last)

    def entries_in(self, time_ns: float) -> int:
        """How many entries fit this time: at least 1, so that every job gets on."""
        return max(1, min(ENTRIES_MAX, int(time_ns / self._numbers[0])))


class Pace:
    """The prices of all jobs, and the time that is left of one step."""

    __slots__ = ("_prices", "_time_ns")

    def __init__(self, jobs: int) -> None:
        self._prices = [Price() for _ in range(jobs)]
        # The budget of the step under way; what is left of it, below 0 after a slow turn.
        self._time_ns = array("d", (0.0, 0.0))

    def begin(self, budget_ns: float) -> None:
        """A step begins, which may take this long."""
        self._time_ns[0] = self._time_ns[1] = budget_ns

    def allowance(self, job: int) -> int:
        """How many entries the next turn of this job may do."""
        return self._prices[job].entries_in(self._time_ns[1] / 2)

    def note(self, job: int, entries: int, took_ns: int) -> None:
        """The turn is over."""
        self._time_ns[1] -= took_ns
        self._prices[job].note(entries, took_ns)

    @property
    def has_time(self) -> bool:
        """Whether enough is left of the step for further turns of jobs that have more work."""
        return self._time_ns[1] * 8 >= self._time_ns[0]

    def entry_ns(self, job: int) -> float:
        """The price of an entry of this job."""
        return self._prices[job].entry_ns


def rhythm(
    budget_ms: float, interval_ms: int, longest_ms: int = SWEEP_INTERVAL_MS_MAX, *, behind: bool
) -> tuple[int, float]:
    """How often the sweeper takes a step, in milliseconds, and how long one may take, in nanoseconds.

    The budget in each interval is a share of the time. A backlog earns `SWEEP_BACKLOG_SHARE` where that is more. A
    larger share is more steps and no longer ones, because requests wait for each: 4 ms in 10 are 0.8 ms in every 2.
    A step follows at the latest after `longest_ms`, with as much less in it where that is less than the interval.
    """
    share = min(1.0, budget_ms / interval_ms)
    if behind:
        share = max(share, SWEEP_BACKLOG_SHARE)
    period_ms = min(interval_ms, longest_ms, max(1, int(SWEEP_SLICE_MS / share)))
    return period_ms, share * period_ms * 1e6
