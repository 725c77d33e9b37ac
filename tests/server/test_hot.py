"""The hot path against the careful one: the same replies and the same state, whatever is sent and however cut."""

from __future__ import annotations

import itertools
import random
import struct
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from naught.wire.codec import encode
from naught.wire.limits import BATCH_ITEMS_MAX, KEY_BYTES_MAX, UNACKNOWLEDGED_MAX, VALUE_MAX
from naught_server import hot
from naught_server.hot import PLAIN_MAX, HotCounters, PlainApply, Served, serve
from naught_server.marks import MARKS
from support.conversation import Conversation, byte_by_byte, decoded, engine_of, random_cuts
from support.seeds import seeds
from support.twins import Twins

SEEDS = seeds([1], [2], [3, 4])

POLICIES: dict[str, dict[str, Any]] = {
    "eager": {"shards": 4},
    "lazy": {"shards": 4, "eviction": "lazy"},
    "bounded": {"shards": 1, "max_counters": 7},
    "lazy and bounded": {"shards": 2, "max_counters": 7, "eviction": "lazy"},
}


# ------------------------------------------------------------------------------------------------- encodings


def integers(value: int) -> list[bytes]:
    """Every encoding that MessagePack has for an integer."""
    found = []
    for lead, form, low, high in (
        (b"", "B", 0, 0x7F),
        (b"", "b", -32, -1),
        (b"\xcc", "B", 0, 0xFF),
        (b"\xcd", ">H", 0, 0xFFFF),
        (b"\xce", ">I", 0, 0xFFFFFFFF),
        (b"\xcf", ">Q", 0, 2**64 - 1),
        (b"\xd0", "b", -0x80, 0x7F),
        (b"\xd1", ">h", -0x8000, 0x7FFF),
        (b"\xd2", ">i", -(2**31), 2**31 - 1),
        (b"\xd3", ">q", -(2**63), 2**63 - 1),
    ):
        if low <= value <= high:
            found.append(lead + struct.pack(form, value))
    return found


def strings(value: bytes) -> list[bytes]:
    """Every encoding that MessagePack has for these bytes as a string or binary."""
    size = len(value)
    found = [bytes([0xA0 + size]) + value] if size < 32 else []
    for kinds, form, most in ((b"\xd9\xc4", "B", 0xFF), (b"\xda\xc5", ">H", 0xFFFF), (b"\xdb\xc6", ">I", 2**32 - 1)):
        if size <= most:
            found += [bytes([kind]) + struct.pack(form, size) + value for kind in kinds]
    return found


def arrays(items: list[bytes]) -> list[bytes]:
    """Every encoding that MessagePack has for an array of these encoded items."""
    size = len(items)
    heads = [bytes([0x90 + size])] if size < 16 else []
    heads += [b"\xdc" + struct.pack(">H", size), b"\xdd" + struct.pack(">I", size)]
    return [head + b"".join(items) for head in heads]


def request(msgid: bytes, method: bytes, params: bytes) -> bytes:
    """A request of encoded parts."""
    return b"\x94\x00" + msgid + method + params


def plain(msgid: int, method: str, *params: Any) -> bytes:
    """A request as msgpack encodes it."""
    return encode((0, msgid, method, params))


@pytest.mark.parametrize("msgid", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x4000, 0xFFFF, 0x10000, 2**32 - 1])
def test_a_msgid_in_every_encoding(msgid: int) -> None:
    twins = Twins()
    for encoded in integers(msgid):
        twins.send(request(encoded, b"\xa4incr", b"\x91\xa1k"))
    assert len(decoded(twins.hot.send(plain(msgid, "get", "k")))) == 1


@pytest.mark.parametrize("size", [1, 2, 31, 32, 255, 256, KEY_BYTES_MAX])
def test_a_key_in_every_encoding(size: int) -> None:
    twins = Twins()
    key = b"k" * size
    for method in (b"\xa4incr", b"\xa3get", b"\xa4decr"):
        for encoded in strings(key):
            replies = twins.send(request(b"\x07", method, b"\x91" + encoded))
            assert decoded(replies)[0][2] is None


