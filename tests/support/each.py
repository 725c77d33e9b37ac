"""Many cases of one small question in one test: the runner needs longer for a test than such a case does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def hold_for_each(cases: Iterable[tuple[str, T]], check: Callable[[T], object]) -> None:
    """Check every case, each with its name, also behind one that fails. Raise what all of them raised."""
    count = 0
    failures: list[Exception] = []
    for name, case in cases:
        count += 1
        try:
            check(case)
        except Exception as failure:
            failure.add_note(f"The case that failed: {name}")
            failures.append(failure)
    assert count, "there is no case"
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {count} cases failed", failures)
