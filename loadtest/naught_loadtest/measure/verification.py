"""Checking the answer: do the counters equal what was acknowledged?

Every key the run could touch is read and compared with the interval `expectation` gives it, and the keys the
server still keeps under the run's prefix are counted. Both look only at keys of this run, so a server with
other data can be checked, and only they are taken out afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.drivers.base import Inspector
from naught_loadtest.generate.workload import Workload, key_name
from naught_loadtest.measure.expectation import Expected

# Keys read in one request, below every peer's limits.
PORTION = 1000
# Wrong counters that are named in the report.
NAMED_MAX = 5


@dataclass(slots=True)
class Verification:
    """What came out of it."""

    # Keys read and compared.
    compared: int = 0
    # Keys with a value outside of their interval, the first few described.
    wrong: int = 0
    wrong_named: list[str] = field(default_factory=list)
    # Keys of the run the server still has, zeros included.
    left: int = 0
    # How many of them hold a zero.
    left_zeros: int = 0
    # How many counters should be left, at least and at most.
    left_expected: tuple[int, int] = (0, 0)
    # Requests whose outcome nobody knows, and those that were refused.
    unknown: int = 0
    refused: int = 0

    @property
    def passed(self) -> bool:
        """All values as acknowledged, and none that live beyond the expected."""
        least, most = self.left_expected
        return self.wrong == 0 and least <= self.left - self.left_zeros <= most

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "compared": self.compared,
            "wrong": self.wrong,
            "wrong_named": self.wrong_named,
            "left": self.left,
            "left_zeros": self.left_zeros,
            "left_expected": list(self.left_expected),
            "unknown": self.unknown,
            "refused": self.refused,
        }


def portions(workload: Workload, prefix: str) -> Iterator[tuple[range, list[str]]]:
    """(key numbers, key names) of a run, a request at a time."""
    numbers = workload.key_numbers
    for start in range(0, len(numbers), PORTION):
        portion = numbers[start : start + PORTION]
        yield portion, [key_name(prefix, number) for number in portion]


def verify(inspector: Inspector, workload: Workload, prefix: str, expected: Expected) -> Verification:
    """Compare every key of the run with what was acknowledged."""
    result = Verification(unknown=expected.unknown, refused=expected.refused)
    result.left_expected = expected.left_bounds()
    alive = 0
    for numbers, names in portions(workload, prefix):
        for number, name, value in zip(numbers, names, inspector.values(names), strict=True):
            low, high = expected.bounds(number)
            result.compared += 1
            alive += value > 0
            if not low <= value <= high:
                result.wrong += 1
                if len(result.wrong_named) < NAMED_MAX:
                    right = f"{low}" if low == high else f"{low} to {high}"
                    result.wrong_named.append(f"{name} is {value}, acknowledged {right}")
    result.left = inspector.left(prefix, (names for _, names in portions(workload, prefix)))
    result.left_zeros = result.left - alive if inspector.keeps_zeros else 0
    return result


def clean_up(inspector: Inspector, workload: Workload, prefix: str) -> None:
    """Take out what the run left, key by key: nothing that another made."""
    for _, names in portions(workload, prefix):
        inspector.remove(names)
