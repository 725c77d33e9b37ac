"""`dial`: a connection to a host that may have several addresses, tried side by side (Happy Eyeballs, RFC 8305).

The addresses of a name are put in an order in which IPv6 and IPv4 alternate. An attempt begins as soon as the one
before has failed, or ATTEMPT_DELAY_S after that began; the first that succeeds is used, and the others are cancelled.
So an address that swallows packets costs a quarter of a second, and not the whole time. Connecting alone is no
success, because a proxy also accepts a connection when there is no server behind it: where there are several
addresses, the server must have answered a greeting (`greeting.py`).

asyncio's own loop can do a part of this and uvloop cannot (its `create_connection` has no such parameters), so it is
written here on what both have: `getaddrinfo` and `sock_connect`. The caller bounds the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, TypeVar

from naught.errors import NaughtError, is_refusal

ATTEMPT_DELAY_S: Final = 0.25
"""The delay between two attempts that RFC 8305 recommends."""

LABEL_BYTES_MAX: Final = 63
"""Of one part of a name (RFC 1035)."""

T = TypeVar("T")

AddressInfo = tuple[Any, ...]
"""Family, type, protocol, canonical name and address of a socket, as `getaddrinfo` gives them."""


async def dial(
    host: str,
    port: int,
    establish: Callable[[socket.socket, bool], Awaitable[T]],
    discard: Callable[[T], object],
) -> T:
    """What `establish` makes of a connected socket that does not block.

    Its second argument is whether there are other addresses. It must close the socket when it raises. `discard` gets
    what was made and is not needed. Raises the error of `establish`, and OSError when no address can be reached, or
    there is none.
    """
    addresses = in_turn(await resolve(host, port))

    async def attempt(address: AddressInfo) -> T:
        return await establish(await connect(address), len(addresses) > 1)

    return await race(addresses, attempt, discard)


async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """The addresses of a name, as the system orders them. An address is its own: asking would take a thread, and with
    the modules for names 10 of the 150 ms in which a command starts."""
    for family, rest in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, *rest))]
    # A text needs a module for other scripts, 2 ms to import, which also says what is wrong with a name that is none.
    plain = host.isascii() and all(0 < len(label) <= LABEL_BYTES_MAX for label in host.removesuffix(".").split("."))
    name = host.encode() if plain else host
    return await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)


def in_turn(addresses: Iterable[AddressInfo]) -> list[AddressInfo]:
    """The same, the families in turn, beginning with that of the first address."""
    families: dict[int, list[AddressInfo]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]


async def race(
    addresses: Iterable[AddressInfo], attempt: Callable[[AddressInfo], Awaitable[T]], discard: Callable[[T], object]
) -> T:
    """The result of the first attempt that succeeds. A server that refuses the client ends the others too."""

    async def begun(address: AddressInfo) -> T:
        return await attempt(address)

    waiting = deque(addresses)
    running: set[asyncio.Task[T]] = set()
    errors: list[BaseException] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(begun(waiting.popleft())))
            delay = ATTEMPT_DELAY_S if waiting else None
            await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task.done()]:
                running.remove(task)
                error = task.exception()
                if error is None:
                    return task.result()
                if is_refusal(error):
                    raise error
                errors.append(error)
    finally:
        await _end(running, discard)
    answers = [error for error in errors if is_distrust(error) or isinstance(error, NaughtError)]
    if answers or len(errors) == 1:
        raise (answers or errors)[0]
    raise OSError("; ".join(dict.fromkeys(map(str, errors))) or "the name has no address")


def is_distrust(error: BaseException) -> bool:
    """Whether the certificate of the server is not one to trust: trying again would not help."""
    return type(error).__name__ == "SSLCertVerificationError"  # its module is not imported for that


async def connect(address: AddressInfo) -> socket.socket:
    """A connected socket that does not block."""
    family, kind, protocol, _, where = address
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, where)
        # A request is one write, which must not wait for the reply to the one before.
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _end(attempts: set[asyncio.Task[T]], discard: Callable[[T], object]) -> None:
    """Cancel the attempts that are not needed, and discard what has come of them meanwhile."""
    for task in attempts:
        task.cancel()
    if attempts:
        await asyncio.wait(attempts)
    for task in attempts:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())
