"""What a client for threads is connected to where threads take turns (`turns.py`): wires with nothing behind them but
who has made them, and the net that gives them out.

    net = Net(turns)
    with net.installed(): ...                  # `blocking.keeper.dial` dials here
    line = net.lines[0]                        # the connections, in the order they were made
    line.requests()                            # what was written there; line.reply(...), line.end(), line.tear()

A wire notes what must never happen: two that read or write at the same time, and use after it was closed.
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
    """A `Wire`, and its other end."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(turns)
        self.up = b""  # written, and not taken by the other end yet
        self.down = b""  # sent by that, and not read yet
        self.room = 1 << 30  # bytes that `up` may have
        self.piece = 1 << 30  # bytes that are taken, and given, at once
        self.ended = False  # by the other end, in good order
        self.torn = False  # by anybody, in none
        self.finished = False  # by this one: nothing more is written
        self.hung_up = False  # by this one
        self.slow = False  # what is written stays in the system call, as long as this is so
        self.writers = 0  # at this moment
        self.readers = 0
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    # A wire.

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

    # The other end.

    def requests(self) -> list[list[Any]]:
        """What was written and not looked at yet, message by message."""
        self._unpacker.feed(self.up)
        self.up = b""
        return list(self._unpacker)

    def greet(self, session: bytes | None = ID, lease_ms: int = 10_000) -> None:
        """Answer the `hello`, which is all that was written."""
        ((_, msgid, method, _),) = self.requests()
        assert method == "hello"
        self.reply(msgid, {} if session is None else {"session": session, "lease_ms": lease_ms})

    def resume(self, accepted: int) -> None:
        """Answer a `hello` that names a session: so many requests have been accepted."""
        ((_, msgid, method, params),) = self.requests()
        assert (method, params[0]["session"]) == ("hello", ID)
        words = {"session": ID, "lease_ms": 10_000}
        self.reply(msgid, words | {"accepted": accepted, "replies_from": params[0]["received"] + 1})

    def reply(self, msgid: int, result: Any) -> None:
        self.down += encode_result(msgid, result)

    def reply_error(self, msgid: int, code: str) -> None:
        self.down += encode_error(msgid, code, "so")

    def end(self) -> None:
        """The other end closes."""
        self.ended = True

    def tear(self) -> None:
        """The connection breaks: what was not read is gone."""
        self.torn = True
        self.down = b""


stands_for_c(Line.send, Line.receive)


class Net:
    """Where one can connect to."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.lines: list[Line] = []  # that were made, ever
        self.up = True  # whether one can connect
        self.connecting: Callable[[Wait], None] = lambda _: None  # what takes time there

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
        """The last one."""
        return self.lines[-1]
