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
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Any, Final, cast

from naught import exit, fork
from naught.aio.connection import Connection
from naught.blocking.future import Future
from naught.blocking.waker import Wakers
from naught.core import session
from naught.core.calls import Acquired, Call
from naught.core.messages import Message, Waiter
from naught.core.options import Options
from naught.core.session import ClientSession
from naught.errors import Busy, ClientClosed, ConnectionFailed, NaughtError
from naught.green import current_caller, is_green, start_thread

try:  # here, because it cannot be imported any more while the process ends (a RuntimeError)
    from uvloop import new_event_loop
except (ImportError, RuntimeError):
    from asyncio import new_event_loop  # type: ignore[assignment]

_of_parents: Final[list[object]] = []  # kept in the child of a fork


class Loop:
    """The `CallSink` of a client for threads. See the module."""

    def __init__(self, options: Options) -> None:
        self._options: Final = options
        self.wakers: Final = Wakers()
        self._closed = False
        self._reset()
        fork.register(self)
        # The methods of `CallSink`, with `change` and `ask`.
        self.new_future: Final[Callable[..., Any]] = partial(Future, self.wakers, partial(self._post, _abandon))
        self.current_caller: Final = current_caller
        self.cancel_wait: Final = Future.cancel
        self.release_untaken: Final = partial(self._post, ClientSession.release_untaken)

    def _reset(self) -> None:
        """There is no thread in this process."""
        self._ident = 0  # of the thread
        # Held while it is started. Reentrant, as a signal handler or finalizer that runs then may call the client.
        self._starting = threading.RLock()
        self._ticket = [None]  # popped by the thread, of which there may be several: the first one serves
        self._launched = False  # there is one, or is about to be
        self._posts: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()  # functions of the session
        self._awake = False  # the posts will be looked at, without asking for it
        self._wake: Callable[[], object] = self._start  # ask for it
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._ask_loop: Callable[[], object] | None = None  # to look at the posts
        self._serving: asyncio.Task[None] | None = None  # `_serve`, until it is told to end
        self.connection: Connection | None = None
        self.session: ClientSession | None = None  # of the connection
        self._opened = Future(self.wakers)  # settled by the first connection, or its failure
        self._ended = Future(self.wakers)  # settled at the end of the thread

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
            if self._wake != self._start:  # another thread has started it
                self._wake()
            elif self._launched:
                pass  # it is about to run, and begins with the posts
            elif self._closed:
                self._end()
            else:
                self._start_thread(first)

    def _start_thread(self, first: bool) -> None:
        """Raises ConnectionFailed where the system has no thread or descriptor for it; a later call tries again."""
        exit.register(self)
        ticket = self._ticket
        loop = None
        try:
            loop = asyncio.new_event_loop() if self._must_do_without_uvloop() else new_event_loop()
            start_thread(partial(self._run, loop, ticket, first), f"naught {self._options.address}")
            self._launched = True
        except BaseException as error:
            try:
                ticket.pop()
            except IndexError:  # it runs
                raise error from None
            if loop is not None:
                loop.close()
            exit.unregister(self)
            self._ticket, self._launched = [None], False  # before the posts go: who posts later starts it
            failure = ConnectionFailed(f"no connection to {self._options.address}: {error}")
            self._fail_posts(failure)
            if isinstance(error, OSError | RuntimeError):
                raise failure from error
            raise

    def _must_do_without_uvloop(self) -> bool:
        """Where a standard stream is closed, the next descriptor has its number, and uvloop aborts the process when
        it closes that. With gevent there is no other loop."""
        if not is_green():
            try:
                for number in range(3):
                    os.fstat(number)
            except OSError:
                return True
        return False

    def _wake_loop(self) -> None:
        self._awake = True
        if self._ask_loop is not None:  # else it is about to run, and begins with the posts
            try:
                self._ask_loop()
            except RuntimeError:  # it is closed
                self._end()

    def _post(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            self._posts.append((function, arguments))
            if not self._awake:
                self._wake()
        except BaseException:  # there can be no thread; or an interrupt, perhaps before the loop was woken
            self._awake = False
            if self._ident:
                self._wake()
            raise

    def _begin(self, waiter: Waiter, timeout: object, answer_s: float = 0.0, *, holds: bool = False) -> Future:
        if self._closed:
            exit.hold_back()
            raise ClientClosed("the client is closed")
        if get_ident() == self._ident:
            raise NaughtError("a finalizer or log handler called the client in its own thread, which cannot wait")
        if len(self._posts) >= session.QUEUED_MAX:
            raise Busy(f"{session.QUEUED_MAX} calls of this client wait to be made")
        future = cast("Future", waiter)
        future.begin(timeout, answer_s, holds=holds)
        return future

    def change(self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Waiter, /) -> None:
        self._begin(waiter, timeout)
        self._post(ClientSession.change, key, delta, ttl_ms, timeout, waiter)

    def ask(self, call: Call[Any], timeout: float | None, waiter: Waiter, /) -> Message:
        future = self._begin(waiter, timeout, call.answer_s, holds=call.holds)
        self._post(_ask, call, timeout, future)
        return cast("Message", future)  # for `cancel_wait`

    def close(self, seconds: float = exit.END_S) -> None:
        """End the session and the thread, for which it waits that long at most. A second call does nothing."""
        self.stop()
        if get_ident() != self._ident:
            self._ended.wait_until(seconds)

    def stop(self) -> None:
        """The part of `close` that needs no waiting. In any thread, and at any time."""
        self._closed = True
        self._post(self._stop)

    @property
    def running(self) -> bool:
        """Whether there is a thread, or is about to be."""
        return self._launched and self._wake != self._end

    def after_fork(self) -> None:
        """This is the child of a fork. What the thread has used is kept as it is: the parent uses it too."""
        _of_parents.append(self.__dict__.copy())
        self.wakers.clear()  # the parent wakes its threads with these
        self._reset()

    # The client's own thread.

    def _run(self, loop: asyncio.AbstractEventLoop, ticket: list[None], first: bool) -> None:
        try:
            ticket.pop()
        except IndexError:  # what started it was interrupted, by an exception, or by a call that has started another
            loop.close()
            return
        self._launched = True
        self._ident = get_ident()
        self._wake = self._wake_loop
        try:
            loop.run_until_complete(self._serve(first))
        finally:
            loop.close()
            self._end()

    async def _serve(self, first: bool) -> None:
        self._serving = asyncio.current_task()
        self._event_loop = loop = asyncio.get_running_loop()
        self._ask_loop = self.wakers.waking(loop, self._make_posted)
        self.connection = connection = Connection(self._options)
        self.session = connection.session
        loop.call_soon(self._make_posted)
        try:
            if first:
                await connection.open()
            else:
                connection.enter_loop()  # it connects in the background; calls wait for that within their timeouts
            self._opened.set_result()
            await loop.create_future()
        except asyncio.CancelledError:  # by `_stop`
            pass
        except Exception as error:
            self._serving = None  # it ends by itself: `open`, which gets the error, asks for the end too
            self._opened.set_exception(error)
        self._serving = None  # closing is not cancelled
        await connection.close()

    def _stop(self, _: ClientSession) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()

    def _make_posted(self) -> None:
        self._awake = False  # before the posts are looked at: a thread that has found it true does not wake the loop
        posts, connection = self._posts, self.connection
        assert connection is not None
        while posts:
            function, arguments = posts.popleft()
            try:
                function(connection.session, *arguments)
            except Exception as error:  # of a call, whose future is the last of its arguments
                arguments[-1].set_exception(error)
        connection._run_turn()

    def _end(self) -> None:
        """There is no thread any more."""
        # A thread that has just set `_awake` asks the loop only after that, and comes here.
        self._wake = self._ask_loop = self._end
        self._awake = False
        self._fail_posts(ClientClosed("the client is closed"))
        exit.unregister(self)
        self.wakers.close()
        self._opened.set_result()
        self._ended.set_result()

    def _fail_posts(self, error: NaughtError) -> None:
        """There is nobody who could make the calls that were posted."""
        while self._posts:
            _, arguments = self._posts.popleft()
            if arguments and isinstance(arguments[-1], Future):
                arguments[-1].set_exception(type(error)(*error.args))


def _ask(session: ClientSession, call: Call[Any], timeout: float | None, future: Future) -> None:
    future.sent(session.ask(call, timeout, future))


def _abandon(session: ClientSession, future: Future) -> None:
    """The thread does not wait for this call any more."""
    if not future.done():
        future.set_exception(ClientClosed("the call was abandoned"))
        if future.message is not None:
            session.cancel_wait(future.message)
    elif isinstance(future.result(), Acquired) and future.result().hold is not None:
        session.release_untaken(future.result().hold)
