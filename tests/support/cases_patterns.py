"""What becomes of the patterns when they are misused or meddled with: one table of cases for both clients.

A case is a coroutine function that is given a `Bench`: a client under test, of either kind, and somebody else's, of
the other kind. It leaves nothing behind; `run` looks. What waits is waited for at the server, by its own count.
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
"""No case waits longer for anything; none takes a hundredth of it."""

LEASE_S = 10 * GUARD_S
"""Of a client that is closed: what comes back does so because it said goodbye."""


class Bench:
    """Two clients of one server."""

    def __init__(self, kind: str, url: str, mine: Any, theirs: Any) -> None:
        self.kind = kind
        self.url = url
        self.mine = mine  # the client under test
        self.theirs = theirs  # somebody else's, of the other kind

    def client(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        """Another client under test."""
        return connect(self.kind, self.url, timeout=GUARD_S, **options)

    async def waiting(self, count: int) -> None:
        """Return once so many calls wait at the server."""
        await until(lambda: self._parked(count))

    async def _parked(self, count: int) -> bool:
        return bool((await self.theirs.info())["sessions"]["parked"] == count)


Case = Callable[[Bench], Coroutine[Any, Any, None]]

CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Enter it in the table."""
    assert CASES.setdefault(function.__name__, function) is function
    return function


async def run(scenario: Case, kind: str, url: str) -> None:
    """Run one case; nothing is held and nobody waits in the end."""
    (other,) = set(KINDS) - {kind}
    async with asyncio.timeout(GUARD_S):
        async with connect(kind, url, timeout=GUARD_S) as mine, connect(other, url, timeout=GUARD_S) as theirs:
            bench = Bench(kind, url, mine, theirs)
            await theirs.clear()
            await scenario(bench)
            assert [await client.held() for client in (mine, theirs)] == [{}, {}]
            assert dict(await theirs.top(10)) == {}, "something was left behind"
            await bench.waiting(0)
            assert not mine._connection.session._holds, "the client keeps what it does not hold"


async def until(true: Callable[[], Awaitable[Any]]) -> None:
    """Ask again and again until it is so; the guard ends what never is."""
    while not await true():  # noqa: ASYNC110 - states of a server
        await asyncio.sleep(0.002)


async def entered(pattern: Any) -> None:
    """A block that does nothing."""
    async with pattern:
        pass


# ------------------------------------------------------------------------------------------------- released twice


@case
async def a_permit_released_twice_gives_back_one(bench: Bench) -> None:
    gpu = bench.mine.semaphore("gpu", limit=3)
    permit, other = await gpu.acquire(), await gpu.acquire()
    await permit.release()
    for _ in range(2):
        with pytest.raises(naught.NotHeld, match=f"permit {permit.number} was released before"):
            await permit.release()
    assert await bench.theirs.get("gpu") == 1
    await other.release()


@case
async def of_many_who_release_a_permit_at_once_one_does(bench: Bench) -> None:
    gpu = bench.mine.semaphore("gpu", limit=3)
    for _ in range(5):
        permit, other = await gpu.acquire(), await gpu.acquire()
        ended = await asyncio.gather(*(permit.release() for _ in range(8)), return_exceptions=True)
        assert Counter(map(type, ended)) == {type(None): 1, naught.NotHeld: 7}
        assert await bench.theirs.get("gpu") == 1
        await other.release()


@case
async def a_permit_released_inside_of_its_block_is_an_error_at_the_end(bench: Bench) -> None:
    gpu = bench.mine.semaphore("gpu", limit=1)

    async def block(entering: Any, error: Exception | None = None) -> None:
        async with entering as permit:
            await permit.release()
            if error is not None:
                raise error

    for enter in (lambda: _itself(gpu), gpu.acquire, lambda: bench.mine.acquire_all({"gpu": 1, "cpu": 1})):
        with pytest.raises(naught.NotHeld, match="was released before"):
            await block(await enter())
        with pytest.raises(ZeroDivisionError):
            await block(await enter(), ZeroDivisionError())


async def _itself(found: Any) -> Any:
    return found


@case
async def a_permit_entered_twice_is_released_once(bench: Bench) -> None:
    permit = await bench.mine.semaphore("gpu", limit=1).acquire()
    async with permit:
        pass
    with pytest.raises(naught.NotHeld, match="was released before"):
        await entered(permit)