@pytest.mark.parametrize("key", [b"", b"k" * (KEY_BYTES_MAX + 1)])
def test_a_key_that_is_none_is_refused_with_nothing_changed(key: bytes) -> None:
    twins = Twins()
    for method in (b"\xa4incr", b"\xa3get", b"\xa4decr"):
        for encoded in strings(key):
            assert decoded(twins.send(request(b"\x07", method, b"\x91" + encoded)))[0][2] is not None
    assert not any(twins.hot.engine.store.caches["default"].tables)


AMOUNTS = [
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0xFFFF,
    0x10000,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    VALUE_MAX - 1,
    VALUE_MAX,
]


@pytest.mark.parametrize("amount", [*AMOUNTS, 0, -1, -32, -33, -(2**63), 2**63, 2**64 - 1])
def test_an_amount_in_every_encoding(amount: int) -> None:
    twins = Twins()
    for encoded in integers(amount):
        for method in (b"\xa4incr", b"\xa4decr"):
            twins.send(request(b"\x07", method, b"\x92\xa1k" + encoded))


@pytest.mark.parametrize("amount", [*AMOUNTS, 0, -1, -32, -33, -128, -129, -(2**31), 1 - 2**63, -(2**63), 2**63])
def test_a_delta_in_every_encoding(amount: int) -> None:
    twins = Twins()
    twins.send(plain(1, "incr", "k", 5))
    for encoded in integers(amount):
        twins.send(request(b"\x07", b"\xa5apply", b"\x92\x92\xa1k\xa1j" + encoded))
        twins.send(request(b"\x07", b"\xa5apply", b"\x92\x92\xa1k\xa1j\x92" + encoded + b"\x01"))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 300, BATCH_ITEMS_MAX])
def test_arrays_in_every_encoding(count: int) -> None:
    twins = Twins()
    keys = arrays([strings(b"%d" % (number % 7))[number % 3] for number in range(count)])
    deltas = arrays([integers(1 - 2 * (number % 2))[0] for number in range(count)])
    for keys_encoded, deltas_encoded in zip(keys, deltas, strict=True):
        twins.send(request(b"\x07", b"\xa5apply", b"\x92" + keys_encoded + deltas_encoded))


@pytest.mark.parametrize(
    "value", [0, 1, 127, 128, 255, 256, 16_383, 16_384, 65_535, 65_536, 2**32 - 1, 2**32, VALUE_MAX]
)
def test_a_value_of_every_width(value: int) -> None:
    twins = Twins()
    if value:
        twins.send(plain(1, "incr", "k", value))
    assert decoded(twins.send(plain(70_000, "get", "k"))) == [[1, 70_000, None, value]]
    twins.send(plain(2, "apply", ["k", "k"], [1, -1]))


def test_other_parameters_are_for_the_careful_path() -> None:
    twins = Twins()
    for params in (
        [],
        ["k", 1, None],
        ["k", 1, 100],
        ["k", None],
        ["k", True],
        ["k", 1.0],
        ["k", "1"],
        [7],
        [None],
        ["k", 1, 2, 3],
    ):
        for method in ("incr", "decr", "get", "apply"):
            twins.send(plain(1, method, *params))
    for params in (
        ["k"],
        [["k"], [1, 2]],
        [["k"], []],
        [["k"], 0],
        [["k", 5], 1],
        [["k"], [None]],
        [["k"], 1, 100],
        [5, 1],
    ):
        twins.send(plain(1, "apply", *params))


@pytest.mark.parametrize(
    "delta",
    [b"\xd9\x80" + b"1" * 128, b"\xda\x80\x00" + b"1" * 0x8000, b"\xdc\x80\x00" + b"\x01" * 0x8000, b"\xd4\x80\x01"],
    ids=["a string", "a long string", "an array", "an extension"],
)
def test_what_is_no_delta_though_its_second_byte_is_that_of_a_negative_one(delta: bytes) -> None:
    for deltas in (delta, b"\x91" + delta):
        Twins().send(request(b"\x07", b"\xa5apply", b"\x92\x91\xa1k" + deltas))


