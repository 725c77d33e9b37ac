"""The patterns of `naught.patterns` for threads: the same classes, with blocking methods."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from operator import methodcaller
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, NoReturn, ParamSpec, TypeVar, cast

from naught import patterns
from naught.blocking.future import Future, run, waiting
from naught.blocking.waker import Wakers
from naught.core.calls import check_timeout
from naught.errors import NaughtError, NotHeld

if TYPE_CHECKING:
    from naught.core.calls import Key
    from naught.core.holds import Hold

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")
InnerT = TypeVar(
    "InnerT", patterns.Semaphore, patterns.WaitGroup, patterns.Reference, patterns.InFlight, patterns.Quota
)
BlockT = TypeVar("BlockT", patterns.Semaphore, patterns.InFlight)


class Lost:
    """Whether a permit is lost: test it (`if permit.lost`), or wait for it (`permit.lost.wait(timeout)`)."""

    def __init__(self, hold: Hold) -> None:
        self._hold: Final = hold
        self._signal: Future | None = None  # settled when the hold is lost; made by the first `wait`

    def __bool__(self) -> bool:
        return self._hold.lost

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the permit is lost, `timeout` seconds at most, None for no limit. Returns whether it is."""
        seconds = check_timeout(timeout)
        signal = self._signal
        if signal is None and not self._hold.lost:
            signal = self._signal = Future(Wakers(0))
            self._hold.when_lost(signal.set_result)
        # In the child of a fork the hold is lost, and nobody settles what a thread of the parent waits for.
        return self._hold.lost or (signal is not None and signal.wait_until(seconds))

    def __repr__(self) -> str:
        return f"<lost: {bool(self)}>"


class Permit:
    """One grant of a semaphore, or of several. Give it back with `release`, or use it with `with`."""

    __slots__ = ("_inner", "lost")

    def __init__(self, inner: patterns.Permit) -> None:
        self._inner: Final = inner
        # True once the session is lost, at the latest one lease after its connection was lost. From then on another
        # client may have the permit.
        self.lost: Final = Lost(inner.hold)

    @property
    def hold(self) -> Hold:
        """The hold behind the permit."""
        return self._inner.hold

    @property
    def counted(self) -> bool:
        """False if the server could not be asked, and the semaphore lets everything pass then."""
        return self._inner.counted

    @property
    def number(self) -> int:
        """A fencing token: higher than the number of every permit that this server has granted before."""
        return self._inner.number

    release = waiting(patterns.Permit.release, interrupted=patterns.give_back)

    def __enter__(self) -> Permit:
        return self

    __exit__ = waiting(patterns.Permit.__aexit__, interrupted=patterns.give_back)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a permit is neither pickled nor copied: the session of its client holds it")


class _Pattern(Generic[InnerT]):
    """What all of them have. It is pickled as its client and the call that has made it."""

    def __init__(self, inner: InnerT, made_by: tuple[Any, ...]) -> None:
        self._inner: Final[InnerT] = inner  # the pattern, on the commands of the client
        self._made_by: Final = made_by  # a call of a method, and its client

    @property
    def name(self) -> Key:
        """The counter's name."""
        return self._inner.name

    def __repr__(self) -> str:
        return repr(self._inner)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made_by


def making(
    method: Callable[Concatenate[Any, P], U], pattern: Callable[[U, tuple[Any, ...]], T]
) -> Callable[Concatenate[Any, P], T]:
    """A method of a client that makes a pattern, which costs no round trip."""

    @wraps(method)
    def makes(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        return pattern(
            method(self._inner, *args, **kwargs), (methodcaller(method.__name__, *args, **kwargs), (self,))
        )

    return cast("Callable[Concatenate[Any, P], T]", makes)


class _Block(_Pattern[BlockT]):
    """What is entered and left by `with`."""

    _ignored: type[NaughtError] | tuple[()] = ()  # what leaving a block may raise and does not

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # As `__aexit__` of the pattern, but the permit also goes back where a signal handler raises in here.
        entered = self._inner._entered
        left: tuple[Hashable, patterns.Permit] | None = None
        try:
            left = entered.innermost()
            entered.remove(*left)
            run(patterns.release_at_exit(left[1], error))
        except self._ignored:
            pass
        except BaseException:
            caller, permit = left or entered.innermost()
            entered.remove(caller, permit)
            patterns.give_back(permit)
            raise


class Semaphore(_Block[patterns.Semaphore]):
    """At most `limit` permits at a time, among all clients of the server that use this name.

        with counters.semaphore("gpu", limit=4) as permit: ...

        @counters.semaphore("gpu", limit=4)
        def render(job): ...

    See `naught.patterns.Semaphore`, with which it is shared.
    """

    @property
    def limit(self) -> int:
        """The number of permits, as this object states it."""
        return self._inner.limit

    acquire = waiting(patterns.Semaphore.acquire, Permit)
    try_acquire = waiting(patterns.Semaphore.try_acquire, lambda inner: None if inner is None else Permit(inner))
    value = waiting(patterns.Semaphore.value)
    __enter__ = waiting(patterns.Semaphore.__aenter__, Permit)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """As a decorator: every call of the function holds a permit while it runs.

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
    """Wait until all work is done, in any number of processes. See `naught.patterns.WaitGroup`."""

    add = waiting(patterns.WaitGroup.add)
    done = waiting(patterns.WaitGroup.done)
    wait = waiting(patterns.WaitGroup.wait)
    value = waiting(patterns.WaitGroup.value)


class Reference(_Pattern[patterns.Reference]):
    """Count the users of something, and learn which release was the last. See `naught.patterns.Reference`."""

    retain = waiting(patterns.Reference.retain)
    release = waiting(patterns.Reference.release)
    value = waiting(patterns.Reference.value)


class InFlight(_Block[patterns.InFlight]):
    """Count running operations: `with counters.in_flight("uploads"): ...`. See `naught.patterns.InFlight`."""

    _ignored = NotHeld
    __enter__ = waiting(patterns.InFlight.__aenter__)
    value = waiting(patterns.InFlight.value)


class Quota(_Pattern[patterns.Quota]):
    """At most `limit` in a window of `per` seconds. See `naught.patterns.Quota`."""

    @property
    def limit(self) -> int:
        """The number of uses in a window, as this object states it."""
        return self._inner.limit

    use = waiting(patterns.Quota.use)
    remaining = waiting(patterns.Quota.remaining)
    retry_after = waiting(patterns.Quota.retry_after)
