"""What counters are used for, on top of the commands: today the semaphore.

A pattern keeps no state of its own at the server: whoever uses the same name with the same meaning shares it, also
with a client in another language. It is reached from the client (`counters.semaphore(...)`), or made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from naught.calls import Acquired, Key, check_integer
from naught.errors import CallTimeout, NotHeld
from naught.wire import VALUE_MAX, encode_key

if TYPE_CHECKING:
    from naught.client import Client
    from naught.holds import Hold

Items = Sequence[tuple[Key, int, int]]


class Lost:
    """Whether a permit is lost: test it (`if permit.lost`), or wait for it (`await permit.lost`)."""

    __slots__ = ("_happened", "_lost")

    def __init__(self) -> None:
        self._lost = False
        self._happened: asyncio.Event | None = None  # made when somebody waits

    def __bool__(self) -> bool:
        return self._lost

    def set(self) -> None:
        """It is lost."""
        self._lost = True
        if self._happened is not None:
            self._happened.set()

    async def wait(self) -> None:
        """Return once it is lost."""
        if not self._lost:
            if self._happened is None:
                self._happened = asyncio.Event()
            await self._happened.wait()

    def __await__(self) -> Generator[Any, None, None]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        return f"<lost: {self._lost}>"


class Permit:
    """What a semaphore has granted. Give it back with `release`, or use it with `async with`."""

    __slots__ = ("_client", "_hold", "_released", "lost")

    def __init__(self, client: Client[Any], hold: Hold) -> None:
        self._client: Final = client
        self._hold: Final = hold
        self._released = False
        # True once the session is lost, at the latest a lease after its connection was: somebody else may have the
        # permit by now.
        self.lost: Final = Lost()
        hold.when_lost(self.lost.set)

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
        self._released = True
        if self.lost:
            raise NotHeld(f"permit {self.number} is lost: the session ended, or may have")
        await self._client.release(self._hold)

    async def __aenter__(self) -> Permit:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await release_at_exit(self, error)

    def __repr__(self) -> str:
        state = "released" if self._released else "lost" if self.lost else "held"
        return f"<naught.Permit {self.number} {state}>"


class Semaphore:
    """At most `limit` permits at a time, among all clients of the server that use this name.

        async with counters.semaphore("gpu", limit=4) as permit: ...

    First come, first served. A permit whose process dies, or that loses its connection for longer than the lease,
    comes back by itself. It shows that its owner was alive a moment ago, and is no mutual exclusion: check
    `permit.lost` before what must not happen twice, or have it refuse old numbers (`permit.number`).

    The counter `name` has the number of permits out as its value, and is absent when there are none. Everybody says
    the limit; a lower one makes who says it wait longer.
    """

    __slots__ = ("_client", "_entered", "_items", "limit", "name")

    def __init__(self, client: Client[Any], name: Key, limit: int) -> None:
        encode_key(name)
        self.name: Final = name
        self.limit: Final = check_integer("limit", limit, 1, VALUE_MAX)
        self._client: Final = client
        self._items: Final = ((name, 1, limit),)
        # Permits of tasks that are inside of `async with`, the latest last: many tasks may share one semaphore.
        self._entered: dict[asyncio.Task[Any] | None, list[Permit]] = {}

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
        self._entered.setdefault(asyncio.current_task(), []).append(permit)
        return permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        permits = self._entered[task]
        permit = permits.pop()
        if not permits:
            del self._entered[task]
        await release_at_exit(permit, error)

    def __repr__(self) -> str:
        return f"<naught.Semaphore {self.name!r} of {self.limit}>"


async def acquire_permit(client: Client[Any], items: Items, timeout: float | None) -> Permit:  # noqa: ASYNC109 - so
    """Wait for a permit of all these items at once. Raises CallTimeout."""
    acquired = await client.acquire(items, wait=timeout)
    if acquired.hold is None:
        names = ", ".join(str(name) for name, _, _ in items)
        raise CallTimeout(f"no permit of {names} within {timeout} s")
    return Permit(client, acquired.hold)


async def release_at_exit(permit: Permit, error: BaseException | None) -> None:
    """Release at the end of a block. That a permit was not held any more is raised, unless the block raises
    itself."""
    try:
        await permit.release()
    except NotHeld:
        if error is None:
            raise
