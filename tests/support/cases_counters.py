"""What every command answers, as plain data: (name, [(operation, arguments, expected), ...]).

Each case starts with an empty cache. Besides the methods of the wire there is the operation `pass`, which lets that
many milliseconds go by. An expected error is `Refused(code)`. Results are as they come off the wire: arrays are
lists, keys are bytes. Whoever keeps counters can be held against this table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

VALUE_MAX = 2**63 - 1
LONG_KEY = b"x" * 512

Step = tuple[str, tuple[Any, ...], Any]
Case = tuple[str, list[Step]]


class Refused(NamedTuple):
    """The call is refused with an error of this code."""

    code: str


INVALID = Refused("invalid")
TOO_LARGE = Refused("too_large")
OVERFLOW = Refused("overflow")
UNDERFLOW = Refused("underflow")
FULL = Refused("full")

_OVERFLOW_ITEM = [b"overflow", b"the value would pass 2^63 - 1"]
_BAD_KEY_ITEM = [b"invalid", b"a key is 1 to 512 bytes"]
_BAD_DELTA_ITEM = [b"invalid", b"a delta is an integer, not 0"]
_FULL_ITEM = [b"full", b"the cache holds max_counters already"]

COUNTING: list[Case] = [
    (
        "incr creates, adds, and is not touched by reading",
        [
            ("get", ("k",), 0),
            ("count", (), 0),
            ("incr", ("k",), 1),
            ("incr", ("k", 41), 42),
            ("get", ("k",), 42),
            ("count", (), 1),
        ],
    ),
    (
        "strings and binaries are the same key",
        [("incr", ("ключ",), 1), ("incr", ("ключ".encode(),), 2), ("count", (), 1)],
    ),
    (
        "a counter that reaches zero is gone",
        [
            ("incr", ("k", 2), 2),
            ("decr", ("k",), 1),
            ("decr", ("k",), 0),
            ("get", ("k",), 0),
            ("ttl", ("k",), None),
            ("count", (), 0),
            ("scan", (0,), [0, [], []]),
            ("decr", ("k",), 0),
            ("incr", ("k",), 1),
            ("count", (), 1),
        ],
    ),
    (
        "decr stops at zero and never creates",
        [
            ("decr", ("k",), 0),
            ("decr", ("k", 7), 0),
            ("count", (), 0),
            ("incr", ("k", 3), 3),
            ("decr", ("k", 100), 0),
            ("count", (), 0),
        ],
    ),
    (
        "strict decr refuses to pass zero and says which call evicted",
        [
            ("decr", ("k", 1, True), UNDERFLOW),
            ("incr", ("k", 3), 3),
            ("decr", ("k", 4, True), UNDERFLOW),
            ("get", ("k",), 3),
            ("decr", ("k", 1, True), 2),
            ("decr", ("k", 2, True), 0),
            ("decr", ("k", 1, True), UNDERFLOW),
            ("decr", ("k", 1, False), 0),
            ("count", (), 0),
        ],
    ),
    (
        "values end at 2^63 - 1, and nothing changes past it",
        [
            ("incr", ("k", VALUE_MAX), VALUE_MAX),
            ("incr", ("k",), OVERFLOW),
            ("incr", ("k", VALUE_MAX), OVERFLOW),
            ("get", ("k",), VALUE_MAX),
            ("decr", ("k",), VALUE_MAX - 1),
            ("incr", ("k", 2), OVERFLOW),
            ("incr", ("k",), VALUE_MAX),
            ("decr", ("k", VALUE_MAX, True), 0),
            ("count", (), 0),
        ],
    ),
    (
        "what incr and decr refuse changes nothing",
        [
            ("incr", ("k", 0), INVALID),
            ("incr", ("k", -1), INVALID),
            ("incr", ("k", 2**63), INVALID),
            ("incr", ("k", True), INVALID),
            ("incr", ("k", 1.0), INVALID),
            ("incr", ("k", "1"), INVALID),
            ("incr", ("k", None), INVALID),
            ("incr", (), INVALID),
            ("incr", ("k", 1, None, None), INVALID),
            ("incr", ("",), INVALID),
            ("incr", (7,), INVALID),
            ("incr", (None,), INVALID),
            ("incr", (["k"],), INVALID),
            ("incr", (True,), INVALID),
            ("incr", (LONG_KEY + b"x",), TOO_LARGE),
            ("incr", (LONG_KEY + b"x", 5), TOO_LARGE),
            ("decr", ("k", 0), INVALID),
            ("decr", ("k", -1), INVALID),
            ("decr", ("k", False), INVALID),
            ("decr", ("k", 1, 1), INVALID),
            ("decr", ("k", 1, None), INVALID),
            ("decr", ("",), INVALID),
            ("decr", (LONG_KEY + b"x",), TOO_LARGE),
            ("get", ("",), INVALID),
            ("get", (3,), INVALID),
            ("get", (LONG_KEY + b"x",), TOO_LARGE),
            ("get", (), INVALID),
            ("get", ("k", "l"), INVALID),
            ("count", (), 0),
        ],
    ),
    (
        "the longest key and bytes that are no text",
        [("incr", (LONG_KEY,), 1), ("incr", (b"\xff\x00",), 1), ("get_many", ([LONG_KEY, b"\xff\x00"],), [1, 1])],
    ),
]

APPLYING: list[Case] = [
    (
        "apply takes one delta for all or one for each",
        [
            ("apply", (["a", "b"], 2), [2, 2]),
            ("apply", (["a", "b", "c"], [1, -2, -9]), [3, 0, 0]),
            ("count", (), 1),
            ("apply", (["a"], -3), [0]),
            ("count", (), 0),
            ("apply", ([], 1), []),
            ("apply", ([], []), []),
        ],
    ),
    (
        "the items of apply stand alone, in order",
        [
            ("incr", ("full", VALUE_MAX), VALUE_MAX),
            (
                "apply",
                (["a", "full", "", "a", 5, "a", "a", "a"], [1, 1, 1, 1, 1, 0, True, -2]),
                [1, _OVERFLOW_ITEM, _BAD_KEY_ITEM, 2, _BAD_KEY_ITEM, _BAD_DELTA_ITEM, _BAD_DELTA_ITEM, 0],
            ),
            ("get_many", (["a", "full"],), [0, VALUE_MAX]),
            ("apply", ([LONG_KEY + b"x", LONG_KEY], 1), [_BAD_KEY_ITEM, 1]),
            ("apply", (["a", "full", "a"], [2**63, -(2**63), -(2**63)]), [_BAD_DELTA_ITEM] * 3),
            ("apply", (["full", "b"], [-VALUE_MAX, VALUE_MAX]), [0, VALUE_MAX]),
        ],
    ),
    (
        "a key twice in one apply sees the item before it",
        [("apply", (["a", "a", "a", "a"], [1, -1, 5, -2]), [1, 0, 5, 3]), ("get", ("a",), 3)],
    ),
    (
        "apply gives its time to live to what it creates and to nothing else",
        [
            ("incr", ("old",), 1),
            ("apply", (["old", "new"], 1, 100), [2, 1]),
            ("ttl", ("old",), -1),
            ("ttl", ("new",), 100),
            ("pass", (100,), None),
            ("get_many", (["old", "new"],), [2, 0]),
        ],
    ),
    (
        "what apply refuses as a whole changes nothing",
        [
            ("apply", (["a", "b"], [1]), INVALID),
            ("apply", (["a"], [1, 2]), INVALID),
            ("apply", (["a"], 0), INVALID),
            ("apply", (["a"], True), INVALID),
            ("apply", (["a"], None), INVALID),
            ("apply", (["a"], 2**63), INVALID),
            ("apply", (["a"], 1, 0), INVALID),
            ("apply", ("a", 1), INVALID),
            ("apply", (["a"],), INVALID),
            ("apply", (["a"], 1, None, None), INVALID),
            ("apply", (["a"] * 4097, 1), TOO_LARGE),
            ("apply", (["a"] * 4097, [1] * 4097), TOO_LARGE),
            ("count", (), 0),
            ("apply", (["a"] * 4096, 1), list(range(1, 4097))),
        ],
    ),
]

SETTING: list[Case] = [
    (
        "set answers what was before, and 0 evicts",
        [
            ("set", ("k", 5), 0),
            ("set", ("k", 9), 5),
            ("get", ("k",), 9),
            ("set", ("k", 0), 9),
            ("count", (), 0),
            ("set", ("k", 0), 0),
            ("incr", ("k",), 1),
            ("decr", ("k",), 0),
            ("set", ("k", 0), 0),
            ("set", ("k", VALUE_MAX), 0),
            ("get", ("k",), VALUE_MAX),
        ],
    ),
    (
        "set replaces the time to live, and clears it with none",
        [
            ("set", ("k", 5, 100), 0),
            ("ttl", ("k",), 100),
            ("set", ("k", 6, 50), 5),
            ("ttl", ("k",), 50),
            ("set", ("k", 7), 6),
            ("ttl", ("k",), -1),
            ("pass", (1000,), None),
            ("get", ("k",), 7),
            ("set", ("k", 0, 100), 7),
            ("ttl", ("k",), None),
        ],
    ),
    (
        "what set refuses changes nothing",
        [
            ("set", ("k", 5), 0),
            ("set", ("k", -1), INVALID),
            ("set", ("k", 2**63), INVALID),
            ("set", ("k", True), INVALID),
            ("set", ("k", None), INVALID),
            ("set", ("k", 6, 0), INVALID),
            ("set", ("k", 6, -5), INVALID),
            ("set", ("k", 6, 1.5), INVALID),
            ("set", ("k", 6, True), INVALID),
            ("set", ("k", 6, 2**62), INVALID),
            ("set", ("k",), INVALID),
            ("get", ("k",), 5),
        ],
    ),
    (
        "take reads and evicts, a key named twice once",
        [
            ("apply", (["a", "b", "c"], [1, 2, 3]), [1, 2, 3]),
            ("take", (["a", "nothing", "b", "a", "a"],), [1, 0, 2, 0, 0]),
            ("count", (), 1),
            ("take", ([],), []),
            ("take", (["c", ""],), INVALID),
            ("take", (["c"] * 4097,), TOO_LARGE),
            ("get", ("c",), 3),
            ("decr", ("c", 3), 0),
            ("take", (["c"],), [0]),
            ("incr", ("a",), 1),
        ],
    ),
    (
        "get_many answers in order, and creates nothing",
        [
            ("incr", ("a", 5), 5),
            ("get_many", (["b", "a", "a"],), [0, 5, 5]),
            ("get_many", ([],), []),
            ("get_many", ("a",), INVALID),
            ("get_many", (["a", 1],), INVALID),
            ("get_many", (["a"] * 4097,), TOO_LARGE),
            ("count", (), 1),
        ],
    ),
    (
        "clear evicts all",
        [
            ("clear", (), 0),
            ("apply", (["a", "b", "c"], 1), [1, 1, 1]),
            ("decr", ("c",), 0),
            ("expire", ("b", 50), True),
            ("clear", (), 2),
            ("count", (), 0),
            ("get_many", (["a", "b", "c"],), [0, 0, 0]),
            ("incr", ("b",), 1),
            ("pass", (100,), None),
            ("get", ("b",), 1),
            ("clear", (1,), INVALID),
        ],
    ),
    (
        "clear counts what lives, not what has expired",
        [("apply", ([f"k{i}" for i in range(300)], 1, 10), [1] * 300), ("pass", (10,), None), ("clear", (), 0)],
    ),
]

EXPIRING: list[Case] = [
    (
        "an expired counter is absent at once, whoever looks",
        [
            ("incr", ("k", 5, 100), 5),
            ("pass", (99,), None),
            ("get", ("k",), 5),
            ("ttl", ("k",), 1),
            ("pass", (1,), None),
            ("get", ("k",), 0),
            ("ttl", ("k",), None),
            ("count", (), 0),
            ("expire", ("k", 100), False),
            ("take", (["k"],), [0]),
            ("incr", ("k",), 1),
            ("ttl", ("k",), -1),
        ],
    ),
    ("decr of an expired counter", [("incr", ("k", 5, 9), 5), ("pass", (9,), None), ("decr", ("k",), 0)]),
    (
        "strict decr of an expired counter",
        [("incr", ("k", 5, 9), 5), ("pass", (9,), None), ("decr", ("k", 1, True), UNDERFLOW)],
    ),
    ("set of an expired counter", [("incr", ("k", 5, 9), 5), ("pass", (10,), None), ("set", ("k", 2), 0)]),
    (
        "apply on an expired counter",
        [("incr", ("k", 5, 9), 5), ("pass", (9,), None), ("apply", (["k"], 2), [2]), ("ttl", ("k",), -1)],
    ),
    (
        "try_incr on an expired counter",
        [("incr", ("k", 5, 9), 5), ("pass", (9,), None), ("try_incr", ([["k", 1, 1]], 20), [True, [1]])],
    ),
    (
        "listings of an expired counter",
        [
            ("incr", ("k", 5, 9), 5),
            ("pass", (9,), None),
            ("scan", (0, 10, ""), [0, [], []]),
            ("top", (3,), [[], []]),
            ("count", ("k",), 0),
        ],
    ),
    (
        "increments and decrements do not touch the time to live",
        [
            ("incr", ("k", 5, 100), 5),
            ("pass", (40,), None),
            ("incr", ("k", 1, 500), 6),
            ("incr", ("k", 1), 7),
            ("decr", ("k",), 6),
            ("apply", (["k"], 1, 900), [7]),
            ("try_incr", ([["k", 1, 10]], 900), [True, [8]]),
            ("ttl", ("k",), 60),
            ("pass", (60,), None),
            ("get", ("k",), 0),
        ],
    ),
    (
        "expire sets, replaces and clears",
        [
            ("expire", ("k", 10), False),
            ("incr", ("k",), 1),
            ("expire", ("k", None), False),
            ("expire", ("k", 100), True),
            ("ttl", ("k",), 100),
            ("expire", ("k", 200), True),
            ("pass", (150,), None),
            ("ttl", ("k",), 50),
            ("expire", ("k", None), True),
            ("ttl", ("k",), -1),
            ("pass", (100_000,), None),
            ("get", ("k",), 1),
            ("expire", ("k", 0), INVALID),
            ("expire", ("k",), INVALID),
            ("expire", ("k", True), INVALID),
            ("ttl", ("",), INVALID),
        ],
    ),
    (
        "a new life has nothing of the old one's time to live",
        [
            ("incr", ("k", 1, 100), 1),
            ("decr", ("k",), 0),
            ("incr", ("k",), 1),
            ("ttl", ("k",), -1),
            ("take", (["k"],), [1]),
            ("incr", ("k", 1, 30), 1),
            ("ttl", ("k",), 30),
            ("pass", (30,), None),
            ("incr", ("k", 1, 70), 1),
            ("pass", (30,), None),
            ("get", ("k",), 1),
            ("ttl", ("k",), 40),
        ],
    ),
    (
        "times to live of more than a lap of the near wheel and of the later one",
        [
            ("incr", ("short", 1, 10), 1),
            ("incr", ("long", 1, 65_536 + 10), 1),
            ("incr", ("longer", 1, 2 * 65_536 + 10), 1),
            ("incr", ("longest", 1, 2 * 1_048_576 + 10), 1),
            ("pass", (10,), None),
            ("count", (), 3),
            ("pass", (65_536,), None),
            ("count", (), 2),
            ("ttl", ("longer",), 65_536),
            ("pass", (65_536,), None),
            ("count", (), 1),
            ("pass", (1_048_576,), None),
            ("ttl", ("longest",), 1_048_576 - 2 * 65_536),
            ("pass", (1_048_576 - 2 * 65_536 - 1,), None),
            ("count", (), 1),
            ("pass", (1,), None),
            ("count", (), 0),
        ],
    ),
]

LIMITING: list[Case] = [
    (
        "try_incr grants within the limit, all or nothing",
        [
            ("try_incr", ([["a", 1, 2], ["b", 2, 2]],), [True, [1, 2]]),
            ("try_incr", ([["a", 1, 2], ["b", 1, 2]],), [False, [1, 2]]),
            ("get_many", (["a", "b"],), [1, 2]),
            ("try_incr", ([["a", 1, 2]],), [True, [2]]),
            ("try_incr", ([["c", 1, 0]],), [False, [0]]),
            ("count", (), 2),
        ],
    ),
    (
        "items of one key add up and are judged together, each by its limit",
        [
            ("try_incr", ([["a", 1, 3], ["a", 2, 3]],), [True, [3, 3]]),
            ("try_incr", ([["b", 1, 9], ["b", 2, 2]],), [False, [0, 0]]),
            ("try_incr", ([["b", 1, 2], ["b", 2, 9]],), [False, [0, 0]]),
            ("try_incr", ([["b", 2, 4], ["x", 1, 1], ["b", 2, 4]],), [True, [4, 1, 4]]),
        ],
    ),
    (
        "limits reach to 2^63 - 1 and sums do not wrap",
        [
            ("try_incr", ([["a", VALUE_MAX, VALUE_MAX]],), [True, [VALUE_MAX]]),
            ("try_incr", ([["a", 1, VALUE_MAX]],), [False, [VALUE_MAX]]),
            ("try_incr", ([["b", VALUE_MAX, VALUE_MAX], ["b", VALUE_MAX, VALUE_MAX]],), [False, [0, 0]]),
        ],
    ),
    (
        "try_incr gives its time to live to what it creates",
        [
            ("incr", ("old",), 1),
            ("try_incr", ([["old", 1, 9], ["new", 1, 9]], 40), [True, [2, 1]]),
            ("ttl", ("old",), -1),
            ("ttl", ("new",), 40),
            ("decr", ("new",), 0),
            ("try_incr", ([["new", 1, 9]],), [True, [1]]),
            ("ttl", ("new",), -1),
        ],
    ),
    (
        "what try_incr refuses changes nothing",
        [
            ("try_incr", ([],), INVALID),
            ("try_incr", ("a",), INVALID),
            ("try_incr", ([["a", 1, 5], ["a", 1]],), INVALID),
            ("try_incr", ([["a", 1, 5], "abc"],), INVALID),
            ("try_incr", ([["a", 0, 5]],), INVALID),
            ("try_incr", ([["a", 1, -1]],), INVALID),
            ("try_incr", ([["a", 1, 2**63]],), INVALID),
            ("try_incr", ([["a", True, 5]],), INVALID),
            ("try_incr", ([["a", 1, 5], ["", 1, 5]],), INVALID),
            ("try_incr", ([["a", 1, 5]], 0), INVALID),
            ("try_incr", ([["a", 1, 5]] * 4097,), TOO_LARGE),
            ("count", (), 0),
        ],
    ),
]

LISTING: list[Case] = [
    (
        "top gives the largest first, ties by key",
        [
            ("apply", (["b", "a", "d", "c", "e"], [5, 5, 9, 1, 5]), [5, 5, 9, 1, 5]),
            ("top", (1,), [[b"d"], [9]]),
            ("top", (3,), [[b"d", b"a", b"b"], [9, 5, 5]]),
            ("top", (99,), [[b"d", b"a", b"b", b"e", b"c"], [9, 5, 5, 5, 1]]),
            ("decr", ("d", 9), 0),
            ("top", (1, ""), [[b"a"], [5]]),
            ("top", (0,), INVALID),
            ("top", (4097,), INVALID),
            ("top", (True,), INVALID),
            ("top", (), INVALID),
            ("top", (1, 5), INVALID),
        ],
    ),
    (
        "prefixes",
        [
            ("apply", (["a:1", "a:2", "b:1", "a"], [3, 2, 1, 9]), [3, 2, 1, 9]),
            ("decr", ("a:2", 2), 0),
            ("count", ("a:",), 1),
            ("count", ("a",), 2),
            ("count", ("",), 3),
            ("count", ("nobody",), 0),
            ("top", (9, "a:"), [[b"a:1"], [3]]),
            ("scan", (0, 4096, "b"), [0, [b"b:1"], [1]]),
            ("count", (1,), INVALID),
            ("count", (b"x" * 513,), INVALID),
            ("scan", (0, 10, LONG_KEY), [0, [], []]),
        ],
    ),
    (
        "scan refuses cursors it never gave",
        [
            ("scan", (), INVALID),
            ("scan", (1,), INVALID),
            ("scan", (False,), INVALID),
            ("scan", (b"",), INVALID),
            ("scan", (b"abc",), INVALID),
            ("scan", (b"\xff\xff\xff\xff",), INVALID),
            ("scan", (b"\0" * 517,), INVALID),
            ("scan", (0, 0), INVALID),
            ("scan", (0, 4097), INVALID),
            ("scan", (0, 10, None), INVALID),
        ],
    ),
]

ADMINISTRATION: list[Case] = [
    (
        "small words",
        [
            ("ping", (), b"pong"),
            ("ping", (1,), INVALID),
            ("no_such", (), Refused("unknown_method")),
            ("INCR", ("k",), Refused("unknown_method")),
            ("hello", ([1],), INVALID),
            ("hello", ({"cache": "nobody"},), INVALID),
            ("hello", ({"cache": 5},), INVALID),
            ("hello", ({"what": 5},), INVALID),
            ("sweep", (), 0),
            ("config_get", ("sweep_budget_ms",), 1.0),
            ("config_set", ("sweep_budget_ms", 2), 2.0),
            ("config_set", ("sweep_budget_ms", 0), INVALID),
            ("config_set", ("sweep_budget_ms", True), INVALID),
            ("config_set", ("drain_timeout_ms", 5), 5),
            ("config_set", ("drain_timeout_ms", -1), INVALID),
            ("config_set", ("log_level", "loud"), INVALID),
            ("config_set", ("nothing", 1), INVALID),
            ("config_get", ("nothing",), INVALID),
            ("config_get", (), {b"sweep_budget_ms": 2.0, b"drain_timeout_ms": 5, b"log_level": b"info"}),
        ],
    ),
]

CASES: list[Case] = COUNTING + APPLYING + SETTING + EXPIRING + LIMITING + LISTING + ADMINISTRATION

# Cases for a cache with max_counters = 3.
FULL_CASES: list[Case] = [
    (
        "one more than max_counters is refused, and what exists goes on",
        [
            ("apply", (["a", "b", "c", "d", "a"], 1), [1, 1, 1, _FULL_ITEM, 2]),
            ("incr", ("d",), FULL),
            ("set", ("d", 1), FULL),
            ("try_incr", ([["a", 1, 9], ["d", 1, 9]],), FULL),
            ("incr", ("a",), 3),
            ("set", ("a", 7), 3),
            ("set", ("d", 0), 0),
            ("decr", ("d",), 0),
            ("count", (), 3),
        ],
    ),
    (
        "zero makes room",
        [
            ("apply", (["a", "b", "c"], 1), [1, 1, 1]),
            ("decr", ("a",), 0),
            ("incr", ("d",), 1),
            ("incr", ("a",), FULL),
            ("take", (["b"],), [1]),
            ("incr", ("a",), 1),
            ("set", ("a", 0), 1),
            ("incr", ("b",), 1),
            ("clear", (), 3),
            ("apply", (["a", "b", "c", "d"], 1), [1, 1, 1, _FULL_ITEM]),
        ],
    ),
    (
        "expiry makes room at once",
        [
            ("apply", (["a", "b", "c"], 1, 10), [1, 1, 1]),
            ("incr", ("d",), FULL),
            ("pass", (10,), None),
            ("try_incr", ([["d", 1, 1], ["e", 1, 1], ["f", 1, 1]],), [True, [1, 1, 1]]),
            ("incr", ("a",), FULL),
        ],
    ),
    (
        "try_incr needs room for all it creates, and a key named twice is one",
        [
            ("incr", ("a",), 1),
            ("try_incr", ([["b", 1, 9], ["c", 1, 9], ["d", 1, 9]],), FULL),
            ("count", (), 1),
            ("try_incr", ([["b", 1, 9], ["c", 1, 9], ["b", 1, 9]],), [True, [2, 1, 2]]),
        ],
    ),
]
