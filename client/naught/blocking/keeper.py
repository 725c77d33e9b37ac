"""The client's own thread: connects, reads while nobody calls, and says goodbye.

It is there because a session must be kept when no thread of the program calls: a connection that breaks then is to be
replaced within the lease, and a permit that is lost is to be known as lost. While threads call, they read themselves
(`link.py`) and the keeper stays out of their way: it looks every `REST_S` whether they still do, and sleeps without
limit where one thread has been reading for longer than that, because then that one tells it when it stops. An idle
client costs no time at all.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

from naught import fork
from naught.blocking.future import Future
from naught.blocking.wires import Connection, dial
from naught.errors import ClientClosed, ConnectionFailed, NaughtError
from naught.session import is_refusal
from naught.url import MemoryAddress

if TYPE_CHECKING:
    from naught.blocking.link import Link
    from naught.memory import Host

logger = logging.getLogger("naught")

REST_S: Final = 0.05
"""Between two looks whether threads call. A call that comes while the keeper reads costs two switches of threads
more, and then threads read themselves for at least this long."""

FAREWELL_S: Final = 0.5
"""How long a client that closes waits for the server to have read its `bye`. Without that the server waits for the
lease."""


class Keeper:
    """See the module. Belongs to a link; ends when that is closed. What says so runs under the link's lock."""

    def __init__(self, link: Link) -> None:
        self._link: Final = link
        self._address: Final = link.options.address
        self.opened: Final = threading.Event()  # the first connection was greeted, or refused
        self.refusal: NaughtError | None = None  # what the server said to that
        self.last_error: BaseException | None = None  # of the last attempt
        self.greeting: Connection | None = None  # being greeted
        self.sleeps = False  # without limit, until it is called
        self._calls = 0  # of the link, at the last look
        self._reader: Future | Keeper | None = None  # at the last look
        self._memory: Host | None = None  # memory:// only: the engine, which outlives a connection to it
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._thread: Final = threading.Thread(target=self._run, name=f"naught {self._address}", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def call(self) -> None:
        """Have it look what there is to do. Takes no lock, and from anywhere."""
        with suppress(OSError):  # full: it has been called; closed: it has ended
            self._rope.send(b"!")

    def join(self) -> None:
        """Wait until it has seen that the link is closed, and said goodbye."""
        self.call()
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * FAREWELL_S)

    def forsake(self) -> None:
        """In the child of a fork, where its thread is not."""
        self._bell.close()
        self._rope.close()
        if self.greeting is not None:
            self.greeting.wire.forsake()

    # The thread.

    def _run(self) -> None:
        link = self._link
        attempts = 0
        while not link.closed:
            if link.abandoned:
                link.shut()
                break
            connection = link.connection
            if connection is not None:
                attempts = 0
                self._watch(connection)
                continue
            attempts += 1
            self._back_off(attempts)
            if not (link.closed or link.abandoned):
                self._connect(attempts)
        if link.closing is not None:
            self._see_off(link.closing)
        self._bell.close()
        self._rope.close()

    def _sleep(self, wanted: list[tuple[int, int]], timeout: float | None) -> None:
        """Until one of these is ready, somebody calls, or the time is up."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        for descriptor, events in wanted:
            poll.register(descriptor, events)
        poll.poll(None if timeout is None else max(0.0, timeout) * 1000 + 1)
        with suppress(BlockingIOError):
            self._bell.recv(4096)

    # Connecting.

    def _back_off(self, attempts: int) -> None:
        """Wait before an attempt, and keep the deadline of what is held meanwhile."""
        link = self._link
        until = monotonic()
        if attempts > 1 or self.opened.is_set():
            until += link.backoff.next_delay()
        while not (link.closed or link.abandoned):
            due = link.locked(self._advance)
            now = monotonic()
            if now >= until:
                return
            self._sleep([], (until if due is None else min(until, due)) - now)

    def _advance(self) -> float | None:
        """Under the lock: do what is due; when to ask again."""
        self._link.session.advance(monotonic())
        return self._link.session.next_due()

    def _connect(self, attempts: int) -> None:
        """One attempt."""
        try:
            self._greet(monotonic() + self._link.options.connect_timeout)
        except ClientClosed:
            return
        except (OSError, NaughtError) as error:
            self._link.locked(self._failed, error, attempts)
            return
        finally:
            self.greeting = None
        if self.opened.is_set():
            logger.info("%s: connected again, attempt %d", self._address, attempts)
        self.opened.set()

    def _failed(self, error: OSError | NaughtError, attempts: int) -> None:
        """Under the lock."""
        self.last_error = error
        self._link.session.unreachable(error)
        if self.opened.is_set():
            level = logging.ERROR if is_refusal(error) else logging.DEBUG
            logger.log(level, "%s: attempt %d: %r", self._address, attempts, error)
        elif is_refusal(error) and isinstance(error, NaughtError):
            self.refusal = error
            self.opened.set()
        elif attempts == 1:
            logger.info("%s: %s; trying on", self._address, error)

    def _greet(self, until: float) -> None:
        """Connect, and make that the link's connection once calls can be sent on it."""
        link = self._link
        forks = fork.count()
        if isinstance(self._address, MemoryAddress) and self._memory is None:
            from naught.memory import find_host

            self._memory = find_host(self._address.name)
        connection = Connection(dial(self._address, self._memory, max(0.001, until - monotonic())))
        connection.reader = self
        greeted = Future(link)
        try:
            if forks != fork.count():
                connection.wire.hang_up()
                raise ConnectionResetError("forked while connecting: the child may have this connection too")
            link.locked(self._begin, connection, greeted)
            while not greeted.done():
                self._write(connection)
                timeout = until - monotonic()
                data = connection.wire.receive(timeout) if timeout > 0 else None
                if data is None:
                    raise ConnectionFailed("the server does not answer")
                link.locked(self._heard, connection, data)
            greeted.result()
        except BaseException as error:
            link.locked(self._drop, connection, error)
            raise
        nobody = Future(link)
        link.locked(self._adopt, connection, nobody)
        link.write(nobody)

    def _begin(self, connection: Connection, greeted: Future) -> None:
        """Under the lock: say hello."""
        if self._link.closed:
            raise ClientClosed("the client is closed")
        self.greeting = connection
        connection.unsent = self._link.session.connected(greeted)

    def _heard(self, connection: Connection, data: bytes) -> None:
        """Under the lock: the answer, which may ask for another hello."""
        now = monotonic()
        self._link.feed(connection, data, now)
        if not connection.lost and not self._link.session.ready:
            connection.unsent += self._link.session.output(now)

    def _adopt(self, connection: Connection, nobody: Future) -> None:
        """Under the lock: it is the link's connection. `nobody` is to write what has waited for it."""
        if self._link.closed:
            self._link.lose(connection, ClientClosed("the client is closed"), monotonic())
            connection.reader = None
            self._link.let_go(connection)
            return
        self._link.connection = connection
        self._link.gather(nobody, monotonic())

    def _drop(self, connection: Connection, error: BaseException) -> None:
        """Under the lock: it is broken, or of no more use."""
        if connection.reader is self:
            connection.reader = None
        if connection.unsent:
            connection.unsent = b""
            connection.writing = False
        self._link.lose(connection, error, monotonic())
        self._link.let_go(connection)

    # Watching.

    def _watch(self, connection: Connection) -> None:
        """One look, or one rest."""
        link = self._link
        reading, timeout = link.locked(self._plan, connection)
        events = (select.POLLIN if reading else 0) | (select.POLLOUT if connection.unsent else 0)
        self._sleep([(connection.wire.fileno(), events)] if events else [], timeout)
        self.sleeps = False
        nobody = Future(link)
        try:
            if connection.unsent:
                self._write(connection)
                if not connection.unsent:
                    link.locked(self._written, connection, nobody)
            if reading:
                data = connection.wire.take()
                if data is not None:
                    link.locked(self._took, connection, data, nobody)
        except OSError as error:
            link.locked(self._drop, connection, error)
        link.write(nobody)

    def _plan(self, connection: Connection) -> tuple[bool, float | None]:
        """Under the lock: whether to read, and how long to sleep at most."""
        link = self._link
        calls, self._calls = self._calls, link.calls
        if connection.reader is None and calls == link.calls:
            connection.reader = self
        reader, self._reader = self._reader, connection.reader
        if connection.reader is self:
            due = connection.wire.next_due()
            return True, None if due is None else due - monotonic()
        if connection.reader is None or connection.reader is not reader:
            return False, REST_S
        self.sleeps = True
        return False, None

    def _took(self, connection: Connection, data: bytes, nobody: Future) -> None:
        """Under the lock: `data` was read. Where threads call, one of them reads from here on."""
        link = self._link
        now = monotonic()
        link.feed(connection, data, now)
        if connection.lost:
            connection.reader = None
            link.let_go(connection)
            return
        if link.calls != self._calls:
            link.appoint(connection)
        link.gather(nobody, now)

    @staticmethod
    def _write(connection: Connection) -> None:
        """What the wire did not take before."""
        rest = connection.unsent
        if rest:
            connection.unsent = rest[connection.wire.send(rest) :]

    def _written(self, connection: Connection, nobody: Future) -> None:
        """Under the lock: nothing is unsent any more, so others may write again."""
        connection.writing = False
        self._link.let_go(connection)
        self._link.gather(nobody, monotonic())

    # The end.

    def _see_off(self, connection: Connection) -> None:
        """Read on until the server has read all and closed: closing with replies unread would have the system reset
        the connection, and the server lose what was sent last."""
        link = self._link
        until = monotonic() + FAREWELL_S
        while not connection.lost and (left := until - monotonic()) > 0:
            if connection.reader is None or connection.reader is self:
                connection.reader = self
                self._sleep([(connection.wire.fileno(), select.POLLIN)], left)
                with suppress(OSError):
                    if connection.wire.take() != b"":
                        continue
                break
            self._sleep([], left)  # the thread that reads sees the end, and calls
        link.locked(self._drop, connection, ClientClosed("the client is closed"))
