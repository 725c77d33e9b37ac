"""One connection to a server, shared by threads: what stands between a `ClientSession` and the threads that call.

    Commands  --calls-->  ClientSession  --bytes-->  Link  --bytes-->  Wire

No thread stands in between when somebody waits: of the threads that wait for replies one *reads*, for all, and hands
that on to another when its own reply has come. So a lone call costs one write and one read on its own thread. The
client's own thread (`keeper.py`) connects, and reads while nobody calls.

**Together.** A call is written at once when nothing is on its way; else it waits until the next replies have come,
and then all that have gathered go in one write, joined where they can be. No longer than `GATHER_S`, though: what the
server is doing may take long.

**Who may touch what.** The session and all fields are the lock's; methods marked `exclusive` run under it. Writing
and reading happen outside: a connection has one writer and one reader at a time. Nobody waits for anything while he
has the lock.

**Interrupts.** An exception from outside (KeyboardInterrupt, a signal handler's) may strike anywhere in the main
thread. In a wait at the gate it costs nothing; where bytes are read or written, the connection, which the session
survives; inside `exclusive`, the session. A call from a finalizer or handler that has interrupted the client itself
raises `Busy`: to wait there would be to wait for itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

from naught import fork
from naught.backoff import Backoff
from naught.blocking.future import PENDING, Future
from naught.blocking.keeper import Keeper
from naught.errors import Busy, ConnectionFailed, NaughtError, OutcomeUnknown, ProtocolError
from naught.session import OUTPUT_BYTES_MAX, ClientSession

if TYPE_CHECKING:
    from naught.blocking.wires import Connection
    from naught.calls import Call
    from naught.holds import Hold
    from naught.messages import Message
    from naught.options import Options

logger = logging.getLogger("naught")

GATHER_S: Final = 0.001
"""How long a call may wait for others' replies before it is written all the same. Several round trips on a good
network, so that it is the exception; and less than anybody notices."""

P = ParamSpec("P")
T = TypeVar("T")


def exclusive(method: Callable[Concatenate[Link, P], T]) -> Callable[Concatenate[Link, P], T]:
    """Under the link's lock, whole or not at all: what fails in the middle ends the session."""

    @wraps(method)
    def run(self: Link, *args: Any) -> T:
        with self._lock:
            if self._inside:
                raise Busy("called from what has interrupted this very client: a finalizer, or a signal handler")
            self._inside = True
            try:
                return method(self, *args)  # type: ignore[call-arg]
            except NaughtError:
                raise
            except BaseException as error:
                self._break(error)
                raise
            finally:
                self._inside = False

    return cast("Callable[Concatenate[Link, P], T]", run)