def test_what_only_looks_like_a_plain_request() -> None:
    for data in (b"\x94\x00\x07\xa4incR\x91\xa1k", b"\x94\x00\x07\xa4decs\x91\xa1k", b"\x94\x00\x07\xa3gea\x91\xa1k"):
        assert decoded(Twins().send(data))[0][2][0] == b"unknown_method"
    for data in (
        b"\x94\x01\x07\xa4incr\x91\xa1k",
        b"\x95\x00\x07\xa4incr\x91\xa1k\x00",
        b"\x94\x00\xa1x\xa4incr\x91\xa1k",
    ):
        twins = Twins()
        twins.send(data)
        assert twins.hot.closing


# ------------------------------------------------------------------------------------------------- cuts


def test_a_request_that_is_not_whole_changes_nothing() -> None:
    for data in (
        plain(70_000, "incr", b"k" * 300, 2**40),
        plain(3, "decr", "k"),
        plain(3, "apply", ["k", b"j" * 40], [3, -300]),
    ):
        counters, served = _counters(), Served()
        out: list[bytes] = []
        for end in range(len(data)):
            assert serve(data[:end], 0, counters, out, served, 100) == 0
            assert not out
            assert served.apply is None
            assert not any(counters.tables)
        assert serve(data, 0, counters, out, served, 100) == len(data)


@pytest.mark.patches
def test_without_memory_the_fault_is_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """To raise it from there would need memory. The protocol raises it, before a reply of the turn is sent."""

    def fails(self: HotCounters, key: bytes, by: int) -> int:
        raise MemoryError

    monkeypatch.setattr(HotCounters, "decr", fails)
    data = plain(3, "incr", "k") + plain(4, "decr", "k")
    served = Served()
    assert serve(data, 0, _counters(), [], served, 100) == -1
    assert isinstance(served.fault, MemoryError)
    with pytest.raises(MemoryError):
        Conversation(engine_of(shards=1)).send(data)


def _counters() -> HotCounters:
    empty: tuple[dict[bytes, object], dict[bytes, object], dict[bytes, object]] = ({}, {}, {})
    counters = HotCounters([{} for _ in range(4)], [{} for _ in range(4)], [0] * 4, empty, [0] * MARKS, False)
    counters.allow(100)
    counters.begin(False, -1)
    return counters


def test_no_more_requests_are_served_than_allowed() -> None:
    data = b"".join(plain(number, "incr", "k") for number in range(10))
    out: list[bytes] = []
    counters, served = _counters(), Served()
    at = serve(data, 0, counters, out, served, 3)
    assert data[at:] == b"".join(plain(number, "incr", "k") for number in range(3, 10))
    assert served.incrs == 3
    assert serve(data, at, counters, out, served, 0) == at


def test_an_apply_is_handed_back_and_ends_the_call() -> None:
    data = plain(9, "apply", ["k", b"j"], [3, -4]) + plain(1, "incr", "k")
    counters, served = _counters(), Served()
    at = serve(data, 0, counters, [], served, 100)
    assert data[at:] == plain(1, "incr", "k")
    found = served.apply
    assert isinstance(found, PlainApply)
    assert (found.msgid, found.count, found.done) == (9, 2, 0)
    assert found.next_keys(1) == [b"k"]
    assert found.next_keys(9) == [b"k", b"j"]
    assert found.take() == (b"k", 3)
    assert found.next_keys(9) == [b"j"]
    assert found.take() == (b"j", -4)
    assert found.done == 2


def test_an_ack_is_handed_back_and_ends_the_call() -> None:
    data = plain(1, "incr", "k") + encode((2, "ack", [300])) + plain(2, "incr", "k")
    counters, served = _counters(), Served()
    at = serve(data, 0, counters, [], served, 100)
    assert (served.incrs, served.ack) == (1, 300)
    assert data[at:] == plain(2, "incr", "k")
    assert serve(data, at, counters, [], served, 100) == len(data)
    assert served.ack == -1


def test_only_the_notification_with_one_number_is_a_plain_ack() -> None:
    ack = encode((2, "ack", [300]))
    others = [ack[:at] + bytes([ack[at] ^ 1]) + ack[at + 1 :] for at in range(7)]
    others += [encode((2, "ack", params)) for params in ([], [-1], [1.0], [True], [b"1"], [1, 2], [2**63])]
    others += [encode((0, 1, "ack", [1])), *(ack[:end] for end in range(len(ack)))]
    for other in others:
        served = Served()
        assert serve(other, 0, _counters(), [], served, 100) == 0
        assert served.ack == -1, other


