"""naught.SafeMap from one thread: the table of cases, number types, Mapping, compaction, pickling."""

from __future__ import annotations

import copy
import itertools
import math
import os
import pickle
import random
import sys
import tracemalloc
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from contextlib import suppress
from decimal import Context, Decimal, Overflow, localcontext
from fractions import Fraction
from typing import Any, Generic, TypeVar, get_args, get_origin

import pytest

import naught
from naught.safemap import SafeMap, Underflow, shard
from support.cases_counters import INVALID, TOP_OF_NONE, UNDERFLOW, Case, cases_for
from support.each import hold_for_each
from support.seeds import told

POLICIES = ("eager", "deferred")
# The cleaning thread stays out of these tests unless a test asks for it: it would wait a day.
A_DAY_S = 86_400.0


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def make(policy: Any) -> Iterator[Any]:
    """Make maps of one policy, and close them when the test is over."""
    made: list[SafeMap[Any, Any]] = []

    def make_map(value_type: Any = int, entries: Any = (), **options: Any) -> SafeMap[Any, Any]:
        made.append(SafeMap(value_type, entries, **{"policy": policy, "clean_after_s": A_DAY_S, **options}))
        return made[-1]

    yield make_map
    for each in made:
        each.close()


# The table of cases, which the server's commands keep as well.

CASES = cases_for(
    {"incr", "decr", "apply", "get", "get_many", "set", "take", "clear", "count", "keys", "top", TOP_OF_NONE}
)


def as_text(key: str | bytes) -> str:
    """The key that a map of text counts under."""
    return key if isinstance(key, str) else os.fsdecode(key)


