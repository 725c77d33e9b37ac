"""Cases in one test are all checked, and a failure names each that failed."""

from __future__ import annotations

import inspect

import pytest

from support.each import for_each, hold_for_each


def test_all_cases_are_checked_and_those_that_fail_are_named() -> None:
    checked = []

    @for_each(("number", "divisor"), [(1, 0), (4, 2), (2, 0)])
    def divides(number: int, divisor: int, fixture: str) -> None:
        checked.append((number, divisor, fixture))
        assert number % divisor == 0

    assert list(inspect.signature(divides).parameters) == ["fixture"]
    with pytest.raises(ExceptionGroup, match="2 of 3 cases failed") as caught:
        divides(fixture="f")
    assert checked == [(1, 0, "f"), (4, 2, "f"), (2, 0, "f")]
    assert [failure.__notes__ for failure in caught.value.exceptions] == [
        ["The case that failed: {'number': 1, 'divisor': 0}"],
        ["The case that failed: {'number': 2, 'divisor': 0}"],
    ]


def test_a_table_without_a_case_is_no_test() -> None:
    with pytest.raises(AssertionError, match="no case"):
        hold_for_each([], print)
