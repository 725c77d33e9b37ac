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

from collections import deque
from typing import Final

from naught_server.config import SWEEP_BACKLOG_SHARE, SWEEP_INTERVAL_MS_MAX, SWEEP_SLICE_MS

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

    __slots__ = ("_samples", "entry_ns")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)  # of the last steps: nanoseconds per entry
        self.entry_ns = ENTRY_NS_AT_START  # what the next entries are taken to cost

    def note(self, entries: int, took_ns: int) -> None:
        """A turn has done this many entries in this time."""
        if entries <= 0:
            return
        last = max(took_ns, 1) / entries
        if entries < FEW_ENTRIES and took_ns <= SHORT_NS and last >= self.entry_ns:
            return
        self._samples.append(last)
        self.entry_ns = max(sorted(self._samples)[len(self._samples) // 2], last)

    def entries_in(self, time_ns: float) -> int:
        """How many entries fit this time: at least 1, so that every job gets on."""
        return max(1, min(ENTRIES_MAX, int(time_ns / self.entry_ns)))


class Pace:
    """The prices of all jobs, and the time that is left of one step."""

    __slots__ = ("_budget_ns", "_left_ns", "_prices")

    def __init__(self, jobs: int) -> None:
        self._prices = [Price() for _ in range(jobs)]
        self._budget_ns = 0.0  # of the step under way
        self._left_ns = 0.0  # what is left of it; below 0 after a slow turn

    def begin(self, budget_ns: float) -> None:
        """A step begins, which may take this long."""
        self._budget_ns = self._left_ns = budget_ns

    def allowance(self, job: int) -> int:
        """How many entries the next turn of this job may do."""
        return self._prices[job].entries_in(self._left_ns / 2)

    def note(self, job: int, entries: int, took_ns: int) -> None:
        """The turn is over."""
        self._left_ns -= took_ns
        self._prices[job].note(entries, took_ns)

    @property
    def has_time(self) -> bool:
        """Whether enough is left of the step for further turns of jobs that have more work."""
        return self._left_ns * 8 >= self._budget_ns

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
