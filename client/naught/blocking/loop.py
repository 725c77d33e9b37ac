"""`Loop`: a client's own thread, with an event loop that owns the connection, the one of the asyncio client.

    threads of the program  --posts-->  Loop  -->  Connection  -->  ClientSession
                            <--------------------- futures are settled

Threads of the program run no code of the session: they check the arguments of a call, post it, and wait for its
future. The loop makes the calls that all threads have posted in one turn, so they travel together. Only the first
post since the last turn has to wake it.

After a fork the child has no such thread. Its first call starts one, with a connection and a session of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, cast

from naught import exit, fork
from naught.aio.connection import Connection
from naught.blocking.future import Future, future_class
from naught.core import session
from naught.core.hooks import ObservedSink, Observer
from naught.core.options import Options
from naught.errors import Busy, ClientClosed, NaughtError
from naught.green import current_caller, start_thread

if TYPE_CHECKING:
    from naught.core.calls import Call
    from naught.core.holds import Hold
    from naught.core.messages import Message, Waiter
    from naught.core.sink import CallSink

CLOSE_S: Final = 2.0
"""Seconds that `close` waits for its thread, which waits 0.5 s for a server that does not read `bye`."""

Post = tuple[Callable[..., None] | None, tuple[Any, ...], Future | None]
"""A function (None for `ClientSession.change`), its arguments, and the future that gets its exception."""

_of_parents: Final[list[object]] = []  # kept in the child of a fork


class Loop:
    """The `CallSink` of a client for threads. See the module."""

    def __init__(self, options: Options) -> None:
        self._options: Final = options
        self._future_class: Final = future_class()
        self.new_future: Final[Callable[..., Any]] = partial(self._future_class, self._abandon)
        self.current_caller: Final = current_caller
        self._closed = False
        self._reset()
        fork.register(self)

    def _reset(self) -> None:
        """There is no thread in this process."""
        self._ident = 0  # of the thread
        self._starting = threading.Lock()  # held while it is started
        self._posts: deque[Post] = deque()
        self._awake = False  # the posts will be looked at, without asking for it
        self._wake: Callable[[], object] = self._start  # ask for it
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self.connection: Connection | None = None
        self._opened = self._future_class()  # settled by the first connection, or its failure
        self._ended = self._future_class()  # settled at the end of the thread

    # Threads of the program.

    def open(self) -> None:
        """Connect for the first time. Raises what `naught.connect` raises."""
        try:
            self._start(first=True)
            self._opened.wait()
        except BaseException:
            self.close()
            raise

    def _start(self, *, first: bool = False) -> None:
        with self._starting:
            if self._closed:
                self._end()
            elif self._wake == self._start:
                start_thread(partial(self._run, first), f"naught {self._options.address}")
                self._wake = self._wake_loop
                exit.register(self)

    def _wake_loop(self) -> None:
        if self._event_loop is not None:  # else it is about to run, and begins with the posts
            with suppress(RuntimeError):  # it has just been closed, and ends with them
                self._event_loop.call_soon_threadsafe(self._make_posted)

    def _post(self, function: Callable[..., None] | None, arguments: tuple[Any, ...], future: Future | None) -> None:
        try:
            self._posts.append((function, arguments, future))
            if not self._awake:
                self._awake = True
                self._wake()
        except BaseException:  # there can be no thread; or an interrupt, perhaps before the loop was woken
            self._awake = False
            if self._ident:
                self._wake()
            raise

    def _begin(self, waiter: Waiter, timeout: object, *, holds: bool = False) -> Future:
        if self._closed:
            exit.hold_back()
            raise ClientClosed("the client is closed")
        if get_ident() == self._ident:
            raise NaughtError("a finalizer or log handler called the client in its own thread, which cannot wait")
        if len(self._posts) >= session.QUEUED_MAX:
            raise Busy(f"{session.QUEUED_MAX} calls of this client wait to be made")
        future = cast("Future", waiter)
        future.begin(timeout, holds=holds)
        return future

    def change(self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Waiter, /) -> None:
        future = self._begin(waiter, timeout)
        self._post(None, (key, delta, ttl_ms, timeout, future), future)

    def ask(self, call: Call[Any], timeout: float | None, waiter: Waiter, /) -> Message:
        future = self._begin(waiter, timeout, holds=call.holds)
        self._post(self._ask, (call, timeout, future), future)
        return cast("Message", future)  # for `cancel_wait`

    def cancel_wait(self, message: Message, /) -> None:
        cast("Future", message).cancel()

    def release_untaken(self, hold: Hold, /) -> None:
        self._post(lambda: self.session.release_untaken(hold), (), None)

    def untrack(self, hold: Hold, /) -> None:
        self._post(lambda: self.session.untrack(hold), (), None)

    def _abandon(self, future: Future) -> None:
        self._post(self._abandoned, (future,), None)

    @property
    def session(self) -> session.ClientSession:
        """It belongs to the client's own thread."""
        assert self.connection is not None
        return self.connection.session

    def close(self) -> None:
        """End the session and the thread. A second call does nothing."""
        self.stop()
        self.wait_end(CLOSE_S)

    def stop(self) -> None:
        """The part of `close` that needs no waiting. In any thread, and at any time."""
        self._closed = True
        exit.unregister(self)
        self._post(self._stop, (), None)

    def wait_end(self, seconds: float) -> None:
        """Wait until the thread has ended, that long at most."""
        if get_ident() != self._ident:
            self._ended.wait_until(seconds)

    def after_fork(self) -> None:
        """This is the child of a fork. What the thread has used is kept as it is: the parent uses it too."""
        _of_parents.append(self.__dict__.copy())
        self._reset()

    # The client's own thread.

    def _run(self, first: bool) -> None:
        try:
            from uvloop import new_event_loop
        except ImportError:
            from asyncio import new_event_loop  # type: ignore[assignment]
        self._ident = get_ident()
        loop = new_event_loop()
        try:
            loop.run_until_complete(self._serve(first))
        finally:
            loop.close()
            self._end()

    def _end(self) -> None:
        """There is no thread any more. In any thread."""
        self._wake = self._end
        self._awake = False
        while self._posts:
            future = self._posts.popleft()[2]
            if future is not None:
                future.set_exception(ClientClosed("the client is closed"))
        self._opened.set_result()
        self._ended.set_result()

    async def _serve(self, first: bool) -> None:
        self._stopping = asyncio.Event()
        self.connection = Connection(self._options)
        opening = asyncio.ensure_future(self.connection.open() if first else self.connection._reconnect())
        opening.add_done_callback(self._note_opened)
        self._event_loop = asyncio.get_running_loop()
        self._make_posted()
        await self._stopping.wait()
        opening.cancel()
        await self.connection.close()

    def _stop(self) -> None:
        assert self._stopping is not None
        self._stopping.set()

    def _note_opened(self, opening: asyncio.Future[None]) -> None:
        error = None if opening.cancelled() else opening.exception()
        self._opened.set_result() if error is None else self._opened.set_exception(error)

    def _make_posted(self) -> None:
        self._awake = False  # before the posts are looked at: a thread that has found it true does not wake the loop
        posts, connection = self._posts, self.connection
        assert connection is not None
        change = connection.session.change
        while posts:
            function, arguments, future = posts.popleft()
            try:
                (function or change)(*arguments)
            except NaughtError as error:
                if future is not None:
                    future.set_exception(error)
        connection._run_turn()

    def _ask(self, call: Call[Any], timeout: float | None, future: Future) -> None:
        future.sent(self.session.ask(call, timeout, future))

    def _abandoned(self, future: Future) -> None:
        if not future.done():
            future.set_exception(ClientClosed("its thread does not wait for it any more"))
            if future.message is not None:
                self.session.cancel_wait(future.message)
        elif future.result() is not None and future.result().hold is not None:
            self.session.release_untaken(future.result().hold)


def sink_of(loop: Loop, options: Options) -> CallSink:
    """What the commands of a client hand their calls to: its loop; with hooks, one that observes the calls."""
    sink = cast("CallSink", loop)  # its futures are another kind, with the same methods
    if options.hooks is None:
        return sink
    observer = Observer(options.hooks, options.address, time.perf_counter)
    return ObservedSink(sink, observer, partial(loop.new_future, observer))
