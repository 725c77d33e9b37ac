"""A blocking connection for what happens before and after a run: preparing, checking, cleaning up.

It is deliberately the plainest thing that works; nothing here is measured.
"""

from __future__ import annotations

import socket
from types import TracebackType

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import Driver, Failure, Inspector, Reply
from naught_loadtest.drivers.target import Target

# Verification may wait behind a server that is still digesting the load.
ANSWER_S_MAX = 30.0
CONNECT_S_MAX = 5.0


class Link:
    """One connection, one question at a time. Raises OSError (TimeoutError too) when it breaks."""

    def __init__(self, target: Target, driver: Driver, answer_s_max: float = ANSWER_S_MAX) -> None:
        self._driver = driver
        if target.path is not None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(CONNECT_S_MAX)
            self._socket.connect(target.path)
        else:
            self._socket = socket.create_connection((target.host, target.port), CONNECT_S_MAX)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(answer_s_max)
        greeting = driver.greeting(target)
        if greeting is not None:
            reply = self.ask(greeting)[0]
            if isinstance(reply, Failure):
                self.close()
                raise RuntimeError(f"{target.url}: the server answers {reply.kind}: {reply.message}")

    def ask(self, request: bytes, replies: int = 1) -> list[Reply]:
        """Send, and wait for so many replies. Failures are returned as they are."""
        self.send(request)
        data = b""
        found: list[Reply] = []
        while len(found) < replies:
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
            whole, used = self._driver.parse(data)
            found += whole
            data = data[used:]
        return found

    def send(self, request: bytes) -> None:
        """Send only. A later `ask` or `read` must then wait for the replies to this as well."""
        self._socket.sendall(request)

    def read(self, count: int) -> bytes:
        """Exactly so many bytes of replies, not looked at: for who knows what they must be."""
        data = bytearray(count)
        view = memoryview(data)
        while view:
            read = self._socket.recv_into(view)
            if not read:
                raise ConnectionError("the server closed the connection")
            view = view[read:]
        return bytes(data)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def inspect(target: Target, answer_s_max: float = ANSWER_S_MAX) -> tuple[Link, Inspector]:
    """A link to a target and its inspector. The caller closes the link."""
    driver = driver_for(target.kind)
    link = Link(target, driver, answer_s_max)
    return link, driver.inspector(link)
