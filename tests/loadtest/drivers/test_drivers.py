"""Drivers: what they send, and that no error in a reply is ever missed, however the bytes are cut."""

from __future__ import annotations

import functools
import random
import re
from typing import cast

import msgpack  # type: ignore[import-untyped]
import pytest

from naught_loadtest.drivers import DRIVERS, driver_for
from naught_loadtest.drivers.base import Driver, Failure, ProtocolFaultError, failure_in
from naught_loadtest.drivers.naught import NaughtDriver, NaughtInspector
from naught_loadtest.drivers.probe import Probe
from naught_loadtest.drivers.target import parse_target
from naught_loadtest.generate.encoding import EncodedScript, encode, script_for
from naught_loadtest.generate.replies import ReplyReader
from naught_loadtest.generate.workload import Script, Workload

FIRST_ID = 65_536


def pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def reader(name: str, requests: int = 1000) -> ReplyReader:
    """Reads replies to increments whose values are not known."""
    return ReplyReader(driver_for(name), encoded(name, requests))


@functools.cache
def encoded(name: str, requests: int) -> EncodedScript:
    script = Script([0] * requests, [1] * requests, None, [1] * requests)
    return encode(driver_for(name), script, "a1b2c3d:")


def numbered(name: str, reply: bytes, number: int) -> bytes:
    """A reply as it is for the request with this number."""
    return driver_for(name).renumbered(reply, number)


GOOD = {
    "naught": [pack([1, FIRST_ID + n, None, value]) for n, value in enumerate((0, 5, 127, 200, 40_000, 2**31 - 1))],
    "redis": [b":1\r\n", b":12345\r\n", b"$2\r\n17\r\n", b"$-1\r\n", b":-3\r\n"],
    "redis-lua": [b":1\r\n", b":0\r\n"],
    "redis-function": [b":1\r\n", b":0\r\n"],
    "valkey-delifeq": [b":1\r\n", b":0\r\n"],
    "redis-delex": [b":1\r\n", b":0\r\n"],
    "memcached": [b"VA 1\r\n1\r\n", b"VA 2\r\n9 \r\n", b"VA 3\r\n100\r\n"],
    "echo": [driver_for("naught").single(0, "a1b2c3d:00000001", delta) for delta in (1, -1, 0)],
}
GOOD["naught-session"] = GOOD["naught"]
BAD = {
    "naught": [
        (pack([1, FIRST_ID, [b"full", b"no room"], None]), "full"),
        (pack([1, FIRST_ID, None, [1, [b"overflow", b"too much"], 3]]), "overflow"),
        (pack([1, FIRST_ID, "broken", None]), "error"),
    ],
    "redis": [(b"-OOM command not allowed\r\n", "OOM"), (b"-ERR\r\n", "ERR")],
    "redis-lua": [(b"-NOSCRIPT No matching script.\r\n", "NOSCRIPT")],
    "redis-function": [(b"-ERR Function not found\r\n", "ERR")],
    "valkey-delifeq": [(b"-WRONGTYPE wrong kind of value\r\n", "WRONGTYPE")],
    "redis-delex": [(b"-WRONGTYPE wrong kind of value\r\n", "WRONGTYPE")],
    "memcached": [(b"NF\r\n", "not_found"), (b"SERVER_ERROR out of memory\r\n", "server_error")],
    "echo": [],
}
BAD["naught-session"] = BAD["naught"]
NO_REPLY = {
    "naught": [b"\xc1", pack([0, 1, "incr", []]), pack(7)],
    "redis": [b"HTTP/1.1 400 Bad Request\r\n"],
    **{name: [b"?\r\n"] for name in ("redis-lua", "redis-function", "valkey-delifeq", "redis-delex")},
    "memcached": [b"VALUE x 0 1\r\n"],
    "echo": [b"\xc1", pack([1])],
}
NO_REPLY["naught-session"] = NO_REPLY["naught"]


