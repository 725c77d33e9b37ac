"""The queues of waiters: first come, first served in all three forms, held to a model by drawn changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from random import Random

import pytest

from naught_server.queues import PLACES_MOVED_PER_ENTRY, TUPLE_MAX, Queues

KEY = b"k"


class Standing:
    """A waiter as a queue knows it."""

    def __init__(self, number: int) -> None:
        self.number = number


@pytest.mark.parametrize("longest", [2, TUPLE_MAX // 2 + 1, TUPLE_MAX, TUPLE_MAX + 1, 4 * TUPLE_MAX])
def test_a_queue_keeps_its_order_whatever_its_form(longest: int) -> None:
    random = Random(longest)
    queues: Queues[Standing] = Queues()
    model: list[Standing] = []
    lengths = set()
    for number in range(40 + 8 * longest):
        grows = number // (2 * longest) % 2 == 0
        if model and random.random() < (0.3 if grows else 0.9):
            leaves = random.choice([model[0], model[-1], random.choice(model)])
            was_first = leaves is model[0]
            model.remove(leaves)
            assert queues.remove(KEY, leaves) == (was_first and bool(model))
            assert not queues.remove(KEY, leaves), "it has left already"
        if len(model) < longest and random.random() < (0.9 if grows else 0.1):
            model.append(Standing(number))
            queues.enter(KEY, model[-1])
        assert queues.of(KEY) == model
        assert queues.first(KEY) is (model[0] if model else None)
        assert (KEY in queues.by_key) == bool(model)
        form = type(queues.by_key.get(KEY))
        assert form is type(None) if not model else form is Standing if len(model) == 1 else form in {tuple, deque}
        lengths.add(len(model))
    assert {0, 1, 2, longest} <= lengths


def _forms() -> Iterator[tuple[int, str]]:
    yield 1, "Standing"
    yield 2, "tuple"
    yield TUPLE_MAX, "tuple"
    yield TUPLE_MAX + 1, "deque"


@pytest.mark.parametrize(("waiters", "form"), list(_forms()))
def test_who_is_in_no_queue_takes_nobody_out(waiters: int, form: str) -> None:
    queues: Queues[Standing] = Queues()
    for number in range(waiters):
        queues.enter(KEY, Standing(2 * number))
    assert type(queues.by_key[KEY]).__name__ == form
    for number in (-1, 1, 2 * waiters):
        assert not queues.remove(KEY, Standing(number))
    assert len(queues.of(KEY)) == waiters
    assert not queues.remove(b"another", queues.of(KEY)[0])
    assert queues.firsts() == {queues.first(KEY)}


def test_a_place_in_a_long_queue_has_a_price() -> None:
    queues: Queues[Standing] = Queues()
    for number in range(TUPLE_MAX):
        queues.enter(KEY, Standing(number))
    assert queues.places_moved(KEY) == 0
    queues.enter(KEY, Standing(TUPLE_MAX))
    assert queues.places_moved(KEY) == TUPLE_MAX + 1


def test_a_long_queue_changes_its_form_at_half_of_the_boundary() -> None:
    queues: Queues[Standing] = Queues()
    for number in range(TUPLE_MAX + 1):
        queues.enter(KEY, Standing(number))
    while len(queues.of(KEY)) > TUPLE_MAX // 2:
        assert type(queues.by_key[KEY]).__name__ == "deque"
        queues.remove(KEY, queues.of(KEY)[-1])
    assert type(queues.by_key[KEY]).__name__ == "tuple"


def test_the_sizes_by_number() -> None:
    assert (TUPLE_MAX, PLACES_MOVED_PER_ENTRY) == (64, 2_048)
