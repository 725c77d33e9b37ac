"""`Connection`: the connection of an asyncio client to its server. It drives a `ClientSession` with asyncio.

    Client  --calls-->  ClientSession  --bytes-->  Connection  --bytes-->  transport

`Connection` owns the transport, the timer and the task that reconnects. It makes no decision about calls: received
bytes go to the session, and the session's output is written. A transport that closes is replaced, with `Backoff`
between the attempts, until the client is closed.

The turn: the first call in a turn of the event loop schedules `_run_turn` with `call_soon`. So it runs after all
tasks that were ready have run, and before the loop polls its sockets again. A lone call is not delayed further.

The timer: one timer per connection is set to the earliest deadline. It is moved only when an earlier deadline comes.
(A timer per call costs two thirds of the throughput: 172k instead of 496k calls/s.) Deadlines are on the monotonic
clock, because the clock of uvloop stands still while the loop reads.

A flood: a peer that sends without end would keep the loop reading, and its timers would wait. So deadlines are looked
at after every piece that was read, and after a large piece the loop has a turn for everything else.

The loop: a `Connection` belongs to one event loop, that of `open`, or with `lazy` that of the first call. Every call
is checked for it, because one from elsewhere would be counted at the server while its caller gets an exception.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from asyncio.events import _get_running_loop  # as `get_running_loop`, but None and no exception where there is none
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from naught import fork
from naught.aio import dialing
from naught.core.backoff import Backoff
from naught.core.greeting import LINE_ENDS, Greeting
from naught.core.options import Options
from naught.core.session import ClientSession
from naught.core.silence import SILENT_TICKS, TICK_S
from naught.credentials import check_secret
from naught.errors import (
    UNANSWERED,
    ClientClosed,
    ConnectionFailed,
    NaughtError,
    ProtocolError,
    WrongLoop,
    is_no_access,
    is_refusal,
    reason_of,
)
from naught.names import default_name
from naught.sockets import keep_alive
from naught.url import MemoryAddress, TcpAddress, TlsFiles

if TYPE_CHECKING:
    from socket import socket
    from ssl import SSLContext

    from naught.memory import Host

logger = logging.getLogger("naught")

TIMER_SLACK: Final = 0.001
"""Seconds added to every deadline. uvloop counts in milliseconds and may call a timer too early, which would need a
second timer."""

REFUSED_BASE_S: Final = 1.0
REFUSED_BOUND_S: Final = 30.0
"""Between attempts to connect while the server refuses the user. Calls fail at once meanwhile."""

BYE_TIMEOUT_S: Final = 0.5
"""Seconds that a closing client waits until the server has read its `bye` and closed. If the server does not read it,
the session's holds are given back only when the lease ends."""

CLOSED_BY_SERVER: Final = "the server closed the connection"

FLOOD_BYTES: Final = 64 << 10
"""A piece of this size or more is followed by a turn of the loop, before more is read. (uvloop hands over up to 32
pieces of 256 KB in a row.)"""


