"""The asyncio client: `connect`, and `Client` with a method for every method of the wire.

    async with naught.connect("naught://localhost:6480/orders") as counters:
        await counters.incr("seats:42")

The methods, and what they have in common, are in `commands.py`. Here is what has to do with the event loop: how a
client comes to be and how it ends.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from random import Random
from types import TracebackType
from typing import Any, Final, Generic, Literal, overload

from naught.aio.connection import Link
from naught.core.calls import KeyT
from naught.core.commands import Commands
from naught.core.options import Options, check_options
from naught.wire.codec import decode_key


class Client(Commands[KeyT]):
    """A client of one cache of one server. Made by `connect`; belongs to the event loop it was made in.

    One connection carries the calls of all tasks. `KeyT` is the type keys come back as: `Client` alone
    means `Client[str]`.
    """

    def __init__(self, options: Options, decode: Callable[[bytes], KeyT]) -> None:
        self._closed = True  # until everything is there: __del__ runs for an object half made too
        self._address: Final = options.address
        self._link: Final = Link(options)
        Commands.__init__(self, self._link, timeout=options.timeout, decode=decode)
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment. Calls wait for the next one, within their timeouts."""
        return self._link.ready

    # The end.

    async def close(self) -> None:
        """Close the connection, and end the session: what it holds goes back. Calls that have not ended raise
        ClientClosed. Again does nothing."""
        self._closed = True
        await self._link.close()

    aclose = close

    async def __aenter__(self) -> Client[KeyT]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<naught.Client {self._address}{' closed' if self._closed else ''}>"

    def __del__(self) -> None:
        # The loop keeps the link alive and the link does not know its client, so this does run.
        if getattr(self, "_closed", True):
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._link.abandon()


class Connecting(Generic[KeyT]):
    """What `connect` returns: await it, or enter it with `async with`."""

    def __init__(self, make_client: Callable[[], Client[KeyT]]) -> None:
        self._make_client: Final[Callable[[], Client[KeyT]]] = make_client
        self._client: Client[KeyT] | None = None  # while entered

    def __await__(self) -> Generator[Any, None, Client[KeyT]]:
        return self._open().__await__()

    async def _open(self) -> Client[KeyT]:
        client = self._make_client()
        try:
            await client._link.open()
        except BaseException:
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Client[KeyT]:
        self._client = await self._open()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


@overload
def connect(
    url: str,
    *,
    timeout: float | None = 1.0,
    connect_timeout: float = 5.0,
    decode_keys: Literal[True] = True,
    session: bool = True,
    lease: float | None = None,
    random: Random | None = None,
) -> Connecting[str]: ...


@overload
def connect(
    url: str,
    *,
    timeout: float | None = 1.0,
    connect_timeout: float = 5.0,
    decode_keys: Literal[False],
    session: bool = True,
    lease: float | None = None,
    random: Random | None = None,
) -> Connecting[bytes]: ...


def connect(
    url: str,
    *,
    timeout: float | None = 1.0,
    connect_timeout: float = 5.0,
    decode_keys: bool = True,
    session: bool = True,
    lease: float | None = None,
    random: Random | None = None,
) -> Connecting[str] | Connecting[bytes]:
    """Connect to a server: `async with connect(url) as counters`, or `counters = await connect(url)` and `close`
    later.

    `url`: naught://host:port/cache, naught+unix:///path.sock?cache=name, memory:// or memory://name; see
    `naught.url`.
    `timeout`: seconds a call may take unless it says otherwise, reconnecting included; None for no limit.
    `connect_timeout`: seconds the first connection may take, in as many attempts as they allow, and each later
    attempt.
    `decode_keys`: keys come back as str (what is no UTF-8 as lone surrogates), or as the bytes they are.
    `session`: resume after a broken connection, so that every call runs once and what is held stays held. Without, a
    change whose reply was lost raises OutcomeUnknown, and nothing can be held.
    `lease`: seconds the session outlives a broken connection, 0.1 to 300; None leaves it to the server (10).
    `random`: draws the pauses between attempts; give a seeded one where they should repeat.

    Raises InvalidRequest for a bad URL or option at once; awaited, ConnectionFailed when there is no connection in
    time, and what the server answers when it refuses the cache. A connection that breaks later is replaced.
    """
    options = check_options(
        url, timeout=timeout, connect_timeout=connect_timeout, session=session, lease=lease, random=random
    )
    if decode_keys:
        return Connecting[str](lambda: Client(options, decode_key))
    return Connecting[bytes](lambda: Client(options, bytes))
