"""`memory://`: the server's engine in this process, behind the same client, without a socket.

The bytes that a client writes go directly to the server's protocol object, and its replies come back in the next turn
of the event loop. Bytes and code are the same as with a server, so code that works here works against a server. This
is the only module of `naught` that imports `naught_server`; it is imported when a client connects to such a URL.

A *host* is an engine with its lock and its sweeping. A host with a name lives as long as the process, with or without
clients, as a server does. A host without a name lives as long as its client. Clients of one host may run in event
loops of different threads: the host's lock makes their turns exclusive.

Where there is no memory in the middle of a command, a server's process ends. A host is broken then: its clients lose
their connections, and calls fail as if the server were gone.

A timer of each connection runs the sweeper, in steps of SWEEP_ENTRIES. A step takes well under 1 ms. The engine asks
for the next step 10 ms later, or 100 ms later if there was nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from naught_server.engine import Engine
from naught_server.fatal import FATAL
from naught_server.protocol import ServerProtocol

SWEEP_ENTRIES: Final = 500
"""Table entries that one step of the sweeper may look at."""

PEER: Final = "memory"
"""The address of every client, as `sessions` shows it."""


def _now_ms() -> int:
    """The monotonic clock, common to all event loops of the process."""
    return time.monotonic_ns() // 1_000_000


class Host:
    """An engine to which clients of this process connect."""

    def __init__(self) -> None:
        self.engine: Final = Engine(first_hold=time.time_ns() // 1000)
        self.lock: Final = threading.RLock()  # held during every call into the engine and its protocols
        self._ahead_ms = 0  # by how much the clock was moved forward
        self.broken = False  # there was no memory in the middle of a command: nothing in the engine can be trusted

    def now_ms(self) -> int:
        """The engine's clock: the monotonic one of the process, and what was added to it."""
        return _now_ms() + self._ahead_ms

    def move_clock(self, by_ms: int) -> None:
        """Let this time pass at once, for tests: counters expire, and waits and leases end."""
        with self.lock:
            self._ahead_ms += by_ms
            now_ms = self.now_ms()
            while self.engine.next_due(now_ms) <= now_ms:
                self.engine.advance(now_ms, SWEEP_ENTRIES)

    def open(self, wake: Callable[[], None]) -> ServerProtocol:
        """A new connection that the caller drives itself, while it holds the lock.

        `wake` is called when a waiting request of the connection can continue.
        """
        return ServerProtocol(self.engine, wake, peer=PEER)

    def attach(self, protocol: asyncio.Protocol) -> None:
        """A new connection for `protocol`, whose `connection_made` is called before this returns.

        Raises OSError where the engine has run out of memory, as for a server that has ended.
        """
        if self.broken:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the engine of memory:// has run out of memory")
        protocol.connection_made(_MemoryTransport(self, protocol))


_hosts: dict[str, Host] = {}  # those with a name
_hosts_lock = threading.Lock()  # guards `_hosts`


def find_host(name: str | None) -> Host:
    """The host of that name, which the first call creates; for None a new one."""
    if name is None:
        return Host()
    with _hosts_lock:
        host = _hosts.get(name)
        if host is None:
            host = _hosts[name] = Host()
        return host


def drop_host(name: str) -> None:
    """Forget the host of that name, for tests: a later client of the name gets a new one."""
    with _hosts_lock:
        _hosts.pop(name, None)


def _forget_hosts() -> None:
    """In the child of a fork: drop all hosts, as a thread of the parent may have been changing an engine."""
    global _hosts_lock  # noqa: PLW0603 - a thread of the parent may hold the old lock
    _hosts_lock = threading.Lock()
    _hosts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_hosts)


class _MemoryTransport(asyncio.Transport):
    """The transport of one connection. `write` executes the requests, so there is no write buffer and no pausing."""

    def __init__(self, host: Host, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop: Final = asyncio.get_running_loop()
        self._host: Final = host
        self._protocol: Final = protocol
        self._server_protocol: Final = host.open(self._wake)
        self._replies: list[bytes] = []  # for the client, not delivered yet
        self._delivery_scheduled = False  # `_deliver` will run in this turn of the loop or the next
        self._turn_scheduled = False  # `_turn` will run
        self._closing = False  # `close` was called
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_due_ms = 0  # the time that `_sweep_timer` is set for; meaningless without a timer

    # The client's side.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        now_ms = self._host.now_ms()
        with self._engine_used():
            self._handle_output(self._server_protocol.receive(bytes(data), now_ms), now_ms)

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False  # everything written has been executed, so `close` loses nothing

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        with self._host.lock:
            if not self._host.broken:
                self._server_protocol.close(self._host.now_ms())
        self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    # The server's side.

    def _wake(self) -> None:
        """A waiting request can continue. Called during a turn of any connection, possibly in another thread."""
        if not self._closing and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._server_protocol.aborted:
            self.close()
        if self._closing:
            return
        now_ms = self._host.now_ms()
        with self._engine_used():
            self._handle_output(self._server_protocol.turn(now_ms), now_ms)

    @contextlib.contextmanager
    def _engine_used(self) -> Iterator[None]:
        """Use the engine, alone. Where there is no memory, it ends as a server does, and all connections are lost."""
        with self._host.lock:
            try:
                yield
            except FATAL:
                self._host.broken = True
            if self._host.broken:
                self.close()

    def _handle_output(self, replies: bytes, now_ms: int) -> None:
        """The server's protocol object has run and has returned `replies`: schedule what follows from that."""
        if replies:
            self._replies.append(replies)
        if (self._replies or self._server_protocol.closing) and not self._delivery_scheduled:
            # Not delivered immediately, because the client is in the middle of its own turn.
            self._delivery_scheduled = True
            self._loop.call_soon(self._deliver)
        if self._server_protocol.wants_turn and not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)
        self._update_sweep_timer(now_ms)

    def _deliver(self) -> None:
        self._delivery_scheduled = False
        if self._closing:
            return
        replies, self._replies = self._replies, []
        if replies:
            self._protocol.data_received(b"".join(replies))
        if self._server_protocol.closing and not self._server_protocol.wants_turn:
            self.close()

    # Sweeping.

    def _update_sweep_timer(self, now_ms: int) -> None:
        due_ms = max(self._host.engine.next_due(now_ms), now_ms + 1)
        if self._sweep_timer is not None:
            if self._sweep_due_ms <= due_ms:
                return
            self._sweep_timer.cancel()
        self._sweep_due_ms = due_ms
        self._sweep_timer = self._loop.call_later((due_ms - now_ms) / 1000, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        now_ms = self._host.now_ms()
        with self._engine_used():
            # Another connection of this engine may have taken the step: 250 of them took all of the time otherwise.
            if self._host.engine.next_due(now_ms) <= now_ms:
                self._host.engine.advance(now_ms, SWEEP_ENTRIES)
            self._update_sweep_timer(now_ms)
