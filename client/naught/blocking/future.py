"""`Future`: the result of a call of a thread. The thread blocks until it is set.

It is also awaitable: awaiting it blocks the thread instead of suspending a task. So a coroutine that awaits only such
futures runs to its end in the thread that calls `run`. By this, methods and patterns that are written with `await`
serve threads too.
"""

from __future__ import annotations

import _thread
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from naught.errors import NaughtError

if TYPE_CHECKING:
    from naught.blocking.crowd import Crowd
    from naught.blocking.link import Link
    from naught.blocking.wires import Connection
    from naught.core.session import Change, ClientSession

T = TypeVar("T")

PENDING, RESULT, ERROR, CANCELLED = range(4)


class Future:
    """The result of one call. Settled by the link, under its lock; waited for by the thread that made the call.

    The fields without an underscore are the link's: what the waiting thread is to do next.
    """

    # What nearly every future is when it is made, said once for all: that saves 0.7 us a call.
    state = PENDING
    _result: Any = None
    _error: BaseException | None = None
    timeout: float | None = None  # seconds the call may take
    due: float | None = None  # when they are over, once somebody waits
    change: Change | None = None  # an increment the session has not heard of
    told: Callable[[ClientSession], None] | None = None  # what it is to hear of, where nobody waits for an answer
    epoch: object = None  # of the link, when the session heard of the call
    thread = 0  # that waits for it: its identifier
    gate: Any = None  # locked, while its thread waits on it; opened once, by whoever has something for it
    crowd: Crowd | None = None  # with which its thread waits, if not at a gate of its own
    hurried = False  # it waits for others to go with it, and is the one who looks soon whether they do
    reading: Connection | None = None  # its thread reads for all
    writing: Connection | None = None  # its thread has `output` to write there
    output = b""

    def __init__(self, link: Link) -> None:
        self._link: Final = link

    # What a `Waiter` has.

    def done(self) -> bool:
        return self.state != PENDING

    # The gate is opened here, and not by a call: where nothing is called, no signal handler can strike between.

    def set_result(self, result: Any, /) -> None:
        if self.state == PENDING:
            self._result = result
            self.state = RESULT
            gate = self.gate
            if gate is not None:
                self.gate = None
                gate.release()
            else:
                crowd = self.crowd
                if crowd is not None and not crowd.opened:
                    self._link.gathering.let_through(crowd)

    def set_exception(self, exception: BaseException, /) -> None:
        if self.state == PENDING:
            self._error = exception
            self.state = ERROR
            gate = self.gate
            if gate is not None:
                self.gate = None
                gate.release()
            else:
                crowd = self.crowd
                if crowd is not None and not crowd.opened:
                    self._link.gathering.let_through(crowd)

    # What else is asked of a future.

    def cancel(self) -> None:
        """Its thread has better to do."""
        if self.state == PENDING:
            self.state = CANCELLED
        self.gate = self.crowd = None

    def cancelled(self) -> bool:
        return self.state == CANCELLED

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        """What was waited for; raises what went wrong instead."""
        if self.state == RESULT:
            return self._result
        assert self._error is not None, "it was waited for"
        try:
            raise self._error
        finally:
            del self  # else the error would keep its own traceback

    def wait(self) -> Any:
        """The result, once it is there."""
        try:
            if self.state == PENDING:
                self._link.wait(self)
            return self._result if self.state == RESULT else self.result()
        finally:
            del self  # of which an error would keep its crowd, and so descriptors

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self.wait()

    # The gate.

    def follows(self) -> bool:
        """Whether its thread waits for others to read, at a gate of its own."""
        return self.gate is not None and self.state == PENDING

    def waits(self) -> bool:
        """Whether its thread has a place to wait for others to read."""
        return self.follows() or (self.crowd is not None and not self.crowd.opened)

    def close_gate(self) -> None:
        """From here on `gate.acquire` waits."""
        self.crowd = None
        if self.gate is None:
            self.gate = _thread.allocate_lock()
            self.gate.acquire()

    def open_gate(self) -> None:
        """Let the thread look again, if it waits."""
        gate = self.gate
        if gate is not None:
            self.gate = None
            gate.release()


def nobody(link: Link) -> Future:
    """In the place of a call, for what is written and not waited for: never asked to read."""
    future = Future(link)
    future.state = CANCELLED
    return future


def run(awaitable: Awaitable[T]) -> T:
    """The result of a call, or of a coroutine that awaits calls alone."""
    if isinstance(awaitable, Future):
        return cast("T", awaitable.wait())
    coroutine = cast("Coroutine[Any, Any, T]", awaitable)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    coroutine.close()
    raise NaughtError("something other than a call was awaited")
