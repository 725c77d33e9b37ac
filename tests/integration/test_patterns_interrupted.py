"""A thread is interrupted while it waits in a pattern of the blocking client: a signal handler raises an exception in
the main thread, as Ctrl-C does, or another thread sets an exception in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple

import pytest

import naught
from naught import blocking
from naught.blocking import future
from support.server_process import ServerProcess, server_process, stopped, wait_until

GUARD_S = 30.0

WAITING = {"_EpollWaker.wait", "_LockWaker.wait"}
"""The functions of naught.blocking in which a thread waits."""

MAIN = threading.main_thread()


class TooLong(Exception):
    """The exception of the signal handler."""


def too_long(number: int, frame: FrameType | None) -> None:
    raise TooLong


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, too_long)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def mine(server: ServerProcess) -> Iterator[blocking.Client]:
    with blocking.Client(f"naught://127.0.0.1:{server.port}", timeout=GUARD_S) as client:
        yield client


@pytest.fixture
def theirs(server: ServerProcess) -> Iterator[blocking.Client]:
    with blocking.Client(f"naught://127.0.0.1:{server.port}", timeout=GUARD_S) as client:
        yield client
        wait_until(lambda: not any(each["parked"] for each in client.sessions()), "no wait is left at the server")
        assert client.count() == 0, "a counter is left"


def waits_in(thread: threading.Thread) -> bool:
    """Whether the innermost function of naught on the stack of the thread is the one that waits."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("naught."):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_qualname in WAITING  # type: ignore[attr-defined]  # of Python 3.11


def interrupted(call: Callable[[], Any], waits: Callable[[], bool] = lambda: True) -> None:
    """Call `call`, and have a signal handler raise TooLong in it when it waits."""

    def interrupt() -> None:
        wait_until(lambda: waits() and waits_in(MAIN), "the call waits")
        signal.pthread_kill(MAIN.ident or 0, signal.SIGUSR1)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        with pytest.raises(TooLong):
            call()
    finally:
        interrupter.join()


def struck(call: Callable[[], Any], waits: Callable[[], bool]) -> None:
    """Call `call` in a thread, and set TooLong in that thread when it waits."""
    ended: list[type] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            ended.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: waits() and waits_in(thread), "the call waits")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TooLong))
    thread.join(GUARD_S)
    assert ended == [TooLong]


def parked(client: blocking.Client) -> int:
    return int(client.info()["sessions"]["parked"])


# ------------------------------------------------------------------------------------------------- waiting


def enter(block: Any) -> None:
    with block:
        raise AssertionError("it was granted although there is no room")


WAITS: dict[str, Callable[[blocking.Client], Any]] = {
    "semaphore": lambda client: client.semaphore("n", limit=1).acquire(),
    "semaphore with a time": lambda client: client.semaphore("n", limit=1).acquire(timeout=GUARD_S),
    "block": lambda client: enter(client.semaphore("n", limit=1)),
    "decorated": lambda client: client.semaphore("n", limit=1)(lambda: None)(),
    "several": lambda client: client.acquire_all({"free": 1, "n": 1}),
    "in flight, behind others": lambda client: enter(client.in_flight("n")),
    "group": lambda client: client.wait_group("n").wait(),
    "group with a time": lambda client: client.wait_group("n", held=True).wait(timeout=GUARD_S),
}