@pytest.mark.parametrize("name", [name for name in DRIVERS if name != "echo"])
def test_replies_are_counted_and_errors_found_however_the_bytes_are_cut(name: str) -> None:
    source = random.Random(name)
    for _ in range(60):
        expected: list[tuple[int, str]] = []
        stream = b""
        for place in range(30):
            if BAD[name] and source.random() < 0.1:
                reply, kind = source.choice(BAD[name])
                expected.append((place, kind))
            else:
                reply = source.choice(GOOD[name])
            stream += numbered(name, reply, place)
        counter = reader(name)
        count, start = 0, 0
        while start < len(stream):
            end = start + source.choice((1, 3, 7, 50, 1000))
            count += counter.feed(stream[start:end], 30 - count)
            start = end
        assert count == counter.counted == 30
        assert counter.failures == expected


@pytest.mark.parametrize("name", DRIVERS)
def test_good_replies_are_all_taken_by_the_fast_way(name: str) -> None:
    stream = b"".join(GOOD[name]) * 3
    match = driver_for(name).fast.match(stream)
    assert match is not None
    assert match.end() == len(stream)


@pytest.mark.parametrize("name", DRIVERS)
def test_what_is_no_reply_is_a_fault(name: str) -> None:
    for data in NO_REPLY[name]:
        with pytest.raises(ProtocolFaultError):
            driver_for(name).parse(data)
        with pytest.raises(ProtocolFaultError):
            reader(name).feed(GOOD[name][0] + data, 10)


@pytest.mark.parametrize("value", [0x94_01CE, 0x94_01CE00, 0x01_9401CE, 9_699_789, 2**32 - 1])
def test_a_value_that_looks_like_the_beginning_of_a_reply_is_not_counted(value: int) -> None:
    stream = b"".join(pack([1, FIRST_ID + number, None, value]) for number in range(50))
    counter = reader("naught")
    assert counter.feed(stream, 50) == 50
    assert counter.failures == []


def test_what_naught_is_sent() -> None:
    driver = NaughtDriver()
    assert msgpack.unpackb(driver.single(0, "k", 1)) == [0, FIRST_ID, "incr", ["k"]]
    assert msgpack.unpackb(driver.single(1, "k", -1)) == [0, FIRST_ID + 1, "decr", ["k"]]
    assert msgpack.unpackb(driver.single(2, "k", -5)) == [0, FIRST_ID + 2, "decr", ["k", 5]]
    assert msgpack.unpackb(driver.single(3, "k", 0)) == [0, FIRST_ID + 3, "get", ["k"]]
    assert msgpack.unpackb(driver.many(4, ["a", "b"], [1, 1])) == [0, FIRST_ID + 4, "apply", [["a", "b"], 1]]
    assert msgpack.unpackb(driver.many(5, ["a", "b"], [1, -1]))[3] == [["a", "b"], [1, -1]]
    assert driver.greeting(parse_target("naught://h")) is None
    greeting = driver.greeting(parse_target("naught://h/orders"))
    assert greeting is not None
    assert msgpack.unpackb(greeting)[2:] == ["hello", [{"cache": "orders"}]]


def test_what_redis_is_sent() -> None:
    assert driver_for("redis").single(0, "k", 2) == b"*3\r\n$6\r\nINCRBY\r\n$1\r\nk\r\n$1\r\n2\r\n"
    assert driver_for("redis").single(0, "k", -1) == b"*2\r\n$4\r\nDECR\r\n$1\r\nk\r\n"
    assert driver_for("redis-lua").single(0, "k", 0) == b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    assert re.fullmatch(
        rb"\*4\r\n\$7\r\nEVALSHA\r\n\$40\r\n[0-9a-f]{40}\r\n\$1\r\n1\r\n\$1\r\nk\r\n",
        driver_for("redis-lua").single(0, "k", -1),
    )


def test_what_memcached_is_sent() -> None:
    driver = driver_for("memcached")
    assert driver.single(0, "k", 3) == b"ma k N0 J3 D3 v\r\n"
    assert driver.single(0, "k", -3) == b"ma k MD D3 v\r\n"
    assert driver.single(0, "k", 0) == b"mg k v\r\n"


