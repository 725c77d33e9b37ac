"""What threads sleep on: each is woken that has to be, and descriptors are few and come back."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest
import uvloop

from naught import blocking
from naught.blocking import future, waker
from naught.blocking.future import Future
from naught.blocking.waker import Wakers
from naught.errors import ClientClosed
from support.server_process import wait_until

GUARD_S = 30.0

by_descriptor = pytest.mark.skipif(
    not (hasattr(os, "eventfd") and os.path.isdir("/proc/self/fd")),
    reason="no eventfd here, or no way to count",
)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@by_descriptor
def test_a_client_has_few_descriptors_however_many_threads_wait() -> None:
    before = descriptors()
    wakers = Wakers(2)
    for _ in range(3):
        taken = [wakers.take() for _ in range(5)]
        for each in taken:
            each.wake()
        assert all(each.wait(GUARD_S) for each in taken)
        assert descriptors() == before + 3, "two, and what they are told of"
        for each in taken:
            wakers.give_back(each)
    del taken, each, wakers
    assert descriptors() == before


@by_descriptor
def test_a_thread_that_gives_up_gives_back_what_it_slept_on() -> None:
    wakers = Wakers()
    before = descriptors()
    for _ in range(3):
        assert not Future(wakers).wait_until(0)
    assert descriptors() == before + 2


@pytest.mark.parametrize("most", [waker.DESCRIPTORS_MAX, 0])
def test_all_threads_that_wait_for_one_future_are_woken(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(future, "WAKE_S", 10 * GUARD_S)  # none wakes by itself
    waited_for = Future(Wakers(most))
    with ThreadPoolExecutor(9) as pool:
        waits = [pool.submit(waited_for.wait_until, None) for _ in range(9)]
        wait_until(lambda: len(waited_for._waiting) == 9, "they wait")
        waited_for.set_result()
        try:
            assert all(each.result(GUARD_S) for each in waits)
        finally:
            for left in tuple(waited_for._waiting):
                left.wake()
    assert waited_for._waiting == []


@by_descriptor
def test_one_that_is_woken_for_its_last_user_waits_on() -> None:
    """The last user gave up, or found its result before it slept."""
    wakers = Wakers()
    last = wakers.take()
    wakers.give_back(last)
    last.wake()
    waited_for = Future(wakers)
    assert not waited_for.wait_until(0)
    assert wakers.take() is last, "it was the same one"
    assert not last.wait(0), "it sleeps again"


@by_descriptor
def test_what_is_let_go_of_is_made_anew() -> None:
    """In the child of a fork, where the parent wakes its threads with those that were made before."""
    before = descriptors()
    wakers = Wakers(1)
    wakers.give_back(wakers.take())
    assert descriptors() == before + 2
    wakers.clear()
    assert descriptors() == before
    wakers.give_back(wakers.take())
    assert descriptors() == before + 2, "it makes its own"


def refuse(*_: object) -> NoReturn:
    raise OSError(errno.EMFILE, "Too many open files")


@by_descriptor
@pytest.mark.parametrize(
    "patch", [lambda it: it.setattr(os, "eventfd", refuse), lambda it: it.delattr(select, "epoll")]
)
def test_calls_go_on_where_no_descriptor_or_no_epoll_is_left(
    patch: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)
    with blocking.Client("memory://", timeout=GUARD_S) as client:
        threads = [threading.Thread(target=client.incr, args=("n",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD_S)
        assert client.get("n") == 4


@by_descriptor
def test_a_client_that_is_closed_has_no_descriptor() -> None:
    before = descriptors()
    client = blocking.Client("memory://", timeout=GUARD_S)
    client.incr("n")
    client.close()
    wait_until(lambda: descriptors() == before, "the thread has ended")
    with pytest.raises(ClientClosed):
        client.incr("n")
    client.close()
    assert descriptors() == before


@by_descriptor
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_child_of_a_fork_has_no_descriptor_of_its_parent() -> None:
    with blocking.Client("memory://", timeout=GUARD_S) as client:
        client.incr("n")
        assert len(client._connection.wakers._free) == 1
        child = os.fork()
        if not child:
            os._exit(len(client._connection.wakers._free))
        assert os.waitpid(child, 0)[1] == 0
        assert len(client._connection.wakers._free) == 1, "the parent has it"


@pytest.mark.parametrize("most", [waker.DESCRIPTORS_MAX, 0])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_is_woken_each_time(new_loop: Callable[[], asyncio.AbstractEventLoop], most: int) -> None:
    """Once for all who ask before it looks, and again for who asks later."""
    loop = new_loop()
    told: list[int] = []
    asked = threading.Event()

    def function() -> None:
        told.append(1)
        asked.set()

    ask = Wakers(most).waking(loop, function)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for number in range(1, 4):
            ask()
            assert asked.wait(GUARD_S)
            asked.clear()
            assert len(told) == number
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(GUARD_S)
        loop.close()


def test_who_asks_for_the_posts_while_the_thread_ends_is_answered() -> None:
    """It has found the thread running, and was held up until that had ended."""
    client = blocking.Client("memory://", timeout=GUARD_S)
    loop = client._connection
    client.close()
    loop._closed = False  # so that it comes as far
    loop._wake_loop()
    with pytest.raises(ClientClosed):
        client.incr("n")