class TransportProtocol(asyncio.Protocol):
    """Passes the events of one transport to the `Connection`, until `detach`."""

    def __init__(self, connection: Connection) -> None:
        self.transport: asyncio.Transport | None = None  # set by connection_made
        self.writing_paused = False  # the transport's write buffer is above its high-water mark
        self.closed: Final = asyncio.get_running_loop().create_future()  # done when the transport has closed
        self._connection: Connection | None = connection  # None once detached
        # What has arrived before the handshake begins: some services that are no naught server speak first.
        self._early: list[bytes] | None = []
        self.greeting: Greeting | None = None  # what was written on it to see whether anybody answers
        self._answered: Future[None] | None = None  # settled when it is answered

    async def greet(self, greeting: Greeting) -> None:
        """Return once the server has answered. Raises as `Greeting.receive`, and OSError if the transport closes."""
        transport = self.transport
        if transport is None or self.closed.done():
            raise ConnectionResetError(CLOSED_BY_SERVER)
        self.greeting = greeting
        self._answered = asyncio.get_running_loop().create_future()
        transport.write(greeting.request)
        early, self._early = self._early, []
        if early:
            self._receive_answer(greeting, self._answered, b"".join(early))
        await self._answered

    @staticmethod
    def _receive_answer(greeting: Greeting, answered: Future[None], data: bytes) -> None:
        try:
            if greeting.receive(data) and not answered.done():
                answered.set_result(None)
        except NaughtError as error:
            if not answered.done():
                answered.set_exception(error)

    def begin(self) -> bytes:
        """Pass on what arrives from now on. Returns what has arrived before."""
        early, self._early = self._early, None
        return b"".join(early or ())

    def detach(self) -> None:
        """Pass no further events on."""
        self._connection = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        answered = self._answered
        if answered is not None and not answered.done():
            assert self.greeting is not None
            self._receive_answer(self.greeting, answered, data)
        elif self._early is not None:
            self._early.append(data)
        elif self._connection is not None:
            self._connection.received(self, data)

    def eof_received(self) -> bool:
        return False  # close the transport: a server that has closed its sending side sends no replies any more

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._connection is not None:
            self._connection.write()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        error = error or ConnectionResetError(CLOSED_BY_SERVER)
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport_lost(self, error)


def _is_no_tls(error: Exception) -> bool:
    """Whether what has arrived in place of a handshake is something else. An alert or an early end is not."""
    reason = getattr(error, "reason", None)  # of an SSLError; its module is not imported for that
    return (
        type(error).__name__ == "SSLError"
        and isinstance(reason, str)
        and "ALERT" not in reason
        and "CERTIFICATE" not in reason
    )


_NO_LOOP: Final = cast("asyncio.AbstractEventLoop", object())
"""The loop of a connection that has none yet. It is never the running one, and not None either."""


