"""The figures of `naught stat`: makes two successive results of `info` into a line of rates and current values.

Does no input or output.
"""

from __future__ import annotations

from typing import Any, Final

_COLUMNS: Final = ("commands/s", "errors/s", "evicted/s", "counters", "deviation", "conns", "lag p99 ms")
_WIDTHS: Final = (12, 10, 12, 12, 10, 7, 11)

DEVIATION_MAX: Final = 0.15
"""Above this, the deviation (raw entries - live counters) / live counters is shown in red: zeros of lazy eviction
pile up faster than the sweeper removes them."""


class Stat:
    """Compares each result of `info` with the one before."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured: Final = coloured  # lines may contain terminal colours
        self._before: dict[str, Any] | None = None  # the last result of `info`

    def sample(self, info: dict[str, Any]) -> dict[str, Any] | None:
        """The figures since the last call. None at the first call, and when the server was restarted meanwhile."""
        before, self._before = self._before, info
        if before is None or info["uptime_ms"] <= before["uptime_ms"]:
            return None
        seconds = (info["uptime_ms"] - before["uptime_ms"]) / 1000
        counters = sum(cache["counters"] for cache in info["caches"].values())
        raw_entries = sum(cache["raw_entries"] for cache in info["caches"].values())
        return {
            "commands_per_s": (_total(info["commands"]) - _total(before["commands"])) / seconds,
            "errors_per_s": (_total(info["errors"]) - _total(before["errors"])) / seconds,
            "evicted_per_s": (_evicted(info) - _evicted(before)) / seconds,
            "counters": counters,
            "deviation": (raw_entries - counters) / counters if counters else float(raw_entries),
            "connections": info["connections"],
            "lag_p99_ms": _p99_us(before["loop_lag"]["histogram"], info["loop_lag"]["histogram"]) / 1000,
        }

    def heading(self) -> str:
        """The line with the names of the columns."""
        return " ".join(f"{name:>{width}}" for name, width in zip(_COLUMNS, _WIDTHS, strict=True))

    def line(self, sample: dict[str, Any]) -> str:
        """A sample as a line for people."""
        cells = [
            f"{sample['commands_per_s']:,.0f}",
            f"{sample['errors_per_s']:,.0f}",
            f"{sample['evicted_per_s']:,.0f}",
            f"{sample['counters']:,}",
            f"{sample['deviation']:.1%}",
            f"{sample['connections']:,}",
            f"{sample['lag_p99_ms']:.2f}",
        ]
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)]
        if self._coloured:
            if sample["errors_per_s"]:
                padded[1] = f"\x1b[33m{padded[1]}\x1b[0m"
            if sample["deviation"] > DEVIATION_MAX:
                padded[4] = f"\x1b[31m{padded[4]}\x1b[0m"
        return " ".join(padded)


def _total(by_name: dict[str, int]) -> int:
    return sum(by_name.values())


def _evicted(info: dict[str, Any]) -> int:
    return sum(_total(cache["evictions"]) for cache in info["caches"].values())


def _p99_us(before: list[int], after: list[int]) -> float:
    """The 99th percentile of the samples that `after` has more than `before`, rounded up to the end of its bucket.

    Both are histograms whose bucket i counts samples below 2^i microseconds.
    """
    added = [now - then for now, then in zip(after, before, strict=True)]
    wanted = sum(added) * 0.99
    seen = 0
    for bucket, count in enumerate(added):
        seen += count
        if count and seen >= wanted:
            return float(1 << bucket)
    return 0.0
