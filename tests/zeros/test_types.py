"""Which types naught.zeros understands, and that the others are never zero and never changed.

The table of docs/zeros.md and the examples here are compared, so that neither has a type that the other does not.
"""

from __future__ import annotations

import array
import collections
import copy
import dataclasses
import datetime
import enum
import functools
import operator
import pickle
import queue
import re
import tracemalloc
import types
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import attrs
import numpy
import pydantic
import pytest

from naught.zeros import TIMES_CAN_BE_ZERO, Treat, is_zero, prune
from support.each import for_each
from support.paths import DOCS
from support.seeds import exhaustive, slow


class Point(NamedTuple):
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Plain:
    x: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any


class Object:
    def __init__(self, x: Any) -> None:
        self.x = x


class ObjectWithSlots:
    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectWithSlots) and self.x == other.x

    __hash__ = None  # type: ignore[assignment]


@attrs.define
class Attrs:
    x: Any


@attrs.frozen
class FrozenAttrs:
    x: Any


class Model(pydantic.BaseModel):
    x: Any


class RegisterDict(dict[Any, Any]):
    pass


class RegisterList(list[Any]):
    pass


class Colour(enum.IntEnum):
    NONE = 0


# What the table calls it: a function that makes one from the value in it; for a type without values inside, its zero.
UNDERSTOOD: dict[str, Callable[[Any], Any]] = {
    "dict": lambda x: {"x": x},
    "OrderedDict": lambda x: collections.OrderedDict(x=x),
    "defaultdict": lambda x: collections.defaultdict(list, x=x),
    "Counter": lambda x: collections.Counter(x=x),
    "list": lambda x: [x],
    "deque": lambda x: collections.deque([x]),
    "tuple": lambda x: (x,),
    "named tuples": Point,
    "dataclasses": Plain,
    "frozen dataclasses": Frozen,
    "dataclasses with slots": Slotted,
    "plain objects": Object,
    "objects with __slots__": ObjectWithSlots,
    "SimpleNamespace": lambda x: types.SimpleNamespace(x=x),
    "classes of attrs": Attrs,
    "frozen classes of attrs": FrozenAttrs,
}
ZEROS: dict[str, Any] = {
    "int": 0,
    "float": -0.0,
    "complex": 0j,
    "Fraction": Fraction(0),
    "Decimal": Decimal("-0.00"),
    "numbers of numpy": numpy.int64(0),
    "None": None,
    "str": "",
    "bytes": b"",
    "bytearray": bytearray(),
    "range": range(0),
    "set": {0},
    "frozenset": frozenset([0]),
}
KEPT: dict[str, Callable[[], Any]] = {
    "bool": lambda: False,
    "enum members": lambda: Colour.NONE,
    "date": lambda: datetime.date.min,
    "datetime": lambda: datetime.datetime.min,  # noqa: DTZ901
    "time": lambda: datetime.time.min,
    "timedelta": lambda: datetime.timedelta(0),
    "timedelta64": lambda: numpy.timedelta64(0, "s"),
    "datetime64": lambda: numpy.datetime64(0, "s"),
    "numpy.bool": lambda: numpy.bool_(False),
    "UUID": lambda: uuid.UUID(int=0),
    "arrays of numpy": lambda: numpy.zeros(3),
    "array": lambda: array.array("i", [0]),
    "memoryview": lambda: memoryview(b"\0"),
    "other subclasses of dict": lambda: RegisterDict(x=0),
    "other subclasses of list": lambda: RegisterList([0]),
    "UserDict": lambda: collections.UserDict(x=0),
    "UserList": lambda: collections.UserList([0]),
    "ChainMap": lambda: collections.ChainMap({"x": 0}),
    "MappingProxyType": lambda: types.MappingProxyType({"x": 0}),
    "models of pydantic": lambda: Model(x=[0]),
    "attrs with cache_hash": lambda: CachedHash((0,)),
    "objects of the standard library": lambda: filled(queue.Queue()),
    "subclasses of these": lambda: filled(Jobs()),
    "objects with a filled cached_property": lambda: Cached([0]),
    "objects of attrs with one in a slot": lambda: CachedInSlot([0]),
    "objects whose stored attribute is a property too": lambda: Instrumented([0]),
    "objects that claim another class": lambda: Claiming([0]),
    "exceptions": lambda: ValueError(0),
    "classes": lambda: Plain,
}