@pytest.mark.parametrize("name", ["naught", "naught-session", "redis", "redis-lua", "redis-function", "memcached"])
def test_the_known_right_replies_are_replies_with_those_values(name: str) -> None:
    driver = driver_for(name)
    for delta, value in ((1, 1), (-1, 0), (1, 300)):
        reply = driver.single_reply(5, delta, value)
        assert reply is not None
        assert driver.parse(reply) == ([value], len(reply))


@pytest.mark.parametrize("name", ["valkey-delifeq", "redis-delex"])
def test_the_known_right_replies_of_two_commands(name: str) -> None:
    driver = driver_for(name)
    for delta, value, replies in ((1, 1, [1]), (-1, 0, [0, 1]), (-1, 4, [4, 0])):
        reply = driver.single_reply(5, delta, value)
        assert reply is not None
        assert driver.parse(reply) == (replies, len(reply))


def test_a_session_is_opened_by_the_load_and_not_by_its_probe() -> None:
    driver = driver_for("naught-session")
    greeting = driver.greeting(parse_target("naught-session://h/orders"))
    assert greeting is not None
    _, _, method, (words,) = msgpack.unpackb(greeting)
    assert (method, words["session"], words["cache"]) == ("hello", True, "orders")
    assert msgpack.unpackb(driver.acknowledgement(300)) == [2, "ack", [300]]
    assert driver.for_probe().greeting(parse_target("naught-session://h")) is None


@pytest.mark.parametrize("name", ["naught", "redis"])
def test_a_lane_knows_its_replies_where_keys_are_the_connections_own(name: str) -> None:
    driver = driver_for(name)
    load = Workload("churn", keys=20, connections=2, batch=3, seed=1)
    lane = encode(driver, script_for(driver, load.script(0)), "p:", 100)
    assert lane.replies is not None
    assert len(lane.requests) >= 100
    assert sum(lane.operations) % 40 == 0
    blocks = lane.blocks(7)
    assert b"".join(block.request for block in blocks) == b"".join(lane.requests)
    assert b"".join(block.reply or b"" for block in blocks) == b"".join(lane.replies)
    assert [block.requests for block in blocks[:-1]] == [7] * (len(blocks) - 1)
    values = [value for reply in driver.parse(b"".join(lane.replies))[0] for value in _flat(reply)]
    script = load.script(0)
    assert script.values is not None
    assert values == script.values * (len(values) // len(script.values))
    shared = Workload("hotkey", keys=1, connections=2, batch=1, seed=1)
    assert encode(driver, shared.script(0), "p:").replies is None


def _flat(reply: object) -> list[object]:
    return reply if isinstance(reply, list) else [reply]


def test_a_server_without_batches_gets_single_requests() -> None:
    script = Workload("churn", keys=20, connections=2, batch=3, seed=1).script(0)
    assert set(script_for(driver_for("redis"), script).sizes) == {1}
    assert script_for(driver_for("naught"), script) is script
    with pytest.raises(AssertionError, match="script_for"):
        encode(driver_for("redis"), script, "p:")


def test_failures_inside_of_a_batch_are_failures() -> None:
    assert failure_in([1, Failure("full"), 2]) == Failure("full")
    assert failure_in([1, 2]) is None
    assert failure_in(7) is None


def test_every_driver_says_its_own_name() -> None:
    for name, driver in DRIVERS.items():
        assert driver.name == name
        assert issubclass(driver, Driver)


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({b"version": b"0.1.0", b"compiled": True}, "naught 0.1.0 (compiled)"),
        ({b"version": b"0.1.0", b"compiled": False}, "naught 0.1.0 (interpreted)"),
        ({b"version": b"0.1.0", b"compiled": [b"yes"]}, "naught 0.1.0"),
        ({}, "naught (unknown version)"),
    ],
    ids=["compiled", "interpreted", "odd", "empty"],
)
def test_a_report_says_how_the_server_runs(info: dict[bytes, object], version: str) -> None:
    class Answering:
        def ask(self, _: bytes) -> list[object]:
            return [info]

    assert NaughtInspector(cast("Probe", Answering())).version() == version
