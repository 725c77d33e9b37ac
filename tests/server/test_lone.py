"""A lone request is answered, and changes and counts, as in a turn; and what is pending never is passed over."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from naught.wire.codec import encode, encode_notification, encode_request
from naught.wire.limits import UNACKNOWLEDGED_MAX, VALUE_MAX
from naught_server import lone
from naught_server.lone import LONE_BYTES_MAX
from naught_server.protocol import ServerProtocol
from naught_server.session import Session
from simulation.faults import Fault
from support.beside import Beside
from support.conversation import decoded

KEY = b"some key"
OPEN = encode_request(1, "hello", [{"session": True}])
NARROW_MAX = 1 << 14


def text(key: str) -> bytes:
    """An increment of a key that is sent as a string."""
    return encode_request(7, "incr", (key,))


def test_the_requests_here_are_taken() -> None:
    beside = Beside()
    for method in ("incr", "incr", "decr", "decr", "decr"):
        beside.send(encode_request(7, method, (KEY,)), encode_request(7, method, ("text",)), text("t" * 40))
    assert beside.short_ways == 15


@pytest.mark.parametrize("msgid", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 1 << 24, 2**32 - 1])
@pytest.mark.parametrize("key", [b"k", b"k" * 31, b"k" * 32, "k", "k" * 31, "k" * 32, "k" * 49, "k" * 300])
def test_every_width(msgid: int, key: str | bytes) -> None:
    beside = Beside()
    for method in ("incr", "incr", "decr", "decr", "decr", "incr"):
        assert len(decoded(beside.send(encode_request(msgid, method, (key,))))) == 1


@pytest.mark.parametrize("value", [0x7F, 0xFF, NARROW_MAX, 0xFFFF, 2**32 - 1, 2**62, VALUE_MAX])
def test_every_value(value: int) -> None:
    beside = Beside()
    beside.send(encode_request(7, "incr", (KEY, value - 1)))
    for method in ("incr", "incr", "decr", "decr"):
        beside.send(encode_request(7, method, (KEY,)))


def request(msgid: bytes, key: bytes, method: bytes = b"\xa4incr") -> bytes:
    """A request of these parts."""
    return b"\x94\x00" + msgid + method + b"\x91" + key


# Encodings that could be shorter, and what is no such request.
STRANGE = {
    "a small id in two bytes": request(b"\xcc\x05", b"\xa1k"),
    "a small id in three": request(b"\xcd\x00\x05", b"\xa1k"),
    "a small id in five": request(b"\xce\x00\x00\x00\x05", b"\xa1k"),
    "a middling id in five": request(b"\xce\x00\x00\xff\xff", b"\xa1k"),
    "an id in nine": request(b"\xcf" + struct.pack(">Q", 70_000), b"\xa1k"),
    "an id too large": request(b"\xcf" + struct.pack(">Q", 2**40), b"\xa1k"),
    "an id below 0": request(b"\xff", b"\xa1k"),
    "an id that is true": request(b"\xc3", b"\xa1k"),
    "nil for an id": request(b"\xc0", b"\xa1k"),
    "a short key in two": request(b"\x05", b"\xd9\x01k"),
    "a short key in three": request(b"\x05", b"\xda\x00\x01k"),
    "a short binary in three": request(b"\x05", b"\xc5\x00\x01k"),
    "an empty key": request(b"\x05", b"\xa0"),
    "an empty key in two": request(b"\x05", b"\xd9\x00"),
    "an empty binary": request(b"\x05", b"\xc4\x00"),
    "a number for a key": request(b"\x05", b"\x07"),
    "nil for a key": request(b"\x05", b"\xc0"),
    "an array for a key": request(b"\x05", b"\x91\xa1k"),
    "a method that is a binary": request(b"\x05", b"\xa1k", b"\xc4\x04incr"),
    "another method": request(b"\x05", b"\xa1k", b"\xa4ping"),
    "an array in three bytes": b"\xdc\x00\x04" + request(b"\x05", b"\xa1k")[1:],
    "a reply": b"\x94\x01" + request(b"\x05", b"\xa1k")[2:],
    "two requests": request(b"\x05", b"\xa1k") + request(b"\x06", b"\xa1k"),
    "one and a byte": request(b"\x05", b"\xa1k") + b"\x94",
    "an amount": encode_request(5, "incr", (b"k", 2)),
    "strict": encode_request(5, "decr", (b"k", 1, True)),
    "a notification": encode_notification("incr", (b"k",)),
    "not msgpack": b"\xc1",
    "nil": encode(None),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_what_is_no_such_request(strange: str) -> None:
    beside = Beside()
    beside.send(request(b"\x04", b"\xa1k"), STRANGE[strange], request(b"\x05", b"\xa1k"))


@pytest.mark.parametrize("key", [b"\xa8some key", b"\xc4\x08some key", b"\xd9\x28" + b"k" * 40])
@pytest.mark.parametrize("msgid", [b"\x05", b"\xcc\xfe", b"\xcd\x01\x00", b"\xce\x00\x01\x00\x00"])
def test_however_it_is_cut_or_continued(msgid: bytes, key: bytes) -> None:
    data = request(msgid, key)
    for end in range(1, len(data)):
        beside = Beside()
        beside.send(data[:end], data[end:], data)
        beside.send(data[:end], data, data[end:])


POLICIES: list[dict[str, Any]] = [{}, {"eviction": "lazy"}, {"max_counters": 2}, {"shards": 1}]


def at_random(seed: int) -> None:
    """Some of everything that is to be told apart."""
    source = random.Random(seed)
    beside = Beside(**POLICIES[seed % len(POLICIES)])
    if source.random() < 0.5:
        beside.send(OPEN)
    waits = source.random() < 0.3
    beside.send(encode_request(7, "incr", (b"key 0", VALUE_MAX - 2)))
    for _ in range(80):
        key = b"key %d" % source.randrange(4)
        draw = source.random()
        if waits and draw < 0.1:
            beside.send(encode_request(7, "incr", (key, 1, 50)))
            beside.send(encode_request(source.randrange(1 << 20), "wait_zero", (key, 50)))
            beside.advance(60)
        else:
            data = encode_request(source.randrange(100_000), "incr" if draw < 0.55 else "decr", (key,))
            if draw < 0.2:  # as the key of another, of which the beginning is there
                beside.send(encode_request(7, "incr", (data,))[: -len(data)])
            beside.send(data)
    beside.check()


@pytest.mark.parametrize("seed", range(40))
def test_at_random(seed: int) -> None:
    at_random(seed)


FAULTS = [
    Fault("it only deletes where there is more to do", lone, "serve", "not cache.eviction_is_delete", "False"),
    Fault("it leaves a zero", lone, "_answer", "if value > 0:", "if value >= 0:"),
    Fault("it does not look for room", lone, "serve", "max_counters is not None", "max_counters == 0"),
    Fault("it ignores overflow", lone, "_answer", "value > VALUE_MAX", "False"),
    Fault("its reply is not kept", Session, "reply_alone", "self._keep(reply)", "pass"),
    Fault("it is not counted", Session, "reply_alone", "self.accepted += 1", "pass"),
    Fault("it comes in the middle of another", ServerProtocol, "_note_pending", "self._decoder.between and", ""),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.put_in(monkeypatch)
    for seed in range(100):
        try:
            at_random(seed)
        except Exception:
            return
    pytest.fail("nobody noticed")


def test_somebody_waits() -> None:
    beside = Beside()
    beside.send(OPEN, encode_request(7, "incr", (KEY,)))
    beside.send(encode_request(8, "wait_zero", (KEY, 90_000)), encode_request(9, "acquire", ([(KEY, 1, 1)], 90_000)))
    replies = decoded(beside.send(encode_request(10, "decr", (KEY,))))
    assert sorted(msgid for _, msgid, _, _ in replies) == [8, 9, 10]


def test_what_another_connection_woke_is_sent_first() -> None:
    beside = Beside()
    beside.send(OPEN, encode_request(7, "incr", (KEY,)), encode_request(8, "wait_zero", (KEY, 90_000)))
    for each in (beside.quick, beside.plain):
        other = ServerProtocol(each.engine, lambda: None)
        other.receive(encode_request(1, "decr", (KEY,)), each.now_ms)
        assert each.protocol.session.outbox
    replies = decoded(beside.send(encode_request(9, "incr", (b"other",))))
    assert [msgid for _, msgid, _, _ in replies] == [8, 9]


def test_a_window_that_is_full() -> None:
    beside = Beside()
    beside.send(OPEN)
    for number in range(UNACKNOWLEDGED_MAX + 2):
        replies = beside.send(encode_request(number, "incr", (KEY,)))
    assert decoded(replies)[0][2][0] == b"busy"
    beside.send(encode_notification("ack", (UNACKNOWLEDGED_MAX,)), encode_request(7, "incr", (KEY,)))


def test_a_server_that_stops() -> None:
    beside = Beside()
    for each in (beside.quick, beside.plain):
        each.protocol.refuse()
    replies = beside.send(encode_request(7, "incr", (KEY,)))
    assert decoded(replies)[0][2][0] == b"shutting_down"


def test_a_connection_that_is_over() -> None:
    beside = Beside()
    for each in (beside.quick, beside.plain):
        each.protocol.close(each.now_ms)
        assert each.protocol.receive(encode_request(7, "incr", (KEY,)), each.now_ms) == b""


def test_a_shard_that_is_held() -> None:
    beside = Beside()
    for each in (beside.quick, beside.plain):
        locks = each.engine.store.caches["default"].locks
        for shard in range(256):
            assert locks.acquire(shard, beside)
    assert beside.send(encode_request(7, "incr", (KEY,))) == b""
    assert beside.short_ways == 0


def test_what_was_fed_for_a_later_turn_comes_first() -> None:
    beside = Beside()
    for each in (beside.quick, beside.plain):
        each.protocol.feed(encode_request(7, "incr", (KEY,)))
    assert [msgid for _, msgid, _, _ in decoded(beside.send(encode_request(8, "incr", (KEY,))))] == [7, 8]


def test_a_chunk_that_is_long_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Beside()
    data = text("k" * 54)
    assert len(data) > LONE_BYTES_MAX
    monkeypatch.setattr(lone, "_answer", None)
    beside.send(data)
