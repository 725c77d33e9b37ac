"""Sessions, holds and semaphores over real sockets and real processes, on both loops: connections cut at random,
clients killed, stopped and forked, servers restarted, callers cancelled at any point.

NAUGHT_TEST_STOPPED_S says for how many seconds a client is stopped in the slow test of it. `make soak` sets 20, which
is longer than keepalive needs to find a dead peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import naught
from naught.wire.limits import PARKED_MAX
from support.paths import SUPPORT
from support.proxy import Proxy
from support.seeds import exhaustive, slow, told
from support.server_process import ServerProcess, server_process

LEASE_S = 0.3
STOPPED_S = float(told("NAUGHT_TEST_STOPPED_S") or 2)
GUARD_S = 30.0 + STOPPED_S
"""The longest time any test waits; none takes a tenth of the 30 s."""

HOLDER = SUPPORT / "holder.py"
LOOPS = {"asyncio": None, "uvloop": uvloop.new_event_loop}

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", *slow("uvloop")])
def loop_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def run(loop_name: str) -> Iterator[Run]:
    async def guarded(coroutine: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(GUARD_S):
            await coroutine

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        yield lambda coroutine: runner.run(guarded(coroutine))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


def url_of(server: ServerProcess) -> str:
    return f"naught://127.0.0.1:{server.port}"


async def until(true: Callable[[], Awaitable[Any]]) -> None:
    """Wait until `true` returns a true value; the test's time limit ends the wait otherwise."""
    while not await true():  # noqa: ASYNC110 - states of another process
        await asyncio.sleep(0.005)


async def clean(client: naught.Client) -> None:
    """Remove what earlier tests left: all counters, and all sessions but this one."""
    await client.clear()

    async def alone() -> bool:
        return len(await client.sessions()) == 1

    await until(alone)


# ------------------------------------------------------------------------------------------------- cut connections


@pytest.mark.parametrize("seed", [1, *slow(2)])
def test_counts_are_what_the_callers_were_told_over_cut_connections(
    run: Run, server: ServerProcess, seed: int
) -> None:
    told: Counter[str] = Counter()

    async def work(client: naught.Client, number: int) -> None:
        draw = random.Random(seed * 1_000 + number)
        own = f"own:{number}"
        here = 0
        for _ in range(30):
            by = draw.randint(1, 9)
            choice = draw.random()
            if choice < 0.5:
                here += by
                assert await client.incr(own, by) == here
            elif choice < 0.7:
                shared = f"shared:{draw.randint(0, 3)}"
                assert await client.incr(shared, by) >= by
                told[shared] += by
            elif choice < 0.8 and here > by:
                here -= by
                assert (await client.apply([own, "flap", "flap"], [-by, 1, -1]))[0] == here
            elif choice < 0.9:
                assert await client.get(own) == here
            else:
                async with client.semaphore("permits", limit=3) as permit:
                    assert await client.incr(own) == here + 1
                    assert not permit.lost
                here += 1
        told[own] = here

    async def scenario() -> None:
        async with naught.connect(url_of(server)) as direct:
            await clean(direct)
            async with (
                Proxy(server.port, seed, bytes_max=3_000) as proxy,
                naught.connect(proxy.url, timeout=None, random=random.Random(seed)) as client,
            ):
                client._connection._backoff.BOUND_MAX = 0.005  # type: ignore[misc]
                await asyncio.gather(*(work(client, number) for number in range(50)))
                assert proxy.cuts > 10, f"seed {seed}"
                assert await direct.get("permits") == 0
                assert await client.held() == {}
                assert {key: value async for key, value in direct.scan_iter()} == +told, f"seed {seed}"
                (_, through) = await direct.sessions()
                assert through["age_ms"] > 0, "the session must be the first one"
                proxy.calm()

    run(scenario())


def test_a_half_open_connection_is_taken_over(run: Run, server: ServerProcess) -> None:
    """The server does not know that the client's side is gone; a resumption gets the session at once."""

    async def scenario() -> None:
        async with naught.connect(url_of(server)) as direct:
            await clean(direct)
            async with Proxy(server.port) as proxy, naught.connect(proxy.url, timeout=GUARD_S) as client:
                permit = await client.semaphore("s", limit=1).acquire()
                waiting = asyncio.ensure_future(client.semaphore("s", limit=1).acquire())
                await client.incr("a")
                for turn in range(1, 4):
                    proxy.cut_the_clients_side()
                    assert await client.incr("a") == turn + 1
                    assert len(await direct.sessions()) == 2
                    await until(lambda turn=turn: _is(proxy.closed_by_server, turn))  # type: ignore[misc]
                assert not permit.lost
                await permit.release()
                await (await waiting).release()

    run(scenario())