class Link:
    """See the module. The `Port` of the commands for threads."""

    def __init__(self, options: Options) -> None:
        self.options: Final = options
        self.closed = False  # for good
        self.abandoned = False  # to be closed by the keeper: nobody has the client any more
        self.closing: Connection | None = None  # what is left of it then
        self._begin_anew()
        fork.watch(self)

    def _begin_anew(self) -> None:
        """As if nothing had been: at the start, and in the child of a fork."""
        # One that its owner may take again, so that a finalizer that runs inside finds `_inside` and not itself.
        self._lock = threading.RLock()
        self._inside = False
        self.session = self._new_session()
        self.backoff = Backoff(self.options.random)
        self.connection: Connection | None = None  # greeted, and not lost
        self.calls = 0  # that were waited for, ever
        self._epoch = object()  # another one whenever the books are begun anew
        self.keeper: Keeper | None = None  # from the first call on
        # Who waits for others to read, the latest last; and who has waited, until that is looked at.
        self._followers: list[Future] = []
        self._look_through_at = 100

    def _new_session(self) -> ClientSession:
        return ClientSession(
            cache=self.options.address.cache,
            wake=_nothing,
            resumable=self.options.resumable,
            lease_ms=self.options.lease_ms,
        )

    # The port.

    def new_future(self) -> Future:
        return Future(self)

    caller = staticmethod(threading.get_ident)

    def change(self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Future) -> None:
        waiter.change = (key, delta, ttl_ms, timeout)  # for `_join`: the lock is taken once

    @exclusive
    def ask(self, call: Call[Any], timeout: float | None, waiter: Future) -> Message:
        waiter.timeout = timeout
        waiter.epoch = self._epoch
        return self.session.ask(call, timeout, waiter)

    def give_up(self, message: Message) -> None:
        self._tell(ClientSession.give_up, message)

    def give_back(self, hold: Hold) -> None:
        self._tell(ClientSession.give_back, hold)

    @exclusive
    def forget(self, hold: Hold) -> None:
        self.session.forget(hold)

    def _tell(self, what: Callable[[ClientSession, T], None], about: T) -> None:
        """Something that is to be sent, and that nobody waits for."""
        nobody = Future(self)
        self._tell_exclusively(what, about, nobody)
        self.write(nobody)

    @exclusive
    def _tell_exclusively(self, what: Callable[[ClientSession, T], None], about: T, nobody: Future) -> None:
        what(self.session, about)
        self.gather(nobody, monotonic())

    @property
    def ready(self) -> bool:
        """Whether there is a connection, greeted."""
        return self.connection is not None and self.session.ready

    # Waiting.

    def wait(self, future: Future) -> None:
        """Until it is settled. The calling thread reads for all meanwhile, or is told by the one that does."""
        try:
            self._join(future)
            while True:
                if future.output:
                    self.write(future)
                connection = future.reading
                if future.state != PENDING:
                    if connection is not None:  # appointed, and then it was another's deadline that settled it
                        self._stop_reading(future, connection)
                    return
                if connection is not None:
                    self._read(future, connection)
                else:
                    self._follow(future)
        except BaseException as error:
            self._leave(future, error)
            raise

    @exclusive
    def _join(self, future: Future) -> None:
        change = future.change
        if change is not None:
            self.session.change(*change, future)
            future.timeout = change[3]
        elif future.epoch is not self._epoch:
            future.set_exception(_books_broken())
            return
        now = monotonic()
        self.calls += 1
        if future.timeout is not None:
            future.due = now + future.timeout
        if self.keeper is None:  # in the child of a fork
            self._start_keeper()
        self._take_part(future, now)

    def _take_part(self, future: Future, now: float) -> None:
        """Read if nobody does, else follow; and write, unless others' replies are about to come."""
        connection = self.connection
        if connection is not None and connection.reader is None:
            connection.reader = future
            future.reading = connection
            self.gather(future, now)
            return
        if connection is None or not self.session.unanswered:
            self.gather(future, now)
        future.hurried = not future.output
        future.close_gate()
        self._followers.append(future)
        if len(self._followers) > self._look_through_at:
            self._followers = [each for each in self._followers if each.follows()]
            self._look_through_at = 2 * len(self._followers) + 100

    def gather(self, future: Future, now: float) -> None:
        """Have `future` write what has gathered, if it may be written."""
        session = self.session
        session.end_turn(now)
        connection = self.connection
        if connection is not None and not connection.writing:
            output = session.output(now)
            if output:
                future.output = output
                future.writing = connection
                connection.writing = True

    def write(self, future: Future) -> None:
        """What `future` was given to write, and what has come to it meanwhile."""
        while future.output:
            connection = future.writing
            assert connection is not None
            data, future.output = future.output, b""
            try:
                taken = connection.wire.send(data)
            except OSError as error:
                self._fail(connection, error, future)
                return
            if taken < len(data):
                self._hand_over(connection, data[taken:], future)
                return
            future.writing = None
            connection.writing = False
            if connection.lost:
                self._let_go_exclusively(connection)
            elif len(data) >= OUTPUT_BYTES_MAX:
                self._write_more(future)

    @exclusive
    def _write_more(self, future: Future) -> None:
        self.gather(future, monotonic())

    @exclusive
    def _hand_over(self, connection: Connection, rest: bytes, future: Future) -> None:
        """The wire is full. The keeper has time; a thread that calls has a deadline."""
        future.writing = None
        connection.unsent = rest
        if connection.lost:
            connection.writing = False
            self.let_go(connection)
        else:
            self.call_keeper()

    def _read(self, future: Future, connection: Connection) -> None:
        timeout = None if future.due is None else future.due - monotonic()
        # What the call was given, where nearly all of that is left: the system is told of a limit once, not each
        # time.
        if timeout is not None and future.timeout is not None and timeout > future.timeout - GATHER_S:
            timeout = future.timeout
        try:
            data = connection.wire.receive(timeout if timeout is None else max(timeout, GATHER_S))
        except OSError as error:
            self._fail(connection, error, future)
            return
        self._took(future, connection, data)

    @exclusive
    def _took(self, future: Future, connection: Connection, data: bytes | None) -> None:
        """`future` has read `data`."""
        now = monotonic()
        if data is None:
            self.session.advance(now)
        else:
            self.feed(connection, data, now)
        if not connection.lost:
            if future.state != PENDING:
                self._pass_on(future, connection)
            self.session.next_due()  # forgets the deadlines of what is settled, which else would pile up
            if self.session.stirred or self.session.has_output:
                self.gather(future, now)
        else:
            future.reading = None
            connection.reader = None
            self.let_go(connection)
            if future.state == PENDING:
                self._take_part(future, now)

    @exclusive
    def _stop_reading(self, future: Future, connection: Connection) -> None:
        if future.reading is connection:
            self._pass_on(future, connection)
            self.let_go(connection)

    def feed(self, connection: Connection, data: bytes, now: float) -> None:
        """Settle what was read. For who has the lock."""
        session = self.session
        if connection.lost:
            return
        if not data or self.closed:
            self.lose(connection, ConnectionResetError("the server closed the connection"), now)
            return
        try:
            session.receive(data)
        except NaughtError as error:
            if isinstance(error, ProtocolError):
                logger.error("%s: %s; connecting anew", self.options.address, error)
            self.lose(connection, error, now)
            return
        if session.finished and not session.has_output:
            self.lose(connection, ConnectionResetError("the server is shutting down"), now)

    def _pass_on(self, future: Future, connection: Connection) -> None:
        """Let another read."""
        future.reading = None
        if connection.lost:
            connection.reader = None
        else:
            self.appoint(connection)

    def appoint(self, connection: Connection) -> None:
        """Have one of those who wait read from now on; the keeper sees to it where there is none. For who has the
        lock."""
        connection.reader = None
        while self._followers:
            follower = self._followers.pop()
            if follower.follows():
                connection.reader = follower
                follower.reading = connection
                follower.open_gate()
                return
        if self.keeper is not None and self.keeper.sleeps:
            self.keeper.call()

    def _follow(self, future: Future) -> None:
        gate = future.gate
        if gate is not None:
            if future.hurried:
                timeout = GATHER_S
            elif future.due is None:
                timeout = -1.0
            else:
                timeout = max(future.due - monotonic(), GATHER_S)
            if gate.acquire(True, timeout):
                return
        self._look_again(future)

    @exclusive
    def _look_again(self, future: Future) -> None:
        """Nobody has called the thread of `future`."""
        if future.state != PENDING or future.reading is not None:
            return
        now = monotonic()
        self.session.end_turn(now)
        if future.due is not None and future.due <= now:
            self.session.advance(now)
        connection = self.connection
        if future.state == PENDING and connection is not None and connection.reader is None:
            connection.reader = future
            future.reading = connection
            future.gate = None
        self.gather(future, now)
        future.hurried = not future.output and self.session.has_output

    @exclusive
    def _leave(self, future: Future, error: BaseException) -> None:
        """The thread of `future` waits no longer, for whatever reason."""
        future.cancel()
        now = monotonic()
        why = ConnectionAbortedError(f"interrupted by {type(error).__name__}")
        reading, future.reading = future.reading, None
        writing, future.writing = future.writing, None
        if writing is not None:  # how much was written, nobody can say
            writing.writing = False
            self.lose(writing, why, now)
            self.let_go(writing)
        if reading is not None:  # nor, what was read
            reading.reader = None
            self.lose(reading, why, now)
            self.let_go(reading)

    # The connection.

    @exclusive
    def _fail(self, connection: Connection, error: OSError, future: Future) -> None:
        """`future` has found it broken."""
        now = monotonic()
        if future.writing is connection:
            future.writing = None
            connection.writing = False
        if future.reading is connection:
            future.reading = None
            connection.reader = None
        self.lose(connection, error, now)
        self.let_go(connection)
        if future.state == PENDING and not future.follows():
            self._take_part(future, now)

    def lose(self, connection: Connection, error: BaseException, now: float) -> None:
        """It is of no use any more. Who is at it finds that it has ended. For who has the lock."""
        if connection.lost:
            return
        connection.lost = True
        connection.wire.hang_up()
        if connection is self.connection:
            self.connection = None
            logger.warning("%s: connection lost: %s; connecting anew", self.options.address, error)
            if self.session.served:
                self.backoff.reset()
        self.session.disconnected(error, now)
        self.call_keeper()

    @exclusive
    def _let_go_exclusively(self, connection: Connection) -> None:
        self.let_go(connection)

    def let_go(self, connection: Connection) -> None:
        """Let go of a lost connection, when nobody is at it."""
        if connection.lost and connection.reader is None and not connection.writing:
            connection.wire.close()

    def _break(self, error: BaseException) -> None:
        """Something was left half done: nothing that is known of the session can be trusted."""
        broken, self.session = self.session, self._new_session()
        self._epoch = object()
        waiting = self._followers
        connection = self.connection
        if connection is not None:
            if isinstance(connection.reader, Future):
                waiting.append(connection.reader)
            self.lose(connection, error, monotonic())
        for future in waiting:
            future.set_exception(_books_broken())
        self._followers = []
        with suppress(Exception):  # half of it may be missing
            broken.close(_books_broken)

    @exclusive
    def locked(self, step: Callable[..., T], *args: Any) -> T:
        """Do this under the lock. For the keeper."""
        return step(*args)

    # The beginning and the end.

    def open(self) -> None:
        """Connect for the first time. Raises ConnectionFailed after connect_timeout, and the server's CommandError
        when it refuses the cache."""
        keeper = self._start_keeper()
        limit = self.options.connect_timeout
        try:
            if not keeper.opened.wait(limit):
                why = f": {keeper.last_error}" if keeper.last_error is not None else ""
                raise ConnectionFailed(
                    f"no connection to {self.options.address} within {limit:g} s{why}"
                ) from keeper.last_error
            if keeper.refusal is not None:
                raise keeper.refusal
        except BaseException:
            self.close()
            raise

    def _start_keeper(self) -> Keeper:
        keeper = self.keeper = Keeper(self)
        keeper.start()
        return keeper

    def call_keeper(self) -> None:
        """There is something for it to do."""
        if self.keeper is not None:
            self.keeper.call()

    @exclusive
    def shut(self) -> None:
        """Everything of `close` that needs no waiting."""
        if self.closed:
            return
        self.closed = True
        farewell = self.session.farewell()
        self.session.close()
        connection, self.connection = self.connection, None
        if self.keeper is not None and self.keeper.greeting is not None:
            self.keeper.greeting.wire.hang_up()
        if connection is not None:
            with suppress(OSError):
                if not connection.writing:
                    connection.wire.send(farewell)
                connection.wire.finish()
        self.closing = connection

    def close(self) -> None:
        """Fail what is pending with ClientClosed, and wait until the server has let go or a little time has passed.
        Idempotent."""
        self.shut()
        if self.keeper is not None:
            self.keeper.join()

    def abandon(self) -> None:
        """For a client that was forgotten; from the collector, so in whatever thread and under whatever lock."""
        self.abandoned = True
        self.call_keeper()

    def forsake(self) -> None:
        """This is the child of a fork: the connection, the session and what it holds stay the parent's. Here all
        starts anew, with the first call."""
        session, connection, keeper = self.session, self.connection, self.keeper
        session.forsake("this client was made before a fork, and belongs to the parent")
        if connection is not None:
            connection.wire.forsake()
        if keeper is not None:
            keeper.forsake()
        if not self.closed:
            self._begin_anew()


def _books_broken() -> OutcomeUnknown:
    return OutcomeUnknown("an interrupt broke the books of the client; it may have happened")


def _nothing() -> None:
    """Whoever calls writes: nothing is to be woken."""
