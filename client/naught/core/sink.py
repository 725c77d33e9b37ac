"""`CallSink`: the interface through which `Commands` and the patterns hand calls to an adapter. Sans-IO.

A sink carries a call to a server and sets the reply on the call's future. The two adapters are sinks:
`naught.aio.connection.Connection` for the event loop, and `naught.blocking.loop.Loop` for threads. Clients differ
only in their sink, so commands and patterns are written once.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

from naught.core.calls import Call
from naught.core.holds import Hold
from naught.core.messages import Message, Waiter

if TYPE_CHECKING:
    from asyncio import Future


class CallSink(Protocol):
    """See the module. The first four methods are those of `ClientSession`."""

    def change(
        self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Waiter, /
    ) -> None: ...
    def ask(self, call: Call[Any], timeout: float | None, waiter: Waiter, /) -> Message: ...
    def cancel_wait(self, message: Message, /) -> None: ...
    def release_untaken(self, hold: Hold, /) -> None: ...

    def new_future(self) -> Future[Any]:
        """The future of a call: the caller awaits it, and it is the call's waiter."""

    def current_caller(self) -> Hashable:
        """The task, or the identifier of the thread, that runs this."""
