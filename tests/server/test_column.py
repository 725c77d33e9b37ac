"""Columns answer, change and count exactly what the loop over requests does, whatever stands where in a slice."""

from __future__ import annotations

import itertools
import random
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from naught.wire.codec import encode, encode_notification, encode_request
from naught.wire.limits import KEY_BYTES_MAX, UNACKNOWLEDGED_MAX, VALUE_MAX
from naught_server import column
from naught_server.column import COLUMN_MIN
from naught_server.protocol import ServerProtocol
from simulation.faults import Fault
from support.beside import Beside
from support.conversation import decoded

COUNT = 3 * COLUMN_MIN
FIRST = 70_000
OPEN = encode_request(1, "hello", [{"session": True}])

POLICIES: dict[str, dict[str, Any]] = {
    "eager": {},
    "lazy": {"eviction": "lazy"},
    "bounded": {"max_counters": COUNT // 3},
    "one shard": {"shards": 1},
}
KEY = b"some key"

# What may stand among requests that are plain, as MessagePack. Each is served, or refused, as by the loop.
ODD: dict[str, bytes] = {
    "an amount": encode_request(FIRST, "incr", (KEY, 5)),
    "an amount that is true": encode_request(FIRST, "incr", (KEY, True)),
    "an amount of 0": encode_request(FIRST, "decr", (KEY, 0)),
    "an amount below 0": encode_request(FIRST, "incr", (KEY, -3)),
    "the largest amount": encode_request(FIRST, "incr", (KEY, VALUE_MAX)),
    "an amount too large": encode_request(FIRST, "decr", (KEY, VALUE_MAX + 1)),
    "an amount that is none": encode_request(FIRST, "decr", (KEY, 1.0)),
    "strict": encode_request(FIRST, "decr", (b"absent", 1, True)),
    "no params": encode_request(FIRST, "incr", ()),
    "params of nil": encode([0, FIRST, "incr", None]),
    "params of one byte": encode([0, FIRST, "incr", b"k"]),
    "a map for params": encode([0, FIRST, "incr", {"k": 1}]),
    "no key": encode_request(FIRST, "incr", (b"",)),
    "a key too long": encode_request(FIRST, "incr", (b"k" * (KEY_BYTES_MAX + 1),)),
    "the longest key": encode_request(FIRST, "incr", (b"k" * KEY_BYTES_MAX,)),
    "a number for a key": encode_request(FIRST, "incr", (7,)),
    "an array for a key": encode_request(FIRST, "decr", ((KEY,),)),
    "a number that is read": encode_request(FIRST, "get", (7,)),
    "a read": encode_request(FIRST, "get", (KEY,)),
    "a binary": encode_request(FIRST, "incr", (KEY,)),
    "an apply": encode_request(FIRST, "apply", ([KEY, b"other"], [2, -1])),
    "a ping": encode_request(FIRST, "ping", ()),
    "no method": encode_request(FIRST, "nothing", (KEY,)),
    "a method of two": encode_request(FIRST, "incr\0incr", (KEY,)),
    "a nameless method": encode_request(FIRST, "", (KEY,)),
    "a number for a method": encode([0, FIRST, 4, [KEY]]),
    "a notification": encode_notification("incr", (KEY,)),
    "an id of 0": encode_request(0, "incr", (KEY,)),
    "an id of two bytes": encode_request(300, "incr", (KEY,)),
    "the last id": encode_request(2**32 - 1, "incr", (KEY,)),
    "an id with an upper byte of 0": encode_request(1 << 24, "incr", (KEY,)),
    "an id too large": encode([0, 2**32, "incr", [KEY]]),
    "an id below 0": encode([0, -5, "incr", [KEY]]),
    "an id that is true": encode([0, True, "incr", [KEY]]),
    "an id that is no integer": encode([0, 70_000.0, "incr", [KEY]]),
    "a kind that is false": encode([False, FIRST, "incr", [KEY]]),
    "a kind of 0.0": encode([0.0, FIRST, "incr", [KEY]]),
    "a reply": encode([1, FIRST, None, 5]),
    "five parts": encode([0, FIRST, "incr", [KEY], 1]),
    "four bytes": encode(b"\0\0\0\0"),
    "nil": encode(None),
    "a number": encode(5),
    "a map": encode({1: 2, 3: 4, 5: 6, 7: 8}),
    "bytes that are no msgpack": b"\xc1",
}

GOOD = [name for place, name in enumerate(ODD) if place <= list(ODD).index("an id of two bytes")]
"""Those that end no connection."""


def numbered(messages: list[bytes], first: int = FIRST) -> list[bytes]:
    """Requests with msgids in order."""
    return [
        msgpack.packb([0, first + place, *msgpack.unpackb(each, raw=True)[2:]]) for place, each in enumerate(messages)
    ]


def plain(method: str, count: int = COUNT, by: tuple[int, ...] = (), keys: int = 7) -> list[bytes]:
    """So many requests of one method and shape, on a few keys."""
    return numbered([encode_request(0, method, (b"key %d" % (place % keys), *by)) for place in range(count)])


def test_the_columns_here_are_taken() -> None:
    beside = Beside()
    for data in (plain("incr"), plain("incr", by=(3,)), plain("decr", by=(2,)), plain("get"), plain("decr")):
        beside.send(b"".join(data))
    assert beside.short_ways == 5


def test_fewer_requests_are_no_column() -> None:
    beside = Beside()
    beside.send(b"".join(plain("incr", COLUMN_MIN - 1)))
    assert beside.short_ways == 0
    beside.send(b"".join(plain("incr", COLUMN_MIN)))
    assert beside.short_ways == 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("odd", ODD)
def test_whatever_stands_among_them(policy: str, odd: str) -> None:
    beside = Beside(**POLICIES[policy])
    for method, by, place in itertools.product(["incr", "decr"], [(), (2,)], [0, 1, COUNT // 2, COUNT]):
        if beside.over:
            beside = Beside(**POLICIES[policy])
        beside.send(b"".join(plain("incr", COUNT // 2)))
        messages = plain(method, by=by)
        beside.send(b"".join([*messages[:place], ODD[odd], *messages[place:]]))
        beside.send(b"".join(plain("get")))
    beside.check()


@pytest.mark.parametrize("first", [0, 1, 2, 100, 120, 250, 300, 65_530, 65_536, 1 << 24, 2**32 - COUNT])
@pytest.mark.parametrize("value", [1, 120, 250, 300, 65_530, 70_000, 2**30 - 20, 2**32 - 20, 2**62, VALUE_MAX - 5])
def test_every_width_of_msgid_and_value(first: int, value: int) -> None:
    beside = Beside()
    beside.send(encode_request(5, "incr", (b"key 0", value)))
    for method, by in (("incr", ()), ("get", ()), ("decr", ()), ("incr", (3,)), ("decr", (3,))):
        beside.send(b"".join(numbered(plain(method, by=by, keys=1), first)))
        beside.send(b"".join(numbered(plain(method, by=by, keys=2), first)))
    beside.check()


def test_an_overflow_in_the_middle_changes_nothing_and_the_rest_goes_on() -> None:
    beside = Beside()
    beside.send(encode_request(5, "incr", (b"key 0", VALUE_MAX - 10)))
    replies = decoded(beside.send(b"".join(plain("incr", 40, keys=2))))
    assert [error is None for _, _, error, _ in replies] == [place < 20 or place % 2 == 1 for place in range(40)]


def test_zeros_that_lazy_eviction_left() -> None:
    beside = Beside(eviction="lazy")
    for method in ("incr", "decr", "get", "incr", "decr", "decr", "incr"):
        beside.send(b"".join(plain(method, keys=COUNT)))


def test_counters_with_a_time_to_live() -> None:
    beside = Beside()
    beside.send(encode_request(5, "incr", (b"key 0", 2, 1_000)), encode_request(6, "incr", (b"key 1", 90, 90_000)))
    beside.send(b"".join(plain("incr")))
    beside.send(b"".join(plain("decr")))
    beside.advance(2_000)
    beside.send(b"".join(plain("incr")))


@pytest.mark.parametrize("wait", [("wait_zero", (b"key 3", 90_000)), ("acquire", ([(b"key 3", 1, 1)], 90_000))])
def test_somebody_waits(wait: tuple[str, Any]) -> None:
    beside = Beside()
    beside.send(OPEN, b"".join(plain("incr", keys=COUNT)), encode_request(9, *wait))
    beside.send(b"".join(plain("incr", keys=COUNT)))
    replies = decoded(beside.send(b"".join(plain("decr")), b"".join(plain("decr"))))
    assert 9 in [msgid for _, msgid, _, _ in replies]


def test_a_session_counts_and_keeps() -> None:
    beside = Beside()
    beside.send(OPEN)
    for _ in range(UNACKNOWLEDGED_MAX // COUNT + 1):
        beside.send(b"".join(plain("incr")))
    assert beside.quick.protocol.session.replied == UNACKNOWLEDGED_MAX // COUNT * COUNT + COUNT
    beside.send(encode_notification("ack", (COUNT,)) + b"".join(plain("decr")))
    beside.send(b"".join(plain("decr")))


def test_a_server_that_stops() -> None:
    beside = Beside()
    beside.send(b"".join(plain("incr")))
    for each in (beside.quick, beside.plain):
        each.protocol.refuse()
    beside.send(b"".join(plain("incr")))
    assert beside.short_ways == 1


def at_random(seed: int) -> None:
    """Some of everything that is to be told apart."""
    source = random.Random(seed)
    beside = Beside(**list(POLICIES.values())[seed % len(POLICIES)])
    if source.random() < 0.5:
        beside.send(OPEN)
    if source.random() < 0.3:
        beside.send(encode_request(5, "incr", (b"key 1", 2, 90_000)))
    if source.random() < 0.3:
        beside.send(encode_request(5, "incr", (b"key 0", source.choice([120, 250, *[VALUE_MAX - 9] * 4]))))
    for _ in range(12):
        keys = source.choice([2, 9, 200])
        count = source.randrange(1, 4 * COLUMN_MIN)
        methods = source.choice([["incr"], ["decr"], ["incr", "decr"], ["incr", "decr", "decr", "get"]])
        shapes = source.choice([[()], [()], [(2,)], [(), (3,)]])
        messages = [
            encode_request(0, method, (b"key %d" % source.randrange(keys), *(() if method == "get" else by)))
            for method, by in ((source.choice(methods), source.choice(shapes)) for _ in range(count))
        ]
        messages = numbered(messages, source.choice([90, 60_000, 65_500, 70_000, 70_000]))
        for _ in range(source.choice([0, 0, 1, 2])):
            messages.insert(source.randrange(count + 1), ODD[source.choice([*GOOD, *["an id of 0"] * 6])])
        beside.send(b"".join(messages))
        beside.check()


@pytest.mark.parametrize("seed", range(40))
def test_at_random(seed: int) -> None:
    at_random(seed)


FAULTS = [
    Fault("it ignores overflow", column, "_incr_all", "value > DIGIT_MAX and value > VALUE_MAX", "False"),
    Fault("it takes a zero for nothing", column, "_incr_all", "key in table or", ""),
    Fault("decrements leave a zero", column, "_decr_all", "value > 0", "value >= 0"),
    Fault("a mix leaves a zero", column, "_by_one", "value > 1", "value"),
    Fault("it only deletes where there is more to do", column, "serve", "cache.eviction_is_delete and ", ""),
    Fault("a mix only deletes where there is more to do", column, "_by_one", "not plain", "False"),
    Fault("amounts are not checked", column, "_by_some", "by.__class__ is not int or by < 1", "False"),
    Fault("an id too short is not noticed", column, "serve", "0 in heads[::2]", "False"),
    Fault("values too wide are not noticed", column, "_replies", "tails.isascii()", "True"),
    Fault(
        "what ends it is passed over", ServerProtocol, "_run_column", "messages[served:]", "messages[served + 1 :]"
    ),
    Fault("it is not counted", column, "serve", "session.count(len(values), len(values))", "pass"),
    Fault("evictions are not counted", column, "_decr_all", 'cache.evictions["zero"] += evicted', "pass"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.put_in(monkeypatch)
    for seed in range(200):
        try:
            at_random(seed)
        except Exception:
            return
    pytest.fail("nobody noticed")
