"""A connection on a transport without a socket, in a loop without real time: how long its peer may leave a message
unfinished, and how many of its bytes are kept."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from naught.wire.codec import encode_request
from naught.wire.limits import MESSAGE_BYTES_MAX
from naught_server import connection as connection_module
from naught_server.access import Check, User
from naught_server.connection import Connection
from naught_server.engine import Engine
from naught_server.limits import HANDSHAKE_MS_MAX, INPUT_BYTES_MAX, MESSAGE_MS_MAX, TURN_ITEMS_MAX
from naught_server.protocol import ServerProtocol
from naught_server.secret_hash import HashedSecret, hash_of
from naught_server.stats import TIMED_OF_SMALL, Durations
from naught_server.turns import Turns
from support.clock import JumpingLoop
from support.conversation import cut, engine_of
from support.seeds import exhaustive, slow
from support.transport import FakeTransport, turns_taken
from support.users import SECRET, hello, user

PING = encode_request(9, "ping", ())
MESSAGE_S = MESSAGE_MS_MAX / 1000
CHUNK = 249_500  # uvloop hands over up to 256 000 bytes at once; this is a number of whole messages


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Runs a coroutine function in a loop whose time jumps."""

    def run_it(test: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, JumpingLoop)
            monkeypatch.setattr(connection_module, "_clock_ns", loop.time_ns)
            runner.run(test())  # type: ignore[arg-type]

    return run_it


Run = Callable[[Callable[[], Awaitable[None]]], None]


def connected(
    engine: Engine | None = None, turns: Turns | None = None, transport: FakeTransport | None = None
) -> tuple[Connection, FakeTransport]:
    turns = turns or Turns(asyncio.get_running_loop().call_soon)
    connection = Connection(engine or engine_of(), turns, lambda gone: None)
    transport = transport or FakeTransport()
    connection.connection_made(transport)
    return connection, transport


