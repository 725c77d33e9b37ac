"""`Connection`: the connection of an asyncio client to its server. It drives a `ClientSession` with asyncio.

    Client  --calls-->  ClientSession  --bytes-->  Connection  --bytes-->  transport

`Connection` owns the transport, the timer and the task that reconnects. It makes no decision about calls: received
bytes go to the session, and the session's output is written. A transport that closes is replaced, with `Backoff`
between the attempts, until the client is closed.

The turn: the first call in a turn of the event loop schedules `_run_turn` with `call_soon`. So it runs after all
tasks that were ready have run, and before the loop polls its sockets again. A lone call is not delayed further.

The timer: one timer per connection is set to the earliest deadline. It is moved only when an earlier deadline comes.
(A timer per call costs two thirds of the throughput: 172k instead of 496k calls/s.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from naught import fork
from naught.core.backoff import Backoff
from naught.core.options import Options
from naught.core.session import ClientSession
from naught.errors import ClientClosed, ConnectionFailed, NaughtError, ProtocolError, is_refusal
from naught.names import default_name
from naught.sockets import keep_alive
from naught.url import MemoryAddress, TcpAddress

if TYPE_CHECKING:
    from naught.memory import Host

logger = logging.getLogger("naught")

TIMER_SLACK: Final = 0.001
"""Seconds added to every deadline. uvloop counts in milliseconds and may call a timer too early, which would need a
second timer."""

BYE_TIMEOUT_S: Final = 0.5
"""Seconds that a closing client waits until the server has read its `bye` and closed. If the server does not read it,
the session's holds are given back only when the lease ends."""


class TransportProtocol(asyncio.Protocol):
    """Passes the events of one transport to the `Connection`, until `detach`."""

    def __init__(self, connection: Connection) -> None:
        self.transport: asyncio.Transport | None = None  # set by connection_made
        self.writing_paused = False  # the transport's write buffer is above its high-water mark
        self.closed: Final = asyncio.get_running_loop().create_future()  # done when the transport has closed
        self._connection: Connection | None = connection  # None once detached

    def detach(self) -> None:
        """Pass no further events on."""
        self._connection = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        if self._connection is not None:
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
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport_lost(self, error or ConnectionResetError("the server closed the connection"))