@case
async def a_permit_whose_hold_was_released_is_released(bench: Bench) -> None:
    for name in ("hold", "number"):
        async with bench.client() as counters:
            gpu = counters.semaphore("gpu", limit=2)
            permit, other = await gpu.acquire(), await gpu.acquire()
            assert await counters.release(getattr(permit, name)) == [1]
            with pytest.raises(naught.NotHeld):
                await permit.release()
            assert not permit.lost
            assert await bench.theirs.get("gpu") == 1
            await other.release()


@case
async def nobody_releases_what_is_anothers(bench: Bench) -> None:
    permit = await bench.mine.acquire_all({"a": 1, "b": 1})
    for wrong in (permit.number, permit.hold, permit.number + 1, 0):
        with pytest.raises(naught.NotHeld):
            await bench.theirs.release(wrong)
    assert await bench.theirs.get_many(["a", "b"]) == [1, 1]
    await permit.release()


@case
async def several_released_twice_are_given_back_once_each(bench: Bench) -> None:
    permit, other = [await bench.mine.acquire_all({"a": 2, "b": 3}) for _ in range(2)]
    await permit.release()
    with pytest.raises(naught.NotHeld, match="was released before"):
        await permit.release()
    assert await bench.theirs.get_many(["a", "b"]) == [1, 1]
    await other.release()


@case
async def a_block_left_more_often_than_entered_gives_nothing_back(bench: Bench) -> None:
    other = await bench.mine.semaphore("n", limit=2).acquire()
    for pattern in (bench.mine.semaphore("n", limit=2), bench.mine.in_flight("n")):
        await entered(pattern)
        with pytest.raises(RuntimeError, match="left more often than it was entered"):
            await pattern.__aexit__(None, None, None)
        assert await bench.theirs.get("n") == 1
    await other.release()


# ------------------------------------------------------------------------------------------------- done too often


@case
async def more_done_than_added_changes_nothing(bench: Bench) -> None:
    group, held = bench.mine.wait_group("g"), bench.mine.wait_group("g", held=True)
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
async def of_many_who_are_done_at_once_as_many_are_as_were_added(bench: Bench) -> None:
    for held, refusal in ((True, naught.NotHeld), (False, naught.CounterUnderflow)):
        group = bench.mine.wait_group("g", held=held)
        assert sorted(await asyncio.gather(*(group.add() for _ in range(20)))) == list(range(1, 21))
        waiting = asyncio.ensure_future(bench.theirs.wait_group("g").wait())
        await bench.waiting(1)
        ended = await asyncio.gather(*(group.done() for _ in range(25)), return_exceptions=True)
        assert sorted(left for left in ended if isinstance(left, int)) == list(range(20))
        assert Counter(type(each) for each in ended) == {int: 20, refusal: 5}
        assert await waiting is True


@case
async def what_was_added_piece_by_piece_may_be_done_in_other_pieces(bench: Bench) -> None:
    group = bench.mine.wait_group("g", held=True)
    for pieces, dones in (([1, 2, 3], [6]), ([6], [1, 2, 3]), ([2, 2, 2], [3, 1, 2])):
        for n in pieces:
            await group.add(n)
        left = 6
        for n in dones:
            left -= n
            assert await group.done(n) == left


@case
async def an_amount_is_a_whole_number_of_at_least_1(bench: Bench) -> None:
    quota = bench.mine.quota("q", limit=5, per=60)
    groups = [bench.mine.wait_group("g", held=held) for held in (False, True)]
    for method in (*(method for group in groups for method in (group.add, group.done)), quota.use):
        for n in (0, -1, True, 1.0, "1", None, VALUE_MAX + 1):
            with pytest.raises(naught.InvalidRequest):
                await method(n)


@case
async def nobody_is_done_with_what_another_holds(bench: Bench) -> None:
    mine, theirs = bench.mine.wait_group("g", held=True), bench.theirs.wait_group("g", held=True)
    await mine.add(2)
    with pytest.raises(naught.NotHeld):
        await theirs.done()
    await theirs.add(1)
    assert await mine.done(2) == 1
    assert await theirs.done() == 0


