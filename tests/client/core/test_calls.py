"""`naught.core.calls`: the params of each method, the arguments it refuses, and the conversion of its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from naught.core import calls
from naught.core.calls import Call, Grant, Holder, ScanPage
from naught.errors import CounterOverflow, InvalidRequest, ProtocolError, TooLarge
from naught.wire.codec import decode_key
from support.each import for_each

MAX = 2**63 - 1


def scan(cursor: Any = 0, count: Any = 10, prefix: Any = "") -> Call[ScanPage[str]]:
    return calls.scan(cursor, count, prefix, decode_key)


def top(n: Any = 3, prefix: Any = "") -> Call[list[tuple[str, int]]]:
    return calls.top(n, prefix, decode_key)


def sessions(after: int = 0) -> Call[list[dict[str, Any]]]:
    return calls.sessions(after, decode_key)


# Call, method, params, and whether it is repeatable.
SENT: list[tuple[Call[Any], str, tuple[Any, ...], bool]] = [
    (calls.decr_strict("k", 2), "decr", (b"k", 2, True), False),
    (calls.apply(["a", b"b"], [1, -MAX], None), "apply", ([b"a", b"b"], [1, -MAX]), False),
    (calls.apply(iter(["a"]), 7, 5), "apply", ([b"a"], 7, 5), False),
    (calls.get("ä"), "get", ("ä".encode(),), True),
    (calls.get("\udcff"), "get", (b"\xff",), True),
    (calls.get_many(["a", "b"]), "get_many", ([b"a", b"b"],), True),
    (calls.set("a", 0, None), "set", (b"a", 0), False),
    (calls.set("a", MAX, 9), "set", (b"a", MAX, 9), False),
    (calls.take(["a"]), "take", ([b"a"],), False),
    (calls.try_incr([("a", 1, 2)], None), "try_incr", ([(b"a", 1, 2)],), False),
    (calls.try_incr([("a", 1, 2)], 7), "try_incr", ([(b"a", 1, 2)], 7), False),
    (calls.expire("a", None), "expire", (b"a", None), False),
    (calls.expire("a", 5), "expire", (b"a", 5), False),
    (calls.ttl("a"), "ttl", (b"a",), True),
    (scan(), "scan", (0, 10, b""), True),
    (scan(b"x", 4096, b"p"), "scan", (b"x", 4096, b"p"), True),
    (top(), "top", (3, b""), True),
    (calls.count(""), "count", (), True),
    (calls.count("p"), "count", (b"p",), True),
    (calls.clear(), "clear", (), False),
    (calls.ping(), "ping", (), True),
    (calls.info(), "info", (), True),
    (calls.config_get(None), "config_get", (), True),
    (calls.config_get("a"), "config_get", ("a",), True),
    (calls.config_set("a", 1.5), "config_set", ("a", 1.5), False),
    (calls.sweep(), "sweep", (), False),
    (sessions(), "sessions", (), True),
    (sessions(7), "sessions", (7,), True),
    (calls.holders("ä", 0), "holders", ("ä".encode(),), True),
    (calls.holders(b"a", 7), "holders", (b"a", 7), True),
    (calls.end_session(7), "end_session", (7,), False),
    (calls.slowlog(128), "slowlog", (128,), True),
    (calls.slowlog_reset(), "slowlog_reset", (), False),
]


@for_each(("call", "method", "params", "repeatable"), SENT)
def test_what_is_sent(call: Call[Any], method: str, params: tuple[Any, ...], repeatable: bool) -> None:
    assert (call.method, call.params, call.repeatable) == (method, params, repeatable)


BAD_KEYS: list[Any] = ["", b"", 5, None, True, ["a"], bytearray(b"a"), memoryview(b"a"), "\ud800", "a\udc7f"]
BAD_INTEGERS: list[Any] = [True, 1.0, "1", None, b"1", 2**63]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused_by_every_method(key: Any) -> None:
    refused: list[Callable[[], Any]] = [
        lambda: calls.decr_strict(key, 1),
        lambda: calls.apply([key], 1, None),
        lambda: calls.get(key),
        lambda: calls.get_many(["a", key]),
        lambda: calls.set(key, 1, None),
        lambda: calls.take([key]),
        lambda: calls.try_incr([(key, 1, 1)], None),
        lambda: calls.expire(key, 1),
        lambda: calls.throttle(key, 1, 1, None, 1),
        lambda: calls.ttl(key),
        lambda: calls.holders(key, 0),
    ]
    for make in refused:
        with pytest.raises(InvalidRequest, match="a key"):
            make()


@pytest.mark.parametrize("value", BAD_INTEGERS)
def test_bad_integers_are_refused_by_every_method(value: Any) -> None:
    refused: list[Callable[[], Any]] = [
        lambda: calls.decr_strict("a", value),
        lambda: calls.apply(["a"], [value], None),
        lambda: calls.set("a", value, None),
        lambda: calls.try_incr([("a", value, 1)], None),
        lambda: calls.try_incr([("a", 1, value)], None),
        lambda: scan(count=value),
        lambda: top(value),
        lambda: calls.end_session(value),
    ]
    for make in refused:
        with pytest.raises(InvalidRequest):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: calls.decr_strict("a", 0),
        lambda: calls.decr_strict("a", -1),
        lambda: calls.apply(["a"], 0, None),
        lambda: calls.apply(["a", "b"], [1], None),
        lambda: calls.apply("ab", 1, None),
        lambda: calls.apply(["a"], 1, 0),
        lambda: calls.apply(["a"], 1, True),
        lambda: calls.get_many(b"ab"),  # type: ignore[arg-type]
        lambda: calls.set("a", -1, None),
        lambda: calls.set("a", 1, 10 * 365 * 24 * 3600 * 1000 + 1),
        lambda: calls.expire("a", 0),
        lambda: scan(5),
        lambda: scan(True),
        lambda: scan(None),
        lambda: scan("x"),
        lambda: scan(prefix=None),
        lambda: scan(prefix=0),
        lambda: scan(count=4097),
        lambda: calls.config_get(5),  # type: ignore[arg-type]
        lambda: calls.config_get("\udcff"),
        lambda: calls.config_set("\ud800", 1),
        lambda: calls.config_set("a", "\ud800"),
        lambda: calls.config_set("a", object()),
        lambda: calls.config_set("a", 2**70),
        lambda: calls.check_timeout("1"),
        lambda: calls.check_timeout(True),
        lambda: calls.check_timeout(float("nan")),
        lambda: calls.check_timeout(float("inf")),
        lambda: calls.check_timeout(-1),
        lambda: calls.check_timeout(-0.001),
        lambda: calls.try_incr([("a", 1)], None),  # type: ignore[list-item]
        lambda: calls.try_incr(["abc"], None),  # type: ignore[list-item]
        lambda: calls.try_incr("abc", None),  # type: ignore[arg-type]
        lambda: calls.try_incr(5, None),  # type: ignore[arg-type]
        lambda: calls.try_incr([], None),
        lambda: calls.release(1, [("a", 1, 1)]),  # type: ignore[list-item]
        lambda: calls.release(1, 5),  # type: ignore[arg-type]
        lambda: calls.get_many(5),  # type: ignore[arg-type]
        lambda: calls.throttle("a", 0, 1, None, 1),
        lambda: calls.throttle("a", 1, 0, None, 1),
        lambda: calls.throttle("a", 1, 1, 0, 1),
        lambda: calls.throttle("a", 1, 1, 1, -1),
        lambda: calls.throttle("a", 1, 1, 1, 1.0),  # type: ignore[arg-type]
        lambda: calls.check_amount(0),
        lambda: calls.end_session(0),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidRequest):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: calls.get("k" * 513),
        lambda: calls.get("ä" * 257),
        lambda: calls.get_many(["k"] * 4097),
        lambda: calls.try_incr([("k", 1, 1)] * 1025, None),
        lambda: calls.acquire([("k", 1, 1)] * 1025, 0),
        lambda: calls.release(1, [("k", 1)] * 1025),
        lambda: calls.take(["k" * 512] * 2_000),
        lambda: calls.try_incr([("k" * 512, 1, 1)] * 2_000, None),
        lambda: scan(prefix="k" * 513),
    ],
)
def test_what_is_over_a_limit_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(TooLarge):
        make()


def test_a_whole_number_of_another_class_counts() -> None:
    class Amount(int):
        pass

    assert calls.set("a", Amount(5), None).params == (b"a", 5)


# Call, decoded value of the wire, and the result that it converts to.
READ: list[tuple[Call[Any], Any, Any]] = [
    (calls.get("a"), 5, 5),
    (calls.get_many(["a", "b"]), [1, 2], [1, 2]),
    (calls.try_incr([("a", 1, 2)], None), [True, [1]], Grant(True, [1])),
    (calls.expire("a", 1), False, False),
    (calls.ttl("a"), None, None),
    (calls.ttl("a"), -1, -1),
    (scan(), [b"c", [b"\xff"], [3]], ScanPage(b"c", [("\udcff", 3)])),
    (scan(), [0, [], []], ScanPage(0, [])),
    (top(), [[b"a", b"b"], [2, 1]], [("a", 2), ("b", 1)]),
    (calls.ping(), b"pong", None),
    (calls.info(), {b"a": {b"b": [b"c", 1, None]}}, {"a": {"b": ["c", 1, None]}}),
    (calls.config_get("a"), b"info", "info"),
    (calls.sweep(), 7, 7),
    (sessions(), [], []),
    (
        sessions(),
        [{b"session": 1, b"name": "ä".encode(), b"held": [[b"\xff", 2]], b"waits": [[b"room", [b"a", b"\xff"]]]}],
        [{"session": 1, "name": "ä", "held": [("\udcff", 2)], "waits": [("room", ["a", "\udcff"])]}],
    ),
    (calls.holders("a", 0), [], []),
    (calls.holders("a", 0), [[1, b"me", 2, b"unix"]], [Holder(1, "me", 2, "unix")]),
    (calls.end_session(1), True, True),
    (calls.slowlog(1), [{b"method": b"get", b"name": None}], [{"method": "get", "name": None}]),
    (calls.slowlog(1), [], []),
    (calls.slowlog_reset(), 3, 3),
    (calls.throttle("a", 1, 1, None, 1), [False, 0, 5, 9], calls.Throttled(False, 0, 5, 9)),
    (calls.release(7, None), [1, 0], [1, 0]),
    (calls.held(0, decode_key), [[7, [[b"a", 2], [b"\xff", 1]]]], [(7, {"a": 2, "\udcff": 1})]),
]

# Call, and a value that cannot be its result.
UNREADABLE: list[tuple[Call[Any], Any]] = [
    (calls.get("a"), True),
    (calls.get("a"), b"5"),
    (calls.get_many(["a", "b"]), [1]),
    (calls.get_many(["a"]), [None]),
    (calls.get_many(["a"]), {b"a": 1}),
    (calls.apply(["a"], 1, None), [1.5]),
    (calls.apply(["a"], 1, None), [[b"overflow"]]),
    (calls.apply(["a"], 1, None), 1),
    (calls.try_incr([("a", 1, 2)], None), [True]),
    (calls.try_incr([("a", 1, 2)], None), [1, [1]]),
    (calls.try_incr([("a", 1, 2)], None), [True, [1, 2]]),
    (calls.expire("a", 1), 1),
    (calls.slowlog(1), 1),
    (calls.slowlog(1), [1]),
    (calls.slowlog_reset(), None),
    (scan(), [0, []]),
    (scan(), [None, [], []]),
    (scan(), [5, [], []]),
    (scan(), [0, [b"a"], []]),
    (scan(), [0, ["a"], [1]]),
    (scan(), [0, [b"a"], [b"1"]]),
    (top(), [[b"a"]]),
    (top(), 5),
    (calls.info(), []),
    (sessions(), {}),
    (sessions(), [[]]),
    (sessions(), [{b"session": 1}]),
    (sessions(), [{b"held": [[b"a"]], b"waits": []}]),
    (sessions(), [{b"held": [[b"a", b"1"]], b"waits": []}]),
    (sessions(), [{b"held": [[5, 1]], b"waits": []}]),
    (sessions(), [{b"held": [], b"waits": [[b"room"]]}]),
    (sessions(), [{b"held": [], b"waits": [[b"room", 5]]}]),
    (sessions(), [{b"held": [], b"waits": [[5, []]]}]),
    (calls.holders("a", 0), 5),
    (calls.holders("a", 0), [5]),
    (calls.holders("a", 0), [[1, b"me", 2]]),
    (calls.holders("a", 0), [[1, b"me", True, b"unix"]]),
    (calls.holders("a", 0), [[1, 5, 2, b"unix"]]),
    (calls.end_session(1), 1),
    (calls.throttle("a", 1, 1, None, 1), [True, 1, 0]),
    (calls.throttle("a", 1, 1, None, 1), [1, 1, 0, 0]),
    (calls.throttle("a", 1, 1, None, 1), [True, 1, 0, None]),
    (calls.acquire([("a", 1, 1)], 0), [True, [1]]),
    (calls.acquire([("a", 1, 1)], 0), [True, [1], None]),
    (calls.acquire([("a", 1, 1)], 0), [False, [1], 7]),
    (calls.acquire([("a", 1, 1)], 0), [True, [1, 2], 7]),
    (calls.acquire([("a", 1, 1)], 0), [True, [1], b"7"]),
    (calls.release(7, None), 5),
    (calls.release(7, None), [b"5"]),
    (calls.release(7, [("a", 1)]), []),
    (calls.held(0, decode_key), 5),
    (calls.held(0, decode_key), [[1]]),
    (calls.held(0, decode_key), [[1, 5]]),
    (calls.held(0, decode_key), [[1, [[5, 2]]]]),
]


@for_each(("call", "wire", "result"), READ)
def test_how_a_result_is_read(call: Call[Any], wire: Any, result: Any) -> None:
    assert call.convert(wire) == result


@for_each(("call", "wire"), UNREADABLE)
def test_what_cannot_be_a_result_is_refused(call: Call[Any], wire: Any) -> None:
    with pytest.raises(ProtocolError):
        call.convert(wire)


def test_failed_items_are_exceptions_in_their_place() -> None:
    first, second = calls.apply(["a", "b"], 1, None).convert([4, [b"overflow", b"too much"]])
    assert first == 4
    assert isinstance(second, CounterOverflow)


def test_keys_come_back_as_they_were_asked_for() -> None:
    assert calls.scan(0, 1, "", bytes).convert([0, [b"\xff"], [1]]).counters == [(b"\xff", 1)]


def test_keys_within_sessions_are_those_of_the_client() -> None:
    wire = [{b"name": b"me", b"held": [[b"\xff", 2]], b"waits": [[b"zero", [b"\xff"]]]}]
    (row,) = calls.sessions(0, bytes).convert(wire)
    assert row == {"name": "me", "held": [(b"\xff", 2)], "waits": [("zero", [b"\xff"])]}
