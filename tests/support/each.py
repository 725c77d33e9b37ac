"""Many cases of one small question in one test: the runner needs longer for a test than such a case does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

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


def for_each(
    names: str | tuple[str, ...], cases: Iterable[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `pytest.mark.parametrize`, but in one test, whose fixtures all cases share."""
    rows: list[dict[str, Any]] = [
        dict(zip(names, case, strict=True)) if isinstance(names, tuple) else {names: case} for case in cases
    ]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def test(**fixtures: Any) -> None:
            hold_for_each(((repr(row)[:200], row) for row in rows), lambda row: function(**row, **fixtures))

        signature = inspect.signature(function)
        left = [value for name, value in signature.parameters.items() if name not in rows[0]]
        test.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return test

    return decorate
