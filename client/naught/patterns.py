"""Common uses of counters, built on the commands and on holds.

    Semaphore    at most `limit` permits at a time        counters.semaphore(name, limit)
    WaitGroup    wait until all work is done              counters.wait_group(name)
    Reference    learn who releases the last reference    counters.reference(name)
    InFlight     how many operations are running          counters.in_flight(name)
    Quota        at most `limit` uses in a time window    counters.quota(name, limit, per)

A pattern is one counter with a meaning. Nothing else is stored at the server, so all clients that use the same name
with the same meaning share the pattern, including clients in other languages. Each method costs one round trip per
command that it uses, mostly one.

Only the server says "no". Where it cannot be reached, or does not answer in time, a method raises CallTimeout with
the reason as its cause. A semaphore and a quota can be told to let everything pass then: `unreachable="open"`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from inspect import isasyncgenfunction, isawaitable, isgeneratorfunction
from math import inf
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, Protocol, TypeAlias, TypeVar

from naught.core.calls import Acquired, Grant, Key, check_integer, check_timeout, check_ttl, check_wait
from naught.core.holds import Hold
from naught.errors import InvalidRequest, NaughtError, NoPermit, NotHeld, is_outage
from naught.wire.codec import encode_key
from naught.wire.limits import TTL_MS_MAX, VALUE_MAX

if TYPE_CHECKING:
    from asyncio import Future

    from naught.core.sink import CallSink

Items = Sequence[tuple[Key, int, int]]

Unreachable: TypeAlias = Literal["open", "closed"]
"""What a limit does while the server cannot be asked: let everything pass, uncounted, or raise."""

ENTER_S: Final = 1.0
"""Seconds that entering a block of `InFlight` may take where the client has no timeout of its own."""

P = ParamSpec("P")
T = TypeVar("T")


class PatternClient(Protocol):
    """What the patterns use of a client: these methods of `naught.core.commands.Commands`, and its sink."""

    @property
    def _sink(self) -> CallSink: ...
    @property
    def _timeout(self) -> float | None: ...

    def incr(self, key: Key, by: int = 1) -> Future[int]: ...
    def decr(self, key: Key, by: int = 1, *, strict: bool = False) -> Future[int]: ...
    def get(self, key: Key) -> Future[int]: ...
    def ttl(self, key: Key) -> Future[int | None]: ...
    def try_incr(self, items: Iterable[tuple[Key, int, int]], *, ttl_ms: int | None = None) -> Future[Grant]: ...
    def release(self, hold: Hold | int, items: Iterable[tuple[Key, int]] | None = None) -> Future[list[int]]: ...
    async def acquire(
        self, items: Iterable[tuple[Key, int, int]], *, wait: float | None = 0.0, again: bool = False
    ) -> Acquired: ...
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
    """One grant of a semaphore, or of several. Give it back with `release`, or use it with `async with`.

    When the server was restarted, the client acquires the permit again, if the limits allow that, and its number
    changes. If not, the permit is lost.
    """

    __slots__ = ("_client", "_hold", "_released", "lost")

    def __init__(self, client: PatternClient, hold: Hold) -> None:
        self._client: Final = client
        self._hold: Final = hold
        self._released = False  # `release` was called, and not refused by the client itself
        # True once the session is lost and the permit could not be acquired again, at the latest one lease after its
        # connection was lost. From then on another client may have the permit.
        self.lost: Final = Lost(hold)

    @property
    def hold(self) -> Hold:
        """The hold behind the permit."""
        return self._hold

    @property
    def number(self) -> int:
        """A fencing token: higher than the number of every permit that this server has granted before.

        The resource that the permit protects should refuse requests with a lower number than it has seen. 0 for a
        permit that is not counted.
        """
        return self._hold.number

    @property
    def counted(self) -> bool:
        """False if the server could not be asked, and the semaphore lets everything pass then."""
        return self._hold is not UNCOUNTED

    async def release(self) -> None:
        """Give the permit back, which wakes the next waiter.

        Raises NotHeld, with nothing changed, when the permit is not held any more: it was released before, it is
        lost, or its counter was cleared, taken or set to 0 meanwhile. The permit is given back even if the caller is
        cancelled or there is no connection at the moment.
        """
        if self._released:
            raise NotHeld(f"permit {self.number} was released before")
        if not self.counted:
            self._released = True
            return
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

    def __reduce__(self) -> str:
        raise TypeError("a permit belongs to one client, which gives it back once: it is neither copied nor pickled")

    def __repr__(self) -> str:
        state = "released" if self._released else "lost" if self.lost else "held" if self.counted else "not counted"
        return f"<naught.Permit {self.number} {state}>"


UNCOUNTED: Final = Hold(0, 0)
"""The hold of every permit that was given while the server could not be asked. It is never lost."""


class _EnteredPermits:
    """The permits of the tasks (or threads) that are inside `async with` of one pattern object, which they share."""

    __slots__ = ("_by_caller", "_current_caller")

    def __init__(self, client: PatternClient) -> None:
        self._current_caller: Final = client._sink.current_caller
        self._by_caller: dict[Hashable, list[Permit]] = {}  # by task or thread, the innermost block's permit last

    def push(self, permit: Permit) -> None:
        caller = self._current_caller()
        permits = self._by_caller.setdefault(caller, [])
        permits.append(permit)
        self._by_caller[caller] = permits  # a signal handler may have left its own block meanwhile, the last of them

    def innermost(self) -> tuple[Hashable, Permit]:
        """The permit of the caller's innermost block, and the caller that has entered it.

        A block may be left in another task than it was entered in. If the caller has entered none, this is the
        innermost permit of the caller that has entered last.
        """
        caller = self._current_caller()
        if not self._by_caller.get(caller):
            if not self._by_caller:
                raise RuntimeError("a block was left more often than it was entered")
            caller = next(reversed(self._by_caller))
        return caller, self._by_caller[caller][-1]

    def remove(self, caller: Hashable, permit: Permit) -> None:
        """The block is left. A second call does nothing, so one that was interrupted can be made again."""
        permits = self._by_caller.get(caller)
        if permits is not None:
            if permit in permits:
                permits.remove(permit)
            if not permits:
                self._by_caller.pop(caller, None)

    def pop(self) -> Permit:
        """The permit of the caller's innermost block, which is left."""
        caller, permit = self.innermost()
        self.remove(caller, permit)
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

    __slots__ = ("_client", "_entered", "_items", "_timeout", "_unreachable", "limit", "name")

    def __init__(
        self,
        client: PatternClient,
        name: Key,
        limit: int,
        *,
        timeout: float | None = None,
        unreachable: Unreachable = "closed",
    ) -> None:
        encode_key(name)
        check_wait(timeout)
        self.name: Final = name
        self.limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        self._timeout: Final = timeout  # seconds that each use waits, unless it says otherwise; None for no limit
        self._unreachable: Final = check_unreachable(unreachable)  # what happens while the server cannot be asked
        if unreachable == "open" and timeout is None:
            raise InvalidRequest(
                'unreachable="open" needs a timeout: without one, a wait goes on until there is a server'
            )
        self._client: Final = client
        self._items: Final = ((name, 1, limit),)
        self._entered: Final = _EnteredPermits(client)

    async def acquire(self, *, timeout: float | EllipsisType | None = ...) -> Permit:  # noqa: ASYNC109 - the server's
        """Wait for a permit, up to `timeout` seconds, None for no limit; `...` for the semaphore's own `timeout`.

        Raises NoPermit, which is a CallTimeout and a TimeoutError, when the server says that none was free in time.
        Raises CallTimeout, with its cause, when the server does not answer. A wait without a limit goes on through an
        outage. If it is cancelled, no permit is held. Costs one round trip, and the time until a permit is free.
        """
        wait = self._timeout if timeout is ... else timeout
        try:
            return await acquire_permit(self._client, self._items, wait)
        except NaughtError as error:
            if self._unreachable == "closed" or not is_outage(error):
                raise
            return Permit(self._client, UNCOUNTED)

    async def try_acquire(self) -> Permit | None:
        """A permit if one is free now and no other client is waiting for it, otherwise None."""
        try:
            acquired: Acquired = await self._client.acquire(self._items, again=True)
        except NaughtError as error:
            if self._unreachable == "closed" or not is_outage(error):
                raise
            return Permit(self._client, UNCOUNTED)
        return Permit(self._client, acquired.hold) if acquired.hold is not None else None

    async def value(self) -> int:
        """The number of permits that are granted now."""
        return await self._client.get(self.name)

    async def __aenter__(self) -> Permit:
        permit = await self.acquire()
        self._entered.push(permit)
        return permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await release_at_exit(self._entered.pop(), error)

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        """As a decorator: every call of the coroutine function holds a permit while it runs.

        Raises TypeError for a generator function, whose call returns before it has begun.
        """
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise TypeError(f"{function!r} would give its permit back before it has begun")

        @wraps(function)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            async with self:
                answer = function(*args, **kwargs)
                if not isawaitable(answer):
                    raise TypeError(f"{function!r} is no coroutine function: naught.blocking has semaphores for it")
                return await answer

        return limited

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"timeout": self._timeout, "unreachable": self._unreachable}
        return _make_again, (type(self), (self._client, self.name, self.limit), options)

    def __repr__(self) -> str:
        return f"<naught.Semaphore {self.name!r} of {self.limit}>"