@pytest.mark.parametrize("replies", [1, 200, 300])
def test_an_ack_in_every_encoding_among_other_requests(replies: int) -> None:
    requests = b"".join(plain(number, "incr", f"k{number % 7}") for number in range(replies))
    for encoded in integers(replies):
        twins = Twins()
        twins.send(plain(0, "hello", {"session": True}))
        twins.send(requests)
        assert len(twins.hot.protocol.session.kept_replies()) > 0
        twins.send(plain(7, "get", "k1") + b"\x93\x02\xa3ack\x91" + encoded + plain(8, "incr", "k1"))
        assert twins.hot.protocol.session.acknowledged == replies
        assert twins.hot.protocol.session.unacknowledged() == 2


@pytest.mark.parametrize("session", [False, True], ids=["temporary", "session"])
@pytest.mark.parametrize("received", [0, 1, 2, 3, 4, 5, 2**31, VALUE_MAX])
def test_an_ack_of_replies_that_were_not_sent_or_not_anew_is_counted_as_an_error(
    received: int, session: bool
) -> None:
    twins = Twins()
    if session:
        twins.send(plain(0, "hello", {"session": True}))
    twins.send(b"".join(plain(number, "incr", "k") for number in range(4)), encode((2, "ack", [2])))
    for encoded in integers(received):
        twins.send(b"\x93\x02\xa3ack\x91" + encoded + plain(5, "get", "k"), plain(6, "ping"))
    errors = dict(twins.hot.engine.stats.errors)
    assert bool(errors) is (not session or received not in (2, 3, 4))
    twins.check()


# ------------------------------------------------------------------------------------------------- at random


