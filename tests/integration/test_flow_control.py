"""Flow control: a peer that floods, or does not read, never delays the others.

Turns are counted on transports without sockets, so the results do not depend on the speed of the machine. What the
loops do themselves (half-close, pausing, closing) is tested with real sockets, on both loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from naught.wire.codec import encode_request
from naught.wire.limits import VALUE_MAX
from naught_server import connection as connection_module
from naught_server.commands import REQUEST_ENTRIES
from naught_server.connection import Connection
from naught_server.engine import Engine
from naught_server.limits import OUTPUT_BYTES_MAX, TURN_ITEMS_MAX
from naught_server.turns import Turns
from support.conversation import decoded, engine_of
from support.seeds import slow
from support.server_process import DEADLINE_S, MIB, ServerProcess, server_process
from support.transport import FakeTransport, turns_taken

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
BOTH_LOOPS = pytest.mark.parametrize("loop", LOOPS)
PING = encode_request(9, "ping", ())
PONG = [1, 9, None, b"pong"]


async def connected(
    engine: Engine, name: str = "", journal: list[Any] | None = None, turns: Turns | None = None
) -> tuple[Connection, FakeTransport]:
    """A connection on a transport without a socket, which is not new any more."""
    turns = turns or Turns(asyncio.get_running_loop().call_soon)
    connection = Connection(engine, turns, lambda gone: None)
    transport = FakeTransport(name, journal)
    connection.connection_made(transport)
    connection.data_received(PING)
    await turns_taken(connection)
    transport.journal.clear()
    return connection, transport


async def turns_until(happened: Callable[[], bool]) -> int:
    """Let the loop turn until `happened` is true. Returns the number of turns."""
    end = asyncio.get_running_loop().time() + DEADLINE_S
    for count in itertools.count():  # noqa: B007 (it is the answer)
        if happened():
            break
        assert asyncio.get_running_loop().time() < end, "it never happened"
        await asyncio.sleep(0)
    return count


def filled(count: int, **policy: Any) -> Engine:
    """An engine with this many counters."""
    engine = engine_of(**policy)
    engine.store.caches["default"].try_incr([(b"%08d" % number, 1, VALUE_MAX) for number in range(count)], None, 1)
    return engine


# ------------------------------------------------------------------------------------------------- a peer that floods

FLOODS: dict[str, tuple[bytes, int]] = {
    # The requests, and how many of them one turn may execute.
    "incr": (encode_request(1, "incr", ["k"]), TURN_ITEMS_MAX),
    "get": (encode_request(1, "get", ["k"]), TURN_ITEMS_MAX),
    "ping": (encode_request(1, "ping", []), TURN_ITEMS_MAX // REQUEST_ENTRIES),
    "apply of 250": (encode_request(1, "apply", [["key"] * 250, 1]), 2),
    "apply of 4096": (encode_request(1, "apply", [["k"] * 4_096, 1]), 1),
    "apply of 4096 with a time to live": (encode_request(1, "apply", [["k"] * 4_096, 1, 50_000]), 1),
    "get_many of 4096": (encode_request(1, "get_many", [["k"] * 4_096]), 1),
    "take of 4096": (encode_request(1, "take", [["k"] * 4_096]), 1),
    "try_incr of 1000": (encode_request(1, "try_incr", [[["k", 1, 0]] * 1_000]), 1),
    "scan that finds nothing": (encode_request(1, "scan", [0, 1, "nothing"]), 1),
    "scan of a page": (encode_request(1, "scan", [0, 4_096]), 1),
    "info": (encode_request(1, "info", []), TURN_ITEMS_MAX // 50 + 1),
    "sweep": (encode_request(1, "sweep", []), 1),
    "clear": (encode_request(1, "clear", []), 20),
    "count": (encode_request(1, "count", []), TURN_ITEMS_MAX // 26 + 1),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_served_in_turns(name: str) -> None:
    """However much one peer asks at once, the other connections have turns in between, after a bounded wait."""
    request, in_a_turn_max = FLOODS[name]
    engine = filled(20_000)
    journal: list[tuple[str, list[Any]]] = []
    turns = Turns(asyncio.get_running_loop().call_soon)
    flood, flooding = await connected(engine, "flood", journal, turns)
    other, _ = await connected(engine, "other", journal, turns)
    count = max(3, min(250_000 // len(request), 3 * in_a_turn_max))
    flood.data_received(request * count)
    pings = 0
    while len(flooding.replies()) < count:
        other.data_received(PING)
        pings += 1
        assert journal[-1] == ("other", [PONG]), "the other connection was not served in its turn"
        await asyncio.sleep(0)
        assert pings <= 80 * count, "four entries for each of 4 096 items, 250 in a turn"
    floods = [len(replies) for writer, replies in journal if writer == "flood"]
    assert max(floods) <= in_a_turn_max
    assert len(floods) >= 3
    assert all(reply[2] is None for reply in flooding.replies())
    # Between two turns of the flood there is one of the other.
    writers = [writer for writer, _ in journal]
    assert all("other" in pair for pair in itertools.pairwise(writers))


async def test_a_refused_batch_counts_as_one_that_is_served() -> None:
    engine = engine_of()
    flood, flooding = await connected(engine)
    flood.data_received(encode_request(1, "try_incr", [[*[["k", 1, 5]] * 1_000, ["k"]]]) * 5)
    assert len(flooding.replies()) == 1
    await turns_until(lambda: len(flooding.replies()) == 5)
    assert len(flooding.journal) == 5
    assert {reply[2][0] for reply in flooding.replies()} == {b"invalid"}


async def test_reading_pauses_while_there_is_more_than_a_turn() -> None:
    engine = engine_of()
    flood, flooding = await connected(engine)
    flood.data_received(encode_request(1, "incr", ["k"]) * 15_000)
    assert not flooding.reading
    await turns_until(lambda: len(flooding.replies()) == 15_000)
    assert flooding.reading
    assert [reply[3] for reply in flooding.replies()] == list(range(1, 15_001))


async def test_what_arrives_between_two_turns_waits_for_the_next() -> None:
    """Otherwise a peer that sends in small pieces would have a turn for each of them."""
    engine = filled(20_000)
    busy, transport = await connected(engine)
    busy.data_received(encode_request(1, "top", [1]))
    assert transport.reading, "work in slices must not pause reading"
    for _ in range(20):
        busy.data_received(PING)
    assert transport.replies() == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.replies() == [PONG] * 20, "later requests are served while one works in slices"
    turns = await turns_until(lambda: len(transport.replies()) == 21)
    assert turns > 1
    assert transport.replies()[-1][:3] == [1, 1, None]


async def test_work_in_slices_is_answered_before_the_end() -> None:
    """Requests before bad bytes are answered, and so are requests before the peer's end."""
    engine = filled(20_000)
    bad, transport = await connected(engine)
    bad.data_received(encode_request(1, "top", [1]) + encode_request(2, "count", ["0"]) + PING + b"\x94\x00\x05\xc1")
    bad.data_received(PING)
    await turns_until(lambda: transport.closed)
    assert [reply[1] for reply in transport.replies()] == [9, 2, 1, 5]
    assert transport.replies()[-1][2][0] == b"invalid"

    ended, transport = await connected(engine)
    ended.data_received(encode_request(1, "top", [1]))
    ended.eof_received()
    assert not transport.closed
    await turns_until(lambda: transport.closed)
    assert [reply[1] for reply in transport.replies()] == [1]


