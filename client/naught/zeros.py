"""Zeros in nested data: whether a value is one (`is_zero`), and taking them out (`prune`).

Counts that came back to zero, empty strings, None and containers of nothing else pile up in configurations,
caches and documents. This finds them in what a program has in its hands, and can take them out, saying where.

What is a zero
--------------
Numbers equal to 0 (NaN is not), empty str, bytes, bytearray and range, None; dict, list, tuple, set,
frozenset, deque, OrderedDict, defaultdict and Counter in which there is nothing but zeros; named tuples,
dataclasses and plain objects all of whose fields are zero. False is not a zero, it is an answer; enum
members, dates and times are not. Whatever else there is, is not understood: it is never zero, never looked
into, never changed or copied. `rules` decides otherwise, type by type.

A plain object is an instance of a class written in Python, with attributes, that has no protocol of its own
(length, iteration, calls, its own way of copying or of setting attributes): with one, only its class knows
what the attributes mean. A subclass of dict or list is not taken for one for the same reason.

How it works
------------
`prune` walks everything reachable from the value once, without recursion, and makes a node of each container
(by identity, so that what is shared is one node and a cycle ends). A container is nonzero if and only if a
nonzero leaf can be reached from it; so nonzero is spread from the leaves back to everything that holds them,
and what it did not reach, cycles of nothing included, is zero. Only then is anything changed, so a rule that
raises leaves all as it was. Cost: time and memory in proportion to the size of the data. `is_zero` needs no
nodes: everything it finds is reachable from the value, so it ends at the first nonzero leaf.

What stays where it is: the entries of mappings and the items of lists, deques and sets that are zero are
taken out. Places of tuples and fields of objects stay, as they have a meaning even when what is there is
zero; what is inside them is pruned. Keys of mappings are names and never looked at; members of sets are
judged and not looked into, since their hash must not change; attributes that begin with an underscore are
judged and not looked into, since they are their object's own business.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import enum
import numbers
import operator
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

__all__ = [
    "EXEMPT",
    "FALSE_IS_ZERO",
    "SIGNIFICANT",
    "TIMES_CAN_BE_ZERO",
    "Pruned",
    "Removed",
    "Rule",
    "Rules",
    "Step",
    "Treat",
    "is_zero",
    "prune",
]

T = TypeVar("T")


class Treat(enum.Enum):
    """What to make of a type that is not a leaf; for a rules table."""

    KEEP = "keep"
    """Never zero, and never looked into."""
    ENTRIES = "entries"
    """A mapping: zero if all its values are; entries whose value is zero are taken out."""
    ITEMS = "items"
    """A sequence or set: zero if all its items are; items that are zero are taken out."""
    PLACES = "places"
    """A sequence whose positions mean something: zero if all its items are; none is taken out."""
    FIELDS = "fields"
    """An object: zero if it has fields and all of them are; none is taken out."""


# What a type's values are: how to look into them, or a function that says of one whether it is zero.
Rule = Treat | Callable[[Any], bool]
# The nearest type in a value's method resolution order counts. A rule for `object` is for what nothing else
# covers.
Rules = Mapping[type, Rule]

_METADATA_KEY = "naught.zeros"

EXEMPT: Mapping[str, str] = MappingProxyType({_METADATA_KEY: "exempt"})
"""Metadata of a dataclass field that is not looked at: `field(metadata=EXEMPT)`. The other fields decide."""

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
"""Rules by which a duration of nothing, midnight, and the first instant or day of the year 1 are zeros."""


class Step(NamedTuple):
    """One step of a path into nested data."""

    kind: Literal["key", "item", "member", "attribute"]
    """How it goes on: by a mapping's key, a sequence's index, as a set's member, by an attribute's name."""
    name: Any
    """The key, index, member or attribute name."""

    def __str__(self) -> str:
        if self.kind == "attribute":
            return f".{self.name}"
        return f"{{{self.name!r}}}" if self.kind == "member" else f"[{self.name!r}]"


class Removed(NamedTuple):
    """Something that was taken out."""

    path: tuple[Step, ...]
    """How it was reached in the value as it was before."""
    value: Any
    """What was taken out, as it was."""

    @property
    def where(self) -> str:
        """The path as Python writes it after the value: `['orders'][3].lines`, and {x} for a set's member."""
        return "".join(map(str, self.path))

    def __str__(self) -> str:
        return self.where


class Pruned(NamedTuple, Generic[T]):
    """What `prune` answers."""

    value: T
    """The value without zeros."""
    removed: list[Removed]
    """What was taken out; a container's own before what was inside its items."""