def timers() -> int:
    """How many timers the loop has that are not cancelled."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not timer.cancelled() for timer in scheduled)


# ------------------------------------------------------------------------------------------------- log-ins


def test_a_client_that_does_not_log_in_has_two_seconds(run: Run) -> None:
    async def test() -> None:
        engine = engine_of(users=[user("me")])
        connection, transport = connected(engine)
        connection.data_received(PING)
        await asyncio.sleep(HANDSHAKE_MS_MAX / 1000 - 0.01)
        assert not transport.aborted.is_set()
        await asyncio.sleep(0.02)
        assert transport.aborted.is_set()
        assert engine.stats.connections_cut == {"unknown": 1}

    run(test)


def test_a_client_that_has_logged_in_has_all_time(run: Run) -> None:
    async def test() -> None:
        connection, transport = connected(engine_of(users=[user("me")]))
        connection.data_received(hello("me"))
        await asyncio.sleep(2 * HANDSHAKE_MS_MAX / 1000)
        assert not transport.aborted.is_set()
        connection.connection_lost(None)
        assert timers() == 0

    run(test)


def test_the_time_that_a_secret_is_checked_does_not_count(run: Run) -> None:
    async def test() -> None:
        engine = engine_of(users=[User("me", "read", (HashedSecret(hash_of(SECRET.encode())),))])
        checks: list[Check] = []
        engine.access.watch(start_check=checks.append)
        connection, transport = connected(engine)
        connection.data_received(hello("me"))
        await turns_taken(connection)
        assert not transport.reading, "nothing more is read meanwhile"
        await asyncio.sleep(5 * HANDSHAKE_MS_MAX / 1000)
        assert not transport.aborted.is_set()
        checks[0].run()
        engine.access.finish(checks[0], 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert transport.replies()
        await asyncio.sleep(5 * HANDSHAKE_MS_MAX / 1000)
        assert not transport.aborted.is_set()
        assert transport.reading

    run(test)


class UnixSocket:
    """The socket of a connection from a process of this user of the system."""

    family = socket.AF_UNIX

    def __init__(self, uid: int) -> None:
        self._credentials = struct.pack("=iII", 1, uid, uid)

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, len(self._credentials))
        return self._credentials


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the kernel of this system does not tell so")
@pytest.mark.parametrize("uid", [6, 7])
def test_log_ins_over_a_unix_socket_are_those_of_the_user_of_the_system(run: Run, uid: int) -> None:
    """Also of one that is a user without a secret, and tries to be another."""

    async def test() -> None:
        engine = engine_of(users=[user("me"), User("process", "read", uids=(7,))])
        refused: list[Any] = []
        engine.access.watch(on_refused=refused.append)
        connection, _ = connected(engine, transport=FakeTransport(tcp=UnixSocket(uid)))
        connection.data_received(hello("me", "wrong horse"))
        await turns_taken(connection)
        assert [each.address for each in refused] == [f"uid {uid}"]

    run(test)


# ------------------------------------------------------------------------------------------------- unfinished


@pytest.mark.parametrize("request_", [PING, encode_request(1, "get_many", [["k" * 400] * 100])])
def test_an_unfinished_message_has_thirty_seconds(run: Run, request_: bytes) -> None:
    async def test() -> None:
        engine = engine_of()
        connection, transport = connected(engine)
        connection.data_received(PING + request_[:-1])
        await asyncio.sleep(MESSAGE_S - 0.01)
        assert not transport.aborted.is_set()
        await asyncio.sleep(0.02)
        assert transport.aborted.is_set()
        assert engine.stats.connections_cut == {"unfinished": 1}

    run(test)


def test_more_bytes_of_it_do_not_extend_the_time(run: Run) -> None:
    async def test() -> None:
        connection, transport = connected()
        message = encode_request(1, "get_many", [["k" * 400] * 100])
        for piece in cut(message, range(0, len(message), 300))[:29]:
            connection.data_received(piece)
            await asyncio.sleep(1)
        assert not transport.aborted.is_set()
        await asyncio.sleep(1.01)
        assert transport.aborted.is_set()

    run(test)


def test_each_message_has_its_own_thirty_seconds(run: Run) -> None:
    async def test() -> None:
        engine = engine_of()
        connection, transport = connected(engine)
        connection.data_received(PING[:3])
        for _ in range(20):
            await asyncio.sleep(MESSAGE_S - 1)
            connection.data_received(PING[3:] + PING[:3])
            assert timers() == 1, "one timer for the connection, however many messages there are"
        assert len(transport.replies()) == 20
        connection.data_received(PING[3:])
        await asyncio.sleep(10 * MESSAGE_S)
        assert not transport.aborted.is_set()
        assert timers() == 0
        assert not engine.stats.connections_cut

    run(test)


def test_a_whole_message_sets_no_timer(run: Run) -> None:
    async def test() -> None:
        connection, transport = connected()
        connection.data_received(PING * 10)
        await turns_taken(connection)
        assert timers() == 0
        assert len(transport.replies()) == 10

    run(test)


def test_a_lost_connection_leaves_no_timer(run: Run) -> None:
    async def test() -> None:
        connection, _ = connected()
        connection.data_received(PING[:3])
        await turns_taken(connection)
        assert timers() == 1
        connection.connection_lost(None)
        assert timers() == 0

    run(test)


def test_a_lost_connection_is_freed_without_the_collector(run: Run) -> None:
    """Where connections come and go by the thousand, those that wait for the collector take megabytes."""

    def protocols() -> int:
        return sum(isinstance(each, ServerProtocol) for each in gc.get_objects())

    async def test() -> None:
        engine = engine_of()
        gc.collect()
        before = protocols()
        gc.disable()
        try:
            connection, transport = connected(engine)
            connection.data_received(PING + PING[:-1])
            assert protocols() == before + 1
            connection.connection_lost(None)
            del connection, transport
            await asyncio.sleep(MESSAGE_S)  # a timer that was cancelled leaves the loop
            assert protocols() == before
        finally:
            gc.enable()

    run(test)


def test_time_without_reading_does_not_count(run: Run) -> None:
    """While the server does not read, the rest of a message may have arrived at its kernel."""

    async def test() -> None:
        connection, transport = connected()
        connection.data_received(PING[:3])
        await asyncio.sleep(MESSAGE_S - 5)
        connection.pause_writing()
        await asyncio.sleep(9)
        assert not transport.reading
        connection.resume_writing()
        connection.data_received(PING[3:])
        await turns_taken(connection)
        assert len(transport.replies()) == 1
        assert not transport.aborted.is_set()

    run(test)


def test_a_session_survives_an_unfinished_message(run: Run) -> None:
    async def test() -> None:
        engine = engine_of()
        connection, transport = connected(engine)
        connection.data_received(encode_request(1, "hello", [{"session": True}]) + PING[:3])
        await asyncio.sleep(MESSAGE_S + 1)
        assert transport.aborted.is_set()
        connection.connection_lost(None)
        assert len(engine.sessions) == 1
        connection, transport = connected(engine)
        resumption = {"session": b"session number 1", "received": 0}
        connection.data_received(encode_request(1, "hello", [resumption]) + PING)
        await turns_taken(connection)
        assert [reply[2] for reply in transport.replies()] == [None, None]

    run(test)


# ------------------------------------------------------------------------------------------------- turns


def test_turns_are_timed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the turns with little work each eighth is timed, and stands for eight."""

    async def test() -> None:
        now_ns = 5_000_000_000
        readings = 0

        def clock_ns() -> int:
            nonlocal now_ns, readings
            now_ns += 3_000
            readings += 1
            return now_ns

        monkeypatch.setattr(connection_module, "_clock_ns", clock_ns)
        engine = engine_of()
        connection, transport = connected(engine)
        turns = engine.stats.turns
        for _ in range(2 * TIMED_OF_SMALL - 1):
            connection.data_received(PING)
            await turns_taken(connection)
        assert (turns.count, turns.total_ns, turns.max_ns) == (TIMED_OF_SMALL, TIMED_OF_SMALL * 3_000, 3_000)
        assert readings == 2 * TIMED_OF_SMALL - 1 + 1
        engine.stats.turns = turns = Durations()
        requests = b"".join(encode_request(msgid, "incr", ["k"]) for msgid in range(3 * TURN_ITEMS_MAX))
        connection.data_received(requests)
        assert (turns.count, turns.total_ns) == (1, 3_000)
        await turns_taken(connection)
        assert (turns.count, turns.total_ns) == (3, 9_000)
        assert len(transport.replies()) == 2 * TIMED_OF_SMALL - 1 + 3 * TURN_ITEMS_MAX

    run(test)


