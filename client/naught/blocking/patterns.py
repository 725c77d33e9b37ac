"""The patterns of `naught.patterns` for threads: the same objects, whose methods wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from naught import patterns
from naught.blocking.waiting import waiting

if TYPE_CHECKING:
    pass

P = ParamSpec("P")
T = TypeVar("T")


class Lost:
    """Whether a permit is lost: test it (`if permit.lost`), or wait for it (`permit.lost.wait(timeout)`)."""

    __slots__ = ("_happened", "_hold")

    def __init__(self, permit: patterns.Permit) -> None:
        self._hold: Final = permit.hold
        self._happened: threading.Event | None = None  # made when somebody waits

    def __bool__(self) -> bool:
        return self._hold.lost

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is lost, or `timeout` seconds have passed; whether it is."""
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
        self.lost: Final = Lost(inner)

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


class Semaphore:
    """At most `limit` permits at a time, among all clients of the server that use this name.

        with counters.semaphore("gpu", limit=4) as permit: ...

        @counters.semaphore("gpu", limit=4)
        def render(job): ...

    See `naught.patterns.Semaphore`, with which it is shared.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: patterns.Semaphore) -> None:
        self._inner: Final = inner

    acquire = waiting(patterns.Semaphore.acquire, Permit)
    try_acquire = waiting(patterns.Semaphore.try_acquire, _permit_or_none)
    __enter__ = waiting(patterns.Semaphore.__aenter__, Permit)
    __exit__ = waiting(patterns.Semaphore.__aexit__)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """As a decorator: every call of the function has a permit while it runs."""

        @wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            with self:
                return function(*args, **kwargs)

        return limited

    def __repr__(self) -> str:
        return repr(self._inner)


class WaitGroup:
    """Wait until all work is done, whoever does it and wherever. See `naught.patterns.WaitGroup`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: patterns.WaitGroup) -> None:
        self._inner: Final = inner

    add = waiting(patterns.WaitGroup.add)
    done = waiting(patterns.WaitGroup.done)
    wait = waiting(patterns.WaitGroup.wait)
    value = waiting(patterns.WaitGroup.value)

    def __repr__(self) -> str:
        return repr(self._inner)


class Reference:
    """Count who uses something, and learn who lets go last. See `naught.patterns.Reference`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: patterns.Reference) -> None:
        self._inner: Final = inner

    retain = waiting(patterns.Reference.retain)
    release = waiting(patterns.Reference.release)
    value = waiting(patterns.Reference.value)

    def __repr__(self) -> str:
        return repr(self._inner)


class InFlight:
    """Count what is going on right now: `with counters.in_flight("uploads"): ...`. See `naught.patterns.InFlight`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: patterns.InFlight) -> None:
        self._inner: Final = inner

    __enter__ = waiting(patterns.InFlight.__aenter__)
    __exit__ = waiting(patterns.InFlight.__aexit__)
    value = waiting(patterns.InFlight.value)

    def __repr__(self) -> str:
        return repr(self._inner)


class Quota:
    """At most `limit` in a window of `per` seconds. See `naught.patterns.Quota`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: patterns.Quota) -> None:
        self._inner: Final = inner

    use = waiting(patterns.Quota.use)
    remaining = waiting(patterns.Quota.remaining)
    retry_after = waiting(patterns.Quota.retry_after)

    def __repr__(self) -> str:
        return repr(self._inner)
