"""A task that uses a pattern is cancelled at each of its await points, and at each in three moments: before the call
was sent, after it was sent, and in the turn in which its reply arrives. With an engine in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple

import pytest

import naught
from naught.memory import find_host

GUARD_S = 30.0

MOMENTS = ("before it is sent", "once it is sent", "with the answer")


class Cancelled:
    """Runs a coroutine in a task, and cancels the task at await point number `place`, counted from 0."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], place: int, moment: str) -> None:
        self.reached = False  # the coroutine has reached that await point
        self._coroutine = coroutine
        self._left = place  # await points before it
        self._moment = moment
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = self._coroutine.send
        argument: Any = None
        while True:
            try:
                future = step(argument)
            except StopIteration as end:
                return end.value
            if not self._left:
                self.reached = True
                self._cancel(future)
            self._left -= 1
            try:
                argument = yield future
                step = self._coroutine.send
            except BaseException as error:
                step, argument = self._coroutine.throw, error

    def _cancel(self, future: asyncio.Future[Any]) -> None:
        if self._moment == "before it is sent":
            self.task.cancel()
        elif self._moment == "once it is sent":
            asyncio.get_running_loop().call_soon(self.task.cancel)
        else:  # this callback runs before the one that wakes the task, which is added later
            future.add_done_callback(lambda _: self.task.cancel())


class Left(NamedTuple):
    """The value of the counter `n` afterwards."""

    unsent: int = 0  # if cancelled before the call was sent
    sent: int = 0  # if cancelled later
    done: int = 0  # if not cancelled


class Use(NamedTuple):
    """A use of a pattern that the test cancels."""

    prepare: Callable[[naught.Client], Awaitable[Any]]  # runs before it; its result is the second argument of `use`
    use: Callable[[naught.Client, Any], Coroutine[Any, Any, Any]]
    left: Left = Left()
    taken: bool = False  # another client has the permit of `n`, so the use waits


async def nothing(_: naught.Client) -> None:
    """The `prepare` of uses that need none."""


async def inside(pattern: Any, client: naught.Client) -> None:
    async with pattern:
        await client.ping()


async def acquired(permit: Coroutine[Any, Any, naught.Permit | None]) -> None:
    """Acquire and release. A cancellation that comes too late for the first hits the second."""
    granted = await permit
    if granted is not None:
        await granted.release()


async def permit_of(client: naught.Client) -> naught.Permit:
    return await client.semaphore("n", limit=1).acquire()


async def group_of(client: naught.Client, *amounts: int, held: bool = True) -> naught.patterns.WaitGroup:
    group = client.wait_group("n", held=held)
    for amount in amounts:
        await group.add(amount)
    return group


async def reference_of(client: naught.Client) -> naught.patterns.Reference:
    blob = client.reference("n")
    await blob.retain()
    return blob


USES = {
    "acquire": Use(nothing, lambda client, _: acquired(permit_of(client))),
    "acquire what is taken": Use(nothing, lambda client, _: acquired(permit_of(client)), taken=True),
    "try to acquire": Use(nothing, lambda client, _: acquired(client.semaphore("n", 1).try_acquire())),
    "block": Use(nothing, lambda client, _: inside(client.semaphore("n", 1), client)),
    "block of what is taken": Use(nothing, lambda client, _: inside(client.semaphore("n", 1), client), taken=True),
    "acquire several": Use(nothing, lambda client, _: acquired(client.acquire_all({"n": 1, "m": 1}))),
    "acquire several of which one is taken": Use(
        nothing, lambda client, _: acquired(client.acquire_all({"m": 1, "n": 1})), taken=True
    ),
    "release": Use(permit_of, lambda _, permit: permit.release()),
    "release several": Use(lambda client: client.acquire_all({"m": 1, "n": 1}), lambda _, permit: permit.release()),
    "in flight": Use(nothing, lambda client, _: inside(client.in_flight("n"), client)),
    "add": Use(nothing, lambda client, _: client.wait_group("n").add(2), Left(0, 2, 2)),
    "add what is held": Use(nothing, lambda client, _: client.wait_group("n", held=True).add(2), Left(0, 0, 2)),
    "done": Use(lambda client: group_of(client, 3, held=False), lambda _, group: group.done(2), Left(3, 1, 1)),
    "done with what is held": Use(lambda client: group_of(client, 3), lambda _, group: group.done(2), Left(1, 1, 1)),
    "done with what is held in pieces": Use(
        lambda client: group_of(client, 1, 2, 3), lambda _, group: group.done(5), Left(1, 1, 1)
    ),
    "retain": Use(nothing, lambda client, _: client.reference("n").retain(), Left(0, 1, 1)),
    "let go": Use(reference_of, lambda _, blob: blob.release(), Left(1, 0, 0)),
    "use of a quota": Use(nothing, lambda client, _: client.quota("n", 5, per=60).use(2), Left(0, 2, 2)),
    "wait for a group": Use(nothing, lambda client, _: client.wait_group("n").wait(), taken=True),
}


async def cancel(use: Use, place: int, moment: str, client: naught.Client, other: naught.Client) -> bool:
    """Run `use` once, with the cancellation. Returns whether it has such an await point."""
    permit = await permit_of(other) if use.taken else None
    prepared = await use.prepare(client)
    cancelled = Cancelled(use.use(client, prepared), place, moment)
    if permit is not None:
        if place or moment == "with the answer":
            await until(lambda: _parked(other, 1))
        else:
            await asyncio.wait([cancelled.task])
            await until(lambda: _parked(other, 0))
        await permit.release()
    (ended,) = await asyncio.gather(cancelled.task, return_exceptions=True)
    assert not isinstance(ended, Exception), repr(ended)
    assert isinstance(ended, asyncio.CancelledError) is cancelled.reached
    await client.ping()
    if not cancelled.reached:
        left = use.left.done
    else:
        left = use.left.unsent if moment == "before it is sent" else use.left.sent
    await until(lambda: _is(other, left))
    assert await _parked(other, 0)
    return cancelled.reached


async def until(true: Callable[[], Awaitable[Any]]) -> None:
    while not await true():  # noqa: ASYNC110 - the client is still releasing
        await asyncio.sleep(0)


async def _parked(other: naught.Client, count: int) -> bool:
    return bool((await other.info())["sessions"]["parked"] == count)


async def _is(other: naught.Client, left: int) -> bool:
    return await other.get_many(["n", "m"]) == [left, 0]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", USES)
def test_cancelled(name: str, moment: str) -> None:
    use = USES[name]

    async def scenario(url: str) -> None:
        place = 0
        while True:
            async with naught.connect(url, timeout=GUARD_S) as client, naught.connect(url, timeout=GUARD_S) as other:
                async with asyncio.timeout(GUARD_S):
                    reached = await cancel(use, place, moment, client, other)
                    held = await client.held()
                    assert set(client._connection.session._holds.by_number) == set(held), (
                        "the client tracks a hold it has lost"
                    )
                    assert not held or name.startswith(("add", "done"))
                await other.clear()
            if not reached:
                break
            place += 1
        assert place, "the use has no await point"
        find_host(url[9:]).engine.invariants(0)

    asyncio.run(scenario(f"memory://{name.replace(' ', '-')}.{MOMENTS.index(moment)}"))