class MapUnderTest:
    """The operations of the table as calls of a map, with their results as the wire has them."""

    def __init__(self, counters: SafeMap[str, int]) -> None:
        self.counters = counters

    def incr(self, key: str, by: Any = 1) -> Any:
        return self.counters.incr(as_text(key), by)

    def decr(self, key: str, by: Any = 1, strict: bool = False) -> Any:
        return self.counters.decr(as_text(key), by, strict=strict)[0]

    def apply(self, keys: list[str], deltas: Any) -> Any:
        each = deltas if isinstance(deltas, list) else [deltas] * len(keys)
        return self.counters.add(zip(map(as_text, keys), each, strict=True))

    def get(self, key: str) -> Any:
        return self.counters.get(as_text(key), 0)

    def get_many(self, keys: list[str]) -> Any:
        return [self.get(key) for key in keys]

    def set(self, key: str, value: Any) -> Any:
        return self.counters.set(as_text(key), value)

    def take(self, keys: list[str]) -> Any:
        return [self.counters.take(as_text(key)) for key in keys]

    def clear(self) -> Any:
        return self.counters.clear()

    def count(self) -> Any:
        return len(self.counters)

    def keys(self) -> Any:
        return sorted(map(os.fsencode, self.counters))

    def top(self, n: int) -> Any:
        listed = self.counters.most_common(n)
        return [[os.fsencode(key) for key, _ in listed], [value for _, value in listed]]

    def do(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        try:
            return getattr(self, operation)(*arguments)
        except Underflow:
            return UNDERFLOW
        except (TypeError, ValueError):
            return INVALID


@pytest.mark.parametrize("shard_count", [1, 31])
def test_the_table_of_cases(shard_count: int, make: Any) -> None:
    def hold(case: Case) -> None:
        counters = make(shard_count=shard_count)
        tested = MapUnderTest(counters)
        for number, (operation, arguments, expected) in enumerate(case.steps):
            assert tested.do(operation, arguments) == expected, f"step {number}: {operation}{arguments}"
            assert all(value >= 1 for value in counters.values())

    hold_for_each(((case.name, case) for case in CASES), hold)


def test_the_cleaning_step_changes_no_answer() -> None:
    """Every case again, with a sweep after every step: whether a zero is still flagged must never show."""
    for case in CASES:
        with SafeMap[str, int](int, policy="deferred", clean_after_s=A_DAY_S, shard_count=3) as counters:
            tested = MapUnderTest(counters)
            for operation, arguments, expected in case.steps:
                assert tested.do(operation, arguments) == expected, case.name
                counters.sweep()
                assert counters.raw_entries == len(counters)


# The result of decr.


def test_decr_says_whether_this_call_evicted(make: Any) -> None:
    counters = make()
    counters.incr("a", 3)
    assert counters.decr("a") == (2, False)
    assert counters.decr("a", 2) == (0, True)
    assert counters.decr("a", 2) == (0, False)
    assert counters.decr("never") == (0, False)
    counters.incr("a", 2)
    assert counters.decr("a", 5) == (0, True)
    counters.incr("a", 2)
    assert counters.decr("a", 2, strict=True) == (0, True)


def test_underflow_is_arithmetic_and_says_what_was_there(make: Any) -> None:
    counters = make()
    counters.incr("a", 2)
    with pytest.raises(ArithmeticError, match=r"'a'.* 2 .* 3"):
        counters.decr("a", 3, strict=True)
    with pytest.raises(Underflow, match=r"'b'.* 0 .* 1"):
        counters.decr("b", strict=True)
    assert counters.snapshot() == {"a": 2}


class Unprintable:
    """A key whose text cannot be made."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def test_errors_are_raised_also_where_their_text_cannot_be_made(make: Any) -> None:
    counters, litres = make(), make(float, {"tank": 1e308}, tolerance=1e-9)
    key, huge = Unprintable(), 10**5_000  # Python makes no text of so many digits
    counters.merge({"a": huge})
    litres.incr(key, 1e308)
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (Underflow, "cannot go down", lambda: counters.decr(key, strict=True)),
        (Underflow, "cannot go down", lambda: counters.decr("a", huge + 1, strict=True)),
        (ValueError, "above zero", lambda: counters.incr("a", -huge)),
        (ValueError, "negative", lambda: counters.set("a", -huge)),
        (ValueError, "too large", lambda: litres.incr("tank", huge)),
        (ValueError, "finite", lambda: litres.incr(key, 1e308)),
    ]
    for error, text, way in cases:
        with pytest.raises(error, match=text):
            way()


def test_a_key_that_shows_its_map_ends_the_text_as_in_a_dict(make: Any) -> None:
    class Showing:
        def __repr__(self) -> str:
            return f"<key of {counters!r}>"

    counters = make()
    counters.incr(Showing())
    assert repr(counters).startswith("SafeMap(int, {<key of SafeMap(...)>: 1}")


def test_a_key_error_of_a_comparison_is_raised(make: Any) -> None:
    class Key:
        def __init__(self, fails: bool) -> None:
            self.fails = fails

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if self.fails:
                raise KeyError("compared")
            return self is other

    counters = make()
    first = Key(fails=False)
    counters.incr(first)
    first.fails = True
    with pytest.raises(KeyError, match="compared"):
        counters.decr(Key(fails=True))
    assert counters._locks[0].depth() == 0
    assert counters.decr(first) == (0, True)


def test_underflow_is_where_the_other_exceptions_are(make: Any) -> None:
    assert naught.Underflow is naught.errors.Underflow is Underflow
    assert "Underflow" in naught.__all__
    assert "Underflow" in naught.errors.__all__
    assert issubclass(naught.Underflow, naught.NaughtError)
    # One `except` clause serves for a map and for a server's counter.
    assert issubclass(naught.CounterUnderflow, naught.Underflow)
    with pytest.raises(naught.NaughtError):
        make().decr("a", strict=True)


# Number types. For each: three amounts in ascending order, and amounts that are refused.

NUMBERS: list[tuple[type, dict[str, Any], list[Any], list[Any]]] = [
    (int, {}, [1, 2, 10**30], [0, -1, 1.0, True, Fraction(1), Decimal(1), "1", None, math.nan]),
    (
        Fraction,
        {},
        [Fraction(1, 3), Fraction(1, 2), 7],
        [0, Fraction(0), Fraction(-1, 3), 0.5, Decimal(1), True, "1"],
    ),
    (
        Decimal,
        {},
        [Decimal("0.10"), Decimal("1E+3"), 7777],
        [
            *(Decimal(text) for text in ("0", "-0", "0E+5", "-1", "NaN", "sNaN", "Infinity", "-Infinity")),
            *(0, -1, 0.5, Fraction(1), True, "1"),
        ],
    ),
    (
        float,
        {"tolerance": 1e-9},
        [1e-8, 0.5, 7],
        [
            0,
            0.0,
            -0.0,
            -1,
            -1.0,
            1e-9,
            5e-324,
            math.nan,
            math.inf,
            -math.inf,
            Fraction(1),
            Decimal(1),
            True,
            "1",
        ],
    ),
]


@pytest.mark.parametrize(
    ("value_type", "options", "amounts", "refused"), NUMBERS, ids=lambda n: getattr(n, "__name__", "")
)
def test_number_types(value_type: Any, options: Any, amounts: list[Any], refused: list[Any], make: Any) -> None:
    counters = make(value_type, **options)
    assert counters.value_type is value_type
    small, middle, large = amounts
    value = counters.incr("a", small)
    assert type(value) is value_type
    assert value == small
    value = counters.incr("a", large)
    assert type(value) is value_type
    assert value == small + large
    value, evicted = counters.decr("a", middle)
    assert (type(value), evicted) == (value_type, False)
    value, evicted = counters.decr("a", large + large)
    assert (type(value), value, evicted) == (value_type, 0, True)
    assert type(counters.incr("default")) is value_type
    assert counters["default"] == 1
    value, evicted = counters.decr("default")
    assert (type(value), value, evicted) == (value_type, 0, True)
    assert (type(counters.take("absent")), counters.take("absent")) == (value_type, 0)
    assert (type(counters.set("s", large)), counters["s"]) == (value_type, large)
    assert type(counters["s"]) is value_type
    before = counters.snapshot()
    for by in refused:
        for operation in (counters.incr, counters.decr):
            for key in ("s", "new"):
                with pytest.raises((TypeError, ValueError)):
                    operation(key, by)
    assert counters.snapshot() == before


def test_refusals_are_of_the_right_class_and_say_why(make: Any) -> None:
    counters = make()
    with pytest.raises(TypeError, match="counts int, not float"):
        counters.incr("a", 1.0)
    with pytest.raises(TypeError, match="counts int, not bool"):
        counters.incr("a", True)
    with pytest.raises(ValueError, match="above zero"):
        counters.incr("a", 0)
    with pytest.raises(ValueError, match="finite"):
        make(Decimal).incr("a", Decimal("Infinity"))
    with pytest.raises(ValueError, match=r"tolerance of 0\.1"):
        make(float, tolerance=0.1).incr("a", 0.1)
    with pytest.raises(ValueError, match="negative"):
        counters.set("a", -1)
    with pytest.raises(ValueError, match="negative"):
        counters.merge({"a": 1, "b": -1})
    assert len(counters) == 0


def test_exact_types_come_back_to_exactly_nothing(make: Any) -> None:
    thirds = make(Fraction)
    for _ in range(3):
        thirds.incr("cake", Fraction(1, 3))
    assert thirds.decr("cake", 1) == (0, True)
    cents = make(Decimal)
    for _ in range(10):
        cents.incr("till", Decimal("0.1"))
    assert cents.decr("till", Decimal("1.0")) == (0, True)


def test_a_float_is_zero_within_its_tolerance(make: Any) -> None:
    litres = make(float, tolerance=1e-9)
    for _ in range(10):
        litres.incr("tank", 0.1)
    assert litres["tank"] != 1.0  # 0.9999999999999999
    assert litres.decr("tank", 0.7) == (pytest.approx(0.3), False)
    assert litres.decr("tank", 0.3) == (0.0, True)
    assert litres.raw_entries == (1 if litres.policy == "deferred" else 0)
    litres.incr("tank", 0.3)
    assert litres.decr("tank", 0.3 + 5e-10, strict=True) == (0.0, True)
    litres.incr("tank", 0.3)
    with pytest.raises(Underflow):
        litres.decr("tank", 0.3 + 5e-9, strict=True)
    assert litres.set("tank", 1e-9) == pytest.approx(0.3)
    assert len(litres) == 0
    unrounded = make(float, tolerance=0.0)
    for _ in range(10):
        unrounded.incr("tank", 0.1)
    assert unrounded.decr("tank", 0.9999999999999999) == (0.0, True)
    assert litres.tolerance == 1e-9
    assert make().tolerance == 0


LARGEST: list[tuple[type, dict[str, Any], Any]] = [
    (float, {"tolerance": 1e-9}, 1e308),
    (Decimal, {}, Decimal("9E999999")),
]


@pytest.mark.parametrize("traps", [[], [Overflow]], ids=["no trap", "trap"])
@pytest.mark.parametrize(("value_type", "options", "large"), LARGEST)
def test_a_sum_that_is_not_finite_is_refused(
    value_type: Any, options: Any, large: Any, traps: Any, make: Any
) -> None:
    counters = make(value_type, {"a": large, "b": 1}, **options)
    before = counters.snapshot()
    ways: list[Callable[[], Any]] = [
        lambda: counters.incr("a", large),
        lambda: counters.incr("new", value_type("inf")),
        lambda: counters.set("a", value_type("inf")),
        lambda: counters.set("a", value_type("nan")),
        lambda: counters.add({"b": 1, "a": large}),
        lambda: counters.add([("b", -1), ("new", large), ("new", large)]),
        lambda: counters.merge([("b", 1), ("a", large)]),
        lambda: counters.merge(counters),
        lambda: make(value_type, [("a", large), ("a", large)], **options),
    ]
    with localcontext(Context(traps=traps)):
        for way in ways:
            with pytest.raises(ValueError, match="finite"):
                way()
            assert counters.snapshot() == before
        assert counters.add([("a", -large), ("a", large)]) == [0, large]
        assert counters.decr("a", large) == (0, True)


def test_a_sum_that_rounds_to_zero_is_refused(make: Any) -> None:
    """Below the least exponent of its context Decimal rounds sums of numbers above zero to zero."""
    tiny = Decimal("1E-9999999")
    counters = make(Decimal, {"a": tiny, "b": 1})
    before = counters.snapshot()
    for way in (
        lambda: counters.incr("a", tiny),
        lambda: counters.add({"b": 1, "a": tiny}),
        lambda: counters.add([("new", tiny), ("new", tiny)]),
        lambda: counters.merge(counters),
    ):
        with pytest.raises(ValueError, match="above zero"):
            way()
        assert counters.snapshot() == before
        assert len(counters) == 2
    assert counters.add([("a", tiny.copy_negate()), ("a", tiny)]) == [0, tiny]
    assert counters.decr("a", tiny) == (0, True)


@pytest.mark.parametrize("traps", [[], [Overflow]], ids=["no trap", "trap"])
def test_a_decrement_by_more_than_a_difference_can_be_stops_at_zero(traps: Any, make: Any) -> None:
    beyond = Decimal("9." + "9" * 40 + "E999999")  # with 28 digits it rounds to infinity
    counters = make(Decimal, {"a": 5})
    with localcontext(Context(traps=traps)):
        with pytest.raises(Underflow):
            counters.decr("a", beyond, strict=True)
        assert counters.get("a") == 5
        assert counters.decr("a", beyond) == (0, True)
        assert counters.decr("a", beyond) == (0, False)
        assert counters.add([("b", 5), ("b", beyond.copy_negate()), ("b", 1)]) == [5, 0, 1]


@pytest.mark.parametrize(("value_type", "options", "large"), LARGEST)
def test_a_pickle_cannot_bring_what_set_refuses(value_type: Any, options: Any, large: Any, make: Any) -> None:
    state = make(value_type, {"a": 1}, **options).__getstate__()
    for wrong in (value_type("inf"), value_type("nan"), value_type(-1), value_type(0), "1", None):
        twin = SafeMap.__new__(SafeMap)
        with pytest.raises(ValueError, match="state of a SafeMap"):
            twin.__setstate__({**state, "entries": {"a": wrong}})


@pytest.mark.parametrize("tolerance", [-1e-9, math.nan, math.inf])
def test_a_tolerance_is_finite_and_not_negative(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        SafeMap(float, tolerance=tolerance)


def test_an_int_subclass_counts_as_int(make: Any) -> None:
    class Seats(int):
        pass

    counters = make()
    assert type(counters.incr("a", Seats(2))) is int
    assert type(counters["a"]) is int


# Construction.


def test_construction_from_entries(make: Any) -> None:
    assert make(int, {"a": 1, "b": 2}).snapshot() == {"a": 1, "b": 2}
    assert make(int, [("a", 1), ("b", 2), ("a", 3)]).snapshot() == {"a": 4, "b": 2}
    assert make(int, Counter("abra")).snapshot() == {"a": 2, "b": 1, "r": 1}
    assert make(int, Counter(a=0, b=1)).snapshot() == {"b": 1}
    assert make(int, make(int, {"a": 1})).snapshot() == {"a": 1}
    assert make(float, {"a": 1e-12, "b": 1}, tolerance=1e-9).snapshot() == {"b": 1.0}
    with pytest.raises(ValueError, match="negative"):
        make(int, {"a": 1, "b": -1})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"policy": "lazy"}, ValueError),
        ({"policy": None}, ValueError),
        ({"shard_count": 0}, ValueError),
        ({"shard_count": -1}, ValueError),
        ({"shard_count": 1.0}, TypeError),
        ({"shard_count": True}, TypeError),
        ({"clean_after_s": -1}, ValueError),
        ({"clean_after_s": math.nan}, ValueError),
        ({"clean_after_s": math.inf}, ValueError),
        ({"tolerance": 0.1}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_construction_refuses(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        SafeMap(int, **options)


def test_the_refused_type_is_named_with_what_to_do() -> None:
    unsure: Any = str
    with pytest.raises(TypeError, match=r"zero of str .*int, Fraction, Decimal or float"):
        SafeMap(unsure)
    with pytest.raises(TypeError, match="tolerance"):
        SafeMap(float)  # type: ignore[arg-type]
    data: Any = {"a": 1}
    with pytest.raises(TypeError, match=r"SafeMap\(int, entries\)"):
        SafeMap(data)


def test_a_class_can_name_its_types_once() -> None:
    class Seats(SafeMap[str, int]):
        pass

    seats = Seats(int, {"a": 1})
    seats.incr("a")
    assert repr(seats) == "Seats(int, {'a': 2})"
    assert copy.copy(seats).__class__ is Seats


# Changing several counters.


def test_add_refuses_before_anything_changes(make: Any) -> None:
    counters = make(int, {"a": 1})
    for bad in ([("a", 1), ("b", 0)], [("a", 1), ("b", 1.5)], [("a", 1), ([], 1)], [("a", 1), ("b",)], 7):
        with pytest.raises((TypeError, ValueError)):
            counters.add(bad)
        assert counters.snapshot() == {"a": 1}
    assert counters.add({"a": 2, "b": 1}) == [3, 1]


def test_add_of_a_decimal_beyond_the_context_is_not_rounded(make: Any) -> None:
    counters = make(Decimal, {"a": 2})
    large = Decimal("1.0000000000000000000000000000000000000001")
    counters.set("b", large)
    assert counters.add([("b", large.copy_negate())]) == [0]


def test_merge_adds_and_leaves_the_other_alone(make: Any) -> None:
    mine = make(int, {"a": 1, "b": 2})
    other = make(int, {"b": 3, "c": 4})
    mine.merge(other)
    assert mine.snapshot() == {"a": 1, "b": 5, "c": 4}
    assert other.snapshot() == {"b": 3, "c": 4}
    mine.merge(mine)
    assert mine.snapshot() == {"a": 2, "b": 10, "c": 8}
    mine.merge(Counter(a=0, d=1))
    mine.merge([("d", 1)])
    assert mine["d"] == 2
    mixed = make(Fraction)
    mixed.merge(mine)
    assert type(mixed["a"]) is Fraction


def test_most_common(make: Any) -> None:
    counters = make(int, {"a": 1, "b": 3, "c": 2})
    assert counters.most_common() == [("b", 3), ("c", 2), ("a", 1)]
    assert counters.most_common(1) == [("b", 3)]
    assert counters.most_common(-1) == []
    assert make().most_common() == []
    counters.incr(("not", "orderable"), 3)
    assert {key for key, _ in counters.most_common(2)} == {"b", ("not", "orderable")}


# The methods of Mapping.


def test_mapping_protocol(make: Any) -> None:
    counters: Any = make(int, {"a": 1, "b": 2})
    for kind, expected in ((Mapping, True), (MutableMapping, False), (dict, False)):
        assert isinstance(counters, kind) is expected
    assert counters["a"] == 1
    with pytest.raises(KeyError, match="absent"):
        counters["absent"]
    assert "absent" not in counters
    assert len(counters) == 2
    assert ("a" in counters, "absent" in counters, None in counters) == (True, False, False)
    assert (counters.get("a"), counters.get("absent"), counters.get("absent", 0)) == (1, None, 0)
    assert counters.get("absent", default=7) == 7
    assert sorted(counters) == ["a", "b"]
    assert bool(counters)
    assert not make()
    assert dict(counters) == {"a": 1, "b": 2}
    assert {**counters} == {"a": 1, "b": 2}
    for unhashable in (counters.__getitem__, counters.__contains__, counters.get, counters.take):
        with pytest.raises(TypeError, match="unhashable"):
            unhashable([])
    match counters:
        case {"a": value, **rest}:
            assert (value, rest) == (1, {"b": 2})
        case _:
            pytest.fail("a SafeMap does not match a mapping pattern")


def test_views(make: Any) -> None:
    counters = make(int, {"a": 1, "b": 2})
    keys, values, items = counters.keys(), counters.values(), counters.items()
    assert isinstance(keys, KeysView)
    assert isinstance(values, ValuesView)
    assert isinstance(items, ItemsView)
    assert (len(keys), len(values), len(items)) == (2, 2, 2)
    assert (sorted(keys), sorted(values), sorted(items)) == (["a", "b"], [1, 2], [("a", 1), ("b", 2)])
    counters.incr("c", 3)  # views are live
    assert (len(keys), len(values), len(items)) == (3, 3, 3)
    assert ("c" in keys, 3 in values, ("c", 3) in items) == (True, True, True)
    assert (("d", 3) in items, ("c", 4) in items, ("d", 0) in items, 0 in values) == (
        False,
        False,
        False,
        False,
    )
    counters.decr("c", 3)
    assert ("c" in keys, 3 in values, ("c", 3) in items, ("c", 0) in items, 0 in values) == (False,) * 5
    assert keys & {"a", "z"} == {"a"}
    assert items - {("a", 1)} == {("b", 2)}
    assert keys == {"a", "b"}


def test_equality_is_of_mappings(make: Any) -> None:
    counters = make(int, {"a": 1, "b": 2})
    assert counters == {"b": 2, "a": 1}
    assert {"b": 2, "a": 1} == counters  # noqa: SIM300
    assert counters == OrderedDict(a=1, b=2)
    assert counters == make(Fraction, {"a": 1, "b": 2})
    assert counters != {"a": 1}
    assert counters != {"a": 1, "b": 2, "c": 0}
    assert counters != [("a", 1), ("b", 2)]
    with pytest.raises(TypeError, match="unhashable"):
        hash(counters)


def test_it_behaves_as_a_dict_of_its_entries_does(make: Any) -> None:
    """Mapping's own mixins, applied to a dict, against ours, over many contents."""
    for entries in ({}, {"a": 1}, {i: i + 1 for i in range(100)}, {None: 1, (): 2, "x": 3, 1.5: 4}):
        counters = make(int, entries)
        assert counters == entries
        assert Counter(counters.keys()) == Counter(entries.keys())
        assert Counter(counters.values()) == Counter(entries.values())
        assert Counter(counters.items()) == Counter(entries.items())
        for key in (*entries, "absent", 1.0, True):
            assert counters.get(key) == entries.get(key)
            assert (key in counters) == (key in entries)
            assert counters.get(key, "default") == Mapping.get(counters, key, "default")
            assert (key, entries.get(key)) in counters.items() or key not in entries


def test_changing_while_iterating_is_allowed(make: Any) -> None:
    counters = make(int, dict.fromkeys(range(300), 1))
    assert sum(counters.decr(key)[1] for key in counters) == 300
    counters.merge(dict.fromkeys(range(300), 1))
    assert sum(counters.take(key) for key, _ in counters.items()) == 300
    counters.merge(dict.fromkeys(range(300), 2))
    for key in counters:
        counters.take(300 - key if isinstance(key, int) else key)
        counters.incr(str(key)[:4])
    assert all(value >= 1 for value in counters.values())


def test_reversed_is_refused_as_mapping_does(make: Any) -> None:
    with pytest.raises(TypeError):
        reversed(make())


# Keys.


def test_any_hashable_key(make: Any) -> None:
    counters = make()
    keys: list[Any] = [
        None,
        "",
        b"",
        0,
        -1,
        2**70,
        1.5,
        math.inf,
        (),
        ("a", (1,)),
        frozenset([1]),
        object(),
        int,
        -1 << 61,
    ]
    for key in keys:
        counters.incr(key)
    assert len(counters) == len(keys)
    assert all(counters[key] == 1 for key in keys)
    assert counters.incr(1.0) == 1
    assert counters.incr(True) == 2
    for key in keys:
        assert counters.decr(key) == (0, True)


class Reentrant:
    """A key whose methods use the map, as a finalizer or a signal handler may do at any moment."""

    def __init__(self, name: str, counters: SafeMap[Any, int]) -> None:
        self.name = name
        self.counters = counters

    def __hash__(self) -> int:
        self.counters.incr("hashed")
        return 7

    def __eq__(self, other: object) -> bool:
        self.counters.incr("compared")
        return isinstance(other, Reentrant) and self.name == other.name

    def __del__(self) -> None:
        self.counters.incr("dropped")


def test_the_map_can_be_used_from_inside_itself(make: Any) -> None:
    counters = make(shard_count=1)
    counters.incr(Reentrant("a", counters))
    counters.incr(Reentrant("b", counters))
    assert counters.incr(Reentrant("a", counters)) == 2
    assert counters.decr(Reentrant("a", counters), 2) == (0, True)
    counters.sweep()
    assert Reentrant("a", counters) not in counters
    assert counters["compared"] >= 1
    assert counters["dropped"] >= 4
    assert sum(isinstance(key, Reentrant) for key in counters) == 1
    counters.clear()


class Meddling:
    """A key that now and then changes the map while the map compares it or drops it."""

    def __init__(self, number: int, meddle: Callable[[], None]) -> None:
        self.number = number
        self.meddle = meddle

    def __hash__(self) -> int:
        return self.number % 7

    def __eq__(self, other: object) -> bool:
        self.meddle()
        return isinstance(other, Meddling) and self.number == other.number

    def __del__(self) -> None:
        self.meddle()


# What a plain dict raises too when a key's comparison changes it.
DICT_COMPLAINS = (KeyError, RuntimeError)


@pytest.mark.parametrize("seed", range(20))
def test_keys_that_change_the_map_from_inside_leave_no_zero_unflagged(seed: int) -> None:
    """Under deferred eviction: a zero without a flag would be shown, and stay for ever."""
    chance = random.Random(seed)
    counters: SafeMap[Any, int] = SafeMap(policy="deferred", clean_after_s=A_DAY_S)
    counters._cleaning = True
    depth = 0

    def key() -> Meddling:
        return Meddling(chance.randrange(30), meddle)

    steps: list[Callable[[], Any]] = [
        lambda: counters.incr(key(), chance.randrange(1, 3)),
        lambda: counters.decr(key(), chance.randrange(1, 3)),
        lambda: counters.take(key()),
        lambda: counters.set(key(), chance.randrange(3)),
        lambda: counters.add([(key(), chance.choice([-2, -1, 1, 2])) for _ in range(3)]),
        lambda: counters.clear() if chance.random() < 0.2 else None,
        counters.sweep,
        counters._shards[0].compact,
        lambda: len(counters),
        counters.snapshot,
    ]

    def meddle() -> None:
        nonlocal depth
        if 0 < depth < 3 and chance.random() < 0.2:
            step(chance.choice(steps))

    def step(work: Callable[[], Any]) -> None:
        nonlocal depth
        depth += 1
        try:
            with suppress(*DICT_COMPLAINS):
                work()
        finally:
            depth -= 1

    table = counters._shards[0]
    for _ in range(300):
        step(chance.choice(steps))
        flagged = {each.number for each in table.flagged}
        zeros = {each.number for each, value in table.table.items() if not value}
        assert table.all_flagged or zeros <= flagged
    counters.close()
    assert 0 not in table.table.values()
    assert not table.flagged


def test_sweeping_fails_for_no_key_that_changes_the_map() -> None:
    """A sweep within a sweep, as a key's end or comparison may ask for, leaves the flags to the outer one."""
    counters: SafeMap[Any, int] = SafeMap(policy="deferred", clean_after_s=A_DAY_S)
    counters._cleaning = True
    for number in range(20):
        counters.incr(Meddling(number, counters.sweep))
    for _ in range(2):
        while counters:
            counters.decr(next(iter(counters)))
        counters.sweep()
        counters.sweep()
        assert counters.raw_entries == 0


def test_counting_the_counters_goes_on_while_a_comparison_flags_more() -> None:
    """As a signal handler may, too."""
    counters: SafeMap[Any, int] = SafeMap(policy="deferred", clean_after_s=A_DAY_S)
    counters._cleaning = True
    for number in range(4, 40):
        counters.incr(str(number))
    left = [str(number) for number in range(4, 40)]
    for number in range(2):
        # Of one hash, so that looking for one compares with the other.
        counters.incr(Meddling(7 * number, lambda: (left and counters.decr(left.pop())) and None))
    for each in [each for each in counters if isinstance(each, Meddling)]:
        counters.decr(Meddling(each.number, lambda: None))
    assert 0 <= len(counters) <= 36


def test_a_map_may_be_closed_while_it_is_comparing() -> None:
    counters: SafeMap[Any, int] = SafeMap(policy="deferred", clean_after_s=A_DAY_S)
    counters.incr("a")
    counters.decr("a")
    counters.incr(Meddling(1, counters.close))
    counters.incr(Meddling(8, lambda: None))  # compares
    assert len(counters) == 2
    counters.close()
    assert counters.raw_entries == 2


# Zeros that are flagged and not deleted yet.


def test_deferred_keeps_a_flagged_zero_until_it_is_swept() -> None:
    with SafeMap[str, int](int, policy="deferred", clean_after_s=A_DAY_S) as counters:
        counters.add({"a": 1, "b": 1, "c": 1})
        counters.add({"a": -1, "b": -1})
        assert (len(counters), counters.raw_entries) == (1, 3)
        assert counters == {"c": 1}
        assert dict(counters.items()) == counters.snapshot() == {"c": 1}
        assert (list(counters), list(counters.values())) == (["c"], [1])
        assert ("a" in counters, counters.get("a"), counters.most_common()) == (False, None, [("c", 1)])
        with pytest.raises(KeyError):
            counters["a"]
        counters.incr("a")
        assert (len(counters), counters.raw_entries) == (2, 3)
        assert counters.sweep() == 1
        assert (len(counters), counters.raw_entries) == (2, 2)
        assert counters.sweep() == 0


def test_eager_has_nothing_to_sweep() -> None:
    counters = SafeMap(int, {"a": 1})
    counters.decr("a")
    assert (counters.raw_entries, counters.sweep()) == (0, 0)


# Memory.


def test_memory_returns_after_a_drain(make: Any) -> None:
    key_count = 60_000
    keys = [f"key:{i}" for i in range(key_count)]
    counters = make()
    empty_bytes = counters.table_bytes
    tracemalloc.start()
    try:
        base_bytes = tracemalloc.get_traced_memory()[0]
        for key in keys:
            counters.incr(key)
        full_bytes = tracemalloc.get_traced_memory()[0] - base_bytes
        for key in keys:
            counters.decr(key)
        counters.sweep()
        left_bytes = tracemalloc.get_traced_memory()[0] - base_bytes
    finally:
        tracemalloc.stop()
    assert len(counters) == 0
    assert full_bytes > key_count * 20
    assert left_bytes < full_bytes * 0.05
    assert counters.table_bytes < empty_bytes + 31 * 4096


def test_memory_returns_when_one_in_a_hundred_is_left(make: Any) -> None:
    counters = make()
    for key in range(200_000):
        counters.incr(key)
    full_bytes = counters.table_bytes
    for key in range(200_000):
        if key % 100:
            counters.decr(key)
    counters.sweep()
    assert len(counters) == 2_000
    assert counters.table_bytes < full_bytes * 0.05
    assert counters == dict.fromkeys(range(0, 200_000, 100), 1)


@pytest.mark.parametrize("drain", ["take", "set", "clear"])
def test_memory_returns_however_it_drains(drain: str, make: Any) -> None:
    counters = make()
    for key in range(200_000):
        counters.incr(key)
    full_bytes = counters.table_bytes
    if drain == "clear":
        counters.clear()
    else:
        for key in range(200_000):
            counters.take(key) if drain == "take" else counters.set(key, 0)
    assert counters.table_bytes < full_bytes * 0.05


def test_what_stays_in_a_small_map_has_a_bound(make: Any) -> None:
    """A table's size is checked after 256 evictions, so a table of that many entries may stay."""
    counters = make()
    for key in range(20_000):
        counters.incr(key)
    for key in range(20_000):
        counters.decr(key)
    counters.sweep()
    table_bytes_max = sys.getsizeof({**dict.fromkeys(range(256))}) + sys.getsizeof({})  # the second is of the flags
    assert counters.table_bytes <= counters.shard_count * table_bytes_max


def test_raw_entries_of_a_flapping_counter_do_not_pile_up(make: Any) -> None:
    counters = make(shard_count=1)
    for _ in range(10_000):
        counters.incr("a")
        counters.decr("a")
    assert counters.raw_entries <= 1
    assert counters.table_bytes < 2048


@pytest.mark.parametrize(("value_type", "options"), [(n[0], n[1]) for n in NUMBERS])
def test_every_zero_returned_is_of_the_maps_type(value_type: Any, options: Any, make: Any) -> None:
    counters = make(value_type, {"a": 1}, **options)
    answers = [
        counters.decr("a")[0],
        counters.set("a", 1),
        counters.take("a"),
        counters.take("a"),
        counters.decr("a")[0],
    ]
    counters.incr("a")
    counters.decr("a")
    answers += [counters.decr("a")[0], counters.take("a"), counters.set("a", 0), counters.set("a", 0)]
    assert [type(answer) for answer in answers] == [value_type] * len(answers)


KEYS: dict[str, Callable[[int], Any]] = {
    "str": lambda number: f"key:{number}",
    "surrogates": lambda number: f"\ud800\U0001f600:{number}",
    "bytes": lambda number: b"key:%d" % number,
    "int": lambda number: 10**9 + number,
}


def drained(counters: Any, make_key: Callable[[int], Any], key_count: int, held: dict[Any, Any]) -> dict[Any, int]:
    """Fill the map and drain all but every hundredth key; return the address that each survivor had before."""
    for number in range(key_count):
        key = make_key(number)
        counters.incr(held.get(key, key), 1000 + number)
        del key
    places = {key: id(key) for key in held}
    places.update((make_key(n), p) for n, p in survivors_at(counters, key_count, make_key).items())
    for number in range(key_count):
        if number % 100:
            counters.take(make_key(number))
    counters.sweep()
    return places


def survivors_at(counters: Any, key_count: int, make_key: Callable[[int], Any]) -> dict[int, int]:
    """Number -> the address of its key in the map now, for every hundredth."""
    numbers = {make_key(number): number for number in range(0, key_count, 100)}
    return {numbers[key]: id(key) for key in counters if key in numbers}


@pytest.fixture
def small_maps_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the keys of maps that are too small for it otherwise."""
    monkeypatch.setattr(shard, "MOVE_KEYS_MIN", 3_000)


@pytest.mark.usefixtures("small_maps_move")
@pytest.mark.parametrize("kind", KEYS)
def test_survivors_of_a_drain_are_moved_together(kind: str, make: Any) -> None:
    """The pages in which they lay scattered can then be given back."""
    make_key, key_count = KEYS[kind], 20_000
    counters = make(shard_count=3)
    before = drained(counters, make_key, key_count, {})
    after = survivors_at(counters, key_count, make_key)
    assert len(after) == key_count // 100
    # Not all: a key that is moved twice may come to lie where it lay at first.
    assert sum(before[make_key(number)] != place for number, place in after.items()) > len(after) / 2
    assert counters == {make_key(number): 1000 + number for number in range(0, key_count, 100)}
    assert all(type(key) is type(make_key(0)) for key in counters)


@pytest.mark.usefixtures("small_maps_move")
@pytest.mark.parametrize("kind", KEYS)
def test_a_key_that_the_program_holds_stays_the_same_object(kind: str, make: Any) -> None:
    make_key, key_count = KEYS[kind], 20_000
    held = {key: key for key in map(make_key, range(0, key_count, 200))}
    counters = make(shard_count=3)
    drained(counters, make_key, key_count, held)
    found = {key: key for key in counters}
    assert all(found[key] is key for key in held)


class Text(str):
    """A subclass of str, which a map must not treat as a str."""

    __slots__ = ()


@pytest.mark.usefixtures("small_maps_move")
@pytest.mark.parametrize("make_key", [lambda n: Text(f"key:{n}"), lambda n: ("key", n), lambda n: frozenset({n})])
def test_keys_of_other_types_are_not_touched(make_key: Callable[[int], Any], make: Any) -> None:
    counters, key_count = make(shard_count=3), 20_000
    before = drained(counters, make_key, key_count, {})
    after = survivors_at(counters, key_count, make_key)
    assert {make_key(number): place for number, place in after.items()} == before
    assert all(type(key) is type(make_key(0)) for key in counters)


@pytest.mark.parametrize("change", ["another value", "another key", "a key less"])
def test_what_counts_while_keys_are_moved_is_not_lost(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler can run between any two steps. Here `getrefcount` takes its place."""
    table_shard = shard.Shard()
    table_shard.table.update({f"key:{number}": 1 for number in range(10)})
    old = table_shard.table
    expected = dict(old)

    def interrupted(key: object) -> int:
        if key == "key:5":
            for table in (old, expected):
                if change == "another value":
                    table["key:2"] = 7
                elif change == "another key":
                    table["key:new"] = 1
                else:
                    table.pop("key:9", None)
        return 2

    monkeypatch.setattr(shard, "getrefcount", interrupted)
    table_shard.move()
    assert table_shard.table is old
    assert old == expected


# Copies and text.


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("value_type", "options"), [(n[0], n[1]) for n in NUMBERS])
def test_pickling(value_type: Any, options: Any, protocol: int, make: Any) -> None:
    counters = make(value_type, {"a": 1, ("b", 2): 3}, shard_count=5, **options)
    counters.incr("gone")
    counters.decr("gone")
    twin = pickle.loads(pickle.dumps(counters, protocol))
    assert type(twin) is SafeMap
    assert twin == counters == {"a": 1, ("b", 2): 3}
    assert twin.raw_entries == 2
    for name in ("value_type", "tolerance", "policy", "shard_count", "clean_after_s"):
        assert getattr(twin, name) == getattr(counters, name)
    twin.incr("a")
    assert counters["a"] == 1
    twin.close()


