"""`Wire`: a transport for threads, over a socket or to the engine in this process.

At most one thread writes to a wire and at most one reads from it at the same time. `Link` ensures that.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from naught.errors import NaughtError
from naught.sockets import keep_alive
from naught.url import Address, MemoryAddress, TcpAddress

if TYPE_CHECKING:
    from naught.blocking.future import Future
    from naught.blocking.keeper import Keeper
    from naught.memory import Host

READ_BYTES: Final = 64 << 10
"""At most this is read at once: the replies to a thousand calls."""

LIMIT_S: Final = 86_400.0
"""The longest the system is asked to wait at once; whoever waits longer asks again. It refuses what is very long."""

_WITHOUT_WAITING: Final = socket.MSG_DONTWAIT
# A program may have let SIGPIPE end it, and writing to what has just been hung up is nothing unusual here.
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)

Wait = Callable[[int, int], None]
"""Return when a descriptor is ready for an event of `select.poll`; raises TimeoutError, and what ends the attempt."""


class Broken(Exception):
    """A wire is of no use any more, and why."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason: Final = reason


def check_system(error: OSError) -> None:
    """Raise what is none of the system's: of what is caught around a system call, a signal handler may have raised it
    in the middle (a TimeoutError is an OSError, too), and then it has come through a frame of its own."""
    trace = error.__traceback__
    if trace is not None and trace.tb_next is not None:
        raise error


def from_outside(error: NaughtError) -> BaseException | None:
    """What a signal handler has raised in the middle of something, or made it raise, as the traceback tells: it has
    come through frames that are not the client's."""
    cause: BaseException | None = error
    while cause is not None:
        trace = cause.__traceback__
        while trace is not None:
            if not trace.tb_frame.f_globals.get("__name__", "").startswith(("naught.", "msgpack.")):
                return cause
            trace = trace.tb_next
        cause = cause.__cause__
    return None


class Wire(Protocol):
    """One connection."""

    def fileno(self) -> int:
        """A descriptor that is readable when `take` has something to do."""

    def send(self, data: bytes) -> int:
        """Write what fits at this moment, and say how much that was. Raises Broken."""

    def receive(self, timeout: float | None) -> bytes | None:
        """Wait for bytes: b"" at the end, None when `timeout` seconds have passed. Raises Broken."""

    def take(self) -> bytes | None:
        """The same without waiting."""

    def next_due(self) -> float | None:
        """When `take` has something to do of itself, in seconds of the monotonic clock."""

    def finish(self) -> None:
        """Nothing more is written."""

    def hang_up(self) -> None:
        """End it, also under a thread that reads or writes: to that, it has ended."""

    def close(self) -> None:
        """Let go of it. Nobody uses it any more."""

    def forsake(self) -> None:
        """Let go of it in the child of a fork: it stays the parent's."""


