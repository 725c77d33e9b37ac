"""`Future`: the reply to a call of a thread. `waiting`: makes a blocking method of a method that is awaited.

A method of the wire returns a future, for which the thread waits. A pattern is a coroutine: `run` runs it in the
thread that calls, and blocks the thread wherever the coroutine awaits a future. So both are written once.

Only the client's own thread (`loop.py`) settles futures. A thread that gives up, because its deadline has passed or a
signal handler has raised in it, tells that thread. So a call has a result or none, wherever an interrupt strikes.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from math import inf
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast, overload

from naught import exit
from naught.core.calls import check_timeout
from naught.errors import CallTimeout, NaughtError

if TYPE_CHECKING:
    from naught.blocking.waker import Waker, Wakers
    from naught.core.hooks import ObservedCall, Observer
    from naught.core.messages import Message

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

# A thread that waits wakes this often: an exception that another thread has set in it strikes only then.
WAKE_S: Final = 1.0
# How long after its deadline a thread ends its call itself, should the client's own thread be too busy to do so.
GRACE_S: Final = 0.1


class Future:
    """The result of one call, or a signal. `abandon` cancels the call and releases what it was granted."""

    # The values of most futures when they are made. As attributes of the class they cost nothing per call.
    message: Message | None = None  # in which the call travels, if it does not travel joined
    observed: ObservedCall | None = None  # the call as hooks see it, until it has ended
    _settled = False
    _result: Any = None
    _error: BaseException | None = None
    _timeout: float | None = None  # seconds
    _grace_s = 0.0  # seconds more, after which its thread ends the call itself
    _holds = False  # its result may be a grant
    _gave_up = False  # its thread does not wait for it any more, or has got its error

    def __init__(
        self, wakers: Wakers, abandon: Callable[..., None] | None = None, observer: Observer | None = None
    ) -> None:
        self._abandon: Final = abandon
        self._observer: Final = observer  # None where the client has no hooks
        self._wakers: Final = wakers
        self._waiting: Final[list[Waker]] = []  # of the threads that wait, nearly always one

    # The thread that waits.

    def begin(self, timeout: object, answer_s: float, *, holds: bool) -> None:
        """The call is about to be posted; its answer may take `answer_s` more. Raises InvalidRequest."""
        self._timeout = check_timeout(timeout)
        self._grace_s = answer_s + GRACE_S
        self._holds = holds

    def wait_until(self, seconds: float | None) -> bool:
        """Wait until it is settled, `seconds` at most. Returns whether it is."""
        if self._settled:
            return True
        left = inf if seconds is None else max(0.0, seconds)
        waker = self._wakers.take()
        try:
            self._waiting.append(waker)  # before it looks: a future is settled before its threads are woken
            while not self._settled:
                if not waker.wait(min(left, WAKE_S)):
                    if left <= WAKE_S:
                        break
                    left -= WAKE_S
            return self._settled
        finally:
            self._waiting.remove(waker)
            self._wakers.give_back(waker)

    def block(self) -> None:
        """Wait until the call has ended. Raises CallTimeout if the client's own thread has not kept the deadline."""
        try:
            if not self.wait_until(None if self._timeout is None else self._timeout + self._grace_s):
                raise CallTimeout(f"no answer within {self._timeout:g} s; the client's own thread is busy")
        except BaseException as error:
            self.give_up()
            self._end(error)
            raise

    def wait(self) -> Any:
        """The result. Raises the error of the call, and what interrupts the thread."""
        if not self._settled:
            self.block()
        return self._result if self._error is None and self._observer is None else self._taken()

    def __await__(self) -> Generator[Future, None, Any]:
        yield self  # also where it is settled: `run` has to know what was granted
        return self._taken()

    def _taken(self) -> Any:
        error, self._error = self._error, None  # else the error would refer to this future by its traceback
        self._gave_up = error is not None
        self._end(error)
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error

    def _end(self, error: BaseException | None) -> None:
        call, self.observed = self.observed, None
        if call is not None and self._observer is not None:
            self._observer.end(call, error)
        if error is not None:
            exit.hold_back()

    def give_up(self) -> None:
        """Cancel the call; if it has ended, release what it was granted."""
        if not self._gave_up and self._abandon is not None and (self._holds or not self._settled):
            self._gave_up = True
            self._abandon(self)

    # What commands, patterns and hooks use of any future.

    def cancel(self) -> None:
        if not self._settled:
            self.give_up()

    def cancelled(self) -> bool:
        return self._gave_up

    def result(self) -> Any:
        return self._result

    def exception(self) -> BaseException | None:
        return self._error

    def observe(self, call: ObservedCall) -> None:
        self.observed = call

    def follow(self) -> None:
        """The thread that has made the call ends its observation."""

    # The client's own thread.

    def sent(self, message: Message) -> None:
        """The session has the call."""
        self.message = message

    def done(self) -> bool:
        return self._settled

    def set_result(self, result: Any = None, /) -> None:
        if not self._settled:
            self._result = result
            self._settled = True
            for waker in tuple(self._waiting):
                waker.wake()

    def set_exception(self, exception: BaseException, /) -> None:
        if not self._settled:
            self._error = exception
            self.set_result()


def run(awaitable: Awaitable[U], convert: Callable[[U], T] | None = None) -> T:
    """The result of a coroutine that awaits nothing but calls, as `convert` makes it.

    Where it is interrupted, what it was granted goes back. Python looks for signals behind calls of C functions and
    where Python functions begin, so none strikes between the last line and the block of a `with` statement.
    """
    coroutine = cast("Coroutine[Future, None, Any]", awaitable)
    awaited: list[Future] = []
    step, argument = cast("Callable[[Any], Future]", coroutine.send), None
    try:
        while True:
            try:
                awaited.append(step(argument))
            except StopIteration as end:
                return end.value if convert is None else convert(end.value)
            try:
                awaited[-1].block()
                step, argument = coroutine.send, None
            except BaseException as error:
                step, argument = coroutine.throw, error
    except BaseException:
        for future in awaited:
            future.give_up()
        coroutine.close()
        raise


@overload
def waiting(
    method: Callable[Concatenate[Any, P], Awaitable[T]], *, interrupted: Callable[[Any], object] | None = None
) -> Callable[Concatenate[Any, P], T]: ...


@overload
def waiting(
    method: Callable[Concatenate[Any, P], Awaitable[U]], convert: Callable[[U], T]
) -> Callable[Concatenate[Any, P], T]: ...


def waiting(
    method: Callable[..., Awaitable[Any]],
    convert: Callable[[Any], Any] | None = None,
    interrupted: Callable[[Any], object] | None = None,
) -> Callable[..., Any]:
    """The method of an object that has the awaited one as `_inner`. Its signature says what it returns.

    `interrupted`: called with the inner object where anything else than the method itself raises in it.
    """

    @wraps(method)
    def waits(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            answer = method(self._inner, *args, **kwargs)
            return answer.wait() if isinstance(answer, Future) else run(answer, convert)
        except BaseException as error:
            if interrupted is not None and not isinstance(error, NaughtError):
                interrupted(self._inner)
            raise

    signature = inspect.signature(method)
    told = signature.return_annotation
    if isinstance(told, str) and told.startswith("Future[") and told.endswith("]"):
        waits.__signature__ = signature.replace(return_annotation=told[7:-1])  # type: ignore[attr-defined]
    return waits
