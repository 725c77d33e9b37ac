"""The figures as tables for the terminal. Pure: figures in, lines out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from naught_loadtest.zeros.claims import Verdict
from naught_loadtest.zeros.figures import MEBIBYTE, Figures, Place
from naught_loadtest.zeros.maps import TITLES, TRACKED, UNTRACKED, VARIANTS

VALUES_TITLES = {
    UNTRACKED: "int (the collector does not track them)",
    TRACKED: "Fraction (the collector tracks each)",
}

# Title of the column, name of the figure, and how a value is written.
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
    """The median; with the least and the most in brackets if there are several values."""
    middle = write(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} [{write(min(values))}-{write(max(values))}]"


def work_rows(figures: Figures, values: str, keys: int) -> list[list[str]]:
    """The table of one size and kind of value, a row for each way of counting: medians, and the rate's spread."""
    rows = [["", *(title for title, _, _ in COLUMNS)]]
    for variant in VARIANTS:
        place = Place(variant, values, keys)
        if place in figures.work:
            cells = []
            for number, (_, name, write) in enumerate(COLUMNS):
                measured = figures.each(place, name)
                cells.append(spread(measured, write) if number == 0 else write(statistics.median(measured)))
            rows.append([TITLES[variant], *cells])
    return rows


def allocation_rows(figures: Figures) -> list[list[str]]:
    """What an operation leaves allocated, and what it needs at its peak."""
    rows = [["", "values", "blocks left/op", "bytes left/op", "bytes at peak/op"]]
    for (variant, values), measured in figures.allocations.items():
        rows.append(
            [
                TITLES[variant],
                values,
                f"{measured['blocks_left_per_operation']:.3f}",
                f"{measured['bytes_left_per_operation']:.1f}",
                f"{measured['bytes_at_peak_per_operation']:.1f}",
            ]
        )
    return rows


def guard_rows(guard: dict[int, dict[str, float]]) -> list[list[str]]:
    """SafeMap's rate as a part of that of a dict and a lock: a row for each workload, a column for each size."""
    names = dict.fromkeys(name for ratios in guard.values() for name in ratios)
    rows = [["policy/workload", *(f"{keys:,} keys" for keys in guard)]]
    return rows + [[name, *(f"{ratios[name]:.1%}" for ratios in guard.values())] for name in names]


def claim_lines(verdicts: list[Verdict]) -> list[str]:
    """Each claim with its verdict, what was measured, and the reason."""
    lines = ["the article's claims, in Python"]
    for verdict in verdicts:
        lines += [f"  {verdict.claim}", f"    {verdict.outcome}: {verdict.measured}", f"    {verdict.reason}"]
    return lines


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines: the first column aligned to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