class SocketWire:
    """TCP, or a Unix socket. In blocking mode with the system's own time limit: `settimeout` would look before every
    read whether there is something, a second system call."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(None)
        self.socket: Final = connected
        self._timeout: float | None = None  # what the system was told last

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, data: bytes) -> int:
        try:
            return self.socket.send(data, _SEND_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            check_system(error)
            raise Broken(error) from None

    def receive(self, timeout: float | None) -> bytes | None:
        if timeout != self._timeout:
            self._set_timeout(timeout)
        try:
            return self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            check_system(error)
            raise Broken(error) from None

    def _set_timeout(self, timeout: float | None) -> None:
        # Zero means no limit to the system, so the least is a microsecond.
        microseconds = 0 if timeout is None else max(1, int(min(timeout, LIMIT_S) * 1e6))
        value = struct.pack("@ll", *divmod(microseconds, 1_000_000))
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        except OSError as error:
            check_system(error)
            raise Broken(error) from None
        self._timeout = timeout

    def take(self) -> bytes | None:
        try:
            return self.socket.recv(READ_BYTES, _WITHOUT_WAITING)
        except BlockingIOError:
            return None
        except OSError as error:
            check_system(error)
            raise Broken(error) from None

    def next_due(self) -> float | None:
        return None

    def finish(self) -> None:
        self._shut_down(socket.SHUT_WR)

    def hang_up(self) -> None:
        self._shut_down(socket.SHUT_RDWR)

    def _shut_down(self, how: int) -> None:
        try:
            self.socket.shutdown(how)
        except OSError as error:  # it has ended by itself
            check_system(error)

    def close(self) -> None:
        self.socket.close()

    forsake = close  # which ends nothing while the parent has its own copy

    def __del__(self) -> None:
        # An interrupt may have torn who reads from who is said to, and nobody closed it: it is of no use, and no
        # secret.
        self.forsake()


class MemoryWire:
    """The engine of `memory://`. Writing is executing, on the thread that writes; whoever reads, or the link's own
    thread where nobody does, gives the engine the turns it wants and sweeps."""

    def __init__(self, host: Host) -> None:
        self._host: Final = host
        self._bell, self._bell_rope = socket.socketpair()  # rung when there is something to read or to do
        self._bell.setblocking(False)
        self._bell_rope.setblocking(False)
        self._replies: list[bytes] = []  # not read yet
        self._woken = False  # the channel can go on
        self._ended = False
        self._channel: Final = host.open(self._wake)

    def fileno(self) -> int:
        return self._bell.fileno()

    def send(self, data: bytes) -> int:
        with self._host.lock:
            if self._ended:
                raise Broken(BrokenPipeError(errno.EPIPE, "the connection has ended"))
            self._took(self._channel.receive(data, self._host.now_ms()))
            self._host.sweep()
        return len(data)

    def receive(self, timeout: float | None) -> bytes | None:
        due = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        while True:
            data = self.take()
            if data is not None:
                return data
            now = time.monotonic()
            if due is not None and due <= now:
                return None
            sweep_due = self.next_due()
            until = sweep_due if due is None else min(due, sweep_due)
            poll.poll(milliseconds(until - now))

    def take(self) -> bytes | None:
        with self._host.lock:
            self._hush()
            if not self._ended and (self._woken or self._channel.wants_turn):
                self._woken = False
                self._took(self._channel.turn(self._host.now_ms()))
            if self._replies:
                data = b"".join(self._replies)
                self._replies.clear()
                return data
            if self._ended or self._channel.aborted or (self._channel.closing and not self._channel.wants_turn):
                return b""
            if self._channel.wants_turn:
                self._ring()
            self._host.sweep()
            return None

    def next_due(self) -> float:
        return self._host.sweep_due_ms / 1000

    def finish(self) -> None:
        self.hang_up()  # what was written has been executed

    def hang_up(self) -> None:
        with self._host.lock:
            if not self._ended:
                self._ended = True
                self._channel.close(self._host.now_ms())
                self._ring()

    def close(self) -> None:
        self.hang_up()
        self.forsake()

    def forsake(self) -> None:
        self._bell.close()
        self._bell_rope.close()

    def __del__(self) -> None:  # as of a socket
        self.forsake()

    def _took(self, replies: bytes) -> None:
        """The channel has had a turn, which gave `replies`."""
        if replies:
            self._replies.append(replies)
        if self._replies or self._channel.wants_turn or self._channel.closing:
            self._ring()

    def _wake(self) -> None:
        """The channel can go on. Called inside somebody's turn, perhaps in another thread."""
        self._woken = True
        if not self._ended:
            self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it rings
            self._bell_rope.send(b"!")

    def _hush(self) -> None:
        with suppress(BlockingIOError):
            self._bell.recv(4096)


class Connection:
    """A wire and who is at it."""

    __slots__ = ("called", "error", "lost", "reader", "unsent", "wire", "writer")

    def __init__(self, wire: Wire) -> None:
        self.wire: Final = wire
        self.reader: Future | Keeper | None = None
        self.writer: Future | Keeper | None = None  # the keeper, while something is `unsent`
        self.unsent = b""  # what the wire did not take: the keeper writes it
        # Whoever writes has something to look after when that is done. Writers stop without the lock, so it is set
        # first and then looked whether there is one; and they say that they have stopped, and then look here.
        self.called = False
        self.lost = False  # it is of no use any more
        self.error: BaseException | None = None  # why


def milliseconds(seconds: float) -> float:
    """For `poll`, which may wake up a little early."""
    return min(max(0.0, seconds), LIMIT_S) * 1000 + 1


def dial(address: Address, host: Host | None, wait: Wait) -> Wire:
    """Connect. Raises OSError, and what `wait` raises. `host` is the engine of an address in memory."""
    if isinstance(address, MemoryAddress):
        assert host is not None
        return MemoryWire(host)
    if not isinstance(address, TcpAddress):
        return SocketWire(_connected(socket.socket(socket.AF_UNIX), address.path, wait))
    last: OSError | None = None
    for family, kind, protocol, _, where in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        try:
            return SocketWire(_connected(socket.socket(family, kind, protocol), where, wait))
        except OSError as error:
            last = error
    raise last or ConnectionError(f"{address.host} has no address")


def _connected(connecting: socket.socket, where: Any, wait: Wait) -> socket.socket:
    try:
        if connecting.family != socket.AF_UNIX:
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(connecting)
        connecting.setblocking(False)
        code = connecting.connect_ex(where)
        if code == errno.EINPROGRESS:
            wait(connecting.fileno(), select.POLLOUT)
            code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        return connecting
    except BaseException:
        connecting.close()
        raise
