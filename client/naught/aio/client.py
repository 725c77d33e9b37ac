"""The asyncio client: `connect`, and `Client` with a method for every method of the wire.

    async with naught.connect("naught://localhost:6480/orders") as counters:
        await counters.incr("seats:42")

The methods are in `naught/core/commands.py`, whose docstring says what they have in common. This module has the parts
that depend on the event loop: opening and closing a client.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from random import Random
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NoReturn, overload

from naught.aio.connection import Connection
from naught.aio.observed import sink_of
from naught.core.calls import KeyT
from naught.core.commands import Commands, Timeout
from naught.core.hooks import CallHook
from naught.core.options import Options, check_options
from naught.credentials import Secret
from naught.errors import ClientClosed, InvalidRequest, NaughtError
from naught.wire.codec import decode_key

if TYPE_CHECKING:
    from ssl import SSLContext


class Client(Commands[KeyT]):
    """A client of one cache of one server. `connect` makes it; it belongs to the event loop that it connects in.

    A call from anywhere else raises `WrongLoop`, and nothing is sent.

    One connection carries the calls of all tasks. `KeyT` is the type of the keys in results; plain `Client` means
    `Client[str]`.
    """

    def __init__(self, options: Options, decode: Callable[[bytes], KeyT]) -> None:
        self._options: Final = options  # and with it all that is needed to make the client anew
        self._address: Final = options.address
        self._connection: Final = Connection(options)
        Commands.__init__(self, sink_of(self._connection, options), timeout=options.timeout, decode=decode)

    @property
    def connected(self) -> bool:
        """Whether there is a connection now. Without one, calls wait for the next, within their timeouts."""
        return self._connection.ready

    # The end.

    async def close(self) -> None:
        """End the session, which gives back its holds, and close the connection.

        Pending calls raise ClientClosed. A second call does nothing. Raises WrongLoop in another loop than its own,
        unless that has ended, and changes nothing then.
        """
        await self._connection.close()

    aclose = close

    async def __aenter__(self) -> Client[KeyT]:
        if self._connection.used:
            self._connection.enter_loop()
        if self._connection.closed:
            raise ClientClosed(self._connection.session.closed_reason)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Copies.

    def __copy__(self) -> NoReturn:
        raise TypeError("a client is not copied: tasks share one, and for another session connect again")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is its URL and its options. Unpickled, it connects at its first call, as with `lazy=True`."""
        return Client, (self._options.to_pickle()._replace(lazy=True), self._decode)

    def __repr__(self) -> str:
        return f"<naught.Client {self._address}{' closed' if self._connection.closed else ''}>"

    def __del__(self) -> None:
        # Runs while the connection is open: the loop refers to the connection, but that does not refer to its client.
        connection: Connection | None = getattr(self, "_connection", None)  # it also runs if `__init__` raises
        if connection is None or connection.closed or not connection.used:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        connection.finalize()


class Connecting(Generic[KeyT]):
    """The result of `connect`: await it, or use it with `async with`, for one block at a time."""

    def __init__(self, make_client: Callable[[], Client[KeyT]]) -> None:
        self._make_client: Final[Callable[[], Client[KeyT]]] = make_client
        self._client: Client[KeyT] | None = None  # inside `async with`
        self._entered = False  # by a block, which is not over

    def __await__(self) -> Generator[Any, None, Client[KeyT]]:
        return self._open().__await__()

    async def _open(self) -> Client[KeyT]:
        client = self._make_client()
        try:
            await client._connection.open()
        except BaseException:
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Client[KeyT]:
        if self._entered:
            raise NaughtError("`async with` has this connect() open already: call connect() for each client")
        self._entered = True
        try:
            self._client = await self._open()
        except BaseException:
            self._entered = False
            raise
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client, self._entered = self._client, None, False
        if client is not None:
            await client.close()


@overload
def connect(
    url: str | None = None,
    *,
    timeout: Timeout = ...,
    connect_timeout: float | EllipsisType = ...,
    decode_keys: Literal[True] = True,
    session: bool = True,
    lease: Timeout = ...,
    name: str | EllipsisType | None = ...,
    user: str | EllipsisType | None = ...,
    secret: Secret | EllipsisType | None = ...,
    tls: SSLContext | None = None,
    random: Random | None = None,
    on_call_start: CallHook | None = None,
    on_call_end: CallHook | None = None,
    lazy: Literal[False] = False,
) -> Connecting[str]: ...


@overload
def connect(
    url: str | None = None,
    *,
    timeout: Timeout = ...,
    connect_timeout: float | EllipsisType = ...,
    decode_keys: Literal[False],
    session: bool = True,
    lease: Timeout = ...,
    name: str | EllipsisType | None = ...,
    user: str | EllipsisType | None = ...,
    secret: Secret | EllipsisType | None = ...,
    tls: SSLContext | None = None,
    random: Random | None = None,
    on_call_start: CallHook | None = None,
    on_call_end: CallHook | None = None,
    lazy: Literal[False] = False,
) -> Connecting[bytes]: ...


@overload
def connect(
    url: str | None = None,
    *,
    timeout: Timeout = ...,
    connect_timeout: float | EllipsisType = ...,
    decode_keys: Literal[True] = True,
    session: bool = True,
    lease: Timeout = ...,
    name: str | EllipsisType | None = ...,
    user: str | EllipsisType | None = ...,
    secret: Secret | EllipsisType | None = ...,
    tls: SSLContext | None = None,
    random: Random | None = None,
    on_call_start: CallHook | None = None,
    on_call_end: CallHook | None = None,
    lazy: Literal[True],
) -> Client[str]: ...


