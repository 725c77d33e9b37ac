"""A method for every method of the wire: `Commands`, which every kind of client is or has.

A method checks its arguments, hands the call to the *port*, which carries it to a server and its answer back, and
returns a future of that answer. How one waits for it is the port's affair, and all in which clients differ: the
asyncio client (`client.py`) hands out the futures of its loop, and the one for threads (`naught.blocking`) futures
that hold up the thread that awaits them, where a task would be suspended. So what is written with `await`, here and
in the patterns, serves both.

The methods are plain functions and not coroutines where they can be: that saves a tenth of what a call costs (1 180
against 1 290 ns, uvloop, 100 tasks), and a call is on its way once it is made, awaited or not. Where a coroutine is
asked for, as by `asyncio.create_task`, use `asyncio.ensure_future` or `asyncio.gather`, which take both.

What all methods have in common, and their docstrings leave out:

- `timeout` is in seconds, reconnecting included; `...` means the client's own, None no limit. When it has run out the
  call raises `CallTimeout`, which says nothing about whether the call took effect.
- An argument of the wrong type or outside its range raises `InvalidRequest`, a key or batch over its limit
  `TooLarge`, and a closed client `ClientClosed`: at once, from the call itself, and the calls beside it are not
  affected.
- A change whose reply was lost with the session raises `OutcomeUnknown`. Reads are repeated, and so is whatever
  was never sent.
- `Busy` is the server's word that it did not execute the call; `Unavailable` says that it failed in the middle of it.
- Cancelling a call that is not sent yet takes it out; later, only its answer is dropped.
- A call costs one round trip. Calls made in the same turn of the loop, or by threads at the same time, share one
  write, and consecutive `incr` and `decr` with the same `ttl_ms` and `timeout` one message of up to 1 000.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar

from naught.core import calls
from naught.core.calls import (
    SCAN_COUNT,
    Acquired,
    Call,
    Cursor,
    Grant,
    Key,
    KeyT,
    ScanPage,
    check_amount,
    check_integer,
)
from naught.core.holds import Hold
from naught.core.messages import Message, Waiter
from naught.errors import CallTimeout, CommandError
from naught.patterns import InFlight, Permit, Quota, Reference, Semaphore, WaitGroup, acquire_permit
from naught.wire.codec import encode_key
from naught.wire.limits import KEY_BYTES_MAX, VALUE_MAX

if TYPE_CHECKING:
    from asyncio import Future

ResultT = TypeVar("ResultT")

Timeout: TypeAlias = float | EllipsisType | None
"""Seconds; `...` for the client's own, None for no limit."""


class Port(Protocol):
    """What carries calls: a `ClientSession` with what drives it. The first five are the session's own."""

    def change(
        self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Waiter, /
    ) -> None: ...
    def ask(self, call: Call[Any], timeout: float | None, waiter: Waiter, /) -> Message: ...
    def give_up(self, message: Message, /) -> None: ...
    def give_back(self, hold: Hold, /) -> None: ...
    def forget(self, hold: Hold, /) -> None: ...

    def new_future(self) -> Future[Any]:
        """What a caller awaits."""

    def caller(self) -> Hashable:
        """Who runs: the task, or the thread."""


