"""What `naught.zeros.prune` costs: its time against a recursive comprehension of ten lines.

The bar is four times the time. `without_zeros` is what is commonly written: it knows dicts, lists and leaves, tells
nobody what it has removed, loses shared containers and ends with RecursionError in a cycle. The data are flat and
moderately nested; each is pruned by both in turns, and the median of the ratios of CPU times is shown.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from naught.zeros import prune
from naught_loadtest.bars.bar import Bar, Bench, at_most

GROUP = "zeros"
RATIO_MAX = 4.0
LEAVES = 50_000
LEAVES_QUICK = 500


def without_zeros(data: Any) -> Any:
    """The data without zeros, as far as dicts and lists go."""
    if isinstance(data, dict):
        return {key: kept for key, value in data.items() if (kept := without_zeros(value)) or kept is False}
    if isinstance(data, list):
        return [kept for value in data if (kept := without_zeros(value)) or kept is False]
    return data


def _tree(levels: int, leaf: Any) -> Any:
    return {f"k{number}": _tree(levels - 1, leaf) for number in range(4)} | {"zero": 0} if levels else leaf


# What is pruned, made for a number of leaves.
DATA: dict[str, Callable[[int], Any]] = {
    "a dict, one in ten zero": lambda leaves: {f"k{number}": number % 10 for number in range(leaves)},
    "a dict of zeros": lambda leaves: dict.fromkeys(range(leaves), 0),
    "a list, half zero": lambda leaves: [number % 2 for number in range(leaves)],
    "a list of records": lambda leaves: [
        {"id": number + 1, "reads": number % 3, "writes": 0, "note": "", "sizes": [0, 1, 2]}
        for number in range(leaves // 7)
    ],
    "a tree": lambda leaves: _tree(len(f"{leaves:b}") // 2, 1),
}


def measure(bench: Bench) -> list[Bar]:
    """A bar for each kind of data. Five rounds take some seconds."""
    bars = []
    for name, make in DATA.items():
        data = make(LEAVES_QUICK if bench.quick else LEAVES)
        ratios = []
        for _ in range(2 * bench.rounds + 1):
            plain_ns = _taken_ns(lambda data=data: without_zeros(data))  # type: ignore[misc]
            ratios.append(_taken_ns(lambda data=data: prune(data)) / max(1, plain_ns))  # type: ignore[misc]
        middle = statistics.median(ratios)
        bars.append(
            Bar(
                GROUP,
                f"prune, {name}",
                f"at most {RATIO_MAX:.0f} times",
                f"{middle:.1f} times ({min(ratios):.1f}-{max(ratios):.1f})",
                at_most(middle, RATIO_MAX),
                figures={"data": name, "ratio": [middle, min(ratios), max(ratios)]},
            )
        )
    return bars


def _taken_ns(work: Callable[[], Any]) -> int:
    begin = time.process_time_ns()
    work()
    return time.process_time_ns() - begin
