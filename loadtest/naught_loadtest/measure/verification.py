"""Verification after a run: do the server's counters equal what it acknowledged?

An up-and-down workload ends at zero, and a decrement stops at zero. So at its end most wrong counters would be right
again. Therefore the counters are compared twice: where the load stopped, and after the closing decrements.

Every key that the run could touch is read and compared with the interval that `expectation` gives it, and the keys
that the server still has under the run's prefix are counted. Only keys of this run are read, and only they are
deleted afterwards, so a server with other data can be checked too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from naught_loadtest.drivers.base import Inspector
from naught_loadtest.generate.value_sums import level
from naught_loadtest.generate.workload import key_name
from naught_loadtest.measure.expectation import Expected

# Keys read in one request. All servers allow as many.
PORTION = 1000
# Wrong counters that the report names.
NAMED_MAX = 5


@dataclass(slots=True)
class Verification:
    """The result of a verification."""

    # Keys read and compared.
    compared: int = 0
    # Keys with a value outside of their interval. The first few are named, with their value.
    wrong: int = 0
    wrong_named: list[str] = field(default_factory=list)
    # Keys on which the values that were answered cannot all be right.
    inconsistent: int = 0
    # Keys of the run that the server still has, zeros included.
    left: int = 0
    # How many of them have the value 0.
    left_zeros: int = 0
    # How many counters above 0 there should be, at least and at most.
    left_expected: tuple[int, int] = (0, 0)
    # Requests whose outcome is unknown, and requests that the server refused.
    unknown: int = 0
    refused: int = 0

    @property
    def passed(self) -> bool:
        """Whether all values are as expected, and the number of counters above 0 as well."""
        least, most = self.left_expected
        return self.wrong == self.inconsistent == 0 and least <= self.left - self.left_zeros <= most

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "compared": self.compared,
            "wrong": self.wrong,
            "wrong_named": self.wrong_named,
            "inconsistent": self.inconsistent,
            "left": self.left,
            "left_zeros": self.left_zeros,
            "left_expected": list(self.left_expected),
            "unknown": self.unknown,
            "refused": self.refused,
        }


def portions(ranges: list[range], prefix: str) -> Iterator[tuple[range, list[str]]]:
    """These keys as (numbers, names), in portions for one request each."""
    for numbers in ranges:
        for start in range(0, len(numbers), PORTION):
            portion = numbers[start : start + PORTION]
            yield portion, [key_name(prefix, number) for number in portion]


def verify(
    inspector: Inspector,
    ranges: list[range],
    prefix: str,
    expected: Expected,
    levels: dict[int, int] | None = None,
) -> Verification:
    """Compare every key in `ranges`, all that a run can have touched, with what the server acknowledged.

    `levels` is what `level` of each counter must be by the values that were answered, where that is known; see
    `generate.value_sums`.
    """
    result = Verification(unknown=expected.unknown, refused=expected.refused)
    result.left_expected = expected.left_bounds()
    alive = 0
    for numbers, names in portions(ranges, prefix):
        for number, name, value in zip(numbers, names, inspector.values(names), strict=True):
            low, high = expected.bounds(number)
            result.compared += 1
            alive += value > 0
            if levels is not None and level(value) != levels.get(number, 0):
                result.inconsistent += 1
            if not low <= value <= high:
                result.wrong += 1
                if len(result.wrong_named) < NAMED_MAX:
                    right = f"{low}" if low == high else f"{low} to {high}"
                    result.wrong_named.append(f"{name} is {value}, acknowledged {right}")
    result.left = inspector.left(prefix, (names for _, names in portions(ranges, prefix)))
    result.left_zeros = result.left - alive if inspector.keeps_zeros else 0
    return result


def clean_up(inspector: Inspector, ranges: list[range], prefix: str) -> None:
    """Delete every key that the run could have created, and no other."""
    for _, names in portions(ranges, prefix):
        inspector.remove(names)


def worst_check(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of the report of a run the comparison that failed, or else the last one. None where nothing was compared."""
    before: Mapping[str, Any] | None = document.get("verification_before")
    last: Mapping[str, Any] | None = document.get("verification")
    return before if before is not None and not before["passed"] else last


def other_failures(document: Mapping[str, Any]) -> dict[str, int]:
    """Of the report of a run what failed and is no request of the measured time: the others, and connections."""
    outside = {f"{kind} outside of the measured time": n for kind, n in document.get("failed_outside", {}).items()}
    lost = {f"connections lost ({why})": count for why, count in document.get("connections_lost", {}).items()}
    return {**outside, **lost}
