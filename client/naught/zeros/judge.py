"""What is a zero: the rule for each type, the values that a container holds, and `is_zero`.

`Judge` finds the rule for a type: the caller's rule for the nearest base class, or the one built in. A rule is a
function that says of a value whether it is zero, or a `Treat` that says how to look into it. The rule of a built-in
type without values inside is `operator.not_`, which callers recognise, to judge many values at once.

A `Treat` is refused for a type that it cannot be followed for: a numpy array is no list, and would be changed
wrongly.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import datetime
import enum
import numbers
import sys
import types
from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from operator import not_
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, Protocol


class Treat(enum.Enum):
    """How to look into the values of a type and its subclasses; for a table of rules."""

    KEEP = "keep"
    """Never zero, and never looked into."""
    ENTRIES = "entries"
    """A mapping: zero if all its values are; entries whose value is zero are taken out. For dict and UserDict."""
    ITEMS = "items"
    """A sequence or set: zero if all its items are; items that are zero are taken out. For list, tuple (not named
    tuples), deque, set, frozenset and UserList."""
    PLACES = "places"
    """A sequence whose positions have a meaning: zero if all its items are; none is taken out. For list, tuple, deque
    and UserList."""
    FIELDS = "fields"
    """An object: zero if it has fields and all of them are zero; none is taken out. For classes written in Python and
    SimpleNamespace."""


# The rule of a type: how to look into its values, or a function that says of a value whether it is zero.
Rule = Treat | Callable[[Any], bool]
# For a value, the rule of the nearest type in its method resolution order counts. A rule for `object` is for the
# types that nothing else covers.
Rules = Mapping[type, Rule]

_METADATA_KEY = "naught.zeros"

EXEMPT: Mapping[str, str] = MappingProxyType({_METADATA_KEY: "exempt"})
"""Metadata of a dataclass field that is ignored: `field(metadata=EXEMPT)`. The other fields decide."""

SIGNIFICANT: Mapping[str, str] = MappingProxyType({_METADATA_KEY: "significant"})
"""Metadata of a dataclass field whose zero is a value: an object with such a field is never zero."""

FALSE_IS_ZERO: Rules = MappingProxyType({bool: lambda value: not value})
"""Rules by which False is a zero too."""

TIMES_CAN_BE_ZERO: Rules = MappingProxyType(
    {
        datetime.datetime: lambda value: value.replace(tzinfo=None) == datetime.datetime.min,  # noqa: DTZ901
        datetime.date: lambda value: value == datetime.date.min,
        datetime.time: lambda value: value.replace(tzinfo=None) == datetime.time.min,
        datetime.timedelta: lambda value: not value,
    }
)
"""Rules by which a timedelta of zero (also one of numpy), midnight, and the first instant or day of the year 1 are
zeros."""


class Step(NamedTuple):
    """One step of a path into nested data."""

    kind: Literal["key", "item", "member", "attribute"]
    """What it follows: a mapping's key, a sequence's index, a member of a set, or the name of an attribute."""
    name: Any
    """The key, index, member or name itself."""

    def __str__(self) -> str:
        if self.kind == "attribute":
            return f".{self.name}"
        return f"{{{self.name!r}}}" if self.kind == "member" else f"[{self.name!r}]"


def is_zero(value: object, *, rules: Rules | None = None) -> bool:
    """Return whether a value is zero, or a container of nothing but zeros, as `naught.zeros` explains.

    rules: rules by type, which come before the built-in ones. TypeError if they are no such table. An exception of a
    rule is raised. Cost: the values examined before the first that is not zero.
    """
    judge = Judge(rules)
    seen: set[int] = set()
    pending = [iter([value])]
    while pending:
        for each in pending[-1]:
            rule = judge.rule(type(each))
            if not isinstance(rule, Treat):
                if not rule(each):
                    return False
            elif id(each) not in seen:
                seen.add(id(each))
                values = judge.values(each, rule)
                if values is None:
                    return False
                pending.append(values)
                break
        else:
            pending.pop()
    return True


# The built-in rules.


# A subclass may say something else of itself than its base, or raise anything: then it is not understood.


def _equals_zero(value: Any) -> bool:
    try:
        return bool(value == 0)
    except Exception:
        return False


def _is_empty(value: Any) -> bool:
    try:
        return len(value) == 0
    except Exception:
        return False


# Built-in types that are false exactly when they are zero. A subclass may say something else of itself.
_FALSE_WHEN_ZERO = frozenset({int, float, complex, Fraction, Decimal, str, bytes, bytearray, range, type(None)})

# Types without values inside. Their subclasses follow the same rule.
_LEAVES: dict[type, Rule] = {
    bool: Treat.KEEP,
    int: _equals_zero,
    float: _equals_zero,
    complex: _equals_zero,
    Fraction: _equals_zero,
    Decimal: Decimal.is_zero,  # a comparison would raise for a signalling NaN
    str: _is_empty,
    bytes: _is_empty,
    bytearray: _is_empty,
    range: _is_empty,
    type(None): lambda value: True,
    datetime.date: Treat.KEEP,  # and datetime, its subclass
    datetime.time: Treat.KEEP,
    datetime.timedelta: Treat.KEEP,
}

# Containers of exactly these types, without subclasses.
_CONTAINERS: dict[type, Rule] = {
    dict: Treat.ENTRIES,
    collections.OrderedDict: Treat.ENTRIES,
    collections.defaultdict: Treat.ENTRIES,
    collections.Counter: Treat.ENTRIES,
    list: Treat.ITEMS,
    deque: Treat.ITEMS,
    set: Treat.ITEMS,
    frozenset: Treat.ITEMS,
    tuple: Treat.PLACES,
}

# A class with one of these methods defines a protocol, and only the class knows what its attributes mean.
_PROTOCOL_METHODS = frozenset(
    f"__{name}__"
    for names in (
        ("len", "iter", "next", "reversed", "getitem", "setitem", "delitem", "contains", "missing", "call"),
        ("enter", "exit", "aenter", "aexit", "aiter", "anext", "await", "bool", "int", "float", "complex"),
        ("index", "get", "set", "delete", "del", "getattr", "getattribute", "setattr", "delattr", "dir"),
        ("copy", "deepcopy", "reduce", "reduce_ex", "getstate", "setstate", "getnewargs", "getnewargs_ex"),
        ("buffer", "fspath"),
    )
    for name in names
)

# Bases of the standard library that leave what an object is to the program's own class.
_BARE_BASES = frozenset({object, abc.ABC, Generic, Protocol, types.SimpleNamespace})

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made at run time
# What attrs calls its description of a class, and the attribute in which an object keeps its hash.
_ATTRS = "__attrs_attrs__"
_ATTRS_HASH = "_attrs_cached_hash"


def _structure_of(value_type: type) -> Treat | None:
    """Return how to look into an instance, as far as its class says; None if it does not."""
    if issubclass(value_type, enum.Enum):
        return Treat.KEEP
    if issubclass(value_type, tuple):
        return Treat.PLACES if _is_named_tuple(value_type) else None
    if value_type is object or not _is_made_of_attributes(value_type) or any(map(_is_foreign, value_type.__mro__)):
        return None
    if dataclasses.is_dataclass(value_type) or _is_attrs(value_type):
        return Treat.FIELDS
    bases = [base for base in value_type.__mro__[:-1] if base is not types.SimpleNamespace]
    methods = {name for base in bases for name in base.__dict__}
    return None if methods & _PROTOCOL_METHODS else Treat.FIELDS


def _is_named_tuple(value_type: type) -> bool:
    """Whether a class was made by namedtuple or NamedTuple, or is a subclass that adds no attributes."""
    return issubclass(value_type, tuple) and hasattr(value_type, "_fields") and value_type.__dictoffset__ == 0


def _is_attrs(value_type: type) -> bool:
    """Whether attrs has made a class or its base."""
    return isinstance(getattr(value_type, _ATTRS, None), tuple)


def _is_foreign(base: type) -> bool:
    """Whether only the standard library knows what the attributes of a class mean, as those of a queue."""
    package = str(base.__module__).partition(".")[0]
    return package in sys.stdlib_module_names and base not in _BARE_BASES and not dataclasses.is_dataclass(base)


def _is_made_of_attributes(value_type: type) -> bool:
    """Whether instances consist of attributes alone, in a `__dict__` or in slots, and can be made empty.

    A class of C that is made at run time looks the same, except that its first base has neither `__dict__` nor
    `__slots__`, of which a class statement always leaves one.
    """
    if any("__class__" in base.__dict__ for base in value_type.__mro__[:-1]):
        return False  # a proxy, which claims to be something else
    makes_empty: Any = value_type.__new__
    if makes_empty is types.SimpleNamespace.__new__:
        return all(base.__flags__ & _HEAP_TYPE or base is types.SimpleNamespace for base in value_type.__mro__[:-1])
    return makes_empty is object.__new__ and all(
        base.__flags__ & _HEAP_TYPE
        and (base.__bases__ != (object,) or "__dict__" in base.__dict__ or "__slots__" in base.__dict__)
        for base in value_type.__mro__[:-1]
    )


def _can_follow(treat: Treat, value_type: type) -> bool:
    """Whether values of a type can be looked into, copied and changed in this way, without running their methods."""
    if treat is Treat.KEEP:
        return True
    if treat is Treat.FIELDS:
        return _is_made_of_attributes(value_type)
    if treat is Treat.ENTRIES:
        return issubclass(value_type, dict | UserDict)
    if issubclass(value_type, tuple | frozenset):
        # They are made anew from their items, and so may have nothing else.
        own = [
            base
            for base in value_type.__mro__
            if base not in (tuple, frozenset) and issubclass(base, tuple | frozenset)
        ]
        bare = value_type.__dictoffset__ == 0 and all(base.__flags__ & _HEAP_TYPE for base in own)
        return bare and not (treat is Treat.ITEMS and _is_named_tuple(value_type))
    return issubclass(value_type, list | deque | UserList) or (treat is Treat.ITEMS and issubclass(value_type, set))


class Judge:
    """Finds the rule of each type, from the caller's rules and the built-in ones."""

    def __init__(self, rules: Rules | None) -> None:
        # The caller's rules, checked.
        self._rules: dict[type, Rule] = {}
        # The rule of each type that was asked for.
        self.known: dict[type, Rule] = {}
        # The types in `known` whose values are zero exactly when they are false.
        self.false_when_zero: set[type] = set()
        # What `_described_by` says of the types that were asked for.
        self._described_by_type: dict[type, frozenset[str]] = {}
        if rules is not None:
            checked: Any = rules
            if not isinstance(checked, Mapping):
                raise TypeError(f"rules must be a mapping of types to rules, not {type(rules).__name__}")
            for value_type, rule in checked.items():
                if not isinstance(value_type, type) or not (isinstance(rule, Treat) or callable(rule)):
                    raise TypeError(f"rules must map types to a Treat or a function, not {value_type!r} to {rule!r}")
                self._rules[value_type] = rule
        for value_type in _FALSE_WHEN_ZERO:
            self.rule(value_type)

    def rule(self, value_type: type) -> Rule:
        """Return the rule for values of exactly this type. TypeError for a Treat of the caller that cannot be
        followed for it.
        """
        rule = self.known.get(value_type)
        if rule is None:
            rule = self._find(value_type)
            if value_type in _FALSE_WHEN_ZERO and rule is _LEAVES.get(value_type):
                rule = not_
                self.false_when_zero.add(value_type)
            self.known[value_type] = rule
        return rule

    def _find(self, value_type: type) -> Rule:
        structure = _structure_of(value_type)
        for base in value_type.__mro__[:-1]:
            # For an enum, rules of its number type do not count, nor rules of tuple for a named tuple.
            if structure is Treat.KEEP and not issubclass(base, enum.Enum):
                continue
            if structure is Treat.PLACES and base is tuple:
                break
            if base in self._rules:
                return self._followed(self._rules[base], value_type)
            if base in _LEAVES:
                return _LEAVES[base]
            if base is value_type and base in _CONTAINERS:
                return _CONTAINERS[base]
            if base.__module__ == "numpy" and base.__name__ == "timedelta64":
                # It is registered as a whole number, but means the same as a timedelta.
                return self._rules.get(datetime.timedelta, Treat.KEEP)
        if structure is not None:
            return structure
        if issubclass(value_type, numbers.Number):
            return _equals_zero
        rule = self._rules.get(object, Treat.KEEP)
        return Treat.KEEP if isinstance(rule, Treat) and not _can_follow(rule, value_type) else rule

    def _followed(self, rule: Rule, value_type: type) -> Rule:
        """Check that a rule of the caller can be followed for a type."""
        if isinstance(rule, Treat) and not _can_follow(rule, value_type):
            name = f"{value_type.__module__}.{value_type.__qualname__}"
            raise TypeError(f"rules: {rule} cannot be followed for {name}, whose values would be changed wrongly")
        return rule

    def values(self, value: Any, treat: Treat) -> Iterator[Any] | None:
        """Return the values in a container by which it is judged. None if it is not zero whatever is in it."""
        if treat is Treat.KEEP:
            return None
        if treat is Treat.ENTRIES:
            entries: Mapping[Any, Any] = value
            return iter(entries.values())
        if treat is Treat.FIELDS:
            fields = self.fields(value)
            return None if fields is None or fields.significant else (child for _, child in fields.all())
        items: Iterable[Any] = value
        return iter(items)

    def _described(self, value_type: type) -> frozenset[str]:
        """Return the attributes that an object does not have by itself: its class describes how to get them."""
        names = self._described_by_type.get(value_type)
        if names is None:
            names = self._described_by_type[value_type] = frozenset(_described_by(value_type))
        return names

    def fields(self, value: Any) -> Fields | None:
        """Return the fields of an object by which it is judged. None if there are none: the object is unknown."""
        state = dict(attributes_of(value))
        # A copy would keep what was computed from the values before, or changing it would run the class's code.
        if not self._described(type(value)).isdisjoint(state):
            return None
        found = Fields([], [], significant=False)
        declared: Iterable[Any] = ()
        if dataclasses.is_dataclass(value):
            declared = dataclasses.fields(value)
        elif _is_attrs(type(value)):
            declared = getattr(type(value), _ATTRS)
        for each in declared:
            choice = each.metadata.get(_METADATA_KEY)
            if choice == "significant":
                found = found._replace(significant=True)
            elif choice is None:
                if each.name in state:
                    found.public.append((each.name, state[each.name]))
            elif choice != "exempt":
                name = f"{type(value).__name__}.{each.name}"
                raise ValueError(f"{name}: metadata of {_METADATA_KEY} is EXEMPT or SIGNIFICANT, not {choice!r}")
            state.pop(each.name, None)
        # What is set elsewhere, as in `__post_init__`.
        for name, child in state.items():
            (found.private if name.startswith("_") else found.public).append((name, child))
        return found if found.public or found.private or found.significant else None


