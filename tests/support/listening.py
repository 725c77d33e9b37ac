"""A small asyncio server in a thread of its own, for tests whose own thread blocks or has a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol, TypeVar


class Served(Protocol):
    """What serves connections."""

    # Filled in when it listens.
    port: int

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""


S = TypeVar("S", bound=Served)


@contextlib.contextmanager
def listening(server: S) -> Iterator[S]:
    """The server listens on a port that the kernel picks while the block runs."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()

    async def run() -> None:
        connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections[task] = writer
            try:
                with contextlib.suppress(asyncio.CancelledError):  # the end of the block
                    await server.serve(reader, writer)
            finally:
                del connections[task]

        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        listener.close()
        for task, writer in connections.items():
            # Not closed, which would wait until the peer has read everything: the peer may be this thread's maker,
            # which waits for the thread to end.
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def body() -> None:
        try:
            loop.run_until_complete(run())
        finally:
            loop.close()

    thread = threading.Thread(target=body)
    thread.start()
    assert ready.wait(30)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive(), "the server does not end"
