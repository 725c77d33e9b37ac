"""The judge of histories is judged: by histories that must pass, histories that must fail, and by trying every
order."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from support.linearizability import FOREVER, UNKNOWN, Operation, explain, step
from support.seeds import seeds


def op(  # noqa: PLR0917
    method: str, argument: Any, called: float, answered: float, answer: Any = UNKNOWN, key: str = "k"
) -> Operation:
    return Operation(key, method, argument, called, answered, answer)


GOOD: dict[str, list[Operation]] = {
    "nothing": [],
    "one after another": [op("incr", 2, 0, 1, 2), op("decr", 1, 2, 3, 1), op("get", None, 4, 5, 1)],
    "two at once, answered in the other order": [op("incr", 1, 0, 5, 2), op("incr", 1, 1, 4, 1)],
    "a decrement stops at zero": [op("decr", 3, 0, 1, 0), op("incr", 1, 2, 3, 1)],
    "a decrement before an increment at once": [
        op("incr", 1, 0, 5, 1),
        op("decr", 1, 0, 5, 0),
        op("get", None, 6, 7, 1),
    ],
    "an unknown increment has happened": [op("incr", 1, 0, FOREVER), op("get", None, 5, 6, 1)],
    "an unknown increment has not happened": [op("incr", 1, 0, FOREVER), op("get", None, 5, 6, 0)],
    "an unknown increment happens late": [
        op("incr", 1, 0, FOREVER),
        op("get", None, 5, 6, 0),
        op("get", None, 7, 8, 1),
    ],
    "an unknown increment that came to nothing in its time": [op("incr", 1, 0, 1), op("get", None, 2, 3, 0)],
    "a crash takes everything": [op("incr", 5, 0, 1, 5), op("crash", None, 2, 3, None), op("incr", 1, 4, 5, 1)],
    "a limit": [
        op("try_incr", (1, 1), 0, 5, (True, 1)),
        op("try_incr", (1, 1), 0, 5, (False, 1)),
        op("set", 0, 6, 7, 1),
    ],
    "keys do not constrain each other": [op("incr", 1, 0, 1, 1, key="a"), op("incr", 1, 2, 3, 1, key="b")],
    "taken once": [op("incr", 3, 0, 1, 3), op("take", None, 2, 5, 3), op("take", None, 2, 5, 0)],
}

BAD: dict[str, list[Operation]] = {
    "a lost increment": [op("incr", 1, 0, 1, 1), op("incr", 1, 2, 3, 1)],
    "an increment made twice": [op("incr", 1, 0, 1, 2)],
    "both of two at once were the first": [op("incr", 1, 0, 5, 1), op("incr", 1, 0, 5, 1)],
    "a read of the past": [op("incr", 1, 0, 1, 1), op("get", None, 2, 3, 0)],
    "a read of the future": [op("get", None, 0, 1, 1), op("incr", 1, 2, 3, 1)],
    "a counter below zero": [op("decr", 1, 0, 1, -1)],
    "a decrement that undid a later increment": [
        op("decr", 1, 0, 1, 0),
        op("incr", 1, 2, 3, 1),
        op("get", None, 4, 5, 0),
    ],
    "an unknown increment that happened twice": [op("incr", 1, 0, FOREVER), op("get", None, 5, 6, 2)],
    "an unknown increment that was undone": [
        op("incr", 1, 0, FOREVER),
        op("get", None, 5, 6, 1),
        op("get", None, 7, 8, 0),
    ],
    "an unknown increment after its end": [
        op("incr", 1, 0, 1),
        op("get", None, 2, 3, 0),
        op("get", None, 4, 5, 1),
    ],
    "an unknown increment before its call": [op("get", None, 0, 1, 1), op("incr", 1, 2, FOREVER)],
    "a crash that lost nothing": [op("incr", 5, 0, 1, 5), op("crash", None, 2, 3, None), op("get", None, 4, 5, 5)],
    "both were granted the last place": [
        op("try_incr", (1, 1), 0, 5, (True, 1)),
        op("try_incr", (1, 1), 0, 5, (True, 1)),
    ],
    "nobody was granted a free place": [op("try_incr", (1, 1), 0, 1, (False, 0))],
    "taken twice": [op("incr", 3, 0, 1, 3), op("take", None, 2, 5, 3), op("take", None, 2, 5, 3)],
    "one key of two": [op("incr", 1, 0, 1, 1, key="a"), op("incr", 1, 2, 3, 2, key="b")],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD.keys())
def test_what_can_be_explained_passes(history: list[Operation]) -> None:
    assert explain(history) == {}


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_what_no_order_explains_fails(history: list[Operation]) -> None:
    ((key, why),) = explain(history).items()
    assert key in {"k", "b"}
    assert "none of these fits" in why


def by_every_order(history: list[Operation]) -> bool:
    """The definition itself: whether some order of some of the operations explains all answers."""
    certain = [each for each in history if each.answer is not UNKNOWN]
    unknown = [each for each in history if each.answer is UNKNOWN]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            for order in itertools.permutations([*certain, *some]):
                if fits(order):
                    return True
    return False


def fits(order: tuple[Operation, ...]) -> bool:
    latest = float("-inf")
    value = 0
    for at, each in enumerate(order):
        latest = max(latest, each.called)
        if any(later.answered < each.called for later in order[at + 1 :]):
            return False
        answer, value = step(each, value)
        if each.answer is not UNKNOWN and each.method != "crash" and answer != each.answer:
            return False
    return True


def drawn(draw: random.Random) -> list[Operation]:
    """A short history, mostly of a real counter, whose answers are spoiled now and then."""
    operations, value = [], 0
    now = 0.0
    for _ in range(draw.randint(1, 6)):
        now += draw.random()
        method = draw.choice(["incr", "incr", "decr", "get", "take", "set", "try_incr", "crash"])
        arguments = {"incr": 1, "decr": 1, "set": draw.randint(0, 2), "try_incr": (1, 1)}
        shape = Operation("k", method, arguments.get(method), 0, 0)
        answer, after = step(shape, value)
        if draw.random() < 0.9:
            value = after
        if draw.random() < 0.15 and isinstance(answer, int):
            answer += draw.choice([-1, 1])
        early, late = now - draw.random() * 2, now + draw.random() * 2
        if method != "crash" and draw.random() < 0.2:
            answer, late = UNKNOWN, draw.choice([FOREVER, late])
        operations.append(op(method, shape.argument, early, late, answer))
    draw.shuffle(operations)
    return operations


@pytest.mark.parametrize("seed", seeds([1], [2, 3, 4, 5]))
def test_it_judges_as_every_order_tried_does(seed: int) -> None:
    draw = random.Random(seed)
    verdicts = []
    for _ in range(250):
        history = drawn(draw)
        verdict = by_every_order(history)
        assert (explain(history) == {}) is verdict, (seed, [str(each) for each in history])
        verdicts.append(verdict)
    assert 30 < sum(verdicts) < 220, "the histories are all alike"


def test_long_histories_are_judged_in_little_time() -> None:
    """Of 40 callers at once; each answer narrows what may come next."""
    draw = random.Random(1)
    history, value = [], 0
    for turn in range(50):
        order = list(range(40))
        draw.shuffle(order)
        for place in order:
            value += 1
            history.append(op("incr", 1, turn + place / 1e6, turn + 0.5, value))
    assert explain(history) == {}
    history[700] = op("incr", 1, 17.0, 17.5, 700)  # as another one
    assert explain(history)