def is_zero(value: object, *, rules: Rules | None = None) -> bool:
    """Whether a value is zero, or a container of nothing but zeros (see the module's text).

    rules: what to make of a type, before what is built in. TypeError if it is no table of types to rules;
    what a rule raises is raised. Cost: the values reached before the first that is not zero.
    """
    judge = _Judge(rules)
    seen: set[int] = set()
    left = [value]
    while left:
        each = left.pop()
        rule = judge.rule(type(each))
        if not isinstance(rule, Treat):
            if not rule(each):
                return False
        elif id(each) not in seen:
            seen.add(id(each))
            children = judge.children(each, rule)
            if children is None:
                return False
            left.extend(child for _, child, _ in children)
    return True


def prune(value: T, *, in_place: bool = False, rules: Rules | None = None) -> Pruned[T]:
    """Take out of nested data what is zero; answer the value without it, and what was removed from where.

    The value itself is never removed: `prune({"a": 0})` is an empty dict. A new structure shares with the old
    only what holds nothing to change: leaves, what is not understood, members of sets, private attributes. In
    place, containers are changed themselves, and only what cannot be (a frozenset, a tuple around one, a
    frozen dataclass around one) is replaced where it stands; the answer has the value to go on with.

    rules: as for `is_zero`. No method of an object is called, its constructor included. If a rule raises,
    nothing has changed.
    """
    pruning = _Pruning(_Judge(rules), in_place)
    pruning.judge_all(value)
    return pruning.run(value)


# What is known of types.


def _equals_zero(value: Any) -> bool:
    return bool(value == 0)


def _is_empty(value: Any) -> bool:
    return len(value) == 0


def _foreign_number_is_zero(value: Any) -> bool:
    """For a number of a type that nobody here has seen, which may refuse anything."""
    try:
        return bool(value == 0)
    except Exception:
        return False


# Leaves, with their subclasses.
_LEAVES: dict[type, Rule] = {
    bool: Treat.KEEP,
    int: _equals_zero,
    float: _equals_zero,
    complex: _equals_zero,
    Fraction: _equals_zero,
    Decimal: Decimal.is_zero,  # a signalling NaN would raise if it were compared
    str: _is_empty,
    bytes: _is_empty,
    bytearray: _is_empty,
    range: _is_empty,
    type(None): lambda value: True,
    datetime.date: Treat.KEEP,  # and datetime, its subclass
    datetime.time: Treat.KEEP,
    datetime.timedelta: Treat.KEEP,
}

# Containers, of exactly these types.
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

# A class with any of these has a protocol of its own; what its attributes mean is its own knowledge.
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
    """How to look into an instance by what its class is; None if that does not say."""
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
    """Made by namedtuple or NamedTuple, or a subclass that adds no attributes to its places."""
    return hasattr(value_type, "_fields") and value_type.__dictoffset__ == 0


def _is_written_in_python(value_type: type) -> bool:
    """Whether instances are nothing but attributes, in a `__dict__` or in slots, and can be made empty.

    A class of C that is made at run time looks the same but for its first base, which has neither of the two
    names that a class statement leaves there.
    """
    makes_empty: Any = value_type.__new__
    return makes_empty is object.__new__ and all(
        base.__flags__ & _HEAP_TYPE
        and (base.__bases__ != (object,) or "__dict__" in base.__dict__ or "__slots__" in base.__dict__)
        for base in value_type.__mro__[:-1]
    )


class _Significant:
    """Stands for a field that makes its object nonzero whatever it holds."""


class _Judge:
    """Knows what to make of each type, by the caller's rules and what is built in."""

    def __init__(self, rules: Rules | None) -> None:
        # The caller's rules, checked.
        self._rules: dict[type, Rule] = {}
        # What was found out for each type met.
        self._known: dict[type, Rule] = {_Significant: Treat.KEEP}
        if rules is None:
            return
        checked: Any = rules
        if not isinstance(checked, Mapping):
            raise TypeError(f"rules must be a mapping of types to rules, not {type(rules).__name__}")
        for value_type, rule in checked.items():
            if not isinstance(value_type, type) or not (isinstance(rule, Treat) or callable(rule)):
                raise TypeError(f"rules must map types to a Treat or a function: {value_type!r}: {rule!r}")
            self._rules[value_type] = rule

    def rule(self, value_type: type) -> Rule:
        """The rule for values of exactly this type."""
        rule = self._known.get(value_type)
        if rule is None:
            rule = self._known[value_type] = self._find(value_type)
        return rule

    def _find(self, value_type: type) -> Rule:
        structure = _structure_of(value_type)
        for base in value_type.__mro__[:-1]:
            # A member of an enum and a named tuple are more than the number or tuple they are as well.
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
            return _foreign_number_is_zero
        return self._rules.get(object, Treat.KEEP)

    def children(self, value: Any, treat: Treat) -> list[tuple[Step, Any, bool]] | None:
        """What a value holds: how it is reached, the child, and whether to prune inside it.

        None for what is not zero whatever it holds.
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
        state = dict(_attributes(value))
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
        # With nothing to judge by it is not understood.
        return children or None


_SIGNIFICANT = _Significant()


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes stored in an object, in its `__dict__` or in slots; no property and no method is run."""
    for base in reversed(type(value).__mro__):
        for name, member in base.__dict__.items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # a slot that was never set
                    continue
    if type(value).__dictoffset__:
        yield from tuple(object.__getattribute__(value, "__dict__").items())


