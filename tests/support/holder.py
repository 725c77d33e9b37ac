"""A program for tests: an asyncio client that holds permits of a semaphore and obeys commands. Run with

    python holder.py URL LOOP LEASE PERMITS HOW LIFE

HOW is `hold`, `fork` or `fork-connecting`. With `fork` it forks when it has the permits; the child lives until the
pipe LIFE (the descriptor of the read end) is closed. With `fork-connecting` it forks before the client is connected.

It prints a line per event. It reads commands, one per line: `release` and `count`. At the end of its input it exits
without closing the client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import uvloop

import naught

GUARD_S = 60.0


def say(*words: object) -> None:
    """Print a line with one system call, because the child writes to the same pipe."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def attempted(call: Callable[[], Any]) -> str:
    """The name of the exception that a call raises, immediately or when it is first awaited."""
    try:
        awaitable = call()
        if asyncio.iscoroutine(awaitable):
            awaitable.send(None)
    except Exception as error:
        return type(error).__name__
    return "nothing"


def fork(life: int, in_child: Callable[[], str]) -> None:
    """Fork a child that prints the result of `in_child` and lives until `life` is closed."""
    child = os.fork()
    if not child:
        try:
            say("child", os.getpid(), in_child())
            os.read(life, 1)
        finally:
            os._exit(0)


async def commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def opened(connecting: Any) -> naught.Client:
    client: naught.Client = await connecting
    return client


async def main(url: str, lease: float, permits: int, how: str, life: int) -> None:
    connecting = asyncio.ensure_future(opened(naught.connect(url, lease=lease, timeout=GUARD_S)))
    if how == "fork-connecting":
        before = len(os.listdir("/proc/self/fd"))
        while len(os.listdir("/proc/self/fd")) == before:
            assert not connecting.done(), "the client has connected without a socket"
            await asyncio.sleep(0)
        fork(life, lambda: "connecting")
    client = await connecting
    semaphore = client.semaphore("s", permits)
    held = [await semaphore.acquire() for _ in range(permits)]
    if how == "fork":
        joined = client.incr("turn")  # not sent yet: calls of the child must not join it

        def in_child() -> str:
            calls: list[Callable[[], Any]] = [
                lambda: client.incr("child"),
                lambda: client.decr("child"),
                lambda: client.get("child"),
                lambda: client.acquire([("child", 1, 1)]),
                semaphore.acquire,
                held[0].release,
                client.held,
            ]
            raised = {attempted(call) for call in calls}
            try:
                asyncio.run(asyncio.wait_for(client.close(), GUARD_S))
            except Exception as error:
                raised.add(repr(error))
            return ",".join(sorted(raised))

        fork(life, in_child)
        assert await joined == 1
    say("holding", *(permit.number for permit in held))
    reader = await commands()
    while line := (await reader.readline()).decode().strip():
        if line == "count":
            say("counted", await client.incr("counted"))
        elif line == "release":
            for permit in held:
                try:
                    await permit.release()
                    say("released")
                except naught.NaughtError as error:
                    say("released", type(error).__name__)
    os._exit(0)


if __name__ == "__main__":
    _, url, loop, lease, permits, how, life = sys.argv
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(url, float(lease), int(permits), how, int(life)))
