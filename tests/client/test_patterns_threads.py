"""Patterns of the blocking client (objects shared by threads, decorated functions, `lost.wait` with a timeout), and
its listings. With an engine in memory, alone and together with an asyncio client.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import naught
from naught import blocking
from naught.memory import find_host
from support.server_process import wait_until

GUARD_S = 30.0

THREADS = 8


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"memory://{request.node.originalname}.{len(request.node.name)}"


@pytest.fixture
def counters(url: str) -> Iterator[blocking.Client]:
    """A client. At the end of the test no hold, no wait and no counter may be left."""
    with blocking.Client(url, timeout=GUARD_S) as client:
        yield client
        assert client.held() == {}
        assert client.count() == 0, "a counter is left"
        sessions = client.info()["sessions"]
        assert (sessions["holds"], sessions["parked"]) == (0, 0)
    find_host(url.removeprefix("memory://")).engine.invariants(0)


def all_at_once(work: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """Call `work` in `count` threads that start together. Returns their results."""
    begin = threading.Barrier(count)

    def thread(number: int) -> Any:
        begin.wait(GUARD_S)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(thread, range(count)))


def parked(client: blocking.Client, count: int) -> bool:
    return bool(client.info()["sessions"]["parked"] == count)


# ------------------------------------------------------------------------------------------------- decorated


def test_a_decorated_function_has_a_permit_while_it_runs(counters: blocking.Client) -> None:
    inside: list[int] = []

    @counters.semaphore("gpu", limit=2)
    def render(job: int, *, scale: int = 1) -> int:
        """Render a job."""
        inside.append(counters.get("gpu"))
        return job * scale

    assert all_at_once(lambda job: render(job, scale=10)) == [job * 10 for job in range(THREADS)]
    assert len(inside) == THREADS
    assert set(inside) <= {1, 2}
    assert (render.__name__, render.__doc__) == ("render", "Render a job.")


def test_a_decorated_function_that_raises_gives_its_permit_back(counters: blocking.Client) -> None:
    @counters.semaphore("gpu", limit=1)
    def fail() -> None:
        assert counters.get("gpu") == 1
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert counters.get("gpu") == 0


def test_a_decorated_function_that_calls_itself_has_a_permit_for_each_call(counters: blocking.Client) -> None:
    @counters.semaphore("gpu", limit=3)
    def down(left: int) -> int:
        return down(left - 1) if left else counters.get("gpu")

    assert down(2) == 3
    assert counters.get("gpu") == 0


async def _coroutine() -> None: ...
def _generator() -> Iterator[None]:
    yield


async def _both() -> Any:
    yield


@pytest.mark.parametrize("function", [_coroutine, _generator, _both])
def test_what_has_not_begun_when_it_returns_cannot_be_decorated(
    counters: blocking.Client, function: Callable[[], Any]
) -> None:
    with pytest.raises(TypeError, match="before it has begun"):
        counters.semaphore("gpu", limit=1)(function)


# ------------------------------------------------------------------------------------------------- shared by threads


def test_threads_share_one_semaphore(counters: blocking.Client) -> None:
    gpu = counters.semaphore("gpu", limit=3)
    lock, numbers = threading.Lock(), set()
    three = threading.Barrier(3)
    inside = most = 0

    def work(number: int) -> None:
        nonlocal inside, most
        for turn in range(10):
            with gpu as permit:
                with lock:
                    inside += 1
                    most = max(most, inside)
                    numbers.add(permit.number)
                if turn == 0 and number < 3:
                    three.wait(GUARD_S)
                counters.ping()
                with lock:
                    inside -= 1

    all_at_once(work)
    assert most == 3
    assert len(numbers) == THREADS * 10, "every grant has a different number"
    assert not gpu._inner._entered._by_caller, "no entry is left of threads that have left"


def test_threads_share_one_count_in_flight(counters: blocking.Client) -> None:
    uploads = counters.in_flight("uploads")
    all_inside = threading.Barrier(THREADS)

    def work(number: int) -> int:
        with uploads, contextlib.ExitStack() as stack:
            for _ in range(number):
                stack.enter_context(uploads)
            all_inside.wait(GUARD_S)
            value = uploads.value()
            all_inside.wait(GUARD_S)
            return value

    total = sum(range(1, THREADS + 1))
    for _ in range(3):
        assert all_at_once(work) == [total] * THREADS
        assert uploads.value() == 0
    assert not uploads._inner._entered._by_caller


@pytest.fixture
def threads_switch_all_the_time() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_switch_all_the_time")
@pytest.mark.parametrize("held", [True, False])
def test_threads_share_one_group(counters: blocking.Client, url: str, held: bool) -> None:
    group = counters.wait_group("import", held=held)
    amounts = [1 + number % 3 for number in range(THREADS)]
    for _ in range(3):
        added = all_at_once(lambda number: [group.add(amounts[number]) for _ in range(10)])
        assert max(map(max, added)) == 10 * sum(amounts) == group.value()
        with blocking.Client(url, timeout=GUARD_S) as other, ThreadPoolExecutor(1) as pool:
            finished = pool.submit(other.wait_group("import").wait, timeout=GUARD_S)
            wait_until(lambda: parked(counters, 1), "the other client waits for the group")
            # Each thread calls `done` with other amounts than it has added.
            left = all_at_once(lambda number: [group.done(amounts[-1 - number]) for _ in range(10)])
            assert finished.result(GUARD_S) is True
        assert [value for values in left for value in values].count(0) == 1, "exactly one release was the last"
    assert not counters._connection.session._holds.by_number, "the session tracks no hold that is done"


def test_blocks_on_one_object_nest_in_one_thread(counters: blocking.Client) -> None:
    gpu = counters.semaphore("gpu", limit=3)
    with gpu as first, gpu as second:
        with gpu as third:
            assert first.number < second.number < third.number
            assert sorted(counters.held()) == [first.number, second.number, third.number]
            assert gpu.try_acquire() is None
        assert sorted(counters.held()) == [first.number, second.number]
    assert counters.get("gpu") == 0


def test_a_block_may_be_left_in_another_thread(counters: blocking.Client) -> None:
    gpu = counters.semaphore("gpu", limit=2)
    blocks = [contextlib.ExitStack() for _ in range(2)]
    for block in blocks:
        block.enter_context(gpu)
    all_at_once(lambda number: blocks[number].close(), 2)
    assert counters.get("gpu") == 0


def test_who_waits_in_many_threads_is_served_by_one_who_releases(counters: blocking.Client) -> None:
    gpu = counters.semaphore("gpu", limit=1)
    permit = gpu.acquire()
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(gpu.acquire, timeout=GUARD_S) for _ in range(THREADS)]
        wait_until(lambda: parked(counters, THREADS), "all threads wait")
        numbers = []
        for _ in range(THREADS):
            permit.release()
            wait_until(lambda: any(each.done() for each in waiting), "one thread has a permit")
            (served,) = [each for each in waiting if each.done()]
            waiting.remove(served)
            permit = served.result()
            numbers.append(permit.number)
    permit.release()
    assert numbers == sorted(numbers)


# ------------------------------------------------------------------------------------------------- lost


def test_a_permit_is_watched_with_a_time(url: str) -> None:
    client = blocking.Client(url)
    permit = client.semaphore("gpu", limit=1).acquire()
    assert repr(permit.lost) == "<lost: False>"
    for timeout in (0, 0.001, 0.01):
        assert permit.lost.wait(timeout) is False
    with ThreadPoolExecutor(THREADS) as pool:
        watching = [pool.submit(permit.lost.wait, GUARD_S if number % 2 else None) for number in range(THREADS)]
        client.close()
        assert [each.result(GUARD_S) for each in watching] == [True] * THREADS
    assert permit.lost
    assert permit.lost.wait() is True, "returns immediately"
    assert repr(permit.lost) == "<lost: True>"
    assert repr(permit) == f"<naught.Permit {permit.number} lost>"
    with pytest.raises(naught.NotHeld, match="is lost"):
        permit.release()


def test_a_released_permit_is_not_lost_with_its_client(url: str) -> None:
    with blocking.Client(url) as client:
        released = client.semaphore("gpu", limit=1).acquire()
        released.release()
    assert not released.lost
    assert released.lost.wait(0) is False


FORKED = """
import os, threading
import naught
from naught import blocking

