"""The figures of all rounds, and how they are laid out for people. Pure: figures in, lines out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from naught_loadtest.zeros.maps import TITLES, TRACKED, UNTRACKED, VARIANTS

if TYPE_CHECKING:
    from naught_loadtest.zeros.claims import Verdict

VALUES_TITLES = {
    UNTRACKED: "int (the collector does not track them)",
    TRACKED: "Fraction (the collector tracks each)",
}
MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """What one cell of the comparison is about."""

    variant: str
    values: str
    keys: int


@dataclass(slots=True)
class Figures:
    """Everything that was measured."""

    # Of each place its rounds, as naught_loadtest.zeros.trial reports them.
    work: dict[Place, list[dict[str, Any]]] = field(default_factory=dict)
    # By variant and kind of value.
    allocations: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    # SafeMap's rate by its own without eviction, by "policy/workload". Empty if left out.
    guard: dict[str, float] = field(default_factory=dict)
    # A sentence for each size that was not measured.
    skipped: list[str] = field(default_factory=list)

    def add(self, place: Place, one_round: dict[str, Any]) -> None:
        """Keep one round."""
        self.work.setdefault(place, []).append(one_round)

    def each(self, place: Place, name: str) -> list[float]:
        """One figure in all rounds."""
        return [float(one_round[name]) for one_round in self.work.get(place, [])]

    def median(self, place: Place, name: str) -> float | None:
        """The median of one figure; None if it was not measured."""
        found = self.each(place, name)
        return statistics.median(found) if found else None

    def largest(self, values: str, variants: Iterable[str]) -> int | None:
        """The most keys at which all of these were measured."""
        sizes = [
            {place.keys for place in self.work if place.variant == variant and place.values == values}
            for variant in variants
        ]
        return max(set.intersection(*sizes), default=None) if sizes else None


# Title, name of the figure, how a value is written.
COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("1000 op/s", "operations_per_s", lambda value: f"{value / 1e3:,.0f}"),
    ("peak MiB", "peak_bytes", lambda value: f"{value / MEBIBYTE:,.1f}"),
    ("kept MiB", "kept_bytes", lambda value: f"{value / MEBIBYTE:,.1f}"),
    ("churn +MiB", "churn_growth_bytes", lambda value: f"{value / MEBIBYTE:,.1f}"),
    ("iterate ms", "iterate_ms", lambda value: f"{value:,.2f}"),
    ("pause us", "pause_mean_ns", lambda value: f"{value / 1e3:,.1f}"),
    ("longest ms", "pause_longest_ns", lambda value: f"{value / 1e6:,.2f}"),
    ("GC share", "pause_part", lambda value: f"{value:.1%}"),
    ("full GC ms", "full_collection_ns", lambda value: f"{value / 1e6:,.2f}"),
)


def spread(values: Sequence[float], write: Callable[[float], str]) -> str:
    """The median; with least and most where there are several."""
    middle = write(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} [{write(min(values))}-{write(max(values))}]"


def work_lines(figures: Figures, values: str, keys: int) -> list[str]:
    """The table of one size and kind of value: a row for each way of counting, medians, spread of the rate."""
    rows = [["", *(title for title, _, _ in COLUMNS)]]
    for variant in VARIANTS:
        place = Place(variant, values, keys)
        if place in figures.work:
            cells = []
            for number, (_, name, write) in enumerate(COLUMNS):
                found = figures.each(place, name)
                cells.append(spread(found, write) if number == 0 else write(statistics.median(found)))
            rows.append([TITLES[variant], *cells])
    return aligned(rows)


def allocation_lines(figures: Figures) -> list[str]:
    """What an operation leaves allocated, and needs at its highest."""
    rows = [["", "values", "blocks left/op", "bytes left/op", "bytes at peak/op"]]
    for (variant, values), found in figures.allocations.items():
        rows.append(
            [
                TITLES[variant],
                values,
                f"{found['blocks_left_per_operation']:.3f}",
                f"{found['bytes_left_per_operation']:.1f}",
                f"{found['bytes_at_peak_per_operation']:.1f}",
            ]
        )
    return aligned(rows)


def guard_lines(ratios: dict[str, float]) -> list[str]:
    """SafeMap's rate as a part of its own without eviction."""
    return aligned([["policy/workload", "rate"], *([name, f"{ratio:.1%}"] for name, ratio in ratios.items())])


def claim_lines(verdicts: list[Verdict]) -> list[str]:
    """Each claim, what was measured, the verdict and its reason."""
    lines = ["the article's claims, in Python"]
    for verdict in verdicts:
        lines += [f"  {verdict.claim}", f"    {verdict.outcome}: {verdict.measured}", f"    {verdict.reason}"]
    return lines


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
