"""naught.blocking.gathering: who waits with whom, and how many gather before a write."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

import naught
from naught import blocking
from naught.blocking import crowd as crowds
from naught.blocking import gathering as module
from naught.blocking.future import Future
from naught.blocking.gathering import CROWDED_FROM, GATHER_S, PARTS, WARY_WRITES, Gathering


class Crowd:
    """One that needs no sockets, and has room or not."""

    room = True

    def __init__(self) -> None:
        self.members = 0
        self.opened = False

    def admit(self) -> bool:
        return self.room

    def open(self) -> None:
        assert self.opened


@pytest.fixture
def gathering(monkeypatch: pytest.MonkeyPatch) -> Gathering:
    monkeypatch.setattr(module, "Crowd", Crowd)
    return Gathering()


def future() -> Future:
    return Future(None)  # type: ignore[arg-type]


def gather(gathering: Gathering, count: int, unanswered: int = 0) -> None:
    for _ in range(count):
        gathering.admit(future())
    gathering.written(unanswered)


def test_few_wait_each_alone_and_many_as_crowds(gathering: Gathering) -> None:
    assert not gathering.admit(future())
    assert gathering.enough, "a lone caller waits for nobody"
    gathering.written(0)
    gather(gathering, 1, CROWDED_FROM - 2)
    assert not gathering.crowded
    gather(gathering, 1, CROWDED_FROM - 1)
    assert gathering.crowded
    gather(gathering, 1, 20)
    one, other = future(), future()
    assert gathering.admit(one)
    assert gathering.admit(other)
    assert one.crowd is other.crowd is gathering.crowd
    gathering.written(0)
    assert gathering.crowd is None
    assert gathering.admit(third := future())
    assert third.crowd is not one.crowd, "its call goes in another write"


def test_a_half_of_those_who_wait_is_enough(gathering: Gathering) -> None:
    gather(gathering, 16)
    assert gathering.share == 16 // PARTS
    for _ in range(7):
        gathering.admit(future())
        assert not gathering.enough
    gathering.admit(future())
    assert gathering.enough


def test_those_who_have_stopped_calling_are_forgotten(gathering: Gathering) -> None:
    gather(gathering, 64)
    for _ in range(200):
        gathering.admit(alone := future())
        crowd = alone.crowd
        gathering.written(0)
        if crowd is not None:
            gathering.let_through(crowd)
    assert not gathering.crowded
    assert gathering.share == 1


def test_those_who_have_just_been_let_through_count_as_callers(gathering: Gathering) -> None:
    gather(gathering, 16)
    gathering.admit(first := future())
    for _ in range(7):
        gathering.admit(future())
    gathering.written(0)
    for _ in range(4):
        gathering.admit(future())
    assert first.crowd is not None
    gathering.let_through(first.crowd)
    gathering.written(0)
    assert gathering.share == (16 - 1) // PARTS, "4 who wait, 8 who were let through, and of those who were the rest"
    callers = gathering._callers
    gather(gathering, 1)
    assert gathering._callers < callers, "that was long ago"


def test_who_is_let_through_unsent_is_counted_once(gathering: Gathering) -> None:
    gather(gathering, 16)
    for _ in range(6):
        gathering.admit(one := future())
    assert one.crowd is not None
    gathering.let_through(one.crowd)
    gathering.hope(0.0)
    assert not gathering.filling(0.0), "six are not eight"


def test_a_part_fills_up_while_so_many_may_call_again(gathering: Gathering) -> None:
    gather(gathering, 16)
    for _ in range(8):
        gathering.admit(first := future())
    gathering.written(0)
    for _ in range(3):
        gathering.admit(future())
    assert not gathering.filling(0.0)
    assert first.crowd is not None
    gathering.let_through(first.crowd)
    gathering.hope(10.0)
    assert gathering.filling(10.0)
    assert gathering.filling(10.0 + GATHER_S / 2)
    assert not gathering.filling(10.0 + GATHER_S), "they have better to do"
    for _ in range(8):
        gathering.admit(future())
    assert gathering.enough
    gathering.written(0)
    assert not gathering.filling(10.0)


def test_who_has_waited_in_vain_is_not_to_soon_again(gathering: Gathering) -> None:
    def fill(now: float) -> bool:
        for _ in range(8):
            gathering.admit(first := future())
        gathering.written(8)
        assert first.crowd is not None
        gathering.let_through(first.crowd)
        gathering.hope(now)
        return gathering.filling(now)

    gather(gathering, 16)
    assert fill(10.0)
    gathering.disappoint(10.0 + GATHER_S / 2)
    assert fill(20.0), "it was too early to tell"
    gathering.disappoint(20.0 + GATHER_S)
    for _ in range(WARY_WRITES - 1):
        assert not fill(30.0)
    assert fill(40.0)


def test_writes_of_nobodys_calls_count_nothing(gathering: Gathering) -> None:
    gather(gathering, 16)
    for _ in range(100):
        gathering.written(5)
    assert gathering.share == 8


def test_without_descriptors_each_waits_alone(gathering: Gathering, monkeypatch: pytest.MonkeyPatch) -> None:
    gather(gathering, 16)
    monkeypatch.setattr(Crowd, "room", False)
    assert not gathering.admit(future())
    assert gathering.crowd is None, "the next would join it without a look"
    monkeypatch.setattr(Crowd, "room", True)
    assert gathering.admit(future())


def test_a_crowd_is_opened_once(gathering: Gathering) -> None:
    gather(gathering, 16)
    gathering.admit(one := future())
    assert one.crowd is not None
    gathering.let_through(one.crowd)
    gathering.let_all_through()
    assert gathering.opening == [one.crowd]
    gathering.open_gates()
    gathering.open_gates()
    assert gathering.opening == []


def test_errors_that_are_kept_keep_no_descriptors() -> None:
    """An error knows its traceback, that the frames of the call, and those its future."""

    def fail(client: blocking.Client[str], errors: list[BaseException]) -> None:
        for _ in range(100):
            try:
                client.decr("absent", strict=True)
            except naught.CounterUnderflow as error:
                errors.append(error)

    crowds._begin_anew()
    errors: list[BaseException] = []
    gc.disable()
    try:
        with blocking.Client("memory://") as client, ThreadPoolExecutor(8) as pool:
            for each in [pool.submit(fail, client, errors) for _ in range(8)]:
                each.result()
        assert len(errors) == 800
        assert len(crowds._pairs.all) <= 32
    finally:
        gc.enable()
        crowds._begin_anew()
