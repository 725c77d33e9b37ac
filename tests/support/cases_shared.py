"""What counters do, as data: one table for everything in naught that counts.

`naught.SafeMap` and the server's store promise the same meaning: a counter exists if and only if its value is
at least 1, a decrement stops at zero and never creates, reading never creates. So both are held to this
table, each through a small adapter in its own test that turns an operation's name into a call.

A case is `(name, steps)`, a step is `(operation, arguments, expected)`, and the steps of a case run in order
on one counter map that starts empty. Keys are text here; an adapter whose keys are bytes encodes them.

    operation    arguments           expected
    incr         key[, by]           the value after
    decr         key[, by]           the value after: 0 where the counter is gone or never was
    decr_strict  key[, by]           the same, or the error `underflow` where less than `by` is there
    get          key                 the value, 0 where there is none
    set          key, value          the value before; setting 0 evicts
    take         key                 the value, which is evicted in the same step
    add          keys, deltas        the values after, in order: a delta above 0 is an incr, below 0 a decr
    clear                            how many counters were evicted
    count                            how many counters there are
    keys                             their keys, sorted
    top          n                   [(key, value), ...], the largest first (the table has no ties)

An expected error is `("error", code)`, with the codes of the wire. After an error nothing may have changed.
"""

from __future__ import annotations

from typing import Any

INVALID = ("error", "invalid")
UNDERFLOW = ("error", "underflow")

Step = tuple[str, tuple[Any, ...], Any]

