"""Processes that are killed, stopped and told to end, while clients are at work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

import naught
from naught.wire.codec import encode_notification, encode_request
from support.server_process import RawPeer, ServerProcess, server_process, wait_until

GUARD_S = 60.0

pytestmark = pytest.mark.slow


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await scenario

    asyncio.run(guarded())


def url_of(server: ServerProcess) -> str:
    return f"naught://127.0.0.1:{server.port}"


# ------------------------------------------------------------------------------------------- a client is killed

CLIENT = """
import socket, sys, time
found = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
found.sendall(sys.stdin.buffer.read())
print("sent", flush=True)
time.sleep(600)
"""

KEYS = 2_000
KILLED = 13
"""What arrived of their torn batches is 2.8 MiB, and their counters take 20. Where nothing is kept, resident memory
still differs by up to 1 MiB from what it was."""
WHOLE = 3
"""Requests of a batch that arrive whole, before the torn one."""


def test_of_a_client_killed_in_a_batch_whole_requests_are_applied_once_and_the_torn_one_not_at_all(
    tmp_path: Path,
) -> None:
    with server_process(tmp_path) as server, server.connect() as asking:

        def kill_one(number: int) -> None:
            batches = [
                # Without replies: unread ones would have the kernel drop what the server has not read yet.
                encode_notification("apply", ([b"%d:%d:%0200d" % (number, batch, key) for key in range(KEYS)], 1))
                for batch in range(WHOLE + 1)
            ]
            client = subprocess.Popen(
                [sys.executable, "-c", CLIENT, str(server.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"".join(batches)[: -len(batches[-1]) // 2])
            client.stdin.close()
            assert client.stdout.readline() == b"sent\n"
            client.send_signal(signal.SIGKILL)
            client.wait()
            client.stdout.close()
            wait_until(lambda: came_and_left(number + 1), "the server noticed that it came and is gone")

        def came_and_left(clients: int) -> bool:
            # Not before it has come: all it sends may be in the kernel before the server accepts its connection.
            info = asking.call("info")
            return info[b"connections_accepted"] == 1 + clients and info[b"connections"] == 1

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{server.process.pid}/fd"))

        assert asking.call("ping") == b"pong"
        before = descriptors()
        kill_one(0)
        resident = server.resident_bytes()
        for number in range(1, KILLED):
            kill_one(number)
            assert asking.call("count") == (number + 1) * KEYS * WHOLE
            for batch in range(WHOLE + 1):
                assert asking.call("count", b"%d:%d:" % (number, batch)) == (KEYS if batch < WHOLE else 0)
            assert asking.call("get", b"%d:0:%0200d" % (number, 7)) == 1
        for number in range(KILLED):
            for batch in range(WHOLE):
                keys = [b"%d:%d:%0200d" % (number, batch, key) for key in range(KEYS)]
                assert asking.call("take", keys[:1_000]) == asking.call("take", keys[1_000:]) == [1] * 1_000
        wait_until(lambda: descriptors() == before, "its descriptors were given back")
        wait_until(lambda: server.resident_bytes() < resident + (2 << 20), "its memory was given back")


# ------------------------------------------------------------------------------------------ the server is told to end


@contextlib.asynccontextmanager
async def background(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_at_sigterm_under_load_every_acknowledged_change_was_applied_and_it_ends_within_the_drain_time(
    tmp_path: Path,
) -> None:
    drain_ms = 1_500
    acknowledged: dict[str, int] = {}
    server = ServerProcess(tmp_path, "--drain-timeout-ms", str(drain_ms))

    async def add(client: naught.Client, key: str) -> None:
        with contextlib.suppress(naught.NaughtError):
            while True:
                value = await client.incr(key)
                assert value == acknowledged.get(key, 0) + 1, "all that was acknowledged before is in it"
                acknowledged[key] = value

    async def wait(client: naught.Client) -> None:
        with contextlib.suppress(naught.NaughtError):
            await client.wait_zero("for ever", timeout=GUARD_S)

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(naught.connect(url_of(server))) for _ in range(4)]
            await clients[0].incr("for ever")
            await clients[0].apply([f"{number:0100}" for number in range(2_000)], 1)
            stuck = stack.enter_context(RawPeer(server.port))
            stuck.send(b"".join(encode_request(number, "scan", (0, 2_000, b"")) for number in range(60)))
            work = [add(client, f"{number}:{task}") for number, client in enumerate(clients) for task in range(10)]
            async with background(*work, *map(wait, clients)):
                while sum(acknowledged.values()) < 2_000:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                server.process.terminate()
                status = await asyncio.to_thread(server.process.wait, drain_ms / 1_000 + 10)
                assert status == 0

    try:
        run(scenario())
    finally:
        server.kill()
    (line,) = [line for line in server.log().splitlines() if " stopped " in line]
    assert "Traceback" not in server.log()
    assert " connections_cut=1" in line, "the peer that does not read; all others had their answers"


# ------------------------------------------------------------------------------------------- the server is killed


def test_at_sigkill_under_load_callers_learn_success_or_that_the_outcome_is_unknown_and_never_a_wrong_number(
    tmp_path: Path, own_port: int
) -> None:
    servers = [ServerProcess(tmp_path, "--port", str(own_port))]
    unknown: list[str] = []
    rounds = 3
    deaths = [0]

    async def add(client: naught.Client, key: str) -> None:
        # A counter of its own. After an unknown outcome the server may be new, and the call executed or not. A server
        # that has died may have sent replies that are read only now, so a new one is known by its first value.
        possible, seen, new = {0}, 0, -1
        while seen < rounds or deaths[0] < rounds:
            try:
                value = await client.incr(key)
            except naught.OutcomeUnknown:
                unknown.append(key)
                possible |= {value + 1 for value in possible} | {0, 1}
                continue
            seen = deaths[0]
            if deaths[0] > new:  # a server has died, and nothing of the next one was seen
                possible |= {0}
            assert value - 1 in possible, f"{key}: {value} after {possible}"
            new += value == 1
            possible = {value}

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(naught.connect(url_of(servers[0]), timeout=GUARD_S)) for _ in range(4)
            ]
            work = [add(client, f"{number}:{task}") for number, client in enumerate(clients) for task in range(10)]
            async with background(*work) as tasks:
                for _ in range(rounds):
                    await asyncio.sleep(0.2)  # of load
                    deaths[0] += 1
                    servers[-1].kill()
                    (tmp_path / "ports.json").unlink()
                    servers.append(
                        await loop.run_in_executor(None, lambda: ServerProcess(tmp_path, "--port", str(own_port)))
                    )
                await asyncio.gather(*tasks)
        assert unknown, "no call was under way when the server died"

    try:
        run(scenario())
        servers[-1].stop()
    finally:
        for server in servers:
            server.kill()


# ------------------------------------------------------------------------------------------- the server is stopped

STOPPED_S = 5.0
TTL_MS = 3_000
"""Less than the server is stopped."""


def test_over_a_stop_of_five_seconds_sessions_survive_what_was_renewed_lives_and_nothing_is_doubled(
    tmp_path: Path,
) -> None:
    with server_process(tmp_path) as server:

        async def renew(client: naught.Client) -> None:
            while True:
                assert await client.expire("renewed", TTL_MS)
                await asyncio.sleep(0.2)

        async def add(client: naught.Client, key: str) -> None:
            value = 0
            while True:
                value += 1
                assert await client.incr(key) == value
                await asyncio.sleep(0.01)

        async def scenario() -> None:
            url = url_of(server)
            # The stop is longer than the lease of the permit's session, and than the client bears silence.
            async with (
                naught.connect(url, timeout=GUARD_S, lease=2.0) as holder,
                naught.connect(url, timeout=GUARD_S) as client,
            ):
                permit = await holder.semaphore("s", limit=1).acquire()
                await client.incr("renewed", ttl_ms=TTL_MS)
                await client.incr("left alone", ttl_ms=TTL_MS)
                waiting = asyncio.ensure_future(client.semaphore("s", limit=1).acquire())
                work = [renew(client), *(add(client, f"own:{number}") for number in range(10))]
                async with background(*work) as tasks:
                    await asyncio.sleep(0.3)
                    server.process.send_signal(signal.SIGSTOP)
                    try:
                        await asyncio.sleep(STOPPED_S)  # the fault itself
                    finally:
                        server.process.send_signal(signal.SIGCONT)
                    before = await client.get("own:0")
                    while await client.get("own:0") < before + 10:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    assert not any(task.done() for task in tasks), "a counter expired, or was not what it had to be"
                assert await client.get("renewed") == 1
                assert not permit.lost
                assert not waiting.done()
                await permit.release()
                await (await waiting).release()
                assert await client.get("s") == 0
                while await client.get("left alone"):  # noqa: ASYNC110 - it expires, as it was not renewed
                    await asyncio.sleep(0.05)

        run(scenario())
        assert "the process was stopped" in server.log()
