"""`naught.blocking.Client`: every method of the wire, blocking the calling thread until the reply is there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from random import Random
from types import EllipsisType, TracebackType
from typing import Any, Final, Generic, Literal, overload

from naught.blocking.future import run
from naught.blocking.link import Link
from naught.blocking.observed import sink_of
from naught.blocking.patterns import InFlight, Permit, Quota, Reference, Semaphore, WaitGroup
from naught.blocking.waiting import making, waiting
from naught.core.calls import SCAN_COUNT, Cursor, Key, KeyT, ScanPage
from naught.core.commands import Commands, Timeout
from naught.core.hooks import CallHook
from naught.core.options import check_options
from naught.wire.codec import decode_key


class Client(Generic[KeyT]):
    """A client of one cache of one server, for any number of threads.

    Connects when it is made; use it with `with`, or `close` it. What it takes is explained by `naught.connect`, what
    its methods have in common in `naught.core.commands`. Raises InvalidRequest for a bad URL or option,
    ConnectionFailed when there is no connection in time, and what the server answers when it refuses the cache.

    A call costs the time of a round trip on the thread that makes it. KeyboardInterrupt, or whatever else a signal
    handler raises, may break off any call; the client stays usable, and a thread that is interrupted while it waits
    holds nothing by that. Between a grant and its block, and on leaving that before the release is asked for, there
    are some microseconds in which an interrupt leaves a permit held until the client is closed.
    """

    @overload
    def __init__(
        self: Client[str],
        url: str | None = None,
        *,
        timeout: Timeout = ...,
        connect_timeout: float | EllipsisType = ...,
        decode_keys: Literal[True] = True,
        session: bool = True,
        lease: Timeout = ...,
        name: str | EllipsisType | None = ...,
        random: Random | None = None,
        on_call_start: CallHook | None = None,
        on_call_end: CallHook | None = None,
        lazy: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self: Client[bytes],
        url: str | None = None,
        *,
        timeout: Timeout = ...,
        connect_timeout: float | EllipsisType = ...,
        decode_keys: Literal[False],
        session: bool = True,
        lease: Timeout = ...,
        name: str | EllipsisType | None = ...,
        random: Random | None = None,
        on_call_start: CallHook | None = None,
        on_call_end: CallHook | None = None,
        lazy: bool = False,
    ) -> None: ...

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: Timeout = ...,
        connect_timeout: float | EllipsisType = ...,
        decode_keys: bool = True,
        session: bool = True,
        lease: Timeout = ...,
        name: str | EllipsisType | None = ...,
        random: Random | None = None,
        on_call_start: CallHook | None = None,
        on_call_end: CallHook | None = None,
        lazy: bool = False,
    ) -> None:
        self._closed = True  # until everything is there: __del__ runs for an object half made too
        options = check_options(
            url,
            timeout=timeout,
            connect_timeout=connect_timeout,
            session=session,
            lease=lease,
            name=name,
            random=random,
            on_call_start=on_call_start,
            on_call_end=on_call_end,
            lazy=lazy,
        )
        self._address: Final = options.address
        self._connection: Final = Link(options)
        self._inner: Final[Commands[Any]] = Commands(
            sink_of(self._connection),
            timeout=options.timeout,
            decode=decode_key if decode_keys else bytes,
        )
        if lazy:
            self._connection.start()
        else:
            self._connection.open()
        self._closed = False

    # Counting.

    incr = waiting(Commands.incr)
    decr = waiting(Commands.decr)
    apply = waiting(Commands.apply)
    try_incr = waiting(Commands.try_incr)
    throttle = waiting(Commands.throttle)

    # Holding and waiting.

    acquire = waiting(Commands.acquire)
    release = waiting(Commands.release)
    wait_zero = waiting(Commands.wait_zero)
    acquire_all = waiting(Commands.acquire_all, Permit)
    semaphore = making(Commands.semaphore, Semaphore)
    wait_group = making(Commands.wait_group, WaitGroup)
    reference = making(Commands.reference, Reference)
    in_flight = making(Commands.in_flight, InFlight)
    quota = making(Commands.quota, Quota)

    # Single counters.

    get = waiting(Commands.get)
    get_many = waiting(Commands.get_many)
    set = waiting(Commands.set)
    take = waiting(Commands.take)
    expire = waiting(Commands.expire)
    ttl = waiting(Commands.ttl)

    # Listings. What gives keys says here of which type they are: the type of a function cannot say, the client's.

    def held(self, *, timeout: Timeout = ...) -> dict[int, dict[KeyT, int]]:
        """What this client holds: by the number of the hold, the amounts by key."""
        return run(self._inner.held(timeout=timeout))

    def scan(
        self, cursor: Cursor = 0, *, count: int = SCAN_COUNT, prefix: Key = "", timeout: Timeout = ...
    ) -> ScanPage[KeyT]:
        """One page of counters; see `naught.core.commands.Commands.scan`."""
        return run(self._inner.scan(cursor, count=count, prefix=prefix, timeout=timeout))

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

    def top(self, n: int, *, prefix: Key = "", timeout: Timeout = ...) -> list[tuple[KeyT, int]]:
        """The `n` largest counters, largest first; see `naught.core.commands.Commands.top`."""
        return run(self._inner.top(n, prefix=prefix, timeout=timeout))

    count = waiting(Commands.count)
    clear = waiting(Commands.clear)

    # Administration.

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

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment. Calls wait for the next one, within their timeouts."""
        return self._connection.ready

    # The end.

    def close(self) -> None:
        """Close the connection, and end the session: what it holds goes back. Calls of other threads that have not
        ended raise ClientClosed. Again does nothing."""
        self._closed = True
        self._connection.close()

    def __enter__(self) -> Client[KeyT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<naught.blocking.Client {self._address}{' closed' if self._closed else ''}>"

    def __del__(self) -> None:
        # The keeper's thread keeps the link alive and the link does not know its client, so this does run.
        if getattr(self, "_closed", True):
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._connection.finalize()