class Stream:
    """A seeded source of requests: plain ones in every encoding, and all that can make a counter special."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._keys = [b"%d" % number for number in range(9)]
        self._msgid = 0
        self._hold = 0

    def some(self, count: int) -> bytes:
        """That many requests."""
        return b"".join(self._one() for _ in range(count))

    def _one(self) -> bytes:
        pick = self.random.random()
        if pick < 0.62:
            return self._plain()
        if pick < 0.72:
            return self._apply()
        method, params = self._special()
        return plain(self._next_msgid(), method, *params)

    def _next_msgid(self) -> int:
        # Wide steps, so that all widths occur; never the same twice, as a wait may still have it.
        self._msgid += self.random.choice([1, 1, 1, 100, 9_000])
        return self._msgid % 2**32

    def _key(self) -> bytes:
        return self.random.choice(self._keys)

    def _amount(self) -> int:
        return self.random.choice(
            [1, 1, 2, 3, 300, 70_000, VALUE_MAX, 0, -1] if self.random.random() < 0.1 else [1, 1, 2, 3]
        )

    def _plain(self) -> bytes:
        source = self.random
        msgid = source.choice(integers(self._next_msgid()))
        method = source.choice([b"\xa4incr", b"\xa4incr", b"\xa4decr", b"\xa4decr", b"\xa3get"])
        key = source.choice(strings(self._key()))
        if method == b"\xa3get" or source.random() < 0.5:
            return request(msgid, method, b"\x91" + key)
        return request(msgid, method, b"\x92" + key + source.choice(integers(self._amount())))

    def _apply(self) -> bytes:
        source = self.random
        count = source.choice([0, 1, 3, 8, 40])
        keys = [source.choice(strings(self._key())) for _ in range(count)]
        if source.random() < 0.5:
            deltas = source.choice(integers(source.choice([1, -1, 2, -3])))
        else:
            deltas = source.choice(arrays([integers(source.choice([1, -1, 2, -2, 5]))[0] for _ in range(count)]))
        return request(
            source.choice(integers(self._next_msgid())), b"\xa5apply", b"\x92" + source.choice(arrays(keys)) + deltas
        )

    def _special(self) -> tuple[str, list[Any]]:
        source = self.random
        key = self._key()
        ttl_ms = source.choice([1, 5, 40])
        choices: list[tuple[str, list[Any]]] = [
            ("incr", [key, 1, ttl_ms]),
            ("decr", [key, source.choice([1, 2]), True]),
            ("set", [key, source.choice([0, 1, 5])]),
            ("set", [key, 3, ttl_ms]),
            ("expire", [key, source.choice([None, ttl_ms])]),
            ("ttl", [key]),
            ("take", [[key, self._key()]]),
            ("try_incr", [[[key, 1, 4], [self._key(), 2, 6]]]),
            ("apply", [[key, self._key()], source.choice([1, -1]), ttl_ms]),
            ("acquire", [[[key, 1, 3]], source.choice([0, 20])]),
            ("acquire", [[[key, 2, 4], [self._key(), 1, 4]], 30]),
            ("release", [source.randint(1, 12)]),
            ("wait_zero", [key, source.choice([0, 20])]),
            ("get_many", [[key, self._key()]]),
            ("clear", []),
            ("count", []),
        ]
        weights = [3] * (len(choices) - 2) + [0.3, 1]
        return source.choices(choices, weights)[0]


@pytest.mark.parametrize("session", [False, True], ids=["temporary", "session"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_streams(seed: int, policy: str, session: bool) -> None:
    twins = Twins(**POLICIES[policy])
    stream = Stream(seed)
    if session:
        twins.send(plain(0, "hello", {"session": True}))
    for _ in range(40):
        requests = [stream.some(stream.random.choice([1, 2, 16, 60]))]
        if session and stream.random.random() < 0.5:
            received = stream.random.randint(-1, 1) + twins.hot.protocol.session.replied
            requests += [encode((2, "ack", [max(0, received)])), stream.some(3)]
        twins.send(*random_cuts(b"".join(requests), stream.random))
        if session and stream.random.random() < 0.5:
            for each in twins.both:
                each.send(encode((2, "ack", [each.protocol.session.replied])))
        if stream.random.random() < 0.4:
            twins.advance(stream.random.choice([1, 4, 30]), stream.random.choice([1, 10, 1_000]))
        twins.check()


@pytest.mark.patches
@pytest.mark.parametrize("request_for", ["incr", "decr", "get", "apply up", "apply down"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_backlog_of_expired_counters(policy: str, request_for: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More has expired than one chunk takes out: the deadline of each touched key is looked at."""
    monkeypatch.setattr("naught_server.store.EXPIRE_AT_ONCE", 1)
    twins = Twins(**POLICIES[policy])
    keys = [b"%d" % number for number in range(7)]
    for key in keys:
        twins.send(plain(1, "incr", key, 3, 5))
    for each in twins.both:
        each.now_ms += 10
    if request_for.startswith("apply"):
        replies = twins.send(plain(1, "apply", keys, 1 if request_for == "apply up" else -1))
        values = decoded(replies)[0][3]
    else:
        replies = twins.send(b"".join(plain(1, request_for, key) for key in keys))
        values = [reply[3] for reply in decoded(replies)]
    assert values == [1 if request_for in ("incr", "apply up") else 0] * len(keys)
    twins.check()


def test_a_session_is_not_served_beyond_its_window() -> None:
    twins = Twins()
    twins.send(plain(0, "hello", {"session": True}))
    replies = decoded(twins.send(b"".join(plain(number, "incr", "k") for number in range(1, UNACKNOWLEDGED_MAX + 9))))
    assert [reply[2] is None for reply in replies] == [True] * UNACKNOWLEDGED_MAX + [False] * 8


def test_msgids_of_every_length_in_any_order() -> None:
    """The beginning of a reply is kept for the next one."""
    source = random.Random(5)
    numbers = [
        0,
        1,
        0x7F,
        0x80,
        0xFF,
        0x100,
        0x17F,
        0x1FF,
        0x200,
        0xFFFF,
        0x10000,
        0x1FFFF,
        0xFF00FF,
        0xFFFFFF,
        0x80000000,
        0xFFFFFFFF,
    ]
    numbers += [number ^ 1 for number in numbers] + list(range(0xFFF0, 0x10200))
    for order in (numbers, numbers[::-1], source.sample(numbers, len(numbers))):
        twins = Twins()
        replies = decoded(twins.send(b"".join(plain(number, "incr", "k") for number in order)))
        assert [reply[1] for reply in replies] == order
        assert [reply[3] for reply in replies] == list(range(1, len(order) + 1))
        twins.check()


