"""The largest of many, found in steps."""

from __future__ import annotations

import random

import pytest

from naught_server.ranking import Pieces, Ranking
from support.seeds import told


def ranking_of(things: list[tuple[int, str]], count: int) -> Ranking[str]:
    def walk(entries_max: int) -> Pieces[str]:
        for begin in range(0, len(things), entries_max):
            yield things[begin : begin + entries_max]

    return Ranking(walk, count)


@pytest.mark.parametrize("entries_max", [1, 3, 100])
def test_a_walk_finds_the_largest(entries_max: int) -> None:
    source = random.Random(told(7))
    things = [(source.randrange(50), str(number)) for number in range(60)]
    ranking = ranking_of(things, 5)
    steps = 0
    while ranking.found is None:
        ranking.step(1_000, entries_max, 1_000)
        steps += 1
    assert steps == -(-60 // entries_max) + 1
    assert [rank for rank, _ in ranking.found] == sorted((rank for rank, _ in things), reverse=True)[:5]
    assert all(each in things for each in ranking.found)


def test_the_next_walk_begins_when_it_is_time_and_sees_what_changed() -> None:
    things = [(1, "a")]
    ranking = ranking_of(things, 3)
    for now_ms in (1_000, 1_001):
        ranking.step(now_ms, 10, 500)
    assert (ranking.found, ranking.found_ms) == ([(1, "a")], 1_000)
    things.append((9, "b"))
    ranking.step(1_499, 10, 500)
    ranking.step(1_499, 10, 500)
    assert ranking.found == [(1, "a")]
    ranking.step(1_500, 10, 500)
    assert ranking.found == [(1, "a")], "the walk has not ended"
    ranking.step(1_501, 10, 500)
    assert (ranking.found, ranking.found_ms) == ([(9, "b"), (1, "a")], 1_500)


def test_nothing_is_an_answer_too() -> None:
    ranking = ranking_of([], 3)
    ranking.step(0, 10, 500)
    assert ranking.found == []
