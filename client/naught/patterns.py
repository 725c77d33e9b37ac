"""Common uses of counters, built on the commands and on holds.

    Semaphore    at most `limit` permits at a time        counters.semaphore(name, limit)
    WaitGroup    wait until all work is done              counters.wait_group(name)
    Reference    learn who releases the last reference    counters.reference(name)
    InFlight     how many operations are running          counters.in_flight(name)
    Quota        at most `limit` uses in a time window    counters.quota(name, limit, per)

A pattern is one counter with a meaning. Nothing else is stored at the server, so all clients that use the same name
with the same meaning share the pattern, including clients in other languages. Each method costs one round trip per
command that it uses, mostly one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar

from naught.core.calls import Acquired, Grant, Key, check_integer, check_ttl
from naught.errors import CallTimeout, InvalidRequest, NaughtError, NotHeld
from naught.wire.codec import encode_key
from naught.wire.limits import TTL_MS_MAX, VALUE_MAX

if TYPE_CHECKING:
    from asyncio import Future

    from naught.core.holds import Hold
    from naught.core.sink import CallSink

Items = Sequence[tuple[Key, int, int]]

P = ParamSpec("P")
T = TypeVar("T")


class PatternClient(Protocol):
    """What the patterns use of a client: these methods of `naught.core.commands.Commands`, and its sink."""

    @property
    def _sink(self) -> CallSink: ...

    def incr(self, key: Key, by: int = 1) -> Future[int]: ...
    def decr(self, key: Key, by: int = 1, *, strict: bool = False) -> Future[int]: ...
    def get(self, key: Key) -> Future[int]: ...
    def ttl(self, key: Key) -> Future[int | None]: ...
    def try_incr(self, items: Iterable[tuple[Key, int, int]], *, ttl_ms: int | None = None) -> Future[Grant]: ...
    def release(self, hold: Hold | int, items: Iterable[tuple[Key, int]] | None = None) -> Future[list[int]]: ...
    async def acquire(self, items: Iterable[tuple[Key, int, int]], *, wait: float | None = 0.0) -> Acquired: ...
    async def wait_zero(self, key: Key, *, timeout: float | None = None) -> bool: ...  # noqa: ASYNC109 - the server's


class Lost:
    """Whether a permit is lost: test it (`if permit.lost`), or wait for it (`await permit.lost`)."""

    __slots__ = ("_event", "_hold")

    def __init__(self, hold: Hold) -> None:
        self._hold: Final = hold
        self._event: asyncio.Event | None = None  # set when the hold is lost; made by the first `wait`

    def __bool__(self) -> bool:
        return self._hold.lost

    async def wait(self) -> None:
        """Return once the permit is lost."""
        if not self._hold.lost:
            if self._event is None:
                self._event = asyncio.Event()
                self._hold.when_lost(self._event.set)
            await self._event.wait()

    def __await__(self) -> Generator[Any, None, None]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        return f"<lost: {bool(self)}>"


class Permit:
    """One grant of a semaphore, or of several. Give it back with `release`, or use it with `async with`."""

    __slots__ = ("_client", "_hold", "_released", "lost")

    def __init__(self, client: PatternClient, hold: Hold) -> None:
        self._client: Final = client
        self._hold: Final = hold
        self._released = False  # `release` was called, and not refused by the client itself
        # True once the session is lost, at the latest one lease after its connection was lost. From then on another
        # client may have the permit.
        self.lost: Final = Lost(hold)

    @property
    def hold(self) -> Hold:
        """The hold behind the permit."""
        return self._hold

    @property
    def number(self) -> int:
        """A fencing token: higher than the number of every permit that this server has granted before.

        The resource that the permit protects should refuse requests with a lower number than it has seen.
        """
        return self._hold.number

    async def release(self) -> None:
        """Give the permit back, which wakes the next waiter.

        Raises NotHeld, with nothing changed, when the permit is not held any more: it was released before, it is
        lost, or its counter was cleared, taken or set to 0 meanwhile. The permit is given back even if the caller is
        cancelled or there is no connection at the moment.
        """
        if self._released:
            raise NotHeld(f"permit {self.number} was released before")
        if self.lost:
            self._released = True
            raise NotHeld(f"permit {self.number} is lost: the session ended, or may have")
        answer = self._client.release(self._hold)
        self._released = True  # set after the call above, which raises if the release cannot be sent
        await answer

    async def __aenter__(self) -> Permit:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await release_at_exit(self, error)

    def __repr__(self) -> str:
        state = "released" if self._released else "lost" if self.lost else "held"
        return f"<naught.Permit {self.number} {state}>"


class _EnteredPermits:
    """The permits of the tasks (or threads) that are inside `async with` of one pattern object, which they share."""

    __slots__ = ("_by_caller", "_current_caller")

    def __init__(self, client: PatternClient) -> None:
        self._current_caller: Final = client._sink.current_caller
        self._by_caller: dict[Hashable, list[Permit]] = {}  # by task or thread, the innermost block's permit last

    def push(self, permit: Permit) -> None:
        self._by_caller.setdefault(self._current_caller(), []).append(permit)

    def pop(self) -> Permit:
        """The permit of the caller's innermost block.

        A block may be left in another task than it was entered in. If the caller has entered none, this returns the
        innermost permit of the caller that has entered last.
        """
        caller = self._current_caller()
        if caller not in self._by_caller:
            if not self._by_caller:
                raise RuntimeError("a block was left more often than it was entered")
            caller = next(reversed(self._by_caller))
        permits = self._by_caller[caller]
        permit = permits.pop()
        if not permits:
            del self._by_caller[caller]
        return permit


class Semaphore:
    """At most `limit` permits at a time, among all clients of the server that use this name.

        async with counters.semaphore("gpu", limit=4) as permit: ...

        @counters.semaphore("gpu", limit=4)
        async def render(job): ...

    First come, first served. If the process of a permit dies, or is disconnected for longer than the lease, the
    server gives the permit back. So a permit shows that its owner was alive a moment ago, but it is not mutual
    exclusion. Before an action that must not happen twice, check `permit.lost`, or let the resource refuse old
    numbers (`permit.number`).

    The value of the counter `name` is the number of granted permits; it is absent when there are none. The limit is
    stated by each client and not stored: a client with a lower limit waits longer.
    """

    __slots__ = ("_client", "_entered", "_items", "limit", "name")

    def __init__(self, client: PatternClient, name: Key, limit: int) -> None:
        encode_key(name)
        self.name: Final = name
        self.limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        self._client: Final = client
        self._items: Final = ((name, 1, limit),)
        self._entered: Final = _EnteredPermits(client)

    async def acquire(self, *, timeout: float | None = None) -> Permit:  # noqa: ASYNC109 - the server keeps it
        """Wait for a permit, up to `timeout` seconds, None for no limit. Raises CallTimeout, which is a TimeoutError.

        If it is cancelled, no permit is held. Costs one round trip, and the time until a permit is free.
        """
        return await acquire_permit(self._client, self._items, timeout)

    async def try_acquire(self) -> Permit | None:
        """A permit if one is free now and no other client is waiting for it, otherwise None."""
        acquired: Acquired = await self._client.acquire(self._items)
        return Permit(self._client, acquired.hold) if acquired.hold is not None else None

    async def __aenter__(self) -> Permit:
        permit = await self.acquire()
        self._entered.push(permit)
        return permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await release_at_exit(self._entered.pop(), error)

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """As a decorator: every call of the coroutine function holds a permit while it runs."""

        @wraps(function)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            async with self:
                return await function(*args, **kwargs)

        return limited

    def __repr__(self) -> str:
        return f"<naught.Semaphore {self.name!r} of {self.limit}>"


async def acquire_permit(client: PatternClient, items: Items, timeout: float | None) -> Permit:  # noqa: ASYNC109
    """Wait for one permit of all these items, all or nothing; the server enforces the timeout. Raises CallTimeout."""
    acquired = await client.acquire(items, wait=timeout)
    if acquired.hold is None:
        names = ", ".join(str(name) for name, _, _ in items)
        raise CallTimeout(f"no permit of {names} within {timeout} s")
    return Permit(client, acquired.hold)


async def release_at_exit(permit: Permit, error: BaseException | None) -> None:
    """Release at the end of a block that has raised `error`, or None.

    An error of the release is raised only if the block has not raised: NotHeld when the permit was not held any more,
    CallTimeout when the server did not answer in time. After a CallTimeout the release is still sent.
    """
    try:
        await permit.release()
    except NaughtError:
        if error is None:
            raise


class WaitGroup:
    """Wait until all work is done, in any number of processes.

        group = counters.wait_group("import-7")
        await group.add(len(files))
        ...                                     # each worker, in any process: await group.done()
        await group.wait(timeout=60)

    Call `add` before the workers start, because an empty group counts as done. With `held=True` the work that this
    object adds belongs to this client, and only this object can call `done` for it. If the process dies, its work
    counts as done.
    """

    __slots__ = ("_client", "_held", "_holds", "_lock", "name")

    def __init__(self, client: PatternClient, name: Key, *, held: bool = False) -> None:
        encode_key(name)
        self.name: Final = name
        self._client: Final = client
        self._held: Final = held
        # With `held`: the work that is not done yet, as [hold, amount], oldest first. Empty otherwise.
        self._holds: Final[deque[list[Any]]] = deque()
        # Guards `_holds`, which threads may share. Reentrant, because a finalizer that calls `done` may interrupt a
        # thread that has the lock.
        self._lock: Final = threading.RLock()

    async def add(self, n: int = 1) -> int:
        """Add `n` pieces of work. Returns the number of unfinished pieces."""
        if not self._held:
            return await self._client.incr(self.name, n)
        acquired = await self._client.acquire([(self.name, n, VALUE_MAX)])
        if acquired.hold is None:
            raise InvalidRequest("the group would pass 2^63 - 1")
        with self._lock:
            self._holds.append([acquired.hold, n])
        return acquired.values[0]

    async def done(self, n: int = 1) -> int:
        """`n` pieces of work are done. Returns the number of unfinished pieces.

        Raises CounterUnderflow, with nothing changed, when fewer than `n` are unfinished. With `held`, raises NotHeld
        when fewer than `n` of those that this object has added are unfinished, or when some of them count as done
        already, because the session was lost or the counter was cleared. With `held`, they count as done even if the
        caller is cancelled.
        """
        if not self._held:
            return await self._client.decr(self.name, n, strict=True)
        left = 0
        answers = self._release_oldest(check_integer("n", n, 1, VALUE_MAX))
        try:
            for answer in answers:
                (left,) = await answer
        finally:
            _discard_results(answers)
        return left

    def _release_oldest(self, n: int) -> list[Future[list[int]]]:
        """Release the oldest `n` unfinished pieces, one release for each hold they belong to.

        All releases are sent before the caller awaits the first. So if the caller is cancelled, or one of the holds
        is lost, the others are released nevertheless.
        """
        answers = []
        with self._lock:
            if sum(amount for _, amount in self._holds) < n:
                raise NotHeld(f"less than {n} of the work that this object has added is unfinished")
            while n:
                oldest = self._holds[0]
                hold, amount = oldest
                part = min(n, amount)
                answers.append(self._client.release(hold, [(self.name, part)]))
                n -= part
                if part < amount:
                    oldest[1] -= part
                else:
                    self._holds.popleft()
                    self._client._sink.untrack(hold)
        return answers

    async def wait(self, *, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the server keeps it
        """Wait until no work is unfinished. Returns True then, or False after `timeout` seconds."""
        return await self._client.wait_zero(self.name, timeout=timeout)

    async def value(self) -> int:
        """The number of unfinished pieces of work."""
        return await self._client.get(self.name)

    def __repr__(self) -> str:
        return f"<naught.WaitGroup {self.name!r}>"


def _discard_results(answers: Iterable[Future[Any]]) -> None:
    """Cancel the futures that are not done, and mark the exceptions of the others as retrieved."""
    for answer in answers:
        answer.cancel()
        if not answer.cancelled():
            answer.exception()


class Reference:
    """Count the users of something, and learn which release was the last.

        await counters.reference("blob:9f3a").retain()
        ...
        if await counters.reference("blob:9f3a").release():
            delete_blob("9f3a")                 # true for exactly one caller

    A name without users has no counter.
    """

    __slots__ = ("_client", "name")

    def __init__(self, client: PatternClient, name: Key) -> None:
        encode_key(name)
        self.name: Final = name
        self._client: Final = client

    async def retain(self) -> int:
        """Add a reference. Returns the number of references."""
        return await self._client.incr(self.name)

    async def release(self) -> bool:
        """Remove a reference. Returns whether it was the last.

        Raises CounterUnderflow, with nothing changed, when there are no references. If it raises OutcomeUnknown, this
        may have been the last release, with no caller that got True: check whether `value` is 0.
        """
        return await self._client.decr(self.name, strict=True) == 0

    async def value(self) -> int:
        """The number of references."""
        return await self._client.get(self.name)

    def __repr__(self) -> str:
        return f"<naught.Reference {self.name!r}>"


class InFlight:
    """Count running operations: up when a block is entered, down when it is left or its process dies.

        async with counters.in_flight("uploads"): ...
        await counters.in_flight("uploads").value()

    Nothing is limited: for a limit there is `Semaphore`.
    """

    __slots__ = ("_client", "_entered", "name")

    def __init__(self, client: PatternClient, name: Key) -> None:
        encode_key(name)
        self.name: Final = name
        self._client: Final = client
        self._entered: Final = _EnteredPermits(client)

    async def __aenter__(self) -> None:
        self._entered.push(await acquire_permit(self._client, ((self.name, 1, VALUE_MAX),), None))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit = self._entered.pop()
        # NotHeld: it is not counted any more, because the counter was cleared or the session was lost.
        with suppress(NotHeld):
            await release_at_exit(permit, error)

    async def value(self) -> int:
        """The number of running operations."""
        return await self._client.get(self.name)

    def __repr__(self) -> str:
        return f"<naught.InFlight {self.name!r}>"


class Quota:
    """At most `limit` uses in a time window of `per` seconds. The window starts with its first use and does not move.

        quota = counters.quota("calls:ann", limit=100, per=3600)
        if not await quota.use():
            raise TooMany(retry_after=await quota.retry_after())

    With fixed windows, up to twice the limit may pass around the end of a window. The state is one counter, which
    expires with the window.
    """

    __slots__ = ("_client", "_per_ms", "limit", "name")

    def __init__(self, client: PatternClient, name: Key, limit: int, per: float) -> None:
        encode_key(name)
        self.name: Final = name
        self.limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        if not isinstance(per, int | float) or isinstance(per, bool) or not 0.001 <= per <= TTL_MS_MAX / 1000:
            raise InvalidRequest(f"per is from 0.001 to {TTL_MS_MAX // 1000} seconds, not {per!r}")
        self._per_ms: Final = check_ttl(round(per * 1000))
        self._client: Final = client

    async def use(self, n: int = 1) -> bool:
        """Use `n`, all or nothing. Returns False, with nothing used, if fewer than `n` are left."""
        granted, _ = await self._client.try_incr([(self.name, n, self.limit)], ttl_ms=self._per_ms)
        return granted

    async def remaining(self) -> int:
        """The number of uses left in this window."""
        return max(0, self.limit - await self._client.get(self.name))

    async def retry_after(self) -> float:
        """Seconds until the window ends, if no uses are left; otherwise 0.

        Infinity if the window never ends, because a client has removed the counter's time to live (`set`, `expire`).
        """
        left_ms = await self._client.ttl(self.name)
        if left_ms is None or await self._client.get(self.name) < self.limit:
            return 0.0
        return left_ms / 1000 if left_ms >= 0 else inf

    def __repr__(self) -> str:
        return f"<naught.Quota {self.name!r} of {self.limit} in {(self._per_ms or 0) / 1000:g} s>"