@case
async def what_is_still_held_is_done_though_some_was_cleared(bench: Bench) -> None:
    """Of what one call says is done the first part is no more, and the rest is."""
    group = bench.mine.wait_group("g", held=True)
    await group.add(2)
    await bench.theirs.clear()
    await group.add(1)
    await group.add(2)
    with pytest.raises(naught.NotHeld):
        await group.done(4)
    assert await group.value() == 1
    assert await group.done() == 0
    with pytest.raises(naught.NotHeld):
        await group.done()


@case
async def of_many_who_let_go_one_is_the_last(bench: Bench) -> None:
    blob = bench.mine.reference("blob")
    for _ in range(3):
        assert sorted(await asyncio.gather(*(blob.retain() for _ in range(10)))) == list(range(1, 11))
        ended = await asyncio.gather(*(blob.release() for _ in range(14)), return_exceptions=True)
        assert Counter(each if isinstance(each, bool) else type(each) for each in ended) == {
            True: 1,
            False: 9,
            naught.CounterUnderflow: 4,
        }
        assert await bench.theirs.reference("blob").value() == 0


# ------------------------------------------------------------------------------------------------- in one another


@case
async def who_is_inside_several_times_leaves_as_often(bench: Bench) -> None:
    gpu, busy = bench.mine.semaphore("gpu", limit=3), bench.mine.in_flight("busy")

    async def nested() -> list[int]:
        async with gpu as outer, busy, gpu as inner, busy:
            assert outer.number < inner.number
            return list(await bench.theirs.get_many(["gpu", "busy"]))

    assert await nested() == [2, 2]
    async with gpu:
        assert await asyncio.gather(nested()) == [[3, 3 - 1]], "another task, or thread, is inside too"
        assert await bench.theirs.get("gpu") == 1


@case
async def blocks_that_overlap_each_give_back_their_own(bench: Bench) -> None:
    """Many on one object, left in another order than entered; of each the number shows whose permit went back."""
    gpu = bench.mine.semaphore("gpu", limit=4)
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
    left = set(await bench.mine.held())
    for place in (2, 0, 3, 1):
        turns[place].set()
        left.remove(await blocks[place])
        assert set(await bench.mine.held()) == left


# ------------------------------------------------------------------------------------------------- closed meanwhile


@case
async def who_waits_is_told_that_the_client_was_closed(bench: Bench) -> None:
    held = await bench.theirs.semaphore("gpu", limit=1).acquire()
    await bench.theirs.incr("g")
    async with bench.client(lease=LEASE_S) as doomed:
        own = await doomed.semaphore("own", limit=1).acquire()
        told = asyncio.ensure_future(own.lost.wait())
        calls = [
            doomed.semaphore("gpu", limit=1).acquire(),
            entered(doomed.semaphore("gpu", limit=1)),
            entered(doomed.in_flight("gpu")),  # behind those
            doomed.acquire_all({"gpu": 1, "free": 1}),
            doomed.wait_group("g").wait(),
            doomed.wait_group("g", held=True).wait(timeout=GUARD_S),
        ]
        waiting = [asyncio.ensure_future(call) for call in calls]
        await bench.waiting(len(calls))
        assert not own.lost
        await doomed.close()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in ended} == {naught.ClientClosed}
        await told
        assert own.lost
        with pytest.raises(naught.NotHeld, match="is lost"):
            await own.release()
        with pytest.raises(naught.ClientClosed):
            await doomed.semaphore("own", limit=1).acquire()
    await bench.waiting(0)
    assert await bench.theirs.get_many(["own", "free", "gpu", "g"]) == [0, 0, 1, 1]
    await held.release()
    await bench.theirs.decr("g")


