"""A signal handler raises an exception in the main thread while that waits in a pattern of the blocking client, as
Ctrl-C does. Two cases: the main thread reads from the server itself, or another thread reads for it.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple

import pytest

import naught
from naught import blocking
from support.server_process import ServerProcess, server_process, wait_until

GUARD_S = 30.0

PLACES = {"reads": "SocketWire.receive", "waits": "Link._follow"}
"""The function of naught.blocking in which the main thread waits for a reply."""

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


def waiting_place() -> str:
    """The innermost function of naught on the stack of the main thread."""
    frame = sys._current_frames().get(MAIN.ident or 0)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("naught."):
        frame = frame.f_back
    return frame.f_code.co_qualname if frame is not None else ""  # type: ignore[attr-defined]  # of Python 3.11


def interrupted(call: Callable[[], Any], waits: Callable[[], bool] = lambda: True, *, places: Any = PLACES) -> str:
    """Call `call`, and raise TooLong in it when it waits in one of the places. Returns the place."""
    met: list[str] = []
    names = places.values()

    def interrupt() -> None:
        wait_until(lambda: waits() and waiting_place() in names and waiting_place() in names, "the call waits")
        met.append(waiting_place())
        signal.pthread_kill(MAIN.ident or 0, signal.SIGUSR1)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        with pytest.raises(TooLong):
            call()
    finally:
        interrupter.join()
    return met[0]


@contextlib.contextmanager
def another_thread_reads(client: blocking.Client, theirs: blocking.Client) -> Iterator[None]:
    """Inside the block, another thread waits for a reply, and reads for all threads."""
    theirs.incr("busy")
    reader = threading.Thread(target=client.wait_zero, args=("busy",))
    reader.start()
    wait_until(lambda: parked(theirs) == 1, "the other thread waits")
    yield
    theirs.decr("busy")
    reader.join()


def parked(client: blocking.Client) -> int:
    return int(client.info()["sessions"]["parked"])


def again_until_it_was(
    place: str, mine: blocking.Client, theirs: blocking.Client, attempt: Callable[[], str]
) -> None:
    """Repeat the attempt until the main thread was interrupted in that place. (If it has not called for a while, the
    client's own thread reads.)"""
    for _ in range(100):
        mine.ping()
        with another_thread_reads(mine, theirs) if place == "waits" else contextlib.nullcontext():
            if attempt() == PLACES[place]:
                return
    raise AssertionError(f"the main thread never {place}")


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


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WAITS)
def test_interrupted_while_it_waits_it_leaves_nothing(
    mine: blocking.Client, theirs: blocking.Client, name: str, place: str
) -> None:
    permit = theirs.semaphore("n", limit=1).acquire()
    own = mine.semaphore("own", limit=1).acquire()

    def attempt() -> str:
        with another_client_queues(theirs) if name.startswith("in flight") else contextlib.nullcontext():
            before = parked(theirs)
            met = interrupted(lambda: WAITS[name](mine), lambda: parked(theirs) == before + 1)
            wait_until(lambda: parked(theirs) == before, "the wait at the server has ended")
            assert mine.held() == {own.number: {"own": 1}}
            assert theirs.get("n") == 1
        return met

    again_until_it_was(place, mine, theirs, attempt)
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
        interrupted(lambda: permit.lost.wait(GUARD_S), places={"watches": "Lost.wait"})
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


@contextlib.contextmanager
def stopped(server: ServerProcess) -> Iterator[None]:
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CHANGES)
def test_interrupted_before_the_answer_it_gives_back_what_is_held(
    server: ServerProcess, mine: blocking.Client, theirs: blocking.Client, name: str, place: str
) -> None:
    prepare, change, left = CHANGES[name]

    def attempt() -> str:
        prepared = prepare(mine)
        own = mine.semaphore("own", limit=1).acquire()
        with stopped(server):
            met = interrupted(lambda: change(mine, prepared))
        mine.ping()
        assert not own.lost
        own.release()
        wait_until(lambda: theirs.get("n") in left, "the holds on n are released")
        wait_until(lambda: theirs.get("m") == 0, "the holds on m are released")
        assert sum(amounts.get("n", 0) for amounts in mine.held().values()) <= max(left)
        theirs.set("n", 0)
        return met

    again_until_it_was(place, mine, theirs, attempt)
