"""The patterns of `naught.patterns` for threads: the same classes, with blocking methods."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Final, Generic, ParamSpec, TypeVar

from naught import patterns
from naught.blocking.waiting import waiting

if TYPE_CHECKING:
    from naught.core.calls import Key
    from naught.core.holds import Hold

P = ParamSpec("P")
T = TypeVar("T")
InnerT = TypeVar(
    "InnerT", patterns.Semaphore, patterns.WaitGroup, patterns.Reference, patterns.InFlight, patterns.Quota
)


class Lost:
    """Whether a permit is lost: test it (`if permit.lost`), or wait for it (`permit.lost.wait(timeout)`)."""

    __slots__ = ("_happened", "_hold")

    def __init__(self, hold: Hold) -> None:
        self._hold: Final = hold
        self._happened: threading.Event | None = None  # made when somebody waits

    def __bool__(self) -> bool:
        return self._hold.lost

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is lost, or `timeout` seconds have passed; whether it is."""
        if self._hold.lost:  # as in the child of a fork, where nobody sets what a thread of the parent waits for
            return True
        happened = self._happened
        if happened is None:
            happened = self._happened = threading.Event()
            self._hold.when_lost(happened.set)
        return happened.wait(timeout)

    def __repr__(self) -> str:
        return f"<lost: {bool(self)}>"


class Permit:
    """What a semaphore has granted. Give it back with `release`, or use it with `with`."""

    __slots__ = ("_inner", "lost")

    def __init__(self, inner: patterns.Permit) -> None:
        self._inner: Final = inner
        # True once the session is lost, at the latest a lease after its connection was: somebody else may have the
        # permit by now.
        self.lost: Final = Lost(inner.hold)

    @property
    def hold(self) -> Hold:
        """What was granted, as the client knows it."""
        return self._inner.hold

    @property
    def counted(self) -> bool:
        """False if the server could not be asked, and the semaphore lets everything pass then."""
        return self._inner.counted

    @property
    def number(self) -> int:
        """Higher than that of every permit granted before by this server: a fencing token."""
        return self._inner.number

    release = waiting(patterns.Permit.release)

    def __enter__(self) -> Permit:
        return self

    __exit__ = waiting(patterns.Permit.__aexit__)

    def __repr__(self) -> str:
        return repr(self._inner)


def _permit_or_none(inner: patterns.Permit | None) -> Permit | None:
    return None if inner is None else Permit(inner)


class _Pattern(Generic[InnerT]):
    """What all of them have. `_inner` is the pattern itself, on the commands of a blocking client."""

    __slots__ = ("_inner",)

    def __init__(self, inner: InnerT) -> None:
        self._inner: Final[InnerT] = inner

    @property
    def name(self) -> Key:
        """The counter's."""
        return self._inner.name

    def __repr__(self) -> str:
        return repr(self._inner)


class Semaphore(_Pattern[patterns.Semaphore]):
    """At most `limit` permits at a time, among all clients of the server that use this name.

        with counters.semaphore("gpu", limit=4) as permit: ...

        @counters.semaphore("gpu", limit=4)
        def render(job): ...

    See `naught.patterns.Semaphore`, with which it is shared.
    """

    __slots__ = ()

    @property
    def limit(self) -> int:
        """How many permits there are, as this one says."""
        return self._inner.limit

    acquire = waiting(patterns.Semaphore.acquire, Permit)
    try_acquire = waiting(patterns.Semaphore.try_acquire, _permit_or_none)
    value = waiting(patterns.Semaphore.value)
    __enter__ = waiting(patterns.Semaphore.__aenter__, Permit)
    __exit__ = waiting(patterns.Semaphore.__aexit__)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """As a decorator: every call of the function has a permit while it runs.

        Raises TypeError for a coroutine function or a generator function, whose call returns before it has begun.
        """
        if any(kind(function) for kind in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
            raise TypeError(f"{function!r} would give its permit back before it has begun")

        @wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            with self:
                return function(*args, **kwargs)

        return limited


class WaitGroup(_Pattern[patterns.WaitGroup]):
    """Wait until all work is done, whoever does it and wherever. See `naught.patterns.WaitGroup`."""

    __slots__ = ()

    add = waiting(patterns.WaitGroup.add)
    done = waiting(patterns.WaitGroup.done)
    wait = waiting(patterns.WaitGroup.wait)
    value = waiting(patterns.WaitGroup.value)


class Reference(_Pattern[patterns.Reference]):
    """Count who uses something, and learn who lets go last. See `naught.patterns.Reference`."""

    __slots__ = ()

    retain = waiting(patterns.Reference.retain)
    release = waiting(patterns.Reference.release)
    value = waiting(patterns.Reference.value)


class InFlight(_Pattern[patterns.InFlight]):
    """Count what is going on right now: `with counters.in_flight("uploads"): ...`. See `naught.patterns.InFlight`."""

    __slots__ = ()

    __enter__ = waiting(patterns.InFlight.__aenter__)
    __exit__ = waiting(patterns.InFlight.__aexit__)
    value = waiting(patterns.InFlight.value)


class Quota(_Pattern[patterns.Quota]):
    """At most `limit` in a window of `per` seconds. See `naught.patterns.Quota`."""

    __slots__ = ()

    @property
    def limit(self) -> int:
        """How much there is in a window, as this one says."""
        return self._inner.limit

    use = waiting(patterns.Quota.use)
    remaining = waiting(patterns.Quota.remaining)
    retry_after = waiting(patterns.Quota.retry_after)
