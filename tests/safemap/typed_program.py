"""What the type checker says about `naught.SafeMap`: data of tests/safemap/test_types.py.

mypy must report exactly the lines marked `refused`. What says `at run time` (alone, where mypy takes bool for
an int, or does not compare the brackets with the arguments) is also executed by itself, and must raise
TypeError there. Everything else must be accepted, with the types asserted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, assert_type

from naught.safemap import SafeMap


def accepted() -> None:
    seats = SafeMap[str, int]()
    assert_type(seats, SafeMap[str, int])
    assert_type(seats.incr("gold"), int)
    assert_type(seats.incr("gold", 2), int)
    assert_type(seats.decr("gold"), tuple[int, bool])
    assert_type(seats.decr("gold", 2, strict=True), tuple[int, bool])
    assert_type(seats["gold"], int)
    assert_type(seats.get("gold"), int | None)
    assert_type(seats.get("gold", 0), int)
    assert_type(seats.take("gold"), int)
    assert_type(seats.set("gold", 3), int)
    assert_type(seats.add({"gold": 2}), list[int])
    assert_type(seats.add([("gold", 2), ("blue", -1)]), list[int])
    assert_type(seats.snapshot(), dict[str, int])
    assert_type(seats.most_common(3), list[tuple[str, int]])
    assert_type(seats.clear(), int)
    assert_type(seats.copy(), SafeMap[str, int])
    assert_type(list(seats), list[str])
    assert_type(list(seats.items()), list[tuple[str, int]])
    mapping: Mapping[str, int] = seats
    seats.merge(mapping)

    by_default: SafeMap[str, int] = SafeMap()
    by_type: SafeMap[bytes, int] = SafeMap(int)
    from_entries = SafeMap(int, {b"a": 2})
    assert_type(from_entries, SafeMap[bytes, int])
    deferred = SafeMap[int, int](int, policy="deferred", shard_count=4, clean_after_s=0.5)
    with deferred as entered:
        assert_type(entered, SafeMap[int, int])

    shares = SafeMap(Fraction, {"anna": Fraction(1, 3)})
    assert_type(shares, SafeMap[str, Fraction])
    assert_type(shares.incr("anna", 1), Fraction)
    assert_type(shares.decr("anna", Fraction(1, 3)), tuple[Fraction, bool])
    money = SafeMap[str, Decimal](Decimal)
    assert_type(money.incr("till", Decimal("0.10")), Decimal)
    litres = SafeMap[str, float](float, tolerance=1e-9)
    assert_type(litres.incr("tank", 0.5), float)
    print(by_default, by_type)


def a_map_counts_only_what_has_a_known_zero() -> None:
    SafeMap(str)  # refused, and at run time
    SafeMap(list)  # refused, and at run time
    SafeMap(object)  # refused, and at run time
    SafeMap(complex)  # refused, and at run time
    SafeMap(datetime)  # refused, and at run time
    SafeMap(timedelta)  # refused, and at run time
    SafeMap(type(None))  # refused, and at run time
    SafeMap(None)  # refused, and at run time
    SafeMap(0)  # refused, and at run time
    SafeMap({"a": 1})  # refused, and at run time
    SafeMap[str, str]()  # refused, and at run time
    SafeMap[str, bool]()  # raises at run time alone
    SafeMap[str, complex]()  # refused, and at run time
    SafeMap[str, bytes]()  # refused, and at run time
    SafeMap[str, list[int]]()  # refused, and at run time
    SafeMap[str, int | None]()  # refused, and at run time
    SafeMap[str, timedelta](timedelta)  # refused, and at run time


def the_type_said_twice_must_be_the_same() -> None:
    SafeMap[str, int](Fraction)  # raises at run time alone
    SafeMap[str, Fraction]()  # raises at run time alone
    SafeMap[str, Decimal](int)  # raises at run time alone
    SafeMap[str, float](Decimal)  # raises at run time alone
    SafeMap[str, Fraction](int, {"a": 1})  # raises at run time alone
    wrong: SafeMap[str, Fraction] = SafeMap()  # refused
    print(wrong)


def floats_say_their_tolerance_and_others_have_none() -> None:
    SafeMap(float)  # refused, and at run time
    SafeMap[str, float](float)  # refused, and at run time
    SafeMap[str, float]()  # raises at run time alone
    SafeMap(Fraction, tolerance=0.1)  # refused, and at run time
    SafeMap(Decimal, tolerance=0.1)  # refused, and at run time
    SafeMap(tolerance=0.1)  # refused, and at run time
    SafeMap[str, int](int, tolerance=0.1)  # raises at run time alone
    SafeMap(float, tolerance="small")  # refused, and at run time


def keys_are_hashable() -> None:
    SafeMap[str, int]().incr([])  # refused, and at run time
    SafeMap(int).incr({})  # refused, and at run time
    SafeMap[list[int], int]()  # refused


def amounts_are_of_the_map_s_type() -> None:
    SafeMap[str, int]().incr("a", 1.5)  # refused, and at run time
    SafeMap[str, int]().incr("a", "1")  # refused, and at run time
    SafeMap[str, int]().incr("a", None)  # refused, and at run time
    SafeMap[str, int]().decr("a", Fraction(1))  # refused, and at run time
    SafeMap[str, int]().set("a", Decimal(1))  # refused, and at run time
    SafeMap[str, int]().add({"a": 1.5})  # refused, and at run time
    SafeMap[str, int]().merge({"a": "1"})  # refused, and at run time
    SafeMap[str, Fraction](Fraction).incr("a", 0.5)  # refused, and at run time
    SafeMap[str, Decimal](Decimal).incr("a", 0.5)  # refused, and at run time
    SafeMap[str, float](float, tolerance=0.1).incr("a", Decimal(1))  # refused, and at run time


def a_map_is_changed_by_its_methods_alone(seats: SafeMap[str, int], anything: Any) -> None:
    SafeMap[str, int]()["a"] = 1  # refused, and at run time
    del SafeMap[str, int](int, {"a": 1})["a"]  # refused, and at run time
    {SafeMap[str, int](): 1}  # raises at run time alone
    seats["a"] += 1  # refused
    print(anything)
