"""Turns are dealt: in one iteration of the loop so much work and no more, each connection in its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from naught_server.limits import DEALT_ENTRIES_MAX, TURN_ITEMS_MAX
from naught_server.turns import Turns


class Loop:
    """What `Turns` sees of a loop: functions that are called in the next iteration."""

    def __init__(self) -> None:
        self.turns = Turns(self._call_soon)
        self._soon: list[Callable[[], None]] = []
        self.iterations: list[list[str]] = []  # who had a turn in each

    def _call_soon(self, function: Callable[[], None]) -> None:
        self._soon.append(function)

    def ask(self, name: str, *costs: int) -> None:
        """Have turns of these costs, each asked for when the one before has ended."""

        def turn() -> int:
            self.iterations[-1].append(name)
            if len(costs) > 1:
                self.ask(name, *costs[1:])
            return costs[0]

        self.turns.ask(turn)

    def run(self) -> list[list[str]]:
        while self._soon:
            soon, self._soon = self._soon, []
            self.iterations.append([])
            for function in soon:
                function()
        return self.iterations


def test_light_turns_are_dealt_together() -> None:
    loop = Loop()
    for name in "abcdef":
        loop.ask(name, 10)
    assert loop.run() == [list("abcdef")]


def test_of_costly_steps_there_is_one_in_an_iteration() -> None:
    loop = Loop()
    for name in "abc":
        loop.ask(name, DEALT_ENTRIES_MAX + 1, DEALT_ENTRIES_MAX + 1)
    assert loop.run() == [["a"], ["b"], ["c"], ["a"], ["b"], ["c"]]


def test_whole_turns_fill_an_iteration() -> None:
    loop = Loop()
    for name in "abcdef":
        loop.ask(name, TURN_ITEMS_MAX, TURN_ITEMS_MAX)
    assert loop.run() == [list("abcd"), list("efab"), list("cdef")]


def test_turns_that_pay_cost_nothing_and_come_once_in_an_iteration() -> None:
    loop = Loop()
    loop.ask("a", 0, 0, 0)
    loop.ask("b", 0, 5)
    assert loop.run() == [["a", "b"], ["a", "b"], ["a"]]


def test_a_turn_that_raises_leaves_the_others_theirs() -> None:
    loop = Loop()

    def fails() -> int:
        raise ValueError("this turn")

    loop.turns.ask(fails)
    loop.ask("a", 1)
    with pytest.raises(ValueError, match="this turn"):
        loop.run()
    assert loop.run()[-1] == ["a"]


@pytest.mark.parametrize("seed", range(20))
def test_everybody_has_as_many_turns_as_the_others_within_one(seed: int) -> None:
    """Whatever they cost: while all ask, nobody is ahead by more than a turn."""
    random = Random(seed)
    loop = Loop()
    names = "abcdefgh"[: random.randint(2, 8)]
    for name in names:
        loop.ask(name, *(random.choice([0, 1, 900, TURN_ITEMS_MAX, 7_000]) for _ in range(30)))
    had: Counter[str] = Counter()
    for number, name in enumerate(who for iteration in loop.run() for who in iteration):
        had[name] += 1
        assert max(had.values()) - min(had[each] for each in names) <= 1, (seed, number)
    assert set(had.values()) == {30}
