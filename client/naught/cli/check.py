"""`naught ping --check`: whether a server answers, for the health check of a container.

    HEALTHCHECK CMD naught ping --check

One attempt: connect, ping, and see the answer, all of it within `CHECK_S`. The exit status is 0 or 1, and one line
says which and why. There is no session and no retry, because the caller repeats the check by itself.

The attempt is made by a thread that the process does not wait for. A look-up of a name cannot be broken off, and a
system that hangs in one must not keep the check from ending in time.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Final

from naught.core.calls import item_error
from naught.errors import CommandError, InvalidRequest
from naught.url import Address, TcpAddress, UnixAddress, parse_url
from naught.wire.codec import REPLY, encode_request, reply_unpacker

CHECK_S: Final = 0.7
"""How long the attempt may take. Starting Python takes up to two tenths of a second, and the check is to end within
one."""


NO_SERVER: Final = "what answers is no naught server"


def check(url: str, timeout: float = CHECK_S) -> float:
    """Ping a server once. Returns the seconds that it took.

    Raises InvalidRequest for a bad URL, CommandError when the server refuses, and OSError when it does not answer in
    `timeout` seconds, CHECK_S at most; and UnicodeError for a host that cannot be looked up.
    """
    address = parse_url(url)
    found: list[float | Exception] = []
    attempt = threading.Thread(target=_try, args=(address, min(timeout, CHECK_S), found), daemon=True)
    attempt.start()
    attempt.join(min(timeout, CHECK_S))
    if not found:
        raise TimeoutError(f"no answer within {min(timeout, CHECK_S):g} s")
    (result,) = found
    if isinstance(result, Exception):
        raise result
    return result


def _try(address: Address, timeout: float, found: list[float | Exception]) -> None:
    try:
        found.append(_ping(address, timeout))
    except Exception as error:
        found.append(error)


def _ping(address: Address, timeout: float) -> float:
    started = time.monotonic()
    until = started + timeout
    with _connected(address, timeout) as connection:
        connection.settimeout(max(0.001, until - time.monotonic()))
        connection.sendall(encode_request(1, "ping", ()))
        unpacker = reply_unpacker()
        reply = None
        while reply is None:
            connection.settimeout(max(0.001, until - time.monotonic()))
            data = connection.recv(4096)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            try:
                unpacker.feed(data)
                reply = next(unpacker, None)
            except Exception as error:  # msgpack raises various errors for bytes that are not MessagePack
                raise ConnectionError(NO_SERVER) from error
        _look_at(reply)
        return time.monotonic() - started


def _connected(address: Address, timeout: float) -> socket.socket:
    if isinstance(address, TcpAddress):
        return socket.create_connection((address.host, address.port), timeout)
    if isinstance(address, UnixAddress):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(address.path)
        except BaseException:
            connection.close()
            raise
        return connection
    raise InvalidRequest("memory:// is no server that could be checked")


def _look_at(reply: Any) -> None:
    """Raise unless this is the reply to the ping."""
    if reply.__class__ is not list or len(reply) != 4 or reply[:2] != [REPLY, 1]:
        raise ConnectionError(NO_SERVER)
    if reply[2] is not None:
        failure: CommandError = item_error(reply[2])
        raise failure