COSTLY = encode_request(1, "try_incr", [[[f"k{number}", 1, 9_999] for number in range(1_000)]])
"""More than a turn may do, and cannot be parted."""
COSTLY_AND_LARGE = encode_request(1, "try_incr", [[[f"{number:0300}", 1, 9_999] for number in range(1_000)]])
"""As `COSTLY`, with long keys: 300 KiB, which arrive in several pieces."""


@pytest.mark.parametrize(
    ("request_", "piece_bytes"),
    [(COSTLY, 200_000), (COSTLY_AND_LARGE, 200_000), (COSTLY_AND_LARGE, 1_000)],
    ids=["small", "large", "large in small pieces"],
)
def test_costly_requests_come_one_by_one(run: Run, request_: bytes, piece_bytes: int) -> None:
    """However many ask for them at once, there is one in an iteration of the loop, and others are served between."""

    async def test() -> None:
        engine, journal = engine_of(), []
        turns = Turns(asyncio.get_running_loop().call_soon)
        names = [str(number) for number in range(10)]
        connections = [connected(engine, turns, FakeTransport(name, journal))[0] for name in [*names, "light"]]
        *costly, light = connections
        light.data_received(PING)
        await turns_taken(light)
        for _ in range(3):
            journal.clear()
            under_way = [cut(request_, range(0, len(request_), piece_bytes)) for _ in costly]
            while len(journal) < 2 * len(costly):
                count = len(journal)
                for connection, pieces in zip(costly, under_way, strict=True):
                    while pieces and connection._reading:
                        connection.data_received(pieces.pop(0))
                assert len(journal) == count, "the last request of each was costly, or it is new"
                await asyncio.sleep(0)
                assert len(journal) <= count + 1
                if len(journal) > count:
                    light.data_received(PING)
            assert [name for name, _ in journal[1::2]] == ["light"] * len(costly), "at once, whatever the others do"
            assert sorted(name for name, _ in journal[::2]) == names

    run(test)