class Commands(Generic[KeyT]):
    """The commands of one cache of one server. `KeyT` is the type keys come back as."""

    def __init__(self, port: Port, *, timeout: float | None, decode: Callable[[bytes], KeyT]) -> None:
        self._port: Final = port
        self._timeout: Final = timeout  # seconds, of calls that say nothing else
        self._decode: Final[Callable[[bytes], KeyT]] = decode
        # What every call needs, one look-up away.
        self._new_future: Final[Callable[[], Future[Any]]] = port.new_future
        self._change: Final = port.change
        self._ask: Final = port.ask

    # Counting.

    def incr(
        self,
        key: Key,
        by: int = 1,
        *,
        ttl_ms: int | None = None,
        timeout: Timeout = ...,
    ) -> Future[int]:
        """Add `by` (1 to 2^63-1) and return the value after.

        `ttl_ms` (1 to ten years) counts only when this call creates the counter; None creates it without a limit.
        Raises CounterOverflow, with nothing changed, when the value would pass 2^63-1, and CacheFull when the
        counter would be one too many.
        """
        if by.__class__ is not int or not 0 < by <= VALUE_MAX:
            by = check_amount(by)
        # encode_key, inlined for keys that are as they should be: 90 ns less.
        if type(key) is str:
            try:
                data = key.encode()
            except UnicodeEncodeError:
                data = encode_key(key)
            if not 0 < len(data) <= KEY_BYTES_MAX:
                encode_key(key)
        else:
            data = encode_key(key)
        future = self._new_future()
        self._change(data, by, ttl_ms, self._timeout if timeout is ... else timeout, future)
        return future

    def decr(self, key: Key, by: int = 1, *, strict: bool = False, timeout: Timeout = ...) -> Future[int]:
        """Take `by` (1 to 2^63-1) away and return the value after, which never falls below 0: the counter is gone
        then.

        With `strict` an answer of 0 says that this very call evicted the counter, and taking more than there is
        raises CounterUnderflow and changes nothing. Without, 0 may also mean that there was none. A strict call
        travels alone, at about six times the cost of a joined one.
        """
        if strict:
            return self._send(calls.decr_strict(key, by), timeout)
        if by.__class__ is not int or not 0 < by <= VALUE_MAX:
            by = check_amount(by)
        if type(key) is str:
            try:
                data = key.encode()
            except UnicodeEncodeError:
                data = encode_key(key)
            if not 0 < len(data) <= KEY_BYTES_MAX:
                encode_key(key)
        else:
            data = encode_key(key)
        future = self._new_future()
        self._change(data, -by, None, self._timeout if timeout is ... else timeout, future)
        return future

    def apply(
        self,
        keys: Iterable[Key],
        deltas: Iterable[int] | int,
        *,
        ttl_ms: int | None = None,
        timeout: Timeout = ...,
    ) -> Future[list[int | CommandError]]:
        """Add each delta to its key, in order, below 0 to take away; one integer serves for all.

        At most 4 096 items and about 1 MiB. Returns the value after for each. Items stand alone: one that
        fails is an exception in its place (CounterOverflow, CacheFull) and the others have happened. Costs
        about 0.5 us an item, a third of what separate calls cost.
        """
        return self._send(calls.apply(keys, deltas, ttl_ms), timeout)

    def try_incr(
        self,
        items: Iterable[tuple[Key, int, int]],
        *,
        ttl_ms: int | None = None,
        timeout: Timeout = ...,
    ) -> Future[Grant]:
        """Add to several counters if none of them passes its limit, else to none.

        Items are `(key, by, limit)`, at most 4 096. Returns `Grant(granted, values)`.
        """
        return self._send(calls.try_incr(items, ttl_ms), timeout)

    # Holding and waiting.

    async def acquire(
        self,
        items: Iterable[tuple[Key, int, int]],
        *,
        wait: float | None = 0.0,
        timeout: Timeout = ...,  # noqa: ASYNC109 - it is the call's own, kept by the link's timer
    ) -> Acquired:
        """Add to several counters as `try_incr` does, and hold what was added until it is released.

        Items are `(key, by, limit)`. What is held goes back by `release`, and by itself when this client is closed,
        or has been gone for its lease. `wait`: seconds to wait for room, first come first served, None for no limit;
        `timeout` is the wait unless said otherwise, where there is one. Returns `Acquired(granted, values, hold)`,
        not granted when the wait ran out. Raises Busy with too much held. Cancelled, it holds nothing.

        Most callers want `semaphore`.
        """
        call = calls.acquire(items, wait)
        future = self._new_future()
        try:
            return await self._wait(call, wait, timeout, future)
        except CallTimeout:
            if not call.parks:
                raise
            return Acquired(False, [], None)
        except BaseException:
            # Cancelled, perhaps in the turn in which it was granted.
            if future.done() and not future.cancelled() and future.exception() is None:
                hold = future.result().hold
                if hold is not None:
                    self._port.give_back(hold)
            raise

    def release(
        self,
        hold: Hold | int,
        items: Iterable[tuple[Key, int]] | None = None,
        *,
        timeout: Timeout = ...,
    ) -> Future[list[int]]:
        """Give back a hold, or the amounts `(key, by)` of it; the values after.

        Raises NotHeld, with nothing changed, when this is not held (any more): it was released, the session was lost,
        or its counters were absent since, by whatever command. What was asked for is sent even when its caller gives
        up before it could be.
        """
        future = self._send(calls.release(hold, items), timeout)
        if items is None and isinstance(hold, Hold):
            self._port.forget(hold)  # now that the call was accepted: until then it is held, and may be lost
        return future

    async def held(self, *, timeout: Timeout = ...) -> dict[int, dict[KeyT, int]]:  # noqa: ASYNC109 - each page has its own
        """What this client holds: by the number of the hold, the amounts by key."""
        found: dict[int, dict[KeyT, int]] = {}
        after = 0
        while page := await self._send(calls.held(after, self._decode), timeout):
            found.update(page)
            after = page[-1][0]
        return found

    async def wait_zero(self, key: Key, *, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the server keeps it
        """Wait until the counter is absent: true at once if it is; false when `timeout` seconds have passed."""
        call = calls.wait_zero(key, timeout)
        try:
            return await self._wait(call, timeout, ..., self._new_future())
        except CallTimeout:
            if not call.parks:
                raise
            return False

    def semaphore(self, name: Key, limit: int) -> Semaphore:
        """A semaphore of `limit` permits, shared by everybody who uses the counter `name` so; see
        `naught.patterns`."""
        return Semaphore(self, name, limit)

    def wait_group(self, name: Key, *, held: bool = False) -> WaitGroup:
        """Work that is to be done before somebody goes on. With `held`, what dies with its process counts as done."""
        return WaitGroup(self, name, held=held)

    def reference(self, name: Key) -> Reference:
        """A reference count: `release` is true for the one that lets go last."""
        return Reference(self, name)

    def in_flight(self, name: Key) -> InFlight:
        """A count of what goes on right now, for `async with`; what dies with its process is uncounted."""
        return InFlight(self, name)

    def quota(self, name: Key, limit: int, per: float) -> Quota:
        """At most `limit` in each window of `per` seconds."""
        return Quota(self, name, limit, per)

    async def acquire_all(
        self,
        limits: Mapping[Key, int],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as of a semaphore
    ) -> Permit:
        """A permit of several semaphores at once, by name with their limits: all of them or none.

        Waits up to `timeout` seconds, None for no limit, in the queue of each. Raises CallTimeout.
        """
        items = [(name, 1, check_integer("limit", limit, 1, VALUE_MAX)) for name, limit in limits.items()]
        return await acquire_permit(self, items, timeout)

    async def _wait(
        self,
        call: Call[ResultT],
        wait: float | None,
        timeout: Timeout,  # noqa: ASYNC109 - the server keeps it
        future: Future[ResultT],
    ) -> ResultT:
        """Ask what the server may let wait. Who is cancelled takes it back, also before it was sent."""
        if timeout is ...:
            timeout = wait if call.parks else self._timeout
        message: Message | None = None
        try:
            message = self._ask(call, timeout, future)
            return await future
        except CallTimeout:
            raise
        except BaseException:
            future.cancel()  # a thread may be interrupted with its call queued, and before it waits for it
            if message is not None:
                self._port.give_up(message)
            raise

    # Single counters.

    def get(self, key: Key, *, timeout: Timeout = ...) -> Future[int]:
        """The value; 0 when there is no such counter."""
        return self._send(calls.get(key), timeout)

    def get_many(self, keys: Iterable[Key], *, timeout: Timeout = ...) -> Future[list[int]]:
        """The values of up to 4 096 keys, in their order, all of one moment."""
        return self._send(calls.get_many(keys), timeout)

    def set(
        self,
        key: Key,
        value: int,
        *,
        ttl_ms: int | None = None,
        timeout: Timeout = ...,
    ) -> Future[int]:
        """Replace the value (0 to 2^63-1; 0 evicts) and the time to live. Returns the value before.

        Raises CacheFull when the counter would be one too many.
        """
        return self._send(calls.set(key, value, ttl_ms), timeout)

    def take(self, keys: Iterable[Key], *, timeout: Timeout = ...) -> Future[list[int]]:
        """Read and evict up to 4 096 counters in one step, for draining them elsewhere. Returns their values."""
        return self._send(calls.take(keys), timeout)

    def expire(self, key: Key, ttl_ms: int | None, *, timeout: Timeout = ...) -> Future[bool]:
        """Let the counter end `ttl_ms` from now, or never with None. Returns whether there was such a counter."""
        return self._send(calls.expire(key, ttl_ms), timeout)

    def ttl(self, key: Key, *, timeout: Timeout = ...) -> Future[int | None]:
        """Milliseconds the counter has left; -1 when it has no limit, None when there is none."""
        return self._send(calls.ttl(key), timeout)

    # Listings.

    def scan(
        self,
        cursor: Cursor = 0,
        *,
        count: int = SCAN_COUNT,
        prefix: Key = "",
        timeout: Timeout = ...,
    ) -> Future[ScanPage[KeyT]]:
        """One page of about `count` (1 to 4 096) counters. Start with cursor 0, go on with the page's, end at 0.

        A counter that lives through the whole scan is seen exactly once, any other at most once.
        """
        return self._send(calls.scan(cursor, count, prefix, self._decode), timeout)

    async def scan_iter(
        self,
        *,
        prefix: Key = "",
        count: int = SCAN_COUNT,
        timeout: Timeout = ...,  # noqa: ASYNC109 - each page has its own
    ) -> AsyncIterator[tuple[KeyT, int]]:
        """All counters with their values, page by page; `count` and `timeout` are for each page."""
        cursor: Cursor = 0
        while True:
            page = await self.scan(cursor, count=count, prefix=prefix, timeout=timeout)
            for counter in page.counters:
                yield counter
            cursor = page.cursor
            if cursor == 0:
                return

    def top(self, n: int, *, prefix: Key = "", timeout: Timeout = ...) -> Future[list[tuple[KeyT, int]]]:
        """The `n` (1 to 4 096) largest counters, largest first, ties by key.

        Exact if nothing changes meanwhile, else each value was true during the call. The server looks at every
        counter, in slices.
        """
        return self._send(calls.top(n, prefix, self._decode), timeout)

    def count(self, prefix: Key = "", *, timeout: Timeout = ...) -> Future[int]:
        """How many counters there are. With a prefix the server looks at every one, without at none."""
        return self._send(calls.count(prefix), timeout)

    def clear(self, *, timeout: Timeout = ...) -> Future[int]:
        """Evict every counter of the cache in one step. Returns how many there were."""
        return self._send(calls.clear(), timeout)

    # Administration.

    def ping(self, *, timeout: Timeout = ...) -> Future[None]:
        """Ask for a sign of life."""
        return self._send(calls.ping(), timeout)

    def info(self, *, timeout: Timeout = ...) -> Future[dict[str, Any]]:
        """What the server says about itself, as PROTOCOL.md lists it."""
        return self._send(calls.info(), timeout)

    def config_get(self, name: str | None = None, *, timeout: Timeout = ...) -> Future[Any]:
        """A setting that may be changed while the server runs; without a name a dict of them all."""
        return self._send(calls.config_get(name), timeout)

    def config_set(self, name: str, value: Any, *, timeout: Timeout = ...) -> Future[Any]:
        """Change a setting. Returns what it is then. Raises InvalidRequest for what the setting cannot be."""
        return self._send(calls.config_set(name, value), timeout)

    async def sessions(self, *, timeout: Timeout = ...) -> list[dict[str, Any]]:  # noqa: ASYNC109 - each page has its own
        """The sessions of the server, for its operator: numbers and figures, never what would let one be resumed."""
        found: list[dict[str, Any]] = []
        while page := await self._send(calls.sessions(found[-1]["session"] if found else 0), timeout):
            found += page
        return found

    def sweep(self, *, timeout: Timeout = ...) -> Future[int]:
        """Have the sweeper take one step now, of some thousand entries. Returns how many it worked on."""
        return self._send(calls.sweep(), timeout)

    def _send(self, call: Call[ResultT], timeout: Timeout) -> Future[ResultT]:
        future = self._new_future()
        self._ask(call, self._timeout if timeout is ... else timeout, future)
        return future