class Connection:
    """The `CallSink` of an asyncio client; see the module. Belongs to the event loop that it is made in."""

    def __init__(self, options: Options) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._address: Final = options.address
        self._connect_timeout: Final = options.connect_timeout
        self._backoff: Final = Backoff(options.random)
        self.session: Final = ClientSession(
            cache=options.address.cache,
            wake=self._schedule_turn,
            resumable=options.resumable,
            lease_ms=options.lease_ms,
            name=options.name or default_name(),
            observed=options.hooks is not None,
        )
        # The methods of `CallSink`. (`loop.create_future` is a Python function in asyncio and costs 80 ns more.)
        self.new_future: Final[Callable[[], asyncio.Future[Any]]] = partial(asyncio.Future, loop=self._loop)
        self.current_caller: Final = asyncio.current_task
        self.change: Final = self.session.change
        self.ask: Final = self.session.ask
        self.cancel_wait: Final = self.session.cancel_wait
        self.release_untaken: Final = self.session.release_untaken
        self.untrack: Final = self.session.untrack
        self._protocol: TransportProtocol | None = None  # of the current transport, from before its handshake on
        self._closing: list[asyncio.Future[None]] = []  # `closed` of transports that are being closed
        self._reconnect_task: asyncio.Task[None] | None = None  # replaces a transport that was lost
        self._timer: asyncio.TimerHandle | None = None  # runs for the earliest deadline, or for a settled one
        self._timer_due = 0.0  # the deadline that `_timer` is set for; meaningless without a timer
        self._memory_host: Host | None = None  # memory:// only: the engine, which outlives a connection to it
        self._opened = False  # there was a usable connection: from then on, a lost one is replaced
        self.closed = False  # permanently
        fork.register(self)

    @property
    def ready(self) -> bool:
        """Whether there is a connection on which calls can be sent."""
        return self._protocol is not None and self.session.ready

    # The turn.

    def _schedule_turn(self) -> None:
        self._loop.call_soon(self._run_turn)

    def _run_turn(self) -> None:
        now = self._loop.time()
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
            data = session.output(self._loop.time() if now is None else now)
            if data:
                transport.write(data)

    def received(self, protocol: TransportProtocol, data: bytes) -> None:
        """Bytes were read. If anything is wrong with them, the connection is replaced, and no call hangs."""
        session = self.session
        try:
            session.receive(data)
        except NaughtError as error:
            if isinstance(error, ProtocolError):
                logger.error("%s: %s; reconnecting", self._address, error)
            self._drop(protocol, error)
            return
        if session.has_output:
            self.write()
        elif session.drained:
            self._drop(protocol, ConnectionResetError("the server is shutting down"))

    # The timer.

    def _update_timer(self) -> None:
        due = self.session.next_due()
        if due is not None and (self._timer is None or due < self._timer_due):
            self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due + TIMER_SLACK, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        session = self.session
        session.advance(self._loop.time())
        due = session.next_due()
        if due is not None:
            self._set_timer(due)
        if session.drained and self._protocol is not None:
            self._drop(self._protocol, ConnectionResetError("the server is shutting down"))

    # The transport.

    async def open(self) -> None:
        """Connect for the first time.

        Raises ConnectionFailed after connect_timeout, and the server's CommandError if it refuses the cache.
        """
        last: BaseException | None = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                while True:
                    try:
                        return await self._connect()
                    except Exception as error:
                        if is_refusal(error):
                            raise
                        if last is None:
                            logger.info("%s: %s; retrying for %g s", self._address, error, self._connect_timeout)
                        last = error
                    await asyncio.sleep(self._backoff.next_delay())
        except TimeoutError:
            reason = f": {last}" if last is not None else ""
            raise ConnectionFailed(
                f"no connection to {self._address} within {self._connect_timeout:g} s{reason}"
            ) from last

    async def _connect(self) -> None:
        """One attempt: returns when calls can be sent on the new connection, or raises and leaves no connection."""
        if self.closed:
            raise ClientClosed("the client is closed")
        protocol = TransportProtocol(self)
        forks = fork.count()
        try:
            await self._create_transport(protocol)
            transport = protocol.transport
            if transport is None or protocol.closed.done():
                raise ConnectionResetError("the server closed the connection")
            if forks != fork.count():
                fork.shut_down(transport.get_extra_info("socket"))
                raise ConnectionResetError("forked while connecting: the child may have this connection too")
            self._protocol = protocol
            handshake = self._loop.create_future()
            hello = self.session.connected(handshake)
            if hello:
                transport.write(hello)
            await handshake
            if self._protocol is not protocol:  # lost between the end of the handshake and this line
                raise ConnectionResetError("the server closed the connection")
        except BaseException as error:
            self._close_transport(protocol)
            if self._protocol is protocol:
                self._protocol = None
                self.session.disconnected(error, self._loop.time())
                self._update_timer()
            raise
        self._opened = True
        self.write()

    async def _create_transport(self, protocol: TransportProtocol) -> None:
        address = self._address
        if isinstance(address, TcpAddress):
            transport, _ = await self._loop.create_connection(lambda: protocol, address.host, address.port)
            keep_alive(transport.get_extra_info("socket"))
        elif isinstance(address, MemoryAddress):
            if self._memory_host is None:
                from naught.memory import find_host

                self._memory_host = find_host(address.name)
            self._memory_host.attach(protocol)
        else:
            await self._loop.create_unix_connection(lambda: protocol, address.path)

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
        transport.write_eof()
        timer = self._loop.call_later(BYE_TIMEOUT_S, transport.abort)
        protocol.closed.add_done_callback(lambda _: timer.cancel())

    def _replace(self, error: BaseException) -> None:
        """The current transport is gone, for the reason `error`: start to reconnect."""
        self._protocol = None
        if self.session.served:
            self._backoff.reset()
        self.session.disconnected(error, self._loop.time())  # also ends a `_connect` that waits for its handshake
        self._update_timer()
        if not self.closed and self._reconnect_task is None and self._opened:
            logger.warning("%s: connection lost: %s; reconnecting", self._address, error)
            self._reconnect_task = self._loop.create_task(self._reconnect(), name=f"naught reconnect {self._address}")

    async def _reconnect(self) -> None:
        attempts = 0
        try:
            while True:
                await asyncio.sleep(self._backoff.next_delay())
                attempts += 1
                try:
                    async with asyncio.timeout(self._connect_timeout):
                        await self._connect()
                    logger.info("%s: reconnected, attempt %d", self._address, attempts)
                    return
                except Exception as error:
                    level = logging.ERROR if is_refusal(error) else logging.DEBUG
                    logger.log(level, "%s: attempt %d to reconnect failed: %r", self._address, attempts, error)
                    self.session.connect_failed(error)
        finally:
            self._reconnect_task = None

    # The end.

    def stop(self) -> None:
        """The part of `close` that needs no waiting. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        bye = self.session.encode_bye()
        self.session.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._reconnect_task is not None:
            self._reconnect_task.cancel()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._close_transport(protocol, bye)

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
        self._protocol = self._reconnect_task = None
        self._closing.clear()

    def finalize(self) -> None:
        """As `stop`, for a client that was garbage collected: may be called in any thread and at any time."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.stop)

    async def close(self) -> None:
        """Fail pending calls with ClientClosed, end the session, and wait until every transport has closed.

        With a session this takes up to a round trip, and at most BYE_TIMEOUT_S. A second call does nothing.
        """
        self.stop()
        if self._reconnect_task is not None:
            await asyncio.wait([self._reconnect_task])
        if self._closing:
            await asyncio.wait(list(self._closing))
