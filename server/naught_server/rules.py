"""The tuner's rules: what one says, which metrics and settings there are, and the rules that hold by default.

A rule is a table of the configuration file:

    [rules.burst-of-zeros]
    metric = "deviation"        # of each cache; METRICS lists them all
    above = 0.15                # the rule is met above this, or with `below` below it
    until = 0.01                # and over only at this, so that it does not flap
    set = "sweep_budget_ms"     # what it changes; SETTINGS lists them
    to = 4.0                    # to this value; or `times = 2.0` with `limit = 8.0`, one step after the other
    check_ms = 10_000           # without an effect in this time, the change is undone
    undo_after_ms = 5_000       # the old value is put back when the rule has been over for so long

With `rate_ms` the metric's growth per second is compared, measured over windows of that length. `for_ms` is how long
the rule must have been met, `requests_below` lets it act only while there are fewer requests per second, and `cache`
binds it to one cache. `off = true` turns a rule off.

This module knows what a rule may say. `tuner.py` decides; `config.py` reads the file and checks the values that are
set.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, cast

from naught_server.kinds import shown

RULES_MAX: Final = 32
"""Every rule is looked at in every tenth of a second, for every cache."""

WINDOW_MS_MIN: Final = 100
"""The tuner looks at the figures as often."""

WINDOW_MS_MAX: Final = 3_600_000
"""An hour. A longer time is a mistake in units."""

NAME_CHARACTERS_MAX: Final = 64
"""A rule's name is a label of a metric."""

DEVIATION_ENTRIES_MIN: Final = 1_000
"""With fewer stale entries the deviation is taken to be 0: ten zeros beside no counter are nothing to sweep for."""

TABLES_BYTES_MIN: Final = 1 << 20
"""With smaller tables the bytes per entry are taken to be 0: nothing could be given back."""


class Metric(NamedTuple):
    """What a rule can compare."""

    of_cache: bool
    """Whether each cache has its own value."""
    only_grows: bool
    """Whether it is a total since the start: a rule compares its rate."""
    meaning: str


METRICS: Final[Mapping[str, Metric]] = {
    "deviation": Metric(
        True, False, f"stale entries for each live counter; 0 while no more than {DEVIATION_ENTRIES_MIN:,} are stale"
    ),
    "stale_entries": Metric(True, False, "zeros and expired counters that are still in the tables"),
    "raw_entries": Metric(True, False, "entries of the tables"),
    "counters": Metric(True, False, "live counters"),
    "table_bytes": Metric(True, False, "memory of the tables, without keys and values"),
    "table_bytes_per_entry": Metric(True, False, "that for each entry; 0 while it is less than 1 MiB in all"),
    "evictions": Metric(True, True, "counters evicted, for whatever reason"),
    "requests": Metric(False, True, "requests executed"),
    "gc_seconds": Metric(False, True, "time in Python's garbage collector; its rate is a share of the time"),
    "gc_pause_ms": Metric(False, False, "the longest pause of the garbage collector since the last look"),
    "loop_lag_ms": Metric(False, False, "how late the event loop was on average since the last look"),
    "connections": Metric(False, False, "open connections"),
    "sessions": Metric(False, False, "open sessions"),
}

SETTINGS: Final = (
    "sweep_budget_ms",
    "sweep_interval_ms",
    "compaction_bytes_per_entry",
    "gc_threshold",
    "gc_freeze",
    "eviction",
)
"""What a rule may set. `eviction` is that of the cache for which the rule is met."""