# ------------------------------------------------------------------------------------------------- held shards


async def test_a_peer_that_waits_for_a_shard_is_not_read_and_goes_on() -> None:
    engine = engine_of(shards=2)
    cache = engine.store.caches["default"]
    owner = object()
    for shard in range(2):
        cache.locks.acquire(shard, owner)
    waiting, transport = await connected(engine)
    other, its = await connected(engine)
    waiting.data_received(encode_request(1, "incr", ["k"]) + PING)
    assert not transport.reading
    other.data_received(PING)
    assert its.replies() == [PONG], "a request without a shard does not wait"
    assert transport.replies() == []
    for shard in range(2):
        cache.locks.release(shard, owner)
    await turns_until(lambda: len(transport.replies()) == 2)
    assert transport.replies() == [[1, 1, None, 1], PONG]
    assert transport.reading
    assert cache.locks.held == 0


async def test_a_peer_that_goes_while_it_waits_leaves_no_lock_behind() -> None:
    engine = engine_of(shards=2)
    cache = engine.store.caches["default"]
    owner = object()
    cache.locks.acquire(1, owner)
    # It needs both shards: it gets the first, and keeps it while it waits for the second.
    keys = [b"%d" % number for number in range(40)]
    waiting = [(await connected(engine))[0] for _ in range(3)]
    for each in waiting:
        each.data_received(encode_request(1, "get_many", [keys]))
    assert cache.locks.held == 2
    for each in waiting:
        each.connection_lost(None)
    assert cache.locks.queue_length(0) == cache.locks.queue_length(1) == 0
    cache.locks.release(1, owner)
    assert cache.locks.held == 0
    assert engine.stats.connections == 0


