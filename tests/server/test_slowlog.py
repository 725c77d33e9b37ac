"""The slow log: which turns it keeps, and what it says about them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from naught.wire.codec import encode, encode_notification, encode_request
from naught.wire.limits import SLOW_TURNS_MAX, VALUE_MAX
from naught_server import connection as connection_module
from naught_server.commands import REQUEST_ENTRIES
from naught_server.connection import Connection
from naught_server.engine import Engine
from naught_server.limits import TURN_ITEMS_MAX
from naught_server.slowlog import SLOW_NS_MIN, SlowLog, SlowTurn
from naught_server.turns import Turns
from support.conversation import Conversation, decoded, engine_of
from support.transport import FakeTransport, turns_taken

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def turn_of(took_ns: int, time_ms: int = 0) -> SlowTurn:
    return SlowTurn(took_ns, time_ms, "get", 1, 2, 3, None, None, None, None)


# ------------------------------------------------------------------------------------------------- what it keeps


def test_what_is_not_slow_is_not_kept() -> None:
    log = SlowLog()
    log.add(turn_of(SLOW_NS_MIN))
    assert (len(log), log.slowest(9), log.above_ns) == (0, [], SLOW_NS_MIN)
    log.add(turn_of(SLOW_NS_MIN + 1))
    assert log.slowest(9) == [turn_of(SLOW_NS_MIN + 1)]
    assert log.above_ns == SLOW_NS_MIN, "there is room for others that are as slow"


@pytest.mark.parametrize("seed", range(5))
def test_it_keeps_the_slowest(seed: int) -> None:
    """Against a list of all turns, which is sorted; `above_ns` says of each before it comes whether it is kept."""
    source = random.Random(seed)
    log = SlowLog()
    kept: list[SlowTurn] = []
    for number in range(4 * SLOW_TURNS_MAX):
        turn = turn_of(SLOW_NS_MIN + source.randrange(-50, 300), number)
        enters = turn.took_ns > log.above_ns
        log.add(turn)
        if turn.took_ns > SLOW_NS_MIN:
            # Of turns that took as long, the first come first. So a later one does not push an earlier one out.
            kept = sorted([*kept, turn], key=lambda each: (-each.took_ns, each.time_ms))[:SLOW_TURNS_MAX]
        assert log.slowest(SLOW_TURNS_MAX) == kept
        assert enters == (turn in kept)
    assert len(log) == SLOW_TURNS_MAX
    assert log.above_ns == kept[-1].took_ns
    assert log.slowest(3) == kept[:3]


def test_after_a_reset_it_begins_anew() -> None:
    log = SlowLog()
    for number in range(SLOW_TURNS_MAX):
        log.add(turn_of(SLOW_NS_MIN + 5, number))
    assert log.above_ns == SLOW_NS_MIN + 5
    assert log.reset() == SLOW_TURNS_MAX
    assert (len(log), log.slowest(9), log.above_ns) == (0, [], SLOW_NS_MIN)
    log.add(turn_of(SLOW_NS_MIN + 1))
    assert len(log) == 1
    assert log.reset() == 1
    assert log.reset() == 0


def test_what_it_keeps_are_no_objects() -> None:
    """An object made while memory grows would keep the arena that it lies in from going back to the system."""
    log = SlowLog()
    for number in range(2 * SLOW_TURNS_MAX):
        log.add(turn_of(SLOW_NS_MIN + 1_000 + number, number))
    kept = [getattr(log, name) for name in ("_added", "_count", "_numbers", "_texts", "above_ns")]
    assert sorted(type(each).__name__ for each in kept) == ["array", "bytearray", "int", "int", "int"]


def test_a_turn_takes_less_than_512_bytes_of_the_reply() -> None:
    largest = SlowTurn(
        took_ns=VALUE_MAX,
        time_ms=VALUE_MAX,
        method="slowlog_reset",
        entries=VALUE_MAX,
        received_bytes=VALUE_MAX,
        sent_bytes=VALUE_MAX,
        session=VALUE_MAX,
        name="\u20ac" * 42 + "xx",
        address="ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/64",
        traceparent=TRACE,
    )
    assert len((largest.name or "").encode()) == 128
    assert len(encode(largest.as_dict())) < 512


# ------------------------------------------------------------------------------------------------- what it says


def slow_turn(here: Conversation, *messages: bytes) -> SlowTurn:
    """What the log says about the first turn of these messages, if that was slow."""
    log = here.engine.stats.slow_log
    log.reset()
    here.protocol.receive(b"".join(messages), here.now_ms)
    here.protocol.note_slow_turn(SLOW_NS_MIN + 7, 1_234, 56, 78)
    (turn,) = log.slowest(2)
    return turn


def plain(method: str, count: int = 1) -> bytes:
    return encode_request(1, method, ["k"]) * count


KEYS = [b"%d" % number for number in range(100)]
TRACED = encode_notification("trace", [TRACE])


@pytest.mark.parametrize("careful", [False, True])
def test_all_that_the_adapter_has_measured(careful: bool) -> None:
    turn = slow_turn(Conversation(careful=careful), plain("incr"))
    assert (turn.took_ns, turn.time_ms, turn.received_bytes, turn.sent_bytes) == (SLOW_NS_MIN + 7, 1_234, 56, 78)
    assert (turn.method, turn.entries) == ("incr", REQUEST_ENTRIES if careful else 1)


@pytest.mark.parametrize(
    ("messages", "method", "entries"),
    [
        ((plain("incr", 5),), "incr", 5),
        ((plain("incr", 3), plain("decr", 9), plain("get")), "decr", 13),
        ((plain("get", 2), plain("incr")), "get", 3),
        ((encode_request(1, "apply", [KEYS, 1]), plain("incr", 20)), "apply", 127),
        ((encode_request(1, "ping", []), plain("incr", 9)), "ping", REQUEST_ENTRIES + 9),
        ((encode_request(1, "ping", []), plain("incr", 11)), "incr", REQUEST_ENTRIES + 11),
        ((encode_request(1, "ping", []), encode_request(2, "take", [KEYS[:50]])), "take", 2 * REQUEST_ENTRIES + 150),
        ((encode_request(2, "take", [KEYS[:50]]), encode_request(1, "hello", [])), "take", 2 * REQUEST_ENTRIES + 170),
        ((encode_notification("take", [KEYS]),), "take", REQUEST_ENTRIES + 300),
        ((encode_request(1, "get_many", [KEYS, 1]),), "get_many", REQUEST_ENTRIES + 53),
        ((encode_request(1, "nothing", []),), None, REQUEST_ENTRIES),
        ((encode_notification("nothing", []),), None, REQUEST_ENTRIES),
        ((b"\x94\x00",), None, 0),
    ],
)
def test_the_request_that_was_the_most_work(messages: tuple[bytes, ...], method: str | None, entries: int) -> None:
    turn = slow_turn(Conversation(), *messages)
    assert (turn.method, turn.entries) == (method, entries)


def test_each_turn_of_a_long_batch_is_its_own() -> None:
    here = Conversation()
    keys = [b"%d" % number for number in range(2_500)]
    turns = [slow_turn(here, encode_request(1, "apply", [keys, 1, 60_000]), plain("get"))]
    while here.protocol.wants_turn:
        turns.append(slow_turn(here))
    assert {turn.method for turn in turns[:-1] if turn.entries} == {"apply"}
    assert len(turns) > 2
    assert sum(turn.entries for turn in turns) == REQUEST_ENTRIES + 4 * 2_500 + 1 + here_reply_entries(2_500)


def here_reply_entries(items: int) -> int:
    """A reply costs an entry for each 256 bytes."""
    return (items + 8) >> 8


def test_a_turn_that_does_nothing_says_nothing() -> None:
    """Not what the turn before it has done."""
    here = Conversation()
    assert slow_turn(here, TRACED, plain("incr", 11)).method == "incr"
    assert slow_turn(here) == SlowTurn(SLOW_NS_MIN + 7, 1_234, None, 0, 56, 78, None, None, None, None)
    slow_turn(here, b"\xc1")
    assert here.closing
    turn = slow_turn(here)
    assert (turn.method, turn.entries, turn.traceparent) == (None, 0, None)


def test_which_client_it_was() -> None:
    engine = engine_of()
    other = Conversation(engine, peer="192.0.2.1")
    other.send(encode_request(1, "hello", [{"session": True}]))
    here = Conversation(engine, peer="192.0.2.7")
    turn = slow_turn(here, plain("incr"))
    assert (turn.session, turn.name, turn.address) == (None, None, "192.0.2.7")
    turn = slow_turn(here, encode_request(1, "hello", [{"session": True}]))
    assert (turn.session, turn.name, turn.address) == (2, None, "192.0.2.7")
    assert slow_turn(Conversation(engine), plain("incr")).address is None


class NamedSession:
    """As far as the slow log looks at it, a session whose client has given its name."""

    id = b"session number 1"
    number = 7
    name = "web-1:4711"


@pytest.mark.patches
def test_the_name_that_the_client_gives() -> None:
    here = Conversation()
    here.protocol.session = NamedSession()  # type: ignore[assignment]
    here.protocol.note_slow_turn(SLOW_NS_MIN + 1, 0, 0, 0)
    (turn,) = here.engine.stats.slow_log.slowest(1)
    assert (turn.session, turn.name) == (7, "web-1:4711")


# ------------------------------------------------------------------------------------------------- traces


def test_requests_belong_to_the_last_trace_before_them() -> None:
    here = Conversation()
    assert slow_turn(here, plain("incr", 20), TRACED).traceparent is None
    assert slow_turn(here, plain("incr")).traceparent == TRACE
    assert slow_turn(here, encode_request(1, "take", [KEYS])).traceparent == TRACE
    other = encode_notification("trace", [OTHER_TRACE])
    assert slow_turn(here, plain("incr", 20), other, plain("incr", 2)).traceparent == TRACE
    assert slow_turn(here, plain("incr", 20), TRACED, plain("incr", 50)).traceparent == TRACE
    assert slow_turn(here, encode_notification("trace", [None]), plain("incr", 50)).traceparent is None


def test_work_in_slices_belongs_to_the_trace_of_its_request() -> None:
    here = Conversation()
    here.send(encode_request(1, "apply", [KEYS, 1]))
    turn = slow_turn(here, TRACED, encode_request(1, "top", [3]), encode_notification("trace", [None]))
    assert (turn.method, turn.traceparent) == ("top", TRACE)
    assert here.protocol.wants_turn
    turn = slow_turn(here, plain("incr"))
    assert (turn.method, turn.traceparent) == ("top", TRACE)


def test_the_next_connection_of_a_session_has_no_trace() -> None:
    here = Conversation()
    here.send(encode_request(1, "hello", [{"session": True}]), TRACED)
    here.reconnect()
    resumption = {"session": b"session number 1", "received": 0}
    turn = slow_turn(here, encode_request(1, "hello", [resumption]), encode_request(2, "take", [KEYS]))
    assert (turn.session, turn.method, turn.traceparent) == (1, "take", None)


# ------------------------------------------------------------------------------------------------- measured turns


class Clock:
    """Each reading is so much later than the one before."""

    def __init__(self, step_ns: int) -> None:
        self.now_ns = 5_000_000_000
        self.step_ns = step_ns

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock(SLOW_NS_MIN + 500)
    monkeypatch.setattr(connection_module, "_clock_ns", clock)
    monkeypatch.setattr(connection_module, "_wall_clock_ns", lambda: 1_796_000_000_123_456_789)
    return clock


async def connected(engine: Engine) -> Connection:
    connection = Connection(engine, Turns(asyncio.get_running_loop().call_soon), lambda gone: None, peer="192.0.2.7")
    connection.connection_made(FakeTransport())
    return connection


def told(engine: Engine) -> list[Any]:
    return [turn.as_dict() for turn in engine.stats.slow_log.slowest(SLOW_TURNS_MAX)]


async def test_a_slow_turn_is_told_with_its_bytes(clock: Clock) -> None:
    engine = engine_of()
    connection = await connected(engine)
    connection.data_received(plain("incr", 200))
    await turns_taken(connection)
    assert told(engine) == [
        {
            "duration_us": 1_000,
            "time_ms": 1_796_000_000_123,
            "method": "incr",
            "entries": 200,
            "received_bytes": 200 * len(plain("incr")),
            "sent_bytes": 127 * 5 + 73 * 6,
            "session": None,
            "name": None,
            "address": "192.0.2.7",
            "traceparent": None,
        }
    ]
    connection.connection_lost(None)


async def test_a_turn_that_is_not_slow_is_not_told(clock: Clock) -> None:
    engine = engine_of()
    connection = await connected(engine)
    clock.step_ns = SLOW_NS_MIN
    connection.data_received(plain("incr", 2 * TURN_ITEMS_MAX + 100))
    await turns_taken(connection)
    assert engine.stats.turns.count == 3
    assert told(engine) == []
    connection.connection_lost(None)


async def test_a_turn_later_than_its_bytes(clock: Clock) -> None:
    """Bytes that arrive while a turn is due are those of that turn."""
    engine = engine_of()
    connection = await connected(engine)
    connection.data_received(plain("incr", 1))
    await turns_taken(connection)
    engine.stats.slow_log.reset()
    connection.data_received(plain("incr", TURN_ITEMS_MAX + 150))
    connection.data_received(plain("decr", 50))
    await turns_taken(connection)
    assert [(turn["method"], turn["entries"], turn["received_bytes"]) for turn in told(engine)] == [
        ("incr", TURN_ITEMS_MAX, (TURN_ITEMS_MAX + 150) * len(plain("incr"))),
        ("incr", 200, 50 * len(plain("decr"))),
    ]
    connection.connection_lost(None)


async def test_asked_over_the_wire(clock: Clock) -> None:
    engine = engine_of()
    connection = await connected(engine)
    for count in (100, 150, 200):
        clock.step_ns += 1_000_000
        connection.data_received(plain("incr", count))
        await turns_taken(connection)
    here = Conversation(engine)
    clock.step_ns = 0
    expected = [{name.encode(): value for name, value in turn.items()} for turn in told(engine)]
    assert [turn[b"entries"] for turn in expected] == [200, 150, 100]
    for turn in expected:
        turn |= {b"method": b"incr", b"address": b"192.0.2.7"}
    assert ask(here, "slowlog") == expected
    assert ask(here, "slowlog", 2) == expected[:2]
    assert ask(here, "slowlog_reset") == 3
    assert ask(here, "slowlog") == []
    connection.connection_lost(None)


def ask(here: Conversation, method: str, *params: Any) -> Any:
    """The result of a request."""
    ((_, _, error, result),) = decoded(here.send(encode_request(1, method, params)))
    assert error is None
    return result
