"""`Link`: the connection of a blocking client, shared by threads. It drives a `ClientSession`.

    Commands  --calls-->  ClientSession  --bytes-->  Link  --bytes-->  Wire

While few threads call, no other thread is involved: one of the threads that wait for replies *reads* for all of them,
and passes that role to another when its own reply has come. So a lone call costs one write and one read in its own
thread. The client's own thread (`keeper.py`) connects, and reads while no thread calls or many do (`gathering.py`).

**Together.** A call is written at once when nothing is on its way and nobody is about to call; else it waits for
others to go with it, joined where they can be, until half of the callers have gathered (`gathering.py`) or that is
so. No longer than `GATHER_S`, though: the server may take long, and who is expected not come. The first of those who
wait sees to that; should it be held up, the keeper some milliseconds later. Whoever reads writes before it lets those
through for whom it has read, so the server works on the one batch while their threads make the next.

**Who may touch what.** The session and all fields are the lock's; methods marked `exclusive` run under it. Writing
and reading happen outside: a connection has one writer and one reader at a time. Nobody waits for anything while he
has the lock, and nothing is logged there, for handlers of logs may wait.

**Who sees to it.** While a connection serves, these hold whenever the lock is free, and nobody waits in vain:

- Who follows is pending, and somebody reads. Who reads will run: he waits at the wire, or he is on his way there.
- What may be sent is sent by whoever made it so; where another writes at that moment, by him (`Connection.called`).
- What was lost or is over is cleared away by the last one who is at it.

**Interrupts.** An exception from outside (KeyboardInterrupt, a signal handler's) may strike anywhere in the main
thread, and again while the first is dealt with. In a wait at the gate it costs nothing; where bytes are read or
written, the connection, which the session survives; inside `exclusive`, the session. A call from a finalizer or
handler that has interrupted its own thread in the middle of another one waits for what that thread would do next:
where that is to read or to write, it costs the connection; inside `exclusive` it raises `Busy`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from naught import fork
from naught.blocking.crowd import LOOK_S
from naught.blocking.exclusive import INSIDE, exclusive, exclusive_and_shut
from naught.blocking.future import PENDING, Future, nobody
from naught.blocking.gathering import GATHER_S, Gathering
from naught.blocking.keeper import Keeper
from naught.blocking.wires import LIMIT_S, Broken, from_outside
from naught.core.backoff import Backoff
from naught.core.session import OUTPUT_BYTES_MAX, ClientSession
from naught.errors import Busy, ConnectionFailed, NaughtError, OutcomeUnknown
from naught.names import default_name

if TYPE_CHECKING:
    from naught.blocking.wires import Connection
    from naught.core.calls import Call
    from naught.core.holds import Hold
    from naught.core.messages import Message
    from naught.core.options import Options

T = TypeVar("T")


class Link:
    """See the module. The `CallSink` of the commands for threads."""

    def __init__(self, options: Options) -> None:
        self.options: Final = options
        self.closed = False  # for good
        self.abandoned = False  # to be closed by the keeper: nobody has the client any more
        self.closing: Connection | None = None  # what is left of it then,
        self.farewell = b""  # and to be written there
        self._begin_anew()
        fork.register(self)

    def _begin_anew(self) -> None:
        """As if nothing had been: at the start, and in the child of a fork."""
        # One that its owner may take again, so that a finalizer that runs inside finds `_inside` and not itself.
        self._lock = threading.RLock()
        # `INSIDE` while somebody is, what has broken the books until they are mended, else None.
        self._inside: object = None
        self.session = self._new_session()
        self.backoff = Backoff(self.options.random)
        self.connection: Connection | None = None  # greeted, and not lost
        self.calls = 0  # that were waited for, ever
        self._epoch = object()  # another one whenever the books are begun anew
        self.keeper: Keeper | None = None  # from the first call on
        # Who waits for others to read, the latest last; and who has waited, until that is looked at.
        self._followers: list[Future] = []
        self._look_through_at = 100
        self.gathering = Gathering()  # for the next write
        self._leavers: deque[tuple[Future, BaseException]] = deque()  # whose threads have gone, and why

    def _new_session(self) -> ClientSession:
        return ClientSession(
            cache=self.options.address.cache,
            wake=_nothing,
            resumable=self.options.resumable,
            lease_ms=self.options.lease_ms,
            name=self.options.name or default_name(),
            observed=self.options.hooks is not None,
        )

    # The sink.

    @property
    def new_future(self) -> Callable[[], Future]:
        return partial(Future, self)  # a frame less a call; kept here, it would be a cycle

    current_caller = staticmethod(get_ident)

    def change(self, key: bytes, delta: int, ttl_ms: int | None, timeout: float | None, waiter: Future) -> None:
        waiter.change = (key, delta, ttl_ms, timeout)  # for `_join`: the lock is taken once

    @exclusive
    def ask(self, call: Call[Any], timeout: float | None, waiter: Future) -> Message:
        waiter.timeout = timeout
        waiter.epoch = self._epoch
        return self.session.ask(call, timeout, waiter)

    def cancel_wait(self, message: Message) -> None:
        self._tell(ClientSession.cancel_wait, message)

    def release_untaken(self, hold: Hold) -> None:
        self._tell(ClientSession.release_untaken, hold)

    @exclusive
    def untrack(self, hold: Hold) -> None:
        self.session.untrack(hold)

    def _tell(self, what: Callable[[ClientSession, T], None], about: T) -> None:
        """Something that is to be sent, and that nobody waits for."""
        writer = nobody(self)
        writer.told = lambda session: what(session, about)
        self.wait(writer)

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
                # In this order: who is settled is appointed no more, but he may have been just before.
                pending = future.state == PENDING
                connection = future.reading
                if not pending:
                    if connection is not None:
                        self._stop_reading(future, connection)
                    future.crowd = None  # whose sockets are others' then
                    return
                if connection is not None:
                    self._read(future, connection)
                else:
                    self._follow(future)
        except BaseException as error:
            # The first thing, and if nothing comes of it the last: calls of C's, which no second interrupt prevents.
            try:
                self._leavers.append((future, error))
                self._clear_up()
            finally:
                if self._leavers and self.keeper is not None:
                    try:  # noqa: SIM105 - `suppress` would be a call more, at which an interrupt may strike
                        self.keeper.rope.send(b"!")
                    except OSError:  # it has been called, or has ended
                        pass
            raise

    @exclusive
    def _join(self, future: Future) -> None:
        now = monotonic()
        change = future.change
        connection = self.connection
        alone = b""
        if change is not None:
            if connection is not None and connection.reader is None and connection.writer is None:
                alone = self.session.change_alone(change, future, now)
            if not alone:
                key, delta, ttl_ms, timeout = change
                self.session.change(key, delta, ttl_ms, timeout, future)
            future.timeout = change[3]
            future.epoch = self._epoch
        elif future.told is not None:
            future.told(self.session)
            self.gather(future, now)
            return
        elif future.state != PENDING:  # meanwhile: others have sent it, and read its reply
            return
        self.calls += 1
        future.thread = get_ident()
        if future.timeout is not None:
            future.due = now + future.timeout
        if alone:
            assert connection is not None
            connection.reader = future
            future.reading = connection
            self._hand(future, connection, alone)
            return
        keeper = self.keeper
        if keeper is None:  # in the child of a fork
            keeper = self._start_keeper()
        crowd = self.gathering.crowd
        if (
            crowd is not None
            and not crowd.opened
            and connection is not None
            and connection.reader is keeper
            and keeper.thread != future.thread
            and not self._leavers
        ):
            # Nearly always where many call, and shorter: others gather already, and the first of them has seen to
            # all that `_take_part` sees to.
            if self.gathering.join(future, crowd):
                self.gather(future, now)
            return
        self._take_part(future, now)

    def _take_part(self, future: Future, now: float) -> None:
        """Read if nobody does, else follow; and write, unless others' replies or calls are about to come."""
        if future.epoch is not self._epoch:
            future.set_exception(_books_broken())
            return
        connection = self.connection
        if connection is not None and connection.reader is None:
            connection.reader = future
            future.reading = connection
            self.gather(future, now)
            return
        if self._leavers:
            self.clear_up()
        self._wait_not_for_itself(future, now)
        future.hurried = self.connection is not None and self.waits_for_others(now)
        if not self.gathering.admit(future):
            self._line_up(future)
        if not future.hurried or self.gathering.enough:
            self.gather(future, now)

    def _line_up(self, future: Future) -> None:
        """Wait at a gate of its own."""
        future.close_gate()
        self._followers.append(future)
        if len(self._followers) > self._look_through_at:
            self._followers = [each for each in self._followers if each.follows()]
            self._look_through_at = 2 * len(self._followers) + 100

    def _wait_not_for_itself(self, future: Future, now: float) -> None:
        """Another is to read for this. Where its own thread does, which a handler or finalizer has interrupted, that
        one would not go on before this has ended."""
        assert self.keeper is not None
        if self.keeper.thread == future.thread:
            raise Busy("called from a finalizer that has interrupted the client's own thread")
        connection = self.connection
        if connection is not None and connection.reader is not None and connection.reader.thread == future.thread:
            self.lose(connection, ConnectionAbortedError("a call has interrupted the one that read"), now)

    def waits_for_others(self, now: float) -> bool:
        """Whether a call does, to go with them. For who has the lock."""
        return self.session.unanswered > 0 or self.gathering.filling(now)

    def gather(self, future: Future, now: float) -> None:
        """Have `future` write what has gathered, if it may be written."""
        session = self.session
        session.end_turn(now)
        connection = self.connection
        if connection is None:
            return
        writer = connection.writer
        if writer is not None:
            connection.called = True
            if writer.thread and writer.thread == future.thread:
                self.lose(connection, ConnectionAbortedError("a call has interrupted the one that wrote"), now)
            if connection.writer is not None:
                return
        unanswered = session.unanswered
        output = session.output(now)
        if output:
            self.gathering.written(unanswered)
            self._hand(future, connection, output)
        elif session.ready:  # windows hold it back: whoever comes next does not join unseen who waits for that
            self.gathering.crowd = None

    @staticmethod
    def _hand(future: Future, connection: Connection, output: bytes) -> None:
        """This is `future`'s to write, there."""
        future.output = output
        future.writing = connection
        connection.writer = future
        connection.called = False

    def write(self, future: Future) -> None:
        """What `future` was given to write, and what has come to it meanwhile."""
        while future.output:
            connection = future.writing
            assert connection is not None
            data, future.output = future.output, b""
            try:
                taken = connection.wire.send(data)
            except Broken as broken:
                self._fail(connection, broken.reason, future)
                return
            if taken < len(data):
                self._hand_over(connection, data[taken:], future)
                return
            future.writing = None
            connection.writer = None
            if connection.called or len(data) >= OUTPUT_BYTES_MAX:
                self._look_after(connection, future)

    @exclusive
    def _look_after(self, connection: Connection, future: Future) -> None:
        """`future` has written, and something has come up meanwhile."""
        if connection.lost:
            self.let_go(connection)
        elif self.closed:
            self.call_keeper()
        else:
            self.gather(future, monotonic())

    @exclusive
    def _hand_over(self, connection: Connection, rest: bytes, future: Future) -> None:
        """The wire is full. The keeper has time; a thread that calls has a deadline."""
        future.writing = None
        if connection.lost:
            connection.writer = None
            self.let_go(connection)
        else:
            connection.unsent = rest
            connection.writer = self.keeper
            self.call_keeper()

    def _read(self, future: Future, connection: Connection) -> None:
        timeout = None if future.due is None else future.due - monotonic()
        # What the call was given, where nearly all of that is left: the system is told of a limit once, not each
        # time.
        if timeout is not None and future.timeout is not None and timeout > future.timeout - GATHER_S:
            timeout = future.timeout
        try:
            data = connection.wire.receive(timeout if timeout is None else max(timeout, GATHER_S))
        except Broken as broken:
            self._fail(connection, broken.reason, future)
            return
        self._took(future, connection, data)
        if future.output:
            self.write(future)
        self.gathering.open_gates()

    @exclusive_and_shut
    def _took(self, future: Future, connection: Connection, data: bytes | None) -> None:
        """`future` has read `data`."""
        now = monotonic()
        if data is None:
            self._advance(now)
        else:
            self.feed(connection, data, now)
        if not connection.lost:
            if future.state != PENDING:
                self._pass_on(future, connection)
            if self.session.tidy():
                self.gather(future, now)
        else:
            connection.reader = None
            future.reading = None
            self.let_go(connection)
            if future.state == PENDING:
                self._take_part(future, now)

    @exclusive
    def _stop_reading(self, future: Future, connection: Connection) -> None:
        """`future` was settled by another one who looked at the time, or by the end of all."""
        if future.reading is connection:
            self._pass_on(future, connection)
            self.let_go(connection)

    def _advance(self, now: float) -> None:
        """Time has passed."""
        self.session.advance(now)
        if self.connection is not None and self.session.drained:
            self._end_finished(self.connection, now)

    def feed(self, connection: Connection, data: bytes, now: float) -> None:
        """Settle what was read. For who has the lock."""
        if connection.lost:
            return
        if not data:
            self.lose(connection, ConnectionResetError("the server closed the connection"), now)
            return
        if self.closed:  # what still comes is nobody's
            return
        try:
            self.session.receive(data)
        except NaughtError as error:
            foreign = from_outside(error)
            if foreign is not None:
                raise foreign from None
            self.lose(connection, error, now)
            return
        if self.session.drained:
            self._end_finished(connection, now)

    def _end_finished(self, connection: Connection, now: float) -> None:
        if not self.session.has_output:
            self.lose(connection, ConnectionResetError("the server is shutting down"), now)

    def _pass_on(self, future: Future, connection: Connection) -> None:
        """Let another read."""
        if connection.lost:
            connection.reader = None
        else:
            self.appoint(connection)
        future.reading = None

    def appoint(self, connection: Connection) -> None:
        """Have one of those who wait read from now on; the keeper where there is none, or are many. For who has
        the lock."""
        connection.reader = None
        if self.gathering.crowded and self.keeper is not None and not self.closed:
            connection.reader = self.keeper
            self.call_keeper()
            return
        while self._followers:
            follower = self._followers.pop()
            if follower.follows():
                connection.reader = follower
                follower.reading = connection
                follower.open_gate()
                return
        self.gathering.let_all_through()  # if others than the first are left of a batch: one of them will read
        if self.closed or (self.keeper is not None and self.keeper.sleeps):
            self.call_keeper()

    def _follow(self, future: Future) -> None:
        gate, crowd = future.gate, future.crowd
        if crowd is not None:
            if future.hurried:
                crowd.wait(GATHER_S)
            elif future.due is None:
                crowd.wait(LOOK_S)
            else:
                left = future.due - monotonic()
                crowd.wait(left if left > GATHER_S else GATHER_S)
            if future.state != PENDING:
                return
        elif gate is not None:
            if future.hurried:
                timeout = GATHER_S
            elif future.due is None:
                timeout = -1.0
            else:
                timeout = min(max(future.due - monotonic(), GATHER_S), LIMIT_S)
            if gate.acquire(True, timeout):
                return
        self._look_again(future)

    @exclusive
    def _look_again(self, future: Future) -> None:
        """Nobody has called the thread of `future`."""
        if self._leavers:
            self.clear_up()
        if future.state != PENDING or future.reading is not None:
            return
        if future.epoch is not self._epoch:
            future.set_exception(_books_broken())
            return
        now = monotonic()
        if future.hurried and not self.session.unanswered:
            self.gathering.disappoint(now)
        self.session.end_turn(now)
        if future.due is not None and future.due <= now:
            self._advance(now)
        connection = self.connection
        if future.state == PENDING and connection is not None and connection.reader is None:
            connection.reader = future
            future.reading = connection
            future.gate = future.crowd = None
        elif future.state == PENDING and future.crowd is not None and future.crowd.opened:
            self._line_up(future)
        self.gather(future, now)
        future.hurried = False  # what could not be sent now is sent by who reads, or who writes

    @exclusive
    def _clear_up(self) -> None:
        self.clear_up()

    def clear_up(self) -> None:
        """After those who have left. For who has the lock."""
        while self._leavers:
            future, error = self._leavers.popleft()
            if future.crowd is not None:  # the others are to look for themselves whether their calls are sent
                self.gathering.let_through(future.crowd)
            future.cancel()
            now = monotonic()
            why = ConnectionAbortedError(f"interrupted by {type(error).__name__}")
            reading, future.reading = future.reading, None
            writing, future.writing = future.writing, None
            if writing is not None and writing.writer is future:  # how much was written, nobody can say
                writing.writer = None
                self.lose(writing, why, now)
                self.let_go(writing)
            if reading is not None and reading.reader is future:  # nor, what was read
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
            connection.writer = None
        if future.reading is connection:
            future.reading = None
            connection.reader = None
        self.lose(connection, error, now)
        self.let_go(connection)
        if future.state == PENDING and future.reading is None and not future.waits():
            self._take_part(future, now)

    def lose(self, connection: Connection, error: BaseException, now: float) -> None:
        """It is of no use any more. Who is at it finds that it has ended. For who has the lock."""
        if connection.lost:
            return
        connection.error = error
        connection.lost = connection.called = True
        connection.wire.hang_up()
        if connection is self.connection:
            self.connection = None
            if self.session.served:
                self.backoff.reset()
        self.session.disconnected(error, now)
        self.call_keeper()

    def let_go(self, connection: Connection) -> None:
        """Let go of a lost connection, when nobody is at it. For who has the lock."""
        if connection.lost and connection.reader is None and connection.writer is None:
            connection.wire.close()

    def _find_out(self) -> None:
        """Somebody is inside already, or was and did not come to the end."""
        if self._inside is INSIDE:
            raise Busy("called from what has interrupted this very client: a finalizer, or a signal handler")
        self._mend()

    def _mend(self) -> None:
        """Something was left half done: nothing that is known of the session can be trusted, so the books are begun
        anew. An interrupt may strike here as well, and then whoever comes next begins again: what is done twice does
        no harm, and what the rest is found by goes last."""
        error = self._inside
        assert isinstance(error, BaseException)
        self.call_keeper()
        self._epoch = object()
        greeting = None if self.keeper is None else self.keeper.greeting
        connections = [each for each in (self.connection, greeting) if each is not None]
        for connection in connections:
            connection.error = error
            connection.lost = connection.called = True
            connection.wire.hang_up()
        readers = [each.reader for each in connections if isinstance(each.reader, Future)]
        self.gathering.let_all_through()  # who find by themselves that the books are others
        for future in (*self._followers, *readers):
            future.set_exception(_books_broken())
            future.open_gate()  # it may have been settled when the interrupt struck
        if self.session.served:
            self.backoff.reset()
        with suppress(Exception):  # half of it may be missing
            self.session.close(_books_broken)
        session = self._new_session()
        if self.closed:
            session.close()
        self.session = session
        self._followers = []
        self.connection = None
        for connection in connections:
            self.let_go(connection)
        self._inside = None

    @exclusive
    def locked(self, step: Callable[..., T], *args: Any) -> T:
        """Do this under the lock. For the keeper."""
        if self._leavers:
            self.clear_up()
        return step(*args)

    @exclusive_and_shut
    def locked_and_shut(self, step: Callable[..., T], *args: Any) -> T:
        """The same without letting anybody through."""
        if self._leavers:
            self.clear_up()
        return step(*args)

    # The beginning and the end.

    def open(self) -> None:
        """Connect for the first time. Raises ConnectionFailed after connect_timeout, and the server's CommandError
        when it refuses the cache."""
        limit = self.options.connect_timeout
        try:
            keeper = self._start_keeper()
            if not keeper.opened.wait(min(limit, LIMIT_S)):
                why = f": {keeper.last_error}" if keeper.last_error is not None else ""
                raise ConnectionFailed(
                    f"no connection to {self.options.address} within {limit:g} s{why}"
                ) from keeper.last_error
            if keeper.refusal is not None:
                raise keeper.refusal
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Connect in the background. Calls wait for that within their timeouts."""
        self._start_keeper()

    def _start_keeper(self) -> Keeper:
        keeper = self.keeper = Keeper(self)
        try:
            keeper.start()
        except RuntimeError:  # no thread is to be had
            self.keeper = None
            keeper.forsake()
            raise
        return keeper

    def call_keeper(self) -> None:
        """There is something for it to do. For who has the lock."""
        if self.keeper is not None:
            self.keeper.call()

    @exclusive
    def stop(self) -> None:
        """Everything of `close` that needs no waiting."""
        if self.closed:
            return
        self.farewell = self.session.encode_bye()
        self.session.close()
        connection = self.connection
        if connection is not None:
            self.closing = connection
            connection.called = True
        self.closed = True
        self.connection = None
        self.call_keeper()

    def close(self) -> None:
        """Fail what is pending with ClientClosed, and wait until the server has let go or a little time has passed.
        Idempotent."""
        self.stop()
        if self.keeper is not None:
            self.keeper.join()

    def finalize(self) -> None:
        """For a client that was forgotten; from the collector, so in whatever thread and under whatever lock."""
        if self.keeper is None or not self.keeper.dismiss():
            self.abandoned = True

    def after_fork(self) -> None:
        """This is the child of a fork: the connection, the session and what it holds stay the parent's. Here all
        starts anew, with the first call."""
        self.session.after_fork("this client was made before a fork, and belongs to the parent")
        for connection in (self.connection, self.closing):
            if connection is not None:
                connection.wire.forsake()
        if self.keeper is not None:
            self.keeper.forsake()
        if not self.closed:
            self._begin_anew()


def _books_broken() -> OutcomeUnknown:
    return OutcomeUnknown("an interrupt broke the books of the client; it may have happened")


def _nothing() -> None:
    """Whoever calls writes: nothing is to be woken."""