def test_who_asks_for_little_again_is_served_at_once(run: Run) -> None:
    async def test() -> None:
        connection, transport = connected()
        connection.data_received(COSTLY)
        await turns_taken(connection)
        connection.data_received(PING)
        assert len(transport.replies()) == 1, "the input behind a costly request has to wait"
        await turns_taken(connection)
        connection.data_received(PING)
        assert len(transport.replies()) == 3

    run(test)


def test_all_bytes_are_counted(run: Run) -> None:
    """Also those that arrive while no turn may be taken, and those for which there is no turn any more."""

    async def test() -> None:
        engine = engine_of()
        connection, transport = connected(engine)
        requests = b"".join(encode_request(msgid, "incr", ["k"]) for msgid in range(2 * TURN_ITEMS_MAX))
        connection.data_received(requests)
        connection.data_received(PING)
        await turns_taken(connection)
        assert len(transport.replies()) == 2 * TURN_ITEMS_MAX + 1
        assert engine.stats.received_bytes == len(requests) + len(PING)
        assert engine.stats.sent_bytes == transport.sent_bytes
        connection.pause_writing()
        connection.data_received(PING)
        connection.connection_lost(None)
        assert engine.stats.received_bytes == len(requests) + 2 * len(PING)
        assert engine.stats.sent_bytes == transport.sent_bytes

    run(test)


# ------------------------------------------------------------------------------------------------- is the peer there

TCP_INFO = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")