@attrs.frozen(cache_hash=True)
class CachedHash:
    x: Any


class Jobs(queue.Queue[int]):
    pass


def filled(jobs: queue.Queue[int]) -> queue.Queue[int]:
    jobs.put(0)
    return jobs


class Cached:
    """It has computed something from what would be pruned."""

    def __init__(self, x: Any) -> None:
        self.x = x
        assert self.length == len(x)

    @functools.cached_property
    def length(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.x}, {self.length})"


@attrs.define(repr=False)
class CachedInSlot:
    x: Any

    @functools.cached_property
    def length(self) -> int:
        return len(self.x)

    def __attrs_post_init__(self) -> None:
        assert self.length == len(self.x)

    def __repr__(self) -> str:
        return f"CachedInSlot({self.x}, {self.length})"


class Column:
    """A descriptor as those of object-relational mappers: what is set through it is written down elsewhere."""

    def __get__(self, row: Any, kind: Any = None) -> Any:
        return self if row is None else row.__dict__["x"]

    def __set__(self, row: Any, value: Any) -> None:
        raise AssertionError("it was set")


class Instrumented:
    x = Column()

    def __init__(self, x: Any) -> None:
        self.__dict__["x"] = x

    def __repr__(self) -> str:
        return f"Instrumented({self.x})"


class Claiming:
    """As proxies do."""

    def __init__(self, x: Any) -> None:
        self.x = x

    @property
    def __class__(self) -> Any:
        return tuple

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise AttributeError

    def __repr__(self) -> str:
        return f"Claiming({self.x})"


def table() -> dict[str, list[str]]:
    """The types of the table in docs/zeros.md, by how they are treated."""
    text = (DOCS / "zeros.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \|", text, re.MULTILINE)
    return {how: [name.replace("`", "").strip() for name in names.split(",")] for how, names in rows}


def test_the_table_has_these_types() -> None:
    rows = table()
    assert rows.keys() == {"zero when empty or 0", "looked into", "kept as it is"}
    assert sorted(rows["zero when empty or 0"]) == sorted(ZEROS)
    assert sorted(rows["looked into"]) == sorted([*UNDERSTOOD, "set", "frozenset"])
    assert sorted(rows["kept as it is"]) == sorted(KEPT)


@pytest.mark.parametrize("name", ZEROS)
def test_zeros(name: str) -> None:
    assert is_zero(ZEROS[name])
    assert prune([ZEROS[name], 1]).value == [1]


def inside(value: Any) -> Any:
    """The value in an example."""
    if isinstance(value, dict):
        return value["x"]
    return value.x if hasattr(value, "x") else value[0]


@pytest.mark.parametrize("in_place", [False, True])
@for_each("name", UNDERSTOOD)
def test_what_is_understood_is_zero_with_its_values_and_pruned_inside(name: str, in_place: bool) -> None:
    make = UNDERSTOOD[name]
    assert is_zero(make([0]))
    assert not is_zero(make([0, 1]))
    given = make([0, 1])
    holder = [make([0]), given]
    value = prune(holder, in_place=in_place).value
    assert len(value) == 1
    assert type(value[0]) is type(given)
    assert inside(value[0]) == [1]
    if not in_place:
        assert inside(given) == [0, 1]
        assert value[0] is not given


@pytest.mark.parametrize("in_place", [False, True])
@for_each("name", KEPT)
def test_what_is_not_understood_is_kept_as_it_is(name: str, in_place: bool) -> None:
    value = KEPT[name]()
    before = repr(value)
    assert not is_zero(value)
    holder = {"a": value, "b": [value, 0], "c": 0}
    new = prune(holder, in_place=in_place).value
    assert new.keys() == {"a", "b"}
    assert new["a"] is new["b"][0] is value
    assert repr(value) == before


@pytest.mark.parametrize("in_place", [False, True])
def test_a_queue_keeps_its_zeros(in_place: bool) -> None:
    for jobs in (filled(queue.Queue()), filled(Jobs())):
        assert prune([jobs], in_place=in_place).value[0].get_nowait() == 0


