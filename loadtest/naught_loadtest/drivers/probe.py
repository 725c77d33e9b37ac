"""A blocking connection for the time before and after a run: preparing the server, checking it, cleaning up.

Nothing is measured here, so the connection is kept as simple as possible: one request at a time, then its reply.
"""

from __future__ import annotations

import socket
import ssl
import time
from types import TracebackType

from naught_loadtest.drivers import driver_for
from naught_loadtest.drivers.base import Driver, Failure, Inspector, ProtocolFaultError, Reply
from naught_loadtest.drivers.target import Target
from naught_loadtest.drivers.tls import context_of

# How long a server that has no load may take for an answer.
ANSWER_S_MAX = 5.0
# A verification may have to wait behind requests of the load that the server has not executed yet.
AFTER_ANSWER_S_MAX = 30.0
CONNECT_S_MAX = 5.0
# More bytes than this without a whole reply among them are no reply: `info` and 4 096 values have far fewer.
REPLY_BYTES_MAX = 1 << 22


class Probe:
    """One connection.

    Raises OSError (TimeoutError is one) when the connection fails or an answer takes too long, and
    ProtocolFaultError when what arrives is no reply.
    """

    def __init__(self, target: Target, driver: Driver, answer_s_max: float | None = None) -> None:
        # Reads the replies.
        self._driver = driver
        # How long the replies to a request may take, all together.
        self._answer_s_max = ANSWER_S_MAX if answer_s_max is None else answer_s_max
        # Connected here.
        self._socket: socket.socket
        if target.path is not None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(CONNECT_S_MAX)
            self._socket.connect(target.path)
        else:
            self._socket = socket.create_connection((target.host, target.port), CONNECT_S_MAX)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            context = context_of(target)
            if context is not None:
                self._socket = _with_tls(self._socket, context, target.host)
        self._socket.settimeout(self._answer_s_max)
        greeting = driver.greeting(target)
        if greeting is not None:
            try:
                reply = self.ask(greeting)[0]
                if isinstance(reply, Failure):
                    raise RuntimeError(f"{target.url}: the server answers {reply.kind}: {reply.message}")
            except BaseException:
                self.close()
                raise

    def allow(self, answer_s_max: float) -> None:
        """From now on replies may take this long."""
        self._answer_s_max = answer_s_max
        self._socket.settimeout(answer_s_max)

    def ask(self, request: bytes, replies: int = 1) -> list[Reply]:
        """Send, and wait for this number of replies. A `Failure` is returned like any other reply."""
        until_s = time.monotonic() + self._answer_s_max
        self.send(request)
        data = b""
        received: list[Reply] = []
        while len(received) < replies:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no answer within {self._answer_s_max:g} s")
            self._socket.settimeout(left_s)
            try:
                piece = self._socket.recv(1 << 20)
            except TimeoutError:
                raise TimeoutError(f"no answer within {self._answer_s_max:g} s") from None
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
            complete, used = self._driver.parse(data)
            received += complete
            data = data[used:]
            if len(data) > REPLY_BYTES_MAX:
                raise ProtocolFaultError(f"no reply ends within {REPLY_BYTES_MAX} bytes: {data[:40]!r}")
        self._socket.settimeout(self._answer_s_max)
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


def _with_tls(connected: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """The socket after the handshake. It is closed where that fails."""
    try:
        return context.wrap_socket(connected, server_hostname=host)
    except BaseException:
        connected.close()
        raise


def open_probe(target: Target, answer_s_max: float | None = None) -> tuple[Probe, Inspector]:
    """A probe connected to the target, and the inspector that uses it. The caller closes the probe.

    `answer_s_max` is how long an answer may take; None for `ANSWER_S_MAX`.
    """
    driver = driver_for(target.kind).for_probe()
    probe = Probe(target, driver, answer_s_max)
    return probe, driver.inspector(probe)