EDGES = [1, PLAIN_MAX - 1, PLAIN_MAX, PLAIN_MAX + 1, 2**62 - 1, 2**62, VALUE_MAX - 1, VALUE_MAX]


@pytest.mark.parametrize("ttl_ms", [None, 60_000])
def test_large_values_and_amounts(ttl_ms: int | None) -> None:
    """Where the sum needs no check, where it does, and where it is too large."""
    twins = Twins()
    for value, by in itertools.product(EDGES, EDGES):
        requests = (plain(1, "incr", "k", value, ttl_ms), plain(2, "incr", "k", by), plain(3, "decr", "k", by))
        first, second, third = (reply[3] for reply in decoded(twins.send(*requests)))
        assert first == value
        assert second == (value + by if value + by <= VALUE_MAX else None)
        assert third == max(0, (second or value) - by)
        twins.send(plain(4, "take", ["k"]))
    twins.check()


def test_plain_requests_of_a_used_cache_stay_hot() -> None:
    """Deadlines, holds and waiters of other keys cost nothing: what is plain is served on the hot path."""
    twins = Twins(shards=4, max_counters=100)
    here = twins.hot
    here.send(plain(0, "hello", {"session": True}))
    here.send(plain(1, "incr", "timed", 1, 60_000), plain(2, "acquire", [["held", 1, 1]]))
    here.send(plain(3, "acquire", [["held", 1, 1]], 60_000), plain(4, "wait_zero", "timed", 60_000))
    served = here.protocol._served
    here.send(
        b"".join(
            plain(number, method, "other") for number, method in enumerate(["incr", "incr", "decr", "get", "decr"])
        )
    )
    assert (served.incrs, served.decrs, served.gets) == (2, 2, 1)


@pytest.mark.parametrize("value", [5, 2**12 - 1, 2**15, 2**30, 2**42, PLAIN_MAX])
def test_plain_requests_of_counters_with_a_time_to_live_stay_hot(value: int) -> None:
    """Value and deadline are one integer, of any width: neither changes the other. Only the last decrement is not
    plain."""
    twins = Twins()
    twins.send(plain(1, "incr", "k", value, 60_000))
    served = twins.hot.protocol._served
    replies = b""
    for each in twins.both:
        replies = each.send(
            b"".join(plain(number, method, "k") for number, method in enumerate(["get", "incr", "decr"]))
        )
    assert [reply[3] for reply in decoded(replies)] == [value, value + 1, value]
    assert (served.incrs, served.decrs, served.gets) == (1, 1, 1)
    twins.compare()
    assert decoded(twins.send(plain(2, "ttl", "k"))) == [[1, 2, None, 60_000]]
    twins.send(plain(3, "decr", "k", value - 1), plain(4, "incr", "k", VALUE_MAX), plain(5, "decr", "k"))
    assert decoded(twins.send(plain(6, "ttl", "k"))) == [[1, 6, None, None]]
    twins.check()


def test_a_byte_at_a_time() -> None:
    twins = Twins()
    stream = Stream(7)
    twins.send(*byte_by_byte(stream.some(40)))


def test_every_integer_is_read_as_msgpack_reads_it() -> None:
    source = random.Random(11)
    for _ in range(2_000):
        value = source.choice([source.getrandbits(source.randint(1, 64)), -source.getrandbits(source.randint(1, 63))])
        if not -(2**63) <= value < 2**64:
            continue
        for encoded in integers(value):
            assert msgpack.unpackb(encoded) == value
            if 0 <= value <= VALUE_MAX:
                assert hot._unsigned(encoded, 0) == (value, len(encoded))
            delta, end = hot._delta(encoded, 0)
            expected = value if -VALUE_MAX <= value <= VALUE_MAX else 0
            assert delta == expected
            assert not delta or end == len(encoded)