class Raising:
    """For classes of numbers and text: every question raises."""

    def asked(self, *arguments: Any) -> Any:
        raise RuntimeError("asked")

    __eq__ = __ne__ = __bool__ = __len__ = asked
    __hash__ = object.__hash__


@for_each("base", [int, float, complex, Fraction, str, bytes])
def test_a_number_or_text_that_cannot_be_asked_is_no_zero(base: type[Any]) -> None:
    value = type("Unasked", (Raising, base), {})()
    assert not is_zero(value)
    for data in ([value, 0], {"a": value, "b": 0}, (value, [0]), {"a": (value,)}):
        assert not is_zero(data)
        for in_place in (False, True):
            prune(copy.copy(data), in_place=in_place)
    assert prune([value, 0]).value[0] is value


class Moody:
    """A member of a set that can no longer be found."""

    is_moody = False

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        if Moody.is_moody:
            raise RuntimeError("asked for its hash")
        return self.number % 2

    def __eq__(self, other: object) -> bool:
        if Moody.is_moody:
            raise RuntimeError("asked whether it equals")
        return self is other

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("in_place", [False, True])
def test_members_that_cannot_be_hashed_again_stay(in_place: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {0, "", *map(Moody, range(6))}
    count = len(members)
    monkeypatch.setattr(Moody, "is_moody", True)
    try:
        left = len(prune(members, in_place=in_place).value)
    except RuntimeError:  # looking for the 0 found one of them in its place
        left = count - 2
        assert len(members) >= left
    assert left == count - 2


# Rules about types that a Treat cannot be followed for.

REFUSED: list[tuple[Any, Treat]] = [
    *((numpy.array([0, 1]), treat) for treat in (Treat.ENTRIES, Treat.ITEMS, Treat.PLACES, Treat.FIELDS)),
    (numpy.array([[0, 0], [0, 1]]), Treat.ITEMS),
    (array.array("i", [0, 1]), Treat.ITEMS),
    (bytearray(b"\0\1"), Treat.ITEMS),
    ("text", Treat.ITEMS),
    (collections.ChainMap({"x": 0}, {"y": 0}), Treat.ENTRIES),
    (types.MappingProxyType({"x": 0}), Treat.ENTRIES),
    (Point(0, 1), Treat.ITEMS),
    ({"x": 0}, Treat.ITEMS),
    ({"x": 0}, Treat.FIELDS),
    ([0], Treat.ENTRIES),
    ({0}, Treat.PLACES),
    (Plain(0), Treat.ITEMS),
    (Colour.NONE, Treat.FIELDS),
    (datetime.timedelta(0), Treat.FIELDS),
]


@pytest.mark.parametrize("in_place", [False, True])
@for_each(("value", "treat"), REFUSED)
def test_a_treat_that_cannot_be_followed_is_refused(value: Any, treat: Treat, in_place: bool) -> None:
    before = repr(value)
    data = {"zero": 0, "value": value}
    with pytest.raises(TypeError, match="cannot be followed"):
        prune(data, in_place=in_place, rules={type(value): treat})
    with pytest.raises(TypeError, match="cannot be followed"):
        is_zero(value, rules={type(value): treat})
    assert data.keys() == {"zero", "value"}
    assert repr(value) == before


def test_a_treat_for_everything_else_leaves_alone_what_it_cannot_be_followed_for() -> None:
    strange = [numpy.zeros(2), array.array("i", [0]), collections.ChainMap({"x": 0})]
    for treat in Treat:
        assert all(map(operator.is_, prune(strange, rules={object: treat}).value, strange))


def test_a_rule_may_judge_an_array_as_a_whole() -> None:
    data = {"a": numpy.zeros(3), "b": numpy.array([0, 1])}
    value, removed = prune(data, rules={numpy.ndarray: lambda each: not each.any()})
    assert value.keys() == {"b"}
    assert [str(each) for each in removed] == ["['a']"]
    assert value["b"] is data["b"]
    with pytest.raises(ValueError, match="ambiguous"):
        prune(data, in_place=True, rules={numpy.ndarray: lambda each: each == 0})
    assert data.keys() == {"a", "b"}


def test_a_user_dict_and_a_subclass_are_followed_where_a_rule_says_so() -> None:
    for kind in (collections.UserDict, RegisterDict):
        given: Any = kind(x=0, y=[0, 1])
        value = prune(given, rules={kind: Treat.ENTRIES}).value
        assert (type(value), dict(value)) == (kind, {"y": [1]})
        assert dict(given) == {"x": 0, "y": [0, 1]}


def test_durations_are_treated_alike() -> None:
    for zero in (datetime.timedelta(0), numpy.timedelta64(0, "s"), numpy.timedelta64(0)):
        assert not is_zero(zero)
        assert is_zero(zero, rules=TIMES_CAN_BE_ZERO)
    for other in (datetime.timedelta(1), numpy.timedelta64(1, "s"), numpy.timedelta64("NaT")):
        assert not is_zero(other, rules=TIMES_CAN_BE_ZERO)


# Data that is no field of its class.


@dataclasses.dataclass
class Derived:
    number: int = 0

    def __post_init__(self) -> None:
        self.rows = [0, "read from a file"]
        self._cache = {"hidden": 0}


@attrs.define(slots=False)
class DerivedAttrs:
    number: int = 0

    def __attrs_post_init__(self) -> None:
        self.rows = [0, "read from a file"]


@pytest.mark.parametrize("kind", [Derived, DerivedAttrs])
def test_data_that_is_set_in_post_init_survives(kind: type[Any]) -> None:
    assert not is_zero(kind())
    (clean,) = prune([kind()]).value
    assert clean.rows == ["read from a file"]
    assert getattr(clean, "_cache", {"hidden": 0}) == {"hidden": 0}


# Depth and size.


def nested(levels: int, kind: str) -> Any:
    """Containers in containers, each with a zero beside the next, and a 1 in the innermost."""
    value: Any = 1
    for _ in range(levels):
        value = [0, value] if kind == "list" else {"zero": 0, "next": value} if kind == "dict" else (0, [value, 0])
    return [value] if kind == "tuple" else value


@pytest.mark.parametrize("levels", [1_500, *slow(20_000), *exhaustive(100_000)])
@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
def test_depth_is_no_limit(kind: str, levels: int) -> None:
    data = nested(levels, kind)
    assert not is_zero(data)
    value, removed = prune(data)
    assert len(removed) == levels
    deepest = removed[-1]
    assert len(deepest.path) >= levels
    assert deepest.where.endswith("['zero']" if kind == "dict" else "]")
    depth = 0
    while type(value) is not int:
        assert len(value) == (2 if type(value) is tuple else 1)
        value = value["next"] if kind == "dict" else value[-1]
        depth += 1
    assert depth >= levels


def held_bytes(levels: int) -> int:
    data = nested(levels, "dict")
    tracemalloc.start()
    try:
        result = prune(data)
        _, peak = tracemalloc.get_traced_memory()
        assert len(result.removed) == levels
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_memory_is_in_proportion_to_depth() -> None:
    """With the path of each zero it would be four times as much for twice the depth."""
    assert held_bytes(2_000) < 2.5 * held_bytes(1_000)
    assert held_bytes(2_000) < 4 * 2**20


class Countdown:
    """A rule that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, value: Any) -> bool:
        self.asked += 1
        return not value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
def test_each_value_is_judged_at_most_twice(kind: str) -> None:
    """Once by the walk for trees, and once more where that has given up."""
    rule = Countdown()
    prune(nested(5_000, kind), rules={int: rule})
    assert rule.asked <= 2 * 5_001


def test_is_zero_stops_at_the_first_nonzero_leaf() -> None:
    rule = Countdown()
    assert not is_zero([0, 1, *[0] * 1_000], rules={int: rule})
    assert rule.asked == 2


# The report.


def test_a_report_is_a_pair_of_path_and_value() -> None:
    (each,) = prune({"a": [1, 0]}).removed
    path, value = each
    assert (path, value) == (each.path, each.value) == each
    assert (each[0], each[1], len(each)) == (path, value, 2)
    assert hash(each) == hash((path, value))
    assert each != (path, 1)
    for twin in (pickle.loads(pickle.dumps(each)), copy.copy(each), copy.deepcopy(each)):
        assert twin == each
        assert repr(twin) == repr(each) == f"Removed(path={path!r}, value=0)"