_NUMBERS: Final = SETTINGS[:4]
"""The settings that `times` can multiply."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """One rule, checked. Raises ValueError, which names the key that is wrong and says what is allowed."""

    name: str
    metric: str
    set: str
    above: float | None = None
    below: float | None = None
    until: float | None = None
    """The threshold itself where none is given."""
    rate_ms: int = 0
    for_ms: int = 0
    requests_below: float | None = None
    cache: str | None = None
    to: Any = None
    """The value to set; `config.py` checks that the setting allows it."""
    times: float | None = None
    limit: float | None = None
    check_ms: int = 10_000
    undo_after_ms: int = 5_000
    off: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > NAME_CHARACTERS_MAX:
            raise ValueError(
                f"a rule's name is 1 to {NAME_CHARACTERS_MAX} letters, digits, dots, dashes or underscores, "
                "starting with a letter or a digit"
            )
        _need_word("metric", self.metric, METRICS)
        _need_word("set", self.set, SETTINGS)
        for key in ("above", "below", "until", "requests_below", "times", "limit"):
            _need_number(key, getattr(self, key))
        for key, low in (("for_ms", 0), ("check_ms", WINDOW_MS_MIN), ("undo_after_ms", WINDOW_MS_MIN)):
            _need_time(key, getattr(self, key), low)
        if self.rate_ms != 0:
            _need_time("rate_ms", self.rate_ms, WINDOW_MS_MIN)
        if type(self.off) is not bool:
            raise ValueError("off must be true or false")
        self._check_threshold()
        self._check_change()
        if self.cache is not None and not isinstance(self.cache, str):
            raise ValueError("cache must be the name of a cache")
        if self.cache is not None and not METRICS[self.metric].of_cache:
            raise ValueError(f"cache: {self.metric} is a metric of the server, which has no cache")

    def _check_threshold(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError("a rule has either above or below")
        if self.check_ms < self.rate_ms:
            raise ValueError(
                f"check_ms must be at least rate_ms ({self.rate_ms}), or a change is undone before there is a figure "
                f"that it could have an effect on, not {self.check_ms}"
            )
        if METRICS[self.metric].only_grows and not self.rate_ms:
            raise ValueError(f"{self.metric} is a total, which only grows: give rate_ms, to compare its growth")
        if self.until is None:
            return
        if self.above is not None and self.until > self.above:
            raise ValueError(f"until must be at most above ({self.above:g}), not {self.until:g}")
        if self.below is not None and self.until < self.below:
            raise ValueError(f"until must be at least below ({self.below:g}), not {self.until:g}")

    def _check_change(self) -> None:
        if (self.to is None) == (self.times is None):
            raise ValueError("a rule has either to or times")
        if self.times is not None:
            if self.set not in _NUMBERS:
                raise ValueError(f"times is for settings that are numbers, and {self.set} is none; give to")
            if self.limit is None:
                raise ValueError("times needs a limit: the value it never passes")
            if not 0 < self.times <= 100 or self.times == 1:
                raise ValueError("times must be a number above 0 and up to 100, and not 1")
        elif self.limit is not None:
            raise ValueError("limit belongs to times; to is its own limit")
        if self.set == "eviction" and not METRICS[self.metric].of_cache:
            raise ValueError(f"set: eviction is of a cache, and {self.metric} is a metric of the server")

    @property
    def threshold(self) -> float:
        """What the figure is compared with."""
        found = self.above if self.above is not None else self.below
        assert found is not None
        return found

    def is_met(self, figure: float) -> bool:
        """Whether the figure is past the threshold."""
        return figure > self.threshold if self.above is not None else figure < self.threshold

    def is_over(self, figure: float) -> bool:
        """Whether the figure is back at `until`."""
        until = self.threshold if self.until is None else self.until
        return figure <= until if self.above is not None else figure >= until

    def next_value(self, current: Any) -> Any:
        """What to set next; the current value where there is no further step."""
        if self.times is None:
            return self.to
        assert self.limit is not None
        value = current * self.times
        value = min(self.limit, value) if self.times > 1 else max(self.limit, value)
        # A value that is past the limit already is left alone.
        if (value <= current) if self.times > 1 else (value >= current):
            return current
        if type(current) is int:
            return math.ceil(value) if self.times > 1 else math.floor(value)  # a step, also from 10 by 1.05
        return float(value)

    def wants(self, before: Any, value: Any) -> bool:
        """Whether this rule would lead from one value to the other, or past it."""
        if self.times is None:
            return bool(self.to == value)
        assert self.limit is not None
        return bool(before < value <= self.limit if self.times > 1 else before > value >= self.limit)


def _need_word(key: str, value: object, known: Collection[str]) -> None:
    if not isinstance(value, str) or value not in known:
        near = difflib.get_close_matches(value[:64], list(known), n=1) if isinstance(value, str) else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{key} must be one of {', '.join(known)}, not {shown(value)}{hint}")


def _need_number(key: str, value: object) -> None:
    if value is None:
        return
    if type(value) in (int, float):
        with contextlib.suppress(OverflowError):  # a whole number that is larger than any float
            if math.isfinite(cast("float", value)):
                return
    raise ValueError(f"{key} must be a number, not {shown(value)}")


def _need_time(key: str, value: object, low: int) -> None:
    if type(value) is not int or not low <= value <= WINDOW_MS_MAX:
        raise ValueError(
            f"{key} must be a whole number of milliseconds from {low} to {WINDOW_MS_MAX}, not {shown(value)}"
        )


RULE_KEYS: Final = tuple(item.name for item in fields(Rule) if item.name != "name")

DEFAULT_RULES: Final[Mapping[str, Rule]] = {
    rule.name: rule
    for rule in (
        # Zeros wait for the sweeper, beside too few counters that live: it has a tenth of the time, with a backlog of
        # more than a tenth a quarter. This gives it four tenths until one in a hundred is stale.
        Rule(
            "burst-of-zeros",
            metric="deviation",
            above=0.15,
            until=0.01,
            set="sweep_budget_ms",
            times=4.0,
            limit=4.0,
            undo_after_ms=1_000,
        ),
        # The same beside many counters that live: the zeros of a burst, before they are a sixth of all.
        Rule(
            "growth-of-zeros",
            metric="stale_entries",
            rate_ms=500,
            above=100_000,
            until=10_000,
            set="sweep_budget_ms",
            times=4.0,
            limit=4.0,
            undo_after_ms=1_000,
        ),
        # Tables that grow as fast as no steady load makes them.
        Rule(
            "growth-of-tables",
            metric="table_bytes",
            rate_ms=500,
            above=200e6,
            until=20e6,
            set="sweep_budget_ms",
            times=4.0,
            limit=4.0,
            undo_after_ms=1_000,
        ),
        # Nobody waits: tables are rebuilt that are only half empty.
        Rule(
            "quiet",
            metric="table_bytes_per_entry",
            above=64,
            for_ms=10_000,
            requests_below=100,
            set="compaction_bytes_per_entry",
            times=0.5,
            limit=64,
        ),
        # Many new objects that stay, such as sessions: the collector looks at them less often.
        Rule(
            "collector-busy",
            metric="gc_seconds",
            rate_ms=5_000,
            above=0.05,
            until=0.005,
            set="gc_threshold",
            times=10,
            limit=20_000,
            undo_after_ms=600_000,
        ),
        # A whole collection was long, because there is much that stays: it is not looked at again.
        Rule(
            "freeze-after-burst",
            metric="gc_pause_ms",
            above=20,
            until=1,
            set="gc_freeze",
            to=True,
            undo_after_ms=600_000,
        ),
    )
}


def effective(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rules that hold: the default ones and these, which replace those of the same name; none that is off."""
    return {name: rule for name, rule in {**DEFAULT_RULES, **rules}.items() if not rule.off}
