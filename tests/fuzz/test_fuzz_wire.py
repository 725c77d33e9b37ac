"""The fuzzers of the wire, from a printed seed: for a moment in the quick run, for some seconds in the slow one, or
for as many as NAUGHT_FUZZ_SECONDS says. `fuzz_wire.py` runs them for hours."""

from __future__ import annotations

import pytest

from fuzz.fuzz_wire import ROUNDS, fuzz, seed_of_environment
from support.seeds import slow, told

SECONDS = float(told("NAUGHT_FUZZ_SECONDS") or 2)


@pytest.mark.parametrize("seconds", [0.2, pytest.param(SECONDS, id="long", marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", ROUNDS)
def test_fuzz(target: str, seconds: float) -> None:
    assert fuzz(target, seed_of_environment(), seconds) > 0


@pytest.mark.parametrize("first_seed", [0, *slow(*range(5, 40, 5))])
@pytest.mark.parametrize("target", ROUNDS)
def test_the_same_seeds_every_time(target: str, first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 5):
        fuzz(target, seed, 0)


FOUND = [
    ("decoder", 741845396252),  # a message that was mutated to nothing
    ("decoder", 49725525795),  # the wide lane was left in the middle of a slice
]


@pytest.mark.parametrize(("target", "seed"), FOUND)
def test_seeds_that_found_something(target: str, seed: int) -> None:
    assert fuzz(target, seed, 0) > 0
