"""One connection to a server, kept alive: what stands between a `ClientSession` and asyncio.

    Client  --calls-->  ClientSession  --bytes-->  Link  --bytes-->  transport

`Link` owns the transport, the timer and the task that connects. It decides nothing about calls: what was read goes to
the session, what the session gives is written, and the clock is read once a turn. A connection that ends is replaced,
with `Backoff` between the attempts, for as long as the client lives.

The turn: the first call made in a turn of the loop schedules `_turn` with `call_soon`, so it runs when the tasks that
were ready have run, in front of the next look at the sockets. A lone call waits for nothing else.

The timer: there is one, set to the earliest deadline and moved only when an earlier one comes. A timer for every call
costs two thirds of the throughput (496k against 172k calls/s).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from naught import fork
from naught.core.backoff import Backoff
from naught.core.options import Options
from naught.core.session import ClientSession
from naught.errors import ClientClosed, ConnectionFailed, NaughtError, ProtocolError, is_refusal
from naught.url import MemoryAddress, TcpAddress
from naught.wire.limits import KEEPALIVE

if TYPE_CHECKING:
    from naught.memory import Host

logger = logging.getLogger("naught")

TIMER_SLACK: Final = 0.001
"""Seconds. uvloop counts in milliseconds and may fire one early; a little late beats twice."""

FAREWELL_S: Final = 0.5
"""Seconds a client that closes waits for the server to have read its `bye`. Without that the server waits for the
lease."""


class Connection(asyncio.Protocol):
    """One transport's events, until the link lets go of it."""

    def __init__(self, link: Link) -> None:
        self.transport: asyncio.Transport | None = None  # from connection_made on
        self.paused = False  # the transport holds more than it wants to
        self.lost: Final = asyncio.get_running_loop().create_future()  # done when the transport has closed
        self._link: Link | None = link  # None once it has nothing more to do with this connection

    def detach(self) -> None:
        """Whatever else happens to the transport concerns nobody."""
        self._link = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._link is not None:
            self._link.received(self, data)

    def eof_received(self) -> bool:
        return False  # the transport closes; a server that reads no more answers no more

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._link is not None:
            self._link.write()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        link, self._link = self._link, None
        if link is not None:
            link.lost(self, error or ConnectionResetError("the server closed the connection"))


