"""The input: the same messages and errors for any cuts of it, at a bounded cost, and memory only for what arrived."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest

from naught.wire.codec import encode, encode_request
from naught.wire.limits import BATCH_ITEMS_MAX, CURSOR_BYTES_MAX
from naught_server import decoder, walk
from naught_server.bad_input import BadInput
from naught_server.decoder import Input, Map, parts_of, peek_method, peek_msgid, without_first
from naught_server.walk import METHOD_BYTES_MAX, SMALL_BYTES, SMALL_ELEMENTS
from support.conversation import byte_by_byte, cut, random_cuts
from support.each import for_each

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
    """The result of an input: messages, then the error as (code, message, msgid)."""
    source = Input()
    messages: list[Any] = []
    try:
        for piece in pieces:
            source.feed(piece)
            while (message := source.next_message()) is not None:
                messages.append(flat(message))
    except BadInput as fault:
        return messages, (fault.code, str(fault), fault.msgid)
    return messages, None


def request(*params: bytes) -> bytes:
    """A request with msgid 7 and these encoded parameters."""
    return b"\x94\x00\x07\xa5apply" + bytes([0x90 + len(params)]) + b"".join(params)


def padded(size: int, last: bytes = b"\x01") -> bytes:
    """A request of exactly this size: an array of keys, and one more parameter."""
    head, tail = b"\x94\x00\x07\xa5apply\x92\xdc", last
    room = size - len(head) - 2 - len(tail)
    keys = []
    while room:
        length = min(room - 3, 500)
        if 0 < room - 3 - length < 4:
            length -= 4
        keys.append(b"\xda" + length.to_bytes(2, "big") + b"x" * length)
        room -= length + 3
    data = head + len(keys).to_bytes(2, "big") + b"".join(keys) + tail
    assert len(data) == size
    return data


SMALL = encode_request(1, "incr", ["k"])
WIDE = encode_request(2, "apply", [["k"] * 400, 1])
NO_MESSAGE = "not a message of MessagePack-RPC"
NO_REQUEST = "a message of more than 8192 bytes or 64 elements is a request of integers, strings and arrays of them"
KEYS = b"\xdc\x10\x00" + b"\xa1k" * 100  # the beginning of an array of 4 096 keys

# name: the bytes, how many messages come out, the fault.
CASES: dict[str, tuple[bytes, int, Fault | None]] = {
    "nothing": (b"", 0, None),
    "half a message": (SMALL[:7], 0, None),
    "one and a half": (SMALL + SMALL[:7], 1, None),
    "nil is a message": (b"\xc0" + SMALL, 2, None),
    "small and large in turns": ((SMALL * 5 + WIDE) * 40, 240, None),
    "many small ones": (SMALL * 3_000, 3_000, None),
    "small ones behind a large one": (WIDE + SMALL * 3_000, 3_001, None),
    "64 elements of any kind": (encode([1.5, None, {"a": {}}] + [b""] * 58), 1, None),
    "65 elements of any kind": (encode([1.5, None, {"a": {}}] + [b""] * 59), 0, ("invalid", NO_REQUEST, None)),
    "a map whose keys are maps and arrays": (b"\x82\x80\x01\x91\x80\x02", 1, None),
    "a string of 8 KiB less its header": (b"\xda\x1f\xfd" + b"x" * (SMALL_BYTES - 3), 1, None),
    "a string of more": (b"\xda\x1f\xfe" + b"x" * (SMALL_BYTES - 2), 0, ("invalid", NO_REQUEST, None)),
    "extensions": (
        b"\xd4\x05\x00\xd8\x05" + bytes(16) + b"\xc7\x03\x05abc\xc8\x00\x01\x05a\xc9\0\0\0\0\x05",
        5,
        None,
    ),
    "every other kind": (
        b"\xca\0\0\0\0\xcb" + bytes(8) + b"\xc2\xc3\xd0\x80\xd3" + bytes(8) + b"\xe0\xc6\0\0\0\x01x",
        8,
        None,
    ),
    "nesting of 63": (b"\x91" * 63 + b"\x01", 1, None),
    "nesting of 64": (b"\x91" * 64 + b"\x01", 0, ("invalid", NO_REQUEST, None)),
    "maps nested 65 deep": (b"\x81" * 65, 0, ("invalid", NO_REQUEST, None)),
    "4 096 keys": (request(encode(["k"] * BATCH_ITEMS_MAX), b"\x01") + SMALL, 2, None),
    "4 097 keys declared": (
        request(b"\xdc\x10\x01")[:-1] + b"\x01" + SMALL,
        0,
        ("too_large", "an array has at most 4096 items", 7),
    ),
    "items of three": (request(encode([[b"k", 1, 2]] * 1_024)), 1, None),
    "as many items of three as an array may have": (request(encode([[b"k", 1, 2]] * BATCH_ITEMS_MAX)), 1, None),
    "two arrays of them": (
        request(encode([[b"k", 1, 2]] * BATCH_ITEMS_MAX), encode([[b"k", 1, 2]] * BATCH_ITEMS_MAX)),
        0,
        ("too_large", "a message has at most 16448 elements", 7),
    ),
    "items of four": (request(encode([[b"k", 1, 2, 3]] * 1_024)), 0, ("too_large", "an item has at most 3 parts", 7)),
    "an array in an item": (request(encode([[b"k", [1], 2]] * 1_024)), 0, ("invalid", NO_REQUEST, 7)),
    "six parameters": (
        b"\x94\x00\x07\xa5apply\x96" + KEYS,
        0,
        ("too_large", "a request has at most 5 parameters", 7),
    ),
    "a float among keys": (request(KEYS, b"\xcb")[:-1] + b"\xcb", 0, ("invalid", NO_REQUEST, 7)),
    "nil among keys": (b"\x94\x00\x07\xa5apply\x92" + KEYS + b"\xc0", 0, ("invalid", NO_REQUEST, 7)),
    "an extension among keys": (b"\x94\x00\x07\xa5apply\x92" + KEYS + b"\xd4", 0, ("invalid", NO_REQUEST, 7)),
    "a map among keys": (b"\x94\x00\x07\xa5apply\x92" + KEYS + b"\x80", 0, ("invalid", NO_REQUEST, 7)),
    "a map as a parameter": (padded(10_000, b"\x80"), 0, ("invalid", NO_REQUEST, 7)),
    "nil as a parameter": (padded(10_000, b"\xc0"), 1, None),
    "a key of 516 bytes": (b"\x94\x00\x07\xa5apply\x92" + KEYS + b"\xda\x02\x04", 0, None),
    "a key of 517 bytes": (
        b"\x94\x00\x07\xa5apply\x92" + KEYS + b"\xda\x02\x05",
        0,
        ("too_large", "a string has at most 516 bytes", 7),
    ),
    "a method of 65 bytes": (
        b"\x94\x00\x07\xd9\x41" + b"m" * 65 + b"\x91\xdd\x00\x00\x10\x00",
        0,
        ("too_large", "a method has at most 64 bytes", 7),
    ),
    "a large array that is no request": (encode(list(range(200))), 0, ("invalid", NO_REQUEST, None)),
    "a large request whose msgid is a string": (
        b"\x94\x00\xa1x\xa5apply\x92" + KEYS,
        0,
        ("invalid", NO_REQUEST, None),
    ),
    "a large request whose method is a number": (b"\x94\x00\x07\x07\x92" + KEYS, 0, ("invalid", NO_REQUEST, 7)),
    "a large notification": (b"\x93\x02\xa5apply\x92" + encode(["k"] * 400) + b"\x01", 1, None),
    "a message of 1 MiB": (padded(MIB) + SMALL, 2, None),
    "a message of 1 MiB and a byte": (
        SMALL + padded(MIB + 1) + SMALL,
        1,
        ("too_large", "a message has at most 1048576 bytes", 7),
    ),
    "a message of much more": (
        padded(MIB + 2_000) + SMALL,
        0,
        ("too_large", "a message has at most 1048576 bytes", 7),
    ),
    "the header of a second array is cut": (request(encode(["k"] * 400), b"\xdc\x01"), 0, None),
    "bad at once": (b"\xc1" + SMALL, 0, ("invalid", NO_MESSAGE, None)),
    "bad after a good one": (SMALL + b"\x94\x00\xcd\x01\x00\xc1", 1, ("invalid", NO_MESSAGE, 256)),
    "bad after a large one": (WIDE + SMALL + b"\x94\x00\xc1", 2, ("invalid", NO_MESSAGE, None)),
    "an array of 2^32 - 1 declared": (b"\x94\x00\x09\xdd\xff\xff\xff\xff", 0, ("invalid", NO_REQUEST, 9)),
    "a string of 2 GiB declared": (b"\xdb\x7f\xff\xff\xff", 0, ("invalid", NO_REQUEST, None)),
    "a timestamp of no known size": (b"\x94\x00\x05\xd4\xff\x00\x90", 0, ("invalid", NO_MESSAGE, 5)),
}


def cuts_of(data: bytes, source: random.Random) -> Iterable[list[bytes]]:
    yield [data]
    yield [data, b""]
    if len(data) <= 20_000:
        yield byte_by_byte(data)
    for size in (997, 8 * KIB, 8 * KIB + 1, 64 * KIB - 1):
        yield cut(data, range(0, len(data), size))
    limits = [8 * KIB, 64 * KIB, MIB]
    yield cut(data, [limit + offset for limit in limits for offset in range(-3, 12)])
    yield cut(data, [len(data) - back for back in range(1, 20)])
    for _ in range(5):
        yield random_cuts(data, source)


@pytest.mark.parametrize("name", CASES)
def test_however_it_is_cut(name: str) -> None:
    data, count, fault = CASES[name]
    expected = outcome_of([data])
    assert (len(expected[0]), expected[1]) == (count, fault)
    for pieces in cuts_of(data, random.Random(name)):
        assert outcome_of(pieces) == expected, [len(piece) for piece in pieces][:50]


def test_a_dead_input_takes_nothing_more() -> None:
    source = Input()
    source.feed(SMALL + b"\xc1")
    assert source.next_message() is not None
    with pytest.raises(BadInput, match="not a message"):
        source.next_message()
    source.feed(SMALL)
    assert source.empty
    assert source.pinned_bytes() == 0


def test_the_numbers_of_the_walk_are_of_what_clients_send() -> None:
    assert len(encode_request(2**32 - 1, "scan", [b"x" * CURSOR_BYTES_MAX, 4_096, b"p" * 512])) < SMALL_BYTES
    longest = max(map(len, decoder_methods()))
    assert longest < METHOD_BYTES_MAX
    assert SMALL_ELEMENTS == 64


def decoder_methods() -> list[bytes]:
    from naught_server.commands import COMMANDS

    return list(COMMANDS)


@pytest.mark.parametrize(
    ("head", "msgid"),
    [
        (b"\x94\x00\x07", 7),
        (b"\x94\x00\x7f\xa4", 127),
        (b"\x94\x00\x80", None),
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


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ((0, 0, b"get", ()), (0, b"get", ())),
        ((0, 2**32 - 1, b"", (1, b"k")), (2**32 - 1, b"", (1, b"k"))),
        ((2, b"ack", (1,)), (None, b"ack", (1,))),
    ],
)
def test_the_parts_of_a_request(message: Any, parts: Any) -> None:
    assert parts_of(message) == parts


NO_REQUESTS: list[Any] = [(), 0, b"\x94\x00\x01\xa3", [0, 7, b"get", ()], Map([(0, 7), (b"get", 1), (2, 3), (4, 5)])]
NO_REQUESTS += [(0, b"get", ()), (2, 7, b"get", ()), (2, b"get"), (0, 7, b"get"), (0, 7, b"get", (), 1)]
NO_REQUESTS += [(first, 7, b"get", ()) for first in (1, -1, 2, False, 0.0, None, b"\0")]
NO_REQUESTS += [(first, b"get", ()) for first in (1, 3, True, 2.0, None)]
NO_REQUESTS += [(2, "get", ()), (2, 7, ()), (2, None, ()), (2, b"get", b""), (2, b"get", [])]


@for_each("message", NO_REQUESTS)
def test_what_is_no_request_has_no_msgid(message: Any) -> None:
    with pytest.raises(BadInput, match=r"^a request is \[0, msgid, method, params\]") as refused:
        parts_of(message)
    assert (refused.value.code, refused.value.msgid) == ("invalid", None)


@for_each("msgid", [-1, 2**32, 1.0, True, None, b"1", ()])
def test_what_is_no_msgid(msgid: Any) -> None:
    with pytest.raises(BadInput, match=r"^a msgid is an integer from 0 to 4294967295$") as refused:
        parts_of((0, msgid, b"get", ()))
    assert refused.value.msgid is None


@for_each("rest", [("get", ()), (7, ()), (b"get", b"k"), (b"get", None), (b"get", Map([])), (None, 1)])
def test_a_wrong_field_is_answered_by_its_msgid(rest: Any) -> None:
    with pytest.raises(BadInput, match=r"^a request is \[0, msgid, method, params\]") as refused:
        parts_of((0, 7, *rest))
    assert refused.value.msgid == 7


def test_the_first_messages_are_taken_away() -> None:
    messages = [SMALL, encode([1, b"two", [3]]), b"\x04", WIDE]
    for count in range(5):
        assert without_first(b"".join(messages), count) == b"".join(messages[count:])


@pytest.mark.parametrize("msgid", [b"\x00", b"\x7f", b"\xcc\xff", b"\xcd\x01\x00", b"\xce\x01\x02\x03\x04"])
@pytest.mark.parametrize(
    ("method", "name"),
    [
        (b"\xa0", b""),
        (b"\xa1x", b"x"),
        (b"\xa4incr", b"incr"),
        (b"\xbf" + b"m" * 31, b"m" * 31),
        (b"\xd9\x04incr", b"incr"),
        (b"\xc4\x04incr", b"incr"),
        (b"\xd9\x00", b""),
        (b"\xda\x00\x04incr", b""),
        (b"\xc0\x04incr", b""),
        (b"\x9fincr", b""),
        (b"\x04incr", b""),
    ],
)
def test_the_method_of_what_is_not_decoded(msgid: bytes, method: bytes, name: bytes) -> None:
    head = b"\x94\x00" + msgid + method
    assert peek_method(head + b"\x91\x01" if name else head) == name
    for size in range(len(head)):
        assert name.startswith(peek_method(head[:size])), "less of it, where less has arrived"
    assert peek_method(b"\x94\x02" + msgid + method) == peek_method(b"\x93\x00" + msgid + method) == b""


# ------------------------------------------------------------------------------------------ what is there


def test_what_is_left_is_what_has_not_been_passed() -> None:
    source = Input()
    assert (source.empty, source.left_bytes, source.pinned_bytes(), source.elements) == (True, 0, 0, 0)
    source.feed(SMALL + SMALL + SMALL[:-1])
    assert not source.empty
    assert source.next_message() is not None
    assert (source.left_bytes, source.pinned_bytes()) == (2 * len(SMALL) - 1, 3 * len(SMALL) - 1)
    source.feed(SMALL[-1:] + SMALL)
    assert [source.next_message() is not None for _ in range(4)] == [True, True, True, False]
    assert (source.empty, source.left_bytes, source.pinned_bytes()) == (True, 0, 0)


def test_a_few_bytes_keep_no_large_piece() -> None:
    source = Input()
    source.feed(20_000 * SMALL + SMALL[:2])
    for _ in range(20_000):
        assert source.next_message() is not None
    assert source.next_message() is None
    assert source.pinned_bytes() == source.left_bytes == 2


def test_what_is_left_of_a_large_message_counts_too() -> None:
    large = padded(SMALL_BYTES + 100)
    source = Input()
    source.feed(SMALL + large[:-1])
    assert source.next_message() is not None
    assert not source.is_unfinished(), "nobody has looked at it yet"
    assert source.next_message() is None
    assert source.is_unfinished()
    assert (source.empty, source.left_bytes, source.pinned_bytes()) == (False, len(large) - 1, len(large) - 1)
    source.feed(large[-1:] + SMALL + SMALL)
    assert not source.is_unfinished()
    message = source.next_message()
    assert source.elements == len(flat(message))
    assert (source.left_bytes, source.pinned_bytes()) == (2 * len(SMALL), 2 * len(SMALL))
    assert source.next_message() is not None
    assert source.elements == 0, "it was a small one"
    assert source.left_bytes == len(SMALL)


@pytest.mark.parametrize("bad", [b"\xc1", padded(SMALL_BYTES + 100)[:-50] + b"\xc1" * 50], ids=["small", "large"])
@pytest.mark.parametrize("bytes_max", [None, 20_000])
def test_after_a_refusal_there_is_no_input(bad: bytes, bytes_max: int | None) -> None:
    source = Input(bytes_max)
    source.feed(SMALL + bad + SMALL)
    assert source.next_message() is not None
    with pytest.raises(BadInput, match=r"not a message|is a request of"):
        source.next_message()
    for data in (b"", SMALL, SMALL):
        source.feed(data)
        assert (source.empty, source.left_bytes, source.pinned_bytes()) == (True, 0, 0)
        assert not source.is_unfinished()
        assert source.next_message() is None
    source.lift_limit()
    assert source.is_limited


# ------------------------------------------------------------------------------------------ the limit in bytes

LIMIT = 5 * len(SMALL)


@pytest.mark.parametrize("lifted", [False, True])
def test_so_many_bytes_may_come_of_all_messages_together(lifted: bool) -> None:
    source = Input(LIMIT)
    assert source.is_limited
    for piece in byte_by_byte(5 * SMALL):
        source.feed(piece)
    assert [source.next_message() for _ in range(6)] == [*[(0, 1, b"incr", (b"k",))] * 5, None]
    if lifted:
        source.lift_limit()
        assert not source.is_limited
    source.feed(SMALL)
    if lifted:
        assert source.next_message() is not None
        return
    with pytest.raises(BadInput, match="before a client has logged in") as refused:
        source.next_message()
    assert refused.value.code == "too_large"


@pytest.mark.parametrize(
    "data",
    [
        5 * SMALL + b"\x94",
        4 * SMALL + b"\x94\x00\x09\xa4incr\x91\xd9\xff" + b"k" * LIMIT,
        4 * SMALL + b"\x94\x00\x09\xa5apply\x92\xdc\x10\x00" + b"\x01" * LIMIT,
    ],
    ids=["at a message's end", "in a small one", "in a large one"],
)
@pytest.mark.parametrize("pieces", [1, 2, 0])
def test_one_byte_more_ends_it_behind_the_messages_before(data: bytes, pieces: int) -> None:
    source = Input(LIMIT)
    cuts = byte_by_byte(data) if not pieces else cut(data, [LIMIT - 1][: pieces - 1])
    for piece in cuts:
        source.feed(piece)
    source.lift_limit()
    source.feed(SMALL)
    assert source.left_bytes <= LIMIT + 1, "no more is kept"
    for _ in range(data.count(SMALL)):
        assert source.next_message() is not None
    with pytest.raises(BadInput, match="before a client has logged in") as refused:
        source.next_message()
    assert refused.value.code == "too_large"
    assert refused.value.msgid == (None if data.startswith(5 * SMALL) else 9)


# ------------------------------------------------------------------------------------------ passing over


@pytest.mark.parametrize("mixed", [False, True])
def test_messages_are_passed_over_one_by_one(mixed: bool) -> None:
    """`mixed`: every other one is decoded."""
    sizes = [len(SMALL), 1, 9, len(SMALL)]
    data = SMALL + b"\x01" + b"\xa8anything" + SMALL
    source = Input()
    source.feed(data + SMALL[:-1])
    at = 0
    for number, size in enumerate(sizes):
        at += size
        if mixed and number % 2:
            assert source.next_message() is not None
        else:
            assert source.end_of_message() == at
            source.advance(at)
    assert [source.end_of_message() for _ in range(2)] == [-1, -1], "it is not whole"
    source.feed(SMALL[-1:] + SMALL)
    for number in (1, 2):
        assert source.end_of_message() == number * len(SMALL)
        source.advance(number * len(SMALL))
    assert source.empty
    assert source._passer is source._passed_in is None, "an idle connection keeps nothing"
    source.feed(SMALL)
    assert source.end_of_message() == len(SMALL)


def test_another_piece_of_input_is_walked_over_anew() -> None:
    source = Input()
    source.feed(SMALL + SMALL)
    assert source.end_of_message() == len(SMALL)
    source.advance(len(SMALL))
    source.feed(b"\x01")
    assert source.next_message() is not None
    assert source.at == len(SMALL), "as before, in another piece"
    assert source.end_of_message() == len(SMALL) + 1


def test_what_is_no_message_is_not_passed_over() -> None:
    source = Input()
    source.feed(b"\x92\xc1" + SMALL)
    assert [source.end_of_message() for _ in range(3)] == [-1, -1, -1]
    source = Input()
    source.feed(padded(SMALL_BYTES + 100)[:-1])
    assert source.next_message() is None
    source.feed(b"\x01" + SMALL)
    assert source.end_of_message() == -1, "a large one that has begun is decoded"
    assert source.next_message() is not None
    assert source.end_of_message() == len(SMALL)


# ------------------------------------------------------------------------------------------------- cost

HOSTILE: dict[str, bytes] = {
    "an array of 2^32-1": b"\x94\x00\x01\xdd\xff\xff\xff\xff",
    "a map of 2^32-1": b"\x94\x00\x01\xdf\xff\xff\xff\xff",
    "a string of 4 GiB": b"\x94\x00\x01\xdb\xff\xff\xff\xff",
    "a binary of 4 GiB": b"\x94\x00\x01\xc6\xff\xff\xff\xff",
    "an extension of 4 GiB": b"\x94\x00\x01\xc9\xff\xff\xff\xff\x05",
    "nested arrays of 16": b"\xdc\x00\x10" * 1_023,
    "nested arrays of 4096": b"\xdc\x10\x00" * 1_023,
    "nested arrays of 2^32-1": b"\xdd\xff\xff\xff\xff" * 1_023,
    "nested maps of 8": b"\x88" * 1_023,
    "nested maps of 2^32-1": b"\xdf\xff\xff\xff\xff" * 1_023,
    "nesting 100 000 deep": b"\x91" * 100_000,
    "maps 100 000 deep": b"\x81" * 100_000,
    "a message just short of 1 MiB": padded(MIB)[:-1],
    "empty arrays for most of 1 MiB": b"\x94\x00\x01\xa5apply\x91\xdd\xff\xff\xff\xff" + b"\x90" * (MIB - 20),
    "extensions for most of 1 MiB": b"\x94\x00\x01\xa5apply\x91\xdc\x10\x00" + b"\xd4\x01\x00" * 300_000,
}


@pytest.mark.parametrize("piece_size", [100, 8 * KIB, 256_000])
@pytest.mark.parametrize("name", HOSTILE)
def test_pinned_memory(name: str, piece_size: int) -> None:
    """At no moment are more than 2 MiB kept, and none but the message that is not whole is waited for."""
    pieces = cut(HOSTILE[name], range(0, len(HOSTILE[name]), piece_size))
    tracemalloc.start()
    try:
        source = Input()
        refused = False
        for piece in pieces:
            source.feed(piece)
            try:
                assert source.next_message() is None
            except BadInput:
                refused = True
            assert source.pinned_bytes() <= MIB
        kept, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused is (name != "a message just short of 1 MiB")
    assert kept < 2 * MIB
    # Growing a buffer needs the old one for a moment.
    assert highest < 3 * MIB


def test_a_drip_is_walked_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a peer sends a large message byte by byte, each element is looked at once, and no byte copied again."""
    looks = 0
    scalar = walk.LargeWalk._scalar

    def counting(self: walk.LargeWalk, *args: int) -> int:
        nonlocal looks
        looks += 1
        return scalar(self, *args)

    monkeypatch.setattr(walk.LargeWalk, "_scalar", counting)
    data = padded(100_000)
    source = Input()
    buffers = set()
    for piece in byte_by_byte(data[:-1]):
        source.feed(piece)
        assert source.next_message() is None
        if source._walk is not None:
            buffers.add(id(source._walk.data))
    source.feed(data[-1:])
    assert source.next_message() is not None
    assert len(buffers) == 1, "the unfinished message moved from one buffer to the next"
    # A string whose bytes are still missing is looked at once for each piece.
    assert looks <= len(data) + 1_000


def test_what_is_small_is_walked_in_bounded_steps() -> None:
    """A message that declares billions of elements is refused at its 65th, or at the header that declares them."""
    assert walk.walk_small(b"\x9f" * 10_000, 0) == walk.LARGE
    assert walk.walk_small(b"\xdd\xff\xff\xff\xff", 0) == walk.LARGE
    assert walk.walk_small(b"\xdb\xff\xff\xff\xff", 0) == walk.LARGE
    assert walk.walk_small(b"\x91" * 10, 0) == walk.UNFINISHED
    assert walk.walk_small(b"\x92\x01", 0) == walk.UNFINISHED
    assert walk.walk_small(b"\xd9", 0) == walk.UNFINISHED
    assert walk.walk_small(b"\xc1", 0) == walk.BAD
    assert walk.walk_small(b"\x00\x91\x01\x02", 1) == 3
    assert decoder.peek_msgid(b"") is None
