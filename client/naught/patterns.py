"""What counters are used for, on top of the commands and the holds.

    Semaphore    at most so many at a time               counters.semaphore(name, limit)
    WaitGroup    wait until all work is done             counters.wait_group(name)
    Reference    who lets go last                        counters.reference(name)
    InFlight     how many are at it right now            counters.in_flight(name)
    Quota        so many in a window of time             counters.quota(name, limit, per)

A pattern is one counter with a meaning, and keeps nothing else at the server: whoever uses the same name with the
same meaning shares it, also with a client in another language. It costs what its commands cost, a round trip each.
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
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from naught.core.calls import Acquired, Key, check_integer, check_ttl
from naught.errors import CallTimeout, InvalidRequest, NaughtError, NotHeld
from naught.wire.codec import encode_key
from naught.wire.limits import TTL_MS_MAX, VALUE_MAX

if TYPE_CHECKING:
    from asyncio import Future

    from naught.core.commands import Commands
    from naught.core.holds import Hold

Items = Sequence[tuple[Key, int, int]]

P = ParamSpec("P")
T = TypeVar("T")


class Lost:
    """Whether a permit is lost: test it (`if permit.lost`), or wait for it (`await permit.lost`)."""

    __slots__ = ("_happened", "_hold")

    def __init__(self, hold: Hold) -> None:
        self._hold: Final = hold
        self._happened: asyncio.Event | None = None  # made when somebody waits

    def __bool__(self) -> bool:
        return self._hold.lost

    async def wait(self) -> None:
        """Return once it is lost."""
        if not self._hold.lost:
            if self._happened is None:
                self._happened = asyncio.Event()
                self._hold.when_lost(self._happened.set)
            await self._happened.wait()

    def __await__(self) -> Generator[Any, None, None]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        return f"<lost: {bool(self)}>"


class Permit:
    """What a semaphore has granted. Give it back with `release`, or use it with `async with`."""

    __slots__ = ("_client", "_hold", "_released", "lost")

    def __init__(self, client: Commands[Any], hold: Hold) -> None:
        self._client: Final = client
        self._hold: Final = hold
        self._released = False
        # True once the session is lost, at the latest a lease after its connection was: somebody else may have the
        # permit by now.
        self.lost: Final = Lost(hold)

    @property
    def hold(self) -> Hold:
        """What was granted, as the client knows it."""
        return self._hold

    @property
    def number(self) -> int:
        """Higher than that of every permit granted before by this server: a fencing token. What the permit protects
        refuses whoever comes with a number lower than it has seen."""
        return self._hold.number

    async def release(self) -> None:
        """Give it back, and wake who waits for it.

        Raises NotHeld when it was not held any more: released before, lost, or its counter was cleared, taken or set
        to 0 since. It changes nothing then. Given back even when the caller is cancelled, or the connection is broken
        at the moment.
        """
        if self._released:
            raise NotHeld(f"permit {self.number} was released before")
        if self.lost:
            self._released = True
            raise NotHeld(f"permit {self.number} is lost: the session ended, or may have")
        answer = self._client.release(self._hold)
        self._released = True  # not before: where that was refused at once, nothing was sent
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


class _Entered:
    """Permits of tasks (or threads) that are inside of `async with`, the latest last: many may share one pattern."""

    __slots__ = ("_by_caller", "_caller")

    def __init__(self, client: Commands[Any]) -> None:
        self._caller: Final = client._port.caller
        self._by_caller: dict[Hashable, list[Permit]] = {}

    def push(self, permit: Permit) -> None:
        self._by_caller.setdefault(self._caller(), []).append(permit)

    def pop(self) -> Permit:
        """That of the caller; or, as a block may be left in another task than it was entered in, the latest one."""
        caller = self._caller()
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

    First come, first served. A permit whose process dies, or that loses its connection for longer than the lease,
    comes back by itself. It shows that its owner was alive a moment ago, and is no mutual exclusion: check
    `permit.lost` before what must not happen twice, or have it refuse old numbers (`permit.number`).

    The counter `name` has the number of permits out as its value, and is absent when there are none. Everybody says
    the limit; a lower one makes who says it wait longer.
    """

    __slots__ = ("_client", "_entered", "_items", "limit", "name")

    def __init__(self, client: Commands[Any], name: Key, limit: int) -> None:
        encode_key(name)
        self.name: Final = name
        self.limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        self._client: Final = client
        self._items: Final = ((name, 1, limit),)
        self._entered: Final = _Entered(client)

    async def acquire(self, *, timeout: float | None = None) -> Permit:  # noqa: ASYNC109 - the server keeps it
        """Wait for a permit, up to `timeout` seconds or without limit. Raises CallTimeout, which is a TimeoutError.

        Cancelling it leaves no permit behind. Costs a round trip, and as long as others have all.
        """
        return await acquire_permit(self._client, self._items, timeout)

    async def try_acquire(self) -> Permit | None:
        """A permit if there is one right now and nobody waits for it, else None."""
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
        """As a decorator: every call of the coroutine function has a permit while it runs."""

        @wraps(function)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            async with self:
                return await function(*args, **kwargs)

        return limited

    def __repr__(self) -> str:
        return f"<naught.Semaphore {self.name!r} of {self.limit}>"