class Tcp:
    """A socket whose kernel says what the test wants."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.looks = 0  # how often it was asked
        self.unacked = 0  # segments on their way
        self.probes = 0  # of a closed window, not answered
        self.not_sent = 0  # bytes that wait for the window
        self.answers = True  # everything is answered at once
        self._answered_s = 0.0  # the loop's time when the last answer came

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        self.looks += 1
        now_s = asyncio.get_running_loop().time()
        if self.answers:
            self._answered_s = now_s
        words = [0] * 24
        words[4], words[12] = self.unacked, round((now_s - self._answered_s) * 1000)
        return struct.pack("=8B24I4Q3I", 0, 0, 0, self.probes, *[0] * 4, *words, *[0] * 6, self.not_sent)[:size]

    def fall_silent(self) -> None:
        """From now on nothing is answered."""
        self.answers = False
        self._answered_s = asyncio.get_running_loop().time()


def connected_by(tcp: Tcp) -> tuple[Connection, FakeTransport]:
    connection = Connection(engine_of(), Turns(asyncio.get_running_loop().call_soon), lambda gone: None)
    transport = FakeTransport(tcp=tcp)
    connection.connection_made(transport)
    connection.data_received(PING)
    return connection, transport


@TCP_INFO
@pytest.mark.parametrize("what", ["unacked", "probes"])
def test_a_peer_that_is_gone_is_noticed_in_about_ten_seconds(run: Run, what: str) -> None:
    async def test() -> None:
        tcp = Tcp()
        connection, transport = connected_by(tcp)
        tcp.fall_silent()
        setattr(tcp, what, 1)
        await asyncio.sleep(8.5)
        assert not transport.aborted.is_set()
        await asyncio.sleep(4)
        assert transport.aborted.is_set()
        assert connection._engine.stats.connections_cut == {"gone": 1}

    run(test)


@TCP_INFO
@pytest.mark.parametrize("what", ["unacked", "probes", "not_sent"])
def test_a_peer_whose_kernel_answers_is_there(run: Run, what: str) -> None:
    """A stopped process: its window is closed, and all that its kernel must answer is answered."""

    async def test() -> None:
        tcp = Tcp()
        _, transport = connected_by(tcp)
        setattr(tcp, what, 1)
        await asyncio.sleep(3_601)
        assert tcp.looks == 3_600 / 2
        assert not transport.aborted.is_set()

    run(test)


@TCP_INFO
def test_probes_far_apart_are_no_silence(run: Run) -> None:
    """Older kernels probe a closed window every two minutes: a look may come between a probe and its answer."""

    async def test() -> None:
        tcp = Tcp()
        _, transport = connected_by(tcp)
        tcp.not_sent = 1
        for _ in range(10):
            tcp.fall_silent()
            tcp.probes = 0
            await asyncio.sleep(120)
            tcp.probes = 1
            await asyncio.sleep(1.9)
            tcp.answers, tcp.probes = True, 0
            await asyncio.sleep(2.1)
        assert not transport.aborted.is_set()

    run(test)


@TCP_INFO
def test_nobody_looks_when_nothing_is_on_its_way(run: Run) -> None:
    async def test() -> None:
        tcp = Tcp()
        connection, transport = connected_by(tcp)
        tcp.fall_silent()
        await asyncio.sleep(3_600)
        assert tcp.looks == 1
        assert timers() == 0
        for _ in range(100):
            connection.data_received(PING)
        assert timers() == 1
        connection.connection_lost(None)
        assert timers() == 0
        assert not transport.aborted.is_set()

    run(test)


# ------------------------------------------------------------------------------------------------- undecoded input

LARGE = encode_request(1, "get_many", [[b"k" * 250] * 4_096])
LONG = encode_request(1, "incr", [b"k" * 488])
assert CHUNK % len(LONG) == 0
TOPS = b"".join(encode_request(msgid, "top", [3, "k"]) for msgid in range(8))

STREAMS: dict[str, bytes] = {
    "requests": PING * 130_000,
    "large requests": LARGE * 3,
    "requests of whole pieces": LONG * 4_000,
    "a message that never ends": LARGE[:-1],
    "a large message, and some behind it": LARGE + PING * 3_000,
    "a large message, and many behind it": LARGE + PING * 50_000,
}

SLOW_STREAMS = {"requests", "a large message, and many behind it"}
"""Those that have more requests than the others of their kind."""

BEFORE = {"nothing": b"", "slices": TOPS, "slices and a part": TOPS + PING[:3]}
FIRST = {("nothing", False), ("slices and a part", True)}
"""How each stream is sent and read first; the other ways are slow tests, and of the slow streams exhaustive ones."""


def streams() -> Iterator[Any]:
    for name, before, paused in itertools.product(STREAMS, BEFORE, (False, True)):
        case = (name, before, paused)
        is_first = (before, paused) in FIRST
        if name not in SLOW_STREAMS:
            yield from [case] if is_first else slow(case)
        else:
            yield from slow(case) if is_first else exhaustive(case)


@pytest.mark.parametrize(("name", "prelude", "paused"), list(streams()))
def test_undecoded_input_is_bounded(run: Run, name: str, prelude: str, paused: bool) -> None:
    """Whatever a peer sends: as many pieces arrive in one turn of the loop as the transport reads."""
    before = BEFORE[prelude]
    stream = before[len(TOPS) :] and PING[3:]
    stream += STREAMS[name]
    assert len(stream) > MESSAGE_BYTES_MAX - 30_000

    async def test() -> None:
        engine = engine_of()
        for start in range(0, 20_000 if before else 0, 4_000):  # what `top` looks through
            keys = [b"k%d" % number for number in range(start, start + 4_000)]
            engine.store.caches["default"].try_incr([(key, 1, 9) for key in keys], None, 1)
        connection, transport = connected(engine)
        pieces = [before] * (before != b"") + cut(stream, range(0, len(stream), CHUNK))
        highest = 0
        turns = 0
        while pieces:
            while pieces and transport.reading:
                connection.data_received(pieces.pop(0))
                kept = connection._protocol.pinned_bytes()
                highest = max(highest, kept)
            if paused and turns % 200 == 1:
                connection.pause_writing()
                for _ in range(3):
                    await asyncio.sleep(0)
                    assert not transport.reading
                connection.resume_writing()
            turns += 1
            await asyncio.sleep(0)
        assert highest <= INPUT_BYTES_MAX

    run(test)


def test_an_idle_connection_keeps_none_of_its_input(run: Run) -> None:
    async def test() -> None:
        connection, transport = connected()
        for end in range(1, len(PING)):
            connection.data_received(PING[len(PING) - end + 1 :] * (end > 1) + PING * 50 + PING[: len(PING) - end])
            for _ in range(3):
                await asyncio.sleep(0)
            assert transport.reading
            assert connection._protocol.pinned_bytes() == len(PING) - end
        connection.data_received(PING[1:])
        assert connection._protocol.pinned_bytes() == 0

    run(test)
