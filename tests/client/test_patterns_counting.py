"""Wait groups, references, `in_flight` and quotas, also misused, with two clients of an engine in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import naught
from naught.patterns import InFlight, Quota, Reference, WaitGroup


def both(scenario: Callable[..., Any]) -> None:
    """Run `scenario` with two clients of one server. Afterwards no counter may be left."""

    async def run() -> None:
        url = f"memory://{scenario.__qualname__}"
        async with naught.connect(url) as first, naught.connect(url) as second:
            await asyncio.wait_for(scenario(first, second), 30)
            assert await second.count() == 0, "a counter is left"

    asyncio.run(run())


@pytest.mark.parametrize("held", [False, True])
def test_a_wait_group_wakes_who_waits_when_the_last_is_done(held: bool) -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        group = first.wait_group("import", held=held)
        assert await group.wait(timeout=0) is True, "an empty group is done"
        assert await group.add(3) == 3
        assert await group.add() == 4
        waiting = asyncio.ensure_future(second.wait_group("import").wait())
        assert await second.wait_group("import").wait(timeout=0.01) is False
        assert await group.done(2) == 2
        assert not waiting.done()
        assert [await group.done(), await group.done()] == [1, 0]
        assert await waiting is True
        assert await group.value() == 0

    both(scenario)


def test_more_done_than_added_is_an_error_and_changes_nothing() -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        group = first.wait_group("import")
        await group.add(1)
        with pytest.raises(naught.CounterUnderflow):
            await group.done(2)
        assert await group.value() == 1
        held = second.wait_group("import", held=True)
        await held.add(2)
        with pytest.raises(naught.NotHeld):
            await held.done(3)
        assert await group.value() == 3
        await held.done(2)
        await group.done()
        with pytest.raises(naught.CounterUnderflow):
            await group.done()

    both(scenario)


def test_held_work_is_done_when_its_client_is_gone() -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        third = await naught.connect(f"memory://{scenario.__qualname__}")
        await third.wait_group("import", held=True).add(5)
        waiting = asyncio.ensure_future(first.wait_group("import").wait())
        assert await second.get("import") == 5
        await third.close()
        assert await waiting is True

    both(scenario)


def test_held_work_that_was_cleared_raises_when_it_is_done() -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        group = first.wait_group("import", held=True)
        await group.add(2)
        await second.clear()
        await second.incr("import", 7)
        with pytest.raises(naught.NotHeld):
            await group.done()
        assert await second.take(["import"]) == [7]

    both(scenario)


def test_exactly_one_release_is_the_last() -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        references = [client.reference("blob") for client in (first, second)]
        for place in range(40):
            assert await references[place % 2].retain() == place + 1
        last = await asyncio.gather(*(references[place % 2].release() for place in range(40)))
        assert sum(last) == 1
        with pytest.raises(naught.CounterUnderflow):
            await references[0].release()
        assert await references[1].value() == 0

    both(scenario)


def test_what_is_in_flight_is_uncounted_however_it_ends() -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        uploads = first.in_flight("uploads")
        entered, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def upload(fails: bool) -> None:
            async with uploads, uploads:
                entered.release()
                await go_on.wait()
                if fails:
                    raise LookupError

        tasks = [asyncio.ensure_future(upload(fails)) for fails in (False, True, False)]
        for _ in tasks:
            await entered.acquire()
        assert await second.in_flight("uploads").value() == 6
        tasks[2].cancel()
        go_on.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in ended] == [type(None), LookupError, asyncio.CancelledError]
        assert await uploads.value() == 0
        async with uploads:
            await second.clear()
            await second.incr("uploads", 3)
        assert await second.take(["uploads"]) == [3], "leaving the block did not change the new counter"

    both(scenario)


def test_a_quota_grants_so_many_and_says_when_to_come_back() -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        quota = first.quota("calls:ann", 3, per=3600)
        assert (await quota.remaining(), await quota.retry_after()) == (3, 0.0)
        assert await quota.use(2) is True
        assert await quota.use(2) is False, "all or nothing"
        assert await quota.remaining() == 1
        assert await quota.retry_after() == 0.0
        assert await second.quota("calls:ann", 3, per=3600).use() is True
        assert await quota.use() is False
        assert 3500 < await quota.retry_after() <= 3600
        # Another client states another limit.
        assert await second.quota("calls:ann", 2, per=1).remaining() == 0
        assert await second.quota("calls:ann", 5, per=1).use(2) is True
        assert await quota.remaining() == 0
        await second.clear()

    both(scenario)


def test_a_window_ends_by_itself() -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        quota = first.quota("calls:ann", 1, per=0.02)
        assert await quota.use() is True
        assert await second.wait_zero("calls:ann", timeout=20)
        assert await quota.use() is True
        assert await second.wait_zero("calls:ann", timeout=20)

    both(scenario)


def test_a_semaphore_as_a_decorator() -> None:
    async def scenario(first: naught.Client[str], second: naught.Client[str]) -> None:
        inside: list[int] = []

        @first.semaphore("gpu", limit=2)
        async def render(job: int, *, scale: int = 1) -> int:
            """Render a job."""
            inside.append(await second.get("gpu"))
            return job * scale

        assert await asyncio.gather(*(render(job, scale=10) for job in range(8))) == [job * 10 for job in range(8)]
        assert len(inside) == 8
        assert set(inside) <= {1, 2}
        assert (render.__name__, render.__doc__) == ("render", "Render a job.")

    both(scenario)


@pytest.mark.parametrize(
    "make",
    [
        lambda client: client.wait_group(""),
        lambda client: client.reference("x" * 513),
        lambda client: client.in_flight(7),
        lambda client: client.quota("k", 0, 1),
        lambda client: client.quota("k", 1, 0),
        lambda client: client.quota("k", 1, True),
        lambda client: client.quota("k", 1.5, 1),
        lambda client: client.semaphore("k", 0),
    ],
)
def test_what_cannot_be_meant_is_said_at_once(make: Callable[[Any], object]) -> None:
    async def run() -> None:
        async with naught.connect("memory://") as client:
            with pytest.raises(ValueError):  # noqa: PT011 - InvalidRequest or TooLarge
                make(client)

    asyncio.run(run())


def test_they_can_be_made_without_the_client_s_methods() -> None:
    async def run() -> None:
        async with naught.connect("memory://") as client:
            await WaitGroup(client, "a").add()
            await Reference(client, "b").retain()
            async with InFlight(client, "c"):
                assert await Quota(client, "d", 1, 1).use()
                assert await client.count() == 4

    asyncio.run(run())