def _shallow_copy(value: Any, treat: Treat) -> Any:
    """A copy of a container that holds the same. Of an object: made without running any of its methods."""
    if treat is not Treat.FIELDS:
        return copy.copy(value)
    new = object.__new__(type(value))
    for name, child in _attributes(value):
        object.__setattr__(new, name, child)
    return new


class _Node:
    """A container met, with what it holds."""

    __slots__ = (
        *("value", "treat", "children", "parents", "nonzero"),
        *("reached", "path_to", "path_step", "replaced", "made"),
    )

    def __init__(self, value: Any, treat: Treat) -> None:
        # The container, as the caller has it.
        self.value = value
        self.treat = treat
        # What it holds: how it is reached, the child, its node (None for a leaf), whether it is zero (of a
        # leaf; of a node its own `nonzero` says), whether to prune inside it.
        self.children: list[tuple[Step, Any, _Node | None, bool, bool]] = []
        # The nodes that hold this one, and whether they are to be pruned inside it.
        self.parents: list[tuple[_Node, bool]] = []
        # Whether a nonzero leaf can be reached from here.
        self.nonzero = False
        # Whether pruning reaches it, that is, whether it stays in the result.
        self.reached = False
        # The first way in which it was reached: the node before and the step from there.
        self.path_to: _Node | None = None
        self.path_step: Step | None = None
        # Whether something else stands for it in the result.
        self.replaced = False
        # What stands for it in the result; _UNMADE until known.
        self.made: Any = _UNMADE

    def path(self, last: Step) -> tuple[Step, ...]:
        steps = [last]
        node: _Node | None = self
        while node is not None and node.path_step is not None:
            steps.append(node.path_step)
            node = node.path_to
        return tuple(reversed(steps))

    def is_removed(self, child: _Node | None, leaf_is_zero: bool) -> bool:
        """Whether a child of this node is taken out of it."""
        if self.treat not in (Treat.ENTRIES, Treat.ITEMS):
            return False
        return leaf_is_zero if child is None else not child.nonzero


_UNMADE = object()


