"""Hooks: a program is told when each of its calls starts, and when it ends. Sans-IO.

    ObservedCall    one call, as hooks see it
    Observer        makes such a call, and runs the hooks
    ObservedSink    between `Commands` and the connection: every call that passes is observed

A client without hooks has no `ObservedSink`: its commands talk to the connection itself, so hooks that are not set
cost nothing. With hooks, the future of a call is an `ObservedFuture` of the client (`aio/observed.py`,
`blocking/future.py`). It runs the hook of the end, because only the client knows when its caller goes on.

When a hook is called is written at `naught.connect`. A hook that raises harms no call: the first exception of a
client's hook is logged with its traceback, later ones of the same hook are dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, cast

from naught.core.calls import Call, check_timeout, check_ttl
from naught.core.sink import CallSink
from naught.errors import CommandError, InvalidRequest
from naught.wire.traceparent import TRACEPARENT_BYTES, is_traceparent

if TYPE_CHECKING:
    from asyncio import Future

    from naught.core.messages import Message, Waiter
    from naught.url import Address

logger = logging.getLogger("naught")


class ObservedCall:
    """One call of a client, as its hooks see it. Both hooks get the same object.

    A call is what the program has called, not what travels: of a hundred increments that share one message each is a
    call of its own. A method that asks page by page (`scan_iter`, `held`, `sessions`) makes a call for each page, and
    a pattern makes the calls that it is built of.
    """

    __slots__ = (
        "_started",
        "_traceparent",
        "address",
        "batch_size",
        "duration",
        "ended",
        "error",
        "method",
        "retries",
        "state",
    )

    def __init__(self, method: str, batch_size: int, address: Address) -> None:
        self.method: Final = method
        """The method of the wire, such as `incr` or `get_many`."""
        self.batch_size: Final = batch_size
        """How many items the call has: keys of `apply`, `get_many` and `take`, items of `try_incr`, `acquire` and
        `release`. 1 for a call without a list."""
        self.address: Final = address
        """The server and the cache: see `naught.url`."""
        self.state: Any = None
        """For the hooks: what one of them puts here, the other one finds."""
        self.ended = False
        """Whether the call has ended. The next fields have no meaning before."""
        self.duration = 0.0
        """Seconds from the hook of the start until the caller could go on."""
        self.error: BaseException | None = None
        """What the caller gets instead of a result; None for a result. A wait that has run out at the server
        gives a result, not an error."""
        self.retries = 0
        """How many times the request was sent again, because its connection was lost, its server stopped,
        or the server was busy."""
        self._started = 0.0  # on the clock of the observer
        self._traceparent: str | None = None

    @property
    def outcome(self) -> str:
        """`ok`; or the code of the server's error, such as `overflow`; or the name of another exception's class."""
        error = self.error
        if error is None:
            return "ok"
        return error.code if isinstance(error, CommandError) else type(error).__name__

    @property
    def traceparent(self) -> str | None:
        """The trace to which the request belongs, in the form of W3C Trace Context. `on_call_start` may set it; then
        the slow log of the server shows it. Of calls that share a message, the first that has one counts."""
        return self._traceparent

    @traceparent.setter
    def traceparent(self, text: str | None) -> None:
        if text is not None and not (isinstance(text, str) and is_traceparent(text)):
            raise InvalidRequest(
                f"traceparent is {TRACEPARENT_BYTES} characters in the form of W3C Trace Context, not {text!r:.80}"
            )
        self._traceparent = text

    def __repr__(self) -> str:
        return f"<naught.ObservedCall {self.method}{f' {self.outcome}' if self.ended else ''}>"

    # What the client calls.

    def note_start(self, now: float) -> None:
        """The call is about to be queued."""
        self._started = now

    def note_sent_again(self) -> None:
        """Its request is sent once more."""
        self.retries += 1

    def note_end(self, now: float, error: BaseException | None) -> None:
        """The caller can go on."""
        self.ended = True
        self.duration = now - self._started
        self.error = error


CallHook: TypeAlias = Callable[[ObservedCall], object]
"""A function that is called with each call. What it returns is ignored."""


class Hooks(NamedTuple):
    """What a program wants to be told. At least one is set."""

    on_call_start: CallHook | None
    on_call_end: CallHook | None


def check_hooks(on_call_start: object, on_call_end: object) -> Hooks | None:
    """The hooks of a client; None where there are none. Raises InvalidRequest for what cannot be called."""
    for name, hook in (("on_call_start", on_call_start), ("on_call_end", on_call_end)):
        if hook is not None and not callable(hook):
            raise InvalidRequest(f"{name} is a function or None, not {type(hook).__name__}")
    if on_call_start is None and on_call_end is None:
        return None
    return Hooks(cast("CallHook | None", on_call_start), cast("CallHook | None", on_call_end))


class Observer:
    """Runs the hooks of one client, in the thread that calls it."""

    def __init__(self, hooks: Hooks, address: Address, clock: Callable[[], float]) -> None:
        self._hooks: Final = hooks
        self._address: Final = address
        self._clock: Final = clock  # seconds
        self._failed: dict[str, object] = {}  # the hooks that have raised

    def start(self, method: str, batch_size: int) -> ObservedCall:
        """A call is about to be made. Raises InvalidRequest in a hook of the same client, which would run again."""
        if _running.get() is self:
            raise InvalidRequest("a hook must not call its client")
        call = ObservedCall(method, batch_size, self._address)
        self._run("on_call_start", self._hooks.on_call_start, call)
        call.note_start(self._clock())
        return call

    def end(self, call: ObservedCall, error: BaseException | None) -> None:
        """The call has ended. A second call does nothing."""
        if not call.ended:
            call.note_end(self._clock(), error)
            self._run("on_call_end", self._hooks.on_call_end, call)

    def _run(self, name: str, hook: CallHook | None, call: ObservedCall) -> None:
        if hook is None:
            return
        before = _running.set(self)
        try:
            hook(call)
        except Exception:
            first = object()
            # One step, because threads may be here at the same time.
            if self._failed.setdefault(name, first) is first:
                logger.exception("%s raised; further exceptions of it are not logged", name)
        finally:
            _running.reset(before)


_running: Final[ContextVar[Observer | None]] = ContextVar("_running", default=None)
"""Whose hook runs in this task or thread."""


class ObservedFuture(Protocol):
    """The future of an observed call, which a client makes of its own kind."""

    def observe(self, call: ObservedCall) -> None:
        """It is the future of this call."""

    def follow(self) -> None:
        """The call is made. From now on the observer is told when it has ended."""


def sink_with_hooks(
    sink: Any,
    hooks: Hooks | None,
    address: Address,
    clock: Callable[[], float],
    new_future: Callable[[Observer], Any],
) -> CallSink:
    """What the commands of a client hand their calls to: its connection, `sink`; with hooks, one that observes them.

    `clock` gives seconds, `new_future` makes the future of an observed call.
    """
    if hooks is None:
        return cast("CallSink", sink)
    observer = Observer(hooks, address, clock)
    return ObservedSink(sink, observer, partial(new_future, observer))


class ObservedSink:
    """A `CallSink` in front of another one; see the module."""

    def __init__(self, sink: CallSink, observer: Observer, new_future: Callable[[], Future[Any]]) -> None:
        self._observer: Final = observer
        self._change: Final = sink.change
        self._ask: Final = sink.ask
        self.new_future: Final = new_future
        self.cancel_wait: Final = sink.cancel_wait
        self.release_untaken: Final = sink.release_untaken
        self.current_caller: Final = sink.current_caller

    def change(self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Waiter, /) -> None:
        # What the caller gets wrong is refused before there is a call.
        if ttl_ms is not None:
            check_ttl(ttl_ms)
        check_timeout(timeout)
        call = self._observer.start("incr" if delta > 0 else "decr", 1)
        future = cast("ObservedFuture", waiter)
        future.observe(call)
        try:
            self._change(key, delta, ttl_ms, timeout, waiter)
        except BaseException as error:
            self._observer.end(call, error)
            raise
        future.follow()

    def ask(self, call: Call[Any], timeout: float | None, waiter: Waiter, /) -> Message:
        check_timeout(timeout)
        observed = self._observer.start(call.method, _batch_size_of(call))
        future = cast("ObservedFuture", waiter)
        future.observe(observed)
        try:
            message = self._ask(call, timeout, waiter)
        except BaseException as error:
            self._observer.end(observed, error)
            raise
        future.follow()
        return message


def _batch_size_of(call: Call[Any]) -> int:
    """How many items a call has: the length of its first list."""
    return next((len(param) for param in call.params if isinstance(param, list)), 1)
