"""Standard input for a command in an event loop: what is there is read at once, and nothing else waits for more.

No thread reads it. A thread that waits for input cannot be ended, and would keep an interrupted command from ending.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
from typing import Final, TextIO

from naught.cli.lines import Lines
from naught.errors import InvalidRequest

READ_BYTES: Final = 64 << 10
"""What is read at once at most: what a pipe holds."""


class StandardInput:
    """Reads standard input. `wake` ends a `read` that waits."""

    def __init__(self) -> None:
        stream = sys.stdin
        if stream is None:
            raise InvalidRequest("standard input is closed")
        self._stream: Final[TextIO] = stream
        self._descriptor: Final = _descriptor_of(stream)  # None for a stream that is none of the system's
        self._can_wait = self._descriptor is not None  # regular files cannot, and are always ready
        self._ready: asyncio.Future[None] | None = None  # of a `read` that waits
        self.is_awake = False  # `wake` was called

    async def read(self) -> bytes:
        """What has arrived: at least one byte. None at the end, and after `wake`. Raises OSError."""
        while not self.is_awake:
            if self._descriptor is None:
                return self._stream.buffer.read(READ_BYTES)
            if self._can_wait:
                await self._until_ready(self._descriptor)
            else:
                await asyncio.sleep(0)  # the loop sees signals between two reads
            if not self.is_awake:
                try:
                    return os.read(self._descriptor, READ_BYTES)
                except BlockingIOError:  # another process has read it
                    continue
        return b""

    async def _until_ready(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        ready = self._ready = loop.create_future()
        try:
            loop.add_reader(descriptor, self._wake_reader)
        except OSError:
            self._can_wait = False
            return
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
            self._ready = None

    def _wake_reader(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def wake(self) -> None:
        """Read nothing more."""
        self.is_awake = True
        self._wake_reader()


def _descriptor_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return None


async def read_answer() -> str:
    """One line: the answer to a question. An empty one at the end of the input."""
    source, lines = StandardInput(), Lines()
    while data := await source.read():
        if found := lines.feed(data):
            return found[0].decode("utf-8", "replace")
    return "".join(line.decode("utf-8", "replace") for line in lines.end())
