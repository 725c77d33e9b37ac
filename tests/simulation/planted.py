"""The search for a world that finds a fault which was put into the code. Both simulations search with it.

Most faults are found within the `SHORT` steps of a few worlds; for each other one a world is known that finds it
early. That only saves time: where none of these does, longer worlds are tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

import pytest

World = tuple[int, str, int]
"""Its seed, its kind of eviction, and how many steps it runs."""

SHORT = 25

FIRST: list[World] = list(itertools.product(range(1, 5), ("eager", "lazy"), [SHORT]))


def find(fault: str, known: Mapping[str, World], rest: Iterable[World], run: Callable[[World], None]) -> None:
    """Run worlds until one raises. Fails where none does. Where only one of the rest has, it is printed as a row of
    `known`: `pytest -rP -k a_fault_is_found`."""
    early = [*([known[fault]] if fault in known else []), *FIRST]
    for number, world in enumerate(itertools.chain(early, rest)):
        try:
            run(world)
        except Exception:
            if number >= len(early):
                print(f'    "{fault}": {world},')
            return
    pytest.fail("no world has found the fault")
