"""Every fuzz target holds for its corpus and some mutations of it, and has an invariant. `make fuzz` runs for
hours."""

from __future__ import annotations

import importlib
import random

import pytest

from fuzz import run
from support.seeds import exhaustive, slow, told

SEED = int(told("NAUGHT_FUZZ_SEED") or 1)


def test_there_is_a_target_for_each_way_in() -> None:
    ways = {"wire", "server_session", "client_session", "config", "url", "command_line", "http"}
    assert ways <= set(run.TARGETS)


@pytest.mark.parametrize("target", run.TARGETS)
def test_the_first_line_is_the_invariant(target: str) -> None:
    line = (importlib.import_module(f"fuzz.targets.{target}").__doc__ or "").splitlines()[0]
    assert line.startswith(("Any ", "Whatever "))
    assert line.endswith(".")


@pytest.mark.parametrize("inputs", [60, *slow(200), *exhaustive(500)])
@pytest.mark.parametrize("target", run.TARGETS)
def test_the_invariant_holds_for_the_corpus_and_mutations_of_it(target: str, inputs: int) -> None:
    print(f"NAUGHT_FUZZ_SEED={SEED}")
    assert run.mutate(target, SEED, inputs_max=inputs) >= inputs


def test_mutations_come_from_the_seed_alone() -> None:
    inputs = [b"one", b"another"]
    found = [[run.mutated(random.Random(7), inputs) for _ in range(3)] for _ in range(2)]
    assert found[0] == found[1]