class Labelled(SafeMap[str, int]):
    """A subclass with an attribute of its own; at module level so that pickle finds it."""

    label = "none"


def test_pickling_keeps_what_a_subclass_adds() -> None:
    mine = Labelled(int, {"a": 1})
    mine.label = "mine"
    twin = pickle.loads(pickle.dumps(mine))
    assert (type(twin), twin.label, twin) == (Labelled, "mine", {"a": 1})


class Defaulting(SafeMap[str, int]):
    """A subclass whose `get` returns 0 for an absent counter."""

    def get(self, key: Any, /, default: Any = 0) -> Any:
        return super().get(key, default)


def test_a_subclass_may_have_its_own_get() -> None:
    mine = Defaulting(int, {"a": 1})
    assert (mine.get("b"), "b" in mine, "a" in mine, mine["a"]) == (0, False, True, 1)
    with pytest.raises(KeyError):
        mine["b"]
    assert mine == {"a": 1}


class Made(SafeMap[str, int]):
    """A subclass that cannot be made without an argument."""

    def __new__(cls, unit: str) -> Made:
        made = super().__new__(cls)
        made.unit = unit
        return made

    unit: str

    def __init__(self, unit: str) -> None:
        super().__init__()


OneType = TypeVar("OneType", bound=Hashable)


