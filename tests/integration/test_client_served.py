"""The asyncio client against the server: a server process over TCP and a Unix socket, and an engine in memory.

Every method is called with each of them. Thousands of calls are cancelled at random await points. A server is stopped
and killed under load.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import naught
from naught.memory import find_host
from support.seeds import slow

GUARD_S = 30.0


class Server:
    """A server process."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._ports_file = folder / "ports.json"
        self._ports_file.unlink(missing_ok=True)
        config = folder / "naught.toml"
        config.write_text("[caches.orders]\nmax_counters = 2\n")
        self.socket = folder / "naught.sock"
        command = [sys.executable, "-W", "error", "-m", "naught_server", "--port", str(port), "--config", str(config)]
        command += ["--unix-socket", str(self.socket), "--http-port", "off", "--ports-file", str(self._ports_file)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + GUARD_S
        while not self._ports_file.exists():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server has not started in time"
            time.sleep(0.01)
        self.port: int = json.loads(self._ports_file.read_text())["tcp"]["port"]

    @property
    def url(self) -> str:
        return f"naught://127.0.0.1:{self.port}"

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(GUARD_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.end()


@pytest.fixture(params=["tcp", "unix", "memory"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    urls: dict[str, str] = {"tcp": server.url, "unix": f"naught+unix://{server.socket}", "memory": "memory://"}
    return urls[request.param]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await coroutine

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(guarded())


async def until(true: Callable[[], bool]) -> None:
    """Poll until it is true."""
    while not true():  # noqa: ASYNC110 - no notification of this state
        await asyncio.sleep(0.001)


# ------------------------------------------------------------------------------------------------- every method


def test_every_method(url: str) -> None:
    async def scenario() -> None:
        async with naught.connect(url, timeout=GUARD_S) as counters:
            await counters.clear()
            assert await counters.incr("a") == 1
            assert await counters.incr("a", 4) == 5
            assert await counters.decr("a", 2) == 3
            assert await counters.decr("a", 3, strict=True) == 0
            with pytest.raises(naught.CounterUnderflow):
                await counters.decr("a", strict=True)
            assert await counters.apply(["a", "b", "a"], [5, 6, -1]) == [5, 6, 4]
            assert await counters.apply(["a", "b"], 1, ttl_ms=60_000) == [5, 7]
            assert await counters.get("b") == 7
            assert await counters.get_many(["b", "none", "a"]) == [7, 0, 5]
            assert await counters.set("c", 9, ttl_ms=60_000) == 0
            assert 0 < (await counters.ttl("c") or 0) <= 60_000
            assert await counters.expire("c", None)
            assert await counters.ttl("c") == -1
            assert await counters.ttl("none") is None
            assert not await counters.expire("none", 5)
            assert await counters.try_incr([("a", 1, 6), ("b", 1, 7)]) == naught.Grant(False, [5, 7])
            assert await counters.try_incr([("a", 1, 6)], ttl_ms=5) == (True, [6])
            assert await counters.top(2) == [("c", 9), ("b", 7)]
            assert await counters.top(2, prefix="a") == [("a", 6)]
            assert await counters.count() == 3
            assert await counters.count("b") == 1
            assert await counters.take(["a", "none"]) == [6, 0]
            await counters.ping()
            assert (await counters.info())["version"] == naught.__version__
            assert "sweep_budget_ms" in await counters.config_get()
            assert await counters.config_set("drain_timeout_ms", 5_000) == 5_000
            assert await counters.config_get("drain_timeout_ms") == 5_000
            with pytest.raises(naught.InvalidRequest):
                await counters.config_set("novel", 1)
            assert await counters.sweep() >= 0
            assert all(turn["duration_us"] > 0 for turn in await counters.slowlog(128))
            assert await counters.slowlog_reset() >= 0
            assert await counters.clear() == 2

    run(scenario())


def test_scanning_sees_every_counter_once(url: str) -> None:
    async def scenario() -> None:
        async with naught.connect(url, timeout=GUARD_S) as counters:
            await counters.clear()
            names = [f"user:{place}" for place in range(3_000)]
            await counters.apply(names, 2)
            await counters.incr("other")
            found = [counter async for counter in counters.scan_iter(prefix="user:", count=100)]
            assert sorted(found) == sorted((name, 2) for name in names)
            page = await counters.scan(count=10)
            assert len(page.counters) >= 10
            assert isinstance(page.cursor, bytes)
            await counters.clear()

    run(scenario())


def test_failed_items_fail_alone(url: str) -> None:
    async def scenario() -> None:
        async with naught.connect(url, timeout=GUARD_S) as counters:
            await counters.set("full", 2**63 - 1)
            first, second, third = await asyncio.gather(
                counters.incr("x"), counters.incr("full"), counters.incr("y"), return_exceptions=True
            )
            assert (first, third) == (1, 1)
            assert isinstance(second, naught.CounterOverflow)
            values = await counters.apply(["full", "x"], 1)
            assert isinstance(values[0], naught.CounterOverflow)
            assert values[1] == 2
            await counters.clear()

    run(scenario())


def test_keys_that_are_no_utf8_and_keys_as_bytes(url: str) -> None:
    async def scenario() -> None:
        async with naught.connect(url) as counters:
            await counters.clear()
            await counters.incr(b"\xff\x00")
            (pair,) = await counters.top(1)
            assert pair == ("\udcff\x00", 1)
            assert await counters.decr(pair[0]) == 0
        async with naught.connect(url, decode_keys=False) as plain:
            await plain.incr("ä")
            assert await plain.top(1) == [("ä".encode(), 1)]
            assert [key async for key, _ in plain.scan_iter()] == ["ä".encode()]
            await plain.clear()

    run(scenario())


def test_a_named_cache_and_one_that_is_not(server: Server) -> None:
    async def scenario() -> None:
        for base in (f"{server.url}/", f"naught+unix://{server.socket}?cache="):
            async with naught.connect(f"{base}orders") as orders, naught.connect(server.url) as others:
                assert await orders.apply(["a", "b"], 1) == [1, 1]
                with pytest.raises(naught.CacheFull):
                    await orders.incr("c")
                assert await others.get("a") == 0
                await orders.clear()
            with pytest.raises(naught.InvalidRequest, match="nope"):
                await naught.connect(f"{base}nope")

    run(scenario())


def test_many_tasks_count_right(url: str) -> None:
    async def scenario() -> None:
        async with naught.connect(url, timeout=GUARD_S) as counters:

            async def work(name: str) -> list[int]:
                return [await counters.incr(name) for _ in range(100)]

            seen = await asyncio.gather(*(work(f"task:{place % 10}") for place in range(100)))
            assert sorted(value for values in seen for value in values) == sorted(list(range(1, 1_001)) * 10)
            await counters.apply([f"task:{place}" for place in range(10)], -1_000)
            assert await counters.count("task:") == 0

    run(scenario())


# ------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("seed", [1, *slow(2)])
def test_cancelling_at_every_await_point_gives_nobody_another_answer(url: str, seed: int) -> None:
    """Each call has a key and an amount of its own. A result shows which call it belongs to, and the counter that the
    call was executed once."""

    async def scenario() -> None:
        draw = random.Random(seed)
        answered: dict[str, int] = {}
        cancelled: set[str] = set()

        async def call(number: int) -> None:
            name = f"c{number}"
            try:
                if draw.random() < 0.7:
                    value = await counters.incr(name, number)
                else:
                    value = (await counters.apply([name], number))[0]  # type: ignore[assignment]
                assert value == number, f"{name} got the answer {value}"
                assert await counters.get(name) == number
                answered[name] = number
            except asyncio.CancelledError:
                cancelled.add(name)
                raise

        async with naught.connect(url, timeout=GUARD_S) as counters:
            await counters.clear()
            tasks: list[asyncio.Task[None]] = []
            for number in range(1, 4_001):
                tasks.append(asyncio.ensure_future(call(number)))
                if draw.random() < 0.6:
                    draw.choice(tasks[-20:]).cancel()
                if draw.random() < 0.2:
                    await asyncio.sleep(0)
                if draw.random() < 0.02:
                    await counters.ping()
            await asyncio.gather(*tasks, return_exceptions=True)
            failed = [task.exception() for task in tasks if not task.cancelled() and task.exception() is not None]
            assert not failed
            assert len(cancelled) > 1_000
            assert len(answered) > 1_000
            stored = {name: value async for name, value in counters.scan_iter()}
            assert all(stored[name] == number for name, number in answered.items())
            assert all(value == int(name[1:]) for name, value in stored.items())
            assert not counters._connection.session._windows.in_flight
            await counters.clear()

    run(scenario())


# ------------------------------------------------------------------------------------------------- stopping


def test_a_server_that_is_stopped_under_load_leaves_nobody_in_doubt(tmp_path: Path, own_port: int) -> None:
    """Calls that it answered were executed, and calls that it refused are executed by the next server."""
    server = Server(tmp_path, own_port)

    async def scenario() -> None:
        nonlocal server
        loop = asyncio.get_running_loop()
        stop = False
        answers = [0] * 20

        async def work(place: int) -> None:
            while not stop:
                await counters.incr(f"task:{place}")
                answers[place] += 1

        async with naught.connect(server.url, timeout=GUARD_S) as counters:
            tasks = [asyncio.ensure_future(work(place)) for place in range(20)]
            await until(lambda: min(answers) >= 100)
            await loop.run_in_executor(None, server.end)
            before = list(answers)
            server = await loop.run_in_executor(None, Server, tmp_path, server.port)
            await until(lambda: all(now >= then + 50 for now, then in zip(answers, before, strict=True)))
            stop = True
            await asyncio.gather(*tasks)

    run(scenario())
    server.end()


def test_a_server_that_is_killed_is_replaced_and_doubt_is_told(tmp_path: Path, own_port: int) -> None:
    server = Server(tmp_path, own_port)

    async def scenario() -> None:
        nonlocal server
        loop = asyncio.get_running_loop()
        async with naught.connect(server.url, timeout=GUARD_S) as counters:
            await counters.incr("a")
            server.process.send_signal(signal.SIGSTOP)
            change, read = counters.incr("a"), counters.get("a")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await loop.run_in_executor(None, server.end, signal.SIGKILL)
            later = counters.incr("b")
            server = await loop.run_in_executor(None, Server, tmp_path, server.port)
            with pytest.raises(naught.OutcomeUnknown):
                await change
            assert await read == 0
            assert await later == 1

    run(scenario())
    server.end()


# ------------------------------------------------------------------------------------------------- memory://


def test_a_name_in_memory_is_shared_and_no_name_is_private() -> None:
    async def scenario() -> None:
        async with naught.connect("memory://shared") as first, naught.connect("memory://shared") as second:
            await first.incr("a")
            assert await second.incr("a") == 2
        async with naught.connect("memory://shared") as third:
            assert await third.take(["a"]) == [2]
        async with naught.connect("memory://") as first, naught.connect("memory://") as second:
            await first.incr("a")
            assert await second.get("a") == 0

    run(scenario())


def test_a_name_in_memory_is_shared_between_loops_in_threads() -> None:
    values: list[int] = []

    async def work() -> None:
        async with naught.connect("memory://threads", timeout=GUARD_S) as counters:
            for _ in range(50):
                values.extend(await asyncio.gather(*(counters.incr("a") for _ in range(20))))

    threads = [threading.Thread(target=run, args=(work(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD_S)
    assert sorted(values) == list(range(1, 4_001))


def test_memory_is_swept() -> None:
    async def scenario() -> None:
        async with naught.connect("memory://swept") as counters:
            await counters.apply([f"k{place}" for place in range(2_000)], 1, ttl_ms=1)
            cache = find_host("swept").engine.store.caches["default"]
            await until(lambda: not cache.raw_entries())
            assert await counters.count() == 0

    run(scenario())


def test_a_big_request_in_memory_is_served_in_turns() -> None:
    async def scenario() -> None:
        async with naught.connect("memory://", timeout=GUARD_S) as counters:
            names = [f"k{place}" for place in range(4_096)]
            batches = [counters.apply(names, 1) for _ in range(30)]
            assert [values[0] for values in await asyncio.gather(*batches)] == list(range(1, 31))
            assert await counters.count("k") == 4_096

    run(scenario())


def test_the_server_is_imported_for_memory_alone() -> None:
    code = (
        "import sys, naught; assert 'naught_server' not in sys.modules\n"
        "import asyncio, threading\n"
        "async def main():\n"
        "    async with naught.connect('memory://') as counters:\n"
        "        assert await counters.incr('a') == 1\n"
        "        assert threading.active_count() == 1\n"
        "asyncio.run(main())\n"
        "assert 'naught_server' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=GUARD_S)
