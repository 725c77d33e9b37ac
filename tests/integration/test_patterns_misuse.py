"""Patterns with both kinds of client: misused, with killed processes, cut connections and restarted servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import naught
from support.paths import SUPPORT
from support.proxy import Proxy
from support.server_process import ServerProcess, server_process
from support.two_clients import KINDS, connect

pytest.register_assert_rewrite("cases_patterns")

from support.cases_patterns import CASES, GUARD_S, PATCHING, run, until  # noqa: E402 - after `register_assert_rewrite`

LEASE_S = 0.3

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as server:
        yield server


def url_of(server: ServerProcess) -> str:
    return f"naught://127.0.0.1:{server.port}"


def guarded(coroutine: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(GUARD_S):
            await coroutine

    asyncio.run(whole())


# ------------------------------------------------------------------------------------------------- the table

NAMES = [pytest.param(name, marks=pytest.mark.patches) if name in PATCHING else name for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_over_tcp(name: str, kind: str, server: ServerProcess) -> None:
    asyncio.run(run(CASES[name], kind, url_of(server)))


@pytest.mark.parametrize("name", NAMES)
def test_in_memory(name: str, kind: str) -> None:
    asyncio.run(run(CASES[name], kind, f"memory://{name}.{kind}"))


# ------------------------------------------------------------------------------------------------- killed


@contextlib.asynccontextmanager
async def holder(kind: str, url: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A process that uses every pattern (support/patterns_holder.py), and the number of one of its permits."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.patterns_holder", kind, url, str(LEASE_S)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SUPPORT.parent)},
    )
    try:
        assert process.stdout is not None
        word, number = (await process.stdout.readline()).split()
        assert word == b"holding"
        yield process, int(number)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def test_what_a_killed_process_held_comes_back_and_nothing_else(kind: str, server: ServerProcess) -> None:
    async def scenario() -> None:
        async with (
            connect(kind, url_of(server), timeout=GUARD_S) as counters,
            holder(kind, url_of(server)) as (process, number),
        ):
            names = ["s", "a", "b", "g", "f", "r", "q"]
            assert await counters.get_many(names) == [2, 1, 1, 4, 3, 2, 1]
            semaphore, group = counters.semaphore("s", limit=2), counters.wait_group("g")
            assert await semaphore.try_acquire() is None
            waiting = [
                asyncio.ensure_future(call)
                for call in (
                    semaphore.acquire(),
                    counters.acquire_all({"a": 1, "b": 1}),
                    group.wait(),
                    counters.wait_zero("f"),
                )
            ]
            await until(lambda: _parked(counters, len(waiting)))
            process.send_signal(signal.SIGKILL)
            permit, several, *zeros = await asyncio.gather(*waiting)
            assert zeros == [True, True]
            assert number < min(permit.number, several.number)
            assert await counters.get_many(names) == [1, 1, 1, 0, 0, 2, 1]
            await permit.release()
            await several.release()
            blob, quota = counters.reference("r"), counters.quota("q", limit=1, per=60)
            assert [await blob.release(), await blob.release()] == [False, True]
            assert not await quota.use()
            assert await counters.take(["q"]) == [1]
            assert await counters.count() == 0

    guarded(scenario())


async def _parked(counters: Any, count: int) -> bool:
    return bool((await counters.info())["sessions"]["parked"] == count)


# ------------------------------------------------------------------------------------------------- cut off


def test_a_lease_after_its_connection_what_was_held_is_lost(kind: str, server: ServerProcess) -> None:
    async def scenario() -> None:
        async with (
            connect("asyncio", url_of(server), timeout=GUARD_S) as others,
            Proxy(server.port) as proxy,
            connect(kind, proxy.url, timeout=GUARD_S, lease=LEASE_S) as counters,
        ):
            semaphore, group = counters.semaphore("s", limit=2), counters.wait_group("g", held=True)
            permit, several = await semaphore.acquire(), await counters.acquire_all({"a": 1, "b": 1})
            released = await semaphore.acquire()
            await released.release()
            await group.add(2)
            watching = [asyncio.ensure_future(each.lost.wait()) for each in (permit, permit, several)]
            waiting = asyncio.ensure_future(others.acquire_all({"s": 1, "a": 1, "b": 1}))
            async with counters.in_flight("f"):
                await until(lambda: _parked(others, 1))
                assert not permit.lost
                proxy.refuse()
                proxy.cut()
                await asyncio.gather(*watching)
                theirs = await waiting
                assert theirs.number > max(permit.number, several.number)
                assert (bool(permit.lost), bool(several.lost), bool(released.lost)) == (True, True, False)
                for lost in (permit, several):
                    with pytest.raises(naught.NotHeld, match="is lost"):
                        await lost.release()
                await until(lambda: _are_gone(others, ["f", "g"]))
                await proxy.listen()
            with pytest.raises(naught.NotHeld):
                await group.done(2)
            assert await group.value() == 0
            await others.incr("f")
            assert await counters.in_flight("f").value() == 1, "leaving the block did not decrement the new counter"
            await theirs.release()
            async with semaphore as again:
                assert again.number > theirs.number
                assert not again.lost
            await others.clear()

    guarded(scenario())


async def _are_gone(counters: Any, names: list[str]) -> bool:
    return not any(await counters.get_many(names))


# ------------------------------------------------------------------------------------------------- too late


def test_a_release_that_takes_too_long_says_so_unless_the_block_raises_itself(
    kind: str, server: ServerProcess
) -> None:
    async def block(pattern: Any, error: Exception | None) -> None:
        async with pattern:
            server.process.send_signal(signal.SIGSTOP)
            if error is not None:
                raise error

    async def scenario() -> None:
        async with (
            connect(kind, url_of(server), timeout=GUARD_S) as others,
            connect(kind, url_of(server), timeout=0.02) as counters,
        ):
            for error, raised in ((ZeroDivisionError(), ZeroDivisionError), (None, naught.CallTimeout)):
                for pattern in (
                    counters.semaphore("s", limit=1),
                    counters.in_flight("f"),
                    await counters.acquire_all({"a": 1, "b": 1}),
                ):
                    try:
                        with pytest.raises(raised):
                            await block(pattern, error)
                    finally:
                        server.process.send_signal(signal.SIGCONT)
                await until(lambda: _are_gone(others, ["s", "f", "a", "b"]))

    guarded(scenario())


# ------------------------------------------------------------------------------------------------- restarted


class Restarted:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self.server = ServerProcess(folder, "--port", str(port))
        self.url = url_of(self.server)

    def stand_still(self) -> None:
        self.server.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        self.server.kill()

    async def start(self) -> None:
        (self._folder / "ports.json").unlink()
        port = str(self.server.port)
        self.server = await asyncio.to_thread(ServerProcess, self._folder, "--port", port)


@pytest.fixture
def restarted(tmp_path: Path, own_port: int) -> Iterator[Restarted]:
    restarted = Restarted(tmp_path, own_port)
    try:
        yield restarted
        restarted.server.stop()
    finally:
        restarted.kill()


def test_after_a_restart_what_is_open_is_acquired_again(kind: str, restarted: Restarted) -> None:
    """Permits and what is in flight; not what was added to a group, whose waiters have been told that it is done."""

    async def scenario() -> None:
        async with (
            connect(kind, restarted.url, timeout=GUARD_S) as counters,
            connect(kind, restarted.url, timeout=GUARD_S) as others,
        ):
            semaphore, quota = counters.semaphore("s", limit=1), counters.quota("q", limit=1, per=60)
            group, held, blob = (
                counters.wait_group("g"),
                counters.wait_group("g", held=True),
                counters.reference("r"),
            )
            permit, several = await semaphore.acquire(), await counters.acquire_all({"a": 1, "b": 1})
            released = await counters.semaphore("released", limit=1).acquire()
            await released.release()
            for pattern in (group, held):
                await pattern.add(2)
            await blob.retain()
            assert await quota.use()
            waiting = asyncio.ensure_future(group.wait())
            await until(lambda: _parked(counters, 1))
            numbers = permit.number, several.number
            async with counters.semaphore("t", limit=1) as inside, counters.in_flight("f"), counters.in_flight("f"):
                restarted.kill()
                await restarted.start()
                assert await waiting is True, "the new server has no such counter"
                assert await counters.get_many(["s", "a", "b", "t", "f", "released"]) == [1, 1, 1, 1, 2, 0]
                assert (permit.number, several.number) > numbers, "numbers keep growing when the server is restarted"
                assert not any(each.lost for each in (permit, several, inside))
                assert await others.semaphore("s", limit=1).try_acquire() is None
            for each in (permit, several):
                await each.release()
            with pytest.raises(naught.NotHeld):
                await held.done(2)
            with pytest.raises(naught.NotHeld, match="less than 1"):
                await held.done()
            for forgotten in (group.done, blob.release):
                with pytest.raises(naught.CounterUnderflow):
                    await forgotten()
            assert (await quota.remaining(), await quota.use()) == (1, True), "a new window"
            await others.take(["q"])
            assert await counters.held() == {}
            assert await others.count() == 0

    guarded(scenario())


def test_after_a_restart_what_others_have_by_then_is_lost(kind: str, restarted: Restarted) -> None:
    """But what is in flight has no limit, and is counted again also where others queue for room."""

    async def scenario() -> None:
        async with (
            Proxy(restarted.server.port) as proxy,
            connect(kind, proxy.url, timeout=GUARD_S) as counters,
            connect(kind, restarted.url, timeout=GUARD_S) as others,
        ):
            async with counters.in_flight("s"):
                permit = await counters.semaphore("s", limit=2).acquire()
                proxy.refuse()
                restarted.kill()
                proxy.cut()
                await restarted.start()
                theirs = [await others.semaphore("s", limit=2).acquire() for _ in range(2)]
                queued = asyncio.ensure_future(others.semaphore("s", limit=2).acquire())
                await until(lambda: _parked(others, 1))
                await proxy.listen()
                await permit.lost.wait()
                with pytest.raises(naught.NotHeld, match="is lost"):
                    await permit.release()
                await theirs[0].release()
                await (await queued).release()
                await until(lambda: _is(others, "s", 2))
            await theirs[1].release()
            assert await others.count() == 0

    guarded(scenario())


async def _is(counters: Any, key: str, value: int) -> bool:
    return bool(await counters.get(key) == value)


# Calls to a server that is killed before it answers: the call, which uses objects prepared before, and the exception
# that it raises, None for a result.
IN_DOUBT: dict[str, tuple[Callable[[Any], Any], type[BaseException] | None]] = {
    "add": (lambda before: before["group"].add(), naught.OutcomeUnknown),
    "done": (lambda before: before["group"].done(), naught.OutcomeUnknown),
    "retain": (lambda before: before["blob"].retain(), naught.OutcomeUnknown),
    "let go": (lambda before: before["blob"].release(), naught.OutcomeUnknown),
    "use": (lambda before: before["quota"].use(), naught.OutcomeUnknown),
    "release": (lambda before: before["permit"].release(), naught.NotHeld),
    "release several": (lambda before: before["several"].release(), naught.NotHeld),
    "done with what is held": (lambda before: before["held"].done(3), naught.NotHeld),
    "read": (lambda before: before["group"].value(), None),
    "how much is left": (lambda before: before["quota"].remaining(), None),
}


def test_what_a_killed_server_was_asked_is_in_doubt_where_it_changes_anything(
    kind: str, restarted: Restarted
) -> None:
    async def scenario() -> None:
        async with connect(kind, restarted.url, timeout=GUARD_S) as counters:
            before = {
                "group": counters.wait_group("g"),
                "held": counters.wait_group("h", held=True),
                "blob": counters.reference("r"),
                "quota": counters.quota("q", limit=9, per=60),
                "permit": await counters.semaphore("s", limit=1).acquire(),
                "several": await counters.acquire_all({"a": 1, "b": 1}),
            }
            await before["group"].add(5)
            await before["blob"].retain()
            for n in (1, 2):
                await before["held"].add(n)
            restarted.stand_still()
            asked = [asyncio.ensure_future(_called(call, before)) for call, _ in IN_DOUBT.values()]
            acquiring = asyncio.ensure_future(counters.semaphore("n", limit=1).acquire())
            adding = asyncio.ensure_future(counters.wait_group("m", held=True).add(2))
            # `done` releases two holds, as the work was added in two calls: one message more.
            await until(lambda: _in_flight(counters, len(asked) + len((acquiring, adding)) + 1))
            restarted.kill()
            await restarted.start()
            results = dict(zip(IN_DOUBT, await asyncio.gather(*asked, return_exceptions=True), strict=True))
            assert {name: type(each) for name, each in results.items()} == {
                name: error or int for name, (_, error) in IN_DOUBT.items()
            }
            assert (results["read"], results["how much is left"]) == (0, 9), "reads are repeated"
            permit = await acquiring
            assert await adding == 2
            held = await counters.held()
            assert held.pop(permit.number) == {"n": 1}
            assert list(held.values()) == [{"m": 2}]
            assert await counters.top(9) == [("m", 2), ("n", 1)]
            await permit.release()

    guarded(scenario())


async def _called(call: Callable[[Any], Any], before: Any) -> Any:
    return await call(before)


async def _in_flight(counters: Any, count: int) -> bool:
    return len(counters._connection.session._windows.in_flight) == count
