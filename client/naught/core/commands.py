"""`Commands`: a method for every method of the wire. The asyncio client inherits it, the blocking client wraps it.

A method checks its arguments, hands the call to a *sink* (`sink.py`), and returns a future of the reply. The kinds of
client differ only in the future: awaiting one of `naught.Client` suspends the task, awaiting one of `naught.blocking`
blocks the thread. So code that is written with `await`, here and in `naught/patterns.py`, serves both.

Most methods are plain functions that return a future, not coroutine functions. That saves a tenth of the cost of a
call (1 180 against 1 290 ns, uvloop, 100 tasks), and the call is made even if the future is never awaited. As
`asyncio.create_task` requires a coroutine, use `asyncio.ensure_future` or `asyncio.gather`, which accept both.

Common to all methods, and not repeated in their docstrings:

- `timeout` is in seconds and includes reconnecting; `...` stands for the client's default, None for no limit. When it
  expires the call raises `CallTimeout`, which does not tell whether the call took effect.
- An argument of the wrong type or outside its range raises `InvalidRequest`, a key or batch over its limit
  `TooLarge`, and a closed client `ClientClosed`. These are raised by the call itself, not by the future, and other
  calls of the same turn are not affected.
- A change whose reply was lost with the session raises `OutcomeUnknown`. Reads are repeated. Calls that were not sent
  yet are sent on the next connection.
- `Busy` means that the server did not execute the call. `Unavailable` means that the server failed while executing
  it.
- A call that is cancelled before it was sent is not sent. If it is cancelled later, its result is dropped.
- A call costs one round trip. Calls made in the same turn of the event loop, or by threads at the same time, share
  one write. Consecutive `incr` and `decr` calls with the same `ttl_ms` and `timeout` share one message, up to 1 000.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from naught.core import calls
from naught.core.calls import (
    ANSWER_S,
    SCAN_COUNT,
    Acquired,
    Call,
    Cursor,
    Grant,
    Holder,
    Key,
    KeyT,
    ScanPage,
    Throttled,
    check_amount,
    check_integer,
)
from naught.core.holds import Hold
from naught.core.messages import Message
from naught.core.sink import CallSink
from naught.errors import CallTimeout, CommandError, InvalidRequest
from naught.patterns import (
    InFlight,
    Permit,
    Quota,
    Reference,
    Semaphore,
    Unreachable,
    WaitGroup,
    acquire_permit,
)
from naught.wire.codec import encode_key
from naught.wire.limits import KEY_BYTES_MAX, VALUE_MAX

if TYPE_CHECKING:
    from asyncio import Future

ResultT = TypeVar("ResultT")

Timeout: TypeAlias = float | EllipsisType | None
"""Seconds; `...` for the client's default, None for no limit."""


