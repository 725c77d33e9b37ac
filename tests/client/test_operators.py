"""What operators see of clients, and do to them, with either kind of client on an engine in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

import naught
from naught.memory import find_host
from naught.names import default_name
from support.two_clients import KINDS, connect

GUARD_S = 30.0

Scenario = Callable[..., Any]


def run(kind: str, scenario: Scenario, *options: dict[str, Any]) -> None:
    """Run `scenario` with clients of one server: one for each of these options."""
    name = f"{scenario.__qualname__} {kind}"

    async def main() -> None:
        async with AsyncExitStack() as clients, asyncio.timeout(GUARD_S):
            await scenario(
                *[
                    await clients.enter_async_context(connect(kind, f"memory://{name}", timeout=GUARD_S, **each))
                    for each in options
                ]
            )
            find_host(name).engine.invariants(0)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_is_seen_with_its_name(kind: str) -> None:
    async def scenario(first: Any, second: Any, third: Any) -> None:
        rows = await first.sessions()
        assert [row["name"] for row in rows] == ["me", default_name()], "the third one has no session"
        assert {row["address"] for row in rows} == {"memory"}
        assert [row["session"] for row in rows] == [1, 2]
        assert await third.get("k") == 0

    run(kind, scenario, {"name": "me"}, {}, {"session": False, "name": "other"})


@pytest.mark.parametrize("kind", KINDS)
def test_who_holds_what_and_waits_for_what(kind: str) -> None:
    async def scenario(first: Any, second: Any) -> None:
        held = [await first.acquire([("gpu", 2, 4), ("db", 1, 9)]), await first.acquire([("gpu", 1, 4)])]
        await second.acquire([("gpu", 1, 4)])
        waiting = asyncio.ensure_future(second.acquire([("gpu", 1, 4)], wait=None))
        while not (rows := await first.sessions())[1]["waits"]:
            pass
        assert [row["held"] for row in rows] == [[("gpu", 3), ("db", 1)], [("gpu", 1)]]
        assert [row["holds"] for row in rows] == [2, 1]
        assert rows[1]["waits"] == [("room", ["gpu"])]
        assert await second.holders("gpu") == [
            naught.Holder(1, "first", 3, "memory"),
            naught.Holder(2, "second", 1, "memory"),
        ]
        assert await second.holders("nothing") == []
        await first.release(held[1].hold)
        assert (await waiting).granted
        assert [(holder.session, holder.amount) for holder in await first.holders("gpu")] == [(1, 2), (2, 2)]

    run(kind, scenario, {"name": "first"}, {"name": "second"})


@pytest.mark.parametrize("kind", KINDS)
def test_keys_come_as_the_client_has_them(kind: str) -> None:
    async def scenario(first: Any, second: Any) -> None:
        await first.acquire([(b"\xff", 1, 1)])
        assert (await first.sessions())[0]["held"] == [("\udcff", 1)]
        assert (await second.sessions())[0]["held"] == [(b"\xff", 1)]
        assert len(await second.holders("\udcff")) == 1

    run(kind, scenario, {}, {"decode_keys": False})


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_is_ended_and_its_client_goes_on_with_another(kind: str) -> None:
    async def scenario(operator: Any, worker: Any) -> None:
        semaphore = worker.semaphore("gpu", 1)
        permit = await semaphore.acquire()
        waiting = asyncio.ensure_future(operator.semaphore("gpu", 1).acquire())
        assert await operator.end_session(2) is True
        assert await operator.end_session(2) is False
        theirs = await waiting  # who waited has the place when the client comes back
        await permit.lost.wait()
        assert permit.lost
        with pytest.raises(naught.NotHeld):
            await permit.release()
        await theirs.release()
        assert await worker.incr("again") == 1
        assert [(row["session"], row["name"]) for row in await operator.sessions()] == [(1, "op"), (3, "worker")]
        info = (await operator.info())["sessions"]
        assert (info["ended"]["operator"], info["holds_taken_back"], info["held_amounts_taken_back"]) == (1, 1, 1)

    run(kind, scenario, {"name": "op"}, {"name": "worker"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_flight_is_counted_again_where_its_session_was_ended(kind: str) -> None:
    """It is in flight all the same. A permit is not acquired again: who ends a session wants that to be known."""

    async def scenario(operator: Any, worker: Any) -> None:
        async with worker.in_flight("busy"), worker.in_flight("busy"):
            permit = await worker.semaphore("gpu", 1).acquire()
            assert await operator.end_session(2) is True
            await permit.lost.wait()
            assert await worker.get_many(["busy", "gpu"]) == [2, 0]
        assert await operator.count() == 0

    run(kind, scenario, {"name": "op"}, {"name": "worker"})


@pytest.mark.parametrize("kind", KINDS)
def test_an_operator_does_not_end_its_own_session(kind: str) -> None:
    async def scenario(operator: Any) -> None:
        with pytest.raises(naught.InvalidRequest, match="bye ends it"):
            await operator.end_session(1)
        with pytest.raises(naught.InvalidRequest, match="number"):
            await operator.end_session(0)
        assert len(await operator.sessions()) == 1

    run(kind, scenario, {})


@pytest.mark.slow
def test_more_sessions_than_a_page_has() -> None:
    async def scenario(*clients: naught.Client) -> None:
        for client in clients:
            await client.acquire([("k", 1, 999)])
        assert [row["session"] for row in await clients[0].sessions()] == list(range(1, 251))
        assert [holder.session for holder in await clients[0].holders("k")] == list(range(1, 251))

    run("asyncio", scenario, *[{}] * 250)
