"""What counters do, as data: one table of cases for everything in naught that counts.

The server's commands on the wire, the same commands called on the store, and `naught.SafeMap` promise one meaning:
a counter exists if and only if its value is at least 1, a decrement stops at zero and never creates, reading never
creates. Each is tested by this table through an adapter in its own test, which turns an operation into a call.

A case has a name and steps. A step is `(operation, arguments, expected)`; the steps of a case run in order on
counters that are all absent at first. The operations are the methods of the wire (see PROTOCOL.md), with results as
they come off the wire: arrays are lists, keys are bytes. Two more operations are no methods:

    keys            the keys of all counters, sorted
    pass (ms,)      let that many milliseconds go by

An expected error is `Refused(code)`; after it nothing may have changed.

`Case.needs` is the set of what an adapter must have to run the case: the operations of its steps, and the features
that its expectations rely on (named below). `cases_for` picks the cases that an adapter can run.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, NamedTuple

VALUE_MAX = 2**63 - 1
LONG_KEY = b"x" * 512

# The features that a case can need beside its operations.
KEYS_ARE_BYTES = "keys are text or binary of 1 to 512 bytes, and the same key when their bytes are"
VALUES_END = "values end at 2^63 - 1"
ARGUMENTS_CHECKED = "the number and types of the arguments, and the length of arrays, are checked"
ITEMS_FAIL_ALONE = "an item of `apply` that fails has an error in its place, and the others are applied"
TIES_BY_KEY = "counters of the same value are listed by key"
THREE_AT_MOST = "the cache has max_counters = 3"
TOP_OF_NONE = "`top` takes 0"
LONG_ARRAYS = "arrays of more than 4 096 items reach the command"

Step = tuple[str, tuple[Any, ...], Any]


class Refused(NamedTuple):
    """The call is refused with an error of this code."""

    code: str


class Case(NamedTuple):
    """One case of the table."""

    name: str
    steps: list[Step]
    features: Set[str] = frozenset()

    @property
    def needs(self) -> Set[str]:
        """The operations and features that an adapter must have to run this case."""
        return self.features | {operation for operation, _, _ in self.steps}


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
    Case(
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
    Case(
        "strings and binaries are the same key",
        [("incr", ("ключ",), 1), ("incr", ("ключ".encode(),), 2), ("count", (), 1)],
        {KEYS_ARE_BYTES},
    ),
    Case(
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
    Case(
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
    Case(
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
    Case(
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
        {VALUES_END},
    ),
    Case(
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
        {ARGUMENTS_CHECKED, KEYS_ARE_BYTES, VALUES_END},
    ),
    Case(
        "the longest key and bytes that are no text",
        [("incr", (LONG_KEY,), 1), ("incr", (b"\xff\x00",), 1), ("get_many", ([LONG_KEY, b"\xff\x00"],), [1, 1])],
    ),
    Case(
        "an empty map has nothing",
        [("count", (), 0), ("keys", (), []), ("get", ("a",), 0), ("top", (3,), [[], []]), ("clear", (), 0)],
    ),
    Case(
        "incr creates at 1 and counts on",
        [("incr", ("a",), 1), ("incr", ("a",), 2), ("get", ("a",), 2), ("count", (), 1), ("keys", (), [b"a"])],
    ),
    Case(
        "incr by more",
        [("incr", ("a", 5), 5), ("incr", ("a", 2), 7), ("incr", ("a", 2**62), 2**62 + 7)],
    ),
    Case(
        "values beyond one machine digit come down to nothing",
        [
            ("incr", ("a", 2**63 - 1), 2**63 - 1),
            ("decr", ("a", 2**63 - 2), 1),
            ("decr", ("a",), 0),
            ("count", (), 0),
        ],
    ),
    Case(
        "decr to zero evicts",
        [("incr", ("a",), 1), ("decr", ("a",), 0), ("count", (), 0), ("keys", (), []), ("get", ("a",), 0)],
    ),
    Case(
        "decr above zero keeps",
        [
            ("incr", ("a", 3), 3),
            ("decr", ("a",), 2),
            ("decr", ("a",), 1),
            ("count", (), 1),
            ("decr", ("a",), 0),
        ],
    ),
    Case(
        "decr stops at zero and evicts",
        [("incr", ("a", 3), 3), ("decr", ("a", 5), 0), ("count", (), 0), ("incr", ("a",), 1)],
    ),
    Case(
        "decr of an absent counter is 0 and never creates",
        [("decr", ("a",), 0), ("decr", ("a", 7), 0), ("count", (), 0), ("keys", (), []), ("incr", ("a",), 1)],
    ),
    Case(
        "decr just evicted",
        [("incr", ("a",), 1), ("decr", ("a",), 0), ("decr", ("a",), 0), ("count", (), 0)],
    ),
    Case(
        "reading never creates",
        [("get", ("a",), 0), ("take", (["a"],), [0]), ("count", (), 0), ("keys", (), [])],
    ),
    Case(
        "a counter that flaps starts from nothing each time",
        [
            step
            for _ in range(5)
            for step in (("incr", ("a",), 1), ("incr", ("a", 2), 3), ("decr", ("a", 3), 0), ("count", (), 0))
        ],
    ),
    Case(
        "strict decr to zero evicts",
        [("incr", ("a", 2), 2), ("decr", ("a", 1, True), 1), ("decr", ("a", 1, True), 0), ("count", (), 0)],
    ),
    Case(
        "strict decr below zero is underflow and changes nothing",
        [("incr", ("a", 2), 2), ("decr", ("a", 3, True), UNDERFLOW), ("get", ("a",), 2), ("count", (), 1)],
    ),
    Case(
        "strict decr of an absent counter is underflow and never creates",
        [("decr", ("a", 1, True), UNDERFLOW), ("count", (), 0), ("get", ("a",), 0)],
    ),
    Case(
        "strict decr just evicted is underflow",
        [
            ("incr", ("a",), 1),
            ("decr", ("a", 1, True), 0),
            ("decr", ("a", 1, True), UNDERFLOW),
            ("count", (), 0),
        ],
    ),
    Case(
        "counters do not touch one another",
        [
            ("incr", ("a",), 1),
            ("incr", ("b", 2), 2),
            ("incr", ("c", 3), 3),
            ("decr", ("a",), 0),
            ("keys", (), [b"b", b"c"]),
            ("get", ("b",), 2),
            ("get", ("c",), 3),
            ("count", (), 2),
        ],
    ),
    *[
        Case(
            f"{name} by {by!r} is invalid and changes nothing",
            [
                ("incr", ("a", 2), 2),
                (operation, ("a", by, *strict), INVALID),
                (operation, ("b", by, *strict), INVALID),
                ("get", ("a",), 2),
                ("count", (), 1),
            ],
        )
        for name, operation, strict in (("incr", "incr", ()), ("decr", "decr", ()), ("decr_strict", "decr", (True,)))
        for by in (0, -1, True, False, 1.5, 1.0, "1", b"1")
    ],
]

APPLYING: list[Case] = [
    Case(
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
    Case(
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
        {ITEMS_FAIL_ALONE, KEYS_ARE_BYTES, VALUES_END},
    ),
    Case(
        "a key twice in one apply sees the item before it",
        [("apply", (["a", "a", "a", "a"], [1, -1, 5, -2]), [1, 0, 5, 3]), ("get", ("a",), 3)],
    ),
    Case(
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
    Case(
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
            ("count", (), 0),
            ("apply", (["a"] * 4096, 1), list(range(1, 4097))),
        ],
        {ARGUMENTS_CHECKED},
    ),
    Case(
        "apply goes up and down, each item alone and in order",
        [
            ("apply", (["a", "b", "a"], [2, 5, 1]), [2, 5, 3]),
            ("apply", (["a", "b", "c"], [-3, -1, -4]), [0, 4, 0]),
            ("keys", (), [b"b"]),
        ],
    ),
    Case(
        "apply of one counter through zero starts again",
        [("apply", (["a", "a", "a"], [1, -2, 3]), [1, 0, 3]), ("get", ("a",), 3), ("count", (), 1)],
    ),
    Case(
        "apply of nothing",
        [("apply", ([], []), []), ("count", (), 0)],
    ),
    Case(
        "many counters drain to nothing",
        [
            (
                "apply",
                ([f"key:{i}" for i in range(500)], [i % 7 + 1 for i in range(500)]),
                [i % 7 + 1 for i in range(500)],
            ),
            ("count", (), 500),
            ("apply", ([f"key:{i}" for i in range(500)], [-(i % 7 + 1) for i in range(500)]), [0] * 500),
            ("count", (), 0),
            ("keys", (), []),
        ],
    ),
]

SETTING: list[Case] = [
    Case(
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
    Case(
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
    Case(
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
        {ARGUMENTS_CHECKED, VALUES_END},
    ),
    Case(
        "take reads and evicts, a key named twice once",
        [
            ("apply", (["a", "b", "c"], [1, 2, 3]), [1, 2, 3]),
            ("take", (["a", "nothing", "b", "a", "a"],), [1, 0, 2, 0, 0]),
            ("count", (), 1),
            ("take", ([],), []),
            ("take", (["c", ""],), INVALID),
            ("get", ("c",), 3),
            ("decr", ("c", 3), 0),
            ("take", (["c"],), [0]),
            ("incr", ("a",), 1),
        ],
        {ARGUMENTS_CHECKED, KEYS_ARE_BYTES},
    ),
    Case(
        "get_many answers in order, and creates nothing",
        [
            ("incr", ("a", 5), 5),
            ("get_many", (["b", "a", "a"],), [0, 5, 5]),
            ("get_many", ([],), []),
            ("get_many", ("a",), INVALID),
            ("get_many", (["a", 1],), INVALID),
            ("count", (), 1),
        ],
        {ARGUMENTS_CHECKED, KEYS_ARE_BYTES},
    ),
    Case(
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
        {ARGUMENTS_CHECKED},
    ),
    Case(
        "clear counts what lives, not what has expired",
        [("apply", ([f"k{i}" for i in range(300)], 1, 10), [1] * 300), ("pass", (10,), None), ("clear", (), 0)],
    ),
    Case(
        "set answers the value before",
        [
            ("set", ("a", 4), 0),
            ("set", ("a", 9), 4),
            ("get", ("a",), 9),
            ("incr", ("a",), 10),
            ("count", (), 1),
        ],
    ),
    Case(
        "set to 0 evicts",
        [("incr", ("a", 4), 4), ("set", ("a", 0), 4), ("count", (), 0), ("keys", (), []), ("get", ("a",), 0)],
    ),
    Case(
        "set to 0 never creates",
        [("set", ("a", 0), 0), ("count", (), 0), ("keys", (), [])],
    ),
    Case(
        "set revives what was just evicted",
        [
            ("incr", ("a",), 1),
            ("decr", ("a",), 0),
            ("set", ("a", 3), 0),
            ("get", ("a",), 3),
            ("count", (), 1),
        ],
    ),
    *[
        Case(
            f"set to {value!r} is invalid and changes nothing",
            [("incr", ("a", 2), 2), ("set", ("a", value), INVALID), ("get", ("a",), 2), ("count", (), 1)],
        )
        for value in (-1, True, False, 1.5, 0.0, "1", None)
    ],
    Case(
        "take reads and evicts",
        [
            ("incr", ("a", 6), 6),
            ("take", (["a"],), [6]),
            ("count", (), 0),
            ("take", (["a"],), [0]),
            ("incr", ("a",), 1),
        ],
    ),
    Case(
        "take just evicted",
        [("incr", ("a",), 1), ("decr", ("a",), 0), ("take", (["a"],), [0]), ("count", (), 0)],
    ),
    Case(
        "clear evicts everything and says how many",
        [
            ("apply", (["a", "b", "c"], [1, 2, 3]), [1, 2, 3]),
            ("clear", (), 3),
            ("count", (), 0),
            ("keys", (), []),
            ("get", ("a",), 0),
            ("clear", (), 0),
            ("incr", ("a",), 1),
        ],
    ),
    Case(
        "clear does not count what was already gone",
        [("incr", ("a",), 1), ("incr", ("b",), 1), ("decr", ("a",), 0), ("clear", (), 1)],
    ),
]

EXPIRING: list[Case] = [
    Case(
        "an expired counter is absent at once, for every command",
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
    Case("decr of an expired counter", [("incr", ("k", 5, 9), 5), ("pass", (9,), None), ("decr", ("k",), 0)]),
    Case(
        "strict decr of an expired counter",
        [("incr", ("k", 5, 9), 5), ("pass", (9,), None), ("decr", ("k", 1, True), UNDERFLOW)],
    ),
    Case("set of an expired counter", [("incr", ("k", 5, 9), 5), ("pass", (10,), None), ("set", ("k", 2), 0)]),
    Case(
        "apply on an expired counter",
        [("incr", ("k", 5, 9), 5), ("pass", (9,), None), ("apply", (["k"], 2), [2]), ("ttl", ("k",), -1)],
    ),
    Case(
        "try_incr on an expired counter",
        [("incr", ("k", 5, 9), 5), ("pass", (9,), None), ("try_incr", ([["k", 1, 1]], 20), [True, [1]])],
    ),
    Case(
        "listings of an expired counter",
        [
            ("incr", ("k", 5, 9), 5),
            ("pass", (9,), None),
            ("scan", (0, 10, ""), [0, [], []]),
            ("top", (3,), [[], []]),
            ("count", ("k",), 0),
        ],
    ),
    Case(
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
    Case(
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
        {ARGUMENTS_CHECKED, KEYS_ARE_BYTES},
    ),
    Case(
        "a counter created again has nothing of its old time to live",
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
    Case(
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
    Case(
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
    Case(
        "items of one key add up and are judged together, each by its limit",
        [
            ("try_incr", ([["a", 1, 3], ["a", 2, 3]],), [True, [3, 3]]),
            ("try_incr", ([["b", 1, 9], ["b", 2, 2]],), [False, [0, 0]]),
            ("try_incr", ([["b", 1, 2], ["b", 2, 9]],), [False, [0, 0]]),
            ("try_incr", ([["b", 2, 4], ["x", 1, 1], ["b", 2, 4]],), [True, [4, 1, 4]]),
        ],
    ),
    Case(
        "limits reach to 2^63 - 1 and sums do not wrap",
        [
            ("try_incr", ([["a", VALUE_MAX, VALUE_MAX]],), [True, [VALUE_MAX]]),
            ("try_incr", ([["a", 1, VALUE_MAX]],), [False, [VALUE_MAX]]),
            ("try_incr", ([["b", VALUE_MAX, VALUE_MAX], ["b", VALUE_MAX, VALUE_MAX]],), [False, [0, 0]]),
        ],
        {VALUES_END},
    ),
    Case(
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
    Case(
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
            ("count", (), 0),
        ],
        {ARGUMENTS_CHECKED, KEYS_ARE_BYTES},
    ),
]

THROTTLING: list[Case] = [
    Case(
        "throttle grants a burst at once, and then one after another",
        [
            ("throttle", ("k", 2, 1_000), [True, 1, 0, 500]),
            ("throttle", ("k", 2, 1_000), [True, 0, 0, 1_000]),
            ("throttle", ("k", 2, 1_000), [False, 0, 500, 1_000]),
            ("pass", (499,), None),
            ("throttle", ("k", 2, 1_000), [False, 0, 1, 501]),
            ("pass", (1,), None),
            ("throttle", ("k", 2, 1_000), [True, 0, 0, 1_000]),
            ("count", (), 1),
            ("pass", (999,), None),
            ("count", (), 1),
            ("pass", (1,), None),
            ("count", (), 0),
            ("ttl", ("k",), None),
        ],
    ),
    Case(
        "throttle takes several uses or none, of a bucket of another size than the limit",
        [
            ("throttle", ("k", 10, 1_000, 3, 2), [True, 1, 0, 200]),
            ("throttle", ("k", 10, 1_000, 3, 2), [False, 1, 100, 200]),
            ("throttle", ("k", 10, 1_000, 3, 1), [True, 0, 0, 300]),
            ("pass", (250,), None),
            ("throttle", ("k", 10, 1_000, 3, 3), [False, 2, 50, 50]),
            ("throttle", ("k", 10, 1_000, 3, 0), [True, 2, 0, 50]),
            ("pass", (50,), None),
            ("throttle", ("k", 10, 1_000, 3, 0), [True, 3, 0, 0]),
            ("count", (), 0),
            ("throttle", ("k", 1, 86_400_000, 20, 20), [True, 0, 0, 20 * 86_400_000]),
            ("throttle", ("k", 1, 86_400_000, 20), [False, 0, 86_400_000, 20 * 86_400_000]),
        ],
    ),
    Case(
        "throttle loses no part of a millisecond",
        [
            ("throttle", ("k", 1_000_000, 1_000, 1_500, 1_500), [True, 0, 0, 2]),
            ("get", ("k",), 1_500_000),
            ("pass", (1,), None),
            ("throttle", ("k", 1_000_000, 1_000, 1_500, 1_000), [True, 0, 0, 2]),
            ("pass", (1,), None),
            ("throttle", ("k", 1_000_000, 1_000, 1_500, 0), [True, 1_000, 0, 1]),
            ("throttle", ("k", 1_000_000, 1_000, 1_500, 1_001), [False, 1_000, 1, 1]),
            ("throttle", ("t", 3, 10), [True, 2, 0, 4]),
            ("pass", (3,), None),
            ("throttle", ("t", 3, 10, 3, 3), [False, 2, 1, 1]),
            ("pass", (1,), None),
            ("throttle", ("t", 3, 10, 3, 3), [True, 0, 0, 10]),
        ],
    ),
    Case(
        "what others do to the counter of throttle",
        [
            ("throttle", ("k", 2, 1_000, 2, 2), [True, 0, 0, 1_000]),
            ("incr", ("k", 1), 2_001),
            ("throttle", ("k", 2, 1_000), [False, 0, 500, 1_000]),
            ("decr", ("k", 1_500), 501),
            ("throttle", ("k", 2, 1_000), [False, 0, 500, 1_000]),
            ("expire", ("k", 700), True),
            ("throttle", ("k", 2, 1_000, 2, 0), [True, 0, 0, 700]),
            ("expire", ("k", 9_000), True),
            ("throttle", ("k", 2, 1_000, 2, 0), [True, 0, 0, 9_000]),
            ("throttle", ("k", 2, 1_000), [False, 0, 8_500, 9_000]),
            ("expire", ("k", None), True),
            ("throttle", ("k", 2, 1_000), [False, 0, -1, -1]),
            ("throttle", ("k", 2, 1_000, 2, 0), [True, 0, -1, -1]),
            ("decr", ("k", 501), 0),
            ("throttle", ("k", 2, 1_000), [True, 1, 0, 500]),
            ("set", ("k", 0), 1_000),
            ("throttle", ("k", 2, 1_000), [True, 1, 0, 500]),
            ("take", (["k"],), [1_000]),
            ("throttle", ("k", 2, 1_000), [True, 1, 0, 500]),
            ("clear", (), 1),
            ("throttle", ("k", 2, 1_000), [True, 1, 0, 500]),
        ],
    ),
    Case(
        "throttle with another rate goes on from the time until the bucket is full",
        [
            ("throttle", ("k", 10, 1_000, 10, 5), [True, 5, 0, 500]),
            ("throttle", ("k", 2, 1_000, 2), [True, 0, 0, 1_000]),
            ("throttle", ("k", 10, 1_000, 10, 1), [False, 0, 100, 1_000]),
        ],
    ),
    Case(
        "throttle refuses what can never be granted, and what does not fit",
        [
            ("throttle", ("k", 5, 1_000, 5, 6), INVALID),
            ("throttle", ("k", 0, 1_000), INVALID),
            ("throttle", ("k", 1, 0), INVALID),
            ("throttle", ("k", 1, 1_000, 0), INVALID),
            ("throttle", ("k", 1, 1_000, 1, -1), INVALID),
            ("throttle", ("k", 1, 315_360_000_001), INVALID),
            ("throttle", ("k", 1, 315_360_000_000, 2), INVALID),
            ("throttle", ("k", VALUE_MAX, 2), INVALID),
            ("throttle", ("k", VALUE_MAX, 1), [True, VALUE_MAX - 1, 0, 1]),
            ("throttle", ("d", 1, 315_360_000_000), [True, 0, 0, 315_360_000_000]),
            ("count", (), 2),
        ],
    ),
    Case(
        "throttle is checked as every command",
        [
            ("throttle", ("", 5, 1_000), INVALID),
            ("throttle", ("k" * 513, 5, 1_000), TOO_LARGE),
            ("throttle", ("k", 5), INVALID),
            ("throttle", ("k", 5, 1_000, 5, 1, 1), INVALID),
            ("throttle", ("k", 5.0, 1_000), INVALID),
            ("throttle", ("k", True, 1_000), INVALID),
            ("throttle", ("k", 5, 1_000, None), INVALID),
            ("count", (), 0),
        ],
        {ARGUMENTS_CHECKED},
    ),
]

LISTING: list[Case] = [
    Case(
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
        {ARGUMENTS_CHECKED, TIES_BY_KEY},
    ),
    Case(
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
        {ARGUMENTS_CHECKED},
    ),
    Case(
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
        {ARGUMENTS_CHECKED},
    ),
    Case(
        "top is the largest first",
        [
            ("apply", (["a", "b", "c", "d"], [4, 9, 1, 6]), [4, 9, 1, 6]),
            ("top", (2,), [[b"b", b"d"], [9, 6]]),
            ("top", (9,), [[b"b", b"d", b"a", b"c"], [9, 6, 4, 1]]),
        ],
    ),
    Case(
        "top does not see what is gone",
        [("incr", ("a", 9), 9), ("incr", ("b",), 1), ("decr", ("a", 9), 0), ("top", (5,), [[b"b"], [1]])],
    ),
    Case(
        "an array has at most 4 096 items",
        [
            ("apply", (["a"] * 4097, 1), TOO_LARGE),
            ("apply", (["a"] * 4097, [1] * 4097), TOO_LARGE),
            ("take", (["a"] * 4097,), TOO_LARGE),
            ("get_many", (["a"] * 4097,), TOO_LARGE),
            ("try_incr", ([["a", 1, 5]] * 4097,), TOO_LARGE),
            ("count", (), 0),
        ],
        {ARGUMENTS_CHECKED, LONG_ARRAYS},
    ),
    Case("top of none is empty", [("incr", ("a",), 1), ("top", (0,), [[], []])], {TOP_OF_NONE}),
]

ADMINISTRATION: list[Case] = [
    Case(
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
            ("config_set", ("sweep_budget_ms", 0.05), INVALID),
            ("config_set", ("sweep_budget_ms", 0), 0.0),
            ("config_set", ("sweep_budget_ms", 2), 2.0),
            ("config_set", ("sweep_budget_ms", True), INVALID),
            ("config_set", ("drain_timeout_ms", 5), 5),
            ("config_set", ("drain_timeout_ms", -1), INVALID),
            ("config_set", ("log_level", "loud"), INVALID),
            ("config_set", ("nothing", 1), INVALID),
            ("config_get", ("nothing",), INVALID),
            ("config_get", ("drain_timeout_ms",), 5),
            ("config_set", ("drain_timeout_ms", None), 10_000),
            ("config_set", ("sweep_interval_ms", 20), 20),
            ("config_set", ("sweep_interval_ms", 3), INVALID),
            ("config_set", ("compaction_bytes_per_entry", 63), INVALID),
            ("config_set", ("tuner", "dry-run"), b"dry-run"),
            ("config_set", ("tuner", "maybe"), INVALID),
            ("config_set", ("gc_freeze", 1), INVALID),
            ("config_set", ("caches.default.max_counters", 2), 2),
            ("apply", (["a", "b", "c"], 1), [1, 1, _FULL_ITEM]),
            ("config_set", ("caches.default.max_counters", 0), None),
            ("incr", ("c",), 1),
            ("config_set", ("caches.default.max_counters", -1), INVALID),
            ("config_set", ("caches.default.shards", 2), INVALID),
            ("config_set", ("caches.nobody.eviction", "lazy"), INVALID),
            ("config_set", ("caches.default.eviction", "sometimes"), INVALID),
            ("config_set", ("caches.default.eviction", "lazy"), b"lazy"),
            ("decr", ("a",), 0),
            ("config_set", ("caches.default.eviction", "eager"), b"eager"),
            ("get", ("a",), 0),
            ("count", (), 2),
            ("incr", ("a",), 1),
            ("decr", ("b",), 0),
            ("count", (), 2),
        ],
        {ARGUMENTS_CHECKED},
    ),
]

BOUNDING: list[Case] = [
    Case(
        "one more than max_counters is refused, and what exists goes on",
        [
            ("apply", (["a", "b", "c", "d", "a"], 1), [1, 1, 1, _FULL_ITEM, 2]),
            ("incr", ("d",), FULL),
            ("set", ("d", 1), FULL),
            ("try_incr", ([["a", 1, 9], ["d", 1, 9]],), FULL),
            ("throttle", ("d", 5, 1_000), FULL),
            ("incr", ("a",), 3),
            ("set", ("a", 7), 3),
            ("set", ("d", 0), 0),
            ("decr", ("d",), 0),
            ("count", (), 3),
        ],
        {THREE_AT_MOST},
    ),
    Case(
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
        {THREE_AT_MOST},
    ),
    Case(
        "expiry makes room at once",
        [
            ("apply", (["a", "b", "c"], 1, 10), [1, 1, 1]),
            ("incr", ("d",), FULL),
            ("pass", (10,), None),
            ("try_incr", ([["d", 1, 1], ["e", 1, 1], ["f", 1, 1]],), [True, [1, 1, 1]]),
            ("incr", ("a",), FULL),
        ],
        {THREE_AT_MOST},
    ),
    Case(
        "try_incr needs room for all it creates, and a key named twice is one",
        [
            ("incr", ("a",), 1),
            ("try_incr", ([["b", 1, 9], ["c", 1, 9], ["d", 1, 9]],), FULL),
            ("count", (), 1),
            ("try_incr", ([["b", 1, 9], ["c", 1, 9], ["b", 1, 9]],), [True, [2, 1, 2]]),
        ],
        {THREE_AT_MOST},
    ),
]

CASES: list[Case] = (
    COUNTING + APPLYING + SETTING + EXPIRING + LIMITING + THROTTLING + LISTING + ADMINISTRATION + BOUNDING
)
EVERYTHING: Set[str] = frozenset().union(*(case.needs for case in CASES))
"""All that a case can need."""


def cases_for(has: Set[str]) -> list[Case]:
    """The cases that an adapter with these operations and features can run."""
    return [case for case in CASES if case.needs <= has]