def check_unreachable(unreachable: object) -> Unreachable:
    """Check for one of the two words."""
    if unreachable not in ("open", "closed"):
        raise InvalidRequest(f'unreachable is "open" or "closed", not {unreachable!r}')
    return unreachable


def _make_again(kind: Callable[..., T], arguments: tuple[Any, ...], options: dict[str, Any]) -> T:
    """How patterns are unpickled: made again, on a client that is unpickled too."""
    return kind(*arguments, **options)


async def acquire_permit(client: PatternClient, items: Items, timeout: float | None) -> Permit:  # noqa: ASYNC109
    """Wait for one permit of all these items, all or nothing; the server keeps the time.

    Raises NoPermit when the server says that the time has run out, CallTimeout when it does not answer.
    """
    check_wait(timeout)  # under the name that the caller knows it by
    acquired = await client.acquire(items, wait=timeout, again=True)
    if acquired.hold is None:
        names = ", ".join(str(name) for name, _, _ in items)
        raise NoPermit(f"no permit of {names} within {timeout} s")
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


def give_back(permit: Permit) -> None:
    """Its release was interrupted: release it without waiting, unless that is on its way."""
    if not permit._released and permit.counted:
        permit._released = True
        permit._client._sink.release_untaken(permit.hold)


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
        # With `held`: the work that is not done yet, as a hold and its amount, oldest first. Empty otherwise. It is a
        # tuple, because an assignment is the only step in which no signal handler can raise.
        self._holds: tuple[tuple[Hold, int], ...] = ()
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
        work = (acquired.hold, n)
        try:
            with self._lock:
                self._holds += (work,)
        except BaseException:  # an interrupt: the caller of this coroutine gives the hold back
            with self._lock:
                self._holds = tuple(each for each in self._holds if each is not work)
            raise
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
        is lost, the others are released nevertheless. If it is interrupted, the holds that end are released again, as
        they may not have been: a second release of a hold does nothing. A part of a hold would be given back twice.
        If that was not sent, it goes back with the rest of its hold, which is always released as a whole.
        """
        answers: list[Future[list[int]]] = []
        with self._lock:
            while True:
                before = self._holds
                ended, part, left = _oldest(before, n)
                if self._holds is before:  # else a finalizer or signal handler has added or done work meanwhile
                    self._holds = left
                    break
            try:
                for hold in ended:
                    answers.append(self._client.release(hold))  # noqa: PERF401 - they count where one raises
                if part is not None:
                    hold, amount = part
                    answers.append(self._client.release(hold, [(self.name, amount)]))
            except NaughtError:  # it cannot be sent
                self._holds = before[len(answers) :]
                raise
            except BaseException:
                for hold in ended:
                    self._client._sink.release_untaken(hold)
                raise
        return answers

    async def wait(self, *, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the server keeps it
        """Wait until no work is unfinished. Returns True then, or False after `timeout` seconds, None for no limit.

        Raises CallTimeout, with its cause, when the server does not answer.
        """
        return await self._client.wait_zero(self.name, timeout=timeout)

    async def value(self) -> int:
        """The number of unfinished pieces of work."""
        return await self._client.get(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the work that it has added itself, which belongs to this process.
        return _make_again, (type(self), (self._client, self.name), {"held": self._held})

    def __repr__(self) -> str:
        return f"<naught.WaitGroup {self.name!r}>"


def _oldest(
    holds: tuple[tuple[Hold, int], ...], n: int
) -> tuple[list[Hold], tuple[Hold, int] | None, tuple[tuple[Hold, int], ...]]:
    """Of the oldest `n` pieces of work: the holds that end, the amount of one that does not, and what is left.

    Raises NotHeld for fewer pieces.
    """
    ended: list[Hold] = []
    left = n
    for place, (hold, amount) in enumerate(holds):
        if not left:
            return ended, None, holds[place:]
        if left < amount:
            return ended, (hold, left), ((hold, amount - left), *holds[place + 1 :])
        ended.append(hold)
        left -= amount
    if left:
        raise NotHeld(f"less than {n} of the work that this object has added is unfinished")
    return ended, None, ()


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

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_again, (type(self), (self._client, self.name), {})

    def __repr__(self) -> str:
        return f"<naught.Reference {self.name!r}>"


class InFlight:
    """Count running operations: up when a block is entered, down when it is left or its process dies.

        async with counters.in_flight("uploads"): ...
        await counters.in_flight("uploads").value()

    Nothing is limited: for a limit there is `Semaphore`. When the server was restarted, or the client was away for
    longer than its lease, the operations that are running are counted again.

    Entering a block takes up to `timeout` seconds (the client's default, 1 s where it has none), and then raises
    CallTimeout, with its cause. It is NoPermit where somebody queues for room in the same counter, as a semaphore of
    the same name does.
    """

    __slots__ = ("_client", "_entered", "_timeout", "name")

    def __init__(self, client: PatternClient, name: Key, *, timeout: float | EllipsisType | None = ...) -> None:
        encode_key(name)
        self.name: Final = name
        seconds = client._timeout if timeout is ... else check_timeout(timeout)
        self._timeout: Final = ENTER_S if seconds is None else seconds  # that entering a block may take
        self._client: Final = client
        self._entered: Final = _EnteredPermits(client)

    async def __aenter__(self) -> None:
        self._entered.push(await acquire_permit(self._client, ((self.name, 1, VALUE_MAX),), self._timeout))

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

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_again, (type(self), (self._client, self.name), {"timeout": self._timeout})

    def __repr__(self) -> str:
        return f"<naught.InFlight {self.name!r}>"


class Quota:
    """At most `limit` uses in a time window of `per` seconds. The window starts with its first use and does not move.

        quota = counters.quota("calls:ann", limit=100, per=3600)
        if not await quota.use():
            raise TooMany(retry_after=await quota.retry_after())

    With fixed windows, up to twice the limit may pass around the end of a window; `throttle` of the client has no
    windows. The state is one counter, which expires with the window.
    """

    __slots__ = ("_client", "_per_ms", "_unreachable", "limit", "name")

    def __init__(
        self, client: PatternClient, name: Key, limit: int, per: float, *, unreachable: Unreachable = "closed"
    ) -> None:
        encode_key(name)
        self.name: Final = name
        self.limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        if not isinstance(per, int | float) or isinstance(per, bool) or not 0.001 <= per <= TTL_MS_MAX / 1000:
            raise InvalidRequest(f"per is from 0.001 to {TTL_MS_MAX // 1000} seconds, not {per!r}")
        self._per_ms: Final = check_ttl(round(per * 1000))
        self._unreachable: Final = check_unreachable(unreachable)  # what happens while the server cannot be asked
        self._client: Final = client

    async def use(self, n: int = 1) -> bool:
        """Use `n` (1 to the limit), all or nothing. Returns False, with nothing used, if fewer than `n` are left.

        Raises InvalidRequest for more than the limit, which would never be granted.
        """
        self._check_uses(n)
        try:
            granted, _ = await self._client.try_incr([(self.name, n, self.limit)], ttl_ms=self._per_ms)
        except NaughtError as error:
            if self._unreachable == "closed" or not is_outage(error):
                raise
            return True
        return granted

    def _check_uses(self, n: object) -> int:
        if check_integer("n", n, 1, VALUE_MAX) > self.limit:
            raise InvalidRequest(
                f"n is up to {self.limit}, the limit of the quota {self.name!r}, not {n}: it never fits"
            )
        return int(n)  # type: ignore[call-overload,no-any-return]

    async def remaining(self) -> int:
        """The number of uses left in this window."""
        return max(0, self.limit - await self._client.get(self.name))

    async def retry_after(self, n: int = 1) -> float:
        """Seconds until `use(n)` may be granted: 0 if `n` uses are left, otherwise the time until the window ends.

        Infinity if the window never ends, because a client has removed the counter's time to live (`set`, `expire`).
        Raises InvalidRequest for more than the limit.
        """
        self._check_uses(n)
        left_ms = await self._client.ttl(self.name)
        if left_ms is None or await self._client.get(self.name) + n <= self.limit:
            return 0.0
        return left_ms / 1000 if left_ms >= 0 else inf

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"unreachable": self._unreachable}
        return _make_again, (type(self), (self._client, self.name, self.limit, (self._per_ms or 0) / 1000), options)

    def __repr__(self) -> str:
        return f"<naught.Quota {self.name!r} of {self.limit} in {(self._per_ms or 0) / 1000:g} s>"