class _Pruning:
    """One run of `prune`: judge everything, then change what is to be changed."""

    def __init__(self, judge: _Judge, in_place: bool) -> None:
        self._judge = judge
        self._in_place = in_place
        # Every container met, by identity. The nodes keep the containers alive, so an id stays theirs.
        self._nodes: dict[int, _Node] = {}
        # The nodes of the result, in the order in which they are reported.
        self._reached: list[_Node] = []
        self._removed: list[Removed] = []

    # Judging.

    def _node_of(self, value: Any, left: list[_Node]) -> _Node | None:
        """The node of a container, which is put on the list if it is new; None for a leaf."""
        rule = self._judge.rule(type(value))
        if not isinstance(rule, Treat) or rule is Treat.KEEP:
            return None
        node = self._nodes.get(id(value))
        if node is None:
            node = self._nodes[id(value)] = _Node(value, rule)
            left.append(node)
        return node

    def judge_all(self, root: Any) -> None:
        """Make the nodes of everything reachable, and find which of them are zero."""
        left: list[_Node] = []
        nonzero: list[_Node] = []
        self._node_of(root, left)
        while left:
            node = left.pop()
            children = self._judge.children(node.value, node.treat)
            if children is None:
                node.treat = Treat.KEEP
                nonzero.append(node)
                continue
            for step, value, inside in children:
                child = self._node_of(value, left)
                leaf_is_zero = False
                if child is not None:
                    child.parents.append((node, inside))
                else:
                    rule = self._judge.rule(type(value))
                    leaf_is_zero = not isinstance(rule, Treat) and bool(rule(value))
                    if not leaf_is_zero:
                        nonzero.append(node)
                node.children.append((step, value, child, leaf_is_zero, inside))
        while nonzero:
            node = nonzero.pop()
            if not node.nonzero:
                node.nonzero = True
                nonzero.extend(parent for parent, _ in node.parents)

    # Changing.

    def run(self, root: Any) -> Pruned[Any]:
        node = self._nodes.get(id(root))
        if node is None:
            return Pruned(root, [])
        self._reach(node)
        self._find_replaced()
        for each in self._reached:
            if not each.replaced:
                each.made = each.value
            elif not isinstance(each.value, tuple | frozenset):
                each.made = _shallow_copy(each.value, each.treat)
        for each in self._reached:
            self._rebuild(each)
        for each in self._reached:
            if not isinstance(each.value, tuple | frozenset):
                self._edit(each.made, each)
        return Pruned(node.made, self._removed)

    def _reach(self, root: _Node) -> None:
        """Find what stays, and report what does not."""
        root.reached = True
        left = [root]
        while left:
            node = left.pop()
            self._reached.append(node)
            found: list[_Node] = []
            for step, value, child, leaf_is_zero, inside in node.children:
                if node.is_removed(child, leaf_is_zero):
                    self._removed.append(Removed(node.path(step), value))
                elif child is not None and inside and not child.reached:
                    child.reached = True
                    child.path_to, child.path_step = node, step
                    found.append(child)
            left.extend(reversed(found))

    def _find_replaced(self) -> None:
        """Find the containers that something else stands for in the result.

        In a new structure that is every dict, list, deque and set, and whatever holds one; an object or a
        tuple that holds none is shared. In place it is what loses or replaces something and cannot be
        changed.
        """
        left = [node for node in self._reached if self._is_replaced_itself(node)]
        while left:
            node = left.pop()
            if node.replaced:
                continue
            node.replaced = True
            for parent, inside in node.parents:
                if parent.reached and inside and not (self._in_place and _can_be_changed(parent.value)):
                    left.append(parent)

    def _is_replaced_itself(self, node: _Node) -> bool:
        if self._in_place and _can_be_changed(node.value):
            return False
        if node.treat in (Treat.KEEP, Treat.FIELDS):
            return False
        if not isinstance(node.value, tuple | frozenset):
            return True
        return any(node.is_removed(child, leaf_is_zero) for _, _, child, leaf_is_zero, _ in node.children)

    def _rebuild(self, start: _Node) -> None:
        """Make what stands for a tuple or frozenset: its parts first, then itself.

        Everything else stands already, and no cycle is of tuples and frozensets alone.
        """
        left = [start]
        while left:
            node = left[-1]
            if node.made is _UNMADE:
                waiting = [
                    child
                    for _, _, child, _, inside in node.children
                    if inside and child is not None and child.reached and child.made is _UNMADE
                ]
                if waiting:
                    left.extend(waiting)
                    continue
                kept = self._kept(node)
                if isinstance(node.value, tuple):
                    node.made = tuple.__new__(type(node.value), kept)
                else:
                    node.made = type(node.value)(kept)
            left.pop()

    def _kept(self, node: _Node) -> list[Any]:
        """What a sequence or set holds in the result."""
        return [
            _standing_for(value, child, inside)
            for _, value, child, leaf_is_zero, inside in node.children
            if not node.is_removed(child, leaf_is_zero)
        ]

    def _edit(self, target: Any, node: _Node) -> None:
        """Take out of a container (or its copy) what is removed, and put in what stands for the rest."""
        if node.treat in (Treat.ITEMS, Treat.PLACES) and not isinstance(target, Set):
            kept = self._kept(node)
            if len(kept) != len(target) or not all(map(operator.is_, kept, target)):
                if isinstance(target, deque):
                    target.clear()
                    target.extend(kept)
                else:
                    target[:] = kept
            return
        for step, value, child, leaf_is_zero, inside in node.children:
            if node.is_removed(child, leaf_is_zero):
                if node.treat is Treat.ENTRIES:
                    del target[step.name]
                else:
                    target.discard(value)
                continue
            made = _standing_for(value, child, inside)
            if made is not value:
                if node.treat is Treat.ENTRIES:
                    target[step.name] = made
                else:
                    object.__setattr__(target, step.name, made)


def _can_be_changed(value: Any) -> bool:
    """Whether a container may be given other contents where it stands."""
    if isinstance(value, tuple | frozenset):
        return False
    parameters = getattr(type(value), "__dataclass_params__", None)
    return parameters is None or not parameters.frozen


def _standing_for(value: Any, child: _Node | None, inside: bool) -> Any:
    """What stands for a child in the result."""
    return child.made if child is not None and inside else value
