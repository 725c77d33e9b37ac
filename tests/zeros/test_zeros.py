"""naught.zeros: which values are zeros, and what pruning takes out, keeps, reports and never touches."""

from __future__ import annotations

import array
import collections
import copy
import enum
import functools
import io
import math
import operator
import os
import random
import re
import threading
import types
import weakref
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest

from naught.safemap import SafeMap
from naught.zeros import (
    EXEMPT,
    FALSE_IS_ZERO,
    SIGNIFICANT,
    TIMES_CAN_BE_ZERO,
    Pruned,
    Removed,
    Step,
    Treat,
    is_zero,
    prune,
)
from support.each import for_each
from support.seeds import told

FIRST_INSTANT = datetime.min  # noqa: DTZ901


class Colour(enum.Enum):
    NONE = 0
    RED = 1


class Level(enum.IntEnum):
    OFF = 0
    ON = 1


class Rights(enum.Flag):
    READ = 1


class Point(NamedTuple):
    x: Any
    y: Any


OldPoint = namedtuple("OldPoint", "x y")


@dataclass
class Line:
    item: str = ""
    amount: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frozen:
    notes: Any
    tags: Any = frozenset()


@dataclass
class Reading:
    sensor: str = field(default="", metadata=EXEMPT)
    count: int = 0
    details: dict[str, int] = field(default_factory=dict, metadata={**EXEMPT, "unit": "1"})


@dataclass
class Temperature:
    celsius: float = field(default=0.0, metadata=SIGNIFICANT)
    notes: str = ""


@dataclass
class NothingJudged:
    name: str = field(default="", metadata=EXEMPT)


class Plain:
    public: Any

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("__weakref__", "a", "b")

    def __init__(self, a: Any) -> None:
        self.a = a


class NoAttributes:
    pass


class Money(int):
    pass


class Register(dict):  # type: ignore[type-arg]
    pass


class Answering:
    """Its attributes are all zero, but it defines a protocol, so only the class knows what they mean."""

    def __init__(self) -> None:
        self.count = 0

    def __len__(self) -> int:
        return 0


