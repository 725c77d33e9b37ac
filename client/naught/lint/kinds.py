"""The kind of map that an expression makes: its class, the zero that it inserts, and whether it has entries.

Only a map that the module itself makes has a kind. A map from an argument, another module or the result of a function
has none, and the rules do not apply to it, because other code may delete entries of it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal

from naught.lint.finding import words
from naught.lint.names import Names

MapName = Literal["dict", "defaultdict", "counter", "gauge"]

MAKERS: dict[str, MapName] = {
    "dict": "dict",
    "collections.OrderedDict": "dict",
    "collections.UserDict": "dict",
    "collections.ChainMap": "dict",
    "typing.OrderedDict": "dict",
    "typing.Dict": "dict",
    "sortedcontainers.SortedDict": "dict",
    "collections.defaultdict": "defaultdict",
    "typing.DefaultDict": "defaultdict",
    "collections.Counter": "counter",
    "typing.Counter": "counter",
    "prometheus_client.Gauge": "gauge",
    "prometheus_client.metrics.Gauge": "gauge",
}
# Functions that declare an attribute whose value a factory makes.
FIELDS = frozenset(
    words("""
    dataclasses.field attr.ib attr.attrib attr.field attr.Factory attrs.field attrs.Factory pydantic.Field
    pydantic.fields.Field pydantic.PrivateAttr pydantic.fields.PrivateAttr pydantic.v1.Field pydantic.v1.PrivateAttr
    pydantic.dataclasses.field sqlmodel.Field msgspec.field
    """)
)
# The names of default factories, and in words the value that each inserts.
ZERO_FACTORIES = {
    "int": "0",
    "float": "0.0",
    "bool": "False",
    "str": "an empty string",
    "bytes": "empty bytes",
    "list": "an empty list",
    "tuple": "an empty tuple",
    "set": "an empty set",
    "frozenset": "an empty set",
    "dict": "an empty dict",
    "collections.deque": "an empty deque",
    "collections.Counter": "an empty Counter",
    "collections.OrderedDict": "an empty dict",
    "collections.defaultdict": "an empty defaultdict",
}
# The same for the empty displays that a lambda may return, by the type of their node.
EMPTY_DISPLAYS: dict[type[ast.expr], str] = {
    ast.List: "an empty list",
    ast.Tuple: "an empty tuple",
    ast.Dict: "an empty dict",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What the expression that makes a map says about it."""

    name: MapName
    zero: str = ""
    """In words, the value that reading an absent entry of a defaultdict inserts; empty if it is no zero."""
    item: Kind | None = None
    """The kind of its entries, if they are maps themselves."""
    filled: bool = False
    """Whether it has entries from the start."""

    def joined(self, other: Kind) -> Kind | None:
        """Return what is true of a map that is of one of two kinds; None if they have nothing in common."""
        if self.name != other.name:
            return None
        return Kind(
            self.name,
            zero=self.zero if self.zero == other.zero else "",
            item=self.item if self.item == other.item else None,
            filled=self.filled or other.filled,
        )


def kind_of(value: ast.expr, names: Names) -> Kind | None:
    """Return the kind of map that `value` makes; None if it makes none."""
    if isinstance(value, ast.Dict):
        return Kind("dict", filled=bool(value.keys))
    if isinstance(value, ast.DictComp):
        return Kind("dict", filled=True)
    if not isinstance(value, ast.Call):
        return None
    name = names.qualified(value.func)
    if name == "dict.fromkeys":
        return Kind("dict", filled=True)
    if name in FIELDS:
        return _field(value, name, names)
    maker = MAKERS.get(name or "")
    if maker == "defaultdict":
        return _default_dict(value, names)
    if maker == "gauge":
        return Kind("gauge", item=Kind("gauge"))
    # What a ChainMap is given is searched, and entries are added to a map of its own in front of it.
    filled = bool(value.args or value.keywords) and name != "collections.ChainMap"
    return Kind(maker, filled=filled) if maker else None


def _field(call: ast.Call, name: str, names: Names) -> Kind | None:
    """Return the kind of map that a declared attribute begins with."""
    if name.endswith(".Factory") and call.args:
        return _made_by(call.args[0], names)
    for word in call.keywords:
        if word.arg in ("default_factory", "factory"):
            return _made_by(word.value, names)
        if word.arg == "default":
            return kind_of(word.value, names)
    return kind_of(call.args[0], names) if call.args and name.startswith("pydantic") else None


def _default_dict(call: ast.Call, names: Names) -> Kind:
    filled = len(call.args) > 1 or bool(call.keywords)
    if not call.args or isinstance(call.args[0], ast.Starred):
        return Kind("defaultdict", filled=filled)
    factory = call.args[0]
    return Kind("defaultdict", _zero(factory, names), _made_by(factory, names), filled)


def _made_by(factory: ast.expr, names: Names) -> Kind | None:
    """Return the kind of map that a factory makes: a class, a lambda, or `partial` of a class."""
    if isinstance(factory, ast.Lambda):
        return kind_of(factory.body, names)
    if isinstance(factory, ast.Call) and names.qualified(factory.func) == "functools.partial":
        inner = (
            ast.Call(func=factory.args[0], args=factory.args[1:], keywords=factory.keywords) if factory.args else None
        )
        return kind_of(inner, names) if inner is not None else None
    maker = MAKERS.get(names.qualified(factory) or "")
    return Kind(maker) if maker and maker != "gauge" else None


def _zero(factory: ast.expr, names: Names) -> str:
    """Return in words the value that a default factory inserts, if it is a zero of its type."""
    if isinstance(factory, ast.Lambda):
        return _zero_value(factory.body, names)
    made = _made_by(factory, names)
    if made is not None and isinstance(factory, ast.Call):
        return "" if made.filled else "an empty map"
    return ZERO_FACTORIES.get(names.qualified(factory) or "", "")


def _zero_value(value: ast.expr, names: Names) -> str:
    if isinstance(value, ast.Constant):
        # None is no zero: `defaultdict(lambda: None)` inserts entries on purpose.
        return repr(value.value) if not value.value and value.value is not None else ""
    empty = EMPTY_DISPLAYS.get(type(value))
    if empty is not None:
        return "" if getattr(value, "elts", None) or getattr(value, "keys", None) else empty
    if isinstance(value, ast.Call):
        name = names.qualified(value.func) or ""
        plain = not value.args and not value.keywords
        if plain or name == "collections.defaultdict":
            return ZERO_FACTORIES.get(name, "")
    return ""


def counting(kind: Kind) -> bool:
    """Whether the kind alone says that the values are whole numbers."""
    return kind.name == "counter" or (kind.name == "defaultdict" and kind.zero == "0")