# ----------------------------------------------------------------------------------------- a peer that does not read


async def test_a_paused_peer_is_not_served() -> None:
    engine = engine_of()
    peer, transport = await connected(engine)
    assert transport.write_buffer_high == OUTPUT_BYTES_MAX == MIB
    peer.data_received(encode_request(1, "incr", ["k"]) * 5_000)
    peer.pause_writing()
    served = len(transport.replies())
    assert not transport.reading
    peer.data_received(PING)  # received before the pause took effect
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(transport.replies()) == served
    peer.resume_writing()
    await turns_until(lambda: len(transport.replies()) == 5_001)
    assert transport.reading
    peer.connection_lost(None)


@pytest.mark.parametrize("how", ["paused", "closing after bad bytes", "closing after the peer's end", "in sips"])
async def test_a_peer_that_leaves_its_replies_is_ended(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "OUTPUT_PAUSED_MS_MAX", 1)
    peer, transport = await connected(engine_of())
    if how == "paused":
        peer.pause_writing()
    elif how == "closing after bad bytes":
        peer.data_received(b"\xc1")
    else:
        peer.pause_writing()
        peer.eof_received()
        peer.resume_writing()
        if how == "in sips":
            # Closing flushes; a peer that reads a little of it gets no more time.
            peer.resume_writing()
    await asyncio.wait_for(transport.aborted.wait(), DEADLINE_S)
    peer.connection_lost(None)


async def test_a_peer_that_reads_again_in_time_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    peer, transport = await connected(engine_of())
    peer.pause_writing()
    timer = peer._output_timer
    assert timer is not None
    assert timer.when() - loop.time() > 9
    peer.resume_writing()
    assert timer.cancelled()
    peer.pause_writing()
    peer.connection_lost(None)
    assert peer._output_timer is None or peer._output_timer.cancelled()
    assert not transport.aborted.is_set()


# ------------------------------------------------------------------------------------------------- draining


async def test_a_drain_finishes_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LAME_DUCK_MS", 1)
    engine = filled(9_000)
    peer, transport = await connected(engine)
    peer.data_received(encode_request(2, "top", [1]) + encode_request(1, "incr", ["k"]) * 5_000)
    peer.drain()
    await turns_until(lambda: len(transport.replies()) == 5_001)
    peer.data_received(encode_request(3, "incr", ["k"]))
    await turns_until(lambda: len(transport.replies()) == 5_002)
    await turns_until(lambda: transport.closed)
    replies = [reply for reply in transport.replies() if reply[1] == 1]
    assert [reply[3] for reply in replies] == list(range(1, 5_001))
    assert transport.replies()[-1][2][0] == b"shutting_down"
    peer.connection_lost(None)


# ------------------------------------------------------------------------------------------------- real sockets


