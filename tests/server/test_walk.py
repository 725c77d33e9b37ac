"""Where a message ends: for every first byte, of every size, against msgpack, and held to the grammar of requests."""

from __future__ import annotations

import itertools
from typing import Final

import msgpack
import pytest

from naught.wire.limits import BATCH_ITEMS_MAX, CURSOR_BYTES_MAX, MESSAGE_BYTES_MAX, PARAMS_MAX
from naught_server.walk import (
    BAD,
    ITEM_PARTS_MAX,
    LARGE,
    LARGE_ELEMENTS,
    METHOD_BYTES_MAX,
    SMALL_BYTES,
    SMALL_ELEMENTS,
    TOO_LARGE,
    UNFINISHED,
    LargeWalk,
    walk_small,
)

BEHIND: Final = b"\xc1\xc1"
"""What no message has: a walk that goes too far finds it."""


def sized(kind: int, width: int, size: int) -> bytes:
    return bytes([kind]) + size.to_bytes(width, "big")


def whole_of(kind: int) -> list[bytes]:
    """Complete messages that begin with this byte, of the sizes that it may declare, to some elements or bytes."""
    sizes = (0, 1, 2, 3, 15)
    if kind == 0xC1:
        return []
    if kind < 0x80 or kind >= 0xE0 or kind in (0xC0, 0xC2, 0xC3):
        return [bytes([kind])]
    if kind < 0x90:
        return [bytes([kind]) + b"\x01\xc0" * (kind - 0x80)]
    if kind < 0xA0:
        return [bytes([kind]) + b"\x01" * (kind - 0x90)]
    if kind < 0xC0:
        return [bytes([kind]) + b"\xc1" * (kind - 0xA0)]
    if kind in (0xCA, 0xCB):
        return [bytes([kind]) + b"\xc1" * (4 << kind - 0xCA)]
    if 0xCC <= kind < 0xD4:
        return [bytes([kind]) + b"\xc1" * (1 << (kind - 0xCC) % 4)]
    if 0xD4 <= kind < 0xD9:
        return [bytes([kind]) + b"\x05" + b"\xc1" * (1 << kind - 0xD4)]
    if kind >= 0xDC:
        width, of = (2, 4)[kind & 1], 1 if kind < 0xDE else 2
        return [sized(kind, width, size) + b"\x01" * size * of for size in sizes]
    if 0xC7 <= kind < 0xCA:
        width = 1 << kind - 0xC7
        return [sized(kind, width, size) + b"\x05" + b"\xc1" * size for size in sizes]
    width = 1 << (kind - 0xC4 if kind < 0xC7 else kind - 0xD9)
    return [sized(kind, width, size) + b"\xc1" * size for size in sizes]


