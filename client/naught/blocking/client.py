"""`naught.blocking.Client`: every method of the wire, blocking the calling thread until the reply is there."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Literal, NoReturn, Unpack, overload

from naught.aio.client import connect
from naught.blocking.future import run, waiting
from naught.blocking.loop import Loop
from naught.blocking.patterns import InFlight, Permit, Quota, Reference, Semaphore, WaitGroup, making
from naught.core.calls import SCAN_COUNT, Key, KeyT
from naught.core.commands import Commands, Timeout
from naught.core.hooks import sink_with_hooks
from naught.core.options import ConnectOptions, Options, check_options
from naught.errors import ClientClosed, InvalidRequest
from naught.wire.codec import decode_key


class Client(Generic[KeyT]):
    """A client of one cache of one server, for any number of threads.

    Connects when it is made; use it with `with`, or `close` it. `naught.connect` explains the options, and
    `naught.core.commands` what the methods have in common. Raises InvalidRequest for a bad URL or option,
    ConnectionFailed when there is no connection in time, or no thread to be had, and the error of a server that
    refuses the cache.

    A call blocks its thread for a round trip; called in the thread of an event loop, it blocks that loop. What a
    signal handler raises, or another thread sets (which strikes within a second), ends only the call it strikes; what
    that was granted goes back, and what it was giving back too. Only before the first instruction of a release an
    interrupt leaves the permit held until the client is closed.
    """

    __signature__ = inspect.signature(connect).replace(return_annotation=inspect.Signature.empty)

    @overload
    def __init__(
        self: Client[str],
        url: str | None = None,
        *,
        decode_keys: Literal[True] = True,
        **options: Unpack[ConnectOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Client[bytes], url: str | None = None, *, decode_keys: Literal[False], **options: Unpack[ConnectOptions]
    ) -> None: ...

    def __init__(
        self, url: str | None = None, *, decode_keys: bool = True, **options: Unpack[ConnectOptions]
    ) -> None:
        checked = check_options(url, **options)
        if not isinstance(decode_keys, bool):
            raise InvalidRequest(f"decode_keys is True or False, not {decode_keys!r}")
        self._begin(checked, decode_key if decode_keys else bytes)

    def _begin(self, options: Options, decode: Callable[[bytes], Any]) -> None:
        self._options = options  # with `_decode` all that is needed to make the client anew
        self._decode = decode
        self._address = options.address
        self._connection = Loop(options)
        new_future = self._connection.new_future
        sink = sink_with_hooks(self._connection, options.hooks, options.address, perf_counter, new_future)
        self._inner: Commands[Any] = Commands(sink, timeout=options.timeout, decode=decode)
        self._closed = False
        if not options.lazy:  # else the first call starts it
            self._connection.open()

    incr = waiting(Commands.incr)
    decr = waiting(Commands.decr)
    apply = waiting(Commands.apply)
    try_incr = waiting(Commands.try_incr)
    throttle = waiting(Commands.throttle)
    acquire = waiting(Commands.acquire)
    release = waiting(Commands.release)
    wait_zero = waiting(Commands.wait_zero)
    acquire_all = waiting(Commands.acquire_all, Permit)
    semaphore = making(Commands.semaphore, Semaphore)
    wait_group = making(Commands.wait_group, WaitGroup)
    reference = making(Commands.reference, Reference)
    in_flight = making(Commands.in_flight, InFlight)
    quota = making(Commands.quota, Quota)
    get = waiting(Commands.get)
    get_many = waiting(Commands.get_many)
    set = waiting(Commands.set)
    take = waiting(Commands.take)
    expire = waiting(Commands.expire)
    ttl = waiting(Commands.ttl)

    held = waiting(Commands[KeyT].held)
    scan = waiting(Commands[KeyT].scan)
    top = waiting(Commands[KeyT].top)
    count = waiting(Commands.count)
    clear = waiting(Commands.clear)
    ping = waiting(Commands.ping)
    info = waiting(Commands.info)
    config_get = waiting(Commands.config_get)
    config_set = waiting(Commands.config_set)
    sessions = waiting(Commands.sessions)
    holders = waiting(Commands.holders)
    end_session = waiting(Commands.end_session)
    sweep = waiting(Commands.sweep)
    slowlog = waiting(Commands.slowlog)
    slowlog_reset = waiting(Commands.slowlog_reset)

    def scan_iter(
        self, *, prefix: Key = "", count: int = SCAN_COUNT, timeout: Timeout = ...
    ) -> Iterator[tuple[KeyT, int]]:
        """All counters with their values, page by page; `count` and `timeout` are for each page."""
        pages = self._inner.scan_iter(prefix=prefix, count=count, timeout=timeout)
        while True:
            try:
                yield run(anext(pages))
            except StopAsyncIteration:
                return

    @property
    def connected(self) -> bool:
        """Whether there is a connection now. Without one, calls wait for the next, within their timeouts."""
        connection = self._connection.connection
        return connection is not None and connection.ready

    def close(self) -> None:
        """End the session, which gives back its holds, and close the connection.

        Pending calls of other threads raise ClientClosed. A second call does nothing.
        """
        self._closed = True
        self._connection.close()

    def __enter__(self) -> Client[KeyT]:
        if self._closed:
            raise ClientClosed("the client is closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<naught.blocking.Client {self._address}{' closed' if self._closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is its URL and its options, without a secret. Unpickled, it connects anew."""
        return _make_again, (type(self), self._options.to_pickle(), self._decode)

    def __copy__(self, _: object = None) -> NoReturn:
        raise TypeError("a client is not copied: share it between threads, or make another one for the same URL")

    __deepcopy__ = __copy__

    def __del__(self) -> None:
        connection: Loop | None = getattr(self, "_connection", None)  # it also runs if `__init__` raises
        if connection is not None and connection.running:
            if not self._closed:  # else an interrupt has struck `close`
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            connection.stop()


def _make_again(kind: type[Client[Any]], options: Options, decode: Callable[[bytes], Any]) -> Client[Any]:
    """How a client is unpickled. Raises InvalidRequest where it has no secret here, and as `Client` does."""
    if options.credentials is not None:
        options.credentials.check()
    client = kind.__new__(kind)
    client._begin(options, decode)
    return client
