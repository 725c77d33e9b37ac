"""Semaphores, their permits, and permits of several semaphores at once, with two clients of an engine in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import naught
from naught.memory import Host, find_host
from naught.wire.limits import PARKED_MAX, UNACKNOWLEDGED_MAX, VALUE_MAX

GUARD_S = 30.0


def both(scenario: Callable[..., Any], **options: Any) -> None:
    """Run `scenario` with two clients of one server. Afterwards no hold, no wait and no counter may be left."""

    async def run() -> None:
        url = f"memory://{scenario.__qualname__}"
        async with (
            naught.connect(url, timeout=GUARD_S, **options) as first,
            naught.connect(url, timeout=GUARD_S, **options) as second,
        ):
            async with asyncio.timeout(GUARD_S):
                await scenario(first, second)
            assert [await client.held() for client in (first, second)] == [{}, {}]
            assert await second.count() == 0, "a counter is left"
            sessions = (await first.info())["sessions"]
            assert (sessions["holds"], sessions["parked"]) == (0, 0)
            find_host(scenario.__qualname__).engine.invariants(0)

    asyncio.run(run())


def waits(task: asyncio.Future[Any]) -> bool:
    return not task.done()


# ------------------------------------------------------------------------------------------------- one semaphore


def test_the_counter_is_the_number_of_permits_out() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        gpu = first.semaphore("gpu", limit=2)
        permits = [await gpu.acquire(), await second.semaphore("gpu", limit=2).acquire()]
        assert await first.get("gpu") == 2
        assert await gpu.try_acquire() is None
        await permits[1].release()
        third = await gpu.try_acquire()
        assert third is not None
        assert await second.get("gpu") == 2
        assert [permit.number for permit in (*permits, third)] == sorted(
            {permit.number for permit in (*permits, third)}
        ), "each number is higher than all before"
        await third.release()
        await permits[0].release()
        assert await first.get("gpu") == 0
        assert repr(gpu) == "<naught.Semaphore 'gpu' of 2>"

    both(scenario)


def test_a_permit_is_released_once() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        gpu = first.semaphore("gpu", limit=2)
        permit, other = await gpu.acquire(), await gpu.acquire()
        assert repr(permit) == f"<naught.Permit {permit.number} held>"
        await permit.release()
        assert repr(permit) == f"<naught.Permit {permit.number} released>"
        for _ in range(2):
            with pytest.raises(naught.NotHeld, match=f"permit {permit.number} was released before"):
                await permit.release()
        assert await first.get("gpu") == 1
        with pytest.raises(naught.NotHeld):
            await second.release(other.number)  # the hold of another client
        await other.release()

    both(scenario)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_no_permit_in_time_is_a_timeout(timeout: float) -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        async with first.semaphore("gpu", limit=1):
            for client in (first, second):
                with pytest.raises(naught.CallTimeout, match="no permit of gpu within") as caught:
                    await client.semaphore("gpu", limit=1).acquire(timeout=timeout)
                assert isinstance(caught.value, TimeoutError)
        async with await second.semaphore("gpu", limit=1).acquire(timeout=timeout):
            assert await second.get("gpu") == 1

    both(scenario)


def test_permits_are_granted_in_the_order_they_were_asked_for() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        order: list[int] = []

        async def work(number: int) -> None:
            async with (first, second)[number % 2].semaphore("gpu", limit=1):
                order.append(number)

        permit = await first.semaphore("gpu", limit=1).acquire()
        tasks = []
        for number in range(30):
            tasks.append(asyncio.ensure_future(work(number)))
            await (first, second)[number % 2].ping()  # the server has the request now
        assert await second.semaphore("gpu", limit=1).try_acquire() is None
        await permit.release()
        await asyncio.gather(*tasks)
        assert order == list(range(30))

    both(scenario)


def test_nobody_overtakes_who_waits() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        one = await first.semaphore("gpu", limit=1).acquire()
        waiting = asyncio.ensure_future(second.semaphore("gpu", limit=1).acquire())
        await second.ping()
        assert await first.semaphore("gpu", limit=5).try_acquire() is None, (
            "there is room, but another client was first"
        )
        assert not (await first.try_incr([("gpu", 1, 5)])).granted
        behind = asyncio.ensure_future(first.semaphore("gpu", limit=5).acquire())
        await first.ping()
        assert waits(behind)
        await one.release()
        await (await waiting).release()
        await (await behind).release()

    both(scenario)


def test_a_lower_limit_waits_longer() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        wide, narrow = first.semaphore("gpu", limit=3), second.semaphore("gpu", limit=1)
        permits = [await wide.acquire() for _ in range(3)]
        waiting = asyncio.ensure_future(narrow.acquire())
        for permit in permits:
            await second.ping()
            assert waits(waiting)
            await permit.release()
        await (await waiting).release()

    both(scenario)


@pytest.mark.parametrize("limit", [0, -1, VALUE_MAX + 1, True, 1.0, "1", None])
def test_a_limit_is_a_whole_number_of_at_least_1(limit: Any) -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        with pytest.raises(naught.InvalidRequest, match="limit is"):
            first.semaphore("gpu", limit)
        with pytest.raises(naught.InvalidRequest, match="limit is"):
            await first.acquire_all({"gpu": 1, "cpu": limit})

    both(scenario)


@pytest.mark.parametrize("name", ["", "k" * 513, None, 5])
def test_a_name_is_a_key(name: Any) -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        with pytest.raises(ValueError, match="a key"):
            first.semaphore(name, 1)

    both(scenario)


@pytest.mark.parametrize("timeout", ["1", float("nan"), float("inf"), -1, True, 10.0**9])
def test_a_wait_is_a_number_of_seconds_up_to_a_day(timeout: Any) -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        with pytest.raises(naught.InvalidRequest):
            await first.semaphore("gpu", limit=1).acquire(timeout=timeout)

    both(scenario)


def test_a_semaphore_needs_a_session() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        with pytest.raises(naught.NoSession):
            await first.semaphore("gpu", limit=1).acquire()

    both(scenario, session=False)


# ------------------------------------------------------------------------------------------------- async with


def test_many_tasks_share_one_semaphore_object() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        gpu = first.semaphore("gpu", limit=3)
        inside = most = 0
        numbers: set[int] = set()

        async def work() -> None:
            nonlocal inside, most
            for _ in range(5):
                async with gpu as permit:
                    inside += 1
                    most = max(most, inside)
                    numbers.add(permit.number)
                    await first.ping()
                    inside -= 1

        await asyncio.gather(*(work() for _ in range(40)))
        assert most == 3
        assert len(numbers) == 200, "every grant has a different number"
        assert not gpu._entered._by_caller, "no entry is left of tasks that have left"

    both(scenario)


def test_a_task_may_be_inside_more_than_once() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        gpu = first.semaphore("gpu", limit=2)
        async with gpu as outer:
            async with gpu as inner:
                assert inner.number > outer.number
                assert await first.get("gpu") == 2
            assert await first.held() == {outer.number: {"gpu": 1}}
        assert await first.get("gpu") == 0

    both(scenario)


def test_an_exception_gives_the_permit_back_and_goes_on() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        with pytest.raises(ZeroDivisionError):
            async with first.semaphore("gpu", limit=1):
                raise ZeroDivisionError
        assert await first.get("gpu") == 0
        with pytest.raises(ZeroDivisionError):
            async with await first.semaphore("gpu", limit=1).acquire():
                raise ZeroDivisionError
        assert await first.get("gpu") == 0

    both(scenario)


@pytest.mark.parametrize("raises", [False, True])
def test_what_was_not_held_any_more_is_raised_unless_the_block_raises(raises: bool) -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        async def block() -> None:
            async with first.semaphore("gpu", limit=1):
                assert await second.clear() == 1
                if raises:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError if raises else naught.NotHeld):
            await block()

    both(scenario)


def test_a_permit_released_inside_of_its_block_is_an_error_at_its_end() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        with pytest.raises(naught.NotHeld, match="released before"):
            async with first.semaphore("gpu", limit=1) as permit:
                await permit.release()

    both(scenario)


# ------------------------------------------------------------------------------------------------- several at once


def test_several_permits_are_granted_all_at_once_or_not_at_all() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        async with await first.acquire_all({"a": 1, b"b": 2}) as permit:
            assert await first.held() == {permit.number: {"a": 1, "b": 1}}
            with pytest.raises(naught.CallTimeout, match="no permit of b, c within"):
                await second.acquire_all({"b": 1, "c": 9}, timeout=0)
            assert await second.get("c") == 0
            async with await second.acquire_all({"b": 2, "c": 9}, timeout=0):
                assert await first.get_many(["a", "b", "c"]) == [1, 2, 1]
        assert await first.get_many(["a", "b", "c"]) == [0, 0, 0]

    both(scenario)


def test_who_waits_for_several_stands_in_the_queue_of_each() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        held = await first.semaphore("a", limit=1).acquire()
        several = asyncio.ensure_future(second.acquire_all({"a": 1, "b": 1}))
        await second.ping()
        assert await first.get("b") == 0, "a waiter holds nothing"
        behind = asyncio.ensure_future(first.semaphore("b", limit=1).acquire())
        await first.ping()
        assert waits(behind), "b is free, but another waiter was first"
        await held.release()
        permit = await several
        assert waits(behind)
        await permit.release()
        await (await behind).release()

    both(scenario)


def test_rings_of_several_do_not_lock_up() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        draw = random.Random(3)
        names = [f"fork:{number}" for number in range(5)]

        async def eat(number: int) -> None:
            wanted = {names[number % 5]: 1, names[(number + 1) % 5]: 1}
            for _ in range(10):
                async with await (first, second)[number % 2].acquire_all(wanted):
                    assert max(await first.get_many(names)) == 1
                    for _ in range(draw.randint(0, 2)):
                        await asyncio.sleep(0)

        await asyncio.gather(*(eat(number) for number in range(15)))

    both(scenario)


def test_no_semaphores_at_all_are_an_error() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        with pytest.raises(naught.InvalidRequest):
            await first.acquire_all({})

    both(scenario)


# ------------------------------------------------------------------------------------------------- cancelling


@pytest.mark.parametrize("turns", range(6))
def test_a_cancelled_acquire_leaves_nothing(turns: int) -> None:
    """Cancelled before it was sent, while it waits, and in the same turn in which the permit arrives."""

    async def scenario(first: naught.Client, second: naught.Client) -> None:
        for free in (True, False):
            permit = None if free else await second.semaphore("gpu", limit=1).acquire()
            task = asyncio.ensure_future(first.semaphore("gpu", limit=1).acquire())
            for _ in range(turns):
                await asyncio.sleep(0)
            if permit is not None:
                await permit.release()
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, naught.NaughtError | asyncio.CancelledError):
                assert isinstance(ended, asyncio.CancelledError)
            else:
                await ended.release()  # the task had ended before it was cancelled
            while await first.get("gpu"):  # noqa: ASYNC110 - the client is releasing the permit
                await asyncio.sleep(0)

    both(scenario)


def test_a_cancelled_release_releases() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        for turns in range(1, 5):  # with 0 the task has not started
            permit = await first.semaphore("gpu", limit=1).acquire()
            task = asyncio.ensure_future(permit.release())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with second.semaphore("gpu", limit=1):
                pass
            with pytest.raises(naught.NotHeld):
                await permit.release()

    both(scenario)


@pytest.mark.parametrize("arguments", [{"timeout": "1"}, {"items": [("gpu", 0)]}, {"items": [("", 1)]}], ids=str)
def test_a_release_that_was_refused_at_once_leaves_the_hold_as_it_was(arguments: dict[str, Any]) -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        acquired = await first.acquire([("gpu", 1, 1)])
        assert acquired.hold is not None
        with pytest.raises(ValueError, match=r"."):
            first.release(acquired.hold, **arguments)
        assert first._connection.session._holds.by_number == {acquired.hold.number: acquired.hold}, (
            "the session still tracks the hold"
        )
        await first.release(acquired.hold)
        assert not first._connection.session._holds.by_number

    both(scenario)


# ------------------------------------------------------------------------------------------------- thousands


@pytest.mark.parametrize("count", [UNACKNOWLEDGED_MAX + 1, 3 * UNACKNOWLEDGED_MAX])
def test_thousands_of_permits_in_one_turn(count: int) -> None:
    """All are granted without waiting, but the client cannot know that: the replies must fit the server's limits."""

    async def scenario(first: naught.Client, second: naught.Client) -> None:
        permits = await asyncio.gather(*(first.semaphore(f"s{place}", limit=1).acquire() for place in range(count)))
        assert await second.count() == count
        await asyncio.gather(*(permit.release() for permit in permits))

    both(scenario)


