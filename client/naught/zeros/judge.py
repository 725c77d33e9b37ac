"""What is a zero: the rule for each type, the values that a container holds, and `is_zero`.

`Judge` finds the rule for a type: the caller's rule for the nearest base class, or the one built in. A rule is a
function that says of a value whether it is zero, or a `Treat` that says how to look into it. `Judge.children` then
lists the values inside, each with the step that leads to it.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import numbers
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal, NamedTuple


class Treat(enum.Enum):
    """How to look into the values of a type; for a table of rules."""

    KEEP = "keep"
    """Never zero, and never looked into."""
    ENTRIES = "entries"
    """A mapping: zero if all its values are; entries whose value is zero are taken out."""
    ITEMS = "items"
    """A sequence or set: zero if all its items are; items that are zero are taken out."""
    PLACES = "places"
    """A sequence whose positions have a meaning: zero if all its items are; none is taken out."""
    FIELDS = "fields"
    """An object: zero if it has fields and all of them are zero; none is taken out."""


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
"""Rules by which a timedelta of zero, midnight, and the first instant or day of the year 1 are zeros."""


class Step(NamedTuple):
    """One step of a path into nested data."""

    kind: Literal["key", "item", "member", "attribute"]
    """What it follows: a mapping's key, a sequence's index, a member of a set, or the name of an attribute."""
    name: Any
    """That key, index, member or name."""

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
    pending = [value]
    while pending:
        each = pending.pop()
        rule = judge.rule(type(each))
        if not isinstance(rule, Treat):
            if not rule(each):
                return False
        elif id(each) not in seen:
            seen.add(id(each))
            children = judge.children(each, rule)
            if children is None:
                return False
            pending.extend(child for _, child, _ in children)
    return True


# The built-in rules.


def _equals_zero(value: Any) -> bool:
    return bool(value == 0)


def _is_empty(value: Any) -> bool:
    return len(value) == 0


def _unknown_number_is_zero(value: Any) -> bool:
    """The rule for numbers of an unknown type, whose comparison may raise anything."""
    try:
        return bool(value == 0)
    except Exception:
        return False


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

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made at run time


def _structure_of(value_type: type) -> Treat | None:
    """Return how to look into an instance, as far as its class says; None if it does not."""
    if issubclass(value_type, enum.Enum):
        return Treat.KEEP
    if issubclass(value_type, tuple):
        return Treat.PLACES if _is_named_tuple(value_type) else None
    if value_type is object or not _is_written_in_python(value_type):
        return None
    if dataclasses.is_dataclass(value_type):
        return Treat.FIELDS
    methods = {name for base in value_type.__mro__[:-1] for name in base.__dict__}
    return None if methods & _PROTOCOL_METHODS else Treat.FIELDS


def _is_named_tuple(value_type: type) -> bool:
    """Whether a class was made by namedtuple or NamedTuple, or is a subclass that adds no attributes."""
    return hasattr(value_type, "_fields") and value_type.__dictoffset__ == 0


def _is_written_in_python(value_type: type) -> bool:
    """Whether instances consist of attributes alone, in a `__dict__` or in slots, and can be made empty.

    A class of C that is made at run time looks the same, except that its first base has neither `__dict__` nor
    `__slots__`, of which a class statement always leaves one.
    """
    makes_empty: Any = value_type.__new__
    return makes_empty is object.__new__ and all(
        base.__flags__ & _HEAP_TYPE
        and (base.__bases__ != (object,) or "__dict__" in base.__dict__ or "__slots__" in base.__dict__)
        for base in value_type.__mro__[:-1]
    )


class _Significant:
    """Takes the place of a significant field's value. It is never zero, and so its object is not."""


_SIGNIFICANT = _Significant()


class Judge:
    """Finds the rule of each type, from the caller's rules and the built-in ones."""

    def __init__(self, rules: Rules | None) -> None:
        # The caller's rules, checked.
        self._rules: dict[type, Rule] = {}
        # The rule of each type that was asked for.
        self._known: dict[type, Rule] = {_Significant: Treat.KEEP}
        if rules is None:
            return
        checked: Any = rules
        if not isinstance(checked, Mapping):
            raise TypeError(f"rules must be a mapping of types to rules, not {type(rules).__name__}")
        for value_type, rule in checked.items():
            if not isinstance(value_type, type) or not (isinstance(rule, Treat) or callable(rule)):
                raise TypeError(f"rules must map types to a Treat or a function, not {value_type!r} to {rule!r}")
            self._rules[value_type] = rule

    def rule(self, value_type: type) -> Rule:
        """Return the rule for values of exactly this type."""
        rule = self._known.get(value_type)
        if rule is None:
            rule = self._known[value_type] = self._find(value_type)
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
                return self._rules[base]
            if base in _LEAVES:
                return _LEAVES[base]
            if base is value_type and base in _CONTAINERS:
                return _CONTAINERS[base]
        if structure is not None:
            return structure
        if issubclass(value_type, numbers.Number):
            return _unknown_number_is_zero
        return self._rules.get(object, Treat.KEEP)

    def children(self, value: Any, treat: Treat) -> list[tuple[Step, Any, bool]] | None:
        """Return the values in a container, each with the step to it and whether to prune inside it.

        None for a value that is not zero, whatever is in it.
        """
        if treat is Treat.KEEP:
            return None
        if treat is Treat.ENTRIES:
            return [(Step("key", key), child, True) for key, child in value.items()]
        if treat is Treat.FIELDS:
            return self._fields(value)
        if isinstance(value, Set):
            return [(Step("member", child), child, False) for child in value]
        if isinstance(value, tuple) and _is_named_tuple(type(value)):
            return [
                (Step("attribute", name), child, True)
                for name, child in zip(type(value)._fields, value, strict=True)  # type: ignore[attr-defined]
            ]
        return [(Step("item", index), child, True) for index, child in enumerate(value)]

    def _fields(self, value: Any) -> list[tuple[Step, Any, bool]] | None:
        state = dict(attributes_of(value))
        children: list[tuple[Step, Any, bool]] = []
        if dataclasses.is_dataclass(value):
            for each in dataclasses.fields(value):
                choice = each.metadata.get(_METADATA_KEY)
                if choice == "significant":
                    children.append((Step("attribute", each.name), _SIGNIFICANT, False))
                elif choice is None:
                    if each.name in state:
                        children.append((Step("attribute", each.name), state[each.name], True))
                elif choice != "exempt":
                    name = f"{type(value).__name__}.{each.name}"
                    raise ValueError(f"{name}: metadata of {_METADATA_KEY} is EXEMPT or SIGNIFICANT, not {choice!r}")
        else:
            for name, child in state.items():
                children.append((Step("attribute", name), child, not name.startswith("_")))
        # An object with no field to judge by is unknown.
        return children or None


def attributes_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Return the attributes stored in an object, in its `__dict__` or in slots, without running its code."""
    for base in reversed(type(value).__mro__):
        for name, member in base.__dict__.items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # a slot that was never set
                    continue
    if type(value).__dictoffset__:
        yield from tuple(object.__getattribute__(value, "__dict__").items())