class Hostile:
    """Raises whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"asked for {name}")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("asked whether it equals")

    def __bool__(self) -> bool:
        raise RuntimeError("asked whether it is true")

    __hash__ = object.__hash__


def own_cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def long_cycle(value: Any) -> dict[str, Any]:
    inner: dict[str, Any] = {"value": value}
    inner["outer"] = {"items": [inner]}
    return inner


ZERO: list[Any] = [
    *(0, 0.0, -0.0, 0j, Fraction(0), Decimal(0), Decimal("-0.00"), Money(0)),
    *("", b"", bytearray(), None, range(0)),
    *([], (), {}, set(), frozenset(), deque(), OrderedDict(), defaultdict(int), Counter()),
    *([0], (0, 0), {"a": 0}, {0}, frozenset([0]), deque([0, None]), Counter(a=0)),
    *([[], [[]]], {"a": {"b": [0, ""]}}, (None, ("", b"")), {"": 0}, {1: None}),
    *(
        Point(0, 0),
        OldPoint(0, None),
        Line(),
        Line(notes={"a": 0}),
        Frozen(()),
        Reading("kitchen", 0, {"a": 1}),
    ),
    *(Plain(a=0), Plain(a=0, _b=[]), Slotted(0), Slotted({"a": 0}), {"a": Plain(b=Line())}),
    *(own_cycle(), long_cycle(0)),
]

NOT_ZERO: list[Any] = [
    *(1, -1, 0.1, 5e-324, 1j, Fraction(1, 3), Decimal("0.01"), Money(1)),
    *(math.nan, -math.nan, Decimal("NaN"), Decimal("sNaN"), complex(0, math.nan), math.inf),
    *(False, True, " ", "0", b"\0", bytearray(1), range(1)),
    *(Colour.NONE, Level.OFF, Rights(0)),
    *(timedelta(0), FIRST_INSTANT, date.min, time.min, datetime(1970, 1, 1, tzinfo=UTC)),
    *([1], (0, 1), {"a": 1}, {1}, [0, [0, [0, 1]]], {"a": False}, [Colour.NONE], [math.nan]),
    *(Point(0, 1), Line("x"), Line(notes={"a": 1}), Frozen(("x",)), Reading("", 1), Temperature()),
    *(Plain(a=1), Plain(a=0, _b=1), Plain(), NothingJudged(), NoAttributes(), Slotted(1), long_cycle(1)),
    *(Register(), UserDict(), SafeMap(int), collections.ChainMap(), types.MappingProxyType({}), Answering()),
    *(array.array("i"), memoryview(b""), io.StringIO(), iter([]), iter(()), threading.Lock()),
    *(int, len, lambda: 0, types, re.compile(""), weakref.ref(Line), types.SimpleNamespace(), object(), ...),
    *(
        Exception(),
        threading.Event(),
        operator.attrgetter("a"),
        slice(None),
        os.environ,
        functools.partial(int),
    ),
]


@for_each("value", ZERO)
def test_zero(value: Any) -> None:
    assert is_zero(value) is True


@for_each("value", NOT_ZERO)
def test_not_zero(value: Any) -> None:
    assert is_zero(value) is False


# Data before pruning, data after, and where something was removed.

PRUNED: list[tuple[Any, Any, list[str]]] = [
    (0, 0, []),
    ("", "", []),
    ({}, {}, []),
    ({"a": 0, "b": 1}, {"b": 1}, ["['a']"]),
    ({"a": {"b": 0}}, {}, ["['a']"]),
    ({"a": {"b": 0, "c": 1}}, {"a": {"c": 1}}, ["['a']['b']"]),
    ({"a": False, "b": math.inf, "c": Colour.NONE}, {"a": False, "b": math.inf, "c": Colour.NONE}, []),
    ([0, 1, 0, 2, None], [1, 2], ["[0]", "[2]", "[4]"]),
    ([[0], [0, 1], []], [[1]], ["[0]", "[2]", "[1][0]"]),
    ((0, 1), (0, 1), []),
    ((0, {"a": 0, "b": 1}), (0, {"b": 1}), ["[1]['a']"]),
    ((0, {"a": 0}), (0, {}), ["[1]['a']"]),
    ({"p": (0, 0), "q": (0, 1)}, {"q": (0, 1)}, ["['p']"]),
    ({"p": Point(0, 0), "q": Point(0, 1)}, {"q": Point(0, 1)}, ["['p']"]),
    (Point([0, 1], 2), Point([1], 2), [".x[0]"]),
    (OldPoint([0, 1], 2), OldPoint([1], 2), [".x[0]"]),
    ({0, 1}, {1}, ["{0}"]),
    ({"a": frozenset([0, 1])}, {"a": frozenset([1])}, ["['a']{0}"]),
    ((frozenset([0, 1]), 5), (frozenset([1]), 5), ["[0]{0}"]),
    ({1: {(0, 0), (0, 1)}}, {1: {(0, 1)}}, ["[1]{(0, 0)}"]),
    (deque([0, 1], maxlen=5), deque([1], maxlen=5), ["[0]"]),
    (Counter(a=0, b=2), Counter(b=2), ["['a']"]),
    (OrderedDict(b=1, a=0, c=2), OrderedDict(b=1, c=2), ["['a']"]),
    (defaultdict(list, a=[], b=[1]), defaultdict(list, b=[1]), ["['a']"]),
    (Line("x", 0, {"a": 0, "b": 1}), Line("x", 0, {"b": 1}), [".notes['a']"]),
    (Line("x", 0, {"a": 0}), Line("x", 0, {}), [".notes['a']"]),
    ([Line(), Line("x")], [Line("x")], ["[0]"]),
    (Frozen({"a": 0, "b": 1}), Frozen({"b": 1}), [".notes['a']"]),
    (Frozen(1, frozenset([0, 2])), Frozen(1, frozenset([2])), [".tags{0}"]),
    ([Reading("kitchen", 0, {"a": 0}), Reading("", 1, {"a": 0})], [Reading("", 1, {"a": 0})], ["[0]"]),
    ([Temperature(), 0], [Temperature()], ["[1]"]),
    ({"a": Register(b=0), "c": 0}, {"a": Register(b=0)}, ["['c']"]),
    ({"a": [math.nan.__class__("inf"), 0]}, {"a": [math.inf]}, ["['a'][1]"]),
    ({("k", 0): {0: 0, "": "x"}}, {("k", 0): {"": "x"}}, ["[('k', 0)][0]"]),
]


def shape(value: Any) -> Any:
    """A form in which two values are equal only if their types agree too, all the way down."""
    if isinstance(value, dict):
        factory = getattr(value, "default_factory", None)
        return type(value), factory, [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return type(value), getattr(value, "maxlen", None), [shape(item) for item in value]
    return type(value), value


@pytest.mark.parametrize("in_place", [False, True])
@for_each(("before", "after", "where"), PRUNED)
def test_prune(before: Any, after: Any, where: list[str], in_place: bool) -> None:
    given = copy.deepcopy(before)
    result = prune(given, in_place=in_place)
    assert shape(result.value) == shape(after)
    assert [removed.where for removed in result.removed] == where
    if in_place:
        if not isinstance(before, tuple | frozenset | Frozen):
            assert result.value is given
    else:
        assert shape(given) == shape(before), "the original was changed"
    again = prune(result.value)
    assert again.removed == []
    assert shape(again.value) == shape(result.value)


def test_prune_of_objects() -> None:
    for in_place in (False, True):
        inner = {"a": 0, "b": 1}
        thing = Plain(public=inner, _private={"a": 0}, count=0)
        slotted = Slotted([0, thing])
        clean, removed = prune(slotted, in_place=in_place)
        assert [each.where for each in removed] == [".a[0]", ".a[1].public['a']"]
        assert (clean is slotted) == in_place
        assert type(clean) is Slotted
        assert not hasattr(clean, "b")
        cleaned = clean.a[0]
        assert (cleaned is thing) == in_place
        # An attribute that begins with an underscore is not pruned inside, and no attribute is ever deleted.
        assert vars(cleaned) == {"public": {"b": 1}, "_private": {"a": 0}, "count": 0}
        assert inner == ({"b": 1} if in_place else {"a": 0, "b": 1})


def test_the_report_has_the_values_and_the_steps() -> None:
    gone = {"x": 0}
    data = {"a": [1, gone], "b": Plain(c={0: None, 1: 1})}
    value, removed = prune(data)
    assert value.keys() == {"a", "b"}
    assert removed == [
        Removed((Step("key", "a"), Step("item", 1)), gone),
        Removed((Step("key", "b"), Step("attribute", "c"), Step("key", 0)), None),
    ]
    assert removed[0].value is gone
    assert [str(each) for each in removed] == ["['a'][1]", "['b'].c[0]"]
    # The printed path, evaluated, leads to the zero in the original.
    assert eval("data" + removed[0].where) is gone
    assert prune([0]) == Pruned([], [Removed((Step("item", 0),), 0)])


def test_a_new_structure_shares_no_container_with_the_original() -> None:
    data: dict[str, Any] = {
        "a": [1, {"b": {2}}],
        "c": (1, [2]),
        "d": Line("x", notes={"k": 1}),
        "e": deque([1]),
    }
    new = prune(data).value
    assert shape(new) == shape(data)
    assert new is not data
    assert new["a"] is not data["a"]
    assert new["a"][1] is not data["a"][1]
    assert new["a"][1]["b"] is not data["a"][1]["b"]
    assert new["c"][1] is not data["c"][1]
    assert new["d"] is not data["d"]
    assert new["d"].notes is not data["d"].notes
    assert new["e"] is not data["e"]


def test_what_is_not_understood_is_the_same_object_untouched() -> None:
    strange: list[Any] = [value for value in NOT_ZERO if not isinstance(value, list | tuple | dict | set | Line)]
    given = list(strange)
    new = prune(given).value
    assert len(new) == len(given)
    assert all(map(operator.is_, new, given))
    hostile = Hostile()
    assert not is_zero(hostile)
    assert prune({"a": hostile, "b": 0}).value["a"] is hostile
    register = Register(a=0)
    prune([register], in_place=True)
    assert register == {"a": 0}


@pytest.mark.parametrize("in_place", [False, True])
def test_cycles(in_place: bool) -> None:
    value: Any
    cycle = own_cycle()
    value, removed = prune(cycle, in_place=in_place)
    assert value == []
    assert len(removed) == 1
    inner = long_cycle(1)
    inner["outer"]["items"].append(0)
    value, removed = prune(inner, in_place=in_place)
    assert value["outer"]["items"] == [value]
    assert value["outer"]["items"][0] is value
    assert (value is inner) == in_place
    assert [each.where for each in removed] == ["['outer']['items'][1]"]
    through_tuple: list[Any] = [0, 1]
    through_tuple.append((through_tuple, 0))
    value, removed = prune(through_tuple, in_place=in_place)
    assert value[1][0] is value
    assert (len(value), value[1][1]) == (2, 0)
    pair = Plain(name="a", partner=None, notes={"k": 0})
    pair.partner = Plain(name="b", partner=pair)  # type: ignore[attr-defined]
    made = prune(pair, in_place=in_place).value
    assert made.partner.partner is made  # type: ignore[attr-defined]
    assert made.notes == {}


def test_what_was_shared_stays_shared() -> None:
    value: Any
    shared = {"a": 0, "b": 1}
    value, removed = prune({"x": shared, "y": [shared]})
    assert value["x"] is value["y"][0]
    assert [each.where for each in removed] == ["['x']['a']"]
    # An object that holds it privately is not looked into, and so is not replaced either.
    private = Plain(_held=shared, count=1)
    value = prune([shared, private]).value
    assert value == [{"b": 1}, private]
    assert value[1] is private
    assert private._held is shared
    empty: list[int] = []
    value, removed = prune({"x": empty, "y": empty})
    assert (value, len(removed)) == ({}, 2)


@pytest.mark.slow
def test_depth_is_no_limit() -> None:
    deep: Any = 0
    for _ in range(20_000):
        deep = [deep]
    assert is_zero(deep)
    assert prune(deep).value == []
    deep = [1]
    for _ in range(20_000):
        deep = (deep, 0)
    assert not is_zero(deep)
    value, removed = prune(deep)
    assert removed == []
    while isinstance(value, tuple):
        value = value[0]
    assert value == [1]


# Choices: rules, bools, times, fields.


def test_bools_and_times_are_a_choice() -> None:
    data = {
        "done": False,
        "ready": True,
        "since": FIRST_INSTANT,
        "for": timedelta(0),
        "at": time.min,
        "on": date.min,
    }
    assert prune(data).value == data
    assert prune(data, rules=FALSE_IS_ZERO).value.keys() == data.keys() - {"done"}
    assert prune(data, rules=TIMES_CAN_BE_ZERO).value == {"done": False, "ready": True}
    assert prune(data, rules={**FALSE_IS_ZERO, **TIMES_CAN_BE_ZERO}).value == {"ready": True}
    assert is_zero(FIRST_INSTANT.replace(tzinfo=UTC), rules=TIMES_CAN_BE_ZERO)
    assert not is_zero(datetime(2024, 1, 1), rules=TIMES_CAN_BE_ZERO)  # noqa: DTZ001
    assert not is_zero(timedelta(1), rules=TIMES_CAN_BE_ZERO)


RULED: list[tuple[Any, dict[type, Any], bool]] = [
    (False, {bool: lambda value: not value}, True),
    (False, {int: lambda value: value == 0}, False),  # bool has a rule of its own, nearer than int's
    (7, {int: lambda value: value == 7}, True),
    (Money(7), {int: lambda value: value == 7}, True),
    (Money(0), {Money: Treat.KEEP}, False),
    (Level.OFF, {int: lambda value: value == 0}, False),
    (Level.OFF, {enum.Enum: lambda value: value.value == 0}, True),
    (Colour.NONE, {Colour: lambda value: value is Colour.NONE}, True),
    (0, {int: Treat.KEEP}, False),
    ([], {list: Treat.KEEP}, False),
    (Register(), {Register: Treat.ENTRIES}, True),
    (Register(a=1), {Register: Treat.ENTRIES}, False),
    (Register(), {dict: Treat.ENTRIES}, True),
    (Point(0, 0), {tuple: Treat.KEEP}, True),  # a named tuple has a rule of its own, nearer than tuple's
    (Point(0, 0), {Point: Treat.KEEP}, False),
    (Line(), {Line: Treat.KEEP}, False),
    (Answering(), {Answering: Treat.FIELDS}, True),
    (Answering(), {object: lambda value: True}, True),
    (1, {object: lambda value: True}, False),
    (math.nan, {float: math.isnan}, True),
]


@pytest.mark.parametrize(("value", "rules", "expected"), RULED)
def test_rules(value: Any, rules: dict[type, Any], expected: bool) -> None:
    assert is_zero(value, rules=rules) is expected
    assert prune([value, 1], rules={**rules}).removed == ([Removed((Step("item", 0),), value)] if expected else [])


def test_rules_for_structure() -> None:
    assert prune([0, 1, [0, 2]], rules={list: Treat.PLACES}) == Pruned([0, 1, [0, 2]], [])
    assert prune([0, 1, {"a": 0}], rules={list: Treat.PLACES}).value == [0, 1, {}]
    assert shape(prune((0, 1, (0, 2)), rules={tuple: Treat.ITEMS}).value) == shape((1, (2,)))
    assert prune({"a": {0, 1}}, rules={set: Treat.KEEP}).value == {"a": {0, 1}}
    register = Register(a=0, b=[0, 1])
    value, removed = prune(register, rules={Register: Treat.ENTRIES})
    assert (type(value), value) == (Register, {"b": [1]})
    assert register == {"a": 0, "b": [0, 1]}
    assert [each.where for each in removed] == ["['a']", "['b'][0]"]


@pytest.mark.parametrize("rules", [{"int": Treat.KEEP}, {int: "keep"}, {int: None}, [int], {int: 0}])
def test_rules_are_checked(rules: Any) -> None:
    with pytest.raises(TypeError, match="rules"):
        is_zero(0, rules=rules)
    with pytest.raises(TypeError, match="rules"):
        prune(0, rules=rules)


def test_a_rule_that_raises_is_heard_and_nothing_has_changed() -> None:
    data = {"a": 0, "b": "x"}

    def refuse(value: str) -> bool:
        raise LookupError(value)

    with pytest.raises(LookupError):
        prune(data, in_place=True, rules={str: refuse})
    assert data == {"a": 0, "b": "x"}


def test_field_metadata_is_checked() -> None:
    @dataclass
    class Wrong:
        name: str = field(default="", metadata={"naught.zeros": "skip"})

    with pytest.raises(ValueError, match=r"Wrong\.name.*skip"):
        is_zero(Wrong())


def test_a_dataclass_that_computes_is_not_run_again() -> None:
    calls: list[str] = []

    @dataclass
    class Computed:
        name: str
        parts: list[int]
        total: int = field(init=False)

        def __post_init__(self) -> None:
            calls.append(self.name)
            self.total = sum(self.parts)

    given = Computed("a", [0, 1])
    value = prune(given).value
    assert (value.parts, value.total, given.parts) == ([1], 1, [0, 1])
    assert calls == ["a"]


# Against a model, on random nests.


def random_nest(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(9) if depth else chance.randrange(4)
    if kind < 4:
        return chance.choice([0, 0, 0, 1, 2.5, "", "x", None, False, Decimal(0), math.inf, b""])
    size = chance.randrange(4)
    if kind == 4:
        return [random_nest(chance, depth - 1) for _ in range(size)]
    if kind == 5:
        return tuple(random_nest(chance, depth - 1) for _ in range(size))
    if kind == 6:
        return Line(chance.choice(["", "x"]), chance.randrange(2), {"n": random_nest(chance, depth - 1)})
    return {f"k{i}": random_nest(chance, depth - 1) for i in range(size)}


def model_zero(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(model_zero, value.values()))
    if isinstance(value, list | tuple):
        return all(map(model_zero, value))
    if isinstance(value, Line):
        return not value.item and not value.amount and model_zero(value.notes)
    return not value and value is not False


def model_prune(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: model_prune(item) for key, item in value.items() if not model_zero(item)}
    if isinstance(value, list):
        return [model_prune(item) for item in value if not model_zero(item)]
    if isinstance(value, tuple):
        return tuple(map(model_prune, value))
    if isinstance(value, Line):
        return Line(value.item, value.amount, model_prune(value.notes))
    return value


def test_against_a_model() -> None:
    seed = int(told("NAUGHT_TEST_SEED") or random.randrange(2**32))
    print(f"NAUGHT_TEST_SEED={seed}")
    chance = random.Random(seed)
    for _ in range(2_000):
        data = random_nest(chance, 5)
        assert is_zero(data) == model_zero(data)
        expected, before = model_prune(data), copy.deepcopy(data)
        value, removed = prune(data)
        assert shape(value) == shape(expected)
        assert shape(data) == shape(before)
        for each in removed:
            assert is_zero(eval("data" + each.where)), each.where
        in_place = prune(data, in_place=True)
        assert shape(in_place.value) == shape(expected)
        assert [each.where for each in in_place.removed] == [each.where for each in removed]
