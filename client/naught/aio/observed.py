"""The calls of the asyncio client as its hooks see them. Without hooks nothing here is used.

The future of an observed call tells the `Observer` when the call has ended. The hook of the end runs as a callback of
the future, in the event loop. The callback is added when the call is made, before anybody can await it, so it runs
before the task that awaits the call goes on; and it runs when the call is cancelled.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from naught.core.hooks import ObservedCall, Observer, sink_with_hooks

if TYPE_CHECKING:
    from naught.aio.connection import Connection
    from naught.core.options import Options
    from naught.core.sink import CallSink


def sink_of(connection: Connection, options: Options) -> CallSink:
    """What the commands of a client hand their calls to."""
    return sink_with_hooks(
        connection,
        options.hooks,
        options.address,
        perf_counter,
        lambda observer: ObservedFuture(observer, loop=connection.enter_loop()),
    )


class ObservedFuture(asyncio.Future[Any]):
    """The future of an observed call."""

    def __init__(self, observer: Observer, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.observer: Final = observer
        self.observed: ObservedCall | None = None  # until it has ended; the session tells it when it is sent again
        # The exception of the call. Asking the future for it would count as if its caller had looked at it.
        self.failure: BaseException | None = None

    def observe(self, call: ObservedCall) -> None:
        """It is the future of this call."""
        self.observed = call

    def follow(self) -> None:
        """Tell the observer when the call has ended."""
        self.add_done_callback(_end)

    def set_exception(self, exception: type[BaseException] | BaseException, /) -> None:
        """As of any future."""
        super().set_exception(exception)
        assert isinstance(exception, BaseException)
        self.failure = exception


def _end(future: asyncio.Future[Any]) -> None:
    # A function and no method, because a future that refers to itself is freed by the garbage collector only.
    assert isinstance(future, ObservedFuture)
    call, error = future.observed, future.failure
    assert call is not None
    future.observed = future.failure = None
    future.observer.end(call, asyncio.CancelledError() if future.cancelled() else error)
