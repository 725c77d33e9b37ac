"""The HTTP port on the event loop: listening, and the connections of scrapers, probes and browsers.

Requests are answered in `http.py` and `routes.py`; here are sockets, timers and bounds. A connection that does not
finish a request, or sends none, is closed; so is one that does not read its replies. There are few at a time, which
do not count against `connections_max`: clients of counters must not keep an operator from looking. One more takes the
place of the one that has asked nothing for longest: else a peer that holds as many open keeps scrapers and health
checks out.

A reply may be some milliseconds of work. So requests are served in turns, which are dealt with those of the clients
of counters (`turns.py`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final, cast

from naught_server.clock import CLOCK
from naught_server.http import Conversation, Request, Response
from naught_server.limits import HTTP_CONNECTIONS_MAX, OUTPUT_BYTES_MAX
from naught_server.listeners import Acceptor
from naught_server.routes import Routes
from naught_server.secret_hash import PlainSecret
from naught_server.stats import Stats
from naught_server.status import STEP_MS, StatusFeed
from naught_server.tls import TLS_TIMES
from naught_server.turns import Turns

REQUEST_S_MAX: Final = 5.0
"""How long a request may take to arrive, and a reply to be read."""

IDLE_S_MAX: Final = 60.0
"""How long a connection may be open between two requests: longer than scrapes are apart."""

BYTES_PER_ENTRY: Final = 16
"""Bytes of a reply that cost an entry of work: the metrics of one cache have 16 KiB, and take 0.5 ms."""


def _now_ms() -> int:
    return CLOCK.now_ms()


DISPLACED_MAX: Final = 4
"""Connections that have made room and are not lost yet, which takes a turn of the loop: they have descriptors
still."""


class HttpServer:
    """Serves listening sockets until it is closed."""

    def __init__(
        self,
        listeners: list[socket.socket],
        routes: Routes,
        feed: StatusFeed,
        stats: Stats,
        *,
        turns: Turns,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._stats = stats
        self._turns: Final = turns  # those of all connections of this loop
        self._routes = routes
        self._tls = tls  # of handshakes from now on; None without TLS
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._acceptor = Acceptor(listeners, self._admit, stats)
        # Accepted and not lost yet, the one first that has asked nothing for longest.
        self._connections: dict[_Connection, None] = {}
        self._displaced: set[_Connection] = set()  # those that had to make room, and are not lost yet
        self._handovers: set[asyncio.Task[None]] = set()  # each makes a transport for an accepted socket
        # Lets the feed take its steps; set while somebody looks at the page.
        self._feed_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def close(self) -> None:
        """Accept no more, and end all connections."""
        self._acceptor.stop()
        for connection in [*self._connections, *self._displaced]:
            connection.abort()
        if self._feed_timer is not None:
            self._feed_timer.cancel()

    def renew(self, tls: ssl.SSLContext | None, token: PlainSecret | None) -> None:
        """Files were read again: use these from now on. TLS and the token are not turned on or off."""
        if self._tls is not None and tls is not None:
            self._tls = tls
        self._routes.renew_token(token)

    def _admit(self, accepted: socket.socket, address: str | None) -> str | None:
        """Serve an accepted socket; or return the limit that is reached."""
        if len(self._connections) >= HTTP_CONNECTIONS_MAX:
            if len(self._displaced) >= DISPLACED_MAX:
                return "http_connections_max"
            self._stats.count_refused("http_connections_max")
            self._displace(next(iter(self._connections)))
        connection = self.connection()
        task = self._loop.create_task(self._hand_over(accepted, connection))
        self._handovers.add(task)
        task.add_done_callback(self._handovers.discard)
        return None

    def connection(self) -> _Connection:
        """A connection that is accepted now."""
        connection = _Connection(self, self._turns)
        self._connections[connection] = None
        return connection

    def _displace(self, connection: _Connection) -> None:
        """End a connection, to make room for another one."""
        del self._connections[connection]
        self._displaced.add(connection)
        connection.abort()

    async def _hand_over(self, accepted: socket.socket, connection: _Connection) -> None:
        """Give an accepted socket to the loop, as the transport of its connection. It takes a turn of the loop."""
        try:
            accepted.setblocking(False)
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await self._loop.connect_accepted_socket(lambda: connection, accepted, ssl=self._tls, **TLS_TIMES)
        except OSError:  # it was closed already
            accepted.close()
            self.leave(connection)
        except BaseException:
            accepted.close()
            self.leave(connection)
            raise

    def leave(self, connection: _Connection) -> None:
        """A connection is lost."""
        self._connections.pop(connection, None)
        self._displaced.discard(connection)

    def asks(self, connection: _Connection) -> None:
        """A connection has sent a request."""
        if connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None

    def respond(self, request: Request) -> Response:
        """The response to a request."""
        response = self._routes.respond(request)
        if self._feed_timer is None and self._feed.is_watched(_now_ms()):
            self._step_feed()
        return response

    def _step_feed(self) -> None:
        """Let the feed take a step, and again in a moment while somebody looks."""
        self._feed_timer = None
        now_ms = _now_ms()
        self._feed.step(now_ms)
        if self._feed.is_watched(now_ms):
            self._feed_timer = self._loop.call_later(STEP_MS / 1000, self._step_feed)
        else:
            self._feed.rest()


class _Connection(asyncio.Protocol):
    """One scraper, probe or browser."""

    def __init__(self, server: HttpServer, turns: Turns) -> None:
        self._server = server
        self._turns = turns
        self._received: list[bytes] = []  # for the next turn, which is asked for where there is something
        self._aborted = False  # it is to end, also where it has no transport yet
        self._conversation = Conversation(server.respond)
        self._transport: asyncio.Transport | None = None  # None before it is connected, and after
        self._timer: asyncio.TimerHandle | None = None  # ends it
        self._writing = True  # the peer reads its replies
        self._reading = True  # the transport is not paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=OUTPUT_BYTES_MAX)
        if self._aborted:
            self._transport.abort()
        else:
            self._end_in(REQUEST_S_MAX)

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._turns.ask(self._turn)
        self._received.append(data)
        self._update_reading()

    def _turn(self) -> int:
        """Serve what was received. Returns the entries of work."""
        data = b"".join(self._received)
        self._received.clear()
        transport, conversation = self._transport, self._conversation
        if transport is None:
            return 0
        was_idle = conversation.is_idle
        replies = conversation.receive(data)
        if replies:
            transport.write(replies)
            self._server.asks(self)
        if conversation.closing:
            transport.close()  # sends the replies first
            self._end_in(REQUEST_S_MAX)
        elif conversation.is_idle and self._writing:
            self._end_in(IDLE_S_MAX)
        elif was_idle or replies:
            self._end_in(REQUEST_S_MAX)
        self._update_reading()
        return 1 + len(replies) // BYTES_PER_ENTRY

    def pause_writing(self) -> None:
        self._writing = False
        self._update_reading()
        self._end_in(REQUEST_S_MAX)

    def resume_writing(self) -> None:
        self._writing = True
        if self._transport is not None and not self._transport.is_closing():
            self._update_reading()
            self._end_in(IDLE_S_MAX)

    def _update_reading(self) -> None:
        """Read on, unless the peer does not read, or what has come waits for a turn: others may have many before."""
        transport = self._transport
        reading = self._writing and not self._received
        if transport is None or transport.is_closing() or reading is self._reading:
            return
        self._reading = reading
        if reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._server.leave(self)

    def abort(self) -> None:
        """End it at once."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    def _end_in(self, seconds: float) -> None:
        """Abort the connection after this time, and no longer at the time that was set before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)
