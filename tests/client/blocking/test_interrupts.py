"""An exception strikes a call at every place where Python can raise one for a signal: where a Python function begins,
and behind each call of a C function. What the call was granted must go back, and the client must go on.

Real signals in real waits are in tests/integration/test_patterns_interrupted.py.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

import naught
from naught import blocking
from naught.blocking.future import Future, run
from naught.blocking.waker import Wakers
from support.server_process import wait_until

# Of a coroutine that is interrupted before its first line.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")

GUARD_S = 30.0

PLACES_MAX = 400
"""No call has as many places."""


class Interrupt(BaseException):
    """What strikes."""


@contextmanager
def struck_at(place: int) -> Iterator[list[str]]:
    """Raise Interrupt at this place of the block, in the code of naught. Yields the names of the places passed."""
    passed: list[str] = []

    def strike(frame: FrameType, event: str, _: Any) -> None:
        if event in {"call", "c_return"} and frame.f_globals.get("__name__", "").startswith("naught."):
            passed.append(f"{event} {frame.f_code.co_name}:{frame.f_lineno}")
            if len(passed) == place:
                sys.setprofile(None)
                raise Interrupt

    # A collection in the block would run the finalizers of other tests' clients, and those be struck.
    gc.disable()
    sys.setprofile(strike)
    try:
        yield passed
    finally:
        sys.setprofile(None)
        gc.enable()


@pytest.fixture
def counters() -> Iterator[blocking.Client]:
    with blocking.Client("memory://", timeout=GUARD_S) as client:
        yield client


def enter(block: Any) -> Any:
    block.__enter__()
    return block


GRANTS: dict[str, tuple[Callable[[blocking.Client], Any], Callable[[Any], Any]]] = {
    "acquire": (lambda client: client.semaphore("n", 9).acquire(), lambda permit: permit.release()),
    "acquire with a time": (
        lambda client: client.semaphore("n", 9).acquire(timeout=GUARD_S),
        lambda permit: permit.release(),
    ),
    "try to acquire": (lambda client: client.semaphore("n", 9).try_acquire(), lambda permit: permit.release()),
    "several": (lambda client: client.acquire_all({"m": 9, "n": 9}), lambda permit: permit.release()),
    "a block": (
        lambda client: enter(client.semaphore("n", 9)),
        lambda block: block.__exit__(None, None, None),
    ),
    "in flight": (
        lambda client: enter(client.in_flight("n")),
        lambda block: block.__exit__(None, None, None),
    ),
}


@pytest.mark.parametrize("name", GRANTS)
def test_a_grant_goes_back_wherever_it_is_interrupted(counters: blocking.Client, name: str) -> None:
    take, give_back = GRANTS[name]
    for place in range(1, PLACES_MAX):
        try:
            with struck_at(place) as passed:
                taken = take(counters)
        except Interrupt:
            wait_until(lambda: counters.held() == {}, f"what was granted went back, interrupted at {passed[-1]}")
            assert counters.count() == 0
        else:
            give_back(taken)
            assert counters.count() == 0
            assert place > 20, "the places were found"
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("name", GRANTS)
def test_what_is_given_back_goes_back_wherever_that_is_interrupted(counters: blocking.Client, name: str) -> None:
    """But for an interrupt before the first instruction: then nothing was called."""
    take, give_back = GRANTS[name]
    for place in range(2, PLACES_MAX):
        taken = take(counters)
        try:
            with struck_at(place) as passed:
                give_back(taken)
        except Interrupt:
            wait_until(lambda: counters.held() == {}, f"it went back, interrupted at {passed[-1]}")
            assert counters.count() == 0
        else:
            assert counters.count() == 0
            assert place > 20, "the places were found"
            return
    raise AssertionError("it never ended")


def test_an_outer_block_is_left_wherever_leaving_the_inner_one_was_interrupted(counters: blocking.Client) -> None:
    """Both are blocks of one object, which knows them by their thread."""
    gpu = counters.semaphore("n", 9)
    for place in range(2, PLACES_MAX):
        outer, inner = gpu.__enter__(), gpu.__enter__()
        try:
            with struck_at(place) as passed:
                gpu.__exit__(None, None, None)
        except Interrupt:
            expected = {outer.number: {"n": 1}}
            wait_until(lambda: counters.held() == expected, f"{inner} went back, interrupted at {passed[-1]}")  # noqa: B023
            gpu.__exit__(None, None, None)
            assert counters.count() == 0
        else:
            return
    raise AssertionError("it never ended")


def test_a_group_knows_what_it_holds_wherever_adding_is_interrupted(counters: blocking.Client) -> None:
    group = counters.wait_group("n", held=True)
    group.add(2)
    for place in range(1, PLACES_MAX):
        try:
            with struck_at(place) as passed:
                group.add(3)
        except Interrupt:
            wait_until(lambda: group.value() == 2, f"what was added went back, interrupted at {passed[-1]}")
            with pytest.raises(naught.NotHeld):
                group.done(3)
        else:
            assert group.done(5) == 0
            assert counters.held() == {}
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("done", range(1, 7))
def test_work_of_a_group_can_be_done_wherever_that_was_interrupted(counters: blocking.Client, done: int) -> None:
    """An interrupted call has done all of its work or none; a part of a hold may be done with the rest of it."""
    for place in range(1, PLACES_MAX):
        group = counters.wait_group("n", held=True)
        for amount in (1, 2, 3):
            group.add(amount)
        try:
            with struck_at(place) as passed:
                group.done(done)
        except Interrupt:
            try:
                left = group.done(6 - done) if done < 6 else group.value()
            except naught.NotHeld as error:
                raise AssertionError(f"more was done than asked for, interrupted at {passed[-1]}") from error
            if left:  # the interrupt came before it had begun
                assert left == done
                assert group.done(done) == 0, f"interrupted at {passed[-1]}"
            assert counters.held() == {}, f"interrupted at {passed[-1]}"
            assert counters.count() == 0
        else:
            assert place > 30, "the places were found"
            if done < 6:
                assert group.done(6 - done) == 0
            return
    raise AssertionError("it never ended")


def test_a_grant_that_has_come_before_it_is_waited_for_goes_back_too() -> None:
    given_up: list[Future] = []
    future = Future(Wakers(0), given_up.append)
    future.begin(None, 0.0, holds=True)
    future.set_result("a grant")

    async def take() -> None:
        await future
        raise Interrupt

    with pytest.raises(Interrupt):
        run(take())
    assert given_up == [future]


def first_call(client: blocking.Client) -> Callable[[], int]:
    return lambda: client.incr("n")


def block(client: blocking.Client) -> Callable[[], int]:
    gpu = client.semaphore("n", 9)

    def enter_and_leave() -> int:
        with gpu:
            return 1

    return enter_and_leave


def work(client: blocking.Client) -> Callable[[], int]:
    group = client.wait_group("n", held=True)

    def add_and_do() -> int:
        group.add()
        group.add()
        return group.done(2)

    return add_and_do


@pytest.mark.parametrize("make", [first_call, block, work], ids=lambda make: make.__name__)
def test_a_signal_handler_may_do_the_same_wherever_it_comes(make: Callable[[Any], Callable[[], int]]) -> None:
    """In the first call the client starts its thread. A finalizer may come there too, and a handler of the log."""
    for place in range(1, PLACES_MAX):
        passed: list[str] = []
        told: list[int] = []

        def handle(frame: FrameType, event: str, _: Any) -> None:
            if event in {"call", "c_return"}:
                passed.append(f"{event} {frame.f_code.co_name}:{frame.f_lineno}")  # noqa: B023
                if len(passed) == place:  # noqa: B023
                    told.append(act())  # noqa: B023

        with blocking.Client("memory://", lazy=True, timeout=GUARD_S / 6) as client:
            act = make(client)
            sys.setprofile(handle)
            try:
                told.append(act())
            finally:
                sys.setprofile(None)
            assert client.held() == {}, f"called at {passed[-1]}"
        if len(told) == 1:
            assert place > 40, "the places were found"
            return
    raise AssertionError("it never ended")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("end", [lambda client: client.close(), lambda client: client.__exit__(None, None, None)])
def test_a_client_whose_end_was_interrupted_ends_when_it_is_dropped(end: Callable[[blocking.Client], None]) -> None:
    url = "memory://test_interrupts"
    with blocking.Client(url, timeout=GUARD_S) as direct:
        for place in range(1, PLACES_MAX):
            client = blocking.Client(url, timeout=GUARD_S)
            with contextlib.suppress(Interrupt), struck_at(place) as passed:
                end(client)
                return
            del client
            gc.collect()
            wait_until(lambda: len(direct.sessions()) == 1, f"it has ended, interrupted at {passed[-1]}")
    raise AssertionError("it never ended")


CALLS: dict[str, Callable[[blocking.Client], Any]] = {
    "incr": lambda client: client.incr("n"),
    "get": lambda client: client.get("n"),
    "wait": lambda client: client.wait_zero("absent"),
    "scan": lambda client: list(client.scan_iter()),
    "group": lambda client: client.wait_group("n").add(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_client_goes_on_wherever_a_call_is_interrupted(counters: blocking.Client, name: str) -> None:
    for place in range(1, PLACES_MAX):
        try:
            with struck_at(place):
                CALLS[name](counters)
        except Interrupt:
            before = counters.get("own")
            assert counters.incr("own", timeout=GUARD_S) == before + 1
        else:
            assert not counters._connection.session._windows.in_flight
            return
    raise AssertionError("it never ended")
