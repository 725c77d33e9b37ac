"""The lines of `naught stat`: makes two successive results of `info` into a line of rates and current values.

Does no input or output.
"""

from __future__ import annotations

from typing import Any, Final

from naught.cli.figures import DEVIATION_MAX, figures_between

_COLUMNS: Final = ("commands/s", "errors/s", "evicted/s", "counters", "deviation", "conns", "lag p99 ms")
_WIDTHS: Final = (12, 10, 12, 12, 10, 7, 11)


class Stat:
    """Compares each result of `info` with the one before."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured: Final = coloured  # lines may contain terminal colours
        self._before: dict[str, Any] | None = None  # the last result of `info`

    def sample(self, info: dict[str, Any]) -> dict[str, Any] | None:
        """The figures since the last call. None at the first call, and when the server was restarted meanwhile."""
        figures = figures_between(self._before, info)
        self._before = info
        if figures is None:
            return None
        return {
            "commands_per_s": figures.commands_per_s,
            "errors_per_s": figures.errors_per_s,
            "evicted_per_s": figures.evicted_per_s,
            "counters": figures.counters,
            "deviation": figures.deviation,
            "connections": figures.connections,
            "lag_p99_ms": figures.lag.p99_us / 1000,
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