@pytest.mark.parametrize("interrupt", [interrupted, pytest.param(struck, marks=pytest.mark.patches)])
@pytest.mark.parametrize("name", WAITS)
def test_interrupted_while_it_waits_it_leaves_nothing(
    mine: blocking.Client,
    theirs: blocking.Client,
    name: str,
    interrupt: Callable[[Callable[[], Any], Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(future, "WAKE_S", 0.01)
    permit = theirs.semaphore("n", limit=1).acquire()
    own = mine.semaphore("own", limit=1).acquire()
    with another_client_queues(theirs) if name.startswith("in flight") else contextlib.nullcontext():
        before = parked(theirs)
        interrupt(lambda: WAITS[name](mine), lambda: parked(theirs) == before + 1)
        wait_until(lambda: parked(theirs) == before, "the wait at the server has ended")
        assert mine.held() == {own.number: {"own": 1}}
        assert theirs.get("n") == 1
    permit.release()
    with mine.semaphore("n", limit=1):
        assert theirs.get("n") == 1
    assert not own.lost
    own.release()


@contextlib.contextmanager
def another_client_queues(client: blocking.Client) -> Iterator[None]:
    """Inside the block, another client waits for a permit of `n`; later requests must not overtake it."""
    before = parked(client)

    def queue() -> None:
        with contextlib.suppress(naught.ClientClosed), waiter.semaphore("n", limit=1):
            pass

    with blocking.Client(f"naught://127.0.0.1:{client._address.port}", timeout=GUARD_S) as waiter:  # type: ignore[union-attr]
        queuing = threading.Thread(target=queue)
        queuing.start()
        wait_until(lambda: parked(client) == before + 1, "the other client queues")
        yield
    queuing.join()


def test_interrupted_while_it_watches_a_permit_it_goes_on_as_before(
    mine: blocking.Client, theirs: blocking.Client
) -> None:
    with mine.semaphore("n", limit=1) as permit:
        interrupted(lambda: permit.lost.wait(GUARD_S))
        assert not permit.lost
        assert not permit.lost.wait(0.001)
        assert theirs.get("n") == 1


# ------------------------------------------------------------------------------------------------- unanswered


class Change(NamedTuple):
    """A change that a stopped server does not answer."""

    prepare: Callable[[blocking.Client], Any]  # runs before it; its result is the second argument of `change`
    change: Callable[[blocking.Client, Any], Any]
    left: set[int]  # values that the counter `n` may have afterwards


def nothing(_: blocking.Client) -> None:
    """The `prepare` of changes that need none."""


def group_of(client: blocking.Client, *amounts: int, held: bool = True) -> blocking.WaitGroup:
    group = client.wait_group("n", held=held)
    for amount in amounts:
        group.add(amount)
    return group


def inside(pattern: Any) -> Any:
    """Enter the pattern."""
    pattern.__enter__()
    return pattern


CHANGES = {
    "acquire": Change(nothing, lambda client, _: client.semaphore("n", 1).acquire(), {0}),
    "try to acquire": Change(nothing, lambda client, _: client.semaphore("n", 1).try_acquire(), {0}),
    "acquire several": Change(nothing, lambda client, _: client.acquire_all({"m": 1, "n": 1}), {0}),
    "release": Change(
        lambda client: client.semaphore("n", 1).acquire(), lambda client, permit: permit.release(), {0}
    ),
    "leave a block": Change(
        lambda client: inside(client.semaphore("n", 1)), lambda _, block: block.__exit__(None, None, None), {0}
    ),
    "leave, in flight": Change(
        lambda client: inside(client.in_flight("n")), lambda _, block: block.__exit__(None, None, None), {0}
    ),
    "add": Change(nothing, lambda client, _: client.wait_group("n").add(2), {0, 2}),
    "add what is held": Change(nothing, lambda client, _: client.wait_group("n", held=True).add(2), {0}),
    "done": Change(lambda client: group_of(client, 3, held=False), lambda _, group: group.done(2), {3, 1}),
    "done with what is held in pieces": Change(
        lambda client: group_of(client, 1, 2, 3), lambda _, group: group.done(5), {1}
    ),
    "retain": Change(nothing, lambda client, _: client.reference("n").retain(), {0, 1}),
    "use of a quota": Change(nothing, lambda client, _: client.quota("n", 5, per=60).use(2), {0, 2}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_interrupted_before_the_answer_it_gives_back_what_is_held(
    server: ServerProcess, mine: blocking.Client, theirs: blocking.Client, name: str
) -> None:
    prepare, change, left = CHANGES[name]
    prepared = prepare(mine)
    own = mine.semaphore("own", limit=1).acquire()
    with stopped(server):
        interrupted(lambda: change(mine, prepared))
    mine.ping()
    assert not own.lost
    own.release()
    wait_until(lambda: theirs.get("n") in left, "the holds on n are released")
    wait_until(lambda: theirs.get("m") == 0, "the holds on m are released")
    assert sum(amounts.get("n", 0) for amounts in mine.held().values()) <= max(left)
    theirs.set("n", 0)
