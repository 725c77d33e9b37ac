"""memory:// - the server's own engine in this process, behind the same client, with no socket between.

What a client writes goes to a server channel as if it had come from a socket, and the replies come back in the next
turn of the loop: the same bytes, the same code, so what holds here holds against a server. Imported only when such a
URL is connected to; this is the one place where the client's package knows the server's.

A *host* is an engine and what keeps it going. One with a name lives as long as the process, whether or not somebody
is connected, as a server would; one without lives with its client. Clients of one host may run in loops of different
threads: a lock keeps their turns apart.

Sweeping is driven from here, by a timer of each connection, in steps of SWEEP_ENTRIES: a step takes well under
1 ms, and the engine asks for the next one 10 ms later, or 100 ms when there was nothing to do.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from naught_server.engine import Engine
from naught_server.protocol import ServerProtocol

SWEEP_ENTRIES: Final = 500


def _now_ms() -> int:
    """One clock for all loops of the process."""
    return time.monotonic_ns() // 1_000_000


class Host:
    """An engine that clients of this process connect to."""

    def __init__(self) -> None:
        self.engine: Final = Engine(first_hold=time.time_ns() // 1000)
        self.lock: Final = threading.RLock()  # held for every call into the engine and its channels
        self.sweep_due_ms = 0  # when `sweep` has something to do

    now_ms = staticmethod(_now_ms)

    def open(self, wake: Callable[[], None]) -> ServerProtocol:
        """A new connection, for who drives it by hand; `wake` says that it can go on. Hold the lock to use it."""
        return ServerProtocol(self.engine, wake)

    def sweep(self) -> None:
        """One step of sweeping, if it is time for one."""
        now_ms = _now_ms()
        with self.lock:
            if now_ms >= self.sweep_due_ms:
                self.engine.advance(now_ms, SWEEP_ENTRIES)
            self.sweep_due_ms = max(self.engine.next_due(now_ms), now_ms + 1)

    def attach(self, protocol: asyncio.Protocol) -> None:
        """A new connection for `protocol`, which hears connection_made at once."""
        protocol.connection_made(_Transport(self, protocol))


_hosts: dict[str, Host] = {}
_hosts_lock = threading.Lock()


def find_host(name: str | None) -> Host:
    """The host of that name, made when it is first asked for; a new one for None."""
    if name is None:
        return Host()
    with _hosts_lock:
        host = _hosts.get(name)
        if host is None:
            host = _hosts[name] = Host()
        return host


def _forget_hosts() -> None:
    """In the child of a fork: the engines stay the parent's, one of whose threads may have been inside one."""
    global _hosts_lock  # noqa: PLW0603 - it may be held by a thread that is not here
    _hosts_lock = threading.Lock()
    _hosts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_hosts)


class _Transport(asyncio.Transport):
    """Writing is executing. Nothing is ever buffered on the way in, so writing is never paused."""

    def __init__(self, host: Host, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop: Final = asyncio.get_running_loop()
        self._host: Final = host
        self._protocol: Final = protocol
        self._channel: Final = ServerProtocol(host.engine, self._wake)
        self._replies: list[bytes] = []  # not delivered yet
        self._scheduled = False  # _deliver will run
        self._turn_scheduled = False  # _turn will run
        self._closing = False
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_due_ms = 0  # what the timer is set for; meaningful while there is one

    # The side of the client.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        now_ms = _now_ms()
        with self._host.lock:
            self._took(self._channel.receive(bytes(data), now_ms), now_ms)

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False  # what was written has been executed: closing loses nothing

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        with self._host.lock:
            self._channel.close(_now_ms())
        self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    # The side of the server.

    def _wake(self) -> None:
        """The channel can go on. Called inside somebody's turn, perhaps in another thread."""
        if not self._closing and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._channel.aborted:
            self.close()
        if self._closing:
            return
        now_ms = _now_ms()
        with self._host.lock:
            self._took(self._channel.turn(now_ms), now_ms)

    def _took(self, replies: bytes, now_ms: int) -> None:
        """The channel has had a turn, which gave `replies`."""
        if replies:
            self._replies.append(replies)
        if (self._replies or self._channel.closing) and not self._scheduled:
            # Not at once: the client is in the middle of its own turn.
            self._scheduled = True
            self._loop.call_soon(self._deliver)
        if self._channel.wants_turn and not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)
        self._plan_sweep(now_ms)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._closing:
            return
        replies, self._replies = self._replies, []
        if replies:
            self._protocol.data_received(b"".join(replies))
        if self._channel.closing and not self._channel.wants_turn:
            self.close()

    # Sweeping.

    def _plan_sweep(self, now_ms: int) -> None:
        due_ms = max(self._host.engine.next_due(now_ms), now_ms + 1)
        if self._sweep_timer is not None:
            if self._sweep_due_ms <= due_ms:
                return
            self._sweep_timer.cancel()
        self._sweep_due_ms = due_ms
        self._sweep_timer = self._loop.call_later((due_ms - now_ms) / 1000, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        now_ms = _now_ms()
        with self._host.lock:
            self._host.engine.advance(now_ms, SWEEP_ENTRIES)
            self._plan_sweep(now_ms)
