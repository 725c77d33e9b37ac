"""A blocking connection for the time before and after a run: preparing the server, checking it, cleaning up.

Nothing is measured here, so the connection is kept as simple as possible: one request at a time, then its reply.
"""

from __future__ import annotations

import socket
from types import TracebackType

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import Driver, Failure, Inspector, Reply
from naught_loadtest.drivers.target import Target

# A verification may have to wait behind requests of the load that the server has not executed yet.
ANSWER_S_MAX = 30.0
CONNECT_S_MAX = 5.0


class Probe:
    """One connection. Raises OSError (TimeoutError is one) when the connection fails or an answer takes too long."""

    def __init__(self, target: Target, driver: Driver) -> None:
        # Reads the replies.
        self._driver = driver
        # Connected here; waits up to `ANSWER_S_MAX` seconds for each piece of a reply.
        self._socket: socket.socket
        if target.path is not None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(CONNECT_S_MAX)
            self._socket.connect(target.path)
        else:
            self._socket = socket.create_connection((target.host, target.port), CONNECT_S_MAX)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(ANSWER_S_MAX)
        greeting = driver.greeting(target)
        if greeting is not None:
            reply = self.ask(greeting)[0]
            if isinstance(reply, Failure):
                self.close()
                raise RuntimeError(f"{target.url}: the server answers {reply.kind}: {reply.message}")

    def ask(self, request: bytes, replies: int = 1) -> list[Reply]:
        """Send, and wait for this number of replies. A `Failure` is returned like any other reply."""
        self.send(request)
        data = b""
        received: list[Reply] = []
        while len(received) < replies:
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
            complete, used = self._driver.parse(data)
            received += complete
            data = data[used:]
        return received

    def send(self, request: bytes) -> None:
        """Only send. A later `ask` or `read` must then wait for the replies to this request as well."""
        self._socket.sendall(request)

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes of replies, unparsed: for a caller that knows which bytes must come."""
        data = bytearray(count)
        view = memoryview(data)
        while view:
            received = self._socket.recv_into(view)
            if not received:
                raise ConnectionError("the server closed the connection")
            view = view[received:]
        return bytes(data)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_probe(target: Target) -> tuple[Probe, Inspector]:
    """A probe connected to the target, and the inspector that uses it. The caller closes the probe."""
    driver = driver_for(target.kind).for_probe()
    probe = Probe(target, driver)
    return probe, driver.inspector(probe)
