"""The decoder: the same messages and errors for any cuts of the input, and memory only for bytes that arrived."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from naught.wire.codec import encode, encode_request
from naught_server.decoder import _WIDE_SLICES, BadInput, Decoder, Map, peek_msgid
from support.conversation import byte_by_byte, cut, random_cuts

KIB = 1 << 10
MIB = 1 << 20

Fault = tuple[str, str, int | None]


def flat(value: Any) -> list[Any]:
    """A value as one flat list that can be compared: maps have no equality, and deep tuples exceed recursion."""
    found: list[Any] = []
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, Map):
            found.append("map")
            each = tuple(each.pairs)
        if isinstance(each, tuple):
            found.append(("array of", len(each)))
            rest.extend(each)
        else:
            found.append((type(each), each))
    return found


def outcome_of(pieces: Iterable[bytes]) -> tuple[list[Any], Fault | None]:
    """The result of a decoder: messages, then the error as (code, message, msgid)."""
    decoder = Decoder()
    messages: list[Any] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while decoder.unread:
                messages += decoder.messages()
    except BadInput as fault:
        return [flat(message) for message in messages], (fault.code, str(fault), fault.msgid)
    return [flat(message) for message in messages], None


def text(size: int) -> bytes:
    """A string of this many bytes, without its header."""
    return b"\xdb" + size.to_bytes(4, "big") + b"x" * size


def request(*params: bytes) -> bytes:
    """A request with msgid 7 and these encoded parameters."""
    return b"\x94\x00\x07\xa4incr" + bytes([0x90 + len(params)]) + b"".join(params)


def padded(size: int, *last: bytes) -> bytes:
    """A request of exactly this size, made long by strings of less than 64 KiB, with these parameters last."""
    head = b"\x94\x00\x07\xa4incr\xdc"
    room = size - len(head) - 2 - sum(map(len, last))
    strings = []
    while room:
        length = min(room - 5, 60_000)
        if 0 < room - 5 - length < 5:
            length -= 5
        strings.append(text(length))
        room -= length + 5
    data = head + (len(strings) + len(last)).to_bytes(2, "big") + b"".join(strings) + b"".join(last)
    assert len(data) == size
    return data


SMALL = encode_request(1, "incr", ["k"])
WIDE = encode_request(2, "apply", [["k"] * 40, 1])
NO_MESSAGE = "not a message of MessagePack-RPC"

# name: the bytes, how many messages come out, the fault.
CASES: dict[str, tuple[bytes, int, Fault | None]] = {
    "nothing": (b"", 0, None),
    "half a message": (SMALL[:7], 0, None),
    "one and a half": (SMALL + SMALL[:7], 1, None),
    "short and wide in turns": ((SMALL * 5 + WIDE) * 40, 240, None),
    "short ones over many slices": (SMALL * 3_000, 3_000, None),
    "short ones after a wide one": (WIDE + SMALL * 3_000, 3_001, None),
    "an array of 16": (encode(list(range(16))), 1, None),
    "an array of 17": (encode(list(range(17))), 1, None),
    "a map of 17": (encode({str(number): number for number in range(17)}), 1, None),
    "a map whose keys are maps and arrays": (b"\x82\x80\x01\x91\x80\x02", 1, None),
    "a map in a message of 8 KiB": (padded(8 * KIB, b"\x80"), 1, None),
    "a map in a message of 8 KiB and a byte": (padded(8 * KIB + 1, b"\x80"), 0, ("invalid", NO_MESSAGE, 7)),
    "a map in a message of 10 KiB": (SMALL + padded(10_000, b"\x81\x01\x02"), 1, ("invalid", NO_MESSAGE, 7)),
    "a string of 64 KiB": (request(text(64 * KIB)), 1, None),
    "a string of 64 KiB and a byte": (
        SMALL + request(text(64 * KIB + 1)) + SMALL,
        1,
        ("too_large", "a string has at most 65536 bytes", 7),
    ),
    "a string of 70 000 bytes": (request(text(70_000)), 0, ("too_large", "a string has at most 65536 bytes", 7)),
    "two long strings": (request(text(60_000), text(60_000)) * 3, 3, None),
    "a message of 1 MiB": (padded(MIB) + SMALL, 2, None),
    "a message of 1 MiB and a byte": (
        SMALL + padded(MIB + 1) + SMALL,
        1,
        ("too_large", "a message has at most 1048576 bytes", 7),
    ),
    "bad within 1 MiB": (padded(MIB - 2, b"\xc1") + SMALL, 0, ("invalid", NO_MESSAGE, 7)),
    "bad at the last byte of 1 MiB": (padded(MIB, b"\xc1"), 0, ("invalid", NO_MESSAGE, 7)),
    "bad beyond 1 MiB": (padded(MIB + 5, b"\xc1"), 0, ("too_large", "a message has at most 1048576 bytes", 7)),
    "bad at once": (b"\xc1" + SMALL, 0, ("invalid", NO_MESSAGE, None)),
    "bad after a good one": (SMALL + b"\x94\x00\xcd\x01\x00\xc1", 1, ("invalid", NO_MESSAGE, 256)),
    "bad after a wide one": (WIDE + SMALL + b"\x94\x00\xc1", 2, ("invalid", NO_MESSAGE, None)),
    "bad inside what is incomplete": (b"\x94\x00\x09\xdd\xff\xff\xff\xff\xc1", 0, ("invalid", NO_MESSAGE, 9)),
    "nesting of 1024": (b"\x91" * 1_024 + b"\x01", 1, None),
    "nesting of 1025": (b"\x91" * 1_025 + b"\x01", 0, ("invalid", NO_MESSAGE, None)),
    "nesting of 1025 in a request": (request(b"\x91" * 1_024), 0, ("invalid", NO_MESSAGE, 7)),
    "a timestamp of no known size": (b"\x94\x00\x05\xd4\xff\x00\x90", 0, ("invalid", NO_MESSAGE, 5)),
}


def cuts_of(data: bytes, source: random.Random) -> Iterable[list[bytes]]:
    yield [data]
    yield [data, b""]
    if len(data) <= 80_000:
        yield byte_by_byte(data)
    for size in (997, 8 * KIB, 8 * KIB + 1, 64 * KIB - 1):
        yield cut(data, range(0, len(data), size))
    limits = [8 * KIB, 64 * KIB, MIB]
    yield cut(data, [limit + offset for limit in limits for offset in range(-3, 12)])
    yield cut(data, [len(data) - back for back in range(1, 20)])
    for _ in range(10):
        yield random_cuts(data, source)


@pytest.mark.parametrize("name", CASES)
def test_however_it_is_cut(name: str) -> None:
    data, count, fault = CASES[name]
    expected = outcome_of([data])
    assert (len(expected[0]), expected[1]) == (count, fault)
    for pieces in cuts_of(data, random.Random(name)):
        assert outcome_of(pieces) == expected, [len(piece) for piece in pieces][:50]


def test_a_fault_is_told_again() -> None:
    decoder = Decoder()
    decoder.feed(SMALL + b"\xc1")
    assert len(decoder.messages()) == 1
    for _ in range(3):
        assert decoder.unread
        with pytest.raises(BadInput, match="not a message"):
            decoder.messages()


@pytest.mark.parametrize(
    ("head", "msgid"),
    [
        (b"\x94\x00\x07", 7),
        (b"\x94\x00\x7f\xa4", 127),
        (b"\x94\x00\xcc\xff", 255),
        (b"\x94\x00\xcd\x01\x00", 256),
        (b"\x94\x00\xce\xff\xff\xff\xff\x00", 2**32 - 1),
        (b"\x94\x00", None),
        (b"\x94\x00\xcd\x01", None),
        (b"\x94\x00\xcf\x00\x00\x00\x00\x00", None),
        (b"\x94\x00\xff", None),
        (b"\x94\x02\x07", None),
        (b"\x93\x00\x07", None),
        (b"", None),
    ],
)
def test_the_msgid_of_what_cannot_be_decoded(head: bytes, msgid: int | None) -> None:
    assert peek_msgid(head) == msgid


# ------------------------------------------------------------------------------------------------- lanes


def test_short_messages_never_leave_the_narrow_lane() -> None:
    decoder = Decoder()
    for piece in cut(SMALL * 4_000, range(0, len(SMALL) * 4_000, 3_001)):
        decoder.feed(piece)
        while decoder.unread:
            decoder.messages()
            assert decoder._scanner is None


def test_the_wide_lane_ends_after_some_slices_of_short_messages() -> None:
    decoder = Decoder()
    decoder.feed(WIDE)
    assert len(decoder.messages()) == 1
    assert decoder._scanner is not None
    for _ in range(_WIDE_SLICES + 2):
        decoder.feed(SMALL)
        assert len(decoder.messages()) == 1
    assert decoder._scanner is None


def test_idle_decoders_keep_no_unpacker() -> None:
    decoders = [Decoder() for _ in range(50)]
    for decoder in decoders:
        decoder.feed(SMALL)
        decoder.messages()
    assert len(Decoder._idle) <= 2


# ------------------------------------------------------------------------------------------------- memory

HOSTILE: dict[str, bytes] = {
    "an array of 2^32-1": b"\x94\x00\x01\xdd\xff\xff\xff\xff",
    "a map of 2^32-1": b"\x94\x00\x01\xdf\xff\xff\xff\xff",
    "a string of 4 GiB": b"\x94\x00\x01\xdb\xff\xff\xff\xff",
    "a binary of 4 GiB": b"\x94\x00\x01\xc6\xff\xff\xff\xff",
    "an extension of 4 GiB": b"\x94\x00\x01\xc9\xff\xff\xff\xff\x05",
    "nested arrays of 16": b"\xdc\x00\x10" * 1_023,
    "nested arrays of 4096": b"\xdc\x10\x00" * 1_023,
    "nested arrays of 8192": b"\xdc\x20\x00" * 1_023,
    "nested arrays of 2^32-1": b"\xdd\xff\xff\xff\xff" * 1_023,
    "nested maps of 8": b"\x88" * 1_023,
    "nested maps of 2^32-1": b"\xdf\xff\xff\xff\xff" * 1_023,
    "nested arrays of 16, many times": b"\xdc\x00\x10" * 800 + b"\xc0" * 5_000,
    "nesting 100 000 deep": b"\x91" * 100_000,
    "maps 100 000 deep": b"\x81" * 100_000,
    "a string just short of 64 KiB": b"\xdb\x00\x01\x00\x00" + b"x" * 65_535,
    "a message just short of 1 MiB": padded(MIB)[:-1],
    "empty arrays for most of 1 MiB": b"\xdd\xff\xff\xff\xff" + b"\x90" * (MIB - 6),
}


@pytest.mark.parametrize("piece_size", [100, 8 * KIB, 256_000])
@pytest.mark.parametrize("name", HOSTILE)
def test_pinned_memory(name: str, piece_size: int) -> None:
    """At no moment more than 2 MiB are kept, whatever lengths the input declares."""
    pieces = cut(HOSTILE[name], range(0, len(HOSTILE[name]), piece_size))
    Decoder._idle.clear()
    tracemalloc.start()
    try:
        decoder = Decoder()
        for piece in pieces:
            decoder.feed(piece)
            while decoder.unread and decoder._fault is None:
                assert not decoder.messages()
            assert decoder.pinned_bytes() <= MIB
        kept, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * MIB
    # Growing a buffer needs the old one for a moment.
    assert highest < 3 * MIB


def test_a_drip_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a peer sends byte by byte, each byte is scanned and copied a fixed number of times."""
    scanned = 0

    class Counting(msgpack.Unpacker):  # type: ignore[misc]
        def feed(self, data: bytes) -> None:
            nonlocal scanned
            scanned += len(data)
            super().feed(data)

    monkeypatch.setattr(msgpack, "Unpacker", Counting)
    monkeypatch.setattr(Decoder, "_idle", [])
    data = padded(100_000)
    decoder = Decoder()
    buffers = set()
    for piece in byte_by_byte(data):
        decoder.feed(piece)
        while decoder.unread:
            decoder.messages()
        buffers.add(id(decoder._long))
    assert scanned <= len(data) + 20
    assert len(buffers) == 1, "the unfinished message moved from one buffer to the next"

    scanned = 0
    for piece in byte_by_byte(SMALL * 500):
        decoder.feed(piece)
        while decoder.unread:
            decoder.messages()
    assert scanned <= len(SMALL) * 500 * 3