client = blocking.Client("memory://")
permit = client.semaphore("gpu", limit=1).acquire()
threading.Thread(target=permit.lost.wait, daemon=True).start()
while permit.lost._signal is None:
    pass
child = os.fork()
if not child:
    try:
        assert permit.lost and permit.lost.wait(20), "the hold is the parent's"
        try:
            permit.release()
        except naught.NotHeld:
            os._exit(0)
    finally:
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert not permit.lost
permit.release()
client.close()
"""


def test_in_the_child_of_a_fork_a_permit_is_lost_and_the_parent_keeps_it() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=GUARD_S)


# ------------------------------------------------------------------------------------------------- in memory


def test_an_engine_without_a_name_is_its_client_s_alone() -> None:
    with blocking.Client("memory://") as first, blocking.Client("memory://") as second:
        first.incr("a")
        assert (first.get("a"), second.get("a")) == (1, 0)
        assert len(first.sessions()) == 1


def test_an_engine_with_a_name_is_shared(counters: blocking.Client, url: str) -> None:
    with blocking.Client(url) as other, blocking.Client(f"{url}-another") as another:
        permit = counters.semaphore("gpu", limit=1).acquire()
        assert other.semaphore("gpu", limit=1).try_acquire() is None
        assert another.count() == 0
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(other.semaphore("gpu", limit=1).acquire, timeout=GUARD_S)
            wait_until(lambda: parked(counters, 1), "the other client waits")
            permit.release()
            waiting.result(GUARD_S).release()
        assert len(counters.sessions()) == 2
    assert len(counters.sessions()) == 1


def test_a_blocking_client_and_an_asyncio_client_share_an_engine(counters: blocking.Client, url: str) -> None:
    """One in this thread, the other in an event loop of another thread. They hand a permit back and forth."""
    rounds = 50
    order: list[str] = []

    async def tasks() -> None:
        async with naught.connect(url, timeout=GUARD_S) as client, asyncio.timeout(GUARD_S):
            baton, group = client.semaphore("baton", limit=1), client.wait_group("rounds")
            for _ in range(rounds):
                async with baton:
                    order.append("asyncio")
                    while not await another_waits(client):
                        pass
                await group.done()
            assert await client.wait_zero("end") is True

    async def another_waits(client: naught.Client) -> bool:
        return order.count("blocking") == rounds or bool((await client.info())["sessions"]["parked"])

    counters.incr("end")
    group = counters.wait_group("rounds")
    group.add(rounds)
    loop = threading.Thread(target=asyncio.run, args=(tasks(),))
    loop.start()
    for _ in range(rounds):
        with counters.semaphore("baton", limit=1):
            order.append("blocking")
            wait_until(
                lambda: order.count("asyncio") == rounds or parked(counters, 1),
                "the asyncio client waits for the permit",
            )
    assert group.wait(timeout=GUARD_S)
    counters.decr("end")
    loop.join()
    assert sorted(order) == ["asyncio"] * rounds + ["blocking"] * rounds
    first = order[:2]
    assert order == first * rounds, "they alternate"


# ------------------------------------------------------------------------------------------------- listings


def test_listings_page_by_page(counters: blocking.Client) -> None:
    stored = {f"k{number:03}": number + 1 for number in range(100)} | {"other": 500}
    counters.apply(stored, list(stored.values()))
    assert dict(counters.scan_iter()) == stored
    assert dict(counters.scan_iter(count=7)) == stored
    assert dict(counters.scan_iter(prefix="k00", count=1)) == {key: stored[key] for key in stored if key[:3] == "k00"}
    assert list(counters.scan_iter(prefix="none")) == []
    begun = counters.scan_iter(count=1)
    assert next(begun)[0] in stored
    begun.close()  # type: ignore[attr-defined]  # before its end
    page = counters.scan(count=10)
    rest = []
    while page.cursor:
        rest += page.counters
        page = counters.scan(page.cursor, count=10)
    assert dict(rest + page.counters) == stored
    assert counters.top(3) == [("other", 500), ("k099", 100), ("k098", 99)]
    assert counters.top(2, prefix="k") == [("k099", 100), ("k098", 99)]
    assert counters.count(prefix="k") == 100
    assert counters.clear() == 101


def test_a_page_that_fails_ends_the_listing(counters: blocking.Client) -> None:
    pages = counters.scan_iter(count=0)
    with pytest.raises(naught.InvalidRequest):
        next(pages)
    assert list(pages) == []


def test_many_threads_list_at_once(counters: blocking.Client) -> None:
    stored = {f"k{number}": 1 for number in range(50)}
    counters.apply(stored, 1)
    assert all_at_once(lambda _: dict(counters.scan_iter(count=9))) == [stored] * THREADS
    counters.clear()


def test_keys_come_back_as_bytes_where_asked_for(url: str) -> None:
    with blocking.Client(url, decode_keys=False) as client:
        with client.acquire_all({"a": 1, b"\xff": 2}) as permit:
            assert client.held() == {permit.number: {b"a": 1, b"\xff": 1}}
            client.incr("a")
            assert client.top(5) == [(b"a", 2), (b"\xff", 1)]
            assert sorted(client.scan_iter()) == sorted(client.scan().counters) == [(b"a", 2), (b"\xff", 1)]
            with blocking.Client(url) as text:
                assert dict(text.scan_iter()) == {"a": 2, "\udcff": 1}
                assert text.get("\udcff") == 1
        assert client.take([b"a"]) == [1]


def test_what_is_held_is_listed(counters: blocking.Client) -> None:
    assert counters.held() == {}
    group = counters.wait_group("g", held=True)
    with counters.semaphore("a", limit=2) as outer, counters.acquire_all({"a": 2, "b": 1}) as inner:
        group.add(4)
        group.done(1)
        held = counters.held()
        assert held.pop(outer.number) == {"a": 1}
        assert held.pop(inner.number) == {"a": 1, "b": 1}
        assert list(held.values()) == [{"g": 3}]
    assert group.done(3) == 0


def test_more_is_held_than_fits_one_answer(counters: blocking.Client) -> None:
    """The client reads the list page by page."""
    prefix = "x" * 490
    holds = []
    for number in range(1_000):
        acquired = counters.acquire([(f"{prefix}:{number:04}", 1, 1)])
        assert acquired.hold is not None
        holds.append(acquired.hold)
    held = counters.held()
    assert [hold.number for hold in holds] == sorted(held)
    assert sum(sum(amounts.values()) for amounts in held.values()) == 1_000
    for hold in holds:
        counters.release(hold)


def test_sessions_are_listed(counters: blocking.Client, url: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(stack.enter_context(blocking.Client(url)).semaphore("gpu", limit=9))
        found = counters.sessions()
        assert len(found) == 4
        assert sorted(each["holds"] for each in found) == [0, 1, 1, 1]
        assert all(isinstance(each["session"], int) for each in found)


def test_a_pattern_says_what_it_is(counters: blocking.Client) -> None:
    gpu, quota = counters.semaphore("gpu", limit=4), counters.quota("q", limit=5, per=1.5)
    assert (gpu.name, gpu.limit, quota.name, quota.limit) == ("gpu", 4, "q", 5)
    assert [pattern.name for pattern in (counters.wait_group("g"), counters.reference(b"r"))] == ["g", b"r"]
    assert counters.in_flight("f").name == "f"
    assert [repr(gpu), repr(quota)] == ["<naught.Semaphore 'gpu' of 4>", "<naught.Quota 'q' of 5 in 1.5 s>"]
    permit = gpu.acquire()
    assert permit.hold.number == permit.number
    permit.release()
