"""A client in a process of its own, which holds permits and does what the test says. Run with

    python holder.py URL LOOP LEASE PERMITS HOW LIFE

HOW is `hold`; `fork`, after which a child lives until the pipe LIFE (a descriptor, read end) is closed; or
`fork-connecting`, where that happens before the client has a connection. It writes a line for each thing that has
happened, and reads commands, a line each: `release`, `count`, and the end of its input, at which it ends without a
word to the server.
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
    """In one piece: its child says something, too."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def attempted(call: Callable[[], Any]) -> str:
    """What a call raises at once, or as soon as it is awaited."""
    try:
        awaitable = call()
        if asyncio.iscoroutine(awaitable):
            awaitable.send(None)
    except Exception as error:
        return type(error).__name__
    return "nothing"


def fork(life: int, in_child: Callable[[], str]) -> None:
    """A child that says one thing and lives on."""
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
            assert not connecting.done(), "it was connected before it had a socket"
            await asyncio.sleep(0)
        fork(life, lambda: "connecting")
    client = await connecting
    semaphore = client.semaphore("s", permits)
    held = [await semaphore.acquire() for _ in range(permits)]
    if how == "fork":
        joined = client.incr("turn")  # the child's calls must not travel with it

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