async def acquire_permit(client: Commands[Any], items: Items, timeout: float | None) -> Permit:  # noqa: ASYNC109 - so
    """Wait for a permit of all these items at once. Raises CallTimeout."""
    acquired = await client.acquire(items, wait=timeout)
    if acquired.hold is None:
        names = ", ".join(str(name) for name, _, _ in items)
        raise CallTimeout(f"no permit of {names} within {timeout} s")
    return Permit(client, acquired.hold)


async def release_at_exit(permit: Permit, error: BaseException | None) -> None:
    """Release at the end of a block. What goes wrong with that is raised, unless the block raises itself: that it was
    not held any more, or that the server did not answer in time (it is given back then as soon as it can be)."""
    try:
        await permit.release()
    except NaughtError:
        if error is None:
            raise


class WaitGroup:
    """Wait until all work is done, whoever does it and wherever.

        group = counters.wait_group("import-7")
        await group.add(len(files))
        ...                                     # each worker, in any process: await group.done()
        await group.wait(timeout=60)

    Add before the work is handed out: a group that nothing was added to is done. With `held=True` what was added here
    belongs to this client, which also says `done` for it: work that dies with its process counts as done.
    """

    __slots__ = ("_client", "_held", "_holds", "_lock", "name")

    def __init__(self, client: Commands[Any], name: Key, *, held: bool = False) -> None:
        encode_key(name)
        self.name: Final = name
        self._client: Final = client
        self._held: Final = held
        # With `held`, what is not done yet, as [hold, amount]; and threads may share it. A finalizer that runs while
        # its own thread has the lock may say that something is done.
        self._holds: Final[deque[list[Any]]] = deque()
        self._lock: Final = threading.RLock()

    async def add(self, n: int = 1) -> int:
        """`n` more to be done; how many there are then."""
        if not self._held:
            return await self._client.incr(self.name, n)
        acquired = await self._client.acquire([(self.name, n, VALUE_MAX)])
        if acquired.hold is None:
            raise InvalidRequest("the group would pass 2^63 - 1")
        with self._lock:
            self._holds.append([acquired.hold, n])
        return acquired.values[0]

    async def done(self, n: int = 1) -> int:
        """`n` are done; how many are left.

        Raises CounterUnderflow, with nothing changed, when there are not so many. With `held`, NotHeld when this
        client has not added so many, or some of them count as done already: the session was lost, or the counter was
        cleared. Done even when the caller is cancelled.
        """
        if not self._held:
            return await self._client.decr(self.name, n, strict=True)
        left = 0
        answers = self._give_back(check_integer("n", n, 1, VALUE_MAX))
        try:
            for answer in answers:
                (left,) = await answer
        finally:
            _dismiss(answers)
        return left

    def _give_back(self, n: int) -> list[Future[list[int]]]:
        """Release the oldest `n` that are not done, each part from the hold it is of. All of it is on its way before
        anybody waits, so that who is cancelled then, or has lost one of the holds, has released the others."""
        answers = []
        with self._lock:
            if sum(amount for _, amount in self._holds) < n:
                raise NotHeld(f"less than {n} that was added here is still to be done")
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
                    self._client._port.forget(hold)
        return answers

    async def wait(self, *, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the server keeps it
        """Wait until nothing is left to be done: true then, false when `timeout` seconds have passed."""
        return await self._client.wait_zero(self.name, timeout=timeout)

    async def value(self) -> int:
        """How many are still to be done."""
        return await self._client.get(self.name)

    def __repr__(self) -> str:
        return f"<naught.WaitGroup {self.name!r}>"


def _dismiss(answers: Iterable[Future[Any]]) -> None:
    """Nobody waits for them any more, and nobody has to be told of what went wrong with them."""
    for answer in answers:
        answer.cancel()
        if not answer.cancelled():
            answer.exception()


class Reference:
    """Count who uses something, and learn who lets go last.

        await counters.reference("blob:9f3a").retain()
        ...
        if await counters.reference("blob:9f3a").release():
            delete_blob("9f3a")                 # true for exactly one caller

    A name without users has no counter.
    """

    __slots__ = ("_client", "name")

    def __init__(self, client: Commands[Any], name: Key) -> None:
        encode_key(name)
        self.name: Final = name
        self._client: Final = client

    async def retain(self) -> int:
        """One more uses it; how many do."""
        return await self._client.incr(self.name)

    async def release(self) -> bool:
        """One less uses it; whether that was the last. Raises CounterUnderflow, with nothing changed, when nobody
        did.

        Where the answer is lost with the session (OutcomeUnknown), nobody may have been told: what was the last
        release is then found by `value` being 0.
        """
        return await self._client.decr(self.name, strict=True) == 0

    async def value(self) -> int:
        """How many use it."""
        return await self._client.get(self.name)

    def __repr__(self) -> str:
        return f"<naught.Reference {self.name!r}>"


class InFlight:
    """Count what is going on right now: up on entering, down on leaving, and down too when the process dies.

        async with counters.in_flight("uploads"): ...
        await counters.in_flight("uploads").value()

    Nothing is limited: for a limit there is `Semaphore`.
    """

    __slots__ = ("_client", "_entered", "name")

    def __init__(self, client: Commands[Any], name: Key) -> None:
        encode_key(name)
        self.name: Final = name
        self._client: Final = client
        self._entered: Final = _Entered(client)

    async def __aenter__(self) -> None:
        self._entered.push(await acquire_permit(self._client, ((self.name, 1, VALUE_MAX),), None))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit = self._entered.pop()
        # Uncounted already, where it is not held any more: the counter was cleared, or the session was lost.
        with suppress(NotHeld):
            await release_at_exit(permit, error)

    async def value(self) -> int:
        """How many there are."""
        return await self._client.get(self.name)

    def __repr__(self) -> str:
        return f"<naught.InFlight {self.name!r}>"


class Quota:
    """At most `limit` in a window of `per` seconds, which begins with the first use and is fixed then.

        quota = counters.quota("calls:ann", limit=100, per=3600)
        if not await quota.use():
            raise TooMany(retry_after=await quota.retry_after())

    A fixed window lets up to twice the limit through around its end. It costs one counter, gone when the window ends.
    """

    __slots__ = ("_client", "_per_ms", "limit", "name")

    def __init__(self, client: Commands[Any], name: Key, limit: int, per: float) -> None:
        encode_key(name)
        self.name: Final = name
        self.limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        if not isinstance(per, int | float) or isinstance(per, bool) or not 0.001 <= per <= TTL_MS_MAX / 1000:
            raise InvalidRequest(f"per is from 0.001 to {TTL_MS_MAX // 1000} seconds, not {per!r}")
        self._per_ms: Final = check_ttl(round(per * 1000))
        self._client: Final = client

    async def use(self, n: int = 1) -> bool:
        """Use `n` of it, all or nothing; whether there was so much left."""
        granted, _ = await self._client.try_incr([(self.name, n, self.limit)], ttl_ms=self._per_ms)
        return granted

    async def remaining(self) -> int:
        """How much is left in this window."""
        return max(0, self.limit - await self._client.get(self.name))

    async def retry_after(self) -> float:
        """Seconds until the window ends, where nothing is left; 0 where something is.

        Infinity where it does not end: somebody has `set` the counter, which leaves it without a time to live.
        """
        left_ms = await self._client.ttl(self.name)
        if left_ms is None or await self._client.get(self.name) < self.limit:
            return 0.0
        return left_ms / 1000 if left_ms >= 0 else inf

    def __repr__(self) -> str:
        return f"<naught.Quota {self.name!r} of {self.limit} in {(self._per_ms or 0) / 1000:g} s>"