@case
async def a_block_whose_client_is_closed_inside_says_so_where_it_matters(bench: Bench) -> None:
    async def block(pattern: str, error: Exception | None = None) -> None:
        async with (
            bench.client(lease=LEASE_S) as doomed,
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
    await until(lambda: _are(bench, ["n", "a", "b"], [0, 0, 0]))


async def _are(bench: Bench, names: list[str], values: list[int]) -> bool:
    return bool(await bench.theirs.get_many(names) == values)


@case
async def held_work_of_a_closed_client_is_done(bench: Bench) -> None:
    async with bench.client(lease=LEASE_S) as doomed:
        group = doomed.wait_group("g", held=True)
        await group.add(3)
        waiting = asyncio.ensure_future(bench.theirs.wait_group("g").wait())
        await bench.waiting(1)
        await doomed.close()
        assert await waiting is True
        with pytest.raises(naught.ClientClosed):
            await group.done()
        with pytest.raises(naught.ClientClosed):
            await group.add()


# ------------------------------------------------------------------------------------------------- another limit


@case
async def who_says_a_higher_limit_gets_in_and_who_says_the_lower_waits_on(bench: Bench) -> None:
    low, high = bench.mine.semaphore("gpu", limit=1), bench.theirs.semaphore("gpu", limit=2)
    first, second = await low.acquire(), await high.acquire()
    assert await low.try_acquire() is None
    waiting = asyncio.ensure_future(low.acquire())
    await bench.waiting(1)
    await first.release()
    await bench.waiting(1)  # one is still out, which is all that `low` allows
    await second.release()
    await (await waiting).release()


@case
async def a_limit_below_what_is_out_takes_nothing_away(bench: Bench) -> None:
    wide, narrow = bench.mine.semaphore("gpu", limit=3), bench.theirs.semaphore("gpu", limit=1)
    permits = [await wide.acquire() for _ in range(3)]
    waiting = asyncio.ensure_future(narrow.acquire())
    await bench.waiting(1)
    assert not any(permit.lost for permit in permits)
    await permits.pop().release()
    assert await wide.try_acquire() is None, "there is room for it, and somebody came before"
    behind = asyncio.ensure_future(wide.acquire())
    for permit in permits:
        await bench.waiting(2)
        await permit.release()
    await (await waiting).release()
    await (await behind).release()


@case
async def one_name_with_another_limit_holds_up_all_of_several(bench: Bench) -> None:
    held = await bench.theirs.acquire_all({"a": 3, "b": 3})
    with pytest.raises(naught.CallTimeout, match="no permit of a, b within"):
        await bench.mine.acquire_all({"a": 1, "b": 3}, timeout=0.01)
    assert await bench.theirs.get_many(["a", "b"]) == [1, 1]
    more = await bench.mine.acquire_all({"a": 2, "b": 2}, timeout=0)
    waiting = asyncio.ensure_future(bench.mine.acquire_all({"a": 1, "b": 2}))
    await bench.waiting(1)
    await held.release()
    await bench.waiting(1)
    await more.release()
    await (await waiting).release()


# ------------------------------------------------------------------------------------------------- the counter itself


@case
async def what_is_counted_by_hand_takes_a_place_and_makes_room(bench: Bench) -> None:
    gpu = bench.mine.semaphore("gpu", limit=2)
    permit = await gpu.acquire()
    assert await bench.theirs.incr("gpu") == 2
    assert await gpu.try_acquire() is None
    for make_room in (lambda: bench.theirs.decr("gpu"), lambda: bench.theirs.set("gpu", 1)):
        waiting = asyncio.ensure_future(gpu.acquire())
        await bench.waiting(1)
        await make_room()
        second = await waiting
        assert await bench.theirs.get("gpu") == 2
        if make_room is not None:
            await second.release()
            await bench.theirs.incr("gpu")
    await bench.theirs.set("gpu", 5)
    await permit.release()
    assert await bench.theirs.set("gpu", 0) == 4, "it gave back its one, whatever the number is"


@case
async def counted_down_by_hand_more_are_let_in_and_the_last_releases_touch_nothing(bench: Bench) -> None:
    mine, theirs = bench.mine.semaphore("gpu", limit=2), bench.theirs.semaphore("gpu", limit=2)
    permits = [await mine.acquire(), await mine.acquire()]
    assert await bench.theirs.decr("gpu") == 1
    permits.append(await theirs.acquire())
    await permits[0].release()
    await permits[1].release()
    assert await bench.theirs.get("gpu") == 0
    assert await bench.theirs.incr("gpu", 7) == 7
    with pytest.raises(naught.NotHeld):
        await permits[2].release()
    assert await bench.theirs.take(["gpu"]) == [7]


EVICTIONS: list[Callable[[Any], Awaitable[Any]]] = [
    lambda client: client.clear(),
    lambda client: client.take(["n"]),
    lambda client: client.set("n", 0),
    lambda client: client.decr("n", 100),
    lambda client: client.apply(["n"], -100),
    lambda client: client.expire("n", 1),
]


@case
async def a_permit_on_a_counter_that_was_evicted_is_not_held(bench: Bench) -> None:
    for evict in EVICTIONS:
        late = await bench.mine.semaphore("n", limit=1).acquire()
        waiting = asyncio.ensure_future(bench.theirs.semaphore("n", limit=1).acquire())
        await bench.waiting(1)
        await evict(bench.theirs)
        permit = await waiting
        assert permit.number > late.number
        with pytest.raises(naught.NotHeld):
            await late.release()
        assert not late.lost, "its session goes on"
        assert await bench.mine.get("n") == 1, "the next one has its own"
        await permit.release()


@case
async def of_several_permits_those_are_given_back_that_are_there(bench: Bench) -> None:
    for evict in EVICTIONS[1:]:
        permit = await bench.mine.acquire_all({"n": 1, "other": 2})
        await evict(bench.theirs)
        assert await bench.theirs.wait_zero("n", timeout=GUARD_S)
        await bench.theirs.incr("n", 3)
        await permit.release()
        assert await bench.theirs.take(["n", "other"]) == [3, 0]


@case
async def a_group_whose_counter_was_evicted_is_done(bench: Bench) -> None:
    for evict in EVICTIONS:
        held, group = bench.mine.wait_group("n", held=True), bench.mine.wait_group("n")
        await held.add(2)
        await group.add(3)
        waiting = [asyncio.ensure_future(client.wait_group("n").wait()) for client in (bench.mine, bench.theirs)]
        await bench.waiting(2)
        await evict(bench.theirs)
        assert await asyncio.gather(*waiting) == [True, True]
        await bench.theirs.incr("n", 3)
        with pytest.raises(naught.NotHeld):
            await held.done(2)
        assert await group.value() == 3, "the next life of it is not touched"
        assert await group.done(3) == 0
        with pytest.raises(naught.CounterUnderflow):
            await group.done()


@case
async def what_is_in_flight_on_a_counter_that_was_evicted_ends_quietly(bench: Bench) -> None:
    for evict in EVICTIONS:
        async with bench.mine.in_flight("n"):
            await evict(bench.theirs)
            assert await bench.theirs.wait_zero("n", timeout=GUARD_S)
            await bench.theirs.incr("n", 3)
        assert await bench.mine.in_flight("n").value() == 3
        await bench.theirs.clear()


@case
async def others_count_a_held_group_up_and_down(bench: Bench) -> None:
    group = bench.mine.wait_group("g", held=True)
    assert await group.add(3) == 3
    assert await bench.theirs.incr("g", 2) == 5
    assert await group.done() == 4
    assert await bench.theirs.wait_group("g").done(3) == 1
    assert await group.done(2) == 0, "it stops at zero"
    with pytest.raises(naught.NotHeld):
        await group.done()


@case
async def a_reference_that_others_have_set(bench: Bench) -> None:
    blob = bench.mine.reference("blob")
    await blob.retain()
    await blob.retain()
    await bench.theirs.set("blob", 1)
    assert await blob.release() is True
    with pytest.raises(naught.CounterUnderflow):
        await blob.release()
    await blob.retain()
    await bench.theirs.set("blob", 3)
    assert [await blob.release() for _ in range(3)] == [False, False, True]
    for evict in EVICTIONS:
        n = bench.mine.reference("n")
        await n.retain()
        await evict(bench.theirs)
        assert await bench.theirs.wait_zero("n", timeout=GUARD_S)
        with pytest.raises(naught.CounterUnderflow):
            await n.release()


@case
async def a_counter_as_large_as_can_be(bench: Bench) -> None:
    await bench.theirs.set("n", VALUE_MAX)
    for grow in (bench.mine.wait_group("n").add, bench.mine.reference("n").retain):
        with pytest.raises(naught.CounterOverflow):
            await grow()
    with pytest.raises(naught.InvalidRequest, match="would pass"):
        await bench.mine.wait_group("n", held=True).add()
    assert await bench.mine.quota("n", limit=VALUE_MAX, per=60).use() is False
    assert await bench.mine.semaphore("n", limit=VALUE_MAX).try_acquire() is None
    waiting = asyncio.ensure_future(entered(bench.mine.in_flight("n")))
    await bench.waiting(1)
    assert await bench.theirs.set("n", 0) == VALUE_MAX
    await waiting


# ------------------------------------------------------------------------------------------------- quotas


@case
async def another_limit_of_a_quota_counts_for_who_says_it(bench: Bench) -> None:
    mine, low, high = (client.quota("q", limit, per=3600) for client, limit in _limits(bench))
    assert await mine.use(3)
    assert [await quota.remaining() for quota in (mine, low, high)] == [0, 0, 2]
    assert not await mine.use()
    assert not await low.use()
    assert await high.use(2)
    assert not await high.use()
    assert await mine.remaining() == 0, "never less than nothing"
    assert 3500 < await mine.retry_after() <= 3600
    await bench.theirs.clear()


def _limits(bench: Bench) -> list[tuple[Any, int]]:
    return [(bench.mine, 3), (bench.theirs, 2), (bench.theirs, 5)]


@case
async def the_window_of_a_quota_is_that_of_its_first_use(bench: Bench) -> None:
    long, short = bench.mine.quota("q", limit=2, per=3600), bench.theirs.quota("q", limit=2, per=60)
    assert await short.use()
    assert await long.use()
    for quota in (long, short):
        assert 0 < await quota.retry_after() <= 60
    await bench.theirs.clear()
    assert await long.retry_after() == 0
    assert await long.use(2)
    assert await short.retry_after() > 3500
    await bench.theirs.clear()


@case
async def a_quota_counted_by_hand(bench: Bench) -> None:
    quota = bench.mine.quota("q", limit=2, per=3600)
    assert await quota.use(2)
    assert await bench.theirs.decr("q") == 1, "one is given back"
    assert (await quota.remaining(), await quota.retry_after()) == (1, 0)
    assert await quota.use()
    assert await bench.theirs.incr("q", 5) == 7
    assert (await quota.remaining(), await quota.use()) == (0, False)
    assert await quota.retry_after() > 3500, "counting leaves the window as it is"
    await bench.theirs.expire("q", 1)
    assert await bench.theirs.wait_zero("q", timeout=GUARD_S)
    for evict in (lambda: bench.theirs.take(["q"]), lambda: bench.theirs.set("q", 0), bench.theirs.clear):
        assert await quota.use(2)
        assert not await quota.use()
        await evict()
        assert (await quota.remaining(), await quota.retry_after()) == (2, 0)


@case
async def a_quota_set_without_a_time_to_live_never_ends(bench: Bench) -> None:
    quota = bench.mine.quota("q", limit=2, per=60)
    for spoil in (lambda: bench.theirs.set("q", 2), lambda: bench.theirs.expire("q", None)):
        await quota.use(2)
        await spoil()
        assert not await quota.use()
        assert await quota.retry_after() == float("inf")
        await bench.theirs.decr("q")
        assert await quota.retry_after() == 0
        await bench.theirs.clear()


# ------------------------------------------------------------------------------------------------- without


@case
async def without_a_session_nothing_is_held_and_the_rest_is_counted(bench: Bench) -> None:
    async with bench.client(session=False) as counters:
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
        assert await bench.theirs.clear() == 1


@case
async def no_permit_in_time_leaves_nothing(bench: Bench) -> None:
    held = await bench.theirs.acquire_all({"a": 1, "b": 1})
    for timeout in (0, -1, 0.001, 0.01):
        for call in (
            bench.mine.semaphore("a", limit=1).acquire,
            lambda timeout: bench.mine.acquire_all({"b": 1, "c": 1}, timeout=timeout),
        ):
            with pytest.raises(naught.CallTimeout, match="no permit of"):
                await call(timeout=timeout)
    assert await bench.mine.held() == {}
    await held.release()
    assert await bench.theirs.count() == 0


# ------------------------------------------------------------------------------------------------- refused at once


@case
async def what_was_refused_at_once_can_be_given_back_later(bench: Bench) -> None:
    permit = await bench.mine.semaphore("gpu", limit=1).acquire()
    group = bench.mine.wait_group("g", held=True)
    await group.add(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("naught.core.session.QUEUED_MAX", 0)
        for give_back in (permit.release, group.done):
            with pytest.raises(naught.Busy):
                await give_back()
    assert await bench.theirs.get_many(["gpu", "g"]) == [1, 3]
    await permit.release()
    assert await group.done(3) == 0