async def _is(found: object, expected: object) -> bool:
    return found == expected


# ------------------------------------------------------------------------------------------------- killed and stopped


class Holder:
    """A client in a separate process; see support/holder.py."""

    def __init__(self, process: asyncio.subprocess.Process, child_pipe: int) -> None:
        self.process = process
        self._child_pipe = child_pipe  # the write end; its child runs until this is closed
        self.child: int | None = None  # the process id of its child
        self._said: list[list[str]] = []  # lines that were read and not asked for yet

    async def said(self, word: str) -> list[str]:
        """Wait until it or its child writes a line that begins with this word. Returns the rest of the line."""
        assert self.process.stdout is not None
        while True:
            for words in self._said:
                if words[0] == word:
                    self._said.remove(words)
                    return words[1:]
            words = (await self.process.stdout.readline()).decode().split()
            assert words, "it ended"
            self._said.append(words)

    def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    def child_lives(self) -> bool:
        assert self.child is not None
        state = Path(f"/proc/{self.child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state not in "ZX"

    def end_child(self) -> None:
        if self._child_pipe >= 0:
            os.close(self._child_pipe)
            self._child_pipe = -1


@contextlib.asynccontextmanager
async def holder(
    server: ServerProcess, loop_name: str, permits: int, how: str = "hold", lease: float = LEASE_S
) -> AsyncIterator[Holder]:
    read_end, write_end = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HOLDER),
        url_of(server),
        loop_name,
        str(lease),
        str(permits),
        how,
        str(read_end),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(read_end,),
    )
    os.close(read_end)
    held = Holder(process, write_end)
    try:
        yield held
    finally:
        held.end_child()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.communicate()


@pytest.mark.parametrize("how", [*slow("hold"), "fork", *slow("fork-connecting")])
def test_what_a_killed_client_held_comes_back_and_the_next_waiter_runs(
    run: Run, server: ServerProcess, loop_name: str, how: str
) -> None:
    """Also when a child it has forked still runs, with a copy of all its descriptors."""

    async def scenario() -> None:
        async with naught.connect(url_of(server), timeout=GUARD_S) as client, holder(server, loop_name, 3, how) as it:
            await clean_of(client, 2)
            if how != "hold":
                child, *what = await it.said("child")
                it.child = int(child)
                assert what == ["ClientClosed,NotHeld" if how == "fork" else "connecting"]
            numbers = await it.said("holding")
            assert len(numbers) == 3
            it.do("count")
            assert await it.said("counted") == ["1"], "the parent is not affected"
            semaphore = client.semaphore("s", limit=3)
            assert await semaphore.try_acquire() is None
            waiting = asyncio.ensure_future(semaphore.acquire())
            it.process.kill()
            permit = await waiting
            assert permit.number > max(map(int, numbers))
            assert await client.get("child") == 0

            async def alone() -> bool:
                return (await client.info())["connections"] == 1 and await client.get("s") == 1

            await until(alone)
            if it.child is not None:
                assert it.child_lives()
            await permit.release()

    run(scenario())


async def clean_of(client: naught.Client, sessions: int) -> None:
    """As `clean`, and wait until there are this many sessions: none of earlier tests."""

    async def so_many() -> bool:
        return len(await client.sessions()) <= sessions

    await until(so_many)
    for name in ("counted", "turn", "child"):
        await client.set(name, 0)


@pytest.mark.parametrize("stopped_s", [0.6, pytest.param(STOPPED_S, id="long", marks=pytest.mark.slow)])
def test_a_stopped_client_keeps_what_it_holds(
    run: Run, server: ServerProcess, loop_name: str, stopped_s: float
) -> None:
    """Its kernel answers keepalive probes. The stop is five times its lease; it may be longer than keepalive
    needs."""

    async def scenario() -> None:
        async with (
            naught.connect(url_of(server), timeout=GUARD_S) as client,
            holder(server, loop_name, 2, lease=stopped_s / 5) as it,
        ):
            await clean_of(client, 2)
            await it.said("holding")
            semaphore = client.semaphore("s", limit=2)
            it.process.send_signal(signal.SIGSTOP)
            try:
                # The test is that no permit is granted for this time, so there is no event to wait for.
                with pytest.raises(naught.CallTimeout):
                    await semaphore.acquire(timeout=stopped_s)
                assert await client.get("s") == 2
                waiting = asyncio.ensure_future(semaphore.acquire())
            finally:
                it.process.send_signal(signal.SIGCONT)
            it.do("count")
            assert await it.said("counted") == ["1"]
            it.do("release")
            for _ in range(2):
                assert await it.said("released") == []
            await (await waiting).release()
            await client.clear()

    run(scenario())


