"""The calls of a client for threads as its hooks see them. Without hooks nothing here is used.

The future of an observed call tells the `Observer` when the call has ended. The hook of the end runs in the thread
that has made the call, when it has stopped waiting, and without any lock. So a slow hook delays its own thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

from naught.blocking.future import Future
from naught.core.hooks import ObservedCall, ObservedSink, Observer

if TYPE_CHECKING:
    from naught.blocking.link import Link
    from naught.core.sink import CallSink


def sink_of(link: Link) -> CallSink:
    """What the commands of a client hand their calls to: its link, or with hooks one that observes the calls."""
    sink = cast("CallSink", link)  # its futures are another kind, with the same methods
    options = link.options
    if options.hooks is None:
        return sink
    observer = Observer(options.hooks, options.address, perf_counter)
    new_future: Callable[[], Any] = partial(ObservedFuture, link, observer)
    return ObservedSink(sink, observer, new_future)


class ObservedFuture(Future):
    """The future of an observed call."""

    def __init__(self, link: Link, observer: Observer) -> None:
        super().__init__(link)
        self._observer: Final = observer
        self.observed: ObservedCall | None = None  # until it has ended; the session tells it when it is sent again

    def observe(self, call: ObservedCall) -> None:
        """It is the future of this call."""
        self.observed = call

    def follow(self) -> None:
        """Nothing to do: the thread that has made the call comes to `wait`."""

    def wait(self) -> Any:
        """The result, once it is there."""
        observer, call = self._observer, self.observed
        assert call is not None, "it is waited for once"
        try:
            result = super().wait()
        except BaseException as error:
            observer.end(call, error)
            raise
        else:
            observer.end(call, None)
            return result
        finally:
            # An error would keep them, and they the error.
            self.observed = None
            del self, call