def unpacked(data: bytes) -> int:
    """The end of the first message, as msgpack has it."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(data)
    unpacker.skip()
    return int(unpacker.tell())


def test_a_small_message_ends_where_msgpack_says_whatever_it_begins_with() -> None:
    for message in itertools.chain.from_iterable(map(whole_of, range(256))):
        assert unpacked(message + b"\x01") == len(message)
        for before, inside in ((b"", False), (b"\x01\xc1", False), (b"\x93\x01", True)):
            start = 0 if inside else len(before)
            data = before + message + (b"\x01" if inside else b"")
            assert walk_small(data + BEHIND, start) == walk_small(data, start) == len(data)
            for end in range(start, len(data)):
                assert walk_small(data[:end], start) == UNFINISHED
        assert walk_small(b"\x92" + message + BEHIND, 0) == BAD, "the byte behind it is looked at, and none in it"


def test_how_many_elements_a_small_message_has() -> None:
    most = SMALL_ELEMENTS - 1  # beside the array they are in
    for head, count in ((b"\xdc\x00", most), (b"\xdd\x00\x00\x00", most), (b"\xde\x00", most // 2)):
        per = 2 if head[0] >= 0xDE else 1
        assert walk_small(head + bytes([count]) + b"\x01" * count * per, 0) > 0
        assert walk_small(head + bytes([count + 1]) + b"\x01" * (count + 1) * per, 0) == LARGE
    assert walk_small(b"\x91" * most + b"\x01", 0) == SMALL_ELEMENTS
    assert walk_small(b"\x91" * SMALL_ELEMENTS + b"\x01", 0) == LARGE


@pytest.mark.parametrize("head", [b"\xdc\x00\x41", b"\xdd\x00\x00\x00\x41", b"\xde\x00\x21", b"\xdf\x80\x00\x00\x00"])
def test_a_large_array_is_known_by_its_header(head: bytes) -> None:
    assert walk_small(head, 0) == LARGE
    assert walk_small(head[:-1], 0) == UNFINISHED


@pytest.mark.parametrize("start", [0, 5])
def test_how_many_bytes_a_small_message_has(start: int) -> None:
    for extra, answer in ((0, start + SMALL_BYTES), (1, LARGE)):
        size = SMALL_BYTES - 3 + extra
        head = b"\xc1" * start + sized(0xC5, 2, size)
        assert walk_small(head + bytes(size), start) == answer
        assert walk_small(head, start) == (UNFINISHED if answer > 0 else LARGE)
    for header in (sized(0xC6, 4, 2**32 - 1), sized(0xC9, 4, 2**31)):
        assert walk_small(header, 0) == LARGE


# ---------------------------------------------------------------------------------------- large messages

HEAD: Final = b"\x94\x00\x07\xa5apply"
KEYS: Final = sized(0xDC, 2, 3)


def answer_of(data: bytes) -> int:
    """What the walk says, the same in one piece and byte by byte."""
    walk, slow = LargeWalk(data), LargeWalk(b"")
    answer = walk.go_on()
    for at in range(len(data)):
        slow.feed(data[at : at + 1])
        slow.go_on()
    assert (slow.go_on(), slow.fault) == (answer, walk.fault)
    assert slow.elements == walk.elements or answer < 0
    walk.feed(b"\x01")
    assert answer == UNFINISHED or walk.go_on() == answer, "it stays so"
    return answer


PLACES: Final = {
    "message": (b"", b""),
    "type": (b"\x94", b"\x07\xa5apply\x90"),
    "msgid": (b"\x94\x00", b"\xa5apply\x90"),
    "method": (b"\x94\x00\x07", b"\x90"),
    "parameters": (HEAD, b""),
    "parameter": (HEAD + b"\x92", b"\x01"),
    "last parameter": (HEAD + b"\x91", b""),
    "item": (HEAD + b"\x92" + KEYS + b"\x01", b"\x01\x01"),
    "part": (HEAD + b"\x92" + KEYS + b"\x93\x01", b"\x01\x01\x01\x01"),
    "method of a notification": (b"\x93\x02", b"\x90"),
}
"""What is around an element of a large message, by its place."""

INTEGERS: Final = {*range(0x80), *range(0xCC, 0xD4), *range(0xE0, 0x100)}
STRINGS: Final = {*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB}
ARRAYS: Final = {*range(0x90, 0xA0), 0xDC, 0xDD}
ALLOWED: Final[dict[str, set[int]]] = {
    "message": ARRAYS,
    "type": INTEGERS,
    "msgid": INTEGERS,
    "method": STRINGS,
    "parameters": ARRAYS,
    "parameter": INTEGERS | STRINGS | ARRAYS | {0xC0, 0xC2, 0xC3},
    "last parameter": INTEGERS | STRINGS | ARRAYS | {0xC0, 0xC2, 0xC3},
    "item": INTEGERS | STRINGS | ARRAYS,
    "part": INTEGERS | STRINGS,
    "method of a notification": STRINGS,
}
ARRAYS_MAX: Final = {
    "parameters": PARAMS_MAX,
    "parameter": BATCH_ITEMS_MAX,
    "last parameter": BATCH_ITEMS_MAX,
    "item": ITEM_PARTS_MAX,
}
"""How many elements an array there may have."""


@pytest.mark.parametrize("place", PLACES)
def test_every_first_byte_at_every_place_of_a_large_message(place: str) -> None:
    before, after = PLACES[place]
    for kind in range(256):
        if kind not in ALLOWED[place]:
            assert answer_of(before + bytes([kind]) + bytes(8)) == BAD, "as soon as its size is known"
            continue
        for element in whole_of(kind):
            count = len(msgpack.unpackb(element)) if kind in ARRAYS else 0
            if place == "message":
                data = whole_message(kind, count)
                assert answer_of(data) == (len(data) if count in (3, 4) else BAD)
                continue
            if count > ARRAYS_MAX.get(place, 0):
                assert answer_of(before + element + after) == TOO_LARGE
                continue
            data = before + element + after
            assert answer_of(data) == len(data)
            for end in range(len(before), len(before) + len(element)):
                assert LargeWalk(data[:end]).go_on() == UNFINISHED


def whole_message(kind: int, count: int) -> bytes:
    """What begins with this byte: a message if it declares 3 or 4 fields."""
    head = bytes([kind]) if kind < 0xA0 else sized(kind, (2, 4)[kind & 1], count)
    return head + (b"\x00\x07" if count == 4 else b"\x02") + b"\xa5apply\x90"


@pytest.mark.parametrize(
    ("before", "most"),
    [(b"\x94\x00\x07", METHOD_BYTES_MAX), (HEAD + b"\x92", CURSOR_BYTES_MAX), (HEAD + b"\x92\x93", CURSOR_BYTES_MAX)],
)
def test_a_long_string_is_known_by_its_header(before: bytes, most: int) -> None:
    for kind, width in ((0xC5, 2), (0xC6, 4), (0xDA, 2), (0xDB, 4)):
        assert answer_of(before + sized(kind, width, most)) == UNFINISHED
        assert answer_of(before + sized(kind, width, most + 1)) == TOO_LARGE
        assert answer_of(before + sized(kind, width, most + 1)[:-1]) == UNFINISHED


def test_a_long_array_is_known_by_its_header() -> None:
    for kind, width in ((0xDC, 2), (0xDD, 4)):
        assert answer_of(HEAD + b"\x92" + sized(kind, width, BATCH_ITEMS_MAX)) == UNFINISHED
        assert answer_of(HEAD + b"\x92" + sized(kind, width, BATCH_ITEMS_MAX + 1)) == TOO_LARGE


def test_how_many_elements_a_large_message_has() -> None:
    """Counted with the arrays: the message, its 4 fields, and what is in the parameters."""
    item = b"\x93\x01\x01\x01"
    full = sized(0xDC, 2, BATCH_ITEMS_MAX) + item * BATCH_ITEMS_MAX
    room = LARGE_ELEMENTS - 5 - 1 - 4 * BATCH_ITEMS_MAX - 1  # beside a second array
    for extra, answer in ((0, None), (1, TOO_LARGE)):
        data = HEAD + b"\x92" + full + sized(0xDC, 2, room + extra) + b"\x01" * (room + extra)
        walk = LargeWalk(data)
        assert walk.go_on() == (answer or len(data))
        assert walk.elements == LARGE_ELEMENTS + extra or answer
        assert walk.fault == (f"a message has at most {LARGE_ELEMENTS} elements" if answer else "")


@pytest.mark.parametrize("extra", [0, 1])
def test_how_many_bytes_a_large_message_has(extra: int) -> None:
    """The limit may be passed in the last string, or before a further element."""
    key = sized(0xC5, 2, CURSOR_BYTES_MAX) + bytes(CURSOR_BYTES_MAX)
    begin = HEAD + b"\x92" + sized(0xDC, 2, BATCH_ITEMS_MAX)
    keys = (MESSAGE_BYTES_MAX - len(begin)) // len(key)
    left = MESSAGE_BYTES_MAX + extra - len(begin) - keys * len(key)
    last = sized(0xC5, 2, left - 3) + bytes(left - 3)
    data = begin + key * keys + last
    assert len(data) == MESSAGE_BYTES_MAX + extra
    assert LargeWalk(data).go_on() == UNFINISHED
    walk = LargeWalk(data + b"\x01")
    assert walk.go_on() == (TOO_LARGE if extra else UNFINISHED)
    whole = HEAD + b"\x91" + sized(0xDC, 2, keys + 1) + key * keys
    left = MESSAGE_BYTES_MAX + extra - len(whole)
    whole += sized(0xC5, 2, left - 3) + bytes(left - 3)
    assert LargeWalk(whole).go_on() == (TOO_LARGE if extra else MESSAGE_BYTES_MAX)


def test_a_walk_says_why() -> None:
    walk = LargeWalk(HEAD + b"\x91\x80")
    assert walk.go_on() == BAD
    assert walk.fault == (
        "a message of more than 8192 bytes or 64 elements is a request of integers, strings and arrays of them"
    )
    for data, fault in (
        (HEAD + b"\x96", "a request has at most 5 parameters"),
        (HEAD + b"\x91" + sized(0xDC, 2, 4_097), "an array has at most 4096 items"),
        (HEAD + b"\x91\x91\x94", "an item has at most 3 parts"),
        (b"\x94\x00\x07" + sized(0xD9, 1, 65), "a method has at most 64 bytes"),
        (HEAD + b"\x91" + sized(0xDA, 2, 517), "a string has at most 516 bytes"),
    ):
        walk = LargeWalk(data)
        assert walk.go_on() == TOO_LARGE
        assert walk.fault == fault
