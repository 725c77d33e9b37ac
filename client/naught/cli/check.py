"""`naught ping`: whether a server answers, and how fast. `naught ping --check` is the health check of a container.

    HEALTHCHECK CMD naught ping --check

One attempt: connect, log in where a user is said, ping, and see the answer. There is no session and no retry, so a
refused connection is said at once. With `--check` all of it ends within `CHECK_S`, the exit status is 0 or 1, and one
line says which and why; the caller repeats the check by itself.

The attempt is made by a thread that the process does not wait for. A look-up of a name cannot be broken off, and a
system that hangs in one must not keep the command from ending in time.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from naught.cli.arguments import Access, access_of
from naught.cli.exit_status import FAILED, OK
from naught.cli.streams import say
from naught.cli.text import visible
from naught.credentials import Credentials, check_credentials, check_secret, text_as_sent
from naught.errors import CommandError, InvalidRequest, NaughtError, Unauthenticated, error_from_wire
from naught.url import Address, TcpAddress, TlsFiles, UnixAddress, parse, without_secret
from naught.wire.codec import REPLY, encode_request, reply_unpacker

if TYPE_CHECKING:
    from naught.cli.output import Output

CHECK_S: Final = 0.7
"""How long the attempt may take. Starting Python takes up to two tenths of a second, and the check is to end within
one."""


NO_SERVER: Final = "what answers is no naught server"


def ping(arguments: argparse.Namespace, output: Output) -> int:
    """The command. Raises InvalidRequest for a bad URL, unless it is a health check."""
    try:
        if arguments.check:
            seconds = check(arguments.url, arguments.timeout, access_of(arguments))
        else:
            seconds = round_trip(arguments.url, arguments.timeout, access_of(arguments))
    except (NaughtError, OSError, UnicodeError) as error:
        why = visible(str(getattr(error, "strerror", None) or error))
        url = visible(without_secret(arguments.url))
        if arguments.check:
            say(f"{url} is not healthy: {why}")
        elif isinstance(error, InvalidRequest):
            raise
        else:
            say(f"{url} does not answer: {why}")
        return FAILED
    if output.as_json:
        output.json({"ms": round(seconds * 1000, 3)})
    else:
        output.line(f"pong in {seconds * 1000:.2f} ms")
    return OK


def check(url: str, timeout: float = CHECK_S, access: Access | None = None) -> float:
    """Ping a server once, whichever cache the URL names. Returns the seconds that it took, connecting included.

    A server that wants to know who asks, where nobody has said it, answers, and so is healthy. Raises InvalidRequest
    for a bad URL, CommandError when the server refuses, and OSError when it does not answer in `timeout` seconds,
    CHECK_S at most; and UnicodeError for a host that cannot be looked up.
    """
    started = time.monotonic()
    attempt = Attempt(options_of(url, access), min(timeout, CHECK_S))
    attempt.in_thread(attempt.ping)
    return time.monotonic() - started


def round_trip(url: str, timeout: float, access: Access | None = None) -> float:
    """The seconds of a round trip on a connection that is open, in the cache of the URL. Raises as `check` does."""
    attempt = Attempt(options_of(url, access), timeout)
    return attempt.in_thread(attempt.timed)


class CheckOptions(NamedTuple):
    """What of a URL and of arguments an attempt needs."""

    address: Address
    credentials: Credentials | None
    tls: TlsFiles | None


def options_of(url: str, access: Access | None) -> CheckOptions:
    """Parse the URL. Raises InvalidRequest."""
    address, said = parse(url)
    given = access or {}
    credentials = check_credentials(given.get("user", ...), given.get("secret", ...), (said.user, said.secret))
    return CheckOptions(address, credentials, said.tls)


class Attempt:
    """One connection to a server, for a few requests, one after another."""

    def __init__(self, options: CheckOptions, timeout: float) -> None:
        self._address: Final = options.address
        self._credentials: Final = options.credentials
        self._tls: Final = options.tls
        self._timeout: Final = max(0.001, timeout)
        self._until: Final = time.monotonic() + self._timeout
        self._unpacker: Final = reply_unpacker()
        self._msgid = 0  # of the last request

    def in_thread(self, run: Any) -> float:
        """The result of `run` in a thread of its own, or its exception; TimeoutError where it takes too long."""
        found: list[float | Exception] = []

        def attempt() -> None:
            try:
                found.append(run())
            except Exception as error:
                found.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(self._timeout)
        if not found:
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        (result,) = found
        if isinstance(result, Exception):
            raise result
        return result

    def ping(self) -> float:
        """Connect and ping."""
        with self._connected() as connection:
            self._hello(connection, None)
            try:
                self._ask(connection, "ping")
            except Unauthenticated:
                if self._credentials is not None:
                    raise
        return 0.0

    def timed(self) -> float:
        """Connect, choose the cache, and ping. Returns how long the ping alone took, in seconds."""
        with self._connected() as connection:
            self._hello(connection, self._address.cache)
            started = time.monotonic()
            self._ask(connection, "ping")
            return time.monotonic() - started

    def _hello(self, connection: socket.socket, cache: str | None) -> None:
        """Log in, and choose the cache, where there is something to say."""
        words: dict[str, Any] = {} if cache is None else {"cache": cache}
        if self._credentials is not None:
            secret = self._credentials.secret()
            assert isinstance(secret, str), "from a file, the URL or the environment"
            words |= {"user": text_as_sent(self._credentials.user), "secret": text_as_sent(check_secret(secret))}
        if words:
            self._ask(connection, "hello", words)

    def _ask(self, connection: socket.socket, method: str, *params: Any) -> None:
        """One request. Raises CommandError when the server refuses it, OSError when it does not answer."""
        self._msgid += 1
        connection.settimeout(self._left())
        connection.sendall(encode_request(self._msgid, method, params))
        reply = None
        while reply is None:
            connection.settimeout(self._left())
            data = connection.recv(4096)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            try:
                self._unpacker.feed(data)
                reply = next(self._unpacker, None)
            except Exception as error:  # msgpack raises various errors for bytes that are not MessagePack
                raise ConnectionError(NO_SERVER) from error
        self._look_at(reply)

    def _look_at(self, reply: Any) -> None:
        """Raise unless this is the reply to the last request, and good."""
        if reply.__class__ is not list or len(reply) != 4 or reply[:2] != [REPLY, self._msgid]:
            raise ConnectionError(NO_SERVER)
        error = reply[2]
        if error is None:
            return
        if error.__class__ is not list or len(error) != 2 or not all(isinstance(word, bytes) for word in error):
            raise ConnectionError(NO_SERVER)
        failure: CommandError = error_from_wire(*(word.decode("utf-8", "replace") for word in error))
        raise failure

    def _left(self) -> float:
        return max(0.001, self._until - time.monotonic())

    def _connected(self) -> socket.socket:
        address = self._address
        if isinstance(address, TcpAddress):
            plain = socket.create_connection((address.host, address.port), self._timeout)
            return self._with_tls(plain, address.host) if address.tls else plain
        if isinstance(address, UnixAddress):
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(self._timeout)
                connection.connect(address.path)
            except BaseException:
                connection.close()
                raise
            return connection
        raise InvalidRequest("memory:// is no server that could be checked")

    def _with_tls(self, plain: socket.socket, host: str) -> socket.socket:
        """This connection after the handshake of TLS."""
        from naught.tls import client_context

        try:
            plain.settimeout(self._left())
            return client_context(self._tls).wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
