"""`Keeper`: the client's own thread. It connects, reads while no thread calls, and ends the session at `close`.

It is there because a session must be kept when no thread of the program calls: a connection that breaks then is to be
replaced within the lease, and a permit that is lost is to be known as lost. While threads call, they read themselves
(`link.py`) and the keeper stays out of their way: it looks every `REST_S` whether they still do, and sleeps without
limit where one thread has been reading for longer than that, because then that one tells it when it stops. An idle
client costs no time at all. Where many threads call (`gathering.py`), it reads for them all.

All that it waits for it waits for in `_sleep`, so that it can be called from anything: the end of the client, and the
end of a lease while it connects. But for the look-up of a name, which nothing can break off, and for replies to many
threads, of which it waits `BUSY_S` at most without a look.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from naught import fork
from naught.blocking.future import Future, nobody
from naught.blocking.wires import Broken, Connection, check_system, dial, milliseconds
from naught.errors import ClientClosed, NaughtError, ProtocolError, is_refusal
from naught.url import MemoryAddress

if TYPE_CHECKING:
    from naught.blocking.link import Link
    from naught.memory import Host

logger = logging.getLogger("naught")

REST_S: Final = 0.05
"""Between two looks whether threads call. A call that comes while the keeper reads costs two switches of threads
more, and then threads read themselves for at least this long."""

BUSY_S: Final = 0.005
"""Where the keeper reads for many threads, it looks at least this often whether there is something else to do."""

FAREWELL_S: Final = 0.5
"""How long a client that closes waits for the server to have read its `bye`. Without that the server waits for the
lease."""

_CALL: Final = b"!"
_DISMISSAL: Final = b"."


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
        self.thread = 0  # its own: the identifier, once it runs
        self._calls = 0  # of the link, at the last look
        self._reader: Future | Keeper | None = None  # at the last look
        self._memory: Host | None = None  # memory:// only: the engine, which outlives a connection to it
        self._bell, self.rope = socket.socketpair()  # it is called by ringing
        self._bell.setblocking(False)
        self.rope.setblocking(False)
        self._thread: Final = threading.Thread(target=self._run, name=f"naught {self._address}", daemon=True)

    def start(self) -> None:
        """Once. Raises RuntimeError where there is no thread to be had."""
        self._thread.start()

    def call(self) -> None:
        """Have it look what there is to do. Under the lock: it closes the bell there."""
        self._ring(_CALL)

    def dismiss(self) -> bool:
        """Have it close the link; whether it will hear of it. Takes no lock, and from anywhere: it hears of it by the
        ringing itself, so the bell is there until then."""
        return self._ring(_DISMISSAL)

    def _ring(self, how: bytes) -> bool:
        try:
            self.rope.send(how)
        except OSError as error:  # full: it has been called; closed: it has ended
            check_system(error)
            return False
        return True

    def join(self) -> None:
        """Wait until it has seen that the link is closed, and said goodbye."""
        if self.thread != threading.get_ident():
            self._thread.join(2 * FAREWELL_S)

    def forsake(self) -> None:
        """Where its thread is not: in the child of a fork."""
        self._end()
        if self.greeting is not None:
            self.greeting.wire.forsake()

    def _end(self) -> None:
        """Under the lock: nobody calls it any more."""
        self._bell.close()
        self.rope.close()

    # The thread.

    @property
    def _dismissed(self) -> bool:
        return self._link.closed or self._link.abandoned

    def _run(self) -> None:
        self.thread = threading.get_ident()
        link = self._link
        try:
            self._keep()
        finally:
            link.stop()  # in any case: nobody is to wait for a thread that has gone
            if link.closing is not None:
                self._see_off(link.closing)
            link.locked(self._end)

    def _keep(self) -> None:
        """Have a connection, and watch it, until all is to end."""
        link = self._link
        attempts = 0
        while not self._dismissed:
            attempts += 1
            connection = self._connect(attempts)
            if connection is None:
                continue
            attempts = 0
            while not (connection.lost or self._dismissed):
                self._watch(connection)
                if link.gathering.crowded:
                    self._read_for_many(connection)
            if connection.lost:
                link.locked(self._leave, connection)
                error, connection.error = connection.error, None  # whose traceback may lead back to the connection
                self._tell_of(error)

    def _tell_of(self, error: BaseException | None) -> None:
        """Why there is no connection any more."""
        level = logging.ERROR if isinstance(error, ProtocolError) else logging.WARNING
        if not self._dismissed:
            logger.log(level, "%s: connection lost: %s; reconnecting", self._address, error)

    def _sleep(self, wanted: list[tuple[int, int]], timeout: float | None) -> bool:
        """Until one of these is ready, somebody calls, or the time is up; whether one is ready."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        for descriptor, events in wanted:
            poll.register(descriptor, events)
        ready = dict(poll.poll(None if timeout is None else milliseconds(timeout)))
        if ready.pop(self._bell.fileno(), 0) and _DISMISSAL in self._bell.recv(4096):
            self._link.abandoned = True
        return bool(ready)

    # Connecting.

    def _back_off(self, attempts: int) -> None:
        """Wait before an attempt, and keep the deadlines of what waits and of what is held meanwhile."""
        link = self._link
        until = monotonic()
        if attempts > 1 or self.opened.is_set():
            until += link.backoff.next_delay()
        while not self._dismissed:
            due = link.locked(self._advance)
            now = monotonic()
            if now >= until:
                return
            self._sleep([], (until if due is None else min(until, due)) - now)

    def _wait(self, descriptor: int, events: int, until: float) -> None:
        """The same until this is ready. Raises ClientClosed, and TimeoutError at `until`."""
        while not self._dismissed:
            due = self._link.locked(self._advance)
            now = monotonic()
            if now >= until:
                raise TimeoutError("the server does not answer")
            if self._sleep([(descriptor, events)], (until if due is None else min(until, due)) - now):
                return
        raise ClientClosed("the client is closed")

    def _advance(self) -> float | None:
        """Under the lock: do what is due; when to ask again."""
        self._link.session.advance(monotonic())
        return self._link.session.next_due()

    def _connect(self, attempts: int) -> Connection | None:
        """One attempt, and the pause before: the connection that the link has now, or None."""
        self._back_off(attempts)
        try:
            connection = self._greet(monotonic() + self._link.options.connect_timeout)
        except ClientClosed:
            return None
        except Exception as error:
            self._link.locked(self._unreachable, error)
            self._failed(error, attempts)
            return None
        finally:
            self.greeting = None
        if self.opened.is_set():
            logger.info("%s: reconnected, attempt %d", self._address, attempts)
        self.opened.set()
        return connection

    def _unreachable(self, error: Exception) -> None:
        """Under the lock."""
        self._link.session.connect_failed(error)

    def _failed(self, error: Exception, attempts: int) -> None:
        """An attempt has."""
        self.last_error = error
        if isinstance(error, ProtocolError):
            logger.error("%s: %s; reconnecting", self._address, error)
        if self.opened.is_set():
            level = logging.ERROR if is_refusal(error) else logging.DEBUG
            logger.log(level, "%s: attempt %d to reconnect failed: %r", self._address, attempts, error)
        elif is_refusal(error) and isinstance(error, NaughtError):
            self.refusal = error
            self.opened.set()
        elif attempts == 1:
            logger.info("%s: %s; retrying", self._address, error)

    def _greet(self, until: float) -> Connection:
        """Connect, and make that the link's connection once calls can be sent on it."""
        link = self._link
        forks = fork.count()
        if isinstance(self._address, MemoryAddress) and self._memory is None:
            from naught.memory import find_host

            self._memory = find_host(self._address.name)
        wire = dial(self._address, self._memory, lambda descriptor, events: self._wait(descriptor, events, until))
        connection = Connection(wire)
        connection.reader = self
        greeted = Future(link)
        try:
            if not link.locked(self._begin, connection, greeted, forks):
                raise ConnectionResetError("forked while connecting: the child may have this connection too")
            while not (greeted.done() or connection.lost):
                self._write(connection)
                data = wire.take()
                if data is not None:
                    link.locked(self._heard, connection, data)
                else:
                    self._wait(wire.fileno(), select.POLLIN | (select.POLLOUT if connection.unsent else 0), until)
            writer = nobody(link)
            if not link.locked(self._adopt, connection, writer):
                raise greeted.exception() or ConnectionResetError("the server closed the connection")
        except Broken as broken:
            link.locked(self._drop, connection, broken.reason)
            raise broken.reason from None
        except BaseException as error:
            link.locked(self._drop, connection, error)
            raise
        link.write(writer)
        return connection

    def _begin(self, connection: Connection, greeted: Future, forks: object) -> bool:
        """Under the lock: say hello. Whether nobody has forked before the connection was known."""
        self.greeting = connection
        if forks != fork.count():
            return False
        connection.unsent = self._link.session.connected(greeted)
        return True

    def _heard(self, connection: Connection, data: bytes) -> None:
        """Under the lock: the answer, which may ask for another hello."""
        now = monotonic()
        self._link.feed(connection, data, now)
        if not connection.lost and not self._link.session.ready:
            connection.unsent += self._link.session.output(now)

    def _adopt(self, connection: Connection, writer: Future) -> bool:
        """Under the lock: it is the link's connection, if it still is one. `writer` is to write what has waited for
        it."""
        if self._link.closed or connection.lost:
            return False
        self._link.connection = connection
        self._link.gather(writer, monotonic())
        return True

    def _drop(self, connection: Connection, error: BaseException) -> None:
        """Under the lock: it is broken, or of no more use."""
        self._link.lose(connection, error, monotonic())
        self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        """Under the lock: it is lost, and the keeper has nothing more to do with it."""
        if connection.reader is self:
            connection.reader = None
        if connection.writer is self:
            connection.writer = None
        connection.unsent = b""
        self._link.let_go(connection)

    # Watching.

    def _watch(self, connection: Connection) -> None:
        """One look, or one rest."""
        link = self._link
        reading, timeout = link.locked(self._plan, connection)
        events = (select.POLLIN if reading else 0) | (select.POLLOUT if connection.unsent else 0)
        self._sleep([(connection.wire.fileno(), events)] if events else [], timeout)
        self.sleeps = False
        writer = nobody(link)
        try:
            if connection.unsent:
                self._write(connection)
                if not connection.unsent:
                    link.locked(self._written, connection, writer)
            if reading:
                data = connection.wire.take()
                if data is not None:
                    link.locked_and_shut(self._took, connection, data, writer)
        except Broken as broken:
            link.locked(self._drop, connection, broken.reason)
        link.write(writer)
        link.gathering.open_gates()

    def _read_for_many(self, connection: Connection) -> None:
        """While so many threads call that the keeper reads for them: no look at the bell between, and no plan."""
        link = self._link
        try:
            while connection.reader is self and link.gathering.crowded and not (connection.unsent or self._dismissed):
                data = connection.wire.receive(BUSY_S)
                writer = nobody(link)
                if data is None:
                    link.locked(self._hurry, writer)
                    link.write(writer)
                    return
                link.locked_and_shut(self._took, connection, data, writer)
                link.write(writer)
                link.gathering.open_gates()
        except Broken as broken:
            link.locked(self._drop, connection, broken.reason)

    def _hurry(self, writer: Future) -> None:
        """Under the lock: write what has gathered for long. Who had come first was to look, and has been held up."""
        if self._link.gathering.count:
            self._link.gather(writer, monotonic())

    def _plan(self, connection: Connection) -> tuple[bool, float | None]:
        """Under the lock: whether to read, and how long to sleep at most."""
        link = self._link
        if link.connection is not connection:  # lost just now, and perhaps let go of
            return False, 0.0
        calls, self._calls = self._calls, link.calls
        if connection.reader is None and (calls == link.calls or link.gathering.crowded):
            connection.reader = self
        reader, self._reader = self._reader, connection.reader
        if connection.reader is self:
            due = connection.wire.next_due()
            return True, None if due is None else due - monotonic()
        if connection.reader is None or connection.reader is not reader:
            return False, REST_S
        self.sleeps = True
        return False, None

    def _took(self, connection: Connection, data: bytes, writer: Future) -> None:
        """Under the lock: `data` was read. Where threads call, one of them reads from here on."""
        link = self._link
        now = monotonic()
        link.feed(connection, data, now)
        if connection.lost:
            connection.reader = None
            link.let_go(connection)
            return
        link.session.tidy()
        if link.calls != self._calls and not link.gathering.crowded:
            link.appoint(connection)
        gathering = link.gathering
        if gathering.opening:
            gathering.hope(now)
        if (
            gathering.enough
            or not (gathering.crowded and link.waits_for_others(now))
            or link.session.can_send  # a window has opened
        ):
            link.gather(writer, now)

    @staticmethod
    def _write(connection: Connection) -> None:
        """What the wire did not take before."""
        rest = connection.unsent
        if rest:
            connection.unsent = rest[connection.wire.send(rest) :]

    def _written(self, connection: Connection, writer: Future) -> None:
        """Under the lock: nothing is unsent any more, so others may write again."""
        connection.writer = None
        self._link.let_go(connection)
        self._link.gather(writer, monotonic())

    # The end.

    def _see_off(self, connection: Connection) -> None:
        """Write what is left to be written and the farewell, and read on until the server has read all and closed:
        closing with replies unread would have the system reset the connection, and the server lose what was sent
        last."""
        link = self._link
        until = monotonic() + FAREWELL_S
        try:
            while not connection.lost and (left := until - monotonic()) > 0:
                reading, writing = link.locked(self._part, connection)
                if writing:
                    self._write(connection)
                    if not connection.unsent:
                        connection.wire.finish()
                events = (select.POLLIN if reading else 0) | (select.POLLOUT if connection.unsent else 0)
                self._sleep([(connection.wire.fileno(), events)] if events else [], left)
                if reading and connection.wire.take() == b"":
                    break
        except Broken:
            pass
        link.locked(self._drop, connection, ClientClosed("the client is closed"))

    def _part(self, connection: Connection) -> tuple[bool, bool]:
        """Under the lock: whether to read and to write. Where a thread still does, it comes to an end, and calls."""
        if connection.reader is None:
            connection.reader = self
        if connection.writer is None:
            connection.writer = self
        if connection.writer is self:
            connection.unsent += self._link.farewell
            self._link.farewell = b""
        return connection.reader is self, connection.writer is self