CASES: list[tuple[str, list[Step]]] = [
    (
        "an empty map has nothing",
        [("count", (), 0), ("keys", (), []), ("get", ("a",), 0), ("top", (3,), []), ("clear", (), 0)],
    ),
    (
        "incr creates at 1 and counts on",
        [("incr", ("a",), 1), ("incr", ("a",), 2), ("get", ("a",), 2), ("count", (), 1), ("keys", (), ["a"])],
    ),
    (
        "incr by more",
        [("incr", ("a", 5), 5), ("incr", ("a", 2), 7), ("incr", ("a", 2**62), 2**62 + 7)],
    ),
    (
        "values beyond one machine digit come down to nothing",
        [
            ("incr", ("a", 2**63 - 1), 2**63 - 1),
            ("decr", ("a", 2**63 - 2), 1),
            ("decr", ("a",), 0),
            ("count", (), 0),
        ],
    ),
    (
        "decr to zero evicts",
        [("incr", ("a",), 1), ("decr", ("a",), 0), ("count", (), 0), ("keys", (), []), ("get", ("a",), 0)],
    ),
    (
        "decr above zero keeps",
        [
            ("incr", ("a", 3), 3),
            ("decr", ("a",), 2),
            ("decr", ("a",), 1),
            ("count", (), 1),
            ("decr", ("a",), 0),
        ],
    ),
    (
        "decr stops at zero and evicts",
        [("incr", ("a", 3), 3), ("decr", ("a", 5), 0), ("count", (), 0), ("incr", ("a",), 1)],
    ),
    (
        "decr of an absent counter is 0 and never creates",
        [("decr", ("a",), 0), ("decr", ("a", 7), 0), ("count", (), 0), ("keys", (), []), ("incr", ("a",), 1)],
    ),
    (
        "decr just evicted",
        [("incr", ("a",), 1), ("decr", ("a",), 0), ("decr", ("a",), 0), ("count", (), 0)],
    ),
    (
        "reading never creates",
        [("get", ("a",), 0), ("take", ("a",), 0), ("count", (), 0), ("keys", (), [])],
    ),
    (
        "a counter that flaps starts from nothing each time",
        [
            step
            for _ in range(5)
            for step in (("incr", ("a",), 1), ("incr", ("a", 2), 3), ("decr", ("a", 3), 0), ("count", (), 0))
        ],
    ),
    (
        "strict decr to zero evicts",
        [("incr", ("a", 2), 2), ("decr_strict", ("a",), 1), ("decr_strict", ("a",), 0), ("count", (), 0)],
    ),
    (
        "strict decr below zero is underflow and changes nothing",
        [("incr", ("a", 2), 2), ("decr_strict", ("a", 3), UNDERFLOW), ("get", ("a",), 2), ("count", (), 1)],
    ),
    (
        "strict decr of an absent counter is underflow and never creates",
        [("decr_strict", ("a",), UNDERFLOW), ("count", (), 0), ("get", ("a",), 0)],
    ),
    (
        "strict decr just evicted is underflow",
        [
            ("incr", ("a",), 1),
            ("decr_strict", ("a",), 0),
            ("decr_strict", ("a",), UNDERFLOW),
            ("count", (), 0),
        ],
    ),
    (
        "counters do not touch one another",
        [
            ("incr", ("a",), 1),
            ("incr", ("b", 2), 2),
            ("incr", ("c", 3), 3),
            ("decr", ("a",), 0),
            ("keys", (), ["b", "c"]),
            ("get", ("b",), 2),
            ("get", ("c",), 3),
            ("count", (), 2),
        ],
    ),
    (
        "set answers the value before",
        [
            ("set", ("a", 4), 0),
            ("set", ("a", 9), 4),
            ("get", ("a",), 9),
            ("incr", ("a",), 10),
            ("count", (), 1),
        ],
    ),
    (
        "set to 0 evicts",
        [("incr", ("a", 4), 4), ("set", ("a", 0), 4), ("count", (), 0), ("keys", (), []), ("get", ("a",), 0)],
    ),
    (
        "set to 0 never creates",
        [("set", ("a", 0), 0), ("count", (), 0), ("keys", (), [])],
    ),
    (
        "set revives what was just evicted",
        [
            ("incr", ("a",), 1),
            ("decr", ("a",), 0),
            ("set", ("a", 3), 0),
            ("get", ("a",), 3),
            ("count", (), 1),
        ],
    ),
    (
        "take reads and evicts",
        [
            ("incr", ("a", 6), 6),
            ("take", ("a",), 6),
            ("count", (), 0),
            ("take", ("a",), 0),
            ("incr", ("a",), 1),
        ],
    ),
    (
        "take just evicted",
        [("incr", ("a",), 1), ("decr", ("a",), 0), ("take", ("a",), 0), ("count", (), 0)],
    ),
    (
        "add goes up and down, each item alone and in order",
        [
            ("add", (["a", "b", "a"], [2, 5, 1]), [2, 5, 3]),
            ("add", (["a", "b", "c"], [-3, -1, -4]), [0, 4, 0]),
            ("keys", (), ["b"]),
        ],
    ),
    (
        "add of one counter through zero starts again",
        [("add", (["a", "a", "a"], [1, -2, 3]), [1, 0, 3]), ("get", ("a",), 3), ("count", (), 1)],
    ),
    (
        "add of nothing",
        [("add", ([], []), []), ("count", (), 0)],
    ),
    (
        "clear evicts everything and says how many",
        [
            ("add", (["a", "b", "c"], [1, 2, 3]), [1, 2, 3]),
            ("clear", (), 3),
            ("count", (), 0),
            ("keys", (), []),
            ("get", ("a",), 0),
            ("clear", (), 0),
            ("incr", ("a",), 1),
        ],
    ),
    (
        "clear does not count what was already gone",
        [("incr", ("a",), 1), ("incr", ("b",), 1), ("decr", ("a",), 0), ("clear", (), 1)],
    ),
    (
        "top is the largest first",
        [
            ("add", (["a", "b", "c", "d"], [4, 9, 1, 6]), [4, 9, 1, 6]),
            ("top", (2,), [("b", 9), ("d", 6)]),
            ("top", (9,), [("b", 9), ("d", 6), ("a", 4), ("c", 1)]),
            ("top", (0,), []),
        ],
    ),
    (
        "top does not see what is gone",
        [("incr", ("a", 9), 9), ("incr", ("b",), 1), ("decr", ("a", 9), 0), ("top", (5,), [("b", 1)])],
    ),
    *[
        (
            f"{operation} by {by!r} is invalid and changes nothing",
            [
                ("incr", ("a", 2), 2),
                (operation, ("a", by), INVALID),
                (operation, ("b", by), INVALID),
                ("get", ("a",), 2),
                ("count", (), 1),
            ],
        )
        for operation in ("incr", "decr", "decr_strict")
        for by in (0, -1, True, False, 1.5, 1.0, "1", b"1")
    ],
    *[
        (
            f"set to {value!r} is invalid and changes nothing",
            [("incr", ("a", 2), 2), ("set", ("a", value), INVALID), ("get", ("a",), 2), ("count", (), 1)],
        )
        for value in (-1, True, False, 1.5, 0.0, "1", None)
    ],
    (
        "many counters drain to nothing",
        [
            (
                "add",
                ([f"key:{i}" for i in range(500)], [i % 7 + 1 for i in range(500)]),
                [i % 7 + 1 for i in range(500)],
            ),
            ("count", (), 500),
            ("add", ([f"key:{i}" for i in range(500)], [-(i % 7 + 1) for i in range(500)]), [0] * 500),
            ("count", (), 0),
            ("keys", (), []),
        ],
    ),
]