class Commands(Generic[KeyT]):
    """The commands of one cache of one server. `KeyT` is the type keys come back as."""

    def __init__(self, sink: CallSink, *, timeout: float | None, decode: Callable[[bytes], KeyT]) -> None:
        self._sink: Final = sink  # carries the calls
        self._timeout: Final = timeout  # seconds: the default of every call
        self._decode: Final[Callable[[bytes], KeyT]] = decode  # makes keys in replies into what the caller gets
        # Methods of the sink that every call uses, stored here to save one attribute look-up per call.
        self._new_future: Final[Callable[[], Future[Any]]] = sink.new_future
        self._change: Final = sink.change
        self._ask: Final = sink.ask

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

        `ttl_ms` (1 to ten years) is the time to live if this call creates the counter, None for no limit; an existing
        counter keeps its own. Raises CounterOverflow, with nothing changed, when the value would pass 2^63-1, and
        CacheFull when the cache has as many counters as it may have.
        """
        if by.__class__ is not int or not 0 < by <= VALUE_MAX:
            by = check_amount(by)
        # `encode_key`, inlined for valid text keys: saves 90 ns.
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
        """Subtract `by` (1 to 2^63-1) and return the value after. It stops at 0, and at 0 the counter is gone.

        With `strict`, a result of 0 means that this call evicted the counter, and subtracting more than the value
        raises CounterUnderflow and changes nothing. Without `strict`, 0 may also mean that there was no counter. A
        strict call travels alone, at about six times the cost of a joined one.
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
        """Add each delta to its key, in order; negative deltas decrement. One integer is the delta of every key.

        At most 4 096 items and about 1 MiB. Returns the value after, for each item. Items stand alone: in the place
        of a failed item is its exception (CounterOverflow, CacheFull), and the other items have taken effect. Costs
        about 0.5 us an item, a third of the cost of separate calls.
        """
        return self._send(calls.apply(keys, deltas, ttl_ms), timeout)

    def try_incr(
        self,
        items: Iterable[tuple[Key, int, int]],
        *,
        ttl_ms: int | None = None,
        timeout: Timeout = ...,
    ) -> Future[Grant]:
        """Add to several counters if none of them would pass its limit; otherwise change nothing.

        Items are `(key, by, limit)`, at most 1 024. Returns `Grant(granted, values)`.
        """
        return self._send(calls.try_incr(items, ttl_ms), timeout)

    def throttle(
        self,
        key: Key,
        limit: int,
        per_ms: int,
        burst: int | None = None,
        by: int = 1,
        *,
        timeout: Timeout = ...,
    ) -> Future[Throttled]:
        """Grant `by` uses, all or nothing, of `limit` in each `per_ms` milliseconds: a limiter without windows.

        A bucket of `burst` uses (`limit` unless said) is full at first and refills evenly, `limit` in `per_ms`. At
        one moment at most `burst` are granted, in any span of `per_ms` at most `burst + limit`. `by` 0 asks without
        using. Returns `Throttled(granted, remaining, retry_after_ms, reset_after_ms)`, which is true if granted.
        Exact under concurrency, to the millisecond of the server's clock (GCRA).

        The counter is the debt of the bucket and expires when the bucket is full: nothing is left behind. Raises
        InvalidRequest for `by` above `burst`, which would never be granted, and for a bucket that takes longer than
        ten years to fill; CacheFull as `incr` does.
        """
        return self._send(calls.throttle(key, limit, per_ms, burst, by), timeout)

    # Holding and waiting.

    async def acquire(
        self,
        items: Iterable[tuple[Key, int, int]],
        *,
        wait: float | None = 0.0,
        again: bool = False,
        timeout: Timeout = ...,  # noqa: ASYNC109 - the timer of the connection enforces it
    ) -> Acquired:
        """Add to several counters as `try_incr` does, and hold the added amounts until they are released.

        Items are `(key, by, limit)`. The server subtracts the amounts at `release`, when this client is closed, and
        when the client has been disconnected for its lease. `wait`: seconds to wait for room, first come first
        served; None for no limit. `again`: acquire the hold once more when the session was lost with the server, if
        the limits allow that (see `naught.core.holds`). `timeout` defaults to `wait` if the call may wait. Returns
        `Acquired(granted, values, hold)`, not granted if the server says that the wait ran out. Raises CallTimeout
        where the server has not answered by then, and Busy when the session holds too much. If the call is cancelled,
        nothing is held.

        Most callers want `semaphore`.
        """
        call = calls.acquire(items, wait, again=again)
        future = self._new_future()
        try:
            return await self._ask_and_wait(call, wait, timeout, future)
        except BaseException:
            # Cancelled, possibly in the same turn in which the grant arrived.
            if future.done() and not future.cancelled() and future.exception() is None:
                hold = future.result().hold
                if hold is not None:
                    self._sink.release_untaken(hold)
            raise

    def release(
        self,
        hold: Hold | int,
        items: Iterable[tuple[Key, int]] | None = None,
        *,
        timeout: Timeout = ...,
    ) -> Future[list[int]]:
        """Give back a hold, or only the amounts `(key, by)` of it. Returns the values after.

        Raises NotHeld, with nothing changed, when the amounts are not held (any more): they were released, the
        session was lost, or the counter has been absent since, whatever command removed it. The release is sent even
        if its caller gives up before that.
        """
        return self._send(calls.release(hold, items), timeout)

    async def held(self, *, timeout: Timeout = ...) -> dict[int, dict[KeyT, int]]:  # noqa: ASYNC109 - each page has its own
        """The holds of this client: the number of each hold, with its amounts by key."""
        found: dict[int, dict[KeyT, int]] = {}
        after = 0
        while page := await self._send(calls.held(after, self._decode), timeout):
            found.update(page)
            after = page[-1][0]
        return found

    async def wait_zero(self, key: Key, *, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the server keeps it
        """Wait until the counter is absent. Returns True then, or False after `timeout` seconds, None for no limit.

        Both are answers of the server. Raises CallTimeout where it has not answered by then.
        """
        return await self._ask_and_wait(calls.wait_zero(key, timeout), timeout, ..., self._new_future())

    def semaphore(
        self, name: Key, limit: int, *, timeout: float | None = None, unreachable: Unreachable = "closed"
    ) -> Semaphore:
        """A semaphore of `limit` permits, shared by all clients that use the same name; see `naught.patterns`.

        `timeout`: seconds that each of its uses waits for a permit (`async with`, the decorator, `acquire` unless it
        says otherwise); None for no limit. `unreachable`: "open" gives permits that are not counted while the server
        cannot be asked, which needs a `timeout`; "closed" raises.
        """
        return Semaphore(self, name, limit, timeout=timeout, unreachable=unreachable)

    def wait_group(self, name: Key, *, held: bool = False) -> WaitGroup:
        """A count of unfinished work that can be waited for. `held`: work of a process that dies counts as done."""
        return WaitGroup(self, name, held=held)

    def reference(self, name: Key) -> Reference:
        """A reference count: `release` returns True for the last reference."""
        return Reference(self, name)

    def in_flight(self, name: Key, *, timeout: Timeout = ...) -> InFlight:
        """A count of running operations, for `async with`. Operations of a process that dies are not counted.

        `timeout`: seconds that entering a block may take; `...` for the client's default.
        """
        return InFlight(self, name, timeout=timeout)

    def quota(self, name: Key, limit: int, per: float, *, unreachable: Unreachable = "closed") -> Quota:
        """At most `limit` in each window of `per` seconds.

        `unreachable`: "open" lets every use pass while the server cannot be asked; "closed" raises.
        """
        return Quota(self, name, limit, per, unreachable=unreachable)

    async def acquire_all(
        self,
        limits: Mapping[Key, int],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as of a semaphore
    ) -> Permit:
        """One permit of several semaphores, all or nothing. `limits`: the limit of each semaphore by its name.

        Waits up to `timeout` seconds, None for no limit, in the queue of each semaphore. Raises NoPermit, which is a
        CallTimeout, when the server says that they were not free in time, and CallTimeout when it does not answer.
        """
        if not isinstance(limits, Mapping):
            raise InvalidRequest(f"limits is a mapping of names to limits, not {type(limits).__name__}")
        items = [(name, 1, check_integer("limit", limit, 1, VALUE_MAX)) for name, limit in limits.items()]
        return await acquire_permit(self, items, timeout)

    async def _ask_and_wait(
        self,
        call: Call[ResultT],
        wait: float | None,
        timeout: Timeout,  # noqa: ASYNC109 - the server keeps it
        future: Future[ResultT],
    ) -> ResultT:
        """Make a call that may wait at the server. If the caller is cancelled, the wait is cancelled too."""
        if timeout is ...:
            timeout = self._timeout
            if call.parks:
                timeout = wait
                call.answer_s = ANSWER_S
        message: Message | None = None
        try:
            message = self._ask(call, timeout, future)
            return await future
        except CallTimeout:
            raise
        except BaseException:
            future.cancel()  # an interrupted thread may have left the call queued
            if message is not None:
                self._sink.cancel_wait(message)
            raise

    # Single counters.

    def get(self, key: Key, *, timeout: Timeout = ...) -> Future[int]:
        """The value; 0 when there is no such counter."""
        return self._send(calls.get(key), timeout)

    def get_many(self, keys: Iterable[Key], *, timeout: Timeout = ...) -> Future[list[int]]:
        """The values of up to 4 096 keys, in the order of the keys, read in one step."""
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

        Raises CacheFull when the cache has as many counters as it may have.
        """
        return self._send(calls.set(key, value, ttl_ms), timeout)

    def take(self, keys: Iterable[Key], *, timeout: Timeout = ...) -> Future[list[int]]:
        """Read and evict up to 4 096 counters in one step, to store them elsewhere. Returns their values."""
        return self._send(calls.take(keys), timeout)

    def expire(self, key: Key, ttl_ms: int | None, *, timeout: Timeout = ...) -> Future[bool]:
        """Set the time to live, from now on; None removes it. Returns whether there is such a counter."""
        return self._send(calls.expire(key, ttl_ms), timeout)

    def ttl(self, key: Key, *, timeout: Timeout = ...) -> Future[int | None]:
        """Milliseconds until the counter expires; -1 if it has no time to live, None if there is no such counter."""
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
        """One page of about `count` (1 to 4 096) counters.

        Start with cursor 0 and continue with the cursor of each page; a page with cursor 0 is the last. A counter
        that exists during the whole scan is seen exactly once, any other at most once.
        """
        return self._send(calls.scan(cursor, count, prefix, self._decode), timeout)

    async def scan_iter(
        self,
        *,
        prefix: Key = "",
        count: int = SCAN_COUNT,
        timeout: Timeout = ...,  # noqa: ASYNC109 - each page has its own
    ) -> AsyncIterator[tuple[KeyT, int]]:
        """All counters with their values, read page by page. `count` and `timeout` apply to each page."""
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

        Exact if no counter changes during the call; otherwise each value was true at some moment of the call. The
        server reads every counter, in slices.
        """
        return self._send(calls.top(n, prefix, self._decode), timeout)

    def count(self, prefix: Key = "", *, timeout: Timeout = ...) -> Future[int]:
        """The number of counters, or of those whose key has the prefix. A prefix makes the server read every key."""
        return self._send(calls.count(prefix), timeout)

    def clear(self, *, timeout: Timeout = ...) -> Future[int]:
        """Evict every counter of the cache in one step. Returns the number of them."""
        return self._send(calls.clear(), timeout)

    # Administration.

    def ping(self, *, timeout: Timeout = ...) -> Future[None]:
        """One round trip to the server, which changes nothing."""
        return self._send(calls.ping(), timeout)

    def info(self, *, timeout: Timeout = ...) -> Future[dict[str, Any]]:
        """Statistics of the server; PROTOCOL.md lists the fields."""
        return self._send(calls.info(), timeout)

    def config_get(self, name: str | None = None, *, timeout: Timeout = ...) -> Future[Any]:
        """The value of a setting that can be changed while the server runs; without `name`, a dict of all of them."""
        return self._send(calls.config_get(name), timeout)

    def config_set(self, name: str, value: Any, *, timeout: Timeout = ...) -> Future[Any]:
        """Change a setting. Returns its new value. Raises InvalidRequest for an unknown setting or a bad value."""
        return self._send(calls.config_set(name, value), timeout)

    async def sessions(self, *, timeout: Timeout = ...) -> list[dict[str, Any]]:  # noqa: ASYNC109 - each page has its own
        """The sessions of the server, for its operator; PROTOCOL.md lists the fields.

        Among them are number, name and address, how many holds there are and the first counters that are held
        (`held`, a list of key and amount), and what is waited for. The ids of sessions, which allow resuming them,
        are not included. `timeout` applies to each page of about 200 sessions.
        """
        found: list[dict[str, Any]] = []
        while page := await self._send(calls.sessions(found[-1]["session"] if found else 0, self._decode), timeout):
            found += page
        return found

    async def holders(self, key: Key, *, timeout: Timeout = ...) -> list[Holder]:  # noqa: ASYNC109 - the same
        """Which sessions hold how much of a counter, in the order of their numbers, for the operator.

        Only what was acquired is held. So the amounts may be less together than the value, to which `incr` may have
        added, and more where somebody has decremented it. `timeout` applies to each page of up to 1 024 sessions. The
        server looks at the sessions that hold the counter, and at no other.
        """
        found: list[Holder] = []
        while page := await self._send(calls.holders(key, found[-1].session if found else 0), timeout):
            found += page
        return found

    def end_session(self, session: int, *, timeout: Timeout = ...) -> Future[bool]:
        """End a session by its number, for the operator. Returns whether there was such a session.

        What it holds goes back, its waits end, and its connection is closed. Its client can connect again and open
        another session. Raises InvalidRequest for the session of this client, which `close` ends.
        """
        return self._send(calls.end_session(session), timeout)

    def sweep(self, *, timeout: Timeout = ...) -> Future[int]:
        """Run one step of the sweeper now, of some thousand entries. Returns the number of entries it handled."""
        return self._send(calls.sweep(), timeout)

    def slowlog(self, n: int = 32, *, timeout: Timeout = ...) -> Future[list[dict[str, Any]]]:
        """The `n` (1 to 128) slowest turns of the server's connections since its start or the last reset.

        The slowest first; PROTOCOL.md lists the words of each. Only turns of more than 1 ms are kept.
        """
        return self._send(calls.slowlog(n), timeout)

    def slowlog_reset(self, *, timeout: Timeout = ...) -> Future[int]:
        """Make the slow log of the server empty. Returns how many turns it had."""
        return self._send(calls.slowlog_reset(), timeout)

    def _send(self, call: Call[ResultT], timeout: Timeout) -> Future[ResultT]:
        future = self._new_future()
        self._ask(call, self._timeout if timeout is ... else timeout, future)
        return future
