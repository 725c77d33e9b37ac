"""A real server answers bad input with the exact expected bytes, and nothing else is affected.

Each case sends raw bytes on its own connection, compares every byte of the reply, and checks whether the server
closes the connection. Then a new connection must work, and the server's memory must be as before.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

import msgpack  # type: ignore[import-untyped]
import pytest

from naught.wire.codec import encode_error, encode_request, encode_result
from support.server_process import MIB, ServerProcess, server_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")

PING = encode_request(9, "ping", ())
PONG = encode_result(9, "pong")
NO_MESSAGE = encode_error(7, "invalid", "not a message of MessagePack-RPC")
NO_REQUEST = encode_error(7, "invalid", "a request is [0, msgid, method, params] with a string and an array")
BY = "by is an integer from 1 to 9223372036854775807, not "
LONG_STRING = encode_error(7, "too_large", "a string has at most 516 bytes")
MANY_PARAMETERS = encode_error(7, "too_large", "a request has at most 5 parameters")
NO_LARGE_REQUEST = encode_error(
    7,
    "invalid",
    "a message of more than 8192 bytes or 64 elements is a request of integers, strings and arrays of them",
)
LONG_MESSAGE = encode_error(7, "too_large", "a message has at most 1048576 bytes")

MEMORY_BYTES_MAX = 12 * MIB
"""Memory that a case may leave in use: the allocator keeps a message or two. The faults to be found need far more: a
declared length of 4 GiB, or nested headers, which allocate 44 MiB each time."""


class Case(NamedTuple):
    """The bytes sent, the exact reply, and whether the server closes the connection then."""

    sent: bytes
    reply: bytes
    closes: bool


def refused(code: str, sentence: str, method: str, *params: object) -> Case:
    """A well-formed request that is answered with an error."""
    return Case(encode_request(7, method, params), encode_error(7, code, sentence), closes=False)


def broken(sent: bytes, reply: bytes = b"") -> Case:
    """Input after which the server closes the connection."""
    return Case(sent, reply, closes=True)


def unfinished(sent: bytes) -> Case:
    """An incomplete message: no reply, and the connection stays open."""
    return Case(sent, b"", closes=False)


def too_large(sentence: str) -> bytes:
    """The reply to a request that is over a limit of the wire."""
    return encode_error(7, "too_large", sentence)


def started(after_method: bytes) -> bytes:
    """A request with msgid 7, with these bytes where its params begin."""
    return b"\x94\x00\x07\xa3get" + after_method


def shaped(*message: object) -> bytes:
    """Any array."""
    packed: bytes = msgpack.packb(list(message))
    return packed


CASES: dict[str, Case] = {
    # Malformed MessagePack.
    "a byte that MessagePack never uses": broken(b"\xc1"),
    "that byte as the msgid": broken(b"\x94\x00\xc1"),
    "that byte in the params": broken(started(b"\x91\xc1"), NO_MESSAGE),
    "that byte in an array that is incomplete": broken(started(b"\xdd\xff\xff\xff\xff\xc1"), MANY_PARAMETERS),
    "a request of HTTP": broken(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "a hello of TLS": broken(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
    "all bytes there are": broken(bytes(range(256))),
    # Wrong shapes.
    "nil": broken(b"\xc0"),
    "an integer": broken(b"\x07"),
    "a string": broken(shaped("incr")[1:]),
    "an array of nothing": broken(b"\x90"),
    "a map": broken(msgpack.packb({"method": "incr"})),
    "a map that would unpack as a request": broken(msgpack.packb({0: 0, 7: 0, "incr": 0, ("k",): 0})),
    "a reply": broken(shaped(1, 7, None, 1)),
    "a request of three": broken(shaped(0, 7, "incr")),
    "a request of five": broken(shaped(0, 7, "incr", ["k"], None)),
    "a notification of four": broken(shaped(2, 7, "incr", ["k"])),
    "a kind of 3": broken(shaped(3, 7, "incr", ["k"])),
    "false for the kind": broken(shaped(False, 7, "incr", ["k"])),
    "a float for the kind": broken(shaped(0.0, 7, "incr", ["k"])),
    "a bool for the msgid": broken(shaped(0, True, "incr", ["k"])),
    "a float for the msgid": broken(shaped(0, 7.0, "incr", ["k"])),
    "a negative msgid": broken(shaped(0, -7, "incr", ["k"])),
    "a msgid of 2^32": broken(shaped(0, 2**32, "incr", ["k"])),
    "an integer for the method": broken(shaped(0, 7, 7, ["k"]), NO_REQUEST),
    "a string for the params": broken(shaped(0, 7, "incr", "k"), NO_REQUEST),
    "a map for the params": broken(shaped(0, 7, "incr", {"k": 1}), NO_REQUEST),
    "nil for the params": broken(shaped(0, 7, "ping", None), NO_REQUEST),
    "a bad one behind a good one": broken(PING + shaped(0, 7, "incr", None), PONG + NO_REQUEST),
    "a good one behind a bad one": broken(shaped(0, 7, "incr", None) + PING, NO_REQUEST),
    # Methods, and how many parameters they take.
    "an unknown method": refused("unknown_method", "there is no method 'nothing'", "nothing", 1, 2),
    "a method of another case": refused("unknown_method", "there is no method 'INCR'", "INCR", "k"),
    "an empty method": refused("unknown_method", "there is no method ''", ""),
    "a method of 60 000 bytes": broken(
        encode_request(7, "m" * 60_000, [1]), too_large("a method has at most 64 bytes")
    ),
    "an unknown notification": Case(shaped(2, "nothing", [1]) + PING, PONG, closes=False),
    "a bad notification": Case(shaped(2, "incr", ["k", -1]) + PING, PONG, closes=False),
    "no parameters": refused("invalid", "incr takes 1 to 3 parameters, not 0", "incr"),
    "too many parameters": refused("invalid", "get takes 1 parameters, not 2", "get", "k", 1),
    # Keys.
    "an empty key": refused("invalid", "a key is 1 to 512 bytes, not 0", "incr", ""),
    "an empty binary key": refused("invalid", "a key is 1 to 512 bytes, not 0", "get", b""),
    "a key of 513 bytes": refused("too_large", "a key is 1 to 512 bytes, not 513", "incr", "k" * 513),
    "a key of 65 536 bytes": broken(encode_request(7, "incr", ["k" * 65_536]), LONG_STRING),
    "an integer for a key": refused(
        "invalid", "a key is a string or binary of 1 to 512 bytes, not an integer", "incr", 5
    ),
    "nil for a key": refused("invalid", "a key is a string or binary of 1 to 512 bytes, not nil", "decr", None),
    "an array for a key": refused(
        "invalid", "a key is a string or binary of 1 to 512 bytes, not an array", "get", ["k"]
    ),
    "a map for a key": refused(
        "invalid", "a key is a string or binary of 1 to 512 bytes, not a map", "get", {"k": 1}
    ),
    "an extension for a key": refused(
        "invalid",
        "a key is a string or binary of 1 to 512 bytes, not an extension type",
        "get",
        msgpack.ExtType(1, b"k"),
    ),
    # Integers.
    "true for an integer": refused("invalid", BY + "a bool", "incr", "k", True),
    "1.0 for an integer": refused("invalid", BY + "a float", "incr", "k", 1.0),
    "text for an integer": refused("invalid", BY + "a string", "decr", "k", "1"),
    "2^63": refused("invalid", BY + "9223372036854775808", "incr", "k", 2**63),
    "2^64 - 1": refused("invalid", BY + "18446744073709551615", "decr", "k", 2**64 - 1),
    "a by of 0": refused("invalid", BY + "0", "incr", "k", 0),
    "a negative by": refused("invalid", BY + "-1", "incr", "k", -1),
    "a by of -2^63": refused("invalid", BY + "-9223372036854775808", "decr", "k", -(2**63)),
    "1 for a flag": refused("invalid", "strict is true or false, not an integer", "decr", "k", 1, 1),
    "a time to live of 0": refused(
        "invalid", "ttl_ms is an integer from 1 to 315360000000, not 0", "incr", "k", 1, 0
    ),
    # Batches.
    "4 097 items": broken(
        encode_request(7, "get_many", [["k"] * 4_097]),
        too_large("an array has at most 4096 items"),
    ),
    "keys that are a string": refused("invalid", "keys is an array, not a string", "take", "keys"),
    "more keys than deltas": refused("invalid", "apply has 2 keys and 1 deltas", "apply", ["a", "b"], [1]),
    "a bad item in a batch of all or nothing": refused(
        "invalid", "an item is [key, by, limit], not an integer", "try_incr", [["k", 1, 5], 7]
    ),
    # Giant declared lengths.
    "params of 2^32 - 1": broken(started(b"\xdd\xff\xff\xff\xff"), MANY_PARAMETERS),
    "a map of 2^32 - 1": broken(started(b"\x91\xdf\xff\xff\xff\xff"), NO_LARGE_REQUEST),
    "a string of 4 GiB": broken(started(b"\x91\xdb\xff\xff\xff\xff"), LONG_STRING),
    "a binary of 4 GiB": broken(started(b"\x91\xc6\xff\xff\xff\xff"), LONG_STRING),
    "an extension of 4 GiB": broken(started(b"\x91\xc9\xff\xff\xff\xfe\x05"), NO_LARGE_REQUEST),
    "an extension of 2^32 - 1": broken(started(b"\x91\xc9\xff\xff\xff\xff\x05"), NO_LARGE_REQUEST),
    "a string of 4 GiB, 64 KiB of it": broken(started(b"\x91\xdb\xff\xff\xff\xff") + b"x" * 65_536, LONG_STRING),
    "a string of 65 537 bytes": broken(encode_request(7, "get", ["x" * 65_537]), LONG_STRING),
    "a message of 1 MiB and more": broken(
        started(b"\x91\xdc\x10\x00" + (b"\xda\x01\xf4" + b"x" * 500) * 2_100), LONG_MESSAGE
    ),
    # Nested headers, each below the limits.
    "nested arrays of 15": broken(started(b"\x9f" * 1_000), MANY_PARAMETERS),
    "nested arrays of 16": broken(started(b"\xdc\x00\x10" * 1_000), MANY_PARAMETERS),
    "nested arrays of 4096": broken(
        started(b"\x91" + b"\xdc\x10\x00" * 1_000), too_large("an item has at most 3 parts")
    ),
    "nested arrays of 8192": broken(
        started(b"\x91" + b"\xdc\x20\x00" * 1_000), too_large("an array has at most 4096 items")
    ),
    "nested arrays of 2^32 - 1": broken(started(b"\xdd\xff\xff\xff\xff" * 1_000), MANY_PARAMETERS),
    "nested maps of 15": broken(started(b"\x91" + b"\x8f" * 1_000), NO_LARGE_REQUEST),
    "nested maps of 2^32 - 1": broken(started(b"\x91" + b"\xdf\xff\xff\xff\xff" * 1_000), NO_LARGE_REQUEST),
    "nesting 1 025 deep": broken(started(b"\x91" * 1_024), NO_LARGE_REQUEST),
    "nesting 100 000 deep": broken(started(b"\x91" * 100_000), NO_LARGE_REQUEST),
    "maps 100 000 deep": broken(started(b"\x91" + b"\x81" * 100_000), NO_LARGE_REQUEST),
    # Half a message, and nothing after it.
    "one byte": unfinished(b"\x94"),
    "half a request": unfinished(PING[:5]),
    "a request without its last byte": unfinished(encode_request(7, "incr", ["k"])[:-1]),
    "half of 1 MiB": unfinished(started(b"\x91\xdc\x10\x00" + (b"\xda\x01\xf4" + b"x" * 500) * 1_050)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_process(tmp_path_factory.mktemp("server")) as found:
        # The first large message and the first refusal allocate memory that later ones use again.
        with found.connect() as peer:
            peer.call("get_many", ["k"] * 4_000)
            peer.send(CASES["nesting 100 000 deep"].sent)
            peer.read_to_end()
        yield found


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_bad_input(server: ServerProcess, case: Case) -> None:
    before = server.resident_bytes()
    server.forget_highest()
    with server.connect() as peer:
        peer.send(case.sent)
        if case.closes:
            assert peer.read_to_end() == case.reply
        else:
            assert peer.read(len(case.reply)) == case.reply
            # On loopback, the server has read this connection's bytes before a new connection is answered.
            assert server.call("ping") == b"pong"
            assert nothing_to_read(peer.socket)
        assert server.call("incr", "fresh") == 1
        assert server.call("decr", "fresh") == 0
        assert server.call("count") == 0, "bad input changed something"
        assert server.highest_resident_bytes() - before < MEMORY_BYTES_MAX


def nothing_to_read(connected: socket.socket) -> bool:
    connected.setblocking(False)
    try:
        found = connected.recv(1)
    except BlockingIOError:
        return True
    assert not found, "an unexpected reply"
    return False


@pytest.mark.parametrize(
    "name", ["nested arrays of 16", "nested arrays of 8192", "a string of 4 GiB", "half of 1 MiB"]
)
def test_many_at_once(server: ServerProcess, name: str) -> None:
    """Forty peers with unfinished input cost memory for the bytes they sent, not for the lengths they declared."""
    before = server.resident_bytes()
    server.forget_highest()
    peers = [server.connect() for _ in range(40)]
    try:
        for peer in peers:
            peer.send(CASES[name].sent)
        assert server.call("ping") == b"pong"
        assert server.highest_resident_bytes() - before < 40 * (MIB // 2 + len(CASES[name].sent))
    finally:
        for peer in peers:
            peer.socket.close()


def test_a_request_that_drips_in(server: ServerProcess) -> None:
    with server.connect() as peer:
        for place in range(len(PING)):
            peer.send(PING[place : place + 1])
        assert peer.read(len(PONG)) == PONG


def test_the_server_counted_what_it_refused(server: ServerProcess) -> None:
    with server.connect() as peer:
        before = peer.call("info")
        peer.send(CASES["an unknown method"].sent)
        assert peer.read(len(CASES["an unknown method"].reply))
        after = peer.call("info")
    name = b"unknown_method"
    assert after[b"errors"][name] == before[b"errors"].get(name, 0) + 1
    assert after[b"connections"] == 1
