"""naught.blocking.crowd: many threads are let through together, and its sockets serve the next crowd."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from naught.blocking import crowd as module
from naught.blocking.crowd import SPARE_MAX, Crowd

GUARD_S = 20.0


@pytest.fixture(autouse=True)
def spares() -> Iterator[list[module.Pair]]:
    """The spare pairs, of which there are none at first."""
    module._begin_anew()
    yield module._pairs.spare
    module._begin_anew()


def wait(crowd: Crowd, passed: list[int], number: int) -> None:
    while not crowd.wait(None):
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
    assert crowd.wait(None), "it stays open"
    assert crowd.wait(0)


def test_a_crowd_of_nobody_is_opened_for_nothing() -> None:
    crowd = Crowd()
    crowd.open()
    del crowd


def test_sockets_are_used_again_once_nobody_has_the_crowd_and_are_closed_gates_then(
    spares: list[module.Pair],
) -> None:
    first = Crowd()
    assert first.admit()
    pair = first._pair
    assert pair is not None
    first.open()
    del first
    gc.collect()
    assert spares == [pair]
    second = Crowd()
    assert second.admit()
    assert second._pair is pair
    assert spares == []
    assert not second.wait(0.01)
    del second
    gc.collect()
    assert spares == [pair], "one that was never opened has nothing to take back"


def test_the_collector_of_cycles_closes_no_gate_with_its_crowd(spares: list[module.Pair]) -> None:
    class Knot:
        """Refers to itself, as what an exception came through does."""

        def __init__(self, crowd: Crowd) -> None:
            self.crowd = crowd
            self.itself = self

    gc.disable()
    try:
        for _ in range(3):
            knot = Knot(Crowd())
            assert knot.crowd.admit()
            knot.crowd.open()
            del knot
            gc.collect()
            ((reading, writing),) = spares
            assert reading.fileno() >= 0
            assert writing.fileno() >= 0
            assert not module._pairs.lent
    finally:
        gc.enable()


def test_spares_are_bounded(spares: list[module.Pair]) -> None:
    crowds = [Crowd() for _ in range(SPARE_MAX + 3)]
    assert all(crowd.admit() for crowd in crowds)
    pairs = [crowd._pair for crowd in crowds]
    crowds.clear()
    gc.collect()
    assert len(spares) == SPARE_MAX
    assert sum(pair is not None and pair[0].fileno() < 0 for pair in pairs) == 3


def test_without_descriptors_nobody_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> module.Pair:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(socket, "socketpair", refuse)
    assert not Crowd().admit()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_uses_no_gate_of_its_parent(spares: list[module.Pair]) -> None:
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
            assert module._pairs.spare == [], "the parent's pair is nothing to the child"
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not used.wait(0.01), "what the child opened was its own"
    again = Crowd()
    assert again.admit()
    assert not again.wait(0.01)