class CountsOf(SafeMap[OneType, int], Generic[OneType]):
    """A subclass with a type parameter of its own."""


class CountsFor(SafeMap[OneType, int]):
    """The same without naming Generic, which Python does not need."""


@pytest.mark.parametrize("kind", [CountsOf, CountsFor])
def test_a_subclass_may_have_its_own_type_parameters(kind: Any) -> None:
    counters = kind[str](int, {"a": 1})
    assert type(counters) is kind
    assert counters == {"a": 1}
    assert (get_origin(kind[str]), get_args(kind[str])) == (kind, (str,))
    assert type(kind()) is kind


class Slotted(SafeMap[str, int]):
    """A subclass with slots, one of them private and one never set."""

    __slots__ = ("__secret", "never", "unit")

    def keep(self, secret: str) -> Slotted:
        self.__secret = secret
        return self

    def secret(self) -> str:
        return self.__secret


class SlottedAndMore(Slotted):
    """One that has state in slots and in `__dict__`."""

    __slots__ = ("place",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.place, self.colour = ["here"], "red"  # `colour` has no slot


COPIERS: list[Callable[[Any], Any]] = [
    *(copy.copy, copy.deepcopy, SafeMap.copy),
    *(lambda one, p=protocol: pickle.loads(pickle.dumps(one, p)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
]


@pytest.mark.parametrize("kind", [Slotted, SlottedAndMore])
@pytest.mark.parametrize("copier", COPIERS, ids=lambda copier: getattr(copier, "__qualname__", ""))
def test_subclasses_with_slots_copy(kind: type[Slotted], copier: Callable[[Any], Any]) -> None:
    mine = kind(int, {"a": 1}).keep("s")
    mine.unit = "seats"
    twin = copier(mine)
    assert (type(twin), twin.secret(), twin.unit, twin) == (kind, "s", "seats", {"a": 1})
    assert not hasattr(twin, "never")
    if kind is SlottedAndMore:
        assert (twin.place, twin.colour) == (["here"], "red")


@pytest.mark.parametrize("copier", COPIERS, ids=lambda copier: getattr(copier, "__qualname__", ""))
def test_subclasses_that_need_arguments_copy(copier: Callable[[Any], Any]) -> None:
    mine = Made("seats")
    mine.incr("a")
    twin = copier(mine)
    assert (type(twin), twin.unit, twin) == (Made, "seats", {"a": 1})


def test_copies_are_independent(make: Any) -> None:
    counters = make(int, {("a",): 1})
    for twin in (copy.copy(counters), copy.deepcopy(counters), counters.copy()):
        assert type(twin) is SafeMap
        twin.incr(("a",))
        assert (twin[("a",)], counters[("a",)]) == (2, 1)
        assert twin.policy == counters.policy
        twin.close()


@pytest.mark.parametrize(
    ("value_type", "options", "text"),
    [
        (int, {}, "SafeMap(int, {'a': 2})"),
        (int, {"policy": "deferred"}, "SafeMap(int, {'a': 2}, policy='deferred')"),
        (Fraction, {}, "SafeMap(Fraction, {'a': Fraction(2, 1)})"),
        (Decimal, {}, "SafeMap(Decimal, {'a': Decimal('2')})"),
        (float, {"tolerance": 1e-9}, "SafeMap(float, {'a': 2.0}, tolerance=1e-09)"),
        (
            int,
            {"shard_count": 4, "clean_after_s": 2.0},
            "SafeMap(int, {'a': 2}, shard_count=4, clean_after_s=2.0)",
        ),
    ],
)
def test_repr_can_be_evaluated(value_type: Any, options: Any, text: str) -> None:
    counters = SafeMap(value_type, {"a": 2}, **options)
    assert repr(counters) == text
    twin = eval(text)
    assert twin == counters
    assert repr(twin) == text
    assert repr(SafeMap()) == "SafeMap(int)"


# Against a model.


class Model:
    """A simple implementation of SafeMap's meaning: a dict, without shards, locks or flags."""

    def __init__(self, tolerance: float) -> None:
        self.entries: dict[Any, Any] = {}
        self.tolerance = tolerance

    def incr(self, key: Any, by: Any) -> Any:
        self.entries[key] = self.entries.get(key, 0) + by
        return self.entries[key]

    def decr(self, key: Any, by: Any, strict: bool) -> Any:
        value = self.entries.get(key, 0) - by
        if strict and value < -self.tolerance:
            return "underflow"
        if value > self.tolerance:
            self.entries[key] = value
            return value, False
        return 0, self.entries.pop(key, None) is not None

    def set(self, key: Any, value: Any) -> Any:
        before = self.entries.pop(key, 0)
        if value > self.tolerance:
            self.entries[key] = value
        return before


def amounts_of(value_type: type, chance: random.Random) -> Any:
    whole = chance.choice([1, 1, 1, 2, 3, 10**20]) if value_type is not float else chance.choice([1, 2, 3])
    if value_type is Fraction:
        return Fraction(whole, chance.choice([1, 2, 3]))
    if value_type is Decimal:
        return Decimal(whole).scaleb(chance.choice([0, -1, -2]))
    return whole * chance.choice([1.0, 0.5, 0.25]) if value_type is float else whole


@pytest.fixture(params=[False, True], ids=["", "compacting all the time"])
def compaction(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the normal settings, and with every shard rebuilt and moved at every second eviction."""
    if request.param:
        monkeypatch.setattr(shard, "COMPACTION_EVICTIONS_MIN", 1)
        monkeypatch.setattr(shard, "SPARSE_BYTES_PER_ENTRY", 1)
        monkeypatch.setattr(shard, "SPARSE_BYTES_MIN", 0)
        monkeypatch.setattr(shard, "MOVE_KEYS_MIN", 1)
        monkeypatch.setattr(shard, "MOVE_BELOW", 100)


@pytest.mark.usefixtures("compaction")
@pytest.mark.parametrize(
    ("value_type", "options"), [(n[0], n[1]) for n in NUMBERS], ids=lambda n: getattr(n, "__name__", "")
)
def test_against_a_model(value_type: Any, options: Any, make: Any) -> None:
    seed = int(told("NAUGHT_TEST_SEED") or random.randrange(2**32))
    print(f"NAUGHT_TEST_SEED={seed}")
    chance = random.Random(seed)
    for shard_count in (1, 7):
        counters, model = (
            make(value_type, shard_count=shard_count, **options),
            Model(options.get("tolerance", 0)),
        )
        for number in range(1_500):
            run_random_step(counters, model, chance)
            if number % 50 == 0:
                assert counters == model.entries
                assert len(counters) == len(model.entries)
        assert counters == model.entries


def run_random_step(counters: SafeMap[Any, Any], model: Model, chance: random.Random) -> None:
    key = 10**6 + chance.randrange(12)  # no number that Python keeps one object of
    by = amounts_of(counters.value_type, chance)
    match chance.choices(
        ["incr", "decr", "strict", "set", "take", "clear", "sweep", "read"], [30, 30, 10, 4, 4, 1, 3, 8]
    )[0]:
        case "incr":
            assert counters.incr(key, by) == model.incr(key, by)
        case "decr":
            assert counters.decr(key, by) == model.decr(key, by, strict=False)
        case "strict":
            expected = model.decr(key, by, strict=True)
            try:
                assert counters.decr(key, by, strict=True) == expected
            except Underflow:
                assert expected == "underflow"
        case "set":
            by = chance.choice([by, 0])
            assert counters.set(key, by) == model.set(key, by)
        case "take":
            assert counters.take(key) == model.entries.pop(key, 0)
        case "clear":
            assert counters.clear() == len(model.entries)
            model.entries.clear()
        case "sweep":
            counters.sweep()
            assert counters.raw_entries == len(model.entries)
        case "read":
            assert counters.get(key) == model.entries.get(key)
            assert (key in counters) == (key in model.entries)
            assert counters.most_common(3) == [] or counters.most_common(1)[0][1] == max(model.entries.values())
            assert sorted(itertools.islice(counters, 100)) == sorted(model.entries)