@overload
def connect(
    url: str | None = None,
    *,
    timeout: Timeout = ...,
    connect_timeout: float | EllipsisType = ...,
    decode_keys: Literal[False],
    session: bool = True,
    lease: Timeout = ...,
    name: str | EllipsisType | None = ...,
    user: str | EllipsisType | None = ...,
    secret: Secret | EllipsisType | None = ...,
    tls: SSLContext | None = None,
    random: Random | None = None,
    on_call_start: CallHook | None = None,
    on_call_end: CallHook | None = None,
    lazy: Literal[True],
) -> Client[bytes]: ...


def connect(
    url: str | None = None,
    *,
    timeout: Timeout = ...,
    connect_timeout: float | EllipsisType = ...,
    decode_keys: bool = True,
    session: bool = True,
    lease: Timeout = ...,
    name: str | EllipsisType | None = ...,
    user: str | EllipsisType | None = ...,
    secret: Secret | EllipsisType | None = ...,
    tls: SSLContext | None = None,
    random: Random | None = None,
    on_call_start: CallHook | None = None,
    on_call_end: CallHook | None = None,
    lazy: bool = False,
) -> Connecting[str] | Connecting[bytes] | Client[str] | Client[bytes]:
    """Connect to a server: `async with connect(url) as counters`, or `counters = await connect(url)` and later
    `await counters.close()`.

    `url`: naught://host:port/cache, naughts://host:port/cache (TLS), naught+unix:///path.sock?cache=name, memory://
    or memory://name; see `naught.url`. None for what the variable NAUGHT_URL of the environment says. A URL may have
    the options timeout, connect_timeout, lease and name (`?timeout=2&name=web-3`), which hold where the argument is
    `...`.
    `timeout`: default timeout of every call in seconds, reconnecting included; None for no limit. 1 if nothing is
    said.
    `connect_timeout`: seconds for the first connection, which may take several attempts, and for each later attempt;
    5 if nothing is said.
    `decode_keys`: True returns keys as str (bytes that are not UTF-8 become lone surrogates), False as bytes.
    `session`: True resumes the session after a broken connection, so every call is executed once and holds are kept.
    With False, a change whose reply was lost raises OutcomeUnknown, and nothing can be held.
    `lease`: seconds that the session outlives a broken connection, 0.1 to 300; None for the server's default (10).
    `name`: what the client calls itself, 1 to 128 bytes of text. Operators see it beside what it holds (`sessions`,
    `holders`, the server's log). None for `host:pid`.
    `user`, `secret`: who the client is, for a server that has users. If nothing is said, what the URL says
    (naught://user:secret@host), or else the variables NAUGHT_USER and NAUGHT_SECRET. `secret` may be a function: it
    is called at each attempt to connect, in the event loop, and returns a str or an awaitable of one. So a token that
    changes is taken anew; what it raises is a failed attempt. memory:// has no users. A secret is never shown and
    never pickled: unpickled elsewhere, a client takes it from NAUGHT_SECRET there, or from the function.
    `tls`: the context of a naughts:// URL, where its files (`?ca=FILE&cert=FILE&key=FILE`) are not enough. A client
    with a context is not pickled.
    `lazy`: True returns the `Client` at once, without a connection, also where no event loop runs, so that a module
    can make its client when it is imported. The first call connects, in the loop that it is made in, and waits for
    the connection within its timeout. So a service starts while the server is down.
    `random`: draws the pauses between attempts; pass a seeded one to make them reproducible.
    `on_call_start`: called with each call of the client, a `naught.ObservedCall`, when it starts.
    `on_call_end`: called with the same object when the call has ended.

    `on_call_start` runs in the method itself, in the task that calls it: after the arguments were checked, and before
    the call is queued. A call whose arguments are refused is not seen. `on_call_end` runs once for each call that was
    seen, in the event loop and before the task that awaits the call goes on. (Where the call cannot be queued, as the
    client is closed, it runs before the method raises.) A call that is cancelled ends with `CancelledError`, whether
    it was sent or not. Calls that travel in one message are seen one by one, each with its own duration. In the child
    of a fork, calls of the parent have no end. A hook must not block and must not call this client. What a hook
    raises does not change the call; it is logged, the first time only. Hooks that are left out cost nothing.

    Raises InvalidRequest for a bad URL or option immediately. When awaited, raises ConnectionFailed if there is no
    connection in time, or at once if what answers does not speak naught, and the server's CommandError if it refuses
    the cache or the user (Unauthenticated, Denied). A connection that breaks later is replaced. If the server refuses
    the user then, calls raise its error at once until an attempt succeeds; attempts are 1 to 30 seconds apart. The
    addresses of a name are tried side by side.
    """
    options = check_options(
        url,
        timeout=timeout,
        connect_timeout=connect_timeout,
        session=session,
        lease=lease,
        name=name,
        user=user,
        secret=secret,
        tls=tls,
        random=random,
        on_call_start=on_call_start,
        on_call_end=on_call_end,
        lazy=lazy,
    )
    if not isinstance(decode_keys, bool):
        raise InvalidRequest(f"decode_keys is True or False, not {decode_keys!r}")
    if lazy:
        return Client(options, decode_key) if decode_keys else Client(options, bytes)
    if decode_keys:
        return Connecting[str](lambda: Client(options, decode_key))
    return Connecting[bytes](lambda: Client(options, bytes))
