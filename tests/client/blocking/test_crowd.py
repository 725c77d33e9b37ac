"""naught.blocking.crowd: many threads are let through together, and its sockets serve the next crowd."""

from __future__ import annotations

import gc
import os
import socket
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from naught.blocking import crowd as module
from naught.blocking.crowd import LOOK_S, SPARE_MAX, Crowd

GUARD_S = 20.0


@pytest.fixture(autouse=True)
def pairs() -> Iterator[None]:
    """None are left of the tests before."""
    module._begin_anew()
    yield
    module._begin_anew()


def pair_of(crowd: Crowd) -> module.Pair:
    assert crowd._pair is not None
    return crowd._pair


def wait(crowd: Crowd, passed: list[int], number: int) -> None:
    while not crowd.wait(LOOK_S):
        pass
    passed.append(number)


def test_all_are_let_through_by_one_opening() -> None:
    crowd = Crowd()
    passed: list[int] = []
    assert crowd.admit()
    threads = [threading.Thread(target=wait, args=(crowd, passed, number)) for number in range(20)]
    for thread in threads:
        thread.start()
    assert not crowd.wait(0.01), "nobody has opened it"
    assert passed == []
    crowd.open()
    for thread in threads:
        thread.join(GUARD_S)
    assert sorted(passed) == list(range(20))
    assert crowd.wait(LOOK_S), "it stays open"
    assert crowd.wait(0)


def test_a_crowd_of_nobody_is_opened_for_nothing() -> None:
    crowd = Crowd()
    crowd.open()
    del crowd


def test_sockets_are_used_again_once_nobody_has_the_crowd_and_are_closed_gates_then() -> None:
    first = Crowd()
    assert first.admit()
    pair = pair_of(first)
    first.open()
    beside = Crowd()
    assert beside.admit()
    assert pair_of(beside) is not pair, "somebody may have it still"
    del first
    gc.collect()
    second = Crowd()
    assert second.admit()
    assert pair_of(second) is pair
    assert not second.wait(0.01)
    del second
    gc.collect()
    third = Crowd()
    assert third.admit()
    assert pair_of(third) is pair, "one that was never opened has nothing to take back"
    assert not third.wait(0.01)


def test_the_collector_of_cycles_closes_no_gate_with_its_crowd() -> None:
    class Knot:
        """Refers to itself, as what an exception came through does."""

        def __init__(self, crowd: Crowd) -> None:
            self.crowd = crowd
            self.itself = self

    gc.disable()
    try:
        pairs: set[module.Pair] = set()
        for _ in range(3):
            knot = Knot(Crowd())
            assert knot.crowd.admit()
            pairs.add(pair_of(knot.crowd))
            knot.crowd.open()
            del knot
            gc.collect()
            (((reading, writing), (crowd,)),) = module._pairs.all
            assert crowd() is None
            assert reading.fileno() >= 0
            assert writing.fileno() >= 0
        assert len(pairs) == 1
    finally:
        gc.enable()


def test_sockets_of_a_process_with_a_default_timeout() -> None:
    socket.setdefaulttimeout(0.01)
    try:
        first = Crowd()
        assert first.admit()
        assert not first.wait(LOOK_S)
        pair = pair_of(first)
        del first
        gc.collect()
        second = Crowd()
        assert second.admit()
        assert pair_of(second) is pair
    finally:
        socket.setdefaulttimeout(None)


def test_spares_are_bounded() -> None:
    crowds = [Crowd() for _ in range(SPARE_MAX + 3)]
    assert all(crowd.admit() for crowd in crowds)
    pairs = [pair_of(crowd) for crowd in crowds]
    crowds.clear()
    gc.collect()
    next_one = Crowd()
    assert next_one.admit()
    assert pair_of(next_one) in pairs
    assert sum(pair[0].fileno() < 0 for pair in pairs) == 3


def test_what_another_thread_has_taken_is_not_lent_twice() -> None:
    first, other = Crowd(), Crowd()
    assert first.admit()
    taken = pair_of(first)
    del first
    gc.collect()
    ((_, owner),) = module._pairs.all

    class Owner(list[weakref.ref[Crowd]]):
        """That another thread replaces between two looks."""

        def __getitem__(self, place: Any) -> Any:
            seen = super().__getitem__(place)
            self[:] = [weakref.ref(other)]
            return seen

    module._pairs.all = [(taken, Owner(owner))]
    second = Crowd()
    assert second.admit()
    assert pair_of(second) is not taken
    module._pairs.all = [(taken, [])]  # it is at it
    third = Crowd()
    assert third.admit()
    assert pair_of(third) is not taken
    module._close(pair_of(second))


def test_without_descriptors_nobody_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> module.Pair:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(socket, "socketpair", refuse)
    assert not Crowd().admit()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_uses_no_gate_of_its_parent() -> None:
    used, spare = Crowd(), Crowd()
    assert used.admit()
    assert spare.admit()
    del spare
    gc.collect()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            mine = Crowd()
            assert mine.admit()
            del used
            gc.collect()
            mine.open()
            assert len(module._pairs.all) == 1, "the parent's pairs are nothing to the child"
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not used.wait(0.01), "what the child opened was its own"
    again = Crowd()
    assert again.admit()
    assert not again.wait(0.01)