class Fields(NamedTuple):
    """What is in an object, by the names of its attributes."""

    public: list[tuple[str, Any]]
    # Judged, but not pruned inside.
    private: list[tuple[str, Any]]
    # Whether it has a field whose zero is a value, so that the object is not zero.
    significant: bool

    def all(self) -> Iterable[tuple[str, Any]]:
        """Return both kinds."""
        return [*self.public, *self.private]


def _described_by(value_type: type) -> Iterator[str]:
    """Return the attributes that a class describes by more than a slot of theirs: a property, a cached property."""
    yield _ATTRS_HASH
    found = {name: member for base in reversed(value_type.__mro__) for name, member in base.__dict__.items()}
    own = {each.name for each in getattr(value_type, _ATTRS)} if _is_attrs(value_type) else None
    for name, member in found.items():
        if isinstance(member, types.MemberDescriptorType):
            # attrs makes a slot for a cached property too.
            if own is not None and name not in own:
                yield name
        elif hasattr(type(member), "__get__") and not isinstance(member, types.FunctionType):
            yield name


def attributes_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Return the attributes stored in an object, in its `__dict__` or in slots, without running its code."""
    for base in reversed(type(value).__mro__):
        for name, member in base.__dict__.items():
            if isinstance(member, types.MemberDescriptorType) and name != "__dict__":
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # a slot that was never set
                    continue
    if type(value).__dictoffset__:
        yield from tuple(object.__getattribute__(value, "__dict__").items())
