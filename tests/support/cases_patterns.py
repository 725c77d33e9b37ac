"""Cases of patterns that are misused, or whose counter other clients change: one table for both kinds of client.

A case is a coroutine function with one argument, `Clients`: a client under test, of one kind, and another client, of
the other kind. A case leaves no hold, wait or counter behind, which `run` checks. To know that a call waits, a case
asks the server for the number of parked requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import naught
from naught.wire.limits import VALUE_MAX
from support.two_clients import KINDS, connect

GUARD_S = 30.0
"""The time limit of a case. A case normally takes less than a hundredth of it."""

LEASE_S = 10 * GUARD_S
"""The lease of clients that a case closes. It is longer than any case, so holds go back because of the `bye`."""


class Clients:
    """The two clients of a case, of the same server."""

    def __init__(self, kind: str, url: str, mine: Any, theirs: Any) -> None:
        self.kind = kind
        self.url = url
        self.mine = mine  # the client under test
        self.theirs = theirs  # another client, of the other kind

    def another(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        """One more client of the kind under test."""
        return connect(self.kind, self.url, timeout=GUARD_S, **options)

    async def until_parked(self, count: int) -> None:
        """Return when `count` requests wait at the server."""
        await until(lambda: self._parked(count))

    async def _parked(self, count: int) -> bool:
        return bool((await self.theirs.info())["sessions"]["parked"] == count)


Case = Callable[[Clients], Coroutine[Any, Any, None]]

CASES: dict[str, Case] = {}

PATCHING = {"what_was_refused_at_once_can_be_given_back_later"}
"""The names of those that replace a constant of a module that may be compiled."""


def case(function: Case) -> Case:
    """Decorator: add the function to the table."""
    assert CASES.setdefault(function.__name__, function) is function
    return function


async def run(scenario: Case, kind: str, url: str) -> None:
    """Run one case. Afterwards no hold, no wait and no counter may be left."""
    (other,) = set(KINDS) - {kind}
    async with asyncio.timeout(GUARD_S):
        async with connect(kind, url, timeout=GUARD_S) as mine, connect(other, url, timeout=GUARD_S) as theirs:
            clients = Clients(kind, url, mine, theirs)
            await theirs.clear()
            await scenario(clients)
            assert [await client.held() for client in (mine, theirs)] == [{}, {}]
            assert dict(await theirs.top(10)) == {}, "a counter is left"
            await clients.until_parked(0)
            assert not mine._connection.session._holds.by_number, "the client tracks a hold that it does not have"


async def until(true: Callable[[], Awaitable[Any]]) -> None:
    """Poll until it is true, or GUARD_S have passed."""
    while not await true():  # noqa: ASYNC110 - the server does not notify of this state
        await asyncio.sleep(0.002)


async def entered(pattern: Any) -> None:
    """Enter and leave the pattern."""
    async with pattern:
        pass


# ------------------------------------------------------------------------------------------------- released twice


@case
async def a_permit_released_twice_gives_back_one(clients: Clients) -> None:
    gpu = clients.mine.semaphore("gpu", limit=3)
    permit, other = await gpu.acquire(), await gpu.acquire()
    await permit.release()
    for _ in range(2):
        with pytest.raises(naught.NotHeld, match=f"permit {permit.number} was released before"):
            await permit.release()
    assert await clients.theirs.get("gpu") == 1
    await other.release()


@case
async def of_many_who_release_a_permit_at_once_one_does(clients: Clients) -> None:
    gpu = clients.mine.semaphore("gpu", limit=3)
    for _ in range(5):
        permit, other = await gpu.acquire(), await gpu.acquire()
        ended = await asyncio.gather(*(permit.release() for _ in range(8)), return_exceptions=True)
        assert Counter(map(type, ended)) == {type(None): 1, naught.NotHeld: 7}
        assert await clients.theirs.get("gpu") == 1
        await other.release()


@case
async def a_permit_released_inside_of_its_block_is_an_error_at_the_end(clients: Clients) -> None:
    gpu = clients.mine.semaphore("gpu", limit=1)

    async def block(entering: Any, error: Exception | None = None) -> None:
        async with entering as permit:
            await permit.release()
            if error is not None:
                raise error

    for enter in (lambda: _itself(gpu), gpu.acquire, lambda: clients.mine.acquire_all({"gpu": 1, "cpu": 1})):
        with pytest.raises(naught.NotHeld, match="was released before"):
            await block(await enter())
        with pytest.raises(ZeroDivisionError):
            await block(await enter(), ZeroDivisionError())


async def _itself(found: Any) -> Any:
    return found


@case
async def a_permit_entered_twice_is_released_once(clients: Clients) -> None:
    permit = await clients.mine.semaphore("gpu", limit=1).acquire()
    async with permit:
        pass
    with pytest.raises(naught.NotHeld, match="was released before"):
        await entered(permit)


@case
async def a_permit_whose_hold_was_released_is_released(clients: Clients) -> None:
    for name in ("hold", "number"):
        async with clients.another() as counters:
            gpu = counters.semaphore("gpu", limit=2)
            permit, other = await gpu.acquire(), await gpu.acquire()
            assert await counters.release(getattr(permit, name)) == [1]
            with pytest.raises(naught.NotHeld):
                await permit.release()
            assert not permit.lost
            assert await clients.theirs.get("gpu") == 1
            await other.release()


@case
async def nobody_releases_what_is_anothers(clients: Clients) -> None:
    permit = await clients.mine.acquire_all({"a": 1, "b": 1})
    for wrong in (permit.number, permit.hold, permit.number + 1, 2**63 - 1):
        with pytest.raises(naught.NotHeld):
            await clients.theirs.release(wrong)
    assert await clients.theirs.get_many(["a", "b"]) == [1, 1]
    await permit.release()


@case
async def several_released_twice_are_given_back_once_each(clients: Clients) -> None:
    permit, other = [await clients.mine.acquire_all({"a": 2, "b": 3}) for _ in range(2)]
    await permit.release()
    with pytest.raises(naught.NotHeld, match="was released before"):
        await permit.release()
    assert await clients.theirs.get_many(["a", "b"]) == [1, 1]
    await other.release()


@case
async def a_block_left_more_often_than_entered_gives_nothing_back(clients: Clients) -> None:
    other = await clients.mine.semaphore("n", limit=2).acquire()
    for pattern in (clients.mine.semaphore("n", limit=2), clients.mine.in_flight("n")):
        await entered(pattern)
        with pytest.raises(RuntimeError, match="left more often than it was entered"):
            await pattern.__aexit__(None, None, None)
        assert await clients.theirs.get("n") == 1
    await other.release()


# ------------------------------------------------------------------------------------------------- done too often


@case
async def more_done_than_added_changes_nothing(clients: Clients) -> None:
    group, held = clients.mine.wait_group("g"), clients.mine.wait_group("g", held=True)
    await group.add(2)
    with pytest.raises(naught.CounterUnderflow):
        await group.done(3)
    with pytest.raises(naught.NotHeld, match="less than 1"):
        await held.done()
    await held.add(2)
    with pytest.raises(naught.NotHeld, match="less than 3"):
        await held.done(3)
    assert await group.value() == 4
    assert await held.done(2) == 2
    assert await group.done(2) == 0
    with pytest.raises(naught.CounterUnderflow):
        await group.done()
    with pytest.raises(naught.NotHeld):
        await held.done()


@case
async def of_many_who_are_done_at_once_as_many_are_as_were_added(clients: Clients) -> None:
    for held, refusal in ((True, naught.NotHeld), (False, naught.CounterUnderflow)):
        group = clients.mine.wait_group("g", held=held)
        assert sorted(await asyncio.gather(*(group.add() for _ in range(20)))) == list(range(1, 21))
        waiting = asyncio.ensure_future(clients.theirs.wait_group("g").wait())
        await clients.until_parked(1)
        ended = await asyncio.gather(*(group.done() for _ in range(25)), return_exceptions=True)
        assert sorted(left for left in ended if isinstance(left, int)) == list(range(20))
        assert Counter(type(each) for each in ended) == {int: 20, refusal: 5}
        assert await waiting is True


@case
async def what_was_added_piece_by_piece_may_be_done_in_other_pieces(clients: Clients) -> None:
    group = clients.mine.wait_group("g", held=True)
    for pieces, dones in (([1, 2, 3], [6]), ([6], [1, 2, 3]), ([2, 2, 2], [3, 1, 2])):
        for n in pieces:
            await group.add(n)
        left = 6
        for n in dones:
            left -= n
            assert await group.done(n) == left


@case
async def an_amount_is_a_whole_number_of_at_least_1(clients: Clients) -> None:
    quota = clients.mine.quota("q", limit=5, per=60)
    groups = [clients.mine.wait_group("g", held=held) for held in (False, True)]
    for method in (*(method for group in groups for method in (group.add, group.done)), quota.use):
        for n in (0, -1, True, 1.0, "1", None, VALUE_MAX + 1):
            with pytest.raises(naught.InvalidRequest):
                await method(n)


@case
async def nobody_is_done_with_what_another_holds(clients: Clients) -> None:
    mine, theirs = clients.mine.wait_group("g", held=True), clients.theirs.wait_group("g", held=True)
    await mine.add(2)
    with pytest.raises(naught.NotHeld):
        await theirs.done()
    await theirs.add(1)
    assert await mine.done(2) == 1
    assert await theirs.done() == 0


@case
async def what_is_still_held_is_done_though_some_was_cleared(clients: Clients) -> None:
    """One call of `done` covers two holds, of which the first was lost and the second is released."""
    group = clients.mine.wait_group("g", held=True)
    await group.add(2)
    await clients.theirs.clear()
    await group.add(1)
    await group.add(2)
    with pytest.raises(naught.NotHeld):
        await group.done(4)
    assert await group.value() == 1
    assert await group.done() == 0
    with pytest.raises(naught.NotHeld):
        await group.done()


@case
async def of_many_who_let_go_one_is_the_last(clients: Clients) -> None:
    blob = clients.mine.reference("blob")
    for _ in range(3):
        assert sorted(await asyncio.gather(*(blob.retain() for _ in range(10)))) == list(range(1, 11))
        ended = await asyncio.gather(*(blob.release() for _ in range(14)), return_exceptions=True)
        assert Counter(each if isinstance(each, bool) else type(each) for each in ended) == {
            True: 1,
            False: 9,
            naught.CounterUnderflow: 4,
        }
        assert await clients.theirs.reference("blob").value() == 0


# ------------------------------------------------------------------------------------------------- nested blocks


@case
async def who_is_inside_several_times_leaves_as_often(clients: Clients) -> None:
    gpu, busy = clients.mine.semaphore("gpu", limit=3), clients.mine.in_flight("busy")

    async def nested() -> list[int]:
        async with gpu as outer, busy, gpu as inner, busy:
            assert outer.number < inner.number
            return list(await clients.theirs.get_many(["gpu", "busy"]))

    assert await nested() == [2, 2]
    async with gpu:
        assert await asyncio.gather(nested()) == [[3, 3 - 1]], "another task, or thread, is inside at the same time"
        assert await clients.theirs.get("gpu") == 1


@case
async def blocks_that_overlap_each_give_back_their_own(clients: Clients) -> None:
    """Blocks on one object are left in another order than entered. The numbers show which permit was given back."""
    gpu = clients.mine.semaphore("gpu", limit=4)
    entered_all, turns = asyncio.Semaphore(0), [asyncio.Event() for _ in range(4)]

    async def block(place: int) -> int:
        async with gpu as permit:
            entered_all.release()
            await turns[place].wait()
            number: int = permit.number
        return number

    blocks = [asyncio.ensure_future(block(place)) for place in range(4)]
    for _ in blocks:
        await entered_all.acquire()
    left = set(await clients.mine.held())
    for place in (2, 0, 3, 1):
        turns[place].set()
        left.remove(await blocks[place])
        assert set(await clients.mine.held()) == left


# ------------------------------------------------------------------------------------------------- closed meanwhile


@case
async def who_waits_is_told_that_the_client_was_closed(clients: Clients) -> None:
    held = await clients.theirs.semaphore("gpu", limit=1).acquire()
    await clients.theirs.incr("g")
    async with clients.another(lease=LEASE_S) as doomed:
        own = await doomed.semaphore("own", limit=1).acquire()
        watching = asyncio.ensure_future(own.lost.wait())
        calls = [
            doomed.semaphore("gpu", limit=1).acquire(),
            entered(doomed.semaphore("gpu", limit=1)),
            entered(doomed.in_flight("gpu")),  # waits in the queue behind the semaphores
            doomed.acquire_all({"gpu": 1, "free": 1}),
            doomed.wait_group("g").wait(),
            doomed.wait_group("g", held=True).wait(timeout=GUARD_S),
        ]
        waiting = [asyncio.ensure_future(call) for call in calls]
        await clients.until_parked(len(calls))
        assert not own.lost
        await doomed.close()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in ended} == {naught.ClientClosed}
        await watching
        assert own.lost
        with pytest.raises(naught.NotHeld, match="is lost"):
            await own.release()
        with pytest.raises(naught.ClientClosed):
            await doomed.semaphore("own", limit=1).acquire()
    await clients.until_parked(0)
    assert await clients.theirs.get_many(["own", "free", "gpu", "g"]) == [0, 0, 1, 1]
    await held.release()
    await clients.theirs.decr("g")


@case
async def a_block_whose_client_is_closed_inside_says_so_where_it_matters(clients: Clients) -> None:
    async def block(pattern: str, error: Exception | None = None) -> None:
        async with (
            clients.another(lease=LEASE_S) as doomed,
            {
                "semaphore": doomed.semaphore("n", limit=1),
                "permit": await doomed.acquire_all({"a": 1, "b": 1}),
                "in flight": doomed.in_flight("n"),
            }[pattern],
        ):
            await doomed.close()
            if error is not None:
                raise error

    for pattern in ("semaphore", "permit"):
        with pytest.raises(naught.NotHeld, match="is lost"):
            await block(pattern)
    await block("in flight")
    for pattern in ("semaphore", "permit", "in flight"):
        with pytest.raises(ZeroDivisionError):
            await block(pattern, ZeroDivisionError())
    await until(lambda: _are(clients, ["n", "a", "b"], [0, 0, 0]))


async def _are(clients: Clients, names: list[str], values: list[int]) -> bool:
    return bool(await clients.theirs.get_many(names) == values)


@case
async def held_work_of_a_closed_client_is_done(clients: Clients) -> None:
    async with clients.another(lease=LEASE_S) as doomed:
        group = doomed.wait_group("g", held=True)
        await group.add(3)
        waiting = asyncio.ensure_future(clients.theirs.wait_group("g").wait())
        await clients.until_parked(1)
        await doomed.close()
        assert await waiting is True
        with pytest.raises(naught.ClientClosed):
            await group.done()
        with pytest.raises(naught.ClientClosed):
            await group.add()


# ------------------------------------------------------------------------------------------------- another limit


@case
async def who_says_a_higher_limit_gets_in_and_who_says_the_lower_waits_on(clients: Clients) -> None:
    low, high = clients.mine.semaphore("gpu", limit=1), clients.theirs.semaphore("gpu", limit=2)
    first, second = await low.acquire(), await high.acquire()
    assert await low.try_acquire() is None
    waiting = asyncio.ensure_future(low.acquire())
    await clients.until_parked(1)
    await first.release()
    await clients.until_parked(1)  # `second` is still granted, and `low` allows one permit
    await second.release()
    await (await waiting).release()


@case
async def a_limit_below_what_is_out_takes_nothing_away(clients: Clients) -> None:
    wide, narrow = clients.mine.semaphore("gpu", limit=3), clients.theirs.semaphore("gpu", limit=1)
    permits = [await wide.acquire() for _ in range(3)]
    waiting = asyncio.ensure_future(narrow.acquire())
    await clients.until_parked(1)
    assert not any(permit.lost for permit in permits)
    await permits.pop().release()
    assert await wide.try_acquire() is None, "there is room, but another waiter was first"
    behind = asyncio.ensure_future(wide.acquire())
    for permit in permits:
        await clients.until_parked(2)
        await permit.release()
    await (await waiting).release()
    await (await behind).release()


@case
async def one_name_with_another_limit_holds_up_all_of_several(clients: Clients) -> None:
    held = await clients.theirs.acquire_all({"a": 3, "b": 3})
    with pytest.raises(naught.CallTimeout, match="no permit of a, b within"):
        await clients.mine.acquire_all({"a": 1, "b": 3}, timeout=0.01)
    assert await clients.theirs.get_many(["a", "b"]) == [1, 1]
    more = await clients.mine.acquire_all({"a": 2, "b": 2}, timeout=0)
    waiting = asyncio.ensure_future(clients.mine.acquire_all({"a": 1, "b": 2}))
    await clients.until_parked(1)
    await held.release()
    await clients.until_parked(1)
    await more.release()
    await (await waiting).release()


# ------------------------------------------------------------------------------------------------- the counter itself


@case
async def what_is_counted_by_hand_takes_a_place_and_makes_room(clients: Clients) -> None:
    gpu = clients.mine.semaphore("gpu", limit=2)
    permit = await gpu.acquire()
    assert await clients.theirs.incr("gpu") == 2
    assert await gpu.try_acquire() is None
    for make_room in (lambda: clients.theirs.decr("gpu"), lambda: clients.theirs.set("gpu", 1)):
        waiting = asyncio.ensure_future(gpu.acquire())
        await clients.until_parked(1)
        await make_room()
        second = await waiting
        assert await clients.theirs.get("gpu") == 2
        if make_room is not None:
            await second.release()
            await clients.theirs.incr("gpu")
    await clients.theirs.set("gpu", 5)
    await permit.release()
    assert await clients.theirs.set("gpu", 0) == 4, "the release has subtracted one"


@case
async def counted_down_by_hand_more_are_let_in_and_the_last_releases_touch_nothing(clients: Clients) -> None:
    mine, theirs = clients.mine.semaphore("gpu", limit=2), clients.theirs.semaphore("gpu", limit=2)
    permits = [await mine.acquire(), await mine.acquire()]
    assert await clients.theirs.decr("gpu") == 1
    permits.append(await theirs.acquire())
    await permits[0].release()
    await permits[1].release()
    assert await clients.theirs.get("gpu") == 0
    assert await clients.theirs.incr("gpu", 7) == 7
    with pytest.raises(naught.NotHeld):
        await permits[2].release()
    assert await clients.theirs.take(["gpu"]) == [7]


EVICTIONS: list[Callable[[Any], Awaitable[Any]]] = [
    lambda client: client.clear(),
    lambda client: client.take(["n"]),
    lambda client: client.set("n", 0),
    lambda client: client.decr("n", 100),
    lambda client: client.apply(["n"], -100),
    lambda client: client.expire("n", 1),
]


@case
async def a_permit_on_a_counter_that_was_evicted_is_not_held(clients: Clients) -> None:
    for evict in EVICTIONS:
        late = await clients.mine.semaphore("n", limit=1).acquire()
        waiting = asyncio.ensure_future(clients.theirs.semaphore("n", limit=1).acquire())
        await clients.until_parked(1)
        await evict(clients.theirs)
        permit = await waiting
        assert permit.number > late.number
        with pytest.raises(naught.NotHeld):
            await late.release()
        assert not late.lost, "the session still exists"
        assert await clients.mine.get("n") == 1, "the next permit is counted"
        await permit.release()


@case
async def of_several_permits_those_are_given_back_that_are_there(clients: Clients) -> None:
    for evict in EVICTIONS[1:]:
        permit = await clients.mine.acquire_all({"n": 1, "other": 2})
        await evict(clients.theirs)
        assert await clients.theirs.wait_zero("n", timeout=GUARD_S)
        await clients.theirs.incr("n", 3)
        await permit.release()
        assert await clients.theirs.take(["n", "other"]) == [3, 0]


@case
async def a_group_whose_counter_was_evicted_is_done(clients: Clients) -> None:
    for evict in EVICTIONS:
        held, group = clients.mine.wait_group("n", held=True), clients.mine.wait_group("n")
        await held.add(2)
        await group.add(3)
        waiting = [asyncio.ensure_future(client.wait_group("n").wait()) for client in (clients.mine, clients.theirs)]
        await clients.until_parked(2)
        await evict(clients.theirs)
        assert await asyncio.gather(*waiting) == [True, True]
        await clients.theirs.incr("n", 3)
        with pytest.raises(naught.NotHeld):
            await held.done(2)
        assert await group.value() == 3, "the new counter is not changed"
        assert await group.done(3) == 0
        with pytest.raises(naught.CounterUnderflow):
            await group.done()


@case
async def what_is_in_flight_on_a_counter_that_was_evicted_ends_quietly(clients: Clients) -> None:
    for evict in EVICTIONS:
        async with clients.mine.in_flight("n"):
            await evict(clients.theirs)
            assert await clients.theirs.wait_zero("n", timeout=GUARD_S)
            await clients.theirs.incr("n", 3)
        assert await clients.mine.in_flight("n").value() == 3
        await clients.theirs.clear()


@case
async def others_count_a_held_group_up_and_down(clients: Clients) -> None:
    group = clients.mine.wait_group("g", held=True)
    assert await group.add(3) == 3
    assert await clients.theirs.incr("g", 2) == 5
    assert await group.done() == 4
    assert await clients.theirs.wait_group("g").done(3) == 1
    assert await group.done(2) == 0, "a decrement stops at zero"
    with pytest.raises(naught.NotHeld):
        await group.done()


@case
async def a_reference_that_others_have_set(clients: Clients) -> None:
    blob = clients.mine.reference("blob")
    await blob.retain()
    await blob.retain()
    await clients.theirs.set("blob", 1)
    assert await blob.release() is True
    with pytest.raises(naught.CounterUnderflow):
        await blob.release()
    await blob.retain()
    await clients.theirs.set("blob", 3)
    assert [await blob.release() for _ in range(3)] == [False, False, True]
    for evict in EVICTIONS:
        n = clients.mine.reference("n")
        await n.retain()
        await evict(clients.theirs)
        assert await clients.theirs.wait_zero("n", timeout=GUARD_S)
        with pytest.raises(naught.CounterUnderflow):
            await n.release()


@case
async def a_counter_as_large_as_can_be(clients: Clients) -> None:
    await clients.theirs.set("n", VALUE_MAX)
    for grow in (clients.mine.wait_group("n").add, clients.mine.reference("n").retain):
        with pytest.raises(naught.CounterOverflow):
            await grow()
    with pytest.raises(naught.InvalidRequest, match="would pass"):
        await clients.mine.wait_group("n", held=True).add()
    assert await clients.mine.quota("n", limit=VALUE_MAX, per=60).use() is False
    assert await clients.mine.semaphore("n", limit=VALUE_MAX).try_acquire() is None
    waiting = asyncio.ensure_future(entered(clients.mine.in_flight("n")))
    await clients.until_parked(1)
    assert await clients.theirs.set("n", 0) == VALUE_MAX
    await waiting


# ------------------------------------------------------------------------------------------------- quotas


@case
async def another_limit_of_a_quota_counts_for_who_says_it(clients: Clients) -> None:
    mine, low, high = (client.quota("q", limit, per=3600) for client, limit in _limits(clients))
    assert await mine.use(3)
    assert [await quota.remaining() for quota in (mine, low, high)] == [0, 0, 2]
    assert not await mine.use()
    assert not await low.use()
    assert await high.use(2)
    assert not await high.use()
    assert await mine.remaining() == 0, "it is never negative"
    assert 3500 < await mine.retry_after() <= 3600
    await clients.theirs.clear()


def _limits(clients: Clients) -> list[tuple[Any, int]]:
    return [(clients.mine, 3), (clients.theirs, 2), (clients.theirs, 5)]


@case
async def the_window_of_a_quota_is_that_of_its_first_use(clients: Clients) -> None:
    long, short = clients.mine.quota("q", limit=2, per=3600), clients.theirs.quota("q", limit=2, per=60)
    assert await short.use()
    assert await long.use()
    for quota in (long, short):
        assert 0 < await quota.retry_after() <= 60
    await clients.theirs.clear()
    assert await long.retry_after() == 0
    assert await long.use(2)
    assert await short.retry_after() > 3500
    await clients.theirs.clear()


@case
async def a_quota_counted_by_hand(clients: Clients) -> None:
    quota = clients.mine.quota("q", limit=2, per=3600)
    assert await quota.use(2)
    assert await clients.theirs.decr("q") == 1, "the decrement returns one use"
    assert (await quota.remaining(), await quota.retry_after()) == (1, 0)
    assert await quota.use()
    assert await clients.theirs.incr("q", 5) == 7
    assert (await quota.remaining(), await quota.use()) == (0, False)
    assert await quota.retry_after() > 3500, "incr does not change the window"
    await clients.theirs.expire("q", 1)
    assert await clients.theirs.wait_zero("q", timeout=GUARD_S)
    for evict in (lambda: clients.theirs.take(["q"]), lambda: clients.theirs.set("q", 0), clients.theirs.clear):
        assert await quota.use(2)
        assert not await quota.use()
        await evict()
        assert (await quota.remaining(), await quota.retry_after()) == (2, 0)


@case
async def a_quota_set_without_a_time_to_live_never_ends(clients: Clients) -> None:
    quota = clients.mine.quota("q", limit=2, per=60)
    for spoil in (lambda: clients.theirs.set("q", 2), lambda: clients.theirs.expire("q", None)):
        await quota.use(2)
        await spoil()
        assert not await quota.use()
        assert await quota.retry_after() == float("inf")
        await clients.theirs.decr("q")
        assert await quota.retry_after() == 0
        await clients.theirs.clear()


# ------------------------------------------------------------------------------------------------- without a session


@case
async def without_a_session_nothing_is_held_and_the_rest_is_counted(clients: Clients) -> None:
    async with clients.another(session=False) as counters:
        for call in (
            counters.semaphore("n", limit=1).acquire,
            counters.semaphore("n", limit=1).try_acquire,
            lambda: entered(counters.semaphore("n", limit=1)),
            lambda: entered(counters.in_flight("n")),
            lambda: counters.acquire_all({"n": 1, "m": 1}, timeout=0),
            counters.wait_group("n", held=True).add,
        ):
            with pytest.raises(naught.NoSession):
                await call()
        group, blob, quota = counters.wait_group("g"), counters.reference("blob"), counters.quota("q", 1, per=60)
        assert await group.add() == 1
        assert await group.wait(timeout=0.001) is False
        assert await group.done() == 0
        assert await group.wait() is True
        assert await blob.retain() == 1
        assert await blob.release() is True
        assert [await quota.use(), await quota.use()] == [True, False]
        assert await clients.theirs.clear() == 1


@case
async def no_permit_in_time_leaves_nothing(clients: Clients) -> None:
    held = await clients.theirs.acquire_all({"a": 1, "b": 1})
    for timeout in (0, 0.001, 0.01):
        for call in (
            clients.mine.semaphore("a", limit=1).acquire,
            lambda timeout: clients.mine.acquire_all({"b": 1, "c": 1}, timeout=timeout),
        ):
            with pytest.raises(naught.CallTimeout, match="no permit of"):
                await call(timeout=timeout)
    assert await clients.mine.held() == {}
    await held.release()
    assert await clients.theirs.count() == 0


# ------------------------------------------------------------------------------------------------- refused at once


@case
async def what_was_refused_at_once_can_be_given_back_later(clients: Clients) -> None:
    permit = await clients.mine.semaphore("gpu", limit=1).acquire()
    group = clients.mine.wait_group("g", held=True)
    await group.add(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("naught.core.session.QUEUED_MAX", 0)
        for give_back in (permit.release, group.done):
            with pytest.raises(naught.Busy):
                await give_back()
    assert await clients.theirs.get_many(["gpu", "g"]) == [1, 3]
    await permit.release()
    assert await group.done(3) == 0