class Link:
    """See the module. Belongs to the loop it is made in and is used only there."""

    def __init__(self, options: Options) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._address: Final = options.address
        self._connect_timeout: Final = options.connect_timeout
        self._backoff: Final = Backoff(options.random)
        self.session: Final = ClientSession(
            cache=options.address.cache, wake=self._wake, resumable=options.resumable, lease_ms=options.lease_ms
        )
        # What commands ask of their port. `loop.create_future` is a Python function in asyncio and costs 80 ns more.
        self.new_future: Final[Callable[[], asyncio.Future[Any]]] = partial(asyncio.Future, loop=self._loop)
        self.caller: Final = asyncio.current_task
        self.change: Final = self.session.change
        self.ask: Final = self.session.ask
        self.give_up: Final = self.session.give_up
        self.give_back: Final = self.session.give_back
        self.forget: Final = self.session.forget
        self._connection: Connection | None = None  # the one there is, greeted or not
        self._closing: list[asyncio.Future[None]] = []  # `lost` of connections that are on their way out
        self._connecting: asyncio.Task[None] | None = None  # replaces a connection that ended
        self._timer: asyncio.TimerHandle | None = None  # runs for the earliest deadline, or one that was
        self._timer_due = 0.0  # the deadline it was set for; meaningful while there is a timer
        self._memory: Host | None = None  # memory:// only: the engine, which outlives a connection to it
        self._opened = False  # there has been a connection: from then on one that ends is replaced
        self.closed = False  # for good
        fork.watch(self)

    @property
    def ready(self) -> bool:
        """Whether there is a connection, greeted."""
        return self._connection is not None and self.session.ready

    # The turn.

    def _wake(self) -> None:
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = self._loop.time()
        self.session.end_turn(now)
        self.write(now)
        self._plan()

    def write(self, now: float | None = None) -> None:
        """Write what may be written: while the transport takes it, and within the window."""
        session = self.session
        connection = self._connection
        while connection is not None and not connection.paused and session.has_output:
            transport = connection.transport
            # A closing transport swallows what it is given: as long as it has not, calls count as not sent.
            if transport is None or transport.is_closing():
                return
            data = session.output(self._loop.time() if now is None else now)
            if data:
                transport.write(data)

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes came. Whatever is wrong with them, the connection goes and nothing hangs."""
        session = self.session
        try:
            session.receive(data)
        except NaughtError as error:
            if isinstance(error, ProtocolError):
                logger.error("%s: %s; connecting anew", self._address, error)
            self._drop(connection, error)
            return
        if session.has_output:
            self.write()
        elif session.finished:
            self._drop(connection, ConnectionResetError("the server is shutting down"))

    # The timer.

    def _plan(self) -> None:
        due = self.session.next_due()
        if due is not None and (self._timer is None or due < self._timer_due):
            self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due + TIMER_SLACK, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        session = self.session
        session.advance(self._loop.time())
        due = session.next_due()
        if due is not None:
            self._set_timer(due)
        if session.finished and self._connection is not None:
            self._drop(self._connection, ConnectionResetError("the server is shutting down"))

    # The connection.

    async def open(self) -> None:
        """Connect for the first time.

        Raises ConnectionFailed after connect_timeout, and the server's CommandError when it refuses the cache.
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
                            logger.info("%s: %s; trying for %g s", self._address, error, self._connect_timeout)
                        last = error
                    await asyncio.sleep(self._backoff.next_delay())
        except TimeoutError:
            why = f": {last}" if last is not None else ""
            raise ConnectionFailed(
                f"no connection to {self._address} within {self._connect_timeout:g} s{why}"
            ) from last

    async def _connect(self) -> None:
        """One attempt: a connection on which calls can be sent, or an exception and no connection."""
        if self.closed:
            raise ClientClosed("the client is closed")
        connection = Connection(self)
        forks = fork.count()
        try:
            await self._dial(connection)
            transport = connection.transport
            if transport is None or connection.lost.done():
                raise ConnectionResetError("the server closed the connection")
            if forks != fork.count():
                fork.hang_up(transport.get_extra_info("socket"))
                raise ConnectionResetError("forked while connecting: the child may have this connection too")
            self._connection = connection
            greeted = self._loop.create_future()
            greeting = self.session.connected(greeted)
            if greeting:
                transport.write(greeting)
            await greeted
            if self._connection is not connection:  # lost after the greeting, before this went on
                raise ConnectionResetError("the server closed the connection")
        except BaseException as error:
            self._let_go(connection)
            if self._connection is connection:
                self._connection = None
                self.session.disconnected(error, self._loop.time())
                self._plan()
            raise
        self._opened = True
        self.write()

    async def _dial(self, connection: Connection) -> None:
        address = self._address
        if isinstance(address, TcpAddress):
            transport, _ = await self._loop.create_connection(lambda: connection, address.host, address.port)
            keep_alive(transport.get_extra_info("socket"))
        elif isinstance(address, MemoryAddress):
            if self._memory is None:
                from naught.memory import find_host

                self._memory = find_host(address.name)
            self._memory.attach(connection)
        else:
            await self._loop.create_unix_connection(lambda: connection, address.path)

    def lost(self, connection: Connection, error: BaseException) -> None:
        """The transport has closed."""
        if connection is self._connection:
            self._replace(error)

    def _drop(self, connection: Connection, error: BaseException) -> None:
        """End a connection that is of no use."""
        self._let_go(connection)
        if connection is self._connection:
            self._replace(error)

    def _let_go(self, connection: Connection, farewell: bytes = b"") -> None:
        connection.detach()
        transport = connection.transport
        if transport is not None and not connection.lost.done():
            if farewell and not transport.is_closing():
                self._say_goodbye(connection, transport, farewell)
            else:
                transport.abort()  # close() would first wait for a peer that may not read
            self._closing.append(connection.lost)
            connection.lost.add_done_callback(self._closing.remove)

    def _say_goodbye(self, connection: Connection, transport: asyncio.Transport, farewell: bytes) -> None:
        """Close so that the last bytes are read: closing with replies unread would have the kernel reset the
        connection, and the server lose them. The server closes when it has read the end."""
        transport.write(farewell)
        if not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        timer = self._loop.call_later(FAREWELL_S, transport.abort)
        connection.lost.add_done_callback(lambda _: timer.cancel())

    def _replace(self, error: BaseException) -> None:
        self._connection = None
        if self.session.served:
            self._backoff.reset()
        # Whoever is in _connect, waiting for the greeting, hears of it here.
        self.session.disconnected(error, self._loop.time())
        self._plan()
        if not self.closed and self._connecting is None and self._opened:
            logger.warning("%s: connection lost: %s; connecting anew", self._address, error)
            self._connecting = self._loop.create_task(self._reconnect(), name=f"naught reconnect {self._address}")

    async def _reconnect(self) -> None:
        attempts = 0
        try:
            while True:
                await asyncio.sleep(self._backoff.next_delay())
                attempts += 1
                try:
                    async with asyncio.timeout(self._connect_timeout):
                        await self._connect()
                    logger.info("%s: connected again, attempt %d", self._address, attempts)
                    return
                except Exception as error:
                    level = logging.ERROR if is_refusal(error) else logging.DEBUG
                    logger.log(level, "%s: attempt %d: %r", self._address, attempts, error)
                    self.session.unreachable(error)
        finally:
            self._connecting = None

    # The end.

    def shut(self) -> None:
        """Everything of `close` that needs no waiting. Idempotent."""
        if self.closed:
            return
        self.closed = True
        farewell = self.session.farewell()
        self.session.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._let_go(connection, farewell)

    def forsake(self) -> None:
        """This is the child of a fork: the connection stays the parent's, and must end with the parent. So the
        child's descriptor goes (by one of nothing, as whoever still has its number may close it), and nothing is
        sent."""
        self.closed = True
        self.session.forsake("this client was made before a fork, and belongs to the parent")
        transport = self._connection.transport if self._connection is not None else None
        connected = transport.get_extra_info("socket") if transport is not None else None
        if connected is not None:
            fork.replace_with_nothing(connected.fileno())
        # Nor is anything of the parent's loop to be waited for.
        self._connection = self._connecting = None
        self._closing.clear()

    def abandon(self) -> None:
        """As `shut`, for a client that was forgotten; from the collector, so in whatever thread and at whatever
        time."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.shut)

    async def close(self) -> None:
        """Fail what is pending with ClientClosed, and wait until the server has let go or FAREWELL_S have passed;
        without a session, no round trip. Idempotent."""
        self.shut()
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        if self._closing:
            await asyncio.wait(list(self._closing))


def keep_alive(connected: socket.socket) -> None:
    """Have the system find out when the peer is gone without a word."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