def test_thousands_who_give_up_in_one_turn() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        permit = await first.semaphore("gpu", limit=1).acquire()
        tasks = [asyncio.ensure_future(first.semaphore("gpu", limit=1).acquire()) for _ in range(PARKED_MAX // 2)]
        while (await second.info())["sessions"]["parked"] < len(tasks):
            pass
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while (await second.info())["sessions"]["parked"]:
            pass
        assert not permit.lost
        await permit.release()

    both(scenario)


# ------------------------------------------------------------------------------------------------- lost permits


async def cut_off(client: naught.Client, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the connection and refuse every later one."""

    def refuse(protocol: asyncio.Protocol) -> None:
        raise ConnectionRefusedError("so")

    monkeypatch.setattr(host, "attach", refuse)
    transport = client._connection._protocol.transport  # type: ignore[union-attr]
    assert transport is not None
    transport.abort()


def lost_after(scenario: Callable[[naught.Client, Host], Awaitable[None]]) -> None:
    """Run `scenario` with one client, whose lease is short, and its server."""

    async def run() -> None:
        name = scenario.__qualname__
        client = await naught.connect(f"memory://{name}", timeout=GUARD_S, lease=0.1)
        try:
            async with asyncio.timeout(GUARD_S):
                await scenario(client, find_host(name))
        finally:
            await client.close()

    asyncio.run(run())


def test_a_permit_is_lost_a_lease_after_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: naught.Client, host: Host) -> None:
        gpu = client.semaphore("gpu", limit=2)
        permit, released = await gpu.acquire(), await gpu.acquire()
        await released.release()
        assert not permit.lost
        assert repr(permit.lost) == "<lost: False>"
        watching = [asyncio.ensure_future(permit.lost.wait()) for _ in range(2)]
        await cut_off(client, host, monkeypatch)
        await permit.lost
        await asyncio.gather(*watching)
        await permit.lost  # returns immediately
        assert permit.lost
        assert not released.lost
        assert repr(permit) == f"<naught.Permit {permit.number} lost>"
        with pytest.raises(naught.NotHeld, match="is lost"):
            await permit.release()
        with pytest.raises(naught.NotHeld, match="was released before"):
            await permit.release()
        monkeypatch.undo()
        async with gpu as again:
            assert again.number > permit.number
            assert not again.lost
            assert await client.get("gpu") == 1

    lost_after(scenario)


def test_a_block_whose_permit_is_lost_says_so_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: naught.Client, host: Host) -> None:
        async def block() -> None:
            async with client.semaphore("gpu", limit=1) as permit:
                await cut_off(client, host, monkeypatch)
                await permit.lost

        with pytest.raises(naught.NotHeld, match="is lost"):
            await block()
        monkeypatch.undo()
        assert await client.get("gpu") == 0

    lost_after(scenario)


def test_a_permit_is_not_lost_over_a_connection_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: naught.Client, host: Host) -> None:
        async with client.semaphore("gpu", limit=1) as permit:
            for _ in range(20):
                transport = client._connection._protocol.transport  # type: ignore[union-attr]
                assert transport is not None
                transport.abort()
                assert await client.get("gpu") == 1
            assert not permit.lost
        assert await client.get("gpu") == 0

    lost_after(scenario)


def test_who_waits_goes_on_waiting_in_the_next_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: naught.Client, host: Host) -> None:
        gpu = client.semaphore("gpu", limit=1)
        permit = await gpu.acquire()
        waiting = asyncio.ensure_future(gpu.acquire())
        await client.ping()
        await cut_off(client, host, monkeypatch)
        await permit.lost
        assert waits(waiting)
        monkeypatch.undo()
        await (await waiting).release()

    lost_after(scenario)


def test_a_closed_client_has_lost_its_permits_and_others_get_them() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        third = await naught.connect(f"memory://{scenario.__qualname__}")
        permit = await third.semaphore("gpu", limit=1).acquire()
        waiting = asyncio.ensure_future(first.semaphore("gpu", limit=1).acquire())
        await first.ping()
        await third.close()
        assert permit.lost
        with pytest.raises(naught.NotHeld):
            await permit.release()
        with pytest.raises(naught.ClientClosed):
            await third.semaphore("gpu", limit=1).acquire()
        await (await waiting).release()

    both(scenario)


def test_what_is_no_coroutine_function_cannot_be_decorated() -> None:
    async def scenario(first: naught.Client, second: naught.Client) -> None:
        def generator() -> Any:
            yield

        async def both_kinds() -> Any:
            yield

        for function in (generator, both_kinds):
            with pytest.raises(TypeError, match="before it has begun"):
                first.semaphore("gpu", limit=1)(function)

        def blocking() -> int:
            return 5

        with pytest.raises(TypeError, match=r"naught\.blocking has semaphores"):
            await first.semaphore("gpu", limit=1)(blocking)()  # type: ignore[type-var]
        assert await first.semaphore("gpu", limit=1)(lambda: second.get("gpu"))() == 1

    both(scenario)
