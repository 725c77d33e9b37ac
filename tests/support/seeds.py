"""Seeds for tests of random input: a few for every run, more for the slow one, as many as you like for a soak.

NAUGHT_TEST_SEED adds a seed, and NAUGHT_TEST_SEEDS says how many from there on (1). They come from the environment
and not from a clock, so that all processes that run the tests have the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

_TOLD = {name: text for name, text in os.environ.items() if name.startswith(("NAUGHT_TEST_", "NAUGHT_FUZZ_"))}


def told(name: str) -> str | None:
    """What a variable for the tests says."""
    return _TOLD.get(name) or None


def hide_variables() -> None:
    """Take the variables for the tests out of the environment: a server refuses to start with a NAUGHT_ variable that
    it does not know."""
    for name in _TOLD:
        os.environ.pop(name, None)


def slow(*values: Any) -> list[Any]:
    """These values of a parameter, or tuples of values of several, as slow tests."""
    return [pytest.param(*_row(value), marks=pytest.mark.slow) for value in values]


def exhaustive(*values: Any) -> list[Any]:
    """The same for further seeds and combinations, of whose kind others are quick or slow: `make seeds` has them."""
    return [pytest.param(*_row(value), marks=(pytest.mark.slow, pytest.mark.exhaustive)) for value in values]


def _row(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def seeds(quick: Sequence[int], more: Sequence[int] = (), rest: Sequence[int] = ()) -> list[Any]:
    """For parametrize: `quick` in every run, `more` as slow tests, `rest` as exhaustive ones, then those of the
    environment."""
    known = {*quick, *more, *rest}
    return [*quick, *slow(*more), *exhaustive(*rest), *(seed for seed in from_environment() if seed not in known)]


def from_environment() -> range:
    """The seeds of the environment. Nobody has looked whether they reach all that a test wants to see reached."""
    first, count = told("NAUGHT_TEST_SEED"), int(told("NAUGHT_TEST_SEEDS") or 1)
    return range(int(first), int(first) + count) if first else range(0)
