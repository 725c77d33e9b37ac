"""The fuzzers of the wire for a few seconds, from a printed seed. `fuzz_wire.py` runs them for longer."""

from __future__ import annotations

import os

import pytest

from fuzz.fuzz_wire import ROUNDS, fuzz, seed_of_environment


@pytest.mark.parametrize("target", ROUNDS)
def test_fuzz(target: str) -> None:
    seconds = float(os.environ.get("NAUGHT_FUZZ_SECONDS") or 3)
    assert fuzz(target, seed_of_environment(), seconds) > 0


@pytest.mark.parametrize("target", ROUNDS)
def test_the_same_seeds_every_time(target: str) -> None:
    for seed in range(20):
        fuzz(target, seed, 0)


FOUND = [
    ("decoder", 741845396252),  # a message that was mutated to nothing
    ("decoder", 49725525795),  # the wide lane was left in the middle of a slice
]


@pytest.mark.parametrize(("target", "seed"), FOUND)
def test_seeds_that_found_something(target: str, seed: int) -> None:
    assert fuzz(target, seed, 0) > 0