def on_loop(loop: str, work: Callable[[Engine, int], Awaitable[None]], engine: Engine | None = None) -> Engine:
    """Run a scenario with a server on this kind of loop; no connection may be left afterwards."""
    engine = engine or engine_of()

    async def serve() -> None:
        gone: list[Connection] = []
        running = asyncio.get_running_loop()
        turns = Turns(running.call_soon)
        server = await running.create_server(lambda: Connection(engine, turns, gone.append), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            await asyncio.wait_for(work(engine, port), DEADLINE_S)
            await turns_until(lambda: not engine.stats.connections)
        finally:
            server.close()
        assert len(gone) == engine.stats.connections_accepted
        assert all(connection.closed for connection in gone)
        gone.clear()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(serve())
    return engine


async def asked_and_ended(port: int, data: bytes) -> list[Any]:
    """All replies to a peer that sends this and closes its side."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    replies = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return decoded(replies)


@BOTH_LOOPS
@pytest.mark.parametrize("tail", [b"", PING[:4], b"\xc1"], ids=["whole", "half a message", "bad bytes"])
def test_half_close(loop: str, tail: bytes) -> None:
    """Requests sent before the peer closed its side are answered, also more than a turn and work in slices."""

    async def work(engine: Engine, port: int) -> None:
        requests = encode_request(2, "top", [1]) + encode_request(1, "incr", ["k"]) * 20_000
        replies = await asked_and_ended(port, requests + tail)
        assert [reply[3] for reply in replies if reply[1] == 1] == list(range(1, 20_001))
        assert len([reply for reply in replies if reply[1] == 2]) == 1

    on_loop(loop, work, filled(9_000))


@BOTH_LOOPS
def test_half_close_at_once(loop: str) -> None:
    async def work(engine: Engine, port: int) -> None:
        assert await asked_and_ended(port, b"") == []
        assert await asked_and_ended(port, PING) == [PONG]

    on_loop(loop, work)


@BOTH_LOOPS
def test_a_slow_reader_gets_everything(loop: str) -> None:
    """Pausing and resuming many times neither loses nor repeats replies."""

    async def work(engine: Engine, port: int) -> None:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        narrow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=narrow, limit=4_096)
        for number in range(60):
            writer.write(encode_request(number, "scan", [0, 4_096]))
        writer.write_eof()
        replies = b""
        while piece := await reader.read(50_000):
            replies += piece
        writer.close()
        found = decoded(replies)
        assert [reply[1] for reply in found] == list(range(60))
        assert all(reply[3] == found[0][3] for reply in found)

    on_loop(loop, work, filled(9_000))


@BOTH_LOOPS
def test_a_peer_that_never_reads_is_ended(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "OUTPUT_PAUSED_MS_MAX", 50)

    async def work(engine: Engine, port: int) -> None:
        silent = socket.create_connection(("127.0.0.1", port))
        silent.sendall(encode_request(1, "scan", [0, 4_096]) * 400)
        try:
            await turns_until(lambda: engine.stats.commands["scan"] > 0)
            assert await asked_and_ended(port, PING) == [PONG], "others are served meanwhile"
            await turns_until(lambda: not engine.stats.connections)
        finally:
            silent.close()
        assert engine.stats.commands["scan"] < 400

    on_loop(loop, work, filled(9_000))


# ----------------------------------------------------------------------------------------- memory of a real server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("server")
    with server_process(folder) as found:
        with found.connect() as peer:
            for begin in range(0, 8_000, 2_000):
                peer.call("apply", [b"%0100d" % number for number in range(begin, begin + 2_000)], VALUE_MAX)
            # The largest replies once, so that the memory they need for a moment is counted before.
            peer.call("scan", 0, 4_096)
            peer.call("top", 2_000)
        yield found


MANY = [b"%0100d" % number for number in range(4_000)]


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize(
    ("method", "params", "count"),
    [("scan", (0, 4_096), 400), *slow(("top", (2_000,), 400), ("get_many", (MANY,), 40)), ("nothing", (), 60_000)],
)
def test_what_a_peer_costs_that_never_reads(
    server: ServerProcess, method: str, params: tuple[Any, ...], count: int
) -> None:
    """Six peers request 1.4 to 95 MiB each and read nothing: each costs at most its limit, and others are served."""
    peers = [server.connect() for _ in range(6)]
    try:
        for peer in peers:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        server.forget_highest()
        before = server.resident_bytes()
        for peer in peers:
            peer.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                peer.socket.send(encode_request(1, method, params) * count)
        with server.connect() as other:
            calm = 0
            executed = -1
            while calm < 20:
                # Each ping is at least one turn of every connection.
                assert other.call("ping") == b"pong"
                found = sum(value for name, value in other.call("info")[b"commands"].items() if name != b"ping")
                calm = calm + 1 if found == executed + 1 else 0
                executed = found
        grown = server.highest_resident_bytes() - before
        # 1 MiB of output, the output of one more turn, input that was read and not executed, and what up to 8 `top`s
        # in slices have gathered: 2 000 counters each, about 100 bytes for each.
        assert grown < 6 * 4 * MIB
    finally:
        for peer in peers:
            peer.socket.close()
