"""What a server did between two results of `info`, as rates, and its figures of now. `naught stat` writes them as
lines and `naught watch` as a screen.

Does no input or output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DEVIATION_MAX: Final = 0.15
"""Above this, the deviation (raw entries - live counters) / live counters is shown in red: zeros of lazy eviction
pile up faster than the sweeper removes them."""


@dataclass(frozen=True, slots=True)
class Durations:
    """Percentiles of durations, in microseconds. Each is the upper end of a bucket, so an upper bound; 0 where there
    was no duration."""

    p50_us: int
    p99_us: int
    longest_us: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Rates are per second; everything else is of the later result."""

    commands: dict[str, float]  # by method
    errors: dict[str, float]  # by code
    evicted: dict[str, dict[str, float]]  # by cache, then by reason
    counters: int  # of all caches
    raw_entries: int  # of all caches
    deviation: float  # of all caches together
    connections: int
    turns: Durations  # of connections
    pauses: Durations  # of the garbage collector
    lag: Durations  # of the event loop
    swept: float  # entries that the sweeper has worked on
    sweeper_steps: float

    @property
    def commands_per_s(self) -> float:
        """Of all methods."""
        return sum(self.commands.values())

    @property
    def errors_per_s(self) -> float:
        """Of all codes."""
        return sum(self.errors.values())

    @property
    def evicted_per_s(self) -> float:
        """Of all caches, for all reasons."""
        return sum(sum(reasons.values()) for reasons in self.evicted.values())


def figures_between(before: Mapping[str, Any] | None, info: Mapping[str, Any]) -> Figures | None:
    """The figures of `info`, with the rates since `before`. None where there is no `before`, and where the server was
    started anew meanwhile."""
    if before is None or info["uptime_ms"] <= before["uptime_ms"]:
        return None
    seconds = (info["uptime_ms"] - before["uptime_ms"]) / 1000

    def rates(now: Mapping[str, int], then: Mapping[str, int]) -> dict[str, float]:
        return {name: (count - then.get(name, 0)) / seconds for name, count in now.items()}

    counters = sum(cache["counters"] for cache in info["caches"].values())
    raw_entries = sum(cache["raw_entries"] for cache in info["caches"].values())
    return Figures(
        commands=rates(info["commands"], before["commands"]),
        errors=rates(info["errors"], before["errors"]),
        evicted={
            name: rates(cache["evictions"], before["caches"][name]["evictions"])
            for name, cache in info["caches"].items()
        },
        counters=counters,
        raw_entries=raw_entries,
        deviation=(raw_entries - counters) / counters if counters else float(raw_entries),
        connections=info["connections"],
        turns=durations_between(before["turns"], info["turns"]),
        pauses=durations_between(before["gc_pauses"], info["gc_pauses"]),
        lag=durations_between(before["loop_lag"], info["loop_lag"]),
        swept=(info["sweeper"]["entries"] - before["sweeper"]["entries"]) / seconds,
        sweeper_steps=(info["sweeper"]["steps"] - before["sweeper"]["steps"]) / seconds,
    )


def durations_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Durations:
    """Percentiles of the durations that `after` has counted more than `before`."""
    added = [now - then for now, then in zip(after["histogram"], before["histogram"], strict=True)]
    return Durations(_below_us(added, 0.5), _below_us(added, 0.99), _below_us(added, 1.0))


def _below_us(histogram: list[int], share: float) -> int:
    """Microseconds below which this share of the durations is. Bucket i counts those below 2^i microseconds."""
    wanted = sum(histogram) * share
    seen = 0
    for bucket, count in enumerate(histogram):
        seen += count
        if count and seen >= wanted:
            return 1 << bucket
    return 0
