"""Connections without sockets for the client for threads, where threads take turns (`turns.py`): the test is the
server.

    net = Net(turns)
    with net.installed(): ...                  # `blocking.keeper.dial` dials here
    line = net.lines[0]                        # the connections, in the order they were made
    line.requests()                            # what was written there; line.reply(...), line.end(), line.tear()

A line asserts that two threads never read or write at the same time, and that it is not used after it was closed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from naught.blocking import keeper
from naught.blocking.wires import Broken, Wait
from naught.wire.codec import encode_error, encode_result
from support.turns import Descriptor, Turns, stands_for_c

ID = b"sixteen bytes id"


class Line(Descriptor):
    """One connection: the client's end, as a `Wire`, and the server's end."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(turns)
        self.up = b""  # written by the client, and not taken by the server yet
        self.down = b""  # sent by the server, and not read by the client yet
        self.room = 1 << 30  # the most bytes in `up`
        self.piece = 1 << 30  # the most bytes of one write or read
        self.ended = False  # closed by the server
        self.torn = False  # broken: reading and writing raise
        self.finished = False  # the client has announced its end: it writes no more
        self.hung_up = False  # the client has shut it down
        self.slow = False  # while true, a write does not return
        self.writers = 0  # threads that write now
        self.readers = 0  # threads that read now
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    # The client's end.

    def send(self, data: bytes) -> int:
        assert not self.closed, "written to after it was closed"
        assert not self.writers, "two write at the same time"
        self.writers += 1
        try:
            if self.turns.preempt:
                self.turns.switch()
            assert not self.closed, "closed under a thread that writes"
            if self.hung_up or self.torn:
                raise Broken(BrokenPipeError(errno.EPIPE, "gone"))
            assert not self.finished, "written to after its end was said"
            taken = min(len(data), self.piece, max(0, self.room - len(self.up)))
            self.up += data[:taken]
            if self.turns.preempt:
                self.turns.switch()
            if self.slow:
                self.turns.block(lambda: not self.slow)
                if self.hung_up or self.torn:
                    raise Broken(BrokenPipeError(errno.EPIPE, "gone"))
            return taken
        finally:
            self.writers -= 1

    def receive(self, timeout: float | None) -> bytes | None:
        assert not self.closed, "read after it was closed"
        assert not self.readers, "two read at the same time"
        self.readers += 1
        try:
            if not self.turns.block(self.readable, timeout, breakable=True):
                return None
            assert not self.closed, "closed under a thread that reads"
            return self._given()
        finally:
            self.readers -= 1

    def take(self) -> bytes | None:
        assert not self.closed, "read after it was closed"
        assert not self.readers, "two read at the same time"
        return self._given() if self.readable() else None

    def _given(self) -> bytes:
        if self.torn and not self.hung_up:
            raise Broken(ConnectionResetError(errno.ECONNRESET, "torn"))
        data, self.down = self.down[: self.piece], self.down[self.piece :]
        return data

    def readable(self) -> bool:
        return bool(self.down) or self.ended or self.torn or self.hung_up

    def writable(self) -> bool:
        return len(self.up) < self.room or self.torn or self.hung_up

    def next_due(self) -> float | None:
        return None

    def finish(self) -> None:
        self.finished = True

    def hang_up(self) -> None:
        self.hung_up = True

    def close(self) -> None:
        assert not self.writers, "closed under a thread that writes"
        assert not self.readers, "closed under a thread that reads"
        super().close()

    forsake = close

    # The server's end.

    def requests(self) -> list[list[Any]]:
        """Take the messages that were written since the last call."""
        self._unpacker.feed(self.up)
        self.up = b""
        return list(self._unpacker)

    def greet(self, session: bytes | None = ID, lease_ms: int = 10_000) -> None:
        """Answer `hello`, which must be the only message written."""
        ((_, msgid, method, _),) = self.requests()
        assert method == "hello"
        self.reply(msgid, {} if session is None else {"session": session, "lease_ms": lease_ms})

    def resume(self, accepted: int) -> None:
        """Answer a `hello` that resumes: the server has accepted this many requests."""
        ((_, msgid, method, params),) = self.requests()
        assert (method, params[0]["session"]) == ("hello", ID)
        words = {"session": ID, "lease_ms": 10_000}
        self.reply(msgid, words | {"accepted": accepted, "replies_from": params[0]["received"] + 1})

    def reply(self, msgid: int, result: Any) -> None:
        self.down += encode_result(msgid, result)

    def reply_error(self, msgid: int, code: str) -> None:
        self.down += encode_error(msgid, code, "so")

    def end(self) -> None:
        """The server closes."""
        self.ended = True

    def tear(self) -> None:
        """The connection breaks: bytes that were not read are lost."""
        self.torn = True
        self.down = b""


stands_for_c(Line.send, Line.receive)


class Net:
    """The network: makes a line for each connection."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.lines: list[Line] = []  # all that were made
        self.up = True  # whether connecting succeeds
        self.connecting: Callable[[Wait], None] = lambda _: None  # called while connecting, to take time

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keeper, "dial", self._dial)
            yield

    def _dial(self, _: Any, __: Any, wait: Wait) -> Line:
        self.connecting(wait)
        if not self.up:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        line = Line(self._turns)
        self.lines.append(line)
        return line

    @property
    def line(self) -> Line:
        """The latest line."""
        return self.lines[-1]
