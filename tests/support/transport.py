"""A transport without a socket: it keeps what a connection writes, in order, and how it calls the transport."""

from __future__ import annotations

import asyncio
from typing import Any

from naught_server.connection import Connection
from support.conversation import decoded


class FakeTransport(asyncio.Transport):
    """Keeps the replies written and the state set. Several transports may share one `journal`."""

    def __init__(
        self, name: str = "", journal: list[tuple[str, list[Any]]] | None = None, tcp: object | None = None
    ) -> None:
        super().__init__({"socket": tcp})
        self.name = name
        self.journal = [] if journal is None else journal  # (name, replies) for each write, in order
        self.sent_bytes = 0  # of all writes
        self.reading = True
        self.closed = False
        self.aborted = asyncio.Event()
        self.write_buffer_high: int | None = None

    def replies(self) -> list[Any]:
        """All replies written by this one."""
        return [reply for name, replies in self.journal if name == self.name for reply in replies]

    def write(self, data: Any) -> None:
        """Add the replies to the journal."""
        assert not self.closed, "written after it was closed"
        self.sent_bytes += len(data)
        self.journal.append((self.name, decoded(bytes(data))))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Keep the high-water mark."""
        self.write_buffer_high = high

    def pause_reading(self) -> None:
        """Must not be paused already."""
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        """Must be paused."""
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        """Whether it was closed or aborted."""
        return self.closed

    def close(self) -> None:
        """Later writes fail."""
        self.closed = True

    def abort(self) -> None:
        """As `close`, and sets `aborted`."""
        self.closed = True
        self.aborted.set()


async def turns_taken(connection: Connection) -> None:
    """Wait until the connection waits for no turn. Its first input always does."""
    while connection._turn_due:  # noqa: ASYNC110 - the connection does not notify of it
        await asyncio.sleep(0)