# ------------------------------------------------------------------------------------------------- a restarted server


def test_a_server_that_starts_anew_has_lost_what_was_held_and_its_users_go_on(
    run: Run, tmp_path: Path, loop_name: str, own_port: int
) -> None:
    first = ServerProcess(tmp_path, "--port", str(own_port))
    servers = [first]

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with naught.connect(url_of(first), timeout=GUARD_S) as client:
            semaphore = client.semaphore("s", limit=1)
            permit = (await client.acquire([("s", 1, 1)])).hold
            assert permit is not None
            lost = asyncio.Event()
            permit.when_lost(lost.set)
            await client.incr("a")
            waiting = asyncio.ensure_future(semaphore.acquire())
            first.process.send_signal(signal.SIGSTOP)
            change, read, release = client.incr("a"), client.get("a"), client.release(permit.number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            first.kill()
            await until(lambda: _is(client._connection._protocol, None))
            later = client.incr("b")
            servers.append(
                await loop.run_in_executor(None, lambda: ServerProcess(tmp_path, "--port", str(first.port)))
            )
            with pytest.raises(naught.OutcomeUnknown):
                await change
            with pytest.raises(naught.NotHeld):
                await release
            assert await read == 0
            assert await later == 1
            await lost.wait()
            assert permit.lost
            with pytest.raises(naught.NotHeld):
                await client.release(permit)
            after = await waiting
            assert after.number > permit.number, "numbers grow over restarts"
            assert await semaphore.try_acquire() is None
            await after.release()
            async with semaphore:
                assert await client.get("s") == 1
            assert await client.get("s") == 0

    try:
        (tmp_path / "ports.json").unlink()
        run(scenario())
        servers[-1].stop()
    finally:
        for server in servers:
            server.kill()


# ------------------------------------------------------------------------------------------------- another generation

EVICTIONS: dict[str, Callable[[naught.Client], Awaitable[Any]]] = {
    "cleared": lambda client: client.clear(),
    "taken": lambda client: client.take(["s"]),
    "decremented": lambda client: client.decr("s", 5),
    "decremented strictly": lambda client: client.decr("s", 1, strict=True),
    "decremented in a batch": lambda client: client.apply(["s"], -1),
    "set to 0": lambda client: client.set("s", 0),
}


@pytest.mark.parametrize("same", [True, False], ids=["in the same session", "in another session"])
@pytest.mark.parametrize("evict", EVICTIONS.values(), ids=EVICTIONS.keys())
def test_a_late_release_does_not_reach_the_next_life(
    run: Run, server: ServerProcess, evict: Callable[[naught.Client], Awaitable[Any]], same: bool
) -> None:
    async def scenario() -> None:
        async with (
            naught.connect(url_of(server), timeout=GUARD_S) as mine,
            naught.connect(url_of(server), timeout=GUARD_S) as theirs,
        ):
            other = mine if same else theirs
            late = await mine.semaphore("s", limit=1).acquire()
            waiting = asyncio.ensure_future(other.semaphore("s", limit=1).acquire())
            await other.ping()
            await evict(theirs)
            permit = await waiting
            assert permit.number > late.number
            with pytest.raises(naught.NotHeld):
                await late.release()
            assert await mine.get("s") == 1
            assert await other.held() == {permit.number: {"s": 1}}
            await permit.release()
            assert await mine.get("s") == 0

    run(scenario())


def test_a_late_release_after_expiry_does_not_reach_the_next_life(run: Run, server: ServerProcess) -> None:
    async def scenario() -> None:
        async with naught.connect(url_of(server), timeout=GUARD_S) as client:
            late = await client.semaphore("s", limit=1).acquire()
            assert await client.expire("s", 1)
            permit = await client.semaphore("s", limit=1).acquire()
            with pytest.raises(naught.NotHeld):
                await late.release()
            assert await client.get("s") == 1
            await permit.release()

    run(scenario())


# ------------------------------------------------------------------------------------------------- full of waiters


@pytest.mark.slow
def test_a_session_full_of_waiters_can_release_and_give_up(run: Run, server: ServerProcess) -> None:
    """As many requests wait as may, and some more in the client; then all but one are cancelled in one turn."""

    async def scenario() -> None:
        async with (
            naught.connect(url_of(server), timeout=GUARD_S) as client,
            naught.connect(url_of(server), timeout=GUARD_S) as direct,
        ):
            semaphore = client.semaphore("s", limit=1)
            permit, other = await semaphore.acquire(), await client.semaphore("other", limit=1).acquire()
            waiting = [asyncio.ensure_future(semaphore.acquire()) for _ in range(PARKED_MAX + 100)]

            async def all_wait() -> bool:
                return (await direct.info())["sessions"]["parked"] == PARKED_MAX

            await until(all_wait)
            assert await client.incr("a") == 1, "they do not delay other requests"
            await permit.release()
            for place in range(200):
                permit = await waiting[place]
                await permit.release()
            for task in waiting[201:]:
                task.cancel()
            await (await waiting[200]).release()
            ended = await asyncio.gather(*waiting[201:], return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended)

            async def none_waits() -> bool:
                return (await direct.info())["sessions"]["parked"] == 0 and await direct.get("s") == 0

            await until(none_waits)
            assert not other.lost, "the session has not ended"
            assert await client.held() == {other.number: {"other": 1}}
            await other.release()
            await client.clear()

    run(scenario())


# ------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("count", [1_200, *exhaustive(4_000)])
@pytest.mark.parametrize("cuts", [False, True], ids=["", "over cut connections"])
def test_cancelling_at_every_await_point_leaks_no_permit_and_mixes_no_answers(
    run: Run, server: ServerProcess, cuts: bool, count: int
) -> None:
    """Every call has its own key and amount. Tasks are cancelled at any point: before the write, in the queue, at the
    server, in the turn of the grant, in the release."""
    seed = 7
    draw = random.Random(seed)
    answered: dict[str, int] = {}
    ends: Counter[str] = Counter()

    async def call(client: naught.Client, number: int) -> None:
        name = f"c{number}"
        limit = 1 + number % 3
        kind = number % 4
        try:
            if kind == 0:
                async with client.semaphore(f"s{limit}", limit):
                    assert await client.incr(name, number) == number
            elif kind == 1:
                async with await client.acquire_all({"s1": 1, "s2": 2}):
                    assert await client.incr(name, number) == number
            elif kind == 2:
                permit = await client.semaphore("s3", 3).acquire(timeout=draw.choice([0.001, GUARD_S]))
                await permit.release()
                assert await client.incr(name, number) == number
            else:
                assert (await client.apply([name], number))[0] == number
                await client.wait_zero("s1", timeout=0.01)
            answered[name] = number
            ends["answered"] += 1
        except naught.CallTimeout:
            ends["no permit in time"] += 1
        except asyncio.CancelledError:
            ends["cancelled"] += 1
            raise

    async def scenario() -> None:
        async with (
            naught.connect(url_of(server), timeout=GUARD_S) as direct,
            Proxy(server.port, seed, bytes_max=20_000 if cuts else 0) as proxy,
            naught.connect(proxy.url, timeout=GUARD_S, random=random.Random(seed)) as client,
        ):
            client._connection._backoff.BOUND_MAX = 0.005  # type: ignore[misc]
            await direct.clear()
            tasks: list[asyncio.Task[None]] = []
            for number in range(1, count + 1):
                tasks.append(asyncio.ensure_future(call(client, number)))
                if draw.random() < 0.6:
                    draw.choice(tasks[-30:]).cancel()
                if draw.random() < 0.3:
                    await asyncio.sleep(0)
                if draw.random() < 0.03:
                    await client.ping()
            await asyncio.gather(*tasks, return_exceptions=True)
            failed = [task.exception() for task in tasks if not task.cancelled() and task.exception() is not None]
            assert not failed, f"seed {seed}"
            assert min(ends["answered"], ends["cancelled"]) > count // 5, ends

            async def given_back() -> bool:
                return await direct.get_many(["s1", "s2", "s3"]) == [0, 0, 0] and await client.held() == {}

            await until(given_back)
            assert not any(each["parked"] for each in await direct.sessions()), (
                "a request waits for a caller that has given up"
            )
            stored = {name: value async for name, value in direct.scan_iter(prefix="c")}
            assert all(stored[name] == number for name, number in answered.items()), f"seed {seed}"
            assert all(value == int(name[1:]) for name, value in stored.items()), f"seed {seed}"
            assert not client._connection.session._windows.in_flight
            assert not client._connection.session._holds.by_number
            if cuts:
                assert proxy.cuts > count // 1_000
            await direct.clear()

    run(scenario())