class Connection:
    """The `CallSink` of an asyncio client; see the module."""

    def __init__(self, options: Options) -> None:
        self._loop = _NO_LOOP  # the one that it belongs to, from `open` or the first call on
        self._address: Final = options.address
        self._connect_timeout: Final = options.connect_timeout
        self._credentials: Final = options.credentials
        self._tls: Final = options.tls
        self._tls_context: SSLContext | None = None  # made for the first connection, where it need not be made anew
        self._backoff: Final = Backoff(options.random)
        # The pauses after the server has refused the user: they last longer, as nothing but a new secret will help.
        self._refused_backoff: Final = Backoff(options.random, base=REFUSED_BASE_S, bound_max=REFUSED_BOUND_S)
        self.session: Final = ClientSession(
            cache=options.address.cache,
            wake=self._schedule_turn,
            resumable=options.resumable,
            lease_ms=options.lease_ms,
            name=options.name or default_name(),
            observed=options.hooks is not None,
            random=options.random,
        )
        # The other methods of `CallSink`.
        self.current_caller: Final = asyncio.current_task
        self.change: Final = self.session.change
        self.ask: Final = self.session.ask
        self.cancel_wait: Final = self.session.cancel_wait
        self.release_untaken: Final = self.session.release_untaken
        self._protocol: TransportProtocol | None = None  # of the current transport, from before its handshake on
        self._closing: list[asyncio.Future[None]] = []  # `closed` of transports that are being closed
        self._reconnect_task: asyncio.Task[None] | None = None  # replaces a transport that was lost
        self._farewell_task: asyncio.Task[None] | None = None  # ends the session of one closed without a transport
        self._timer: asyncio.TimerHandle | None = None  # runs for the earliest deadline, or for a settled one
        self._timer_due = 0.0  # the deadline that `_timer` is set for; meaningless without a timer
        self._tick_timer: asyncio.TimerHandle | None = None  # for the next look at whether the server is silent
        self._memory_host: Host | None = None  # memory:// only: the engine, which outlives a connection to it
        self._opened = False  # there was a usable connection: from then on, a lost one is replaced
        self.closed = False  # permanently
        fork.register(self)

    @property
    def used(self) -> bool:
        """Whether it has been opened, or a call was made."""
        return self._loop is not _NO_LOOP

    @property
    def ready(self) -> bool:
        """Whether there is a connection on which calls can be sent."""
        return self._protocol is not None and self.session.ready

    # The loop.

    def new_future(self) -> Future[Any]:
        """The future of a call that is being made. Raises WrongLoop, with nothing done, outside of the loop."""
        loop = self._loop
        if _get_running_loop() is not loop:
            loop = self.enter_loop()
        return Future(loop=loop)

    def enter_loop(self) -> asyncio.AbstractEventLoop:
        """Check that the caller runs in the loop that this belongs to. Returns the loop.

        Raises WrongLoop, and ClientClosed in the child of a fork. With `lazy`, the first call chooses the loop.
        """
        loop, running = self._loop, _get_running_loop()
        if loop is running and running is not None:
            return running
        if self.closed:
            raise ClientClosed(self.session.closed_reason)
        if running is None:
            raise WrongLoop(
                "a client for asyncio was called where no event loop runs: call it in a coroutine, "
                "or use naught.blocking.Client"
            )
        if not self.used:
            self._bind(running)
            self._start_reconnecting(at_once=True)
            return running
        if loop.is_closed():
            raise WrongLoop("the event loop of this client has ended: connect again, in the loop that runs now")
        raise WrongLoop("this client belongs to another event loop: connect in this one too")

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        if not isinstance(self._address, MemoryAddress):
            self._tick_timer = loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        """Look whether the server is silent, about once a second."""
        self._tick_timer = self._loop.call_later(TICK_S, self._tick)
        if self.session.tick() and self._protocol is not None:
            silent = f"nothing has arrived for {SILENT_TICKS * TICK_S:g} s, although requests are unanswered"
            self._drop(self._protocol, ConnectionResetError(silent))

    # The turn.

    def _schedule_turn(self) -> None:
        self._loop.call_soon(self._run_turn)

    def _run_turn(self) -> None:
        now = monotonic()
        self.session.end_turn(now)
        self.write(now)
        self._update_timer()

    def write(self, now: float | None = None) -> None:
        """Write the session's output, as far as the transport accepts it and the windows allow."""
        session = self.session
        protocol = self._protocol
        while protocol is not None and not protocol.writing_paused and session.has_output:
            transport = protocol.transport
            # A closing transport discards what it is given. Calls that are not taken from the session count as not
            # sent, so they go out on the next connection.
            if transport is None or transport.is_closing():
                return
            data = session.output(monotonic() if now is None else now)
            if data:
                transport.write(data)

    def received(self, protocol: TransportProtocol, data: bytes) -> None:
        """Bytes were read. If anything is wrong with them, the connection is replaced, and no call hangs."""
        session = self.session
        if self._timer is not None and monotonic() >= self._timer_due:
            self._timer.cancel()
            self._timer_fired()
        try:
            session.receive(data)
        except NaughtError as error:
            if isinstance(error, ProtocolError) and session.ready:  # else it is the attempt to connect that fails
                logger.error("%s: %s; reconnecting", self._address, error)
            self._drop(protocol, error)
            return
        if session.has_output:
            self.write()
        elif session.drained:
            self._drop(protocol, ConnectionResetError("the server is shutting down"))
            return
        if len(data) >= FLOOD_BYTES:
            transport = protocol.transport
            if transport is not None and not transport.is_closing() and transport.is_reading():
                transport.pause_reading()
                self._loop.call_soon(self._resume_reading, transport)

    def _resume_reading(self, transport: asyncio.Transport) -> None:
        if not transport.is_closing():
            transport.resume_reading()

    # The timer.

    def _update_timer(self) -> None:
        due = self.session.next_due()
        if due is not None and (self._timer is None or due < self._timer_due):
            self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.0, due - monotonic()) + TIMER_SLACK, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        session = self.session
        session.advance(monotonic())
        due = session.next_due()
        if due is not None:
            self._set_timer(due)
        if session.drained and self._protocol is not None:
            self._drop(self._protocol, ConnectionResetError("the server is shutting down"))

    # The transport.

    async def open(self) -> None:
        """Connect for the first time.

        Raises ConnectionFailed after connect_timeout, or at once where something else answers than a naught server;
        and the server's CommandError if it refuses the cache. If it raises, close the connection.
        """
        self._bind(asyncio.get_running_loop())
        last: BaseException | None = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                while True:
                    try:
                        return await self._connect()
                    except Exception as error:
                        if is_refusal(error):
                            raise
                        if isinstance(error, ProtocolError) or dialing.is_distrust(error):
                            raise ConnectionFailed(f"no connection to {self._address}: {reason_of(error)}") from error
                        if last is None:
                            why = reason_of(error)
                            logger.info("%s: %s; retrying for %g s", self._address, why, self._connect_timeout)
                        last = error
                    await asyncio.sleep(self._backoff.next_delay())
        except TimeoutError:
            if self._protocol is not None:
                reason = f": {UNANSWERED}"
            else:
                reason = f": {reason_of(last)}" if last is not None else ""
            raise ConnectionFailed(
                f"no connection to {self._address} within {self._connect_timeout:g} s{reason}"
            ) from last

    async def _connect(self) -> None:
        """One attempt: returns when calls can be sent on the new connection, or raises and leaves no connection.

        Where it is cancelled once `hello` was written, the connection stays, for `stop` or `_give_up_attempt` to say
        `bye` on it: the server may have opened a session.
        """
        if self.closed:
            raise ClientClosed("the client is closed")
        login = await self._login()
        forks = fork.count()
        protocol = await self._create_transport(login)
        try:
            transport = protocol.transport
            if transport is None or protocol.closed.done():
                raise ConnectionResetError(CLOSED_BY_SERVER)
            if forks != fork.count():
                fork.shut_down(transport.get_extra_info("socket"))
                raise ConnectionResetError("forked while connecting: the child may have this connection too")
            self._protocol = protocol
            handshake = self._loop.create_future()
            greeted = protocol.greeting is not None  # which has logged in
            hello = self.session.connected(handshake, None if greeted else login)
            if hello:
                plain = greeted or isinstance(self._address, MemoryAddress)
                transport.write(hello if plain else LINE_ENDS + hello)
            early = protocol.begin()
            if early:
                self.received(protocol, early)
            await handshake
            if self._protocol is not protocol:  # lost between the end of the handshake and this line
                raise ConnectionResetError(CLOSED_BY_SERVER)
        except Exception as error:
            self._close_transport(protocol)
            if self._protocol is protocol:
                self._end_attempt(error)
            raise
        self._opened = True
        self._refused_backoff.reset()
        self.write()

    def _give_up_attempt(self, error: BaseException) -> None:
        """An attempt has failed. If it took too long, its connection is still there."""
        protocol = self._protocol
        if protocol is not None:
            self._close_transport(protocol, self.session.encode_bye_of_attempt())
            self._end_attempt(error)

    def _end_attempt(self, error: BaseException) -> None:
        self._protocol = None
        self.session.disconnected(error, monotonic())
        self._update_timer()

    async def _login(self) -> tuple[str, str] | None:
        """User and secret for this attempt."""
        if self._credentials is None:
            return None
        secret = self._credentials.secret()
        if isinstance(secret, Awaitable):
            secret = await secret
        return self._credentials.user, check_secret(secret)

    async def _create_transport(self, login: tuple[str, str] | None) -> TransportProtocol:
        """A new connection. Where the host has several addresses, the server has answered a greeting on it."""
        address = self._address
        if isinstance(address, TcpAddress):

            async def establish(connected: socket, contested: bool) -> TransportProtocol:
                protocol = await self._create_tcp(connected, address)
                if contested:
                    try:
                        await protocol.greet(Greeting(address.cache, login))
                    except BaseException:
                        self._close_transport(protocol)
                        raise
                return protocol

            return await dialing.dial(address.host, address.port, establish, self._close_transport)
        protocol = TransportProtocol(self)
        if isinstance(address, MemoryAddress):
            if self._memory_host is None:
                from naught.memory import find_host

                self._memory_host = find_host(address.name)
            self._memory_host.attach(protocol)
            return protocol
        try:
            await self._loop.create_unix_connection(lambda: protocol, address.path)
        except BaseException:
            protocol.detach()  # as in `_create_tcp`
            raise
        return protocol

    async def _create_tcp(self, connected: socket, address: TcpAddress) -> TransportProtocol:
        protocol = TransportProtocol(self)
        try:
            keep_alive(connected)
            if address.tls:
                await self._create_tls(protocol, connected, address.host)
            else:
                await self._loop.create_connection(lambda: protocol, sock=connected)
        except BaseException:
            # The loop closes what it was creating. `close` must not wait for that: uvloop does not say when it is
            # closed, although the protocol may have its transport already.
            protocol.detach()
            connected.close()
            raise
        return protocol

    async def _create_tls(self, protocol: TransportProtocol, connected: socket, host: str) -> None:
        context = self._context()
        try:
            await self._loop.create_connection(
                lambda: protocol,
                sock=connected,
                ssl=context,
                server_hostname=host,
                ssl_handshake_timeout=self._connect_timeout,
                ssl_shutdown_timeout=BYE_TIMEOUT_S,
            )
        except Exception as error:
            if _is_no_tls(error):
                raise ProtocolError(f"what answers there does not speak TLS: {error}") from error
            if isinstance(error, ConnectionError):  # as a naught server does at its port without TLS
                why = "the server closed the connection in the handshake of TLS, which it may not speak"
                raise ConnectionResetError(why) from error
            raise

    def _context(self) -> SSLContext:
        """The context of TLS for this attempt. Files that the URL names are read anew: certificates are replaced."""
        if self._tls_context is not None:
            return self._tls_context
        from naught.tls import client_context

        context = client_context(self._tls)
        if not (isinstance(self._tls, TlsFiles) and any(self._tls)):
            self._tls_context = context
        return context

    def transport_lost(self, protocol: TransportProtocol, error: BaseException) -> None:
        """The transport has closed, for the reason `error`."""
        if protocol is self._protocol:
            self._replace(error)

    def _drop(self, protocol: TransportProtocol, error: BaseException) -> None:
        """Close a transport that cannot be used any more, and replace it."""
        self._close_transport(protocol)
        if protocol is self._protocol:
            self._replace(error)

    def _close_transport(self, protocol: TransportProtocol, bye: bytes = b"") -> None:
        """Close immediately, or after `bye` was written and read."""
        protocol.detach()
        transport = protocol.transport
        if transport is not None and not protocol.closed.done():
            if bye and not transport.is_closing():
                self._close_after_bye(protocol, transport, bye)
            else:
                transport.abort()  # close() would first wait until the peer has read the write buffer
            self._closing.append(protocol.closed)
            protocol.closed.add_done_callback(self._closing.remove)

    def _close_after_bye(self, protocol: TransportProtocol, transport: asyncio.Transport, bye: bytes) -> None:
        """Write `bye`, end the sending side, and let the server close when it has read both.

        If the client closed the socket with unread replies in it, the kernel would reset the connection, and the
        server would lose `bye`.
        """
        transport.write(bye)
        if not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # asyncio's own loop raises it where the server has just gone
            transport.abort()
            return
        timer = self._loop.call_later(BYE_TIMEOUT_S, transport.abort)
        protocol.closed.add_done_callback(lambda _: timer.cancel())

    def _replace(self, error: BaseException) -> None:
        """The current transport is gone, for the reason `error`: start to reconnect."""
        self._protocol = None
        if self.session.served:
            self._backoff.reset()
        self.session.disconnected(error, monotonic())  # also ends a `_connect` that waits for its handshake
        self._update_timer()
        if not self.closed and self._reconnect_task is None and self._opened:
            logger.warning("%s: connection lost: %s; reconnecting", self._address, reason_of(error))
            self._start_reconnecting()

    def _start_reconnecting(self, *, at_once: bool = False) -> None:
        name = f"naught reconnect {self._address}"
        self._reconnect_task = self._loop.create_task(self._reconnect(at_once), name=name)

    async def _reconnect(self, at_once: bool) -> None:
        attempts = 0
        refused = False  # the last attempt, for the user
        told = ""  # what answers instead of a server: in the log once, and not at each attempt
        try:
            while True:
                if attempts or not at_once:
                    await asyncio.sleep((self._refused_backoff if refused else self._backoff).next_delay())
                attempts += 1
                try:
                    async with asyncio.timeout(self._connect_timeout):
                        await self._connect()
                    logger.info("%s: reconnected, attempt %d", self._address, attempts)
                    return
                except Exception as error:
                    # That a connection was lost is in the log. A first attempt of a lazy client is not.
                    quietly = logging.WARNING if at_once and attempts == 1 else logging.DEBUG
                    is_news = isinstance(error, ProtocolError) and str(error) != told
                    level = logging.ERROR if is_news or is_refusal(error) else quietly
                    told = str(error) if is_news else told
                    logger.log(level, "%s: attempt %d to connect failed: %r", self._address, attempts, error)
                    self._give_up_attempt(error)
                    self.session.connect_failed(error)
                    refused = is_no_access(error)
        finally:
            self._reconnect_task = None

    # The end.

    def stop(self) -> None:
        """The part of `close` that needs no waiting. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        bye, farewell = self.session.encode_bye(), self.session.farewell()
        self.session.close()
        for timer in (self._timer, self._tick_timer):
            if timer is not None:
                timer.cancel()
        if self._reconnect_task is not None:
            self._reconnect_task.cancel()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._close_transport(protocol, bye)
        elif farewell is not None:
            self._farewell_task = self._loop.create_task(self._say_farewell(farewell))

    async def _say_farewell(self, farewell: Callable[[tuple[str, str] | None], bytes]) -> None:
        """The session has no connection, so `bye` needs one of its own. Without a server this ends at once."""
        try:
            async with asyncio.timeout(BYE_TIMEOUT_S):
                login = await self._login()
                protocol = await self._create_transport(login)
        except Exception as error:
            logger.info("%s: the session ends with its lease: %s", self._address, reason_of(error))
        else:
            greeted = protocol.greeting is not None
            words = farewell(None if greeted else login)
            self._close_transport(protocol, words if greeted else LINE_ENDS + words)

    def after_fork(self) -> None:
        """This is the child of a fork. The connection stays the parent's and must end with the parent.

        So the child's copy of the socket is closed, and nothing is sent on it.
        """
        self.closed = True
        self.session.after_fork("this client was made before a fork, and belongs to the parent")
        transport = self._protocol.transport if self._protocol is not None else None
        connected = transport.get_extra_info("socket") if transport is not None else None
        if connected is not None:
            fork.replace_with_devnull(connected.fileno())
        # `close` must not wait for tasks and futures of the parent's event loop.
        self._protocol = self._reconnect_task = self._farewell_task = None
        self._closing.clear()

    def finalize(self) -> None:
        """As `stop`, for a client that was garbage collected: may be called in any thread and at any time."""
        if self.used and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.stop)

    async def close(self) -> None:
        """Fail pending calls with ClientClosed, end the session, and wait until every transport has closed.

        With a session this takes up to a round trip, and at most BYE_TIMEOUT_S, or twice that where the session has
        no connection. A second call does nothing. Raises WrongLoop in another loop than its own, unless that has
        ended: then there is nothing to wait for.
        """
        if not self.used or self._loop.is_closed():
            self.closed = True
            self.session.close()
            return
        if not self.closed:
            self.enter_loop()
        self.stop()
        tasks = [task for task in (self._reconnect_task, self._farewell_task) if task is not None]
        if tasks:
            await asyncio.wait(tasks)
        if self._closing:
            await asyncio.wait(list(self._closing))
